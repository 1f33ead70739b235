"""
Aside: calls that may block, out of the way of a loop that must not.

Owns a thread for each call, which ends with it: names and tokens are asked for
a few times in the life of a process.

Path: `sink.produce.connection` -> here -> back on the loop's thread
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

#: Takes what a call returned, or what it raised.
Back: TypeAlias = Callable[[Any, Exception | None], None]


class ThreadedCalls:
    """
    Args:
        wake: Called in a call's own thread when it has ended.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._ended: deque[tuple[Back, Any, Exception | None]] = deque()

    def call(self, function: Callable[[], Any], back: Back) -> None:
        """Start a call; `back` is called by `deliver`.  Never blocks."""

        def run() -> None:
            found, failure = None, None
            try:
                found = function()
            except Exception as error:  # noqa: BLE001 - told to who asked
                failure = error
            self._ended.append((back, found, failure))
            self._wake()

        try:
            threading.Thread(target=run, name="kafka-aside", daemon=True).start()
        except RuntimeError as error:
            # The system has no thread left: as if the call had failed.
            self._ended.append((back, None, error))
            self._wake()

    def deliver(self) -> None:
        """Hand over what has come; on the loop's thread."""
        while self._ended:
            back, found, failure = self._ended.popleft()
            back(found, failure)
