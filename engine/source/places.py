"""
Places: how many requests the polls of a task may have under way, and whose turn it is.

Owns the count of requests and of pages that wait, for all polls of one api together, and
the order in which a free place is given away.

Path: `source.prefetch` -> here -> `source.worth`
"""

from __future__ import annotations

import threading

from engine.source.worth import PrefetchWorth


class FetchPlaces:
    """
    How many requests all polls of a task have under way, and who is next.

    A free place goes first to a poll that has nothing under way.  It may be asked
    under the lock of a run, and takes none of them.

    Attributes:
        waiting: Pages that were fetched and not handed over.
    """

    def __init__(self, most: int) -> None:
        self.waiting = 0
        self.worth = PrefetchWorth(most)
        self._most = most
        # Guards the counts below between the polls of all shards. Taken under a run's lock and
        # takes none itself, so two runs cannot wait for each other.
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._flying = self._ahead = self._hungry = self._runs = 0

    def opened(self) -> None:
        """A poll begins."""
        with self._lock:
            if not self._runs:
                self.worth.begin()
            self._runs += 1

    def closed(self) -> None:
        """A poll is over."""
        with self._lock:
            self._runs -= 1

    def look(self) -> None:
        """See from time to time whether fetching ahead is worth it."""
        if self.worth.due:
            with self._lock:
                self.worth.look(self._runs)

    def take(self, seconds: float) -> bool:
        """A place for a poll with nothing under way; blocks at most so long."""
        with self._lock:
            if self._flying >= self._most:
                self._hungry += 1
                self._freed.wait(seconds)
                self._hungry -= 1
                if self._flying >= self._most:
                    return False
            self._flying += 1
            return True

    @property
    def free(self) -> bool:
        """True if a request ahead may have a place; never blocks, may be outdated."""
        return (
            self._flying < self._most
            and not self._hungry
            and self._ahead < self.worth.ahead
        )

    def take_ahead(self) -> bool:
        """A place for a request ahead, if there is one."""
        with self._lock:
            if not self.free:
                return False
            self._flying += 1
            self._ahead += 1
            return True

    def give(self, *, ahead: bool) -> None:
        """A request has ended, or there was none."""
        with self._lock:
            self._flying -= 1
            self._ahead -= ahead
            if self._hungry:
                self._freed.notify()

    def landed(self, *, ahead: bool) -> None:
        """A request has ended, and its page waits."""
        with self._lock:
            self._flying -= 1
            self._ahead -= ahead
            self.waiting += 1
            if self._hungry:
                self._freed.notify()

    def left(self) -> None:
        """A page is handed over, or thrown away."""
        with self._lock:
            self.waiting -= 1
