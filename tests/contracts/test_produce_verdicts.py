"""
What follows from each answer of a broker to a batch.

The brokers are the tests' own: they check sequences as Kafka does, and answer what
a test tells them.  What real brokers keep is read back in
`test_produce_brokers.py`.
"""

from __future__ import annotations

import gc
import math
import random
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from kafka.protocol.producer import ProduceRequest

from engine.errors import Doubtful, Fenced, Misconfigured, SinkError
from engine.sink.columns import column_of
from tests.fakes.broker import SPOKEN, Batch, Cluster, Late, cluster, part
from tests.sink.producing import Putting, putting, until


@pytest.fixture
def fake() -> Iterator[Cluster]:
    with cluster() as made:
        made.create("t")
        yield made
        assert not made.asked_to_create


def once(code: Any, times: int = 1) -> Any:
    """Answer so a few times, then write."""
    left = [code] * times
    return lambda batch: left.pop() if left else None


@pytest.mark.parametrize("version", SPOKEN)
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_version_and_codec(version: str, codec: str) -> None:
    with cluster(version=version) as fake:
        fake.create("t", 2)
        with putting(fake.bootstrap) as to:
            to.put(0, *[b"a" * 300] * 9, codec=codec)
            to.put(1, b"c", partition=1, codec=codec)
            assert {0: None, 1: None} == to.wait(2)

        assert {("t", 0): [b"a" * 300] * 9, ("t", 1): [b"c"]} == fake.log
        spoken = max(number for _, key, number in fake.seen if key == 0)
        assert SPOKEN[version][0][1] == spoken


@pytest.mark.parametrize(
    "code",
    [-1, 2, 3, 5, 6, 7, 8, 9, 13, 14, 15, 16, 19, 20, 51, 56, 72, 74, 75, 89, 100, 103],
)
def test_what_passes_is_tried_again_with_the_same_bytes(
    fake: Cluster, code: int
) -> None:
    fake.judge = once(code, 2)
    with putting(fake.bootstrap) as to:
        to.put(1, b"a", b"b")
        assert {1: None} == to.wait(1)

    assert 3 == len(fake.arrived)
    assert 1 == len({batch.data for batch in fake.arrived})
    assert [b"a", b"b"] == fake.log["t", 0]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (17, Misconfigured),
        (21, Misconfigured),
        (29, Misconfigured),
        (31, Misconfigured),
        (35, Misconfigured),
        (43, Misconfigured),
        (53, Misconfigured),
        (76, Misconfigured),
    ],
)
def test_what_never_passes_has_our_name_and_the_next_batch_goes_on(
    fake: Cluster, code: int, name: type[SinkError]
) -> None:
    fake.judge = once(code)
    with putting(fake.bootstrap) as to:
        to.put(1, b"a")
        why = to.wait(1)[1]
        to.put(2, b"b")
        assert to.wait(2)[2] is None

    assert name is type(why)
    assert "t-0" in str(why)
    assert [b"b"] == fake.log["t", 0]


@pytest.mark.parametrize(
    ("code", "name"),
    [(47, Fenced), (90, Fenced), (42, Doubtful), (45, Doubtful), (9999, Doubtful)],
)
def test_a_doubt_ends_the_producer_and_nothing_hangs(
    fake: Cluster, code: int, name: type[SinkError]
) -> None:
    fake.judge = once(code)
    with putting(fake.bootstrap) as to:
        for at in range(3):
            to.put(at)
        found = to.wait(3)
        with pytest.raises(name):
            to.put(9)

    assert {name} == {type(why) for why in found.values()}
    assert "t-0" in str(found[0])


def test_a_duplicate_sequence_counts_as_written(fake: Cluster) -> None:
    fake.judge = once(46)
    with putting(fake.bootstrap) as to:
        to.put(1, b"a")
        assert {1: None} == to.wait(1)

    assert 1 == len(fake.arrived)


def test_a_forgotten_producer_begins_a_new_epoch(fake: Cluster) -> None:
    with putting(fake.bootstrap) as to:
        to.put(0)
        to.wait(1)
        fake.judge = once(59)
        to.put(1)
        to.put(2)
        to.wait(3)

    assert [b"0", b"1", b"2"] == fake.log["t", 0]
    assert {0, 1} == {batch.epoch for batch in fake.arrived}


@pytest.mark.parametrize("code", [6, 7, 19])
@pytest.mark.parametrize("seed", range(5))
def test_whatever_fails_the_order_stays_and_nothing_comes_twice(
    fake: Cluster, code: int, seed: int
) -> None:
    dice = random.Random(seed)
    with putting(fake.bootstrap) as to:
        # Some are written although they are said to have failed.
        def judge(batch: Batch) -> Any:
            if dice.random() < 0.3:
                if code == 7:
                    fake.logs["t", 0].append(batch)
                return code
            return None

        fake.judge = judge
        for at in range(60):
            to.put(at)
        assert {None} == set(to.wait(60).values())

    assert [b"%d" % at for at in range(60)] == fake.log["t", 0]
    assert list(range(60)) == sorted(to.answers.order)


def test_the_first_batches_of_a_producer_keep_their_order(fake: Cluster) -> None:
    """A broker takes any first sequence of a producer that it does not know."""
    fake.judge = once(6)
    with putting(fake.bootstrap) as to:
        for at in range(5):
            to.put(at)
        to.wait(5)

    assert [b"%d" % at for at in range(5)] == fake.log["t", 0]


def test_sequences_begin_again_after_their_last(fake: Cluster) -> None:
    with putting(fake.bootstrap) as to:
        to.put(0)
        to.wait(1)
        to.producer._sender.partitions["t", 0].numbers.sequence = 0x7FFFFFFE  # type: ignore[union-attr]
        fake.logs["t", 0].producers.clear()
        for at in range(1, 5):
            to.put(at, b"x", b"y", b"z")
        to.wait(5)

    assert [0, 0x7FFFFFFE, 1, 4, 7] == [batch.sequence for batch in fake.arrived]


def bad_values(*bad: bytes, index: bool = True, code: int = 87) -> Any:
    """Refuse batches with these values, naming them or not."""

    def judge(batch: Batch) -> Any:
        found = [at for at, value in enumerate(batch.values) if value in bad]
        if not found:
            return None
        errors = tuple((at, f"no {batch.values[at].decode()}") for at in found)
        return part(batch.partition, code, errors if index else ())

    return judge


@pytest.mark.parametrize("code", [87, 32, 44, 10, 18])
@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("codec", ["none", "lz4"])
@pytest.mark.parametrize("bad", [[0], [7], [19], [3, 4, 11], list(range(20))])
def test_refused_records_are_named_and_all_others_are_written_in_order(
    fake: Cluster, code: int, index: bool, idempotent: bool, codec: str, bad: list[int]
) -> None:
    values = [b"v%d" % at for at in range(20)]
    fake.judge = bad_values(*(values[at] for at in bad), index=index, code=code)
    with putting(fake.bootstrap, idempotent=idempotent) as to:
        to.put("before", b"before")
        to.wait(1)
        to.put("mixed", *values, codec=codec)
        to.put("behind", b"behind", codec=codec)
        to.put("last", b"last", codec=codec)
        assert {None} == set(to.wait(4).values())

    good = [value for at, value in enumerate(values) if at not in bad]
    wanted, found_values = [b"before", *good, b"behind", b"last"], fake.log["t", 0]
    if not idempotent:
        # What was on its way behind it is not held back by its sequence.
        wanted, found_values = sorted(wanted), sorted(found_values)
    assert wanted == found_values
    found = sorted(to.answers.bad, key=lambda each: each[1])
    assert [("mixed", at, code) for at in bad] == [each[:3] for each in found]
    if index:
        assert [f"no v{at}" for at in bad] == [each[3] for each in found]


def test_a_refusal_behind_one_that_waits_is_judged_when_it_is_its_turn(
    fake: Cluster,
) -> None:
    with putting(fake.bootstrap) as to:
        to.put(0, b"first")
        to.wait(1)
        refuse = bad_values(b"bad")
        busy = [7, 7]

        def judge(batch: Batch) -> Any:
            if batch.values == [b"slow"] and busy:
                return busy.pop()
            return refuse(batch)

        fake.judge = judge
        to.put(1, b"slow")
        to.put(2, b"ok", b"bad", b"ok2")
        to.put(3, b"end")
        to.wait(4)

    assert [b"first", b"slow", b"ok", b"ok2", b"end"] == fake.log["t", 0]
    assert [(2, 1)] == [each[:2] for each in to.answers.bad]


def test_a_corrupt_batch_is_tried_again_and_at_last_a_bad_record(
    fake: Cluster,
) -> None:
    fake.judge = bad_values(b"bad", index=False, code=2)
    with putting(fake.bootstrap) as to:
        to.put(1, b"a", b"bad", b"b")
        assert {1: None} == to.wait(1)

    assert [b"a", b"b"] == fake.log["t", 0]
    assert [(1, 1, 2)] == [each[:3] for each in to.answers.bad]


def test_epochs_that_are_used_up_are_followed_by_a_new_producer(fake: Cluster) -> None:
    with putting(fake.bootstrap) as to:
        to.put(0)
        to.wait(1)
        numbers = to.producer._sender.partitions["t", 0].numbers
        assert numbers is not None
        numbers.epoch, numbers.sequence = 0x7FFF, 0
        fake.judge = bad_values(b"bad")
        to.put(1, b"a", b"bad")
        to.put(2, b"b")
        to.wait(3)

    assert [b"0", b"a", b"b"] == fake.log["t", 0]
    assert 2 == len({batch.producer for batch in fake.arrived})


def test_one_partition_that_fails_leaves_the_others_alone(fake: Cluster) -> None:
    fake.create("u", 3)
    fake.judge = lambda batch: 29 if batch.topic == "t" else None
    with putting(fake.bootstrap) as to:
        for at in range(30):
            to.put(at, topic="u", partition=at % 3)
        to.put(99)
        found = to.wait(31)

    assert [99] == [name for name, why in found.items() if why is not None]
    assert 30 == sum(map(len, fake.log.values()))


# -- leaders ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2.4", "4.0"])
def test_a_leader_that_moves_is_followed(version: str) -> None:
    with cluster(3, version) as fake:
        fake.create("t")
        with putting(fake.bootstrap) as to:
            for at in range(60):
                fake.leaders["t", 0] = 1 + at // 10 % 3
                to.put(at)
                if at % 7 == 0:
                    to.wait(at + 1)
            to.wait(60)

        assert [b"%d" % at for at in range(60)] == fake.log["t", 0]


def test_a_hint_is_followed_without_asking() -> None:
    with cluster(2, "4.3") as fake:
        fake.create("t")
        with putting(fake.bootstrap) as to:
            to.put(0)
            to.wait(1)
            asked = sum(1 for _, key, _ in fake.seen if key == 3)
            fake.leaders["t", 0] = 2
            fake.hints["t", 0] = 2, 5
            to.put(1)
            to.wait(2, 5.0)

            assert asked == sum(1 for _, key, _ in fake.seen if key == 3)
        assert [b"0", b"1"] == fake.log["t", 0]


@pytest.mark.parametrize("how", ["no leader", "not enough replicas", "broker down"])
def test_a_partition_that_cannot_be_written_waits_and_the_others_go_on(
    how: str,
) -> None:
    with cluster(2) as fake:
        fake.create("t", 3)
        fake.leaders["t", 1] = 2
        with putting(fake.bootstrap) as to:
            for at in range(3):
                to.put(at, partition=at)
            to.wait(3)
            if how == "no leader":
                fake.leaders["t", 1] = -1
            elif how == "broker down":
                fake.stop(2)
            judge = {1: 19} if how == "not enough replicas" else {}
            fake.judge = lambda batch: judge.get(batch.partition)
            for at in range(3, 63):
                to.put(at, partition=at % 3)
            found = to.wait(43)
            assert {0, 2} == {at % 3 for at in found if at >= 3}
            until(lambda: waits(to), "it is said")
            [wait] = waits(to)
            assert ("t", 1) == (wait.topic, wait.partition)
            words = {
                "no leader": "leader",
                "not enough replicas": "NOT_ENOUGH_REPLICAS",
                "broker down": str(fake.ports[2]),
            }
            until(lambda: words[how].lower() in waits(to)[0].why.lower(), "its reason")
            turns = {to.producer.spread("t", turn, 3) for turn in range(9)}
            assert {0, 2} == turns
            judge.clear()
            if how == "no leader":
                fake.leaders["t", 1] = 2
            elif how == "broker down":
                fake.start(2)
            to.wait(63)
            assert [] == to.producer.waits(0.0, 0.0)

        for partition in range(3):
            wanted = [b"%d" % at for at in range(63) if at % 3 == partition]
            assert wanted == fake.log["t", partition]


def waits(to: Putting) -> Any:
    return to.producer.waits(time.monotonic(), 0.2)


def test_a_topic_that_is_deleted_is_not_made_by_us_and_its_batches_wait(
    fake: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.sink.produce.producer.GONE_AFTER", 0.3)
    with putting(fake.bootstrap) as to:
        to.put(0)
        to.wait(1)
        fake.delete("t")
        to.put(1)
        until(lambda: to.producer.gone(time.monotonic()) == ["t"], "it is gone")
        assert "t" not in fake.topics
        fake.create("t")
        to.wait(2)
        assert [] == to.producer.gone(time.monotonic())

    assert [b"1"] == fake.log["t", 0]


def test_a_topic_made_anew_with_fewer_partitions_fails_what_has_no_place(
    fake: Cluster,
) -> None:
    fake.create("u", 4)
    with putting(fake.bootstrap) as to:
        to.put(0, topic="u", partition=3)
        to.wait(1)
        fake.delete("u")
        fake.create("u", 2)
        to.put(1, topic="u", partition=3)
        why = to.wait(2)[1]

    assert isinstance(why, Doubtful)
    assert "partition 3" in str(why)


def test_a_throttled_broker_is_left_alone_for_so_long(fake: Cluster) -> None:
    with putting(fake.bootstrap) as to:
        fake.throttle_ms = 700
        to.put(0)
        to.wait(1)
        fake.throttle_ms = 0
        began = time.monotonic()
        to.put(1)
        to.wait(2)
        took = time.monotonic() - began

    assert 0.5 < took < 3.0


@pytest.mark.parametrize(("acks", "written"), [("0", 20), ("1", 20), ("all", 20)])
def test_acknowledgements(fake: Cluster, acks: str, written: int) -> None:
    with putting(fake.bootstrap, acks=acks, idempotent=acks == "all") as to:
        for at in range(20):
            to.put(at)
        assert {None} == set(to.wait(20).values())
        until(lambda: len(fake.log["t", 0]) == written, "all arrive")


def test_who_waits_for_an_answer_is_not_up_at_each_linger(fake: Cluster) -> None:
    """What lingers meanwhile is sent all the same: by whoever puts it."""
    fake.create("u")
    turns = [0]

    def turn(_: float) -> float:
        turns[0] += 1
        return math.inf

    with putting(fake.bootstrap, linger=0.005) as to:
        to.producer.on_turn(turn)
        for topic in "tu":
            to.put(topic, b"first", topic=topic)
        to.wait(2)
        line = fake.script(ProduceRequest, Late(0.5))
        to.put("late", b"late")
        assert line.met.wait(20.0)
        before = turns[0]
        to.put("lingers", b"lingers", topic="u", full=False)
        to.wait(4)

    # One in each 5 ms were a hundred.
    assert turns[0] - before < 20
    assert [b"lingers"] == fake.log["u", 0][1:]


def test_one_batch_of_each_ready_partition_in_one_request(fake: Cluster) -> None:
    fake.create("u", 8)
    with putting(fake.bootstrap, linger=20.0) as to:
        to.put("first", b"first", topic="u")
        to.wait(1)
        for at in range(8):
            slot, _, _ = to.put(at, topic="u", partition=at, full=False)
            slot.finish(quiet=True)
        to.producer.look(0.0)
        to.wait(9)

    assert [1, 8] == [len(request) for request in fake.requests]


def test_a_batch_grows_until_it_is_taken(fake: Cluster) -> None:
    with putting(fake.bootstrap, linger=20.0) as to:
        slot, batch, _ = to.put(1, b"a", full=False)
        assert slot.commit(batch.encode(column_of([b"b"], None, 5), 0, 1))
        slot.finish()
        to.wait(1)
        assert not slot.commit(batch.encode(column_of([b"c"], None, 5), 0, 1))

    assert [b"a", b"b"] == fake.log["t", 0]


@pytest.mark.parametrize("code", [None, 29])
def test_what_has_ended_is_let_go_at_once(fake: Cluster, code: int | None) -> None:
    """Nothing of a batch waits for a collection, written or given up."""
    fake.judge = once(code)
    gc.collect()
    gc.disable()
    try:
        with putting(fake.bootstrap) as to:
            slot, _, receipt = to.put(1, b"a")
            # As a shard's batch has it.
            receipt.slot = slot  # type: ignore[attr-defined]
            gone = weakref.ref(receipt)
            del slot, receipt
            assert (code is None) == (to.wait(1)[1] is None)
            until(lambda: gone() is None, "it is let go")
    finally:
        gc.enable()


def test_what_nobody_waits_for_is_not_sent(fake: Cluster) -> None:
    with putting(fake.bootstrap, linger=0.3) as to:
        _, _, receipt = to.put(1, b"a", full=False)
        receipt.wanted = False
        to.put(2, b"b")
        found = to.wait(2)

    assert found[1] is not None
    assert [b"b"] == fake.log["t", 0]
