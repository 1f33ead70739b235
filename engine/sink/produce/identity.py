"""
Identity: the producer id under which batches are numbered.

Owns asking for one and what its refusal means.  It is what a transaction would
put another in place of: one that knows a transactional id, admits a partition
only once the transaction knows it, and marks its batches.

Path: `sink.produce.sender` asks it before the first batch of a partition.
Source: KIP-98.
"""

from __future__ import annotations

from typing import Any, Protocol

from engine.errors import SinkError
from engine.sink.produce import messages, verdicts
from engine.sink.produce.messages import Message, Versions
from engine.sink.produce.queue import Numbers, Partition

#: COORDINATOR_LOAD_IN_PROGRESS, _NOT_AVAILABLE, NOT_COORDINATOR, REQUEST_TIMED_OUT,
#: CONCURRENT_TRANSACTIONS, NOT_ENOUGH_REPLICAS, UNKNOWN_SERVER_ERROR.
_PASSES = (14, 15, 16, 7, 51, 19, -1)


class Identity(Protocol):
    """Who a producer is to the brokers."""

    @property
    def transactional_id(self) -> bytes | None:
        """What a Produce request says of the transaction, None without."""

    @property
    def lacks(self) -> bool:
        """True if something is to be asked before batches can be numbered."""

    def question(self, versions: Versions) -> Message:
        """What is to be asked."""

    def answer(self, found: Any) -> SinkError | None:
        """Take the answer in; what it means if it is a refusal for good."""

    def admit(self, partition: Partition) -> bool:
        """Give the partition its first numbers, False if that has to wait."""

    def exhausted(self, partition: Partition) -> None:
        """The partition's epochs are used up: it needs a new id."""


class Anonymous:
    """Without idempotence: batches have no numbers."""

    transactional_id = None
    lacks = False

    def question(self, versions: Versions) -> Message:
        raise AssertionError("there is nothing to ask")

    def answer(self, found: Any) -> SinkError | None:
        return None

    def admit(self, partition: Partition) -> bool:
        if partition.numbers is None:
            partition.numbers = Numbers()
        return True

    def exhausted(self, partition: Partition) -> None:
        """There are no epochs."""


class Idempotent:
    """A producer id of its own, kept for the life of the producer."""

    transactional_id = None

    def __init__(self) -> None:
        self._id: tuple[int, int] | None = None

    @property
    def lacks(self) -> bool:
        return self._id is None

    def question(self, versions: Versions) -> Message:
        return messages.init_producer_id(versions)

    def answer(self, found: Any) -> SinkError | None:
        if found.error_code == verdicts.OK:
            self._id = found.producer_id, found.producer_epoch
            return None
        if found.error_code in _PASSES:
            return None
        return verdicts.failure(found.error_code, "", "asking for a producer id")

    def admit(self, partition: Partition) -> bool:
        if partition.numbers is None:
            if self._id is None:
                return False
            partition.numbers = Numbers(*self._id, 0)
        return True

    def exhausted(self, partition: Partition) -> None:
        partition.numbers = None
        self._id = None
