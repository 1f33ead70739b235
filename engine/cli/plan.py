"""
Plan: what a configuration will ask, bring and need, from a few live pages.

Owns the output of `plan`.  Asks each api for a few pages and the broker for the
partitions of its topics; writes nothing, reads and moves no state.

Path: ``cli.main`` -> here -> ``task.sample``, ``sizing``, ``contradictions``
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator
from typing import Any

import msgspec

from engine.cli.check import load
from engine.cli.contradictions import Contradictions, demands
from engine.cli.display import say, say_table
from engine.cli.sizing import DAY, FlowEstimate, Sizing
from engine.cli.wanted import owned
from engine.clock import SYSTEM
from engine.config import Api, Connector, Loaded
from engine.config.entries import Findings
from engine.config.memory import MEAN_RECORD, MemoryNeed, memory
from engine.config.sections.cache import TiersConfig
from engine.config.sections.engine import ScheduleConfig
from engine.config.sections.jobs import JobsConfig
from engine.config.sections.observing import AdminConfig
from engine.config.sections.offsets import OffsetsConfig, WindowsConfig
from engine.config.sections.transformation import BatchingConfig
from engine.errors import ConfigError, EngineError, Exit
from engine.observe import machine
from engine.observe.redact import redact
from engine.task.probe import partitions
from engine.task.sample import Sample, samples

#: The guide's factors: what an answer that is kept costs of its size, and a
#: record while it is transformed.
CACHE_FACTOR = 1.5
TRANSFORM_FACTOR = 2

COLUMNS = (
    "api",
    "records/call",
    "bytes/record",
    "ms/call",
    "calls/poll",
    "poll",
    "due",
    "calls/day",
    "records/day",
)


class Planned:
    """
    One connector, sampled and sized.

    Args:
        quota: Calls a day that are allowed, or None.
    """

    def __init__(
        self, connector: Connector, loaded: Loaded, pages: int, quota: float | None
    ):
        zone = loaded.process.of(ScheduleConfig).timezone
        self.connector = connector
        self._quota = quota
        self._samples = sampled(connector, zone, pages)
        self.sizing = Sizing(
            connector,
            self._samples,
            zone=zone,
            now_ms=SYSTEM.wall_ms(),
            cores=os.cpu_count() or 1,
        )
        self.flows = self.sizing.flows()
        self.memory = memory(
            connector,
            admin=loaded.process.of(AdminConfig).listeners != ("none",),
            record=self._record,
            page=self._page,
        )
        self.unasked = ""
        self.partitions: dict[str, int] = {}
        try:
            self.partitions = partitions(connector)
        except EngineError as failure:
            self.unasked = redact(str(failure))

    def contradictions(self, findings: Findings) -> None:
        """Note them all."""
        Contradictions(
            self.sizing,
            findings,
            memory=self.memory,
            machine=machine.memory_total(),
            partitions=self.partitions,
            quota=self._quota,
        ).find()

    @property
    def _record(self) -> float:
        records = sum(sample.records for sample in self._samples.values())
        size = sum(sample.record_bytes for sample in self._samples.values())
        return size / records if records else MEAN_RECORD

    @property
    def _page(self) -> float:
        return max(sample.largest_body for sample in self._samples.values())

    @property
    def report(self) -> dict[str, Any]:
        """The connector's part of the document; rates a second, times seconds."""
        flows, tasks = self.flows, self.sizing.tasks
        asked = sum(flow.calls_per_second for flow in flows)
        suggested = self.sizing.suggested()
        return {
            "name": self.connector.name,
            "apis": [described(flow) for flow in flows],
            "calls_per_day": round(asked * DAY),
            "records_per_day": round(sum(flow.records_per_day for flow in flows)),
            "limits": [
                {
                    "of": cap.of,
                    "calls_per_second": cap.rate,
                    "used": round(
                        sum(f.calls_per_second for f in flows if f.api in cap.apis)
                        / cap.rate,
                        4,
                    ),
                }
                for cap in self.sizing.caps(self.sizing.started(tasks))
            ],
            "quota": {
                "calls_per_day": self._quota,
                "used": self._quota and round(asked * DAY / self._quota, 4),
                "hosts": [
                    {
                        "host": told.host,
                        "limit": told.limit,
                        "remaining": told.remaining,
                        "reset_seconds": told.reset,
                        "wanted_until_reset": told.reset
                        and round(
                            told.reset
                            * sum(
                                flow.calls_per_second
                                for flow in flows
                                if flow.sample.host == told.host
                            ),
                            1,
                        ),
                    }
                    for told in demands(flows)
                    if told.remaining is not None or told.limit is not None
                ],
            },
            "throughput": throughput(flows),
            "memory": {
                "expected_bytes": self.memory[0].total,
                "bound_bytes": self.memory[1].total,
                "task_bytes": self.memory[0].task,
                "cache_bytes": self._cache_bytes,
                "transformation_bytes": round(
                    self.connector.values.of(BatchingConfig).batch_size
                    * self._record
                    * TRANSFORM_FACTOR
                ),
            },
            "partitions": {
                "topics": self.partitions,
                "least": max(tasks, suggested),
                "unknown": self.unasked or None,
            },
            "tasks": {
                "configured": tasks,
                "started": self.sizing.started(tasks),
                "suggested": suggested,
            },
        }

    @property
    def _cache_bytes(self) -> int:
        """What the pages that may be kept would take, and never more than allowed."""
        expected = self.memory[0]
        entries: int = self.connector.values.of(TiersConfig).max_size
        pages = min(entries, sum(flow.calls for flow in self.flows))
        size = max(flow.bytes_per_call for flow in self.flows)
        return round(min(expected.cache, pages * size * CACHE_FACTOR))


def plan(args: argparse.Namespace) -> int:
    """
    `plan FILE...`: calls, throughput, memory, partitions, tasks, and warnings.

    Returns: 0; 78 for a warning under `--strict`.
    Raises: ConfigError, SourceError, RecordError.  Blocks: for the requests.
    """
    loaded = load(args, quiet=args.json)
    findings = Findings()
    planned = []
    for connector in loaded.connectors:
        one = Planned(connector, loaded, args.pages, args.quota)
        one.contradictions(findings)
        planned.append(one)
    found = findings.all
    # Of one key what was measured is said, not what the configuration made likely.
    said = {each.key for each in found}
    if args.json:
        document = {
            "connectors": [one.report for one in planned],
            "findings": [
                *(each for each in loaded.findings if each.key not in said),
                *found,
            ],
        }
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
    else:
        for one in planned:
            show(one)
        if found:
            say(f"{each.severity}: {each}" for each in found)
    warned = any(each.severity == "warning" for each in found)
    return Exit.CONFIG if args.strict and warned else Exit.OK


def sampled(connector: Connector, zone: str, most: int) -> dict[str, Sample]:
    """
    A few pages of each api that the connector polls.

    Raises: ConfigError if it polls none, or if no page came.
    """
    found = {}
    for root in owned(connector):
        api = next(api for api in connector.apis if api.name == root.name)
        for each, sample in samples(connector, api, zone, most, root.entities):
            found[each.name] = sample
    if not found:
        raise ConfigError(f"connector {connector.name} polls no api")
    return {name: sample for name, sample in found.items() if sample.pages}


def described(flow: FlowEstimate) -> dict[str, Any]:
    """One api in the document."""
    sample = flow.sample
    return {
        "name": flow.api,
        "parent": flow.parent,
        "host": sample.host,
        "sampled": {
            "pages": sample.pages,
            "requests": sample.requests,
            "records": sample.records,
            "bytes": sample.body_bytes,
            "wire_bytes": sample.wire_bytes,
            "largest_page_bytes": sample.largest_body,
            "largest_record_bytes": sample.largest_record,
            "slowest_seconds": round(sample.slowest, 6),
            "produced": sample.produced if sample.transformed else None,
            "produced_bytes": sample.produced_bytes if sample.transformed else None,
            "filtered": sample.filtered if sample.transformed else None,
            "dead_lettered": sample.letters if sample.transformed else None,
        },
        "records_per_call": round(flow.records_per_call, 3),
        "bytes_per_record": round(sample.mean_record, 1),
        "bytes_per_call": round(flow.bytes_per_call, 1),
        "response_seconds": round(flow.response_seconds, 6),
        "call_seconds": round(flow.call_seconds, 6),
        "calls_at_once": flow.lanes,
        "calls_per_poll": round(flow.calls, 3),
        "calls_per_poll_known": flow.known,
        "records_per_poll": round(flow.records, 3),
        "poll_seconds": round(flow.poll_seconds, 6),
        "interval_seconds": flow.pacing.mean,
        "calls_per_day": round(flow.calls_per_day),
        "records_per_day": round(flow.records_per_day),
        "most_calls_per_second": round(flow.most, 4),
        "most_records_per_second": round(flow.most * flow.records_per_call, 3),
        "bound_by": "rate limit" if flow.limited else "response time",
    }


def throughput(flows: list[FlowEstimate]) -> dict[str, Any]:
    """The formula's parts: records a call x calls a second, at the most."""
    calls = sum(flow.most for flow in flows)
    records = sum(flow.most * flow.records_per_call for flow in flows)
    limited = any(flow.limited for flow in flows)
    return {
        "records_per_call": round(records / calls, 3) if calls else 0.0,
        "calls_per_second": round(calls, 4),
        "records_per_second": round(records, 3),
        "bytes_per_second": round(sum(f.most * f.bytes_per_call for f in flows), 1),
        "bound_by": "rate limit" if limited else "response time",
    }


def show(one: Planned) -> None:
    """For people."""
    report = one.report
    say([f"{report['name']}: {one.sizing.tasks} task{'s' * (one.sizing.tasks != 1)}"])
    say_table(COLUMNS, [cells(flow) for flow in one.flows])
    say(lines(one, report))


def cells(flow: FlowEstimate) -> tuple[str, ...]:
    """An api's row."""
    more = "" if flow.known else "+"
    return (
        flow.api,
        f"{flow.records_per_call:,.1f}",
        f"{flow.sample.mean_record:,.0f}",
        f"{1000 * flow.call_seconds:,.1f}",
        f"{flow.calls:,.0f}{more}",
        f"{span(flow.poll_seconds)}{more}",
        f"each {span(flow.pacing.mean)}" if flow.pacing.mean else "at once",
        f"{flow.calls_per_day:,.0f}{more}",
        f"{flow.records_per_day:,.0f}{more}",
    )


def lines(one: Planned, report: dict[str, Any]) -> Iterator[str]:
    """What is said below the table."""
    more = "" if all(flow.known for flow in one.flows) else "at least "
    yield f"  calls       {more}{report['calls_per_day']:,} a day"
    for limit in report["limits"]:
        yield (
            f"              {limit['used']:.0%} of {limit['calls_per_second']:g}/s, "
            f"the rate limit of {limit['of']}"
        )
    quota = report["quota"]
    if quota["used"] is not None:
        yield f"              {quota['used']:.0%} of {quota['calls_per_day']:,} a day"
    for told in quota["hosts"]:
        yield f"              {told_of(told)}"
    most = report["throughput"]
    yield (
        f"  throughput  at most {most['records_per_second']:,.0f} records/s: "
        f"{most['records_per_call']:,.1f} records a call x "
        f"{most['calls_per_second']:,.2f} calls/s ({most['bound_by']})"
    )
    expected, bound = one.memory
    yield f"  memory      expected {mib(expected)}, bound {mib(bound)}"
    topics = [f"{name} has {n}" for name, n in report["partitions"]["topics"].items()]
    known = ", ".join(topics) or one.unasked or "no topic there yet"
    yield f"  partitions  at least {report['partitions']['least']} ({known})"
    tasks = report["tasks"]
    yield f"  tasks       {tasks['suggested']} suggested, {tasks['configured']} configured"
    if more:
        yield (
            "  +           the least it can be: the pages had no end yet, or only what "
            "is new is asked for"
        )
    for api in one.connector.apis:
        if said := read_as(api):
            yield f"  {api.name:<11} {said}"


def read_as(api: Api) -> str:
    """What the figures of an api do not say of its mode, or ""."""
    if api.values.of(OffsetsConfig).mode in ("SNAPSHOT_PAGINATION", "SNAPSHOT_DIFF"):
        return "all of it is read at each poll, and what is new or changed is produced"
    size = api.values.of(WindowsConfig).size
    if size is not None:
        return (
            f"asked window by window, {DAY / size:,.4g} a day; the pages above are of "
            "the first windows"
        )
    if api.values.of(JobsConfig).create_url is not None:
        return "each poll makes a job; looking at its status is among the calls"
    return ""


def told_of(told: dict[str, Any]) -> str:
    """What a host said of its own limit."""
    words = [f"{told['host']}:"]
    if told["remaining"] is not None:
        of = "" if told["limit"] is None else f" of {told['limit']:,.0f}"
        words.append(f"{told['remaining']:,.0f}{of} calls left by its own word")
    if told["reset_seconds"]:
        words.append(
            f"for {told['reset_seconds']:,.0f} s, in which "
            f"{told['wanted_until_reset']:,.0f} are wanted"
        )
    return " ".join(words)


def mib(found: MemoryNeed) -> str:
    """What a connector needs in all, in MiB, for people."""
    return f"{found.total / 2**20:,.0f} MiB"


def span(seconds: float) -> str:
    """A time in the unit that fits."""
    if seconds < 1:
        return f"{1000 * seconds:,.0f} ms"
    if seconds < 600:
        return f"{seconds:,.1f} s"
    if seconds < 36_000:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds / 3600:,.1f} h" if math.isfinite(seconds) else "for ever"
