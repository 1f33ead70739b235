"""One engine owns a connector's transactions; the one before commits nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine.errors import Fenced, Misconfigured, SinkError, StateError, TakenOver
from engine.sink import fencing
from engine.sink.fencing import TaskCountRecord, Writer, fence_key
from engine.sink.fetching import TopicReader, opened
from engine.sink.kafka import Cluster as Reached
from engine.sink.murmur2 import partition_of
from engine.sink.produce.producer import Producer
from engine.sink.produce.transaction import Transactional
from engine.sink.produce.writing import write_records
from tests.brokers import Broker
from tests.fakes.broker import Cluster, cluster
from tests.sink.rig import topic_name
from tests.sink.test_state import PARTITION, topic_state

CONNECTOR = "orders"


class Engine:
    """The start of an engine on a connector, again and again."""

    def __init__(self, address: str, topic: str, connector: str = CONNECTOR) -> None:
        self.reached = Reached(bootstrap=(address,), request_timeout=5.0)
        self.place = topic, 0
        self.connector = connector
        self.made: list[str] = []

    def name(self, task: int | str) -> str:
        return f"{self.place[0]}-{self.connector}-{task}"

    def make(self, name: str) -> Producer:
        self.made.append(name)
        made = Producer(
            self.reached, linger=0.0, transactional=Transactional(name, 60_000)
        )
        made.initialise(10.0)
        return made

    @contextmanager
    def log(self) -> Iterator[TopicReader]:
        with opened(self.reached, self.place[0]) as topic:
            yield topic

    def take_over(self, tasks: int) -> TaskCountRecord:
        with self.log() as topic:
            return fencing.take_over(
                self.make,
                topic,
                self.place,
                self.connector,
                tasks=tasks,
                name=self.name,
            )

    def current(self) -> TaskCountRecord:
        with self.log() as topic:
            return fencing.current(topic, self.place, self.connector)

    @contextmanager
    def task(self, number: int) -> Iterator[Writer]:
        producer = self.make(self.name(number))
        try:
            yield Writer(producer, *self.place)
        finally:
            assert producer.close(5.0)


def test_a_start_fences_all_that_the_one_before_may_have_used(broker: Broker) -> None:
    topic = broker.create(topic_name(), cleanup_policy="compact")
    first, second = (Engine(broker.address, topic) for _ in range(2))
    assert first.current() == TaskCountRecord()
    assert (first.take_over(3).gen, first.current().tasks) == (1, 3)

    with first.task(0) as a, first.task(1) as b, first.task(2) as c:
        a.write(b'"k"', b'"committed"')
        a.end(True)
        for each in (a, b, c):
            each.write(b'"k"', b'"open"')
        # It has fewer tasks: the ids that it does not use are fenced, too.
        owner = second.take_over(1)
        assert (owner.gen, owner.tasks) == (2, 1)
        for each in (a, b, c):
            with pytest.raises(SinkError):
                each.end(True)
    # Nothing is open any more, and what was, is not there.
    found = [each.value for each in broker.read(topic) if each.key == b'"k"']
    assert found == [b'"committed"']
    with second.log() as log:
        reader = fencing.Log(log, 0, fence_key(CONNECTOR))
        assert len(reader.up_to(reader.end())) == 2


def test_a_connector_is_no_other_ones(broker: Broker) -> None:
    topic = broker.create(topic_name(), cleanup_policy="compact")
    one, other = Engine(broker.address, topic), Engine(broker.address, topic, "other")
    one.take_over(2)
    with one.task(0) as task:
        task.write(b'"k"', b'"mine"')
        # A partition's end is the other's open transaction's, too.
        assert other.current() == TaskCountRecord()
        task.end(True)
        other.take_over(1)
        task.write(b'"k"', b'"still"')
        task.end(True)
    assert (one.current().gen, other.current().gen) == (1, 1)


def test_the_broker_has_to_show_that_it_isolates_once_for_a_cluster(
    broker: Broker,
) -> None:
    topic = broker.create(topic_name(), cleanup_policy="compact")
    first, second = (Engine(broker.address, topic) for _ in range(2))
    first.take_over(1)
    second.take_over(1)
    asked = [first.name("probe") in engine.made for engine in (first, second)]
    # A cluster that does not say who it is is asked each time.
    assert asked == [True, not first.current().probed]
    kept = [
        each
        for each in broker.read(topic)
        if each.key == b'"%s"' % first.name("probe").encode()
    ]
    assert kept[-1].value is None


def test_of_two_starts_at_once_one_ends(broker: Broker) -> None:
    topic = broker.create(topic_name(), cleanup_policy="compact")
    first, second = (Engine(broker.address, topic) for _ in range(2))
    make = first.make

    def late(name: str) -> Producer:
        made = make(name)
        if name == first.name("fence"):
            second.take_over(1)
        return made

    first.make = late  # type: ignore[method-assign]
    with pytest.raises(Fenced):
        first.take_over(1)
    assert second.current().gen == 1


def test_a_newer_generation_is_noticed_by_who_watches(broker: Broker) -> None:
    topic = topic_name()
    state = topic_state(broker, topic)
    with state.log() as (_, place):
        engine = Engine(broker.address, topic)
        engine.place = place
    owner = engine.take_over(1)
    state.load()
    assert state.owner == owner
    state.own([PARTITION], owner.gen)
    assert state.rival() == ""
    engine.take_over(1)
    with pytest.raises(TakenOver, match="generation 2, ours is 1"):
        state.rival()


def test_a_record_that_cannot_be_read_is_an_error(broker: Broker) -> None:
    topic = broker.create(topic_name(), cleanup_policy="compact")
    engine = Engine(broker.address, topic)
    write_records(engine.reached, topic, [(0, fence_key(CONNECTOR), b"{")])
    with pytest.raises(StateError, match=f"{topic}-0 offset 0"):
        engine.take_over(1)


class Careless(list[object]):
    """Forgets which transactions were aborted."""

    def append(self, each: object) -> None:
        return


@pytest.fixture
def fake() -> Iterator[Cluster]:
    with cluster() as made:
        made.create("state")
        yield made


def test_a_broker_that_shows_aborted_records_is_refused(fake: Cluster) -> None:
    fake.logs["state", 0].aborted = Careless()  # type: ignore[assignment]
    engine = Engine(fake.bootstrap[0], "state")
    with pytest.raises(Misconfigured, match="do not isolate: a record of an aborted"):
        engine.take_over(1)
    assert engine.current() == TaskCountRecord()


def test_who_goes_on_at_least_once_asks_for_no_probe(fake: Cluster) -> None:
    fake.logs["state", 0].aborted = Careless()  # type: ignore[assignment]
    engine = Engine(fake.bootstrap[0], "state")
    assert engine.take_over(0).tasks == 0


def test_the_record_is_kept_where_its_key_belongs() -> None:
    assert fence_key("a") == b'"tasks-fencing-a"'
    assert 0 <= partition_of(fence_key("a"), 25) < 25
