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
import functools
import itertools
import logging
import os
import secrets
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import SharedError
from engine.later import later
from engine.observe.names import CACHE_HITS, CACHE_JUDGED
from engine.shared.flights import Flight, Flights
from engine.shared.ledger import PARTS, Ages, Ledger, Line, Moment, order
from engine.shared.lock import lock_within, open_private

if TYPE_CHECKING:
    from engine.shared import store
else:
    # It brings a database along.
    store = later("engine.shared.store")

log = logging.getLogger(__name__)

#: A value of more than this part of a tier is not kept there.
LARGEST_PART = 8

#: Auto-tuning: one step up, one down, and how far each may go.
GROW, SHRINK = 1.25, 0.9
MOST_GROWN, MOST_SHRUNK = 4.0, 0.25
#: Occupancy below which a tier may shrink.
HALF = 0.5

#: Lookups below which a hit ratio says nothing.
FEW = 100

#: Buckets of the statistics window.
BUCKETS = 60

#: Bytes an entry of L1 costs beside its value.
OVERHEAD = 600

_RECEIVED = struct.Struct("<dd4s")

#: A value's bytes, when it was received, and how many seconds ago that was.
_Got: TypeAlias = tuple[memoryview, Moment, float]

Value = TypeVar("Value")


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


class Found(Struct, Generic[Value], frozen=True):
    """
    A hit.

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


class Tuned(Struct, frozen=True):
    """A step of auto-tuning and its reason."""

    level: int
    before: int
    after: int
    why: str


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


class MemoryTier(Generic[Value]):
    """
    L1: values as they are, in this process.

    Args:
        left: Told of what has to leave for its age or for others, not of what is
            dropped or replaced.
    """

    def __init__(
        self,
        settings: TierSettings,
        cache: CacheSettings,
        *,
        left: Callable[[str, Value, Moment], None],
        clock: Clock,
    ) -> None:
        self._left = left
        self.allowed = settings.entries
        self.evictions = 0
        self.evicted_since = 0
        self.bytes = 0
        self._settings = settings
        self._cache = cache
        self._clock = clock
        self._age = Ages(clock).of
        self._part = max(cache.window / PARTS, 0.001)
        self._threads = threading.Lock()
        self._entries: dict[str, _Held[Value]] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._entries)

    # Hot path: a dictionary, one lock, three attributes; 2 us.
    def get(self, key: str) -> tuple[Value, float] | None:
        """(value, age), or None."""
        held = self._entries.get(key)
        if held is None:
            return None
        age = self._age(held.received)
        if age >= self._settings.ttl:
            self._retire([key])
            return None
        self._number += 1
        held.used = self._number
        if self._settings.policy == "LFU":
            held.count(int(self._clock.monotonic() / self._part))
        return held.value, age

    def put(self, key: str, value: Value, size: int, received: Moment) -> bool:
        """True if it is kept; drops others where the tier is full enough."""
        size += OVERHEAD
        limit = self._settings.volume
        if size > limit // LARGEST_PART:
            self.drop(key)
            return False
        leaving: list[str] = []
        with self._threads:
            old = self._entries.get(key)
            before = old.size if old is not None else 0
            if not self._cache.evict and (
                (old is None and len(self._entries) >= self.allowed)
                or self.bytes + size - before > limit
            ):
                return False
            self._number += 1
            self._entries[key] = _Held(value, size, received, self._number)
            self.bytes += size - before
            if self._cache.evict:
                leaving = self._passing()
        self.evictions += len(leaving)
        self.evicted_since += len(leaving)
        self._retire(leaving)
        return True

    def drop(self, key: str) -> None:
        self._take_out(key)

    def peek(self, key: str) -> tuple[Value, Moment] | None:
        """The value and when it was received; no use of it."""
        held = self._entries.get(key)
        return None if held is None else (held.value, held.received)

    def _take_out(self, key: str) -> _Held[Value] | None:
        with self._threads:
            held = self._entries.pop(key, None)
            if held is not None:
                self.bytes -= held.size
            return held

    def _retire(self, keys: Iterable[str]) -> None:
        for key in keys:
            held = self._take_out(key)
            if held is not None:
                self._left(key, held.value, held.received)

    def sweep(self) -> int:
        """Drop what is past its time; how many."""
        old = [
            key
            for key, held in list(self._entries.items())
            if self._age(held.received) >= self._settings.ttl
        ]
        self._retire(old)
        return len(old)

    def clear(self) -> None:
        with self._threads:
            self._entries.clear()
            self.bytes = 0

    def keys(self) -> list[str]:
        """Most recently used first."""
        held = sorted(self._entries.items(), key=lambda item: -item[1].used)
        return [key for key, _ in held]

    def occupancy(self) -> float:
        """The larger of entries and bytes, each to its limit."""
        return self._full(len(self._entries), self.bytes)

    def _full(self, entries: int, volume: int) -> float:
        return max(
            entries / max(1, self.allowed), volume / max(1, self._settings.volume)
        )

    def _passing(self) -> list[str]:
        """Who has to leave for others, under the lock."""
        found: list[str] = []
        entries, volume = len(self._entries), self.bytes
        while entries > 1 and self._full(entries, volume) >= self._cache.threshold:
            count = passing(self._cache, self.allowed, entries)
            if not found:
                policy = order(self._settings.policy)
                part = int(self._clock.monotonic() / self._part)
                lines = iter(
                    sorted(
                        (policy(held.line(part)), key)
                        for key, held in self._entries.items()
                    )
                )
            for _, key in itertools.islice(lines, count):
                found.append(key)
                entries -= 1
                volume -= self._entries[key].size
        return found


class _Held(Generic[Value]):
    """An entry of L1."""

    __slots__ = ("part", "received", "size", "stored", "used", "uses", "value")

    def __init__(self, value: Value, size: int, received: Moment, number: int) -> None:
        self.value = value
        self.size = size
        self.received = received
        self.stored = number
        self.used = number
        self.part = 0
        self.uses: list[int] = []

    def count(self, part: int) -> None:
        if part != self.part or not self.uses:
            passed = min(PARTS, part - self.part)
            self.uses = ([0] * passed + self.uses)[:PARTS] or [0]
            self.part = part
        self.uses[0] += 1

    def line(self, part: int) -> Line:
        inside = PARTS - (part - self.part)
        uses = sum(self.uses[: max(0, inside)])
        stored, used = float(self.stored), float(self.used)
        return Line(b"", self.size, stored, used, self.received, uses)


class SharedTier:
    """L2 or L3: bytes for all processes, and the ledger of what they are."""

    def __init__(
        self,
        level: int,
        directory: Path,
        settings: TierSettings,
        cache: CacheSettings,
        *,
        durable: bool,
        patience: float,
        guest: bool,
        keeps: float,
        clock: Clock,
    ) -> None:
        self.level = level
        self.settings = settings
        # Past its own time an entry is still there to be moved to the tier below.
        self._keeps = max(keeps, settings.ttl)
        self.evictions = 0
        self.evicted_since = 0
        self._cache = cache
        self._guest = guest
        self._clock = clock
        self._age = Ages(clock).of
        #: How full it was after the last entry of this process.
        self.fullness = 0.0
        self._errors = 0
        self._rests_until = 0.0
        self._told_at = -1e9
        self._agreed = False
        self._directory = directory / f"l{level}"
        self._durable, self._patience = durable, patience
        self.ledger = Ledger(
            directory / f"l{level}.ledger",
            entries=settings.entries,
            grown=MOST_GROWN if cache.tuning is not None else 1.0,
            window=cache.window,
            patience=patience,
            guest=guest,
            clock=clock,
        )

    @functools.cached_property
    def store(self) -> store.Store:
        """The values; a start that finds none entered needs no database."""
        return store.Store(
            self._directory,
            durable=self._durable,
            patience=self._patience,
            clock=self._clock,
        )

    @property
    def _used(self) -> bool:
        """True if this process has had to do with the values."""
        return "store" in self.__dict__

    # Hot path: what is not entered costs no look into the database.
    def get(self, key: str) -> _Got | None:
        """What is there, or None; counts as a use."""
        try:
            if not self.ledger.touch(bytes.fromhex(key)):
                return None
        except (SharedError, OSError) as failure:
            self._failed(failure)
            return None
        return self.read(key)

    def read(self, key: str) -> _Got | None:
        """As `get`, and leaves no trace; it may be past the tier's time."""
        whole = self.store.get(key)
        if whole is None or len(whole) < _RECEIVED.size:
            return None
        received = Moment(*_RECEIVED.unpack_from(whole))
        return whole[_RECEIVED.size :], received, self._age(received)

    def put(self, key: str, value: bytes | memoryview, received: Moment) -> str:
        """
        "kept"; "full": the tier's bounds hold, whatever waits to be evicted;
        "unfit" for this tier.

        Entered before it is stored: a process killed between the two leaves an
        entry without a value, which is a miss.
        """
        size = len(value) + _RECEIVED.size
        age = self._age(received)
        part = self.settings.volume // LARGEST_PART
        late = age >= self.settings.ttl
        if size > min(store.LARGEST, part) or late or not self.usable():
            return "unfit"
        digest = bytes.fromhex(key)
        try:
            volume = self.settings.volume
            totals = self.ledger.put(digest, size, received, most=volume)
            if totals is None:
                return "full"
            self.fullness = self._fullness(*totals)
        except (SharedError, OSError) as failure:
            self._failed(failure)
            return "unfit"
        head = _RECEIVED.pack(received.monotonic, received.wall, received.boot)
        if self.store.set(key, b"".join((head, value)), self._keeps - age):
            return "kept"
        self.drop(key)
        return "unfit"

    def strike(self, key: str) -> None:
        """Drop a key if it is entered; cheap where it is not."""
        with self._quietly():
            if self.usable() and self.ledger.has(bytes.fromhex(key)):
                self.drop(key)

    def drop(self, key: str) -> None:
        """The value first: what is left then is an entry without one."""
        self.store.delete(key)
        with self._quietly():
            self.ledger.drop(bytes.fromhex(key))

    def leaving(self) -> list[Line]:
        """Who goes now that the tier is full enough; empty if it is not."""
        try:
            entries, volume, allowed = self.ledger.totals()
            if entries <= 1 or self._fullness(entries, volume, allowed) < (
                self._cache.threshold
            ):
                return []
            count = passing(self._cache, allowed, entries)
            return self.ledger.first_to_leave(count, self.settings.policy)
        except (SharedError, OSError) as failure:
            self._failed(failure)
            return []

    def expired(self) -> list[Line]:
        """Entries past the tier's time."""
        try:
            return [
                line
                for line in self.ledger.lines()
                if self._age(line.received) >= self.settings.ttl
            ]
        except (SharedError, OSError) as failure:
            self._failed(failure)
            return []

    def agree(self) -> None:
        """
        Once in each process: a ledger that was lost leaves values that nobody
        would ever drop, so both begin anew.
        """
        if self._agreed or not self.usable():
            return
        self._agreed = True
        if not self._used and not (self._directory / "cache.db").exists():
            return
        before = self.store.count()
        try:
            entries, _ = self.ledger.recount()
        except (SharedError, OSError) as failure:
            self._failed(failure)
            return
        after = self.store.count()
        if before is None or after is None:
            return
        # Others store and drop meanwhile: what is there before and after counts.
        if min(before, after) > entries + FEW:
            log.warning("Cache tier %d and its ledger disagree; cleared.", self.level)
            self.clear()

    def clear(self) -> None:
        if self._guest and not self._directory.is_dir():
            return
        self.store.clear()
        with self._quietly():
            self.ledger.clear()

    def totals(self) -> tuple[int, int, int]:
        """(entries, bytes, entries allowed); zeros while it cannot be used."""
        try:
            return self.ledger.totals()
        except (SharedError, OSError):
            return 0, 0, self.settings.entries

    def occupancy(self) -> float:
        return self._fullness(*self.totals())

    def usable(self) -> bool:
        if self._clock.monotonic() < self._rests_until:
            return False
        return not self._used or self.store.available()

    def refresh(self) -> None:
        """Look whether another process put the database aside; cheap."""
        if self._used:
            self.store.refresh()

    @property
    def errors(self) -> int:
        if not self._used:
            return self._errors
        return self._errors + self.store.failures + self.store.corrupt_values

    def close(self) -> None:
        if self._used:
            self.store.close()
        self.ledger.close()

    def _fullness(self, entries: int, volume: int, allowed: int) -> float:
        return max(entries / max(1, allowed), volume / max(1, self.settings.volume))

    def _failed(self, failure: Exception) -> None:
        now = self._clock.monotonic()
        self._errors += 1
        self._rests_until = now + 1.0
        if now - self._told_at >= 60.0:
            self._told_at = now
            log.warning("Cache tier %d: %s.", self.level, failure)

    @contextlib.contextmanager
    def _quietly(self) -> Iterator[None]:
        try:
            yield
        except (SharedError, OSError) as failure:
            self._failed(failure)


def passing(cache: CacheSettings, allowed: int, entries: int) -> int:
    """
    How many one pass drops: at most a quarter of the tier, never the last.

    A tier that is full by its bytes is as large as the entries that filled it.
    """
    full = min(allowed, round(entries / cache.threshold))
    return max(1, min(cache.batch, full // 4, entries - 1))


class Tiers(Generic[Value]):
    """
    The cache of one connector.

    Args:
        runtime: Directory in memory, for L2 and what processes agree by.
        disk: Directory on disk, for L3.
        levels: Settings of L1, L2, L3.
        settings: What they share.
        encode, decode: A value as bytes and back; `decode` raises ValueError
            for bytes it did not write.
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
        encode: Callable[[Value], bytes],
        decode: Callable[[memoryview], Value],
        patience: float = 0.25,
        background: bool = False,
        guest: bool = False,
        alone: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        first, second, third = levels = _falling(levels)
        nothing = settings.total == 0
        self.settings = settings
        self.ratio = Ratio(settings.window, clock=clock)
        self.ratio_low = False
        #: Lookups by (level, result), as the metrics name them.
        self.lookups: dict[tuple[str, str], int] = {}
        self.decisions: list[Tuned] = []
        self._levels = levels
        self._encode = encode
        self._decode = decode
        self._clock = clock
        self._ages = Ages(clock)
        self._age = self._ages.of
        self._disk = disk
        #: Touched by whoever clears, so that every process's L1 hears of it.
        self._mark = str(runtime / "cleared")
        self._cleared = 0
        self._l1: MemoryTier[Value] | None = None
        if settings.total is not None:
            # A bound on distinct answers holds for those that lie in memory, too.
            entries = min(first.entries, settings.total)
            first = msgspec.structs.replace(first, entries=entries)
        if first.entries and not nothing:
            self._l1 = MemoryTier(first, settings, left=self._left, clock=clock)
        self._alone = alone and self._l1 is not None
        #: What stands in L1 only, and is to be stored below when it leaves.
        self._owed: dict[str, None] = {}
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
        self._flights = Flights(None if self._alone else runtime / "flights")
        self._sweeper = Flights(runtime / "sweep")
        self._mover = Flights(runtime / "move")
        self._background = background
        self._crowd = threading.Event()
        self._mover_pid = 0
        self._sweep_at = clock.monotonic() + settings.cleanup
        self._tune_at = clock.monotonic() + (settings.tuning or 0.0)
        self._refresh_at = 0.0
        self._secret: bytes | None = None

    def find(self, key: str, *, anew: bool = False) -> Found[Value] | None:
        """
        The entry of a key, or None.

        Args:
            anew: Another process may just have entered a newer one: what this
                process holds in memory counts only if nothing stands below.

        Blocks: in a shared tier for its patience at most.
        """
        held = None
        if self._l1 is not None:
            self._hear_of_clearing(self._l1)
            held = self._l1.get(key)
        if held is not None and (not anew or key in self._owed):
            return Found(held[0], 1, held[1])
        if anew and self._alone:
            # Nobody else enters anything below.
            return None if held is None else Found(held[0], 1, held[1])
        for tier in self._shared:
            if not tier.usable():
                continue
            got = tier.get(key)
            if got is None:
                continue
            raw, received, age = got
            if age >= tier.settings.ttl:
                # Nobody has swept yet: what is too old for L2 is found in L3.
                self._lower(tier, key)
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
            return Found(value, tier.level, age)
        return Found(held[0], 1, held[1]) if held is not None else None

    def keep(self, key: str, value: Value) -> None:
        """Enter what was received just now, in place of what stood there."""
        if self._l1 is not None and self._hear_of_clearing(self._l1):
            # It was asked for with what has been cleared meanwhile.
            return
        received = self._ages.now()
        raw = self._encode(value)
        kept = self._l1 is not None and self._l1.put(key, value, len(raw), received)
        if kept and self._alone:
            # Hot path: an answer of 145 KB is 0.7 ms in a database, and as much again
            # in each to which it moves; pages that come once would cost more
            # here than on the whole rest of their way.
            self._owed[key] = None
            return
        self._owed.pop(key, None)
        self._keep_below(key, raw, received)

    def _left(self, key: str, value: Value, received: Moment) -> None:
        """L1 lets go of it."""
        if key in self._owed:
            del self._owed[key]
            self._keep_below(key, self._encode(value), received)

    def _keep_below(self, key: str, raw: bytes, received: Moment) -> None:
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
        self._make_room()

    def drop(self, key: str) -> None:
        """Forget a key everywhere; other processes' L1 hear of it by age only."""
        self._owed.pop(key, None)
        if self._l1 is not None:
            self._l1.drop(key)
        for tier in self._shared:
            tier.strike(key)

    def lead(self, key: str) -> Flight | None:
        """The right to ask for a key, or None: somebody else does."""
        return self._flights.lead(key)

    def fingerprint(self, text: str) -> str:
        """
        A credential as a key shows it: hashed with a secret of this machine.

        Without a secret's file it holds for this process alone.
        """
        if self._secret is None:
            self._secret = _secret(self._disk / "secret")
        return blake2b(text.encode(), key=self._secret, digest_size=16).hexdigest()

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
        if self.settings.tuning is not None and now >= self._tune_at:
            self._tune_at = now + self.settings.tuning
            self._tune()

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
                for line in tier.expired():
                    self._lower(tier, line.digest.hex())
                tier.store.expire()
                with contextlib.suppress(SharedError, OSError):
                    tier.ledger.recount()
        finally:
            flight.land()
        self._make_room()

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
        with contextlib.suppress(OSError):
            Path(self._mark).touch()
        self._owed.clear()
        if self._l1 is not None:
            self._l1.clear()

    def settle(self, within: float) -> int:
        """
        Move what L1 still owes and what L2 holds to L3, which outlives the engine.

        The most recently used first; one process does it.

        Returns: how many.
        Blocks: at most about `within` seconds.
        """
        if [tier.level for tier in self._shared] != [2, 3]:
            return 0
        flight = self._mover.lead("0" * 32)
        if flight is None:
            return 0
        moved = 0
        deadline = self._clock.monotonic() + within
        upper, lower = self._shared
        try:
            moved = self._settle_owed(lower, deadline)
            lines = sorted(upper.ledger.lines(), key=lambda line: -line.used)
            for line in lines:
                usable = upper.usable() and lower.usable()
                if not usable or self._clock.monotonic() >= deadline:
                    break
                self._lower(upper, line.digest.hex())
                moved += 1
        except (SharedError, OSError) as failure:
            log.info("Cache tier 2 was not kept: %s.", failure)
        finally:
            flight.land()
        return moved

    def _settle_owed(self, lower: SharedTier, deadline: float) -> int:
        """What stands in L1 only goes straight to the tier that outlives all."""
        l1, moved = self._l1, 0
        if l1 is None or not self._owed:
            return 0
        for key in tuple(l1.keys()):
            if self._clock.monotonic() >= deadline or not lower.usable():
                break
            held = l1.peek(key) if key in self._owed else None
            if held is None:
                continue
            del self._owed[key]
            lower.agree()
            if self._below_total(lower, key):
                lower.put(key, self._encode(held[0]), held[1])
                moved += 1
        return moved

    def _hear_of_clearing(self, l1: MemoryTier[Value]) -> bool:
        """True if everything was cleared since the last look."""
        # 1 us: at each lookup, since one that is revalidated after a clearing
        # would enter again what was cleared.
        try:
            cleared = os.stat(self._mark).st_mtime_ns
        except OSError:
            return False
        if cleared == self._cleared:
            return False
        self._cleared = cleared
        self._owed.clear()
        l1.clear()
        return True

    def put_aside(self) -> None:
        """What is there may crash whoever maps it: begin anew."""
        for tier in self._shared:
            tier.store.quarantine()
            with contextlib.suppress(SharedError, OSError):
                tier.ledger.clear()

    def close(self) -> None:
        for tier in self._shared:
            tier.close()

    def _rise(self, key: str, raw: memoryview, received: Moment) -> None:
        """A hit in L3 moves to L2; where that refuses it, it stays."""
        upper, lower = self._shared
        if upper.usable() and upper.put(key, raw, received) == "kept":
            lower.drop(key)
            self._make_room()

    def _lower(self, tier: SharedTier, key: str) -> None:
        """What leaves L2 moves to L3, what leaves L3 is gone."""
        lower = self._shared[-1]
        if tier.level == 2 and lower.level == 3:
            got = tier.read(key)
            if got is not None:
                lower.put(key, got[0], got[1])
        tier.drop(key)

    def _make_room(self) -> None:
        """Begin a pass where a tier is full enough."""
        cache = self.settings
        if not cache.evict:
            return
        crowded = any(tier.fullness >= cache.threshold for tier in self._shared)
        if not crowded and cache.total is None:
            return
        if self._background:
            if self._mover_pid != os.getpid():
                self._mover_pid = os.getpid()
                self._crowd = threading.Event()
                mover = threading.Thread(
                    target=self._move, name="cache-mover", daemon=True
                )
                mover.start()
            self._crowd.set()
        else:
            self._pass()

    def _move(self) -> None:
        """The mover's thread: a pass whenever somebody found a tier crowded."""
        while True:
            self._crowd.wait()
            self._crowd.clear()
            self._pass()

    def _pass(self) -> None:
        """Move and drop until no tier is crowded; one process at a time."""
        flight = self._mover.lead("0" * 32)
        if flight is None:
            return
        try:
            for tier in self._shared:
                tier.fullness = 0.0
                while tier.usable() and (lines := tier.leaving()):
                    for line in lines:
                        self._lower(tier, line.digest.hex())
                        tier.evictions += 1
                        tier.evicted_since += 1
            if self.settings.total is not None:
                self._hold_total(self.settings.total)
        finally:
            flight.land()

    def _hold_total(self, total: int) -> None:
        excess = sum(tier.totals()[0] for tier in self._shared) - total
        for tier in reversed(self._shared):
            if excess <= 0:
                return
            with contextlib.suppress(SharedError, OSError):
                policy = tier.settings.policy
                for line in tier.ledger.first_to_leave(excess, policy):
                    key = line.digest.hex()
                    tier.drop(key)
                    if self._l1 is not None:
                        self._l1.drop(key)
                    tier.evictions += 1
                    tier.evicted_since += 1
                    excess -= 1

    def _below_total(self, tier: SharedTier, key: str) -> bool:
        total = self.settings.total
        if total is None or self.settings.evict:
            return True
        with contextlib.suppress(SharedError, OSError):
            if tier.ledger.has(bytes.fromhex(key)):
                return True
        return sum(one.totals()[0] for one in self._shared) < total

    def _tune(self) -> None:
        """
        One bounded step for each tier that needs it.

        Source: `cache.auto.tuning.*`; the band between the threshold and half
        occupancy, in which nothing moves, keeps it from swinging.
        """
        lookups, ratio = self.ratio.read()
        if lookups == 0 or not self.settings.statistics:
            return
        low = ratio < self.settings.ratio
        if self._l1 is not None:
            one = self._l1
            after = self._step(
                1, one.allowed, low, one.evicted_since, one.occupancy(), ratio
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
                since = self._clock.monotonic() - changed
                if 0 <= since < (self.settings.tuning or 0.0) * 0.9:
                    return None
                return self._step(tier.level, allowed, low, evicted, full, ratio)  # noqa: B023

            with contextlib.suppress(SharedError, OSError):
                tier.ledger.allow(change)

    def _step(
        self,
        level: int,
        allowed: int,
        low: bool,
        evicted: int,
        full: float,
        ratio: float,
    ) -> int | None:
        """Entries allowed from now on, or None: as before."""
        configured = self._levels[level - 1].entries
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
        self.decisions = [*self.decisions[-99:], Tuned(level, allowed, after, why)]
        log.info(
            "Cache tier %d may hold %d instead of %d: %s.", level, after, allowed, why
        )
        return after


def _falling(
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


def _secret(path: Path) -> bytes:
    """32 bytes that stay with the cache; made once, readable for us alone."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = open_private(path)
    except (OSError, SharedError):
        return secrets.token_bytes(32)
    try:
        if not lock_within(fd, 1.0):
            return secrets.token_bytes(32)
        found = os.pread(fd, 32, 0)
        if len(found) < 32:
            found = secrets.token_bytes(32)
            os.pwrite(fd, found, 0)
        return found
    except (OSError, SharedError):
        return secrets.token_bytes(32)
    finally:
        os.close(fd)
