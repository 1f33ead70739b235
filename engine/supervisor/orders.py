"""
Orders: what is wanted, as one value.

Owns the wanted state (configuration, number of tasks, run states) and what
follows from it: the list of children.  A reload, an order from admin and a
scaling step each make a new value; nothing here starts or ends a process.

Path: a reload, a link or ``supervisor.scale`` changes it -> here ->
``supervisor.loop`` closes the gap
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct

from engine.errors import ConfigError, SharedError
from engine.records import Shard
from engine.shared import limiter
from engine.shared.board import Board
from engine.shared.link import Assigned
from engine.supervisor.assign import (
    AssignableApi,
    Part,
    assign,
    most_tasks,
    part,
    shards,
)
from engine.supervisor.child import ChildSpec, Entry
from engine.supervisor.restart import RestartPolicy
from engine.supervisor.scale import Scaling
from engine.supervisor.targets import RUN_STATES


class SupervisedConnector(Struct, frozen=True, kw_only=True):
    """
    One connector as the supervisor sees it.

    Attributes:
        name: Its `name`.
        entry: What each of its tasks runs.
        apis: Its apis, a tree by its root, in the order of the file.
        fingerprint: Changes with anything that all of its tasks depend on; what
            concerns one api alone is in that api's fingerprint.
        tasks: `tasks.max`.
        claims: Directory of its lock: the place of its state.
        scaling: `auto.scaling.*`, or None: the number of tasks stays.
        limits: `rate.limit.*`, which a running task takes up.
        memory_max: `process.memory.max.bytes`, 0 for none.
        initial_state: Its run state until somebody decides on another.
        owner: The file of its owner, who alone changes it; "": REST may.
    """

    name: str
    entry: Entry
    apis: tuple[AssignableApi, ...]
    claims: Path
    fingerprint: str = ""
    tasks: int = 1
    scaling: Scaling | None = None
    limits: limiter.RateLimits = limiter.RateLimits()
    memory_max: int = 0
    initial_state: str = "RUNNING"
    owner: str = "its file"


class ChildTimeouts(Struct, frozen=True, kw_only=True):
    """
    How long the supervisor waits for its children, in seconds.

    Attributes:
        silence: `task.heartbeat.timeout.ms`.
        grace: `task.shutdown.graceful.timeout.ms`.
        hurry: What is left of the grace after a second signal.
        dump: From SIGABRT, which writes the stacks, to SIGKILL.
        restarts: `task.restart.*`.
    """

    silence: float = 30.0
    grace: float = 10.0
    hurry: float = 2.0
    dump: float = 2.0
    restarts: RestartPolicy = RestartPolicy()


class DesiredState(Struct, frozen=True, kw_only=True):
    """
    What the configuration asks for.

    Attributes:
        connectors: Each under its own name.
        others: Children that are no tasks, admin among them.
        patience: Times of this engine.
        secrets: Environment variables that no child may see: the
            configuration is resolved before the fork.
        embedded: The embedded broker is to run.
        level: `log.level`.
    """

    connectors: tuple[SupervisedConnector, ...]
    others: tuple[ChildSpec, ...] = ()
    patience: ChildTimeouts = ChildTimeouts()
    secrets: frozenset[str] = frozenset()
    embedded: bool = False
    level: str = "INFO"


class Orders(Struct, frozen=True):
    """
    The wanted state: the one value the loop converges on.

    Attributes:
        wanted: The configuration's part.
        tasks: Connector -> number of tasks.
        states: Connector -> one of `RUN_STATES`, where it is not RUNNING.
        revisions: Child -> how often it was told to start anew.
    """

    wanted: DesiredState
    tasks: Mapping[str, int]
    states: Mapping[str, str] = {}
    revisions: Mapping[str, int] = {}

    @classmethod
    def first(cls, wanted: DesiredState) -> Self:
        """
        The orders of a supervisor that starts.

        Raises: ConfigError if two connectors have one name.
        """
        names = [connector.name for connector in wanted.connectors]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"two connectors have the name {name!r}")
        return cls(wanted, {c.name: starting_tasks(c) for c in wanted.connectors})

    def reloaded(self, wanted: DesiredState) -> Self:
        """
        The same orders over a new configuration.

        What scaling has arrived at is kept where scaling has not changed.

        Raises: ConfigError.
        """
        fresh = type(self).first(wanted)
        before = {c.name: c for c in self.wanted.connectors}
        tasks = dict(fresh.tasks)
        for connector in wanted.connectors:
            old = before.get(connector.name)
            same = old is not None and (old.scaling, old.tasks) == (
                connector.scaling,
                connector.tasks,
            )
            if same and connector.scaling is not None:
                tasks[connector.name] = self.tasks[connector.name]
        return msgspec.structs.replace(
            fresh,
            tasks=tasks,
            states={k: v for k, v in self.states.items() if k in fresh.tasks},
            revisions=self.revisions,
        )

    def scaled(self, connector: str, tasks: int) -> Self:
        """The same orders with another number of tasks for a connector."""
        return msgspec.structs.replace(self, tasks={**self.tasks, connector: tasks})

    def told(self, connector: str, state: str) -> Self:
        """
        The same orders with another run state of a connector; an unknown one changes nothing.
        """
        if state not in RUN_STATES or connector not in self.tasks:
            return self
        return msgspec.structs.replace(self, states={**self.states, connector: state})

    def renewed(self, keys: set[str]) -> Self:
        """The same orders with some children to be started anew."""
        revisions = dict(self.revisions)
        for key in keys:
            revisions[key] = revisions.get(key, 0) + 1
        return msgspec.structs.replace(self, revisions=revisions)

    def state(self, connector: str) -> str:
        """RUNNING, PAUSED or STOPPED."""
        return self.states.get(connector, "RUNNING")


class SlotTable:
    """
    Where each shard's counters stand on the board, for the supervisor's life.

    A part keeps its place when its api is cut into more or fewer parts: the
    counters of an api never fall, and the board never fills up by scaling.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._slots: dict[Part, int] = {}
        self._tasks: dict[Part, int] = {}
        self._counts: dict[Part, int] = {}

    def slot(self, shard: Shard) -> int:
        """
        The place of a shard on the board; it is given out at the first question.

        Raises: SharedError if the board is full.
        """
        key = part(shard)
        if key not in self._slots:
            if len(self._slots) >= self._board.layout.shards:
                raise SharedError(
                    f"no more than {self._board.layout.shards} shards fit on the board"
                )
            self._slots[key] = len(self._slots)
        return self._slots[key]

    def publish(self, shard: Shard) -> None:
        """
        Write whose place it is, just before its task starts.

        A part of another cut must not read what the former cut knew of the
        end of its pages.
        """
        slot = self.slot(shard)
        key = part(shard)
        if self._counts.get(key) != shard.count:
            self._counts[key] = shard.count
            label = f"{shard.connector}/{shard.label}".encode()
            self._board.label(slot, label.replace(b"\0", b"")[:480])
            if self._board.notice(slot).read() is not None:
                self._board.notice(slot).publish(poll=-1, size=0)
                self._board.claims(slot).keep(None)

    def slots(self, connector: str) -> list[int]:
        """All places a connector ever had."""
        return [slot for key, slot in self._slots.items() if key[0] == connector]

    def tasks(self) -> dict[Part, int]:
        """The task number each part was last given."""
        return self._tasks

    def remember(self, children: Iterable[ChildSpec]) -> None:
        """These are the children that run from now on."""
        for spec in children:
            for assigned in spec.shards:
                self._tasks[part(assigned.shard)] = spec.number


def starting_tasks(connector: SupervisedConnector) -> int:
    """The number of tasks to begin with; `tasks.max` cut into scaling's bounds."""
    if connector.scaling is None:
        return connector.tasks
    most = most_tasks(connector.apis)
    upper = (
        connector.scaling.most if most is None else min(connector.scaling.most, most)
    )
    return max(min(connector.tasks, upper), min(connector.scaling.least, upper), 1)


def specs(orders: Orders, places: SlotTable) -> dict[str, ChildSpec]:
    """
    Every child there is, by key; those of a paused connector among them.

    Changes nothing: shards stay where `places` remembers them.

    Raises: SharedError if there are more shards than the board holds.
    """
    children: dict[str, ChildSpec] = {}
    for connector in orders.wanted.connectors:
        for spec in _tasks(connector, orders, places):
            children[spec.key] = spec
    for spec in orders.wanted.others:
        children[spec.key] = msgspec.structs.replace(
            spec, fingerprint=_revised(spec.fingerprint, spec.key, orders)
        )
    return children


def _tasks(
    connector: SupervisedConnector, orders: Orders, places: SlotTable
) -> list[ChildSpec]:
    wanted = orders.tasks[connector.name]
    cut = shards(connector.name, connector.apis, wanted)
    dealt = assign(cut, wanted, places.tasks())
    siblings: dict[tuple[str, str | None], list[int]] = {}
    for shard in cut:
        siblings.setdefault((shard.api, shard.entity), []).append(places.slot(shard))
    prints = {api.name: api.fingerprint for api in connector.apis}
    below = {api.name: api.below for api in connector.apis}
    children: list[ChildSpec] = []
    for number, mine in enumerate(dealt):
        key = f"{connector.name}/{number}"
        assigned = tuple(
            Assigned(
                s,
                places.slot(s),
                tuple(siblings[s.api, s.entity]),
                tuple(
                    Assigned(each, places.slot(each))
                    for each in (
                        Shard(s.connector, name, s.entity) for name in below[s.api]
                    )
                ),
            )
            for s in mine
        )
        parts = [f"{s.label}={prints[s.api]}" for s in mine]
        children.append(
            ChildSpec(
                key=key,
                fingerprint=_revised(
                    "|".join([connector.fingerprint, *parts]), key, orders
                ),
                entry=connector.entry,
                connector=connector.name,
                number=number,
                shards=assigned,
                memory_max=connector.memory_max,
            )
        )
    return children


def _revised(fingerprint: str, key: str, orders: Orders) -> str:
    return f"{fingerprint}#{orders.revisions.get(key, 0)}"
