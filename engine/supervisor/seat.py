"""
Seat: one wanted child and what became of it.

Owns what the supervisor remembers of a child over all its processes, and how
that is told; it starts and ends nobody.

Path: ``supervisor.roster`` keeps them -> here -> ``supervisor.status``
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from engine.supervisor import restart
from engine.supervisor.child import Child, ChildSpec
from engine.supervisor.status import ChildStatus, ShardStatus


class Ending(Struct):
    """
    A child that has been asked to end.

    Attributes:
        deadline: Monotonic seconds; then it is killed.
        cause: "changed", "stop", "memory" or "silent".
        killed: It was.
    """

    deadline: float
    cause: str
    killed: bool = False


class Failure(Struct, frozen=True):
    """Why a child is not started again: the reason and its exit code."""

    why: str
    code: int


class Seat:
    """
    One wanted child and what became of it.

    Attributes:
        spec: As it is wanted now; the running process may still be another.
        index: Its place on the board.
        child: Its process, or None.
        ending: Set once the process has been asked to end.
        history: Unwanted ends that still matter.
        due: Monotonic seconds from which it may be started.
        failure: Set if it is not started again.
        done: Exit code of a child that has finished, under `once`.
        starts: Times it was started.
        listed: It was started since its connector was last STOPPED.
        held: Fingerprint of the last process, "" before the first.
        pages: That its shards had delivered when that one started.
        ready: The process has said that it works.
        failed: Slot -> failure of a shard that was given up.
        finished: Slots of shards whose poll is over.
        waiting: Why it waits for the broker, or "".
        troubles: What else is wrong with it, by kind.
        last_exit: How it ended last, in words.
        drained: Times it was over `process.memory.max.bytes`.
        drained_ms: Wall milliseconds of the last of them.
    """

    def __init__(self, spec: ChildSpec, index: int, due: float) -> None:
        self.spec = spec
        self.index = index
        self.due = due
        self.child: Child | None = None
        self.ending: Ending | None = None
        self.history: list[restart.Exited] = []
        self.failure: Failure | None = None
        self.done: int | None = None
        self.starts = 0
        self.listed = False
        self.held = ""
        self.pages = 0
        self.ready = False
        self.failed: dict[int, Failure] = {}
        self.finished: set[int] = set()
        self.waiting = ""
        self.troubles: dict[str, str] = {}
        self.last_exit = ""
        self.drained = self.drained_ms = 0

    @property
    def ailing(self) -> bool:
        """A reload or a resume is to try it again."""
        return self.failure is not None or bool(self.failed)

    @property
    def given_up(self) -> bool:
        """Nothing of it works any more."""
        shards = self.spec.shards
        return self.failure is not None or (
            bool(shards) and all(assigned.slot in self.failed for assigned in shards)
        )

    def troubled(self, kind: str, text: str) -> None:
        """Something is wrong, or with an empty text no longer."""
        if text:
            self.troubles[kind] = text
        else:
            self.troubles.pop(kind, None)

    def forgive(self, now: float) -> None:
        """Start with a clean slate: a reload, a restart, a resume."""
        self.history.clear()
        self.failure = None
        self.done = None
        self.due = now

    def status(self, run_state: str) -> ChildStatus:
        """
        How it stands, for those who show it.

        Args:
            run_state: RUNNING, PAUSED or STOPPED, as its connector is wanted.
        """
        trace = self.failure.why if self.failure is not None else ""
        if not trace and self.given_up:
            trace = "; ".join(failure.why for failure in self.failed.values())
        if self.given_up:
            state = "FAILED"
        elif self.done is not None:
            state = "DONE"
        elif run_state != "RUNNING":
            state = run_state
        elif self.child is not None:
            state = "RUNNING" if self.ready else "UNASSIGNED"
        else:
            state = "RESTARTING" if self.starts else "UNASSIGNED"
        return ChildStatus(
            key=self.spec.key,
            connector=self.spec.connector,
            number=self.spec.number,
            index=self.index,
            auxiliary=self.spec.auxiliary,
            state=state,
            pid=self.child.pid if self.child is not None else 0,
            listed=self.listed,
            restarts=max(0, self.starts - 1),
            trace=trace,
            waiting=self.waiting,
            troubles=tuple(self.troubles.values()),
            last_exit=self.last_exit,
            drained=self.drained,
            drained_ms=self.drained_ms,
        )

    def shards(self) -> Iterator[ShardStatus]:
        """How its shards stand, each with what is below it."""
        for assigned in self.spec.shards:
            failure = self.failed.get(assigned.slot) or self.failure
            # What is below a shard fares as it does.
            for each in assigned.tree:
                yield ShardStatus(
                    connector=each.shard.connector,
                    api=each.shard.api,
                    entity=each.shard.entity,
                    label=each.shard.label,
                    slot=each.slot,
                    task=self.spec.number,
                    failed=failure.why if failure is not None else "",
                    code=failure.code if failure is not None else 0,
                    finished=assigned.slot in self.finished,
                    below=each is not assigned,
                )
