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

#: CPU seconds of the thread that asks: what it did, however busy the machine.
thread_cpu = time.thread_time
