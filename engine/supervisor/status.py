"""
Status: what the supervisor knows, for those who show it.

Owns the shape of it and the file in the runtime directory that carries it; the
numbers that move stand on the board, not here.  It never holds a secret: the
reasons in it were cut where they were made.

Path: ``supervisor.telling`` writes -> here -> admin and the command line read
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

#: The file's name in a supervisor's runtime directory.
NAME = "status.json"


class ChildStatus(Struct, frozen=True, kw_only=True):
    """
    How one child is, for `status`.

    Attributes:
        key: Who it is: "orders/0", "admin".
        connector: Its connector, or "".
        number: Its task number.
        index: Its place on the board, -1 before its first start.
        auxiliary: It is no task.
        state: RUNNING, PAUSED, STOPPED, FAILED, UNASSIGNED (not started yet),
            RESTARTING, or DONE under `run --once`.
        pid: Of its process, 0 while there is none.
        listed: It was started since its connector was last STOPPED.
        restarts: Times it was started again.
        trace: Why it failed, or "".
        waiting: Why it waits for the broker, or waited when it was DONE, or "".
        troubles: What is wrong that people have to mend.
        last_exit: How it ended last in words, or "".
        drained: Times it was over `process.memory.max.bytes` and started anew.
        drained_ms: Wall milliseconds of the last of them, 0 before.
    """

    key: str
    connector: str = ""
    number: int = 0
    index: int = -1
    auxiliary: bool = False
    state: str = "UNASSIGNED"
    pid: int = 0
    listed: bool = False
    restarts: int = 0
    trace: str = ""
    waiting: str = ""
    troubles: tuple[str, ...] = ()
    last_exit: str = ""
    drained: int = 0
    drained_ms: int = 0


class ShardStatus(Struct, frozen=True, kw_only=True):
    """
    How one shard is, for `status`.

    Attributes:
        connector, api, entity: Whose.
        label: `Shard.label`.
        slot: Its counters on the board.
        task: Number of the task that holds it.
        failed: Why it was given up, or "".
        code: The exit code of that failure, 0 without.
        finished: Its poll is over, under `run --once`.
        below: It is polled for the records of another api, and is no shard of
            its own: what is said here of its state is that of its tree.
    """

    connector: str
    api: str
    entity: str | None
    label: str
    slot: int
    task: int
    failed: str = ""
    code: int = 0
    finished: bool = False
    below: bool = False


class Rebalances(Struct, frozen=True, kw_only=True):
    """
    How often shards changed hands, and how long that took.

    Attributes:
        completed: That are over, the first start's among them.
        running: One is under way.
        last_ms: Wall milliseconds of the end of the last one, 0 before.
        seconds: Of all that are over, together.
        longest: Seconds of the longest of them.
    """

    completed: int = 0
    running: bool = False
    last_ms: int = 0
    seconds: float = 0.0
    longest: float = 0.0

    def begun(self) -> Rebalances:
        """The same history with a rebalance that begins now."""
        return msgspec.structs.replace(self, running=True)

    def over(self, seconds: float, wall_ms: int) -> Rebalances:
        """The same history with the rebalance under way ended after so many seconds."""
        return Rebalances(
            completed=self.completed + 1,
            last_ms=wall_ms,
            seconds=self.seconds + seconds,
            longest=max(self.longest, seconds),
        )


class Snapshot(Struct, frozen=True, kw_only=True):
    """
    Everything, at one moment.

    Attributes:
        pid: The supervisor.
        started_ms: Wall milliseconds of its start.
        state: "starting", "running" or "stopping".
        children: All of them, tasks first.
        shards: All of them, in the order of the configuration.
        reloads: How many, by "ok" and "failed".
        reload_error: Why the last reload was refused, or "".
        scaling: Judgements by "connector direction reason".
        rebalances: How often shards changed hands.
        levels: Levels that were set, by logger.
        levels_changed: Wall milliseconds of their last change, by logger.
        broker: "host:port" of the embedded broker, or "".
        broker_pid: Its process, or 0.
        cluster: Id of the Kafka cluster, "" until a task has heard it.
        states: Connector -> RUNNING, PAUSED or STOPPED, as it is wanted.
        generation: Changes with the configuration.
    """

    pid: int
    started_ms: int
    state: str
    children: tuple[ChildStatus, ...] = ()
    shards: tuple[ShardStatus, ...] = ()
    reloads: Mapping[str, int] = {}
    reload_error: str = ""
    scaling: Mapping[str, int] = {}
    rebalances: Rebalances = Rebalances()
    levels: Mapping[str, str] = {}
    levels_changed: Mapping[str, int] = {}
    broker: str = ""
    broker_pid: int = 0
    cluster: str = ""
    states: Mapping[str, str] = {}
    generation: int = 0


def write(directory: Path, snapshot: Snapshot) -> None:
    """
    Replace the file, whole.

    Raises: OSError.
    """
    path = directory / NAME
    draft = path.with_suffix(".new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(msgspec.json.encode(snapshot))
    draft.replace(path)


def read(directory: Path) -> Snapshot | None:
    """The last one written, or None if there is none that can be read."""
    try:
        content = (directory / NAME).read_bytes()
        return msgspec.json.decode(content, type=Snapshot)
    except (OSError, msgspec.DecodeError):
        return None
