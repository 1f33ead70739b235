"""A topic that is deleted while records are on their way to it."""

from __future__ import annotations

import threading
import time

import pytest

from engine.errors import Misconfigured
from engine.sink.delivery import Delivery
from tests.brokers import Apache
from tests.sink.rig import SHARD, Memory, delivering, outlet, parcel, topic_name
from tests.sink.test_refused import now

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def ticking(delivery: Delivery, ended: threading.Event) -> None:
    """The task's main loop."""
    while not ended.wait(0.2):
        try:
            delivery.tick(time.monotonic())
        except Misconfigured:
            return


@pytest.mark.timeout(120)
def test_it_is_made_anew_as_configured_and_the_records_go_on(apache: Apache) -> None:
    topic, saver, ended = topic_name(), Memory(), threading.Event()
    with delivering(apache.address, partitions=3) as delivery:
        loop = threading.Thread(target=ticking, args=(delivery, ended))
        loop.start()
        out = outlet(delivery, saver)
        out.hand_over(parcel(0, [b"before"], topic, timestamps=now()), {"page": 1})
        out.commit()
        assert "-1" == apache.settings(topic)["retention.ms"]
        apache.delete(topic)
        for index in range(1, 4):
            values = [b"%d" % index]
            out.hand_over(
                parcel(index, values, topic, timestamps=now()), {"page": index + 1}
            )
        out.commit()
        ended.set()
        loop.join()

    assert {"page": 4} == saver.saved[-1]
    assert 3 == apache.partitions(topic)
    assert "-1" == apache.settings(topic)["retention.ms"]
    assert {b"1", b"2", b"3"} == {each.value for each in apache.read(topic)}


@pytest.mark.timeout(120)
def test_one_that_is_not_ours_to_make_fails_who_writes_to_it(apache: Apache) -> None:
    topic, ended = apache.create(topic_name()), threading.Event()
    with delivering(apache.address) as delivery:
        loop = threading.Thread(target=ticking, args=(delivery, ended))
        loop.start()
        told: list[object] = []
        delivery.send(topic, 0, b"k", b"v", told.append)
        deadline = time.monotonic() + 30
        while not told:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        apache.delete(topic)
        delivery.send(topic, 0, b"k", b"v", told.append)
        out = delivery.outlet(SHARD.partition, Memory())
        while not isinstance(delivery_failure(out), Misconfigured):
            assert time.monotonic() < deadline + 30
            time.sleep(0.1)
        ended.set()
        loop.join()
    assert 0 == apache.partitions(topic)


def delivery_failure(out: object) -> Exception | None:
    try:
        out.begin()  # type: ignore[attr-defined]
    except Misconfigured as failure:
        return failure
    return None
