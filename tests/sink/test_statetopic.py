"""The state topic stays small, and is read once, quickly, whatever else is in it."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from engine.errors import Misconfigured, StateError
from engine.sink import reading
from engine.sink.state import COUNT_KEY, canonical, key_of
from engine.sink.statesettings import SETTINGS
from engine.sink.statetopic import TopicState
from engine.task.sharedreading import SharedReadingFile
from tests.brokers import Broker
from tests.sink.rig import topic_name
from tests.sink.test_state import PARTITION, cluster, save, topic_state, write

KEY = key_of("orders", PARTITION)


def producer(broker: Broker, **more: object) -> Producer:
    """Fills a topic fast."""
    return Producer(
        {
            "bootstrap.servers": broker.address,
            "linger.ms": 20,
            # A batch that is sent again must not come behind those after it.
            "enable.idempotence": True,
            "batch.size": 1_000_000,
            "batch.num.messages": 100_000,
            "queue.buffering.max.messages": 1_000_000,
            **more,
        }
    )


def fill(client: Producer, topic: str, rows: Iterator[tuple[bytes, bytes]]) -> None:
    for at, (key, value) in enumerate(rows):
        while True:
            try:
                client.produce(topic, value, key)
                break
            except BufferError:
                client.poll(0.05)
        if at % 10_000 == 0:
            client.poll(0)
    client.flush()


def foreign(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys of other connectors, ours the beginning of some of their names."""
    for at in range(count):
        name = ("other", "orders2", "order", "my-orders")[at % 4]
        key = b'["%b",{"api":"orders","shard":"%d/9"}]' % (name.encode(), at % 9)
        yield key, b'{"page":%d,"v":1,"seq":%d,"at":1732000000000}' % (at, at)


def own(count: int) -> Iterator[tuple[bytes, bytes]]:
    for at in range(count):
        partition = {"api": f"api{at % 3}", "shard": "0/1"}
        value = b'{"page":%d,"v":1,"seq":%d,"at":1732000000000}' % (at, at)
        yield key_of("orders", partition), value


@pytest.mark.kafka
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_ours_are_found_among_the_many_of_others(apache: Broker, codec: str) -> None:
    topic = apache.create(topic_name(), 12, cleanup_policy="compact")
    client = producer(apache, **{"compression.type": codec})
    mixed = itertools.chain(foreign(20_000), own(3000), foreign(20_000), own(30))

    fill(client, topic, mixed)
    found = TopicState(cluster(apache), "orders", topic).load()

    assert {
        canonical({"api": f"api{at}", "shard": "0/1"}): ({"page": 27 + at}, 27 + at)
        for at in range(3)
    } == {name: (each.offset, each.seq) for name, each in found.items()}


@pytest.mark.kafka
def test_foreign_records_cost_little(apache: Broker) -> None:
    topic = apache.create(topic_name(), 6, cleanup_policy="compact")
    fill(producer(apache), topic, foreign(400_000))
    state = TopicState(cluster(apache), "orders", topic)
    state.able()
    told: list[tuple[int, int]] = []

    began = time.process_time()
    found = state.load(lambda done, total: told.append((done, total)))
    took = time.process_time() - began

    assert {} == found
    # About 0.5 s on a machine of its own; an object for each would be 8 s.
    assert took < 2.0
    assert (0, 400_000) == told[0]
    assert (400_000, 400_000) == told[-1]
    assert sorted(told) == told


@pytest.mark.kafka
def test_records_of_ours_are_folded_and_not_decoded(apache: Broker) -> None:
    topic = apache.create(topic_name(), 3, cleanup_policy="compact")
    # As a shard writes them: each in a batch of its own.
    client = producer(apache, **{"batch.num.messages": 1, "linger.ms": 0})
    rows = itertools.chain([(KEY, b"{garbage")], own(60_000), [(KEY, b'{"page":1}')])
    fill(client, topic, rows)
    state = TopicState(cluster(apache), "orders", topic)

    began = time.process_time()
    found = state.load()
    took = time.process_time() - began

    assert 4 == len(found)
    assert {"page": 1} == found[canonical(PARTITION)].offset
    assert took < 1.5


def test_keys_that_are_no_json_are_passed_over_with_one_warning(
    broker: Broker, tmp_path: Path
) -> None:
    topic = topic_name()
    topic_state(broker, topic).load()
    write(broker, topic, (b"\xff\xfe", b"{}", 2), (b"orders-1", b"x", 2))
    write(broker, topic, (KEY, b'{"page":1}', 3), (b'["orders",{', b"x", 1))
    write(broker, topic, (b'["orders",{', None, 1))
    said: list[str] = []
    shared_reading = SharedReadingFile(tmp_path, "here")

    for _ in range(2):
        found = TopicState(
            cluster(broker),
            "orders",
            topic,
            shared_reading=shared_reading,
            say=said.append,
        ).load()
        assert {"page": 1} == found[canonical(PARTITION)].offset

    [text] = said
    assert f"{topic}-2 offset 0" in text


def test_a_key_of_ours_that_is_broken_is_named_and_a_siblings_is_not(
    embedded: Broker,
) -> None:
    topic = topic_name()
    topic_state(embedded, topic).load()
    write(embedded, topic, (b'["orders",{"api":1}]', b"x", 1))

    with pytest.raises(
        StateError, match=f"the key at {topic}-1 offset [01] .*removes it"
    ):
        topic_state(embedded, topic).load()
    other = TopicState(cluster(embedded), "two", topic, siblings=["orders"])
    assert {} == other.load()


def test_what_is_no_pair_of_name_and_map_is_no_state(embedded: Broker) -> None:
    topic = topic_name()
    topic_state(embedded, topic).load()
    for key in (b'["orders",5]', b'["orders",{"api":"a"},1]', b'["orders",null]'):
        write(embedded, topic, (key, b"x", 1))

    assert {} == topic_state(embedded, topic).load()


@pytest.mark.kafka
def test_what_was_aborted_never_counts(apache: Broker) -> None:
    topic = apache.create(topic_name(), 1, cleanup_policy="compact")
    client = Producer(
        {"bootstrap.servers": apache.address, "transactional.id": f"t-{topic}"}
    )
    client.init_transactions(30)
    for page, commit in ((1, True), (2, False), (3, False), (4, True), (5, False)):
        client.begin_transaction()
        client.produce(topic, b'{"page":%d}' % page, KEY)
        client.flush()
        if commit:
            client.commit_transaction(30)
        else:
            client.abort_transaction(30)

    found = TopicState(cluster(apache), "orders", topic).load()

    assert {"page": 4} == found[canonical(PARTITION)].offset


@pytest.mark.kafka
def test_a_new_topic_has_small_segments(apache: Broker) -> None:
    one, two = topic_name(), topic_name()
    TopicState(cluster(apache), "orders", one, partitions=2).load()
    changed = {**SETTINGS, "segment.bytes": "2097152", "retention.ms": "5000"}
    TopicState(cluster(apache), "orders", two, partitions=2, settings=changed).load()

    assert {"cleanup.policy": "compact", **SETTINGS}.items() <= (
        apache.settings(one).items()
    )
    assert changed.items() <= apache.settings(two).items()


@pytest.mark.kafka
def test_a_broker_that_refuses_the_settings_still_gets_a_topic(apache: Broker) -> None:
    topic, refused = topic_name(), {**SETTINGS, "segment.bytes": "1"}
    said: list[str] = []
    stated = TopicState(cluster(apache), "orders", topic, settings=refused, stated=True)

    with pytest.raises(Misconfigured, match=r"segment\.bytes"):
        stated.load()
    TopicState(
        cluster(apache), "orders", topic, settings=refused, say=said.append
    ).load()

    [text] = said
    assert topic in text
    assert "offset.storage." in text
    assert "compact" == apache.settings(topic)["cleanup.policy"]


# -- one reading for all ------------------------------------------------------------


def shelved(
    broker: Broker, topic: str, tmp_path: Path, connector: str = "orders"
) -> TopicState:
    names = {"orders", "two"} - {connector}
    shared_reading = SharedReadingFile(tmp_path, "here")
    return TopicState(
        cluster(broker),
        connector,
        topic,
        siblings=sorted(names),
        shared_reading=shared_reading,
    )


def totals(state: TopicState) -> int:
    """Records that a load has to read."""
    told: list[int] = []
    state.load(lambda done, total: told.append(total))
    return told[-1]


def test_the_second_task_reads_only_what_is_new(broker: Broker, tmp_path: Path) -> None:
    topic = topic_name()
    first = shelved(broker, topic, tmp_path)
    first.load()
    save(broker, first, *((PARTITION, {"page": at}) for at in range(20)))

    # What has been saved since the first one began, and its own count of partitions.
    assert 21 == totals(shelved(broker, topic, tmp_path))
    assert 0 == totals(shelved(broker, topic, tmp_path))
    other = shelved(broker, topic, tmp_path, "two")
    assert 0 == totals(other)
    save(broker, other, (PARTITION, {"page": 7}))

    found = shelved(broker, topic, tmp_path).load()
    assert {"page": 19} == found[canonical(PARTITION)].offset
    found = shelved(broker, topic, tmp_path, "two").load()
    assert {"page": 7} == found[canonical(PARTITION)].offset


def test_a_task_that_starts_again_finds_what_was_saved_since(
    broker: Broker, tmp_path: Path
) -> None:
    topic = topic_name()
    for page in range(1, 5):
        state = shelved(broker, topic, tmp_path)
        found = state.load().get(canonical(PARTITION))
        assert page == (1 if found is None else found.seq + 1)
        save(broker, state, (PARTITION, {"page": page}))
    state.reset([PARTITION])

    assert {} == shelved(broker, topic, tmp_path).load()


class Ended(Exception):
    """The reader has gone."""


def test_who_is_ended_while_reading_leaves_what_was_read(
    embedded: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "KEPT_EVERY", 0.0)
    topic = topic_name()
    shelved(embedded, topic, tmp_path).load()
    (tmp_path / "state-here.reading").unlink()
    fill(producer(embedded), topic, foreign(5000))
    write(embedded, topic, (KEY, b'{"page":1}', 3))
    whole = 5002

    def end(done: int, total: int) -> None:
        if done > 0:
            raise Ended

    with pytest.raises(Ended):
        shelved(embedded, topic, tmp_path).load(end)
    rest = totals(shelved(embedded, topic, tmp_path))
    assert 0 <= rest <= whole
    found = shelved(embedded, topic, tmp_path).load()
    assert {"page": 1} == found[canonical(PARTITION)].offset


def test_a_topic_that_was_made_anew_is_read_anew(
    apache: Broker, tmp_path: Path
) -> None:
    topic = topic_name()
    state = shelved(apache, topic, tmp_path)
    state.load()
    save(apache, state, *((PARTITION, {"page": at}) for at in range(5)))
    shelved(apache, topic, tmp_path).load()
    apache.delete(topic)

    state = shelved(apache, topic, tmp_path)
    assert {} == state.load()
    save(apache, state, (PARTITION, {"page": 77}))

    found = shelved(apache, topic, tmp_path).load()
    assert ({"page": 77}, 1) == (
        found[canonical(PARTITION)].offset,
        found[canonical(PARTITION)].seq,
    )


@pytest.mark.parametrize(
    "spoil", [b"", b"\0", b"\0\0\0\0garbage", b"\xff" * 2000], ids=repr
)
def test_a_shared_reading_that_is_spoilt_is_done_without(
    embedded: Broker, tmp_path: Path, spoil: bytes
) -> None:
    topic = topic_name()
    state = shelved(embedded, topic, tmp_path)
    state.load()
    save(embedded, state, (PARTITION, {"page": 1}))
    (tmp_path / "state-here.reading").write_bytes(spoil)

    found = shelved(embedded, topic, tmp_path).load()

    assert {"page": 1} == found[canonical(PARTITION)].offset


def test_a_full_runtime_directory_means_reading_alone(
    embedded: Broker, tmp_path: Path
) -> None:
    topic = topic_name()
    state = shelved(embedded, topic, tmp_path)
    state.load()
    save(embedded, state, (PARTITION, {"page": 1}))
    (tmp_path / "state-here.reading").unlink()
    # What stands where the file is to be written refuses as a full disk does.
    (tmp_path / "state-here.new").mkdir()

    for _ in range(2):
        found = shelved(embedded, topic, tmp_path).load()
        assert {"page": 1} == found[canonical(PARTITION)].offset


def test_the_count_of_partitions_is_written_once(broker: Broker) -> None:
    topic = topic_name()
    for _ in range(3):
        topic_state(broker, topic).load()

    written = [each for each in broker.read(topic) if each.key == COUNT_KEY]
    assert [5] == [json.loads(each.value or b"") for each in written]


def test_spellings_of_a_partition_are_told_apart_by_time_and_place(
    embedded: Broker,
) -> None:
    topic = topic_name()
    topic_state(embedded, topic).load()
    spaced = b'["orders", {"entity": "users", "api": "api1"}]'
    client = Producer({"bootstrap.servers": embedded.address})
    for key, value, place, stamp in (
        (KEY, b'{"page":1}', 1, 2000),
        (spaced, b'{"page":2}', 3, 3000),
        # The clock of who wrote this was set back: its place says it is newer.
        (spaced, b'{"page":3}', 3, 2500),
        (KEY, b'{"page":4}', 1, 2400),
    ):
        client.produce(topic, value, key, place, timestamp=stamp)
        client.flush()

    found = topic_state(embedded, topic).load()

    assert {"page": 3} == found[canonical(PARTITION)].offset
