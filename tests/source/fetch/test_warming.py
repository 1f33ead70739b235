from __future__ import annotations

import random

import pytest

from engine.errors import Unreachable
from engine.records import Request
from engine.source.fetch.warming import (
    MOST,
    Trace,
    WarmedCache,
    Warming,
    WarmingChoice,
    WarmingTimes,
)
from tests.fakes.hands import Hands

BASE = "https://api.example.com/v1"


def get(path: str) -> Request:
    return Request("GET", f"{BASE}/{path}")


class Cache:
    """A cache of URLs with a time to live, and the polls and fetches upon it."""

    def __init__(self, clock: Hands, ttl: float = 30.0) -> None:
        self.clock = clock
        self.ttl = ttl
        self.fresh_until: dict[str, float] = {}
        self.used: dict[str, float] = {}
        self.fetched: list[str] = []
        self.lookups = 0
        self.hits = 0
        self.trace = Trace(clock=clock)
        self.spare = True
        self.failing: set[str] = set()

    def poll(self, path: str) -> None:
        request = get(path)
        now = self.clock.monotonic()
        self.lookups += 1
        self.used[request.url] = now
        hit = self.fresh_until.get(request.url, 0.0) > now
        self.hits += hit
        self.trace.asked(request.url, request, hit)
        if not hit:
            self.fresh_until[request.url] = now + self.ttl

    def warm(self, request: Request):
        now = self.clock.monotonic()
        if request.url in self.failing:
            raise Unreachable("no")
        if self.fresh_until.get(request.url, 0.0) > now:
            return None
        self.fetched.append(request.url.removeprefix(f"{BASE}/"))
        self.fresh_until[request.url] = now + self.ttl
        return object()

    def recent(self, most: int) -> list[str]:
        return sorted(self.used, key=lambda url: -self.used[url])[:most]


@pytest.fixture
def clock() -> Hands:
    return Hands()


def warming(cache: Cache, **more) -> Warming:
    times = ("interval", "next_poll", "next_tick")
    choice = {
        "request_for": lambda url: (
            Request("GET", url) if url.startswith(BASE) else None
        ),
        "base": BASE,
        **{name: each for name, each in more.items() if name not in times},
    }
    return Warming(
        WarmedCache(
            warm=cache.warm, key=lambda request: request.url, recent=cache.recent
        ),
        WarmingChoice(**choice),
        WarmingTimes(**{name: more[name] for name in times if name in more}),
        spare=lambda request: cache.spare,
        trace=cache.trace,
        clock=cache.clock,
    )


def test_a_pattern_without_wildcard_is_fetched_as_it_is(clock) -> None:
    cache = Cache(clock)
    one = warming(cache, strategies=[], patterns=["products/featured"])

    assert 1 == one.step()
    assert ["products/featured"] == cache.fetched
    assert 0 == one.step()


def test_a_pattern_with_wildcards_selects_among_what_is_known(clock) -> None:
    cache = Cache(clock)
    for path in ("users/1", "users/2?x=1", "orders/1"):
        cache.poll(path)
    cache.fresh_until.clear()
    one = warming(
        cache,
        strategies=[],
        patterns=["users/*"],
        catalog=[f"{BASE}/users/9", f"{BASE}/items", "https://elsewhere.com/users/3"],
    )

    one.step()

    assert {"users/1", "users/2?x=1", "users/9"} == set(cache.fetched)


def test_lru_asks_for_what_was_used_last_and_is_no_longer_fresh(clock) -> None:
    cache = Cache(clock)
    for n in range(150):
        cache.poll(f"p/{n}")
        clock.turn(1)
    one = warming(cache, strategies=["LRU"])

    one.step()

    # The last 30 are fresh still; of the others the newest hundred go.
    assert [f"p/{n}" for n in range(120, 20, -1)] == cache.fetched


def test_a_run_is_bounded(clock) -> None:
    cache = Cache(clock)
    patterns = [f"x/{n}" for n in range(500)]

    assert MOST == warming(cache, strategies=[], patterns=patterns).step()


def test_the_schedule_runs_it_at_its_ticks_only(clock) -> None:
    cache = Cache(clock, ttl=1.0)
    five = 300_000
    clock.wall = 1_800_000_000_000
    one = warming(
        cache,
        strategies=[],
        patterns=["a"],
        next_tick=lambda after: (after // five + 1) * five,
    )
    runs = []
    for _ in range(1300):
        if one.step():
            runs.append((clock.wall - 1_800_000_000_000) / 1000)
        clock.turn(1)

    assert [0, 300, 600, 900, 1200] == runs


def test_predictive_runs_just_before_the_tick(clock) -> None:
    cache = Cache(clock, ttl=20.0)
    tick = [clock.monotonic()]
    one = warming(
        cache,
        strategies=["PREDICTIVE"],
        interval=60.0,
        next_poll=lambda: tick[0],
    )
    seen = []
    for second in range(600):
        if clock.monotonic() >= tick[0]:
            cache.poll("a")
            tick[0] += 60.0
        if one.step():
            seen.append(second)
        clock.turn(1)

    # After three polls, six seconds (a tenth of the interval) ahead.
    assert [174, 234, 294, 354, 414, 474, 534, 594] == seen
    assert cache.trace.used == 7


def test_what_is_not_asked_each_time_is_not_predicted(clock) -> None:
    cache = Cache(clock)
    trace = cache.trace
    for n in range(6):
        cache.poll("always")
        if n % 2:
            cache.poll("sometimes")
        if n < 3:
            cache.poll("formerly")
        clock.turn(60)

    assert [f"{BASE}/always"] == [request.url for request in trace.steady(60.0)]


def test_it_takes_only_what_the_limit_can_spare(clock) -> None:
    cache = Cache(clock)
    cache.spare = False
    one = warming(cache, strategies=[], patterns=["a", "b"])

    assert 0 == one.step()
    assert [] == cache.fetched


def test_a_failure_ends_nothing(clock) -> None:
    cache = Cache(clock)
    cache.failing.add(f"{BASE}/a")

    assert 1 == warming(cache, strategies=[], patterns=["a", "b"]).step()


def test_only_gets_that_stand_alone_are_warmed(clock) -> None:
    cache = Cache(clock)
    cache.trace.asked("k", Request("GET", f"{BASE}/x", chained=True), False)
    cache.trace.asked("l", Request("POST", f"{BASE}/y"), False)
    one = warming(cache, strategies=["LRU"])

    assert 0 == one.step()


def test_the_trace_is_bounded(clock) -> None:
    trace = Trace(clock=clock)
    for n in range(10_100):
        trace.asked(str(n), get(str(n)), False)

    assert 10_000 == len(trace.requests())
    assert f"{BASE}/10099" == trace.requests()[0].url


def replay(strategies: list[str]) -> tuple[float, float]:
    """
    A day of an API with 40 endpoints, polled each minute, answers fresh for 20 s.

    Ten of them are asked in every poll, twenty in nine of ten, ten now and
    then.  (hit ratio, part of the fetches ahead that were not used)
    """
    clock = Hands()
    chance = random.Random(5)
    cache = Cache(clock, ttl=20.0)
    tick = [clock.monotonic()]
    one = warming(
        cache,
        strategies=strategies,
        interval=60.0,
        next_poll=lambda: tick[0],
    )
    for _ in range(24 * 60 * 6):
        if clock.monotonic() >= tick[0]:
            for n in range(40):
                share = 1.0 if n < 10 else 0.9 if n < 30 else 0.2
                if chance.random() < share:
                    cache.poll(f"e/{n}")
            tick[0] += 60.0
        one.step()
        clock.turn(5)
    unused = cache.trace.unused / max(1, one.fetched)
    return cache.hits / cache.lookups, unused


def test_predicting_gains_twenty_points_and_wastes_little() -> None:
    without, _ = replay([])
    ratio, unused = replay(["PREDICTIVE"])
    print(f"hit ratio {without:.2f} without, {ratio:.2f} with; {unused:.0%} unused")

    assert ratio - without >= 0.20
    assert unused <= 0.30


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"strategies": ["LRU"]}, True),
        ({"strategies": ["LRU"], "patterns": ["nothing/*"]}, True),
        ({"strategies": ["LRU"], "patterns": ["a"]}, False),
        # Its polls will tell it.
        ({"strategies": ["PREDICTIVE"]}, False),
    ],
)
def test_nothing_to_warm_by_is_said_once(clock, caplog, more, said) -> None:
    one = warming(Cache(clock), **more)
    for _ in range(3):
        one.step()
        clock.turn(100)

    assert said is ("nothing to warm by" in caplog.text)
    assert caplog.text.count("nothing to warm by") <= 1
