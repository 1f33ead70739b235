"""
Metering: what a task counts in plain attributes becomes its meters.

Owns the reading, once a second, of the counters that the pool, the budget and
the retries keep for themselves, and the time from a page's request to its
acknowledgement.  It decides nothing, and nothing waits for it.

Path: ``task.entry`` makes it, ``task.run`` ticks it -> ``observe.meters``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from engine.clock import SYSTEM, Clock
from engine.errors import RecordError
from engine.observe import names
from engine.observe.meters import Meters, Stage
from engine.records import Offset, Page, Parcel
from engine.seams import Outlet, Transform
from engine.shared.board import Slot

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

    waited: float

    @property
    def used(self) -> int:
        """Bytes held."""


_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


class _Timed:
    """An outlet whose time to take a page is told."""

    def __init__(self, inner: Outlet, stage: Stage, clock: Clock):
        self._inner = inner
        self._stage = stage
        self._clock = clock

    def begin(self) -> None:
        self._inner.begin()

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        began = self._clock.monotonic()
        self._inner.hand_over(parcel, offset)
        self._stage("encode", self._clock.monotonic() - began)

    def commit(self) -> None:
        self._inner.commit()


#: What the limiter calls a cause -> the board's column for it.
_HELD = {
    "rate": "wait_limit_ns",
    "api_rate": "wait_limit_ns",
    "retry_after": "wait_pause_ns",
    "budget": "wait_pause_ns",
    "throttled": "wait_pause_ns",
}


class Held:
    """
    Moves to the board what made a task wait, where scaling and admin see it.

    The limiter knows the task and not the shard, so that all of it goes to one
    of the task's shards.

    Args:
        waited: Cause -> seconds so far, from zero (`shared.limiter`).
        room: Its `waited` is the time the broker kept the task from going on.
        slot: Where it goes.
    """

    def __init__(self, waited: Mapping[str, float], room: Room, slot: Slot) -> None:
        self._waited = waited
        self._room = room
        self._slot = slot
        self._before: dict[str, float] = {}

    def move(self) -> None:
        """What came since the last call."""
        for cause, seconds in {**self._waited, "broker": self._room.waited}.items():
            column = _HELD.get(cause, "wait_broker_ns")
            grown = seconds - self._before.get(cause, 0.0)
            if grown > 0:
                self._slot.add(column, int(grown * 1e9))
                self._before[cause] = seconds


class Metering:
    """
    One task's; lives as long as the process, over absences of the broker.

    Args:
        meters: Where all of it goes.
        letters: Where dead letters go: "topic" or "log".
        insecure: Certificates of some api are not verified.
    """

    def __init__(
        self,
        meters: Meters,
        *,
        letters: str = "log",
        insecure: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        self.meters = meters
        self._letters = (letters,)
        meters.state(names.TLS_INSECURE, (), float(insecure))
        # Records and state do not go in one transaction yet.
        meters.state(names.EOS_ACTIVE, (), 0.0)
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

    def stage(self, api: str) -> Stage | None:
        """What is told the stages of an api; None unless they are wanted."""
        if not self.meters.detailed:
            return None
        observe = self.meters.observe

        def told(name: str, seconds: float) -> None:
            observe(names.STAGE_SECONDS, (api, name), seconds)

        return told

    def through(
        self, api: str, name: str, step: Callable[[_Given], _Made]
    ) -> Callable[[_Given], _Made]:
        """The same step, its time told as a stage where stages are wanted."""
        stage = self.stage(api)
        if stage is None:
            return step
        monotonic = self._clock.monotonic

        def timed(given: _Given) -> _Made:
            began = monotonic()
            made = step(given)
            stage(name, monotonic() - began)
            return made

        return timed

    def transform(self, api: str, step: Callable[[Page], Parcel]) -> Transform:
        """The same transformation, its pages timed from here to their end."""
        timed = self.timed
        step = self.through(api, "transform", step)

        def transformed(page: Page) -> Parcel:
            try:
                parcel = step(page)
            except RecordError as failure:
                self.meters.count(names.RECORD_ERRORS, (failure.stage,))
                raise
            if parcel.letters:
                self._bad(parcel)
            timed(parcel, api)
            return parcel

        return transformed

    def _bad(self, parcel: Parcel) -> None:
        for letter in parcel.letters:
            self.meters.count(names.RECORD_ERRORS, (letter.stage,))
        self.meters.count(names.DEAD_LETTERS, self._letters, len(parcel.letters))

    def outlet(self, api: str, inner: Outlet) -> Outlet:
        """The same outlet, handing over told as "encode" where wanted."""
        stage = self.stage(api)
        return inner if stage is None else _Timed(inner, stage, self._clock)

    def timed(self, parcel: Parcel, api: str) -> None:
        """
        A page is about to be handed over: time it until it is acknowledged.

        A page without records is never on its way and not timed.
        """
        records = len(parcel.values)
        if not records:
            return
        before = parcel.acknowledged
        sent_at = parcel.page.response.sent_at
        stage = self.stage(api)
        handed_at = self._clock.monotonic()
        self._active += records

        def acknowledged() -> None:
            now = self._clock.monotonic()
            self._active -= records
            self.meters.observe(names.FETCH_TO_ACK_SECONDS, (), now - sent_at)
            if stage is not None:
                stage("ack", now - handed_at)
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
