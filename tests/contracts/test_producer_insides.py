"""
What `engine.sink.accumulator` relies on inside kafka-python's producer.

A newer kafka-python is let in when these hold.  Requests are caught where the
library hands them to its client, and answered by the test.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import kafka
import kafka.errors as foreign
import pytest
from kafka.future import Future
from kafka.protocol.producer import ProduceRequest, ProduceResponse
from kafka.record.memory_records import MemoryRecords

from engine.errors import Doubtful, Fenced, Misconfigured, SinkError, Unavailable
from engine.sink.accumulator import Accumulator, Slot
from engine.sink.batch import Batch, HeadStore, column_of
from engine.sink.compress import PLAIN
from engine.sink.kafka import Cluster, producer
from tests.brokers import Broker
from tests.sink.rig import topic_name

Sent = tuple[str, int, bytes]


class Catcher:
    """Stands between the sender and its client, and answers produce requests."""

    def __init__(self, made: kafka.KafkaProducer) -> None:
        self.client = made._sender._client
        self.pass_on = self.client.send
        self.sent: list[Sent] = []
        self.codes: list[int | Exception] = []
        self.client.send = self.send

    def send(self, node: Any, request: Any, **more: Any) -> Any:
        if not isinstance(request, ProduceRequest):
            return self.pass_on(node, request, **more)
        answer = self.codes.pop(0) if self.codes else 0
        for topic in request.topic_data:
            for part in topic.partition_data:
                self.sent.append((topic.name, part.index, bytes(part.records)))
        if isinstance(answer, Exception):
            return Future().failure(answer)
        if answer == 0:
            return self.pass_on(node, request, **more)
        Topic = ProduceResponse.TopicProduceResponse
        responses = [
            Topic(
                name=topic.name,
                partition_responses=[
                    Topic.PartitionProduceResponse(
                        index=part.index,
                        error_code=answer,
                        base_offset=-1,
                        log_append_time_ms=-1,
                        log_start_offset=0,
                        record_errors=[],
                        error_message=None,
                    )
                    for part in topic.partition_data
                ],
            )
            for topic in request.topic_data
        ]
        return Future().success(ProduceResponse(responses=responses))


class Answers:
    """Collects what was answered to whom."""

    def __init__(self) -> None:
        self.found: dict[Any, SinkError | None] = {}
        self._changed = threading.Condition()

    def to(self, name: Any) -> Callable[[SinkError | None], None]:
        def answered(why: SinkError | None) -> None:
            with self._changed:
                assert name not in self.found, "answered twice"
                self.found[name] = why
                self._changed.notify_all()

        return answered

    def wait(self, count: int, seconds: float = 30.0) -> dict[Any, SinkError | None]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.found) >= count, seconds)
        return self.found


@contextlib.contextmanager
def accumulating(
    broker: Broker, **settings: Any
) -> Iterator[tuple[Accumulator, Catcher, Answers]]:
    cluster = Cluster(bootstrap=(broker.address,), request_timeout=3.0)
    made = producer(cluster, **settings)
    accumulator = Accumulator(made)
    try:
        yield accumulator, Catcher(made), Answers()
    finally:
        assert accumulator.close(5.0)


def batch(*values: bytes) -> Batch:
    filled = Batch(HeadStore())
    filled.append(column_of(values, None, 1_700_000_000_000))
    return filled


def put(
    to: Accumulator, topic: str, answers: Answers, name: Any, *values: bytes
) -> Slot:
    return to.put(topic, 0, batch(*values), PLAIN, answers.to(name), full=True)


def header(sent: Sent) -> tuple[int, int, int, int]:
    """Producer id, epoch, base sequence, count; the checksum is proven."""
    [found] = list(MemoryRecords(sent[2]))
    assert found.validate_crc()
    return (
        found.producer_id,
        found.producer_epoch,
        found.base_sequence,
        found.records_count,
    )


def test_the_version_is_the_one_these_insides_belong_to() -> None:
    assert kafka.__version__.startswith("3.0.")


def test_sequences_count_records_and_follow_each_other(broker: Broker) -> None:
    topic = broker.create(topic_name())
    with accumulating(broker) as (to, catcher, answers):
        put(to, topic, answers, 1, b"a", b"b", b"c")
        answers.wait(1)
        put(to, topic, answers, 2, b"d")
        answers.wait(2)
        put(to, topic, answers, 3, b"e", b"f")
        answers.wait(3)

    headers = [header(sent) for sent in catcher.sent]
    assert [(0, 3), (3, 1), (4, 2)] == [each[2:] for each in headers]
    assert 1 == len({each[:2] for each in headers})
    assert headers[0][0] >= 0
    assert [b"a", b"b", b"c", b"d", b"e", b"f"] == [s.value for s in broker.read(topic)]


def test_a_retry_sends_the_same_bytes(broker: Broker) -> None:
    topic = broker.create(topic_name())
    with accumulating(broker) as (to, catcher, answers):
        catcher.codes = [foreign.NotLeaderForPartitionError.errno, 7, 0]
        put(to, topic, answers, 1, b"a", b"b")
        assert {1: None} == answers.wait(1)

    assert 3 == len(catcher.sent)
    assert 1 == len({sent[2] for sent in catcher.sent})
    assert [b"a", b"b"] == [each.value for each in broker.read(topic)]


def test_an_answer_that_got_lost_makes_no_duplicate(broker: Broker) -> None:
    topic = broker.create(topic_name())
    with accumulating(broker) as (to, catcher, answers):
        put(to, topic, answers, 0, b"first")
        answers.wait(1)
        pass_on = catcher.pass_on
        lost = []

        def lose(node: Any, request: Any, **more: Any) -> Any:
            sent = pass_on(node, request, **more)
            if lost or not isinstance(request, ProduceRequest):
                return sent
            answer = Future()
            lost.append(sent)
            gone = foreign.KafkaConnectionError("gone")
            sent.add_both(lambda _: answer.failure(gone))
            return answer

        catcher.pass_on = lose
        put(to, topic, answers, 1, b"a", b"b")
        assert None is answers.wait(2)[1]

    assert 1 == len(lost)
    assert [b"first", b"a", b"b"] == [each.value for each in broker.read(topic)]


def test_a_batch_waiting_behind_a_retry_stays_behind_it(broker: Broker) -> None:
    topic = broker.create(topic_name())
    with accumulating(broker) as (to, catcher, answers):
        put(to, topic, answers, 0, b"0")
        answers.wait(1)
        catcher.codes = [6, 6]
        for at in range(1, 6):
            put(to, topic, answers, at, b"%d" % at)
        answers.wait(6)

    assert [b"%d" % at for at in range(6)] == [s.value for s in broker.read(topic)]


def test_a_batch_grows_until_the_sender_takes_it(broker: Broker) -> None:
    topic = broker.create(topic_name())
    with accumulating(broker, linger=20.0) as (to, catcher, answers):
        filled = batch(b"a")
        slot = to.put(topic, 0, filled, PLAIN, answers.to(1))
        assert slot.commit(filled.encode(column_of([b"b"], None, 5), 0, 1))
        slot.finish()
        answers.wait(1)
        assert not slot.commit(filled.encode(column_of([b"c"], None, 5), 0, 1))

    assert [(0, 2)] == [header(sent)[2:] for sent in catcher.sent]
    assert [b"a", b"b"] == [each.value for each in broker.read(topic)]


def test_a_batch_lingers_and_then_goes_by_itself(broker: Broker) -> None:
    topic = broker.create(topic_name())
    with accumulating(broker, linger=0.5) as (to, _, answers):
        assert 1 == to.partitions(topic)
        began = time.monotonic()
        to.put(topic, 0, batch(b"a"), PLAIN, answers.to(1))
        answers.wait(1)
        took = time.monotonic() - began

    assert 0.4 < took < 5.0


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (2, Doubtful),
        (10, Doubtful),
        (18, Doubtful),
        (29, Misconfigured),
        (31, Misconfigured),
        (47, Fenced),
        (53, Misconfigured),
        (87, Doubtful),
        (90, Fenced),
    ],
)
def test_a_refusal_has_our_name(
    embedded: Broker, code: int, name: type[SinkError]
) -> None:
    topic = embedded.create(topic_name())
    with accumulating(embedded) as (to, catcher, answers):
        catcher.codes = [code]
        put(to, topic, answers, 1, b"a", b"b")
        [why] = answers.wait(1).values()

    assert name is type(why)
    assert f"writing to {topic}-0" in str(why)


@pytest.mark.parametrize("code", [3, 5, 6, 7, 13, 19, 20, 56])
def test_what_passes_is_retried(embedded: Broker, code: int) -> None:
    topic = embedded.create(topic_name())
    with accumulating(embedded) as (to, catcher, answers):
        catcher.codes = [code]
        put(to, topic, answers, 1, b"a")
        assert {1: None} == answers.wait(1)

    assert 2 == len(catcher.sent)


def test_a_duplicate_sequence_counts_as_written(embedded: Broker) -> None:
    topic = embedded.create(topic_name())
    with accumulating(embedded) as (to, catcher, answers):
        catcher.codes = [46]
        put(to, topic, answers, 1, b"a")

        assert {1: None} == answers.wait(1)


@pytest.mark.parametrize("code", [45])
def test_a_lost_sequence_fails_its_batch_and_never_hides(
    embedded: Broker, code: int
) -> None:
    topic = embedded.create(topic_name())
    with accumulating(embedded) as (to, catcher, answers):
        catcher.codes = [code]
        put(to, topic, answers, 1, b"a")
        [why] = answers.wait(1).values()

    assert isinstance(why, Doubtful)


def test_a_batch_the_broker_finds_too_large_is_not_cut(embedded: Broker) -> None:
    topic = embedded.create(topic_name())
    with accumulating(embedded) as (to, catcher, answers):
        catcher.codes = [10]
        put(to, topic, answers, 1, *[b"x"] * 100)
        [why] = answers.wait(1).values()

    assert isinstance(why, Doubtful)
    assert 1 == len(catcher.sent)


def test_after_a_refusal_everything_fails_and_nothing_hangs(embedded: Broker) -> None:
    topic = embedded.create(topic_name())
    with accumulating(embedded) as (to, catcher, answers):
        catcher.codes = [29]
        for at in range(5):
            put(to, topic, answers, at, b"a")
        found = answers.wait(5)

    assert all(isinstance(why, SinkError) for why in found.values())


def test_a_batch_that_cannot_be_sent_expires(embedded: Broker) -> None:
    topic = embedded.create(topic_name())
    settings = {"delivery_timeout": 3.5, "linger": 0.0}
    with accumulating(embedded, **settings) as (to, catcher, answers):
        catcher.codes = [7] * 1000
        put(to, topic, answers, 1, b"a")
        put(to, topic, answers, 2, b"b")
        found = answers.wait(2)

    assert [Unavailable, Unavailable] == [type(why) for why in found.values()]


def test_closing_answers_what_is_open(embedded: Broker) -> None:
    topic = embedded.create(topic_name())
    with accumulating(embedded, linger=20.0) as (to, _, answers):
        to.partitions(topic)
        to.put(topic, 0, batch(b"a"), PLAIN, answers.to(1))
        assert to.close(5.0)
        [why] = answers.wait(1).values()
        assert isinstance(why, SinkError)
        with pytest.raises(Unavailable, match="closed"):
            put(to, topic, answers, 2, b"b")


def test_batches_of_a_transaction_are_seen_when_it_is_committed(
    broker: Broker,
) -> None:
    """The way in for a transactional outlet."""
    topic = broker.create(topic_name())
    cluster = Cluster(bootstrap=(broker.address,), request_timeout=5.0)
    made = producer(cluster, transactional_id=f"id-{topic}")
    to, answers = Accumulator(made), Answers()
    made.init_transactions()
    made.begin_transaction()
    put(to, topic, answers, 1, b"dropped")
    answers.wait(1)
    made.abort_transaction()
    made.begin_transaction()
    put(to, topic, answers, 2, b"a", b"b")
    answers.wait(2)
    hidden = broker.read(topic)
    made.commit_transaction()

    assert [] == hidden
    assert [b"a", b"b"] == [each.value for each in broker.read(topic)]
    assert to.close(5.0)
