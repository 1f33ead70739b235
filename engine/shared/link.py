"""
Link: orders down and reports up, between the supervisor and one child.

Owns a socket pair that keeps message boundaries, JSON on it, and the kinds of
message.  Never blocks: what does not fit is told to the caller, who sends it
again or lets it be; the other end's death is an end of file.  Heartbeats and
counts are not sent here, they stand on the board.

Between `supervisor` and `task` or `admin`; made before the fork, each side
closes the other's end after it.
"""

from __future__ import annotations

import functools
import socket
from typing import TypeAlias

import msgspec
from msgspec import Struct

from engine.errors import SharedError
from engine.records import Shard
from engine.shared.limiter import RateLimits

#: Bytes of the largest message; the kernel's buffer holds several of them.
LARGEST = 60 * 1024

#: Characters of a reason that travel.
LONGEST_REASON = 2000

#: Characters of a refusal that travel.
LONGEST_MESSAGE = 20_000


class Assigned(Struct, frozen=True):
    """
    A shard and its place on the board.

    Attributes:
        shard: What is to be polled.
        slot: Its counters, notice and label.
        siblings: Slots of all shards that share its pages, by `index`; its
            own among them.
        below: The apis that are polled for its records, and those for theirs:
            no shards that could be held by themselves, but each with a place.
    """

    shard: Shard
    slot: int
    siblings: tuple[int, ...] = ()
    below: tuple[Assigned, ...] = ()

    @property
    def tree(self) -> tuple[Assigned, ...]:
        """The assignment of a shard and of all shards below it."""
        return (self, *self.below)


class Stop(Struct, frozen=True, tag="stop"):
    """Drain and end; `hurry`: drop the page in hand."""

    hurry: bool = False


class SetLevel(Struct, frozen=True, tag="level"):
    """A logger's level from now on; `logger` "" is the root."""

    logger: str
    level: str


class SetLimits(Struct, frozen=True, tag="limits"):
    """What the connector's tasks may ask from now on."""

    limits: RateLimits


class Ready(Struct, frozen=True, tag="ready"):
    """The child has opened what it needs and works."""


class ShardFinished(Struct, frozen=True, tag="finished"):
    """
    A shard's poll is over, delivered and saved.

    Attributes:
    """

    shard: Shard
    slot: int


class ShardFailed(Struct, frozen=True, tag="failed"):
    """
    A shard is FAILED and stays so until reload, restart or resume.

    Attributes:
        reason: Class and message of the failure, secrets cut.
        code: The exit code that a run with this failure ends with.
    """

    shard: Shard
    slot: int
    reason: str
    code: int

    def __post_init__(self) -> None:
        _shorten(self, self.reason)


class TakenOverNotice(Struct, frozen=True, tag="taken"):
    """
    Another engine runs the connector now: this one is to leave it alone.

    Attributes:
        reason: Who and since when, for people.
    """

    reason: str

    def __post_init__(self) -> None:
        _shorten(self, self.reason)


class BrokerWaiting(Struct, frozen=True, tag="broker"):
    """The task waits for the broker, or (`since` None) no longer does."""

    since: float | None
    reason: str = ""

    def __post_init__(self) -> None:
        _shorten(self, self.reason)


class Trouble(Struct, frozen=True, tag="trouble"):
    """
    Something is wrong that people have to mend, while the task goes on or waits.

    Attributes:
        kind: Which of the troubles a task may have at once.
        text: What is wrong and what to do; "" once it is over.
    """

    kind: str
    text: str

    def __post_init__(self) -> None:
        if len(self.text) > LONGEST_REASON:
            shorter = self.text[: LONGEST_REASON - 3] + "..."
            msgspec.structs.force_setattr(self, "text", shorter)


class BrokerKnown(Struct, frozen=True, tag="cluster"):
    """The broker has said which cluster it is part of."""

    cluster: str


class SetPaused(Struct, frozen=True, tag="pause"):
    """Begin no poll and send no request from now on, or go on."""

    paused: bool


class Ask(Struct, frozen=True, tag="ask"):
    """
    Admin asks the supervisor for something, and waits for its `AskOutcome`.

    Attributes:
        id: Of this request, for its answer.
        verb: One of `supervisor.commands.VERBS`.
        connector: Which one.
        task: For "restart-task": its number.
        tasks, failed: For "restart": its tasks too; only what has failed.
        state: For "put": RUNNING, PAUSED or STOPPED, of a connector that is new.
        draft: For "put": name of the file in the connectors' directory that is to
            take the place of the connector's own.
        who: Who asked, for the log.
    """

    id: int
    verb: str
    connector: str
    task: int = 0
    tasks: bool = False
    failed: bool = False
    state: str = "RUNNING"
    draft: str = ""
    who: str = ""


class AskOutcome(Struct, frozen=True, tag="told"):
    """
    What became of an `Ask`.

    Attributes:
        id: The request's.
        refusal: Why nothing was done, in one of `supervisor.commands.REFUSALS`; ""
            where it was.
        message: The refusal for people.
        created: A connector is there that was not.
        restarted: Numbers of the tasks that start anew.
    """

    id: int
    refusal: str = ""
    message: str = ""
    created: bool = False
    restarted: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.message) > LONGEST_MESSAGE:
            shorter = self.message[: LONGEST_MESSAGE - 3] + "..."
            msgspec.structs.force_setattr(self, "message", shorter)


Message: TypeAlias = (
    Stop
    | SetLevel
    | SetLimits
    | SetPaused
    | Ready
    | ShardFinished
    | ShardFailed
    | TakenOverNotice
    | BrokerWaiting
    | BrokerKnown
    | Trouble
    | Ask
    | AskOutcome
)

_ENCODER = msgspec.json.Encoder()


@functools.cache
def _decoder() -> msgspec.json.Decoder[Message]:
    # To look at all annotations of all of them takes as long as twenty imports, and
    # until a child speaks nobody needs it.
    return msgspec.json.Decoder(Message)


class Link:
    """One end.  Not shared between threads."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self.closed = False

    @staticmethod
    def pair() -> tuple[Link, Link]:
        """Two ends, before the fork; no program inherits them."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return Link(one), Link(other)

    def fileno(self) -> int:
        """The descriptor, for a selector; -1 once closed."""
        return self._end.fileno()

    def send(self, message: Message) -> bool:
        """
        Put a message on its way.

        Returns: False if the other end's buffer is full or it is gone, which
        the next `receive` tells: nothing of the message was sent.
        Raises: SharedError if the message is larger than 60 KiB.
        Blocks: never.
        """
        content = _ENCODER.encode(message)
        if len(content) > LARGEST:
            raise SharedError(
                f"{type(message).__name__} of {len(content)} bytes does not go over "
                f"a link ({LARGEST} at most)"
            )
        if self.closed:
            return False
        try:
            self._end.send(content, socket.MSG_NOSIGNAL)
        except OSError:
            # Full, or the other end is gone.  What it had sent before can
            # still be read, so only `receive` closes, at the end of file.
            return False
        return True

    def receive(self) -> list[Message]:
        """
        All messages that have arrived, in order; none is an empty list.

        `closed` is True afterwards if the other end is gone.
        Raises: SharedError for bytes that are no message.  Blocks: never.
        """
        messages: list[Message] = []
        while not self.closed:
            try:
                content = self._end.recv(LARGEST)
            except BlockingIOError:
                break
            except OSError:
                content = b""
            if not content:
                self.close()
                break
            try:
                messages.append(_decoder().decode(content))
            except msgspec.DecodeError as failure:
                raise SharedError(f"a link brought no message: {failure}") from failure
        return messages

    def close(self) -> None:
        """Close this end; the other one sees its end of file."""
        self.closed = True
        self._end.close()


def _shorten(message: Struct, reason: str) -> None:
    # A long reason must not keep a failure from being told.
    if len(reason) > LONGEST_REASON:
        shorter = reason[: LONGEST_REASON - 3] + "..."
        msgspec.structs.force_setattr(message, "reason", shorter)
