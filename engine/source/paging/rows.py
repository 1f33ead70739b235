"""
Rows: the values of a page that compare as they lie there.

Owns the ways to know the smallest and the largest of them, and which lie behind a value,
without reading each: by C, some 60 ns a record.

Path: `source.paging.bookmark` -> here -> `source.paging.values`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.language.instants import form_of, unit_of
from engine.source.paging.values import NUMBER, STRING, TIMESTAMP, Key, Scale, sortable


class ValueRow:
    """
    A page's values where they compare without being read one by one.

    Args:
        values: Texts of one shape, or ints of one unit.
        scale: How they compare.
        largest: The largest of them.
        shape: Of texts that are times, else "".
        unit: Of ints that are times, else 0.

    Attributes:
        high: The key of the largest.
    """

    __slots__ = ("_scale", "_shape", "_unit", "high", "largest", "values")

    def __init__(
        self,
        values: Sequence[Any],
        scale: Scale,
        largest: object,
        high: Key,
        *,
        shape: str = "",
        unit: int = 0,
    ):
        self.values, self.largest, self.high = values, largest, high
        self._scale, self._shape, self._unit = scale, shape, unit

    @property
    def place(self) -> int:
        """Where the largest stands."""
        return self.values.index(self.largest)

    @property
    def low(self) -> Key:
        """The key of the smallest; looked for anew each time."""
        found = self._scale.key(min(self.values))
        assert found is not None
        return found

    def behind(self, threshold: Key) -> list[int]:
        """The places of those whose keys are at or behind one."""
        least = self._least(threshold)
        values = self.values
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
        if self._unit:
            assert isinstance(threshold, int)
            return threshold // self._unit
        if self._shape:
            assert isinstance(threshold, int)
            return form_of(self.largest, self._scale.zone).write(threshold)
        return threshold


def row_of(scale: Scale, values: list[object]) -> ValueRow | None:
    """The values of a page, where all of them compare as they lie there."""
    first = values[0]
    if type(first) is str:
        if scale.kind == STRING:
            if any(type(each) is not str or each == "" for each in values):
                return None
            largest = str(max(values))  # type: ignore[type-var]
            return ValueRow(values, scale, largest, largest)
        if scale.kind not in ("", TIMESTAMP) or scale.pattern is not None:
            return None
        shape = sortable(values)
        if not shape:
            return None
        newest = max(values)  # type: ignore[type-var]
        # A day that is none stands at either end.
        keys = scale.key(min(values)), scale.key(newest)  # type: ignore[type-var]
        if not isinstance(keys[0], int) or not isinstance(keys[1], int):
            return None
        return ValueRow(values, scale, newest, keys[1], shape=shape)
    if type(first) is int and scale.kind in ("", NUMBER, TIMESTAMP):
        if set(map(type, values)) != {int}:
            return None
        low, high = min(values), max(values)  # type: ignore[type-var]
        assert isinstance(low, int) and isinstance(high, int)
        key = scale.key(high)
        if key is None:
            return None
        unit = 0
        if scale.kind == TIMESTAMP:
            unit = unit_of(low)
            if low < 0 or unit != unit_of(high):
                return None
        return ValueRow(values, scale, high, key, unit=unit)
    return None
