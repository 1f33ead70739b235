"""Health: every state, its code and its reason; numbers that scripts can read."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.admin.answers import json_answer, plain
from engine.admin.view import WAITING, ApiCard, ShardState, TaskState, Thresholds
from engine.observe import names
from engine.observe.failures import LastFailure
from tests.admin.conftest import Stage
from tests.fakes.view import card
from tests.needs import need

OK = ("h", "ok", "2xx")
FAILED = ("h", "failed", "5xx")


def told(stage: Stage, path: str = "/health") -> tuple[int, dict[str, Any]]:
    answer = stage.ask(path)
    return answer.status, json.loads(answer.body)


def test_before_the_first_page_it_is_starting(stage: Stage) -> None:
    code, body = told(stage)

    assert (503, "starting") == (code, body["status"])
    assert body["message"]


def test_a_delivered_page_makes_it_healthy(stage: Stage) -> None:
    stage.deliver(5)

    code, body = told(stage)

    assert (200, "healthy", []) == (code, body["status"], body["reasons"])


def test_slow_answers_make_it_degraded_from_the_twentieth_request_on(
    staged: Callable[..., Stage],
) -> None:
    stage = staged(card(thresholds=Thresholds(response_seconds=0.1)))
    stage.deliver(5)
    for _ in range(19):
        stage.meters.count(names.REQUESTS, OK)
        stage.meters.timer(names.REQUEST_SECONDS)(0.2)

    assert "healthy" == told(stage)[1]["status"]

    stage.meters.count(names.REQUESTS, OK)
    stage.meters.timer(names.REQUEST_SECONDS)(0.2)
    code, body = told(stage)

    assert (200, "degraded") == (code, body["status"])
    assert "health.check.response.time.threshold.ms=100" in body["message"]


@pytest.mark.parametrize(("failed", "status"), [(1, "healthy"), (2, "degraded")])
def test_two_of_twenty_failed_requests_are_too_many(
    stage: Stage, failed: int, status: str
) -> None:
    stage.deliver(5)
    for number in range(20):
        stage.meters.count(names.REQUESTS, FAILED if number < failed else OK)

    code, body = told(stage)

    assert (200, status) == (code, body["status"])


def test_bad_records_count_as_errors_where_they_are_the_larger_share(
    stage: Stage,
) -> None:
    for _ in range(20):
        stage.meters.count(names.REQUESTS, OK)
    stage.meters.count(names.RECORD_ERRORS, ("map",), 10)
    stage.counts["dead_lettered"] = 10
    stage.deliver(90)
    stage.counts["received"] = 100
    stage.shard(success_ms=stage.clock.wall_ms())

    _, body = told(stage, "/health/metrics")

    assert (0.1, 10) == (body["errors"]["rate"], body["errorRate"])
    assert "degraded" == told(stage)[1]["status"]


def test_errors_are_forgiven_after_five_minutes(stage: Stage) -> None:
    stage.deliver(5)
    stage.meters.count(names.REQUESTS, FAILED, 20)
    assert "degraded" == told(stage)[1]["status"]

    for _ in range(62):
        stage.clock.pass_by(5)
        stage.deliver(1)
        stage.watch.tick()

    assert "healthy" == told(stage)[1]["status"]


def test_a_low_hit_ratio_is_judged_from_a_hundred_lookups_on(stage: Stage) -> None:
    stage.deliver(5)
    stage.meters.count(names.CACHE_REQUESTS, ("none", "miss"), 99)
    assert "healthy" == told(stage)[1]["status"]

    stage.meters.count(names.CACHE_REQUESTS, ("none", "miss"), 1)

    _, body = told(stage)
    assert "degraded" == body["status"]
    assert "health.check.cache.hit.ratio.threshold=0.7" in body["message"]


@pytest.mark.parametrize("off", [{"cache": False}, {"statistics": False}])
def test_a_hit_ratio_nobody_counts_is_not_judged_and_reads_as_one(
    staged: Callable[..., Stage], off: dict[str, bool]
) -> None:
    stage = staged(card(**off))
    stage.deliver(5)
    stage.meters.count(names.CACHE_REQUESTS, ("none", "miss"), 500)

    assert "healthy" == told(stage)[1]["status"]
    _, body = told(stage, "/health/metrics")
    assert (1, False) == (body["cacheHitRatio"], body["cache"]["enabled"])


def test_misses_leave_the_statistics_window(staged: Callable[..., Stage]) -> None:
    stage = staged(card(statistics_seconds=600.0))
    stage.meters.count(names.CACHE_REQUESTS, ("none", "miss"), 10)
    stage.deliver(1)
    _, body = told(stage, "/health/metrics")
    assert (0, 10) == (body["cacheHitRatio"], body["cache"]["lookups"])

    for _ in range(65):
        stage.clock.pass_by(10)
        stage.watch.tick()

    _, body = told(stage, "/health/metrics")
    assert (1, 0) == (body["cacheHitRatio"], body["cache"]["lookups"])


def test_a_broker_that_is_away_makes_it_degraded_and_never_failed(
    stage: Stage,
) -> None:
    stage.view.task_states = [TaskState("orders", 0, "RUNNING", phase=WAITING)]
    stage.clock.pass_by(3600)

    code, body = told(stage)

    assert (200, "degraded") == (code, body["status"])
    assert "broker" in body["message"]


def test_time_without_a_broker_is_not_held_against_the_api(stage: Stage) -> None:
    stage.deliver(5)
    stage.view.task_states = [TaskState("orders", 0, "RUNNING", phase=WAITING)]
    stage.clock.pass_by(3600)
    stage.watch.tick()
    stage.view.task_states = [TaskState("orders", 0, "RUNNING")]

    stage.clock.pass_by(29)
    assert (200, "healthy") == (told(stage)[0], told(stage)[1]["status"])

    stage.clock.pass_by(2)
    assert 500 == told(stage)[0]


def test_a_task_that_has_not_started_is_not_silent(stage: Stage) -> None:
    stage.view.task_states = [TaskState("orders", 0, "UNASSIGNED")]
    stage.clock.pass_by(600)

    assert (503, "starting") == (told(stage)[0], told(stage)[1]["status"])


def test_a_failed_task_fails_it_with_the_first_line_of_its_trace(stage: Stage) -> None:
    stage.deliver(5)
    stage.view.task_states = [
        TaskState("orders", 0, "FAILED", trace="Denied: 401 from the API\n  at fetch")
    ]

    code, body = told(stage)

    assert (500, "failed") == (code, body["status"])
    assert "Denied: 401 from the API" in body["message"]
    assert "at fetch" not in body["message"]


def test_a_failed_shard_fails_it_while_its_task_goes_on(stage: Stage) -> None:
    stage.shard(success_ms=stage.clock.wall_ms(), failed="Unexpected: 404")

    code, body = told(stage)

    assert (500, "failed") == (code, body["status"])
    assert "api1 is FAILED: Unexpected: 404" in body["message"]


def test_three_intervals_without_success_fail_it(stage: Stage) -> None:
    stage.deliver(5)
    stage.clock.pass_by(30)
    assert 200 == told(stage)[0]

    stage.clock.pass_by(1)

    code, body = told(stage)
    assert (500, "failed") == (code, body["status"])
    assert "3 intervals are 30 s" in body["message"]


def test_an_api_that_never_answered_fails_after_three_intervals(stage: Stage) -> None:
    stage.clock.pass_by(29)
    assert 503 == told(stage)[0]

    stage.clock.pass_by(2)

    assert 500 == told(stage)[0]


def test_requests_that_outlast_the_interval_are_late_and_not_silent(
    staged: Callable[..., Stage],
) -> None:
    stage = staged(card(apis=(ApiCard("api1", 0.0),)))
    stage.deliver(5)
    stage.meters.count(names.REQUESTS, OK)
    stage.meters.timer(names.REQUEST_SECONDS)(4.0)
    stage.clock.pass_by(11)

    assert "healthy" == told(stage)[1]["status"]

    stage.clock.pass_by(2)

    assert "failed" == told(stage)[1]["status"]


@pytest.mark.parametrize(
    ("cards", "states"),
    [
        ({"apis": (ApiCard("api1", None),)}, ["RUNNING"]),
        ({}, ["PAUSED"]),
    ],
)
def test_an_unknown_interval_and_a_pause_are_not_judged_by_silence(
    staged: Callable[..., Stage], cards: dict[str, object], states: list[str]
) -> None:
    stage = staged(card(**cards))
    stage.deliver(5)
    stage.view.task_states = [TaskState("orders", 0, state) for state in states]
    stage.clock.pass_by(86_400)

    assert (200, "healthy") == (told(stage)[0], told(stage)[1]["status"])


def test_the_worst_connector_decides_and_each_has_its_own_line(
    staged: Callable[..., Stage],
) -> None:
    stage = staged(card(), card("users"))
    stage.deliver(5)
    stage.view.task_states.append(TaskState("users", 0, "FAILED", trace="lost"))

    code, body = told(stage)

    assert 500 == code
    assert "healthy" == body["connectors"]["orders"]["status"]
    assert "failed" == body["connectors"]["users"]["status"]


def test_a_connector_without_health_checks_is_left_out(
    staged: Callable[..., Stage],
) -> None:
    stage = staged(card(), card("users", health=False))
    stage.deliver(5)
    stage.view.task_states.append(TaskState("users", 0, "FAILED", trace="lost"))

    code, body = told(stage)

    assert (200, ["orders"]) == (code, list(body["connectors"]))


@pytest.mark.parametrize(
    "path", ["/health", "/health/live", "/health/ready", "/health/metrics"]
)
def test_the_paths_are_gone_when_no_connector_wants_them(
    staged: Callable[..., Stage], path: str
) -> None:
    stage = staged(card(health=False))

    assert 404 == stage.ask(path).status


def test_ready_is_503_until_records_flow_and_live_is_always_200(stage: Stage) -> None:
    assert (503, 200) == (
        told(stage, "/health/ready")[0],
        told(stage, "/health/live")[0],
    )

    stage.deliver(1)

    assert (200, True) == (
        told(stage, "/health/ready")[0],
        told(stage, "/health/ready")[1]["ready"],
    )


# --- /health/metrics ---------------------------------------------------------

#: What the founding scripts read, and what jq prints for it below.
PATHS = {
    ".throughput.messagesPerSecond": "25",
    ".latency.averageMs": "40",
    ".cache.hitRatio": "0.75",
    ".totalMessages": "1500",
    ".averageLatency": "40",
    ".cacheHitRatio": "0.75",
    ".errorRate": "0.25",
}


def fill(stage: Stage) -> None:
    stage.clock.pass_by(60)
    stage.deliver(1500)
    stage.meters.timer(names.FETCH_TO_ACK_SECONDS)(0.03)
    stage.meters.timer(names.FETCH_TO_ACK_SECONDS)(0.05)
    stage.meters.count(names.REQUESTS, OK, 399)
    stage.meters.count(names.REQUESTS, FAILED, 1)
    stage.meters.count(names.CACHE_REQUESTS, ("1", "hit"), 5)
    stage.meters.count(names.CACHE_REQUESTS, ("3", "revalidated"), 1)
    stage.meters.count(names.CACHE_REQUESTS, ("none", "miss"), 2)


@pytest.mark.parametrize(("path", "shown"), PATHS.items())
def test_jq_and_bc_read_each_number_of_the_scripts(
    stage: Stage, tmp_path: Path, path: str, shown: str
) -> None:
    for tool in ("jq", "bc"):
        need(shutil.which(tool), tool)
    fill(stage)
    file = tmp_path / "metrics.json"
    file.write_bytes(stage.ask("/health/metrics").body)

    printed = subprocess.run(
        ["jq", path, str(file)], capture_output=True, text=True, check=True
    ).stdout.strip()
    compared = subprocess.run(
        ["bc", "-l"],
        input=f"{printed} < 2000\n",
        capture_output=True,
        text=True,
        check=True,
    )

    assert shown == printed
    assert ("1", "") == (compared.stdout.strip(), compared.stderr)


def test_every_number_is_there_before_anything_was_counted(stage: Stage) -> None:
    _, body = told(stage, "/health/metrics")

    assert 0 == body["throughput"]["messagesPerSecond"]
    assert 0 == body["latency"]["averageMs"] == body["averageLatency"]
    assert 1 == body["cache"]["hitRatio"] == body["cacheHitRatio"]
    assert 0 == body["errorRate"] == body["totalMessages"]
    assert "null" not in stage.ask("/health/metrics").body.decode()


def test_the_rate_is_the_mean_of_the_last_minute(stage: Stage) -> None:
    for _ in range(24):
        stage.clock.pass_by(5)
        stage.deliver(500)
        stage.watch.tick()
    assert 100 == told(stage, "/health/metrics")[1]["throughput"]["messagesPerSecond"]

    for _ in range(13):
        stage.clock.pass_by(5)
        stage.watch.tick()

    _, body = told(stage, "/health/metrics")
    assert (0, 12_000) == (
        body["throughput"]["messagesPerSecond"],
        body["totalMessages"],
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00001, "0"),
        (0.0001, "0.0001"),
        (-0.00001, "0"),
        (1e22, "10000000000000000000000"),
        (12.5, "12.5"),
        (1 / 3, "0.3333"),
        (float("nan"), "0"),
        (float("inf"), "0"),
        (100.0, "100"),
    ],
)
def test_a_number_is_plain(value: float, text: str) -> None:
    assert text == json_answer(200, plain(value)).body.decode()


# --- polls, and why they fail --------------------------------------------------


def failing(stage: Stage, **changed: Any) -> LastFailure:
    now = stage.clock.wall_ms()
    values: dict[str, Any] = {
        "kind": "dns",
        "message": "no address for api.example.com",
        "count": 12,
        "polls": 1,
        "since_ms": now - 60_000,
        "at_ms": now,
        "next_ms": now + 5_000,
    }
    return LastFailure(**{**values, **changed})


@pytest.mark.parametrize(
    ("polls", "next_in", "status"),
    [
        (0, 5, "healthy"),
        (1, 5, "soon"),
        (2, 5, "degraded"),
        (3, 5, "failed"),
        (1, 599, "soon"),
        (1, 7200, "failed"),
    ],
)
@pytest.mark.parametrize("interval", [None, 7200.0])
def test_polls_given_up_are_judged_whatever_says_when_the_next_one_is(
    staged: Callable[..., Stage],
    interval: float | None,
    polls: int,
    next_in: int,
    status: str,
) -> None:
    stage = staged(card(apis=(ApiCard("api1", interval),)))
    now = stage.clock.wall_ms()
    failure = failing(stage, polls=polls, next_ms=now + 1000 * next_in)

    stage.shard(success_ms=now - 1000, failure=failure, next_ms=failure.next_ms)

    if status == "soon":
        # One poll of many is no trouble yet; one that a schedule asks for is.
        status = "degraded" if interval is None else "healthy"

    _, body = told(stage)
    assert status == body["status"]
    if status != "healthy":
        assert "no address for api.example.com (12 times since" in body["message"]


def test_a_failure_that_is_over_is_told_and_not_judged(stage: Stage) -> None:
    now = stage.clock.wall_ms()
    stage.shard(success_ms=now, failure=failing(stage, polls=7, over_ms=now))

    _, body = told(stage)

    assert "healthy" == body["status"]
    [failure] = body["connectors"]["orders"]["failures"]
    assert ("dns", 12, 7) == (failure["kind"], failure["count"], failure["polls"])
    assert failure["over"].endswith("Z")


def test_a_schedule_that_was_never_due_is_healthy_and_ready(
    staged: Callable[..., Stage],
) -> None:
    stage = staged(card(apis=(ApiCard("api1", None),)))
    stage.shard(next_ms=stage.clock.wall_ms() + 3_600_000)

    assert "healthy" == told(stage)[1]["status"]
    assert 200 == told(stage, "/health/ready")[0]


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        ("limiter", "healthy"),
        ("api_limiter", "healthy"),
        ("retry_after", "degraded"),
        ("budget", "degraded"),
        ("throttled", "degraded"),
    ],
)
def test_a_limit_holds_it_back_and_that_is_no_silence(
    stage: Stage, cause: str, status: str
) -> None:
    stage.deliver(5)
    success = stage.clock.wall_ms()
    stage.clock.pass_by(600)
    until = stage.clock.wall_ms() + 3_600_000
    stage.shard(success_ms=success, held_by=cause, held_until_ms=until)

    _, body = told(stage)

    assert status == body["status"]
    assert ("asked to wait, 3,600 s more, until" in body["message"]) == (
        status == "degraded"
    )


def test_it_is_not_ready_before_the_broker_was_ever_reached(stage: Stage) -> None:
    waiting = TaskState("orders", 0, "UNASSIGNED", phase=WAITING, waiting="refused")
    stage.view.task_states = [waiting]

    code, body = told(stage, "/health/ready")

    assert (503, False, "starting") == (code, body["ready"], body["status"])
    assert "Kafka broker: refused" in body["message"]


def test_a_memory_limit_that_restarts_it_is_said_for_a_while(stage: Stage) -> None:
    now = stage.clock.wall_ms()
    drained = TaskState("orders", 0, "RUNNING", drained=3, drained_ms=now)
    stage.view.task_states = [drained]
    stage.deliver(5)

    assert "process.memory.max.bytes" in told(stage)[1]["message"]
    assert "3 times" in told(stage)[1]["message"]

    stage.clock.pass_by(1000)
    stage.deliver(5)
    assert "healthy" == told(stage)[1]["status"]


def test_no_records_for_longer_than_is_allowed(staged: Callable[..., Stage]) -> None:
    stage = staged(card(thresholds=Thresholds(record_seconds=60.0)))
    stage.clock.pass_by(100)
    now = stage.clock.wall_ms()

    stage.shard(success_ms=now, record_ms=now - 59_000)
    assert "healthy" == told(stage)[1]["status"]

    stage.shard(success_ms=now, record_ms=now - 61_000)
    _, body = told(stage)
    assert "degraded" == body["status"]
    assert "health.check.no.records.threshold.ms=60000" in body["message"]


def test_a_start_says_what_it_is_at(stage: Stage) -> None:
    step = "reading state: 120,000 of 600,000"
    stage.view.task_states = [TaskState("orders", 0, "UNASSIGNED", pid=7, step=step)]

    code, body = told(stage)

    assert (503, "starting") == (code, body["status"])
    assert f"orders: Task 0 is starting: {step}." in body["reasons"]


def test_a_trouble_makes_it_degraded_and_is_said_once(stage: Stage) -> None:
    text = "The state cannot be saved: no space."
    stage.view.task_states = [
        TaskState("orders", number, "RUNNING", troubles=(text,)) for number in (0, 1)
    ]

    code, body = told(stage)

    assert (200, "degraded", [f"orders: {text}"]) == (
        code,
        body["status"],
        body["reasons"],
    )


def test_a_poll_goes_on_while_the_apis_below_are_asked(
    staged: Callable[..., Stage],
) -> None:
    stage = staged(card(apis=(ApiCard("customers", 10.0, ("details", "orders")),)))
    long_ago = stage.clock.wall_ms()
    stage.clock.pass_by(600)
    now = stage.clock.wall_ms()
    stage.shard(api="customers", success_ms=long_ago)
    [parent] = stage.view.shard_states
    child = {"place": 1, "connector": "orders", "task": 0, "counts": {}}

    assert "failed" == told(stage)[1]["status"]

    for name in ("details", "orders"):
        below = ShardState(api=name, label=name, success_ms=now, **child)
        stage.view.shard_states = [parent, below]
        assert "healthy" == told(stage)[1]["status"]
