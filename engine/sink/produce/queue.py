"""
Queue: the batches of one partition, and their sequence numbers.

Owns their order, from the newest that still grows to the oldest that is not
acknowledged, and the idempotent producer's numbers of the partition.  Knows no
socket; time is handed in.

Path: `sink.produce.producer` puts batches here, `sink.produce.sender` takes them.
Source: KIP-98 (sequences), KIP-360 (a producer bumps its own epoch).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from engine.errors import SinkError
from engine.sink.batch import Batch, Sealed
from engine.sink.compress import Packing

#: Sequences go from 0 to this and begin again (KIP-98).
SEQUENCE_MASK = 0x7FFFFFFF

#: The last epoch of a producer id.
LAST_EPOCH = 0x7FFF


class RefusedRecord(Struct, frozen=True):
    """
    A record that the broker does not take.

    Attributes:
        index: Place in its batch as it was put.
        code: Kafka's error code.
        message: What the broker says of it, "" for nothing.
    """

    index: int
    code: int
    message: str


class Receipt(Protocol):
    """What is told how a batch ended."""

    @property
    def wanted(self) -> bool:
        """False once nobody waits any more; what was not sent is dropped then."""

    def answered(self, why: SinkError | None) -> None:
        """Once, on the sender's thread: written, or why it never will be."""

    def refused(self, records: Sequence[RefusedRecord]) -> None:
        """On the sender's thread: these are left out, the others go on."""


class _Settled:
    """The receipt of what has ended: there is nobody left to tell."""

    wanted = False

    def answered(self, why: SinkError | None) -> None:
        return None

    def refused(self, records: Sequence[RefusedRecord]) -> None:
        return None


SETTLED = _Settled()


class Queued:
    """
    A batch in its queue.

    Attributes:
        growing: True until it is closed.
        full: True if it is to go without lingering on.
        members: Where each record stood in the batch as it was put, or None.
        parts: How many batches this one has become, shared by them.
        group: The transaction it belongs to, 0 without.
    """

    __slots__ = (
        "batch",
        "created",
        "flying",
        "full",
        "group",
        "growing",
        "header",
        "members",
        "packing",
        "parts",
        "receipt",
        "sealed",
        "tries",
    )

    def __init__(
        self, batch: Batch, packing: Packing, receipt: Receipt, created: float
    ) -> None:
        self.batch = batch
        self.packing = packing
        self.receipt: Receipt = receipt
        self.created = created
        self.growing = True
        self.full = False
        self.group = 0
        self.flying = False
        self.tries = 0
        self.sealed: Sealed | None = None
        self.header = b""
        self.members: Sequence[int] | None = None
        self.parts = [1]

    def settle(self, why: SinkError | None) -> None:
        """End a batch: its receipt hears of the last part of it."""
        self.parts[0] -= 1
        # Hot path: it and its receipt know each other. What is written would else stay in
        # memory until the next collection, and be all that a collection has to look for.
        receipt, self.receipt = self.receipt, SETTLED
        if why is not None:
            if self.parts[0] >= 0:
                self.parts[0] = -1
                receipt.answered(why)
        else:
            self.sealed = None
            if not self.parts[0]:
                receipt.answered(None)


class Numbers(Struct):
    """
    A producer's numbers for one partition.

    Attributes:
        producer: -1 without idempotence.
        sequence: Of the next record.
        taken: The one that the broker expects next, of a transaction.
        doubtful: A batch of the transaction was lost on its way, and may arrive late.
    """

    producer: int = -1
    epoch: int = -1
    sequence: int = -1
    transactional: bool = False
    taken: int = 0
    doubtful: bool = False


class Partition:
    """
    The batches that wait for one partition, and the numbers they get.

    `waiting` is changed under the producer's lock, by the shards' threads and the
    sender's; all else belongs to the sender's thread.

    Attributes:
        waiting: Batches not sent yet, the newest last.
        sent: Batches with numbers, not acknowledged, in their order.
        flying: How many of them are on their way.
        on: The connection they are on.
        retry_at: Not before this.
        failures: Failed tries in a row.
        reason: What kept the oldest from being written, "" for nothing.
        progress_at: When something was last written, or when it began to wait.
        written_at: When something was last written.
        renumber: True if the numbers of what was sent are void.
        joined: The transaction that knows of it, 0 without.
        unproved: True until the broker has taken a batch with these numbers: it
            takes any first one of a producer that it does not know, also the
            second batch in the place of the first, so only one may be on its way.
    """

    __slots__ = (
        "bound",
        "failures",
        "flying",
        "index",
        "joined",
        "leader",
        "numbers",
        "on",
        "progress_at",
        "reason",
        "renumber",
        "retry_at",
        "sent",
        "topic",
        "unproved",
        "waiting",
        "written_at",
    )

    def __init__(self, topic: str, index: int) -> None:
        self.topic = topic
        self.index = index
        self.waiting: deque[Queued] = deque()
        self.sent: deque[Queued] = deque()
        self.flying = 0
        self.on: object | None = None
        self.retry_at = 0.0
        self.failures = 0
        self.reason = ""
        self.progress_at = 0.0
        self.written_at = 0.0
        self.renumber = False
        self.joined = 0
        self.unproved = True
        self.numbers: Numbers | None = None
        self.leader = -1
        #: Version of the metadata that `leader` was read from.
        self.bound = -1

    @property
    def empty(self) -> bool:
        return not self.waiting and not self.sent

    def put(self, queued: Queued) -> None:
        """Queue a batch; under the lock."""
        if self.empty:
            self.progress_at = queued.created
        # A page that is still put into the transaction that is being ended comes after
        # pages of the next one, and must not wait behind them: its end waits for it.
        waiting = self.waiting
        at = len(waiting)
        while at and waiting[at - 1].group > queued.group:
            at -= 1
        waiting.insert(at, queued)

    def take_unwanted(self) -> list[Queued]:
        """Take out what nobody waits for any more; under the lock."""
        found: list[Queued] = []
        while self.waiting and not self.waiting[0].receipt.wanted:
            self.waiting[0].growing = False
            found.append(self.waiting.popleft())
        return found

    def take_all(self) -> list[Queued]:
        """Take out everything, also what is on its way; under the lock."""
        left = [*self.sent, *self.waiting]
        for queued in left:
            queued.growing = False
        self.sent.clear()
        self.waiting.clear()
        return left

    def stamp(self, queued: Queued) -> None:
        """Give a closed batch the next numbers."""
        numbers, sealed = self.numbers, queued.sealed
        assert numbers is not None and sealed is not None
        queued.header = sealed.stamp(
            numbers.producer,
            numbers.epoch,
            numbers.sequence,
            txn=numbers.transactional,
        )
        if numbers.producer >= 0:
            numbers.sequence = (numbers.sequence + sealed.count) & SEQUENCE_MASK

    @property
    def repeating(self) -> bool:
        """
        True while a batch is to be sent again, or is on its way again.

        Nothing else goes meanwhile: a broker knows the last five batches of a
        producer, and one that was written before must stay among them.
        """
        return bool(self.sent) and (
            self.sent[0].tries > 1 or self.flying < len(self.sent)
        )

    def next_sent(self) -> Queued | None:
        """The batch to be sent again, if it is its turn: the oldest, alone."""
        return self.sent[0] if self.sent and not self.flying else None

    def begin_epoch(self) -> bool:
        """
        Number what was sent anew, in a new epoch; nothing may be on its way.

        What an earlier epoch has sent is refused by the broker from then on, so
        that a late copy of it cannot take the place of a renumbered batch.

        Within a transaction the epoch is the coordinator's.  What the broker has
        refused it has not written, so the same numbers are given again, unless a
        batch was lost on its way, of which a late copy could take their place.

        Returns: False if the producer id has no epochs left, or must not go on.
        """
        numbers = self.numbers
        assert numbers is not None and not self.flying
        if numbers.transactional:
            if numbers.doubtful:
                return False
            numbers.sequence = numbers.taken
        elif numbers.producer >= 0:
            if numbers.epoch >= LAST_EPOCH:
                return False
            numbers.epoch += 1
            numbers.sequence = 0
            self.unproved = True
        for queued in self.sent:
            self.stamp(queued)
        self.renumber = False
        return True

    def landed(self, queued: Queued) -> None:
        """A batch is not on its way any more."""
        queued.flying = False
        self.flying -= 1
        if not self.flying:
            self.on = None
