"""
Writing: a few records that somebody waits for.

Owns the receipt of one waiter, and the verbs for who has a few records and no shard:
positions that are set by hand, the record of a generation.

Path: `sink.fencing`, `sink.statetopic` -> here -> `sink.produce.producer`
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from engine.clock import SYSTEM
from engine.errors import SinkError, Unavailable
from engine.sink.batch import Batch, HeadStore
from engine.sink.cluster import Cluster
from engine.sink.columns import column_of
from engine.sink.compress import PLAIN
from engine.sink.produce.producer import Producer
from engine.sink.produce.queue import RefusedRecord
from engine.sink.produce.verdicts import failure


class BlockingReceipt:
    """A receipt that somebody waits for."""

    wanted = True

    def __init__(self) -> None:
        # Set on the sender's thread, behind the fields that say what became of it: whoever was
        # woken may read them without a lock.
        self._told = threading.Event()
        self._why: SinkError | None = None
        self._bad: Sequence[RefusedRecord] = ()

    def answered(self, why: SinkError | None) -> None:
        self._why = why
        self._told.set()

    def refused(self, records: Sequence[RefusedRecord]) -> None:
        self._bad = records

    def wait(self, seconds: float, doing: str) -> None:
        if not self._told.wait(max(seconds, 0.0)):
            raise Unavailable(f"{doing}: not acknowledged in time")
        if self._why is not None:
            raise self._why
        if self._bad:
            first = self._bad[0]
            raise failure(first.code, first.message, doing)


def write_records(
    cluster: Cluster,
    topic: str,
    records: Sequence[tuple[int, bytes, bytes | None]],
    limit: float = 10.0,
) -> None:
    """
    Write a few records, each (partition, key, value), and wait for all of them.

    Raises: a SinkError.  Blocks: at most about `limit` seconds more than it takes
    to connect.
    """
    if not records:
        return
    made = Producer(cluster, linger=0.0)
    try:
        put_records(made, topic, records, limit)
    finally:
        made.close(1.0)


def put_records(
    producer: Producer,
    topic: str,
    records: Sequence[tuple[int, bytes, bytes | None]],
    limit: float = 10.0,
) -> None:
    """The same by a producer that there is; it may not have reached its brokers yet."""
    doing = f"writing to {topic}"
    heads, now = HeadStore(), SYSTEM.wall_ms()
    told = []
    for partition, key, value in records:
        batch = Batch(heads)
        batch.append(column_of([value], [key], now))
        receipt = BlockingReceipt()
        told.append(receipt)
        producer.put(topic, partition, batch, PLAIN, receipt, full=True)
    deadline = SYSTEM.monotonic() + limit
    for receipt in told:
        receipt.wait(deadline - SYSTEM.monotonic(), doing)
