"""A number keeps its spelling until somebody computes with it, on every path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.errors import RecordError
from engine.transform.convert import JsonKey, simple_converter
from tests.transform.pages import everywhere, outcome, page_of, texts, transform

#: Numbers as APIs write them; none may leave in another spelling.
SPELLINGS = [
    "10.00",
    "1.50",
    "1.5",
    "0.10",
    "-0",
    "-0.0",
    "0.000",
    "1e3",
    "1E3",
    "1.5e+3",
    "1e400",
    "1E-400",
    "1e1000000",
    "0e999999999999",
    "12345678.1234567891",
    "9007199254740993",
    "9007199254740993.0",
    "123456789012345678901234567890",
    "-1.10",
    "1" * 250,
    "0." + "1" * 250,
    "7" * 5000,
]


def alike(numbers: list[str]) -> list[tuple[str, ...]]:
    """Those that are written as whole numbers, and those that are not: one loop each."""
    whole = tuple(each for each in numbers if each.lstrip("-").isdigit())
    return [whole, tuple(each for each in numbers if each not in whole)]


KINDS = ["whole", "broken"]

#: Where a number goes in and no arithmetic is asked: mappings or expressions
#: over `{"n": .., "list": [{"n": ..}], "deep": {"n": ..}}`, and what is to
#: come of it, N being the number as written.
MAPPED: list[tuple[dict[str, Any], str]] = [
    ({"source": "n"}, "N"),
    ({"source": "n", "type": "STRING"}, '"N"'),
    ({"source": "list[0].n"}, "N"),
    ({"source": "list[0].n", "type": "STRING"}, '"N"'),
    ({"source": "list[*].n"}, "[N,N]"),
    ({"source": "list.n", "type": "STRING"}, '"[N,N]"'),
    ({"source": "deep.n", "type": "STRING"}, '"N"'),
    ({"source": "/deep/n", "type": "STRING"}, '"N"'),
    ({"source": "deep", "type": "STRING"}, '"{\\"n\\":N}"'),
    ({"source": "n", "type": "ARRAY"}, "[N]"),
    ({"source": "deep", "type": "OBJECT"}, '{"n":N}'),
    ({"source": "text", "type": "OBJECT"}, '{"a":10.00}'),
]
EXPRESSIONS: list[tuple[str, str]] = [
    ("${n}", "N"),
    ("${record.n}", "N"),
    ("${list[0].n}", "N"),
    ("${list[-1].n}", "N"),
    ("${list.n}", "[N,N]"),
    ("${deep.n}", "N"),
    ("x${n}", '"xN"'),
    ("x${list[0].n}-${deep.n}", '"xN-N"'),
    ("${list}", '[{"n":N},{"n":N}]'),
    ("a${list.n}", '"a[N,N]"'),
    ("${coalesce(none, n)}", "N"),
    ("${coalesce(none, list[0].n, 1)}", "N"),
    ("${if(1 == 1, n, 2)}", "N"),
    ("${if(1 == 2, 2, deep.n)}", "N"),
    ("${coalesce(if(1 == 1, none, 2), n)}", "N"),
    ("${concat(n, '|', deep.n)}", '"N|N"'),
    ("${concat(coalesce(none, n))}", '"N"'),
    ("${json(n)}", '"N"'),
    ("${json(list[0].n)}", '"N"'),
    ("${json(deep)}", '"{\\"n\\":N}"'),
    ("${'a' + n}", '"aN"'),
    ("${n + 'a'}", '"Na"'),
    ("${'' + list[0].n + '' + n}", '"NN"'),
    ("${upper('x') + n}", '"XN"'),
    ("${replace(n, 'q', 'r')}", '"N"'),
    ("${trim(n)}", '"N"'),
    ("${substring(n, 0)}", '"N"'),
    ("${mask(n, 9999)}", None),  # type: ignore[list-item]
    ("${max(n, n)}", "N"),
    ("${min(n)}", "N"),
    ("${urlencode('a' + n)}", None),  # type: ignore[list-item]
]


def row(number: str) -> bytes:
    return (
        (
            '{"n":N, "list": [{"n":N},{"n":N}], "deep":{"n":N}, "none":null,'
            ' "text":"{\\"a\\":10.00}"}'
        )
        .replace("N", number)
        .encode()
    )


@pytest.mark.parametrize("number", SPELLINGS, ids=lambda text: text[:24])
def test_a_number_nobody_computes_with_keeps_its_spelling(number: str) -> None:
    mapped = [{**rule, "target": f"t{at}"} for at, (rule, _) in enumerate(MAPPED)]
    wanted = ",".join(f'"t{at}":{text}' for at, (_, text) in enumerate(MAPPED))
    parcel = everywhere([row(number)] * 3, mappings=mapped)
    assert not parcel.letters
    assert texts(parcel) == ["{" + wanted.replace("N", number) + "}"] * 3


@pytest.mark.parametrize("numbers", alike(SPELLINGS), ids=KINDS)
@pytest.mark.parametrize(("expression", "wanted"), EXPRESSIONS)
def test_an_expression_that_computes_nothing_keeps_it_too(
    numbers: tuple[str, ...], expression: str, wanted: str | None
) -> None:
    numbers = tuple("7" * 400 if len(each) > 400 else each for each in numbers)
    parcel = everywhere(
        [row(number) for number in numbers],
        mappings=[{"source": "none", "target": "gone"}],
        enrichment=[{"field": "e", "expression": expression}],
    )
    assert not parcel.letters
    if wanted is not None:
        assert texts(parcel) == [
            '{"e":' + wanted.replace("N", number) + "}" for number in numbers
        ]


@pytest.mark.parametrize("numbers", alike(SPELLINGS), ids=KINDS)
@pytest.mark.parametrize(
    "template",
    ["${n}", "${list[0].n}", "${coalesce(none, deep.n)}", "${if(1==1,n,0)}"],
)
def test_keys_and_headers_have_it_as_written(
    numbers: tuple[str, ...], template: str
) -> None:
    written = [number.encode() for number in numbers]
    for keys in (None, JsonKey(simple_converter("Json"))):
        parcel = everywhere(
            [row(number) for number in numbers],
            key=template,
            headers=(("h", template), ("t", f"x-{template}")),
            key_converter=keys,
        )
        assert parcel.keys == written
        headers: Any = parcel.headers
        assert list(headers) == [(("h", each), ("t", b"x-" + each)) for each in written]


def test_a_topic_out_of_a_number_has_it_as_written() -> None:
    parcel = everywhere([{"n": 1}, b'{"n":1.50}', b'{"n":10.0}'], topic="t-${n}")
    assert parcel.topic == ["t-1", "t-1.50", "t-10.0"]


def test_the_same_key_has_the_same_bytes_before_and_after_a_loop_is_made() -> None:
    rows = [b'{"items":[{"id":1.50}],"n":%d}' % at for at in range(300)]
    whole = transform(key="${items[0].id}")
    for start in range(0, 300, 50):
        assert set(whole(page_of(rows[start : start + 50])).keys or ()) == {b"1.50"}


def test_what_a_filter_lets_through_and_what_it_refuses_leaves_as_it_came() -> None:
    rows = [b'{"n":1.50 , "s":"\\u00e9"}', b'{"n":-0}', b'{"n":1e400}']
    parcel = everywhere(
        rows, filters=[{"field": "n", "operator": "LESS_THAN", "value": 5}]
    )
    assert [bytes(value or b"") for value in parcel.values] == rows[:2]
    parcel = everywhere(rows, validation=[{"field": "n", "max": -1}])
    assert [letter.value for letter in parcel.letters] == rows


ANY = [
    "1e1000000",
    "-1e1000000",
    "1e-1000000",
    "0e999999999999",
    "0e-999999999999",
    "1e999999999999999999",
    "1e99999999999999999999",
    "1e-99999999999999999999",
    "-0",
    "-0.0",
    "-1e99999999999999999999",
    "0e99999999999999999999",
    "9" * 4300,
    "9" * 4301,
    "9" * 300 + "." + "9" * 300,
    "0." + "0" * 5000 + "1",
    "1" + "0" * 400,
]
CALLS = [
    "round(n)",
    "round(n, 2)",
    "round(n, -3)",
    "floor(n)",
    "ceil(n)",
    "abs(n)",
    "min(n, 1)",
    "max(n, 1)",
    "max(1, n)",
    "json(n)",
    "mask(n)",
    "mask('secret', n)",
    "substring('secret', n)",
    "hash(n)",
    "base64(n)",
    "urlencode(n)",
    "length(n)",
    "upper(n)",
    "concat(n, n)",
    "n + 1",
    "1 - n",
    "n * n",
    "n / 3",
    "1 / n",
    "n + 'x'",
    "-n",
    "n == 1",
    "n > 1",
    "n != '1'",
    "if(n < 5, 1, 2)",
    "now + n",
    "now - n",
    "time(n)",
    "epoch_ms(n)",
    "iso(n)",
    "format(n, 'yyyy')",
    "parse(n, 'yyyy')",
    "celsius_to_fahrenheit(n)",
    "fahrenheit_to_celsius(n)",
    "coalesce(n, 1)",
    "round(1.5, n)",
]


@pytest.mark.parametrize("numbers", alike(ANY), ids=KINDS)
@pytest.mark.parametrize("call", CALLS)
def test_any_number_is_a_value_or_a_bad_record(
    numbers: tuple[str, ...], call: str
) -> None:
    parcel = everywhere(
        [b'{"n":%b}' % number.encode() for number in ("2", *numbers, "2")],
        enrichment=[{"field": "e", "expression": "${" + call + "}"}],
        key="k${" + call + "}",
    )
    assert len(parcel.values) + len(parcel.letters) == len(numbers) + 2
    for value in parcel.values:
        json.loads(bytes(value or b""), parse_int=str, parse_float=str)


@pytest.mark.parametrize("numbers", alike(ANY), ids=KINDS)
@pytest.mark.parametrize(
    "kind",
    ["STRING", "INTEGER", "LONG", "DOUBLE", "BOOLEAN", "TIMESTAMP", "OBJECT", "ARRAY"],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_any_number_is_cast_or_a_bad_record(
    numbers: tuple[str, ...], kind: str, quoted: bool
) -> None:
    mapping = {"source": "n", "target": "n", "type": kind}
    rows = [(b'{"n":"%b"}' if quoted else b'{"n":%b}') % n.encode() for n in numbers]
    parcel = everywhere(rows, mappings=[mapping])
    assert len(parcel.values) + len(parcel.letters) == len(numbers)


@pytest.mark.parametrize("numbers", alike(ANY), ids=KINDS)
@pytest.mark.parametrize(
    "rule",
    [
        {"operator": "EQUALS", "value": 1},
        {"operator": "EQUALS", "value": "1"},
        {"operator": "NOT_EQUALS", "value": 1.5},
        {"operator": "GREATER_THAN", "value": 1},
        {"operator": "LESS_EQUAL", "value": 1.5},
        {"operator": "BETWEEN", "min": -1, "max": 1.5},
        {"operator": "IN", "values": [1, 2.5, "x"]},
        {"operator": "CONTAINS", "value": 1},
        {"operator": "MATCHES", "value": "1.*"},
        {"operator": "IS_NULL"},
    ],
)
def test_any_number_is_compared_or_a_bad_record(
    numbers: tuple[str, ...], rule: dict[str, Any]
) -> None:
    for form in (b'{"n":%b}', b'{"n":"%b"}'):
        rows = [form % number.encode() for number in numbers]
        parcel = everywhere(rows, filters=[{"field": "n", **rule}])
        told = len(parcel.values) + parcel.filtered + len(parcel.letters)
        assert told == len(numbers)


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        # -0: the integer zero for a number, its text where it is copied.
        ("STRING", "-0", '"-0"'),
        ("INTEGER", "-0", "0"),
        ("LONG", "-0", "0"),
        ("LONG", "-0.0", "0"),
        ("DOUBLE", "-0", "0.0"),
        ("DOUBLE", '"-0"', "0.0"),
        ("DOUBLE", "-0.0", "-0.0"),
        ("DOUBLE", '"-0.0"', "-0.0"),
        ("BOOLEAN", "-0", "false"),
        ("TIMESTAMP", "-0", "0"),
        ("ARRAY", "-0", "[-0]"),
        # One sign, no more.
        ("DOUBLE", '"+1"', "1.0"),
        ("DOUBLE", '"+-1"', None),
        ("DOUBLE", '"++1"', None),
        ("DOUBLE", '"-+1"', None),
        ("DOUBLE", '"--1"', None),
        ("LONG", '"+-1"', None),
        ("LONG", '"+1"', "1"),
        ("LONG", '" +1 "', "1"),
        ("DOUBLE", '"0x1"', None),
        ("DOUBLE", '"1_0"', None),
        ("DOUBLE", '"NaN"', None),
        ("DOUBLE", '"Infinity"', None),
        ("DOUBLE", '"-inf"', None),
        ("LONG", '"NaN"', None),
        ("TIMESTAMP", '"NaN"', None),
        ("TIMESTAMP", '"+-1"', None),
        # Zero has no size.
        ("LONG", "0e999999999999", "0"),
        ("INTEGER", "0e-999999999999", "0"),
        ("DOUBLE", "0e999999999999", "0.0"),
        ("TIMESTAMP", "0e999999999999", "0"),
        ("LONG", "0." + "0" * 300, "0"),
        ("LONG", '"' + "0" * 300 + '7"', "7"),
        ("LONG", "7." + "0" * 300, "7"),
        ("LONG", "7" + "0" * 300, None),
        ("LONG", "1e1000000", None),
        ("INTEGER", "1e1000000", None),
        ("DOUBLE", "1e1000000", None),
        ("DOUBLE", "-1e400", None),
        ("DOUBLE", "1e-1000000", "0.0"),
        ("DOUBLE", "1" + "0" * 250, "1e250"),
        ("DOUBLE", "1" + "0" * 400, None),
        ("TIMESTAMP", "1e1000000", None),
        ("TIMESTAMP", "1e-1000000", "0"),
        ("TIMESTAMP", "-1e-1000000", "-1"),
        # Cut downwards exactly, however many digits there are.
        (
            "TIMESTAMP",
            "1700000000.12399999999999999999999999999999999",
            "1700000000123",
        ),
        ("TIMESTAMP", "99999999999.9999999999999999999999999999999", "99999999999999"),
        ("STRING", "1e1000000", '"1e1000000"'),
        ("STRING", "9" * 5000, f'"{"9" * 5000}"'),
    ],
)
def test_casts_of_the_numbers_nobody_thinks_of(
    kind: str, given: str, wanted: str | None
) -> None:
    mapping = {"source": "n", "target": "n", "type": kind}
    parcel = everywhere([b'{"n":%b}' % given.encode()] * 2, mappings=[mapping])
    if wanted is None:
        assert [letter.stage for letter in parcel.letters] == ["map", "map"]
    else:
        assert texts(parcel) == ['{"n":' + wanted + "}"] * 2


@pytest.mark.parametrize(
    ("expression", "number", "wanted"),
    [
        # Computing forgets how an operand was written.
        ("n + 0", "10.00", "10"),
        ("n * 1", "1.50", "1.5"),
        ("-n", "1.50", "-1.5"),
        ("-n", "-0", "0"),
        ("n + 0", "-0", "0"),
        ("abs(n)", "10.00", "10"),
        ("abs(n)", "-1.50", "1.5"),
        ("round(n)", "10.00", "10"),
        ("round(n, 2)", "1.50", "1.5"),
        ("round(n)", "-0.4", "0"),
        ("round(n)", "1e1000000", "1e1000000"),
        ("abs(n)", "-1e1000000", "1e1000000"),
        ("max(n, 5)", "10.00", "10.00"),
        ("max(n, 5)", "1e1000000", "1e1000000"),
        ("min(n, 5)", "-1e1000000", "-1e1000000"),
        ("json(n)", "1e1000000", '"1e1000000"'),
        ("mask(n)", "1e1000000", '"*****0000"'),
        ("mask(n)", "10.00", '"*0.00"'),
        # Exact or a bad record, never rounded behind somebody's back.
        ("n + 1", "1e1000000", None),
        ("n - 1", "1" * 250, "1" * 249 + "0"),
        ("n + 0.5", "1" * 250, "1." + "1" * 249 + "5e249"),
        ("n * 2", "1e1000000", "2e1000000"),
        ("n * 3", "0." + "3" * 250, "0." + "9" * 250),
        (
            "n / 5",
            "12345678901234567890123456789012345",
            "2469135780246913578024691357802469",
        ),
        ("n / 8", "1", "0.125"),
        ("n / 3", "1", "0.3333333333333333333333333333"),
        (
            "n / 1024",
            "1000000000000000000000000000001",
            "976562500000000000000000000.0009765625",
        ),
        ("n * n", "1e999999999999999999", None),
        ("n + n", "9" * 4301, None),
    ],
)
def test_what_is_computed_is_exact_or_a_bad_record(
    expression: str, number: str, wanted: str | None
) -> None:
    parcel = everywhere(
        [b'{"n":%b}' % number.encode()] * 2,
        mappings=[{"source": "gone", "target": "gone"}],
        enrichment=[{"field": "e", "expression": "${" + expression + "}"}],
    )
    if wanted is None:
        assert [letter.stage for letter in parcel.letters] == ["enrich", "enrich"]
    else:
        assert texts(parcel) == ['{"e":' + wanted + "}"] * 2


EXACT = "12345678.1234567891"


@pytest.mark.parametrize(
    ("rule", "passing", "refused"),
    [
        ('"EQUALS","value":12345678.1234567891', [EXACT], ["12345678.123456789"]),
        ('"NOT_EQUALS","value":12345678.1234567891', ["12345678.123456789"], [EXACT]),
        (
            '"IN","values":[12345678.1234567891,7]',
            [EXACT, "7.0"],
            ["12345678.123456789"],
        ),
        ('"NOT_IN","values":[12345678.1234567891]', ["12345678.123456789"], [EXACT]),
        (
            '"GREATER_THAN","value":12345678.1234567891',
            ["12345678.12345678911"],
            [EXACT],
        ),
        (
            '"GREATER_EQUAL","value":12345678.1234567891',
            [EXACT],
            ["12345678.12345678909"],
        ),
        ('"LESS_THAN","value":12345678.1234567891', ["12345678.12345678909"], [EXACT]),
        (
            '"BETWEEN","min":0.1,"max":12345678.1234567891',
            [EXACT, "0.10"],
            ["12345678.12345678911", "0.09999999999999999999"],
        ),
        (
            '"EQUALS","value":9007199254740993',
            ["9007199254740993", "9007199254740993.0"],
            ["9007199254740992"],
        ),
        (
            '"EQUALS","value":9007199254740993.0',
            ["9007199254740993"],
            ["9007199254740992"],
        ),
        ('"EQUALS","value":1e400', ["1e400", "10e399"], ["1e401", "5"]),
        ('"LESS_THAN","value":1e400', ["1", "1e399"], ["1e400", "2e400"]),
        (
            '"EQUALS","value":1',
            ["1", "1.0", "10e-1", '"1.0"'],
            ["1.00000000000000000000001"],
        ),
        ('"EQUALS","value":1.0', ["1", "1.0"], ["1.1"]),
        ('"EQUALS","value":0', ["-0", "-0.0", "0e999999999999"], ["1e-999999999999"]),
        ('"CONTAINS","value":1.50', ['"a1.50"', "[1.5]"], ['"a1.5"']),
    ],
)
def test_the_numbers_of_a_filter_are_exact(
    rule: str, passing: list[str], refused: list[str]
) -> None:
    filters = f'[{{"field":"n","operator":{rule}}}]'
    rows = [b'{"n":%b}' % text.encode() for text in [*passing, *refused]]
    parcel = everywhere(rows, filters=filters)
    assert [bytes(value or b"") for value in parcel.values] == rows[: len(passing)]
    for each in rows[: len(passing)]:
        assert everywhere([each], filters=filters).filtered == 0
    for each in rows[len(passing) :]:
        assert everywhere([each], filters=filters).filtered == 1


@pytest.mark.parametrize("number", [*SPELLINGS[:-1], "7" * 3000])
def test_the_numbers_of_a_rule_go_out_as_they_are_written(number: str) -> None:
    parcel = everywhere(
        [{"a": None}],
        mappings=f'[{{"source":"a","target":"d","default":{number}}},'
        f'{{"source":"b","target":"o","default":{{"x":[{number}]}}}}]',
        enrichment=f'[{{"field":"s","value":{number}}},'
        f'{{"field":"l","value":[{number},{{"k":{number}}}]}}]',
    )
    assert texts(parcel) == [
        '{"d":N,"o":{"x":[N]},"s":N,"l":[N,{"k":N}]}'.replace("N", number)
    ]


def test_a_literal_of_an_expression_goes_out_as_it_is_written() -> None:
    parcel = everywhere(
        [{"a": None}],
        enrichment=[
            {"field": "b", "expression": "${coalesce(a, 0.00)}"},
            {"field": "c", "expression": "${coalesce(a, -1.50)}"},
            {"field": "d", "expression": "${1e3}"},
        ],
    )
    assert texts(parcel) == ['{"a":null,"b":0.00,"c":-1.50,"d":1000}']


def test_without_tolerance_such_a_number_is_a_bad_record_all_the_same() -> None:
    for fast in (False, True):
        made = transform(
            fast=fast, enrichment=[{"field": "e", "expression": "${n + 1}"}]
        )
        assert isinstance(outcome(made, page_of([b'{"n":1e1000000}'])), RecordError)


def test_a_number_that_a_function_hands_on_keeps_its_spelling() -> None:
    def rename(record: dict[str, Any], context: object) -> dict[str, Any]:
        return {"m": record["n"], "sum": record["one"] + 1, "all": record}

    row = b'{"n":1e400,"one":1.50,"deep":[10.00]}'
    parcel = transform(function=rename)(page_of([row]))
    assert texts(parcel) == ['{"m":1e400,"sum":2.5,"all":' + row.decode() + "}"]
    letters = transform(function=rename, tolerance="all")(
        page_of([b'{"n":%b,"one":1}' % (b"7" * 5000)])
    ).letters
    assert len(letters) == 1
