"""Answers that are no array of objects: rows, columns, members, XML, CSV, sequences."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from engine.errors import BadPage, ConfigError
from engine.source.decode.decoder import Shapes, compile_decoder
from engine.source.decode.formats import CsvFormat, Xml
from engine.source.decode.shapes import Exploding, Rows
from tests.source.decode.test_decoder import response, texts


def read(body: bytes | str, kind: str | None = None, **options: Any) -> list[Any]:
    """The records of a page as Python has them."""
    content = body.encode() if isinstance(body, str) else body
    decoded = compile_decoder(**options)(response(content, kind))
    return [json.loads(text) for text in texts(decoded)]


def spelled(body: str, **options: Any) -> list[bytes]:
    return texts(compile_decoder(**options)(response(body.encode(), None)))


# -- rows --------------------------------------------------------------------------

HEADER = Shapes(rows=Rows("HEADER"))
COLUMNS = Shapes(rows=Rows("COLUMNS"))


@pytest.mark.parametrize(
    ("path", "body", "shapes", "records"),
    [
        # A census: the whole document is rows.
        ("", '[["NAME","POP"],["Ohio",1.50],["Iowa",2]]', HEADER, [b'{"NAME":"Ohio","POP":1.50}', b'{"NAME":"Iowa","POP":2}']),
        # A spreadsheet: empty cells at the end are left out.
        ("values", '{"values":[["a","b","c"],["1"],[],["1","2","3"]]}', HEADER, [b'{"a":"1"}', b"{}", b'{"a":"1","b":"2","c":"3"}']),
        ("values", '{"values":[["a"]]}', HEADER, []),
        ("values", '{"values":[]}', HEADER, []),
        ("values", '{"values":null}', HEADER, []),
        # Candles: rows without names.
        ("", "[[1,2.10],[3,4e2]]", Shapes(rows=Rows("NAMED", ("t", "price"))), [b'{"t":1,"price":2.10}', b'{"t":3,"price":4e2}']),
        # Names beside the rows, as texts, as objects with a name, by a path of many.
        ("rows", '{"columns":["a","b"],"rows":[[1,2]]}', Shapes(rows=Rows("NAMED", (), "columns")), [b'{"a":1,"b":2}']),
        ("rows", '{"meta":{"view":{"columns":[{"name":"a","id":1},{"name":"b"}]}},"rows":[[1,2]]}', Shapes(rows=Rows("NAMED", (), "meta.view.columns")), [b'{"a":1,"b":2}']),
        ("rows", '{"schema":{"fields":[{"n":"a"},{"n":"b"}]},"rows":[[1,{"x": 2}]]}', Shapes(rows=Rows("NAMED", (), "schema.fields[*].n")), [b'{"a":1,"b":{"x": 2}}']),
        ("rows", '{"columns":[1,2],"rows":[["x","y"]]}', Shapes(rows=Rows("NAMED", (), "columns")), [b'{"1":"x","2":"y"}']),
        # Weather: columns; what is no column is not part of the rows.
        ("hourly", '{"hourly":{"time":["00","01"],"temp":[1.0,null],"unit":"C"}}', COLUMNS, [b'{"time":"00","temp":1.0}', b'{"time":"01","temp":null}']),
        ("", '{"t":[],"v":[]}', COLUMNS, []),
        ("", '{"a\\"b":[1]}', COLUMNS, [b'{"a\\"b":1}']),
    ],
)  # fmt: skip
def test_rows_become_objects_and_values_keep_their_spelling(
    path: str, body: str, shapes: Shapes, records: list[bytes]
) -> None:
    assert records == spelled(body, data_path=path, shapes=shapes)


@pytest.mark.parametrize(
    ("body", "shapes", "why"),
    [
        ('[["a","a"],[1,2]]', HEADER, "not distinct"),
        ('[["a"],[1,2]]', HEADER, "2 values for 1 names"),
        ('[["a"],7]', HEADER, "row 1 is no array"),
        ('{"a":1}', HEADER, "no array of names"),
        ("[[],[]]", HEADER, "not distinct"),
        ('[[{"x":1}],[1]]', HEADER, "no text"),
        ('{"t":[1,2],"v":[1]}', COLUMNS, "different lengths"),
        ('{"t":1}', COLUMNS, "none of the members is a column"),
        ("[1,2]", COLUMNS, "no object of columns"),
        ("[[1]]", Shapes(rows=Rows("NAMED", (), "columns")), "names of the rows"),
    ],
)
def test_rows_that_do_not_fit_are_a_bad_page(
    body: str, shapes: Shapes, why: str
) -> None:
    with pytest.raises(BadPage, match=why):
        read(body, shapes=shapes)


def test_names_are_needed() -> None:
    with pytest.raises(ConfigError, match="rows.names"):
        compile_decoder(shapes=Shapes(rows=Rows("NAMED")))


@given(
    st.lists(st.text(max_size=4), min_size=1, max_size=4, unique=True),
    st.lists(
        st.lists(st.integers() | st.text(max_size=4) | st.none(), max_size=4),
        max_size=5,
    ),
)
@settings(max_examples=50, deadline=None)
def test_rows_and_columns_say_the_same(
    names: list[str], lines: list[list[Any]]
) -> None:
    whole = [(line + [None] * 4)[: len(names)] for line in lines]
    wanted = [dict(zip(names, line)) for line in whole]

    assert wanted == read(json.dumps([names, *whole]), shapes=HEADER)
    turned = {name: [line[at] for line in whole] for at, name in enumerate(names)}
    assert wanted == read(json.dumps(turned), shapes=COLUMNS)


# -- members -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "field", "records"),
    [
        ("near.*", '{"near":{"d1":[{"id":1},{"id":2}],"d2":[{"id":3}]}}', "", [b'{"id":1}', b'{"id":2}', b'{"id":3}']),
        ("near.*", '{"near":{"d1":[{"id":1}],"d2":[{}]}}', "date", [b'{"date":"d1","id":1}', b'{"date":"d2"}']),
        ("*", '{"a":{"v":1.0},"b":{"v":2}}', "name", [b'{"name":"a","v":1.0}', b'{"name":"b","v":2}']),
        ("rates.*", '{"rates":{"EUR":1.10,"USD":1}}', "", [b"1.10", b"1"]),
        ("rates.*", '{"rates":{"EUR":1.10}}', "code", [b"1.10"]),
        ("a.*", '{"a":{}}', "", []),
        ("a.*", '{"a":null}', "", []),
        ("a.*", '{"a":{"x":null,"y":[]}}', "", []),
        ("a.*", '{"a":{"x\\"y":{ "k":1}}}', "n", [b'{"n":"x\\"y","k":1}']),
    ],
)  # fmt: skip
def test_the_values_of_an_object_are_records(
    path: str, body: str, field: str, records: list[bytes]
) -> None:
    shapes = Shapes(member_field=field)

    assert records == spelled(body, data_path=path, shapes=shapes)


def test_a_field_of_the_record_wins_over_the_members_name() -> None:
    body = '{"a":{"x":{"id":7}}}'

    assert [{"id": 7}] == read(body, data_path="a.*", shapes=Shapes(member_field="id"))


def test_members_of_what_is_no_object_are_a_bad_page() -> None:
    with pytest.raises(BadPage, match="no object"):
        read('{"a":[1]}', data_path="a.*")


# -- explode -----------------------------------------------------------------------


def exploded(place: str, *records: str, drop: bool = False) -> list[bytes]:
    made = Exploding(place, drop=drop)([Raw(record.encode()) for record in records])
    return [bytes(record) for record in made]


@pytest.mark.parametrize(
    ("place", "record", "kept", "dropped"),
    [
        ("i", '{"id":1,"i":[{"a":1.50},{"a":2}]}', [b'{"id":1,"i":{"a":1.50}}', b'{"id":1,"i":{"a":2}}'], None),
        ("o.i", '{"o":{"n":1,"i":[1,2]},"z":0}', [b'{"o":{"n":1,"i":1},"z":0}', b'{"o":{"n":1,"i":2},"z":0}'], None),
        ("i", '{"id":1,"i":[]}', [b'{"id":1,"i":null}'], []),
        ("i", '{"id":1,"i":null}', [b'{"id":1,"i":null}'], []),
        ("i", '{"id":1}', [b'{"id":1}'], []),
        ("o.i", '{"id":1}', [b'{"id":1}'], []),
        ("o.i", '{"o":7}', [b'{"o":7}'], []),
        ("i", "7", [b"7"], []),
        # One that is no list, as XML has it, is its own only item.
        ("i", '{"i":{"a":1}}', [b'{"i":{"a":1}}'], None),
        ("i", '{"i":5}', [b'{"i":5}'], None),
    ],
)  # fmt: skip
def test_items_inside_a_record_become_records(
    place: str, record: str, kept: list[bytes], dropped: list[bytes] | None
) -> None:
    assert kept == exploded(place, record)
    assert (kept if dropped is None else dropped) == exploded(place, record, drop=True)


@pytest.mark.parametrize("place", ["a[*].b", "a[0]", "/a/0"])
def test_a_place_to_explode_has_names_alone(place: str) -> None:
    with pytest.raises(ConfigError, match="a path of names"):
        Exploding(place)


# -- prefixes and calls ------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        ")]}',\n[1]",
        ")]}'\n[1]",
        ")]}\n[1]",
        "while(1);[1]",
        "for(;;);[1]",
        "throw 1;[1]",
        "callback([1])",
        "callback([1]);",
        "/**/ jQuery_1.x$([1]) ;\n",
        "  cb ( [1] ) ",
    ],
)
def test_what_keeps_browsers_away_is_passed_over(body: str) -> None:
    assert [1] == read(body)


@pytest.mark.parametrize(
    "body", ["cb(cb([1]))", "(((", "for(;;);", "x([1]", "{}&&", "y"]
)
def test_what_only_looks_like_it_is_a_bad_page(body: str) -> None:
    with pytest.raises(BadPage):
        read(body)


def test_an_object_behind_a_prefix_has_its_paths() -> None:
    assert [1] == read('{}&&{"items":[1]}', data_path="items")


# -- sequences ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        '{"a":1}{"a":2}',
        '{"a":1}\n\n{"a":2}\n',
        '\x1e{"a":1}\n\x1e{"a":2}\n',
        '\x1e{"a":1}\x1e\x1e{"a":2}',
        '{\n"a":\n1} \t {"a":2}',
    ],
)
def test_documents_one_behind_the_other(body: str) -> None:
    assert [{"a": 1}, {"a": 2}] == read(body, format="json-seq")


@pytest.mark.parametrize(
    ("body", "records"),
    [
        ("", []),
        ("\x1e", []),
        ("1.0 2e3", [b"1.0", b"2e3"]),
        ('"a""\\ud800"', [b'"a"', b'"\\ud800"']),
        ("[1][2]", [b"[1]", b"[2]"]),
    ],
)
def test_texts_of_a_sequence_keep_their_spelling(
    body: str, records: list[bytes]
) -> None:
    assert records == spelled(body, format="json-seq")


@pytest.mark.parametrize(
    "body", ['{"a":1}{"a":', "12x", "{} x", "NaN", "[1,]", "1true"]
)
def test_a_sequence_that_is_cut_is_a_bad_page(body: str) -> None:
    with pytest.raises(BadPage):
        read(body, format="json-seq")


# -- CSV ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "shape", "records"),
    [
        ("a;b\n1;2,5\n", CsvFormat(";"), [{"a": "1", "b": "2,5"}]),
        ("a\tb\n1\t2\n", CsvFormat("\t"), [{"a": "1", "b": "2"}]),
        ("a|b\r\n1|'x|y'\r\n", CsvFormat("|", "'"), [{"a": "1", "b": "x|y"}]),
        ('a,b\n1,"2\n', CsvFormat(",", ""), [{"a": "1", "b": '"2'}]),
        ("1,2\n3,4\n", CsvFormat(names=("x", "y"), header=False), [{"x": "1", "y": "2"}, {"x": "3", "y": "4"}]),
        ("Größe,b\n1,2\n", CsvFormat(names=("x", "y")), [{"x": "1", "y": "2"}]),
        ("a,b\n", CsvFormat(), []),
    ],
)  # fmt: skip
def test_csv_as_it_is_sent(body: str, shape: CsvFormat, records: list[Any]) -> None:
    found = read(body, "text/csv", format="csv", shapes=Shapes(csv=shape))

    assert records == found


def test_a_line_that_does_not_fit_the_given_names_is_a_bad_page() -> None:
    shapes = Shapes(csv=CsvFormat(names=("x", "y"), header=False))
    with pytest.raises(BadPage, match="line 1 has 3 fields, not 2"):
        read("1,2,3\n", "text/csv", format="csv", shapes=shapes)


# -- XML ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "records"),
    [
        ("feed.entry", "<feed><entry><id>1</id></entry><entry><id>2</id></entry></feed>", [{"id": "1"}, {"id": "2"}]),
        ("feed.entry", "<feed><entry><id>1</id></entry></feed>", [{"id": "1"}]),
        ("feed.entry", "<feed/>", []),
        ("feed.entry", "<feed><title>x</title></feed>", []),
        ("a.b.c", "<a><b/></a>", []),
        ("a.b.c", "<a/>", []),
        ("a.i", '<a><i k="1">x<j/></i></a>', [{"@k": "1", "#text": "x", "j": None}]),
        ("a.i", "<a><i>&lt;&#233;&amp;</i></a>", ["<é&"]),
        ("a.i", "<a><i><![CDATA[<x>]]></i></a>", ["<x>"]),
        ("a.'n:i'", '<a xmlns:n="u"><n:i>1</n:i></a>', ["1"]),
        ("", "<a>1</a>", [{"a": "1"}]),
    ],
)  # fmt: skip
def test_elements_are_objects_with_the_same_paths(
    path: str, body: str, records: list[Any]
) -> None:
    assert records == read(body, "application/xml", format="xml", data_path=path)


@pytest.mark.parametrize(
    "kind", ["application/xml", "text/xml", "application/atom+xml", "text/plain", None]
)
def test_xml_has_many_labels(kind: str | None) -> None:
    assert ["1"] == read("<a><i>1</i></a>", kind, format="xml", data_path="a.i")


def test_a_page_of_html_is_no_xml() -> None:
    with pytest.raises(BadPage):
        read("<html/>", "text/html", format="xml", data_path="html")


@pytest.mark.parametrize(
    "body",
    [
        '<?xml version="1.0" encoding="ISO-8859-1"?><a><i>é</i></a>'.encode("latin-1"),
        '<?xml version="1.0" encoding="UTF-8"?><a><i>é</i></a>'.encode(),
        '\ufeff<?xml version="1.0"?><a><i>é</i></a>'.encode(),
        '<?xml version="1.0" encoding="utf-16"?><a><i>é</i></a>'.encode("utf-16"),
        "<a><i>é</i></a>".encode("utf-16-be"),
    ],
)
def test_xml_is_read_in_its_charset(body: bytes) -> None:
    assert ["é"] == read(body, "application/xml", format="xml", data_path="a.i")


@pytest.mark.parametrize(
    "body",
    [
        '<!DOCTYPE a [<!ENTITY x "y">]><a><i>&x;</i></a>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a><i>&x;</i></a>',
        "<a><i>1</i>",
        "<a></b>",
        "no xml",
        "<a/><b/>",
        "",
    ],
)
def test_entities_and_what_is_cut_are_a_bad_page(body: str) -> None:
    with pytest.raises(BadPage):
        read(body, "application/xml", format="xml", data_path="a.i")


def test_elements_can_be_arrays_always_and_lose_their_prefixes() -> None:
    body = '<n:a xmlns:n="u"><n:i><n:t>1</n:t></n:i></n:a>'
    shapes = Shapes(xml=Xml(("t",), strip=True))

    found = read(body, "text/xml", format="xml", data_path="a.i", shapes=shapes)

    assert [{"t": ["1"]}] == found


def test_paging_finds_its_places_in_xml() -> None:
    decode = compile_decoder(format="xml", data_path="r.i", wanted=("r.next",))

    decoded = decode(response(b"<r><next>n1</next><i>1</i></r>", "text/xml"))

    assert {"r.next": "n1"} == decoded.found
