"""
Watching: one thread waits for its connections, and for being woken by others.

Owns the epoll of a loop and the event that ends its wait; what is due when is the
loop's to say.

Path: `sender` and `sink.caller` wait here -> `connection` is told what has come
"""

from __future__ import annotations

import math
import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.sink.produce.connection import Connection


class Watcher:
    """Waits for sockets (epoll), in the thread of one loop; any thread may `wake` it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._event, select.EPOLLIN)
        self._watched: dict[int, Connection] = {}

    def watch(self, connection: Connection, events: int) -> None:
        """Wait for these events of a connection from now on; 0 for none."""
        number = connection.fileno
        if not events:
            if self._watched.pop(number, None) is not None:
                self._epoll.unregister(number)
        elif number in self._watched:
            self._epoll.modify(number, events)
        else:
            self._watched[number] = connection
            self._epoll.register(number, events)

    def wait(self, seconds: float) -> list[tuple[int, int]]:
        """
        What has happened, for `handle`.

        Blocks: at most so long, `math.inf` for as long as it takes; until `wake`.
        """
        # Whole milliseconds, rounded up: it must not wake before its time.
        endless = seconds == math.inf
        timeout = -1.0 if endless else max(0, math.ceil(seconds * 1e3)) / 1e3
        return self._epoll.poll(timeout)

    def handle(self, happened: list[tuple[int, int]]) -> None:
        """Tell the connections; one that was closed meanwhile is left out."""
        for number, events in happened:
            if number == self._event:
                os.eventfd_read(self._event)
                continue
            connection = self._watched.get(number)
            if connection is not None:
                connection.handle(events)

    def wake(self) -> None:
        """
        End the wait, or the next one; for any thread.

        Raises: OSError, ValueError once it is closed.
        """
        os.eventfd_write(self._event, 1)

    def close(self) -> None:
        """Let go of the descriptors; the connections are closed by their owner."""
        self._epoll.close()
        os.close(self._event)
        self._event = -1
