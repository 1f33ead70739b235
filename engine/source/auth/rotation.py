"""
Rotation: several credentials of one api, one after the other.

Owns whose turn it is.  Each try takes the next one that its host does not make wait; each
has a rate, and demands of the host, of its own.  One that is refused is left out, and said.

Path: `source.fetch.limit` (a try is admitted) -> here -> `source.wire.http1` (the same
thread sends it)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from engine.records import Response
from engine.source.wire.origin import shown

log = logging.getLogger("http")


class Rotation:
    """
    Credentials for `source.wire.http1`.  Thread-safe.

    Args:
        credentials: Two or more of one kind, none of which asks for anything.
        start: Whose turn is first: the task's number, so that tasks begin apart.
    """

    def __init__(self, credentials: Sequence[Any], *, start: int = 0):
        self._credentials = tuple(credentials)
        self._next = start
        self._out: set[int] = set()
        # Guards whose turn is next and who is left out, between the shards' threads. The choice
        # for a request is kept by thread: the limiter asks for it, then the request is signed by
        # it.
        self._lock = threading.Lock()
        self._mine = threading.local()

    def pick(self, host: str, paused: Callable[[str], float]) -> str:
        """
        Choose for the try that this thread is about to send.

        Args:
            paused: Seconds for which a host, under the name of a credential, may not
                be asked.

        Returns: the host under the name of the credential, for the limiter.
        """
        count = len(self._credentials)
        with self._lock:
            turns = [(self._next + n) % count for n in range(count)]
            left = [n for n in turns if n not in self._out] or turns
            waits = {n: paused(self._named(host, n)) for n in left}
            # The next in turn of those that may go; where none may, the soonest.
            chosen = min(left, key=lambda n: (waits[n], left.index(n)))
            self._next = chosen + 1
        self._mine.chosen = chosen
        return self._named(host, chosen)

    def current(self, host: str) -> str:
        """The host under the name of the credential of this thread's last try."""
        return self._named(host, self._chosen)

    def _named(self, host: str, number: int) -> str:
        return f"{host}#{number + 1}"

    @property
    def _chosen(self) -> int:
        found: int = getattr(self._mine, "chosen", 0)
        return found

    @property
    def query(self) -> str:
        """What is added to the target."""
        return str(self._credentials[self._chosen].query)

    def stamp(self) -> Hashable:
        """Which one this thread sends."""
        return self._chosen

    def __call__(self, prepared: Any) -> Any:
        return self._credentials[self._chosen](prepared)

    def refresh(self, response: Response, stale: bool = False) -> bool:
        """
        After a 401: leave the credential out that was sent.

        Returns: True if there are others.
        """
        if response.status != 401 and not stale:
            return False
        number, count = self._chosen, len(self._credentials)
        with self._lock:
            if number not in self._out:
                self._out.add(number)
                log.warning(
                    "Credential %d of %d is refused by %s (status %d): left out until "
                    "a restart.",
                    number + 1,
                    count,
                    shown(response.url),
                    response.status,
                )
            return len(self._out) < count
