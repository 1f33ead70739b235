"""
Pieces: a body on its way in, bounded, in memory while small and else in a file.

Owns the bounds of an answer, and how a mapped body leaves this process's memory.

Path: `source.wire.body` -> here -> a body that can be read whole
"""

from __future__ import annotations

import contextlib
import mmap
import threading
import weakref
from typing import Any

from msgspec import Struct

from engine.errors import Forbidden
from engine.spool import spooling, unnamed

#: Bodies above it are kept in an unlinked file and mapped.
SPOOL_ABOVE = 8 << 20

#: Seconds after which the pages of a mapped body are handed back.
HAND_BACK_EVERY = 0.004


class BodyLimits(Struct, frozen=True):
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


class Pieces:
    """
    A body on its way in: in memory while small, else in an unlinked file.

    Raises Forbidden once the bytes cross `bounds.size`, SpoolError where the file has
    no room.
    """

    def __init__(self, bounds: BodyLimits):
        self._bounds = bounds
        self._pieces: list[bytes] = []
        self._file: Any = None
        self.length = 0

    def add(self, piece: bytes) -> None:
        self.length += len(piece)
        if self.length > self._bounds.size:
            raise too_large(self._bounds.size)
        if self._file is not None:
            with spooling(self._bounds.spool_dir):
                self._file.write(piece)
            return
        self._pieces.append(piece)
        if self.length > self._bounds.spool_above:
            self._file = unnamed(self._bounds.spool_dir)
            with spooling(self._bounds.spool_dir):
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
        with spooling(self._bounds.spool_dir), self._file as file:
            file.flush()
            kept = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
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


def mapped(body: object) -> bool:
    """Whether a body lies in a file, all of it."""
    if not isinstance(body, memoryview):
        return False
    kept: Any = body.obj
    return isinstance(kept, mmap.mmap) and len(kept) == len(body)


def hand_back(body: memoryview, start: int, end: int) -> None:
    """Take a part of a mapped body out of this process's memory for now."""
    kept: Any = body.obj
    start -= start % mmap.PAGESIZE
    if isinstance(kept, mmap.mmap) and end > start:
        with contextlib.suppress(OSError, ValueError):
            kept.madvise(mmap.MADV_DONTNEED, start, min(end, len(kept)) - start)


def too_large(size: int, what: str = "body") -> Forbidden:
    """The error of what is over `http.client.max.response.size.bytes`."""
    return Forbidden(
        f"the {what} is over {size} bytes: raise http.client.max.response.size.bytes, "
        "or ask for smaller pages"
    )
