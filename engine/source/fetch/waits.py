"""
Waits: for how long a shard was kept from asking, and by what.

Owns the sums, by cause: our own limit, what the host demands, an open breaker.
Requests that wait beside each other for the same wait once: the sums are time
of the shard, and a second a second is all there is.  Whoever waits tells it;
it neither waits nor decides.

Path: `source.fetch` (RateGate, Guarded) -> here -> ``task.metering``
"""

from __future__ import annotations

import threading
from collections import defaultdict

from engine.clock import SYSTEM, Clock

#: The cause that is an open breaker; the others are the limiter's.
BREAKER = "breaker"


class Waits:
    """The waiting times of one shard, by cause; any thread may add to them."""

    def __init__(self, clock: Clock = SYSTEM):
        self._clock = clock
        # Requests of one shard wait on several threads. Guards a sum and the time up to which it
        # reaches together: two that ended at once would else count the same seconds twice.
        self._lock = threading.Lock()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        #: Up to when the time of a cause is added up.
        self._until: defaultdict[str, float] = defaultdict(float)
        #: The part of an open breaker's time that is not added up yet.
        self._shut_since = self._shut_until = 0.0
        self._held: tuple[str, float] = ("", 0.0)

    def holding(self, cause: str, until: float) -> None:
        """A request begins to wait, up to a monotonic time."""
        self._held = cause, until

    @property
    def held(self) -> tuple[str, float]:
        """What the last request waited for, and up to which monotonic time."""
        return self._held

    def add(self, cause: str, began: float, ended: float) -> None:
        """A request has waited, between two monotonic times."""
        with self._lock:
            self._seconds[cause] += max(0.0, ended - max(began, self._until[cause]))
            self._until[cause] = max(ended, self._until[cause])

    def shut(self, seconds: float) -> None:
        """A poll was given up: no request goes for so long, whenever it is due."""
        with self._lock:
            now = self._pass()
            self._shut_since = now
            self._shut_until = max(self._shut_until, now + seconds)

    def read(self) -> dict[str, float]:
        """Seconds so far, by cause."""
        with self._lock:
            self._pass()
            return dict(self._seconds)

    def _pass(self) -> float:
        """Add up what has passed of a breaker's time."""
        now = self._clock.monotonic()
        passed = min(now, self._shut_until) - self._shut_since
        if passed > 0:
            self._seconds[BREAKER] += passed
            self._shut_since += passed
        return now
