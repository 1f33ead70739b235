"""
Worth: whether pages that are fetched ahead bring anything.

Owns how many requests a task has under way beside those that its shards wait for.
Fetching ahead is for what an API takes to answer; where the process itself is what
is busy, one more thread only takes the interpreter from the others, and each page
pays for two switches between them.  So it goes by the share of the time in which
the process computes, or would if the machine let it: the fewest requests with which
it does all the time.

Path: `source.prefetch` asks here
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from engine.clock import SYSTEM, Clock, process_cpu
from engine.observe.machine import queued

#: Seconds between two looks; where nothing is asked ahead; and those after which
#: what was seen is of no use.
SPAN: Final = 0.03
CALM_SPAN: Final = 0.1
STALE: Final = 1.0

#: Shares of a core: from the one on the process is busy, below the other it waits.
BUSY: Final = 0.8
WAITS: Final = 0.6

#: Part of its share that is left where fewer requests are enough.
KEPT: Final = 0.9

#: Seconds until fewer requests are tried again where they were too few, at first
#: and at most.
SOON: Final = 0.2
LATE: Final = 60.0


class PrefetchWorth:
    """
    Under the lock of who asks, but for `due` and `ahead`.

    Args:
        most: Requests under way at most, whoever waits for them.
        spent: CPU seconds of the process.
        held_up: Seconds that its threads have waited for a processor.

    Attributes:
        ahead: How many requests may be under way that no shard waits for.
    """

    def __init__(
        self,
        most: int,
        *,
        spent: Callable[[], float] = process_cpu,
        held_up: Callable[[], float] = queued,
        clock: Clock = SYSTEM,
    ) -> None:
        self.ahead = most
        self._most = most
        self._spent_now = spent
        self._held_up_now = held_up
        self._now = clock.monotonic
        self._since = self._spent = 0.0
        #: At the last look, None where it was not asked for.
        self._held_up: float | None = None
        #: How many there were before fewer were tried, and the share then.
        self._tried: tuple[int, float] | None = None
        self._pause = SOON
        self._lower_at = 0.0

    def begin(self) -> None:
        """The first of the polls begins: what was before tells nothing."""
        self._since, self._spent = self._now(), self._spent_now()
        self._held_up = None

    @property
    def due(self) -> bool:
        """True if it is time to look; may be asked all the time."""
        return self._now() - self._since >= (SPAN if self.ahead else CALM_SPAN)

    def look(self, shards: int) -> None:
        """
        See what the last moments were like.

        Args:
            shards: That poll now, each with a request of its own under way or one
                page in hand.
        """
        now, spent = self._now(), self._spent_now()
        took = now - self._since
        share = (spent - self._spent) / max(took, 1e-9)
        self._since, self._spent = now, spent
        if not SPAN / 2 <= took <= STALE:
            self._held_up = None
            return
        if share < BUSY:
            # On a busy machine it computes less than it would.
            before, self._held_up = self._held_up, self._held_up_now()
            if before is None:
                return
            share += max(0.0, self._held_up - before) / took
        else:
            self._held_up = None
        self._judge(share, shards, now)

    def _judge(self, share: float, shards: int, now: float) -> None:
        tried, self._tried = self._tried, None
        if tried is not None and share < KEPT * min(tried[1], 1.0):
            # With fewer it waits: not again for a while.
            self.ahead = tried[0]
            self._lower_at = now + self._pause
            self._pause = min(2 * self._pause, LATE)
        elif share >= BUSY:
            if tried is not None:
                self._pause = SOON
            if self.ahead and now >= self._lower_at:
                self._tried = self.ahead, share
                self.ahead //= 2
        elif share < WAITS:
            # As many times as many as the share is below the whole.
            flying = min(shards + self.ahead, self._most)
            wanted = math.ceil(flying / max(share, 0.01)) - shards
            self.ahead = max(self.ahead, min(max(wanted, 1), self._most))
