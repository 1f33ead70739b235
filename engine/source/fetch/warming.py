"""
Warming: what is asked for before anyone needs it.

Owns when that happens and what is chosen: what was used last, what every poll
asks, what the patterns name.  Takes only what the rate limit can spare, and
never makes a poll wait; what it fetches is found by the next poll as if it had
been fetched then.

Beside `source.fetch.cache`, which does the asking; runs in a thread of its own.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from urllib.parse import urlsplit

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import SourceError
from engine.language.globs import compile_glob, has_wildcards
from engine.records import Request, Response
from engine.seams import Stopping

log = logging.getLogger("http")

#: Most requests of one run.
MOST = 100

#: Most requests that are remembered.
MOST_KNOWN = 10_000

#: Polls in a row that must have asked for it.
POLLS = 3

#: Seconds, and part of the interval, by which a tick is preceded.
AHEAD = 10.0
AHEAD_PART = 0.1


class Trace:
    """What was asked, and when: `Cached` tells it of each request."""

    def __init__(self, *, clock: Clock = SYSTEM) -> None:
        #: Warmed answers that a poll used, and that none did.
        self.used = 0
        self.unused = 0
        self._monotonic = clock.monotonic
        # The shards' threads tell, the warming thread reads. Taking an entry out and putting it
        # back behind the others is two steps: a thread that read between them would miss it.
        self._threads = threading.Lock()
        self._known: OrderedDict[str, tuple[Request, deque[float]]] = OrderedDict()
        self._warmed: set[str] = set()

    def asked(self, key: str, request: Request, hit: bool) -> None:
        """A poll asked for it, and it was fresh or not."""
        with self._threads:
            _, times = self._known.pop(key, (request, deque(maxlen=POLLS)))
            times.append(self._monotonic())
            self._known[key] = request, times
            if key in self._warmed:
                self._warmed.discard(key)
                self.used += hit
                self.unused += not hit
            while len(self._known) > MOST_KNOWN:
                gone, _ = self._known.popitem(last=False)
                self.unused += gone in self._warmed
                self._warmed.discard(gone)

    def warmed(self, key: str) -> None:
        """
        An answer was fetched ahead; the one before it, if still there, was fetched for nothing.
        """
        with self._threads:
            if key in self._warmed:
                self.unused += 1
            self._warmed.add(key)

    def requests(self) -> list[Request]:
        """What was asked, the newest first."""
        with self._threads:
            return [request for request, _ in reversed(self._known.values())]

    def steady(self, interval: float) -> list[Request]:
        """What each of the last three polls asked for."""
        now = self._monotonic()
        found = []
        with self._threads:
            for request, times in self._known.values():
                if len(times) < POLLS or now - times[-1] > 1.5 * interval:
                    continue
                gaps = [b - a for a, b in zip(times, list(times)[1:], strict=False)]
                if all(0.5 * interval < gap < 1.5 * interval for gap in gaps):
                    found.append(request)
        return found


class WarmedCache(Struct, frozen=True, kw_only=True):
    """
    The cache that is warmed.

    Attributes:
        warm: Fetches into it what is not fresh there; None if it is.
        key: A request's key in it.
        recent: URLs used last, newest first, of whichever process.
    """

    warm: Callable[[Request], Response | None]
    key: Callable[[Request], str]
    recent: Callable[[int], Sequence[str]]


class WarmingChoice(Struct, frozen=True, kw_only=True):
    """
    What may be asked for.

    Attributes:
        request_for: A URL as the polls would ask for it; None: no api's, or one
            that another process warms.
        base: Base URL of the patterns.
        catalog: URLs known from the configuration.
        strategies: Of LRU, PREDICTIVE.
        patterns: Globs relative to `base`.
    """

    request_for: Callable[[str], Request | None]
    base: str
    catalog: Sequence[str] = ()
    strategies: Collection[str] = ("LRU",)
    patterns: Sequence[str] = ()


class WarmingTimes(Struct, frozen=True, kw_only=True):
    """
    When it is.

    Attributes:
        interval: Seconds between polls.
        next_poll: Monotonic seconds of the next one, None if unknown.
        next_tick: Wall milliseconds of the schedule's tick after a moment, or
            None without schedule.
    """

    interval: float = 60.0
    next_poll: Callable[[], float | None] = lambda: None
    next_tick: Callable[[int], int] | None = None


class Warming:
    """
    Args:
        spare: True if the rate limit has a request to spare now.
        trace: What the polls of this process asked.
    """

    def __init__(
        self,
        cache: WarmedCache,
        choice: WarmingChoice,
        times: WarmingTimes,
        *,
        spare: Callable[[Request], bool],
        trace: Trace,
        clock: Clock = SYSTEM,
    ) -> None:
        #: Requests that were fetched ahead, in this process.
        self.fetched = 0
        self.trace = trace
        self._cache = cache
        self._spare = spare
        self._request_for = choice.request_for
        self._base = choice.base.rstrip("/")
        self._catalog = choice.catalog
        self._strategies = choice.strategies
        patterns = choice.patterns
        self._fixed = [one for one in patterns if not has_wildcards(one)]
        self._globs = [compile_glob(one) for one in patterns if has_wildcards(one)]
        self._interval = times.interval
        self._next_poll = times.next_poll
        self._next_tick = next_tick = times.next_tick
        self._clock = clock
        self._started = False
        self._told = False
        self._tick_ms = next_tick(clock.wall_ms()) if next_tick is not None else None
        self._preceded: float | None = None

    def loop(self, stopping: Stopping) -> None:
        """Run what is due until stopping; the body of a thread."""
        while not stopping.is_set():
            self.step(stopping)
            if stopping.wait(min(1.0, max(0.05, self._interval / 50))):
                return

    def step(self, stopping: Stopping | None = None) -> int:
        """Run if a run is due; how many were fetched."""
        reason = self._due()
        if reason is None:
            return 0
        fetched = 0
        plan = self.plan(reason)
        if plan:
            self._told = True
        elif not self._told and (reason == "schedule" or self._only_at_start()):
            # Before the first poll nothing is known yet: that alone is no news.
            self._told = True
            log.warning(
                "cache.warming has nothing to warm by: no request was made and no "
                "pattern (cache.warming.patterns) names one%s.",
                "; without cache.warming.schedule LRU runs at start only"
                if self._only_at_start()
                else "",
            )
        for request in plan:
            if fetched >= MOST or (stopping is not None and stopping.is_set()):
                break
            if not self._spare(request):
                # What is left belongs to the polls.
                break
            try:
                answer = self._cache.warm(request)
            except SourceError as failure:
                log.info("%s was not fetched ahead: %s", request.url, failure)
                continue
            if answer is not None:
                fetched += 1
                self.trace.warmed(self._cache.key(request))
        self.fetched += fetched
        return fetched

    def _only_at_start(self) -> bool:
        return self._next_tick is None and "PREDICTIVE" not in self._strategies

    def plan(self, reason: str) -> list[Request]:
        """
        What a run asks for, in order.

        Args:
            reason: "start", "schedule" or "poll".
        """
        found: list[Request] = []
        if "PREDICTIVE" in self._strategies:
            # Only this process knows what its polls ask: each warms its own.
            found += self.trace.steady(self._interval)
        if reason == "poll":
            return _distinct(found)
        known = self._known()
        found += self._named(known)
        if "LRU" in self._strategies:
            found += known
        return _distinct(found)

    def _known(self) -> list[Request]:
        """What was asked by whichever process, and is this one's to warm."""
        own = {request.url: request for request in self.trace.requests()}
        urls = dict.fromkeys([*self._cache.recent(MOST_KNOWN), *own])
        found = []
        for url in urls:
            request = self._request_for(url)
            if request is not None:
                # As its poll asks, headers and all, where that is known here.
                found.append(own.get(url, request))
        return found

    def _named(self, known: Iterable[Request]) -> list[Request]:
        found = []
        for pattern in self._fixed:
            request = self._request_for(f"{self._base}/{pattern.lstrip('/')}")
            if request is not None:
                found.append(request)
        if not self._globs:
            return found
        listed = [self._request_for(url) for url in self._catalog]
        for request in (*known, *listed):
            if request is not None and any(
                glob(self._path(request.url)) for glob in self._globs
            ):
                found.append(request)
        return found

    def _path(self, url: str) -> str:
        """The path behind the base URL, without a slash in front or a query."""
        if url.startswith(f"{self._base}/"):
            url = url[len(self._base) + 1 :]
            return url.partition("?")[0]
        return urlsplit(url).path.lstrip("/")

    def _due(self) -> str | None:
        if not self._started:
            self._started = True
            return "start"
        if self._next_tick is not None and self._tick_ms is not None:
            now = self._clock.wall_ms()
            if now >= self._tick_ms:
                # Ticks that were missed meanwhile are one.
                self._tick_ms = self._next_tick(now)
                return "schedule"
        if "PREDICTIVE" in self._strategies:
            poll = self._next_poll()
            ahead = min(AHEAD, self._interval * AHEAD_PART)
            if poll is not None and poll != self._preceded:
                now_s = self._clock.monotonic()
                if poll - ahead <= now_s < poll:
                    self._preceded = poll
                    return "poll"
        return None


def _distinct(requests: Iterable[Request]) -> list[Request]:
    found: dict[tuple[str, tuple[tuple[str, str], ...]], Request] = {}
    for request in requests:
        if request.method == "GET" and not request.chained:
            found.setdefault((request.url, request.headers), request)
    return list(found.values())
