"""
Telling: how things stand, for systemd, for admin and for a display.

Owns the moments of readiness, the feeding of the watchdog, the line of `systemctl status`
and the snapshot that is written down.

Path: ``supervisor.loop`` -> here -> ``supervisor.status``, ``supervisor.notify``
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from engine.clock import Clock
from engine.observe import log
from engine.shared.board import Board
from engine.supervisor import status
from engine.supervisor.announcing import Announcing
from engine.supervisor.broker import EmbeddedBroker
from engine.supervisor.endings import Endings
from engine.supervisor.hearing import Hearing
from engine.supervisor.notify import Notify
from engine.supervisor.reloading import Reloading
from engine.supervisor.resizing import Resizing
from engine.supervisor.roster import Roster
from engine.supervisor.runtime import Runtime
from engine.supervisor.status import Snapshot

_LOG = logging.getLogger(__name__)

#: Seconds between two lines for `systemctl status`.
STATUS_PERIOD = 5.0

#: Seconds a child may be past its time before the watchdog is not fed any more.
PAST = 5.0


class Telling:
    """
    Tells how things stand.

    Args:
        on_tick: As of `loop.Supervisor`.

    Attributes:
        ready: systemd was told that the engine is ready.
    """

    def __init__(
        self,
        roster: Roster,
        *,
        endings: Endings,
        hearing: Hearing,
        reloading: Reloading,
        resizing: Resizing,
        announcing: Announcing,
        runtime: Runtime,
        broker: EmbeddedBroker | None,
        notify: Notify,
        on_tick: Callable[[Snapshot, Board], None] | None,
        clock: Clock,
    ) -> None:
        self._roster = roster
        self._endings = endings
        self._hearing = hearing
        self._reloading = reloading
        self._resizing = resizing
        self._announcing = announcing
        self._runtime = runtime
        self._broker = broker
        self._notify = notify
        self._on_tick = on_tick
        self._clock = clock
        self.ready = False
        self._all_ready = False
        self._started_ms = clock.wall_ms()
        self._fed = float("-inf")
        self._status_at = float("-inf")
        self._counted = (clock.monotonic(), 0)
        self._written: Snapshot | None = None
        self._said_all_failed = False

    def tell(self) -> None:
        """Whoever wants to know."""
        now = self._clock.monotonic()
        tasks = self._roster.tasks()
        self._all_ready = self._all_ready or all(
            seat.ready
            or seat.failure is not None
            or seat.done is not None
            or not self._roster.may_run(seat)
            for seat in tasks
        )
        self.show()
        all_failed = bool(tasks) and all(s.given_up for s in tasks)
        if all_failed and not self._said_all_failed:
            _LOG.error("No task works any more; the reasons stand above.")
        self._said_all_failed = all_failed
        if not self._notify.listening:
            return
        if self._all_ready and not self.ready:
            self.ready = True
            self._notify.ready()
        if self._notify.watchdog is not None and (
            now - self._fed >= self._notify.watchdog / 4 and self._all_within_time(now)
        ):
            self._fed = now
            self._notify.alive()
        if self._roster.stops:
            self._notify.extend(self._roster.orders.wanted.patience.grace + 5)
        elif not self.ready:
            self._notify.extend(30)
        if now - self._status_at >= STATUS_PERIOD:
            self._status_at = now
            self._notify.status(self._line(now))

    def _all_within_time(self, now: float) -> bool:
        """False if a child is past its time and could not be ended either."""
        patience = self._roster.orders.wanted.patience
        for seat in self._roster.everyone():
            if seat.child is None:
                continue
            if seat.ending is not None:
                if now > seat.ending.deadline + PAST:
                    return False
            elif self._endings.silence(seat, now) > patience.silence + PAST:
                return False
        return True

    def _line(self, now: float) -> str:
        connectors = self._roster.orders.wanted.connectors
        running = [seat for seat in self._roster.tasks() if seat.child is not None]
        slots = [slot for c in connectors for slot in self._roster.places.slots(c.name)]
        records = self._roster.board.totals(slots)["produced"]
        since, before = self._counted
        self._counted = now, records
        rate = (records - before) / max(now - since, 1e-3)
        line = f"{len(connectors)} connectors, {len(running)} tasks, {rate:.0f} rec/s"
        failed = sum(1 for seat in self._roster.tasks() if seat.given_up)
        if failed:
            line += f", {failed} FAILED"
        if any(seat.waiting for seat in running):
            line += ", waiting for the broker"
        return line

    def show(self) -> None:
        """Write down how things stand, if anything has changed."""
        snapshot = self._snapshot()
        if snapshot != self._written:
            try:
                status.write(self._runtime.path, snapshot)
                self._written = snapshot
            except OSError as failure:
                _LOG.debug("No status written: %s", failure)
        if self._on_tick is not None:
            try:
                self._on_tick(snapshot, self._roster.board)
            except Exception:  # noqa: BLE001 - the caller's code
                # A display is no reason to end what it shows.
                self._on_tick = None
                _LOG.warning("The display failed and is off.", exc_info=True)

    def _snapshot(self) -> Snapshot:
        state = "running" if self._all_ready else "starting"
        if self._roster.stops:
            state = "stopping"
        broker = self._broker
        return Snapshot(
            pid=os.getpid(),
            started_ms=self._started_ms,
            state=state,
            children=tuple(
                seat.status(self._roster.run_state(seat))
                for seat in self._roster.seats.values()
            ),
            shards=self._roster.shards,
            reloads=dict(self._reloading.tally),
            reload_error=self._reloading.error,
            scaling=dict(self._resizing.steps),
            rebalances=self._roster.rebalancing.tally,
            levels=log.levels(),
            levels_changed=dict(self._announcing.levels_changed),
            broker=broker.address if broker is not None else "",
            broker_pid=broker.pid if broker is not None else 0,
            cluster=self._hearing.cluster,
            generation=self._reloading.generation,
            states={
                name: self._roster.orders.state(name)
                for name in self._roster.orders.tasks
            },
        )
