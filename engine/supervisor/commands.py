"""
Commands: what admin may ask of the supervisor, and what becomes of it.

Owns the verbs and their refusals.  Each is answered before anything else is looked at;
what takes longer than a moment (a task that drains, one that starts) is only begun here,
and the status says how it goes on.  Nothing here waits for a child.

Path: ``admin.commands`` -> link -> ``supervisor.loop`` -> here -> link
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

from engine.shared.link import Ask, SetPaused, Told
from engine.supervisor import targets
from engine.supervisor.orders import Connector, Orders
from engine.supervisor.seat import Seat

_LOG = logging.getLogger(__name__)

#: Verb -> the run state it asks for.
STATES = {"pause": "PAUSED", "resume": "RUNNING", "stop": "STOPPED"}

VERBS = (*STATES, "restart", "restart-task")

#: Why nothing was done: the connector or the task is not known; the engine ends or
#: another one has the connector; the configuration is its owner's; it is no good; what
#: was asked for cannot be kept on the disk.
REFUSALS = ("unknown", "unknown-task", "busy", "owned", "invalid", "unsaved")


class Crew(Protocol):
    """What is asked of the supervisor itself."""

    @property
    def ending(self) -> bool:
        """True once it was told to stop."""

    @property
    def orders(self) -> Orders:
        """What is wanted."""

    def seats(self, connector: str) -> Sequence[Seat]:
        """The connector's tasks."""

    def want(self, orders: Orders) -> None:
        """Want something else from now on."""

    def renew(self, keys: Iterable[str]) -> None:
        """Start some children anew, with a clean slate."""


class Refused(Exception):
    """
    Attributes:
        refusal: One of `REFUSALS`.
    """

    def __init__(self, refusal: str, message: str):
        super().__init__(message)
        self.refusal = refusal


class Commands:
    """Does what admin asks for, or says why not."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def obey(self, ask: Ask) -> Told:
        """
        The answer; raises nothing.

        Blocks: for the fsync of a small file, where a decision is kept.
        """
        try:
            if self._crew.ending:
                raise Refused("busy", "The engine is stopping.")
            return self._done(ask)
        except Refused as refused:
            return Told(ask.id, refused.refusal, str(refused))
        except OSError as failure:
            _LOG.error("Connector %s: not kept: %s", ask.connector, failure)
            return Told(
                ask.id,
                "unsaved",
                f"What was asked for cannot be saved, so nothing was done: "
                f"{failure.strerror or failure}",
            )

    def _done(self, ask: Ask) -> Told:
        connector = self._connector(ask.connector)
        if ask.verb in STATES:
            self._decide(connector, STATES[ask.verb])
            restarted: tuple[int, ...] = ()
        elif ask.verb == "restart":
            restarted = self._restart(connector, ask)
        elif ask.verb == "restart-task":
            restarted = self._restart_task(connector, ask.task)
        else:
            raise Refused("invalid", f"The supervisor has no {ask.verb!r}.")
        _LOG.info(
            "Connector %s: %s, asked for by %s.",
            ask.connector,
            _words(ask),
            ask.who or "nobody who gave a name",
            extra={"connector": ask.connector},
        )
        return Told(ask.id, restarted=restarted)

    def _connector(self, name: str) -> Connector:
        for connector in self._crew.orders.wanted.connectors:
            if connector.name == name:
                return connector
        raise Refused("unknown", f"Unknown connector {name}")

    def _decide(self, connector: Connector, state: str) -> None:
        """Keep the decision, then tell the tasks."""
        name, crew = connector.name, self._crew
        if state != targets.read(connector.claims, name):
            targets.write(connector.claims, name, state)
        crew.want(crew.orders.told(name, state))
        mine = crew.seats(name)
        if state == "RUNNING":
            # What is FAILED is FAILED until its next resume.
            crew.renew(seat.spec.key for seat in mine if seat.ailing)
        # One that cannot be told ends, and starts anew as it is wanted.
        deaf = [seat.spec.key for seat in mine if not _held(seat, state == "PAUSED")]
        crew.renew(deaf)

    def _restart(self, connector: Connector, ask: Ask) -> tuple[int, ...]:
        """Of a connector alone nothing runs: its restart concerns its tasks or none."""
        seats = self._crew.seats(connector.name) if ask.tasks else []
        return self._renewed(s for s in seats if s.ailing or not ask.failed)

    def _restart_task(self, connector: Connector, number: int) -> tuple[int, ...]:
        seats = self._crew.seats(connector.name)
        mine = [seat for seat in seats if seat.spec.number == number]
        stopped = self._crew.orders.state(connector.name) == "STOPPED"
        if not mine or stopped:
            raise Refused("unknown-task", f"Unknown task: {connector.name}-{number}")
        return self._renewed(mine)

    def _renewed(self, seats: Iterable[Seat]) -> tuple[int, ...]:
        chosen = list(seats)
        self._crew.renew(seat.spec.key for seat in chosen)
        return tuple(seat.spec.number for seat in chosen)


def _held(seat: Seat, paused: bool) -> bool:
    """False if it lives and cannot be told."""
    return seat.child is None or seat.child.link.send(SetPaused(paused))


def _words(ask: Ask) -> str:
    if ask.verb == "restart-task":
        return f"restart of task {ask.task}"
    if ask.verb == "restart" and not ask.tasks:
        return "restart of the connector alone"
    if ask.verb == "restart":
        return "restart of its failed tasks" if ask.failed else "restart of its tasks"
    return STATES.get(ask.verb, ask.verb)
