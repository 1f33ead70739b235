"""
Metering: what a task counts in plain attributes becomes its meters.

Owns the reading, once a second, of the counters that the rooms of a task keep
for themselves, the time from a page's request to its acknowledgement, and how
saving its position went.  It decides nothing, and nothing waits for it.

Path: ``task.entry`` makes it, ``task.run`` ticks it -> ``observe.meters``
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, Protocol, TypeVar

from engine.clock import SYSTEM, Clock
from engine.errors import RecordError
from engine.observe import names
from engine.observe.failures import FailureLog
from engine.observe.meters import Meters, Stage
from engine.records import Offset, Page, Parcel, Shard
from engine.seams import Outlet, Transform
from engine.shared.breaker import BreakerReading
from engine.shared.bucket import BucketReading
from engine.shared.cache.tiers import Tiers
from engine.shared.demands import HostReading
from engine.sink.seams import Failure, Saver
from engine.sink.transactions import Transactions
from engine.source.fetch.warming import Trace, Warming
from engine.task.committing import TransactionCounter
from engine.task.positions import Ended, Watched
from engine.task.waited import Room

#: Seconds between two readings.
PERIOD = 1.0

#: Shown from the first reading on, at zero: a rate sees the first event only
#: where the series was there before it.
FROM_ZERO = (
    names.RETRIES,
    names.RECORD_ERRORS,
    names.ACCOUNTING_ERRORS,
    names.BATCHES,
    names.COMMITS,
    names.TRANSACTIONS,
    names.TRANSACTION_RECORDS,
)


#: A breaker's states by the number that shows them.
BREAKERS = ("closed", "half-open", "open")


class Counters(Protocol):
    """What is read of `source.wire.pool.HttpCounters`."""

    connections_opened: int
    repeats: dict[str, int]


class Connections(Protocol):
    """What is read of `source.wire.pool.Pool`."""

    @property
    def open(self) -> int:
        """Connections open now, busy and idle."""

    @property
    def busy(self) -> int:
        """Connections in use now."""


class Sent(Protocol):
    """What is read of `sink.delivery.Delivery`."""

    batches: int

    @property
    def transactions(self) -> Transactions | None:
        """None where delivery is at least once."""


class SchemaCounts(Protocol):
    """What is read of `transform.registry.SchemaCache`."""

    hits: int
    misses: int


class Cache(Protocol):
    """What is read of `task.build.cache.Caching`."""

    @property
    def speaks(self) -> bool:
        """True in the one task that tells what the shared tiers hold."""

    @property
    def tiers(self) -> Tiers[Any] | None:
        """Where lookups are counted, and how full it is."""

    @property
    def trace(self) -> Trace | None:
        """What became of answers that were fetched ahead."""

    @property
    def warming(self) -> Warming | None:
        """How many those were."""


class LimiterReadings(Protocol):
    """What is read of `shared.limiter.LimiterReadings`."""

    def readings(self) -> list[BucketReading]:
        """What is left of our own limits."""

    def host_readings(self) -> list[HostReading]:
        """What the hosts demand."""


class BreakerReadings(Protocol):
    """What is read of `shared.breaker.BreakerReadings`."""

    def readings(self) -> list[BreakerReading]:
        """How each host stands."""


#: Read of what outlives an absence of the broker: these counts go on.
_OF_THE_PROCESS = (
    names.SCHEMA_REQUESTS,
    names.CACHE_REQUESTS,
    names.CACHE_EVICTIONS,
    names.CACHE_ERRORS,
    names.CACHE_WARMED,
)

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


#: Labels of `names.COMMITS`.
_SAVED, _UNSAVED = ("ok",), ("failed",)


def _stages(meters: Meters, api: str) -> Stage:
    """What puts the stages of an api where they are counted."""
    timers: dict[str, Callable[[float], None]] = {}

    def told(name: str, seconds: float) -> None:
        try:
            timers[name](seconds)
        except KeyError:
            timers[name] = meters.timer(names.STAGE_SECONDS, (api, name))
            timers[name](seconds)

    return told


class Metering:
    """
    One task's; lives as long as the process, over absences of the broker.

    Args:
        meters: Where all of it goes.
        letters: Where dead letters go: "topic" or "log".
        insecure: Certificates of some api are not verified.
        schemas: The task's cache of schemas.
    """

    def __init__(
        self,
        meters: Meters,
        *,
        letters: str = "log",
        insecure: bool = False,
        schemas: SchemaCounts | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.meters = meters
        self._letters = (letters,)
        self._acknowledged = meters.timer(names.FETCH_TO_ACK_SECONDS)
        self._stages: dict[str, Stage] = {}
        meters.state(names.TLS_INSECURE, (), float(insecure))
        meters.state(names.EOS_ACTIVE, (), 0.0)
        self._clock = clock
        self._at = clock.monotonic()
        self._active = 0
        self._cache: Cache | None = None
        self._counters: Counters | None = None
        self._connections: Connections | None = None
        self._room: Room | None = None
        self._sent: Sent | None = None
        self._ends = TransactionCounter(meters)
        self._limiter: LimiterReadings | None = None
        self._breakers: Mapping[str, BreakerReadings] = {}
        self._failures: Mapping[Shard, FailureLog] = {}
        self._schemas = schemas
        self._before: dict[tuple[names.Metric, tuple[str, ...]], int] = {}
        meters.count(names.DEAD_LETTERS, self._letters, 0)
        for metric in FROM_ZERO:
            for values in product(*(metric.values[name] for name in metric.own)):
                meters.count(metric, values, 0)

    def follow(
        self, counters: Counters, connections: Connections, room: Room, sent: Sent
    ) -> None:
        """Read these from now on; their counts begin at zero."""
        self._read()
        self._counters, self._connections, self._room = counters, connections, room
        self._failures = {}
        self._sent = sent
        if sent.transactions is not None:
            sent.transactions.told = self._ends
        self._before = {
            key: n for key, n in self._before.items() if key[0] in _OF_THE_PROCESS
        }
        self._active = 0

    def follow_limits(
        self, limiter: LimiterReadings, breakers: Mapping[str, BreakerReadings]
    ) -> None:
        """Show what these allow, until they are left."""
        self._limiter, self._breakers = limiter, breakers

    def leave_limits(self) -> None:
        """The last reading of them; then their files may be closed."""
        self._read_limits()
        self._limiter, self._breakers = None, {}

    def follow_failures(self, failures: Mapping[Shard, FailureLog]) -> None:
        """Count these from now on; their counts begin at zero."""
        self._failures = failures

    def exactly(self, active: bool) -> None:
        """Whether records and state go in one transaction."""
        self.meters.state(names.EOS_ACTIVE, (), float(active))

    def saver(self, inner: Saver) -> Saver:
        """The same saver, its writes counted and timed."""
        meters, clock = self.meters, self._clock
        took = meters.timer(names.COMMIT_SECONDS)

        def saving(partition: Mapping[str, str], offset: Offset) -> Ended:
            began = clock.monotonic()

            def ended(why: Failure) -> None:
                meters.count(names.COMMITS, _SAVED if why is None else _UNSAVED)
                took(clock.monotonic() - began)

            return ended

        return Watched(inner, saving)

    def follow_cache(self, cache: Cache) -> None:
        """Read this one's counts and sizes, too; for the life of the process."""
        self._cache = cache

    def stage(self, api: str) -> Stage | None:
        """What is told the stages of an api; None unless they are wanted."""
        if not self.meters.detailed:
            return None
        if api not in self._stages:
            self._stages[api] = _stages(self.meters, api)
        return self._stages[api]

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
            if not parcel.balanced:
                # Whoever asked for it ends the task.
                self.meters.count(names.ACCOUNTING_ERRORS)
            if parcel.letters:
                self._bad(parcel)
            return timed(parcel, api)

        return transformed

    def refused(self, parcel: Parcel) -> None:
        """Records that the broker has refused are dead letters; for any thread."""
        self._bad(parcel)

    def _bad(self, parcel: Parcel) -> None:
        for letter in parcel.letters:
            self.meters.count(names.RECORD_ERRORS, (letter.stage,))
        self.meters.count(names.DEAD_LETTERS, self._letters, len(parcel.letters))

    def outlet(self, api: str, inner: Outlet) -> Outlet:
        """The same outlet, handing over told as "encode" where wanted."""
        stage = self.stage(api)
        return inner if stage is None else _Timed(inner, stage, self._clock)

    def timed(self, parcel: Parcel, api: str) -> Parcel:
        """
        A page is about to be handed over: the same, timed until it is acknowledged.

        A page without records is never on its way and not timed.
        """
        records = len(parcel.values)
        if not records:
            return parcel
        sent_at = parcel.page.response.sent_at
        acknowledged, stage = self._acknowledged, self.stage(api)
        handed_at = self._clock.monotonic()
        self._active += records

        def delivered(now: float) -> None:
            self._active -= records
            acknowledged(now - sent_at)
            if stage is not None:
                stage("ack", now - handed_at)

        return parcel.telling(delivered)

    def tick(self, now: float) -> None:
        """Read and write what is due; call it as often as there is a turn."""
        if now - self._at >= PERIOD:
            self._at = now
            self._read()
            self.meters.flush()

    def close(self) -> None:
        """Take the last reading, before the parts are closed."""
        self._read()
        self.meters.close()

    def _read(self) -> None:
        meters = self.meters
        if self._counters is not None:
            opened = self._counters.connections_opened
            self._grown(names.CONNECTIONS_OPENED, (), opened)
            for reason, n in list(self._counters.repeats.items()):
                self._grown(names.RETRIES, (reason,), n)
        self._read_failures()
        if self._sent is not None:
            self._grown(names.BATCHES, (), self._sent.batches)
        if self._schemas is not None:
            self._grown(names.SCHEMA_REQUESTS, ("hit",), self._schemas.hits)
            self._grown(names.SCHEMA_REQUESTS, ("miss",), self._schemas.misses)
        if self._connections is not None:
            busy = self._connections.busy
            meters.state(names.POOL_CONNECTIONS, ("busy",), busy)
            idle = self._connections.open - busy
            meters.state(names.POOL_CONNECTIONS, ("idle",), idle)
        if self._cache is not None:
            self._read_cache(self._cache)
        if self._room is not None:
            meters.state(names.BUFFER_BYTES, (), self._room.used)
        meters.state(names.RECORDS_ACTIVE, (), self._active)
        self._read_limits()

    def _read_failures(self) -> None:
        sums: defaultdict[tuple[str, str], int] = defaultdict(int)
        for shard, log in self._failures.items():
            for kind, n in list(log.counts.items()):
                sums[shard.api, kind] += n
        for labels, n in sums.items():
            self._grown(names.FAILURES, labels, n)

    def _read_limits(self) -> None:
        state = self.meters.state
        if self._limiter is not None:
            for one in self._limiter.readings():
                state(names.RATE_LIMIT_LEFT, (one.bucket,), one.left)
                state(names.RATE_LIMIT_CAPACITY, (one.bucket,), one.capacity)
                state(names.RATE_LIMIT_RATE, (one.bucket,), one.per_second)
            for host in self._limiter.host_readings():
                state(names.RATE_LIMIT_PAUSED, (host.host,), host.paused)
                state(names.RATE_LIMIT_FACTOR, (host.host,), host.factor)
                if host.remaining is not None:
                    state(names.RATE_LIMIT_REMAINING, (host.host,), host.remaining)
                if host.limit is not None:
                    state(names.RATE_LIMIT_QUOTA, (host.host,), host.limit)
        for breaker in self._breakers.values():
            for reading in breaker.readings():
                number = BREAKERS.index(reading.state)
                state(names.BREAKER_STATE, (reading.host,), number)

    def _grown(self, metric: names.Metric, labels: tuple[str, ...], n: int) -> None:
        """Count what came since the last reading; shown at zero from the first."""
        before = self._before.get((metric, labels))
        if n != before:
            self.meters.count(metric, labels, n - (before or 0))
            self._before[metric, labels] = n

    def _read_cache(self, cache: Cache) -> None:
        tiers, meters = cache.tiers, self.meters
        if tiers is None:
            return
        for name, n in list(tiers.lookups.items()):
            self._grown(names.CACHE_REQUESTS, name, n)
        for reading in tiers.readings():
            level = (str(reading.level),)
            if tiers.settings.statistics:
                self._grown(names.CACHE_EVICTIONS, level, reading.evictions)
            self._grown(names.CACHE_ERRORS, level, reading.errors)
            if reading.level > 1 and not cache.speaks:
                # All tasks see the same: one of them says it.
                continue
            meters.state(names.CACHE_BYTES, level, reading.bytes)
            meters.state(names.CACHE_ENTRIES, level, reading.entries)
            meters.state(names.CACHE_ENTRIES_LIMIT, level, reading.allowed)
        if cache.trace is not None and cache.warming is not None:
            self._grown(names.CACHE_WARMED, ("fetched",), cache.warming.fetched)
            self._grown(names.CACHE_WARMED, ("used",), cache.trace.used)
            self._grown(names.CACHE_WARMED, ("unused",), cache.trace.unused)
