"""What `plan` reckons, against the formulas worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.cli.contradictions import Contradictions
from engine.cli.sizing import FlowEstimate, Sizing
from engine.config import load
from engine.config.entries import Findings
from engine.config.memory import memory
from engine.shared.demands import HostReading
from engine.task.sample import Sample

BASE = """\
name=orders
http.source.url=https://api.example.com/v1/orders
kafka.topic=orders
bootstrap.servers=127.0.0.1:9092
"""

#: Two pages of 100 records of 300 bytes, each in 100 ms; a poll has 12 of them.
PAGES: dict[str, Any] = {
    "api": "api1",
    "host": "api.example.com",
    "pages": 2,
    "requests": 2,
    "records": 200,
    "first_records": 100,
    "record_bytes": 60_000,
    "largest_record": 300,
    "body_bytes": 60_200,
    "largest_body": 30_100,
    "seconds": 0.19,
    "transform_seconds": 0.01,
    "produced": 200,
    "transformed": True,
    "poll_pages": 12,
    "poll_records": 1200,
}

#: 2026-03-01 00:30 UTC.
NOW = int(datetime(2026, 3, 1, 0, 30, tzinfo=UTC).timestamp() * 1000)


class Case:
    """A configuration and the samples of its apis."""

    def __init__(self, folder: Path, text: str, *samples: dict[str, Any], cores: int):
        file = folder / "orders.properties"
        file.write_text(BASE + text)
        [self.connector] = load([file]).connectors
        found = [Sample(**{**PAGES, **given}) for given in samples or ({},)]
        self.sizing = Sizing(
            self.connector,
            {sample.api: sample for sample in found},
            zone="UTC",
            now_ms=NOW,
            cores=cores,
        )

    @property
    def flow(self) -> FlowEstimate:
        return self.sizing.flows()[0]

    def said(
        self, *, machine: int = 1 << 40, quota: float | None = None, **partitions: int
    ) -> list[str]:
        """The keys that are warned of."""
        return [key for key, _ in self.warnings(machine, quota, **partitions)]

    def warnings(
        self, machine: int = 1 << 40, quota: float | None = None, **partitions: int
    ) -> list[tuple[str, str]]:
        findings = Findings()
        Contradictions(
            self.sizing,
            findings,
            memory=memory(self.connector, record=300, page=30_100),
            machine=machine,
            partitions=partitions,
            quota=quota,
        ).find()
        return [(f.key, f.message) for f in findings.all if f.severity == "warning"]


@pytest.fixture
def case(tmp_path: Path) -> Any:
    def made(text: str, *samples: dict[str, Any], cores: int = 2) -> Case:
        return Case(tmp_path, text, *samples, cores=cores)

    return made


def limited(rate: float, scope: str = "GLOBAL") -> str:
    return (
        "rate.limit.enabled=true\n"
        f"rate.limit.requests.per.second={rate:g}\nrate.limit.scope={scope}\n"
    )


SPLIT = "pagination.type=page\n"


def test_a_poll_of_12_calls_of_100_ms_each_minute(case: Any) -> None:
    flow = case("").flow

    assert 0.1 == pytest.approx(flow.call_seconds)
    assert 1.2 == pytest.approx(flow.poll_seconds)
    assert 12 * 1440 == pytest.approx(flow.calls_per_day)
    assert 1200 * 1440 == pytest.approx(flow.records_per_day)
    assert 10 == pytest.approx(flow.most)
    assert not flow.limited


@pytest.mark.parametrize(
    ("scope", "calls"), [("GLOBAL", 10), ("PER_TASK", 40), ("PER_HOST", 10)]
)
def test_the_limit_counts_once_or_for_each_task(
    case: Any, scope: str, calls: float
) -> None:
    # 4 tasks have 4 calls of 10 ms under way: 400 a second but for the limit.
    fast = {"seconds": 0.02, "transform_seconds": 0.0}
    flow = case(f"{SPLIT}tasks.max=4\n{limited(10, scope)}", fast).flow

    assert 400 == pytest.approx(flow.fastest)
    assert calls == pytest.approx(flow.most)
    # Records a call x calls a second x tasks, where each task has the rate.
    assert 100 * calls == pytest.approx(flow.most * flow.records_per_call)
    assert flow.limited


def test_what_is_under_way_bounds_the_calls(case: Any) -> None:
    deep = "pagination.concurrent.enabled=true\npagination.concurrent.max.threads=3\n"

    assert 10 == pytest.approx(case(SPLIT).flow.most)
    assert 20 == pytest.approx(case(f"{SPLIT}tasks.max=2\n").flow.most)
    assert 60 == pytest.approx(case(f"{SPLIT}tasks.max=2\n{deep}").flow.most)
    # Never more than a poll has, and a chain goes one by one.
    assert 120 == pytest.approx(case(f"{SPLIT}tasks.max=9\n{deep}").flow.most)
    chained = "pagination.type=cursor\npagination.cursor.field=next\n"
    assert 10 == pytest.approx(case(f"{chained}{deep}").flow.most)


def test_apis_share_a_limit_in_proportion(case: Any) -> None:
    both = case(
        "http.source.poll.interval.ms=1000\napi1.kafka.key=k\napi2.kafka.key=k\n"
        + limited(15),
        {},
        {"api": "api2", "poll_pages": 6, "poll_records": 600, "seconds": 0.09},
    )
    one, other = both.sizing.flows()

    assert (10, 20) == pytest.approx((one.fastest, other.fastest))
    assert (5, 10) == pytest.approx((one.most, other.most))
    assert (12, 6) == pytest.approx((one.wanted, other.wanted))
    [(key, message)] = [w for w in both.warnings() if w[0].startswith("rate")]
    assert "rate.limit.requests.per.second" == key
    assert "the polls want 18" in message


def test_a_child_is_polled_for_each_record_of_its_parent(case: Any) -> None:
    tree = case(
        "api1.kafka.topic=a\napi2.http.source.url=https://api.example.com/x/"
        "${parent_value}\napi2.api.chaining.parent=api1\napi2.api.chaining.extract.field=id\n"
        "api2.api.chaining.max.concurrent=5\n",
        {"poll_pages": 1, "poll_records": 100},
        {"api": "api2", "poll_pages": 2, "poll_records": 3, "parent_values": 0.5},
    )
    parent, child = tree.sizing.flows()

    assert (1, 100) == (parent.calls, child.calls)
    assert 150 == child.records
    assert 5 == child.lanes
    assert 100 / 50 == pytest.approx(child.poll_seconds)


def test_what_goes_on_where_it_stands_is_the_least_it_can_be(case: Any) -> None:
    flow = case("http.offset.mode=SIMPLE_INCREMENTING\npagination.type=offset\n").flow

    assert (1, 0, False) == (flow.calls, flow.records, flow.known)
    assert 1440 == pytest.approx(flow.calls_per_day)


def test_a_poll_that_outlasts_its_interval_skips_ticks(case: Any) -> None:
    slow = case("http.source.poll.interval.ms=1000\n")

    # 1.2 s a poll on a grid of 1 s: one each 2 s.
    assert 6 * 86_400 == pytest.approx(slow.flow.calls_per_day)
    assert 12 == pytest.approx(slow.flow.wanted)


def test_a_schedule_is_taken_by_its_ticks(case: Any) -> None:
    flow = case("http.source.poll.schedule=0 0 1,3 * * *\n").flow

    assert 12 * 3600 == pytest.approx(flow.pacing.mean, rel=0.1)
    assert 2 * 3600 == flow.pacing.shortest


def test_no_pause_between_polls(case: Any) -> None:
    assert 864_000 == pytest.approx(
        case("http.source.poll.interval.ms=0\n").flow.calls_per_day
    )
    nothing = {"records": 0, "poll_records": 0, "poll_pages": 1}
    # 0.1 s and a pause of 1 s.
    assert 86_400 / 1.1 == pytest.approx(
        case("http.source.poll.interval.ms=0\n", nothing).flow.calls_per_day
    )


@pytest.mark.parametrize(
    ("text", "enough"),
    [
        ("http.source.poll.interval.ms=60000\n", 1),
        # 12 calls of 100 ms in 300 ms take 4 at once.
        ("http.source.poll.interval.ms=300\n", 4),
        # A limit of 25/s is reached by 3 at once, however short the interval.
        ("http.source.poll.interval.ms=240\n" + limited(25), 3),
        # There is always more to do: two for each of 2 cores.
        ("http.source.poll.interval.ms=0\n", 4),
    ],
)
def test_the_fewest_tasks_that_do_it(case: Any, text: str, enough: int) -> None:
    assert enough == case(SPLIT + text).sizing.suggested()


def test_nothing_is_said_where_nothing_contradicts(case: Any) -> None:
    assert [] == case(f"{SPLIT}pagination.limit.value=100\n").said(orders=1)


@pytest.mark.parametrize(
    ("key", "text", "sample", "word"),
    [
        (
            "rate.limit.requests.per.second",
            "http.source.poll.interval.ms=2000\n" + limited(5),
            {},
            "want 6: their 12 calls take 2 s",
        ),
        (
            "http.source.poll.interval.ms",
            "http.source.poll.interval.ms=1000\n",
            {},
            "one takes 1.2 s (12 calls of 100 ms, 1 at once)",
        ),
        (
            "http.source.poll.schedule",
            "http.source.poll.schedule=* * * * * *\n",
            {},
            "a poll each 1 s",
        ),
        ("tasks.max", "tasks.max=8\n", {}, "1 ask as much"),
        (
            "tasks.max",
            "http.source.poll.interval.ms=300\n",
            {},
            "4 would ask all that is wanted",
        ),
        (
            "process.memory.max.bytes",
            "process.memory.max.bytes=20000000\n",
            {},
            "would be started anew",
        ),
        (
            "auto.scaling.scale.up.threshold.throughput",
            "auto.scaling.enabled=true\nauto.scaling.max.tasks=4\n",
            {"records": 20},
            "at most 100 records/s",
        ),
        ("pagination.limit.value", "pagination.limit.value=500\n", {}, "gives 100"),
        (
            "pagination.max.pages",
            "pagination.max.pages=12\n",
            {"truncated": True},
            "more pages",
        ),
        (
            "cache.response.max.size",
            "cache.response.max.size=10\n",
            {},
            "has 12 pages",
        ),
        (
            "health.check.response.time.threshold.ms",
            "health.check.response.time.threshold.ms=50\n",
            {},
            "answers in 95 ms",
        ),
        (
            "http.client.max.response.size.bytes",
            "http.client.max.response.size.bytes=40000\n",
            {},
            "30,100 bytes",
        ),
        ("errors.tolerance", "", {"letters": 3}, "3 of 200"),
        (
            "http.source.poll.interval.ms",
            "",
            {
                "demands": [
                    HostReading("api.example.com", 0.0, "", 1.0, 5000.0, 100.0, 3600.0)
                ]
            },
            "allows 100 more calls in the next 3,600 s, and 720 are wanted",
        ),
    ],
)
def test_each_contradiction_is_warned_of_by_its_key(
    case: Any, key: str, text: str, sample: dict[str, Any], word: str
) -> None:
    found = case(SPLIT + text, sample).warnings()

    assert word in dict(found)[key]


def test_a_quota_partitions_and_a_machine_that_are_too_small(case: Any) -> None:
    two = case(f"{SPLIT}tasks.max=2\nhttp.source.poll.interval.ms=600\n")

    assert [] == two.said(quota=1_728_000, orders=2)
    assert ["http.source.poll.interval.ms"] == two.said(quota=1_727_999)
    assert ["tasks.max"] == two.said(orders=1)
    [(_, message)] = two.warnings(machine=1 << 20)
    assert "are expected, this machine has 1 MiB" in message
    _, bound = memory(two.connector, record=300, page=30_100)
    [(key, message)] = two.warnings(machine=bound.total - 1)
    assert ("producer.buffer.memory", True) == (key, "up to" in message)
    assert [] == two.said(machine=bound.total)
