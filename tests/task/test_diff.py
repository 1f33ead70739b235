"""SNAPSHOT_DIFF in a flow: what is produced, what is gone, and what a crash costs."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from engine.errors import EngineError, RecordError, StateError, Unreachable
from engine.records import Offset, Page, Parcel, Request, Response, Shard
from engine.sink.outlet import AtLeastOnce
from engine.sink.seams import Failure
from engine.source.paging.position import SEAL
from engine.task import snapshot
from engine.task.contents import contents_as_received, contents_of_values
from engine.task.diff import (
    SegmentPlaces,
    SnapshotDiff,
    SnapshotLimits,
    kept,
)
from engine.task.flow import Flow
from engine.task.path import PagePath
from engine.task.pulse import LoopStopping, Pulse
from tests.examples import examples

SHARD = Shard("shop", "orders")


ANY_FALL = SnapshotLimits(fall=1.0)


class Crash(EngineError):
    """The process is killed."""


class Api:
    """Records by id, in pages that begin behind the last id; changes between pages."""

    def __init__(self, size: int = 3):
        self.records: dict[int, int] = {}
        self.size = size
        self.between: Callable[[], None] = lambda: None
        self.fails_at = -1
        #: Keys that were there during all of the poll.
        self.stayed: set[int] = set()
        self.idle = None
        self.begun: list[Offset | None] = []
        self.most = 1000

    def pages(self, offset: Offset | None) -> Iterator[Page]:
        self.begun.append(offset)
        poll, after, index = 1, -1, 0
        if offset is None or offset["done"] is True:
            self.stayed = set(self.records)
        if offset is not None:
            assert isinstance(offset["poll"], int)
            poll = offset["poll"] + (offset["done"] is True)
            if offset["done"] is not True:
                assert isinstance(offset["after"], int)
                after = offset["after"]
        while True:
            self.between()
            self.stayed &= set(self.records)
            if index == self.fails_at:
                raise Unreachable("the API is away")
            here = sorted(key for key in self.records if key > after)[: self.size]
            last = len(here) < self.size
            records = [Raw(b'{"id":%d,"v":%d}' % (n, self.records[n])) for n in here]
            after = here[-1] if here else after
            cut = not last and index + 1 >= self.most
            position: Offset = {"poll": poll, "done": last, "after": after}
            yield page_of(records, index, position, last=last or cut, truncated=cut)
            if last or cut:
                return
            index += 1


def page_of(
    records: list[Raw],
    index: int,
    offset: Offset,
    *,
    last: bool = False,
    truncated: bool = False,
    unread: str = "",
) -> Page:
    response = Response(
        request=Request("GET", "http://a/x"),
        url="http://a/x",
        status=200,
        headers=(),
        body=b"",
        sent_at=0.0,
        received_ms=7,
    )
    return Page(
        response=response,
        index=index,
        records=records,
        offset=offset,
        last=last,
        truncated=truncated,
        unread=unread,
    )


def passed(page: Page) -> Parcel:
    keys = [bytes(each).split(b":")[1].split(b",")[0] for each in page.records]
    return Parcel(
        page=page,
        topic="t",
        values=list(page.records),
        keys=keys,
        indexes=range(len(keys)),
    )


class Kafka:
    """
    A topic and a state, as a crash leaves them.

    What is handed over is written some time later, and its position some time after
    that, in the order of the handing over.
    """

    def __init__(self, chance: random.Random, *, transactional: bool = False):
        self.chance = chance
        self.transactional = transactional
        self.position: Offset | None = None
        self.segments: dict[int, Offset] = {}
        self.topic: list[tuple[bytes, bytes | None]] = []
        self.waiting: list[tuple[object, Parcel, Offset]] = []
        #: Writes until the process is killed; below 0: it lives.
        self.lives = -1

    def tick(self) -> None:
        if self.lives == 0:
            raise Crash
        self.lives -= 1

    def forget(self, outlet: object) -> None:
        assert not any(each[0] is outlet for each in self.waiting)

    def check_failure(self) -> None:
        pass

    def write(self, count: int) -> None:
        """Of what waits, the first so many are written."""
        for _ in range(min(count, len(self.waiting))):
            self.tick()
            outlet, parcel, offset = self.waiting.pop(0)
            if self.transactional:
                # Together or not at all.
                self.records(parcel)
                self.keep(outlet, offset)
                continue
            self.records(parcel)
            self.tick()
            # The position may wait for the next one.
            if self.chance.random() < 0.7 or isinstance(outlet, Segment):
                self.keep(outlet, offset)
            else:
                self.unsaved = outlet, offset

    def records(self, parcel: Parcel) -> None:
        for key, value in zip(parcel.keys or (), parcel.values, strict=True):
            assert key is not None
            self.topic.append((key, None if value is None else bytes(value)))

    def keep(self, outlet: object, offset: Offset) -> None:
        if isinstance(outlet, Segment):
            self.segments[outlet.number] = offset
        else:
            self.position = offset

    def remove(self, number: int, done: Callable[[Failure], None]) -> None:
        self.tick()
        del self.segments[number]
        done(None)

    def compacted(self) -> dict[bytes, bytes]:
        last = dict(self.topic)
        return {key: value for key, value in last.items() if value is not None}


class Out:
    """The outlet of the shard."""

    def __init__(self, kafka: Kafka):
        self.kafka = kafka
        self.last: Offset | None = None

    def begin(self) -> None:
        pass

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        self.kafka.waiting.append((self, parcel, offset))
        self.last = offset
        self.kafka.write(self.kafka.chance.randrange(3))

    def commit(self) -> None:
        self.kafka.write(len(self.kafka.waiting))
        self.kafka.tick()
        if self.last is not None:
            self.kafka.keep(self, self.last)


class Segment(AtLeastOnce):
    """The outlet of one segment."""

    def __init__(self, kafka: Kafka, number: int):
        self.kafka = kafka
        self.number = number

    def begin(self) -> None:
        pass

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        self.kafka.waiting.append((self, parcel, dict(offset)))

    def commit(self) -> None:
        if any(each[0] is self for each in self.kafka.waiting):
            self.kafka.write(len(self.kafka.waiting))


class Told:
    def __init__(self) -> None:
        self.names: list[str] = []
        self.counts: list[tuple[int, int]] = []

    def note(self, name: str) -> None:
        self.names.append(name)

    def snapshot(self, keys: int, gone: int, withheld: int = 0) -> None:
        self.counts.append((keys, gone))
        self.withheld = withheld


class Run:
    """A process: what was stored is read, and polls follow one another."""

    def __init__(
        self,
        api: Api,
        kafka: Kafka,
        limits: SnapshotLimits = ANY_FALL,
        *,
        shifts: bool = False,
        contents: Callable[[Parcel], list[int]] = contents_of_values,
        transform: Callable[[Page], Parcel] = passed,
    ):
        kafka.waiting.clear()
        self.told = Told()
        self.counted: list[Parcel] = []
        stop = threading.Event()
        pulse = Pulse(fetch=60.0, work=60.0)
        outlet = Out(kafka)

        def counting(parcel: Parcel) -> Callable[[float], None]:
            assert parcel.balanced
            self.counted.append(parcel)
            return lambda moment: None

        self.memory = SnapshotDiff(
            SHARD,
            dict(kafka.segments),
            kafka.position,
            limits=limits,
            contents=contents,
            places=SegmentPlaces(kafka, lambda n: Segment(kafka, n), kafka.remove),
            outlet=outlet,
            counting=counting,
            told=self.told,
            shifts=shifts,
        )
        self.flow = Flow(
            kafka.position,
            source=api,
            path=PagePath(
                SHARD,
                transform=transform,
                counting=counting,
                pulse=pulse,
                stopping=LoopStopping(stop, pulse),
            ),
            outlet=outlet,
            memory=self.memory,
        )

    def poll(self) -> None:
        self.flow.poll()


def calm() -> Kafka:
    return Kafka(random.Random(1))


def told_of(kafka: Kafka, run: Run) -> list[tuple[bytes, bytes | None]]:
    kafka.topic.clear()
    run.poll()
    return list(kafka.topic)


@pytest.mark.parametrize("transactional", [False, True])
def test_only_what_is_new_changed_or_gone_is_produced(transactional: bool) -> None:
    api, kafka = Api(), Kafka(random.Random(1), transactional=transactional)
    api.records = {n: 1 for n in range(7)}
    run = Run(api, kafka)
    assert len(told_of(kafka, run)) == 7
    assert told_of(kafka, run) == []
    api.records[3] = 2
    api.records[9] = 1
    assert [key for key, _ in told_of(kafka, run)] == [b"3", b"9"]
    del api.records[0], api.records[9]
    assert sorted(told_of(kafka, run)) == [(b"0", None), (b"9", None)]
    # And so it is for the next process.
    run = Run(api, kafka)
    assert told_of(kafka, run) == []
    api.records[0] = 1
    assert [key for key, _ in told_of(kafka, run)] == [b"0"]
    assert run.told.counts[-1] == (7, 0)


def test_what_mode_full_has_sealed_is_forgotten_before_anything_is_produced() -> None:
    api, kafka = Api(), calm()
    api.records = {1: 1}
    kafka.position = {"poll": 1, "done": True, SEAL: "x"}
    run = Run(api, kafka)
    run.memory.begin(kafka.position)
    forgets = []
    for page in api.pages(None):
        run.memory.judge(passed(page), lambda: forgets.append(list(kafka.topic)))
    assert [[]] == forgets

    # And a poll does so by itself: who dies behind its first record leaves no seal.
    kafka = calm()
    kafka.position = {"poll": 1, "done": True, SEAL: "x"}
    Run(api, kafka).poll()
    assert SEAL not in (kafka.position or {})
    assert [b"1"] == [key for key, _ in kafka.topic]


def test_tombstones_may_be_left_out() -> None:
    api, kafka = Api(), calm()
    api.records = {1: 1, 2: 1}
    run = Run(api, kafka, SnapshotLimits(tombstones=False))
    run.poll()
    del api.records[1]
    assert told_of(kafka, run) == []
    assert run.told.counts[-1] == (1, 1)
    api.records[1] = 1
    assert [key for key, _ in told_of(kafka, run)] == [b"1"]


@pytest.mark.parametrize(
    ("before", "after", "fall", "gone"),
    [
        (10, 5, 0.5, 5),
        (10, 4, 0.5, 0),
        (10, 4, 0.6, 6),
        (10, 9, 0.0, 0),
        (1, 0, 1.0, 0),
        (3, 1, 1.0, 2),
    ],
)
def test_after_too_great_a_fall_nothing_is_gone(
    before: int, after: int, fall: float, gone: int
) -> None:
    api, kafka = Api(100), calm()
    api.records = {n: 1 for n in range(before)}
    run = Run(api, kafka, SnapshotLimits(fall=fall))
    run.poll()
    api.records = {n: 1 for n in range(after)}
    assert len(told_of(kafka, run)) == gone
    assert ("snapshots_withheld_total" in run.told.names) is not bool(gone)
    assert run.told.withheld == (0 if gone else before - after)
    # What was withheld is there again, and is no news.
    api.records = {n: 1 for n in range(before)}
    assert len(told_of(kafka, run)) == gone


def test_keys_that_are_replaced_are_no_fall() -> None:
    api, kafka = Api(), calm()
    api.records = {n: 1 for n in range(5)}
    run = Run(api, kafka, SnapshotLimits(fall=0.5))
    run.poll()
    api.records = {n: 1 for n in range(10, 15)}
    assert len(told_of(kafka, run)) == 10


def test_an_interrupted_poll_deletes_nothing() -> None:
    api, kafka = Api(), calm()
    api.records = {n: 1 for n in range(9)}
    run = Run(api, kafka)
    run.poll()
    del api.records[0]
    api.fails_at = 1
    with pytest.raises(Unreachable):
        run.poll()
    api.fails_at = -1
    assert told_of(kafka, run) == [(b"0", None)]
    assert "snapshots_interrupted_total" in run.told.names
    # It began anew, with the same number.
    assert api.begun[-2:] == [{"poll": 1, "done": True}, {"poll": 1, "done": True}]


def test_a_poll_that_was_cut_goes_on_and_deletes_at_its_end() -> None:
    api, kafka = Api(), calm()
    api.records = {n: 1 for n in range(9)}
    run = Run(api, kafka)
    run.poll()
    api.most = 2
    del api.records[0], api.records[8]
    assert told_of(kafka, run) == []
    assert sorted(told_of(kafka, run)) == [(b"0", None), (b"8", None)]
    assert "snapshots_interrupted_total" not in run.told.names


@pytest.mark.parametrize(
    "name", ["total_mismatch_total", "polls_repeating_total", "polls_unsure_total"]
)
def test_a_poll_that_may_not_have_seen_all_deletes_nothing(name: str) -> None:
    api, kafka = Api(), calm()
    api.records = {n: 1 for n in range(4)}
    run = Run(api, kafka)
    run.poll()
    del api.records[0]
    api.between = lambda: run.memory.note(name)
    assert told_of(kafka, run) == []
    api.between = lambda: None
    assert told_of(kafka, run) == [(b"0", None)]


def test_where_pages_shift_a_key_is_gone_if_two_polls_do_not_find_it() -> None:
    api, kafka = Api(), calm()
    api.records = {n: 1 for n in range(9)}
    run = Run(api, kafka, shifts=True)
    run.poll()
    polls = len(api.begun)
    # Passed over in one poll, and there all the time.
    seen = api.records.pop(4)
    calls = iter(range(100))

    def back() -> None:
        if next(calls) == 3:
            api.records[4] = seen

    api.between = back
    del api.records[8]
    assert told_of(kafka, run) == [(b"8", None)]
    assert len(api.begun) == polls + 2


def test_a_record_without_a_key_is_a_bad_one() -> None:
    def keyless(page: Page) -> Parcel:
        parcel = passed(page)
        return replace(parcel, keys=[None, *list(parcel.keys or ())[1:]])

    api, kafka = Api(), calm()
    api.records = {1: 1, 2: 1}
    with pytest.raises(RecordError, match="no key"):
        Run(api, kafka, transform=keyless).poll()
    run = Run(api, kafka, SnapshotLimits(fall=1.0, tolerant=True), transform=keyless)
    assert [key for key, _ in told_of(kafka, run)] == [b"2"]
    assert [len(parcel.letters) for parcel in run.counted] == [1]
    # Whose it is nobody knows: nothing is gone.
    del api.records[2]
    api.records[3] = 1
    assert [key for key, _ in told_of(kafka, run)] == [b"3"]


def test_more_keys_than_allowed_are_an_error() -> None:
    api, kafka = Api(), calm()
    api.records = {n: 1 for n in range(5)}
    with pytest.raises(StateError, match=r"http\.snapshot\.max\.keys"):
        Run(api, kafka, SnapshotLimits(most=4)).poll()


def test_rules_that_write_the_time_are_no_change() -> None:
    when = iter(range(1000))

    def stamped(page: Page) -> Parcel:
        parcel = passed(page)
        values = [b"%d %s" % (next(when), bytes(each)) for each in page.records]
        return replace(parcel, values=values)

    api, kafka = Api(), calm()
    api.records = {n: 1 for n in range(5)}
    run = Run(api, kafka, transform=stamped, contents=contents_as_received)
    run.poll()
    assert told_of(kafka, run) == []
    api.records[2] = 5
    assert len(told_of(kafka, run)) == 1


def test_columns_stay_together() -> None:
    page = page_of([Raw(b"1"), Raw(b"2"), Raw(b"3")], 0, {})
    headers = [(("h", b"1"),), (("h", b"2"),), (("h", b"3"),)]
    parcel = Parcel(
        page=page,
        topic=["a", "b", "c"],
        values=[b"1", b"2", b"3"],
        keys=[b"k", b"l", b"m"],
        timestamps=[1, 2, 3],
        headers=headers,
        indexes=range(3),
    )
    left = kept(parcel, [0, 2])
    assert left.topic == ["a", "c"]
    assert list(left.values) == [b"1", b"3"]
    assert left.keys == [b"k", b"m"]
    assert left.timestamps == [1, 3]
    assert left.headers == [headers[0], headers[2]]
    assert left.indexes == [0, 2]
    assert left.balanced
    parcel = replace(parcel, headers=headers[0], timestamps=5)
    assert kept(parcel, [1]).headers == headers[0]


def mutate(api: Api, chance: random.Random) -> None:
    for _ in range(chance.randrange(3)):
        key = chance.randrange(14)
        if chance.random() < 0.5:
            api.records.pop(key, None)
        else:
            api.records[key] = chance.randrange(3)


@settings(max_examples=examples(250), deadline=None)
@given(seed=st.integers(0, 2**32), transactional=st.booleans())
def test_no_change_is_lost_and_no_tombstone_wrong_over_crashes(
    seed: int, transactional: bool
) -> None:
    """An API that changes between any two requests, and a process that is killed."""
    chance = random.Random(seed)
    before = snapshot.ENTRIES, snapshot.FEW
    snapshot.ENTRIES, snapshot.FEW = 2, 2  # type: ignore[misc]
    try:
        _changes_and_crashes(chance, transactional)
    finally:
        snapshot.ENTRIES, snapshot.FEW = before  # type: ignore[misc]


def _changes_and_crashes(chance: random.Random, transactional: bool) -> None:
    api, kafka = Api(chance.randrange(1, 6)), Kafka(chance, transactional=transactional)
    run = None
    for _ in range(10):
        api.between = lambda: mutate(api, chance)
        api.size = chance.randrange(1, 6)
        api.most = chance.choice([1000, 1000, 2])
        api.fails_at = chance.choice([-1, -1, -1, 1, 2])
        kafka.lives = chance.choice([-1, -1, chance.randrange(30)])
        at = len(kafka.topic)
        try:
            if run is None or chance.random() < 0.3:
                run = Run(api, kafka)
            run.poll()
        except Unreachable:
            pass
        except Crash:
            run = None
        wrong = [
            key
            for key, value in kafka.topic[at:]
            if value is None and int(key) in api.stayed
        ]
        assert not wrong
    api.between = lambda: None
    api.most, api.fails_at, kafka.lives = 1000, -1, -1
    api.records.setdefault(0, 1)
    run = Run(api, kafka)
    run.poll()
    run.poll()
    expected = {
        b"%d" % n: b'{"id":%d,"v":%d}' % (n, value) for n, value in api.records.items()
    }
    assert kafka.compacted() == expected
    assert told_of(kafka, run) == []
