"""
Sizing: what a configuration will do, reckoned from a few pages of its apis.

Owns the formulas of `plan`, as functions of numbers:

    records/s   = records a call x calls/s
    calls/s     = requests under way / seconds of a call, at most the rate limit
    a poll      = calls of a poll / calls/s
    calls a day = calls of a poll x polls a day

It asks nobody and prints nothing.

Path: ``task.sample``, ``config`` -> here -> ``contradictions``, ``plan``
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from engine.cli.wanted import owned
from engine.config import Api, Connector
from engine.config.pagination import TYPES
from engine.config.sections.client import BalancingConfig, ClientConfig, PoolConfig
from engine.config.sections.engine import ApiConfig, IdentityConfig, PollingConfig
from engine.config.sections.offsets import OffsetsConfig
from engine.config.sections.paging import PaginationConfig, PrefetchConfig
from engine.language.cron import compile_cron
from engine.shared.limiter import RateLimits
from engine.source.wire.origin import host_of
from engine.supervisor import assign
from engine.task.build.limits import limits_of
from engine.task.pace import IDLE_PAUSE, next_tick
from engine.task.sample import Sample

DAY = 86_400.0

#: Days, and ticks at most, over which a schedule is looked at.
AHEAD_DAYS = 7
AHEAD_TICKS = 2_000

#: A number of tasks is enough if it asks this part of what the most would.
ENOUGH = 0.99

#: Most tasks there may be, `tasks.max`.
MOST_TASKS = 256


class Pacing(Struct, frozen=True):
    """
    How often an api is polled, in seconds.

    Attributes:
        mean: From tick to tick; 0.0: one poll after the other.
        shortest: The shortest of them.
    """

    mean: float
    shortest: float


class FlowEstimate(Struct, frozen=True, kw_only=True):
    """
    One api as it is configured, in numbers.

    Attributes:
        sample: What they are reckoned from.
        parent: The api below which it is polled, or None.
        calls: Of one poll.
        records: Of one poll.
        known: False where `calls` is only the least it can be: the sample saw
            no end, or only what is new is asked for.
        call_seconds: From a request sent to its page transformed.
        lanes: Requests that may be under way at once.
        pacing: How often it is polled.
        fastest: Calls a second if nothing limits them but the answers.
        allowed: Calls a second that the rate limit lets it make, alone.
        most: Calls a second when all apis go as fast as they may.
        poll_seconds: That a poll takes, those of its children not included.
        wanted: Calls a second as the polls are due.
        calls_per_second: As they are made.
    """

    sample: Sample
    parent: str | None
    calls: float
    records: float
    known: bool
    call_seconds: float
    lanes: int
    pacing: Pacing
    fastest: float
    allowed: float = math.inf
    most: float = 0.0
    poll_seconds: float = 0.0
    wanted: float = 0.0
    calls_per_second: float = 0.0

    @property
    def api(self) -> str:
        """Its name."""
        return self.sample.api

    @property
    def records_per_call(self) -> float:
        """Mean over the sampled pages."""
        return self.sample.records / self.sample.pages

    @property
    def bytes_per_call(self) -> float:
        """Of a body, inflated, likewise."""
        return self.sample.body_bytes / self.sample.pages

    @property
    def response_seconds(self) -> float:
        """From a request sent to its page split, likewise."""
        return self.sample.seconds / self.sample.pages

    @property
    def limited(self) -> bool:
        """True where the rate limit is what bounds its throughput."""
        return self.most < self.fastest * ENOUGH

    @property
    def calls_per_day(self) -> float:
        """As they are made."""
        return self.calls_per_second * DAY

    @property
    def records_per_day(self) -> float:
        """That come with them."""
        return self.calls_per_day * self.records / self.calls if self.calls else 0.0


class Cap(Struct, frozen=True):
    """
    A rate that some apis share.

    Attributes:
        of: What it counts, in words.
        rate: Calls a second.
        apis: Their names.
    """

    of: str
    rate: float
    apis: frozenset[str]


class Sizing:
    """
    A connector's numbers, for any number of tasks.

    Args:
        samples: Of its apis, by name; those that are not there are left out.
        zone: `schedule.timezone`.
        now_ms: From when on schedules are looked at.
        cores: Of the machine.

    Attributes:
        tasks: `tasks.max`.
        unsampled: Apis that are left out.
    """

    def __init__(
        self,
        connector: Connector,
        samples: Mapping[str, Sample],
        *,
        zone: str,
        now_ms: int,
        cores: int,
    ):
        self.connector = connector
        self.tasks: int = connector.values.of(IdentityConfig).tasks_max
        self.unsampled: list[str] = []
        self._limits = limits_of(connector)
        self._samples = samples
        self._cores = cores
        self._cut = list(owned(connector))
        self._roots: dict[str, tuple[Api, Api | None]] = {}
        self._pacings: dict[str, Pacing] = {}
        mine = {each.name for each in self._cut}
        for root in connector.apis:
            if root.name in mine:
                pacing = pacing_of(root, zone, now_ms)
                for api in (root, *connector.descendants(root)):
                    if api.name not in samples:
                        self.unsampled.append(api.name)
                        continue
                    self._roots[api.name] = root, connector.parent(api)
                    self._pacings[api.name] = pacing

    def shards(self, tasks: int) -> Counter[str]:
        """Shards of each top-level api over so many tasks."""
        cut = assign.shards(self.connector.name, self._cut, tasks)
        return Counter(shard.api for shard in cut)

    def started(self, tasks: int) -> int:
        """Tasks that would have work."""
        return min(tasks, self.shards(tasks).total())

    def flows(self, tasks: int | None = None) -> list[FlowEstimate]:
        """
        Every sampled api, a parent before its children.

        Args:
            tasks: How many; None: `tasks.max`.
        """
        tasks = self.tasks if tasks is None else tasks
        started, shards = self.started(tasks), self.shards(tasks)
        made: dict[str, FlowEstimate] = {}
        for api in self._ordered():
            made[api.name] = self._alone(api, started, shards, made)
        caps = self.caps(started)
        most = within({name: flow.fastest for name, flow in made.items()}, caps)
        for name, flow in made.items():
            allowed = min((cap.rate for cap in caps if name in cap.apis), default=None)
            allowed = math.inf if allowed is None else allowed
            speed = min(flow.fastest, allowed)
            made[name] = replace(
                flow,
                allowed=allowed,
                most=most[name],
                poll_seconds=flow.calls / speed,
            )
        return self._paced(made, caps)

    def caps(self, started: int) -> list[Cap]:
        """The limits that hold, those of single apis first."""
        return list(caps_of(self._limits, self._hosts(), started))

    def suggested(self) -> int:
        """
        The fewest tasks that do what the most could.

        Where one poll follows the other there is always more to do: then the
        most are two for each core.
        """
        eager = any(pacing.mean == 0 for pacing in self._pacings.values())
        most = self.started(min(MOST_TASKS, 2 * self._cores) if eager else MOST_TASKS)
        aim = ENOUGH * self._asked(most)
        return next(
            (tasks for tasks in range(1, most) if self._asked(tasks) >= aim), most
        )

    def _asked(self, tasks: int) -> float:
        return sum(flow.calls_per_second for flow in self.flows(tasks))

    def _ordered(self) -> Iterable[Api]:
        for root in self.connector.apis:
            for api in (root, *self.connector.descendants(root)):
                if api.name in self._roots and self._roots[api.name][0] is root:
                    yield api

    def _hosts(self) -> dict[str, frozenset[str]]:
        found = {}
        for api in self._ordered():
            urls = api.values.of(BalancingConfig).endpoints
            hosts = map(host_of, urls) if urls else (self._samples[api.name].host,)
            found[api.name] = frozenset(hosts)
        return found

    def _alone(
        self,
        api: Api,
        started: int,
        shards: Counter[str],
        above: Mapping[str, FlowEstimate],
    ) -> FlowEstimate:
        """An api with nothing in its way but the time that answers take."""
        sample, values = self._samples[api.name], api.values
        root, parent = self._roots[api.name]
        calls, records, known = poll_of(api, sample)
        if parent is None:
            entities = len(next(e for e in self._cut if e.name == api.name).entities)
            calls, records = calls * max(entities, 1), records * max(entities, 1)
            lanes = shards[api.name]
        else:
            flow = above[parent.name]
            polls = flow.records * sample.parent_values
            calls, records = calls * polls, records * polls
            known = known and flow.known
            lanes = shards[root.name] * values.of(ApiConfig).max_concurrent
        paging = values.of(PaginationConfig)
        if paging.concurrent and TYPES[paging.type].addressable:
            threads = self.connector.values.of(PrefetchConfig).max_threads
            lanes = max(lanes, min(lanes, started) * threads)
        if not values.of(ClientConfig).http2:
            own = self.connector.values
            lanes = min(lanes, started * own.of(PoolConfig).max_connections)
        lanes = max(1, min(lanes, math.ceil(calls)))
        seconds = (sample.seconds + sample.transform_seconds) / sample.pages
        return FlowEstimate(
            sample=sample,
            parent=None if parent is None else parent.name,
            calls=calls,
            records=records,
            known=known,
            call_seconds=seconds,
            lanes=lanes,
            pacing=self._pacings[api.name],
            fastest=lanes / max(seconds, 1e-6),
        )

    def _paced(
        self, made: Mapping[str, FlowEstimate], caps: Sequence[Cap]
    ) -> list[FlowEstimate]:
        """What is asked as the polls are due."""
        took: defaultdict[str, float] = defaultdict(float)
        fed: defaultdict[str, float] = defaultdict(float)
        for name, flow in made.items():
            root = self._roots[name][0].name
            took[root] += flow.poll_seconds
            fed[root] += flow.records
        wanted, asked = {}, {}
        for name, flow in made.items():
            root = self._roots[name][0].name
            tick = flow.pacing.mean
            if tick:
                # Ticks that a poll outlasts are skipped.
                period = tick * max(1, math.ceil(took[root] / tick - 1e-9))
            else:
                period = took[root] if fed[root] else took[root] + IDLE_PAUSE
            wanted[name] = flow.calls / (tick or period)
            asked[name] = flow.calls / period
        asked = within(asked, caps)
        return [
            replace(flow, wanted=wanted[name], calls_per_second=asked[name])
            for name, flow in made.items()
        ]


def pacing_of(api: Api, zone: str, now_ms: int) -> Pacing:
    """How often an api is polled, of a schedule from its next days."""
    schedule = api.values.of(PollingConfig).schedule
    if schedule is None:
        seconds = api.values.of(PollingConfig).interval
        return Pacing(seconds, seconds)
    cron, place = compile_cron(schedule), ZoneInfo(zone)
    end = now_ms + AHEAD_DAYS * DAY * 1000
    first = tick = next_tick(cron, now_ms, place)
    gaps: list[float] = []
    while len(gaps) < AHEAD_TICKS and (tick < end or not gaps):
        after = next_tick(cron, tick, place)
        gaps.append((after - tick) / 1000)
        tick = after
    return Pacing((tick - first) / 1000 / len(gaps), min(gaps))


def poll_of(api: Api, sample: Sample) -> tuple[float, float, bool]:
    """
    Calls and records of one poll of one shard's worth, and whether that is known.

    An api that goes on where it stands asks once where nothing is new.
    """
    if not api.values.of(OffsetsConfig).rereads:
        return 1.0, 0.0, False
    if sample.poll_pages is None or sample.poll_records is None:
        return float(sample.pages), float(sample.records), False
    return float(sample.poll_pages), float(sample.poll_records), True


def caps_of(
    limits: RateLimits, hosts: Mapping[str, frozenset[str]], tasks: int
) -> Iterable[Cap]:
    """
    `rate.limit.*` as caps.

    Args:
        hosts: Where each api asks.
        tasks: That are started.
    """
    names = [name for name in hosts if name not in limits.unlimited]
    for name in names:
        if name in limits.apis:
            yield Cap(f"api {name}", limits.apis[name].per_second, frozenset({name}))
    if limits.rate is None or not names:
        return
    rate = limits.rate.per_second
    if limits.scope == "PER_HOST":
        groups: dict[frozenset[str], set[str]] = {}
        for name in names:
            groups.setdefault(hosts[name], set()).add(name)
        for places, apis in groups.items():
            of = f"host {', '.join(sorted(places))}"
            yield Cap(of, rate * len(places), frozenset(apis))
    elif limits.scope == "PER_TASK":
        yield Cap("each task", rate * tasks, frozenset(names))
    else:
        yield Cap("all", rate, frozenset(names))


def within(speeds: Mapping[str, float], caps: Iterable[Cap]) -> dict[str, float]:
    """Calls a second by api, each cap shared in proportion where it is passed."""
    found = dict(speeds)
    for cap in caps:
        together = sum(found[name] for name in cap.apis)
        if together > cap.rate:
            for name in cap.apis:
                found[name] *= cap.rate / together
    return found
