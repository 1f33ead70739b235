"""The path of a page, a shard's loop and its pulse, with fakes at the seams only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from msgspec import Raw
from msgspec.structs import replace

from engine.errors import (
    Accounting,
    BadPage,
    CursorExpired,
    Denied,
    Doubtful,
    EngineError,
    Exit,
    RecordError,
    Unavailable,
    Unreachable,
)
from engine.observe.failures import FailureLog
from engine.policy import Follows
from engine.records import Offset, Page, Parcel, Request, Response, Shard
from engine.task.flow import Flow
from engine.task.memory import Forgetful
from engine.task.path import PagePath
from engine.task.pulse import LoopStopping, Pulse
from engine.task.shardloop import ShardLoop

SHARD = Shard("shop", "orders")


def page(index: int, *, last: bool = False, records: int = 2) -> Page:
    response = Response(
        request=Request("GET", "http://a/x"),
        url="http://a/x",
        status=200,
        headers=(),
        body=b"",
        sent_at=0.0,
        received_ms=0,
    )
    offset: Offset = {"page": index + 1}
    if last:
        offset["done"] = True
    return Page(
        response=response,
        index=index,
        records=[Raw(b"{}")] * records,
        offset=offset,
        last=last,
    )


class Pages:
    """A source: each poll is the next list of pages, of which a failure ends it."""

    def __init__(
        self, *polls: Sequence[Page | EngineError], idle: Offset | None = None
    ):
        self._polls = list(polls)
        self.idle = idle
        self.begun: list[Offset | None] = []

    def pages(self, offset: Offset | None) -> Iterator[Page]:
        self.begun.append(offset)
        for each in self._polls.pop(0) if self._polls else []:
            if isinstance(each, EngineError):
                raise each
            yield each


class Kept:
    """An outlet that keeps what it is given, in the order of the calls."""

    def __init__(self, failure: EngineError | None = None):
        self.calls: list[object] = []
        self._failure = failure

    def begin(self) -> None:
        self.calls.append("begin")

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        if self._failure is not None:
            raise self._failure
        self.calls.append(offset)

    def commit(self) -> None:
        self.calls.append("commit")


def passed(given: Page) -> Parcel:
    return Parcel(page=given, topic="t", values=[bytes(each) for each in given.records])


class Rig:
    """A shard's flow and its loop."""

    def __init__(
        self,
        *polls: Sequence[Page | EngineError],
        idle: Offset | None = None,
        outlet: Kept | None = None,
        transform: Callable[[Page], Parcel] = passed,
    ):
        self.stop = threading.Event()
        self.pulse = Pulse(fetch=60.0, work=30.0)
        self.source = Pages(*polls, idle=idle)
        self.outlet = Kept() if outlet is None else outlet
        self.waits = LoopStopping(self.stop, self.pulse)
        self.flow = Flow(
            None,
            source=self.source,
            path=PagePath(
                SHARD,
                transform=transform,
                counting=lambda parcel: lambda moment: None,
                pulse=self.pulse,
                stopping=self.waits,
            ),
            outlet=self.outlet,
            memory=Forgetful(),
        )
        self.failures = FailureLog(None)
        self.given_up: list[Exception] = []
        self.ended: list[ShardLoop] = []
        self.polls = 0

    def due(self) -> float:
        """Every poll is due at once, and behind the last the loop is stopped."""
        return 0.0

    def next_ms(self) -> int:
        return 0

    def started(self) -> None:
        self.polls += 1

    def finished(self, *, records: int, failed: bool = False, **news: object) -> None:
        if not self.source._polls:
            self.stop.set()

    def walk(
        self, *, once: bool = False, tolerant: bool = False, patience: float = 0.0
    ) -> ShardLoop:
        pace = type("Pace", (), {})()
        pace.due, pace.next_ms = self.due, self.next_ms
        pace.started, pace.ended = self.started, self.finished
        loop = ShardLoop(
            self.flow,
            pace=pace,
            patient=tolerant,
            patience=patience,
            once=once,
            pulse=self.pulse,
            stopping=self.waits,
            polling=lambda begun: None,
            given_up=self.given_up.append,
            succeeded=lambda: None,
            failures=self.failures,
            ended=self.ended.append,
        )
        loop.run()
        assert [loop] == self.ended
        return loop


def test_pages_go_out_in_their_order_and_are_committed_once() -> None:
    rig = Rig([page(0), page(1, last=True)])

    last = rig.flow.poll()

    assert last is not None and last.last
    assert ["begin", {"page": 1}, {"page": 2, "done": True}, "commit"] == (
        rig.outlet.calls
    )
    assert {"page": 2, "done": True} == rig.flow.offset
    assert 4 == rig.flow.received


def test_what_came_before_a_failed_page_is_committed() -> None:
    rig = Rig([page(0), Unreachable("away")])

    with pytest.raises(Unreachable):
        rig.flow.poll()

    assert ["begin", {"page": 1}, "commit"] == rig.outlet.calls
    assert {"page": 1} == rig.flow.offset


def test_a_delivery_that_failed_is_not_committed() -> None:
    rig = Rig([page(0)], outlet=Kept(Doubtful("who knows")))

    with pytest.raises(Doubtful):
        rig.flow.poll()

    assert ["begin"] == rig.outlet.calls


def test_sums_that_do_not_add_up_stop_everything() -> None:
    rig = Rig(
        [page(0)], transform=lambda given: Parcel(page=given, topic="t", values=[b"{}"])
    )

    with pytest.raises(Accounting, match="received 2 is not produced 1"):
        rig.flow.poll()

    assert ["begin"] == rig.outlet.calls


def test_a_poll_without_a_page_says_where_the_shard_stands() -> None:
    rig = Rig([], idle={"poll": 7})

    assert rig.flow.poll() is None
    assert ["begin", {"poll": 7}, "commit"] == rig.outlet.calls


def test_stopping_is_noticed_between_two_pages() -> None:
    rig = Rig([page(0), page(1, last=True)])
    rig.stop.set()

    last = rig.flow.poll()

    assert last is not None and 0 == last.index
    assert ["begin", {"page": 1}, "commit"] == rig.outlet.calls


#: Failure, the arguments of the loop: polls begun, what follows, exit code.
ENDS = {
    "away": (Unreachable("x"), {}, 2, None, Exit.OK),
    "away, once": (Unreachable("x"), {"once": True}, 1, Follows.SHARD_FAILED, 69),
    "denied": (Denied("x"), {}, 1, Follows.SHARD_FAILED, 65),
    "denied, ignored": (Denied("x"), {"tolerant": True}, 2, None, Exit.OK),
    "bad page": (BadPage("x"), {}, 1, Follows.SHARD_FAILED, 65),
    "bad page, borne": (BadPage("x"), {"patience": 60.0}, 2, None, Exit.OK),
    "bad page, ignored": (BadPage("x"), {"tolerant": True}, 2, None, Exit.OK),
    "cursor": (CursorExpired("x"), {"tolerant": True}, 1, Follows.SHARD_FAILED, 65),
    "record": (
        RecordError("x", stage="transform"),
        {"tolerant": True},
        1,
        Follows.SHARD_FAILED,
        65,
    ),
    "broker": (Unavailable("x"), {}, 1, Follows.TASK, 69),
    "doubtful": (Doubtful("x"), {"tolerant": True}, 1, Follows.TASK, 75),
}


@pytest.mark.parametrize("case", ENDS)
def test_what_a_loop_does_after_a_failed_poll(case: str) -> None:
    failure, arguments, polls, follows, code = ENDS[case]
    rig = Rig([page(0), failure], [page(1, last=True)])

    loop = rig.walk(**arguments)

    assert polls == rig.polls
    assert (follows, code) == (loop.verdict.follows, loop.verdict.code)
    if follows is None:
        assert [failure] == rig.given_up
        # The next poll goes on where the one before was cut.
        assert [None, {"page": 1}] == rig.source.begun
    else:
        assert failure is loop.verdict.failure
        assert [] == rig.given_up


def test_a_bug_in_a_loop_is_its_shards_failure() -> None:
    def broken(given: Page) -> Parcel:
        raise ZeroDivisionError

    rig = Rig([page(0)], transform=broken)

    loop = rig.walk()

    assert (Exit.BUG, Follows.SHARD_FAILED) == (
        loop.verdict.code,
        loop.verdict.follows,
    )


def test_a_loop_is_alive_while_it_waits_and_not_when_it_works_too_long() -> None:
    class At:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    at = At()
    pulse = Pulse(fetch=60.0, work=30.0, clock=at)  # type: ignore[arg-type]
    pulse.working()
    assert pulse.alive(30.0) and not pulse.alive(30.1)
    pulse.fetching()
    assert pulse.alive(60.0) and not pulse.alive(60.1)
    pulse.idle("commit")
    assert pulse.alive(1e9)


class Doubting(Forgetful):
    """A memory that one poll leaves a question, which the next one answers."""

    def __init__(self, doubts: int) -> None:
        super().__init__()
        self._left = doubts
        self.kept: list[Offset] = []

    @property
    def doubts(self) -> bool:  # type: ignore[override]
        self._left -= 1
        return self._left >= 0

    def keep(self, offset: Offset) -> None:
        self.kept.append(offset)


def test_a_poll_that_leaves_a_doubt_is_made_once_more() -> None:
    done = {"page": 1, "done": True}
    rig = Rig([page(0, last=True)], [page(0, last=True)], [page(9)])
    memory = rig.flow.memory = Doubting(1)

    rig.flow.poll()

    assert [None, done] == rig.source.begun
    assert [done, done] == memory.kept
    assert 4 == rig.flow.received


def test_a_doubt_is_left_where_the_task_is_to_stop() -> None:
    rig = Rig([page(0, last=True)], [page(9)])
    rig.flow.memory = Doubting(1)
    rig.stop.set()

    rig.flow.poll()

    assert [None] == rig.source.begun


def test_only_a_finished_poll_is_kept() -> None:
    rig = Rig([page(0)])
    memory = rig.flow.memory = Doubting(0)

    rig.flow.poll()

    assert [] == memory.kept


#: A failure of the second page's way: whether what came before it is committed.
COMMITTED = {
    "source": (BadPage("x"), None, True),
    "record": (None, RecordError("x", stage="map"), True),
    "sums": (None, Accounting("x"), False),
    "a bug": (None, ZeroDivisionError("x"), False),
}


@pytest.mark.parametrize("case", COMMITTED)
def test_what_is_committed_when_a_page_fails(case: str) -> None:
    asked, changed, committed = COMMITTED[case]

    def transform(given: Page) -> Parcel:
        if given.index and changed is not None:
            raise changed
        return passed(given)

    rig = Rig([page(0), asked or page(1), page(2)], transform=transform)

    with pytest.raises(type(asked or changed)):
        rig.flow.poll()

    assert ["begin", {"page": 1}, *(["commit"] if committed else [])] == (
        rig.outlet.calls
    )
    assert ({"page": 1}, 2) == (rig.flow.offset, rig.flow.received)


def test_the_pages_are_closed_however_a_poll_ends() -> None:
    class Closing(Pages):
        closed = 0

        def pages(self, offset: Offset | None) -> Iterator[Page]:
            try:
                yield from super().pages(offset)
            finally:
                self.closed += 1

    for end in (page(1), BadPage("x")):
        rig = Rig()
        source = rig.flow._source = Closing([page(0), end, page(2)])
        rig.outlet._failure = None
        if not isinstance(end, EngineError):
            rig.stop.set()
            rig.flow.poll()
        else:
            with pytest.raises(BadPage):
                rig.flow.poll()
        assert 1 == source.closed


def test_a_page_that_brought_nothing_new_counts_as_nothing_received() -> None:
    class Known(Forgetful):
        def judge(self, parcel: Parcel, forget: Callable[[], None]) -> Parcel:
            nothing = replace(parcel.page, records=[], saved=True)
            return Parcel(page=nothing, topic="", values=())

    rig = Rig([page(0, last=True)])
    rig.flow.memory = Known()

    last = rig.flow.poll()

    assert last is not None and last.last
    assert 0 == rig.flow.received
