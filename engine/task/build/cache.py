"""
Cache: the response cache of a task, made from its configuration.

Owns the translation of `cache.*` into tiers, layers and warming, the threads
that tend them, and what tells one api's answers and records from another's.
Opens nothing: that happens with the first lookup.

Path: `build.sources`, `build.wiring`, ``cli.cache``
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

import engine
from engine.clock import SYSTEM, Clock
from engine.config import Api, Connector, Secret, Values
from engine.config.authentication import TYPES
from engine.config.sections.cache import (
    ResponseCacheConfig,
    TierConfig,
    TiersConfig,
    WarmingConfig,
)
from engine.config.sections.client import ClientConfig
from engine.config.sections.engine import IdentityConfig, PollingConfig
from engine.config.sections.offsets import OffsetsConfig
from engine.config.sections.processes import ScalingConfig
from engine.config.sections.request import RequestConfig
from engine.language.cron import compile_cron
from engine.later import pattern
from engine.records import Request
from engine.seams import Fetch, Stopping
from engine.shared.cache.own import OwnAnswers
from engine.shared.cache.settings import CacheSettings, TierSettings
from engine.shared.cache.tiers import Tiers
from engine.shared.limiter import RateLimiter
from engine.source.fetch.cache import Cached
from engine.source.fetch.freshness import (
    PASSING,
    SAFE,
    StoredResponse,
    decode,
    encode,
    weight,
)
from engine.source.fetch.warming import (
    Trace,
    WarmedCache,
    Warming,
    WarmingChoice,
    WarmingTimes,
)
from engine.source.wire.origin import host_of
from engine.task.pace import next_tick

log = logging.getLogger("cache")

#: Who asks, and what the client itself adds to each request: keys that tell one
#: from another and do not change by themselves, as tokens do.
IDENTITY = (
    "http.client.compression.",
    "auth.type",
    "http.auth.class",
    *sorted({key for kind in TYPES.values() for key in kind.keys}),
    "https.ssl.keystore.",
)

#: A header of the answer that a rule or template names.
_NAMED = pattern(r"response\.header[.\[\s'\"\\]+([\w-]+)", re.IGNORECASE)

_UUID = pattern(r"\$\{\s*uuid\s*\}")

#: Seconds between two looks at what is due.
TEND = 1.0


class Caching:
    """
    The response cache of one task; lives as long as its process.

    Args:
        place: The directory in memory that all tasks of the engine share.
        disk: The directory on disk that outlives it (`cache.dir`).
        task: The task's number.
        suspect: Processes that used it crashed: what is there is put aside.
        once: The engine ends by itself, with this run.

    Attributes:
        speaks: True in the one task that tells what the shared tiers hold.
        tiers: Where answers are kept, or None: no api has a cache.
        trace: What the polls asked, where warming learns from it.
        warming: What fetches ahead, once `tend` was called.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        place: Path,
        disk: Path,
        task: int = 0,
        suspect: bool = False,
        once: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        self.speaks = task == 0
        self.trace: Trace | None = None
        self.warming: Warming | None = None
        self._connector = connector
        self._clock = clock
        self._layers: dict[str, Cached] = {}
        self._own = once and own_answers(connector)
        self.tiers = tiers_of(connector, place=place, disk=disk, once=once, clock=clock)
        if self.tiers is None:
            return
        if suspect:
            self.tiers.put_aside()
        if connector.values.of(WarmingConfig).enabled:
            self.trace = Trace(clock=clock)

    def around(self, api: Api, fetch: Fetch, stopping: Stopping) -> Fetch:
        """The fetch of an api with the cache around it, where it has one."""
        if self.tiers is None:
            return fetch
        apis = self._connector.apis
        layer = layer_of(
            api,
            fetch,
            self.tiers,
            stopping=stopping,
            methods={each.values.of(RequestConfig).method for each in apis},
            own=self._own,
            trace=self.trace,
            clock=self._clock,
        )
        if layer is None:
            return fetch
        self._layers[api.name] = layer
        return layer

    def tend(
        self,
        stop: threading.Event,
        *,
        limiter: RateLimiter,
        zone: str,
        url_of: Callable[[Values], str],
        leads: Collection[str],
        next_poll: Callable[[], float | None],
    ) -> None:
        """
        Sweep, tune and warm in threads of their own until `stop` is set.

        Args: as for `warming_of`; without `leads` nothing is warmed.
        """
        tiers = self.tiers
        if tiers is None:
            return

        def keep() -> None:
            while not stop.wait(TEND):
                tiers.tick()

        threading.Thread(target=keep, name="cache", daemon=True).start()
        if self.trace is None or not leads:
            return
        if not self._layers:
            log.warning(
                "cache.warming.enabled has nothing to warm by: no api's answers can "
                "be kept (cache.enabled, http.offset.mode=FULL)."
            )
            return
        self.warming = warming_of(
            self._connector,
            layers=self._layers,
            tiers=tiers,
            limiter=limiter,
            trace=self.trace,
            zone=zone,
            url_of=url_of,
            leads=leads,
            next_poll=next_poll,
            clock=self._clock,
        )
        if self.warming is not None:
            threading.Thread(
                target=self.warming.loop, args=(stop,), name="warming", daemon=True
            ).start()

    def close(self, within: float) -> None:
        """
        Save what would end with the engine, and close the files.

        Blocks: at most about `within` seconds.
        """
        if self.tiers is not None:
            self.tiers.settle(within)
            self.tiers.close()


def places_of(connector: Connector, runtime: Path, disk: Path) -> tuple[Path, Path]:
    """Where a connector's answers stand: in memory, on disk."""
    return runtime / "cache" / connector.name, disk / connector.name


def tiers_of(
    connector: Connector,
    *,
    place: Path | None,
    disk: Path,
    guest: bool = False,
    once: bool = False,
    clock: Clock = SYSTEM,
) -> Tiers[StoredResponse] | None:
    """
    The connector's cache as one task sees it; None if no api has one.

    The memory of L1 is divided over the most tasks there may be.

    Args:
        place: Directory in memory that all its tasks share; None: there is
            none, since no engine runs.
        disk: Directory that outlives the engine.
        guest: For a look only: has no L1 and makes nothing.
        once: For a run that ends by itself.
    """
    if not any(api.values.of(ResponseCacheConfig).enabled for api in connector.apis):
        return None
    values = connector.values
    tasks = values.of(IdentityConfig).tasks_max
    if values.of(ScalingConfig).enabled:
        tasks = max(tasks, values.of(ScalingConfig).max_tasks)
    half = values.of(TiersConfig).max_memory // 2
    volumes = (half // tasks, half, values.of(TiersConfig).l3_max_bytes)
    off = {1} if guest else set()
    if place is None:
        off.add(2)
    runtime, disk = places_of(connector, place or disk, disk)
    first, second, third = (
        tier_of(values.of(TierConfig, level=str(level)), volume, off=level in off)
        for level, volume in enumerate(volumes, 1)
    )
    # Only where it is said: the tiers' own sizes are their sum already, tuning may
    # move them, and the sum of two that are off is no reason to keep nothing.
    total = None
    if values.entry("cache.response.max.size") is not None:
        total = values.of(TiersConfig).max_size
    tuning = None
    if values.of(TiersConfig).tuning:
        tuning = 60.0 * values.of(TiersConfig).tuning_minutes
    return Tiers(
        runtime,
        disk,
        levels=(first, second, third),
        settings=CacheSettings(
            total=total,
            evict=values.of(TiersConfig).eviction,
            threshold=values.of(TiersConfig).eviction_threshold,
            batch=values.of(TiersConfig).eviction_batch,
            cleanup=float(values.of(TiersConfig).cleanup_interval),
            statistics=values.of(TiersConfig).statistics,
            window=60.0 * values.of(TiersConfig).statistics_minutes,
            ratio=values.of(TiersConfig).hit_ratio,
            tuning=tuning,
        ),
        encode=encode,
        weigh=weight,
        decode=decode,
        background=True,
        guest=guest,
        alone=once and tasks == 1,
        clock=clock,
    )


def tier_of(tier: TierConfig, volume: int, *, off: bool) -> TierSettings:
    """One tier of at most `volume` bytes; off, it holds nothing."""
    return TierSettings(
        entries=0 if off else tier.max_size,
        ttl=float(tier.ttl),
        policy=tier.policy,
        volume=volume,
    )


def layer_of(
    api: Api,
    fetch: Fetch,
    tiers: Tiers[StoredResponse],
    *,
    stopping: Stopping,
    methods: Collection[str] = (),
    own: bool = False,
    trace: Trace | None = None,
    clock: Clock = SYSTEM,
) -> Cached | None:
    """
    The outermost layer of an api's fetch; None where nothing could be kept.

    Pages of a position that moves on are never asked for again, and a header that
    is not kept cannot be shown.

    Args:
        methods: By which the apis of the connector ask.
        own: No other task asks for what this one does, in a run that ends by itself.
    """
    values = api.values
    if (
        not values.of(ResponseCacheConfig).enabled
        or not values.of(OffsetsConfig).rereads
    ):
        return None
    if named_headers(values) & PASSING:
        return None
    # A page may take every try and pause of its leader; then its waiter asks.
    patience = values.of(ClientConfig).request_timeout
    return Cached(
        fetch,
        OwnAnswers(tiers) if own else tiers,
        stopping=stopping,
        ttl=float(values.of(ResponseCacheConfig).ttl),
        credential=f"{engine.__version__}\n{_text(values, IDENTITY)}",
        changed=bool(set(methods) - SAFE),
        changes="GET" in methods,
        patience=patience,
        watch=trace.asked if trace is not None else None,
        clock=clock,
    )


def own_answers(connector: Connector) -> bool:
    """
    True if no answer of one task is asked for by another.

    The pages of an api are dealt out, so it takes two apis that ask for the same, or
    children whose values come again under several parents.
    """
    urls = set()
    for api in connector.apis:
        asks = api.values.of(RequestConfig)
        if asks.method not in SAFE or connector.parent(api) is not None:
            return False
        urls.add(asks.url)
    return len(urls) == len(connector.apis)


def named_headers(values: Values) -> frozenset[str]:
    """Headers of the answer that a text of the configuration names, in lower case."""
    found = (
        name
        for key in values
        if isinstance(value := values[key], str | tuple | list | dict)
        for name in _NAMED.findall(str(value))
    )
    return frozenset(name.lower() for name in found)


def unique_headers(values: Values) -> frozenset[str]:
    """Request headers that are nothing but a new number each time, in lower case."""
    found = set()
    for name, value in values.of(RequestConfig).headers or ():
        rest = _UUID.sub("", value)
        if rest != value and "${" not in rest:
            found.add(name.lower())
    return frozenset(found)


def starts_of(apis: Iterable[Api], url_of: Callable[[Values], str]) -> dict[str, str]:
    """What the URLs of each api begin with, by its name."""
    return {
        api.name: url_of(api.values).split("${", 1)[0].partition("?")[0] for api in apis
    }


def owner(starts: Mapping[str, str], url: str) -> str:
    """The api whose URL it continues furthest; else the first of the origin."""
    continued = [name for name, start in starts.items() if url.startswith(start)]
    if continued:
        return max(continued, key=lambda name: len(starts[name]))
    host = host_of(url)
    same = [name for name, start in starts.items() if host_of(start) == host]
    return same[0] if same else ""


def warming_of(
    connector: Connector,
    *,
    layers: Mapping[str, Cached],
    tiers: Tiers[StoredResponse],
    limiter: RateLimiter,
    trace: Trace,
    zone: str,
    url_of: Callable[[Values], str],
    leads: Collection[str],
    next_poll: Callable[[], float | None] = lambda: None,
    clock: Clock = SYSTEM,
) -> Warming | None:
    """
    What fetches ahead in this task; None unless `cache.warming.enabled`.

    Args:
        layers: By the api's name, of the apis this task polls.
        url_of: The logical URL template of an api, absolute.
        leads: The apis for which this task, of all that poll them, fetches what
            is not its own polls' alone.
        next_poll: Monotonic seconds of the next tick of any shard here.
    """
    values = connector.values
    if not values.of(WarmingConfig).enabled or not layers:
        return None
    apis = {api.name: api for api in connector.apis if api.name in layers}
    # Of all apis: what another task leads must not pass for one of this task's.
    starts = starts_of(connector.apis, url_of)

    def request_for(url: str) -> Request | None:
        name = owner(starts, url)
        if name not in leads or name not in apis:
            return None
        if apis[name].values.of(RequestConfig).method != "GET":
            return None
        headers = apis[name].values.of(RequestConfig).headers or ()
        plain = tuple((k, v) for k, v in headers if "${" not in v)
        return Request("GET", url, plain)

    def recent(most: int) -> list[str]:
        found = (tiers.find(key) for key in tiers.recent(most))
        return [hit.value.url for hit in found if hit is not None and hit.value.status]

    def layer(request: Request) -> Cached:
        name = owner(starts, request.url)
        return layers[name if name in layers else next(iter(layers))]

    # Patterns mean the same URLs in each task.
    first = connector.apis[0].values
    start = next(iter(starts.values()))
    origin = "/".join(start.split("/", 3)[:3])
    schedule = values.of(WarmingConfig).schedule
    tick: Callable[[int], int] | None = None
    if schedule is not None:
        cron = compile_cron(schedule)

        def tick(after: int) -> int:
            return next_tick(cron, after, ZoneInfo(zone))

    return Warming(
        WarmedCache(
            warm=lambda request: layer(request).warm(request),
            key=lambda request: layer(request).key(request),
            recent=recent,
        ),
        WarmingChoice(
            request_for=request_for,
            base=first.of(RequestConfig).base_url or origin,
            catalog=[start for start in starts.values() if "${" not in start],
            strategies=values.of(WarmingConfig).strategies,
            patterns=values.of(WarmingConfig).patterns or (),
        ),
        WarmingTimes(
            interval=next(iter(apis.values())).values.of(PollingConfig).interval,
            next_poll=next_poll,
            next_tick=tick,
        ),
        spare=lambda request: limiter.spare(
            host_of(request.url), owner(starts, request.url)
        ),
        trace=trace,
        clock=clock,
    )


def _text(values: Values, prefixes: tuple[str, ...]) -> str:
    found = []
    for key in sorted(values):
        if key.startswith(prefixes):
            value = values[key]
            plain = value.reveal() if isinstance(value, Secret) else repr(value)
            found.append(f"{key}={plain}")
    return "\n".join(found)
