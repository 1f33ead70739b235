"""
Metering: what a task counts in plain attributes becomes its meters.

Owns the reading, once a second, of the counters that the pool, the budget and
the retries keep for themselves, and the time from a page's request to its
acknowledgement.  It decides nothing, and nothing waits for it.

Path: ``task.entry`` makes it, ``task.run`` ticks it -> ``observe.meters``
"""

from __future__ import annotations

from typing import Protocol

from engine.clock import SYSTEM, Clock
from engine.observe import names
from engine.observe.meters import Meters
from engine.records import Parcel

#: Seconds between two readings.
PERIOD = 1.0


class Counters(Protocol):
    """What is read of `source.pool.HttpCounters`."""

    connections_opened: int
    repeats: dict[str, int]


class Connections(Protocol):
    """What is read of `source.pool.Pool`."""

    @property
    def open(self) -> int:
        """Places taken."""

    @property
    def busy(self) -> int:
        """Those in use."""


class Room(Protocol):
    """What is read of `sink.window.Budget`."""

    @property
    def used(self) -> int:
        """Bytes held."""


class Metering:
    """
    One task's; lives as long as the process, over absences of the broker.

    Args:
        meters: Where all of it goes.
    """

    def __init__(self, meters: Meters, *, clock: Clock = SYSTEM) -> None:
        self.meters = meters
        self._clock = clock
        self._at = clock.monotonic()
        self._active = 0
        self._counters: Counters | None = None
        self._connections: Connections | None = None
        self._room: Room | None = None
        self._opened = 0
        self._repeats: dict[str, int] = {}

    def follow(self, counters: Counters, connections: Connections, room: Room) -> None:
        """Read these from now on; their counts begin at zero."""
        self._read()
        self._counters, self._connections, self._room = counters, connections, room
        self._opened = 0
        self._repeats = {}
        self._active = 0

    def timed(self, parcel: Parcel) -> None:
        """
        A page is about to be handed over: time it until it is acknowledged.

        A page without records is never on its way and not timed.
        """
        records = len(parcel.values)
        if not records:
            return
        before = parcel.acknowledged
        sent_at = parcel.page.response.sent_at
        self._active += records

        def acknowledged() -> None:
            self._active -= records
            self.meters.observe(
                names.FETCH_TO_ACK_SECONDS, (), self._clock.monotonic() - sent_at
            )
            if before is not None:
                before()

        parcel.acknowledged = acknowledged

    def tick(self, now: float) -> None:
        """Read and write what is due; call it as often as there is a turn."""
        if now - self._at >= PERIOD:
            self._at = now
            self._read()
            self.meters.flush()

    def close(self) -> None:
        """The last reading."""
        self._read()
        self.meters.close()

    def _read(self) -> None:
        meters = self.meters
        if self._counters is not None:
            opened = self._counters.connections_opened
            meters.count(names.CONNECTIONS_OPENED, (), opened - self._opened)
            self._opened = opened
            for reason, n in list(self._counters.repeats.items()):
                if n > self._repeats.get(reason, 0):
                    grown = n - self._repeats.get(reason, 0)
                    meters.count(names.RETRIES, (reason,), grown)
                    self._repeats[reason] = n
        if self._connections is not None:
            busy = self._connections.busy
            meters.state(names.POOL_CONNECTIONS, ("busy",), busy)
            idle = self._connections.open - busy
            meters.state(names.POOL_CONNECTIONS, ("idle",), idle)
        if self._room is not None:
            meters.state(names.BUFFER_BYTES, (), self._room.used)
        meters.state(names.RECORDS_ACTIVE, (), self._active)
