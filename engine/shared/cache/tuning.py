"""
Tuning: how many entries a tier may hold, moved by what it sees.

Owns `cache.auto.tuning.*`: one bounded step for each tier and interval, up where the hit
ratio is low and entries had to leave, down where it is not and half the tier is empty.
In the band between the two nothing moves, which keeps it from swinging.

Path: `shared.cache.tiers` -> here -> `memory_tier`, `shared_tier`
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from engine.clock import Clock
from engine.errors import SharedError
from engine.shared.cache.memory_tier import MemoryTier
from engine.shared.cache.ratio import Ratio
from engine.shared.cache.settings import MOST_GROWN, CacheSettings, TierSettings
from engine.shared.cache.shared_tier import SharedTier

log = logging.getLogger(__name__)

#: One step up, one down, and how far down it may go.
GROW, SHRINK = 1.25, 0.9
MOST_SHRUNK = 0.25

#: Occupancy below which a tier may shrink.
HALF = 0.5


class AutoTuning:
    """
    The steps of one process's tiers.

    Args:
        levels: What each tier was configured with.
        cache: What the tiers share; `tuning` is not None.
        ratio: The hit ratio that it goes by.
        l1, shared: The tiers that are there.
    """

    def __init__(
        self,
        levels: Sequence[TierSettings],
        cache: CacheSettings,
        *,
        ratio: Ratio,
        l1: MemoryTier[Any] | None,
        shared: Sequence[SharedTier],
        clock: Clock,
    ) -> None:
        self._levels = levels
        self._interval = cache.tuning or 0.0
        self._wanted = cache.ratio
        self._counts = cache.statistics
        self._ratio = ratio
        self._l1 = l1
        self._shared = shared
        self._monotonic = clock.monotonic
        self._due_at = clock.monotonic() + self._interval

    def tick(self, now: float) -> None:
        """A step if one is due; `now` is monotonic."""
        if now >= self._due_at:
            self._due_at = now + self._interval
            self._tune()

    def _tune(self) -> None:
        lookups, ratio = self._ratio.read()
        if lookups == 0 or not self._counts:
            return
        if self._l1 is not None:
            one = self._l1
            after = self._step(
                1, one.allowed, one.evicted_since, one.occupancy(), ratio
            )
            one.evicted_since = 0
            one.allowed = after or one.allowed
        for tier in self._shared:
            if not tier.usable():
                continue
            evicted, full = tier.evicted_since, tier.occupancy()
            tier.evicted_since = 0

            def change(allowed: int, changed: float) -> int | None:
                # The step of another process counts for all of them.
                since = self._monotonic() - changed
                if 0 <= since < self._interval * 0.9:
                    return None
                return self._step(tier.level, allowed, evicted, full, ratio)  # noqa: B023

            with contextlib.suppress(SharedError, OSError):
                tier.ledger.allow(change)

    def _step(
        self, level: int, allowed: int, evicted: int, full: float, ratio: float
    ) -> int | None:
        """Entries allowed from now on, or None: as before."""
        configured = self._levels[level - 1].entries
        low = ratio < self._wanted
        if low and evicted:
            after = min(round(allowed * GROW), round(configured * MOST_GROWN))
            why = f"hit ratio {ratio:.2f}, {evicted} evicted"
        elif not low and full < HALF:
            after = max(round(allowed * SHRINK), round(configured * MOST_SHRUNK), 1)
            why = f"hit ratio {ratio:.2f}, {full:.0%} full"
        else:
            return None
        if after == allowed:
            return None
        log.info(
            "Cache tier %d may hold %d instead of %d: %s.", level, after, allowed, why
        )
        return after
