"""
Body: one HTTP/1.1 answer off a connection, whole or not at all.

Owns the proof that an answer is complete: exact lengths, the last chunk seen,
decompressors at their end, nothing behind the message; and the bounds under
which it is read: wall deadline, silence, size on the wire and inflated, heads.
Never opens or closes a connection and never decides about a retry.

Path: `source.wire.http1` (a request was sent) -> here -> `source.wire.http1` (Response)
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import tempfile
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import httptools
from msgspec import Struct

from engine.clock import SYSTEM
from engine.config.libraries import load
from engine.errors import BadPage, Forbidden, SourceError, Unreachable
from engine.source.wire.exchange import IN_ONE_GO, Wire
from engine.source.wire.lenient import Chunks, Head, head_of

brotli: Any = load("Content-Encoding br")
zstd: Any = load("Content-Encoding zstd")

#: Bytes of status line and header lines of one answer, interim ones included.
MAX_HEAD = 64 * 1024
#: Header lines of one answer.
MAX_HEADERS = 100
#: Inflated bytes up to which the ratio of inflation is nobody's business.
RATIO_FREE = 1 << 20
#: Inflated bytes for each byte on the wire beyond which it is a bomb.
MAX_RATIO = 200
#: Bodies above it are kept in an unlinked file and mapped.
SPOOL_ABOVE = 8 << 20
#: Seconds after which the pages of a mapped body are handed back.
HAND_BACK_EVERY = 0.004
#: Framing of chunks that is allowed for each byte of the body, and on top.
CHUNK_OVERHEAD, CHUNK_SLACK = 16, 64 * 1024

#: Compressed bytes that `zstandard` is given at a time.
SLICE = 256

#: Bodies of known length up to it are read to where they will lie; what a
#: server promises and never sends is allocated no further than this.
DIRECT_UP_TO = 1 << 20

#: Statuses that have no body, whatever their headers say (RFC 9112, 6.3).
BODILESS = frozenset({204, 304})


class Bounds(Struct, frozen=True):
    """
    What an answer may cost.

    Attributes:
        silence: Seconds to the first byte and between two reads.
        size: Bytes of the body on the wire, and inflated, each.
        piece: Bytes of the largest piece out of an inflater.
        close_delimited: Whether a body may end with its connection, because
            its format proves completeness.
        spool_above: Bytes from which a body is kept in a file.
        spool_dir: Directory for that file, or None for the system's.
        lenient: `http.client.parser=LENIENT`: what keeps to no grammar is read
            where its framing stays certain.
    """

    silence: float = 30.0
    size: int = 10 << 20
    piece: int = 64 * 1024
    close_delimited: bool = True
    spool_above: int = SPOOL_ABOVE
    spool_dir: str | None = None
    lenient: bool = True


class Answer(Struct):
    """
    A complete answer.

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


class Inflater(Protocol):
    """Bytes in, bounded pieces of inflated bytes out."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Inflate, in pieces; raises ValueError if the stream is broken."""

    def ended(self) -> bool:
        """True if the stream came to its own end, checksum included."""


class _Members:
    """A stream of members that follow each other: gzip (RFC 1952), zstd."""

    def __init__(self, start: Callable[[], Any], piece: int):
        self._start = start
        self._piece = piece
        self._member = start()

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._member.eof:
            self._member = self._start()
        while True:
            member = self._member
            piece = member.decompress(data, self._piece)
            yield piece
            if member.eof:
                data = member.unused_data
                if not data:
                    return
                self._member = self._start()
                continue
            # zlib hands back what it did not read, zstd keeps it.  A full piece
            # may have more behind it although all input is taken.
            data = getattr(member, "unconsumed_tail", b"")
            if not data and len(piece) < self._piece:
                return

    def ended(self) -> bool:
        return bool(self._member.eof)


class _Deflate:
    """`deflate`: zlib (RFC 1950) as meant, or raw (RFC 1951) as often sent."""

    def __init__(self, piece: int):
        self._piece = piece
        self._first = b""
        self._stream: Any = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None:
            self._first += data
            if len(self._first) < 2:
                return
            data, self._first = self._first, b""
            wrapped = data[0] & 15 == 8 and (data[0] * 256 + data[1]) % 31 == 0
            self._stream = zlib.decompressobj(15 if wrapped else -15)
        if self._stream.eof:
            raise ValueError("bytes behind the end of the stream")
        while True:
            piece = self._stream.decompress(data, self._piece)
            yield piece
            if self._stream.unused_data:
                raise ValueError("bytes behind the end of the stream")
            data = self._stream.unconsumed_tail
            if not data and len(piece) < self._piece:
                return

    def ended(self) -> bool:
        return self._stream is not None and bool(self._stream.eof)


class _Brotli:
    def __init__(self, piece: int):
        self._piece = piece
        self._stream = brotli.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._stream.is_finished():
            raise ValueError("bytes behind the end of the stream")
        stream, limit = self._stream, self._piece
        piece = stream.process(data, output_buffer_limit=limit)
        yield piece
        # Output may wait although all input is taken.
        while not stream.is_finished() and (piece or not stream.can_accept_more_data()):
            piece = stream.process(b"", output_buffer_limit=limit)
            yield piece

    def ended(self) -> bool:
        return bool(self._stream.is_finished())


def gzip(piece: int) -> Inflater:
    """The inflater of gzip (RFC 1952), of as many members as there are."""
    return _Members(lambda: zlib.decompressobj(31), piece)


class _Sliced:
    """
    A frame for the library `zstandard`, whose decompressor has no bound of output.

    A block of zstd has at most 128 KiB (RFC 8878, 3.1.1.2.4) and needs 4 bytes: fed
    `SLICE` bytes at a time, what comes out is bounded, too.
    """

    def __init__(self) -> None:
        self._frame = zstd.ZstdDecompressor().decompressobj()
        self.unconsumed_tail = b""
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return bool(self._frame.eof)

    def decompress(self, data: bytes, most: int) -> bytes:
        found = []
        length = at = 0
        while at < len(data) and length < most and not self._frame.eof:
            found.append(self._frame.decompress(data[at : at + SLICE]))
            length += len(found[-1])
            at += SLICE
        if self._frame.eof:
            self.unused_data = self._frame.unused_data + data[at:]
        else:
            self.unconsumed_tail = data[at:]
        return b"".join(found)


def _zstd(piece: int) -> Inflater:
    # Of the three, only `zstandard` has readers; the others bound their output.
    sliced = hasattr(zstd, "ZstdDecompressionReader")
    return _Members(_Sliced if sliced else zstd.ZstdDecompressor, piece)


INFLATERS: dict[str, Callable[[int], Inflater]] = {
    "gzip": gzip,
    "x-gzip": gzip,
    "deflate": _Deflate,
}
if brotli is not None:
    INFLATERS["br"] = _Brotli
if zstd is not None:
    INFLATERS["zstd"] = _zstd

_BROKEN: tuple[type[Exception], ...] = (zlib.error, ValueError)
if brotli is not None:
    _BROKEN += (brotli.error,)
if zstd is not None:
    _BROKEN += (zstd.ZstdError,)


#: First bytes of gzip and zstd.
MAGIC = (b"\x1f", b"\x28")
#: Codings of IANA's registry, read or not; any other name is none.
CODINGS = frozenset(INFLATERS) | {
    "aes128gcm", "br", "compress", "dcb", "dcz", "exi", "pack200-gzip",
    "x-compress", "zstd",
}  # fmt: skip
#: Codings within each other that are undone.
MOST_STACKED = 2


def encodings() -> frozenset[str]:
    """The content encodings this installation can decode."""
    return frozenset(INFLATERS) - {"x-gzip"}


class Pieces:
    """
    A body on its way in: in memory while small, else in an unlinked file.

    Raises Forbidden once the bytes cross `bounds.size`.
    """

    def __init__(self, bounds: Bounds):
        self._bounds = bounds
        self._pieces: list[bytes] = []
        self._file: Any = None
        self.length = 0

    def add(self, piece: bytes) -> None:
        self.length += len(piece)
        if self.length > self._bounds.size:
            raise too_large(self._bounds.size)
        if self._file is not None:
            self._file.write(piece)
            return
        self._pieces.append(piece)
        if self.length > self._bounds.spool_above:
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 - closed in whole
                dir=self._bounds.spool_dir
            )
            self._file.writelines(self._pieces)
            self._pieces.clear()

    def extend(self, pieces: list[bytes], length: int) -> None:
        """Many pieces at once, of this length together."""
        if self._file is not None or self.length + length > self._bounds.spool_above:
            for piece in pieces:
                self.add(piece)
            return
        self.length += length
        if self.length > self._bounds.size:
            raise too_large(self._bounds.size)
        self._pieces += pieces

    def whole(self) -> bytes | memoryview:
        if self._file is None:
            pieces, self._pieces = self._pieces, []
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        with self._file as file:
            file.flush()
            # Private and writable: `source.decode.mapped` marks places, and undoes it.
            kept = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        threading.Thread(
            target=_keep_small, args=(weakref.ref(kept),), daemon=True
        ).start()
        return memoryview(kept)


def _keep_small(body: weakref.ref[mmap.mmap]) -> None:
    """
    Hand a map's pages back to the system as long as somebody reads it.

    They stay in the page cache; what is read again comes from there.
    """
    pause = threading.Event()
    while True:
        pause.wait(HAND_BACK_EVERY)
        kept = body()
        if kept is None:
            return
        with contextlib.suppress(OSError, ValueError):
            kept.madvise(mmap.MADV_DONTNEED)
        del kept


def hand_back(body: memoryview, start: int, end: int) -> None:
    """Take a part of a mapped body out of this process's memory for now."""
    kept: Any = body.obj
    start -= start % mmap.PAGESIZE
    if isinstance(kept, mmap.mmap) and end > start:
        with contextlib.suppress(OSError, ValueError):
            kept.madvise(mmap.MADV_DONTNEED, start, min(end, len(kept)) - start)


def too_large(size: int) -> Forbidden:
    """The error of a body over `http.client.max.response.size.bytes`."""
    return Forbidden(f"the body is over {size} bytes")


def inflated(encoding: str, asked: frozenset[str], bounds: Bounds) -> Inflater | None:
    """
    The inflater for a Content-Encoding, or None for the identity.

    A name that is no coding (utf-8, none, aws-chunked) says nothing of the bytes.

    Args:
        encoding: The header's value, or "".
        asked: What the request's Accept-Encoding allows; "*" is everything.

    Raises:
        BadPage: Stacked too high, or not asked for.
    """
    names = [name.strip().lower() for name in encoding.split(",")]
    names = [name for name in names if name and name != "identity"]
    if bounds.lenient:
        names = [name for name in names if name in CODINGS]
    if not names:
        return None
    if len(names) > (MOST_STACKED if bounds.lenient else 1):
        raise BadPage(f"stacked content encodings: {encoding[:80]!r}")
    for name in names:
        plain = "gzip" if name == "x-gzip" else name
        if name not in INFLATERS or not ("*" in asked or plain in asked):
            raise BadPage(f"a content encoding not asked for: {encoding[:80]!r}")
    inflaters = [INFLATERS[name](bounds.piece) for name in names]
    # The last one named was applied last (RFC 9110, 8.4).
    inflater = inflaters.pop()
    while inflaters:
        inflater = _Stacked(inflater, inflaters.pop())
    return inflater


class _Stacked:
    """
    One coding within another.

    Two gzips are mostly one, said by the API and by a proxy again: what does not
    begin as gzip does is what was meant.
    """

    def __init__(self, outer: Inflater, inner: Inflater):
        self._outer = outer
        self._inner: Inflater | None = inner
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        for piece in self._outer.feed(data):
            if piece and not self._begun:
                self._begun = True
                if isinstance(self._inner, _Members) and piece[:1] not in MAGIC:
                    self._inner = None
            if self._inner is None:
                yield piece
            elif piece:
                yield from self._inner.feed(piece)

    def ended(self) -> bool:
        inner = self._inner
        return self._outer.ended() and (
            inner is None or not self._begun or inner.ended()
        )


class Collector:
    """
    The body of one answer: inflated, bounded, spooled, proven to be whole.

    Raises (in `add` and `finish`): Unreachable, BadPage, Forbidden.
    """

    def __init__(
        self, inflater: Inflater | None, bounds: Bounds, deadline: float
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
        except _BROKEN as error:
            raise Unreachable(f"the compressed body is broken: {error}") from error

    def _plain(self, data: bytes) -> bool:
        """True for a body that was labelled gzip and begins as no gzip does."""
        return (
            self._bounds.lenient
            and bool(data)
            and isinstance(self._inflater, _Members)
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

    def __init__(self, asked: frozenset[str], bounds: Bounds, deadline: float):
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
    bounds: Bounds,
    deadline: float,
) -> Answer:
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
    return Answer(
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
