"""
Shared tier: L2 or L3, bytes for all processes, in memory or on disk.

Owns the order of the things that make a tier, a ledger of what is there and the values,
in a store, or in memory, where they are large, in files of their own: an entry stands in
the ledger before its value is there, and leaves it after.  A failure of either is a miss,
and a rest of one second.

Path: `shared.cache.tiers` -> here -> `ledger`, `store`, `value_files`
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
from engine.shared.cache.ages import Ages, ReceivedAt
from engine.shared.cache.ledger import Ledger, Line
from engine.shared.cache.packs import LARGEST, Parts, parts_of, size_of
from engine.shared.cache.settings import (
    LARGEST_PART,
    MOST_GROWN,
    CacheSettings,
    TierSettings,
    passing,
)
from engine.shared.cache.value_files import APART, ValueFiles, taken

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
        self._directory = directory / f"l{level}"
        self._durable, self._patience = durable, patience
        # Beside the store and not in it: one that is damaged is put aside whole.
        self._files: ValueFiles | None = None
        if not durable:
            self._files = ValueFiles(directory / f"l{level}.values", clock=clock)
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

    def _kept(self) -> bool:
        """True if there is a store, of this process or of another."""
        return self._used or (self._directory / "cache.db").exists()

    # Hot path: what is not entered costs no look at the values.
    def get(self, key: str) -> Got | None:
        """What is there, or None; counts as a use."""
        try:
            size = self.ledger.touch(bytes.fromhex(key))
        except (SharedError, OSError) as failure:
            self._failed(failure)
            return None
        return None if size is None else self._value(key, size)

    def read(self, key: str) -> Got | None:
        """As `get`, and leaves no trace; it may be past the tier's time."""
        try:
            size = self.ledger.size(bytes.fromhex(key))
        except (SharedError, OSError) as failure:
            self._failed(failure)
            return None
        return None if size is None else self._value(key, size)

    def _value(self, key: str, size: int) -> Got | None:
        """The value of an entry of so many bytes, if it is there."""
        if self._files is None or size < APART:
            whole = self.store.get(key)
        else:
            try:
                whole = self._files.read(key)
            except OSError as failure:
                self._failed(failure)
                return None
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
        age, size = self._age(received), size_of(value)
        if self._files is not None and size + _RECEIVED.size >= APART:
            return self._put_apart(self._files, key, value, received)
        (refused,) = self._enter([(key, size, received, age)])
        if refused:
            return refused
        if self.store.set(key, _stamped(value, received), self._keeps - age):
            return "kept"
        self.drop(key)
        return "unfit"

    # Hot path: 60 us for 29 KB, of which the ledger is 15.
    def _put_apart(
        self, files: ValueFiles, key: str, value: Parts, received: ReceivedAt
    ) -> str:
        """As `put`, of a value that has a file of its own."""
        size, digest = size_of(value), bytes.fromhex(key)
        if not self._fits(size, self._age(received)):
            return "unfit"
        room, was = taken(size + _RECEIVED.size), 0

        def landing(_: int, before: int) -> None:
            nonlocal was
            was = before
            files.land(key, path)

        try:
            if not self._cache.evict and not self._room_for(digest, room):
                return "full"
            path = files.write(key, _stamped(value, received))
        except (SharedError, OSError) as failure:
            self.drop(key)
            self._failed(failure)
            return "unfit"
        try:
            line = (digest, room, received)
            (entered,), totals = self.ledger.put_all(
                (line,), most=self.settings.volume, landing=landing
            )
        except (SharedError, OSError) as failure:
            # An older one must not stay, and to strike it would wait once more.
            files.discard(path)
            files.remove(key)
            self._failed(failure)
            return "unfit"
        if not entered:
            files.discard(path)
            return "full"
        if 0 < was < APART:
            self.store.delete(key)
        self.fullness = self._fullness(*totals)
        return "kept"

    def _room_for(self, digest: bytes, size: int) -> bool:
        """False if so many bytes would be refused; asked before they are written."""
        entries, volume, allowed = self.ledger.totals()
        before = self.ledger.size(digest)
        fits = before is not None or entries < allowed
        return fits and volume - (before or 0) + size <= self.settings.volume

    def put_all(
        self,
        entries: Sequence[tuple[str, Parts, ReceivedAt]],
        patience: float = 0.0,
    ) -> int:
        """As so many `put`, in one go; how many are kept; `patience` as `store` has it."""
        if self._files is not None:
            return sum(self.put(*entry) == "kept" for entry in entries)
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
        usable = self.usable()
        found = [
            "" if usable and self._fits(size, age) else "unfit"
            for _, size, _, age in entries
        ]
        fit = [
            (bytes.fromhex(key), size + _RECEIVED.size, received)
            for (key, size, received, _), why in zip(entries, found, strict=True)
            if not why
        ]
        if not fit:
            return found
        keys = [key for (key, *_), why in zip(entries, found, strict=True) if not why]
        files = self._files

        def landing(number: int, before: int) -> None:
            if files is not None and before >= APART:
                files.remove(keys[number])

        try:
            entered, totals = self.ledger.put_all(
                fit,
                most=self.settings.volume,
                landing=None if files is None else landing,
            )
        except (SharedError, OSError) as failure:
            self._failed(failure)
            return ["unfit"] * len(entries)
        if any(entered):
            self.fullness = self._fullness(*totals)
        told = iter(entered)
        return [why or ("" if next(told) else "full") for why in found]

    def _fits(self, size: int, age: float) -> bool:
        """Whether a value of so many bytes and seconds belongs here at all."""
        volume = self.settings.volume
        largest = min(LARGEST, volume // LARGEST_PART) - _RECEIVED.size
        return size <= largest and age < self.settings.ttl and self.usable()

    def strike(self, key: str) -> None:
        """Drop a key if it is entered; cheap where it is not."""
        with self._quietly():
            if self.usable() and self.ledger.has(bytes.fromhex(key)):
                self.drop(key)

    def drop(self, key: str) -> None:
        """The value first: what is left then is an entry without one."""
        self.drop_all((key,))

    def drop_all(
        self, keys: Sequence[str], stored: Sequence[float] | None = None
    ) -> list[bool]:
        """
        As so many `drop`, in one go; True for each that was there.

        Args:
            stored: Of each its `Line.stored`: what was kept anew since stays, where it
                lies in a file of its own.
        """
        files, digests = self._files, [bytes.fromhex(key) for key in keys]

        def going(digest: bytes, size: int) -> None:
            if files is not None and size >= APART:
                files.remove(digest.hex())

        try:
            if files is None:
                self.store.delete_all(keys)
            else:
                sizes = [self.ledger.size(digest) or APART for digest in digests]
                small = [key for key, n in zip(keys, sizes, strict=True) if n < APART]
                if small:
                    self.store.delete_all(small)
            return self.ledger.drop_all(digests, stored=stored, going=going)
        except (SharedError, OSError) as failure:
            self._failed(failure)
        return [False] * len(keys)

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
        if self._files is not None:
            self._files.sweep(lambda _: True)
        before = self._values()
        if before == 0:
            return
        try:
            entries, _ = self.ledger.recount()
        except (SharedError, OSError) as failure:
            self._failed(failure)
            return
        after = self._values()
        if before is None or after is None:
            return
        # Others store and drop meanwhile: what is there before and after counts.
        if min(before, after) > entries + STRAYS:
            log.warning("Cache tier %d and its ledger disagree; cleared.", self.level)
            self.clear()

    def _values(self) -> int | None:
        """How many values there are, None if the store cannot be asked."""
        kept = self.store.count() if self._kept() else 0
        if kept is None or self._files is None:
            return kept
        return kept + self._files.count()

    def sweep(self) -> None:
        """Drop values past their time and such that nobody speaks of; count anew."""
        if self._kept():
            self.store.expire()
        with self._quietly():
            if self._files is not None:
                self._files.sweep(self._apart)
            self.ledger.recount()

    def _apart(self, key: str) -> bool:
        """Whether there is an entry whose value has a file of its own."""
        return (self.ledger.size(bytes.fromhex(key)) or 0) >= APART

    def clear(self) -> None:
        """Drop everything."""
        if self._kept():
            self.store.clear()
        if self._files is not None:
            self._files.clear()
        with self._quietly():
            self.ledger.clear()
        if self._files is not None:
            # What landed in between has no entry any more.
            self._files.clear()

    def put_aside(self) -> None:
        """What is there may crash whoever reads it: begin anew."""
        if self._kept():
            self.store.quarantine()
        if self._files is not None:
            self._files.clear()
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
        damaged = self._errors + (self._files.damaged if self._files is not None else 0)
        if not self._used:
            return damaged
        return damaged + self.store.failures + self.store.corrupt_values

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
