"""HTTP/1.1 as servers really speak it: read where its framing is certain, else refused."""

from __future__ import annotations

import http.client
import io
import re
import socket
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.clock import SYSTEM
from engine.errors import SourceError, Unreachable
from engine.source.wire.body import read_answer
from engine.source.wire.exchange import Silent
from engine.source.wire.lenient import Chunks, head_of
from engine.source.wire.pieces import BodyLimits
from tests.examples import examples
from tests.fakes.misbehaving import Misbehaving, Peer
from tests.source.clients import Client

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
TWO = b"Content-Length: 2\r\n"
IN_CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"

#: Bytes on the wire; whether the connection is of use afterwards.
FORGIVEN = {
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 2\nX: y\n\n{}", False),
    "some bare line feeds": (OK + b"X: y\n" + TWO + b"\r\n{}", False),
    "chunks with bare line feeds": (
        b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\n{}\n0\n\n",
        False,
    ),
    "a folded header": (OK + b"X: a\r\n  b\r\n\tc\r\n" + TWO + b"\r\n{}", False),
    "a fold before all headers": (OK + b" x\r\n" + TWO + b"\r\n{}", False),
    "a blank before the colon": (OK + b"X : 1\r\n" + TWO + b"\r\n{}", False),
    "names that are no tokens": (
        OK + b"X (y): 1\r\nFoo Bar: 2\r\n\xc3\xa9: 3\r\n" + TWO + b"\r\n{}",
        False,
    ),
    "an empty name": (OK + b": 1\r\n" + TWO + b"\r\n{}", False),
    "a line without a colon": (OK + b"garbage\r\n" + TWO + b"\r\n{}", False),
    "control characters": (OK + b"X: a\x01\x00\x7fb\r\n" + TWO + b"\r\n{}", False),
    "one length twice": (OK + TWO + TWO + b"\r\n{}", False),
    "one length in a list": (OK + b"Content-Length: 2, 2\r\n\r\n{}", False),
    "chunks beside a length": (
        OK + b"Content-Length: 99\r\n" + CHUNKED + b"\r\n" + IN_CHUNKS,
        False,
    ),
    "blanks behind a chunk's size": (
        OK + CHUNKED + b"\r\n2  \r\n{}\r\n0 \r\n\r\n",
        True,
    ),
    "a line end behind the body": (OK + TWO + b"\r\n{}\r\n", False),
    "line ends behind the chunks": (OK + CHUNKED + b"\r\n" + IN_CHUNKS + b"\r\n", True),
    "after an interim answer": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
        False,
    ),
    "empty lines first": (b"\r\n\n" + OK + b"A B: 1\r\n" + TWO + b"\r\n{}", False),
    "no reason, two blanks": (b"HTTP/1.1  200\r\n" + TWO + b"\r\n{}", False),
}


def dripping(raw: bytes) -> Any:
    return lambda peer: peer.drip(raw, 0.0002)


def client(url: str, lenient: bool) -> Client:
    return Client(url, lenient=lenient, socket_timeout=2.0, request_timeout=4.0)


@pytest.mark.parametrize("drip", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("what", FORGIVEN)
def test_what_is_certain_is_read(what: str, drip: bool) -> None:
    raw, kept = FORGIVEN[what]
    with Misbehaving(dripping(raw) if drip else raw) as server:
        asking = client(server.url, True)
        bodies = [bytes(asking.get().body) for _ in range(2)]

        assert [b"{}", b"{}"] == bodies
        if not drip:
            assert (1 if kept else 2) == server.connections


@pytest.mark.parametrize(
    "what", sorted(set(FORGIVEN) - {"line ends behind the chunks"})
)
def test_strict_forgives_nothing(what: str) -> None:
    with Misbehaving(FORGIVEN[what][0]) as server, pytest.raises(Unreachable):
        client(server.url, False).get()


def test_odd_headers_arrive_as_they_were_meant() -> None:
    raw = OK + b"X: a\r\n b\r\nFoo Bar: 2\r\nY: \x00z\r\n" + TWO + TWO + b"\r\n{}"
    with Misbehaving(raw) as server:
        headers = client(server.url, True).get().headers

    assert [("x", "a b"), ("foo bar", "2"), ("y", " z"), ("content-length", "2")] == [
        *headers
    ]


UNCERTAIN = {
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "two lengths in a list": OK + b"Content-Length: 2, 3\r\n\r\n{}",
    "two lengths beside chunks": (
        OK
        + b"Content-Length: 2\r\nContent-Length: 3\r\n"
        + CHUNKED
        + b"\r\n"
        + IN_CHUNKS
    ),
    "a signed length": OK + b"Content-Length: +2\r\n\r\n{}",
    "a length in hex": OK + b"Content-Length: 0x2\r\n\r\n{}",
    "a length with a blank inside": OK + b"Content-Length: 1 2\r\n\r\n{}",
    "a negative length": OK + b"Content-Length: -2\r\n\r\n{}",
    "a folded length": OK + b"Content-Length:\r\n 2\r\n\r\n{}",
    "a length in a fold": OK + b"X: a\r\n Content-Length: 2\r\n\r\n{}",
    "a blank before the length's colon": OK + b"Content-Length : 2\r\n\r\n{}",
    "a blank before the coding's colon": (
        OK + b"Transfer-Encoding : chunked\r\n" + TWO + b"\r\n" + IN_CHUNKS
    ),
    "a control character in the coding's name": (
        OK + b"Transfer-Encoding\x0b: chunked\r\n" + TWO + b"\r\n" + IN_CHUNKS
    ),
    "a folded coding": OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + IN_CHUNKS,
    "another coding beside a length": (
        OK + b"Transfer-Encoding: xchunked\r\n" + TWO + b"\r\n{}"
    ),
    "chunked twice": OK + CHUNKED + CHUNKED + b"\r\n" + IN_CHUNKS,
    "identity beside a length": OK
    + b"Transfer-Encoding: identity\r\n"
    + TWO
    + b"\r\n{}",
    "chunks in HTTP/1.0, beside a length": (
        b"HTTP/1.0 200 OK\r\n" + CHUNKED + TWO + b"\r\n" + IN_CHUNKS
    ),
    "a bare CR": OK + b"X: a\rContent-Length: 5\r\n" + TWO + b"\r\n{}",
    "a NUL in the length": OK + b"Content-Length: 2\x00\r\n\r\n{}",
    "other bytes behind the body": OK + TWO + b"\r\n{}{}",
    "line ends and more behind the body": OK + TWO + b"\r\n{}\r\nHTTP/1.1 200",
    "a chunk longer than its size": (
        b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\n{}x\n0\n\n"
    ),
    "no status line": b"{}\r\n\r\n",
    "no HTTP/1": b"HTTP/3.0 200 OK\r\n" + TWO + b"\r\n{}",
}


@pytest.mark.parametrize("lenient", [True, False])
@pytest.mark.parametrize("what", UNCERTAIN)
def test_what_is_not_certain_is_refused(what: str, lenient: bool) -> None:
    with Misbehaving(UNCERTAIN[what]) as server, pytest.raises(Unreachable):
        client(server.url, lenient).get()


def test_a_cut_answer_is_no_answer_however_its_head_was_read() -> None:
    def cut(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 200 OK\nContent-Length: 20\n\n{}")
        peer.close()

    def cut_chunks(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\n{}\n")
        peer.close()

    def cut_head(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 200 OK\nX: ")
        peer.close()

    for act in (cut, cut_chunks, cut_head):
        with Misbehaving(act) as server, pytest.raises(Unreachable):
            client(server.url, True).get()


# -- against another reader ---------------------------------------------------


def ours(raw: bytes, lenient: bool) -> bytes | None:
    """The body, or None for a refusal; anything else than these is a bug."""
    mine, theirs = socket.socketpair()
    with mine, theirs:
        theirs.sendall(raw)
        theirs.shutdown(socket.SHUT_WR)
        try:
            answer = read_answer(
                mine,
                memoryview(bytearray(4096)),
                asked=frozenset(),
                bounds=BodyLimits(silence=1.0, lenient=lenient),
                deadline=SYSTEM.monotonic() + 5,
            )
        except (SourceError, Silent):
            return None
        return bytes(answer.body)


class _Sock:
    def __init__(self, raw: bytes):
        self._raw = raw

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._raw)


def theirs(raw: bytes) -> bytes | None:
    """What Python's own client reads, or None."""
    answer = http.client.HTTPResponse(_Sock(raw))  # type: ignore[arg-type]
    try:
        answer.begin()
        return answer.read()
    except (http.client.HTTPException, ValueError, OSError):
        return None


_PLAIN = re.compile(rb"[A-Za-z-]+:[^,]*$").match

ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])
HEADERS = st.sampled_from(
    [
        b"X: 1", b"X : 1", b"A B: 2", b"X: a\x01", b" folded", b"\tmore", b"garbage",
        b": none", b"Content-Type: application/json", b"Content-Length: 7",
        b"Content-Length: 7", b"Content-Length: 7, 7", b"Content-Length: 8",
        b"content-length:7", b"Content-Length : 7", b"Transfer-Encoding: chunked",
        b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: CHUNKED", b"Connection: close",
    ]
)  # fmt: skip
BODIES = st.sampled_from(
    [
        b'{"a":1}', b'{"a":1}\r\n', b'7\r\n{"a":1}\r\n0\r\n\r\n',
        b'7 \r\n{"a":1}\r\n0\r\n\r\n', b'7\n{"a":1}\n0\n\n', b'3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n',
        b'7;x=y\r\n{"a":1}\r\n0\r\nT: 1\r\n\r\n', b'8\r\n{"a":1}\r\n0\r\n\r\n', b"",
    ]
)  # fmt: skip


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.tuples(HEADERS, ENDS), max_size=5), ENDS, BODIES, ENDS)
@example([(b"Content-Length: 7", b"\n")], b"\n", b'{"a":1}', b"\n")
def test_lenient_is_strict_and_more_and_agrees_with_another_reader(
    lines: list[tuple[bytes, bytes]], first: bytes, body: bytes, last: bytes
) -> None:
    head = b"".join(line + end for line, end in lines)
    raw = b"HTTP/1.1 200 OK" + first + head + last + body
    strict, lenient = ours(raw, False), ours(raw, True)
    if strict is not None:
        assert strict == lenient
    other = theirs(raw)
    # Python's reader stops at a name that is no token, and knows no list of lengths.
    plain = all(_PLAIN(line) for line, _ in lines)
    if lenient is not None and other is not None and plain:
        assert lenient == other


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=300), st.integers(0, 40))
def test_whatever_comes_it_is_an_answer_or_a_refusal(noise: bytes, at: int) -> None:
    raw = OK + TWO + b"X: y\r\n\r\n{}"
    ours(raw[:at] + noise + raw[at:], True)
    try:
        head_of(noise + b"\n\n")
        list(Chunks().feed(noise))
    except Unreachable:
        pass


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 9))
def test_chunks_come_out_as_they_went_in(pieces: list[bytes], step: int) -> None:
    end = b"\n"
    raw = b"".join(b"%x \n%b%b" % (len(each), each, end) for each in pieces) + b"0\n\n"
    chunks = Chunks()
    out = b"".join(
        part
        for at in range(0, len(raw), step)
        for part in chunks.feed(raw[at : at + step])
    )

    assert (b"".join(pieces), True) == (out, chunks.done)
