"""
Everything that brokers do at bad moments, at random and at once.

Three brokers of the tests' own: leaders move, hints and metadata lie, answers are refused, late,
lost, torn or written all the same, connections are cut, quotas hold.  What is asked of a storm is
what is asked of each of its parts: nothing lost, nothing twice where numbers forbid it, the
order of each partition, and no position past a record that is not there.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka.protocol.metadata import FindCoordinatorRequest, MetadataRequest
from kafka.protocol.producer import (
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    ProduceRequest,
)

from engine.errors import SinkError
from engine.sink.commit import DeliveryOptions
from engine.sink.delivery import Delivery
from engine.sink.group import Boundary
from engine.sink.kafka import Cluster as Reached
from engine.sink.produce.producer import Producer
from engine.sink.produce.transaction import Transactional
from engine.sink.window import Budget
from tests.fakes.broker import Batch, Cluster, Late, Lost, Refuse, Say, Torn, cluster
from tests.sink.rig import SHARD, parcel

NODES, PARTITIONS = 3, 4

#: What passes by itself, said of a batch that is not written.
PASSING = [-1, 3, 5, 6, 7, 8, 9, 13, 14, 19, 56, 72, 74, 75, 89, 100, 103]

#: Said of a batch that is written all the same.
WRITTEN = [-1, 7, 13, 20]


class Storm:
    """Bad weather over a cluster, until it is over."""

    def __init__(self, fake: Cluster, seed: int, *, transactions: bool = False) -> None:
        self.fake = fake
        self.over = False
        self._dice = random.Random(seed)
        self._transactions = transactions
        self._epochs: Counter[tuple[str, int]] = Counter()
        fake.judge = self._judge
        fake.alter = self._alter
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self.over = True
        self._thread.join()
        fake = self.fake
        with fake.lock:
            fake.unscript()
            fake.silent.clear()
            fake.hints.clear()
            for place, leader in fake.leaders.items():
                fake.leaders[place] = leader if leader > 0 else 1

    def _judge(self, batch: Batch) -> Any:
        dice = self._dice
        if self.over or dice.random() > 0.12:
            return None
        if batch.transactional or dice.random() < 0.7:
            return dice.choice(PASSING)
        place = batch.topic, batch.partition
        if self.fake.leaders.get(place, -1) > 0:
            code, _ = self.fake.logs[place].append(batch)
            return code or dice.choice(WRITTEN)
        return 5

    def _alter(self, node: int, request: Any, answer: Any) -> None:
        dice = self._dice
        if self.over or dice.random() > 0.25:
            return
        if isinstance(request, ProduceRequest) and dice.random() < 0.1:
            answer.throttle_time_ms = dice.randrange(60)
        if isinstance(request, MetadataRequest):
            what = dice.randrange(5)
            if what == 0:
                gone = dice.randrange(1, NODES + 1)
                answer.brokers = [one for one in answer.brokers if one.node_id != gone]
            for topic in answer.topics:
                for part in topic.partitions:
                    if what == 1:
                        part.leader_id, part.error_code = -1, 5
                    elif what == 2:
                        part.leader_id = dice.randrange(1, NODES + 2)
                    elif what == 3:
                        part.leader_epoch = dice.randrange(4)
                if what == 4:
                    topic.error_code, topic.partitions = dice.choice([3, 5, -1]), []

    def _run(self) -> None:
        fake, dice = self.fake, self._dice
        while not self.over:
            time.sleep(dice.random() * 0.06)
            with fake.lock:
                place = dice.choice(sorted(fake.leaders))
                self._epochs[place] += 1
                leader = dice.choice([-1, 1, 2, 3, 1, 2, 3])
                fake.leaders[place] = leader
                fake.hints.pop(place, None)
                if dice.random() < 0.5:
                    hint = (
                        leader if dice.random() < 0.7 else dice.randrange(-1, NODES + 2)
                    )
                    fake.hints[place] = hint, self._epochs[place] - dice.randrange(2)
            kinds = [ProduceRequest, MetadataRequest, InitProducerIdRequest]
            deeds: list[Any] = [
                Lost(),
                Lost(done=False),
                Torn(dice.random()),
                Late(dice.random() * 0.2),
                Late(dice.random() * 0.2, done=True),
            ]
            if self._transactions:
                kinds += [
                    FindCoordinatorRequest,
                    AddPartitionsToTxnRequest,
                    EndTxnRequest,
                ]
                fake.coordinators["mine"] = dice.randrange(1, NODES + 1)
            kind = dice.choice(kinds)
            if dice.random() < 0.3:
                fake.script(kind, dice.choice(deeds))
            elif dice.random() < 0.2 and kind not in (ProduceRequest, MetadataRequest):
                fake.script(kind, Refuse(dice.choice([14, 15, 16, 51, 7, 89])))
            elif dice.random() < 0.1 and kind is EndTxnRequest:
                fake.script(kind, Say(dice.choice([7, 16, 48, 51, 120])))
            if dice.random() < 0.15:
                fake.cut(dice.randrange(1, NODES + 1))
            if dice.random() < 0.05:
                node = dice.randrange(1, NODES + 1)
                fake.silent.add(node)
                time.sleep(0.3 * dice.random())
                fake.silent.discard(node)


@contextmanager
def weather(seed: int, **more: Any) -> Iterator[tuple[Cluster, Storm]]:
    version = ["2.4", "2.8", "3.7", "4.0", "4.3"][seed % 5]
    with cluster(NODES, version) as fake:
        fake.create("t", PARTITIONS)
        fake.create("state")
        storm = Storm(fake, seed, **more)
        try:
            yield fake, storm
        finally:
            storm.end()


def reached(fake: Cluster) -> Reached:
    return Reached(
        bootstrap=fake.bootstrap,
        request_timeout=0.6,
        retry_backoff=0.01,
        reconnect_backoff=0.005,
        reconnect_backoff_max=0.05,
    )


def page(number: int, dice: random.Random) -> list[bytes]:
    return [b"%d-%d" % (number, at) for at in range(dice.randrange(1, 12))]


def numbers(values: list[Any]) -> list[tuple[int, int]]:
    found = []
    for value in values:
        page, _, at = value.partition(b"-")
        found.append((int(page), int(at)))
    return found


class Checked:
    """A saver that looks whether what a position promises is there."""

    def __init__(self, fake: Cluster, handed: dict[int, list[bytes]]) -> None:
        self.fake, self.handed = fake, handed
        self.last = -1
        self.early: list[int] = []

    def save(self, to: Any, partition: Any, offset: Any, done: Any) -> None:
        with self.fake.lock:
            there = set()
            for (topic, _), values in self.fake.log.items():
                there.update(values if topic == "t" else ())
        for number in range(self.last + 1, offset["page"] + 1):
            if not there.issuperset(self.handed[number]):
                self.early.append(number)
        self.last = offset["page"]
        done(None)

    def forget(self, to: Any, partition: Any, done: Any) -> None:
        done(None)


PAGES = 120


@pytest.mark.parametrize(
    ("seed", "idempotent"),
    [*((seed, True) for seed in range(8)), (1, False), (4, False)],
)
def test_a_storm_loses_nothing_and_moves_no_position_too_early(
    seed: int, idempotent: bool
) -> None:
    dice = random.Random(seed + 1000)
    with weather(seed) as (fake, storm):
        handed: dict[int, list[bytes]] = {}
        saver = Checked(fake, handed)
        delivery = Delivery(
            Producer(
                reached(fake),
                linger=dice.choice([0.0, 0.002]),
                idempotent=idempotent,
                max_request_size=dice.choice([300, 2000, 1 << 20]),
                limit=20.0,
                max_block=20.0,
            ),
            budget=Budget(1 << 20),
            options=DeliveryOptions(
                limits=lambda topic: 1 << 20, batch_size=dice.choice([100, 400, 10_000])
            ),
        )
        try:
            out = delivery.outlet(SHARD.partition, saver)
            out.begin()
            for number in range(PAGES):
                handed[number] = page(number, dice)
                out.hand_over(parcel(number, handed[number]), {"page": number})
                time.sleep(dice.random() * 0.02)
            storm.end()
            out.commit()
        finally:
            assert delivery.close(5.0)
        assert PAGES - 1 == saver.last
        assert [] == saver.early
        wanted = Counter(value for values in handed.values() for value in values)
        found = Counter[Any]()
        for (topic, _), values in fake.log.items():
            if topic != "t":
                continue
            found.update(values)
            if idempotent:
                assert sorted(numbers(values)) == numbers(values)
        assert not wanted - found
        if idempotent:
            assert wanted == found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("acks", ["all", "1"])
def test_a_close_in_the_midst_of_a_storm_ends_in_time_and_promises_nothing(
    seed: int, acks: str
) -> None:
    """As a signal does it: what was acknowledged is saved, and nothing else."""
    dice = random.Random(seed + 3000)
    with weather(seed) as (fake, _):
        handed: dict[int, list[bytes]] = {}
        saver = Checked(fake, handed)
        producer = Producer(
            reached(fake),
            acks=acks,
            idempotent=acks == "all",
            linger=0.002,
            limit=20.0,
            max_block=20.0,
        )
        delivery = Delivery(
            producer,
            budget=Budget(1 << 20),
            options=DeliveryOptions(limits=lambda topic: 1 << 20, batch_size=400),
        )
        out = delivery.outlet(SHARD.partition, saver)
        out.begin()
        for number in range(dice.randrange(5, 60)):
            handed[number] = page(number, dice)
            out.hand_over(parcel(number, handed[number]), {"page": number})
            time.sleep(dice.random() * 0.02)
        began = time.monotonic()
        assert delivery.close(5.0)
        assert time.monotonic() - began < 2.0
        last = saver.last
        with pytest.raises(SinkError):
            out.commit()
        assert last == saver.last
        assert [] == saver.early
        assert not producer._sender.is_alive()


class Positions:
    """Positions in a topic, in the transaction of their pages."""

    def save(self, to: Any, partition: Any, offset: Any, done: Any) -> None:
        to.send("state", 0, b"key", b"%d" % offset["page"], done)

    def forget(self, to: Any, partition: Any, done: Any) -> None:
        to.send("state", 0, b"key", None, done)


@pytest.mark.parametrize("seed", [0, 1, 3, 7])
def test_a_storm_over_transactions_commits_each_page_once(seed: int) -> None:
    """Whoever fails is made anew, and goes on from the position that is committed."""
    dice = random.Random(seed + 2000)
    pages = [page(number, dice) for number in range(60)]
    until, lives = time.monotonic() + 60, 0
    with weather(seed, transactions=True) as (fake, storm):
        at = 0
        while at < len(pages):
            lives += 1
            if lives > 25 or time.monotonic() > until - 40:
                storm.end()
            assert time.monotonic() < until
            producer = Producer(
                reached(fake),
                linger=0.0,
                transactional=Transactional("mine", 60_000),
                max_block=5.0,
                waiting=False,
            )
            try:
                producer.reach(10.0)
                producer.initialise(10.0)
            except SinkError:
                producer.close(5.0)
                continue
            stored = fake.committed("state")
            at = int(stored[-1]) + 1 if stored else 0
            delivery = Delivery(
                producer,
                budget=Budget(1 << 20),
                options=DeliveryOptions(limits=lambda topic: 1 << 20, batch_size=200),
                boundary=Boundary(collect=0.02, flush=5.0),
            )
            try:
                out = delivery.outlet(SHARD.partition, Positions())
                out.begin()
                while at < len(pages):
                    out.hand_over(parcel(at, pages[at]), {"page": at})
                    at += 1
                    time.sleep(dice.random() * 0.01)
                out.commit()
            except SinkError:
                at = 0
            finally:
                assert delivery.close(5.0)
        storm.end()
        # What a close has left open is ended by whoever comes next.
        found = Counter[Any]()
        for partition in range(PARTITIONS):
            values = fake.committed("t", partition)
            found.update(values)
            assert sorted(numbers(values)) == numbers(values)
        assert Counter(value for values in pages for value in values) == found
        assert [b"%d" % (len(pages) - 1)] == fake.committed("state")[-1:]
