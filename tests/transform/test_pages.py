"""Pages: untouched records, routes, bad records, sizes, sums, what people see."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from engine.errors import ConfigError, RecordError
from engine.transform import JsonKey, Step, simple_converter
from engine.transform.function import Context
from tests.transform.pages import RECEIVED_MS, columns, page_of, run, texts, transform

ID = '[{"source": "id", "target": "id", "type": "LONG"}]'


class Hands:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return int(self.now * 1000)


# -- untouched


def test_without_rules_the_records_themselves_go_on() -> None:
    page = page_of([b'{ "id" : 1.50 , "a":"\\u00e9\\/" }', b"7", b'"x"', b"[ ]"])
    for keys in ({}, {"enabled": False, "mappings": ID}):
        parcel = transform(**keys)(page)

        assert parcel.values is page.records
        assert (None, "orders", RECEIVED_MS, ()) == (
            parcel.keys,
            parcel.topic,
            parcel.timestamps,
            parcel.headers,
        )


@given(st.lists(st.binary(min_size=5, max_size=20), max_size=20))
def test_whatever_the_bytes_are_they_go_on(rows: list[bytes]) -> None:
    page = page_of([b'"' + row.hex().encode() + b'"' for row in rows])
    parcel = transform()(page)

    assert [bytes(raw) for raw in page.records] == [
        bytes(v or b"") for v in parcel.values
    ]


def test_filters_alone_leave_the_bytes_alone() -> None:
    row = b'{ "id" : 1.50 , "a":"\\u00e9\\/" }'
    keep = '[{"field": "id", "operator": "LESS_THAN", "value": 2}]'

    assert [row.decode()] == texts(run([row], filters=keep))


def test_an_empty_and_a_saved_page_are_empty_parcels() -> None:
    empty = transform()(page_of([], deduplicated=3))
    saved = transform()(page_of([{"id": 1}], saved=True))

    assert (3, True) == (empty.deduplicated, empty.balanced)
    assert ([], 1, True) == (list(saved.values), saved.deduplicated, saved.balanced)


def test_what_the_page_dropped_stays_in_the_sum() -> None:
    page = page_of([{"id": 1}], deduplicated=4)
    for keys in ({}, {"mappings": ID}, {"key": "${id}"}):
        parcel = transform(**keys)(page)

        assert (4, 5, True) == (parcel.deduplicated, page.received, parcel.balanced)


# -- routes


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("${id}", [b"7", b"a b", b"1.50", None, None, b"true"]),
        ("k", [b"k"] * 6),
        ("k-${id}", [b"k-7", b"k-a b", b"k-1.50", None, None, b"k-true"]),
        ("${record.id}", [b"7", b"a b", b"1.50", None, None, b"true"]),
        ("${api}", [b"orders"] * 6),
        ("${null}", [None] * 6),
    ],
)
def test_a_keys_template_gives_its_bytes_or_null(
    template: str, expected: list[bytes | None]
) -> None:
    rows = [b'{"id":7}', b'{"id":"a b"}', b'{"id":1.50}', b'{"id":null}', b"{}"]
    rows.append(b'{"id":true}')

    parcel = run(rows, key=template)

    assert expected == list(parcel.keys or ())
    assert [row.decode() for row in rows] == texts(parcel)


def test_an_object_is_a_key_as_json_and_a_list_is_none() -> None:
    assert [b'{"a":1}'] == run([b'{"id":{ "a": 1 }}'], key="${id}").keys
    with pytest.raises(RecordError, match="a list") as caught:
        run([{"id": [1]}], key="${id}")
    assert "route" == caught.value.stage


def test_a_key_is_that_of_the_record_as_it_now_is() -> None:
    rules = '[{"source": "a", "target": "id", "type": "STRING"}]'

    assert [b"5"] == run([{"a": 5, "id": 9}], mappings=rules, key="${id}").keys


def test_key_converters_encode_the_value() -> None:
    rows = [{"id": 7}, {"id": "x"}, {}]
    for name, expected in (
        ("Json", [b"7", b'"x"', None]),
        ("String", [b"7", b"x", None]),
    ):
        converter = JsonKey(simple_converter(name))
        assert expected == list(
            run(rows, key="${id}", key_converter=converter).keys or ()
        )


def test_a_topic_by_record_is_checked_when_it_is_rendered() -> None:
    rows = [{"t": "a"}, {"t": "b.c-d_1"}, {"t": "a b"}, {"t": ""}, {}, {"t": ".."}]
    rows += [{"t": "x" * 250}, {"t": "state"}, {"t": {"a": 1}}]

    parcel = run(
        rows, topic="${t}", tolerance="all", reserved_topics=["state"], mappings=None
    )

    assert ["a", "b.c-d_1"] == parcel.topic
    assert list(range(2, 9)) == [letter.index for letter in parcel.letters]
    assert {"route"} == {letter.stage for letter in parcel.letters}


def test_a_topic_without_record_is_one_for_the_page() -> None:
    assert "shop.orders-2" == run([{}], topic="${connector}.${api}-${task + 2}").topic


def test_an_illegal_topic_is_refused_at_load() -> None:
    for topic in ("", "a b", ".", "x" * 250, "${", "${nofn(1)}"):
        with pytest.raises(ConfigError, match=r"kafka\.topic"):
            transform(topic=topic)


def test_a_timestamp_is_read_as_a_time() -> None:
    rows = [{"t": "2024-01-02T03:04:05Z"}, {"t": 1700000000}, {"t": None}, {}]
    bad = [{"t": "soon"}, {"t": True}, {"t": "1969-12-31T23:59:59Z"}, {"t": []}]

    parcel = run(rows + bad, timestamp="${t}", tolerance="all")

    assert [1704164645000, 1700000000000, RECEIVED_MS, RECEIVED_MS] == list(
        parcel.timestamps if not isinstance(parcel.timestamps, int) else ()
    )
    assert [4, 5, 6, 7] == [letter.index for letter in parcel.letters]
    assert 1_699_920_000_000 == run([{}], timestamp="${today}").timestamps


def test_headers_are_rendered_and_left_out_where_null() -> None:
    headers = [("a", "${id}"), ("b", "x-${api}"), ("a", "${none}"), ("c", "${o}")]
    rows = [b'{"id":1.50,"o":{ "k": "\xc3\xa9" }}', b"{}"]

    simple = run(rows, headers=headers)
    as_json = run(rows, headers=headers, header_converter="Json")

    assert [
        (("a", b"1.50"), ("b", b"x-orders"), ("c", b'{"k":"\xc3\xa9"}')),
        (("b", b"x-orders"),),
    ] == simple.headers
    assert [
        (("a", b"1.50"), ("b", b'"x-orders"'), ("c", b'{ "k": "\xc3\xa9" }')),
        (("b", b'"x-orders"'),),
    ] == as_json.headers
    assert (("b", b"x-orders"),) == run([{}], headers=headers[1:2]).headers


def test_provenance_is_the_same_after_a_retry() -> None:
    compiled = transform(provenance=True, headers=[("h", "1")])
    offset = {"seq": 12, "page": 3}
    rows = [{"id": 1}, {"id": 2}]

    first = compiled(page_of(rows, offset=offset))
    again = transform(provenance=True, headers=[("h", "1")])(
        page_of(rows, offset=offset)
    )

    assert first.headers == again.headers
    assert [
        (
            ("h", b"1"),
            ("khttp-id", b"orders/12/0"),
            ("khttp-url", b"https://api.example.com/orders"),
        ),
        (
            ("h", b"1"),
            ("khttp-id", b"orders/12/1"),
            ("khttp-url", b"https://api.example.com/orders"),
        ),
    ] == first.headers


def test_the_page_and_the_parent_can_be_named() -> None:
    rules = json.dumps(
        [
            {"field": "total", "expression": "${response.meta.total}"},
            {"field": "left", "expression": "${response.header.X-Total}"},
            {"field": "parent", "expression": "${parent.name}"},
            {"field": "id", "expression": "${parent_value}"},
            {"field": "entity", "expression": "${entityName}"},
            {"field": "from", "expression": "${window.start}"},
            {"field": "at", "expression": "${epoch_ms(now)}"},
        ]
    )
    page = page_of(
        [{}],
        body=b'{"meta": {"total": 7}, "items": [{}]}',
        parent=Raw(b'{"name": "p", "id": 5}'),
        parent_value=5,
        entity="users",
        window=(0, 1000),
    )
    for fast in (True, False):
        parcel = transform(enrichment=rules, fast=fast)(page)
        assert {
            "total": 7,
            "left": "7",
            "parent": "p",
            "id": 5,
            "entity": "users",
            "from": "1970-01-01T00:00:00.000Z",
            "at": RECEIVED_MS,
        } == json.loads(texts(parcel)[0])
    for form, shown in (("EPOCH_SECONDS", 1), ("EPOCH_MILLIS", 1000), ("ss", "01")):
        rule = '[{"field": "to", "expression": "${window.end}"}]'
        parcel = transform(enrichment=rule, window_format=form)(page)
        assert {"to": shown} == json.loads(texts(parcel)[0])


# -- bad records


@pytest.mark.parametrize("place", [0, 500, 999])
def test_one_bad_record_among_a_thousand_is_one_dead_letter(place: int) -> None:
    rows: list[Any] = [{"id": number} for number in range(1000)]
    rows[place] = {"id": "x"}

    parcel = run(rows, mappings=ID, key="${id}", tolerance="all", batch_size=300)

    kept = [number for number in range(1000) if number != place]
    assert [f'{{"id":{number}}}' for number in kept] == texts(parcel)
    assert [str(number).encode() for number in kept] == list(parcel.keys or ())
    assert [(place, b'{"id":"x"}', "map", False)] == [
        (each.index, each.value, each.stage, each.cut) for each in parcel.letters
    ]


def test_under_tolerance_none_the_first_bad_record_raises() -> None:
    rows = [{"id": 1}, {"id": "x"}, {"id": "y"}]

    with pytest.raises(RecordError) as caught:
        run(rows, mappings=ID)

    assert "page 3, record 1" in str(caught.value)
    assert ("map", "transformation.field.mappings[0]") == (
        caught.value.stage,
        caught.value.rule,
    )


DEEP = b"[" * 101 + b"]" * 101


@pytest.mark.parametrize(
    ("row", "rules"),
    [
        (b"null", {}),
        (b"null", {"mappings": ID}),
        (b"null", {"key": "${id}"}),
        (b'{"id":' + DEEP + b"}", {"mappings": '[{"source":"id","target":"id"}]'}),
        (
            b'{"id":' + DEEP + b"}",
            {"enrichment": '[{"field":"x","value":1}]'},
        ),
        (b'{"id":' + DEEP + b"}", {"key": "${id}"}),
        (
            b'{"id":' + DEEP + b"}",
            {"filters": '[{"field":"id","operator":"IS_NOT_NULL"}]'},
        ),
        (b'{"id":"\\ud800"}', {"mappings": '[{"source":"id","target":"id"}]'}),
        (b'{"id":"\\udc00"}', {"key": "${id}"}),
        (b'{"id":1,"x":"\\ud800"}', {"mappings": ID}),
        (b'{"id":' + b"9" * 4301 + b"}", {"mappings": ID}),
        (
            b'{"id":' + b"9" * 4301 + b"}",
            {"filters": '[{"field":"id","operator":"GREATER_THAN","value":1}]'},
        ),
        (
            b'{"id":1e400}',
            {"mappings": '[{"source":"id","target":"id","type":"DOUBLE"}]'},
        ),
        (b'{"id":NaN}', {"mappings": ID}),
        (b'{"id":1', {"mappings": ID}),
        (b'{"id":"x"}', {"mappings": ID}),
        (b"{}", {"validation": '[{"field":"id","required":true}]'}),
        (b"{}", {"topic": "${id}"}),
        (b'{"id":"' + b"x" * 2000 + b'"}', {}),
        (b'{"id":"' + b"x" * 2000 + b'"}', {"key": "${id}"}),
    ],
)
def test_each_poison_record_is_one_dead_letter_and_its_neighbours_go_on(
    row: bytes, rules: dict[str, Any]
) -> None:
    good = {"id": 7}

    parcel = run([good, row, good], tolerance="all", max_record_bytes=1000, **rules)

    assert 2 == len(parcel.values)
    assert [1] == [letter.index for letter in parcel.letters]
    assert row[:1000] == parcel.letters[0].value
    assert (len(row) > 1000) is parcel.letters[0].cut


def test_integers_beyond_doubles_are_the_same_number_everywhere() -> None:
    rules = (
        '[{"source":"id","target":"id"},{"source":"id","target":"s","type":"STRING"},'
        '{"source":"id","target":"l","type":"LONG"}]'
    )

    assert ['{"id":9007199254740993,"s":"9007199254740993","l":9007199254740993}'] == (
        texts(run([b'{"id":9007199254740993}'], mappings=rules))
    )
    assert [
        '{"id":9007199254740993.0,"s":"9007199254740993.0","l":9007199254740993}'
    ] == (texts(run([b'{"id":9007199254740993.0}'], mappings=rules)))


# -- size


def test_the_record_limit_counts_key_value_and_headers() -> None:
    row = {"id": "x" * 10}
    size = len(json.dumps(row, separators=(",", ":"))) + 10 + len("h") + 1
    keys: dict[str, Any] = {"key": "${id}", "headers": [("h", "1")], "tolerance": "all"}

    assert 1 == len(run([row], max_record_bytes=size, **keys).values)
    over = run([row], max_record_bytes=size - 1, **keys)
    assert [(0, "size")] == [(each.index, each.stage) for each in over.letters]
    assert "transformation.max.record.size.bytes" in over.letters[0].message


def test_one_record_over_the_limit_leaves_the_others() -> None:
    limit = 1000
    rows: list[Any] = [b'"' + b"x" * 100 + b'"'] * 499
    rows.insert(250, b'"' + b"x" * (limit - 1) + b'"')
    exact = b'"' + b"x" * (limit - 2) + b'"'

    parcel = run([*rows, exact], max_record_bytes=limit, tolerance="all")

    assert 500 == len(parcel.values)
    assert [250] == [letter.index for letter in parcel.letters]
    assert limit == len(parcel.letters[0].value)
    assert parcel.letters[0].cut


def test_the_limit_can_be_lowered_while_running() -> None:
    compiled = transform(tolerance="all")
    assert 1 == len(compiled(page_of(["x" * 100])).values)

    compiled.record_limit = 50

    assert [0] == [each.index for each in compiled(page_of(["x" * 100])).letters]


def test_a_page_is_decoded_in_slices() -> None:
    rows = [{"id": number} for number in range(1000)]
    for keys in ({}, {"mappings": ID}, {"key": "${id}"}):
        compiled = transform(batch_size=100, **keys)

        assert [f'{{"id":{n}}}' for n in range(1000)] == texts(compiled(page_of(rows)))
        assert 100 == compiled.largest_batch


# -- converters


def test_string_and_byte_array_converters_of_values() -> None:
    rows = [b'{ "a": 1 }', b'"a\\u00e9"', b"[1]", b"1.50"]

    assert ['{ "a": 1 }', "a\u00e9", "[1]", "1.50"] == texts(
        run(rows, value_converter=simple_converter("String"))
    )
    for name in ("ByteArray", "Json"):
        page = page_of(rows)
        converter = simple_converter(name)
        assert page.records is transform(value_converter=converter)(page).values


def test_the_json_envelope_holds_the_records_own_schema() -> None:
    converter = simple_converter("Json", schemas_enable=True)
    rows = [b'{"id": 1, "x": 1.50, "n": null, "l": [1, 2.5], "o": {"b": true}}', b'"s"']

    parcel = run([*rows, b'{"l":[1,"x"]}', b'{"i":9223372036854775808}'],
                 value_converter=converter, tolerance="all")  # fmt: skip
    first, second = (json.loads(text) for text in texts(parcel))

    def optional(kind: str, **more: Any) -> dict[str, Any]:
        return {"type": kind, "optional": True, **more}

    inner = optional("struct", fields=[optional("boolean", field="b")], field="o")
    assert (
        optional(
            "struct",
            fields=[
                optional("int64", field="id"),
                optional("double", field="x"),
                optional("string", field="n"),
                optional("array", items=optional("double"), field="l"),
                inner,
            ],
        )
        == first["schema"]
    )
    assert json.loads(rows[0]) == first["payload"]
    assert rows[0] in bytes(parcel.values[0] or b"")
    assert {"schema": optional("string"), "payload": "s"} == second
    assert [2, 3] == [letter.index for letter in parcel.letters]
    assert {"convert"} == {letter.stage for letter in parcel.letters}


# -- de-duplication


def test_a_key_is_seen_once_its_record_is_acknowledged() -> None:
    clock = Hands()
    compiled = transform(
        deduplication=True, deduplication_fields=["id"], clock=clock,
        deduplication_window=60.0,
    )  # fmt: skip
    page = page_of([{"id": 1, "x": 1}, {"id": 2}, {"id": 1, "x": 2}])

    first = compiled(page)
    assert (['{"id":1,"x":1}', '{"id":2}'], 1) == (texts(first), first.deduplicated)
    assert 2 == len(compiled(page).values)

    assert first.acknowledged is not None
    first.acknowledged()
    again = compiled(page)
    assert (0, 3, True) == (len(again.values), again.deduplicated, again.balanced)


def test_what_is_on_its_way_is_not_sent_again_by_the_next_page() -> None:
    compiled = transform(deduplication=True)
    pages = [page_of([{"id": n} for n in ids]) for ids in ([1, 2], [2, 3], [3, 1, 4])]
    pages = [replace(page, index=index) for index, page in enumerate(pages)]

    parcels = [compiled(page) for page in pages]

    assert [2, 1, 1] == [len(parcel.values) for parcel in parcels]
    assert all(parcel.balanced for parcel in parcels)
    # A poll that begins anew was given up: what was on its way comes again.
    assert 2 == len(compiled(pages[0]).values)
    for parcel in parcels:
        assert parcel.acknowledged is not None
        parcel.acknowledged()
    assert 0 == sum(len(compiled(page).values) for page in pages)


def test_the_window_runs_from_when_a_key_was_last_seen() -> None:
    clock = Hands()
    compiled = transform(deduplication=True, clock=clock, deduplication_window=60.0)
    page = page_of([{"id": 1}])
    produced = []
    for now in (0.0, 50.0, 100.0, 161.0, 162.0):
        clock.now = now
        parcel = compiled(page)
        produced.append(len(parcel.values))
        if parcel.acknowledged is not None:
            parcel.acknowledged()

    assert [1, 0, 0, 1, 0] == produced


def test_without_fields_the_whole_output_is_compared() -> None:
    rules = '[{"source": "a", "target": "a"}]'

    parcel = run(
        [{"a": 1, "b": 1}, {"a": 1, "b": 2}], mappings=rules, deduplication=True
    )
    assert (1, 1) == (len(parcel.values), parcel.deduplicated)
    other = run([{"a": 1, "b": 1}, {"a": 1, "b": 2}], deduplication=True)
    assert (2, 0) == (len(other.values), other.deduplicated)


def test_bad_and_filtered_records_are_never_seen() -> None:
    compiled = transform(
        mappings=ID,
        filters='[{"field": "id", "operator": "GREATER_THAN", "value": 1}]',
        deduplication=True,
        tolerance="all",
    )
    page = page_of([{"id": 1}, {"id": "x"}, {"id": 2}])
    parcel = compiled(page)
    assert parcel.acknowledged is not None
    parcel.acknowledged()
    parcel = compiled(page)

    assert (0, 1, 1, 1, True) == (
        len(parcel.values),
        parcel.deduplicated,
        parcel.filtered,
        len(parcel.letters),
        parcel.balanced,
    )


# -- a user's function


MODULE = """
seen = []

def double(record, context):
    seen.append(context)
    if record.get("drop"):
        return None
    if record.get("raise"):
        raise ValueError("no good")
    if record.get("many"):
        return [{"n": 1}, {"n": 2}, {"n": 3}]
    if record.get("wrong"):
        return 7
    return {**record, "twice": record["id"] * 2}

def page(records, context):
    if any(record.get("raise") for record in records):
        raise KeyError("id")
    return [record for record in records if not record.get("drop")] + [{"sum": len(records)}]

def evens(records, context):
    return [record for record in records if record["id"] % 2 == 0]

async def later(record, context):
    return record

value = 1
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "reshape.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "json.py").write_text("def f(record, context): return {'mine': 1}")
    return tmp_path


def test_a_function_beside_the_file_gets_each_record(module: Path) -> None:
    rows = [{"id": 1}, {"drop": 1}, {"raise": 1}, {"many": 1}, {"wrong": 1}, {"id": 2}]

    parcel = transform(
        function="reshape:double", directory=module, tolerance="all", key="${n}"
    )(page_of(rows))

    assert [
        '{"id":1,"twice":2}', '{"n":1}', '{"n":2}', '{"n":3}', '{"id":2,"twice":4}',
    ] == texts(parcel)  # fmt: skip
    assert [None, b"1", b"2", b"3", None] == list(parcel.keys or ())
    assert (1, 2) == (parcel.filtered, parcel.added)
    assert [(2, "function"), (4, "function")] == [
        (each.index, each.stage) for each in parcel.letters
    ]
    assert "ValueError: no good" in parcel.letters[0].message


def test_a_function_comes_after_enrichment_and_before_the_filters(module: Path) -> None:
    parcel = transform(
        mappings=ID,
        enrichment='[{"field": "id", "expression": "${id + 1}"}]',
        function="reshape:double",
        directory=module,
        filters='[{"field": "twice", "operator": "GREATER_THAN", "value": 4}]',
    )(page_of([{"id": 1}, {"id": 2}]))

    assert ['{"id":3,"twice":6}'] == texts(parcel)
    assert 1 == parcel.filtered


def test_a_function_of_pages_gets_them_whole(module: Path) -> None:
    def compiled(name: str) -> Any:
        return transform(
            function=f"reshape:{name}", function_unit="page", directory=module,
            tolerance="all", batch_size=2,
        )  # fmt: skip

    page = page_of([{"id": number} for number in range(5)])
    more = compiled("page")(page)
    assert (6, 0, 1) == (len(texts(more)), more.filtered, more.added)
    fewer = compiled("evens")(page)
    assert ['{"id":0}', '{"id":2}', '{"id":4}'] == texts(fewer)
    assert 2 == fewer.filtered
    bad = compiled("page")(page_of([{"id": 1}, {"raise": 1}]))
    assert ([], [0, 1]) == (texts(bad), [each.index for each in bad.letters])
    empty = compiled("evens")(page_of([{"id": 1}]))
    assert ([], 1) == (texts(empty), empty.filtered)


def test_a_function_is_told_where_its_record_comes_from() -> None:
    told: list[Context] = []

    def function(record: dict[str, Any], context: Context) -> dict[str, Any]:
        told.append(context)
        return record

    texts(transform(function=function)(page_of([{}], task=4, entity="e")))

    assert [
        Context(
            "shop",
            "orders",
            4,
            "e",
            3,
            "https://api.example.com/orders",
            200,
            RECEIVED_MS,
        )
    ] == told


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere_at_all:f", "no module nowhere_at_all"),
        ("reshape:nothing", "no function nothing"),
        ("reshape:value", "no function value"),
        ("reshape:later", "no plain function"),
        ("broken:f", "ZeroDivisionError"),
        ("reshape", "module:name"),
        ("math:pi", "no function pi"),
        ("math:sqrt", "two arguments"),
    ],
)
def test_a_function_is_checked_at_load(module: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match="transformation.function") as caught:
        transform(function=name, directory=module)

    assert said in str(caught.value)


def test_a_module_beside_the_file_takes_nobodys_name(module: Path) -> None:
    parcel = transform(function="json:f", directory=module)(page_of([{"id": 1}]))

    assert ['{"mine":1}'] == texts(parcel)
    assert hasattr(__import__("json"), "loads")


def test_what_is_no_json_out_of_a_function_is_a_bad_record() -> None:
    parcel = transform(
        function=lambda record, context: {"x": object()}, tolerance="all"
    )(page_of([{}]))

    assert ["map"] == [letter.stage for letter in parcel.letters]


@pytest.mark.parametrize("unit", ["record", "page"])
def test_a_number_that_is_none_or_an_exit_in_a_function_is_a_bad_record(
    unit: str,
) -> None:
    def change(record: dict[str, Any]) -> dict[str, Any]:
        if record["id"] == "exit":
            raise SystemExit(3)
        return {"x": [{"y": float(record["id"])}]}

    def pages(records: list[dict[str, Any]], context: Context) -> list[dict[str, Any]]:
        return [change(record) for record in records]

    def one(record: dict[str, Any], context: Context) -> dict[str, Any]:
        return change(record)

    compiled = transform(
        function=one if unit == "record" else pages,
        function_unit=unit,
        tolerance="all",
    )

    parcel = compiled(page_of([{"id": "1"}, {"id": "nan"}, {"id": "-inf"}]))
    assert ['{"x":[{"y":1.0}]}'] == texts(parcel)
    assert [1, 2] == [letter.index for letter in parcel.letters]
    gone = compiled(page_of([{"id": "exit"}]))
    assert ["SystemExit"] == [letter.cause for letter in gone.letters]


# -- what people see


def test_debug_tells_of_the_first_ten_records(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("transform")
    rows: list[Any] = [{"id": number} for number in range(20)]
    rows[1] = {"id": "x"}
    rows[2] = {"id": 0, "secret": "hunter2", "long": "y" * 2000}
    compiled = transform(
        debug=True,
        mappings=ID,
        filters='[{"field": "id", "operator": "GREATER_THAN", "value": 0}]',
        tolerance="all",
        mask=lambda text: text.replace("hunter2", "****"),
    )
    try:
        assert logging.DEBUG == logger.level
        with caplog.at_level(logging.DEBUG):
            compiled(page_of(rows))
    finally:
        logger.setLevel(logging.NOTSET)
    lines = [each.getMessage() for each in caplog.records if each.name == "transform"]

    assert 10 == len(lines)
    assert 'orders page 3 record 3 produced: {"id":3} -> {"id":3}' == lines[3]
    assert "record 0 filtered by transformation.filter.expressions[0]" in lines[0]
    assert "record 1 failed: transformation.field.mappings[0]" in lines[1]
    assert "hunter2" not in "".join(lines)
    assert len(lines[2]) < 1200


def test_without_debug_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        transform(mappings=ID)(page_of([{"id": 1}]))

    assert [] == caplog.records


def test_inspect_shows_each_record_before_and_after() -> None:
    compiled = transform(
        mappings=ID,
        filters='[{"field": "id", "operator": "GREATER_THAN", "value": 0}]',
        max_record_bytes=12,
        deduplication=True,
    )
    page = page_of([{"id": 1}, {"id": 0}, {"id": "x"}, {"id": 10**11}])

    found = compiled.inspect(page)

    size = found.pop()
    assert [
        Step(0, b'{"id":1}', b'{"id":1}', "produced"),
        Step(
            1,
            b'{"id":0}',
            None,
            "filtered",
            rule="transformation.filter.expressions[0]",
        ),
        Step(
            2,
            b'{"id":"x"}',
            None,
            "failed",
            "map",
            "transformation.field.mappings[0]",
            "transformation.field.mappings[0]: text is no whole number of LONG",
        ),
    ] == found
    assert (3, "failed", "size") == (size.index, size.outcome, size.stage)
    assert found == compiled.inspect(page)[:3]


def test_messages_carry_no_value_of_the_record() -> None:
    secret = "hunter2"
    for keys in (
        {"mappings": ID},
        {"validation": '[{"field": "id", "type": "NUMERIC"}]'},
        {"timestamp": "${id}"},
        {"topic": "${id} x"},
        {"enrichment": '[{"field": "x", "expression": "${id * 2}"}]'},
    ):
        parcel = run([{"id": secret}], tolerance="all", **keys)
        assert secret not in parcel.letters[0].message


def test_a_page_that_keeps_failing_the_fast_path_still_means_the_same() -> None:
    compiled = transform(mappings=ID, tolerance="all")
    slow = transform(mappings=ID, tolerance="all", fast=False)
    page = page_of([{"id": "1"}, [], {"id": []}, {"id": 2}, 5])
    assert compiled.loops
    for _ in range(40):
        assert columns(slow(page)) == columns(compiled(page))
    good = page_of([{"id": 1}])
    for _ in range(40):
        assert ['{"id":1}'] == texts(compiled(good))
    assert compiled.fallbacks > 0
