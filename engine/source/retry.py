"""
Retry: an answer or a failure becomes: usable, again after so long, or given up.

Owns the rules of `max.retries`, `retry.*` and of what a status means.  Pure: no
clock, no sleep, no I/O; chance is handed in.

Path: `source.fetch` (Retrying), `source.pace` -> here
"""

from __future__ import annotations

from collections.abc import Callable, Container
from email.utils import parsedate_to_datetime

from msgspec import Struct

from engine.errors import (
    BadPage,
    Denied,
    SourceError,
    Then,
    Throttled,
    Unexpected,
    Unreachable,
)
from engine.observe.redact import REDACTOR
from engine.records import Response
from engine.source.origin import shown

#: Always retried: the API says itself that it is a matter of time.
PAUSES = frozenset({429, 503})
#: Refused before anything was done: repeated even where a request must not run
#: twice (408 and 425: not read; 429 and 503: not taken on).
UNTOUCHED = frozenset({408, 425, 429, 503})
#: Shortest pause before a repeat, in seconds.
LEAST = 0.05
#: Characters of a refusal's body that are shown.
SNIPPET = 200


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


def judge(response: Response, policy: RetryPolicy) -> SourceError | None:
    """
    None if the answer is usable, else the failure it stands for.

    A 304 is usable only to whoever asked with a condition.
    """
    status = response.status
    if status in policy.process or status in policy.empty:
        return None
    if status == 304 and conditional(response):
        return None
    url = shown(response.url)
    if status in (401, 403):
        return Denied(
            f"{url} answers {status}: these credentials are refused",
            status=status,
            url=url,
        )
    if status in PAUSES:
        return Throttled(f"{url} answers {status}", status=status, url=url)
    if status in policy.statuses:
        return Unreachable(f"{url} answers {status}", status=status, url=url)
    return Unexpected(
        f"{url} answers {status}: {snippet(response)}", status=status, url=url
    )


def conditional(response: Response) -> bool:
    """True if the request asked only for news."""
    return any(
        name.lower() in ("if-none-match", "if-modified-since")
        for name, _ in response.request.headers
    )


def snippet(response: Response) -> str:
    """The beginning of a body for people, secrets cut, on one line."""
    # Cut after the secrets are: half of one is not recognised.
    text = bytes(response.body[: 16 * SNIPPET]).decode("utf-8", "replace")
    return " ".join(REDACTOR.redact(text).split())[:SNIPPET] or "(no body)"


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
    if failure.then is not Then.RETRY or tried > policy.max_retries:
        return None
    if not policy.idempotent and not harmless(failure):
        return None
    if isinstance(failure, Throttled) and policy.respect:
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
    # 2.0 ** 64 is far beyond every longest pause, and no float is.
    highest = min(policy.backoff_max, policy.backoff * 2.0 ** min(failed - 1, 64))
    return max(LEAST, draw(0.0, highest))


def harmless(failure: SourceError) -> bool:
    """True if the request surely had no effect."""
    if isinstance(failure, BadPage):
        return False
    if failure.status is not None:
        return failure.status in UNTOUCHED
    return isinstance(failure, Unreachable) and not failure.sent


def epoch_of(text: str | None) -> float | None:
    """Seconds since 1970 of an HTTP-date (RFC 9110, 5.6.7); None for any other text."""
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
