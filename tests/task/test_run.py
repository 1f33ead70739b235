"""A task's main loop: what a loop's end, a failure and a stop lead to; fakes at the seams."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from engine.errors import (
    Aborted,
    Denied,
    Doubtful,
    EngineError,
    Exit,
    Misconfigured,
    StateError,
    TakenOver,
    Unavailable,
)
from engine.policy import Follows
from engine.records import Shard
from engine.shared.board import Board, Layout
from engine.shared.limiter import RateLimits
from engine.shared.link import (
    Assigned,
    BrokerWaiting,
    Message,
    SetLimits,
    SetPaused,
    ShardFailed,
    ShardFinished,
    TakenOverNotice,
)
from engine.task import run, starting
from engine.task.pulse import Pulse
from engine.task.run import Task, phase_of
from engine.task.shardloop import LoopVerdict

ORDERS, USERS = Shard("shop", "orders"), Shard("shop", "users")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(starting, "LOOK", 0.01)
    monkeypatch.setattr(run, "LOOK", 0.01)
    monkeypatch.setattr(run, "LAST_ANSWERS", 0.0)
    yield
    # A task looks after garbage by itself, for as long as its process lives.
    gc.unfreeze()
    gc.enable()


class Stopper:
    """The process's flag; set after so many waits on it."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.hurried = False

    def is_set(self) -> bool:
        return self.event.is_set()

    def wait(self, seconds: float) -> bool:
        return self.event.wait(seconds)


class Context:
    """A child's; stops once what it waits for was said."""

    number = 0

    def __init__(self, shards: Sequence[Shard], stop_when: str = "") -> None:
        self.slot = Board(Layout(children=1, shards=1)).child(0)
        self.assigned = [Assigned(shard, at) for at, shard in enumerate(shards)]
        self.stopping = Stopper()
        self.beats: list[str] = []
        self.given: list[Message] = []
        self.told: list[Message] = []
        self.readies = 0
        self._stop_when = stop_when

    def beat(self, phase: str = "") -> None:
        self.beats.append(phase)
        if phase == self._stop_when:
            self.stopping.event.set()

    def ready(self) -> None:
        self.readies += 1
        if self._stop_when == "ready":
            self.stopping.event.set()

    def report(self, message: Message) -> bool:
        self.told.append(message)
        return True

    def orders(self) -> list[Message]:
        taken, self.given = self.given, []
        return taken


class Loop:
    """A shard's loop: ends at once with its verdict, or when it is told to stop."""

    def __init__(self, shard: Shard, verdict: LoopVerdict | None):
        self.shard = shard
        self.verdict = verdict or LoopVerdict()
        self.pulse = Pulse(fetch=60.0, work=30.0)
        self.joined: list[float] = []
        self._ends = verdict is not None
        self.ended: Callable[[Any], None] = lambda loop: None
        self.stop: threading.Event | None = None

    def start(self) -> None:
        if self._ends:
            self.ended(self)
        else:
            assert self.stop is not None
            threading.Thread(target=self._until_stopped, daemon=True).start()

    def _until_stopped(self) -> None:
        assert self.stop is not None
        self.stop.wait(20.0)
        self.ended(self)

    def join(self, timeout: float) -> None:
        self.joined.append(timeout)


class Session:
    """What was opened; ticks may fail."""

    def __init__(self, loops: Sequence[Any], done: Sequence[Shard] = ()):
        self.loops: list[Any] = list(loops)
        self.done = list(done)
        self.away = False
        self.adopted: list[RateLimits] = []
        self.paused: list[bool] = []
        self.cuts = self.closes = 0
        self.fails: list[EngineError] = []

    def tick(self, now: float) -> float:
        if self.fails:
            raise self.fails.pop()
        return 1.0

    def adopt(self, limits: RateLimits) -> None:
        self.adopted.append(limits)

    def pause(self, paused: bool) -> None:
        self.paused.append(paused)

    def cut(self) -> None:
        self.cuts += 1

    def close(self, timeout: float) -> None:
        self.closes += 1


class House:
    """A task, and the sessions that it opens one after the other."""

    def __init__(
        self,
        *sessions: Session | EngineError,
        shards: Sequence[Shard] = (ORDERS,),
        once: bool = False,
        stop_when: str = "",
        answers: bool = True,
    ):
        self.context = Context(shards, stop_when)
        self.sessions = list(sessions)
        self.opened: list[Session] = []
        self.settled: list[set[Shard]] = []
        self.waits = 0
        self._answers = answers
        self.task = Task(self.context, self.build, self.wait, once=once)  # type: ignore[arg-type]

    def build(self, *, stop: Any, ended: Any, settled: Any, **_: Any) -> Any:
        self.settled.append(set(settled))
        session = self.sessions.pop(0)
        if isinstance(session, EngineError):
            raise session
        for loop in session.loops:
            loop.stop, loop.ended = stop, ended
        self.opened.append(session)
        return session

    def wait(self) -> bool:
        self.waits += 1
        return self._answers

    def told(self, kind: type) -> list[Any]:
        return [each for each in self.context.told if isinstance(each, kind)]


def failed(
    failure: EngineError, follows: Follows = Follows.SHARD_FAILED
) -> LoopVerdict:
    return LoopVerdict(failure, failure.code, follows)


def test_a_single_run_ends_when_its_shards_are_done() -> None:
    session = Session([Loop(ORDERS, LoopVerdict())], done=[USERS])
    house = House(session, shards=[ORDERS, USERS], once=True)

    assert Exit.OK == house.task.run()

    assert [USERS, ORDERS] == [each.shard for each in house.told(ShardFinished)]
    assert (1, 1) == (house.context.readies, session.closes)


def test_a_task_goes_on_until_it_is_stopped_and_is_closed() -> None:
    session = Session([Loop(ORDERS, None)])
    house = House(session, stop_when="idle")

    assert Exit.OK == house.task.run()

    assert "draining" in house.context.beats
    assert [] == house.context.told
    assert 1 == session.closes


@pytest.mark.parametrize(("once", "code"), [(False, Exit.OK), (True, Exit.DATA)])
def test_a_shard_that_failed_leaves_the_others_alone(once: bool, code: Exit) -> None:
    other = Loop(USERS, LoopVerdict() if once else None)
    session = Session([Loop(ORDERS, failed(Denied("who are you"))), other])
    house = House(session, shards=[ORDERS, USERS], once=once, stop_when="idle")
    if once:
        house.context._stop_when = ""

    assert code == house.task.run()

    [told] = house.told(ShardFailed)
    assert (ORDERS, 0, "Denied: who are you", 65) == (
        told.shard,
        told.slot,
        told.reason,
        told.code,
    )


#: A whole task's failure, in a loop or while it is opened, under --once or not: the
#: exit code, sessions begun, waits for the broker, shards that are FAILED.
TABLE = {
    "doubtful": (Doubtful("x"), "loop", False, 75, 1, 0, 0),
    "doubtful, opening": (Doubtful("x"), "open", False, 75, 1, 0, 0),
    "taken over": (TakenOver("x"), "loop", False, 75, 1, 0, 0),
    "aborted": (Aborted("x"), "loop", True, 0, 2, 0, 0),
    "away": (Unavailable("x"), "loop", False, 0, 2, 1, 0),
    "away, opening": (Unavailable("x"), "open", False, 0, 2, 1, 0),
    "away, once": (Unavailable("x"), "loop", True, 69, 1, 0, 0),
    "away, once, opening": (Unavailable("x"), "open", True, 0, 2, 1, 0),
    "no topic, opening": (Misconfigured("x"), "open", False, 0, 1, 0, 1),
    "no topic, once": (Misconfigured("x"), "open", True, 78, 1, 0, 1),
    "state, opening": (StateError("x"), "open", True, 65, 1, 0, 1),
}


@pytest.mark.parametrize("case", TABLE)
def test_what_a_failure_of_the_whole_task_leads_to(case: str) -> None:
    failure, where, once, code, begun, waits, lost = TABLE[case]
    first: Session | EngineError = failure
    if where == "loop":
        first = Session([Loop(ORDERS, failed(failure, Follows.TASK))])
    second = Session([Loop(ORDERS, LoopVerdict() if once else None)])
    house = House(first, second, once=once)
    if not once and code == Exit.OK:
        # What goes on is stopped once it works, or has told that nothing does.
        house.context._stop_when = "idle" if begun == 2 else "ready"

    assert code == house.task.run()

    assert begun == len(house.settled)
    assert waits == house.waits
    assert lost == len(house.told(ShardFailed))
    assert all(1 == each.closes for each in house.opened)
    assert isinstance(failure, TakenOver) == bool(house.told(TakenOverNotice))
    if waits:
        away, back = house.told(BrokerWaiting)
        assert "x" in away.reason and away.since is not None
        assert back.since is None


def test_a_failure_of_the_delivery_is_the_tasks() -> None:
    session = Session([Loop(ORDERS, None)])
    session.fails.append(Doubtful("a write nobody heard of"))
    house = House(session)

    assert Exit.TRY_AGAIN == house.task.run()
    assert 1 == session.closes


def test_a_broker_that_never_comes_ends_a_single_run_and_fails_no_shard() -> None:
    house = House(Unavailable("away"), once=True, answers=False)

    assert Exit.UNAVAILABLE == house.task.run()
    assert [] == house.told(ShardFailed)


def test_what_is_begun_anew_leaves_out_the_shard_that_was_to_blame() -> None:
    blamed = Loop(ORDERS, failed(Denied("x")))
    other = Loop(USERS, failed(Aborted("x"), Follows.TASK))
    house = House(
        Session([blamed, other]),
        Session([Loop(USERS, LoopVerdict())]),
        shards=[ORDERS, USERS],
        once=True,
    )

    assert Exit.DATA == house.task.run()
    assert [set(), {ORDERS}] == house.settled
    assert [ORDERS] == [each.shard for each in house.told(ShardFailed)]


def test_the_loop_of_a_session_before_ends_nothing() -> None:
    late = Loop(ORDERS, failed(Doubtful("late"), Follows.TASK))
    first = Session([Loop(ORDERS, failed(Aborted("x"), Follows.TASK))])
    house = House(first, Session([Loop(ORDERS, LoopVerdict())]), once=True)
    house.task._ended.append(late)  # type: ignore[arg-type]

    assert Exit.OK == house.task.run()


def test_who_is_asked_twice_to_stop_drops_what_is_in_hand() -> None:
    session = Session([Loop(ORDERS, None)])
    house = House(session, stop_when="idle")
    house.context.stopping.hurried = True

    assert Exit.TRY_AGAIN == house.task.run()
    assert 1 == session.closes


def test_answers_that_a_stop_waits_for_in_vain_are_cut() -> None:
    class Deaf(Loop):
        """Hears of nothing but the cut."""

        def _until_stopped(self) -> None:
            while not session.cuts:
                threading.Event().wait(0.005)
            self.ended(self)

    session = Session([Deaf(ORDERS, None)])
    house = House(session, stop_when="idle")

    assert Exit.OK == house.task.run()
    assert session.cuts


def test_orders_reach_what_is_open() -> None:
    session = Session([Loop(ORDERS, None)])
    house = House(session)
    limits = RateLimits()

    def told(phase: str = "") -> None:
        if phase == "idle" and not house.context.beats.count("idle"):
            house.context.given = [SetLimits(limits), SetPaused(True)]
        Context.beat(house.context, phase)
        if session.paused:
            house.context.stopping.event.set()

    house.context.beat = told  # type: ignore[method-assign]

    assert Exit.OK == house.task.run()
    assert ([limits], [True]) == (session.adopted, session.paused)


def test_it_beats_only_while_its_loops_are_alive() -> None:
    loop = Loop(ORDERS, None)
    loop.pulse._allowed = -1.0
    session = Session([loop])
    house = House(session)
    ticks = []

    def tick(now: float) -> float:
        ticks.append(now)
        if len(ticks) == 20:
            house.context.stopping.event.set()
        return 0.001

    session.tick = tick  # type: ignore[method-assign]

    assert Exit.OK == house.task.run()
    beats = house.context.beats
    assert {"starting"} >= set(beats[: beats.index("draining")])


@pytest.mark.parametrize(
    ("phases", "word"),
    [
        ([], "idle"),
        (["wait"], "idle"),
        (["limit", "wait"], "waiting_limit"),
        (["commit", "limit"], "committing"),
        (["fetch", "commit"], "fetching"),
        (["send", "fetch"], "sending"),
        (["fetch", "work", "send"], "transforming"),
    ],
)
def test_the_busiest_loop_names_the_phase(phases: list[str], word: str) -> None:
    loops = []
    for phase in phases:
        loop = Loop(ORDERS, None)
        loop.pulse.idle(phase)
        loops.append(loop)

    assert word == phase_of(set(loops))  # type: ignore[arg-type]
