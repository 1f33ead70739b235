"""
Rows: the values of a page that compare as they lie there.

Owns the ways to know the smallest and the largest of them, and which lie behind a value,
without reading each: by C, some 60 ns a record, 20 where they stand in order.

Path: `source.paging.bookmark` -> here -> `source.paging.values`
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from msgspec import Struct

from engine.language.instants import form_of, unit_of
from engine.source.paging.values import NUMBER, STRING, TIMESTAMP, Key, Scale, sortable


class ValueRow:
    """
    A page's values where they compare without being read one by one.

    Args:
        values: Texts of one shape, or ints of one unit.
        ends: Their ends.
        scale: How they compare.
        low, high: The keys of the smallest and of the largest.
        shape: Of texts that are times, else "".
        unit: Of ints that are times, else 0.

    Attributes:
        largest: The largest of them.
    """

    __slots__ = (
        "_ends",
        "_scale",
        "_shape",
        "_unit",
        "high",
        "largest",
        "low",
        "values",
    )

    def __init__(
        self,
        values: Sequence[Any],
        ends: Ends,
        scale: Scale,
        low: Key,
        high: Key,
        *,
        shape: str = "",
        unit: int = 0,
    ):
        self.values, self.low, self.high = values, low, high
        self.largest = ends.largest
        self._ends, self._scale, self._shape, self._unit = ends, scale, shape, unit

    @property
    def place(self) -> int:
        """Where the largest stands, the first of several."""
        if self._ends.falls:
            return 0
        if self._ends.rises:
            return bisect_left(self.values, self.largest)
        return self.values.index(self.largest)

    def key(self, at: int) -> Key | None:
        """What the value at a place is compared by."""
        value = self.values[at]
        return self.high if value == self.largest else self._scale.key(value)

    def holds(self, *, down: bool) -> bool:
        """True if each stands at or behind the one before, or before it if `down`."""
        return self._ends.falls if down else self._ends.rises

    def behind(self, threshold: Key) -> Sequence[int]:
        """The places of those whose keys are at or behind one."""
        least = self._least(threshold)
        values = self.values
        if self._ends.rises:
            return range(bisect_left(values, least), len(values))
        if self._ends.falls:
            return range(len(list(takewhile(least.__le__, values))))
        if least != self.largest:
            return [at for at, value in enumerate(values) if value >= least]
        # Mostly it is the largest alone.
        places, at = [], -1
        for _ in range(values.count(least)):
            at = values.index(least, at + 1)
            places.append(at)
        return places

    def _least(self, threshold: Key) -> Any:
        """A value behind which all of these lie that are at or behind a key."""
        if threshold == self.high:
            # Hot path: nothing is written as they are, 15 us a page.
            return self.largest
        if self._unit:
            assert isinstance(threshold, int)
            return threshold // self._unit
        if self._shape:
            assert isinstance(threshold, int)
            return form_of(self.largest, self._scale.zone).write(threshold)
        return threshold


class Ends(Struct, frozen=True):
    """
    The ends of some values of one type.

    Attributes:
        rises, falls: Each stands at or behind the one before; at or before it.
    """

    smallest: Any
    largest: Any
    rises: bool = False
    falls: bool = False


def ends_of(values: list[Any]) -> Ends:
    """The ends of at least one value; all are texts, or all are ints."""
    first, middle, last = values[0], values[len(values) // 2], values[-1]
    # Hot path: values in order are sorted in one pass, 17 ns each, which tells all that
    # is asked of them; others would take 200, so that three of them are looked at before.
    if first <= middle <= last and sorted(values) == values:
        return Ends(first, last, rises=True, falls=first == last)
    if first >= middle >= last and sorted(values, reverse=True) == values:
        return Ends(last, first, falls=True)
    return Ends(min(values), max(values))


def row_of(scale: Scale, values: list[object]) -> ValueRow | None:
    """The values of a page, where all of them compare as they lie there."""
    first = values[0]
    if type(first) is str:
        if scale.kind == STRING:
            if set(map(type, values)) != {str} or "" in values:
                return None
            ends = ends_of(values)
            return ValueRow(values, ends, scale, ends.smallest, ends.largest)
        if scale.kind not in ("", TIMESTAMP) or scale.pattern is not None:
            return None
        shape = sortable(values)
        if not shape:
            return None
        ends = ends_of(values)
        # A day that is none stands at either end.
        oldest, newest = scale.key(ends.smallest), scale.key(ends.largest)
        if not isinstance(oldest, int) or not isinstance(newest, int):
            return None
        return ValueRow(values, ends, scale, oldest, newest, shape=shape)
    if type(first) is int and scale.kind in ("", NUMBER, TIMESTAMP):
        if set(map(type, values)) != {int}:
            return None
        ends = ends_of(values)
        high = scale.key(ends.largest)
        if high is None:
            return None
        unit = 0
        if scale.kind == TIMESTAMP:
            unit = unit_of(ends.smallest)
            if ends.smallest < 0 or unit != unit_of(ends.largest):
                return None
        low = scale.key(ends.smallest)
        assert low is not None
        return ValueRow(values, ends, scale, low, high, unit=unit)
    return None
