"""
Troubles: what a task cannot mend itself, said loudly while it lasts.

Owns when it is said: once at its beginning, each minute after that and at its
end, in the log and to the supervisor, which shows it.

Path: `task.session` looks at each tick -> here -> log, supervisor
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec import Struct

from engine.shared.link import Message, Trouble

log = logging.getLogger("task")

#: Seconds between two lines about the same trouble.
NEXT = 60.0


class _Lasting(Struct):
    text: str
    said_at: float
    reported: str = ""


class Troubles:
    """
    The troubles of one task.

    Args:
        report: To the supervisor; False if it was not taken.
    """

    def __init__(self, report: Callable[[Message], bool]):
        self._report = report
        self._lasting: dict[str, _Lasting] = {}

    def look(self, kind: str, text: str, now: float, over: str = "") -> None:
        """
        Take note of a trouble.

        Args:
            kind: Which one; each is in one state at a time.
            text: What is wrong and what to do, "" while nothing is.
            now: Monotonic seconds.
            over: What is said at its end.
        """
        known = self._lasting.get(kind)
        if not text:
            # It stays with us until the supervisor has heard that it is over.
            if known is not None and self._report(Trouble(kind, "")):
                del self._lasting[kind]
                log.warning("%s", over or f"No longer: {known.text}")
            return
        if known is None:
            known = self._lasting[kind] = _Lasting(text, now - NEXT)
        known.text = text
        if now - known.said_at >= NEXT:
            known.said_at = now
            log.error("%s", text)
        if known.reported != text and self._report(Trouble(kind, text)):
            known.reported = text
