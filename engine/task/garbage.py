"""
Garbage: when the interpreter looks for rings of objects that nobody reaches.

Owns the moment: between two pages, and about twice a second while none come, at most
each `PAUSE` unless much is there; never in the middle of a page, whose thousands of
objects would be looked at again and again and are all still needed.  What was there
before, the engine's own code and objects, is frozen and never looked at.

Path: ``task.run`` begins it, ``task.flow`` and it call here
"""

from __future__ import annotations

import gc

from engine.clock import SYSTEM, Clock

#: Seconds between two collections.  Each looks at all that is on its way: with five
#: shards one behind each page was 7 % of what the interpreter did.
PAUSE = 0.05

#: How many times the interpreter's own number of new objects waits for no pause.
MANY = 20


def begin() -> None:
    """From here on only `between_pages` collects, in the whole process."""
    gc.disable()


def freeze() -> None:
    """What is there now stays: no collection looks at it again."""
    gc.collect()
    gc.freeze()


class GarbageCollector:
    """Collects for all threads of a process; one too many between two of them is no harm."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._not_before = 0.0

    def between_pages(self) -> None:
        """
        Collect as far as the interpreter would have by itself.

        Blocks: next to nothing, unless much is there to be looked at.
        """
        counts, limits = gc.get_count(), gc.get_threshold()
        if counts[0] <= limits[0]:
            return
        now = self._clock.monotonic()
        if now < self._not_before and counts[0] <= limits[0] * MANY:
            return
        self._not_before = now + PAUSE
        oldest = 0
        while oldest < 2 and counts[oldest + 1] >= limits[oldest + 1]:
            oldest += 1
        gc.collect(oldest)


between_pages = GarbageCollector().between_pages
