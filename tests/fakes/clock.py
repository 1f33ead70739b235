"""
Clock: time that a test moves by hand.

Stands where `engine.clock.SYSTEM` stands.
"""

from __future__ import annotations


class HandClock:
    """Monotonic seconds and wall milliseconds, moved together by `move`."""

    def __init__(self, wall_ms: int = 1_700_000_000_000):
        self._now = 1000.0
        self._wall_ms = wall_ms

    def monotonic(self) -> float:
        return self._now

    def wall_ms(self) -> int:
        return self._wall_ms

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        self._wall_ms += round(seconds * 1000)

    def jump(self, seconds: float) -> None:
        """Set the wall clock, which the monotonic one does not notice."""
        self._wall_ms += round(seconds * 1000)
