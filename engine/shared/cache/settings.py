"""
Settings: what the configuration says of the tiers.

Owns the two structs, what follows from them alone, and nothing that changes.

Path: `shared.cache.tiers`, `memory_tier`, `shared_tier` -> here
"""

from __future__ import annotations

import logging

import msgspec
from msgspec import Struct

log = logging.getLogger(__name__)

#: A value of more than this part of a tier is not kept there.
LARGEST_PART = 8


#: How many times its configured size a tier may grow to by auto-tuning.
MOST_GROWN = 4.0


class TierSettings(Struct, frozen=True, kw_only=True):
    """
    One tier's `cache.lN.*`.

    Attributes:
        entries: Most entries; 0: the tier is off.
        ttl: Seconds from receipt for which it holds an entry.
        policy: LRU, LFU or FIFO.
        volume: Most bytes; of L1 in each process.
    """

    entries: int
    ttl: float
    policy: str = "LRU"
    volume: int


class CacheSettings(Struct, frozen=True, kw_only=True):
    """
    `cache.*` that the tiers share.

    Attributes:
        total: Most entries of L2 and L3 together, or None.
        evict: False: a full tier refuses instead.
        threshold, batch: When a pass begins, and how many it drops.
        cleanup: Seconds between sweeps.
        statistics: False: nothing is counted.
        window: Seconds of the hit ratio.
        ratio: Below it the ratio is called low.
        tuning: Seconds between steps of auto-tuning, or None: off.
    """

    total: int | None = None
    evict: bool = True
    threshold: float = 0.8
    batch: int = 100
    cleanup: float = 300.0
    statistics: bool = True
    window: float = 3600.0
    ratio: float = 0.8
    tuning: float | None = None


def passing(cache: CacheSettings, allowed: int, entries: int) -> int:
    """
    How many one pass drops: at most a quarter of the tier, never the last.

    A tier that is full by its bytes is as large as the entries that filled it.
    """
    full = min(allowed, round(entries / cache.threshold))
    return max(1, min(cache.batch, full // 4, entries - 1))


def falling(
    levels: tuple[TierSettings, TierSettings, TierSettings],
) -> tuple[TierSettings, TierSettings, TierSettings]:
    """
    No tier holds longer than the one below it: what leaves it would be gone.

    Source: `cache.l2.ttl.seconds`: a larger upper one is cut, with a warning.
    """
    found = list(levels)
    for level in (1, 0):
        below = next((one for one in found[level + 1 :] if one.entries), None)
        if below is not None and found[level].entries and found[level].ttl > below.ttl:
            log.warning(
                "Cache tier %d holds for %.0f s as the one below it, not %.0f s.",
                level + 1,
                below.ttl,
                found[level].ttl,
            )
            found[level] = msgspec.structs.replace(found[level], ttl=below.ttl)
    return found[0], found[1], found[2]
