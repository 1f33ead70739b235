"""
Fetch: the skins around one request, each with the same verb.

Outermost first, and the order is the policy:

    Cached (not here: answers without asking, costs nothing)
    Guarded    an open breaker costs no request
    Retrying   a page is whole and decodable, or asked for again
    Balanced   (source.balance) which endpoint
    Limited    every try costs a token
    Http       (source.http) one request, one complete answer

Owns waiting, which `stopping` cuts.  Knows no socket and no process.

Path: `source.poll` (Request) -> here -> `source.http` -> Response
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from engine.clock import SYSTEM, Clock
from engine.errors import (
    CircuitOpen,
    Denied,
    SourceError,
    Then,
    Throttled,
    Unreachable,
)
from engine.observe.failures import FailureLog
from engine.observe.meters import Stage
from engine.records import Request, Response
from engine.seams import Breaker, Demanded, Fetch, Limiter, Stopping
from engine.source.answers import Emptied
from engine.source.origin import host_of
from engine.source.pool import HttpCounters
from engine.source.retry import NOTHING, PAUSES, RetryPolicy, judge, pause, reason
from engine.source.waits import Waits

log = logging.getLogger("http")


class Turnstile:
    """
    Lets one request through for each token; shared by all skins of an api.

    Args:
        limiter: Answers seconds.
        stopping: The only way to wait.
        api: The api's name.
        waits: Told how long a request waited, and for what.
        stage: Told how long "limiter" took, or None.
    """

    def __init__(
        self,
        limiter: Limiter,
        *,
        stopping: Stopping,
        api: str,
        waits: Waits,
        stage: Stage | None = None,
        clock: Clock = SYSTEM,
    ):
        self._stage = stage
        self._limiter = limiter
        self._stopping = stopping
        self._api = api
        self._waits = waits
        self._clock = clock

    def admit(self, host: str) -> float:
        """
        Take a token and wait until it is good; seconds waited.

        Raises: Unreachable once stopping.
        Blocks: as long as the limiter says; stopping cuts it.
        """
        waited = 0.0
        limiter = self._limiter
        wait = limiter.reserve(host, self._api)
        while wait > 0.0:
            cause, began = limiter.cause, self._clock.monotonic()
            self._waits.holding(cause, began + wait)
            stopped = self._stopping.wait(wait)
            ended = self._clock.monotonic()
            self._waits.add(cause, began, ended)
            if stopped:
                raise Unreachable("stopping", sent=False)
            waited += ended - began
            wait = limiter.recheck(host)
        if self._stage is not None:
            self._stage("limiter", waited)
        return waited

    def observe(self, host: str, response: Response) -> None:
        """Let the limiter learn from an answer."""
        headers = list(response.headers)
        self._limiter.observe(host, self._api, response.status, headers)

    def demanded(self, response: Response) -> Demanded:
        """What the headers of a refusal ask for."""
        return self._limiter.demanded(list(response.headers), response.received_ms)

    def throttle(self, response: Response, *, limited: bool) -> None:
        """
        Pause the host for all tasks, though the answer's status did not say so.

        Args:
            limited: True for a rate limit, False for a Retry-After alone.
        """
        headers = list(response.headers)
        status = 429 if limited else 503
        self._limiter.observe(host_of(response.url), self._api, status, headers)


class Limited:
    """A fetch of which every call costs one token."""

    def __init__(self, inner: Fetch, turnstile: Turnstile):
        self._inner = inner
        self._turnstile = turnstile

    def __call__(self, request: Request) -> Response:
        host = host_of(request.url)
        self._turnstile.admit(host)
        response = self._inner(request)
        self._turnstile.observe(host_of(response.url), response)
        return response


class Retrying:
    """
    A fetch that brings a usable page, or the failure of its last try.

    Args:
        inner: One try.
        policy: What is tried again, how often, after how long.
        stopping: Cuts the pauses and ends the tries.
        decode: Makes a usable answer into its pieces, which stay with it as
            `Response.decoded`; its BadPage is retried like other failures.
        refresh: Given an answer that refuses the credentials (None: they could
            not be had at all), and whether it says so outside of its status: renews
            them, and says whether they are other ones now.
        turnstile: Told of pauses that an answer asks for otherwise than by 429
            or 503.
        allow: Asked with the host before each repeat; an open breaker ends them.
        failures: Told each try that fails, and when the next one comes.
        draw: Uniform random number between two bounds.
    """

    def __init__(
        self,
        inner: Fetch,
        policy: RetryPolicy,
        *,
        stopping: Stopping,
        counters: HttpCounters,
        failures: FailureLog | None = None,
        decode: Callable[[Response], Any] | None = None,
        refresh: Callable[[Response | None, bool], bool] | None = None,
        turnstile: Turnstile | None = None,
        allow: Callable[[str], bool] | None = None,
        draw: Callable[[float, float], float] = random.uniform,
    ):
        self._inner = inner
        self._policy = policy
        self._stopping = stopping
        self._counters = counters
        self._decode = decode
        self._refresh = refresh
        self._turnstile = turnstile
        self._allow = allow
        self._failures = failures if failures is not None else FailureLog()
        self._draw = draw

    def __call__(self, request: Request) -> Response:
        tried = repeats = 0
        refreshed = unconditional = False
        while True:
            tried += 1
            response = None
            try:
                response = self._inner(request)
                failure = self._judged(response)
                if failure is None:
                    response.tries = tried
                    if self._decode is not None:
                        response.decoded = self._decode(response)
                    self._failures.answered()
                    return response
            except SourceError as error:
                failure = error
            if isinstance(failure, Emptied) and response is not None:
                # `decode` reads the same rule and makes the empty page.
                response.tries = tried
                if self._decode is not None:
                    response.decoded = self._decode(response)
                return response
            if self._stopping.is_set():
                raise failure
            if not refreshed and _refuses(failure):
                # Once, and at once; whatever `max.retries` says.
                refreshed = True
                stale = isinstance(failure, Denied) and failure.stale
                if self._refresh is not None and self._refresh(response, stale):
                    continue
            if failure.status == 304 and not unconditional:
                # News of a page nobody has: asked for once more as it is.
                unconditional = True
                continue
            if response is not None:
                self._heed(failure, response)
            repeats += 1
            wait = pause(failure, repeats, self._policy, self._draw)
            # Where nothing is waited here, the limiter knows when it may go on.
            self._failures.failed(failure, wait or None)
            if wait is None:
                raise failure
            if self._allow is not None and not self._allow(host_of(request.url)):
                raise failure
            self._counters.repeated(reason(failure))
            when = f"in {wait:.1f} s" if wait else "when its host may be asked"
            log.info("%s; again %s (try %d)", failure, when, tried + 1)
            if self._stopping.wait(wait):
                raise failure

    def _judged(self, response: Response) -> SourceError | None:
        # Hot path: what the headers demand is asked of a refusal only.
        policy, status = self._policy, response.status
        demanded = NOTHING
        if (
            status >= 400
            and self._turnstile is not None
            and status not in policy.process
            and status not in policy.empty
        ):
            demanded = self._turnstile.demanded(response)
        failure = judge(response, policy, demanded)
        if failure is not None and demanded.after is not None:
            failure.paused = policy.respect
        return failure

    def _heed(self, failure: SourceError, response: Response) -> None:
        """Let the limiter pause the host where the answer asks for it in other words."""
        if self._turnstile is None or response.status in PAUSES:
            return
        if isinstance(failure, Throttled):
            demanded = self._turnstile.demanded(response)
            failure.paused = demanded.after is not None
            self._turnstile.throttle(response, limited=True)
        elif failure.then is Then.RETRY and failure.paused:
            self._turnstile.throttle(response, limited=False)


def _refuses(failure: SourceError) -> bool:
    """True if other credentials may help."""
    return isinstance(failure, Denied) or failure.status == 401


class Guarded:
    """
    A fetch that is not asked while the host's breaker is open.

    Counts requests given up after their retries, not tries.

    Args:
        waits: Told for how long a refusal holds the shard back.
    """

    def __init__(
        self, inner: Fetch, breaker: Breaker, *, stopping: Stopping, waits: Waits
    ):
        self._inner = inner
        self._breaker = breaker
        self._stopping = stopping
        self._waits = waits

    def __call__(self, request: Request) -> Response:
        host = host_of(request.url)
        breaker = self._breaker
        if not breaker.allow(host):
            self._waits.shut(breaker.reopens(host))
            raise CircuitOpen(
                f"{host} failed too often: it is left alone until its circuit "
                "breaker lets a probe through",
                sent=False,
            )
        try:
            response = self._inner(request)
        except SourceError as error:
            answer = error.status
            if self._stopping.is_set():
                breaker.released(host)
            elif (
                answer is None
                and isinstance(error, Unreachable)
                or answer is not None
                and answer >= 500
            ):
                breaker.failed(host)
            elif answer is None:
                breaker.released(host)
            else:
                breaker.succeeded(host)
            raise
        except BaseException:
            breaker.released(host)
            raise
        breaker.succeeded(host)
        return response
