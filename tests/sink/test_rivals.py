"""Another engine on the same connector is noticed by what it saves, by both."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from engine.sink.murmur2 import partition_of
from engine.sink.outlet import AtLeastOnce
from engine.sink.state import key_of
from engine.sink.statefile import FileState
from engine.sink.statetopic import TopicState
from tests.brokers import Broker
from tests.sink.rig import delivering, parcel, topic_name
from tests.sink.test_state import PARTITION, file_save, topic_state, write


@contextmanager
def engines(
    broker: Broker, topic: str, count: int
) -> Iterator[list[tuple[TopicState, AtLeastOnce]]]:
    """So many engines that have loaded their state, one after the other."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            state = topic_state(broker, topic)
            state.load()
            state.own([PARTITION])
            delivery = stack.enter_context(delivering(broker.address))
            found.append((state, delivery.outlet(PARTITION, state)))
        yield found


def polled(out: AtLeastOnce, *pages: int) -> None:
    for page in pages:
        out.hand_over(parcel(0, []), {"page": page})
        out.commit()


def test_both_of_two_engines_notice_the_other(broker: Broker) -> None:
    topic = topic_name()
    with engines(broker, topic, 2) as [(one, first), (two, second)]:
        assert "" == one.rival()
        polled(first, 1, 2)
        polled(second, 1)
        polled(first, 3)

        for state, seq in ((one, 1), (two, 3)):
            said = state.rival()
            assert "Another engine" in said
            assert "'orders'" in said
            assert f"seq={seq} " in said
            assert "" == state.rival()


def test_an_engine_that_has_not_polled_yet_notices_one_that_has(broker: Broker) -> None:
    topic = topic_name()
    with engines(broker, topic, 2) as [(_, first), (two, _)]:
        polled(first, 1)

        assert "Another engine" in two.rival()


def test_one_engine_alone_says_nothing(broker: Broker) -> None:
    topic = topic_name()
    for _ in range(3):
        with engines(broker, topic, 1) as [(state, out)]:
            polled(out, *range(30))
            assert "" == state.rival()
            polled(out, *range(30, 40))
            assert "" == state.rival()
            state.reset([PARTITION])
            assert "" == state.rival()


def test_other_connectors_and_shards_are_no_rivals(broker: Broker) -> None:
    topic = topic_name()
    with engines(broker, topic, 1) as [(state, out)]:
        polled(out, 1)
        soon = int(time.time() * 1000) + 60_000
        value = json.dumps({"page": 1, "v": 1, "seq": 9, "at": soon}).encode()
        for key in (
            key_of("orders2", PARTITION),
            key_of("orders", {**PARTITION, "shard": "1/2"}),
        ):
            write(broker, topic, (key, value, partition_of(key, 5)))

        assert "" == state.rival()


def test_what_a_request_sent_again_wrote_twice_is_still_ours(broker: Broker) -> None:
    topic = topic_name()
    key = key_of("orders", PARTITION)
    with engines(broker, topic, 1) as [(state, out)]:
        polled(out, 1, 2)
        written = [each.value for each in broker.read(topic) if each.key == key]
        assert 2 == len(written)
        assert "" == state.rival()

        for value in written:
            write(broker, topic, (key, value, partition_of(key, 5)))
        assert "" == state.rival()
        write(broker, topic, (key, written[-1], partition_of(key, 5)))
        assert "" == state.rival()


@pytest.mark.parametrize(
    ("late", "noticed"),
    [
        # What was on its way when a task was killed arrives behind the next's load.
        ([{"v": 1, "seq": 2, "at": 1000}], False),
        ([{"v": 1, "seq": 2, "at": 1000}, {"v": 1, "seq": 3, "at": 2000}], True),
        # A tool of Connect's counts nothing.
        ([{"page": 4}], False),
        ([{"v": 1, "seq": 2, "at": 9_999_999_999_999}], True),
    ],
)
def test_what_arrives_late_is_told_from_what_goes_on(
    embedded: Broker, late: list[dict[str, int]], noticed: bool
) -> None:
    topic = topic_name()
    key = key_of("orders", PARTITION)
    with engines(embedded, topic, 1) as [(state, out)]:
        for value in late:
            content = json.dumps(value).encode()
            write(embedded, topic, (key, content, partition_of(key, 5)))
        polled(out, 1)

        assert noticed == bool(state.rival())


def test_a_file_that_another_has_written_is_noticed(tmp_path: Path) -> None:
    one, two = FileState(tmp_path, "orders"), FileState(tmp_path, "orders")
    one.load()
    two.load()

    file_save(one, PARTITION, {"page": 1})
    file_save(one, PARTITION, {"page": 2})
    assert "" == one.rival()
    file_save(two, PARTITION, {"page": 1})
    assert "Another engine" in two.rival()
    file_save(one, PARTITION, {"page": 3})

    assert "Another engine" in one.rival()
    assert "" == one.rival()
