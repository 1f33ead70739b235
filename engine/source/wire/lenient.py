"""
Lenient: the head of an HTTP/1.1 answer that keeps to no grammar, where its framing
stays certain.

Owns what is forgiven (`http.client.parser=LENIENT`): bare LF, folded fields, odd
names, control characters, one Content-Length said twice, chunks beside a
Content-Length, blanks behind a chunk's size.  What would make two readers see two
different bodies is refused (RFC 9112, 11.2).  Pure.

Path: `source.wire.body` (the strict parser gave up) -> here -> framing that it reads
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from engine.errors import Unreachable
from engine.later import pattern

Fields = list[tuple[bytes, bytes]]

#: Characters of a chunk's line, extensions included.
MAX_LINE: Final = 16 * 1024

_END: Final = pattern(rb"\r?\n\r?\n")
_STATUS: Final = pattern(
    rb"HTTP/1\.([01])[ \t]+([1-9][0-9]{2})(?:[ \t].*)?$", re.DOTALL
)
_FRAMING: Final = (b"content-length", b"transfer-encoding")
_ODD: Final = pattern(rb"[^a-z0-9-]")
_MENTIONS: Final = pattern(rb"content-length|transfer-encoding", re.IGNORECASE)
_SIZE: Final = pattern(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?$", re.DOTALL)


class Head(Struct, frozen=True):
    """
    A head as it is meant.

    Attributes:
        framing: A head for the strict parser: the status, and how long the body is.
        fields: All fields, those of the framing as they hold.
        chunked: Whether the body comes in chunks.
        length: Bytes of raw data up to the head's end.
    """

    framing: bytes
    fields: Fields
    chunked: bool
    length: int


def head_of(raw: bytes) -> Head | None:
    """
    The final head at the beginning of what was read, or None: it is not whole yet.

    Interim answers (1xx) before it are passed over.

    Raises: Unreachable, where the body's length would be a guess.
    """
    start = 0
    while True:
        # Empty lines in front of a status line are passed over (RFC 9112, 2.2).
        while raw[start : start + 1] in (b"\r", b"\n"):
            start += 1
        if not (raw[start : start + 5] or b"H").startswith(
            b"HTTP/"[: len(raw) - start]
        ):
            raise _refused("no status line")
        end = _END.search(raw, start)
        if end is None:
            return None
        lines = [
            line.removesuffix(b"\r") for line in raw[start : end.start()].split(b"\n")
        ]
        status = _STATUS.match(lines[0])
        if status is None:
            raise _refused("no status line")
        if not status[2].startswith(b"1") or status[2] == b"101":
            break
        start = end.end()
    fields, folded = _fields(lines[1:])
    return _framed(status[1], status[2], fields, folded, end.end())


def _fields(lines: list[bytes]) -> tuple[Fields, set[int]]:
    fields: Fields = []
    folded: set[int] = set()
    for line in lines:
        if b"\r" in line:
            # Some take it for the end of a line.
            raise _refused("a bare CR in the headers")
        if line[:1] in (b" ", b"\t"):
            if _MENTIONS.search(line):
                raise _refused("a folded header that may be the body's length")
            if fields:
                name, value = fields[-1]
                fields[-1] = name, (value + b" " + line.strip(b" \t")).strip()
                folded.add(len(fields) - 1)
            continue
        name, colon, value = line.partition(b":")
        plain = _ODD.sub(b"", name.lower())
        if not colon or (plain in _FRAMING and plain != name.lower()):
            if _MENTIONS.search(line) or plain in _FRAMING:
                raise _refused("a header that may be the body's length, or not")
            continue
        name = name.strip(b" \t")
        if name:
            fields.append((name.replace(b"\0", b""), value.strip(b" \t")))
    return fields, folded


def _framed(
    minor: bytes, code: bytes, fields: Fields, folded: set[int], length: int
) -> Head:
    sizes: set[int] = set()
    codings: list[bytes] = []
    for at, (name, value) in enumerate(fields):
        if name.lower() not in _FRAMING:
            continue
        if at in folded:
            raise _refused(f"a folded {name.decode('latin-1')}")
        if name.lower() == b"transfer-encoding":
            codings.append(value)
            continue
        for size in value.split(b","):
            size = size.strip(b" \t")
            if not size.isdigit() or len(size) > 18:
                raise _refused(f"a length that is no number: {size[:40]!r}")
            sizes.add(int(size))
    if len(sizes) > 1:
        raise _refused("two different Content-Lengths")
    chunked = bool(codings)
    if chunked and [coding.lower() for coding in codings] != [b"chunked"]:
        raise _refused(f"transfer encoding {b', '.join(codings)[:80]!r}")
    if chunked and minor == b"0":
        raise _refused("chunks in an answer of HTTP/1.0")
    framing = b"HTTP/1.1 %b OK\r\n" % code
    kept = [
        (name, value.replace(b"\0", b" "))
        for name, value in fields
        if name.lower() not in _FRAMING
    ]
    if chunked:
        # RFC 9112, 6.3: it overrides a Content-Length, and the connection is closed.
        framing += b"Transfer-Encoding: chunked\r\n"
        kept.append((b"Transfer-Encoding", b"chunked"))
    elif sizes:
        size = b"%d" % sizes.pop()
        framing += b"Content-Length: %b\r\n" % size
        kept.append((b"Content-Length", size))
    return Head(framing + b"Connection: close\r\n\r\n", kept, chunked, length)


def _refused(why: str) -> Unreachable:
    return Unreachable(f"not an HTTP answer: {why}")


class Chunks:
    """
    A chunked body whose lines may end with a bare LF.

    Attributes:
        done: True once the last chunk and the trailer were read.
    """

    def __init__(self) -> None:
        self.done = False
        self._line = b""
        #: Bytes of the chunk that are still to come; -1: at its size.
        self._left = -1
        self._at_end = self._trailing = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """
        The body's bytes in what was read.

        Raises: Unreachable.
        """
        at = 0
        while at < len(data):
            if self.done:
                if data[at:].strip(b"\r\n"):
                    raise Unreachable("bytes behind the end of the answer")
                return
            if self._left > 0:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                self._at_end = not self._left
                yield piece
                continue
            end = data.find(b"\n", at)
            self._line += data[at : end if end >= 0 else len(data)]
            if len(self._line) > MAX_LINE:
                raise _refused("a chunk's line without end")
            if end < 0:
                # What can be no line of a chunk is not waited for.
                begins = self._line[:1]
                if self._at_end and begins.strip(b"\r"):
                    raise _refused("a chunk longer than its size")
                if not (
                    self._at_end or self._trailing or begins.isalnum() or not begins
                ):
                    raise _refused("no chunk where one should be")
                return
            at = end + 1
            line, self._line = self._line.removesuffix(b"\r"), b""
            self._read(line)

    def _read(self, line: bytes) -> None:
        if self._trailing:
            self.done = not line
            return
        if self._at_end:
            if line:
                raise _refused("a chunk longer than its size")
            self._at_end, self._left = False, -1
            return
        size = _SIZE.match(line)
        if size is None:
            raise _refused(f"a chunk's size that is no number: {line[:40]!r}")
        self._left = int(size[1], 16)
        if not self._left:
            self._trailing = True
