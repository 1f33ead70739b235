"""From a response to unread records: what is a page, and what is none."""

from __future__ import annotations

import json
import mmap
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from engine.errors import BadPage, ConfigError
from engine.records import Request, Response
from engine.source.decode.decoder import Decoded, compile_decoder
from tests.examples import examples


def response(
    body: bytes | memoryview,
    kind: str | None = "application/json",
    status: int = 200,
    headers: tuple[tuple[str, str], ...] = (),
) -> Response:
    found = [*headers]
    if kind is not None:
        found.append(("content-type", kind))
    url = "https://api.example/v1?token=s3cr3t"
    return Response(
        request=Request("GET", url),
        url=url,
        status=status,
        headers=found,
        body=body,
        sent_at=0.0,
        received_ms=0,
    )


def decode(
    body: bytes | memoryview, kind: str | None = None, **options: Any
) -> Decoded:
    return compile_decoder(**options)(response(body, kind))


def texts(decoded: Decoded) -> list[bytes]:
    return [bytes(record) for record in decoded.records]


@pytest.mark.parametrize(
    ("path", "body", "records"),
    [
        ("", b'[{"a":1}, {"b" : 2}]', [b'{"a":1}', b'{"b" : 2}']),
        ("", b'{"a":1}', [b'{"a":1}']),
        ("", b' "text" ', [b'"text"']),
        ("", b"null", []),
        ("", b"[]", []),
        ("", b"7", [b"7"]),
        ("items", b'{"items":[1,2.50,null]}', [b"1", b"2.50", b"null"]),
        ("items", b'{"x":[9],"items":{"id":1}}', [b'{"id":1}']),
        ("items", b'{"items":7}', [b"7"]),
        ("items", b'{"items":null}', []),
        ("items", b'{"items":[]}', []),
        ("items", b'{"items":[1],"items":[2]}', [b"2"]),
        ("a.b.c", b'{"a":{"b":{"c":[1]}}}', [b"1"]),
        ("/a/b", b'{"a":{"b":[1]}}', [b"1"]),
        ("/a/0", b'{"a":[[1,2],[3]]}', [b"1", b"2"]),
        ("a[1].b", b'{"a":[1,{"b":[5,6]}]}', [b"5", b"6"]),
        (
            "pages.items",
            b'{"pages":[{"items":[1]},{"items":[2,3]}]}',
            [b"1", b"2", b"3"],
        ),
        ("'a.b'.'@x'", b'{"a.b":{"@x":[1]}}', [b"1"]),
        ("value", b'\xef\xbb\xbf{"value":["\xc3\xa9"]}', [b'"\xc3\xa9"']),
    ],
)
def test_records_are_the_bytes_at_their_place(
    path: str, body: bytes, records: list[bytes]
) -> None:
    assert records == texts(decode(body, data_path=path))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("next", "abc"),
        ("meta.total", 7),
        ("meta.more", True),
        ("meta.none", None),
        ("meta.place", Raw(b'[1,"x"]')),
        ("meta.object", Raw(b'{"a":1}')),
        ("meta.big", 123456789012345678901234567890),
        ("links[1].href", "/p2"),
        ("'@odata.nextLink'", "/next"),
        ("/meta/total", 7),
        ("header:X-Next", "h1, h2"),
    ],
)
def test_the_envelope_is_found_beside_the_records(wanted: str, found: Any) -> None:
    body = json.dumps(
        {
            "next": "abc",
            "items": [1, 2],
            "@odata.nextLink": "/next",
            "links": [{"href": "/p1"}, {"href": "/p2"}],
            "meta": {
                "total": 7,
                "more": True,
                "none": None,
                "place": [1, "x"],
                "object": {"a": 1},
                "big": 123456789012345678901234567890,
            },
        }
    ).encode()
    headers = (("x-next", "h1"), ("x-next", "h2"))
    run = compile_decoder(data_path="items", wanted=(wanted, "missing.one"))
    decoded = run(response(body, headers=headers))

    assert [b"1", b"2"] == texts(decoded)
    got = decoded.found[wanted]
    assert (bytes(found) if isinstance(found, Raw) else found) == (
        bytes(got) if isinstance(got, Raw) else got
    )
    assert "missing.one" not in decoded.found


def test_a_path_inside_the_records_is_found_as_well() -> None:
    run = compile_decoder(data_path="data", wanted=("data.items", "data"))
    decoded = run(response(b'{"data":{"items":[1]}}'))

    assert [b'{"items":[1]}'] == texts(decoded)
    assert b"[1]" == bytes(decoded.found["data.items"])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"  ", "not JSON"),
        (b'{"items":[}', "not JSON"),
        (b'{"items":[1,2', "not JSON"),
        (b'{"items":[1]}{"items":[2]}', "not JSON"),
        (b'{"items":[NaN]}', "not JSON"),
        (b'{"items":[{"a":Infinity}]}', "not JSON"),
        (b'{"items":[{"a":"\xff"}]}', "not UTF-8 at byte 16"),
        (b'{"items":[{"\xc3":1}]}', "not UTF-8"),
        (b'{"items":["\x00"]}', "not JSON"),
        (b'{"items":[{"a":1,}]}', "not JSON"),
        (b'{"other":[1]}', "nothing stands at 'items'"),
        (b'["a"]', "nothing stands"),
        (b'{"items":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"items":["\\ud800"', "not JSON"),
        (b'{"items":["\\ud800",NaN]}', "not JSON"),
        (b'{"items":["\\ud800"]} {}', "second document"),
    ],
)
def test_a_bad_page_is_named_and_never_no_data(body: bytes, says: str) -> None:
    with pytest.raises(BadPage) as caught:
        compile_decoder(data_path="items")(response(body))

    assert says in str(caught.value)
    assert 200 == caught.value.status
    assert "s3cr3t" not in caught.value.url


@pytest.mark.parametrize(
    "record",
    [
        b'"\\ud800"',
        b'{"a":"x\\uDC00y"}',
        b'{"\\ud83d":[1, 2.50]}',
    ],
)
def test_a_lone_surrogate_passes_as_it_was_written(record: bytes) -> None:
    body = b'{"next":"n","data":{"items":[ {"ok" : 1}, ' + record + b" ,7]}}"
    decoded = decode(body, data_path="data.items", wanted=("next",))

    assert [b'{"ok" : 1}', record, b"7"] == texts(decoded)
    assert {"next": "n"} == decoded.found


def test_odd_numbers_and_doubled_members_pass_as_they_were_written() -> None:
    digits = b"9" * 5000
    body = b'[1e400,{"a":1,"a":2},' + digits + b",1.0000000000000000001]"

    assert [
        b"1e400",
        b'{"a":1,"a":2}',
        digits,
        b"1.0000000000000000001",
    ] == texts(decode(body))


def test_a_missing_place_may_be_an_empty_page() -> None:
    assert [] == texts(decode(b'{"x":1}', data_path="items", optional=True))
    with pytest.raises(BadPage):
        decode(b"<html>", data_path="items", optional=True)


def test_a_status_that_means_empty_has_no_records() -> None:
    run = compile_decoder(data_path="items", empty=frozenset({204, 404}))

    assert [] == run(response(b"not json", status=404)).records


@pytest.mark.parametrize(
    ("kind", "fits"),
    [
        ("application/json", True),
        ("application/vnd.api+json; charset=utf-8", True),
        ("text/plain", True),
        ("application/octet-stream", True),
        (None, True),
        ("text/html", False),
        ("Text/HTML; charset=utf-8", False),
        ("application/xhtml+xml", False),
        ("application/xml", False),
        ("application/atom+xml", False),
        ("image/png", False),
    ],
)
def test_another_content_family_is_a_bad_page(kind: str | None, fits: bool) -> None:
    if fits:
        assert [b"1"] == texts(decode(b"[1]", kind))
    else:
        with pytest.raises(BadPage, match="not JSON"):
            decode(b"[1]", kind)


@pytest.mark.parametrize("charset", ["iso-8859-1", "ISO-8859-1", '"latin1"', "utf-16"])
def test_a_stated_charset_is_read(charset: str) -> None:
    body = '["\u00e9"]'.encode(charset.strip('"'))

    assert ['["\u00e9"]'.encode()[1:-1]] == texts(
        decode(body, f"application/json; charset={charset}")
    )


def test_a_charset_that_lies_is_a_bad_page() -> None:
    for kind in (
        "application/json; charset=ascii",
        "application/json; charset=klingon",
        "application/json; charset=punycode",
        "application/json; charset=utf-7",
        "application/json; charset=unicode_escape",
        "application/json; charset=zlib",
    ):
        with pytest.raises(BadPage):
            decode(b'["\xff"]', kind)


def test_ndjson_is_a_document_a_line() -> None:
    body = b'{"a":1}\r\n\n  {"b" : 2}\nnull'

    assert [b'{"a":1}', b'{"b" : 2}', b"null"] == texts(decode(body, format="ndjson"))
    assert [] == texts(decode(b"", format="ndjson"))
    assert [b'"\\ud800"', b"1"] == texts(decode(b'"\\ud800"\n1\n', format="ndjson"))


@pytest.mark.parametrize(
    "body",
    [b'{"a":1}\n{"b":', b'{"a":1} {"b":2}\n', b'{"a":\n1}\n{}', b'{"a":1}\n<br>\n'],
)
def test_ndjson_that_keeps_to_no_lines_is_a_bad_page(body: bytes) -> None:
    with pytest.raises(BadPage):
        decode(body, format="ndjson")


def test_csv_has_its_names_in_the_first_line() -> None:
    body = b'id,name\r\n1,"a ""quoted"", x"\r\n2,"two\nlines"\r\n'

    assert [
        {"id": "1", "name": 'a "quoted", x'},
        {"id": "2", "name": "two\nlines"},
    ] == [json.loads(text) for text in texts(decode(body, "text/csv", format="csv"))]
    assert [] == texts(decode(b"id,name\n", format="csv"))


@pytest.mark.parametrize(
    "body",
    [b"", b"id,id\n1,2\n", b"id,name\n1\n", b"id,name\n1,2,3\n", b'id,name\n1,"cut'],
)
def test_csv_that_may_be_cut_is_a_bad_page(body: bytes) -> None:
    with pytest.raises(BadPage):
        decode(body, format="csv")


def test_text_is_one_string() -> None:
    assert [b'"a \\"b\\"\\n"'] == texts(decode(b'a "b"\n', "text/plain", format="text"))


def test_only_json_has_places() -> None:
    for options in ({"wanted": ("next",)}, {"data_path": "items"}):
        with pytest.raises(ConfigError):
            compile_decoder(format="csv", **options)  # type: ignore[arg-type]


def test_a_mapped_body_is_split_where_it_lies() -> None:
    text = b'{"items":[{"a":1},{"b":"\xc3\xa9"}],"next":"n"}'
    with tempfile.TemporaryFile() as file:
        file.write(text)
        file.flush()
        body = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    decoded = decode(body, data_path="items", wanted=("next",))

    assert [b'{"a":1}', b'{"b":"\xc3\xa9"}'] == texts(decoded)
    assert "n" == decoded.found["next"]
    with tempfile.TemporaryFile() as file:
        file.write(text.replace(b"\xc3", b"\xff"))
        file.flush()
        broken = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    with pytest.raises(BadPage, match="not UTF-8 at byte 24"):
        decode(broken, data_path="items")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=examples(150), deadline=None)
@given(
    items=st.lists(JSON, max_size=5),
    envelope=st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4),
    ascii_only=st.booleans(),
)
def test_quick_and_general_ways_agree(
    items: list[Any], envelope: dict[str, Any], ascii_only: bool
) -> None:
    document = {**envelope, "e": {"items": items}}
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    quick = decode(body, data_path="e.items", wanted=("a",))
    # A wildcard has no quick way.
    general = decode(body, data_path="/e/items", wanted=("a", "e.items[0]"))

    assert items == [json.loads(text) for text in texts(quick)]
    assert texts(quick) == texts(general)
    assert ("a" in quick.found) == ("a" in envelope)


@pytest.mark.parametrize(
    ("body", "kind", "format", "reads"),
    [
        (b'{"a":1}\n{"a":2}', "application/x-ndjson", "json", "ndjson"),
        (b'{"a":1}\n{"a":2}', "application/jsonl; charset=utf-8", "json", "ndjson"),
        (b'{"a":1}{"a":2}', "application/json", "json", "json-seq"),
        (b'{"a":1}\n{"a":2}', None, "json", "json-seq"),
        (b'\x1e{"a":1}\n', "application/json-seq", "json", "json-seq"),
        (b'\x1e{"a":1}\n', "application/geo+json-seq", "ndjson", "json-seq"),
        (b"a,b\n1,2\n", "text/csv", "json", "csv"),
        (b"a\tb\n1\t2\n", "text/tab-separated-values", "json", "csv"),
        (b"<feed/>", "application/atom+xml", "json", "xml"),
        (b"<r/>", "text/xml", "csv", "xml"),
        (b"a,b\n1,2\n", "text/csv", "xml", "csv"),
        # What no other format reads: another body than was meant.
        (b'{"a":1', "application/json", "json", None),
        (b"<html/>", "text/html", "json", None),
        (b"<html/>", "application/xhtml+xml", "json", None),
        (b"%PDF-1.7", "application/pdf", "json", None),
    ],
)
def test_a_body_of_another_format_names_the_format_that_reads_it(
    body: bytes, kind: str | None, format: str, reads: str | None
):
    with pytest.raises(BadPage) as caught:
        compile_decoder(format=format)(response(body, kind))
    hint = f"http.response.format={reads} reads such a body"
    if reads is None:
        assert "http.response.format" not in str(caught.value)
    else:
        assert hint in str(caught.value)
        compile_decoder(format=reads)(response(body, kind))
