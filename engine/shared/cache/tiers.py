"""
Tiers: what the API answered, in memory, in shared memory, on disk.

Owns where an entry stands and who leaves: L1 holds values in this process, L2
and L3 their bytes for all processes.  A new entry goes to L1 and L2, what
leaves L2 moves to L3, a hit below is copied to L1 and out of L3 moves to L2.
Knows nothing of HTTP: whether an entry may still be used is its caller's to
say, who is told how old it is.  No failure of a tier is anybody's failure.

Named before the fork, opened after it.  `task.build` hands it to
`source.fetch.cache` as a plain object.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic

import msgspec
from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import SharedError
from engine.observe.names import CACHE_HITS, CACHE_JUDGED
from engine.shared.cache.ages import Ages, ReceivedAt
from engine.shared.cache.clearing import ClearingMark
from engine.shared.cache.eviction import Eviction
from engine.shared.cache.fingerprints import Fingerprints
from engine.shared.cache.flights import Flight, Flights
from engine.shared.cache.known import KnownKeys
from engine.shared.cache.ledger import Line
from engine.shared.cache.memory_tier import MemoryTier, Value
from engine.shared.cache.owed import IN_ONE_GO, OwedEntries
from engine.shared.cache.packs import Parts, size_of
from engine.shared.cache.ratio import Ratio
from engine.shared.cache.settings import CacheSettings, TierSettings, falling
from engine.shared.cache.shared_tier import SharedTier
from engine.shared.cache.tuning import AutoTuning

log = logging.getLogger(__name__)

#: Lookups below which a hit ratio says nothing.
FEW = 100


class CacheHit(Struct, Generic[Value], frozen=True):
    """
    An entry that was found.

    Attributes:
        level: 1, 2 or 3.
        age: Seconds since it was received, by the stricter of the clocks.
    """

    value: Value
    level: int
    age: float


class TierReading(Struct, frozen=True):
    """A tier, for whoever shows it; `allowed` moves with auto-tuning."""

    level: int
    entries: int
    bytes: int
    allowed: int
    evictions: int
    errors: int


class Tiers(Generic[Value]):
    """
    The cache of one connector.

    Args:
        runtime: Directory in memory, for L2 and what processes agree by.
        disk: Directory on disk, for L3.
        levels: Settings of L1, L2, L3.
        settings: What they share.
        encode, decode: A value as bytes, or as parts that need not be copied
            together, and back; `decode` raises ValueError
            for bytes it did not write.
        weigh: About how many bytes it is, without making them.
        patience: Seconds for any one call into a shared tier.
        background: What leaves L2 is moved by a thread of this object's own,
            begun at first need, instead of by whoever stores.
        guest: Looks at what others keep; makes nothing that is not there.
        alone: One process uses it, and for a while: what L1 holds need not stand in a
            shared tier before it leaves or the process ends.
    """

    def __init__(
        self,
        runtime: Path,
        disk: Path,
        *,
        levels: tuple[TierSettings, TierSettings, TierSettings],
        settings: CacheSettings,
        encode: Callable[[Value], Parts],
        weigh: Callable[[Value], int] | None = None,
        decode: Callable[[memoryview], Value],
        patience: float = 0.25,
        background: bool = False,
        guest: bool = False,
        alone: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        first, second, third = levels = falling(levels)
        nothing = settings.total == 0
        self.settings = settings
        self.ratio = Ratio(settings.window, clock=clock)
        self.ratio_low = False
        #: Lookups by (level, result), as the metrics name them.
        self.lookups: dict[tuple[str, str], int] = {}
        self._levels = levels
        self._encode = encode
        self._weigh = weigh or (lambda value: size_of(encode(value)))
        self._decode = decode
        self._clock = clock
        self._ages = Ages(clock)
        self._age = self._ages.of
        #: A credential as a key shows it.
        self.fingerprint = Fingerprints(disk / "secret")
        self._clearing = ClearingMark(runtime / "cleared")
        self._l1: MemoryTier[Value] | None = None
        if settings.total is not None:
            # A bound on distinct answers holds for those that lie in memory, too.
            entries = min(first.entries, settings.total)
            first = msgspec.structs.replace(first, entries=entries)
        if first.entries and not nothing:
            self._l1 = MemoryTier(first, settings, left=self._left, clock=clock)
        self._alone = alone and self._l1 is not None
        self._shared: list[SharedTier] = [
            SharedTier(
                level,
                directory,
                tier,
                settings,
                durable=level == 3,
                patience=patience,
                guest=guest,
                keeps=third.ttl if level == 2 and third.entries else 0.0,
                clock=clock,
            )
            for level, directory, tier in ((2, runtime, second), (3, disk, third))
            if tier.entries and not nothing
        ]
        self._known = KnownKeys(self._shared)
        #: What stands in L1 only, and is to be stored below.
        self._owed: OwedEntries[Value] | None = None
        if self._l1 is not None:
            outlives = [tier for tier in self._shared if tier.level == 3]
            self._owed = OwedEntries(
                self._l1,
                outlives[0] if outlives else None,
                encode=encode,
                wanted=self._below_total,
                background=background,
                clock=clock,
            )
        self._flights = Flights(None if self._alone else runtime / "flights")
        self._sweeper = Flights(runtime / "sweep")
        self._eviction = Eviction(
            self._shared,
            settings,
            agreed=Flights(runtime / "move"),
            background=background,
            gone=self._forget,
        )
        self._sweep_at = clock.monotonic() + settings.cleanup
        self._tuning = AutoTuning(
            levels,
            settings,
            ratio=self.ratio,
            l1=self._l1,
            shared=self._shared,
            clock=clock,
        )
        self._refresh_at = 0.0

    def find(
        self, key: str, *, anew: bool = False, own: bool = False
    ) -> CacheHit[Value] | None:
        """
        The entry of a key, or None.

        Args:
            anew: Another process may just have entered a newer one: what this
                process holds in memory counts only if nothing stands below.
            own: No other process asks for it.

        Blocks: in a shared tier for its patience at most.
        """
        held, l1 = None, self._l1
        below = not (anew and (own or self._alone))
        if l1 is not None and (below or key in l1):
            self._hear_of_clearing(l1, lately=key not in l1)
            held = l1.get(key)
        if held is not None and (not anew or self._owes(key)):
            return CacheHit(held[0], 1, held[1])
        if not below:
            # Nobody else enters anything below.
            return None if held is None else CacheHit(held[0], 1, held[1])
        if (own or self._alone) and not self._known.may_have(key):
            # Hot path: a page that nobody has kept is not looked for.
            return None
        for tier in self._shared:
            if not tier.usable():
                continue
            got = tier.get(key)
            if got is None:
                continue
            raw, received, age = got
            if age >= tier.settings.ttl:
                # Nobody has swept yet: what is too old for L2 is found in L3.
                self._eviction.lower(tier, key)
                continue
            try:
                value = self._decode(raw)
            except ValueError:
                tier.drop(key)
                continue
            if self._l1 is not None:
                self._l1.put(key, value, len(raw), received)
            if tier.level == 3 and len(self._shared) == 2:
                self._rise(key, raw, received)
            return CacheHit(value, tier.level, age)
        return CacheHit(held[0], 1, held[1]) if held is not None else None

    def keep(self, key: str, value: Value, *, own: bool = False) -> None:
        """Enter what was received just now, in place of what stood there; `own` as above."""
        received, l1, owed = self._ages.now(), self._l1, self._owed
        if l1 is not None and self._hear_of_clearing(l1, lately=own or self._alone):
            # It was asked for with what has been cleared meanwhile.
            return
        if own or self._alone:
            self._known.add(key)
        if (own or self._alone) and l1 is not None and owed is not None:
            # Hot path: it is stored with others; in a database an answer of 145 KB
            # is 0.7 ms, more than all the rest of its way.
            size = self._weigh(value)
            if l1.put(key, value, size, received):
                owed.add(key, size)
                return
            l1 = None
        raw = self._encode(value)
        if l1 is not None:
            l1.put(key, value, size_of(raw), received)
        self._pay(key)
        self._keep_below(key, raw, received)

    def _owes(self, key: str) -> bool:
        return self._owed is not None and key in self._owed

    def _pay(self, key: str) -> bool:
        return self._owed is not None and self._owed.pay(key)

    def _forget(self, key: str) -> None:
        """Drop what is known of an entry that has left the shared tiers for good."""
        if self._l1 is not None:
            self._l1.drop(key)

    def _left(self, key: str, value: Value, received: ReceivedAt) -> None:
        """L1 lets go of it."""
        if self._owes(key) and self._pay(key):
            self._keep_below(key, self._encode(value), received)

    def _keep_below(self, key: str, raw: Parts, received: ReceivedAt) -> None:
        done = False
        for tier in self._shared:
            tier.agree()
            if not done and self._below_total(tier, key):
                # What a tier cannot hold, or not before its mover has been, goes
                # to the next; where nothing may be evicted it goes nowhere.
                put = tier.put(key, raw, received)
                done = put == "kept" or (put == "full" and not self.settings.evict)
                if put == "kept":
                    continue
            # Only the highest that can holds it: an older copy must not come up.
            tier.strike(key)
        self._eviction.make_room()

    def drop(self, key: str) -> None:
        """Forget a key everywhere; other processes' L1 hear of it by age only."""
        self._pay(key)
        if self._l1 is not None:
            self._l1.drop(key)
        for tier in self._shared:
            tier.strike(key)

    def lead(self, key: str) -> Flight | None:
        """The right to ask for a key, or None: somebody else does."""
        return self._flights.lead(key)

    def count(self, level: int | None, result: str) -> None:
        """
        One lookup: by the level that answered (None: none) and its result, one of
        `observe.names.CACHE_REQUESTS`.

        The ratio is that of hits and misses; what could not have been kept, or was
        not asked before, or has changed, is neither.
        """
        if not self.settings.statistics:
            return
        name = ("none" if level is None else str(level), result)
        self.lookups[name] = self.lookups.get(name, 0) + 1
        if result in CACHE_JUDGED:
            self.ratio.count(hit=result in CACHE_HITS)

    def judge(self) -> bool:
        """True if the hit ratio is low; one warning for each change."""
        lookups, ratio = self.ratio.read()
        low = lookups >= FEW and ratio < self.settings.ratio
        if low and not self.ratio_low:
            log.warning(
                "The cache's hit ratio is %.2f, below %.2f.", ratio, self.settings.ratio
            )
        elif self.ratio_low and not low:
            log.warning("The cache's hit ratio is %.2f again.", ratio)
        self.ratio_low = low
        return low

    def tick(self) -> None:
        """
        What is due: sweeps, tuning, a look for replaced files.

        Called about once a second; costs 1 us while nothing is due.
        """
        now = self._clock.monotonic()
        if now >= self._refresh_at:
            self._refresh_at = now + 1.0
            self.judge()
            for tier in self._shared:
                tier.refresh()
                tier.agree()
        if now >= self._sweep_at:
            self._sweep_at = now + self.settings.cleanup
            self.sweep()
        if self.settings.tuning is not None:
            self._tuning.tick(now)

    def sweep(self) -> None:
        """Drop, or move down, what is past its tier's time; one process does."""
        if self._l1 is not None:
            self._l1.sweep()
        flight = self._sweeper.lead("0" * 32)
        if flight is None:
            return
        try:
            for tier in self._shared:
                if not tier.usable():
                    continue
                self._eviction.lower_all(tier, tier.expired())
                tier.sweep()
        finally:
            flight.land()
        self._eviction.make_room()

    def readings(self) -> list[TierReading]:
        """What each tier holds; L1's is this process's."""
        found = []
        if self._l1 is not None:
            one = self._l1
            found.append(
                TierReading(1, len(one), one.bytes, one.allowed, one.evictions, 0)
            )
        for tier in self._shared:
            entries, volume, allowed = tier.totals()
            found.append(
                TierReading(
                    tier.level, entries, volume, allowed, tier.evictions, tier.errors
                )
            )
        return found

    def volume(self, level: int) -> int:
        """Most bytes of a tier; of L1 in each process."""
        return self._levels[level - 1].volume

    def recent(self, most: int) -> list[str]:
        """The keys used last, newest first, of whichever tier."""
        keys = self._l1.keys() if self._l1 is not None else []
        lines: list[Line] = []
        for tier in self._shared:
            with contextlib.suppress(SharedError, OSError):
                lines += list(tier.ledger.lines())
        lines.sort(key=lambda line: -line.used)
        keys += [line.digest.hex() for line in lines]
        return list(dict.fromkeys(keys))[:most]

    def values(self) -> Iterator[tuple[int, str, Value, float]]:
        """(level, key, value, age) of what the shared tiers hold; for people."""
        for tier in self._shared:
            try:
                lines = list(tier.ledger.lines())
            except (SharedError, OSError):
                continue
            for line in lines:
                key = line.digest.hex()
                got = tier.read(key)
                if got is None or got[2] >= self._levels[-1].ttl:
                    continue
                try:
                    value = self._decode(got[0])
                except ValueError:
                    continue
                yield tier.level, key, value, got[2]

    def clear(self) -> None:
        """Forget everything, in the L1 of other processes, too."""
        # From the lowest up, and the mark last: a copy that another process
        # takes up in between is what the mark makes it drop.
        for tier in reversed(self._shared):
            tier.clear()
        self._clearing.put()
        if self._owed is not None:
            self._owed.clear()
        if self._l1 is not None:
            self._l1.clear()

    def settle(self, within: float) -> int:
        """
        Move what L1 still owes and what L2 holds to L3, which outlives the engine.

        The most recently used first; of L2 one process does it.

        Returns: how many.
        Blocks: at most about `within` seconds.
        """
        deadline = self._clock.monotonic() + within
        moved = 0 if self._owed is None else self._owed.settle(deadline)
        if [tier.level for tier in self._shared] != [2, 3]:
            return moved
        upper, lower = self._shared
        flight = self._eviction.lead()
        if flight is None:
            return moved
        try:
            # They are looked for all over its file.
            found = upper.ledger.lines() if upper.totals()[0] else ()
            lines = sorted(found, key=lambda line: -line.used)
            for at in range(0, len(lines), IN_ONE_GO):
                usable = upper.usable() and lower.usable()
                left = deadline - self._clock.monotonic()
                if not usable or left <= 0:
                    break
                some = lines[at : at + IN_ONE_GO]
                self._eviction.lower_all(upper, some, left)
                moved += len(some)
            if self.settings.total is not None and self.settings.evict:
                self._eviction.hold_total(self.settings.total)
        except (SharedError, OSError) as failure:
            log.info("Cache tier 2 was not kept: %s.", failure)
        finally:
            flight.land()
        return moved

    def _hear_of_clearing(self, l1: MemoryTier[Value], *, lately: bool = False) -> bool:
        """As `ClearingMark.news`; what is here is cleared, too."""
        # At each lookup, since one that is revalidated after a clearing would enter
        # again what was cleared.
        if not self._clearing.news(lately=lately):
            return False
        if self._owed is not None:
            self._owed.clear()
        l1.clear()
        return True

    def put_aside(self) -> None:
        """What is there may crash whoever maps it: begin anew."""
        for tier in self._shared:
            tier.put_aside()

    def close(self) -> None:
        for tier in self._shared:
            tier.close()

    def _rise(self, key: str, raw: memoryview, received: ReceivedAt) -> None:
        """A hit in L3 moves to L2; where that refuses it, it stays."""
        upper, lower = self._shared
        if upper.usable() and upper.put(key, raw, received) == "kept":
            lower.drop(key)
            self._eviction.make_room()

    def _below_total(self, tier: SharedTier, key: str) -> bool:
        total = self.settings.total
        if total is None or self.settings.evict:
            return True
        with contextlib.suppress(SharedError, OSError):
            if tier.ledger.has(bytes.fromhex(key)):
                return True
        return sum(one.totals()[0] for one in self._shared) < total
