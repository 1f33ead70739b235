"""
Memory tier: L1, values as they are, in this process.

Owns the entries, their order of leaving and their bytes.  What leaves is told to whoever
made the tier: it may have to be stored below.

Path: `shared.cache.tiers` -> here
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from engine.clock import Clock
from engine.shared.cache.ages import Ages, ReceivedAt
from engine.shared.cache.ledger import PARTS, Line, order
from engine.shared.cache.settings import (
    LARGEST_PART,
    CacheSettings,
    TierSettings,
    passing,
)

log = logging.getLogger(__name__)

#: Bytes an entry of L1 costs beside its value.
OVERHEAD = 600

Value = TypeVar("Value")


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
        left: Callable[[str, Value, ReceivedAt], None],
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
        # Between the threads of a task: guards that `bytes` is the sum of what `_entries` holds.
        # Two threads that took the same entry out would give its bytes back twice, and the tier
        # would grow past its limit. A look at one entry is a single step of the dictionary and
        # goes without the lock.
        self._threads = threading.Lock()
        self._entries: dict[str, Held[Value]] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

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

    def put(self, key: str, value: Value, size: int, received: ReceivedAt) -> bool:
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
            self._entries[key] = Held(value, size, received, self._number)
            self.bytes += size - before
            if self._cache.evict:
                leaving = self._passing()
        self.evictions += len(leaving)
        self.evicted_since += len(leaving)
        self._retire(leaving)
        return True

    def drop(self, key: str) -> None:
        self._take_out(key)

    def let_go(self, key: str, value: Value) -> None:
        """Drop a key if it still has this very value."""
        with self._threads:
            held = self._entries.get(key)
            if held is not None and held.value is value:
                del self._entries[key]
                self.bytes -= held.size

    def peek(self, key: str) -> tuple[Value, ReceivedAt] | None:
        """The value and when it was received; no use of it."""
        held = self._entries.get(key)
        return None if held is None else (held.value, held.received)

    def _take_out(self, key: str) -> Held[Value] | None:
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
        """The keys of entries that have to leave for others; under the lock."""
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


class Held(Generic[Value]):
    """An entry of L1."""

    __slots__ = ("part", "received", "size", "stored", "used", "uses", "value")

    def __init__(
        self, value: Value, size: int, received: ReceivedAt, number: int
    ) -> None:
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
