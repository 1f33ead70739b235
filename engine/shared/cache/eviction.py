"""
Eviction: who leaves a shared tier that is full, and where it goes.

Owns the passes over L2 and L3: what leaves L2 moves to L3, what leaves L3 is gone, and
both together hold no more than `cache.response.max.size`.  One process at a time makes a
pass, on a thread of its own where it is asked to.

Path: `shared.cache.tiers` -> here -> `shared_tier`
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence

from engine.errors import SharedError
from engine.shared.cache.flights import Flight, Flights
from engine.shared.cache.ledger import Line
from engine.shared.cache.owed import ENOUGH, IN_ONE_GO
from engine.shared.cache.settings import CacheSettings
from engine.shared.cache.shared_tier import SharedTier


class Eviction:
    """
    The passes over the shared tiers of one cache.

    Args:
        tiers: L2 and L3, those that are there, L2 first.
        agreed: The processes' agreement on who makes a pass.
        background: A thread of this object's own makes them, begun at first need,
            instead of whoever stores.
        gone: Told of a key that has left every shared tier for the total.
    """

    def __init__(
        self,
        tiers: Sequence[SharedTier],
        cache: CacheSettings,
        *,
        agreed: Flights,
        background: bool,
        gone: Callable[[str], None],
    ) -> None:
        self._tiers = tiers
        self._cache = cache
        self._agreed = agreed
        self._background = background
        self._gone = gone
        # Wakes the mover's thread. It is cleared before the pass and not after it: what crowds a
        # tier during a pass sets it again and gets a pass of its own.
        self._crowd = threading.Event()
        self._mover_pid = 0

    def lead(self) -> Flight | None:
        """The right to move entries, or None: another process does."""
        return self._agreed.lead("0" * 32)

    def lower(self, tier: SharedTier, key: str) -> None:
        """What leaves L2 moves to L3, what leaves L3 is gone."""
        below = self._tiers[-1]
        if tier.level == 2 and below.level == 3:
            got = tier.read(key)
            if got is not None:
                below.put(key, got[0], got[1])
        tier.drop(key)

    def lower_all(
        self, tier: SharedTier, lines: Sequence[Line], patience: float = 0.0
    ) -> None:
        """The same for many, in one go: what is large of them lies together then."""
        below = self._tiers[-1]
        if tier.level != 2 or below.level != 3:
            tier.drop_all([line.digest.hex() for line in lines])
            return
        for some in _in_hand(lines):
            keys = [line.digest.hex() for line in some]
            found = ((key, tier.read(key)) for key in keys)
            below.put_all(
                [(key, got[0], got[1]) for key, got in found if got], patience
            )
            gone = tier.drop_all(keys, [line.stored for line in some])
            for key, went in zip(keys, gone, strict=True):
                if not went:
                    # Somebody kept or dropped it meanwhile: an older one must not
                    # come up.
                    below.strike(key)

    def make_room(self) -> None:
        """Begin a pass where a tier is full enough."""
        cache = self._cache
        if not cache.evict:
            return
        crowded = any(tier.fullness >= cache.threshold for tier in self._tiers)
        if not crowded and cache.total is None:
            return
        if not self._background:
            self._pass()
            return
        # A thread does not live through a fork: each process has its own.
        if self._mover_pid != os.getpid():
            self._mover_pid = os.getpid()
            self._crowd = threading.Event()
            mover = threading.Thread(target=self._move, name="cache-mover", daemon=True)
            mover.start()
        self._crowd.set()

    def _move(self) -> None:
        """The mover's thread: a pass whenever somebody found a tier crowded."""
        while True:
            self._crowd.wait()
            self._crowd.clear()
            self._pass()

    def _pass(self) -> None:
        """Move and drop until no tier is crowded; one process at a time."""
        flight = self.lead()
        if flight is None:
            return
        try:
            for tier in self._tiers:
                tier.fullness = 0.0
                while tier.usable() and (lines := tier.leaving()):
                    self.lower_all(tier, lines)
                    tier.evictions += len(lines)
                    tier.evicted_since += len(lines)
            if self._cache.total is not None:
                self.hold_total(self._cache.total)
        finally:
            flight.land()

    def hold_total(self, total: int) -> None:
        """Drop what both tiers hold beyond so many entries; for who has the lead."""
        excess = sum(tier.totals()[0] for tier in self._tiers) - total
        for tier in reversed(self._tiers):
            if excess <= 0:
                return
            with contextlib.suppress(SharedError, OSError):
                policy = tier.settings.policy
                lines = tier.ledger.first_to_leave(excess, policy)
                keys = [line.digest.hex() for line in lines]
                tier.drop_all(keys)
                for key in keys:
                    self._gone(key)
                tier.evictions += len(keys)
                tier.evicted_since += len(keys)
                excess -= len(keys)


def _in_hand(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """As they may be in memory at once."""
    some: list[Line] = []
    held = 0
    for line in lines:
        if some and (len(some) == IN_ONE_GO or held + line.size > ENOUGH):
            yield some
            some, held = [], 0
        some.append(line)
        held += line.size
    if some:
        yield some
