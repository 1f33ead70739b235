"""
Session: what a task has open between two absences of the broker.

Owns their ticking, their end and what is said while the state cannot be saved.  It is
made by `build.wiring` and driven by the main loop.

Path: `task.run` -> here
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from engine.errors import Doubtful, EngineError
from engine.records import Shard
from engine.shared.limiter import RateLimiter, RateLimits
from engine.shared.link import BrokerKnown, Message
from engine.sink.delivery import Delivery
from engine.task.absence import Absence
from engine.task.metering import Metering
from engine.task.pause import Gate
from engine.task.reporting import Reporter
from engine.task.run import ONCE_PATIENCE
from engine.task.shardloop import ShardLoop
from engine.task.troubles import Troubles
from engine.task.waited import WaitMeter
from engine.task.watching import RivalWatcher

log = logging.getLogger("task")


#: Said while there is no state that could be saved.
UNSAVED = "The state cannot be saved, so nothing more is delivered: %s"


RIVAL_GONE = "No other engine saves the offsets of this connector any more."


SAVED_AGAIN = "The state can be saved again; deliveries go on."


#: Seconds a stop waits for writes of which nothing is heard; what they hold is
#: asked for again by the next start.
LAST_WRITES = 3.0


class HttpSide(Protocol):
    """What is driven of `task.build.sources.Sources`."""

    @property
    def limiter(self) -> RateLimiter:
        """The limiter of the connector."""

    def tick(self, now: float) -> float:
        """See to what is due; seconds until it wants to be called again."""

    def cut(self) -> None:
        """End the requests under way."""

    def close(self) -> None:
        """Let go of connections and files."""


class TaskSession:
    """What a task has open between two absences of the broker."""

    def __init__(
        self,
        delivery: Delivery,
        metering: Metering,
        report: Callable[[Message], bool],
        remember: Callable[[RateLimits], None],
        absence: Absence,
        once: bool,
        gate: Gate,
    ):
        self._metering = metering
        self._once = once
        self._gate = gate
        self._troubles = Troubles(report)
        self._held_since = 0.0
        self._remember = remember
        self._report = report
        self._absence = absence
        self._cluster = ""
        self.loops: list[ShardLoop] = []
        self.done: list[Shard] = []
        self.sources: HttpSide | None = None
        self.held: WaitMeter | None = None
        self.watching: RivalWatcher | None = None
        self.reporter: Reporter | None = None
        self._delivery = delivery
        self._due = 0.0

    def tick(self, now: float) -> float:
        """As `task.run.OpenedTask`."""
        held = self._delivery.held
        self._troubles.look("state", UNSAVED % held if held else "", now, SAVED_AGAIN)
        if not held:
            self._held_since = now
        elif self._once and now - self._held_since > ONCE_PATIENCE:
            self._delivery.fail(Doubtful(UNSAVED % held))
        if self.watching is not None:
            self.watching.check()
            self._troubles.look("rival", self.watching.rival, now, RIVAL_GONE)
        due = self._delivery.tick(now)
        waits = self._delivery.waits(now, self._absence.first)
        self._absence.look(self._delivery.silent(now), waits, now)
        if self.sources is not None:
            if now >= self._due:
                self._due = now + self.sources.tick(now)
                if self.held is not None:
                    self.held.move()
                if self.reporter is not None:
                    self.reporter.report()
                cluster = self._delivery.cluster
                if cluster != self._cluster and self._report(BrokerKnown(cluster)):
                    self._cluster = cluster
            due = min(due, self._due - now)
        self._metering.tick(now)
        return due

    @property
    def away(self) -> bool:
        """As `task.run.OpenedTask`."""
        return bool(self._absence)

    def next_poll(self) -> float | None:
        """Monotonic seconds of the next tick of any shard; None if none waits."""
        return min(
            (loop.due_at for loop in self.loops if loop.due_at is not None),
            default=None,
        )

    def adopt(self, limits: RateLimits) -> None:
        """As `task.run.OpenedTask`."""
        self._remember(limits)
        if self.sources is not None:
            self.sources.limiter.adopt(limits)

    def pause(self, paused: bool) -> None:
        """As `task.run.OpenedTask`."""
        self._gate.closed = paused

    def cut(self) -> None:
        """As `task.run.OpenedTask`."""
        if self.sources is not None:
            self.sources.cut()
        if held := self._delivery.held:
            # What waits for it would wait longer than a stop may take.
            self._delivery.fail(Doubtful(UNSAVED % held))
        self._delivery.hurry(LAST_WRITES)

    def close(self, timeout: float) -> None:
        """As `task.run.OpenedTask`."""
        # The last numbers first: they are read out of parts that are closed below.
        if self.held is not None:
            self.held.move()
        if self.reporter is not None:
            self.reporter.report()
        # The delivery before the HTTP side: what is on its way to Kafka is worth waiting
        # for, and what an API still answers is asked for again by the next process.
        try:
            self._delivery.close(timeout)
        except EngineError as failure:
            log.debug("while closing: %s", failure)
        if self.sources is not None:
            self._metering.leave_limits()
            self.sources.close()
