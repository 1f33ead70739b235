"""
Commands: what admin may ask of the supervisor, and what becomes of it.

Owns the verbs and their refusals.  Each is answered before anything else is looked at;
what takes longer than a moment (a task that drains, one that starts) is only begun here,
and the status says how it goes on.  Nothing here waits for a child.

Path: ``admin.commands`` -> link -> ``supervisor.loop`` -> here -> link
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from engine.clock import SYSTEM, Clock
from engine.errors import EngineError
from engine.shared.link import Ask, AskOutcome, SetPaused
from engine.supervisor import targets
from engine.supervisor.orders import DesiredState, Orders, SupervisedConnector
from engine.supervisor.seat import Seat

_LOG = logging.getLogger(__name__)

#: Verb -> the run state it asks for.
STATES = {"pause": "PAUSED", "resume": "RUNNING", "stop": "STOPPED"}

VERBS = (*STATES, "restart", "restart-task", "create", "put", "delete", "hold", "free")

#: Seconds a connector is held for one change of its offsets, at most.
HOLD = 60.0

#: Why nothing was done: the connector or the task is not known, or is there already;
#: the engine ends or another one has the connector; it is not STOPPED; the
#: configuration is its owner's; it is no good; it cannot be kept on the disk.
REFUSALS = (
    "unknown",
    "unknown-task",
    "exists",
    "busy",
    "running",
    "owned",
    "invalid",
    "unsaved",
)


class Files(Protocol):
    """Where connectors are kept that come and go while the engine runs."""

    def put(self, connector: str, draft: str) -> DesiredState:
        """
        What is wanted with a draft in the place of the connector's file.

        Raises: EngineError: the draft is no good.
        """

    def drop(self, connector: str) -> DesiredState:
        """
        What is wanted without the connector.

        Raises: KeyError: it is in no file.
        """

    def keep(self) -> None:
        """
        Do to the files what `put` or `drop` prepared.

        Raises: OSError; nothing is changed then.
        """

    def changed(self) -> bool:
        """True if somebody has changed the files."""


class SupervisorActions(Protocol):
    """What is asked of the supervisor itself."""

    @property
    def files(self) -> Files | None:
        """Where connectors come and go, or None."""

    def prepare(self, wanted: DesiredState) -> Orders:
        """
        The orders of another configuration; what is not there is locked.

        Raises: EngineError; nothing is changed then.
        """

    def adopt(self, orders: Orders, connectors: Collection[str]) -> None:
        """Take up orders that were prepared for some connectors."""

    @property
    def ending(self) -> bool:
        """True once it was told to stop."""

    @property
    def orders(self) -> Orders:
        """What is wanted."""

    def seats(self, connector: str) -> Sequence[Seat]:
        """The connector's tasks."""

    def lives(self, connector: str) -> bool:
        """True while any process of it is there."""

    def want(self, orders: Orders) -> None:
        """Want something else from now on."""

    def renew(self, keys: Iterable[str]) -> None:
        """Start some children anew, with a clean slate."""


class CommandRefused(Exception):
    """
    Attributes:
        refusal: One of `REFUSALS`.
    """

    def __init__(self, refusal: str, message: str):
        super().__init__(message)
        self.refusal = refusal


class Commands:
    """Does what admin asks for, or says why not."""

    def __init__(self, supervisor: SupervisorActions, clock: Clock = SYSTEM) -> None:
        self._supervisor = supervisor
        self._clock = clock
        #: Connector -> monotonic seconds until which it stays STOPPED.
        self._holds: dict[str, float] = {}

    def obey(self, ask: Ask) -> AskOutcome:
        """
        The answer; raises nothing.

        Blocks: for the fsync of a small file, where a decision is kept.
        """
        try:
            if self._supervisor.ending:
                raise CommandRefused("busy", "The engine is stopping.")
            return self._done(ask)
        except CommandRefused as refused:
            return AskOutcome(ask.id, refused.refusal, str(refused))
        except EngineError as failure:
            return AskOutcome(ask.id, "invalid", str(failure))
        except OSError as failure:
            _LOG.error("Connector %s: not kept: %s", ask.connector, failure)
            return AskOutcome(
                ask.id,
                "unsaved",
                f"What was asked for cannot be saved, so nothing was done: "
                f"{failure.strerror or failure}",
            )

    def _done(self, ask: Ask) -> AskOutcome:
        if ask.verb in ("create", "put"):
            return self._put(ask)
        connector = self._connector(ask.connector)
        if ask.verb == "delete":
            return self._delete(connector, ask)
        if ask.verb in ("hold", "free"):
            return self._hold(connector, ask)
        if ask.verb in STATES:
            self._require_free(ask.connector)
            self._decide(connector, STATES[ask.verb])
            restarted: tuple[int, ...] = ()
        elif ask.verb == "restart":
            restarted = self._restart(connector, ask)
        elif ask.verb == "restart-task":
            restarted = self._restart_task(connector, ask.task)
        else:
            raise CommandRefused("invalid", f"The supervisor has no {ask.verb!r}.")
        _said(ask, _words(ask))
        return AskOutcome(ask.id, restarted=restarted)

    # --- connectors that come and go ---------------------------------------------

    def _put(self, ask: Ask) -> AskOutcome:
        """A draft takes the place of a connector's file, then of what runs."""
        supervisor, name = self._supervisor, ask.connector
        files = self._files()
        known = {each.name: each for each in supervisor.orders.wanted.connectors}
        old = known.get(name)
        if old is not None and ask.verb == "create":
            raise CommandRefused("exists", f"Connector {name} already exists")
        if old is not None:
            self._require_ours(old)
            self._require_free(name)
        wanted = files.put(name, ask.draft)
        made = next((c for c in wanted.connectors if c.name == name), None)
        if made is None:
            raise CommandRefused("invalid", f"Another connector has the name {name}")
        orders = supervisor.prepare(wanted)
        if old is None:
            targets.write(made.claims, name, ask.state)
            orders = orders.told(name, ask.state)
        files.keep()
        supervisor.adopt(orders, (name,))
        what = "changed" if old is not None else f"created as {ask.state}"
        _said(ask, f"{what}")
        return AskOutcome(ask.id, created=old is None)

    def _delete(self, connector: SupervisedConnector, ask: Ask) -> AskOutcome:
        """Delete a connector: its file and what was decided of it go, its stored offsets stay."""
        supervisor, name = self._supervisor, ask.connector
        self._require_ours(connector)
        self._require_free(name)
        files = self._files()
        try:
            orders = supervisor.prepare(files.drop(name))
        except KeyError:
            raise CommandRefused("unknown", f"Unknown connector {name}") from None
        files.keep()
        targets.forget(connector.claims, name)
        supervisor.adopt(orders, ())
        _said(ask, "deleted")
        return AskOutcome(ask.id)

    def _files(self) -> Files:
        files = self._supervisor.files
        if files is None:
            raise CommandRefused(
                "owned",
                "This engine keeps no connectors of REST: it was started without "
                "--connectors DIR.",
            )
        return files

    def _require_ours(self, connector: SupervisedConnector) -> None:
        if connector.owner:
            raise CommandRefused(
                "owned",
                f"Connector {connector.name} stands in {connector.owner}, a file of the "
                "command line: it is changed there, and taken up by a reload",
            )

    # --- offsets ---------------------------------------------------------------

    def _hold(self, connector: SupervisedConnector, ask: Ask) -> AskOutcome:
        """
        Nothing of it starts while its offsets are changed.

        "hold" is refused until its last task has ended.
        """
        name = connector.name
        if ask.verb == "free":
            self._holds.pop(name, None)
            return AskOutcome(ask.id)
        if self._supervisor.orders.state(name) != "STOPPED":
            raise CommandRefused("running", f"Connector {name} is not STOPPED")
        self._require_free(name)
        if self._supervisor.lives(name):
            raise CommandRefused("busy", f"Connector {name} is stopping")
        self._holds[name] = self._clock.monotonic() + HOLD
        _said(ask, "its offsets are changed")
        return AskOutcome(ask.id)

    def _require_free(self, name: str) -> None:
        if self._clock.monotonic() < self._holds.get(name, 0.0):
            raise CommandRefused(
                "busy", f"The offsets of connector {name} are being changed"
            )

    # --- run states ----------------------------------------------------------------

    def _connector(self, name: str) -> SupervisedConnector:
        for connector in self._supervisor.orders.wanted.connectors:
            if connector.name == name:
                return connector
        raise CommandRefused("unknown", f"Unknown connector {name}")

    def _decide(self, connector: SupervisedConnector, state: str) -> None:
        """Keep the decision, then tell the tasks."""
        name, supervisor = connector.name, self._supervisor
        if state != targets.read(connector.claims, name):
            targets.write(connector.claims, name, state)
        supervisor.want(supervisor.orders.told(name, state))
        mine = supervisor.seats(name)
        if state == "RUNNING":
            # What is FAILED is FAILED until its next resume.
            supervisor.renew(seat.spec.key for seat in mine if seat.ailing)
        # One that cannot be told ends, and starts anew as it is wanted.
        deaf = [seat.spec.key for seat in mine if not _held(seat, state == "PAUSED")]
        supervisor.renew(deaf)

    def _restart(self, connector: SupervisedConnector, ask: Ask) -> tuple[int, ...]:
        """Restart the tasks of a connector; without tasks there is nothing to do."""
        seats = self._supervisor.seats(connector.name) if ask.tasks else []
        return self._renewed(s for s in seats if s.ailing or not ask.failed)

    def _restart_task(
        self, connector: SupervisedConnector, number: int
    ) -> tuple[int, ...]:
        seats = self._supervisor.seats(connector.name)
        mine = [seat for seat in seats if seat.spec.number == number]
        stopped = self._supervisor.orders.state(connector.name) == "STOPPED"
        if not mine or stopped:
            raise CommandRefused(
                "unknown-task", f"Unknown task: {connector.name}-{number}"
            )
        return self._renewed(mine)

    def _renewed(self, seats: Iterable[Seat]) -> tuple[int, ...]:
        chosen = list(seats)
        self._supervisor.renew(seat.spec.key for seat in chosen)
        return tuple(seat.spec.number for seat in chosen)


def _held(seat: Seat, paused: bool) -> bool:
    """False if it lives and cannot be told."""
    return seat.child is None or seat.child.link.send(SetPaused(paused))


def _said(ask: Ask, what: str) -> None:
    _LOG.info(
        "Connector %s: %s, asked for by %s.",
        ask.connector,
        what,
        ask.who or "nobody who gave a name",
        extra={"connector": ask.connector},
    )


def _words(ask: Ask) -> str:
    if ask.verb == "restart-task":
        return f"restart of task {ask.task}"
    if ask.verb == "restart" and not ask.tasks:
        return "restart of the connector alone"
    if ask.verb == "restart":
        return "restart of its failed tasks" if ask.failed else "restart of its tasks"
    return STATES.get(ask.verb, ask.verb)
