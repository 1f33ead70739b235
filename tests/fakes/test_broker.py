"""
The broker of the tests' own, against two clients that know what brokers do.

What it says of transactions, groups and offsets has to be what Kafka says, or tests
with it prove nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from kafka.protocol.producer import (
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    ProduceRequest,
)

from tests.fakes.broker import (
    SPOKEN,
    Cluster,
    Late,
    Lost,
    Refuse,
    Say,
    Torn,
    cluster,
)


@pytest.fixture
def fake() -> Iterator[Cluster]:
    with cluster() as made:
        made.create("t")
        yield made


def librdkafka(fake: Cluster, **settings: Any) -> Any:
    """librdkafka's producer; `_` in a setting's name stands for a dot."""
    return Producer(
        {
            "bootstrap.servers": ",".join(fake.bootstrap),
            "linger.ms": 0,
            "log_level": 0,
            **{key.replace("_", "."): value for key, value in settings.items()},
        }
    )


def read(fake: Cluster, topic: str, isolation: str, count: int = 1) -> list[bytes]:
    """What librdkafka's consumer is shown, up to the end of each partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": ",".join(fake.bootstrap),
            "group.id": "reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "check.crcs": True,
        }
    )
    try:
        consumer.assign([Place(topic, at, OFFSET_BEGINNING) for at in range(count)])
        found: list[bytes] = []
        ended = 0
        deadline = time.monotonic() + 20
        while ended < count:
            assert time.monotonic() < deadline, f"no end; {found}"
            for message in consumer.consume(1000, 0.1):
                error = message.error()
                if error is None:
                    found.append(message.value() or b"")
                elif error.name() == "_PARTITION_EOF":
                    ended += 1
                else:
                    raise KafkaException(error)
        return found
    finally:
        consumer.close()


@pytest.mark.parametrize("version", SPOKEN)
def test_librdkafka_writes_and_reads_by_every_version(version: str) -> None:
    with cluster(version=version) as fake:
        fake.create("t", 3)
        producer = librdkafka(fake, enable_idempotence=True, compression_type="lz4")
        wanted = sorted(b"%d" % at for at in range(300))
        for value in wanted:
            producer.produce("t", value, partition=int(value) % 3)
        assert 0 == producer.flush(20)

        assert wanted == sorted(read(fake, "t", "read_committed", 3))


@pytest.mark.parametrize("version", SPOKEN)
def test_only_what_is_committed_is_shown_to_who_asks_for_that(version: str) -> None:
    with cluster(version=version) as fake:
        fake.create("t")
        producer = librdkafka(fake, transactional_id="me")
        producer.init_transactions(20)
        for name, end in (
            (b"a", producer.commit_transaction),
            (b"b", producer.abort_transaction),
            (b"c", producer.commit_transaction),
        ):
            producer.begin_transaction()
            producer.produce("t", name)
            assert 0 == producer.flush(20)
            end(20)
        producer.begin_transaction()
        producer.produce("t", b"d")
        assert 0 == producer.flush(20)

        assert [b"a", b"c"] == read(fake, "t", "read_committed")
        assert [b"a", b"b", b"c", b"d"] == read(fake, "t", "read_uncommitted")
        assert [b"a", b"c"] == fake.committed("t")
        producer.commit_transaction(20)
        assert [b"a", b"c", b"d"] == read(fake, "t", "read_committed")


def test_kafka_python_reads_committed_records_and_sees_the_stable_end(
    fake: Cluster,
) -> None:
    producer = KafkaProducer(
        bootstrap_servers=list(fake.bootstrap), transactional_id="me"
    )
    producer.init_transactions()
    for name, end in ((b"a", "abort"), (b"b", "commit")):
        producer.begin_transaction()
        producer.send("t", name).get(20)
        getattr(producer, f"{end}_transaction")()
    producer.begin_transaction()
    producer.send("t", b"c").get(20)
    place = TopicPartition("t", 0)
    seen: dict[str, tuple[int, list[bytes]]] = {}
    for isolation in ("read_committed", "read_uncommitted"):
        consumer = KafkaConsumer(
            bootstrap_servers=list(fake.bootstrap),
            isolation_level=isolation,
            auto_offset_reset="earliest",
        )
        consumer.assign([place])
        [end_at] = consumer.end_offsets([place]).values()
        found: list[bytes] = []
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and (consumer.position(place) < end_at):
            for records in consumer.poll(200).values():
                found += [each.value for each in records]
        seen[isolation] = end_at, found
        consumer.close()
    producer.abort_transaction()
    producer.close()

    assert (4, [b"b"]) == seen["read_committed"]
    assert (5, [b"a", b"b", b"c"]) == seen["read_uncommitted"]


@pytest.mark.parametrize("version", ["2.4", "2.8", "4.3"])
def test_a_second_one_of_an_id_fences_the_first(version: str) -> None:
    with cluster(version=version) as fake:
        fake.create("t")
        first = librdkafka(fake, transactional_id="me")
        first.init_transactions(20)
        first.begin_transaction()
        first.produce("t", b"zombie")
        assert 0 == first.flush(20)
        second = librdkafka(fake, transactional_id="me")
        second.init_transactions(20)
        with pytest.raises(KafkaException) as failed:
            first.commit_transaction(20)
        second.begin_transaction()
        second.produce("t", b"owner")
        second.commit_transaction(20)

        assert failed.value.args[0].name() in ("_FENCED", "PRODUCER_FENCED")
        assert [b"owner"] == fake.committed("t")


def test_a_transaction_that_takes_too_long_is_aborted(fake: Cluster) -> None:
    producer = librdkafka(fake, transactional_id="me", transaction_timeout_ms=1000)
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce("t", b"late")
    assert 0 == producer.flush(20)
    deadline = time.monotonic() + 20
    while not fake.transactions.ended:
        assert time.monotonic() < deadline
        read(fake, "t", "read_committed")

    assert [("me", "aborted", frozenset({("t", 0)}))] == fake.transactions.ended
    assert [] == read(fake, "t", "read_committed")


def test_topics_are_made_described_and_deleted(fake: Cluster) -> None:
    admin = AdminClient({"bootstrap.servers": fake.bootstrap[0]})
    topic = NewTopic("u", 3, 1, config={"cleanup.policy": "compact"})
    [made] = admin.create_topics([topic]).values()
    made.result(20)
    with pytest.raises(KafkaException):
        [made] = admin.create_topics([topic]).values()
        made.result(20)
    [config] = admin.describe_configs(
        [ConfigResource(ResourceType.TOPIC, "u")]
    ).values()
    found = admin.list_topics(timeout=20).topics

    assert "compact" == config.result(20)["cleanup.policy"].value
    assert {"t": 1, "u": 3} == {
        name: len(each.partitions) for name, each in found.items()
    }
    [gone] = admin.delete_topics(["u"]).values()
    gone.result(20)
    assert ["t"] == list(admin.list_topics(timeout=20).topics)


def test_a_group_shares_its_partitions_and_keeps_its_offsets(fake: Cluster) -> None:
    fake.create("g", 4)
    settings = {
        "bootstrap.servers": fake.bootstrap[0],
        "group.id": "us",
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 200,
    }
    members = [Consumer(settings) for _ in range(2)]
    for each in members:
        each.subscribe(["g"])
    found: list[set[bytes]] = [set(), set()]
    producer = None
    deadline = time.monotonic() + 30
    while len(found[0] | found[1]) < 40:
        shares = [len(each.assignment()) for each in members]
        assert time.monotonic() < deadline, (shares, found)
        if producer is None and shares == [2, 2]:
            # Not sooner: a member that joins late would have nothing to commit.
            producer = librdkafka(fake)
            for at in range(40):
                producer.produce("g", b"%d" % at, partition=at % 4)
            assert 0 == producer.flush(20)
        for each, values in zip(members, found, strict=True):
            for message in each.consume(100, 0.1):
                assert message.error() is None
                values.add(message.value() or b"")
    assert [20, 20] == [len(values) for values in found]
    members[0].commit(asynchronous=False)
    members[1].commit(asynchronous=False)
    for each in members:
        each.close()

    assert 40 == sum(offset for offset, _ in fake.groups.offsets["us"].values())
    again = Consumer(settings)
    again.subscribe(["g"])
    assert not [m for m in again.consume(1, 2.0) if m.error() is None]
    again.close()


def test_a_group_in_kafka_python(fake: Cluster) -> None:
    producer = librdkafka(fake)
    producer.produce("t", b"x")
    assert 0 == producer.flush(20)
    consumer = KafkaConsumer(
        "t",
        bootstrap_servers=list(fake.bootstrap),
        group_id="us",
        auto_offset_reset="earliest",
    )
    found = next(iter(consumer))
    consumer.commit()
    consumer.close()

    assert b"x" == found.value
    assert {("t", 0): 1} == {
        place: offset for place, (offset, _) in fake.groups.offsets["us"].items()
    }


# -- scripts -----------------------------------------------------------------------------


def begun(fake: Cluster) -> Any:
    producer = KafkaProducer(
        bootstrap_servers=list(fake.bootstrap),
        transactional_id="me",
        request_timeout_ms=3000,
    )
    producer.init_transactions()
    producer.begin_transaction()
    producer.send("t", b"a").get(20)
    return producer


def test_a_lost_reply_to_a_commit_leaves_it_committed(fake: Cluster) -> None:
    producer = begun(fake)
    lost = fake.script(EndTxnRequest, Lost())
    producer.commit_transaction()
    producer.close()

    assert lost.met.is_set()
    assert [b"a"] == fake.committed("t")
    assert 1 == len(fake.transactions.ended)


@pytest.mark.parametrize(
    ("deed", "ended"),
    [
        (Lost(done=False), 1),
        (Torn(0.3), 1),
        (Torn(0.9), 1),
        (Late(0.5), 1),
        (Late(0.5, done=True), 1),
        (Refuse(51), 1),
        (Refuse(14), 1),
        (Refuse(16), 1),
    ],
    ids=str,
)
def test_what_can_be_asked_again_is(fake: Cluster, deed: Any, ended: int) -> None:
    producer = begun(fake)
    line = fake.script(EndTxnRequest, deed)
    producer.commit_transaction()
    producer.close()

    assert line.met.is_set()
    assert [b"a"] == fake.committed("t")
    assert ended == len(fake.transactions.ended)


def test_an_error_that_ends_a_transaction_is_told(fake: Cluster) -> None:
    producer = begun(fake)
    fake.script(EndTxnRequest, Refuse(90))
    with pytest.raises(KafkaError):
        producer.commit_transaction()
    fake.transactions.by_id["me"].state = "empty"
    producer.close()

    assert [] == fake.committed("t")


def test_lines_are_for_who_they_are_for_and_used_up(fake: Cluster) -> None:
    fake.create("u")
    fake.script(
        ProduceRequest,
        Say(7),
        2,
        when=lambda request: request.topic_data[0].name == "u",
    )
    producer = librdkafka(fake, enable_idempotence=True, retry_backoff_ms=20)
    producer.produce("t", b"1")
    producer.produce("u", b"2")
    assert 0 == producer.flush(20)
    sent = [batch.topic for batch in fake.arrived]

    assert {"t": 1, "u": 3} == {name: sent.count(name) for name in set(sent)}
    assert [b"2"] == fake.committed("u")


def test_partitions_have_to_be_added_to_a_transaction_of_the_older_protocol() -> None:
    with cluster(version="2.8") as fake:
        fake.create("t")
        fake.script(AddPartitionsToTxnRequest, Refuse(51), 2)
        producer = begun(fake)
        fake.transactions.by_id["me"].places.clear()
        with pytest.raises(KafkaError):
            producer.send("t", b"b").get(20)
        producer.close()

        assert [] == fake.committed("t")


def test_a_reader_waits_for_what_comes(fake: Cluster) -> None:
    consumer = KafkaConsumer(
        bootstrap_servers=list(fake.bootstrap), fetch_max_wait_ms=5000
    )
    place = TopicPartition("t", 0)
    consumer.assign([place])
    consumer.seek(place, 0)
    consumer.poll(100)
    producer = librdkafka(fake)

    def late() -> None:
        producer.produce("t", b"x")
        producer.flush(20)

    threading.Timer(0.5, late).start()
    began = time.monotonic()
    found = consumer.poll(5000)
    took = time.monotonic() - began
    consumer.close()

    assert [b"x"] == [each.value for each in found[place]]
    assert took < 3.0
