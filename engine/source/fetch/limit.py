"""
Limit: every try costs a token, and waits until it is good.

Owns the waiting for a rate, which `stopping` cuts; how long is the limiter's to say.

Path: `source.fetch.retry` (one try) -> here -> `source.wire.http1`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from engine.clock import SYSTEM, Clock
from engine.errors import (
    Unreachable,
)
from engine.observe.meters import Stage
from engine.records import Request, Response
from engine.seams import Demanded, Fetch, Limiter, Stopping
from engine.source.fetch.waits import Waits
from engine.source.wire.origin import host_of


class CredentialTurns(Protocol):
    """Several credentials, each with a rate of its own (`source.auth.rotation`)."""

    def pick(self, host: str, paused: Callable[[str], float]) -> str:
        """The host under the name of the credential that this thread sends next."""

    def current(self, host: str) -> str:
        """The same of the one that it has sent last."""


class RateGate:
    """
    Lets one request through for each token; shared by all layers of an api.

    Args:
        limiter: Answers seconds.
        stopping: The only way to wait.
        api: The api's name.
        waits: Told how long a request waited, and for what.
        stage: Told how long "limiter" took, or None.
        turns: Gives those that send in turn, or None: there is one credential.
        picks: False for what follows a try, such as a redirect: it keeps the try's.
    """

    def __init__(
        self,
        limiter: Limiter,
        *,
        stopping: Stopping,
        api: str,
        waits: Waits,
        stage: Stage | None = None,
        turns: Callable[[], CredentialTurns | None] | None = None,
        picks: bool = True,
        clock: Clock = SYSTEM,
    ):
        self._stage = stage
        self._turns = turns
        self._picks = picks
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
        if self._turns is not None and (turns := self._turns()) is not None:
            picks = self._picks
            host = turns.pick(host, limiter.paused) if picks else turns.current(host)
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
        self._limiter.observe(self._named(host), self._api, response.status, headers)

    def _named(self, host: str) -> str:
        turns = None if self._turns is None else self._turns()
        return host if turns is None else turns.current(host)

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
        host = self._named(host_of(response.url))
        self._limiter.observe(host, self._api, status, headers)


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
