"""
Rebalance: shards change hands, and how long that takes.

Owns when a rebalance begins and when it is over; pure.  One begins when a
shard is wanted with another task than before (the first start, a reload,
scaling) and is over once every task runs that may, with what is wanted of it,
and nobody holds on to anything else.  A pause, a crash and a restart move no
shard, and are none.

Path: ``supervisor.loop`` asks -> here -> ``status.Rebalances``

The counterpart of `connect-worker-rebalance-metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.supervisor.child import ChildSpec
from engine.supervisor.status import Rebalances

#: (connector, shard, task) of each shard that is wanted.
Hands = frozenset[tuple[str, str, int]]


def hands(children: Iterable[ChildSpec]) -> Hands:
    """Which shards each task is to hold, by its key."""
    return frozenset(
        (spec.connector, assigned.shard.label, spec.number)
        for spec in children
        for assigned in spec.shards
    )


class Rebalancing:
    """
    The rebalances of a supervisor's life.

    One that begins while another is under way makes that one longer: it is
    over when everything is where it is wanted last.
    """

    def __init__(self) -> None:
        self._hands: Hands = frozenset()
        self._began: float | None = None
        self._tally = Rebalances()

    @property
    def tally(self) -> Rebalances:
        """How many, how long, and whether one is under way."""
        return self._tally

    def want(self, wanted: Hands, now: float) -> None:
        """
        Take note of who is to hold what from now on.

        Args:
            now: Monotonic seconds.
        """
        if wanted == self._hands:
            return
        self._hands = wanted
        if self._began is None:
            self._began = now
            self._tally = self._tally.begun()

    def settle(self, now: float, wall_ms: int) -> None:
        """Everything is where it is wanted; nothing happens if it was before."""
        if self._began is not None:
            self._tally = self._tally.over(now - self._began, wall_ms)
            self._began = None
