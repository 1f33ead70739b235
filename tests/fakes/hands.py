"""A clock whose hands are moved by the test."""

from __future__ import annotations


class Hands:
    """A `Clock`: both clocks stand still until `turn`."""

    def __init__(self, seconds: float = 1000.0, wall_ms: int = 1_800_000_000_000):
        self.seconds = seconds
        self.wall = wall_ms

    def monotonic(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return self.wall

    def turn(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.seconds += seconds
        self.wall += round(seconds * 1000)
