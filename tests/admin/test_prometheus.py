"""Metrics: formats, families, counters that never fall, bounded sets."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from engine.admin.prometheus import OPENMETRICS, TEXT, prefers_openmetrics
from engine.admin.store import MeterStore
from engine.admin.view import ApiCard, Process, ShardState, TaskState
from engine.observe import names
from engine.observe.meters import LABEL_SETS
from engine.observe.names import ATTRIBUTES, MetricKind, MetricOrigin
from engine.supervisor.status import Rebalances
from tests.admin.conftest import Stage
from tests.fakes.view import card
from tests.needs import need

#: What Prometheus 3 sends.
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def scrape(stage: Stage, accept: str = "") -> dict[tuple[str, ...], float]:
    """(sample, label=value ...) -> value, as Prometheus' own parser sees it."""
    text = stage.ask("/metrics", accept=accept).body.decode()
    families = text_string_to_metric_families(text)
    return {
        (
            sample.name,
            *sorted(f"{k}={v}" for k, v in sample.labels.items()),
        ): sample.value
        for family in families
        for sample in family.samples
    }


def everything(stage: Stage) -> None:
    """Something in every family the engine can show."""
    for metric in names.TABLE:
        if metric.origin is not MetricOrigin.METERS:
            continue
        labels = tuple(metric.values.get(name, ("x",))[0] for name in metric.own)
        if metric.kind is MetricKind.COUNTER:
            stage.meters.count(metric, labels, 2)
        elif metric.kind is MetricKind.GAUGE:
            stage.meters.state(metric, labels, 2)
        else:
            stage.meters.timer(metric, labels)(0.02)
    stage.counts = dict.fromkeys(
        [*names.BY_COLUMN, *names.WAITS.values()], 1_000_000_000
    )
    now_ms = stage.clock.wall_ms()
    stage.shard(success_ms=now_ms, next_ms=now_ms + 1000)
    stage.view.judgements = {("orders", "up", "throughput"): 1}
    stage.view.others = [Process("supervisor", 1), Process("admin", 2)]
    stage.view.task_states = [
        TaskState("orders", 0, "RUNNING", pid=3, heartbeat=stage.clock.now)
    ]


def test_every_family_of_the_table_is_emitted_once_it_has_a_value(
    stage: Stage,
) -> None:
    everything(stage)

    shown = {key[0] for key in scrape(stage)}

    for metric in names.TABLE:
        suffix = "_count" if metric.kind is MetricKind.HISTOGRAM else ""
        assert metric.name + suffix in shown


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("application/openmetrics-text; version=1.0.0", OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        ("text/plain;q=0.9,application/openmetrics-text;q=0.1", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=x", TEXT),
        ("application/openmetrics-text;version=3.0.0", TEXT),
    ],
)
def test_the_format_follows_accept(
    stage: Stage, accept: str, content_type: str
) -> None:
    answer = stage.ask("/metrics", accept=accept)

    assert content_type == answer.content_type
    assert (content_type == OPENMETRICS) == answer.body.endswith(b"# EOF\n")
    assert (content_type == OPENMETRICS) == prefers_openmetrics(accept)


def test_the_content_types_are_exactly_those_prometheus_wants() -> None:
    assert "text/plain; version=0.0.4; charset=utf-8" == TEXT
    assert OPENMETRICS.startswith("application/openmetrics-text; version=1.0.0")


def test_openmetrics_holds_the_same_values_for_a_strict_parser(stage: Stage) -> None:
    everything(stage)
    stage.families = ["NATIVE", "STRIMZI", "CONFLUENT"]
    stage.watch.look()
    text = stage.ask(
        "/metrics", accept="application/openmetrics-text; version=1.0.0"
    ).body.decode()

    strict = {
        (sample.name, *sorted(f"{k}={v}" for k, v in sample.labels.items()))
        for family in openmetrics.text_string_to_metric_families(text)
        for sample in family.samples
    }

    assert set(scrape(stage)) == strict


def test_promtool_finds_nothing_to_say_about_our_own_families(stage: Stage) -> None:
    need(shutil.which("promtool"), "promtool")
    everything(stage)
    stage.families = ["NATIVE"]

    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=stage.ask("/metrics").body,
        capture_output=True,
        check=False,
    )

    assert (b"", b"", 0) == (checked.stdout, checked.stderr, checked.returncode)


def test_a_restarted_task_goes_on_counting_where_it_stood(stage: Stage) -> None:
    key = ("http_source_batches_total", "connector=orders", "task=0")
    stage.meters.count(names.BATCHES, (), 5)
    assert 5 == scrape(stage)[key]

    stage.meters.close()
    stage.meters = stage.task(0)
    stage.meters.count(names.BATCHES, (), 2)

    assert 7 == scrape(stage)[key]


def test_a_shard_that_moves_leaves_what_it_counted_with_its_former_task(
    stage: Stage,
) -> None:
    stage.deliver(10)
    scrape(stage)
    stage.view.task_states.append(TaskState("orders", 1, "RUNNING"))
    stage.shard(task=1, counts={"produced": 13})

    seen = scrape(stage)

    name = "http_source_records_written_total"
    assert 10 == seen[name, "api=api1", "connector=orders", "task=0"]
    assert 3 == seen[name, "api=api1", "connector=orders", "task=1"]
    assert 13 == stage.watch.look().figures().total["written"]


def test_gauges_of_a_task_that_is_no_more_are_not_shown(stage: Stage) -> None:
    other = stage.task(1)
    other.state(names.BUFFER_BYTES, (), 9)
    other.count(names.BATCHES, (), 9)
    other.close()

    seen = scrape(stage)

    assert (
        "http_source_producer_buffer_bytes",
        "connector=orders",
        "task=1",
    ) not in seen
    assert 9 == seen["http_source_batches_total", "connector=orders", "task=1"]


def test_a_gauge_without_a_task_takes_the_latest_or_the_largest(stage: Stage) -> None:
    other = stage.task(1)
    stage.meters.state(names.EOS_ACTIVE, (), 1)
    stage.meters.state(names.TLS_INSECURE, (), 1)
    stage.meters.flush()
    stage.clock.pass_by(1)
    other.state(names.EOS_ACTIVE, (), 0)
    other.state(names.TLS_INSECURE, (), 0)
    other.close()

    seen = scrape(stage)

    assert 0 == seen["http_source_eos_active", "connector=orders"]
    assert 1 == seen["http_source_tls_insecure", "connector=orders"]


def test_label_sets_past_the_bound_are_counted_as_other(stage: Stage) -> None:
    for number in range(LABEL_SETS + 50):
        stage.meters.count(names.REQUESTS, (f"host{number}", "ok", "2xx"))
    stage.meters.flush()
    stage.meters.count(names.REQUESTS, ("host120", "ok", "2xx"))

    seen = {key: n for key, n in scrape(stage).items() if "requests_total" in key[0]}
    ours = {key: n for key, n in seen.items() if "http_source_requests_total" == key[0]}

    assert LABEL_SETS + 1 == len(ours)
    assert 51 == sum(n for key, n in ours.items() if "endpoint=other" in key)


def test_labels_are_escaped(staged: Callable[..., Stage]) -> None:
    odd = 'a"b\\c\nd'
    stage = staged(card(apis=(ApiCard(odd, 1.0),)))
    stage.shard(api=odd, counts={"pages": 1})

    assert (
        1
        == scrape(stage)[
            "http_source_pages_total", f"api={odd}", "connector=orders", "task=0"
        ]
    )


def test_a_damaged_or_unfinished_file_costs_only_its_own_lines(stage: Stage) -> None:
    for name, content in [("empty", b""), ("junk", b"\xff" * 64)]:
        with open(f"{stage.view.meters}/counter_{name}.db", "wb") as file:
            file.write(content)
    stage.meters.count(names.BATCHES)

    assert 1 == scrape(stage)["http_source_batches_total", "connector=orders", "task=0"]


def test_a_directory_that_is_not_there_holds_nothing() -> None:
    assert {} == MeterStore("/nonexistent/meters").read()


def test_the_waits_of_the_board_are_seconds_by_cause(stage: Stage) -> None:
    stage.counts = {
        "wait_limiter_ns": 1_500_000_000,
        "wait_retry_after_ns": 500_000_000,
    }
    stage.shard()

    seen = scrape(stage)

    own = ("api=api1", "connector=orders")
    assert 1.5 == seen["http_source_wait_seconds_total", *own, "on=limiter", "task=0"]
    assert (
        2
        == seen[
            "http_source_rate_limit_wait_seconds_total", "connector=orders", "task=0"
        ]
    )


def test_shards_of_an_api_share_one_last_success(stage: Stage) -> None:
    stage.view.shard_states = [
        ShardState(n, "orders", "api1", f"api1[{n}/2]", 0, {}, success_ms=n * 1000)
        for n in (1, 2)
    ]

    assert (
        2
        == scrape(stage)[
            "http_source_last_success_timestamp_seconds",
            "api=api1",
            "connector=orders",
            "task=0",
        ]
    )


# --- Connect's families ------------------------------------------------------


def test_strimzis_names_are_served_by_default(stage: Stage) -> None:
    stage.deliver(10)
    stage.view.task_states.append(TaskState("orders", 1, "FAILED", trace="x"))

    seen = scrape(stage)

    task = ("connector=orders", "task=0")
    assert 10 == seen["kafka_connect_source_task_source_record_write_total", *task]
    assert (
        1
        == seen["kafka_connect_connector_status", "connector=orders", "status=running"]
    )
    assert (
        1
        == seen[
            "kafka_connect_connector_task_status",
            "connector=orders",
            "status=failed",
            "task=1",
        ]
    )
    assert 1 == seen["kafka_connect_worker_connector_count",]
    assert 2 == seen["kafka_connect_worker_task_count",]
    assert (
        1
        == seen["kafka_connect_worker_connector_failed_task_count", "connector=orders"]
    )
    assert 0 == seen["kafka_connect_task_error_total_record_failures", *task]
    assert not any("_metrics" in key[0] for key in seen)


def test_rebalances_are_told_as_connect_tells_them(stage: Stage) -> None:
    """connect-worker-rebalance-metrics: a moving one, and those that are over."""
    told = "kafka_connect_worker_rebalance"
    stage.clock.pass_by(4.0)

    seen = scrape(stage)
    assert 0 == seen[f"{told}_completed_rebalances_total",]
    assert 0 == seen[f"{told}_rebalance_avg_time_ms",]
    assert 4_000 == seen[f"{told}_time_since_last_rebalance_ms",]

    stage.view.rebalanced = Rebalances(
        completed=4,
        running=True,
        last_ms=stage.clock.wall_ms() - 1_500,
        seconds=6.0,
        longest=3.0,
    )
    seen = scrape(stage)
    assert 4 == seen[f"{told}_completed_rebalances_total",]
    assert 4 == seen[f"{told}_epoch",]
    assert 1 == seen[f"{told}_rebalancing",]
    assert 3_000 == seen[f"{told}_rebalance_max_time_ms",]
    assert 1_500 == seen[f"{told}_rebalance_avg_time_ms",]
    assert 1_500 == seen[f"{told}_time_since_last_rebalance_ms",]


def test_confluents_names_are_served_on_request(stage: Stage) -> None:
    stage.families = ["CONFLUENT"]
    stage.deliver(120)

    seen = scrape(stage)

    task = ("connector=orders", "task=0")
    assert (
        120 == seen["kafka_connect_source_task_metrics_source_record_write_rate", *task]
    )
    assert (
        0
        == seen[
            "kafka_connect_connect_worker_metrics_connector_failed_task_count",
            "connector=orders",
        ]
    )
    assert (
        1
        == seen["kafka_connect_connector_metrics", "connector=orders", "status=running"]
    )
    assert not any(key[0].startswith("http_source") for key in seen)


def test_every_attribute_of_connect_has_a_family_in_both_spellings(
    stage: Stage,
) -> None:
    stage.families = ["STRIMZI", "CONFLUENT"]

    shown = {key[0] for key in scrape(stage)}

    wanted = {row.strimzi for row in ATTRIBUTES} | {row.confluent for row in ATTRIBUTES}
    assert wanted - {""} == shown


def test_how_a_task_spent_its_time_is_a_ratio(stage: Stage) -> None:
    stage.clock.pass_by(30)
    stage.watch.look()
    stage.view.task_states = [TaskState("orders", 0, "PAUSED")]
    stage.clock.pass_by(10)

    seen = scrape(stage)

    task = ("connector=orders", "task=0")
    assert 0.75 == seen["kafka_connect_connector_task_running_ratio", *task]
    assert 0.25 == seen["kafka_connect_connector_task_pause_ratio", *task]


def test_the_last_error_has_a_time(stage: Stage) -> None:
    key = (
        "kafka_connect_task_error_last_error_timestamp",
        "connector=orders",
        "task=0",
    )
    assert 0 == scrape(stage)[key]

    stage.clock.pass_by(5)
    stage.meters.count(names.RECORD_ERRORS, ("map",))

    assert stage.clock.wall_ms() == scrape(stage)[key]
