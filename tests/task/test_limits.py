"""What the keys of `rate.limit.*` become for the limiter of all tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import load
from engine.shared.demands import Listening
from engine.shared.limiter import RateLimits
from engine.shared.rates import Rate
from engine.task.build.limits import limits_of, most_tasks_of

BASE = (
    "name=c\nhttp.source.url=https://api.example.com/v1\n"
    "kafka.topic=t\nbootstrap.servers=127.0.0.1:9092\n"
)


def limits(tmp_path: Path, text: str) -> RateLimits:
    file = tmp_path / "c.properties"
    file.write_text(BASE + text.replace("; ", "\n"))
    return limits_of(load([file]).connectors[0])


def shape(limit: Rate | None) -> tuple[float, int | None] | None:
    return None if limit is None else (limit.per_second, limit.burst)


ON = "rate.limit.enabled=true; "
PER_API = "rate.limit.scope=PER_API; "
PER_SECOND = "rate.limit.requests.per.second"
THREE = "api2.rate.limit.burst.capacity=3"


@pytest.mark.parametrize(
    ("text", "shared", "own"),
    [
        ("", None, {}),
        (ON, (10, 10), {}),
        (f"{ON}{PER_SECOND}=2.5", (2.5, 3), {}),
        # A second limit inside the first.
        (
            f"{ON}{PER_SECOND}=20; api1.{PER_SECOND}=5; api2.kafka.key=k",
            (20, 20),
            {"api1": (5, 5)},
        ),
        # The first holds also where each of them has a second one.
        (
            f"{ON}{PER_SECOND}=20; api1.{PER_SECOND}=15; api2.{PER_SECOND}=15",
            (20, 20),
            {"api1": (15, 15), "api2": (15, 15)},
        ),
        # Nobody asked for the default around them.
        (
            f"{ON}api1.{PER_SECOND}=15; api2.{PER_SECOND}=50",
            None,
            {"api1": (15, 15), "api2": (50, 50)},
        ),
        # Its own shape is a limit of its own.
        (
            f"{ON}{PER_SECOND}=20; api1.rate.limit.burst.capacity=2; api2.kafka.key=k",
            (20, 20),
            {"api1": (20, 2)},
        ),
        # Only one of them is limited.
        (
            f"api1.rate.limit.enabled=true; {PER_SECOND}=20; api2.kafka.key=k",
            (20, 20),
            {},
        ),
        (
            f"{ON}{PER_API}{PER_SECOND}=20; api1.{PER_SECOND}=5; {THREE}",
            None,
            {"api1": (5, 5), "api2": (20, 3)},
        ),
    ],
)
def test_whose_rates_there_are(tmp_path: Path, text: str, shared, own) -> None:
    found = limits(tmp_path, text)

    assert shared == shape(found.rate)
    assert own == {name: shape(rate) for name, rate in found.apis.items()}


def test_an_api_without_a_limit_pays_nothing(tmp_path: Path) -> None:
    text = f"{ON}api1.rate.limit.enabled=false; api2.kafka.key=k"

    assert ("api1",) == limits(tmp_path, text).unlimited


def test_each_api_listens_in_its_own_way(tmp_path: Path) -> None:
    text = (
        f"{ON}rate.limit.adaptive.enabled=true; retry.backoff.ms=200; "
        "api1.rate.limit.respect.headers=false; "
        "api2.rate.limit.retry.after.max.ms=5000; "
        "api2.retry.backoff.policy=CONSTANT_VALUE"
    )
    found = limits(tmp_path, text).listening

    assert Listening(respect=False, adaptive=True, backoff=0.2) == found["api1"]
    assert (
        Listening(longest=5.0, adaptive=True, backoff=0.2, exponential=False)
        == found["api2"]
    )


def test_a_task_alone_keeps_to_its_part_of_the_most_there_may_be(
    tmp_path: Path,
) -> None:
    file = tmp_path / "c.properties"
    for text, most in (
        ("tasks.max=3", 3),
        ("tasks.max=3\nauto.scaling.max.tasks=8", 3),
        ("tasks.max=3\nauto.scaling.enabled=true\nauto.scaling.max.tasks=8", 8),
    ):
        file.write_text(f"{BASE}{text}\n")

        assert most == most_tasks_of(load([file]).connectors[0])
