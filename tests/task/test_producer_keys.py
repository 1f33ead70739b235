"""
Each key of the producer, from the configuration to what the broker is sent.

Requests are caught where the sender writes them; the broker answers them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kafka.record.memory_records import MemoryRecords
from msgspec import Struct, field

from engine import config
from engine.config.keys import TABLE
from engine.config.sections.kafka import COMPUTED_HERE, ProducerConfig
from engine.errors import ConfigError, Refused, SinkError, Unavailable
from engine.sink.outlet import AtLeastOnce
from engine.task.build.kafka import KafkaBuilder
from tests.brokers import Apache, Broker
from tests.e2e.rig import until
from tests.sink.rig import SHARD, Memory, parcel, topic_name

#: Keys that a test below shows.
SHOWN: set[str] = set()


def shows(*keys: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Marks a test with the keys whose effect it sees."""
    SHOWN.update(keys)
    return lambda test: test


def test_every_key_of_the_producer_is_shown_here() -> None:
    # No transaction is begun yet that could take too long.
    assert {key.name.removeprefix("producer.") for key in ProducerConfig.entries()} - {
        "transaction.timeout.ms"
    } == SHOWN


class Wire(Struct):
    """
    What the producer has sent.

    Attributes:
        requests: Acknowledgements asked for, records of each partition.
        busy, most_busy: Requests that are not answered, and the most at once.
    """

    requests: list[tuple[int, list[bytes]]] = field(default_factory=list)
    busy: int = 0
    most_busy: int = 0
    lock: Any = field(default_factory=threading.Lock)

    @property
    def batches(self) -> list[bytes]:
        return [batch for _, batches in self.requests for batch in batches]

    @property
    def heads(self) -> list[Any]:
        return [found for batch in self.batches for found in MemoryRecords(batch)]

    def has_busy(self, count: int) -> bool:
        return self.busy >= count

    def listen(self, made: Any) -> None:
        sender = made._sender
        outcomes = sender._outcomes
        send, answered = sender._send, outcomes.answered

        def tapped(node: Any, connection: Any, sent: Any, now: float) -> None:
            batches = [
                queued.header + b"".join(queued.sealed.blocks) for _, queued in sent
            ]
            with self.lock:
                self.requests.append((sender._tuning.acks, batches))
                self.busy += 1
                self.most_busy = max(self.most_busy, self.busy)
            send(node, connection, sent, now)

        def heard(*what: Any) -> None:
            with self.lock:
                self.busy -= 1
            answered(*what)

        sender._send, outcomes.answered = tapped, heard


class Sending(Struct):
    """A shard's outlet over a producer that was made from a configuration."""

    outlet: AtLeastOnce
    producer: Any
    wire: Wire
    topic: str
    brokers: KafkaBuilder

    def page(self, index: int, *values: bytes) -> None:
        self.outlet.hand_over(parcel(index, values, self.topic), {"page": index + 1})


def brokers_of(folder: Path, address: str, keys: Mapping[str, object]) -> KafkaBuilder:
    lines: dict[str, object] = {
        "name": "orders",
        "http.source.url": "http://127.0.0.1:1/x",
        "kafka.topic": "t",
        "bootstrap.servers": address,
        **{f"producer.{key}": value for key, value in keys.items()},
    }
    file = folder / "c.properties"
    file.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
    [connector] = config.load([str(file)], []).connectors
    return KafkaBuilder(connector, (address,), 3)


@contextmanager
def sending(
    folder: Path, broker: Broker, *, partitions: int = 1, **keys: object
) -> Iterator[Sending]:
    """`_` in a key's name stands for a dot."""
    named = {key.replace("_", "."): value for key, value in keys.items()}
    brokers = brokers_of(folder, broker.address, named)
    topic = broker.create(topic_name(), partitions)
    topics = brokers.topics(lambda text: None)
    delivery = brokers.delivery(
        topics, budget=brokers.budget(), patience=brokers.patience
    )
    made = delivery._producer
    wire = Wire()
    wire.listen(made)
    outlet = delivery.outlet(SHARD.partition, Memory())
    outlet.begin()
    try:
        yield Sending(outlet, made, wire, topic, brokers)
    finally:
        delivery.close(5.0)


@shows("acks", "enable.idempotence")
@pytest.mark.parametrize(
    ("keys", "acks", "idempotent"),
    [
        ({}, -1, True),
        ({"acks": "1"}, 1, False),
        ({"acks": "0"}, 0, False),
        ({"enable_idempotence": "false"}, -1, False),
        ({"max_in_flight_requests_per_connection": 6}, -1, False),
    ],
)
def test_acknowledgements_and_idempotence(
    tmp_path: Path,
    embedded: Broker,
    keys: Mapping[str, object],
    acks: int,
    idempotent: bool,
) -> None:
    with sending(tmp_path, embedded, **keys) as to:
        to.page(0, b"a")
        to.outlet.commit()

        assert [acks] == [asked for asked, _ in to.wire.requests]
        [head] = to.wire.heads
        assert idempotent == (head.producer_id >= 0)
        until(lambda: len(embedded.read(to.topic)) == 1, "it arrives")


@shows("compression.type")
@pytest.mark.parametrize(
    ("codec", "number"),
    [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)],
)
def test_compression(tmp_path: Path, broker: Broker, codec: str, number: int) -> None:
    with sending(tmp_path, broker, compression_type=codec) as to:
        to.page(0, *[b"x" * 400] * 50)
        to.outlet.commit()

        [head] = to.wire.heads
        assert number == head.compression_type
        assert (len(to.wire.batches[0]) < 5_000) == (number > 0)
        assert [b"x" * 400] * 50 == [each.value for each in broker.read(to.topic)]


@shows("batch.size")
def test_no_batch_is_larger_and_most_are_more_than_half(
    tmp_path: Path, broker: Broker
) -> None:
    with sending(tmp_path, broker, batch_size=8192, linger_ms=200) as to:
        for index in range(40):
            to.page(index, *[b"x" * 300] * 20)
        to.page(40, b"y" * 10_000)
        to.outlet.commit()
        sizes = sorted(len(batch) for batch in to.wire.batches)

        # One record alone may be larger.
        assert sizes[-1] > 10_000
        assert sizes[-2] <= 8192
        assert sum(size > 4096 for size in sizes) > len(sizes) / 2
        assert 801 == len(broker.read(to.topic))


@shows("linger.ms")
@pytest.mark.parametrize(("linger", "batches"), [(400, 1), (0, 2)])
def test_linger(tmp_path: Path, broker: Broker, linger: int, batches: int) -> None:
    with sending(tmp_path, broker, linger_ms=linger) as to:
        to.page(0, b"a")
        if not linger:
            until(lambda: to.wire.requests, "the first page goes by itself")
        to.page(1, b"b")
        to.outlet.commit()

        assert batches == len(to.wire.batches)


@shows("max.in.flight.requests.per.connection")
@pytest.mark.kafka
@pytest.mark.parametrize("allowed", [1, 5])
def test_in_flight(tmp_path: Path, apache: Apache, allowed: int) -> None:
    flying = {"max_in_flight_requests_per_connection": allowed}
    # What is there at the same time for several partitions is one request; each
    # page fills the batch of one and begins that of the next.
    with sending(
        tmp_path, apache, partitions=24, linger_ms=0, batch_size=2000, **flying
    ) as to:
        to.page(0, b"x")
        to.outlet.commit()
        with apache.frozen():
            for index in range(1, 9):
                to.page(index, *[b"x" * 300] * 6)
                busy = min(index, allowed)
                until(partial(to.wire.has_busy, busy), f"{busy} on their way")
        to.outlet.commit()

        assert allowed == to.wire.most_busy
        assert 49 == len(apache.read(to.topic))


@shows("max.request.size")
def test_no_request_is_larger_nor_a_record(tmp_path: Path, broker: Broker) -> None:
    keys = {"max_request_size": 20_000, "batch_size": 9_000, "linger_ms": 300}
    with sending(tmp_path, broker, partitions=6, **keys) as to:
        for index in range(40):
            to.page(index, *[b"x" * 300] * 28)
        to.outlet.commit()
        asked = [sum(map(len, batches)) for _, batches in to.wire.requests]

        assert max(asked) <= 20_000
        assert 40 * 28 == len(broker.read(to.topic))
        with pytest.raises(Refused, match="20000 bytes, more than the 199"):
            to.page(40, b"x" * 20_000)


@shows("buffer.memory")
def test_the_budget_of_a_task(tmp_path: Path) -> None:
    made = brokers_of(tmp_path, "127.0.0.1:1", {"buffer.memory": 5 << 20})

    assert 5 << 20 == made.budget().limit


@shows("delivery.timeout.ms", "request.timeout.ms")
@pytest.mark.kafka
@pytest.mark.slow
def test_a_single_run_waits_no_longer_for_a_write(
    tmp_path: Path, own_apache: Any
) -> None:
    keys = {"delivery_timeout_ms": 3000, "request_timeout_ms": 1000}
    with sending(tmp_path, own_apache, **keys) as to:
        to.page(0, b"a")
        to.outlet.commit()
        with own_apache.frozen():
            began = time.monotonic()
            to.page(1, b"b")
            with pytest.raises(Unavailable):
                to.outlet.commit()
            took = time.monotonic() - began

    assert 2.5 < took < 8


@shows("max.block.ms")
@pytest.mark.kafka
def test_metadata_is_waited_for_so_long(tmp_path: Path, apache: Broker) -> None:
    with sending(tmp_path, apache, max_block_ms=700) as to:
        began = time.monotonic()
        with pytest.raises(SinkError, match="missing"):
            to.outlet.delivery._producer.partitions("missing")
        took = time.monotonic() - began

    assert 0.5 < took < 5


#: Times and sizes that the sender keeps to, and where it holds them.
KEPT: dict[str, tuple[str, Callable[[Any], object], object]] = {
    "metadata.max.age.ms": ("9000", lambda s: s._tuning.metadata_max_age, 9.0),
    "retry.backoff.ms": ("250", lambda s: s._tuning.retry_backoff, 0.25),
    "reconnect.backoff.ms": ("350", lambda s: s.nodes._backoff[0], 0.35),
    "reconnect.backoff.max.ms": ("4000", lambda s: s.nodes._backoff[1], 4.0),
    "connections.max.idle.ms": ("60000", lambda s: s._options.max_idle, 60.0),
    "send.buffer.bytes": ("70000", lambda s: s._options.send_buffer, 70_000),
    "receive.buffer.bytes": ("80000", lambda s: s._options.receive_buffer, 80_000),
    "client.id": ("mine", lambda s: s._options.manners.client_id, "mine"),
}


@shows(*KEPT)
def test_what_the_sender_keeps_to(tmp_path: Path, embedded: Broker) -> None:
    keys = {key.replace(".", "_"): value for key, (value, *_) in KEPT.items()}
    with sending(tmp_path, embedded, **keys) as to:
        sender = to.producer._sender
        found = {key: held(sender) for key, (_, held, _) in KEPT.items()}

    assert {key: value for key, (_, _, value) in KEPT.items()} == found


def test_an_override_wins(tmp_path: Path) -> None:
    keys = {"linger.ms": 7, "override.linger.ms": 90, "buffer.memory": 5 << 20}
    made = brokers_of(tmp_path, "127.0.0.1:1", keys)

    assert 90 == made._values["producer.linger.ms"]


@pytest.mark.parametrize("prefix", ["producer.", "producer.override."])
@pytest.mark.parametrize("name", COMPUTED_HERE)
def test_what_is_computed_here_is_refused_by_name(
    tmp_path: Path, prefix: str, name: str
) -> None:
    assert f"{prefix}{name}" not in TABLE
    key = f"{prefix}{name}".removeprefix("producer.")

    with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
        brokers_of(tmp_path, "127.0.0.1:1", {key: "x"})
