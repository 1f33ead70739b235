"""
Shared tier: L2 or L3, bytes for all processes, in memory or on disk.

Owns the order of the two things that make a tier, a ledger of what is there and a store
with the values: an entry stands in the ledger before its value is stored, and leaves it
after.  A failure of either is a miss, and a rest of one second.

Path: `shared.cache.tiers` -> here -> `ledger`, `store`
"""

from __future__ import annotations

import contextlib
import functools
import logging
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from engine.clock import Clock
from engine.errors import SharedError
from engine.later import later
from engine.shared.cache.ledger import Ages, Ledger, Line, ReceivedAt
from engine.shared.cache.packs import Parts, parts_of, size_of
from engine.shared.cache.settings import (
    LARGEST_PART,
    MOST_GROWN,
    CacheSettings,
    TierSettings,
    passing,
)

if TYPE_CHECKING:
    from engine.shared.cache import store
else:
    # It brings a database along.
    store = later("engine.shared.cache.store")

log = logging.getLogger(__name__)

#: Entries that stand in a store and in no ledger, below which nobody minds.
STRAYS = 100

_RECEIVED = struct.Struct("<dd4s")

#: A value's bytes, when it was received, and how many seconds ago that was.
Got: TypeAlias = tuple[memoryview, ReceivedAt, float]


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
        # What this process has entered, where nothing was before; else None.
        self._ours: set[str] | None = None
        self._looked = False
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

    def lacks(self, key: str) -> bool:
        """
        True if a key is not entered, as who uses the tier alone may know; cheap.

        Where nothing was when he first looked there is what he has entered since.
        """
        if not self._looked:
            self._looked = True
            self._ours = None if self.totals()[0] else set()
        return self._ours is not None and key not in self._ours

    # Hot path: what is not entered costs no look into the database.
    def get(self, key: str) -> Got | None:
        """What is there, or None; counts as a use."""
        try:
            if not self.ledger.touch(bytes.fromhex(key)):
                return None
        except (SharedError, OSError) as failure:
            self._failed(failure)
            return None
        return self.read(key)

    def read(self, key: str) -> Got | None:
        """As `get`, and leaves no trace; it may be past the tier's time."""
        whole = self.store.get(key)
        if whole is None or len(whole) < _RECEIVED.size:
            return None
        received = ReceivedAt(*_RECEIVED.unpack_from(whole))
        return whole[_RECEIVED.size :], received, self._age(received)

    def put(self, key: str, value: Parts, received: ReceivedAt) -> str:
        """
        "kept"; "full": the tier's bounds hold, whatever waits to be evicted;
        "unfit" for this tier.

        Entered before it is stored: a process killed between the two leaves an
        entry without a value, which is a miss.
        """
        age = self._age(received)
        (refused,) = self._enter([(key, size_of(value), received, age)])
        if refused:
            return refused
        if self.store.set(key, _stamped(value, received), self._keeps - age):
            return "kept"
        self.drop(key)
        return "unfit"

    def put_all(
        self,
        entries: Sequence[tuple[str, Parts, ReceivedAt]],
        patience: float = 0.0,
    ) -> int:
        """As so many `put`, in one go; how many are kept; `patience` as `store` has it."""
        ages = [self._age(received) for _, _, received in entries]
        refused = self._enter(
            [
                (key, size_of(value), received, age)
                for (key, value, received), age in zip(entries, ages, strict=True)
            ]
        )
        fitting = [
            (key, _stamped(value, received), self._keeps - age)
            for (key, value, received), age, why in zip(
                entries, ages, refused, strict=True
            )
            if not why
        ]
        if not fitting or self.store.set_all(fitting, self.settings.volume, patience):
            return len(fitting)
        self.drop_all([key for key, _, _ in fitting])
        return 0

    def _enter(
        self, entries: Sequence[tuple[str, int, ReceivedAt, float]]
    ) -> list[str]:
        """
        Into the ledger (key, bytes, when received, age); of each "", or why not, as
        `put` says it.
        """
        settings = self.settings
        largest = min(store.LARGEST, settings.volume // LARGEST_PART) - _RECEIVED.size
        usable = self.usable()
        found = [
            "" if usable and size <= largest and age < settings.ttl else "unfit"
            for _, size, _, age in entries
        ]
        fit = [
            (bytes.fromhex(key), size + _RECEIVED.size, received)
            for (key, size, received, _), why in zip(entries, found, strict=True)
            if not why
        ]
        if not fit:
            return found
        if self._ours is not None:
            self._ours.update(
                key for (key, *_), why in zip(entries, found, strict=True) if not why
            )
        try:
            entered, totals = self.ledger.put_all(fit, most=settings.volume)
        except (SharedError, OSError) as failure:
            self._failed(failure)
            return ["unfit"] * len(entries)
        if any(entered):
            self.fullness = self._fullness(*totals)
        told = iter(entered)
        return [why or ("" if next(told) else "full") for why in found]

    def strike(self, key: str) -> None:
        """Drop a key if it is entered; cheap where it is not."""
        with self._quietly():
            if self.usable() and self.ledger.has(bytes.fromhex(key)):
                self.drop(key)

    def drop(self, key: str) -> None:
        """The value first: what is left then is an entry without one."""
        self.drop_all((key,))

    def drop_all(self, keys: Sequence[str]) -> None:
        """As so many `drop`, in one go."""
        self.store.delete_all(keys)
        with self._quietly():
            for key in keys:
                self.ledger.drop(bytes.fromhex(key))

    def leaving(self) -> list[Line]:
        """Lines of the entries that are to leave, now that the tier is full enough; else none."""
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
        if min(before, after) > entries + STRAYS:
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


def _stamped(value: Parts, received: ReceivedAt) -> Parts:
    """A value as it is stored: behind when it was received."""
    head = _RECEIVED.pack(received.monotonic, received.wall, received.boot)
    return (head, *parts_of(value))
