"""
Limit: every try costs a token, and waits until it is good.

Owns the waiting for a rate, which `stopping` cuts; how long is the limiter's to say.

Path: `source.fetch.retry` (one try) -> here -> `source.wire.http1`
"""

from __future__ import annotations

from engine.clock import SYSTEM, Clock
from engine.errors import (
    Unreachable,
)
from engine.observe.meters import Stage
from engine.records import Request, Response
from engine.seams import Demanded, Fetch, Limiter, Stopping
from engine.source.fetch.waits import Waits
from engine.source.wire.origin import host_of


class RateGate:
    """
    Lets one request through for each token; shared by all layers of an api.

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
            self._waits.holding(cause, began + max(wait, limiter.left))
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

    def __init__(self, inner: Fetch, rate_gate: RateGate):
        self._inner = inner
        self._rate_gate = rate_gate

    def __call__(self, request: Request) -> Response:
        host = host_of(request.url)
        self._rate_gate.admit(host)
        response = self._inner(request)
        self._rate_gate.observe(host_of(response.url), response)
        return response
