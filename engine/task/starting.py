"""
Starting: the long steps of a task's start, while it beats and can be stopped.

Owns the thread that opens everything and the main loop's wait for it.  Each step
says what it is and how far; a step that says nothing for too long is no longer
vouched for, and the supervisor ends the task.

Path: `task.run` -> here -> `build.wiring` builds, and tells a `Start`
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from engine.clock import SYSTEM, Clock
from engine.shared.board import ChildSlot
from engine.shared.link import Message
from engine.task.troubles import Troubles

log = logging.getLogger("task")

#: Seconds between two looks at the thread.
LOOK = 0.25

#: Seconds for which a step may say nothing: longer than any wait for a broker
#: that has an end of its own.
PATIENCE = 300.0

#: Seconds a stop gives the thread to notice it.
NOTICING = 1.0

#: Of how many a step's progress is said in the log at once, and every how many
#: seconds of any.
MANY = 50_000
SAID_EVERY = 5.0

Made = TypeVar("Made")


class StartCancelled(Exception):
    """The task is to end before it has begun."""


class StartContext(Protocol):
    """What is needed of a child's context."""

    slot: ChildSlot

    def beat(self, phase: str = "") -> None: ...

    def orders(self) -> list[Message]: ...

    def report(self, message: Message) -> bool: ...


class Start:
    """
    How far a start is; told by the thread that opens things.

    Args:
        slot: The task's place on the board, where others see it.
    """

    def __init__(self, slot: ChildSlot, clock: Clock = SYSTEM):
        self._slot = slot
        self._clock = clock
        # Set by the main thread, seen by the one that opens things at its next word: a thread
        # cannot be ended from outside, and one that hangs is left behind.
        self._cut = threading.Event()
        self._moved = clock.monotonic()
        self._say_at = float("inf")
        self._said = -1
        self.phase = "starting"
        #: What keeps it from going on, for people, or "".
        self.trouble = ""

    def step(self, phase: str) -> None:
        """
        A step begins, one of `board.PHASES`.

        Raises: Cut if the task is to end.
        """
        self.phase, self.trouble = phase, ""
        self._say_at = self._clock.monotonic() + SAID_EVERY
        self.progress(0, 0)

    def progress(self, done: int, total: int) -> None:
        """
        Say how much of the step is done; 0 of 0 where it has no number.

        Raises: Cut if the task is to end.
        """
        if self._cut.is_set():
            raise StartCancelled
        now = self._clock.monotonic()
        self._moved = now
        self._slot.put("step_total", total)
        self._slot.put("step_done", done)
        end = total >= MANY and done in (0, total) and done != self._said
        if total and (end or now >= self._say_at):
            self._said, self._say_at = done, now + SAID_EVERY
            log.info("Starting: %s: %s of %s.", words(self.phase), *_read(done, total))

    def wait(self, seconds: float, trouble: str) -> None:
        """
        Wait for something that people have to mend.

        Raises: Cut if the task is to end.
        """
        self.trouble = trouble
        self._cut.wait(seconds)
        self.progress(0, 0)

    def cut(self) -> None:
        """The task is to end: the next word of the thread is its last."""
        self._cut.set()

    @property
    def alive(self) -> bool:
        """False if the step has said nothing for too long."""
        return self._clock.monotonic() - self._moved <= PATIENCE


class Building(Generic[Made]):
    """
    Something that is being opened in a thread.

    Args:
        context: Who beats meanwhile.
        open: Opens it, and tells how far it is.
    """

    def __init__(self, context: StartContext, open: Callable[[Start], Made]):
        self._context = context
        self._open = open
        self._start = Start(context.slot)
        self._troubles = Troubles(context.report)
        # Set last by the thread that opens: whoever sees it set may read `_made` and `_failure`,
        # which nobody writes any more.
        self._ended = threading.Event()
        self._made: list[Made] = []
        self._failure: BaseException | None = None

    def run(self, stopping: Callable[[], bool]) -> tuple[Made, list[Message]]:
        """
        Have it opened in the thread, and beat until it is.

        Returns: it, and the orders that came meanwhile.
        Raises: Cut once stopping; what the opening raised.
        Blocks: until it is open; beats, and tells the board how far it is.
        """
        orders: list[Message] = []
        start, clock = self._start, SYSTEM
        thread = threading.Thread(target=self._work, name="start", daemon=True)
        thread.start()
        while not self._ended.wait(LOOK):
            orders += self._context.orders()
            if start.alive:
                self._context.beat(start.phase)
            self._troubles.look("start", start.trouble, clock.monotonic())
            if stopping():
                start.cut()
                self._ended.wait(NOTICING)
                break
        self._troubles.look("start", "", clock.monotonic())
        self._context.slot.put("step_total", 0)
        if self._made and self._ended.is_set():
            return self._made[0], orders
        if self._failure is not None:
            raise self._failure
        raise StartCancelled

    def _work(self) -> None:
        try:
            self._made.append(self._open(self._start))
        except BaseException as failure:  # noqa: BLE001 - raised by who waits
            self._failure = failure
        finally:
            self._ended.set()


def words(phase: str) -> str:
    """A phase for people."""
    return phase.replace("_", " ")


def _read(done: int, total: int) -> tuple[str, str]:
    return f"{done:,}", f"{total:,}"
