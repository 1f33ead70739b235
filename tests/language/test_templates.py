"""Templates: the grammar, every function, null, and what is refused at load."""

from __future__ import annotations

import json
from decimal import Context, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from engine.language import (
    RECORD_NAMES,
    REQUEST_NAMES,
    EvaluationError,
    LanguageError,
    Time,
    compile_template,
    compile_zone,
    decode,
    encode_text,
)
from engine.language.values import encode

NOW = 1_700_000_000_123
RECORD = {
    "id": 7,
    "name": "Ada",
    "none": None,
    "price": Raw("1.50"),
    "flag": True,
    "list": [1, 2, {"x": 5}],
    "object": {"k": "v"},
    "created-at": "2024-01-02T03:04:05Z",
    "now": "field",
    "big": 123456789012345678901234567890,
}
SCOPE: dict[str, Any] = {
    "record": RECORD,
    "received": {"old": "before", "id": 1},
    "now": NOW,
    "api": "orders",
    "connector": "shop",
    "task": 2,
    "entityName": None,
    "response": {"meta": {"total": 3}},
    "response.header": {"x-total": "9"},
    "window.start": Time(0),
    "parent": Raw(b'{"id": 5}'),
}


def value(text: str) -> Any:
    found = compile_template(text, RECORD_NAMES).value(SCOPE)
    return bytes(found).decode() if isinstance(found, Raw) else found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("$${id}", "${id}"),
        ("a$${x}${id}", "a${x}7"),
        ("$5 ${id}$", "$5 7$"),
        # names
        ("${id}", 7),
        ("${ id }", 7),
        ("${record.id}", 7),
        ("${old}", "before"),
        ("${missing}", None),
        ("${price}", "1.50"),
        ("x${price}", "x1.50"),
        ("${created-at}", "2024-01-02T03:04:05Z"),
        ("${record.created-at}", "2024-01-02T03:04:05Z"),
        ("${record.'created-at'}", "2024-01-02T03:04:05Z"),
        ("${record.now}", "field"),
        ("${list[0]}", 1),
        ("${list[-1].x}", 5),
        ("${list[*].x}", [5]),
        ("${object}", {"k": "v"}),
        ("${object.k}", "v"),
        ("x${object}", 'x{"k":"v"}'),
        ("${api}/${connector}/${task}", "orders/shop/2"),
        ("${entityName}", None),
        ("${response.meta.total}", 3),
        ("${response.header.X-Total}", "9"),
        ("${parent.id}", "5"),
        ("${window.start}", "1970-01-01T00:00:00.000Z"),
        # null in a text makes the whole null
        ("a-${missing}", None),
        ("a-${none}-b", None),
        # times
        ("${now}", "2023-11-14T22:13:20.123Z"),
        ("${today}", "2023-11-14T00:00:00.000Z"),
        ("${yesterday}", "2023-11-13T00:00:00.000Z"),
        ("${now-5m}", "2023-11-14T22:08:20.123Z"),
        ("${now+1w-1w}", "2023-11-14T22:13:20.123Z"),
        ("${now - today}", 80_000_123),
        ("${500ms+2s+3m+4h+5d}", 446_582_500),
        ("${date:yyyy-MM-dd}", "2023-11-14"),
        ("${date:yyyy'}'MM}", "2023}11"),
        ("${timestamp:now-5m}", NOW - 300_000),
        ("${math:round(2.5)}", 3),
        # operators
        ("${1+2*3}", 7),
        ("${(1+2)*3}", 9),
        ("${10/4}", "2.5"),
        ("${10/5}", 2),
        ("${0.1+0.2}", "0.3"),
        ("${price*2}", 3),
        ("${-id}", -7),
        ("${id - -1}", 8),
        ("${7-id}", 0),
        ("${id-1}", 6),
        ("${big+1}", 123456789012345678901234567891),
        ("${1e3}", 1000),
        ("${'a'+1}", "a1"),
        ("${1+'a'}", "1a"),
        ("${flag+'!'}", "true!"),
        ("${now+'!'}", "2023-11-14T22:13:20.123Z!"),
        ("${'it''s'}", "it's"),
        ('${"say ""x"""}', 'say "x"'),
        ("${'}'}", "}"),
        ("${id==7}", True),
        ("${id==7.0}", True),
        ("${id=='7'}", True),
        ("${id!='x'}", True),
        ("${none==null}", True),
        ("${missing==null}", True),
        ("${none!=1}", True),
        ("${list==list}", True),
        ("${'b'>'a'}", True),
        ("${'2024-01-02'>'2024-01-01T23:59:59-05:00'}", False),
        ("${now>today}", True),
        ("${id>=7 && id<=7}", True),
        ("${!flag || id<7}", False),
        ("${false && missing}", False),
        ("${true || missing}", True),
        ("${true && missing}", None),
        ("${null+1}", None),
        ("${none*2}", None),
        ("${-none}", None),
        ("${!none}", None),
        ("${none>1}", None),
        # functions
        ("${if(id>5,'big','small')}", "big"),
        ("${if(false,1/0,2)}", 2),
        ("${if(none,1,2)}", None),
        ("${coalesce(none,missing,'x',1/0)}", "x"),
        ("${coalesce(none)}", None),
        ("${upper(name)}${lower(name)}", "ADAada"),
        ("${trim('  a ')}", "a"),
        ("${length(name)}", 3),
        ("${length(list)}", 3),
        ("${length(object)}", 1),
        ("${substring('hello',1)}", "ello"),
        ("${substring('hello',1,3)}", "el"),
        ("${substring('hello',3,99)}", "lo"),
        ("${replace('a.b.c','.','-')}", "a-b-c"),
        ("${concat('a',1,true)}", "a1true"),
        ("${concat('a',none)}", None),
        ("${round(2.5)}", 3),
        ("${round(-2.5)}", -3),
        ("${round(1.235,2)}", "1.24"),
        ("${round(1250,-2)}", 1300),
        ("${floor(-1.1)}", -2),
        ("${ceil(1.1)}", 2),
        ("${abs(-3)}", 3),
        ("${min(3,1,2)}", 1),
        ("${max(3,1.5,2)}", 3),
        ("${min('b','a')}", "a"),
        (
            "${hash('a')}",
            "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        ),
        ("${base64('hi')}", "aGk="),
        ("${urlencode('a b/c')}", "a%20b%2Fc"),
        ("${mask('4111111111111111')}", "************1111"),
        ("${mask('secret',0)}", "******"),
        ("${mask('abc')}", "***"),
        ("${format(now,'HH:mm')}", "22:13"),
        ("${format(now,'HH:mm','Asia/Tokyo')}", "07:13"),
        ("${format('2024-01-02','yyyy')}", "2024"),
        ("${parse('02.01.2024','dd.MM.yyyy')}", "2024-01-02T00:00:00.000Z"),
        (
            "${parse('02.01.2024','dd.MM.yyyy','Europe/Berlin')}",
            "2024-01-01T23:00:00.000Z",
        ),
        ("${time(1700000000)}", "2023-11-14T22:13:20.000Z"),
        ("${epoch_ms(record.created-at)}", 1_704_164_645_000),
        ("${epoch_s(now)}", 1_700_000_000),
        ("${iso(0)}", "1970-01-01T00:00:00.000Z"),
        ("${celsius_to_fahrenheit(100)}", 212),
        ("${fahrenheit_to_celsius(212)}", 100),
        ("${json(object)}", '{"k":"v"}'),
        ("${json('a')}", '"a"'),
        ("${json(price)}", "1.50"),
        ("${upper(none)}", None),
    ],
)
def test_a_template_gives_what_the_language_says(text: str, expected: object) -> None:
    assert expected == value(text)


@pytest.mark.parametrize(
    "text",
    [
        "${1/0}",
        "${name*2}",
        "${-name}",
        "${!id}",
        "${list+1}",
        "${name>1}",
        "${flag>false}",
        "${if(id,1,2)}",
        "${id && true}",
        "${upper(list)}",
        "${substring('a',-1)}",
        "${substring('a',0.5)}",
        "${round('x')}",
        "${time('soon')}",
        "${time(true)}",
        "${parse('x','yyyy')}",
        "${format(now,name)}",
        "${now+'1'*1}",
        "${time(1e400)}",
    ],
)
def test_wrong_kinds_have_no_value(text: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        value(text)

    assert "Ada" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("${", 3),
        ("${}", 3),
        ("${id", 1),
        ("a ${id", 3),
        ("${id}}${", 9),
        ("${id +}", 7),
        ("${1 2}", 5),
        ("${nofn(1)}", 3),
        ("${uper(name)}", 3),
        ("${upper()}", 3),
        ("${upper(1,2)}", 3),
        ("${if(1,2)}", 3),
        ("${coalesce()}", 3),
        ("${(1}", 3),
        ("${upper('a'}", 3),
        ("${'a}", 3),
        ("${record.}", 10),
        ("${list[x]}", 7),
        ("${window.begin}", 3),
        ("${now.year}", 3),
        ("${a-now}", 4),
        ("${5x}", 3),
        ("${format(now,'qq')}", 15),
        ("${format(now,'yyyy','Mars/X')}", 22),
        ("${date:qqq}", 8),
        ("${secret:X}", 3),
        ("${" + "(" * 33 + "1" + ")" * 33 + "}", 36),
        ("${" + "abs(" * 33 + "1" + ")" * 33 + "}", 135),
        ("x" * 65_537, 1),
        ("${a.__class__.__init__()}", 23),
    ],
)
def test_what_cannot_be_compiled_names_its_column(text: str, column: int) -> None:
    with pytest.raises(LanguageError) as caught:
        compile_template(text, RECORD_NAMES)

    assert column == caught.value.column


def test_a_name_that_is_not_known_here_is_an_error_with_the_nearest() -> None:
    with pytest.raises(LanguageError, match="did you mean offset"):
        compile_template("${ofset}", REQUEST_NAMES)
    with pytest.raises(LanguageError, match="did you mean upper"):
        compile_template("${uper('x')}", REQUEST_NAMES)
    with pytest.raises(LanguageError, match=r"window\.start"):
        compile_template("${window.x}", REQUEST_NAMES)


def test_dunder_names_are_fields_like_others() -> None:
    template = compile_template("${id.__class__}", RECORD_NAMES)

    assert None is template.value(SCOPE)


def test_uuid_is_another_one_each_time() -> None:
    template = compile_template("${uuid} ${uuid}", RECORD_NAMES)
    first, second = str(template.value({})).split()

    assert first != second
    assert template.value({}) != template.value({})


def test_a_template_tells_what_it_is() -> None:
    lone = compile_template("${a}", RECORD_NAMES)
    text = compile_template("x${today}${response.header.A}", RECORD_NAMES)
    constant = compile_template("x", RECORD_NAMES)

    assert (True, False, {"record"}) == (lone.lone, lone.constant, set(lone.names))
    assert (False, False) == (text.lone, text.constant)
    assert {"now", "response.header"} == set(text.names)
    assert (False, True, set()) == (
        constant.lone,
        constant.constant,
        set(constant.names),
    )


def test_rendering_leaves_out_where_an_encoder_says_none() -> None:
    template = compile_template("a${id}${none}", RECORD_NAMES)

    assert None is template.render(SCOPE, encode_text)
    assert "a[7][None]" == template.render(SCOPE, lambda v: f"[{v}]")


def test_a_long_chain_of_operators_does_not_recurse() -> None:
    template = compile_template("${" + "+".join("1" * 20_000) + "}", RECORD_NAMES)

    assert 20_000 == template.value({})


def test_midnight_is_the_zones() -> None:
    zone = compile_zone("Asia/Tokyo")
    template = compile_template("${today} ${date:HH}", RECORD_NAMES, zone)

    assert "2023-11-14T15:00:00.000Z 07" == template.value({"now": NOW})


integers = st.integers(-(10**30), 10**30)


@given(integers, integers, st.sampled_from("+-*"))
def test_integers_of_any_size_are_exact(a: int, b: int, operator: str) -> None:
    template = compile_template(f"${{record.a {operator} record.b}}", RECORD_NAMES)
    expected = {"+": a + b, "-": a - b, "*": a * b}[operator]

    assert expected == template.value({"record": {"a": a, "b": b}})


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, max_value=10**12))
def test_decimals_do_not_pass_through_binary_fractions(number: Any) -> None:
    text = format(number, "f")
    record = {"record": Raw(b'{"a": ' + text.encode() + b"}")}
    lone = compile_template("${a}", RECORD_NAMES).value(record)
    doubled = compile_template("${a + a}", RECORD_NAMES).value(record)

    assert text == bytes(encode(lone)).decode()
    exact = Context(prec=100)
    read = Decimal(json.loads(encode(doubled), parse_float=str))
    assert exact.add(number, number) == read


@given(st.text(alphabet="${}()'\"ab.+-*/<>=!&|1[],: ", max_size=30))
def test_no_text_makes_anything_but_our_errors(text: str) -> None:
    try:
        compile_template(text, RECORD_NAMES).value(SCOPE)
    except LanguageError as error:
        assert 1 <= error.column <= len(text) + 1
    except EvaluationError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 101 + b"]" * 101,
        b'{"a":' * 101 + b"1" + b"}" * 101,
        b'"\\ud800"',
        b'"\\udc00x"',
        b"9" * 4301,
        b"NaN",
        b"",
        b"{} {}",
        b'"\xff"',
    ],
)
def test_what_cannot_be_decoded_is_an_evaluation_error(data: bytes) -> None:
    with pytest.raises(EvaluationError):
        decode(data)


def test_a_hundred_levels_and_brackets_in_strings_are_fine() -> None:
    assert decode(b"[" * 100 + b"]" * 100)
    assert ["[" * 200] == decode(b'["' + b"[" * 200 + b'"]')
    assert [{}] * 200 == decode(b"[" + b",".join([b"{}"] * 200) + b"]")
