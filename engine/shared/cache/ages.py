"""
Ages: how old a response is, whatever the machine's clocks do.

Owns the moment of receipt as entries carry it, and its distance from now.

Path: `shared.cache.tiers`, `memory_tier`, `shared_tier`, `ledger` -> here
"""

from __future__ import annotations

from msgspec import Struct

from engine.clock import Clock
from engine.shared.cell import boot


class ReceivedAt(Struct, frozen=True):
    """
    When a response was received, so that its age survives any clock.

    Attributes:
        monotonic, wall: Seconds of both clocks.
        boot: Of which start of the machine.
    """

    monotonic: float
    wall: float
    boot: bytes


class Ages:
    """How old a response is, by a clock and the present start of the machine."""

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._wall_ms = clock.wall_ms
        self._boot = boot()

    def now(self) -> ReceivedAt:
        """The present moment, by both clocks."""
        return ReceivedAt(self._monotonic(), self._wall_ms() / 1000, self._boot)

    def of(self, received: ReceivedAt) -> float:
        """
        Seconds since; the larger by the two clocks, endless if nobody knows.

        The wall may have been set back, and the other clock stops while the
        machine sleeps: too old is safe, too young never.
        """
        wall = self._wall_ms() / 1000 - received.wall
        if received.boot == self._boot:
            return max(0.0, wall, self._monotonic() - received.monotonic)
        return wall if wall >= 0 else float("inf")
