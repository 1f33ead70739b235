"""
Policy: what follows from a failure, for a request, a walk, a child, a poll and a task.

Owns the table failure x mode -> what is done, and is asked by every loop; `then` of
`engine.errors` is read nowhere else.  It decides and does nothing: who asks waits,
counts, reports and ends by himself.

    asked for     failure                        mode                   follows
    credentials   Denied, a 401, a status that   not renewed for this   RENEWED
                  says that a login has ended    request yet
                  any other                                             FAILS
    a host        no answer, a 5xx               not stopping           HOST_FAILED
                  any other answer               not stopping           HOST_WORKS
                  any other                                             HOST_UNKNOWN
    a request     then RETRY                     tries are left and     RETRY
                                                 it may be repeated
                  any other                                             FAILS
    a walk        StartOver, CursorExpired       not begun anew; the    ANEW
                                                 position may be left
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

Asked by `source.fetch`, `source.poll`, `source.children`, ``task.shardloop`` and
``task.run``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from engine.errors import (
    BadPage,
    CursorExpired,
    Denied,
    EngineError,
    SourceError,
    StartOver,
    Then,
    Unreachable,
)


class Follows(Enum):
    """What is done after a failure."""

    #: The same request is sent again, after a pause.
    RETRY = "retry"
    #: The same request is sent at once, with credentials that were had anew.
    RENEWED = "renewed"
    #: It counts against the host or endpoint, for the host, or says nothing of it.
    HOST_FAILED = "host failed"
    HOST_WORKS = "host works"
    HOST_UNKNOWN = "host unknown"
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
    #: It is begun anew in place: a walk at its first page, a task's everything from
    #: the stored offsets.
    ANEW = "anew"
    #: The task waits in place for the broker; never counted.
    WAITS = "waits"
    #: `run --once` ends: to begin anew would write again what was written.
    RUN_ENDS = "run ends"
    #: The process ends; the supervisor starts it again with back-off.
    TASK_ENDS = "task ends"
    #: Every shard of the task is FAILED: another start would only be refused again.
    ALL_FAILED = "all failed"


def of_credentials(failure: SourceError, *, stale: bool, renewed: bool) -> Follows:
    """
    What follows from an answer for the credentials that it was asked with.

    Args:
        stale: The API says by a status of its own that a login has ended.
        renewed: That was tried for this request.
    """
    refused = stale or isinstance(failure, Denied) or failure.status == 401
    return Follows.RENEWED if refused and not renewed else Follows.FAILS


def of_host(failure: SourceError, *, stopping: bool = False) -> Follows:
    """What a failed request says of the host or endpoint that was asked."""
    if stopping:
        return Follows.HOST_UNKNOWN
    if failure.status is not None:
        return Follows.HOST_FAILED if failure.status >= 500 else Follows.HOST_WORKS
    silent = isinstance(failure, Unreachable)
    return Follows.HOST_FAILED if silent else Follows.HOST_UNKNOWN


def is_passing(failure: EngineError) -> bool:
    """Whether it is a matter of time only."""
    return failure.then is Then.RETRY


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
    again = is_passing(failure) and tried <= most and repeatable
    return Follows.RETRY if again else Follows.FAILS


def of_walk(failure: SourceError, *, begun_anew: bool, may_leave: bool) -> Follows:
    """
    What follows from a failed walk through the pages of a poll.

    Args:
        begun_anew: What is refused once more is refused for good.
        may_leave: A stored position that the API knows no more may be left
            (`pagination.cursor.expired`).
    """
    anew = isinstance(failure, StartOver) or (
        may_leave and isinstance(failure, CursorExpired)
    )
    return Follows.ANEW if anew and not begun_anew else Follows.FAILS


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
    if is_passing(failure):
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
