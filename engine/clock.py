"""
Clock: the only door to time.

Owns nothing.  Every other file asks here, so that a test can move time by
hand and no test has to wait.

Durations are float seconds, points in time of the wall are integer
milliseconds since 1970 (Kafka's unit).
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the engine wants to know about time."""

    def monotonic(self) -> float:
        """Seconds of a clock that never jumps and is shared by all processes."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC; may jump."""


class SystemClock:
    """The machine's own clocks."""

    # Hot path: plain aliases, no extra frame for each page.
    monotonic = staticmethod(time.monotonic)

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


SYSTEM: Clock = SystemClock()

#: CPU seconds of all threads of this process.
process_cpu = time.process_time


def span(seconds: float) -> str:
    """A time in its two largest units: 12 s, 3 min 4 s, 2 h 5 min, 3 d 4 h."""
    left = max(0, round(seconds))
    if left < 60:
        return f"{left} s"
    if left < 3600:
        return f"{left // 60} min {left % 60} s"
    if left < 86400:
        return f"{left // 3600} h {left % 3600 // 60} min"
    return f"{left // 86400:,} d {left % 86400 // 3600} h"
