"""
Known: keys that may stand in the shared tiers, where no other process enters them.

Owns what was there at a look, once that pays, and what was kept since.  A page of a run is
asked for once, and to find nothing of it took a read of each tier's ledger, 15 us.

Path: `shared.cache.tiers` -> here -> `shared_tier`
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from engine.errors import SharedError
from engine.shared.cache.shared_tier import SharedTier

#: Keys beyond which all may be there: they take 130 bytes each.
MOST = 30_000

#: Looks for which the ledgers are asked: to list 3,000 entries takes 10 ms, as these do.
FEW = 500


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
        self._asked = 0
        # Guards the first look: who comes second waits for what the first one finds.
        self._threads = threading.Lock()

    def add(self, key: str) -> None:
        """It is about to be entered."""
        if not self._all:
            self._keys.add(key)
            if len(self._keys) > MOST:
                self._forget()

    def may_have(self, key: str) -> bool:
        """False if a key is in no tier.  Blocks: once, for some 10 ms."""
        if not self._looked and not self._look():
            return True
        return self._all or key in self._keys

    def _look(self) -> bool:
        """True if it is known since what there is."""
        with self._threads:
            if self._looked:
                return True
            self._asked += 1
            try:
                entries = {tier: tier.ledger.totals()[0] for tier in self._tiers}
                held = [tier for tier in self._tiers if entries[tier]]
                if held and self._asked < FEW:
                    return False
                for tier in held:
                    if max(entries[tier], tier.settings.entries) > MOST:
                        # Not that many places are looked at.
                        self._forget()
                        break
                    self._keys.update(map(bytes.hex, tier.ledger.digests()))
            except (SharedError, OSError):
                self._forget()
            self._looked = True
            return True

    def _forget(self) -> None:
        self._all = True
        self._keys.clear()
