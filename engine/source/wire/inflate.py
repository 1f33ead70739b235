"""
Inflate: content encodings undone, in pieces that are bounded.

Owns which encodings there are, and what a header that names them means.

Path: `source.wire.body` -> here -> zlib and the optional libraries
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from engine.config.libraries import load
from engine.errors import BadPage
from engine.source.wire.pieces import BodyLimits

brotli: Any = load("Content-Encoding br")
zstd: Any = load("Content-Encoding zstd")

#: Compressed bytes that `zstandard` is given at a time.
SLICE = 256


class Inflater(Protocol):
    """Bytes in, bounded pieces of inflated bytes out."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Inflate, in pieces; raises ValueError if the stream is broken."""

    def ended(self) -> bool:
        """True if the stream came to its own end, checksum included."""


class Members:
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
    return Members(lambda: zlib.decompressobj(31), piece)


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
    return Members(_Sliced if sliced else zstd.ZstdDecompressor, piece)


INFLATERS: dict[str, Callable[[int], Inflater]] = {
    "gzip": gzip,
    "x-gzip": gzip,
    "deflate": _Deflate,
}
if brotli is not None:
    INFLATERS["br"] = _Brotli
if zstd is not None:
    INFLATERS["zstd"] = _zstd

BROKEN: tuple[type[Exception], ...] = (zlib.error, ValueError)
if brotli is not None:
    BROKEN += (brotli.error,)
if zstd is not None:
    BROKEN += (zstd.ZstdError,)


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


def inflated(
    encoding: str, asked: frozenset[str], bounds: BodyLimits
) -> Inflater | None:
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
            raise BadPage(_unasked(name))
    inflaters = [INFLATERS[name](bounds.piece) for name in names]
    # The last one named was applied last (RFC 9110, 8.4).
    inflater = inflaters.pop()
    while inflaters:
        inflater = _Stacked(inflater, inflaters.pop())
    return inflater


def _unasked(name: str) -> str:
    """What is wrong with a coding, and which key or extra would have it read."""
    said = f"content encoding {name[:40]!r} was not asked for"
    if name in INFLATERS:
        return f"{said}; http.client.compression.enabled and .types say what is"
    if name in ("br", "zstd"):
        return f"{said}, and to read it needs the extra [encodings]"
    return f"{said}, and nothing here can read it"


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
                if isinstance(self._inner, Members) and piece[:1] not in MAGIC:
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
