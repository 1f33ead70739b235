"""
Polling: when a shard polls and how it walks through its pages.

Owns the translation of schedules and of requests, and nothing that runs.

Path: `build.sources`, `build.shards`, `check` -> here -> ``source``
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo

from engine.config import Api, Connector
from engine.config.sections.engine import PollingConfig
from engine.config.sections.request import RequestConfig
from engine.language.cron import compile_cron
from engine.records import Offset, Shard
from engine.source.paging.pager import ShardCoordination
from engine.source.paging.paginator import Paginator
from engine.source.paging.request import Shape
from engine.task.build.http import http_options, policy_of, url_of
from engine.task.build.modes import around_of
from engine.task.build.paging import initial_of, paging_of
from engine.task.pace import Interval, Schedule


def pace_of(
    api: Api,
    zone: tzinfo,
    *,
    resume: bool,
    skipped: Callable[[int], None],
    origin: float | None = None,
    last_ms: int | None = None,
) -> Interval | Schedule:
    """
    When an api polls.

    Args:
        resume: A poll was cut short: it goes on at once.
        skipped: Told how many ticks were missed.
        origin: Where the grid of an earlier process of this shard begins.
        last_ms: When the offset was written.
    """
    schedule = api.values.of(PollingConfig).schedule
    if schedule is not None:
        cron = compile_cron(schedule)
        return Schedule(cron, zone=zone, last_ms=last_ms, resume=resume)
    polling = api.values.of(PollingConfig)
    leads_on = api.values.stated("http.source.poll.catchup.interval.ms")
    return Interval(
        polling.interval,
        catchup=polling.catchup if leads_on else None,
        origin=origin,
        resume=resume,
        skipped=skipped,
        retry=policy_of(api.values),
    )


def paginator_of(
    connector: Connector,
    api: Api,
    shard: Shard,
    *,
    zone: tzinfo,
    task: int,
    coordination: ShardCoordination | None = None,
    others: Sequence[tuple[int, int, Offset]] = (),
    note: Callable[[str], None] = lambda name: None,
) -> Paginator:
    """The walk through one shard; arguments as for `Sources.poll`."""
    values = api.values
    url = url_of(values)
    paging = paging_of(api, url, index=shard.index, count=shard.count)
    shape = Shape(
        method=values.of(RequestConfig).method,
        url=url,
        paging=paging,
        params=values.of(RequestConfig).params or "",
        headers=tuple(values.of(RequestConfig).headers or ()),
        body=values.of(RequestConfig).body,
        omit=values.of(RequestConfig).body_null == "OMIT",
        initial=initial_of(values, paging, url),
        constants={
            "connector": connector.known_as,
            "api": api.name,
            "entityName": shard.entity,
            "task": task,
        },
        zone=zone,
    )
    return Paginator(
        paging,
        shape=shape,
        follow=http_options(api).borders.follow,
        index=shard.index,
        count=shard.count,
        others=others,
        coordination=coordination,
        note=note,
        around=around_of(api, shard, shape, zone, others, note),
    )
