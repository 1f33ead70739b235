"""
Policy: what follows from a failure, for a request, a child, a poll and a task.

Owns the table failure x mode -> what is done, and is asked by every loop; `then` of
`engine.errors` is read nowhere else.  It decides and does nothing: who asks waits,
counts, reports and ends by himself.

    asked for     failure                        mode                   follows
    a request     then RETRY                     tries are left and     RETRY
                                                 it may be repeated
                  any other                                             FAILS
    a child       then GIVE_UP, BadPage          tolerant parent        NEXT_CHILD
                  any other                                             FAILS
    a poll        SourceError                    stopping               STOPPED
                  BadPage                        goes on, tolerant      NEXT_POLL
                                                 or borne with
                  SourceError, then RETRY        goes on                NEXT_POLL
                  SourceError but CursorExpired  goes on, tolerant      NEXT_POLL
                  then WAIT, AGAIN or EXIT       else                   TASK
                  any other, and a bug           else                   SHARD_FAILED
    a task        any                            stopping               LEAVES
                  then AGAIN                                            ANEW
                  then WAIT                      goes on, or nothing    WAITS
                                                 was opened yet
                  then WAIT                      once, opened           RUN_ENDS
                  then EXIT                                             TASK_ENDS
                  any other                                             ALL_FAILED

Asked by `source.fetch`, ``source.children``, the loops of a shard and ``task.run``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from engine.errors import BadPage, CursorExpired, EngineError, SourceError, Then


class Follows(Enum):
    """What is done after a failure."""

    #: The same request is sent again, after a pause.
    RETRY = "retry"
    #: It goes up to whoever asked for more than this.
    FAILS = "fails"
    #: This child is left out of the poll, which goes on with the next one.
    NEXT_CHILD = "next child"
    #: The poll is given up, its position kept; the next tick tries again.
    NEXT_POLL = "next poll"
    #: The loop is being stopped: nothing has failed.
    STOPPED = "stopped"
    #: The shard is FAILED, with its reason, until reload, restart or resume.
    SHARD_FAILED = "shard failed"
    #: It is no shard's own: the whole task asks `of_task`.
    TASK = "task"
    #: The task was asked to end, and ends before all was delivered.
    LEAVES = "leaves"
    #: Everything is opened anew in place, from the stored offsets.
    ANEW = "anew"
    #: The task waits in place for the broker; never counted.
    WAITS = "waits"
    #: `run --once` ends: to begin anew would write again what was written.
    RUN_ENDS = "run ends"
    #: The process ends; the supervisor starts it again with back-off.
    TASK_ENDS = "task ends"
    #: Every shard of the task is FAILED: another start would only be refused again.
    ALL_FAILED = "all failed"


def of_request(
    failure: EngineError, *, tried: int, most: int, repeatable: bool
) -> Follows:
    """
    What follows from a try.

    Args:
        tried: Tries so far, this one too.
        most: `max.retries`.
        repeatable: It may be sent again: it is idempotent, or has done nothing.
    """
    again = failure.then is Then.RETRY and tried <= most and repeatable
    return Follows.RETRY if again else Follows.FAILS


def of_child(failure: EngineError, *, tolerant: bool) -> Follows:
    """
    What follows from a failed poll of a child.

    Args:
        tolerant: `behavior.on.error=IGNORE`.  What may go by (an API that is away)
            gives up the whole poll all the same, or the child would be missing.
    """
    lasting = failure.then is Then.GIVE_UP or isinstance(failure, BadPage)
    return Follows.NEXT_CHILD if tolerant and lasting else Follows.FAILS


def of_poll(
    failure: BaseException,
    *,
    once: bool,
    tolerant: bool,
    stopping: bool,
    borne: Callable[[], bool],
) -> Follows:
    """
    What follows from a failed poll of a shard.

    Args:
        once: There is no next poll.
        tolerant: `behavior.on.error=IGNORE`.
        stopping: The loop was asked to end.
        borne: Whether a bad page may still be one that goes by
            (`http.response.bad.page.patience.ms`); asked only where it matters.
    """
    if isinstance(failure, SourceError):
        if stopping:
            return Follows.STOPPED
        if not once and _goes_by(failure, tolerant, borne):
            return Follows.NEXT_POLL
    if isinstance(failure, EngineError) and failure.then in _OF_THE_TASK:
        return Follows.TASK
    return Follows.SHARD_FAILED


def of_task(
    failure: EngineError, *, once: bool, stopping: bool, opened: bool
) -> Follows:
    """
    What follows from a failure of the whole task.

    Args:
        opened: Everything was open once in this process.
    """
    if stopping:
        return Follows.LEAVES
    if failure.then is Then.AGAIN:
        return Follows.ANEW
    if failure.then is Then.WAIT:
        return Follows.RUN_ENDS if once and opened else Follows.WAITS
    return Follows.TASK_ENDS if failure.then is Then.EXIT else Follows.ALL_FAILED


_OF_THE_TASK = (Then.WAIT, Then.AGAIN, Then.EXIT)


def _goes_by(failure: SourceError, tolerant: bool, borne: Callable[[], bool]) -> bool:
    """Whether the next poll may fare better."""
    if isinstance(failure, BadPage):
        return tolerant or borne()
    if failure.then is Then.RETRY:
        return True
    # A dead cursor is dead at the next tick as well.
    return tolerant and not isinstance(failure, CursorExpired)


def doubled(first: float, longest: float, failures: float) -> float:
    """
    The longest rest after so many failures in a row: doubling, up to a bound.

    Who must not come together with others draws from 0 to this (full jitter).

    Args:
        first, longest: Of the rests, in one unit.
        failures: In a row, from 1.
    """
    # 2.0 ** 64 is far beyond every longest rest, and no float is.
    rest: float = min(longest, first * 2.0 ** min(failures - 1, 64))
    return rest
