"""Offsets come back as they were saved, and never silently from the beginning."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Doubtful, Misconfigured, StateError
from engine.sink.kafka import Cluster
from engine.sink.murmur2 import partition_of
from engine.sink.state import (
    OWN_FIELDS,
    Saved,
    State,
    canonical,
    key_of,
    parse,
    value_of,
)
from engine.sink.statefile import FileState
from engine.sink.statetopic import COUNT_KEY, TopicState
from tests.brokers import Broker
from tests.examples import examples
from tests.sink.rig import delivering, parcel, topic_name

PARTITION = {"api": "api1", "entity": "users"}


def cluster(broker: Broker) -> Cluster:
    return Cluster(bootstrap=(broker.address,), request_timeout=5.0)


def topic_state(broker: Broker, topic: str, connector: str = "orders") -> TopicState:
    return TopicState(cluster(broker), connector, topic, partitions=5)


def save(broker: Broker, state: State, *found: tuple[Mapping[str, str], Any]) -> None:
    """Save through a delivery, as a task does."""
    with delivering(broker.address) as delivery:
        for partition, offset in found:
            out = delivery.outlet(partition, state)
            out.hand_over(parcel(0, []), offset)
            out.commit()


def write(
    broker: Broker, topic: str, *records: tuple[bytes, bytes | None, int]
) -> None:
    """Write as another tool does; (key, value, partition)."""
    client = Producer({"bootstrap.servers": broker.address})
    for key, value, partition in records:
        client.produce(topic, value, key, partition)
    client.flush()


def test_what_is_saved_is_loaded(broker: Broker) -> None:
    topic = topic_name()
    state = topic_state(broker, topic)
    assert {} == state.load()

    save(
        broker,
        state,
        (PARTITION, {"page": 1}),
        (PARTITION, {"page": 2, "cursor": "a/b=", "done": False, "rate": 0.5}),
        ({"api": "api2"}, {"offset": 500}),
    )
    loaded = topic_state(broker, topic).load()

    found = loaded[canonical(PARTITION)]
    assert {"page": 2, "cursor": "a/b=", "done": False, "rate": 0.5} == found.offset
    assert 2 == found.seq
    assert {"offset": 500} == loaded[canonical({"api": "api2"})].offset


def test_counting_goes_on_after_a_restart(broker: Broker) -> None:
    topic = topic_name()
    for expected in (1, 2, 3):
        state = topic_state(broker, topic)
        state.load()
        save(broker, state, (PARTITION, {"page": expected}))

        found = topic_state(broker, topic).load()[canonical(PARTITION)]
        assert (expected, {"page": expected}) == (found.seq, found.offset)


def test_the_records_are_those_of_kafka_connect(broker: Broker) -> None:
    topic = topic_name()
    state = topic_state(broker, topic)
    state.load()

    save(broker, state, (PARTITION, {"page": 7}))

    [record] = [each for each in broker.read(topic) if each.key != COUNT_KEY]
    assert b'["orders",{"api":"api1","entity":"users"}]' == record.key
    assert partition_of(record.key or b"", 5) == record.partition
    value = json.loads(record.value or b"")
    assert {"page": 7, "v": 1, "seq": 1, "at": value["at"]} == value
    assert "compact" == broker.settings(topic)["cleanup.policy"]


def test_connectors_share_a_topic_and_see_their_own(broker: Broker) -> None:
    topic = topic_name()
    one, two = topic_state(broker, topic, "one"), topic_state(broker, topic, "two")
    one.load()
    two.load()

    save(broker, one, (PARTITION, {"page": 1}))
    save(broker, two, (PARTITION, {"page": 2}))

    assert {"page": 1} == one.load()[canonical(PARTITION)].offset
    assert {"page": 2} == two.load()[canonical(PARTITION)].offset


def test_reset_forgets_every_spelling_of_a_partition(broker: Broker) -> None:
    topic = topic_name()
    state = topic_state(broker, topic)
    state.load()
    save(broker, state, (PARTITION, {"page": 1}), ({"api": "b"}, {"page": 2}))
    spaced = b'[ "orders", {"entity": "users", "api": "api1"} ]'
    write(broker, topic, (spaced, b'{"page":9}', 0))

    state.reset([PARTITION])

    assert [canonical({"api": "b"})] == list(topic_state(broker, topic).load())
    dead = [each.key for each in broker.read(topic) if each.value is None]
    assert {spaced, key_of("orders", PARTITION)} == set(dead)


def test_an_offset_altered_by_a_tool_of_connect_is_taken(broker: Broker) -> None:
    topic = topic_name()
    state = topic_state(broker, topic)
    state.load()
    save(broker, state, (PARTITION, {"page": 1}))
    spaced = b'["orders", {"entity": "users", "api": "api1"}]'

    write(broker, topic, (spaced, b'{"page": 40}', 3))

    assert {"page": 40} == state.load()[canonical(PARTITION)].offset


def test_a_tombstone_forgets(broker: Broker) -> None:
    topic = topic_name()
    state = topic_state(broker, topic)
    state.load()
    save(broker, state, (PARTITION, {"page": 1}))
    key = key_of("orders", PARTITION)

    write(broker, topic, (key, None, partition_of(key, 5)))

    assert {} == state.load()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"{garbage", "cannot be read"),
        (b"[1]", "cannot be read"),
        (b'{"page":{"deep":1}}', "cannot be read"),
        (b'{"page":1,"v":2}', "unknown version 2"),
        (b'{"page":1,"v":"1"}', "unknown version '1'"),
        (b'{"page":1,"v":1,"seq":"x"}', "whole numbers"),
    ],
)
def test_a_value_that_is_not_ours_is_named_with_its_place(
    embedded: Broker, value: bytes, said: str
) -> None:
    topic = topic_name()
    state = topic_state(embedded, topic)
    state.load()
    key = key_of("orders", PARTITION)
    where = partition_of(key, 5)

    write(embedded, topic, (key, b'{"page":1}', where), (key, value, where))

    with pytest.raises(StateError, match=f"{topic}-{where} offset 1 .*{said}"):
        state.load()


def test_a_bad_value_that_has_been_replaced_does_no_harm(embedded: Broker) -> None:
    topic = topic_name()
    state = topic_state(embedded, topic)
    state.load()
    key = key_of("orders", PARTITION)
    where = partition_of(key, 5)

    write(embedded, topic, (key, b"{garbage", where), (key, b'{"page":3}', where))

    assert {"page": 3} == state.load()[canonical(PARTITION)].offset


def test_keys_of_other_kinds_are_passed_over_as_connect_does(embedded: Broker) -> None:
    topic = topic_name()
    state = topic_state(embedded, topic)
    state.load()

    write(embedded, topic, (b'"tasks-fencing-orders"', b'{"task-count":3}', 1))

    assert {} == state.load()


def test_a_topic_that_is_not_compacted_is_refused(broker: Broker) -> None:
    topic = broker.create(topic_name(), 3, cleanup_policy="delete")

    with pytest.raises(Misconfigured, match=f"{topic} has cleanup.policy=delete"):
        topic_state(broker, topic).load()


@pytest.mark.kafka
def test_a_changed_count_of_partitions_is_refused(apache: Broker) -> None:
    from confluent_kafka.admin import AdminClient, NewPartitions

    topic = topic_name()
    state = topic_state(apache, topic)
    state.load()
    save(apache, state, (PARTITION, {"page": 1}))
    admin = AdminClient({"bootstrap.servers": apache.address})
    [grown] = admin.create_partitions([NewPartitions(topic, 9)]).values()
    grown.result(30)

    with pytest.raises(Misconfigured, match="has 9 partitions, but was first used wi"):
        topic_state(apache, topic).load()


class Others:
    """Who writes to the same state topic, in a transaction that stays open."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._topic = topic
        self._client = Producer(
            {"bootstrap.servers": broker.address, "transactional.id": f"other-{topic}"}
        )
        self._client.init_transactions(30)
        self._client.begin_transaction()

    def write(self, key: bytes, value: bytes) -> None:
        self._client.produce(self._topic, value, key, 0)
        self._client.flush()

    def end(self, commit: bool) -> None:
        if commit:
            self._client.commit_transaction(30)
        else:
            self._client.abort_transaction(30)


def own_key(broker: Broker, topic: str) -> bytes:
    """The key under which a position was saved, as it is written."""
    [key] = {x.key for x in broker.read(topic) if (x.key or b"").startswith(b'["ord')}
    assert key is not None
    return key


def one_partition(broker: Broker, topic: str, connector: str = "orders") -> TopicState:
    return TopicState(cluster(broker), connector, topic, partitions=1)


def test_a_load_passes_anothers_open_transaction(broker: Broker) -> None:
    """It reads up to the high watermark, and waits for nobody who is not of it."""
    topic = topic_name()
    state = one_partition(broker, topic)
    state.load()
    others = Others(broker, topic)
    others.write(b'["other",{"api":"x"}]', b'{"page":1}')
    save(broker, state, (PARTITION, {"page": 2}))
    began = time.monotonic()
    found = one_partition(broker, topic).load()
    took = time.monotonic() - began

    assert {canonical(PARTITION)} == set(found)
    assert {"page": 2} == found[canonical(PARTITION)].offset
    # It is open all the while: who waits for it waits for a minute.
    assert took < 30
    others.end(True)
    [theirs] = one_partition(broker, topic, "other").load().values()
    assert {"page": 1} == theirs.offset


@pytest.mark.parametrize("commit", [True, False])
def test_what_ended_behind_an_open_transaction_counts_as_it_ended(
    broker: Broker, commit: bool
) -> None:
    topic = topic_name()
    state = one_partition(broker, topic)
    state.load()
    save(broker, state, (PARTITION, {"page": 1}))
    key = own_key(broker, topic)
    others = Others(broker, topic)
    others.write(b'["other",{"api":"x"}]', b'{"page":9}')
    mine = Producer(
        {"bootstrap.servers": broker.address, "transactional.id": f"ours-{topic}"}
    )
    mine.init_transactions(30)
    for page, ends in ((2, commit), (3, not commit)):
        mine.begin_transaction()
        mine.produce(topic, b'{"v":1,"page":%d}' % page, key, 0)
        mine.flush()
        if ends:
            mine.commit_transaction(30)
        else:
            mine.abort_transaction(30)
    [found] = one_partition(broker, topic).load().values()

    assert (2 if commit else 3) == found.offset["page"]
    others.end(False)
    [found] = one_partition(broker, topic).load().values()
    assert (2 if commit else 3) == found.offset["page"]


def test_a_load_waits_for_an_open_transaction_with_records_of_its_own(
    broker: Broker,
) -> None:
    topic = topic_name()
    state = one_partition(broker, topic)
    state.load()
    save(broker, state, (PARTITION, {"page": 1}))
    key = own_key(broker, topic)
    others = Others(broker, topic)
    others.write(key, b'{"v":1,"page":2}')
    committer = threading.Timer(1.0, lambda: others.end(True))
    committer.start()
    [found] = one_partition(broker, topic).load().values()
    committer.join()

    assert 2 == found.offset["page"]


class Directly:
    """A delivery to whom nothing matters but the answer, and whether it is held."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.freed = threading.Event()
        self.over = False

    def hold(self, why: str, seconds: float) -> bool:
        self.held.append(why)
        threading.Event().wait(0.02)
        return not self.over

    def free(self) -> None:
        self.freed.set()


def file_save(
    state: FileState,
    partition: Mapping[str, str],
    offset: Any,
    delivery: Directly | None = None,
) -> None:
    ended = threading.Event()
    failures: list[Any] = []

    def done(why: Any) -> None:
        failures.append(why)
        ended.set()

    state.save(delivery or Directly(), partition, offset, done)  # type: ignore[arg-type]
    assert ended.wait(10.0)
    if failures[0] is not None:
        raise failures[0]


def test_a_file_keeps_what_a_topic_would(tmp_path: Path) -> None:
    state = FileState(tmp_path / "state", "orders")
    assert {} == state.load()

    file_save(state, PARTITION, {"page": 1})
    file_save(state, PARTITION, {"page": 2})
    file_save(state, {"api": "b"}, {"page": 3})
    loaded = FileState(tmp_path / "state", "orders").load()

    assert ({"page": 2}, 2) == (
        loaded[canonical(PARTITION)].offset,
        loaded[canonical(PARTITION)].seq,
    )
    assert {"page": 3} == loaded[canonical({"api": "b"})].offset
    assert {} == FileState(tmp_path / "state", "other").load()


def test_the_version_before_stays_beside_the_file(tmp_path: Path) -> None:
    state = FileState(tmp_path, "orders")
    state.load()

    file_save(state, PARTITION, {"page": 1})
    file_save(state, PARTITION, {"page": 2})

    [before] = tmp_path.glob("*.before")
    assert b'"page":1' in before.read_bytes()
    assert [] == list(tmp_path.glob("*.new"))


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    state = FileState(tmp_path / "state", "orders")
    state.load()
    file_save(state, PARTITION, {"page": 1})

    modes = [stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "state").iterdir()]
    assert 0o700 == stat.S_IMODE((tmp_path / "state").stat().st_mode)
    assert {0o600} == set(modes)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: b"",
        lambda text: text.replace(b'"page":1', b'"page":2'),
        lambda text: b"00000000 " + text.partition(b" ")[2],
    ],
)
def test_a_damaged_file_is_named(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    state = FileState(tmp_path, "orders")
    state.load()
    file_save(state, PARTITION, {"page": 1})
    [path] = tmp_path.glob("*.offset")

    path.write_bytes(spoil(path.read_bytes()))

    with pytest.raises(StateError, match=str(path)):
        state.load()


def test_reset_of_a_file_forgets_the_partition(tmp_path: Path) -> None:
    state = FileState(tmp_path, "orders")
    state.load()
    file_save(state, PARTITION, {"page": 1})
    file_save(state, {"api": "b"}, {"page": 2})

    state.reset([PARTITION])

    assert [canonical({"api": "b"})] == list(state.load())


def test_a_disk_that_refuses_holds_the_delivery_until_it_does_not(
    tmp_path: Path,
) -> None:
    place = tmp_path / "state"
    state = FileState(place, "orders")
    state.load()
    assert "" == state.able()
    os.rmdir(place)
    assert str(place) in state.able()
    delivery = Directly()

    mending = threading.Timer(0.2, place.mkdir)
    mending.start()
    file_save(state, PARTITION, {"page": 1}, delivery)
    mending.join()

    assert delivery.freed.is_set()
    assert {f"state in {place}"} == {why.partition(":")[0] for why in delivery.held}
    assert {"page": 1} == state.load()[canonical(PARTITION)].offset


def test_a_delivery_that_is_over_waits_for_no_disk(tmp_path: Path) -> None:
    state = FileState(tmp_path / "state", "orders")
    state.load()
    os.rmdir(tmp_path / "state")
    delivery = Directly()
    delivery.over = True

    with pytest.raises(Doubtful, match="state in"):
        file_save(state, PARTITION, {"page": 1}, delivery)


def test_what_is_forgotten_leaves_no_file(tmp_path: Path) -> None:
    state = FileState(tmp_path, "orders")
    state.load()
    file_save(state, PARTITION, {"page": 1})
    file_save(state, PARTITION, {"page": 2})
    ended = threading.Event()

    state.forget(Directly(), PARTITION, lambda why: ended.set())  # type: ignore[arg-type]

    assert ended.wait(10.0)
    assert [] == list(tmp_path.iterdir())


primitives = st.one_of(
    st.text(max_size=20),
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)


@given(
    st.dictionaries(
        st.text(max_size=10).filter(lambda name: name not in OWN_FIELDS),
        primitives,
    ),
    st.integers(0, 2**40),
)
@settings(max_examples=examples(100))
def test_every_offset_is_read_back(offset: dict[str, Any], seq: int) -> None:
    once = bool(seq % 2)
    found = parse(PARTITION, value_of(offset, seq, 5, once=once), "here")

    assert Saved(PARTITION, offset, seq, 5, "here", once) == found


def test_a_key_does_not_depend_on_the_order_of_its_fields() -> None:
    assert key_of("c", {"b": "1", "a": "2"}) == key_of("c", {"a": "2", "b": "1"})
    assert b'["c",{"a":"2","b":"1"}]' == key_of("c", {"b": "1", "a": "2"})
