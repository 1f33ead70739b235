"""
Breaker: a host that failed too often is not asked for a while.

Owns what counts as a failure of the host; when it may be asked again is the
breaker's to say.

Path: `source.poll` (Request) -> here -> `source.fetch.retry`
"""

from __future__ import annotations

from engine.errors import (
    CircuitOpen,
    SourceError,
)
from engine.policy import Follows, of_host
from engine.records import Request, Response
from engine.seams import Breaker, Fetch, Stopping
from engine.source.fetch.waits import Waits
from engine.source.wire.origin import host_of


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
            follows = of_host(error, stopping=self._stopping.is_set())
            if follows is Follows.HOST_FAILED:
                breaker.failed(host)
            elif follows is Follows.HOST_WORKS:
                breaker.succeeded(host)
            else:
                breaker.released(host)
            raise
        except BaseException:
            breaker.released(host)
            raise
        breaker.succeeded(host)
        return response
