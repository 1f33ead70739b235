"""
Leaders that move, and brokers that tell wrong, late or odd things of them.

Metadata and hints (KIP-951) of the tests' own brokers: whatever they say, what is put is
written once and in order as soon as somebody can take it, and nobody is asked without a
pause.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka.protocol.metadata import MetadataRequest
from kafka.protocol.producer import ProduceRequest

from engine.errors import Unavailable
from tests.fakes.broker import Cluster, cluster
from tests.sink.producing import Putting, putting, until


@contextmanager
def two(version: str = "4.3", **topic: Any) -> Iterator[Cluster]:
    with cluster(2, version) as fake:
        fake.create("t", **topic)
        yield fake


def values(count: int) -> list[bytes]:
    return [b"%d" % at for at in range(count)]


def asked(fake: Cluster, kind: Any) -> int:
    with fake.lock:
        return sum(1 for name, _ in fake.heard if name == kind.__name__)


def in_metadata(change: Callable[[Any], None]) -> Callable[[int, Any, Any], None]:
    """Change what brokers tell of the cluster."""

    def alter(node: int, request: Any, answer: Any) -> None:
        if isinstance(request, MetadataRequest):
            change(answer)

    return alter


def moved(fake: Cluster, to: Putting) -> None:
    """The partition is led by the other broker, which nobody was told."""
    to.put(0)
    to.wait(1)
    fake.leaders["t", 0] = 2


@pytest.mark.parametrize("version", ["3.7", "4.3"])
@pytest.mark.parametrize("hint", [(99, 7), (2, 0), (1, 7), (1, 0), (-1, -1), (2, -1)])
@pytest.mark.parametrize("named", [True, False])
def test_a_hint_that_leads_nowhere_keeps_nothing(
    version: str, hint: tuple[int, int], named: bool
) -> None:
    """A node that nobody names, an older epoch, the broker that has just refused."""
    with two(version) as fake, putting(fake.bootstrap) as to:
        moved(fake, to)
        fake.hints["t", 0] = hint

        def alter(node: int, request: Any, answer: Any) -> None:
            if isinstance(request, ProduceRequest) and not named:
                answer.node_endpoints = []

        fake.alter = alter
        before = asked(fake, ProduceRequest)
        to.put(1)
        to.put(2)
        assert {None} == set(to.wait(3, 5.0).values())
        assert asked(fake, ProduceRequest) - before < 12
    assert values(3) == fake.log["t", 0]


def test_a_broker_that_hints_at_who_led_before_it_is_not_asked_without_a_pause() -> (
    None
):
    """It leads by the metadata, and has not heard of it yet."""
    with two() as fake:
        epochs = {"epoch": 5}

        def epoch(answer: Any) -> None:
            for topic in answer.topics:
                for part in topic.partitions:
                    part.leader_epoch = epochs["epoch"]

        fake.alter = in_metadata(epoch)
        with putting(fake.bootstrap) as to:
            to.put(0)
            to.wait(1)
            fake.hints["t", 0] = 2, 4
            fake.judge = lambda batch: 6
            before = asked(fake, ProduceRequest)
            to.put(1)
            time.sleep(0.5)
            tries = asked(fake, ProduceRequest) - before
            fake.judge = lambda batch: None
            to.wait(2)
    assert tries < 12
    assert values(2) == fake.log["t", 0]


def test_two_brokers_that_hint_at_each_other_are_not_asked_without_a_pause() -> None:
    with two() as fake, putting(fake.bootstrap) as to:
        to.put(0)
        to.wait(1)
        epoch = [1]
        refusing = [True]

        def alter(node: int, request: Any, answer: Any) -> None:
            if isinstance(request, ProduceRequest) and refusing[0]:
                epoch[0] += 1
                fake.leaders["t", 0] = 3 - node
                fake.hints["t", 0] = 3 - node, epoch[0]

        fake.judge = lambda batch: 6 if refusing[0] else None
        fake.hints["t", 0] = 2, 1
        fake.alter = alter
        before = asked(fake, ProduceRequest)
        to.put(1)
        time.sleep(0.5)
        tries = asked(fake, ProduceRequest) - before
        refusing[0] = False
        to.wait(2)
    assert tries < 15
    assert values(2) == fake.log["t", 0]


def test_a_leader_that_is_not_among_the_brokers_is_asked_for_again() -> None:
    with two() as fake, putting(fake.bootstrap) as to:
        to.put(0)
        to.wait(1)

        def without(answer: Any) -> None:
            answer.brokers = [each for each in answer.brokers if each.node_id != 2]

        fake.leaders["t", 0] = 2
        fake.alter = in_metadata(without)
        before = asked(fake, MetadataRequest)
        to.put(1)
        until(lambda: waits(to), "it is said")
        until(lambda: "broker 2" in waits(to)[0].why, "it is named")
        asking = asked(fake, MetadataRequest) - before
        fake.alter = in_metadata(lambda answer: None)
        to.wait(2, 5.0)
    assert asking < 20
    assert values(2) == fake.log["t", 0]


def waits(to: Putting) -> Any:
    return to.producer.waits(time.monotonic(), 0.2)


def test_a_broker_that_knows_nobody_yet_is_asked_again() -> None:
    with two() as fake:
        left = [3]

        def nobody(answer: Any) -> None:
            if left[0]:
                left[0] -= 1
                answer.brokers = []

        fake.alter = in_metadata(nobody)
        with putting(fake.bootstrap, limit=5.0) as to:
            to.put(0)
            to.wait(1, 5.0)


@pytest.mark.parametrize("code", [5, 14, -1, 3])
def test_a_topic_that_is_only_being_made_is_asked_for_again(code: int) -> None:
    """Brokers with ZooKeeper tell of no partitions of it meanwhile."""
    with two() as fake:
        left = [3]

        def making(answer: Any) -> None:
            if left[0] and answer.topics:
                left[0] -= 1
                for topic in answer.topics:
                    topic.error_code, topic.partitions = code, []

        fake.alter = in_metadata(making)
        with putting(fake.bootstrap, max_block=5.0) as to:
            began = time.monotonic()
            assert 1 == to.producer.partitions("t")
            assert time.monotonic() - began < 3.0


def test_a_topic_that_may_not_be_seen_is_seen_once_it_may() -> None:
    with two() as fake:
        code = [29]

        def refuse(answer: Any) -> None:
            for topic in answer.topics if code[0] else ():
                topic.error_code, topic.partitions = code[0], []

        fake.alter = in_metadata(refuse)
        with putting(fake.bootstrap, max_block=2.0) as to:
            with pytest.raises(Exception, match="TOPIC_AUTHORIZATION_FAILED"):
                to.producer.partitions("t")
            code[0] = 0
            until(lambda: counts(to) == 1, "it is seen", 3.0)


def counts(to: Putting) -> int:
    try:
        return to.producer.partitions("t")
    except Exception:  # noqa: BLE001 - asked again
        return 0


@pytest.mark.parametrize("version", ["2.4", "4.3"])
def test_a_topic_that_was_made_anew_is_followed_to_its_new_leader(version: str) -> None:
    """Its epochs begin again, and before 2.8 no id tells it from the one before."""
    with two(version) as fake:
        epochs = [7]

        def epoch(answer: Any) -> None:
            for topic in answer.topics:
                for part in topic.partitions:
                    part.leader_epoch = epochs[0]

        fake.alter = in_metadata(epoch)
        with putting(fake.bootstrap) as to:
            to.put(0)
            to.wait(1)
            with fake.lock:
                fake.delete("t")
                fake.create("t", leader=2)
                epochs[0] = 0
            to.put(1)
            to.put(2)
            assert {None} == set(to.wait(3, 5.0).values())
    assert [b"1", b"2"] == fake.log["t", 0]


def test_no_leader_of_a_high_epoch_is_nothing_better_than_a_leader() -> None:
    """A broker that is ahead, or lies, and nobody who denies it: nobody is asked."""
    with two() as fake, putting(fake.bootstrap) as to:
        to.put(0)
        to.wait(1)

        def nobody(answer: Any) -> None:
            for topic in answer.topics:
                for part in topic.partitions:
                    part.leader_id, part.leader_epoch = -1, 9

        fake.alter = in_metadata(nobody)
        fake.leaders["t", 0] = 2
        to.put(1)
        until(lambda: waits(to) and "no leader" in waits(to)[0].why, "it waits")
        fake.alter = in_metadata(lambda answer: None)
        to.wait(2, 5.0)
    assert values(2) == fake.log["t", 0]


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("", 9092),
        ("127.0.0.1", 0),
        ("127.0.0.1", -1),
        ("127.0.0.1", 70000),
        ("127.0.0.1", 1 << 30),
        ("a\0b", 9092),
        ("." * 70, 9092),
        ("a" * 300, 9092),
        ("ä.invalid", 9092),
        ("fe80::1%nothing", 9092),
        (" ", 9092),
    ],
)
@pytest.mark.parametrize("where", ["metadata", "hint"])
def test_an_address_that_is_none_keeps_one_broker_away_and_nobody_else(
    host: str, port: int, where: str
) -> None:
    with cluster(2) as fake:
        fake.create("t", 2)
        with putting(fake.bootstrap) as to:
            for at in range(2):
                to.put(at, partition=at)
            to.wait(2)
            odd = [True]

            def alter(node: int, request: Any, answer: Any) -> None:
                if not odd[0]:
                    return
                if isinstance(request, ProduceRequest):
                    told = answer.node_endpoints or ()
                elif isinstance(request, MetadataRequest):
                    told = answer.brokers if where == "metadata" else ()
                else:
                    return
                for each in told:
                    if each.node_id == 2:
                        each.host, each.port = host, port

            fake.alter = alter
            fake.leaders["t", 1] = 2
            if where == "hint":
                fake.hints["t", 1] = 2, 3
            to.put(2, partition=1)
            if where == "metadata":
                until(lambda: waits(to), "it waits")
            to.put(3, partition=0)
            until(lambda: 3 in to.answers.found, "the other one goes on", 5.0)
            odd[0] = False
            to.producer.refresh()
            to.wait(4, 8.0)
    assert [b"1", b"2"] == fake.log["t", 1]


def test_addresses_that_change_hands_are_followed() -> None:
    """Both brokers come back under each other's number."""
    with two() as fake, putting(fake.bootstrap) as to:
        to.put(0)
        to.wait(1)
        with fake.lock:
            fake.stop(1)
            fake.stop(2)
            fake.ports[1], fake.ports[2] = fake.ports[2], fake.ports[1]
            fake.start(1)
            fake.start(2)
        for at in range(1, 5):
            to.put(at)
        assert {None} == set(to.wait(5, 8.0).values())
    assert values(5) == fake.log["t", 0]


def test_who_asks_for_partitions_is_told_what_is_wrong_with_the_topic() -> None:
    def making(answer: Any) -> None:
        for topic in answer.topics:
            topic.error_code, topic.partitions = 5, []

    with two() as fake:
        fake.alter = in_metadata(making)
        with (
            putting(fake.bootstrap, max_block=0.5) as to,
            pytest.raises(Unavailable, match="topic t: LEADER_NOT_AVAILABLE"),
        ):
            to.producer.partitions("t")


def test_a_partition_that_had_no_leader_when_it_was_asked_for_gets_one() -> None:
    """Nothing waited for it then, and metadata is good for minutes."""
    with two() as fake:
        fake.create("u", 2)
        fake.leaders["u", 1] = -1
        with putting(fake.bootstrap) as to:
            to.put(0, topic="u", partition=0)
            to.wait(1)
            time.sleep(0.3)
            to.put(1, topic="u", partition=1)
            until(lambda: waits(to), "it waits")
            fake.leaders["u", 1] = 2
            to.wait(2, 5.0)


def test_leaders_that_stay_away_are_asked_for_with_growing_pauses() -> None:
    with two() as fake, putting(fake.bootstrap) as to:
        to.put(0)
        to.wait(1)
        fake.leaders["t", 0] = -1
        to.put(1)
        until(lambda: waits(to), "it waits")
        before, used = asked(fake, MetadataRequest), time.process_time()
        time.sleep(2.0)
        used = time.process_time() - used
        assert asked(fake, MetadataRequest) - before < 8
        fake.leaders["t", 0] = 2
        to.wait(2, 5.0)
    assert used < 0.3


@pytest.mark.parametrize("code", [47, 90, 42, 9999, 45])
def test_what_ends_the_producer_is_the_reason_also_behind_other_answers(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a request of several partitions, and with more requests on their way."""
    with cluster() as fake:
        fake.create("t", 4)
        with putting(fake.bootstrap, linger=0.05) as to:
            for at in range(4):
                to.put(at, partition=at, full=False)
            to.wait(4)
            first = [True]

            def judge(batch: Any) -> Any:
                if batch.values == [b"4"] and first[0]:
                    first[0] = False
                    time.sleep(0.3)
                    return code
                return None

            fake.judge = judge
            for at in range(4, 24):
                to.put(at, partition=at % 4)
            found = to.wait(24)
            sender = to.producer._sender
            until(
                lambda: not any(each.flying for each in sender.partitions.values()),
                "all is answered",
            )
            assert sender.is_alive()
        failed = {str(why) for at, why in found.items() if why is not None}
        assert 1 == len(failed)
        assert "t-0" in failed.pop()
    assert "The sender ends" not in caplog.text


@pytest.mark.parametrize("version", ["2.4", "2.8", "4.3"])
@pytest.mark.parametrize("away", [0.0, 0.05, 0.4])
def test_a_topic_that_is_made_anew_under_batches_gets_what_is_put_since(
    version: str, away: float
) -> None:
    """Its id is another one, its epochs begin again, and it knows no producer."""
    with two(version) as fake:
        fake.create("u")
        with putting(fake.bootstrap) as to:
            at = 0
            for life in range(4):
                for _ in range(40):
                    to.put(at)
                    at += 1
                    if at % 8 == 0:
                        time.sleep(0.002)
                with fake.lock:
                    fake.delete("t")
                    if not away:
                        fake.create("t", leader=1 + life % 2)
                if away:
                    to.put(("u", life), b"u", topic="u")
                    time.sleep(away)
                    fake.create("t", leader=1 + life % 2)
            since = at
            for _ in range(40):
                to.put(at)
                at += 1
            found = to.wait(at + (4 if away else 0), 10.0)
            assert {None} == set(found.values())
        there = [int(each) for each in fake.log["t", 0]]
    assert sorted(there) == there
    assert len(set(there)) == len(there)
    assert set(range(since, at)) <= set(there)
