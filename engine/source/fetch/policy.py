"""
Policy: an answer or a failure becomes: usable, again after so long, or given up.

Owns the rules of `max.retries`, `retry.*` and of what a status means.  Pure: no
clock, no sleep, no I/O; chance is handed in.

Path: `source.fetch` (Retrying), `task.pace` -> here
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from msgspec import Struct

from engine.errors import (
    BadPage,
    Denied,
    SourceError,
    Throttled,
    Unexpected,
    Unreachable,
)
from engine.later import later
from engine.policy import Follows, doubled, of_request
from engine.records import Response
from engine.seams import Demanded
from engine.source.decode.answers import Errors
from engine.source.decode.diagnosis import refusal
from engine.source.wire.origin import shown

if TYPE_CHECKING:
    from email import utils as dates
else:
    dates = later("email.utils")

#: Always retried: the API says itself that it is a matter of time.
PAUSES = frozenset({429, 503})
#: Refused before anything was done: repeated even where a request must not run
#: twice (408 and 425: not read; 429 and 503: not taken on).
UNTOUCHED = frozenset({408, 425, 429, 503})
#: Shortest pause before a repeat, in seconds.
LEAST = 0.05
#: With a Retry-After these say that it is a matter of time (RFC 9110, 15.5.14).
TEMPORARY = frozenset({413})
#: Request headers that ask only for news.
CONDITIONS = ("if-none-match", "if-modified-since")
#: What an answer's headers say when nobody listens to them.
NOTHING = Demanded()


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """
    `max.retries`, `retry.*` and `http.response.status.*`; seconds.

    Attributes:
        max_retries: Tries are one more.
        backoff, backoff_max: First and longest pause.
        exponential: False for a constant one.
        statuses: Retried; 429 and 503 always are.
        process, empty: Answers with a page, answers that mean an empty one.
        idempotent: Whether a try of unknown outcome may be repeated.
        respect: The limiter pauses the host of a 429 or 503 for all tasks, as
            `rate.limit.respect.headers` has it: nothing is waited beside that.
        credentials: Whether the api sends any; what a 401 means hangs on it.
        stale: By which the api says that a login has ended: another one may help.
        errors: How the api says that something is wrong.
    """

    max_retries: int = 5
    backoff: float = 1.0
    backoff_max: float = 60.0
    exponential: bool = True
    statuses: Container[int] = frozenset({408, 425, 429, 500, 502, 503, 504})
    process: Container[int] = frozenset({200, 201, 202, 203, 207})
    empty: Container[int] = frozenset({204, 205})
    idempotent: bool = True
    respect: bool = True
    credentials: bool = True
    stale: Container[int] = frozenset()
    errors: Errors = Errors()


def judge(
    response: Response, policy: RetryPolicy, demanded: Demanded = NOTHING
) -> SourceError | None:
    """
    None if the answer is usable, else the failure it stands for.

    A 304 is usable only to whoever asked with a condition.  Errors in the body of
    a usable answer are found when it is decoded.

    Args:
        demanded: What the answer's headers say about more requests.
    """
    status = response.status
    if status in policy.process or status in policy.empty:
        return None
    if status == 304 and conditional(response):
        return None
    if (ruled := policy.errors.in_refusal(response)) is not None:
        return ruled
    text = refusal(response, policy.errors.message)
    url = shown(response.url)
    if status in PAUSES:
        return Throttled(text, status=status, url=url)
    if status == 403 and (demanded.after is not None or demanded.spent):
        return Throttled(f"{text} (a rate limit)", status=status, url=url)
    if status in policy.stale and status not in policy.statuses:
        return Denied(
            f"{text}; {_denied(response, policy)}", stale=True, status=status, url=url
        )
    if status in policy.statuses or (
        status in TEMPORARY and demanded.after is not None
    ):
        return Unreachable(text, status=status, url=url)
    if status in (401, 403):
        return Denied(f"{text}; {_denied(response, policy)}", status=status, url=url)
    return Unexpected(text, status=status, url=url)


def _denied(response: Response, policy: RetryPolicy) -> str:
    """What a refusal of credentials means to whoever wrote the configuration."""
    names = {name.lower() for name, _ in response.request.headers}
    if not policy.credentials and not names & {"authorization", "cookie"}:
        return (
            "no credentials are configured: set auth.type (BASIC, BEARER, API_KEY, "
            "OAUTH2, LOGIN, DIGEST, AWS_SIGV4) and its keys"
        )
    return "these credentials are refused"


def conditional(response: Response) -> bool:
    """True if the request asked only for news."""
    return any(name.lower() in CONDITIONS for name, _ in response.request.headers)


def reason(failure: SourceError) -> str:
    """Why a request is repeated, in one word of few."""
    if failure.status == 429:
        return "429"
    if failure.status is not None and failure.status >= 500:
        return "5xx"
    if isinstance(failure, BadPage):
        return "bad_page"
    return "unanswered" if failure.status is None else "other"


def pause(
    failure: SourceError,
    tried: int,
    policy: RetryPolicy,
    draw: Callable[[float, float], float],
) -> float | None:
    """
    How long to wait before the same request is sent again.

    Args:
        failure: Why the last try is of no use.
        tried: Tries so far, from 1.
        draw: Uniform random number between two bounds.

    Returns: Seconds, or None: give up.  0.0 where the limiter knows when.
    """
    follows = of_request(
        failure,
        tried=tried,
        most=policy.max_retries,
        repeatable=policy.idempotent or harmless(failure),
    )
    if follows is not Follows.RETRY:
        return None
    if policy.respect and (failure.paused or failure.status in PAUSES):
        return 0.0
    return backoff(tried, policy, draw)


def backoff(
    failed: int, policy: RetryPolicy, draw: Callable[[float, float], float]
) -> float:
    """
    Seconds of rest after so many failures in a row, from 1, as `retry.*` has it.

    Source: full jitter.
    """
    if not policy.exponential:
        return policy.backoff
    return max(LEAST, draw(0.0, doubled(policy.backoff, policy.backoff_max, failed)))


def harmless(failure: SourceError) -> bool:
    """True if the request surely had no effect."""
    if isinstance(failure, BadPage):
        return False
    if isinstance(failure, Throttled):
        return True
    if failure.status is not None:
        return failure.status in UNTOUCHED
    return isinstance(failure, Unreachable) and not failure.sent


def epoch_of(text: str | None) -> float | None:
    """Seconds since 1970 of an HTTP-date (RFC 9110, 5.6.7); None for any other text."""
    try:
        return dates.parsedate_to_datetime(text or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
