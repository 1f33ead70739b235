"""`backfill`: which connector does it, what it may ask, and how far it is."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from engine.cli.backfill import BackfillProgress, derived, sizes_of, span_of
from engine.cli.main import fraction, parser
from engine.config import Connector, load
from engine.errors import ConfigError
from engine.shared.limiter import RateLimiter, RateLimits
from engine.shared.rates import Rate
from engine.task.build.limits import limits_of
from tests.fakes.clock import HandClock

DAY = 86_400_000
ZONE = ZoneInfo("UTC")
NOW = 1_735_689_600_000
SPAN = (1_704_067_200_000, 1_704_067_200_000 + 10 * DAY)

BASE = (
    "name=orders\nbootstrap.servers=127.0.0.1:9092\nkafka.topic=${connector}-orders\n"
    "http.source.url=https://api.example.com/v1/orders\n"
)
WINDOWS = (
    "http.source.window.size.seconds=86400\nhttp.source.window.start=2020-01-01T00:00:00Z\n"
    "http.source.query.params=since=${window.start}&until=${window.end}\n"
)


def connector_of(tmp_path: Path, text: str = WINDOWS) -> Connector:
    file = tmp_path / "orders.properties"
    file.write_text(BASE + text)
    return load([str(file)]).connectors[0]


def made(live: Connector, api: str | None = None, share: float = 0.3) -> Connector:
    return derived(live, SPAN, share=share, api=api, runtime=None)


@pytest.mark.parametrize(
    ("since", "to", "span"),
    [
        ("2024-01-01", "2024-01-11", SPAN),
        ("2024-01-01T00:00:00Z", "2024-01-11T01:00:00+01:00", SPAN),
        ("1704067200", "2024-01-11", SPAN),
    ],
)
def test_times(since: str, to: str, span: tuple[int, int]) -> None:
    assert span == span_of(since, to, ZONE, NOW)


def test_days_are_those_of_the_zone() -> None:
    berlin = span_of("2024-01-01", "2024-01-11", ZoneInfo("Europe/Berlin"), NOW)

    assert (SPAN[0] - 3_600_000, SPAN[1] - 3_600_000) == berlin


@pytest.mark.parametrize(
    ("since", "to", "why"),
    [
        ("yesterday", "2024-01-01", "--from 'yesterday'"),
        ("2024-01-01", "2024-13-01", "--to '2024-13-01'"),
        ("2024-01-02", "2024-01-01", "before --to"),
        ("2024-01-01", "2024-01-01", "before --to"),
        ("2024-01-01", "2034-01-01", "lies ahead"),
    ],
)
def test_times_that_are_none(since: str, to: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        span_of(since, to, ZONE, NOW)


@pytest.mark.parametrize("text", ["0", "-1", "1.1", "x", "nan"])
def test_a_share_is_a_part(text: str) -> None:
    with pytest.raises(Exception, match="not"):
        fraction(text)
    assert 1.0 == fraction("1")
    args = parser().parse_args(
        ["backfill", "f", "--from", "2024-01-01", "--to", "2024-01-02"]
    )
    assert 0.3 == args.share


def test_its_name_is_its_own_and_everything_seen_is_the_file_s(tmp_path: Path) -> None:
    live = connector_of(tmp_path)
    mine = made(live)

    assert mine.name.startswith("orders-backfill-")
    assert "orders" == mine.known_as == live.known_as
    assert mine.name == made(live).name
    assert mine.name != derived(
        live, (SPAN[0], SPAN[1] + 1), share=0.3, api=None, runtime=None
    ).name  # fmt: skip
    values = mine.apis[0].values
    assert "2024-01-01T00:00:00.000Z" == values["http.source.window.start"]
    assert "2024-01-11T00:00:00.000Z" == values["http.source.window.end"]
    assert values["cache.enabled"] is False
    assert {"api1": 86400} == sizes_of(mine)
    # A reload that finds another engine starts its tasks anew.
    other = derived(live, SPAN, share=0.3, api=None, runtime=tmp_path)
    assert mine.fingerprint != other.fingerprint


def test_apis_without_windows_are_left_out(tmp_path: Path) -> None:
    text = (
        "apis.num=3\napi1.api.name=plain\napi2.http.source.window.size.seconds=60\n"
        "api1.http.source.query.params=a=1\n"
        "api2.http.source.window.start=2020-01-01T00:00:00Z\n"
        "api2.http.source.query.params=a=${window.start}\n"
        "api3.api.chaining.parent=api2\napi3.api.chaining.extract.field=/id\n"
        "api3.http.source.url=https://api.example.com/v1/orders/${parent_value}\n"
    )
    live = connector_of(tmp_path, text)

    assert ["api2", "api3"] == [api.name for api in made(live).apis]
    with pytest.raises(ConfigError, match="window.size"):
        made(live, api="plain")
    with pytest.raises(ConfigError, match="no api is named 'other'"):
        made(live, api="other")
    with pytest.raises(ConfigError, match="--set"):
        made(connector_of(tmp_path, "http.offset.mode=FULL\n"))


@pytest.mark.parametrize("scope", ["GLOBAL", "PER_API", "PER_HOST", "PER_TASK"])
def test_it_takes_its_part_of_the_very_buckets(tmp_path: Path, scope: str) -> None:
    rate = "rate.limit.enabled=true\nrate.limit.requests.per.second=10\nrate.limit.burst.capacity=10\n"
    live = connector_of(tmp_path, WINDOWS + rate + f"rate.limit.scope={scope}\n")
    mine = made(live, share=0.3)
    clock = HandClock()
    directories = (tmp_path / "run", tmp_path / "state")
    for each in directories:
        each.mkdir()

    def limiter(limits: RateLimits) -> RateLimiter:
        return RateLimiter(directories, "orders", limits, clock=clock)

    engine, past = limiter(limits_of(live)), limiter(limits_of(mine))
    asked = {"engine": 0, "past": 0}
    waits = {"engine": 0.0, "past": 0.0}
    # Both want all they can get, for a minute.
    for _ in range(6000):
        for name, one in (("past", past), ("engine", engine)):
            ask = one.recheck("h") if waits[name] else one.reserve("h", "api1")
            waits[name] = ask
            asked[name] += not ask
        clock.move(0.01)
    engine.close()
    past.close()

    seconds = 60
    assert asked["past"] <= 0.3 * 10 * seconds + 4
    assert asked["past"] >= 0.25 * 10 * seconds
    if scope != "PER_TASK":
        # One budget: together they are never above it.
        assert asked["past"] + asked["engine"] <= 10 * seconds + 11
    # It is never starved.
    assert asked["engine"] >= 0.65 * 10 * seconds


def test_a_part_of_a_rate_lets_one_through_at_least(tmp_path: Path) -> None:
    for name in ("run", "state"):
        (tmp_path / name).mkdir()
    limits = RateLimits(rate=Rate(1.0, "TOKEN_BUCKET", 1), share=0.1)
    clock = HandClock()
    one = RateLimiter((tmp_path / "run", tmp_path / "state"), "c", limits, clock=clock)

    assert 0.0 == one.reserve("h", "a")
    assert 0.0 < one.reserve("h", "a")
    one.close()
    assert threading.active_count() >= 1


def test_how_far_it_is_and_how_long_it_takes() -> None:
    clock = HandClock()
    progress = BackfillProgress(SPAN, {"api1": 86400}, quiet=True, clock=clock)

    def saved(**position: object) -> bytes:
        return json.dumps(position).encode()

    assert 0.3 == progress.part_of("api1", saved(window=3, done=False))
    assert 1.0 == progress.part_of("api1", saved(window=10, done=True))
    assert 1.0 == progress.part_of("api1", saved(window=99, done=False))
    for odd in (b"", b"{", b"[]", saved(window="x"), saved(done=False)):
        assert 0.0 == progress.part_of("api1", odd)
