"""A producer over brokers of a test, and what it was told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from engine.errors import SinkError
from engine.sink.batch import Batch, HeadStore
from engine.sink.columns import column_of
from engine.sink.compress import packing
from engine.sink.kafka import Cluster
from engine.sink.produce.producer import OpenBatch, Producer
from engine.sink.produce.queue import RefusedRecord


class Answers:
    """Collects what was answered to whom."""

    def __init__(self) -> None:
        self.found: dict[Any, SinkError | None] = {}
        self.order: list[Any] = []
        self.bad: list[tuple[Any, int, int, str]] = []
        self._changed = threading.Condition()

    def told(self, name: Any, why: SinkError | None) -> None:
        with self._changed:
            assert name not in self.found, "answered twice"
            self.found[name] = why
            self.order.append(name)
            self._changed.notify_all()

    def wait(self, count: int, seconds: float = 30.0) -> dict[Any, SinkError | None]:
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self.found) >= count, seconds)
            assert enough, f"only {self.found}"
        return self.found


class Receipt:
    """`produce.queue.Receipt` of one batch."""

    def __init__(self, answers: Answers, name: Any) -> None:
        self.wanted = True
        self._answers = answers
        self._name = name

    def answered(self, why: SinkError | None) -> None:
        self._answers.told(self._name, why)

    def refused(self, records: Sequence[RefusedRecord]) -> None:
        self._answers.bad += [
            (self._name, bad.index, bad.code, bad.message) for bad in records
        ]


class Putting:
    """Puts batches, and knows what became of them."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self.answers = Answers()

    def put(
        self,
        name: Any,
        *values: bytes,
        topic: str = "t",
        partition: int = 0,
        full: bool = True,
        codec: str = "none",
        timestamp: int = 5,
    ) -> tuple[OpenBatch, Batch, Receipt]:
        batch = Batch(HeadStore())
        batch.append(column_of(values or (b"%d" % name,), None, timestamp))
        receipt = Receipt(self.answers, name)
        slot = self.producer.put(
            topic, partition, batch, packing(codec), receipt, full=full
        )
        return slot, batch, receipt

    def wait(self, count: int, seconds: float = 30.0) -> dict[Any, SinkError | None]:
        return self.answers.wait(count, seconds)


@contextmanager
def putting(
    bootstrap: Sequence[str], *, cluster: dict[str, Any] | None = None, **settings: Any
) -> Iterator[Putting]:
    """A producer with short times."""
    named: dict[str, Any] = {"request_timeout": 5.0, "retry_backoff": 0.02}
    settings.setdefault("linger", 0.0)
    made = Producer(
        Cluster(bootstrap=tuple(bootstrap), **{**named, **(cluster or {})}), **settings
    )
    try:
        yield Putting(made)
    finally:
        assert made.close(5.0)


def until(true: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Wait for something that is seen from outside."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
