"""
De-duplication: which records were delivered not long ago.

Owns the keys seen and when.  A key is remembered once its record is acknowledged;
while it is on its way it counts as well, since what follows it is not delivered
without it: no position passes a record that is not acknowledged.  Memory of one
shard in its task: an aid, not the delivery guarantee.

Path: `compile` -> here
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final

from engine.clock import Clock

#: Most keys of an api; the oldest go first.
MOST: Final = 1_000_000
#: Bytes of a key.
WIDTH: Final = 16


class Seen:
    """
    The keys of one shard.

    Args:
        window: Seconds after which a key is forgotten, since it was last seen.
        clock: Monotonic time.
        most: Most keys kept.
    """

    def __init__(self, window: float, clock: Clock, most: int = MOST):
        self._window = window
        self._clock = clock
        self._most = most
        # Oldest first: moved to the end whenever it is seen again.
        self._keys: OrderedDict[bytes, float] = OrderedDict()
        #: Keys acknowledged since `take`, if anybody takes them.
        self._new: list[bytes] | None = None
        #: Keys of records on their way.
        self._under_way: set[bytes] = set()

    def begin(self) -> None:
        """
        A poll begins: what is still on its way was given up with the one before,
        and comes again.
        """
        self._under_way.clear()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys

    def age(self, key: bytes) -> float:
        """Seconds since a key was last seen; KeyError for one that is not there."""
        return self._clock.monotonic() - self._keys[key]

    def restore(self, keys: Sequence[bytes], age: float) -> None:
        """
        Take in what was seen so many seconds ago, the oldest first; what is
        acknowledged from now on is kept for `take`.
        """
        self._new = self._new or []
        if age < self._window:
            when = self._clock.monotonic() - age
            for key in keys:
                self._keys[key] = when
                self._keys.move_to_end(key)

    def take(self) -> list[bytes]:
        """The keys acknowledged since the last time."""
        new, self._new = self._new or [], []
        return new

    def fresh(self, keys: Sequence[bytes]) -> tuple[list[int], Callable[[], None]]:
        """
        Which of a page's records are new.

        Args:
            keys: What makes records equal, as `digest` gives it.

        Returns:
            The places of the new ones, and what to call once they are
            acknowledged.
        """
        now = self._clock.monotonic()
        self._forget(now)
        seen = self._keys
        under_way = self._under_way
        new: dict[bytes, int] = {}
        for place, key in enumerate(keys):
            if key in seen:
                seen[key] = now
                seen.move_to_end(key)
            elif key not in new and key not in under_way:
                new[key] = place
        under_way.update(new)
        return list(new.values()), lambda: self._learn(list(new))

    def _learn(self, keys: list[bytes]) -> None:
        now = self._clock.monotonic()
        seen = self._keys
        if self._new is not None:
            self._new += [key for key in keys if key not in seen]
        for key in keys:
            seen[key] = now
            seen.move_to_end(key)
        self._under_way.difference_update(keys)
        while len(seen) > self._most:
            seen.popitem(last=False)

    def _forget(self, now: float) -> None:
        seen = self._keys
        while seen:
            key, when = next(iter(seen.items()))
            if now - when < self._window:
                return
            del seen[key]


def digest(key: bytes) -> bytes:
    """A key's 16 bytes: a chance meeting among a million is not to be feared."""
    return blake2b(key, digest_size=WIDTH).digest()
