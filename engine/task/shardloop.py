"""
Shard loop: one shard's loop inside a task.

Owns when a shard polls and what follows from a failed poll.  Each shard has a
thread of its own, so that a slow api never delays another one in the same
task; what they share is the producer, the connections and this process.

Path: ``task.run`` starts it -> here -> ``task.flow``
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from typing import Protocol

from engine.clock import SYSTEM
from engine.errors import (
    EngineError,
    Exit,
    Unexpected,
)
from engine.observe.failures import FailureLog
from engine.policy import Follows, of_poll
from engine.records import Page, Shard
from engine.seams import Stopping
from engine.task.flow import Flow
from engine.task.pause import Gate
from engine.task.pulse import Pulse

log = logging.getLogger("task")


class Pace(Protocol):
    """Says when the next poll is due."""

    def due(self) -> float:
        """Seconds until the next poll may start, 0.0 now."""

    def next_ms(self) -> int:
        """Wall milliseconds at which the next poll may start."""

    def started(self) -> None:
        """A poll starts."""

    def ended(
        self,
        *,
        records: int,
        failed: bool = False,
        fresh: int = 0,
        age: float | None = None,
    ) -> None:
        """As `task.pace.Interval`."""


class LoopVerdict:
    """
    How a loop ended.

    Attributes:
        failure: Why, or None: stopped, or done under `--once`.
        code: The exit code that follows under `--once`.
        follows: SHARD_FAILED or TASK where something failed; None for what ends a
            run of one poll that was as good as it could be.
    """

    __slots__ = ("code", "failure", "follows")

    def __init__(
        self,
        failure: BaseException | None = None,
        code: Exit = Exit.OK,
        follows: Follows | None = None,
    ):
        self.failure = failure
        self.code = code
        self.follows = follows


class ShardLoop(threading.Thread):
    """
    Polls one shard until stopping, or once.

    Args:
        flow: The shard's path.
        pace: When to poll.
        patient: True for `behavior.on.error=IGNORE`: a permanent failure
            gives up the poll and not the shard.
        patience: `http.response.bad.page.patience.ms` in seconds: for so long bad
            pages give up polls and not the shard.
        once: End after one poll.
        polling: Told when a poll begins, and when one is over that has no last
            page to tell it: given up, or without a page.
        given_up: Told why a poll was given up where the next one tries again.
        succeeded: Told that a poll has ended well, whatever it brought.
        failures: Told of each poll that was given up, the last one too.
        ended: Called in this thread when it ends.
        gate: Closed while the connector is paused; None: it never is.
    """

    def __init__(
        self,
        flow: Flow,
        *,
        pace: Pace,
        patient: bool,
        patience: float = 0.0,
        once: bool,
        pulse: Pulse,
        stopping: Stopping,
        polling: Callable[[bool], None],
        given_up: Callable[[Exception], None],
        succeeded: Callable[[], None],
        failures: FailureLog,
        ended: Callable[[ShardLoop], None],
        gate: Gate | None = None,
    ):
        super().__init__(name=f"shard-{flow.shard.label}", daemon=True)
        self.flow = flow
        self.pulse = pulse
        self.verdict = LoopVerdict()
        #: Monotonic seconds of the tick that is waited for; None while polling.
        self.due_at: float | None = None
        #: Wall milliseconds of the next poll; 0 while polling, and once ended.
        self.next_ms = 0
        self._pace = pace
        self._patient = patient
        self._patience = patience
        #: Monotonic seconds of the first of the bad pages that no good poll followed.
        self._bad_since: float | None = None
        self._once = once
        self._stopping = stopping
        self._polling = polling
        self._given_up = given_up
        self._succeeded = succeeded
        self._failures = failures
        self._ended = ended
        self._gate = gate if gate is not None else Gate()

    @property
    def shard(self) -> Shard:
        return self.flow.shard

    def run(self) -> None:
        """Poll, wait, poll; never raises, the verdict says how it went."""
        try:
            self.verdict = self._walk()
            failure = self.verdict.failure
            if failure is not None and self.verdict.follows is Follows.SHARD_FAILED:
                self._failures.given_up(failure)
        except Exception as error:  # noqa: BLE001 - the wall of this thread
            log.error(
                "%s: %s: %s (a bug of ours, please report it)",
                self.shard.label,
                type(error).__name__,
                error,
            )
            log.debug("%s", traceback.format_exc())
            self.verdict = LoopVerdict(error, Exit.BUG, Follows.SHARD_FAILED)
            self._failures.given_up(error)
        finally:
            self.next_ms = 0
            self.pulse.idle("ended")
            self._ended(self)

    def _walk(self) -> LoopVerdict:
        while not self._stopping.is_set():
            # Under `--once` whoever started it is the schedule.
            wait = 0.0 if self._once else self._pace.due()
            if wait > 0:
                self.due_at = SYSTEM.monotonic() + wait
                self.next_ms = self._pace.next_ms()
                self._stopping.wait(wait)
                continue
            self.due_at = None
            self.next_ms = 0
            if self._gate.closed:
                self._gate.wait(self._stopping)
                continue
            self._pace.started()
            self._polling(True)
            log.debug("%s: a poll begins.", self.shard.label)
            try:
                page = self.flow.poll()
            except EngineError as failure:
                follows = self._follows(failure)
                if follows is Follows.STOPPED:
                    return LoopVerdict()
                if follows is not Follows.NEXT_POLL:
                    return LoopVerdict(failure, failure.code, follows)
                self._given_up(failure)
                self._polling(False)
                self._pace.ended(records=self.flow.received, failed=True)
                wait = (self._pace.next_ms() - SYSTEM.wall_ms()) / 1000
                self._failures.given_up(failure, max(wait, 0.0))
                continue
            self._bad_since = None
            over = page is None and not self._stopping.is_set()
            if over:
                self._polling(False)
            if over or (page is not None and (page.last or page.truncated)):
                self._succeeded()
                self._recovered()
            log.debug(
                "%s: it received %d records.", self.shard.label, self.flow.received
            )
            flow = self.flow
            self._pace.ended(records=flow.received, fresh=flow.fresh, age=flow.age)
            if self._once:
                return self._once_over(page)
        return LoopVerdict()

    def _recovered(self) -> None:
        """A poll has ended well; after others that did not, that is news."""
        failed = self._failures.succeeded()
        if failed is not None and failed.polls:
            log.info(
                "%s: works again after %d failed tries in %.0f s.",
                self.shard.label,
                failed.count,
                (failed.over_ms - failed.since_ms) / 1000,
            )

    def _follows(self, failure: EngineError) -> Follows:
        return of_poll(
            failure,
            once=self._once,
            tolerant=self._patient,
            stopping=self._stopping.is_set(),
            borne=self._bears_with,
        )

    def _bears_with(self) -> bool:
        """
        True while a bad page may be a maintenance page that goes by.

        One that stays for `patience` is what the API answers now.
        """
        now = SYSTEM.monotonic()
        if self._bad_since is None and self._patience > 0:
            self._bad_since = now
            log.warning(
                "%s: a bad page; polls are tried again for %.0f s before the shard is "
                "FAILED (http.response.bad.page.patience.ms).",
                self.shard.label,
                self._patience,
            )
        return self._bad_since is not None and now - self._bad_since < self._patience

    def _once_over(self, page: Page | None) -> LoopVerdict:
        if self._stopping.is_set() and (page is None or not page.last):
            return LoopVerdict()
        if page is not None and page.truncated:
            cut = Unexpected(
                "the poll was cut by pagination.max.pages before the end of data; "
                "run again to go on from here"
            )
            return LoopVerdict(cut, Exit.TRY_AGAIN)
        if page is not None and page.unread:
            return LoopVerdict(
                Unexpected(f"not all was read: {page.unread}"), Exit.DATA
            )
        return LoopVerdict()
