"""
Owning: whether a connector delivers exactly once in this engine, and as whose owner.

Owns a lock and a file in the runtime directory: the first task of a connector asks
the broker, fences the owner before and writes what came of it; the others, and those
that are started again, do as it says.  One that is started again looks first whether
another engine has taken the connector over meanwhile: fencing its tasks in turn
would go on for ever.

Path: `build.wiring` asks before it reads the state -> here -> `sink.fencing`
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from engine.errors import (
    Doubtful,
    Misconfigured,
    NoTransactions,
    StateError,
    Unavailable,
)
from engine.shared.lock import open_private, try_lock
from engine.sink import fencing
from engine.sink.fencing import TaskCountRecord
from engine.sink.fetching import TopicReader
from engine.sink.produce.producer import Producer
from engine.sink.state import State
from engine.sink.statetopic import TopicState

log = logging.getLogger("task")

#: Seconds between two attempts to get the lock.
LOOK = 0.05

#: Starts that a broker's answers may leave in doubt, with `requested` and nobody who
#: had transactions before, until it is taken for one without; and seconds between them.
TRIES, AGAIN = 3, 1.0


#: Bytes of a decision, which are taken before anything is decided.
ROOM = 2048


class Decided(Struct, frozen=True):
    """
    What the first task found.

    Attributes:
        owner: As it was written; nobody's where none was.
        why: Why delivery is at least once although more was asked for, or "".
        exactly: Records and positions go in transactions.
    """

    owner: TaskCountRecord
    exactly: bool = False
    why: str = ""


class TransactionClients(Protocol):
    """What is asked of `task.build.kafka.KafkaBuilder`."""

    def transactional(self, name: str) -> Producer:
        """A producer of a transactional id: whoever had it before is fenced."""

    def transactional_id(self, task: int | str | None = None) -> str:
        """The id of a task's number, or of a word."""


def fence(brokers: TransactionClients, state: State, connector: str) -> None:
    """
    Fence an engine that has transactions of the connector, wherever it runs.

    Before positions are changed by hand: it would write its own over them.

    Raises: Misconfigured without the right to its ids; Unavailable.
    Blocks: for some requests.
    """
    if not isinstance(state, TopicState):
        return
    with state.log() as (topic, place):
        if fencing.current(topic, place, connector).tasks:
            fencing.take_over(
                brokers.transactional,
                topic,
                place,
                connector,
                tasks=0,
                name=brokers.transactional_id,
            )


class Owning:
    """
    Args:
        runtime: The engine's runtime directory.
        task: The task's number.
        tasks: `tasks.max`: as many ids are expected to be used.
        support: `exactly.once.support`.
    """

    def __init__(
        self,
        brokers: TransactionClients,
        state: TopicState,
        *,
        runtime: Path,
        connector: str,
        task: int,
        tasks: int,
        support: str,
    ):
        self._brokers = brokers
        self._state = state
        self._lock = runtime / f"owner-{connector}.lock"
        self._file = runtime / f"owner-{connector}.json"
        self._fresh = self._file.with_suffix(".new")
        self._connector = connector
        self._task = task
        self._tasks = max(tasks, task + 1)
        self._support = support

    def decide(self, progress: Callable[[int, int], None]) -> Decided:
        """
        Become the owner, or see that this engine still is.

        Args:
            progress: Called while another task decides; may raise.

        Raises: TakenOver; Misconfigured with `required` where it is not possible;
            what the state topic is not fit for; Unavailable.
        Blocks: for some requests, and while another task of the engine decides.
        """
        with self._alone(progress):
            decided = self._decided()
            if decided is None:
                no_room = self._reserve()
                if no_room and self._support == "required":
                    raise Misconfigured(f"exactly.once.support=required: {no_room}")
                decided = self._begin(no_room)
                if not no_room:
                    self._write(decided)
            elif decided.exactly:
                grown = self._go_on(decided)
                if grown != decided:
                    # Without room each task above the first ones grows it anew.
                    with suppress(OSError):
                        self._write(grown)
                decided = grown
        return decided

    def _begin(self, no_room: str = "") -> Decided:
        """
        The first of the engine.

        Args:
            no_room: Why the other tasks cannot be told, "" if they can: without
                that each would fence the others.
        """
        tasks = 0 if self._support == "disabled" or no_room else self._tasks
        with self._state.log() as (topic, place):
            before = fencing.current(topic, place, self._connector)
            if not tasks and not before.tasks:
                return Decided(TaskCountRecord(), why=no_room)
            # An owner before may have a transaction open: only once it is fenced is
            # that known to be over.
            may_do_without = self._support == "requested" and not before.tasks
            try:
                owner = self._taken(topic, place, tasks, TRIES if may_do_without else 1)
            except (NoTransactions, Doubtful) as failure:
                if not may_do_without:
                    raise
                return Decided(TaskCountRecord(), why=str(failure))
            except Misconfigured as failure:
                if self._support == "required":
                    raise Misconfigured(
                        f"exactly.once.support=required: {failure}"
                    ) from failure
                if self._support == "disabled":
                    # Its transactions end by themselves.
                    log.warning("The owner before was not fenced: %s", failure)
                return Decided(
                    TaskCountRecord(), why=str(failure) if tasks else no_room
                )
        return Decided(owner, why=no_room, exactly=tasks > 0)

    def _taken(
        self, topic: TopicReader, place: tuple[str, int], tasks: int, tries: int
    ) -> TaskCountRecord:
        doubt: Doubtful | None = None
        while True:
            tries -= 1
            try:
                return fencing.take_over(
                    self._brokers.transactional,
                    topic,
                    place,
                    self._connector,
                    tasks=tasks,
                    name=self._brokers.transactional_id,
                )
            except Unavailable:
                # What a try before has left open may be in the way.
                if doubt is None:
                    raise
                raise doubt from None
            except Doubtful as failure:
                doubt = failure
                if not tries:
                    raise
            threading.Event().wait(AGAIN)

    def _go_on(self, decided: Decided) -> Decided:
        """One that is started again, or another task of the engine."""
        mine = decided.owner
        with self._state.log() as (topic, place):
            found = fencing.current(topic, place, self._connector)
            if found.gen > mine.gen:
                raise fencing.taken_over(self._connector, mine.gen, found)
            if self._task < mine.tasks:
                return decided
            owner = fencing.grow(
                self._brokers.transactional,
                place,
                self._connector,
                msgspec.structs.replace(mine, tasks=self._task + 1),
                self._brokers.transactional_id("fence"),
            )
        return Decided(owner, exactly=True)

    @contextmanager
    def _alone(self, progress: Callable[[int, int], None]) -> Iterator[None]:
        fd = open_private(self._lock)
        try:
            while not try_lock(fd):
                progress(0, 0)
                threading.Event().wait(LOOK)
            yield
        finally:
            # Closed, it is free.
            os.close(fd)

    def _decided(self) -> Decided | None:
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(content, type=Decided)
        except msgspec.DecodeError as error:
            raise StateError(f"{self._file} cannot be read: {error}") from error

    def _reserve(self) -> str:
        """Take the room that the decision needs; why there is none, or ""."""
        try:
            self._put(b" " * ROOM)
        except OSError as error:
            self._fresh.unlink(missing_ok=True)
            return (
                f"the tasks cannot agree on transactions in runtime.dir "
                f"{self._file.parent}: {error.strerror}"
            )
        return ""

    def _write(self, decided: Decided) -> None:
        # Blanks behind it are none of JSON's business.
        self._put(msgspec.json.encode(decided).ljust(ROOM))
        os.replace(self._fresh, self._file)

    def _put(self, content: bytes) -> None:
        # In place, in the room that was taken.
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(self._fresh, flags, 0o600), "wb") as file:
            file.write(content)
            file.truncate()
