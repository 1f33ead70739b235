"""
By page: pages addressed by their number.

Owns what a page's number says of how much has come, and is to come.

Path: `source.paging.paginator` -> here -> `source.paging.by_number`
"""

from __future__ import annotations

from typing import Final

from engine.records import Request
from engine.source.paging.by_number import NumberPager
from engine.source.paging.of_type import TypePager


class PagePager(NumberPager):
    """Pages addressed by their number."""

    TYPE = "page"

    @property
    def _least(self) -> int:
        return self._plan.paging.page_start

    def _request(self, number: int, index: int) -> Request:
        return self._start(index, offset=number, page=number, last=self._ledger.last)

    def _index_of(self, number: int) -> int:
        return number - self._base

    def _number_of(self, index: int) -> int:
        return self._base + index

    def _after(self, number: int) -> int | None:
        return self._place(self._index_of(number) + 1)

    def _behind(self, number: int, count: int) -> int | None:
        return self._place(self._index_of(number) + 1)

    @property
    def _skipped(self) -> tuple[int, bool]:
        start = self._plan.paging.page_start
        if start < 2:
            return max(self._base - start, 0), True
        return max(self._base - 1, 0), False

    def _suppose(self, number: int, index: int) -> None:
        totals, skipped = self._ledger.totals, self._skipped[0]
        totals.received = (index + skipped) * (self._size or self._plan.paging.limit)
        totals.pages = index + skipped - 1

    def _count_up(self, number: int, index: int, count: int) -> None:
        totals, skipped = self._ledger.totals, self._skipped[0]
        size = self._size or count
        if self._grid:
            totals.received = (index + skipped) * size + count
        elif skipped and not self._ledger.index and self._fresh:
            totals.received += skipped * size
        totals.pages = index + skipped + 1

    def _bound_by(self, number: int) -> int | None:
        totals = self._ledger.totals
        if totals.all_pages is not None:
            return self._base - self._skipped[0] + totals.all_pages
        if totals.records is None:
            return None
        left = max(totals.records - totals.received, 0)
        return number + 1 + -(-left // max(self._full, 1))


PAGERS: Final[tuple[type[TypePager], ...]] = (PagePager,)
