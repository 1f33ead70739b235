"""
Group: what goes in one transaction, and how it may end.

Path: `sink.transactions`, `sink.exactly`, `sink.commit` -> here
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum
from typing import Protocol

from msgspec import Struct, field

from engine.errors import SinkError, StateError
from engine.records import Offset
from engine.sink.seams import Failure, Sending
from engine.sink.window import HandOver

#: Seconds of pages that go in one transaction with `transaction.boundary=poll`: a
#: commit costs about as much as writing 20 pages, whatever is in it.
TOGETHER = 0.2


class End(Enum):
    """How a transaction has ended."""

    COMMITTED = "committed"
    #: It was given up; what was written of it is hidden from readers of committed
    #: records.
    ABORTED = "aborted"
    #: It was to be committed and nobody said whether it is; the next start sees.
    DOUBTFUL = "doubtful"


class Boundary(Struct, frozen=True):
    """
    When a transaction ends.

    Attributes:
        collect: Seconds of pages in one.
        gated: True if nothing of it is sent before it ends
            (`transaction.boundary=interval`): a long one holds up no reader.
        flush: Seconds until every batch of it has to be acknowledged, from its end
            on (`producer.delivery.timeout.ms`).
    """

    collect: float = TOGETHER
    gated: bool = False
    flush: float = 30.0


class TransactionalShard(Protocol):
    """A shard whose position goes into transactions."""

    def save_in(
        self, sending: Sending, offset: Offset, done: Callable[[Failure], None]
    ) -> None:
        """Put the shard's position into a transaction; never blocks."""

    def settled(self) -> None:
        """Under the lock: all of the shard's pages in it are committed."""


class TransactionGroup(Struct, eq=False):
    """
    What goes in one transaction.

    Attributes:
        number: Counts them, from 1.
        since: Monotonic seconds of its first page; None while it is empty.
        opened: Monotonic seconds from which its batches are sent.
        demanded: Somebody waits for its end.
        active: Shards that are handing a page over to it.
        left: Pages and single records that are not acknowledged.
        entries: Its pages.
        records: Records of them.
        offsets: Where its shards stand behind them.
        after: To be called once it is committed.
        saving: Whose positions are acknowledged: told how the transaction ends.
        failure: Why it must not be committed.
    """

    number: int
    since: float | None = None
    opened: float = 0.0
    demanded: bool = False
    active: int = 0
    left: int = 0
    records: int = 0
    entries: list[HandOver] = field(default_factory=list)
    offsets: dict[TransactionalShard, Offset] = field(default_factory=dict)
    after: list[Callable[[Failure], None]] = field(default_factory=list)
    saving: list[Callable[[Failure], None]] = field(default_factory=list)
    failure: SinkError | StateError | None = None


class Committing(Protocol):
    """The transactions of a delivery, as what its shards share knows them."""

    @property
    def waiting(self) -> bool:
        """True while nothing is sent because a group is being collected."""

    def entered(self) -> AbstractContextManager[TransactionGroup]:
        """The current group, which does not end while something is put into it."""

    def demand(self) -> None:
        """Have the current group end now; for any thread."""

    def stuck(self, number: int) -> bool:
        """Under the lock: that group ends only if more of its pages is put into it."""

    def answered(self, group: TransactionGroup) -> None:
        """Under the lock: a page or a record of it is acknowledged."""

    def failed(self) -> None:
        """The delivery has failed; under its lock."""
