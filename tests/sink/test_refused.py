"""Records that a real broker refuses: each is one bad record, whatever its batch."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from engine.errors import Refused
from engine.records import Page, Parcel, Request, Response
from engine.sink.deadletter import DeadLetters
from engine.sink.delivery import Delivery
from tests.brokers import Apache
from tests.sink.rig import SHARD, Memory, delivering, outlet, parcel, topic_name

pytestmark = pytest.mark.kafka

HOUR = 3_600_000


def now() -> int:
    return time.time_ns() // 1_000_000


def page(index: int, count: int) -> Page:
    request = Request("GET", "http://127.0.0.1/x")
    response = Response(
        request=request,
        url=request.url,
        status=200,
        headers=[],
        body=b"",
        sent_at=0.0,
        received_ms=now(),
    )
    records = [b"%d-%d" % (index, at) for at in range(count)]
    return Page(
        response=response,
        index=index,
        records=records,
        offset={"page": index + 1},
        last=False,
    )  # type: ignore[arg-type]


def made(index: int, topic: str, bad: dict[int, int], count: int = 20) -> Parcel:
    """A page of records of now, some of them shifted by so many hours."""
    found = page(index, count)
    stamps = [now() + bad.get(at, 0) * HOUR for at in range(count)]
    return Parcel(page=found, topic=topic, values=found.records, timestamps=stamps)


@pytest.fixture
def letters() -> DeadLetters:
    return DeadLetters(
        topic_name(), connector="c", task=0, headers=True, limit=1 << 20, redacted=str
    )


@pytest.fixture
def delivery(apache: Apache, letters: DeadLetters) -> Iterator[Delivery]:
    apache.create(letters.topic)
    with delivering(apache.address, letters=letters) as found:
        yield found


@pytest.mark.parametrize("bad", [{7: 2}, {0: 2, 19: 3}, dict.fromkeys(range(20), 2)])
def test_a_time_stamp_too_far_ahead_is_a_dead_letter_and_the_others_go_on(
    apache: Apache, delivery: Delivery, letters: DeadLetters, bad: dict[int, int]
) -> None:
    topic = apache.create(topic_name(), message_timestamp_after_max_ms="3600000")
    saver, told = Memory(), []
    out = delivery.outlet(SHARD.partition, saver, bad=told.append)
    for index in range(6):
        out.hand_over(
            made(index, topic, bad if index == 3 else {}), {"page": index + 1}
        )
    out.commit()

    wanted = [
        b"%d-%d" % (index, at)
        for index in range(6)
        for at in range(20)
        if index != 3 or at not in bad
    ]
    assert wanted == [each.value for each in apache.read(topic)]
    assert {"page": 6} == saver.saved[-1]
    dead = apache.read(letters.topic)
    assert [b"3-%d" % at for at in sorted(bad)] == [each.value for each in dead]
    texts = dict(dead[0].headers)
    message = (texts["__connect.errors.exception.message"] or b"").decode()
    assert "kafka.timestamp" in message
    assert "message.timestamp.after.max.ms" in message
    assert f"record {min(bad)} of page 3" in message
    assert b"KAFKA_PRODUCE" == texts["__connect.errors.stage"]
    assert len(bad) == sum(len(each.letters) for each in told)


def test_without_tolerance_the_shard_fails_alone_and_says_which_record(
    apache: Apache, delivery: Delivery
) -> None:
    topic = apache.create(topic_name(), message_timestamp_after_max_ms="3600000")
    other = apache.create(topic_name())
    saver, healthy = Memory(), Memory()
    out, beside = outlet(delivery, saver), outlet(delivery, healthy)
    out.hand_over(made(0, topic, {}), {"page": 1})
    out.commit()
    out.hand_over(made(1, topic, {4: 2}), {"page": 2})
    with pytest.raises(Refused, match=r"record 4 of page 1 .*kafka\.timestamp.*after"):
        out.commit()
    for index in range(5):
        beside.hand_over(made(index, other, {}), {"page": index + 1})
    beside.commit()

    assert {"page": 1} == saver.saved[-1]
    assert {"page": 5} == healthy.saved[-1]
    assert 100 == len(apache.read(other))
    found = [each.value for each in apache.read(topic)]
    assert b"1-4" not in found
    assert [b"0-%d" % at for at in range(20)] == found[:20]
    assert [b"1-%d" % at for at in range(20) if at != 4] == found[20:]


def received(made: Parcel, values: list[bytes]) -> Parcel:
    """The same, of a page of these records."""
    return replace(made, page=replace(made.page, records=values))


def test_no_key_in_a_compacted_topic(
    apache: Apache, delivery: Delivery, letters: DeadLetters
) -> None:
    topic = apache.create(topic_name(), cleanup_policy="compact")
    saver = Memory()
    out = delivery.outlet(SHARD.partition, saver, bad=lambda _: None)
    values = [b"0", b"1", b"2"]
    mixed = parcel(0, values, topic, keys=[b"a", None, b"b"], timestamps=now())
    mixed = received(mixed, values)
    out.hand_over(mixed, {"page": 1})
    out.commit()

    assert [b"0", b"2"] == [each.value for each in apache.read(topic)]
    [dead] = apache.read(letters.topic)
    assert b"1" == dead.value
    said = dict(dead.headers)["__connect.errors.exception.message"] or b""
    assert b"kafka.key" in said
    assert b"cleanup.policy" in said


def test_a_topic_that_takes_less_than_it_did(
    apache: Apache, delivery: Delivery, letters: DeadLetters
) -> None:
    """Its limit has changed since it was looked up: batches are cut, not lost."""
    topic = apache.create(topic_name(), 1)
    saver = Memory()
    out = delivery.outlet(SHARD.partition, saver, bad=lambda _: None)
    values = [b"x" * 300] * 9 + [b"y" * 5000] + [b"z" * 300] * 9
    first = parcel(0, [b"first"], topic, timestamps=now())
    first = received(first, [b"first"])
    out.hand_over(first, {"page": 1})
    out.commit()
    lower(apache, topic, "2000")
    mixed = parcel(1, values, topic, timestamps=now())
    mixed = received(mixed, values)
    out.hand_over(mixed, {"page": 2})
    out.commit()

    found = [each.value for each in apache.read(topic)]
    assert [b"first", *values[:9], *values[10:]] == found
    [dead] = apache.read(letters.topic)
    assert values[9] == dead.value
    said = dict(dead.headers)["__connect.errors.exception.message"] or b""
    assert b"max.message.bytes" in said


def lower(apache: Apache, topic: str, limit: str) -> None:
    from confluent_kafka.admin import (
        AdminClient,
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        ResourceType,
    )

    entry = ConfigEntry(
        "max.message.bytes", limit, incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": apache.address})
    [done] = admin.incremental_alter_configs([resource]).values()
    done.result(30)
    deadline = time.monotonic() + 30
    while apache.settings(topic)["max.message.bytes"] != limit:
        assert time.monotonic() < deadline
        time.sleep(0.1)
