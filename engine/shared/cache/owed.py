"""
Owed: answers that stand in the memory of one process only, until they are stored.

Owns which they are, and their way into the tier that outlives the engine: many together,
when enough have gathered and at the end.  What is large leaves memory with that, so that
a run's memory does not grow with its pages, and the next page lies where one lay before.

Path: `shared.cache.tiers` -> here -> `memory_tier`, `shared_tier`
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic

from engine.clock import Clock
from engine.shared.cache.memory_tier import MemoryTier, Value
from engine.shared.cache.packs import PACKED, Parts
from engine.shared.cache.shared_tier import SharedTier

#: Entries that are moved together.
IN_ONE_GO = 64

#: Bytes that gather before they are moved: a memory that is touched for the first time
#: costs more than to copy into it, and what has gathered still lies near the processor.
ENOUGH = 8 << 20

#: Seconds that a move may take while pages still come, and who drops a key waits for one.
PATIENCE = 5.0


class OwedEntries(Generic[Value]):
    """
    Safe to use from several threads.

    Args:
        l1: Where they stand.
        lower: Where they are stored; None: no tier outlives the engine, and they are
            stored where they leave L1.
        encode: A value as bytes, or as parts that need not be copied together.
        wanted: Whether a key may be stored at all.
        background: They are moved by a thread of this object's own, begun at first
            need; else by whoever adds one.
    """

    def __init__(
        self,
        l1: MemoryTier[Value],
        lower: SharedTier | None,
        *,
        encode: Callable[[Value], Parts],
        wanted: Callable[[SharedTier, str], bool],
        background: bool,
        clock: Clock,
    ) -> None:
        self._l1 = l1
        self._lower = lower
        self._encode = encode
        self._wanted = wanted
        self._background = background
        self._clock = clock
        # Guards the four below, between the threads that keep answers and the one that moves
        # them. No value is written under it.
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        #: What is being stored at this moment, and told when it is over.
        self._in_hand: frozenset[str] = frozenset()
        self._landed = threading.Condition(self._lock)
        # One move at a time: else an older value of a key could be stored last.
        self._moving = threading.Lock()
        self._gathered = threading.Event()
        self._mover: threading.Thread | None = None

    def __contains__(self, key: str) -> bool:
        return key in self._sizes

    def add(self, key: str, size: int) -> None:
        """A key's value, of about so many bytes, was put into L1."""
        with self._lock:
            self._bytes += size - self._sizes.pop(key, 0)
            self._sizes[key] = size
            if self._bytes < ENOUGH or self._lower is None:
                return
            if self._background and self._mover is None:
                self._mover = threading.Thread(
                    target=self._move, name="cache-owed", daemon=True
                )
                self._mover.start()
        if self._background:
            self._gathered.set()
        else:
            self._meanwhile()

    def pay(self, key: str) -> bool:
        """
        A key is no longer owed; True if it was.

        Blocks: while it is being stored, a moment: what was stored is older than
        whatever follows.
        """
        with self._lock:
            if key in self._in_hand:
                self._landed.wait_for(lambda: key not in self._in_hand, PATIENCE)
            size = self._sizes.pop(key, None)
            self._bytes -= size or 0
            return size is not None

    def clear(self) -> None:
        """Nothing is owed any more."""
        with self._lock:
            self._sizes.clear()
            self._bytes = 0

    def settle(self, deadline: float, *, leaving: bool = False) -> int:
        """
        Store what is owed, the most recently used first; how many are stored.

        Args:
            deadline: Monotonic seconds.
            leaving: What is large and stored leaves L1.

        Blocks: at most about until the deadline.
        """
        lower, moved = self._lower, 0
        if lower is None or not self._sizes:
            return 0
        if not self._moving.acquire(timeout=max(0.0, deadline - self._now())):
            return 0
        try:
            lower.agree()
            newest_first = self._l1.keys()
            keys = [key for key in newest_first if key in self._sizes]
            for at in range(0, len(keys), IN_ONE_GO):
                left = deadline - self._now()
                if left <= 0 or not lower.usable():
                    break
                moved += self._store(lower, keys[at : at + IN_ONE_GO], left, leaving)
        finally:
            self._moving.release()
        return moved

    def _store(
        self, lower: SharedTier, keys: Sequence[str], left: float, leaving: bool
    ) -> int:
        with self._lock:
            taken = [(key, self._sizes.pop(key)) for key in keys if key in self._sizes]
            self._bytes -= sum(size for _, size in taken)
            self._in_hand = frozenset(key for key, _ in taken)
        try:
            found = []
            for key, size in taken:
                held = self._l1.peek(key)
                if held is not None and self._wanted(lower, key):
                    found.append((key, size, *held))
            # All tasks of a run end at once, and each opens the database and writes.
            stored = lower.put_all(
                [(key, self._encode(value), at) for key, _, value, at in found], left
            )
        finally:
            with self._lock:
                self._in_hand = frozenset()
                self._landed.notify_all()
        if leaving and stored == len(found):
            for key, size, value, _ in found:
                if size >= PACKED:
                    self._l1.let_go(key, value)
        return stored

    def _meanwhile(self) -> None:
        self.settle(self._now() + PATIENCE, leaving=True)

    def _move(self) -> None:
        """The mover's thread: a move whenever enough has gathered."""
        while True:
            self._gathered.wait()
            self._gathered.clear()
            self._meanwhile()

    def _now(self) -> float:
        return self._clock.monotonic()
