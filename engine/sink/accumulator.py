"""
Accumulator: whole encoded batches into kafka-python's producer.

The one file that knows the producer's insides (kafka-python 3.0.12: the record
accumulator, its batches and the sender thread), and reaches into them on
purpose; `tests/contracts/test_producer_insides.py` holds what it relies on.

Path: `sink.commit` puts sealed batches here; the answers come back through a
callback on the sender's thread, which must only take note.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import kafka.errors as foreign
from kafka import KafkaProducer, TopicPartition
from kafka.producer.producer_batch import ProducerBatch

from engine.errors import SinkError
from engine.sink.batch import Sealed
from engine.sink.kafka import naming, renamed


class _Records:
    """
    What the library expects of a batch's records, over a sealed batch.

    It is full from the start, so nothing is appended and no linger applies.  The
    sender sets the producer's numbers when it drains the batch for the first
    time, and closes it then: only that writes the checksum, so a retry sends
    the same bytes.
    """

    __slots__ = ("_closed", "_sealed", "base_sequence", "producer_epoch", "producer_id")

    def __init__(self, sealed: Sealed) -> None:
        self._sealed = sealed
        self._closed = False
        self.producer_id = -1
        self.producer_epoch = -1
        self.base_sequence = -1

    def append(self, *record: Any) -> None:
        """There is never room."""
        return

    def is_full(self) -> bool:
        return True

    def next_offset(self) -> int:
        """Records in the batch: what the sequence is counted by."""
        return self._sealed.count

    def size_in_bytes(self) -> int:
        return len(self._sealed.buffer)

    def compression_rate(self) -> float:
        return len(self._sealed.buffer) / self._sealed.raw

    def set_producer_state(
        self, producer: int, epoch: int, sequence: int, transactional: bool
    ) -> None:
        if self._closed:
            raise foreign.IllegalStateError("The batch is closed.")
        self.producer_id = producer
        self.producer_epoch = epoch
        self.base_sequence = sequence
        self._sealed.stamp(producer, epoch, sequence, txn=transactional)

    def close(self) -> None:
        if not self._closed:
            self._sealed.check()
            self._closed = True

    def buffer(self) -> bytearray:
        return self._sealed.buffer


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
        self._transactions = producer._transaction_manager
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

    def put(
        self,
        topic: str,
        partition: int,
        sealed: Sealed,
        answered: Callable[[SinkError | None], None],
    ) -> None:
        """
        Queue a batch for its partition; the bytes belong to the producer then.

        Args:
            answered: Called once, on the sender's thread or on this one: None
                when the batch is acknowledged, else why it never will be.

        Raises: Unavailable if the producer is closed.  Never blocks.
        """
        place = TopicPartition(topic, partition)
        batch = ProducerBatch(place, _Records(sealed))

        def settle(result: tuple[int, int, Callable[[int], Exception] | None]) -> None:
            failure = result[2]
            if failure is None:
                answered(None)
            else:
                answered(renamed(failure(0), f"writing to {topic}-{partition}"))

        batch.produce_future.add_callback(settle)
        insides = self._accumulator
        insides._appends_in_progress.increment()
        try:
            if self._transactions is not None and self._transactions.is_transactional():
                self._transactions.maybe_add_partition_to_transaction(place)
            with insides._tp_lock(place), naming(f"writing to {topic}-{partition}"):
                if insides._closed:
                    raise foreign.KafkaConnectionError("the producer is closed")
                insides._batches[place].append(batch)
                insides._incomplete.add(batch)
        finally:
            insides._appends_in_progress.decrement()
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
