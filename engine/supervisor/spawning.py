"""
Spawning: one child out of its seat.

Owns what a process is started with and what it must let go of.

Path: ``supervisor.loop`` -> here -> ``supervisor.child``
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from engine.clock import Clock
from engine.supervisor.child import ChildSpec, LetGo, spawn
from engine.supervisor.roster import Roster
from engine.supervisor.runtime import Runtime
from engine.supervisor.seat import Seat

_LOG = logging.getLogger(__name__)

#: Seconds between two attempts to fork when the machine has no room.
NO_ROOM = 1.0


class Spawning:
    """
    Starts the children that are wanted and not there.

    Args:
        ours: The supervisor's own descriptors that a child has to let go of.
    """

    def __init__(
        self,
        roster: Roster,
        runtime: Runtime,
        *,
        ours: Callable[[], Sequence[LetGo]],
        clock: Clock,
    ) -> None:
        self._roster = roster
        self._runtime = runtime
        self._ours = ours
        self._clock = clock

    def start(self, seat: Seat, now: float) -> None:
        """Start the seat's child, or try again later."""
        if seat.index < 0:
            seat.index = self._roster.free_index()
            if seat.index < 0:
                return
            self._roster.board.watch(seat.index).clear()
        for assigned in seat.spec.everything:
            self._roster.places.publish(assigned.shard)
        try:
            seat.child = spawn(
                seat.spec,
                board=self._roster.board,
                index=seat.index,
                runtime=self._runtime.path,
                others=self._descriptors(),
                secrets=self._roster.orders.wanted.secrets,
                clock=self._clock,
            )
        except OSError as failure:
            seat.due = now + NO_ROOM
            _LOG.warning(
                "No process for %s (%s); trying again.", seat.spec.key, failure.strerror
            )
            return
        seat.starts += 1
        seat.listed = True
        seat.held = seat.spec.fingerprint
        seat.pages = self._roster.pages(seat.spec)
        seat.failed.clear()
        seat.finished.clear()
        self._roster.moved()
        watch = self._roster.board.watch(seat.index)
        watch.put("pid", seat.child.pid)
        watch.put("started_ns", int(seat.child.started * 1e9))
        watch.put("restarts", seat.starts - 1)
        watch.put("wanted", 1)
        _LOG.info(
            "%s started as process %d%s.",
            seat.spec.key,
            seat.child.pid,
            _with_shards(seat.spec),
        )

    def _descriptors(self) -> list[LetGo]:
        links = [
            seat.child.link.close
            for seat in self._roster.everyone()
            if seat.child is not None
        ]
        return [self._runtime.forget, *links, *self._ours()]


def _with_shards(spec: ChildSpec) -> str:
    if spec.auxiliary:
        return ""
    count = len(spec.shards)
    return f" with {count:,} shard{'' if count == 1 else 's'}"
