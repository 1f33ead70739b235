"""
Flights: one process asks for a key, the others wait for its answer.

Owns a fixed number of lock files; a key belongs to one of them by its digest.
Whoever holds it asks the API, and a leader that dies lets go by dying.  Never
waits: a caller that does not get it looks again later, or asks all the same.

Beside the tiers; `source.fetch.cache` does the waiting, which stopping cuts.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from engine.errors import SharedError
from engine.shared.lock import open_private, try_lock, unlock

#: Lock files: so many keys at most have a leader each at one time.
FILES = 1024


class Flight:
    """The right to ask for a key; `land` gives it back."""

    def __init__(
        self, flights: Flights, number: int, fd: int, *, led: bool = False
    ) -> None:
        self._flights = flights
        self._number = number
        self._fd = fd
        self._led = led

    def land(self) -> None:
        """The answer is stored, or there is none: the next one may ask."""
        if self._led:
            self._led = False
            self._flights.landed(self._number)
        if self._fd >= 0:
            unlock(self._fd)
            os.close(self._fd)
            self._fd = -1


class Flights:
    """
    Args:
        directory: Where the files stand, made at first use; None: no other process
            asks.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        # Between the threads of this process: guards `_mine`, the files that it holds. Other
        # processes are kept out by the file's lock.
        self._threads = threading.Lock()
        self._mine: set[int] = set()
        self._made = False

    def lead(self, key: str) -> Flight | None:
        """
        The flight of a key, or None: somebody else is asking.

        A failure of the files is a flight, too: it is better to ask twice
        than not at all.
        """
        number = int(key[-8:], 16) % FILES
        # A file's lock belongs to its descriptor: within the process two
        # threads would each have one of their own, so the set goes first.
        with self._threads:
            if number in self._mine:
                return None
            if self._directory is None:
                self._mine.add(number)
                return Flight(self, number, -1, led=True)
            try:
                if not self._made:
                    self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._made = True
                fd = open_private(f"{self._directory}/flight-{number}")
            except (OSError, SharedError):
                self._made = False
                return Flight(self, number, -1)
            try:
                led = try_lock(fd)
            except SharedError:
                os.close(fd)
                return Flight(self, number, -1)
            if not led:
                os.close(fd)
                return None
            self._mine.add(number)
        return Flight(self, number, fd, led=True)

    def landed(self, number: int) -> None:
        """A flight of this process is over."""
        with self._threads:
            self._mine.discard(number)
