"""
Known: keys that may stand in the shared tiers, where no other process enters them.

Owns what was there at the first look and what was kept since.  A page of a run is asked for
once, and to find nothing of it took a read of each tier's ledger, 15 us.

Path: `shared.cache.tiers` -> here -> `shared_tier`
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from engine.errors import SharedError
from engine.shared.cache.shared_tier import SharedTier

#: Keys beyond which all may be there: they take 130 bytes each.
MOST = 30_000


class KnownKeys:
    """
    Safe to use from several threads.

    Args:
        tiers: Those below memory.
    """

    def __init__(self, tiers: Sequence[SharedTier]) -> None:
        self._tiers = tiers
        self._keys: set[str] = set()
        self._all = False
        self._looked = False
        # Guards the first look: who comes second waits for what the first one finds.
        self._threads = threading.Lock()

    def add(self, key: str) -> None:
        """It is about to be entered."""
        if not self._all:
            self._keys.add(key)
            if len(self._keys) > MOST:
                self._forget()

    def may_have(self, key: str) -> bool:
        """False if a key is in no tier.  Blocks: the first time, for 10 ms at most."""
        if not self._looked:
            self._look()
        return self._all or key in self._keys

    def _look(self) -> None:
        with self._threads:
            if self._looked:
                return
            try:
                for tier in self._tiers:
                    entries = tier.ledger.totals()[0]
                    if max(entries, bool(entries) * tier.settings.entries) > MOST:
                        # Not that many places are looked at.
                        self._forget()
                        break
                    if entries:
                        lines = tier.ledger.lines()
                        self._keys.update(line.digest.hex() for line in lines)
            except (SharedError, OSError):
                self._forget()
            self._looked = True

    def _forget(self) -> None:
        self._all = True
        self._keys.clear()
