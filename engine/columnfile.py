"""
Column file: a column of a page too large for memory, kept in a file while it grows.

Owns the form of such a file, which has no name and goes with its column: what a page
that was read out of a file is made into would else stand in memory whole.

Path: `source.decode.formats` and `transform.spooled` fill one -> `records.CutSequence`
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate, pairwise
from typing import Any, Final, Self

from engine.records import CutSequence
from engine.spool import spooling, unnamed

#: Bytes that are read at once.
WINDOW = 1 << 20

#: In place of the length of what is none.
NONE: Final = 2**32 - 1


class ColumnFile:
    """A column that grows slice by slice; closed at the end of its context."""

    def __init__(self) -> None:
        self._missing = 0
        self._file = unnamed()
        self._lengths = array("I")
        self._length = 0
        # Where windows begin: place of the first item, place in the file.
        self._firsts = [0]
        self._starts = [0]

    def extend(self, items: Sequence[Any]) -> None:
        """Put items behind the others: bytes, `Raw` or None.  Raises SpoolError."""
        for item in items:
            size = NONE if item is None else len(item)
            if self._length - self._starts[-1] >= WINDOW:
                self._firsts.append(len(self._lengths))
                self._starts.append(self._length)
            self._lengths.append(size)
            if item is None:
                self._missing += 1
            else:
                self._length += size
        try:
            text = b"".join(items)
        except TypeError:
            text = b"".join([item for item in items if item is not None])
        with spooling():
            self._file.write(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failed: object) -> None:
        """Nothing can be added any more; what `column` gave stays."""
        # What could not be written is tried once more here, and is said already.
        with suppress(OSError):
            self._file.close()

    def column(
        self, kind: Callable[[bytes], Any] = bytes
    ) -> tuple[Sequence[Any], Sequence[int] | None]:
        """
        All of it, and the lengths of its items; None: some of them are None.

        Args:
            kind: What is made of the bytes of an item when it is asked for.
        """
        kept = None
        if self._length:
            with spooling():
                self._file.flush()
            kept = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        lengths, firsts = self._lengths, self._firsts
        starts = [*self._starts, self._length]
        ends = [*firsts[1:], len(lengths)]

        def cut(number: int) -> Sequence[Any]:
            text = b""
            if kept is not None:
                text = kept[starts[number] : starts[number + 1]]
                # Of what was read nothing stays in this process's memory.
                kept.madvise(mmap.MADV_DONTNEED)
            sizes = lengths[firsts[number] : ends[number]]
            places = accumulate((0 if n == NONE else n for n in sizes), initial=0)
            return [
                None if size == NONE else kind(text[start:stop])
                for size, (start, stop) in zip(sizes, pairwise(places))
            ]

        found = CutSequence(lengths, firsts, cut) if lengths else []
        return found, None if self._missing else lengths
