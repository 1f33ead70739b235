"""
Run: the main loop of a task process.

Owns the loops of the shards it was given, what is done about a failure of the
whole task, as `engine.policy` says, and the way through a broker's absence:
everything that was built is dropped, the task waits in place, and begins again
from the stored offsets.  Beats only while every loop in it is alive.

Path: the supervisor forks -> here -> ``task.build`` -> ``task.shardloop``
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from engine.clock import SYSTEM, Clock
from engine.errors import Doubtful, EngineError, Exit, SinkError, TakenOver
from engine.observe.redact import redact
from engine.policy import Follows, of_task
from engine.records import Shard
from engine.shared import link
from engine.shared.board import Board, ChildSlot
from engine.shared.limiter import RateLimits
from engine.shared.link import (
    Assigned,
    BrokerWaiting,
    Message,
    SetLimits,
    SetPaused,
    ShardFailed,
    ShardFinished,
)
from engine.task import garbage
from engine.task.shardloop import ShardLoop
from engine.task.starting import Building, Start, StartCancelled

log = logging.getLogger("task")

#: Seconds between two looks at everything, at most.
LOOK = 0.5

#: The board's word for a task whose broker is away.
AWAY = "waiting_broker"

#: Seconds a closed producer may take to let go of its thread.
CLOSING = 3.0

#: Seconds a stop waits for the answers under way; what came is delivered, what
#: did not is asked for again by the next start.
LAST_ANSWERS = 2.0

#: Seconds `run --once` waits for a broker before it gives up.
ONCE_PATIENCE = 30.0


class TaskContext(Protocol):
    """What the supervisor gives a child; `supervisor.child.ChildContext`."""

    number: int
    slot: ChildSlot

    @property
    def assigned(self) -> Sequence[Assigned]: ...

    @property
    def stopping(self) -> TaskStopper: ...

    def beat(self, phase: str = "") -> None: ...

    def ready(self) -> None: ...

    def report(self, message: Message) -> bool: ...

    def orders(self) -> list[Message]: ...


class BuildContext(TaskContext, Protocol):
    """What building a task needs of the child's context beside that."""

    board: Board
    index: int
    runtime: Path


class TaskStopper(Protocol):
    """The process's own flag."""

    def is_set(self) -> bool: ...

    @property
    def hurried(self) -> bool: ...

    def wait(self, seconds: float) -> bool: ...


class OpenedTask(Protocol):
    """
    Everything a task has opened; `build.wiring` makes it.

    Attributes:
        loops: One for each shard that has something to do.
        away: True while the broker leaves unanswered what was sent to it.
        done: Shards with nothing to do under `run --once`.
    """

    loops: list[ShardLoop]
    done: list[Shard]

    @property
    def away(self) -> bool: ...

    def tick(self, now: float) -> float:
        """What is due now; seconds until it wants to be called again."""

    def adopt(self, limits: RateLimits) -> None:
        """Ask no more than these allow, from now on and after an absence."""

    def pause(self, paused: bool) -> None:
        """Begin no poll and send no request from now on, or go on."""

    def cut(self) -> None:
        """End the requests under way: a stop waits for them no longer."""

    def close(self, timeout: float) -> None:
        """Let go of everything; never raises, at most `timeout` seconds."""


class Build(Protocol):
    """Opens everything, from the stored offsets on."""

    def __call__(
        self,
        *,
        stop: threading.Event,
        ended: Callable[[ShardLoop], None],
        settled: set[Shard],
        start: Start,
    ) -> OpenedTask:
        """
        In a thread of its own, so that the task beats meanwhile.

        Args:
            stop: Set when the loops are to end.
            ended: To be called by a loop that ends.
            settled: Shards that are done or FAILED and get no loop.
            start: Told how far it is; raises where the task is to end.
        """


class Task:
    """
    One task process, from its entry to its exit code.

    Args:
        context: Who it is and how it is told to end.
        build: Opens everything, from the stored offsets on.
        wait_for_broker: Blocks until the broker answers or stopping; see
            `sink.kafka.wait_for_broker`.
        once: Each shard polls once.
    """

    def __init__(
        self,
        context: TaskContext,
        build: Build,
        wait_for_broker: Callable[[], bool],
        *,
        once: bool,
        clock: Clock = SYSTEM,
    ):
        self._context = context
        self._build = build
        self._wait_for_broker = wait_for_broker
        self._once = once
        self._clock = clock
        # Set by a shard's thread as its loop ends. The main loop clears it before it looks: what
        # comes during a look ends the next wait at once.
        self._wake = threading.Event()
        self._ended: list[ShardLoop] = []
        #: Shards that are done or FAILED: a new session leaves them alone.
        self.settled: set[Shard] = set()
        self._slots = {each.shard: each.slot for each in context.assigned}
        self._worst = Exit.OK
        self._away_since: float | None = None
        #: True once everything was open.
        self._opened = False

    def run(self) -> Exit:
        """
        Poll the shards until stopping, or once.

        Returns: the process's exit code.
        Blocks: for the life of the task.
        """
        garbage.begin()
        while True:
            try:
                failure = self._session()
            except StartCancelled:
                # Nothing was in hand yet.
                return self._worst
            except EngineError as error:
                failure = error
            if failure is None:
                return self._worst
            follows = of_task(
                failure,
                once=self._once,
                stopping=self._context.stopping.is_set(),
                opened=self._opened,
            )
            if follows is Follows.LEAVES:
                return self._leaving(failure)
            if follows is Follows.ANEW:
                log.warning("Beginning anew: %s", redact(str(failure)))
                if self._context.stopping.wait(LOOK):
                    return self._leaving(failure)
                continue
            if follows in (Follows.TASK_ENDS, Follows.ALL_FAILED):
                return self._give_up_all(failure, follows)
            if follows is Follows.RUN_ENDS:
                # A single run does not begin anew: what it has asked for would
                # be asked for again, and what was written, written again.
                log.error("The broker was waited for in vain: %s", redact(str(failure)))
                return Exit.UNAVAILABLE
            if not self._wait(failure):
                return self._worst

    # -- one session: from opening everything to closing it ---------------------

    def _session(self) -> EngineError | None:
        """
        Open everything, run the loops, close everything.

        Returns: what ended it, None if there is nothing left to do.
        """
        # One for each session, so that a session which is being closed cannot end the loops of
        # the one behind it.
        stop = threading.Event()
        building = Building(
            self._context,
            lambda start: self._build(
                stop=stop,
                ended=self._loop_ended,
                settled=self.settled,
                start=start,
            ),
        )
        wired, orders = building.run(self._context.stopping.is_set)
        try:
            # What was opened lives as long as the session: no collection need look at it.
            garbage.freeze()
            # Orders that came while it was opened, before the first request goes out by limits
            # that hold no longer.
            self._obey(wired, orders)
            running = set(wired.loops)
            for shard in wired.done:
                self._settle(shard, Exit.OK)
                self._context.report(ShardFinished(shard, self._slots[shard]))
            for loop in wired.loops:
                loop.start()
            self._context.ready()
            self._opened = True
            self._broker_is_back()
            return self._watch(wired, running, stop)
        finally:
            # The loops are told first: one that still polls would hand pages over to a
            # delivery that is closing.
            stop.set()
            wired.close(CLOSING)

    def _watch(
        self, wired: OpenedTask, running: set[ShardLoop], stop: threading.Event
    ) -> EngineError | None:
        context = self._context
        beaten = 0.0
        cut_at = float("inf")
        failure: EngineError | None = None
        while True:
            # Cleared before anything is looked at: what happens from here on
            # wakes the wait below.
            self._wake.clear()
            now = self._clock.monotonic()
            due = LOOK
            try:
                due = min(due, wired.tick(now))
            except SinkError as error:
                failure = failure or error
            while self._ended:
                loop = self._ended.pop()
                if loop not in running:
                    # Of the session before: it ended with what that was closed for,
                    # and would end this one for the same, and so on.
                    continue
                running.discard(loop)
                # Each is judged: a shard's own failure is its own beside a task's.
                judged = self._judge(loop)
                failure = failure or judged
            if failure is not None:
                follows = of_task(failure, once=self._once, stopping=False, opened=True)
                if follows is Follows.ANEW:
                    self._let_end(running, stop)
                return failure
            if now - beaten >= LOOK and all(w.pulse.alive(now) for w in running):
                beaten = now
                context.beat(AWAY if wired.away else phase_of(running))
            if context.stopping.is_set() and not stop.is_set():
                context.beat("draining")
                stop.set()
                cut_at = now + LAST_ANSWERS
            if now >= cut_at:
                wired.cut()
            if not running and (self._once or stop.is_set()):
                return None
            if context.stopping.hurried:
                # Pages in hand are dropped whole: the state does not know them.
                return Doubtful("asked again to stop; pages in hand were dropped")
            self._obey(wired, context.orders())
            garbage.between_pages()
            self._wake.wait(due)

    def _let_end(self, running: set[ShardLoop], stop: threading.Event) -> None:
        """
        The shard that is to blame has failed, and is not begun anew with the others.

        Blocks: at most `CLOSING` seconds.
        """
        stop.set()
        deadline = self._clock.monotonic() + CLOSING
        for loop in list(running):
            # One deadline for all of them: joined one after the other each would have the time
            # anew, and the supervisor's grace is for the task.
            loop.join(max(deadline - self._clock.monotonic(), 0.0))
        while self._ended:
            loop = self._ended.pop()
            if loop in running:
                self._judge(loop)

    def _obey(self, wired: OpenedTask, orders: Sequence[Message]) -> None:
        for order in orders:
            if isinstance(order, SetLimits):
                wired.adopt(order.limits)
            elif isinstance(order, SetPaused):
                wired.pause(order.paused)

    def _loop_ended(self, loop: ShardLoop) -> None:
        """Called in the loop's thread."""
        self._ended.append(loop)
        self._wake.set()

    # -- what is done about a failure ------------------------------------------------

    def _judge(self, loop: ShardLoop) -> EngineError | None:
        """
        What a loop's end means.

        Returns: the failure if it is the whole task's, None if it is only the
        shard's or none.
        """
        verdict, shard = loop.verdict, loop.shard
        failure = verdict.failure
        if failure is None:
            if self._once and not self._context.stopping.is_set():
                self._settle(shard, Exit.OK)
                self._context.report(ShardFinished(shard, self._slots[shard]))
            return None
        if isinstance(failure, EngineError) and verdict.follows is Follows.TASK:
            return failure
        self._fail(shard, failure, verdict.code)
        return None

    def _fail(self, shard: Shard, failure: BaseException, code: Exit) -> None:
        reason = redact(f"{type(failure).__name__}: {failure}")
        # The supervisor says it to people, once for each report.
        self._settle(shard, code)
        slot = self._slots[shard]
        self._context.report(ShardFailed(shard, slot, reason, int(code)))

    def _settle(self, shard: Shard, code: Exit) -> None:
        self.settled.add(shard)
        # A shard that has failed was told when it did: a task that drains later
        # because it is asked to has ended well.  A run of one poll has not.
        if self._once and code is not Exit.OK and self._worst is Exit.OK:
            self._worst = code

    def _give_up_all(self, failure: EngineError, follows: Follows) -> Exit:
        """A failure of the whole task that waiting in place does not heal."""
        text = redact(str(failure))
        if isinstance(failure, TakenOver):
            self._context.report(link.TakenOverNotice(text))
        if follows is Follows.TASK_ENDS:
            log.error("The task ends: %s", text)
            return failure.code
        # The broker's or the state's own refusal: every shard has failed, and
        # starting again at once would only be refused again.
        for each in self._context.assigned:
            if each.shard not in self.settled:
                self._fail(each.shard, failure, failure.code)
        if self._once:
            return self._worst
        self._context.ready()
        while not self._context.stopping.wait(LOOK):
            self._context.orders()
        return Exit.OK

    def _leaving(self, failure: EngineError) -> Exit:
        log.warning("Stopped before all was delivered: %s", redact(str(failure)))
        return Exit.TRY_AGAIN

    # -- the broker is away ------------------------------------------------------

    def _wait(self, failure: EngineError) -> bool:
        """
        Wait in place until the broker answers.

        Returns: False if the task is to end instead.
        """
        reason = redact(str(failure))
        log.warning("Waiting for the broker: %s", reason)
        now = self._clock.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._context.report(BrokerWaiting(now, reason))
        self._context.beat(AWAY)
        if not self._wait_for_broker():
            if self._once and not self._context.stopping.is_set():
                # No shard has failed: the next run goes on where this one stands.
                log.error("The broker was not reached: %s", reason)
                self._worst = Exit.UNAVAILABLE
            return False
        # It answers, but what failed may fail again: not in a tight circle.
        return not self._context.stopping.wait(LOOK)

    def _broker_is_back(self) -> None:
        if self._away_since is not None:
            away = self._clock.monotonic() - self._away_since
            log.warning("Going on from the stored offsets after %.0f s.", away)
            self._away_since = None
            self._context.report(BrokerWaiting(None))


def phase_of(running: set[ShardLoop]) -> str:
    """What the task is at, in the board's word: the busiest of its loops."""
    phases = {loop.pulse.phase for loop in running}
    for phase, word in (
        ("work", "transforming"),
        ("send", "sending"),
        ("fetch", "fetching"),
        ("commit", "committing"),
        ("limit", "waiting_limit"),
    ):
        if phase in phases:
            return word
    return "idle"


class TimedStopping:
    """
    A stopping that gives in after a while: for `run --once`.

    It is `engine.seams.Stopping` around the process's own.
    """

    def __init__(self, stopping: TaskStopper, patience: float, clock: Clock = SYSTEM):
        self._stopping = stopping
        self._clock = clock
        self._until = clock.monotonic() + patience

    @property
    def hurried(self) -> bool:
        return self._stopping.hurried

    def is_set(self) -> bool:
        return self._stopping.is_set() or self._clock.monotonic() >= self._until

    def wait(self, seconds: float) -> bool:
        self._stopping.wait(seconds)
        return self.is_set()
