"""
Window: which offset of a shard is safe to save, and how much may be in flight.

Owns the order of hand-overs and the count of bytes.  Knows nothing of Kafka,
files or time: it is told what was handed over and what was answered, and is
asked for the mark.

Path: `sink.outlet` keeps a window for each shard, `sink.commit` one budget for the task.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition
from typing import Any

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.records import Offset, Page
from engine.seams import Stopping

#: Seconds between two looks at the stop flag while waiting for room.
LOOK = 0.2

#: Who waited for room goes on when one part in so many of the budget is free:
#: going on at each acknowledgement, page by page, would cost two switches of
#: threads a batch while the broker is what is slow.
EASED = 4


class HandOver(Struct, eq=False):
    """
    One hand-over: a page on its way.

    Attributes:
        offset: Holds once the page is delivered.
        open: Batches with records of the page, not yet acknowledged; the
            window's owner counts one more while the page is being cut.
        acknowledged: To be called by its shard's thread after that, or None.
        delivered: To be called when nothing of the page is open, see `Parcel`.
        size: Bytes of its records.
        index: Place of the page in its poll.
        indexes: Where each record stood in the page, None for at its own place.
        page: The page itself, where its records may be wanted again.
        group: The transaction it is in, and its outlet; None without.
    """

    offset: Offset
    open: int = 1
    acknowledged: Callable[[], None] | None = None
    delivered: list[Callable[[float], None]] = []
    size: int = 0
    index: int = 0
    indexes: Sequence[int] | None = None
    page: Page | None = None
    group: Any = None
    outlet: Any = None


class Window:
    """
    The hand-overs of one shard in order, answered for in any order.

    Not for several threads.

    Attributes:
        size: Bytes of the pages past the mark, acknowledged or not.
    """

    def __init__(self) -> None:
        self.size = 0
        self._entries: deque[HandOver] = deque()

    def add(self, entry: HandOver) -> None:
        """A page is handed over."""
        self._entries.append(entry)
        self.size += entry.size

    def close_one(self, entry: HandOver) -> bool:
        """
        One batch of the page is acknowledged, or the page is cut up.

        Returns: True if nothing of the page is open any more.
        """
        entry.open -= 1
        return not entry.open

    def mark(self) -> Offset | None:
        """
        The newest offset with nothing open before it, once.

        Returns: None if it has not moved since the last call.
        """
        found: Offset | None = None
        entries = self._entries
        while entries and not entries[0].open:
            entry = entries.popleft()
            self.size -= entry.size
            found = entry.offset
        return found

    def __len__(self) -> int:
        return len(self._entries)


class Budget:
    """
    The bytes a task may hold: pages queued, and batches not acknowledged.

    One for all shards of a task, safe to use from several threads.  Queues
    `acquire` and `release` and get at most half, since a queue that took all
    would leave nothing for the batches that its pages become; the delivery
    takes and gives.

    Attributes:
        limit: Bytes, `producer.buffer.memory`.
        waited: Seconds spent waiting for room so far.
    """

    def __init__(self, limit: int, *, clock: Clock = SYSTEM) -> None:
        self.limit = limit
        self.waited = 0.0
        self._clock = clock
        self._queued = 0
        self._sent = 0
        self._changed = Condition()

    @property
    def used(self) -> int:
        """Bytes held at this moment."""
        return self._queued + self._sent

    def acquire(self, size: int, stopping: Stopping) -> bool:
        """
        Take room for a page that waits in a queue.

        A page larger than the whole budget has room when nothing else is held,
        else it would wait for ever.

        Returns: False if stopping came first; nothing is taken then.
        Blocks: until enough is given back; beats and looks at `stopping`.
        """
        with self._changed:
            if self._queue(size):
                return True
        began = self._clock.monotonic()
        try:
            while not stopping.wait(0.0):
                with self._changed:
                    if self._queue(size):
                        return True
                    self._changed.wait(LOOK)
            return False
        finally:
            self.waiting(self._clock.monotonic() - began)

    def release(self, size: int) -> None:
        """Give back what was acquired; never blocks."""
        with self._changed:
            self._queued -= size
            self._changed.notify_all()

    def take(self, size: int, spare: int = 0, *, others: int = -1) -> bool:
        """
        Take room for records on their way, if there is any; never blocks.

        There always is when no other records are on their way: only their
        acknowledgement gives room, so that waiting without any would not end.

        Args:
            spare: Bytes that are to stay free behind it.
            others: Bytes that who asks has taken already, if others may ask, too:
                then nobody may hold more than twice of what is left, so that one
                whose records are not acknowledged leaves room for the others.
        """
        with self._changed:
            if self._sent and self.used + size + spare > self.limit:
                return False
            if others > 0 and others + size > 2 * (self.limit - self.used):
                return False
            self._sent += size
            return True

    def overdraw(self, size: int) -> None:
        """Take room for records that others' room waits for, whether there is any."""
        with self._changed:
            self._sent += size

    @property
    def eased(self) -> bool:
        """True if whoever waited for room may look: `EASED` of it is free."""
        return not self._sent or self.used <= self.limit - self.limit // EASED

    def give(self, size: int) -> None:
        """Give back what was taken; never blocks."""
        with self._changed:
            self._sent -= size
            self._changed.notify_all()

    def waiting(self, seconds: float) -> None:
        """Count seconds of waiting."""
        with self._changed:
            self.waited += seconds

    def _queue(self, size: int) -> bool:
        half = not self._queued or self._queued + size <= self.limit // 2
        if self.used and not (half and self.used + size <= self.limit):
            return False
        self._queued += size
        return True
