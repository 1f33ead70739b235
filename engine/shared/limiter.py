"""
Limiter: when a request may go, decided by all processes together.

Owns the buckets (one small locked file each) and what the hosts demanded (one
file each): any process may die at any moment and takes at most the one place
it held.  Answers seconds and never sleeps; never asks the network anything.
Where a file cannot be used, the process keeps to its own part of the rate.

Named before the fork, opened after it.  `source.fetch` reserves, waits, asks
again, and shows it each answer; metrics read what is left of each budget.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from os import pread, pwrite
from pathlib import Path
from struct import Struct as Packing
from zlib import crc32

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import SharedError
from engine.policy import doubled
from engine.seams import Demanded
from engine.shared import feedback
from engine.shared.cell import (
    REST,
    Cell,
    Change,
    Numbers,
    file_name,
)
from engine.shared.rates import (
    ALGORITHMS,
    HORIZON,
    LEAST_FACTOR,
    NOW,
    Grant,
    Rate,
    SlidingWindow,
    terms_of,
)

log = logging.getLogger(__name__)

SCOPES = ("GLOBAL", "PER_API", "PER_HOST", "PER_TASK")

#: Seconds of the longest answer: who waits longer asks again, so that a rate
#: changed meanwhile, or a pause, holds within this.
LONGEST_ANSWER = 0.25

#: Seconds for which a host's demands are taken from memory.
GLANCE = 0.001

#: Shortest pause after a 429 or 503, in seconds.
LEAST_PAUSE = 0.05

#: Seconds below which a request is not late.
LEAST_LATENESS = 0.001

#: Answers that are seen before the fastest of them is taken for usual, and by
#: how much that grows with each further one.
FEW = 20
FORGETTING = 1.002

#: Seconds of the longest pause that is kept, or believed of a file: 31 days.
LONGEST_BELIEVED = 31 * 86_400.0

#: Growth of the adaptive rate in a second without a 429.
CREEP = 1.05

#: Why a request waits; index in a host's record.  The first two are our own
#: limits, the rest the host's demands: a time it named, nothing left in the
#: window it told of, a refusal that names no time.
CAUSES = ("", "limiter", "api_limiter", "retry_after", "budget", "throttled")

_BUCKET = b"lim1"
_HOST = b"hst1"

#: Where a bucket's rate stands in its file, and how: check sum, the epoch it
#: began, when it was configured last, requests a second, algorithm, burst, window.
_TERMS_AT = 256
_TERMS = Packing("<I6d")


class Reading(Struct, frozen=True):
    """
    A bucket, for whoever shows it.

    Attributes:
        bucket: "all", or what `rate.limit.scope` counts by.
        left: Requests that could go at once.
        capacity: Most that could ever go at once.
        per_second: Its rate as it is now.
        shared: False while this process keeps to a part of its own.
    """

    bucket: str
    left: float
    capacity: float
    per_second: float
    shared: bool = True


class HostReading(Struct, frozen=True):
    """
    What a host demanded.

    Attributes:
        host: Its name.
        paused: Seconds that nobody may ask it, 0.0: none.
        cause: Why: "retry_after", "budget" or "throttled".
        factor: Part of the rate that is used, 1.0 unless adaptive.
        limit, remaining: Its own budget as last told, or None where it is
            not known; whole again once its window is over.
        reset: Seconds until then, or None.
    """

    host: str
    paused: float
    cause: str
    factor: float
    limit: float | None
    remaining: float | None
    reset: float | None


class Listening(Struct, frozen=True, kw_only=True):
    """
    How one api takes what its server says.

    Attributes:
        respect: `rate.limit.respect.headers`; False: it neither learns from
            answers nor waits for what others have learnt.
        longest: `rate.limit.retry.after.max.ms` in seconds.
        adaptive: `rate.limit.adaptive.enabled`.
        backoff, backoff_max: `retry.backoff.ms` and `.max.ms` in seconds: the
            pause after a refusal that names no time, doubled for each further
            one.
        exponential: False: always `backoff`.
    """

    respect: bool = True
    longest: float = 3600.0
    adaptive: bool = False
    backoff: float = 1.0
    backoff_max: float = 60.0
    exponential: bool = True


_LISTENING = Listening()


class Limits(Struct, frozen=True, kw_only=True):
    """
    What one connector may ask, as all of its tasks have it.

    Attributes:
        rate: The connector's limit; None: none of ours.
        scope: `rate.limit.scope`, one of `SCOPES`: what one bucket counts.
        apis: Rates of single apis: all there are under PER_API, else a second
            limit inside the first.
        unlimited: Apis with `rate.limit.enabled=false`.
        listening: By api; who is not named listens as `Listening` has it.

    Source: `rate.limit.*`.
    """

    rate: Rate | None = None
    scope: str = "GLOBAL"
    apis: Mapping[str, Rate] = {}
    unlimited: tuple[str, ...] = ()
    listening: Mapping[str, Listening] = {}


class Limiter:
    """
    `engine.seams.Limiter` for one connector.

    Args:
        directories: Where the files stand: the runtime directory, then where
            it is full the state directory.
        connector: The connector's `name`.
        limits: Its limits, until others are adopted.
        task: Number of this task, for PER_TASK.
        tasks: Over how many tasks the rate is divided where it cannot be shared.
        patience: Seconds to wait for a stopped holder of a file.
        draw: Uniform random number between two bounds.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        connector: str,
        limits: Limits,
        *,
        task: int = 0,
        tasks: int = 1,
        patience: float = 1.0,
        clock: Clock = SYSTEM,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._directories = directories
        self._connector = connector
        self._task = task
        self._tasks = max(1, tasks)
        self._patience = patience
        self._clock = clock
        self._monotonic = clock.monotonic
        self._draw = draw
        self._routes = _Routes(limits, clock.monotonic())
        self._hosts: dict[str, _Host] = {}
        self._mine = threading.local()

    def adopt(self, limits: Limits) -> None:
        """
        Go on with other limits, from any thread.

        Whoever waits asks anew within 0.25 s; what was used under the old rate
        counts under the new one.
        """
        old = self._routes
        if limits != old.limits:
            self._routes = _Routes(limits, self._monotonic())
            for bucket in list(old.buckets.values()):
                bucket.close()

    def reserve(self, host: str, api: str) -> float:
        """
        Ask for one token.

        Returns: Seconds to wait before `recheck`, at most 0.25; 0.0: go.  The
        place in the queue is held meanwhile.
        Blocks: Only on the shared files, microseconds; at most `patience` if a
        holder is stopped, and then not again before it moves.
        """
        # Hot path: at most one bucket, and a host that demands nothing.
        try:
            record, bucket = self._routes.straight[host][api]
        except KeyError:
            return self._advance(_Ticket(api), host)
        if record is not None:
            if self._monotonic() >= record.look_at:
                record.look()
            if record.demands:
                return self._advance(_Ticket(api), host)
        if bucket is None:
            return 0.0
        if bucket.alone:
            return self._advance(_Ticket(api), host)
        try:
            wait, due, number = bucket.update(bucket.grant, 1.0)
        except SharedError:
            wait, due, number = bucket.take(1.0)
        if wait <= NOW:
            if number >= 0.0:
                self._mine.sent = [(bucket, number, due)]
            return 0.0
        ticket = _Ticket(api)
        ticket.begin(self._routes, (bucket,))
        ticket.due, ticket.number, ticket.epoch = due, number, bucket.epoch
        return self._hold(ticket, bucket.cause, wait)

    def recheck(self, host: str) -> float:
        """
        Seconds that the caller of the last `reserve` in this thread must still
        wait, at most 0.25; 0.0: go.  Blocks: as `reserve`.
        """
        ticket: _Ticket | None = getattr(self._mine, "ticket", None)
        if ticket is None:
            return 0.0
        self._mine.ticket = None
        return self._advance(ticket, host)

    @property
    def cause(self) -> str:
        """What this thread was last told to wait for: one of `CAUSES`."""
        found: str = getattr(self._mine, "cause", "")
        return found

    def paused(self, host: str) -> float:
        """Seconds for which nobody may ask the host, 0.0: none."""
        return self._host(host).pause(self._monotonic())

    def listening(self, api: str) -> Listening:
        """How an api takes what its server says."""
        return self._routes.limits.listening.get(api, _LISTENING)

    def spare(self, host: str, api: str) -> bool:
        """
        True if a request could go now and leave half of each bucket to others.

        Of a bucket of one it takes that one, and only while it is full.  Takes
        nothing here; for what is asked ahead of need only.
        """
        if self.listening(api).respect and self.paused(host) > 0.0:
            return False
        for bucket in self._route(self._routes, host, api):
            reading = bucket.reading()
            if reading.left < min(reading.capacity, reading.capacity / 2 + 1.0):
                return False
        return True

    def observe(
        self, host: str, api: str, status: int, headers: list[tuple[str, str]]
    ) -> None:
        """
        Learn from an answer what binds all tasks.

        A 429 or 503 that names no time pauses the host for the api's back-off,
        which each further one doubles; those that were in flight when the
        pause began do not count again.
        """
        sent: list[tuple[Bucket, float, float]] | None
        if sent := getattr(self._mine, "sent", None):
            self._mine.sent = None
            self._correct(host, sent)
        listening = self.listening(api)
        throttled = status in (429, 503)
        halve = status == 429 and listening.adaptive
        demand = feedback.NOTHING
        if listening.respect:
            demand = feedback.read(status, headers, self._clock.wall_ms())
            if demand is feedback.NOTHING and not throttled:
                if 200 <= status < 400:
                    self._host(host).forgive()
                return
        elif not halve:
            return
        self._host(host).learn(
            demand,
            listening,
            halve=halve,
            strike=throttled and listening.respect,
            chance=self._draw(0.0, 1.0),
        )

    def demanded(self, headers: list[tuple[str, str]], received_ms: int) -> Demanded:
        """What a refusal's headers ask for; pure."""
        demand = feedback.read(429, headers, received_ms)
        return Demanded(demand.after, demand.remaining == 0)

    def _correct(self, host: str, sent: list[tuple[Bucket, float, float]]) -> None:
        """Count what was sent from its likely arrival, not from its grant."""
        now = self._monotonic()
        usual = self._host(host).usual(now - max(due for _, _, due in sent))
        for bucket, number, due in sent:
            if number >= 0.0:
                bucket.correct(number, now - usual - due)

    def readings(self) -> list[Reading]:
        """What is left in each bucket this process has used."""
        return [bucket.reading() for bucket in self._used()]

    def host_readings(self) -> list[HostReading]:
        """What each host demanded that this process has asked."""
        return [host.reading() for host in list(self._hosts.values())]

    def close(self) -> None:
        """Close the files."""
        for bucket in self._used():
            bucket.close()
        for host in self._hosts.values():
            host.close()

    def _advance(self, ticket: _Ticket, host: str) -> float:
        record = self._host(host)
        listening = self.listening(ticket.api)
        now = self._monotonic()
        pause = record.pause(now) if listening.respect else 0.0
        if pause > NOW:
            # Who was already given a place pays again after the pause: else
            # all that waited would go at its end at once.
            ticket.begin(None, ())
            return self._hold(ticket, record.cause, pause)
        routes = self._routes
        if ticket.routes is not routes:
            # New, after a pause, or the limits have changed while it waited.
            ticket.begin(routes, self._route(routes, host, ticket.api))
        cost = 1.0 / record.factor_at(now) if listening.adaptive else 1.0
        buckets = ticket.buckets
        if ticket.due:
            bucket = buckets[ticket.place]
            left = ticket.due - now
            if left > NOW and not bucket.changed(ticket.epoch):
                return self._hold(ticket, bucket.cause, left)
            if left <= NOW:
                ticket.place += 1
                ticket.sent.append((bucket, ticket.number, ticket.due))
            ticket.due = 0.0
        while ticket.place < len(buckets):
            bucket = buckets[ticket.place]
            wait, due, number = bucket.take(cost)
            if wait > NOW:
                ticket.due, ticket.number, ticket.epoch = due, number, bucket.epoch
                return self._hold(ticket, bucket.cause, wait)
            ticket.place += 1
            ticket.sent.append((bucket, number, due))
        if any(number >= 0.0 for _, number, _ in ticket.sent):
            self._mine.sent = ticket.sent
        return 0.0

    def _hold(self, ticket: _Ticket, cause: str, wait: float) -> float:
        self._mine.cause = cause
        self._mine.ticket = ticket
        return min(wait, LONGEST_ANSWER)

    def _used(self) -> list[Bucket]:
        return list(self._routes.buckets.values())

    def _route(self, routes: _Routes, host: str, api: str) -> tuple[Bucket, ...]:
        """The buckets a request pays into, the narrower one first."""
        known = routes.known.get((host, api))
        if known is not None:
            return known
        limits = routes.limits
        names: list[tuple[str, Rate, str]] = []
        own = limits.apis.get(api)
        shared = limits.rate if limits.scope != "PER_API" or own is None else None
        if api not in limits.unlimited:
            if own is not None:
                inner = "api_limiter" if limits.scope != "PER_API" else "limiter"
                names.append((f"api {api}", own, inner))
            if shared is not None:
                key = {
                    "GLOBAL": "all",
                    "PER_API": f"api {api}",
                    "PER_HOST": f"host {host}",
                    "PER_TASK": f"task {self._task}",
                }[limits.scope]
                names.append((key, shared, "limiter"))
        route = tuple(self._bucket(routes, *name) for name in names)
        routes.known[host, api] = route
        listening = self.listening(api)
        if len(route) < 2 and (listening.respect or not listening.adaptive):
            record = self._host(host) if listening.respect else None
            straight = routes.straight.setdefault(host, {})
            straight[api] = (record, route[0] if route else None)
        return route

    def _bucket(self, routes: _Routes, key: str, rate: Rate, cause: str) -> Bucket:
        bucket = routes.buckets.get(key)
        if bucket is None:
            bucket = routes.buckets[key] = Bucket(
                self._directories,
                f"{self._connector} {key}",
                key,
                rate,
                cause=cause,
                generation=routes.generation,
                share=1 if key.startswith("task ") else self._tasks,
                patience=self._patience,
                clock=self._clock,
            )
        return bucket

    def _host(self, host: str) -> _Host:
        record = self._hosts.get(host)
        if record is None:
            record = self._hosts[host] = _Host(
                self._directories,
                host,
                patience=self._patience,
                clock=self._clock,
            )
        return record


class _Routes:
    """
    Which buckets a request pays into; replaced whole where the limits change.

    Attributes:
        limits: What it is made from.
        generation: When they were configured (monotonic).
        buckets: By what they count.
        known: By host and api.
        straight: Those that pay into one bucket or none, by host and api, and the
            host's demands, None where the api does not heed them.
    """

    __slots__ = ("buckets", "generation", "known", "limits", "straight")

    def __init__(self, limits: Limits, generation: float) -> None:
        self.limits = limits
        self.generation = generation
        self.buckets: dict[str, Bucket] = {}
        self.known: dict[tuple[str, str], tuple[Bucket, ...]] = {}
        self.straight: dict[str, dict[str, tuple[_Host | None, Bucket | None]]] = {}


class _Ticket:
    """Where a waiting caller stands: which bucket, and until when."""

    __slots__ = (
        "api",
        "buckets",
        "due",
        "epoch",
        "number",
        "place",
        "routes",
        "sent",
    )

    def __init__(self, api: str) -> None:
        self.api = api
        self.routes: _Routes | None = None
        self.buckets: tuple[Bucket, ...] = ()
        self.place = 0
        self.due = 0.0
        self.number = -1.0
        self.epoch = 0.0
        #: Bucket, number and time of each place taken so far.
        self.sent: list[tuple[Bucket, float, float]] = []

    def begin(self, routes: _Routes | None, buckets: tuple[Bucket, ...]) -> None:
        """Give up the places taken and stand at the end of these queues."""
        self.routes, self.buckets = routes, buckets
        self.place, self.due, self.sent = 0, 0.0, []


class Bucket:
    """
    One limit in one file.

    Its numbers are the rate's epoch and three of the algorithm's; the rate
    itself stands behind them, for whoever was started before it changed.  An
    epoch begins when the rate changes, not when a task with the same one is
    started again: those who wait keep their places.

    Args:
        directories, patience: As for the limiter.
        name: Of the file.
        label: For people.
        cause: What waiting for it is called: one of `CAUSES`.
        generation: When the rate was configured (monotonic); the latest holds.
        share: Over how many processes the rate is divided while the file
            cannot be used.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        name: str,
        label: str,
        rate: Rate,
        *,
        cause: str = "rate",
        generation: float,
        share: int = 1,
        patience: float = 1.0,
        clock: Clock = SYSTEM,
    ) -> None:
        self.label = label
        self.cause = cause
        self._generation = generation
        self._terms = terms_of(rate, self._settle_and_grant)
        self._share = share
        self._monotonic = clock.monotonic
        self._cell = Cell(
            file_name("limit", name),
            directories,
            kind=_BUCKET,
            count=4,
            text=name,
            size=self._terms.size,
            patience=patience,
            clock=clock,
        )
        #: Hot path: the limiter calls `update(grant, cost)` itself while the
        #: file can be shared, and `take` where that fails.
        self.update = self._cell.update
        self.grant = self._terms.grant
        #: Until when this process decides alone, 0.0: the file is shared.
        self.alone = 0.0
        self._alone_tat = 0.0

    def take(self, cost: float) -> Grant:
        """
        Ask for `cost` requests.

        Never raises: without its file a process keeps to its part of the rate.
        """
        if self.alone:
            return self._rejoin(cost)
        try:
            return self.update(self.grant, cost)
        except SharedError as failure:
            log.warning(
                "Rate limit %s: this process keeps to 1/%d of it: %s.",
                self.label,
                self._share,
                failure,
            )
            self._alone_tat = self._monotonic() + self._terms.tolerance * self._share
            return self._alone(cost)

    def correct(self, number: float, late: float) -> None:
        """Count the place's request from `late` seconds after its grant."""
        terms = self._terms
        if late >= LEAST_LATENESS and isinstance(terms, SlidingWindow):
            with contextlib.suppress(SharedError):
                self.update(terms.correct, (number, late))

    def changed(self, epoch: float) -> bool:
        """True if the rate is no longer that of `epoch`."""
        try:
            numbers = self._cell.peek()
        except SharedError:
            return False
        return numbers is not None and len(numbers) > 0 and numbers[0] != epoch

    def reading(self) -> Reading:
        """What is left; takes no lock."""
        terms = self._terms
        used, shared = 0.0, not self.alone
        try:
            numbers = self._cell.peek()
            if numbers:
                used = terms.used(numbers, self._monotonic(), self._cell.fileno())
        except (SharedError, OSError):
            shared = False
        left = max(0.0, terms.capacity - used)
        return Reading(self.label, left, terms.capacity, terms.per_second, shared)

    def close(self) -> None:
        self._cell.close()

    @property
    def epoch(self) -> float:
        """The epoch of the rate that holds."""
        return self._terms.epoch

    def _settle_and_grant(
        self, numbers: Numbers, now: float, fd: int, cost: float
    ) -> Change[Grant]:
        settled = self._settle(numbers, now, fd)
        new, tail, answer = self._terms.grant(settled, now, fd, cost)
        return new or settled, tail, answer

    def _settle(self, numbers: Numbers, now: float, fd: int) -> Sequence[float]:
        """Bring the numbers and this process to the same, the latest, rate."""
        found = self._read_rate(fd, numbers[0]) if numbers else None
        if numbers and found is not None:
            latest, rate = found
            if rate == self._terms.rate:
                self._terms.epoch = numbers[0]
                if self._generation > latest:
                    self._write_rate(fd)
                return numbers
            if self._generation <= latest:
                # Somebody was configured after us.
                self._terms = terms_of(rate, self._settle_and_grant)
                self._terms.epoch = numbers[0]
                self.grant = self._terms.grant
                return numbers
        terms = self._terms
        self._cell.reserve(fd, terms.size)
        if numbers and found is not None:
            before = terms_of(found[1], self._settle_and_grant)
            numbers = terms.carry(before, numbers, now, fd)
        elif numbers is None or len(numbers):
            # Nobody knows what was used: as if all of it was.
            numbers = terms.spent(now, fd)
        else:
            numbers = (0.0, 0.0, 0.0, 0.0)
        terms.epoch = self._generation
        self._write_rate(fd)
        return (terms.epoch, *numbers[1:])

    def _write_rate(self, fd: int) -> None:
        rate = self._terms.rate
        body = _TERMS.pack(
            0,
            self.epoch,
            self._generation,
            rate.per_second,
            ALGORITHMS.index(rate.algorithm),
            rate.burst or 0,
            rate.window,
        )[4:]
        pwrite(fd, crc32(body).to_bytes(4, "little") + body, _TERMS_AT)

    @staticmethod
    def _read_rate(fd: int, epoch: float) -> tuple[float, Rate] | None:
        """(when configured, rate) of the epoch; None if it does not stand there."""
        raw = pread(fd, _TERMS.size, _TERMS_AT)
        if len(raw) < _TERMS.size:
            return None
        check, began, latest, per_second, algorithm, burst, window = _TERMS.unpack(raw)
        if check != crc32(raw[4:]) or began != epoch:
            return None
        algorithm = ALGORITHMS[int(algorithm)]
        return latest, Rate(per_second, algorithm, int(burst) or None, window)

    def _rejoin(self, cost: float) -> Grant:
        if self._monotonic() < self.alone:
            return self._alone(cost)
        try:
            answer = self.update(self.grant, cost)
        except SharedError:
            return self._alone(cost)
        self.alone = 0.0
        log.warning("Rate limit %s is shared again.", self.label)
        return answer

    def _alone(self, cost: float) -> Grant:
        """This process's own part of the rate, beginning with an empty bucket."""
        now = self._monotonic()
        self.alone = now + REST / 4
        terms = self._terms
        tat = max(self._alone_tat, now) + terms.interval * self._share * cost
        due = tat - max(terms.tolerance, terms.interval * self._share)
        if due - now > HORIZON:
            return due - now - HORIZON, 0.0, -1.0
        self._alone_tat = tat
        return max(0.0, due - now), due, -1.0


class _Host:
    """
    What one host demanded, in one file that all its callers read.

    The numbers: until when nobody may ask, why, strikes in a row, the factor
    of the adaptive rate and its moment, the host's own limit, what is left of
    it (-1: not told) and when it is whole again.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        host: str,
        *,
        patience: float,
        clock: Clock,
    ) -> None:
        self.cause = ""
        self.look_at = 0.0
        #: True while there is more to it than the bucket.
        self.demands = False
        self._host = host
        self._monotonic = clock.monotonic
        self._until = 0.0
        self._strikes = 0.0
        self._factor = 1.0
        self._factor_at = 0.0
        self._fastest = float("inf")
        self._answers = 0
        self._budget = (-1.0, -1.0, 0.0)
        self._cell = Cell(
            file_name("host", host),
            directories,
            kind=_HOST,
            count=8,
            text=host,
            patience=patience,
            clock=clock,
        )

    def look(self) -> None:
        """Read what any process has learnt; keep what is known if that fails."""
        now = self._monotonic()
        self.look_at = now + GLANCE
        try:
            numbers = self._cell.peek()
        except SharedError:
            numbers = None
        if numbers:
            self._know(numbers)
        elif numbers is not None:
            self._until, self._strikes, self._factor = 0.0, 0.0, 1.0
        self.demands = self._until > now or self.factor_at(now) < 1.0

    def pause(self, now: float) -> float:
        """Seconds for which nobody may ask."""
        if now >= self.look_at:
            self.look()
        left = self._until - now
        return left if 0 < left <= LONGEST_BELIEVED else 0.0

    def factor_at(self, now: float) -> float:
        """Part of the rate that is used, growing by 5 % a second."""
        if self._factor >= 1.0:
            return 1.0
        passed = min(200.0, max(0.0, now - self._factor_at))
        grown: float = self._factor * CREEP**passed
        return min(1.0, max(LEAST_FACTOR, grown))

    def learn(
        self,
        demand: feedback.Demand,
        listening: Listening,
        *,
        halve: bool,
        strike: bool,
        chance: float,
    ) -> None:
        """
        Take up what an answer demanded, for all processes.

        Args:
            halve: The adaptive rate is halved.
            strike: It was a refusal.
            chance: Part of the back-off that is waited, 0 to 1.
        """
        if demand.after is not None and demand.after > listening.longest:
            log.warning(
                "%s asks for a pause of %.0f s, cut to %.0f s.",
                self._host,
                demand.after,
                listening.longest,
            )
        lesson = (demand, listening, halve, strike, chance)
        try:
            self._know(self._cell.update(self._learn, lesson))
        except SharedError as failure:
            log.warning("%s: its demand is known here only: %s.", self._host, failure)
            known = self._numbers()
            self._know(self._learn(known, self._monotonic(), -1, lesson)[2])
        now = self._monotonic()
        self.look_at = now + GLANCE
        self.demands = self._until > now or self.factor_at(now) < 1.0

    def forgive(self) -> None:
        """The host answered well: the next strike is a first one again."""
        if self._monotonic() >= self.look_at:
            self.look()
        if self._strikes:
            try:
                self._know(self._cell.update(_forgive, None))
            except SharedError:
                self._strikes = 0.0

    def usual(self, seconds: float) -> float:
        """
        The seconds an answer takes that nothing holds up: the least of those
        seen, forgotten slowly; at most the newest one's.  0.0 until enough were
        seen: a first request, with its connection to make, counts as late.
        """
        self._answers += 1
        self._fastest = min(seconds, self._fastest * FORGETTING)
        return min(self._fastest, seconds) if self._answers > FEW else 0.0

    def reading(self) -> HostReading:
        now = self._monotonic()
        paused = self.pause(now)
        limit, remaining, reset_at = self._budget
        known = remaining >= 0
        if known and reset_at <= now:
            # Whole again, as far as anybody has told.
            remaining, known = limit, limit >= 0
        return HostReading(
            self._host,
            paused,
            self.cause if paused else "",
            self.factor_at(now),
            limit if known and limit >= 0 else None,
            remaining if known else None,
            reset_at - now if known and now < reset_at < math.inf else None,
        )

    def close(self) -> None:
        self._cell.close()

    def _numbers(self) -> list[float]:
        cause = float(CAUSES.index(self.cause))
        moments = [self._until, cause, self._strikes, self._factor, self._factor_at]
        return moments + list(self._budget)

    def _know(self, numbers: Sequence[float]) -> None:
        self._until, cause, self._strikes, self._factor, self._factor_at = numbers[:5]
        limit, remaining, reset_at = numbers[5:]
        self._budget = (limit, remaining, reset_at)
        self.cause = CAUSES[int(cause)] if 0 <= cause < len(CAUSES) else ""

    def _learn(
        self,
        numbers: Numbers,
        now: float,
        _fd: int,
        lesson: tuple[feedback.Demand, Listening, bool, bool, float],
    ) -> Change[Sequence[float]]:
        demand, listening, halve, strike, chance = lesson
        until, cause, strikes, factor, factor_at, *budget = numbers or _UNTOLD
        if until > now + LONGEST_BELIEVED:
            until = 0.0
        # What was in flight when the pause began says nothing new.
        known = until > now
        if demand.after:
            wanted = now + min(demand.after, listening.longest, LONGEST_BELIEVED)
            if wanted > until:
                until, cause = wanted, float(CAUSES.index(demand.cause))
        elif strike and not known:
            strikes += 1
            pause = _backoff(listening, strikes, chance)
            until, cause = now + pause, float(CAUSES.index("throttled"))
        if halve and not known and now - factor_at >= 1.0:
            self._factor, self._factor_at = factor, factor_at
            factor = max(LEAST_FACTOR, self.factor_at(now) / 2)
            factor_at = now
        if demand.remaining is not None:
            budget = [
                -1.0 if demand.limit is None else demand.limit,
                demand.remaining,
                math.inf if demand.reset is None else now + demand.reset,
            ]
        new = (until, cause, strikes, factor, factor_at, *budget)
        return new, None, new


def _backoff(listening: Listening, strikes: float, chance: float) -> float:
    """Seconds after so many refusals in a row, as `retry.backoff.*` has it."""
    if not listening.exponential:
        return max(LEAST_PAUSE, listening.backoff)
    highest = doubled(listening.backoff, listening.backoff_max, strikes)
    return max(LEAST_PAUSE, chance * highest)


_UNTOLD = (0.0, 0.0, 0.0, 1.0, -1e9, -1.0, -1.0, 0.0)


def _forgive(
    numbers: Numbers, _now: float, _fd: int, _given: None
) -> Change[Sequence[float]]:
    until, cause, _, *rest = numbers or _UNTOLD
    new = (until, cause, 0.0, *rest)
    return new, None, new
