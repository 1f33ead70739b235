"""
What the HTTP side survives: one row a fault, over HTTP/1.1 and HTTP/2.

A row says what the API does and what must hold: the body that arrives, or the
error in its place.  An error ends the page; nothing of it is ever handed on,
and never is it "no data".
"""

from __future__ import annotations

import datetime
import gzip
import os
import socket
import ssl
import threading
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import trustme

from engine.errors import (
    BadPage,
    Denied,
    Forbidden,
    SourceError,
    Throttled,
    Unexpected,
    Unreachable,
)
from engine.records import Request
from engine.source.wire.http2 import installed
from engine.source.wire.options import ProxyOptions
from tests.fakes.misbehaving import (
    Act,
    Misbehaving,
    MisbehavingH2,
    Peer,
    Say,
    authority,
    dripped,
    flood,
    perform,
    server_tls,
    then_close,
    then_reset,
)
from tests.source.clients import Client

PAGE = b'{"items":[{"id":1},{"id":2}]}'
OK = b"HTTP/1.1 200 OK\r\n"
JSON = {"data_path": "items"}

GZIPPED = gzip.compress(PAGE * 50)
ZLIBBED = zlib.compress(PAGE * 50)
_raw = zlib.compressobj(wbits=-15)
RAW = _raw.compress(PAGE * 50) + _raw.flush()
BOMB = gzip.compress(bytes(30_000_000))
IN_GZIP = (("Content-Encoding", "gzip"),)
IN_DEFLATE = (("Content-Encoding", "deflate"),)


class Row(NamedTuple):
    """
    One fault.

    Attributes:
        number: In the catalogue.
        does: What the API does, in words.
        acts: What the server does, request after request.
        holds: The body that arrives, or the error.
        says: Part of the error's text.
        over_h2: What holds over HTTP/2, where it is another error.
        tries: Requests that arrive at the server.
        within: Seconds in which it is over.
        options: Of the client.
    """

    number: str
    does: str
    acts: tuple[Act, ...]
    holds: bytes | type[SourceError]
    says: str = ""
    tries: int = 1
    over_h2: bytes | type[SourceError] | None = None
    within: float = 2.0
    options: Mapping[str, Any] = MappingProxyType({})

    @property
    def in_words(self) -> bool:
        """True if HTTP/2 has the words for it, too."""
        return all(isinstance(act, Say) for act in self.acts)


FAST = {"request_timeout": 0.6, "socket_timeout": 0.3}
DRIP = {"request_timeout": 0.6, "socket_timeout": 0.3}

ROWS = [
    Row("F41", "500, then a page", (Say(500), Say(body=PAGE)), PAGE, tries=2),
    Row("F41", "502, then a page", (Say(502), Say(body=PAGE)), PAGE, tries=2),
    Row("F41", "503, then a page", (Say(503), Say(body=PAGE)), PAGE, tries=2),
    Row("F41", "504, then a page", (Say(504), Say(body=PAGE)), PAGE, tries=2),
    Row("F41", "408, then a page", (Say(408), Say(body=PAGE)), PAGE, tries=2),
    Row("F41", "425, then a page", (Say(425), Say(body=PAGE)), PAGE, tries=2),
    Row("F41", "429, then a page", (Say(429), Say(body=PAGE)), PAGE, tries=2),
    Row("F41", "500 for ever", (Say(500),), Unreachable, "answers 500", tries=3),
    Row("F41", "429 for ever", (Say(429),), Throttled, "answers 429", tries=3),
    Row("F42", "400", (Say(400, b"no such field"),), Unexpected, "no such field"),
    Row("F42", "403", (Say(403),), Denied, "refused"),
    Row("F42", "404", (Say(404),), Unexpected, "404"),
    Row("F42", "405", (Say(405),), Unexpected, "405"),
    Row("F42", "410", (Say(410),), Unexpected, "410"),
    Row("F42", "422", (Say(422),), Unexpected, "422"),
    Row("F42", "a secret in the refusal", (Say(400, b'{"api_key":"topsecret1"}'),),
        Unexpected, "****"),
    Row("F44", "200 with an error object", (Say(body=b'{"error":"down"}'),),
        BadPage, "nothing stands at 'items'", tries=3),
    Row("F44", "200 with a login page", (Say(body=b"<html>",
        headers=(("Content-Type", "text/html; charset=utf-8"),)),),
        BadPage, "text/html", tries=3),
    Row("F44", "204", (Say(204, b"", length="0"),), b""),
    Row("F44", "205", (Say(205, b""),), b""),
    Row("F44", "206 unasked", (Say(206, PAGE),), Unexpected, "206"),
    Row("F44", "304 unasked, then a page", (Say(304, b"", length="0"), Say(body=PAGE)),
        PAGE, tries=2),
    Row("F44", "304 unasked for ever", (Say(304, b"", length="0"),), Unexpected, "304",
        tries=2),
    Row("F44", "999", (Say(999, b"{}"),), Unexpected, "999"),
    Row("F44", "100 and 103 before the page",
        (Say(body=PAGE, interim=(100, 103)),), PAGE),
    Row("F44", "101", (b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        ), Unreachable, "another protocol", tries=3),
    Row("F44", "no status line", (then_close(b'{"items":[]}'),),
        Unreachable, "not an HTTP answer", tries=3),
    Row("F45", "reset before the answer", (Say(reset=True),), Unreachable, "no answer",
        tries=3),
    Row("F45", "closed before the answer", (Say(gone=True),), Unreachable,
        "no answer", tries=3),
    Row("F45", "reset in the head", (then_reset(OK + b"Content-"),), Unreachable, "",
        tries=3),
    Row("F45", "closed in the head", (then_close(OK + b"Content-Le"),), Unreachable,
        "cut", tries=3),
    Row("F45", "reset in the body", (then_reset(OK + b"Content-Length: 29\r\n\r\n{"),),
        Unreachable, "", tries=3),
    Row("F45", "cut in the body", (Say(body=PAGE, cut=12),), Unreachable, "cut",
        tries=3),
    Row("F45", "cut at a record's end", (Say(body=PAGE, cut=20),), Unreachable, "cut",
        tries=3),
    Row("F45", "cut in the body once", (Say(body=PAGE, cut=12), Say(body=PAGE)), PAGE,
        tries=2),
    Row("F46", "a body drips under the silence allowed", (Say(body=PAGE, pause=0.1),),
        Unreachable, "time is up", options=DRIP, tries=3, within=3.0),
    Row("F46", "a head drips", (dripped(OK + b"X-A: 1\r\n" * 20, 0.05),), Unreachable,
        "time is up", options=DRIP, tries=3, within=3.0),
    Row("F46", "never answers", (Say(wait=30.0),), Unreachable, "silence", options=FAST,
        tries=3, within=2.0),
    Row("F46", "head, then silence", (Say(body=PAGE, cut=5, hang=True),), Unreachable,
        "silence", options=FAST, tries=3, within=2.0),
    Row("F47", "a length too big", (Say(body=PAGE, length="30", close=True),),
        Unreachable, "", tries=3),
    Row("F47", "a length too small", (Say(body=PAGE, length="28"),), Unreachable, "",
        tries=3),
    Row("F47", "a negative length", (Say(body=PAGE, length="-1"),), Unreachable,
        "not an HTTP", tries=3),
    Row("F47", "a length of +29", (Say(body=PAGE, length="+29"),),
        Unreachable, "not an HTTP", tries=3),
    Row("F47", "a length of 29,29",
        (b"HTTP/1.1 200 OK\r\nContent-Length: 29,29\r\n\r\n" + PAGE,), PAGE),
    Row("F47", "a length of 29,29, strictly", (Say(body=PAGE, length="29,29"),),
        Unreachable, "not an HTTP", tries=3, options={"lenient": False}),
    Row("F47", "two lengths", (Say(body=PAGE,
        headers=(("Content-Length", "30"),)),), Unreachable, "not an HTTP", tries=3),
    Row("F47", "a length of 10^12", (Say(body=PAGE, length=str(10**12)),), Forbidden,
        "over"),
    Row("F47", "a length beside chunks", (Say(body=PAGE,
        headers=(("Transfer-Encoding", "chunked"),)),), Unreachable, "not an HTTP",
        tries=3),
    Row("F48", "chunks", (OK + b"Transfer-Encoding: chunked\r\n\r\n"
        b"10\r\n" + PAGE[:16] + b"\r\nd\r\n" + PAGE[16:] + b"\r\n0\r\n\r\n",), PAGE),
    Row("F48", "chunks cut before the last", (then_close(
        OK + b"Transfer-Encoding: chunked\r\n\r\n1d\r\n" + PAGE + b"\r\n"),),
        Unreachable, "cut", tries=3),
    Row("F48", "a bad chunk size", (OK + b"Transfer-Encoding: chunked\r\n\r\nxy\r\n",),
        Unreachable, "not an HTTP", tries=3),
    Row("F48", "a chunk size line without end", (flood(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 4096),), Forbidden,
        "framing"),
    Row("F48", "chunk extensions without end", (flood(
        OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * 4096),), Forbidden,
        "framing"),
    Row("F48", "trailers", (OK + b"Transfer-Encoding: chunked\r\n\r\n1d\r\n" + PAGE +
        b"\r\n0\r\nX-Sum: 1\r\n\r\n",), PAGE),
    Row("F48", "trailers without end", (flood(
        OK + b"Transfer-Encoding: chunked\r\n\r\n1d\r\n" + PAGE + b"\r\n0\r\n",
        b"X-A: " + b"a" * 2000 + b"\r\n"),), Forbidden),
    Row("F48", "another transfer encoding", (then_close(
        OK + b"Transfer-Encoding: gzip\r\n\r\n" + GZIPPED),), Unreachable, "transfer",
        tries=3),
    Row("F49", "no length, whole", (Say(body=PAGE, length=""),), PAGE),
    Row("F49", "no length, cut", (Say(body=PAGE, length="", cut=18),), BadPage,
        "not JSON", tries=3, over_h2=Unreachable),
    # libcurl takes a stream that is reset without an error for one that has
    # ended (RFC 9113, 8.1 asks for END_STREAM): only the format proves the end.
    Row("F49", "no length, cut without an error", (Say(body=PAGE, length="", cut=18,
        code=0),), BadPage, "not JSON", tries=3),
    Row("F49", "no length, a number that may be cut", (then_close(OK + b"\r\n12"),),
        Unreachable, "nothing proves", tries=3),
    Row("F50", "gzip", (Say(body=GZIPPED, headers=IN_GZIP),), PAGE * 50),
    Row("F50", "gzip in two members", (Say(body=gzip.compress(PAGE[:9]) +
        gzip.compress(PAGE[9:]), headers=IN_GZIP),), PAGE),
    Row("F50", "half of a gzip, with a fitting length", (Say(
        body=GZIPPED[: len(GZIPPED) // 2], headers=IN_GZIP),), Unreachable,
        "compressed body is cut", tries=3),
    Row("F50", "gzip without its trailer", (Say(body=GZIPPED[:-8], headers=IN_GZIP),),
        Unreachable, "compressed body is cut", tries=3),
    Row("F50", "gzip with a bad check sum", (Say(
        body=GZIPPED[:-8] + b"\0\0\0\0" + GZIPPED[-4:], headers=IN_GZIP),),
        Unreachable, "broken", tries=3),
    Row("F50", "bytes behind the gzip", (Say(body=GZIPPED + b"garbage",
        headers=IN_GZIP),), Unreachable, "broken", tries=3),
    Row("F50", "deflate as zlib", (Say(body=ZLIBBED, headers=IN_DEFLATE),), PAGE * 50),
    Row("F50", "deflate, raw", (Say(body=RAW, headers=IN_DEFLATE),), PAGE * 50),
    Row("F50", "deflate cut", (Say(body=ZLIBBED[:-6], headers=IN_DEFLATE),),
        Unreachable, "cut", tries=3),
    Row("F50", "bytes behind the deflate", (Say(body=RAW + b"!", headers=IN_DEFLATE),),
        Unreachable, "broken", tries=3),
    Row("F50", "an encoding that is none", (Say(body=PAGE,
        headers=(("Content-Encoding", "zap"),)),), PAGE),
    Row("F50", "an encoding that is none, strictly", (Say(body=PAGE,
        headers=(("Content-Encoding", "zap"),)),), BadPage, "not asked for", tries=3,
        options={"lenient": False}),
    Row("F50", "brotli not asked for", (Say(body=PAGE,
        headers=(("Content-Encoding", "br"),)),), BadPage, "not asked for", tries=3),
    Row("F50", "zstd not asked for", (Say(body=PAGE,
        headers=(("Content-Encoding", "zstd"),)),), BadPage, "not asked for", tries=3),
    Row("F50", "six encodings", (Say(body=GZIPPED,
        headers=(("Content-Encoding", "gzip, gzip, gzip, gzip, gzip, gzip"),)),),
        BadPage, "stacked", tries=3),
    Row("F51", "a bomb in a page", (Say(body=BOMB, headers=IN_GZIP),), Forbidden,
        "200:1"),
    Row("F51", "a bomb in a redirect", (Say(302, BOMB, (*IN_GZIP, ("Location", "/x"))),),
        Forbidden, "200:1"),
    Row("F51", "a bomb in an error", (Say(500, BOMB, IN_GZIP),), Forbidden, "200:1"),
    Row("F52", "a body without end", (Say(body=b"", length="", flood=b"x" * 65536),),
        Forbidden, "over", options={"max_response": 1 << 20}),
    Row("F52", "chunks without end", (flood(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b"x" * 1024 + b"\r\n"),),
        Forbidden, "over", options={"max_response": 1 << 20}),
    Row("F52", "a body over the limit", (Say(body=b"x" * 20_000),), Forbidden,
        "http.client.max.response.size.bytes",
        options={"max_response": 10_000}),
    Row("F52", "a body that inflates over the limit", (Say(
        body=gzip.compress(PAGE * 1000), headers=IN_GZIP),), Forbidden, "over",
        options={"max_response": 10_000}),
    Row("F52", "101 headers", (Say(body=PAGE,
        headers=tuple((f"X-{n}", "1") for n in range(101))),), Forbidden, "headers"),
    Row("F52", "a header of 1 MiB", (Say(body=PAGE,
        headers=(("X-A", "a" * (1 << 20)),)),), Forbidden, "headers"),
    Row("F52", "headers without end", (flood(OK, b"X-A: 1\r\n" * 64),), Forbidden,
        "headers"),
    Row("F52", "a reason of 1 MiB", (b"HTTP/1.1 200 " + b"a" * (1 << 20),), Forbidden,
        "headers"),
    Row("F53", "not JSON", (Say(body=b'{"items":[}'),), BadPage, "not JSON", tries=3),
    Row("F53", "an empty body", (Say(body=b""),), BadPage, "empty", tries=3),
    Row("F53", "two documents", (Say(body=PAGE + PAGE),), BadPage, "", tries=3),
    Row("F54", "not UTF-8 within a record", (Say(body=b'{"items":["\xff"]}'),), BadPage,
        "byte 11", tries=3),
    Row("F55", "a redirect at home", (Say(302, b"", (("Location", "/other?a=1"),)),
        Say(body=PAGE)), PAGE, tries=2),
    Row("F55", "a redirect to another host", (Say(302, b"",
        (("Location", "https://evil.example/"),)),), Forbidden,
        "http.source.allowed.hosts"),
    Row("F55", "a redirect to the metadata service", (Say(302, b"",
        (("Location", "http://169.254.169.254/latest"),)),), Forbidden, ""),
    Row("F55", "a redirect to a file", (Say(302, b"",
        (("Location", "file:///etc/passwd"),)),), Forbidden, "http"),
    Row("F55", "a redirect in a circle", (Say(302, b"", (("Location", "/"),)),),
        Forbidden, "http.redirects.max", tries=6),
    Row("F55", "a redirect without a place", (Say(302, b""),), Unexpected, "302"),
    Row("F55", "a redirect with userinfo", (Say(302, b"",
        (("Location", "https://api@evil.example/"),)),), Forbidden, "userinfo"),
]  # fmt: skip


needs_http2 = pytest.mark.skipif(
    not installed() and "CI" not in os.environ, reason="the extra [http2] is missing"
)


def name(row: Row) -> str:
    return f"{row.number} {row.does}"


def outcome(row: Row, server: Misbehaving, *, http2: bool) -> None:
    holds = row.over_h2 if http2 and row.over_h2 is not None else row.holds
    client = Client(server.url, http2=http2, **row.options)
    wants_items = holds == PAGE or isinstance(holds, type)
    fetch, _ = client.retrying(decode=JSON if wants_items else None, max_retries=2)
    request = Request("GET", f"{server.url}/")
    began = time.monotonic()

    if isinstance(holds, bytes):
        response = fetch(request)

        assert holds == bytes(response.body)
        if holds == PAGE:
            assert 2 == len(response.decoded.records)
    else:
        with pytest.raises(holds) as caught:
            fetch(request)

        assert row.says in str(caught.value) or http2
        assert "topsecret1" not in str(caught.value)
    assert row.tries == len(server.asked)
    assert time.monotonic() - began < row.within
    # Nothing of a failed try is left in the pool.
    assert client.pool.busy == 0
    client.pool.close()


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_over_http_1_1(row: Row) -> None:
    with Misbehaving(*row.acts) as server:
        outcome(row, server, http2=False)


@needs_http2
@pytest.mark.parametrize("row", [row for row in ROWS if row.in_words], ids=name)
def test_over_http_2(row: Row) -> None:
    acts = [act for act in row.acts if isinstance(act, Say)]
    with MisbehavingH2(*acts) as server:
        outcome(row, server, http2=True)


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.number in ("F45", "F47", "F48", "F49")],
    ids=name,
)
def test_over_tls(row: Row) -> None:
    if row.does == "no length, whole":
        pytest.skip("over TLS an end without close_notify is a cut: see below")
    with Misbehaving(*row.acts, tls=server_tls()) as server:
        client = Client(server.url, **row.options)
        fetch, _ = client.retrying(decode=JSON, max_retries=2)

        if isinstance(row.holds, bytes):
            assert row.holds == bytes(fetch(Request("GET", server.url)).body)
        else:
            with pytest.raises(SourceError):
                fetch(Request("GET", server.url))


# -- what a table has no words for ------------------------------------------


def test_f45_a_refused_connection_is_no_answer() -> None:
    with Misbehaving(Say()) as server:
        url = server.url

    with pytest.raises(Unreachable) as caught:
        Client(url).get()

    assert not caught.value.sent


def test_f45_a_stalled_handshake_ends_with_the_time_for_connecting() -> None:
    stall = threading.Event()
    with Misbehaving(
        Say(), tls=server_tls(), before_tls=lambda _: stall.wait(5) and None
    ) as server:
        began = time.monotonic()
        with pytest.raises(Unreachable, match="no connection in time"):
            Client(server.url, connect_timeout=0.3).get()
        stall.set()

    assert 0.25 < time.monotonic() - began < 1.0


def test_f45_an_end_without_close_notify_is_a_cut() -> None:
    act = then_close(OK + b"\r\n" + PAGE)
    with Misbehaving(act, tls=server_tls()) as server, pytest.raises(Unreachable):
        Client(server.url).get()


def test_f46_a_server_that_accepts_nothing_ends_with_the_time_for_connecting() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = listener.getsockname()[1]
    full = [socket.socket() for _ in range(4)]
    for sock in full:
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
    try:
        began = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            Client(f"http://127.0.0.1:{port}", connect_timeout=0.4).get()

        assert 0.3 < time.monotonic() - began < 0.8
        assert not caught.value.sent
    finally:
        for sock in (*full, listener):
            sock.close()


def test_f46_the_deadline_holds_for_a_proxy_that_drips() -> None:
    with Misbehaving(dripped(b"HTTP/1.1 200 OK\r\nX: y\r\n" * 50, 0.05)) as proxy:
        client = Client(
            "https://localhost:1",
            proxy=ProxyOptions("127.0.0.1", proxy.port),
            connect_timeout=0.4,
        )
        began = time.monotonic()
        with pytest.raises(Unreachable):
            client.get()

    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("ndjson", [False, True])
def test_f49_a_format_that_proves_no_end_needs_a_length(ndjson: bool) -> None:
    with Misbehaving(then_close(OK + b"\r\n" + PAGE)) as server:
        client = Client(server.url, close_delimited=not ndjson)

        if ndjson:
            with pytest.raises(Unreachable, match="nothing proves"):
                client.get()
        else:
            assert PAGE == bytes(client.get().body)


def test_f49_a_compressed_body_proves_its_own_end() -> None:
    act = then_close(OK + b"Content-Encoding: gzip\r\n\r\n" + GZIPPED)
    with Misbehaving(act) as server:
        response = Client(server.url, close_delimited=False).get()

    assert PAGE * 50 == response.body


def test_f51_a_bomb_costs_next_to_no_memory() -> None:
    bomb = gzip.compress(bytes(60_000_000))
    with Misbehaving(Say(body=bomb, headers=IN_GZIP)) as server:
        client = Client(server.url, max_response=1 << 30)
        tracemalloc.start()
        try:
            with pytest.raises(Forbidden):
                client.get()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak < 40 << 20


def test_f52_a_promised_length_allocates_nothing() -> None:
    say = Say(body=b"x", length=str(900_000_000), cut=1)
    with Misbehaving(say) as server:
        client = Client(server.url, max_response=1 << 30)
        tracemalloc.start()
        try:
            with pytest.raises(Unreachable):
                client.get()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak < 4 << 20


def test_f62_an_idle_connection_that_ended_costs_one_resend() -> None:
    with Misbehaving(Say(body=PAGE)) as server:
        client = Client(server.url)
        client.get()
        server.drop_idle()
        server.wait_for(lambda: server.open == 0)
        client.get()

        assert [1, 2] == [asked.connection for asked in server.asked]
        assert (1, 1) == (client.counters.stale_connections, client.counters.resends)
        assert 0 == client.counters.retries


def test_f62_what_must_not_run_twice_is_sent_once() -> None:
    def answer_then_hang_up(peer: Peer) -> None:
        if peer.asked.method == "GET":
            perform(Say(body=PAGE), peer)
        else:
            peer.close()

    with Misbehaving(answer_then_hang_up) as server:
        client = Client(server.url, idempotent=False)
        client.get()
        with pytest.raises(Unreachable) as caught:
            client.post("/", b"{}")

        assert caught.value.sent
        assert ["GET", "POST"] == [asked.method for asked in server.asked]


def test_f62_an_answer_nobody_asked_for_is_not_taken_for_the_next() -> None:
    def twice(peer: Peer) -> None:
        perform(Say(body=b'{"page":1}'), peer)
        time.sleep(0.05)
        perform(Say(body=b'{"page":"unasked"}'), peer)

    with Misbehaving(twice, Say(body=b'{"page":2}')) as server:
        client = Client(server.url)
        first = client.get()
        time.sleep(0.1)
        second = client.get()

    assert [b'{"page":1}', b'{"page":2}'] == [bytes(first.body), bytes(second.body)]


@pytest.mark.parametrize("http2", [False, pytest.param(True, marks=needs_http2)])
def test_f64_certificates_that_must_be_refused(http2: bool) -> None:
    stranger = trustme.CA()
    for context, why in (
        (server_tls("localhost", issuer=stranger), "certificate"),
        (server_tls("other.example"), "[Hh]ostname"),
        (_expired(), "expired"),
    ):
        with Misbehaving(Say(body=PAGE), tls=context) as server:
            with pytest.raises(Unreachable, match=why):
                Client(server.url, http2=http2).get()
            assert not server.asked


def test_f64_old_versions_are_refused() -> None:
    context = server_tls()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        Misbehaving(Say(body=PAGE), tls=context) as server,
        pytest.raises(Unreachable, match="TLS"),
    ):
        Client(server.url).get()


def _expired() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    authority().issue_cert("localhost", not_after=past).configure_cert(context)
    return context
