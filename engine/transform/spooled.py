"""
Spooled: what the records of a page too large for memory have become, kept in files.

Owns the form of such a file, which has no name and goes with its column.  A page that
was read out of a file would else stand in memory once it is changed, and all of it must
be changed before any of it is produced.

Path: `transform.page` puts slices here -> `sink` reads them in order
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final, Self

from engine.later import later
from engine.records import CutSequence
from engine.transform.columns import OPTIONAL, Columns

if TYPE_CHECKING:
    import tempfile
else:
    tempfile = later("tempfile")

#: Bytes that are read at once.
WINDOW = 1 << 20

#: In place of the length of what is none.
NONE: Final = 2**32 - 1


class ColumnFile:
    """A column that grows slice by slice."""

    def __init__(self) -> None:
        self._missing = 0
        self._file: Any = tempfile.TemporaryFile()
        self._lengths = array("I")
        self._length = 0
        # Where windows begin: place of the first item, place in the file.
        self._firsts = [0]
        self._starts = [0]

    def extend(self, items: Sequence[Any]) -> None:
        """Put items behind the others: bytes, `Raw` or None."""
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
        self._file.write(text)

    def close(self) -> None:
        """Nothing can be added any more; what `column` gave stays."""
        self._file.close()

    def column(self) -> tuple[Sequence[bytes | None], Sequence[int] | None]:
        """All of it, and the lengths of its items; None: some of them are None."""
        kept = None
        if self._length:
            self._file.flush()
            kept = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        lengths, firsts = self._lengths, self._firsts
        starts = [*self._starts, self._length]
        ends = [*firsts[1:], len(lengths)]

        def cut(number: int) -> Sequence[bytes | None]:
            text = b""
            if kept is not None:
                text = kept[starts[number] : starts[number + 1]]
                # Of what was read nothing stays in this process's memory.
                kept.madvise(mmap.MADV_DONTNEED)
            sizes = lengths[firsts[number] : ends[number]]
            places = accumulate((0 if n == NONE else n for n in sizes), initial=0)
            return [
                None if size == NONE else text[start:stop]
                for size, (start, stop) in zip(sizes, pairwise(places))
            ]

        found = CutSequence(lengths, firsts, cut) if lengths else []
        return found, None if self._missing else lengths


class LargeColumns(Columns):
    """
    The columns of a large page: values and keys are in files.

    Neither is there before the end of its context.

    Args:
        first: Its first slice, which says what columns there are; emptied.
    """

    __slots__ = ("_keys", "_values")

    def __init__(self, first: Columns):
        super().__init__(*(getattr(first, name) is not None for name in OPTIONAL))
        self._values = ColumnFile()
        self._keys = ColumnFile() if first.keys is not None else None
        self.extend(first)

    def extend(self, other: Columns) -> None:
        """As `Columns.extend`; the other is emptied."""
        self._values.extend(other.values)
        if self._keys is not None:
            self._keys.extend(other.keys or ())
        other.values = []
        other.keys = None if self._keys is None else []
        other.lengths = other.key_lengths = None
        super().extend(other)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failed: object) -> None:
        if failed == (None, None, None):
            self.values, self.lengths = self._values.column()
            if self._keys is not None:
                self.keys, self.key_lengths = self._keys.column()
        for file in (self._values, self._keys):
            if file is not None:
                file.close()
