"""
Columns: what a slice of a page has become so far.

Owns the lists in which a record is a row, and what keeps their rows together:
leaving some out, adding those of another slice, putting them in order.

Path: `compile`, `loops` -> here
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from engine.errors import RecordError
from engine.records import KafkaHeaders, picked

#: The columns that are there only where records differ in them.
OPTIONAL: Final = ("topics", "keys", "stamps", "headers", "marks")


class Columns:
    """
    What a slice has become so far, a list for each column.

    Attributes:
        indexes: Each record's place in its page.
        values: JSON text, or values where the converter wants them.
        topics, keys, stamps, headers, marks: One each, or None: all the same
            (`marks`, what de-duplication compares: not asked for).
        filtered: (index, rule) of records that a filter left out.
        bad: (index, what is wrong).
        added: Records beyond those received.
        alike: All values are dicts of the same names and types, in order.
        lengths, key_lengths: Of values and keys as they are now, where they are known;
            else None.
    """

    __slots__ = (
        "added",
        "alike",
        "bad",
        "filtered",
        "indexes",
        "key_lengths",
        "lengths",
        "values",
        *OPTIONAL,
    )

    def __init__(
        self, topics: bool, keys: bool, stamps: bool, headers: bool, marks: bool
    ):
        self.indexes: Sequence[int] = []
        # Lists while they grow.
        self.values: Any = []
        self.topics: list[str] | None = [] if topics else None
        self.keys: Any = [] if keys else None
        self.stamps: list[int] | None = [] if stamps else None
        self.headers: list[KafkaHeaders] | None = [] if headers else None
        self.marks: list[bytes] | None = [] if marks else None
        self.filtered: list[tuple[int, str]] = []
        self.bad: list[tuple[int, RecordError]] = []
        self.added = 0
        self.alike = False
        self.lengths: Sequence[int] | None = None
        self.key_lengths: Sequence[int] | None = None

    def empty(self) -> Columns:
        """The same columns without rows."""
        return Columns(*(getattr(self, name) is not None for name in OPTIONAL))

    def keep(self, places: Sequence[int]) -> None:
        """Leave only the rows at these places, in the order of the places."""
        self.lengths = self.key_lengths = None
        self.indexes = [self.indexes[at] for at in places]
        self.values = picked(self.values, places)
        for name in OPTIONAL:
            column = getattr(self, name)
            if column is not None:
                setattr(self, name, picked(column, places))

    def extend(self, other: Columns) -> None:
        """Put another slice's rows, of the same columns, behind these."""
        self.lengths = _both(self.lengths, other.lengths)
        self.key_lengths = _both(self.key_lengths, other.key_lengths)
        self.indexes = _joined(self.indexes, other.indexes)
        self.values = [*self.values, *other.values]
        for name in OPTIONAL:
            column = getattr(self, name)
            if column is not None:
                column += getattr(other, name)
        self.filtered += other.filtered
        self.bad += other.bad
        self.added += other.added
        self.alike = False

    def sort(self) -> None:
        """Put the rows in the order of their page."""
        order = sorted(range(len(self.values)), key=self.indexes.__getitem__)
        if order != list(range(len(order))):
            self.keep(order)


def _both(one: Sequence[int] | None, two: Sequence[int] | None) -> Sequence[int] | None:
    return None if one is None or two is None else [*one, *two]


def _joined(first: Sequence[int], second: Sequence[int]) -> Sequence[int]:
    """Places, in numbers of their own only where some are left out."""
    if not first or not second:
        return first or second
    both = isinstance(first, range) and isinstance(second, range)
    if both and first[-1] + 1 == second[0]:
        return range(first[0], second[-1] + 1)
    return [*first, *second]
