"""
Retry: a page is whole and decodable, or it is asked for again.

Owns the pauses between tries, which `stopping` cuts; whether to try again is
`source.fetch.policy`'s to say.

Path: `source.fetch.breaker` (Request) -> here -> `source.fetch.balance` -> Response
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from engine.errors import (
    Denied,
    SourceError,
    Throttled,
)
from engine.observe.failures import FailureLog
from engine.policy import Follows, is_passing, of_credentials
from engine.records import Request, Response
from engine.seams import Fetch, Stopping
from engine.source.decode.answers import TreatedAsEmpty
from engine.source.fetch.limit import RateGate
from engine.source.fetch.policy import (
    NOTHING,
    PAUSES,
    RetryPolicy,
    judge,
    pause,
    reason,
)
from engine.source.wire.origin import host_of
from engine.source.wire.pool import HttpCounters

log = logging.getLogger("http")


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
        rate_gate: Told of pauses that an answer asks for otherwise than by 429
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
        rate_gate: RateGate | None = None,
        allow: Callable[[str], bool] | None = None,
        draw: Callable[[float, float], float] = random.uniform,
    ):
        self._inner = inner
        self._policy = policy
        self._stopping = stopping
        self._counters = counters
        self._decode = decode
        self._refresh = refresh
        self._rate_gate = rate_gate
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
                    usable = self._decoded(response, tried)
                    self._failures.answered()
                    return usable
            except SourceError as error:
                failure = error
            if isinstance(failure, TreatedAsEmpty) and response is not None:
                # `decode` reads the same rule and makes the empty page.
                return self._decoded(response, tried)
            if self._stopping.is_set():
                raise failure
            told = failure.status is not None and failure.status in self._policy.stale
            follows = of_credentials(failure, stale=told, renewed=refreshed)
            if follows is Follows.RENEWED:
                # Once, and at once; whatever `max.retries` says.
                refreshed = True
                stale = told or (isinstance(failure, Denied) and failure.stale)
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

    def _decoded(self, response: Response, tried: int) -> Response:
        decoded = response.decoded if self._decode is None else self._decode(response)
        return replace(response, tries=tried, decoded=decoded)

    def _judged(self, response: Response) -> SourceError | None:
        # Hot path: what the headers demand is asked of a refusal only.
        policy, status = self._policy, response.status
        demanded = NOTHING
        if (
            status >= 400
            and self._rate_gate is not None
            and status not in policy.process
            and status not in policy.empty
        ):
            demanded = self._rate_gate.demanded(response)
        failure = judge(response, policy, demanded)
        if failure is not None and demanded.after is not None:
            failure.paused = policy.respect
        return failure

    def _heed(self, failure: SourceError, response: Response) -> None:
        """Let the limiter pause the host where the answer asks for it in other words."""
        if self._rate_gate is None or response.status in PAUSES:
            return
        if isinstance(failure, Throttled):
            demanded = self._rate_gate.demanded(response)
            failure.paused = demanded.after is not None
            self._rate_gate.throttle(response, limited=True)
        elif is_passing(failure) and failure.paused:
            self._rate_gate.throttle(response, limited=False)
