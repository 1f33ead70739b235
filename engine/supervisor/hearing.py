"""
Hearing: what children say, and what follows.

Owns the reading of their links: each message changes what is known of a seat, or is an
order of admin's.

Path: ``supervisor.child`` (link) -> here -> ``supervisor.commands``, ``supervisor.seat``
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from engine.clock import Clock
from engine.errors import Exit, SharedError
from engine.shared import link
from engine.supervisor.announcing import Announcing
from engine.supervisor.child import Child
from engine.supervisor.endings import Endings
from engine.supervisor.roster import Roster
from engine.supervisor.seat import Failure, Seat

_LOG = logging.getLogger(__name__)


class Hearing:
    """
    Listens to every child.

    Args:
        announcing: Passes on a level that admin sets.
        obey: Does what admin asks for, and what was done is shown when it returns.
        stop: Begins the end of the engine.

    Attributes:
        cluster: Id of the Kafka cluster, "" until a task knows it.
    """

    def __init__(
        self,
        roster: Roster,
        endings: Endings,
        announcing: Announcing,
        *,
        obey: Callable[[link.Ask], link.AskOutcome],
        stop: Callable[[float], None],
        clock: Clock,
    ) -> None:
        self._roster = roster
        self._endings = endings
        self._announcing = announcing
        self._obey = obey
        self._stop = stop
        self._clock = clock
        self.cluster = ""

    def listen(self) -> None:
        """Read every link until nothing is left, and do what was said."""
        for seat in list(self._roster.everyone()):
            if seat.child is not None:
                self.hear(seat, seat.child)

    def hear(self, seat: Seat, child: Child) -> None:
        """Read one link to its end."""
        try:
            messages = child.link.receive()
        except SharedError as failure:
            _LOG.error("%s: %s", seat.spec.key, failure)
            return
        for message in messages:
            match message:
                case link.Ready():
                    seat.ready = True
                case link.ShardFinished():
                    seat.finished.add(message.slot)
                    self._roster.moved()
                case link.ShardFailed():
                    seat.failed[message.slot] = Failure(message.reason, message.code)
                    self._roster.moved()
                    _LOG.error(
                        "Shard %s is FAILED: %s",
                        message.shard.label,
                        message.reason,
                        extra={"connector": message.shard.connector},
                    )
                case link.TakenOverNotice():
                    self._let_go_of(seat.spec.connector, message.reason)
                case link.BrokerWaiting():
                    waits = message.since is not None
                    seat.waiting = (message.reason or "broker") if waits else ""
                case link.Trouble():
                    seat.troubled(message.kind, message.text)
                case link.BrokerKnown():
                    self.cluster = message.cluster
                case link.Ask():
                    self._answer(child, message)
                case link.SetLevel():
                    self._announcing.set_level(message)
                case _:
                    _LOG.warning("%s sent an order.", seat.spec.key)

    def _let_go_of(self, connector: str, why: str) -> None:
        """Another engine has a connector; without any this one ends."""
        now = self._clock.monotonic()
        mine = [s for s in self._roster.tasks() if s.spec.connector == connector]
        if all(seat.failure is not None for seat in mine):
            return
        _LOG.error("Connector %s ends here: %s.", connector, why)
        for seat in mine:
            seat.failure = Failure(why, Exit.TRY_AGAIN)
            self._endings.end(seat, "stop", now)
        if all(seat.failure is not None for seat in self._roster.tasks()):
            _LOG.error("No connector is left to run: this engine ends.")
            self._stop(now)

    def _answer(self, child: Child, ask: link.Ask) -> None:
        if not child.link.send(self._obey(ask)):
            _LOG.warning("admin does not take its answers: %s.", ask.verb)
