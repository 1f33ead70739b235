"""Apache Kafka is stopped, frozen and killed under a delivery: nothing is lost."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from engine.errors import Unavailable
from engine.records import Parcel
from engine.sink.commit import DeliveryOptions
from engine.sink.compress import PLAIN
from engine.sink.delivery import Delivery
from engine.sink.kafka import Cluster
from engine.sink.preflight import TopicCreationGroup, Topics
from engine.sink.produce.producer import Producer
from engine.sink.state import canonical
from engine.sink.statetopic import TopicState
from engine.sink.window import Budget
from tests.brokers import Apache
from tests.sink.rig import SHARD, Memory, delivering, outlet, parcel, topic_name

pytestmark = [pytest.mark.slow, pytest.mark.kafka]


def sent(page: int, topic: str) -> Parcel:
    """
    A page of records of today.

    A broker that starts judges the age of a producer by the time stamps of its
    records: with old ones it forgets the producer, and takes a repeated batch
    for a new one.
    """
    return parcel(page, values(page), topic, timestamps=time.time_ns() // 1_000_000)


def values(page: int, count: int = 100) -> list[bytes]:
    return [b"%06d-%03d-" % (page, at) + b"x" * 200 for at in range(count)]


@pytest.mark.timeout(180)
def test_a_restart_of_the_broker_loses_and_repeats_nothing(own_apache: Apache) -> None:
    name = own_apache.create(topic_name(), 3)
    saver = Memory()
    restarted = threading.Event()

    def restart() -> None:
        own_apache.stop()
        time.sleep(2.0)
        own_apache.start()
        restarted.set()

    with delivering(own_apache.address) as delivery:
        out = outlet(delivery, saver)
        trouble = threading.Thread(target=restart)
        page = 0
        while page < 100 or not restarted.is_set():
            if page == 30:
                trouble.start()
            out.hand_over(sent(page, name), {"page": page})
            page += 1
            time.sleep(0.01)
        out.commit()
        trouble.join()

    seen = Counter(each.value for each in own_apache.read(name))
    assert Counter(value for at in range(page) for value in values(at)) == seen
    assert {"page": page - 1} == saver.saved[-1]


@pytest.mark.timeout(180)
def test_a_frozen_broker_is_waited_for_and_memory_stays_bounded(
    own_apache: Apache,
) -> None:
    name = own_apache.create(topic_name(), 3)

    with delivering(own_apache.address, budget=500_000) as delivery:
        out = outlet(delivery, Memory())
        out.hand_over(sent(0, name), {"page": 0})
        out.commit()
        handed = [0]

        def work() -> None:
            for page in range(1, 101):
                out.hand_over(sent(page, name), {"page": page})
                handed[0] = page
            out.commit()

        task = threading.Thread(target=work)
        with own_apache.frozen():
            task.start()
            time.sleep(8.0)
            stuck = handed[0]
            assert 0 < stuck < 100
            assert delivery.budget.used <= 500_000
            time.sleep(0.5)
            assert stuck == handed[0]
        task.join(60.0)
        assert not task.is_alive()
        assert delivery.budget.waited > 5.0

    seen = Counter(each.value for each in own_apache.read(name))
    assert Counter(value for at in range(101) for value in values(at)) == seen


@pytest.mark.timeout(240)
def test_a_broker_that_is_killed_and_away_for_long_loses_and_repeats_nothing(
    own_apache: Apache,
) -> None:
    name, offsets = own_apache.create(topic_name(), 3), topic_name()
    cluster = Cluster(bootstrap=(own_apache.address,), request_timeout=2.0)
    total, away = 60, 12.0
    state = TopicState(cluster, "orders", offsets, partitions=2)
    state.load()
    topics = Topics(cluster, [TopicCreationGroup()], say=lambda text: None)
    delivery = Delivery(
        Producer(cluster),
        budget=Budget(1 << 20),
        options=DeliveryOptions(limits=topics.limit, packing=PLAIN),
    )
    try:
        out = outlet(delivery, state)
        out.begin()
        for page in range(total):
            out.hand_over(sent(page, name), {"page": page + 1})
            time.sleep(0.02)
            if page == 20:
                # Kafka answers before it has flushed: what it has acknowledged is
                # with the system, which a killed process does not lose.
                own_apache.kill()
                threading.Timer(away, own_apache.start).start()
        out.commit()
    finally:
        delivery.close(5.0)

    seen = Counter(each.value for each in own_apache.read(name))
    assert Counter(value for at in range(total) for value in values(at)) == seen
    again = TopicState(cluster, "orders", offsets, partitions=2)
    assert {"page": total} == again.load()[canonical(SHARD.partition)].offset


@pytest.mark.timeout(120)
def test_closing_ends_in_time_with_the_broker_gone(own_apache: Apache) -> None:
    name = own_apache.create(topic_name(), 1)
    cluster = Cluster(bootstrap=(own_apache.address,), request_timeout=5.0)
    delivery = Delivery(
        Producer(cluster),
        budget=Budget(1 << 20),
        options=DeliveryOptions(limits=lambda topic: 1 << 20, packing=PLAIN),
    )
    out = outlet(delivery, Memory())
    out.hand_over(sent(0, name), {"page": 0})
    out.commit()

    own_apache.kill()
    out.hand_over(sent(1, name), {"page": 1})
    began = time.monotonic()
    ended = delivery.close(5.0)

    assert ended
    assert time.monotonic() - began < 5.5
    with pytest.raises(Unavailable):
        out.commit()


@pytest.mark.timeout(120)
def test_closing_ends_in_time_with_the_broker_frozen(own_apache: Apache) -> None:
    name = own_apache.create(topic_name(), 1)
    cluster = Cluster(bootstrap=(own_apache.address,), request_timeout=5.0)
    delivery = Delivery(
        Producer(cluster),
        budget=Budget(1 << 20),
        options=DeliveryOptions(limits=lambda topic: 1 << 20, packing=PLAIN),
    )
    out = outlet(delivery, Memory())
    out.hand_over(sent(0, name), {"page": 0})
    out.commit()

    with own_apache.frozen():
        out.hand_over(sent(1, name), {"page": 1})
        time.sleep(0.2)
        began = time.monotonic()
        delivery.close(5.0)
        took = time.monotonic() - began

    assert took < 5.5
