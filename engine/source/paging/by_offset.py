"""
By offset: pages addressed by the place of their first record.

Owns what a place is of a grid that shards share, and where a page's records end.

Path: `source.paging.paginator` -> here -> `source.paging.by_number`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Raw

from engine.records import Request, picked
from engine.source.paging.by_number import NumberPager
from engine.source.paging.of_type import TypePager


class OffsetPager(NumberPager):
    """Pages addressed by the place of their first record."""

    TYPE = "offset"

    @property
    def _least(self) -> int:
        return 0

    @property
    def _step(self) -> int:
        """Records between the places of two pages of a grid."""
        return self._size or self._plan.paging.limit

    def _request(self, number: int, index: int) -> Request:
        return self._start(index, offset=number, last=self._ledger.last)

    def _index_of(self, number: int) -> int:
        if not self._grid:
            return self._ledger.index
        return (number - self._base) // self._step

    def _asked_index(self, number: int) -> int:
        index = self._index_of(number)
        return index if self._grid else index + len(self._pending)

    def _number_of(self, index: int) -> int:
        return self._base + index * self._step

    def _after(self, number: int) -> int | None:
        if not self._grid:
            return number + (self._size or self._full)
        return self._place(self._index_of(number) + 1)

    def _behind(self, number: int, count: int) -> int | None:
        if not self._grid:
            return number + (count or self._size or self._full)
        index = self._index_of(number)
        if 0 < count and number + count < self._number_of(index + 1):
            return number + count
        return self._place(index + 1)

    @property
    def _skipped(self) -> tuple[int, bool]:
        # An api that counts from 1 has left out none.
        return max(self._base - 1, 0), self._base < 2

    def _suppose(self, number: int, index: int) -> None:
        totals = self._ledger.totals
        totals.received = number - self._base + self._skipped[0]
        totals.pages = index - 1

    def _count_up(self, number: int, index: int, count: int) -> None:
        totals = self._ledger.totals
        # The base is no record: an api that counts from 1 has sent none yet.
        totals.received = number - self._base + self._skipped[0] + count
        if self._grid:
            totals.pages = index + 1

    def _bound_by(self, number: int) -> int | None:
        totals = self._ledger.totals
        if totals.all_pages is not None or totals.records is None:
            return None
        return totals.records + min(self._base, 1)

    def _within(self, number: int, records: Sequence[Raw]) -> tuple[Sequence[Raw], int]:
        room = self._number_of(self._index_of(number) + 1) - number
        over = len(records) - room
        return (picked(records, range(room)), over) if over > 0 else (records, 0)


PAGERS: Final[tuple[type[TypePager], ...]] = (OffsetPager,)
