"""The table of names: the field's conventions, and nothing twice."""

from __future__ import annotations

import re

import pytest

from engine.observe import names
from engine.observe.names import ATTRIBUTES, TABLE, Metric, MetricKind, MetricOrigin
from engine.shared.board import SHARD


@pytest.mark.parametrize("metric", TABLE, ids=lambda metric: metric.name)
def test_a_name_says_what_it_counts_and_in_which_unit(metric: Metric) -> None:
    assert re.fullmatch(r"http_source_[a-z0-9_]+", metric.name)
    assert (metric.kind is MetricKind.COUNTER) == metric.name.endswith("_total")
    stem = metric.name.removesuffix("_total")
    if metric.unit:
        assert stem.endswith(f"_{metric.unit}")
    assert not stem.endswith("_ms")
    assert (metric.kind is MetricKind.HISTOGRAM) == bool(metric.buckets)
    assert (metric.origin is MetricOrigin.BOARD) == bool(metric.column)


@pytest.mark.parametrize("metric", TABLE, ids=lambda metric: metric.name)
def test_a_name_is_explained(metric: Metric) -> None:
    assert metric.meaning.endswith(".")
    assert metric.act.endswith(".")
    assert set(metric.values) <= set(metric.labels)


def test_no_name_stands_twice() -> None:
    assert len(TABLE) == len({metric.name for metric in TABLE})
    keys = [(row.domain, row.group, row.per, row.name) for row in ATTRIBUTES]
    assert len(keys) == len(set(keys))


def test_every_column_shown_is_on_the_board() -> None:
    shown = {*names.BY_COLUMN, *names.WAITS.values()}

    assert shown <= set(SHARD)


def test_the_families_others_rely_on_keep_their_names() -> None:
    wanted = {
        "http_source_records_written_total",
        "http_source_requests_total",
        "http_source_request_duration_seconds",
        "http_source_fetch_to_ack_seconds",
        "http_source_response_bytes_total",
        "http_source_retries_total",
        "http_source_rate_limit_wait_seconds_total",
        "http_source_cache_requests_total",
        "http_source_cache_bytes",
        "http_source_pool_connections",
        "http_source_last_success_timestamp_seconds",
        "http_source_tasks",
        "http_source_build_info",
        "http_source_worker_cpu_seconds_total",
        "http_source_worker_resident_memory_bytes",
        "http_source_stage_seconds",
    }

    assert wanted <= {metric.name for metric in TABLE}
