"""
Metered: a fetch that counts what became of each request.

Owns the two families that are about requests as a whole, their retries
included: how they ended and how long the answer took; at DEBUG a line for
each.  It changes nothing of what passes through.

Path: `source.fetch` (inside Guarded, around Retrying) -> here
"""

from __future__ import annotations

import logging

from engine.clock import SYSTEM, Clock
from engine.errors import SourceError
from engine.observe.meters import Meter
from engine.observe.names import REQUEST_SECONDS, REQUESTS
from engine.records import Request, Response
from engine.seams import Fetch, Stopping
from engine.source.wire.origin import host_of

log = logging.getLogger("http")

#: Classes of status codes; "none": there was no answer.
_CLASSES = {number: f"{number}xx" for number in range(1, 6)}


class Metered:
    """
    Args:
        inner: Brings a usable page, or the failure of its last try.
        meter: Where it is counted.
        stopping: A request that was cut by the end of the task is not counted.
    """

    def __init__(
        self,
        inner: Fetch,
        meter: Meter,
        *,
        stopping: Stopping,
        clock: Clock = SYSTEM,
    ):
        self._inner = inner
        self._meter = meter
        self._took = meter.timer(REQUEST_SECONDS)
        self._stopping = stopping
        self._clock = clock

    # Hot path: two appends a page, 0.5 us.
    def __call__(self, request: Request) -> Response:
        try:
            response = self._inner(request)
        except SourceError as failure:
            if not self._stopping.is_set():
                self._ended(request, "failed", failure.status)
                log.debug("%s %s: %s", request.method, request.url, failure)
            raise
        self._ended(request, "ok", response.status)
        seconds = self._clock.monotonic() - response.sent_at
        self._took(seconds)
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "%s %s: %d, %d bytes in %.0f ms",
                request.method,
                request.url,
                response.status,
                len(response.body),
                1000 * seconds,
            )
        return response

    def _ended(self, request: Request, outcome: str, status: int | None) -> None:
        kind = _CLASSES.get((status or 0) // 100, "none")
        self._meter.count(REQUESTS, (host_of(request.url), outcome, kind))
