"""
Fetch: the plainest thing that turns a request into a response.

Stands where `source.wire.http1` stands in the engine, for tests of what lies above
it; a connection for each thread, kept alive.
"""

from __future__ import annotations

import http.client
import threading
import time
from urllib.parse import urlsplit

from engine.errors import Unexpected, Unreachable
from engine.records import Request, Response


class PlainFetch:
    """A `Fetch` over http.client; statuses of 400 and more are `Unexpected`."""

    def __init__(self, allowed: frozenset[int] = frozenset()):
        self._allowed = allowed
        self._local = threading.local()

    def __call__(self, request: Request) -> Response:
        parts = urlsplit(request.url)
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(parts.netloc, timeout=10)
            self._local.connection = connection
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        sent_at = time.monotonic()
        try:
            connection.request(
                request.method, target, request.body, dict(request.headers)
            )
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as e:
            self._local.connection = None
            raise Unreachable(str(e), url=request.url) from e
        if answer.status >= 400 and answer.status not in self._allowed:
            raise Unexpected("refused", status=answer.status, url=request.url)
        headers = [(name.lower(), value) for name, value in answer.getheaders()]
        return Response(
            request=request,
            url=request.url,
            status=answer.status,
            headers=headers,
            body=body,
            sent_at=sent_at,
            received_ms=time.time_ns() // 1_000_000,
        )
