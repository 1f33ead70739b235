"""
Accumulator: whole encoded batches into kafka-python's producer.

The one file that knows the producer's insides (kafka-python 3.0.12: the record
accumulator, its batches and the sender thread), and reaches into them on
purpose; `tests/contracts/test_producer_insides.py` holds what it relies on.

Path: `sink.commit` puts batches here and lets them grow; the answers come back
on the sender's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import kafka.errors as foreign
from kafka import KafkaProducer, TopicPartition
from kafka.producer.producer_batch import ProducerBatch

from engine.errors import SinkError
from engine.sink.batch import Batch, Part, Sealed
from engine.sink.compress import Packing
from engine.sink.kafka import naming, renamed

Wake: TypeAlias = Callable[[], None]


class _Records:
    """
    What the library expects of a batch's records, over a batch of ours.

    It takes no record from the library, only from us and only until it is
    closed.  The sender sets the producer's numbers when it drains the batch for
    the first time, and closes it then: only that seals it and writes the
    checksum, so that a retry sends the same bytes.  All of it happens under the
    library's lock for the partition.
    """

    __slots__ = (
        "_batch",
        "_numbers",
        "_pack",
        "_sealed",
        "base_sequence",
        "full",
        "producer_epoch",
        "producer_id",
    )

    def __init__(self, batch: Batch, pack: Packing) -> None:
        self._batch = batch
        self._pack = pack
        self._sealed: Sealed | None = None
        self._numbers = (-1, -1, -1, False)
        self.full = False
        self.producer_id = -1
        self.producer_epoch = -1
        self.base_sequence = -1

    @property
    def open(self) -> bool:
        return self._sealed is None

    def append(self, *record: Any) -> None:
        """There is never room for a record of the library's."""
        return

    def is_full(self) -> bool:
        return self.full or self._sealed is not None

    def next_offset(self) -> int:
        """Records in the batch: what the sequence is counted by."""
        return self._batch.count

    def size_in_bytes(self) -> int:
        return self._batch.size if self._sealed is None else len(self._sealed.buffer)

    def set_producer_state(
        self, producer: int, epoch: int, sequence: int, transactional: bool
    ) -> None:
        if self._sealed is not None:
            raise foreign.IllegalStateError("The batch is closed.")
        self.producer_id = producer
        self.producer_epoch = epoch
        self.base_sequence = sequence
        self._numbers = (producer, epoch, sequence, transactional)

    def close(self) -> None:
        if self._sealed is None:
            producer, epoch, sequence, transactional = self._numbers
            sealed = self._batch.seal(self._pack)
            sealed.stamp(producer, epoch, sequence, txn=transactional)
            sealed.check()
            self._sealed = sealed

    def buffer(self) -> bytearray:
        assert self._sealed is not None
        return self._sealed.buffer


class Slot:
    """A batch that waits in the accumulator and may still grow."""

    def __init__(
        self, batch: Batch, records: _Records, lock: threading.Lock, wake: Wake
    ) -> None:
        self.batch = batch
        self._records = records
        self._lock = lock
        self._wake = wake

    def commit(self, part: Part) -> bool:
        """
        Let the batch grow.

        Returns: False if the sender has closed it; nothing is added then.
        Blocks: for the moments in which the sender looks at the partition.
        """
        with self._lock:
            if self._records.open:
                self.batch.commit(part)
                return True
            return False

    def finish(self) -> None:
        """Let it go without lingering on."""
        self._records.full = True
        self._wake()


class Accumulator:
    """
    A producer that takes whole batches.

    Safe to use from several threads.
    """

    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer
        self._accumulator = producer._accumulator
        self._metadata = producer._metadata
        self._sender = producer._sender
        self._client = producer._sender._client
        self._transactions = producer._transaction_manager
        self._in_flight: int = producer.config["max_in_flight_requests_per_connection"]
        # A batch the broker finds too large fails; the library would read it
        # back and cut it in two, and lose who waits for it.
        self._sender._can_split = lambda batch, error: False

    def partitions(self, topic: str) -> int:
        """
        How many partitions the topic has.

        Raises: Unavailable, Misconfigured.
        Blocks: the first time, at most `producer.max.block.ms`.
        """
        known = self._metadata.partitions_for_topic(topic)
        if known is None:
            with naming(f"asking for the partitions of topic {topic}"):
                known = self._producer.partitions_for(topic)
        return len(known)

    @property
    def cluster(self) -> str:
        """The cluster's id, "" until the broker has said it."""
        return str(self._metadata.cluster_id or "")

    def put(
        self,
        topic: str,
        partition: int,
        batch: Batch,
        pack: Packing,
        answered: Callable[[SinkError | None], None],
        *,
        full: bool = False,
    ) -> Slot:
        """
        Queue a batch for its partition.

        It is sent when it is full, when it has lingered, or when it is finished,
        and grows while the one before it is on its way.

        Args:
            batch: Not empty.
            pack: How it is to be compressed, by the sender's thread.
            answered: Called once, on the sender's thread: None when the batch is
                acknowledged, else why it never will be.
            full: True to send it at once.

        Raises: Unavailable if the producer is closed.  Never blocks for long.
        """
        place = TopicPartition(topic, partition)
        records = _Records(batch, pack)
        records.full = full
        queued = ProducerBatch(place, records)

        def settle(result: tuple[int, int, Callable[[int], Exception] | None]) -> None:
            failure = result[2]
            if failure is None:
                answered(None)
            else:
                answered(renamed(failure(0), f"writing to {topic}-{partition}"))

        queued.produce_future.add_callback(settle)
        insides = self._accumulator
        lock = insides._tp_lock(place)
        insides._appends_in_progress.increment()
        try:
            if self._transactions is not None and self._transactions.is_transactional():
                self._transactions.maybe_add_partition_to_transaction(place)
            if self._metadata.partitions_for_topic(topic) is None:
                self._sender.add_topic(topic)
            with lock, naming(f"writing to {topic}-{partition}"):
                if insides._closed:
                    raise foreign.KafkaConnectionError("the producer is closed")
                insides._batches[place].append(queued)
                insides._incomplete.add(queued)
        finally:
            insides._appends_in_progress.decrement()
        self._wake(place, full)
        return Slot(batch, records, lock, partial(self._wake, place, True))

    def _wake(self, place: TopicPartition, ready: bool) -> None:
        """
        Have the sender look, unless it is about to.

        While an answer of the partition's leader is outstanding, a batch that is
        not `ready` may grow until that comes, and the sender looks again then; it
        also does after whatever its own thread puts here.  A byte through its
        socket pair would cost 15 us and a turn of the interpreter lock.
        """
        if threading.get_ident() == self._sender.ident:
            return
        leader = self._metadata.leader_for_partition(place)
        most = self._in_flight if ready else 1
        if leader is None or self._client.in_flight_request_count(leader) < most:
            self._sender.wakeup()

    def close(self, timeout: float) -> bool:
        """
        End the sender thread; batches that are not acknowledged fail.

        Returns: False if the thread is still alive after `timeout` seconds; it
        is a daemon and dies with the process.
        Blocks: at most `timeout` seconds, whatever the broker does.
        """
        self._sender.force_close()
        if threading.current_thread() is not self._sender:
            self._sender.join(timeout)
        self._producer._closed = True
        return not self._sender.is_alive()
