"""
Renewal: credentials that are read anew, under an api that goes on.

Owns what takes the place of what: an auth object for the one before it, and a
secret's new text for its old one in requests that were compiled with it.  Reads
no file itself.

Path: `source.fetch` (a refusal) -> ``task.build.credentials`` (reads) -> here ->
`source.wire.http1`
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote

from msgspec.structs import replace

from engine.records import Request, Response
from engine.seams import Fetch

#: Shorter texts are not looked for in requests: they would stand anywhere.
SHORTEST = 4


@runtime_checkable
class Refreshable(Protocol):
    """Credentials that a refusal may change."""

    def refresh(self, response: Response, stale: bool = False) -> bool:
        """
        After a refusal: other credentials, where there may be any.

        Args:
            stale: The answer says by other means than its status that they have ended.

        Returns: True if the next try carries others.
        Raises: Denied, Unreachable, Unexpected.
        Blocks: where a server is asked for them.
        """


class RenewableAuth:
    """
    Credentials of `auth.type` that may be replaced; `source.wire.options.Auth`.

    Args:
        inner: Those to begin with, or None.
    """

    def __init__(self, inner: Any):
        self.inner = inner
        self._generation = 0

    @property
    def query(self) -> str:
        """The query of the present credentials."""
        return "" if self.inner is None else str(self.inner.query)

    def replace(self, inner: Any) -> None:
        """From the next try on, others."""
        self.inner = inner
        self._generation += 1

    def stamp(self) -> Hashable | None:
        """The stamp of the present credentials, and which these are."""
        if self.inner is None:
            return (self._generation,)
        stamp = self.inner.stamp()
        return None if stamp is None else (self._generation, stamp)

    def __call__(self, prepared: Any) -> Any:
        return prepared if self.inner is None else self.inner(prepared)


class Renewing:
    """
    What is read anew when an api refuses, at most once for each refusal.

    Args:
        read: Reads anew; gives the texts that have changed, old to new, or None:
            nothing has.
        clock: Monotonic seconds.
    """

    def __init__(
        self, read: Callable[[], Mapping[str, str] | None], clock: Callable[[], float]
    ):
        self._read = read
        self._clock = clock
        # Held while the texts are read anew. Requests that are refused at the same time wait for
        # the first of them and then find that it has read; without the lock each would read
        # again, and the second one would find nothing changed and give its poll up.
        self._lock = threading.Lock()
        self._since = 0.0
        self._texts: dict[str, str] = {}

    def __call__(self, response: Response | None) -> bool:
        """
        Read anew after a refusal; True if there is something else now.

        Blocks: on the disk only.
        """
        with self._lock:
            if response is not None and response.sent_at < self._since:
                # Sent with what was before: another thread was the first to read.
                return True
            changed = self._read()
            if changed is None:
                return False
            self._since = self._clock()
            for old, new in self._texts.items():
                self._texts[old] = changed.get(new, new)
            self._texts.update(changed)
            return True

    def through(self, fetch: Fetch) -> Fetch:
        """A fetch whose requests carry the new texts."""

        def renewed(request: Request) -> Response:
            if not self._texts:
                return fetch(request)
            return replace(fetch(self._rewritten(request)), request=request)

        return renewed

    def _rewritten(self, request: Request) -> Request:
        url, body = request.url, request.body
        headers = request.headers
        for old, new in self._texts.items():
            if len(old) < SHORTEST:
                continue
            url = url.replace(quote(old, safe=""), quote(new, safe=""))
            headers = tuple((name, value.replace(old, new)) for name, value in headers)
            if body is not None:
                for was, will in ((old, new), (_in_json(old), _in_json(new))):
                    body = body.replace(was.encode(), will.encode())
        return replace(request, url=url, headers=headers, body=body)


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
