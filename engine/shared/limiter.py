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

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import SharedError
from engine.seams import Demanded
from engine.shared import feedback
from engine.shared.bucket import Bucket, BucketReading
from engine.shared.demands import (
    HEEDED_BY_ALL,
    HostDemands,
    HostReading,
    Listening,
)
from engine.shared.rates import (
    NOW,
    Rate,
)

log = logging.getLogger(__name__)

SCOPES = ("GLOBAL", "PER_API", "PER_HOST", "PER_TASK")

#: Seconds of the longest answer: who waits longer asks again, so that a rate
#: changed meanwhile, or a pause, holds within this.
LONGEST_ANSWER = 0.25


class RateLimits(Struct, frozen=True, kw_only=True):
    """
    What one connector may ask, as all of its tasks have it.

    Attributes:
        rate: The connector's limit; None: none of ours.
        scope: `rate.limit.scope`, one of `SCOPES`: what one bucket counts.
        apis: Rates of single apis: all there are under PER_API, else a second
            limit inside the first.
        unlimited: Apis with `rate.limit.enabled=false`.
        listening: By api; who is not named listens as `Listening` has it.
        share: Part of each rate that those may take together who work beside the
            engine whose limits these are; None: it is the engine.

    Source: `rate.limit.*`.
    """

    rate: Rate | None = None
    scope: str = "GLOBAL"
    apis: Mapping[str, Rate] = {}
    unlimited: tuple[str, ...] = ()
    listening: Mapping[str, Listening] = {}
    share: float | None = None


def part_of(rate: Rate, share: float) -> Rate:
    """A part of a rate, its burst not less than one request."""
    burst = None if rate.burst is None else max(1, int(rate.burst * share))
    return Rate(rate.per_second * share, rate.algorithm, burst, rate.window)


class RateLimiter:
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
        limits: RateLimits,
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
        # `adopt` replaces it and changes none of its limits: a thread in the midst of a decision
        # goes by the old ones once more, and sees at the next that they are others.
        self._routes = _Routes(limits, clock.monotonic())
        self._hosts: dict[str, HostDemands] = {}
        # No lock here: what processes share is under the locks of the cells' files, and a thread
        # has one request under way, so what that was given is kept by thread.
        self._mine = threading.local()

    def adopt(self, limits: RateLimits) -> None:
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

    @property
    def left(self) -> float:
        """Seconds of that wait in all, as they are known now."""
        found: float = getattr(self._mine, "left", 0.0)
        return found

    def paused(self, host: str) -> float:
        """Seconds for which nobody may ask the host, 0.0: none."""
        return self._host(host).pause(self._monotonic())

    def listening(self, api: str) -> Listening:
        """How an api takes what its server says."""
        return self._routes.limits.listening.get(api, HEEDED_BY_ALL)

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

    def readings(self) -> list[BucketReading]:
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
        self._mine.left = wait
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
        if limits.share is not None:
            # Its part first: who waits for that holds no place in the whole.
            names = [
                *(
                    (f"beside {key}", part_of(rate, limits.share), cause)
                    for key, rate, cause in names
                ),
                *(each for each in names if not each[0].startswith("task ")),
            ]
        _, several, number = host.rpartition("#")
        if several:
            # One of several credentials: each has all of the rate.
            names = [(f"{key} #{number}", rate, why) for key, rate, why in names]
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

    def _host(self, host: str) -> HostDemands:
        record = self._hosts.get(host)
        if record is None:
            record = self._hosts[host] = HostDemands(
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

    def __init__(self, limits: RateLimits, generation: float) -> None:
        self.limits = limits
        self.generation = generation
        self.buckets: dict[str, Bucket] = {}
        self.known: dict[tuple[str, str], tuple[Bucket, ...]] = {}
        self.straight: dict[
            str, dict[str, tuple[HostDemands | None, Bucket | None]]
        ] = {}


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
