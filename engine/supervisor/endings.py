"""
Endings: every way in which a child ends.

Owns the asking, the insisting and the killing, the burial, and the judgement on an end that
nobody asked for: again after a while, or FAILED.

Path: ``supervisor.loop`` -> here -> ``supervisor.restart`` judges
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator

from engine.clock import Clock
from engine.errors import Exit
from engine.observe import machine
from engine.supervisor import restart
from engine.supervisor.broker import EmbeddedBroker
from engine.supervisor.child import Child
from engine.supervisor.roster import Roster
from engine.supervisor.seat import Ending, Failure, Seat

_LOG = logging.getLogger(__name__)

#: Seconds that admin has to end once the tasks are gone.
AUXILIARY_GRACE = 2.0


class Endings:
    """
    Ends children and buries them.

    Args:
        broker: Whose process is not ours to judge, or None.

    Attributes:
        undrained: A task has not drained at the engine's stop.
        listens_since: Monotonic seconds since which silence counts: while we were
            stopped nobody could have been heard.
    """

    def __init__(
        self, roster: Roster, *, broker: EmbeddedBroker | None, clock: Clock
    ) -> None:
        self._roster = roster
        self._broker = broker
        self._clock = clock
        self.undrained = False
        self.listens_since = clock.monotonic()

    def reaped(self) -> Iterator[tuple[Seat, Child, int]]:
        """
        Every child that has ended, to be buried; signals merge, so all of them.

        Yields: its seat, the child and its exit code.
        """
        while True:
            try:
                pid, raw = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(raw)
            for seat in self._roster.everyone():
                if seat.child is not None and seat.child.pid == pid:
                    yield seat, seat.child, code
                    break
            else:
                # Not ours, or the broker's: an orphan that was handed to us
                # (as PID 1 of a container) is reaped and not judged.
                if self._broker is not None:
                    self._broker.reaped(pid, code)

    def bury(self, seat: Seat, child: Child, code: int) -> None:
        """Clear up behind a child whose last words were heard."""
        now = self._clock.monotonic()
        child.link.close()
        ending, seat.child, seat.ending = seat.ending, None, None
        seat.ready = False
        waited, seat.waiting = seat.waiting, ""
        seat.troubles.clear()
        watch = self._roster.board.watch(seat.index)
        watch.put("pid", 0)
        watch.put("last_exit", code)
        slot = self._roster.board.child(seat.index)
        slot.become("ended")
        if ending is not None and ending.cause in ("changed", "stop"):
            if not seat.spec.auxiliary and code != Exit.OK:
                self.undrained = self.undrained or ending.cause == "stop"
                reason = "within its grace" if ending.killed else f"({code})"
                _LOG.warning("%s did not drain %s.", child.spec.key, reason)
            seat.due = now
            return
        exited = restart.Exited(
            code=code,
            at=now,
            lived=now - child.started,
            cause=ending.cause if ending is not None else "",
        )
        seat.last_exit = exited.why
        if exited.cause == "memory":
            seat.drained += 1
            seat.drained_ms = self._clock.wall_ms()
        if self._roster.stops:
            return
        if (
            self._roster.once
            and not seat.spec.auxiliary
            and code >= 0
            and ending is None
        ):
            # What it waited for at its end was not reached.
            seat.done, seat.waiting = code, waited
            return
        self._judge(seat, exited, now)

    def _judge(self, seat: Seat, exited: restart.Exited, now: float) -> None:
        limits = self._roster.orders.wanted.patience.restarts
        verdict = restart.decide(exited, seat.history, now, limits)
        seat.history = restart.remembered([*seat.history, exited], now)
        watch = self._roster.board.watch(seat.index)
        watch.put("crashes", restart.crashes(seat.history, now))
        if isinstance(verdict, restart.GiveUp) and seat.spec.auxiliary:
            verdict = restart.RestartAfter(limits.backoff_max)
        if isinstance(verdict, restart.GiveUp):
            seat.failure = Failure(verdict.why, exited.code)
            self._roster.board.child(seat.index).become("failed")
            _LOG.error(
                "%s %s. It is FAILED until a reload or restart; the others go on.",
                seat.spec.key,
                verdict.why,
            )
            return
        seat.due = now + verdict.after
        _LOG.warning(
            "%s %s; it starts again in %.1f s.",
            seat.spec.key,
            exited.why,
            verdict.after,
        )

    def end_the_silent(self) -> None:
        """End who gives no sign of life, holds too much, or is past its time."""
        now = self._clock.monotonic()
        patience = self._roster.orders.wanted.patience
        for seat in self._roster.everyone():
            child = seat.child
            if child is None:
                continue
            if seat.ending is not None:
                if now >= seat.ending.deadline and not seat.ending.killed:
                    seat.ending.killed = True
                    child.signal(signal.SIGKILL)
                continue
            silence = self.silence(seat, now)
            if silence > patience.silence:
                _LOG.error(
                    "%s gave no sign of life for %.0f s while it was %s: ending it.",
                    seat.spec.key,
                    silence,
                    self._roster.board.child(seat.index).phase,
                )
                # SIGABRT writes the stacks of all its threads; a process that
                # is stopped, or deaf to it, is killed.
                seat.ending = Ending(now + patience.dump, "silent")
                child.signal(signal.SIGABRT)
                continue
            most = child.spec.memory_max
            if (
                most
                and (used := machine.resident(child.pid)) > most
                and self._got_on(seat, child, now)
            ):
                _LOG.warning(
                    "%s holds %d bytes, more than process.memory.max.bytes=%d: "
                    "it drains and starts anew.",
                    seat.spec.key,
                    used,
                    most,
                )
                self.end(seat, "memory", now)

    def _got_on(self, seat: Seat, child: Child, now: float) -> bool:
        """
        True if a child has delivered a page, or has had its time to.

        A limit that no task can keep makes a connector slow; it must not keep
        it from its first page for ever.
        """
        return (
            self._roster.pages(child.spec) > seat.pages
            or now - child.started >= restart.HEALTHY
        )

    def silence(self, seat: Seat, now: float) -> float:
        """Seconds for which a child gave no sign of life."""
        silence = self._roster.board.child(seat.index).silence()
        heard = now - self.listens_since
        return min(heard, silence if silence is not None else heard)

    def end(self, seat: Seat, cause: str, now: float) -> None:
        """Ask a child to end, once; `cause` as in `seat.Ending`."""
        if seat.child is None or seat.ending is not None:
            return
        grace = self._roster.orders.wanted.patience.grace
        if seat.spec.auxiliary:
            grace = min(grace, AUXILIARY_GRACE)
        seat.ending = Ending(now + grace, cause)
        seat.child.signal(signal.SIGTERM)
        if self._roster.stops > 1:
            seat.child.hurry()
            hurry = self._roster.orders.wanted.patience.hurry
            seat.ending.deadline = min(seat.ending.deadline, now + hurry)

    def hurry(self, now: float) -> None:
        """Asked again to stop: what is left of the grace is cut."""
        patience = self._roster.orders.wanted.patience
        _LOG.warning("Asked again to stop: hurrying.")
        for seat in self._roster.everyone():
            if seat.child is not None and seat.ending is not None:
                seat.child.hurry()
                left = patience.hurry if self._roster.stops == 2 else 0.0
                seat.ending.deadline = min(seat.ending.deadline, now + left)

    def kill(self) -> None:
        """End all of them at once. Blocks: until the last is gone."""
        for seat in self._roster.everyone():
            if seat.child is not None:
                seat.child.signal(signal.SIGKILL)
        for seat in self._roster.everyone():
            if seat.child is not None:
                try:
                    os.waitpid(seat.child.pid, 0)
                except ChildProcessError:
                    pass
                seat.child.link.close()
                seat.child = None
