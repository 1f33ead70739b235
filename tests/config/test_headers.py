"""Header lists, single headers, and what of them is secret."""

from __future__ import annotations

import pytest

from engine.config import load, show
from tests.config.conftest import BASE, Files


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("Accept-Encoding:gzip,deflate", [("Accept-Encoding", "gzip,deflate")]),
        (
            "Accept:application/json; charset=utf-8;X-A:1",
            [("Accept", "application/json; charset=utf-8"), ("X-A", "1")],
        ),
        ("A:1;B:2", [("A", "1"), ("B", "2")]),
        (" A : 1 ; B : 2 ", [("A", "1"), ("B", "2")]),
        ("A:b:c;d", [("A", "b:c;d")]),
        ("A:1;A:2", [("A", "1"), ("A", "2")]),
        ("A:", [("A", "")]),
        (
            "A:${replace(api,';b:','c')};B:2",
            [("A", "${replace(api,';b:','c')}"), ("B", "2")],
        ),
        ("T:12:30;X-Y:z", [("T", "12:30"), ("X-Y", "z")]),
        ("A:\u00e9", [("A", "\u00e9")]),
    ],
)
def test_a_list_is_split_where_a_header_begins(
    files: Files, text: str, headers: list[tuple[str, str]]
) -> None:
    assert tuple(headers) == files.value(
        f"http.source.headers={text}", "http.source.headers"
    )


@pytest.mark.parametrize(
    "text",
    [
        "novalue",
        ":x",
        "A B:c",
        "Host:a",
        "host:a",
        "Content-Length:1",
        "Transfer-Encoding:chunked",
        "Connection:close",
        "TE:trailers",
        "Upgrade:h2c",
        "Expect:100-continue",
        "A:\\r\\nB: c",
        "A:b\\nc",
        "A:\\u0001",
        "A:\u4e2d",
        "A:${nope}",
        "A:${offset",
        "Authorization:a;authorization:b",
        "A:" + "x" * 8193,
    ],
)
def test_what_cannot_be_sent_is_refused(files: Files, text: str) -> None:
    (error,) = files.errors(f"http.source.headers={text}")

    assert "http.source.headers" == error.key


def test_a_header_of_its_own_is_not_split_and_wins(files: Files) -> None:
    text = (
        "http.source.headers=A:1;B:2;a:3\n"
        "http.source.header.A=x;B:y\n"
        "http.source.header.C_!=z\n"
    )

    expected = (("B", "2"), ("A", "x;B:y"), ("C_!", "z"))
    assert expected == files.value(text, "http.source.headers")


@pytest.mark.parametrize(
    "line",
    ["http.source.header.Host=a", "http.source.header.=a", "http.source.header.A B=c"],
)
def test_a_bad_name_is_refused(files: Files, line: str) -> None:
    (error,) = files.errors(line)

    assert 1 == error.line


def test_record_headers_are_utf8_and_have_no_reserved_names(files: Files) -> None:
    value = files.value("kafka.headers=host:${record.a};x:\u4e2d", "kafka.headers")

    assert (("host", "${record.a}"), ("x", "\u4e2d")) == value


@pytest.mark.parametrize(
    "name",
    ["Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key", "x-token",
     "Client-Secret", "X-Password", "X-Signature"],
)  # fmt: skip
def test_credentials_in_headers_never_show(files: Files, name: str) -> None:
    base = files.write(BASE)
    path = files.write(
        f"http.source.headers=Accept:a;{name}:canary-1\n"
        f"http.source.header.Z-{name}-Key=canary-2\n"
    )
    path.chmod(0o644)

    loaded = load([base, path])

    shown = show(loaded) + show(loaded, resolved=True)
    assert "canary" not in shown + repr(loaded.findings)
    assert "Accept:a" in shown
    assert 2 == sum("literal secret" in f.message for f in loaded.findings)
