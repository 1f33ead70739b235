"""Whole batches reach both brokers, byte for byte and in order."""

from __future__ import annotations

import random

import msgspec
import pytest
from confluent_kafka import Producer

from engine.errors import Refused
from tests.brokers import Broker
from tests.sink.rig import Memory, delivering, outlet, parcel, topic_name

ORDER = msgspec.json.Decoder(list[msgspec.Raw])


def pages(count: int, per_page: int) -> list[list[msgspec.Raw]]:
    """Pages of records that name their place, of different lengths."""
    random.seed(7)
    return [
        ORDER.decode(
            b"["
            + b",".join(
                b'{"page":%d,"at":%d,"fill":"%s"}'
                % (page, at, b"x" * random.randint(0, 400))
                for at in range(per_page)
            )
            + b"]"
        )
        for page in range(count)
    ]


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_record_arrives_byte_for_byte_in_page_order(
    broker: Broker, compression: str
) -> None:
    name = topic_name()
    made = pages(40, 100)
    saver = Memory()

    with delivering(broker.address, compression=compression) as delivery:
        out = outlet(delivery, saver)
        out.begin()
        for index, values in enumerate(made):
            out.hand_over(parcel(index, values, name), {"page": index + 1})
        out.commit()
    seen = broker.read(name)

    sent = [bytes(value) for values in made for value in values]
    assert sorted(sent) == sorted(each.value or b"" for each in seen)
    place = {value: at for at, value in enumerate(sent)}
    for partition in range(3):
        places = [place[s.value or b""] for s in seen if s.partition == partition]
        assert sorted(places) == places
    assert {"page": 40} == saver.saved[-1]


def test_null_keys_go_to_all_partitions_in_turn(broker: Broker) -> None:
    name = topic_name()

    with delivering(broker.address, batch_size=4096) as delivery:
        out = outlet(delivery, Memory())
        for index, values in enumerate(pages(10, 100)):
            out.hand_over(parcel(index, values, name), {"page": index})
        out.commit()

    assert {0, 1, 2} == {each.partition for each in broker.read(name)}


def test_keys_go_where_another_client_sends_them(broker: Broker) -> None:
    name, other = topic_name(), topic_name()
    random.seed(3)
    keys = [random.randbytes(random.randint(1, 40)) for _ in range(1000)]
    keys += [b"customer-%06d" % at for at in range(1000)]
    broker.create(other, 7)
    judge = Producer(
        {"bootstrap.servers": broker.address, "partitioner": "murmur2_random"}
    )
    for key in keys:
        judge.produce(other, b"", key)
    judge.flush()

    with delivering(broker.address, partitions=7) as delivery:
        out = outlet(delivery, Memory())
        out.hand_over(parcel(0, [b"v"] * len(keys), name, keys=keys), {"page": 1})
        out.commit()

    ours = {each.key: each.partition for each in broker.read(name)}
    assert {each.key: each.partition for each in broker.read(other)} == ours


def test_every_column_arrives(broker: Broker) -> None:
    name = topic_name()
    columns = {
        "keys": [b"a", b"b", None, b"c"],
        "timestamps": [1_700_000_000_001, 1_700_000_000_005, 1_700_000_000_002, 1],
        "headers": [(("h", b"1"), ("h", None)), (), (("x", b""),), ()],
    }

    with delivering(broker.address, partitions=1) as delivery:
        out = outlet(delivery, Memory())
        values = [b"1", b"2", b"3", None]
        out.hand_over(parcel(0, values, name, **columns), {"page": 1})
        out.commit()

    seen = {each.value: each for each in broker.read(name)}
    assert [("h", b"1"), ("h", None)] == seen[b"1"].headers
    assert (b"b", 1_700_000_000_005) == (seen[b"2"].key, seen[b"2"].timestamp)
    assert (None, [("x", b"")]) == (seen[b"3"].key, seen[b"3"].headers)
    assert (b"c", 1) == (seen[None].key, seen[None].timestamp)


def test_topics_of_one_page_are_kept_apart(broker: Broker) -> None:
    names = [topic_name(), topic_name()]

    with delivering(broker.address) as delivery:
        out = outlet(delivery, Memory())
        values = [b"%d" % at for at in range(10)]
        where = [names[at % 2] for at in range(10)]
        out.hand_over(parcel(0, values, where), {"page": 1})
        out.commit()

    assert values[0::2] == [each.value for each in broker.read(names[0])]
    assert values[1::2] == [each.value for each in broker.read(names[1])]


def test_a_record_over_the_topics_limit_is_refused_and_the_producer_lives(
    broker: Broker,
) -> None:
    name = broker.create(topic_name(), 1, max_message_bytes="20000")
    saver = Memory()

    with delivering(broker.address) as delivery:
        out = outlet(delivery, saver)
        out.hand_over(parcel(0, [b"x" * 19_000] * 5, name), {"page": 1})
        with pytest.raises(Refused, match="record 1 .*20001 bytes"):
            out.hand_over(parcel(1, [b"a", b"x" * 20_001], name), {"page": 2})
        other = outlet(delivery, Memory())
        other.hand_over(parcel(0, [b"later"], name), {"page": 1})
        other.commit()

    assert [b"x" * 19_000] * 5 + [b"later"] == [s.value for s in broker.read(name)]
    assert [{"page": 1}] == saver.saved


def test_a_small_budget_holds_back_and_loses_nothing(broker: Broker) -> None:
    name = topic_name()
    made = pages(50, 100)

    with delivering(broker.address, budget=100_000, batch_size=30_000) as delivery:
        out = outlet(delivery, Memory())
        for index, values in enumerate(made):
            out.hand_over(parcel(index, values, name), {"page": index})
            assert delivery.budget.used <= 100_000
        out.commit()
        assert 0 == delivery.budget.used
        assert delivery.budget.waited > 0.0

    assert 5000 == len(broker.read(name))


@pytest.mark.kafka
def test_pages_within_the_linger_share_a_batch(apache: Broker) -> None:
    name = apache.create(topic_name(), 1)

    with delivering(apache.address, linger=5.0) as delivery:
        out = outlet(delivery, Memory())
        queues = delivery._producer._sender.partitions
        for index in range(3):
            out.hand_over(parcel(index, [b"x"], name), {"page": index})
        [waiting] = [each.waiting for each in queues.values() if each.waiting]
        assert [3] == [queued.batch.count for queued in waiting]
        out.commit()

    assert 3 == len(apache.read(name))
