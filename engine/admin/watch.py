"""
Watch: one look at everything, and what it says of the last minutes.

Owns the rings of the admin process: totals of the last 60 seconds, 5 minutes
and each cache's statistics window.  It decides nothing and writes nothing; its
pictures are the one truth behind `/health`, `/metrics`, Jolokia and Connect.

Totals come from the board and the meters; a shard's counts are credited to
the task that holds it at the time, so that no task's total ever falls when a
shard moves.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from engine.admin.store import MeterStore, Reading, Series
from engine.admin.totals import (
    NOTHING,
    STEP,
    ByPlace,
    Families,
    Place,
    SlidingTotals,
    Totals,
    totals_of,
)
from engine.admin.view import WAITING, ConnectorCard, EngineView, ShardState, TaskState
from engine.clock import SYSTEM, Clock
from engine.observe import names
from engine.observe.names import Metric

#: Rates are means of this many seconds.
RATE_SPAN = 60.0

#: Ratios and mean times are those of this many seconds.
RATIO_SPAN = 300.0


class TaskHistory:
    """
    How a task spent its time, when its errors last grew, and when it was last
    seen unable to poll: not started, or waiting for the broker.
    """

    __slots__ = ("errors", "held_at", "last_error_ms", "paused", "running", "total")

    def __init__(self) -> None:
        self.running = self.paused = self.total = 0.0
        self.errors = 0.0
        self.held_at = 0.0
        self.last_error_ms = 0


class Picture(Struct, frozen=True):
    """
    Everything at one moment.

    Attributes:
        now: Monotonic seconds.
        wall_ms: Wall milliseconds.
        cards: The connectors.
        tasks: The tasks.
        shards: The shards.
        families: The meters: family -> its series and their values.
        credited: (connector, task, api) -> board column -> value.
        totals: Since the start, by place.
        rate_base: As of about 60 seconds ago.
        ratio_base: As of about 5 minutes ago.
        history: Time (monotonic seconds) and totals of each sample of the last 5
            minutes, the oldest first.
        cache_bases: Connector -> as of its statistics window ago.
        lives: (connector, task) -> how it spent its time.
        active: (connector, task) -> mean and peak of records in flight, 60 s.
        largest: (connector, task) -> most records handed on in one go, the
            largest mean between two looks of the last 5 minutes.
    """

    now: float
    wall_ms: int
    cards: Sequence[ConnectorCard]
    tasks: Sequence[TaskState]
    shards: Sequence[ShardState]
    families: Families
    credited: Mapping[tuple[str, str, str], Mapping[str, int]]
    totals: ByPlace
    rate_base: tuple[float, ByPlace]
    ratio_base: tuple[float, ByPlace]
    history: Sequence[tuple[float, ByPlace]]
    cache_bases: Mapping[str, tuple[float, ByPlace]]
    lives: Mapping[Place, TaskHistory]
    active: Mapping[Place, tuple[float, float]]
    largest: Mapping[Place, float]

    def card(self, name: str) -> ConnectorCard | None:
        """The connector of that name, or None."""
        return next((card for card in self.cards if card.name == name), None)

    def tasks_of(self, connector: str) -> list[TaskState]:
        """The tasks of a connector, by number."""
        found = [task for task in self.tasks if task.connector == connector]
        return sorted(found, key=lambda task: task.number)

    def shards_of(self, connector: str) -> list[ShardState]:
        """The shards of a connector."""
        return [shard for shard in self.shards if shard.connector == connector]

    def held_at(self, connector: str) -> float:
        """Monotonic seconds at which a task of it was last unable to poll."""
        return max(
            (
                life.held_at
                for place, life in self.lives.items()
                if place[0] == connector
            ),
            default=0.0,
        )

    def figures(
        self, connectors: Iterable[str] | None = None, task: str | None = None
    ) -> Figures:
        """
        The numbers people ask for.

        Args:
            connectors: Of these together; None means all.
            task: Of this task alone; None means all.
        """
        wanted = {card.name for card in self.cards}
        if connectors is not None:
            wanted &= set(connectors)
        places = [
            place
            for place in self.totals
            if place[0] in wanted and (task is None or place[1] == task)
        ]

        total = Totals.sum(self.totals[place] for place in places)
        rate_at, rate_then = self.rate_base
        ratio_then = self.ratio_base[1]
        rated = total.minus(_sum(rate_then, places))
        recent = total.minus(_sum(ratio_then, places))
        elapsed = max(1.0, self.now - rate_at)

        lookups = hits = 0.0
        counted = False
        for card in self.cards:
            if card.name not in wanted or not (card.cache and card.statistics):
                continue
            counted = True
            mine = [place for place in places if place[0] == card.name]
            seen = Totals.sum(self.totals[place] for place in mine)
            base = self.cache_bases.get(card.name)
            if base is not None:
                seen = seen.minus(_sum(base[1], mine))
            lookups += seen["lookups"]
            hits += seen["hits"]

        bad = max(recent["errors"], recent["dead"])
        error_ratio = max(
            _ratio(recent["failed"], recent["requests"]),
            _ratio(bad, max(recent["received"], bad)),
        )
        return Figures(
            total=total,
            recent=recent,
            messages_per_second=rated["written"] / elapsed,
            received_per_second=rated["received"] / elapsed,
            requests_per_second=rated["requests"] / elapsed,
            bytes_per_second=rated["bytes"] / elapsed,
            latency_ms=recent.mean_ms("ack"),
            response_ms=recent.mean_ms("response"),
            cached=counted,
            lookups=int(lookups),
            hit_ratio=_ratio(hits, lookups) if lookups else 1.0,
            error_ratio=error_ratio,
            pool_utilization=self._utilization(wanted, task),
        )

    def total(
        self, metric: Metric, connector: str, task: str = "", **own: str
    ) -> float:
        """The sum of a meters' family over the series that match."""
        return sum(
            value
            for series, value in self.families.get(metric.name, ())
            if series.connector == connector
            and (not task or series.task == task)
            and all(series.label(name) == wanted for name, wanted in own.items())
        )

    def _utilization(self, wanted: set[str], task: str | None) -> float:
        bounds = {card.name: card.max_connections for card in self.cards}
        busy = [
            value / max(1, bounds[series.connector])
            for series, value in self.families.get(names.POOL_CONNECTIONS.name, ())
            if series.connector in wanted
            and (task is None or series.task == task)
            and series.label("state") == "busy"
        ]
        return sum(busy) / len(busy) if busy else 0.0


class Figures(Struct, frozen=True):
    """
    What the last minutes say.

    Attributes:
        total: Since the start.
        recent: Of the last 5 minutes.
        messages_per_second: Acknowledged, mean of 60 seconds.
        received_per_second: Received, mean of 60 seconds.
        requests_per_second: Ended, mean of 60 seconds.
        bytes_per_second: On the wire, mean of 60 seconds.
        latency_ms: Request sent to record acknowledged, mean of 5 minutes.
        response_ms: Request sent to body complete, mean of 5 minutes.
        cached: True if lookups are counted at all.
        lookups: In the statistics window.
        hit_ratio: In the statistics window; 1.0 when nothing was asked.
        error_ratio: Of 5 minutes.
        pool_utilization: Busy connections / the bound, mean over tasks, now.
    """

    total: Totals
    recent: Totals
    messages_per_second: float
    received_per_second: float
    requests_per_second: float
    bytes_per_second: float
    latency_ms: float
    response_ms: float
    cached: bool
    lookups: int
    hit_ratio: float
    error_ratio: float
    pool_utilization: float


class HealthWatch:
    """
    Looks when it is asked, and every `STEP` seconds by `tick`.

    Any thread may look; one at a time does.

    Args:
        view: What is running.
        clock: Where time comes from.
    """

    def __init__(self, view: EngineView, *, clock: Clock = SYSTEM) -> None:
        self._view = view
        self._clock = clock
        self._store = MeterStore(view.meters)
        # Requests come on several threads, and each look adds to the samples below and gives
        # counts that went back their base again: two looks at once would add the same step twice.
        self._lock = threading.Lock()
        now = clock.monotonic()
        self._began = now - max(0, clock.wall_ms() - view.started_ms) / 1000
        self._rates = SlidingTotals(RATE_SPAN, began=self._began, now=now)
        self._ratios = SlidingTotals(RATIO_SPAN, began=self._began, now=now)
        self._caches: dict[str, tuple[float, SlidingTotals]] = {}
        self._seen: dict[tuple[str, int], Mapping[str, int]] = {}
        self._credited: dict[tuple[str, str, str], defaultdict[str, int]] = {}
        self._lives: dict[Place, TaskHistory] = {}
        self._in_flight: deque[tuple[float, Mapping[Place, float]]] = deque()
        self._pages: deque[tuple[float, Mapping[Place, float]]] = deque()
        self._before: ByPlace = {}
        self._looked = now
        self.look()

    @property
    def began(self) -> float:
        """Monotonic seconds of the supervisor's start."""
        return self._began

    def tick(self) -> None:
        """Take a sample if the last is `STEP` old; call it about once a second."""
        if self._clock.monotonic() - self._looked >= STEP:
            self.look()

    def look(self) -> Picture:
        """
        Everything as it is now.

        Blocks: for the reading of the meters' files, 1 to 10 ms.
        """
        with self._lock:
            return self._look()

    def _look(self) -> Picture:
        view = self._view
        now = self._clock.monotonic()
        wall_ms = self._clock.wall_ms()
        cards = view.connectors()
        tasks = view.tasks()
        shards = view.shards()
        live = {(task.connector, str(task.number)) for task in tasks}
        families = _by_family(self._store.read(), live)

        self._credit(shards, {card.name for card in cards})
        totals = totals_of(families, self._credited)
        for place in live:
            totals.setdefault(place, Totals())
        self._spend(tasks, totals, now, wall_ms)
        active = self._flight(families, now)
        largest = self._largest(totals, {card.name: card for card in cards}, now)

        self._rates.add(now, totals)
        self._ratios.add(now, totals)
        for card in cards:
            span, window = self._caches.get(card.name, (0.0, None))
            if window is None or span != card.statistics_seconds:
                span = card.statistics_seconds
                window = SlidingTotals(span, began=self._began, now=now)
                self._caches[card.name] = span, window
            window.add(now, totals)
        self._looked = now

        return Picture(
            now=now,
            wall_ms=wall_ms,
            cards=cards,
            tasks=tasks,
            shards=shards,
            families=families,
            credited={key: dict(value) for key, value in self._credited.items()},
            totals=totals,
            rate_base=self._rates.base(now),
            ratio_base=self._ratios.base(now),
            history=self._ratios.samples(),
            cache_bases={
                card.name: self._caches[card.name][1].base(now) for card in cards
            },
            lives=dict(self._lives),
            active=active,
            largest=largest,
        )

    def _credit(self, shards: Sequence[ShardState], connectors: set[str]) -> None:
        """Give what a shard counted since the last look to the task it is with."""
        for shard in shards:
            task = "" if shard.task is None else str(shard.task)
            mine = self._credited.setdefault(
                (shard.connector, task, shard.api), defaultdict(int)
            )
            before = self._seen.get((shard.connector, shard.place), {})
            for column, value in shard.counts.items():
                old = before.get(column, 0)
                mine[column] += value - old if value >= old else value
            self._seen[shard.connector, shard.place] = dict(shard.counts)
        for key in [key for key in self._credited if key[0] not in connectors]:
            del self._credited[key]
        for known in [known for known in self._seen if known[0] not in connectors]:
            del self._seen[known]

    def _spend(
        self,
        tasks: Sequence[TaskState],
        totals: Mapping[Place, Totals],
        now: float,
        wall_ms: int,
    ) -> None:
        passed = now - self._looked
        for task in tasks:
            place = (task.connector, str(task.number))
            life = self._lives.setdefault(place, TaskHistory())
            life.total += passed
            if task.state == "UNASSIGNED" or task.phase == WAITING:
                life.held_at = now
            if task.state == "RUNNING":
                life.running += passed
            elif task.state == "PAUSED":
                life.paused += passed
            errors = totals[place]["errors"] + totals[place]["dead"]
            if errors > life.errors:
                life.errors = errors
                life.last_error_ms = wall_ms

    def _flight(
        self, families: Families, now: float
    ) -> dict[Place, tuple[float, float]]:
        current = {
            (series.connector, series.task): value
            for series, value in families.get(names.RECORDS_ACTIVE.name, ())
        }
        samples = self._in_flight
        _keep(samples, now, current, RATE_SPAN)
        found: dict[Place, tuple[float, float]] = {}
        for place in current:
            seen = [sample.get(place, 0.0) for _, sample in samples]
            found[place] = (sum(seen) / len(seen), max(seen))
        return found

    def _largest(
        self, totals: ByPlace, cards: Mapping[str, ConnectorCard], now: float
    ) -> dict[Place, float]:
        """
        Records of a page, the largest mean between two looks; a page of more
        than `transformation.batch.size` is handed on in pieces of that size.
        """
        means: dict[Place, float] = {}
        for place, total in totals.items():
            since = total.minus(self._before.get(place, NOTHING))
            if since["pages"]:
                mean = since["received"] / since["pages"]
                card = cards.get(place[0])
                means[place] = mean if card is None else min(mean, card.batch_size)
        self._before = totals
        _keep(self._pages, now, means, RATIO_SPAN)
        return {
            place: max(sample.get(place, 0.0) for _, sample in self._pages)
            for place in totals
        }


def _keep(
    samples: deque[tuple[float, Mapping[Place, float]]],
    now: float,
    newest: Mapping[Place, float],
    span: float,
) -> None:
    """Add a sample and drop what is too old; never more than 120 of them."""
    samples.append((now, newest))
    while samples[0][0] < now - span or len(samples) > 120:
        samples.popleft()


def _sum(totals: ByPlace, places: Iterable[Place]) -> Totals:
    return Totals.sum(totals.get(place, NOTHING) for place in places)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _by_family(
    reading: Reading, live: set[Place]
) -> dict[str, list[tuple[Series, float]]]:
    """The series, without the gauges of tasks that are no more."""
    families: dict[str, list[tuple[Series, float]]] = {}
    for pair in reading.items():
        series = pair[0]
        if (
            series.kind == "gauge"
            and series.task
            and (series.connector, series.task) not in live
        ):
            continue
        family = families.get(series.family)
        if family is None:
            families[series.family] = [pair]
        else:
            family.append(pair)
    return families
