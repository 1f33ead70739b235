"""What is prepared without requests is what requests would have prepared."""

from __future__ import annotations

import random
import re

import pytest
import requests

from engine.errors import Forbidden
from engine.source.wire import prepared
from engine.source.wire.options import HttpOptions
from engine.source.wire.origin import AllowedOrigins, origin_of

#: Pieces that URLs are put together from: what has one spelling, and what has two.
HOSTS = (
    "a.example",
    "127.0.0.1:8080",
    "a-b.c:65535",
    "h:80",
    "[::1]:8080",
    "A.example",
)
PIECES = (
    "/", "/v1", "/a.b", "/..", "/.", "/.x", "/...", "//", "/a~b", "?", "?a=b", "&c=d",
    "%2F", "%2f", "%7E", "%41", "%C3%A9", "%2D", "%5F", "%5B", "%", "%zz", "+", "'", "[0]",
    "|", "*", "!", "(x)", ";", ":", "@", ",", "=", "$", "a\"", "`", "^", "{x}", "é",
)  # fmt: skip


def urls() -> list[str]:
    chosen = random.Random(17)
    return [
        f"{chosen.choice(('http', 'https'))}://{chosen.choice(HOSTS)}"
        + "".join(chosen.choices(PIECES, k=chosen.randrange(5)))
        for _ in range(10_000)
    ]


def test_a_url_with_one_spelling_is_what_requests_sends() -> None:
    plain = [url for url in urls() if prepared._PLAIN(url)]

    assert len(plain) > 200
    for url in plain:
        assert requests.Request("GET", url).prepare().url == url
        assert prepared.encoded_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/list?page=1&limit=500",
        "https://api.example:8443/v2/items",
        "http://127.0.0.1:8080/x?since=2026-01-01T00%3A00%3A00Z",
        "http://a.example/",
    ],
)
def test_what_apis_have_needs_no_requests(url: str) -> None:
    assert prepared._PLAIN(url)


@pytest.mark.parametrize("body", [None, b"{}"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("Accept", "text/csv"), ("x-a", "1"), ("X-B", "")),
        (("User-Agent", "me"), ("accept-encoding", "br")),
        (("X-Many", "1"), ("x-many", "2")),
        (("Content-Length", "7"), ("Cookie", "a=b")),
    ],
)
def test_a_head_is_the_one_that_requests_makes(
    method: str,
    headers: tuple[tuple[str, str], ...],
    body: bytes | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = "http://a.example/x"
    ours = head(method, url, headers, body)
    monkeypatch.setattr(prepared, "_PLAIN", re.compile("(?!)").fullmatch)

    assert head(method, url, headers, body) == ours


@pytest.mark.parametrize("value", [" x", "\tx", "\u00a0x"])
def test_a_value_that_requests_refuses_is_refused(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with pytest.raises(Forbidden, match="InvalidHeader"):
            head("GET", "http://a.example/x", (("X-A", value),), None)
        monkeypatch.setattr(prepared, "_PLAIN", re.compile("(?!)").fullmatch)


def head(
    method: str, url: str, headers: tuple[tuple[str, str], ...], body: bytes | None
) -> tuple[bytes, bytes, tuple[str, ...], frozenset[str]]:
    origin = origin_of(url)
    shape = prepared.prepare(
        method,
        url,
        headers,
        body,
        None,
        options=HttpOptions(borders=AllowedOrigins(home=(origin,))),
        keep_alive=True,
        through=lambda origin: None,
        route_pool=lambda origin: None,  # type: ignore[arg-type, return-value]
    )
    return shape.start, shape.rest, shape.lines, shape.asked
