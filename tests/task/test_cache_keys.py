"""What each key of the tiers does, from the text of a configuration on."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import pytest

from engine.config import load
from engine.shared.cache.tiers import Tiers
from engine.source.fetch.freshness import StoredResponse
from engine.task.build.cache import tiers_of
from tests.fakes.hands import Hands

BASE = """
name=orders
http.source.url=https://api.example.com/v1/things
kafka.topic=things
bootstrap.servers=127.0.0.1:9092
"""

#: Makes a task's cache out of lines of a configuration.
Make = Callable[..., Tiers[StoredResponse]]


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def make(tmp_path: Path, clock: Hands) -> Make:
    def tiers(*lines: str) -> Tiers[StoredResponse]:
        path = tmp_path / "c.properties"
        path.write_text(BASE + "\n".join(lines))
        path.chmod(0o600)
        found = tiers_of(
            load([path]).connectors[0],
            place=tmp_path / "r",
            disk=tmp_path / "d",
            clock=clock,
        )
        assert found is not None
        # What leaves a tier leaves it before the test looks.
        found._eviction._background = False
        return found

    return tiers


def key(n: int) -> str:
    return blake2b(str(n).encode(), digest_size=16).hexdigest()


def answer(body: bytes = b"x") -> StoredResponse:
    return StoredResponse("http://h/x", "http://h/x", 200, (), body, 0.0, 1)


def keep(tiers: Tiers[StoredResponse], count: int, body: bytes = b"x") -> None:
    for n in range(count):
        tiers.keep(key(n), answer(body))


def found(tiers: Tiers[StoredResponse], count: int) -> list[int]:
    return [n for n in range(count) if tiers.find(key(n)) is not None]


def entries(tiers: Tiers[StoredResponse]) -> dict[int, int]:
    return {each.level: each.entries for each in tiers.readings()}


def only(tier: int, size: int = 4) -> list[str]:
    """Lines that leave one tier, of so many places."""
    lines = [f"cache.l{n}.max.size={size if n == tier else 0}" for n in (1, 2, 3)]
    return [*lines, "cache.eviction.threshold=1.0", "cache.eviction.batch.size=1"]


@pytest.mark.parametrize("general", [True, False])
@pytest.mark.parametrize("tier", [1, 2, 3])
@pytest.mark.parametrize(("policy", "gone"), [("LRU", 1), ("LFU", 3), ("FIFO", 0)])
def test_the_policy_of_a_tier_names_who_leaves(
    make: Make, clock: Hands, tier: int, policy: str, gone: int, general: bool
) -> None:
    other = "FIFO" if policy != "FIFO" else "LRU"
    named = [f"cache.eviction.policy={policy if general else other}"]
    if not general:
        named.append(f"cache.l{tier}.policy={policy}")
    tiers = make(*only(tier), *named)
    for n in range(3):
        tiers.keep(key(n), answer())
        clock.turn(1)
    for used in (0, 1, 1, 2, 0):
        tiers.find(key(used))
        clock.turn(1)

    tiers.keep(key(3), answer())

    assert [n for n in range(4) if n != gone] == found(tiers, 4)


def test_the_most_responses_of_l2_and_l3_together(make: Make) -> None:
    tiers = make("cache.response.max.size=10", "cache.l2.max.size=6")
    keep(tiers, 30)

    assert 10 == sum(n for level, n in entries(tiers).items() if level > 1)


def test_four_tasks_stay_within_the_memory_they_share(make: Make) -> None:
    lines = ("cache.max.memory.bytes=8388608", "tasks.max=4", "cache.l3.max.size=0")
    tasks = [make(*lines) for _ in range(4)]
    for n in range(1024):
        tasks[n % 4].keep(key(n), answer(b"x" * 65_536))

    readings = [task.readings() for task in tasks]
    memory = sum(each[0].bytes for each in readings) + readings[0][1].bytes
    assert 4 << 20 < memory < 8 << 20
    assert all(each[0].entries for each in readings)


def test_without_eviction_the_first_that_came_stay(make: Make) -> None:
    tiers = make(*only(1, 10), "cache.eviction.enabled=false")
    keep(tiers, 11)

    assert list(range(10)) == found(tiers, 11)


def test_a_pass_begins_at_the_threshold_and_drops_a_batch(make: Make) -> None:
    tiers = make(
        *only(1, 1000)[:3],
        "cache.eviction.threshold=0.8",
        "cache.eviction.batch.size=50",
    )
    keep(tiers, 799)
    assert {1: 799} == entries(tiers)

    tiers.keep(key(799), answer())

    assert {1: 750} == entries(tiers)


@pytest.mark.parametrize("tier", [1, 2, 3])
def test_what_is_past_its_time_is_swept_without_any_access(
    make: Make, clock: Hands, tier: int
) -> None:
    tiers = make(
        *only(tier), "cache.cleanup.interval.seconds=1", f"cache.l{tier}.ttl.seconds=3"
    )
    keep(tiers, 2)
    clock.turn(2)
    tiers.tick()
    assert {tier: 2} == entries(tiers)

    clock.turn(1)
    tiers.tick()

    assert {tier: 0} == entries(tiers)


def test_each_tier_holds_for_its_time_and_hands_down(make: Make, clock: Hands) -> None:
    tiers = make(
        "cache.l1.ttl.seconds=1",
        "cache.l2.ttl.seconds=3",
        "cache.l3.ttl.seconds=5",
        "cache.cleanup.interval.seconds=1",
    )
    keep(tiers, 1)
    levels = []
    for _ in range(6):
        hit = tiers.find(key(0))
        levels.append(hit.level if hit is not None else None)
        clock.turn(1)
        tiers.tick()

    assert [1, 2, 2, 3, 3, None] == levels


def test_the_sizes_of_the_lower_tiers(make: Make) -> None:
    tiers = make("cache.l1.max.size=0", "cache.l2.max.size=100", "cache.l3.max.size=50")
    keep(tiers, 400)

    held = entries(tiers)
    assert {2, 3} == set(held)
    assert 0 < held[2] <= 100
    assert 0 < held[3] <= 50


def test_the_bytes_of_the_disk(make: Make) -> None:
    tiers = make(*only(3, 10_000)[:3], "cache.l3.max.bytes=1048576")
    keep(tiers, 100, b"x" * 50_000)

    assert 0 < tiers.readings()[0].bytes <= 1_048_576


def test_statistics_are_counted_only_where_they_are_wanted(make: Make) -> None:
    for wanted, counted in (("true", {("1", "hit"): 1}), ("false", {})):
        tiers = make(f"cache.statistics.enabled={wanted}")
        tiers.count(1, "hit")
        tiers.count(None, "miss")
        assert counted == {k: n for k, n in tiers.lookups.items() if k[1] == "hit"}
        assert (0.5 if counted else 1.0) == tiers.ratio.read()[1]


def test_misses_fall_out_of_the_window_and_no_longer_make_it_low(
    make: Make, clock: Hands
) -> None:
    tiers = make("cache.statistics.window.minutes=2", "cache.hit.ratio.threshold=0.5")
    for _ in range(100):
        tiers.count(None, "miss")
    assert tiers.judge()
    assert (100, 0.0) == tiers.ratio.read()

    clock.turn(121)

    assert (0, 1.0) == tiers.ratio.read()
    assert not tiers.judge()


@pytest.mark.parametrize(("threshold", "low"), [(0.4, False), (0.6, True)])
def test_the_threshold_says_which_ratio_is_low(
    make: Make, threshold: float, low: bool
) -> None:
    tiers = make(f"cache.hit.ratio.threshold={threshold}")
    for n in range(200):
        tiers.count(*((1, "hit") if n % 2 else (None, "miss")))

    assert low is tiers.judge()


def test_a_thrashing_tier_grows_by_a_quarter_each_interval(
    make: Make, clock: Hands
) -> None:
    def thrash(*lines: str) -> list[int]:
        tiers = make(*only(1, 1000)[:3], *lines)
        sizes = []
        for _ in range(3):
            keep(tiers, 1200)
            tiers.count(None, "miss")
            clock.turn(61)
            tiers.tick()
            sizes.append(tiers.readings()[0].allowed)
        return sizes

    tuned = ("cache.auto.tuning.enabled=true", "cache.auto.tuning.interval.minutes=2")
    assert [1000, 1250, 1250] == thrash(*tuned)
    assert [1000, 1000, 1000] == thrash()
