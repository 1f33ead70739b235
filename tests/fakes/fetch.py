"""
Fetch: the plainest thing that turns a request into a response.

Stands where `source.http` stands in the engine, for tests of what lies above
it; a connection for each thread, kept alive.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

from engine.errors import Unexpected, Unreachable
from engine.language.paths import compile_path
from engine.language.values import MISSING
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
            request,
            request.url,
            answer.status,
            headers,
            body,
            sent_at,
            time.time_ns() // 1_000_000,
        )


class Found(msgspec.Struct):
    """Records and envelope values of one response."""

    records: list[Raw]
    values: tuple[Raw | None, ...]


def plain_decoder(records: str, paths: tuple[str, ...]) -> Callable[[Response], Found]:
    """Reads records and values by their paths, one after the other."""
    list_of_raw = msgspec.json.Decoder(list[Raw])
    find = compile_path(records).get
    finders = [compile_path(path).get for path in paths]

    def decode(response: Response) -> Found:
        whole = Raw(bytes(response.body))
        values = []
        for get in finders:
            found = get(whole)
            if found is MISSING:
                values.append(None)
            else:
                values.append(
                    found if isinstance(found, Raw) else Raw(msgspec.json.encode(found))
                )
        return Found(list_of_raw.decode(find(whole)), tuple(values))

    return decode
