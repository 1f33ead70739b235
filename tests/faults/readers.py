"""Readers that look on while faults happen: one sees all, one what is committed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition


class Read(NamedTuple):
    """A record, and when it was seen by the monotonic clock."""

    at: float
    partition: int
    offset: int
    key: bytes
    value: bytes


class Reader:
    """
    Reads a topic from its beginning to whatever comes, on a thread.

    Attributes:
        read: What it has seen so far; appended to by its thread only.
    """

    def __init__(
        self, address: str, topic: str, partitions: Sequence[int], isolation: str
    ) -> None:
        self.read: list[Read] = []
        self._stopping = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": f"{topic}-{isolation}",
                "enable.auto.commit": False,
                "isolation.level": isolation,
                "check.crcs": True,
                "reconnect.backoff.max.ms": 500,
                # What a broker says of its own end is not news to who ended it.
                "log_level": 0,
            }
        )
        self._consumer.assign(
            [TopicPartition(topic, at, OFFSET_BEGINNING) for at in partitions]
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            found = self._consumer.consume(2000, 0.1)
            now = time.monotonic()
            for message in found:
                if message.error() is None:
                    self.read.append(
                        Read(
                            now,
                            message.partition() or 0,
                            message.offset() or 0,
                            message.key() or b"",
                            message.value() or b"",
                        )
                    )

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(10)
        self._consumer.close()
