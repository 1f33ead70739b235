"""
What a poll survives: one row a fault, from the configuration to the pages.

A row says what the API does from page to page and what must hold: the records
that arrive, or the error, and that nothing behind the error is handed on.  Each
row runs over HTTP/1.1 and over HTTP/2.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from engine.errors import (
    CursorExpired,
    Denied,
    Forbidden,
    Looping,
    SourceError,
    Unreachable,
)
from engine.source.wire.http2 import installed
from tests.fakes.misbehaving import Misbehaving, MisbehavingH2, Say
from tests.fakes.source import Source

#: Seen by no server but the API's own, and by no reader of an error.
CANARY = "c4n4ry-5ecret"

TRANSPORTS = [
    "HTTP/1.1",
    pytest.param(
        "HTTP/2",
        marks=pytest.mark.skipif(
            not installed() and "CI" not in os.environ,
            reason="the extra [http2] is missing",
        ),
    ),
]


def page(*items: int, **more: str) -> Say:
    """A page of these records; further members as JSON text."""
    members = [f'"items":[{",".join(map(str, items))}]']
    members += [f'"{name}":{value}' for name, value in more.items()]
    return Say(body=f"{{{','.join(members)}}}".encode())


class Row(NamedTuple):
    """
    Attributes:
        number: In the catalogue.
        does: What the API does, in words.
        acts: Its answers, one after the other.
        holds: The records that arrive.
        error: What ends the poll behind them, or None: its end.
        tries: Requests that arrive.
        keys: Of the configuration.
    """

    number: str
    does: str
    acts: tuple[Say, ...]
    holds: tuple[int, ...]
    error: type[SourceError] | None = None
    tries: int = 1
    keys: Mapping[str, object] = MappingProxyType({})


LINKS = {"pagination.type": "next_url", "pagination.cursor.field": "next"}
CURSOR = {
    "pagination.type": "cursor",
    "pagination.cursor.field": "next",
    "pagination.limit.value": 2,
}
MORE = {**CURSOR, "pagination.has.more.field": "more"}
PAGES = {"pagination.type": "page", "pagination.limit.value": 2}


def leads_to(link: str, number: str = "F56") -> Row:
    """A next link that must not be followed."""
    return Row(
        number, f"the next page is at {link[:40]}", (page(1, next=f'"{link}"'),), (),
        Forbidden, 1, LINKS,
    )  # fmt: skip


ROWS = [
    Row("F41", "the second page fails twice", (page(1, 2, next='"b"'), Say(500),
        Say(503), page(3, next="null")), (1, 2, 3), None, 4, CURSOR),
    Row("F42", "the second page is forbidden", (page(1, 2, next='"b"'), Say(403)),
        (1, 2), Denied, 2, CURSOR),
    Row("F45", "the second page is cut each time", (page(1, 2, next='"b"'),
        Say(body=b'{"items":[3,4]}', cut=12)), (1, 2), Unreachable, 4, CURSOR),
    Row("F56", "a relative link", (page(1, next='"?page=2"'), page(2, next="null")),
        (1, 2), None, 2, LINKS),
    leads_to("https://evil.example/next"),
    leads_to("//evil.example/next"),
    leads_to("https://api@evil.example/next"),
    leads_to("http://127.0.0.1:1/next"),
    leads_to("http://169.254.169.254/latest"),
    leads_to("file:///etc/passwd"),
    leads_to("/a\\r\\nX-Evil: 1", "S9"),
    leads_to("/" + "a" * 9000),
    Row("F57", "the same cursor twice, the same page", (page(1, 2, next='"b"'),
        page(3, 4, next='"b"'), page(3, 4, next='"b"')), (1, 2, 3, 4), None, 3,
        CURSOR),
    Row("F57", "cursors in a circle, A B A B", (page(1, 2, next='"b"'),
        page(3, 4, next='"a"'), page(5, 6, next='"b"'), page(3, 4, next='"a"')),
        (1, 2, 3, 4, 5, 6), Looping, 4, CURSOR),
    Row("F57", "a link to itself", (page(1, next='"?a=1"'), page(2, next='"?a=1"'),
        page(2, next='"?a=1"')), (1, 2), None, 3, LINKS),
    Row("F58", "an empty page in the middle", (page(1, 2, next='"b"'),
        page(next='"c"'), page(3, next="null")), (1, 2, 3), None, 3, CURSOR),
    Row("F58", "more to come and no cursor", (page(1, 2, next="null", more="true"),),
        (), SourceError, 1, MORE),
    Row("F58", "the total shrinks", (page(1, 2, total="9"), page(3, 4, total="3"),
        page()), (1, 2, 3, 4), None, 3,
        {**PAGES, "pagination.total.field": "total"}),
    Row("F58", "a short last page", (page(1, 2), page(3)), (1, 2, 3), None, 3, PAGES),
]  # fmt: skip


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number} {row.does}")
def test_a_poll_survives(row: Row, transport: str, tmp_path: Path) -> None:
    http2 = transport == "HTTP/2"
    server = MisbehavingH2(*row.acts) if http2 else Misbehaving(*row.acts)
    keys = {
        "http.client.http2.enabled": str(http2).lower(),
        "http.source.headers": f"X-API-Key: {CANARY}",
        **row.keys,
    }
    got: list[int] = []
    failure: SourceError | None = None
    with server, Source(tmp_path, f"{server.url}/", keys) as source:
        try:
            for each in source.walk():
                got += [int(bytes(record)) for record in each.records]
        except SourceError as error:
            failure = error

    assert row.holds == tuple(got)
    assert (row.error is None) == (failure is None)
    if row.error is not None:
        assert isinstance(failure, row.error)
        assert CANARY not in str(failure)
    assert row.tries == len(server.asked)


# -- what needs more than one poll, or more than one host --------------------


def transported(transport: str, *acts: Say) -> tuple[Misbehaving, dict[str, object]]:
    """A server of a transport, and the key that speaks it."""
    if transport == "HTTP/2":
        return MisbehavingH2(*acts), {"http.client.http2.enabled": "true"}
    return Misbehaving(*acts), {}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("status", [400, 404, 410])
def test_f66_a_stored_cursor_that_has_expired_is_named_and_never_done(
    transport: str, status: int, tmp_path: Path
) -> None:
    server, keys = transported(transport, page(1, 2, next='"b"'), Say(status, b"gone"))
    keys = {**CURSOR, **keys, "pagination.cursor.expired": "FAIL"}
    with server, Source(tmp_path, f"{server.url}/", keys) as source:
        first = next(walk := source.walk())
        walk.close()
        with pytest.raises(CursorExpired, match="no longer knows the stored cursor"):
            source.poll(first.offset)

        assert 2 == len(server.asked)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_s4_nothing_of_ours_goes_to_another_origin(
    transport: str, tmp_path: Path
) -> None:
    """Credentials, headers and the key in the query stay at home."""
    away, keys = transported(transport, page(2, next="null"))
    with away:
        hop = Say(302, b"", (("Location", f"{away.url}/elsewhere"),))
        linked = page(1, next=f'"{away.url}/linked?page=2"')
        home, _ = transported(transport, hop, linked)
        keys |= {
            **LINKS,
            "http.source.allowed.hosts": away.url.partition("://")[2],
            "http.source.headers": f"X-API-Key: {CANARY};Cookie: a={CANARY}",
            "auth.type": "API_KEY",
            "api.key.location": "QUERY",
            "api.key.name": "key",
            "api.key.value": CANARY,
        }
        with home, Source(tmp_path, f"{home.url}/", keys) as source:
            hopped = source.records()
            followed = source.records()

        assert ([b"2"], [b"1", b"2"]) == (hopped, followed)
        for asked in home.asked:
            assert CANARY in asked.target
            assert CANARY == asked.header("x-api-key")
        seen = [(asked.target, asked.headers) for asked in away.asked]
        assert ["/elsewhere", "/linked?page=2"] == [target for target, _ in seen]
        assert CANARY not in str(seen)
