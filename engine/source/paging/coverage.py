"""
Coverage: which pages of an api the shards of other counts have done.

Owns the reading of their stored offsets after a change of `tasks.max`: what was
delivered under another count is not asked for again.

Path: `source.paging.by_number` -> here
"""

from __future__ import annotations

import math

from msgspec import Struct

from engine.errors import StateError
from engine.records import Offset
from engine.source.paging.pager import Others
from engine.source.paging.position import whole


class _Mark(Struct, frozen=True):
    """How far a shard of some count came: a stored offset, read."""

    index: int
    count: int
    poll: int
    done: bool
    number: int | None
    size: int | None

    @property
    def next_poll(self) -> int:
        return self.poll + 1 if self.done else self.poll


class Coverage:
    """
    What shards of other counts did before: the union of their pages.

    Page p of a poll is done if the shard that p fell to, in any of the
    counts, has gone beyond it.

    Attributes:
        poll: The first poll that is not known to be finished.
        size: Records in a cell of its grid, or None: nothing is done of it.
    """

    def __init__(self, others: Others, *, field: str, base: int, limit: int):
        self._field = field
        self._base = base
        self._marks = [self._read(*other) for other in others]
        self.poll = self._current()
        sizes = [
            mark.size
            for mark in self._marks
            if mark.poll == self.poll and mark.number is not None
        ]
        self.size = next((size for size in sizes if size), limit) if sizes else None
        numbers = [mark.number for mark in self._marks if mark.number is not None]
        #: The furthest place of any shard.
        self.furthest = max(numbers, default=0)
        #: After so many pages the pattern of finished shards repeats.
        self.period = math.lcm(*(mark.count for mark in self._marks))

    def _read(self, index: int, count: int, offset: Offset) -> _Mark:
        done = offset.get("done", False)
        if not isinstance(done, bool):
            raise StateError(f"the stored offset's done is {done!r}: not a bool")
        known = self._field in offset
        if not known and not done:
            raise StateError(f"the stored offset has no {self._field}")
        return _Mark(
            index,
            count,
            whole(offset, "poll", 1, least=1),
            done,
            whole(offset, self._field) if known else None,
            whole(offset, "size", least=1) if "size" in offset else None,
        )

    def _current(self) -> int:
        """The first poll that is not known to be finished."""
        families: dict[int, list[_Mark]] = {}
        for mark in self._marks:
            families.setdefault(mark.count, []).append(mark)
        if not families:
            return 1
        whole_ones = [
            min(mark.next_poll for mark in marks)
            for count, marks in families.items()
            if len(marks) == count
        ]
        if whole_ones:
            return max(whole_ones)
        # A shard without a state had no page in that poll, or never came to it.
        return min(mark.poll for mark in self._marks)

    def reach(self, poll: int, index: int, start: int, end: int) -> int:
        """
        How far a page has been read.

        Args:
            start, end: Its place, and that of the page behind it.

        Returns: From `start`: nothing of it, to `end`: all of it.
        """
        reached = start
        for mark in self._marks:
            if index % mark.count != mark.index or mark.poll < poll:
                continue
            if mark.poll > poll or mark.done:
                return end
            if mark.number is not None:
                reached = max(reached, min(mark.number, end))
        return reached
