"""
Ratio: hits of lookups over a sliding window.

Path: `shared.cache.tiers` -> here
"""

from __future__ import annotations

import logging

from engine.clock import SYSTEM, Clock

log = logging.getLogger(__name__)

#: Buckets of the statistics window.
BUCKETS = 60


class Ratio:
    """
    Hits of lookups over a sliding window.

    Args:
        window: Seconds, in 60 buckets.
    """

    def __init__(self, window: float, *, clock: Clock = SYSTEM) -> None:
        self._width = window / BUCKETS
        self._monotonic = clock.monotonic
        self._hits = [0] * BUCKETS
        self._all = [0] * BUCKETS
        self._numbers = [-1] * BUCKETS

    def count(self, *, hit: bool) -> None:
        """One lookup; a hit needed no body from the API."""
        number = int(self._monotonic() / self._width)
        place = number % BUCKETS
        if self._numbers[place] != number:
            self._numbers[place] = number
            self._hits[place] = self._all[place] = 0
        self._all[place] += 1
        self._hits[place] += hit

    def read(self) -> tuple[int, float]:
        """(lookups in the window, ratio); 1.0 where there were none."""
        now = int(self._monotonic() / self._width)
        inside = [p for p, n in enumerate(self._numbers) if now - BUCKETS < n <= now]
        lookups = sum(self._all[p] for p in inside)
        hits = sum(self._hits[p] for p in inside)
        return lookups, hits / lookups if lookups else 1.0
