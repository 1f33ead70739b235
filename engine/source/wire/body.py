"""
Body: one HTTP/1.1 answer off a connection, whole or not at all.

Owns the proof that an answer is complete: exact lengths, the last chunk seen,
decompressors at their end, nothing behind the message; and the bounds under
which it is read: wall deadline, silence, size on the wire and inflated, heads.
Never opens or closes a connection and never decides about a retry.

Path: `source.wire.http1` (a request was sent) -> here -> `source.wire.http1` (Response)
"""

from __future__ import annotations

import functools
from typing import Any

import httptools
from msgspec import Struct

from engine.clock import SYSTEM
from engine.errors import Forbidden, SourceError, Unreachable
from engine.source.wire.exchange import IN_ONE_GO, Wire
from engine.source.wire.inflate import BROKEN, MAGIC, Inflater, Members, inflated
from engine.source.wire.lenient import Chunks, Head, head_of
from engine.source.wire.pieces import BodyLimits, Pieces, too_large

#: Bytes of status line and header lines of one answer, interim ones included.
MAX_HEAD = 64 * 1024
#: Header lines of one answer.
MAX_HEADERS = 100
#: Inflated bytes up to which the ratio of inflation is nobody's business.
RATIO_FREE = 1 << 20
#: Inflated bytes for each byte on the wire beyond which it is a bomb.
MAX_RATIO = 200
#: Framing of chunks that is allowed for each byte of the body, and on top.
CHUNK_OVERHEAD, CHUNK_SLACK = 16, 64 * 1024


#: Bodies of known length up to it are read to where they will lie; what a
#: server promises and never sends is allocated no further than this.
DIRECT_UP_TO = 1 << 20

#: Statuses that have no body, whatever their headers say (RFC 9112, 6.3).
BODILESS = frozenset({204, 304})


class WireResponse(Struct):
    """
    A complete answer as it came over the wire, before it is a `Response`.

    Attributes:
        status: Status code, never an interim one.
        headers: Names in lower case, values as Latin-1 text.
        body: Inflated; a `memoryview` over a map where spooled.
        wire_bytes: Bytes of the body before inflating.
        keep: Whether the server keeps the connection open.
        first_at: Monotonic seconds of its first byte, 0.0 where unknown.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes | bytearray | memoryview
    wire_bytes: int
    keep: bool
    first_at: float = 0.0


class Collector:
    """
    The body of one answer: inflated, bounded, spooled, proven to be whole.

    Raises (in `add` and `finish`): Unreachable, BadPage, Forbidden.
    """

    def __init__(
        self, inflater: Inflater | None, bounds: BodyLimits, deadline: float
    ) -> None:
        self._inflater = inflater
        self._bounds = bounds
        self._deadline = deadline
        self._body = Pieces(bounds)
        self.wire = 0
        #: True if it is not compressed although its label said so.
        self.mislabelled = False

    @property
    def inflating(self) -> bool:
        """True if the body came compressed, so that it proves its own end."""
        return self._inflater is not None

    def add(self, data: bytes) -> None:
        self.wire += len(data)
        body = self._body
        if self._inflater is None:
            body.add(data)
            return
        if self.wire > self._bounds.size:
            raise too_large(self._bounds.size)
        if self.wire == len(data) and self._plain(data):
            self._inflater, self.mislabelled = None, True
            body.add(data)
            return
        try:
            for piece in self._inflater.feed(data):
                body.add(piece)
                if body.length > RATIO_FREE and body.length > MAX_RATIO * self.wire:
                    raise Forbidden(f"the body inflates over {MAX_RATIO}:1")
                if SYSTEM.monotonic() > self._deadline:
                    raise Unreachable("the request's time is up while inflating")
        except BROKEN as error:
            raise Unreachable(f"the compressed body is broken: {error}") from error

    def _plain(self, data: bytes) -> bool:
        """True for a body that was labelled gzip and begins as no gzip does."""
        return (
            self._bounds.lenient
            and bool(data)
            and isinstance(self._inflater, Members)
            and data[:1] not in MAGIC
        )

    def extend(self, pieces: list[bytes]) -> None:
        """Many pieces at once."""
        if self._inflater is None:
            length = sum(map(len, pieces))
            self.wire += length
            self._body.extend(pieces, length)
            return
        for piece in pieces:
            self.add(piece)

    def finish(self) -> bytes | memoryview:
        if self._inflater is not None and self.wire and not self._inflater.ended():
            raise Unreachable("the compressed body is cut")
        return self._body.whole()


@functools.lru_cache(512)
def header_name(raw: bytes) -> str:
    """A header's name as it is compared; servers use few of them."""
    return raw.decode("latin-1").lower()


class _Incoming:
    """
    What httptools says about the bytes it is fed; one object an answer.

    Attributes:
        mended: A head that was read leniently, or None.
    """

    # Hot path: what most answers never need is not set for each of them.
    mended: Head | None = None
    _chunks: Chunks | None = None
    #: What was read of a head that is not whole yet.
    _head = b""
    #: True while it waits to be read leniently.
    _crooked = False

    def __init__(self, asked: frozenset[str], bounds: BodyLimits, deadline: float):
        self.pieces: list[bytes] = []
        # Hot path: the list's own method is the callback, no frame a piece.
        self.on_body = self.pieces.append
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.head_done = self.done = self.keep = self.close_delimited = False
        #: Whether the body may be read past the parser.
        self.direct = True
        #: Length of a body that comes as it is and in one piece, else -1.
        self.length = -1
        self.failure: Exception | None = None
        self.collector: Collector | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._asked = asked
        self.bounds = bounds
        self._deadline = deadline
        self._parser = httptools.HttpResponseParser(self)

    def let_go(self) -> None:
        """
        Let go of the parser, which holds on to us.

        Else each answer would be a ring, and its pieces would lie in memory
        until somebody looked for rings.
        """
        del self._parser

    def feed(self, data: memoryview) -> None:
        """
        Parse what was read.

        Raises: Unreachable, BadPage, Forbidden.
        """
        if self._chunks is not None:
            self.pieces.extend(self._chunks.feed(bytes(data)))
            self.done = self._chunks.done
            return
        if self._crooked:
            self._mend(bytes(data))
            return
        try:
            self._parser.feed_data(data)
            if not self.head_done:
                self._head += bytes(data)
        except httptools.HttpParserError as error:
            if self.failure is not None:
                raise self.failure from None
            if self.bounds.lenient and not self.head_done and not self.done:
                self._mend(bytes(data))
                return
            if self.done and self.bounds.lenient and not bytes(data).strip(b"\r\n"):
                self.keep = False
                return
            if self.done:
                raise Unreachable("bytes behind the end of the answer") from error
            raise Unreachable(f"not an HTTP answer: {error}") from error
        except httptools.HttpParserUpgrade as error:
            raise Unreachable("the API wants another protocol (101)") from error

    def _mend(self, data: bytes) -> None:
        """
        Read a head that the parser refused, as far as it is there.

        Raises: Unreachable, BadPage, Forbidden.
        """
        self._crooked = True
        self._head += data
        head = head_of(self._head)
        if head is None:
            return
        rest = self._head[head.length :]
        self._crooked, self._head = False, b""
        self.mended, self._fields = head, []
        self.direct = False
        self._parser = httptools.HttpResponseParser(self)
        self.feed(memoryview(head.framing))
        if head.chunked and not self.done:
            self._chunks = Chunks()
        if rest and not (self.done and not rest.strip(b"\r\n")):
            self.feed(memoryview(rest))

    def on_message_begin(self) -> None:
        if self.done:
            raise ValueError("a second answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_done:  # else a trailer, which nobody asked for
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        self.status = status = parser.get_status_code()
        if status < 200:
            return
        # httptools wraps what a callback raises: keep the thing itself.
        try:
            self._judge(status)
        except SourceError as error:
            self.failure = error
            raise
        # Only true while it is asked from inside a callback.
        self.keep = parser.should_keep_alive() and self.mended is None
        self.head_done = True

    def _judge(self, status: int) -> None:
        """Length, encoding, and whether the body may be read at all."""
        fields, bounds = self._fields, self.bounds
        if self.mended is not None:
            fields = self.mended.fields
        if len(fields) > MAX_HEADERS:
            raise Forbidden(f"more than {MAX_HEADERS} headers")
        self.headers = headers = [
            (header_name(name), value.decode("latin-1")) for name, value in fields
        ]
        length = transfer = None
        encoding = ""
        for name, value in headers:
            if name == "content-length":
                length = int(value)
            elif name == "transfer-encoding":
                transfer = value if transfer is None else f"{transfer},{value}"
            elif name == "content-encoding":
                encoding = f"{encoding},{value}"
        if transfer is not None and transfer.strip().lower() != "chunked":
            raise Unreachable(f"transfer encoding {transfer[:80]!r}")
        inflater = None
        if encoding and status not in BODILESS:
            inflater = inflated(encoding, self._asked, bounds)
        if length is not None and status not in BODILESS:
            if length > bounds.size:
                raise too_large(bounds.size)
            if inflater is None and length <= DIRECT_UP_TO and self.direct:
                self.length = length
                return
        elif transfer is None and status not in BODILESS:
            self.close_delimited = True
            if inflater is None and status < 300 and not bounds.close_delimited:
                raise Unreachable("nothing proves that the body is complete: no length")
        elif bounds.lenient and transfer is not None:
            self._parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)
        self.collector = Collector(inflater, bounds, self._deadline)

    def on_message_complete(self) -> None:
        if self.status < 200:
            self._fields.clear()
        else:
            self.done = True


def read_answer(
    sock: Any,
    buffer: memoryview,
    *,
    asked: frozenset[str],
    bounds: BodyLimits,
    deadline: float,
) -> WireResponse:
    """
    Read one answer, and prove that it is whole.

    Args:
        sock: A connected socket, plain or TLS, a request sent on it.
        buffer: Where reads go, over a bytearray; its length is the largest read.
        asked: Content encodings the request allows.
        bounds: What the answer may cost.
        deadline: Monotonic seconds at which the try is over.

    Raises:
        Silent: The connection ended before the first byte.
        Unreachable, BadPage, Forbidden: the connection is of no use any more.

    Blocks: until the deadline at most, and `bounds.silence` for each read.
    """
    wire = Wire(sock, bounds.silence, deadline)
    incoming = _Incoming(asked, bounds, deadline)
    try:
        count = wire.read(buffer)
        first_at = SYSTEM.monotonic()
        storage: Any = buffer.obj
        end = storage.find(b"\r\n\r\n", 0, count) + 4
        if end < 4:
            end = count
        incoming.feed(buffer[:end])
        body: bytes | bytearray | memoryview
        # From here on the parser sees head and body together.
        incoming.direct = False
        if incoming.length >= 0:
            body, wire_bytes, clean = _direct(
                wire, buffer, end, count, incoming.length, bounds.lenient
            )
            incoming.keep = incoming.keep and clean
        else:
            body, wire_bytes = _piecewise(wire, buffer, end, count, incoming)
    finally:
        incoming.let_go()
    return WireResponse(
        status=incoming.status,
        headers=incoming.headers,
        body=body,
        wire_bytes=wire_bytes,
        keep=incoming.keep and not incoming.close_delimited,
        first_at=first_at,
    )


def _direct(
    wire: Wire,
    buffer: memoryview,
    start: int,
    count: int,
    length: int,
    lenient: bool,
) -> tuple[bytes | bytearray, int, bool]:
    """
    A body of known length, as it is: read to where it will lie.

    The last of what is returned is False if line ends came behind it.

    Hot path: no callback, no pieces, no join; a third of the time of a page.
    """
    size = len(buffer)
    got = count - start
    full = count == size
    body: bytes | bytearray
    if got >= length:
        body = bytes(buffer[start : start + length])
        behind = buffer[start + length : count]
    else:
        # One byte more: what comes behind the end is seen.
        body = bytearray(length + 1)
        with memoryview(body) as room:
            room[:got] = buffer[start:count]
            while got < length:
                most = min(size, length - got)
                # Much is read in one call, which waits for the last byte of it.
                whole = most >= IN_ONE_GO
                upto = got + (most if whole else size)
                count = wire.read(room[got:upto], full=whole)
                if not count:
                    raise Unreachable("the answer is cut")
                got += count
                full = count == size or whole
        behind = memoryview(bytes(body[length:got]))
        del body[length:]
    if got > length or (full and wire.more()):
        if not lenient or bytes(behind).strip(b"\r\n") or wire.beyond():
            raise Unreachable("bytes behind the end of the answer")
        return body, length, False
    return body, length, True


def _piecewise(
    wire: Wire, buffer: memoryview, start: int, count: int, incoming: _Incoming
) -> tuple[bytes | memoryview, int]:
    """A body in chunks, compressed, large, or as long as its connection."""
    size = len(buffer)
    if start < count:
        incoming.feed(buffer[start:count])
    while True:
        collector = incoming.collector
        if collector is not None:
            for piece in incoming.pieces:
                collector.add(piece)
            incoming.pieces.clear()
            if incoming.done:
                break
            if wire.total > collector.wire * CHUNK_OVERHEAD + MAX_HEAD + CHUNK_SLACK:
                raise Forbidden("the chunks' framing outweighs the body")
        elif wire.total > MAX_HEAD:
            raise Forbidden(f"the headers are over {MAX_HEAD} bytes")
        count = wire.read(buffer)
        if count:
            incoming.feed(buffer[:count])
        elif collector is not None and incoming.close_delimited:
            return _closed(collector, incoming.bounds.close_delimited), collector.wire
        else:
            raise Unreachable("the answer is cut")
    if count == size and (wire.beyond() if incoming.bounds.lenient else wire.more()):
        raise Unreachable("bytes behind the end of the answer")
    return collector.finish(), collector.wire


def _closed(collector: Collector, close_delimited: bool) -> bytes | memoryview:
    """The body that ended with its connection."""
    body = collector.finish()
    if collector.mislabelled and not close_delimited:
        raise Unreachable("nothing proves that the body is complete: no length")
    if not collector.inflating and bytes(body[-16:]).rstrip()[-1:].isdigit():
        # A cut number is a number: only brackets and quotes prove an end.
        raise Unreachable("nothing proves that the body is complete: no length")
    return body
