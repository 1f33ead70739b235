"""
Spooled: what the records of a page too large for memory have become, kept in files.

Owns which columns are; all of a page must be changed before any of it is produced.

Path: `transform.page` puts slices here -> `columnfile` -> `sink` reads them in order
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

from engine.columnfile import ColumnFile
from engine.transform.columns import OPTIONAL, Columns


class LargeColumns(Columns):
    """
    The columns of a large page: values and keys are in files.

    Neither is there before the end of its context.

    Args:
        first: Its first slice, which says what columns there are; emptied.
    """

    __slots__ = ("_files", "_keys", "_values")

    def __init__(self, first: Columns):
        super().__init__(*(getattr(first, name) is not None for name in OPTIONAL))
        self._files = ExitStack()
        self._values = self._files.enter_context(ColumnFile())
        self._keys: ColumnFile | None = None
        if first.keys is not None:
            self._keys = self._files.enter_context(ColumnFile())
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
        with self._files:
            if failed != (None, None, None):
                return
            self.values, self.lengths = self._values.column()
            if self._keys is not None:
                self.keys, self.key_lengths = self._keys.column()
