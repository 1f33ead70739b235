"""
What follows from each answer to a transaction: never a commit that is not whole.

The brokers are the tests' own.  Each case is asked in both protocols where both have
it, and what is committed is read as a reader of committed records sees it.
"""

from __future__ import annotations

import threading
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

from engine.errors import (
    Aborted,
    Doubtful,
    Fenced,
    Misconfigured,
    SinkError,
    Unavailable,
)
from engine.sink.batch import Batch, HeadStore
from engine.sink.columns import column_of
from engine.sink.commit import DeliveryOptions
from engine.sink.compress import PLAIN
from engine.sink.delivery import Delivery
from engine.sink.group import Boundary, End
from engine.sink.kafka import Cluster as Reached
from engine.sink.library import Tail
from engine.sink.produce.producer import Producer
from engine.sink.produce.transaction import Transactional
from engine.sink.seams import Failure, Sending
from engine.sink.window import Budget
from tests.fakes.broker import Cluster, Late, Lost, Refuse, Torn, cluster, part
from tests.sink.producing import Answers, Receipt, until
from tests.sink.rig import SHARD, parcel

#: A broker of each protocol, and the oldest one.
FIRST, SECOND = "3.7", "4.3"
BOTH = [FIRST, SECOND]


class Writing:
    """A transactional producer, its batches and its ends."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self.answers = Answers()
        self._group = 0
        self._count = 0

    def put(self, *values: bytes, partition: int = 0, wait: bool = True) -> int:
        batch = Batch(HeadStore())
        batch.append(column_of(values, None, 5))
        self._count += 1
        receipt = Receipt(self.answers, self._count)
        self.producer.put(
            "t", partition, batch, PLAIN, receipt, full=True, group=self._group
        )
        if wait:
            self.answers.wait(self._count)
        return self._count

    def begin(self) -> None:
        self._group += 1
        self.producer.open(self._group)

    def end(self, commit: bool = True) -> SinkError | None:
        told = threading.Event()
        why: list[SinkError | None] = []

        def ended(failure: SinkError | None) -> None:
            why.append(failure)
            told.set()

        self.producer.end(commit, ended)
        assert told.wait(20)
        return why[0]


def made(
    fake: Cluster, id_: str = "mine", transactional: Transactional | None = None
) -> Producer:
    reached = Reached(
        bootstrap=tuple(fake.bootstrap), request_timeout=2.0, retry_backoff=0.02
    )
    return Producer(
        reached,
        linger=0.0,
        transactional=transactional or Transactional(id_, 60_000),
        max_block=3.0,
    )


@contextmanager
def writing(fake: Cluster, id_: str = "mine") -> Iterator[Writing]:
    producer = made(fake, id_)
    try:
        producer.initialise(10.0)
        yield Writing(producer)
    finally:
        assert producer.close(5.0)


@contextmanager
def broker(version: str = SECOND, partitions: int = 1) -> Iterator[Cluster]:
    with cluster(version=version) as fake:
        fake.create("t", partitions)
        yield fake


def asked(fake: Cluster, kind: Any) -> list[Any]:
    with fake.lock:
        return [request for name, request in fake.heard if name == kind.__name__]


def commits(fake: Cluster) -> int:
    return sum(state == "committed" for _, state, _ in fake.transactions.ended)


@pytest.mark.parametrize("version", ["2.4", "2.8", "3.7", "4.0", "4.3"])
def test_what_is_committed_is_readable_and_what_is_aborted_is_not(version: str) -> None:
    with broker(version, 3) as fake, writing(fake) as to:
        for commit in (True, False, True, True):
            to.begin()
            for partition in range(3):
                to.put(b"%d-%d" % (to._group, partition), partition=partition)
            before = [fake.committed("t", at) for at in range(3)]
            assert to.end(commit) is None
            if not commit:
                assert before == [fake.committed("t", at) for at in range(3)]
        for at in range(3):
            assert fake.committed("t", at) == [b"%d-%d" % (n, at) for n in (1, 3, 4)]

    spoken = {key: number for _, key, number in fake.seen}
    second = version in ("4.0", "4.3")
    assert (spoken[26] >= 5) is second
    assert (spoken[0] >= 12) is second
    assert bool(asked(fake, AddPartitionsToTxnRequest)) is not second


def test_a_cluster_that_has_not_agreed_on_the_second_version_gets_the_first() -> None:
    with broker("4.3") as fake:
        fake.transaction_version = 1
        with writing(fake) as to:
            to.begin()
            to.put(b"a")
            assert to.end() is None
        assert fake.committed("t") == [b"a"]
        assert max(number for _, key, number in fake.seen if key == 0) == 11
        assert max(number for _, key, number in fake.seen if key == 26) == 4


def test_a_tail_counts_records_and_no_marks() -> None:
    with broker("4.3", 2) as fake, writing(fake) as to:
        tail = Tail(Reached(bootstrap=tuple(fake.bootstrap)), "t")
        try:
            counts = [tail.count()]
            for commit, values in (
                (True, [b"a", b"b"]),
                (False, [b"c"]),
                (True, [b"d"]),
            ):
                to.begin()
                for partition in range(2):
                    to.put(*values, partition=partition)
                assert to.end(commit) is None
                counts.append(tail.count())
            to.begin()
            to.put(b"e")
            counts.append(tail.count())
        finally:
            tail.close()
        assert counts == [0, 4, 4, 6, 6]


def test_an_end_of_nothing_asks_nothing() -> None:
    with broker() as fake, writing(fake) as to:
        to.begin()
        assert to.end() is None
        assert not asked(fake, EndTxnRequest)


def test_batches_of_the_next_transaction_wait_for_the_end_of_this_one() -> None:
    with broker() as fake, writing(fake) as to:
        to.begin()
        to.put(b"a")
        to._group += 1
        to.put(b"b", wait=False)
        to._group -= 1
        assert to.end() is None
        assert fake.log["t", 0] == [b"a"]
        to.begin()
        to.answers.wait(2)
        assert to.end() is None
        assert fake.committed("t") == [b"a", b"b"]


def test_a_late_batch_of_this_transaction_does_not_wait_behind_the_next_one() -> None:
    """A shard hands over its page while another one is at the next transaction."""
    with broker() as fake, writing(fake) as to:
        to.begin()
        to.put(b"a")
        to._group = 2
        to.put(b"c", b"d", wait=False)
        to.put(b"e", wait=False)
        to._group = 1
        late = to.put(b"b", wait=False)
        until(lambda: late in to.answers.found, "the late one is acknowledged", 5.0)
        assert to.end() is None
        assert fake.committed("t") == [b"a", b"b"]
        to.begin()
        to.answers.wait(4)
        assert to.end() is None
        assert fake.committed("t") == [b"a", b"b", b"c", b"d", b"e"]


class Racing(Transactional):
    """
    One whose next transaction is opened between two reads of the open one's number.

    As a committer's thread may do at any moment: the sender reads `group` and is told
    the old number, and a look later it is the next one.
    """

    def __init__(self) -> None:
        self.number = 0
        self.following = 0
        super().__init__("mine", 60_000)

    @property  # type: ignore[override]
    def group(self) -> int:
        found = self.number
        by_sender = threading.current_thread().name == "kafka-sender"
        if self.following and by_sender:
            self.number, self.following = self.following, 0
        return found

    @group.setter
    def group(self, number: int) -> None:
        self.number = number


@pytest.mark.parametrize("version", BOTH)
def test_a_batch_never_gets_the_numbers_of_the_transaction_before_its_own(
    version: str,
) -> None:
    with broker(version) as fake:
        racing = Racing()
        producer = made(fake, transactional=racing)
        try:
            producer.initialise(10.0)
            to = Writing(producer)
            to.begin()
            to.put(b"a")
            assert to.end() is None
            # The next one's batch lies there while the sender still knows this one.
            racing.following = to._group = 2
            to.put(b"b", wait=False)
            until(lambda: not racing.following, "the sender looks")
            producer.open(2)
            assert {1: None, 2: None} == to.answers.wait(2)
            assert to.end() is None
        finally:
            assert producer.close(5.0)
        assert fake.committed("t") == [b"a", b"b"]
        assert commits(fake) == 2


PASSING = {
    FindCoordinatorRequest: [-1, 7, 14, 15, 16, 89],
    InitProducerIdRequest: [-1, 7, 14, 15, 16, 19, 20, 51, 89],
    AddPartitionsToTxnRequest: [3, 5, 6, 7, 14, 15, 16, 51, 55, 89],
    EndTxnRequest: [14, 15, 16, 51, 89],
}
ENDING: dict[type[SinkError], dict[Any, list[int]]] = {
    Fenced: {
        InitProducerIdRequest: [47, 90],
        AddPartitionsToTxnRequest: [47, 90],
        EndTxnRequest: [47, 90],
    },
    Misconfigured: {
        FindCoordinatorRequest: [29, 31, 35, 42, 53],
        InitProducerIdRequest: [31, 35, 42, 50, 53],
        AddPartitionsToTxnRequest: [29, 42, 53],
        EndTxnRequest: [42, 53],
    },
    Doubtful: {
        FindCoordinatorRequest: [9999],
        InitProducerIdRequest: [48, 49, 120, 9999],
        AddPartitionsToTxnRequest: [-1, 48, 49, 120, 9999],
        EndTxnRequest: [-1, 7, 48, 49, 120, 9999],
    },
}


def cases(table: dict[Any, list[int]]) -> Iterator[Any]:
    for kind, codes in table.items():
        for version in BOTH:
            if kind is AddPartitionsToTxnRequest and version == SECOND:
                continue
            for code in codes:
                yield pytest.param(
                    kind, version, code, id=f"{kind.__name__}-{version}-{code}"
                )


@pytest.mark.parametrize(("kind", "version", "code"), list(cases(PASSING)))
def test_what_passes_is_asked_again_and_committed_once(
    kind: Any, version: str, code: int
) -> None:
    with broker(version) as fake:
        fake.script(kind, Refuse(code), 2)
        with writing(fake) as to:
            to.begin()
            to.put(b"a")
            assert to.end() is None
        assert fake.committed("t") == [b"a"]
        assert commits(fake) == 1


@pytest.mark.parametrize(
    ("name", "kind", "version", "code"),
    [
        pytest.param(name, *case.values, id=f"{name.__name__}-{case.id}")
        for name, table in ENDING.items()
        for case in cases(table)
    ],
)
def test_what_does_not_pass_ends_the_producer_and_commits_nothing(
    name: type[SinkError], kind: Any, version: str, code: int
) -> None:
    with broker(version) as fake:
        fake.script(kind, Refuse(code), 99)
        producer = made(fake)
        try:
            if kind in (FindCoordinatorRequest, InitProducerIdRequest):
                with pytest.raises(name, match="mine"):
                    producer.initialise(10.0)
                return
            producer.initialise(10.0)
            to = Writing(producer)
            to.begin()
            to.put(b"a", wait=False)
            [why] = to.answers.wait(1).values() if kind is not EndTxnRequest else [None]
            if kind is EndTxnRequest:
                to.answers.wait(1)
                why = to.end()
            assert type(why) is name
            # For ever: only another producer goes on.
            assert type(to.end()) is name
            with pytest.raises(name):
                to.put(b"b", wait=False)
        finally:
            assert producer.close(5.0)
        assert commits(fake) == 0
        assert fake.committed("t") == []


@pytest.mark.parametrize("version", BOTH)
@pytest.mark.parametrize(
    "deed",
    [
        Lost(done=True),
        Lost(done=False),
        Lost(done=True, cut=False),
        Torn(),
        Late(3.0, done=True),
        Late(3.0, done=False),
    ],
    ids=repr,
)
def test_an_end_whose_answer_is_lost_is_never_asked_for_again(
    version: str, deed: Any
) -> None:
    with broker(version) as fake:
        fake.script(EndTxnRequest, deed)
        with writing(fake) as to:
            to.begin()
            to.put(b"a")
            assert type(to.end()) is Doubtful
        assert len(asked(fake, EndTxnRequest)) == 1
        # The next producer of the id finds what became of it, and nothing is open.
        with writing(fake) as to:
            to.begin()
            to.put(b"b")
            assert to.end() is None
        assert fake.committed("t")[-1] == b"b"


@pytest.mark.parametrize("deed", [Lost(done=True), Lost(done=False), Torn()], ids=repr)
def test_partitions_whose_answer_is_lost_are_a_doubt(deed: Any) -> None:
    with broker(FIRST) as fake:
        fake.script(AddPartitionsToTxnRequest, deed)
        with writing(fake) as to:
            to.begin()
            to.put(b"a", wait=False)
            assert type(to.answers.wait(1)[1]) is Doubtful


@pytest.mark.parametrize("version", BOTH)
@pytest.mark.parametrize("kind", [FindCoordinatorRequest, InitProducerIdRequest])
@pytest.mark.parametrize("deed", [Lost(done=True), Lost(done=False), Torn()], ids=repr)
def test_a_start_whose_answer_is_lost_is_asked_again(
    version: str, kind: Any, deed: Any
) -> None:
    with broker(version) as fake:
        fake.script(kind, deed, 2)
        with writing(fake) as to:
            to.begin()
            to.put(b"a")
            assert to.end() is None
        assert fake.committed("t") == [b"a"]


@pytest.mark.parametrize("version", BOTH)
def test_a_batch_whose_answer_is_lost_is_written_once(version: str) -> None:
    with broker(version) as fake:
        fake.script(ProduceRequest, Lost(done=True))
        fake.script(ProduceRequest, Lost(done=False))
        with writing(fake) as to:
            to.begin()
            to.put(b"a")
            to.put(b"b")
            assert to.end() is None
        assert fake.committed("t") == [b"a", b"b"]


@pytest.mark.parametrize("version", BOTH)
@pytest.mark.parametrize(
    ("code", "name"),
    [
        (45, Doubtful),
        (47, Fenced),
        (48, Doubtful),
        (49, Doubtful),
        (53, Misconfigured),
        (59, Doubtful),
        (90, Fenced),
        (120, Doubtful),
        (9999, Doubtful),
    ],
)
def test_a_batch_that_is_refused_for_its_producer_is_never_renumbered(
    version: str, code: int, name: type[SinkError]
) -> None:
    with broker(version) as fake:
        fake.judge = lambda batch: code
        with writing(fake) as to:
            to.begin()
            to.put(b"a", wait=False)
            assert type(to.answers.wait(1)[1]) is name
        assert len({batch.epoch for batch in fake.arrived}) == 1
        assert commits(fake) == 0


@pytest.mark.parametrize("version", BOTH)
def test_a_record_that_is_refused_is_left_out_of_its_transaction(version: str) -> None:
    with broker(version) as fake:

        def judge(batch: Any) -> Any:
            bad = [at for at, value in enumerate(batch.values) if value == b"bad"]
            return part(0, 87, errors=[(at, "no") for at in bad]) if bad else None

        fake.judge = judge
        with writing(fake) as to:
            to.begin()
            to.put(b"a", b"bad", b"b", wait=False)
            to.put(b"c", wait=False)
            to.answers.wait(2)
            assert to.end() is None
            to.begin()
            to.put(b"d")
            assert to.end() is None
        assert [bad[1] for bad in to.answers.bad] == [1]
        assert fake.committed("t") == [b"a", b"b", b"c", b"d"]


@pytest.mark.parametrize("version", BOTH)
def test_who_is_fenced_commits_nothing_and_says_so(version: str) -> None:
    with broker(version) as fake:
        with writing(fake) as first:
            first.begin()
            first.put(b"first")
            with writing(fake) as second:
                assert type(first.end()) is Fenced
                second.begin()
                second.put(b"second")
                assert second.end() is None
        assert fake.committed("t") == [b"second"]


@pytest.mark.parametrize("version", BOTH)
def test_another_coordinator_is_looked_for(version: str) -> None:
    with cluster(2, version=version) as fake:
        fake.create("t")
        fake.coordinators["mine"] = 2
        with writing(fake) as to:
            to.begin()
            to.put(b"a")
            # It moves within a transaction, with all it knows.
            fake.coordinators["mine"] = 1
            assert to.end() is None
        assert fake.committed("t") == [b"a"]


@pytest.mark.parametrize("version", BOTH)
def test_a_coordinator_that_metadata_does_not_name_is_still_waited_for(
    version: str,
) -> None:
    """A broker that lags behind is asked while the end is on its way."""
    with cluster(2, version=version) as fake:
        fake.create("t")
        fake.coordinators["mine"] = 2
        with writing(fake) as to:
            to.begin()
            to.put(b"a")
            line = fake.script(EndTxnRequest, Late(0.6, done=True))

            def without(node: int, request: Any, answer: Any) -> None:
                if isinstance(request, MetadataRequest):
                    answer.brokers = [
                        each for each in answer.brokers if each.node_id == 1
                    ]

            fake.alter = without

            def learn() -> None:
                assert line.met.wait(10)
                to.producer.refresh()

            learning = threading.Thread(target=learn)
            learning.start()
            assert to.end() is None
            learning.join()
            assert to.producer._sender.view.brokers.keys() == {1}
        assert fake.committed("t") == [b"a"]


# -- the delivery above it ----------------------------------------------------------


class Saves:
    """A saver that writes positions to a topic, as the state does."""

    def save(self, to: Sending, partition: Any, offset: Any, done: Any) -> None:
        to.send("state", 0, b"key", b"%d" % offset["page"], done)

    def forget(self, to: Sending, partition: Any, done: Any) -> None:
        to.send("state", 0, b"key", None, done)


@contextmanager
def delivering(
    fake: Cluster, budget: Budget | None = None, **boundary: Any
) -> Iterator[Delivery]:
    producer = made(fake)
    producer.initialise(10.0)
    delivery = Delivery(
        producer,
        budget=budget or Budget(1 << 20),
        options=DeliveryOptions(limits=lambda topic: 1 << 20),
        boundary=Boundary(**boundary),
    )
    try:
        yield delivery
    finally:
        assert delivery.close(5.0)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("version", BOTH)
def test_pages_and_their_position_are_committed_together(
    version: str, gated: bool
) -> None:
    with broker(version) as fake:
        fake.create("state")
        with delivering(fake, gated=gated, collect=30.0) as delivery:
            to = delivery.outlet(SHARD.partition, Saves())
            to.begin()
            for page in range(3):
                to.hand_over(parcel(page, [b"%d" % page]), {"page": page})
            assert not commits(fake)
            to.commit()
            assert commits(fake) == 1
            assert fake.committed("t") == [b"0", b"1", b"2"]
            assert fake.committed("state") == [b"2"]
            to.hand_over(parcel(3, [b"3"]), {"page": 3})
            to.commit()
            assert fake.committed("t")[3:] == [b"3"]
            assert fake.committed("state") == [b"2", b"3"]


def test_pages_go_without_being_asked_for_after_a_while() -> None:
    with broker() as fake:
        fake.create("state")
        with delivering(fake, collect=0.05) as delivery:
            to = delivery.outlet(SHARD.partition, Saves())
            to.begin()
            to.hand_over(parcel(0, [b"0"]), {"page": 0})
            until(lambda: fake.committed("state") == [b"0"], "a commit")


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("size", [20, 30, 60, 100])
def test_who_holds_up_an_end_does_not_wait_for_room_of_the_next_one(
    size: int, gated: bool
) -> None:
    """Shards whose pages are as large as the budget, which the next group fills."""
    budget, pages = Budget(64_000), 12
    failed: list[BaseException] = []
    held: list[int] = []
    with broker() as fake:
        fake.create("state")
        with delivering(fake, budget, collect=0.02, gated=gated, flush=10) as delivery:

            def shard(number: int) -> None:
                to = delivery.outlet({"api": "a", "shard": str(number)}, Saves())
                try:
                    to.begin()
                    for page in range(pages):
                        values = [
                            b"%d-%d-%d " % (number, page, at) for at in range(size)
                        ]
                        filled = [value.ljust(1000, b"x") for value in values]
                        to.hand_over(parcel(page, filled), {"page": page})
                        held.append(budget.used)
                    to.commit()
                except SinkError as why:
                    failed.append(why)

            threads = [threading.Thread(target=shard, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert not failed
        assert (
            4 * pages * size
            == len(set(fake.committed("t")))
            == len(fake.committed("t"))
        )
        assert budget.used == 0
        # A page of each shard beyond it, and no more.
        assert max(held) <= budget.limit + 4 * size * 1100


@pytest.mark.parametrize("version", BOTH)
def test_nothing_is_committed_unless_every_batch_is_acknowledged(version: str) -> None:
    """A partition that answers nothing while the coordinator does."""
    with broker(version) as fake:
        fake.create("state")
        fake.judge = lambda batch: 6 if batch.topic == "t" else None
        with delivering(fake, flush=0.5) as delivery:
            to = delivery.outlet(SHARD.partition, Saves())
            to.begin()
            to.hand_over(parcel(0, [b"0"]), {"page": 0})
            with pytest.raises(Unavailable, match="given up"):
                to.commit()
        assert commits(fake) == 0
        assert fake.committed("state") == []


@pytest.mark.parametrize("version", BOTH)
def test_a_shard_whose_record_is_refused_takes_no_other_with_it(version: str) -> None:
    """The transaction is given up: the others begin anew from their positions."""
    with broker(version) as fake:
        fake.create("state")
        fake.judge = lambda batch: 87 if b"bad" in batch.values else None
        with delivering(fake, collect=30.0) as delivery:
            bad = delivery.outlet({**SHARD.partition, "api": "bad"}, Saves())
            good = delivery.outlet(SHARD.partition, Saves())
            for to in (bad, good):
                to.begin()
            good.hand_over(parcel(0, [b"good"]), {"page": 0})
            bad.hand_over(parcel(0, [b"bad"]), {"page": 0})
            with pytest.raises(Aborted):
                good.commit()
            with pytest.raises(SinkError):
                bad.commit()
            assert bad.failure is not None
            assert good.failure is None
        assert commits(fake) == 0
        assert fake.committed("t") == []


def test_what_is_forgotten_is_told_once_it_is_committed() -> None:
    with broker() as fake:
        fake.create("state")
        with delivering(fake, collect=30.0) as delivery:
            told: list[Failure] = []
            Saves().forget(delivery, {}, told.append)
            until(lambda: told, "an answer")
            assert told == [None]
            assert fake.committed("state") == [None]


def test_a_delivery_that_is_closed_leaves_nothing_open() -> None:
    with broker() as fake:
        fake.create("state")
        with delivering(fake, collect=30.0) as delivery:
            to = delivery.outlet(SHARD.partition, Saves())
            to.begin()
            to.hand_over(parcel(0, [b"0"]), {"page": 0})
            until(lambda: fake.log["t", 0], "a batch")
        assert [state for _, state, _ in fake.transactions.ended] == ["aborted"]


class Positions(Saves):
    """Told what became of each position."""

    def __init__(self) -> None:
        self.told: list[Failure] = []

    def save(self, to: Sending, partition: Any, offset: Any, done: Any) -> None:
        def ended(why: Failure) -> None:
            self.told.append(why)
            done(why)

        super().save(to, partition, offset, ended)


Ends = list[tuple[End, int]]


def ends_of(delivery: Delivery) -> Ends:
    found: Ends = []
    assert delivery.transactions is not None
    delivery.transactions.told = lambda end, records, _: found.append((end, records))
    return found


def test_a_position_is_saved_once_its_transaction_is_committed() -> None:
    """Its acknowledgement says nothing: an abort takes it back."""
    with broker() as fake:
        fake.create("state")
        line = fake.script(EndTxnRequest, Late(0.5))
        with delivering(fake, collect=0.01) as delivery:
            positions, ends = Positions(), ends_of(delivery)
            to = delivery.outlet(SHARD.partition, positions)
            to.begin()
            to.hand_over(parcel(0, [b"0", b"1"]), {"page": 0})
            assert line.met.wait(10)
            assert fake.log["state", 0] == [b"0"]
            assert (positions.told, ends) == ([], [])
            to.commit()
            until(lambda: ends, "it is told")
        assert positions.told == [None]
        assert ends == [(End.COMMITTED, 2)]


@pytest.mark.parametrize(
    ("deed", "end"),
    [
        (Refuse(48), End.DOUBTFUL),
        (Refuse(90), End.ABORTED),
        (Lost(done=False), End.DOUBTFUL),
        (Lost(), End.DOUBTFUL),
    ],
)
def test_a_position_that_is_not_known_to_be_committed_is_none(
    deed: Any, end: End
) -> None:
    with broker() as fake:
        fake.create("state")
        fake.script(EndTxnRequest, deed)
        with delivering(fake, collect=0.01) as delivery:
            positions, ends = Positions(), ends_of(delivery)
            to = delivery.outlet(SHARD.partition, positions)
            to.begin()
            to.hand_over(parcel(0, [b"0"]), {"page": 0})
            with pytest.raises(SinkError):
                to.commit()
            until(lambda: positions.told, "it is told")
        assert 1 == len(positions.told)
        assert positions.told[0] is not None
        assert ends == [(end, 1)]


@pytest.mark.parametrize("version", BOTH)
def test_what_is_given_up_names_what_was_waited_for_and_for_how_long(
    version: str,
) -> None:
    with broker(version) as fake:
        fake.create("state")
        fake.judge = lambda batch: 6 if batch.topic == "t" else None
        with delivering(fake, flush=1.5) as delivery:
            positions, ends = Positions(), ends_of(delivery)
            to = delivery.outlet(SHARD.partition, positions)
            to.begin()
            to.hand_over(parcel(0, [b"0"]), {"page": 0})
            with pytest.raises(Unavailable) as failure:
                to.commit()
            until(lambda: ends, "it is told")
        said = str(failure.value)
        assert "a transaction was given up: not all of it was acknowledged" in said
        assert "t-0: NOT_LEADER" in said
        assert commits(fake) == 0
        assert ends == [(End.ABORTED, 1)]
        # The position was acknowledged, and is none.
        assert [type(why) for why in positions.told] == [Unavailable]
        assert fake.committed("state") == []
