"""What the tests of the sink are built from: pages, flags, deliveries."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from engine.errors import SinkError
from engine.records import DeadLetter, Offset, Page, Parcel, Request, Response, Shard
from engine.sink.commit import DeliveryOptions
from engine.sink.compress import packing
from engine.sink.deadletter import DeadLetters
from engine.sink.delivery import Delivery
from engine.sink.kafka import Cluster
from engine.sink.outlet import AtLeastOnce
from engine.sink.preflight import TopicCreationGroup, Topics
from engine.sink.produce.producer import Producer
from engine.sink.seams import Failure
from engine.sink.window import Budget

_names = itertools.count()

SHARD = Shard("orders", "api1")


class Flag:
    """A stop flag that counts its looks."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.looks = 0

    def is_set(self) -> bool:
        return self.event.is_set()

    def wait(self, seconds: float) -> bool:
        self.looks += 1
        return self.event.wait(seconds)


class Memory:
    """A saver that keeps what it is given."""

    def __init__(self) -> None:
        self.saved: list[Offset] = []
        self.held: list[Callable[[Failure], None]] | None = None

    def save(
        self,
        delivery: Delivery,
        partition: Any,
        offset: Offset,
        done: Callable[[Failure], None],
    ) -> None:
        self.saved.append(offset)
        if self.held is None:
            done(None)
        else:
            self.held.append(done)


#: When a batch that is not full is to be looked at.
LINGER = 5.0


class Hand:
    """An accumulator whose broker is the test: it answers when it is told to."""

    def __init__(self, partitions: int = 3) -> None:
        self.count = partitions
        self.queued: list[tuple[str, int, Any, Any]] = []
        #: When the sender was told to look.
        self.looks: list[float] = []
        self.closed = False
        self.linger = LINGER

    def partitions(self, topic: str) -> int:
        return self.count

    def waits(self, now: float, least: float) -> list[Any]:
        return []

    def gone(self, now: float) -> list[str]:
        return []

    def spread(self, topic: str, turn: int, count: int) -> int:
        return turn % count

    def put(
        self,
        topic: str,
        partition: int,
        batch: Any,
        pack: Any,
        receipt: Any,
        *,
        full: bool = False,
        group: int = 0,
        quiet: bool = False,
    ) -> Any:
        self.queued.append((topic, partition, batch, receipt))
        ready = full or len(self.queued) > 1
        return Growing(batch, 0.0 if ready else LINGER)

    def on_turn(self, chore: Callable[[float], float]) -> None:
        #: What the sender's thread is to do beside, told the time.
        self.chore = chore

    def look(self, at: float) -> None:
        self.looks.append(at)

    def answer(self, at: int = 0, why: SinkError | None = None) -> None:
        self.queued.pop(at)[3].answered(why)

    def close(self, timeout: float) -> bool:
        self.closed = True
        return True


class Growing:
    """A slot that grows until it is finished."""

    def __init__(self, batch: Any, at: float) -> None:
        self.batch = batch
        self.at = at
        self.finished = False

    @property
    def growing(self) -> bool:
        return not self.finished

    def commit(self, part: Any) -> bool:
        if self.finished:
            return False
        self.batch.commit(part)
        return True

    def finish(self, *, quiet: bool = False) -> None:
        self.finished = True


def parcel(
    index: int,
    values: Sequence[bytes | None],
    topic: str | list[str] = "t",
    *,
    letters: Sequence[DeadLetter] = (),
    last: bool = False,
    **columns: Any,
) -> Parcel:
    request = Request("GET", "http://127.0.0.1/orders?page=1")
    response = Response(
        request=request,
        url=request.url,
        status=200,
        headers=[],
        body=b"",
        sent_at=0.0,
        received_ms=1_700_000_000_123,
    )
    page = Page(
        response=response,
        index=index,
        records=[],
        offset={"page": index + 1},
        last=last,
    )
    columns.setdefault("timestamps", 1_700_000_000_000)
    return Parcel(page=page, topic=topic, values=values, letters=letters, **columns)


def topic_name() -> str:
    return f"t{next(_names)}-{threading.get_native_id()}-{id(object()) % 10_000}"


@contextmanager
def delivering(
    address: str,
    *,
    compression: str = "none",
    batch_size: int = 262144,
    budget: int = 33554432,
    letters: DeadLetters | None = None,
    partitions: int = 3,
    **settings: Any,
) -> Iterator[Delivery]:
    """A delivery to a broker; topics are created with `partitions`, records stay."""
    cluster = Cluster(bootstrap=(address,), request_timeout=5.0)
    # Records of tests are older than a broker keeps them by itself.
    group = TopicCreationGroup(partitions=partitions, settings={"retention.ms": "-1"})
    topics = Topics(cluster, [group], say=lambda text: None)
    made = Delivery(
        Producer(cluster, **settings),
        budget=Budget(budget),
        options=DeliveryOptions(
            limits=topics.limit,
            batch_size=batch_size,
            packing=packing(compression),
            letters=letters,
            revive=topics.revive,
        ),
    )
    try:
        yield made
    finally:
        assert made.close(5.0)


def outlet(delivery: Delivery, saver: Any, **settings: Any) -> AtLeastOnce:
    return delivery.outlet(SHARD.partition, saver, **settings)
