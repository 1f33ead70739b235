"""
Identity: the producer id under which batches are numbered.

Owns asking for one and what its refusal means.  `produce.transaction` is another
one: it knows a transactional id, admits a partition only once the transaction knows
it, and marks its batches.

Path: `sink.produce.sender` asks it before the first batch of a partition.
Source: KIP-98.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from engine.errors import SinkError
from engine.sink.codec import Message
from engine.sink.naming import PASSING
from engine.sink.produce import messages, verdicts
from engine.sink.produce.handshake import NegotiatedSession
from engine.sink.produce.queue import Numbers, Partition
from engine.sink.produce.wire import BrokerAddress

#: What passes by itself, and UNKNOWN_SERVER_ERROR.
_PASSES = PASSING | {-1}


class CoordinatorRequest(Struct, frozen=True):
    """
    What is to be asked before batches can go on; all on the sender's thread.

    Attributes:
        message: Makes it for what a connection speaks; may raise
            BrokerError.
        answered: Takes the answer in; returns why it is a failure for good, or None,
            and seconds until there is to be asked again, None for the usual pause.
        lost: Told that no answer will come; why that is a failure, or None.
        endpoint: The broker to ask, None for any.
    """

    message: Callable[[NegotiatedSession], Message]
    answered: Callable[[Any], tuple[SinkError | None, float | None]]
    lost: Callable[[Exception], SinkError | None]
    endpoint: BrokerAddress | None = None


class Identity(Protocol):
    """
    The producer id and epoch under which brokers know a producer.

    Attributes:
        group: The transaction whose batches may be sent, 0 without transactions.
    """

    group: int

    @property
    def transactional_id(self) -> bytes | None:
        """What a Produce request says of the transaction, None without."""

    def produce_version(self, highest: int) -> int:
        """The version of Produce to be spoken, of those up to `highest`."""

    def question(self) -> CoordinatorRequest | None:
        """What is to be asked next, None for nothing."""

    def join(self, partition: Partition) -> bool:
        """The transaction is to know of the partition; False if that has to wait."""

    def admit(self, partition: Partition) -> bool:
        """Give the partition its first numbers, False if that has to wait."""

    def exhausted(self, partition: Partition) -> SinkError | None:
        """The partition's epochs are used up: it needs a new id, or has failed."""

    def moved(self) -> None:
        """The broker of the last question is out of reach."""

    def failed(self, why: SinkError) -> None:
        """Nothing is sent any more."""


def numbered(identity: Identity, partition: Partition) -> bool | SinkError:
    """
    Give a partition its first or its next numbers; nothing of it may be on its way.

    Returns: False if they wait, or why there are none for good.
    """
    if partition.numbers is not None and not partition.begin_epoch():
        failure = identity.exhausted(partition)
        if failure is not None:
            return failure
    if partition.numbers is None:
        if not identity.admit(partition):
            if not partition.reason:
                partition.reason = "no producer id yet"
            return False
        for queued in partition.sent:
            partition.stamp(queued)
        partition.renumber = False
        partition.unproved = True
    return True


class Anonymous:
    """Without idempotence: batches have no numbers."""

    transactional_id = None
    group = 0

    def produce_version(self, highest: int) -> int:
        return highest

    def question(self) -> CoordinatorRequest | None:
        return None

    def join(self, partition: Partition) -> bool:
        return True

    def admit(self, partition: Partition) -> bool:
        if partition.numbers is None:
            partition.numbers = Numbers()
        return True

    def exhausted(self, partition: Partition) -> SinkError | None:
        """Never called for: batches without numbers have no epochs."""
        return None

    def moved(self) -> None:
        """Nobody was asked."""

    def failed(self, why: SinkError) -> None:
        """Nobody waits for it."""


class Idempotent:
    """A producer id of its own, kept for the life of the producer."""

    transactional_id = None
    group = 0

    def __init__(self) -> None:
        self._id: tuple[int, int] | None = None

    def produce_version(self, highest: int) -> int:
        return highest

    def question(self) -> CoordinatorRequest | None:
        if self._id is not None:
            return None
        return CoordinatorRequest(
            lambda session: messages.init_producer_id(session.versions),
            self._answered,
            lambda why: None,
        )

    def _answered(self, answer: Any) -> tuple[SinkError | None, float | None]:
        if answer.error_code == verdicts.OK:
            self._id = answer.producer_id, answer.producer_epoch
            return None, None
        if answer.error_code in _PASSES:
            return None, None
        doing = "asking for a producer id"
        return verdicts.failure(answer.error_code, "", doing), None

    def join(self, partition: Partition) -> bool:
        return True

    def admit(self, partition: Partition) -> bool:
        if partition.numbers is None:
            if self._id is None:
                return False
            partition.numbers = Numbers(*self._id, 0)
        return True

    def exhausted(self, partition: Partition) -> SinkError | None:
        partition.numbers = None
        self._id = None
        return None

    def moved(self) -> None:
        """Any broker answers."""

    def failed(self, why: SinkError) -> None:
        """Nobody waits for it."""
