"""
What does it cost to get a record from memory into Kafka, acknowledged?

    python -m perf.bench_batch [--records N] [--rounds N] [--quick]

Pages of 500 records of 290 bytes lie decoded in memory; each contestant is a
process of its own that sends them to a topic of 8 partitions with acks=all and
idempotence, and counts its CPU from the first record to the last
acknowledgement.  Ours also saves its state behind the acknowledgements.  The
same table gives encoding and partitioning alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from perf import rig, serving

PER_PAGE = 500
PARTITIONS = 8
#: Different pages in memory, so that no cache holds all of them.
PAGES = 40


def made() -> list[list[msgspec.Raw]]:
    decoder = msgspec.json.Decoder(list[msgspec.Raw])
    bodies = (
        b",".join(serving.record(page * PER_PAGE + at, 290) for at in range(PER_PAGE))
        for page in range(PAGES)
    )
    return [decoder.decode(b"[" + body + b"]") for body in bodies]


def keys_of(page: int) -> list[bytes]:
    return [
        b"customer-%06d" % ((page * PER_PAGE + at) % 5000) for at in range(PER_PAGE)
    ]


def ours(
    bootstrap: str, topic: str, count: int, keyed: bool, kind: str
) -> Iterator[None]:
    """Batches of ours; yields when it is ready to be measured."""
    from engine.records import Page, Parcel, Request, Response, Shard
    from engine.sink.commit import DeliveryOptions
    from engine.sink.compress import packing
    from engine.sink.delivery import Delivery
    from engine.sink.kafka import Cluster
    from engine.sink.preflight import TopicCreationGroup, Topics
    from engine.sink.produce.producer import Producer
    from engine.sink.statetopic import TopicState
    from engine.sink.window import Budget

    cluster = Cluster(bootstrap=(bootstrap,))
    topics = Topics(cluster, [TopicCreationGroup()], say=print)
    topics.ensure([topic])
    state = TopicState(cluster, topic, "perf-offsets")
    state.load()
    delivery = Delivery(
        Producer(cluster),
        budget=Budget(33554432),
        options=DeliveryOptions(limits=topics.limit, packing=packing(kind)),
    )
    outlet = delivery.outlet(Shard(topic, "api1").partition, state)
    pages = made()
    keys = [keys_of(page) for page in range(PAGES)]
    request = Request("GET", "http://127.0.0.1/")
    yield
    outlet.begin()
    for at in range(count // PER_PAGE):
        response = Response(
            request=request,
            url=request.url,
            status=200,
            headers=[],
            body=b"",
            sent_at=0.0,
            received_ms=0,
        )
        values = pages[at % PAGES]
        offset = {"page": at + 1}
        parcel = Parcel(
            page=Page(
                response=response, index=at, records=values, offset=offset, last=False
            ),
            topic=topic,
            values=values,
            keys=keys[at % PAGES] if keyed else None,
            timestamps=time.time_ns() // 1_000_000,
        )
        outlet.hand_over(parcel, offset)
    outlet.commit()
    yield
    delivery.close(5.0)


def confluent(bootstrap: str, topic: str, count: int) -> Iterator[None]:
    """confluent-kafka's produce() for each record."""
    from confluent_kafka import Producer

    settings = {
        "bootstrap.servers": bootstrap,
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 5,
        "batch.size": 262144,
        "queue.buffering.max.messages": 500000,
    }
    client = Producer(settings)
    pages = made()
    yield
    for at in range(count // PER_PAGE):
        for raw in pages[at % PAGES]:
            while True:
                try:
                    client.produce(topic, bytes(raw))
                    break
                except BufferError:
                    client.poll(0.01)
        client.poll(0)
    client.flush()
    yield


def plain(bootstrap: str, topic: str, count: int) -> Iterator[None]:
    """kafka-python's send() for each record."""
    from kafka import KafkaProducer

    client = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, batch_size=262144)
    client.partitions_for(topic)
    pages = made()
    yield
    for at in range(count // PER_PAGE):
        for raw in pages[at % PAGES]:
            client.send(topic, bytes(raw))
    client.flush()
    yield


def encoding(keyed: bool) -> Callable[[int], None]:
    """Encoding alone, two pages a batch."""
    from engine.sink.batch import Batch, HeadStore
    from engine.sink.columns import column_of

    pages = made()
    keys = keys_of(0)
    heads = HeadStore()

    def work(count: int) -> None:
        for at in range(0, count // PER_PAGE, 2):
            batch = Batch(heads)
            for page in (at, at + 1):
                values = pages[page % PAGES]
                batch.append(column_of(values, keys if keyed else None, page % 3))
            batch.seal().stamp(-1, -1, -1, txn=False)

    return work


def partitioning(count: int) -> None:
    """The partitions of keys of 15 bytes alone."""
    from engine.sink.murmur2 import partitions_of

    keys = keys_of(0)
    lengths = list(map(len, keys))
    for _ in range(count // PER_PAGE):
        partitions_of(keys, lengths, PARTITIONS)


SENDING: dict[str, Callable[[str, str, int], Iterator[None]]] = {
    "ours": lambda b, t, n: ours(b, t, n, False, "none"),
    "ours, keyed": lambda b, t, n: ours(b, t, n, True, "none"),
    "ours, lz4": lambda b, t, n: ours(b, t, n, False, "lz4"),
    "confluent-kafka produce()": confluent,
    "kafka-python send()": plain,
}

ALONE: dict[str, Callable[[], Callable[[int], None]]] = {
    "encoding alone": lambda: encoding(False),
    "encoding alone, keyed": lambda: encoding(True),
    "murmur2 alone": lambda: partitioning,
}


def child(name: str, bootstrap: str, topic: str, count: int) -> None:
    sending = SENDING[name](bootstrap, topic, count)
    next(sending)
    began, cpu = time.perf_counter(), time.process_time()
    own = time.thread_time()
    next(sending)
    found = {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "own": time.thread_time() - own,
        "threads": threading.active_count(),
    }
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        name, bootstrap, topic, count = asked.child
        child(name, bootstrap, topic, int(count))
        return
    count, rounds = (20_000, 1) if asked.quick else (asked.records, asked.rounds)
    rows = {name: rig.Row(name) for name in [*SENDING, *ALONE]}
    with serving.apache_kafka() as bootstrap:
        for turn in range(rounds):
            for at, name in enumerate(SENDING):
                topic = f"bench-batch-{time.time_ns()}"
                serving.create_topic(bootstrap, topic, PARTITIONS)
                # The slowest contestant need not send as much to be known.
                records = count // 10 if name.startswith("kafka-python") else count
                command = [sys.executable, "-m", "perf.bench_batch", "--child"]
                done = rig.run([*command, name, bootstrap, topic, str(records)])
                found = json.loads(done.output.splitlines()[-1])
                rows[name].add(records, found["seconds"], found["cpu"], done.peak)
                landed = rig.Topic(bootstrap, topic).count()
                assert landed == records, f"{name}: {landed} of {records} arrived"
                print(f"round {turn + 1}, {at + 1}/{len(SENDING)} {name}: {found}")
    for name, prepared in ALONE.items():
        work = prepared()
        work(PER_PAGE * 40)
        for _ in range(rounds):
            began, cpu = time.perf_counter(), time.process_time()
            work(count // 4)
            spent = time.process_time() - cpu
            rows[name].add(count // 4, time.perf_counter() - began, spent, 0)
    question = __doc__.strip().splitlines()[0]
    rig.report("bench_batch", question, list(rows.values()), {"records": count})


if __name__ == "__main__":
    main()
