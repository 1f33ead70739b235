"""
Pulse: whether the loops of a task are alive.

A task has one loop for each shard and the main one.  Only the main loop
beats on the board, and only while every other loop is within its own time:
a loop that waits on purpose says so, a loop that works says how long that
may take.  So an endless loop in one shard is noticed though the main loop
goes on.

Path: ``task.shardloop`` marks -> here -> ``task.run`` beats
"""

from __future__ import annotations

import threading

from engine.clock import SYSTEM, Clock


class Pulse:
    """
    What one loop is doing, and since when.

    Args:
        fetch: Seconds a request and its reading may take.
        work: Seconds anything else may take (`task.heartbeat.timeout.ms`).
    """

    __slots__ = ("_allowed", "_clock", "_fetch", "_since", "_work", "phase")

    def __init__(self, *, fetch: float, work: float, clock: Clock = SYSTEM):
        self._clock = clock
        self._fetch = fetch
        self._work = work
        self._allowed: float | None = None
        self._since = 0.0
        self.phase = "starting"

    # Hot path: each is called once a page and costs about 100 ns.
    def fetching(self) -> None:
        """The loop waits for an answer, at most for the request's deadline."""
        self.phase = "fetch"
        self._since = self._clock.monotonic()
        self._allowed = self._fetch

    def working(self) -> None:
        """Say that the loop computes."""
        self.phase = "work"
        self._since = self._clock.monotonic()
        self._allowed = self._work

    def idle(self, phase: str) -> None:
        """The loop waits on purpose, for as long as it takes."""
        self.phase = phase
        self._allowed = None

    def alive(self, now: float) -> bool:
        """True unless the loop has been at one thing for too long."""
        # Read once: the loop may go idle between a test and a use.
        allowed = self._allowed
        return allowed is None or now - self._since <= allowed


class LoopStopping:
    """
    A loop's way to wait: cut short by stopping, and known to be waiting.

    It is `engine.seams.Stopping` for one loop of a task.
    """

    def __init__(self, stop: threading.Event, pulse: Pulse):
        self._stop = stop
        self._pulse = pulse

    def is_set(self) -> bool:
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        pulse = self._pulse
        before = pulse.phase
        pulse.idle("wait")
        stopped = self._stop.wait(seconds)
        if before == "fetch":
            pulse.fetching()
        else:
            pulse.working()
        return stopped
