"""
Own: the cache as an api sees it whose answers no other task asks for.

Owns nothing but that knowledge: in a run that ends by itself such an answer stands in
memory until enough of them have gathered or its process ends (`shared.cache.owed`), and
who asks for it needs no agreement with others.

Path: `source.fetch.cache` -> here -> `shared.cache.tiers`
"""

from __future__ import annotations

from typing import Generic

from engine.shared.cache.flights import Flight, Flights
from engine.shared.cache.memory_tier import Value
from engine.shared.cache.tiers import CacheHit, Tiers


class OwnAnswers(Generic[Value]):
    """The same verbs as `Tiers` has for a layer of a fetch."""

    def __init__(self, tiers: Tiers[Value]) -> None:
        self._tiers = tiers
        self._flights = Flights(None)
        self.drop = tiers.drop
        self.count = tiers.count
        self.fingerprint = tiers.fingerprint

    def find(self, key: str, *, anew: bool = False) -> CacheHit[Value] | None:
        """As `Tiers.find`."""
        return self._tiers.find(key, anew=anew, own=True)

    def keep(self, key: str, value: Value) -> None:
        """As `Tiers.keep`; a process that is killed has kept what had gathered before."""
        self._tiers.keep(key, value, own=True)

    def lead(self, key: str) -> Flight | None:
        """The right to ask for a key, or None: another thread does."""
        return self._flights.lead(key)
