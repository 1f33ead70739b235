"""
Contradictions: where a configuration wants what its apis do not give.

Owns the warnings of `plan`: each names the key that is to blame, with file and
line, what was measured, and what would fit.  Pure.

Path: ``sizing`` -> here -> ``plan``
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.cli.sizing import DAY, FlowEstimate, Sizing
from engine.config import Api
from engine.config.entries import Findings
from engine.config.memory import MemoryNeed
from engine.config.pagination import TYPES
from engine.config.rules import tasks_fit_their_limit
from engine.config.scope import Scope
from engine.config.sections.cache import ResponseCacheConfig
from engine.config.sections.observing import HealthConfig
from engine.config.sections.offsets import OffsetsConfig
from engine.config.sections.paging import PaginationConfig
from engine.config.sections.processes import ScalingConfig
from engine.shared.demands import HostReading

#: A response that is this part of what is allowed is too near to it.
NEAR = 0.5

RATE = "rate.limit.requests.per.second"
INTERVAL = "http.source.poll.interval.ms"
SCHEDULE = "http.source.poll.schedule"


class Contradictions:
    """
    Looks for them in one connector.

    Args:
        memory: Expected and bound.
        machine: Bytes of memory there are.
        partitions: Of the topics that exist, by name.
        quota: Calls a day that are allowed in all, or None.
    """

    def __init__(
        self,
        sizing: Sizing,
        findings: Findings,
        *,
        memory: tuple[MemoryNeed, MemoryNeed],
        machine: int,
        partitions: Mapping[str, int],
        quota: float | None,
    ):
        self._sizing = sizing
        self._flows = sizing.flows()
        self._findings = findings
        connector = sizing.connector
        self._c = Scope(connector.values, "", findings)
        self._several = len(connector.apis) > 1
        self._apis = {api.name: api for api in connector.apis}
        self._memory = memory
        self._machine = machine
        self._partitions = partitions
        self._quota = quota

    def find(self) -> None:
        """Note every one of them."""
        self._apis_were_sampled()
        self._polls_fit_their_rate()
        self._polls_fit_their_interval()
        self._quotas_last()
        self._tasks_have_work()
        self._topics_have_partitions()
        self._machine_has_memory()
        self._scaling_is_possible()
        for flow in self._flows:
            self._pages_are_as_asked(flow)
            self._answers_are_as_expected(flow)

    def _scope(self, api: Api) -> Scope:
        prefix = f"api{api.index}." if self._several else ""
        return Scope(api.values, prefix, self._findings)

    def _of(self, flow: FlowEstimate) -> Scope:
        return self._scope(self._apis[flow.api])

    def _apis_were_sampled(self) -> None:
        for name in self._sizing.unsampled:
            self._scope(self._apis[name]).note(
                "api.chaining.extract.field",
                f"{name} was not asked: no sampled record of its parent names a value",
            )

    def _polls_fit_their_rate(self) -> None:
        for cap in self._sizing.caps(self._sizing.started(self._sizing.tasks)):
            mine = [f for f in self._flows if f.api in cap.apis and f.pacing.mean]
            wanted = sum(flow.wanted for flow in mine)
            if wanted <= cap.rate:
                continue
            calls = sum(flow.calls for flow in mine)
            scope = self._of(mine[0])
            if not scope.values.own(RATE):
                scope = Scope(self._sizing.connector.common, "", self._findings)
            scope.warn(
                RATE,
                f"{cap.rate:.4g} calls/s for {cap.of}, but the polls want "
                f"{least(mine)}{wanted:.4g}: their {calls:,.0f} calls take "
                f"{calls / cap.rate:,.0f} s",
            )

    def _polls_fit_their_interval(self) -> None:
        for flow in self._flows:
            tick, alone = flow.pacing.shortest, flow.calls / flow.fastest
            if not tick or alone <= tick:
                continue
            scope = self._of(flow)
            scope.warn(
                due(scope),
                f"a poll each {tick:,.3g} s, but one takes {least([flow])}"
                f"{alone:,.3g} s ({flow.calls:,.0f} calls of "
                f"{1000 * flow.call_seconds:,.0f} ms, {flow.lanes} at once)",
            )

    def _quotas_last(self) -> None:
        asked = sum(flow.calls_per_second for flow in self._flows)
        if self._quota is not None and asked * DAY > self._quota:
            scope = self._of(max(self._flows, key=lambda flow: flow.calls_per_second))
            scope.warn(
                due(scope),
                f"{least(self._flows)}{asked * DAY:,.0f} calls a day, but "
                f"{self._quota:,.0f} are allowed",
            )
        for told in demands(self._flows):
            mine = [f for f in self._flows if f.sample.host == told.host]
            if told.remaining is None or not told.reset or not mine:
                continue
            needed = sum(flow.calls_per_second for flow in mine) * told.reset
            if needed > told.remaining:
                scope = self._of(mine[0])
                scope.warn(
                    due(scope),
                    f"{told.host} allows {told.remaining:,.0f} more calls in the next "
                    f"{told.reset:,.0f} s, and {least(mine)}{needed:,.0f} are wanted",
                )

    def _tasks_have_work(self) -> None:
        tasks, enough = self._sizing.tasks, self._sizing.suggested()
        scales = self._c.of(ScalingConfig).enabled
        if tasks < enough and not scales:
            self._c.warn("tasks.max", f"{enough} would ask all that is wanted")
        elif (
            tasks > enough
            and (self._c.values.text("tasks.max") or "").lower() != "auto"
            and all(flow.known for flow in self._flows)
        ):
            self._c.warn(
                "tasks.max",
                f"{enough} ask as much: each further one costs "
                f"{self._memory[0].task / 2**20:,.0f} MiB and speeds nothing up",
            )

    def _topics_have_partitions(self) -> None:
        for topic, partitions in self._partitions.items():
            if partitions < self._sizing.tasks:
                self._c.warn(
                    "tasks.max",
                    f"topic {topic} has {partitions} partitions, fewer than tasks",
                )

    def _machine_has_memory(self) -> None:
        expected, bound = self._memory
        there = f"this machine has {self._machine / 2**20:,.0f} MiB"
        key = "producer.buffer.memory"
        if expected.total > self._machine:
            self._c.warn(
                key,
                f"{expected.total / 2**20:,.0f} MiB of memory are expected, {there}",
            )
        elif bound.total > self._machine:
            self._c.warn(
                key,
                f"up to {bound.total / 2**20:,.0f} MiB of memory with responses and "
                f"records as large as they may be, {there}",
            )
        tasks_fit_their_limit(self._c, expected.resident)

    def _scaling_is_possible(self) -> None:
        up = "auto.scaling.scale.up.threshold.throughput"
        if not self._c.of(ScalingConfig).enabled or not all(
            f.known for f in self._flows
        ):
            return
        started = self._sizing.started(self._sizing.tasks)
        each = sum(flow.most * flow.records_per_call for flow in self._flows) / started
        if each < self._c.number(up):
            self._c.warn(
                up,
                f"a task makes at most {each:,.0f} records/s: none will be added",
            )

    def _pages_are_as_asked(self, flow: FlowEstimate) -> None:
        scope, sample = self._of(flow), flow.sample
        values, limit = scope.values, "pagination.limit.value"
        several = sample.pages > 1 or sample.poll_pages != 1
        if (
            values.stated(limit)
            and TYPES[values.of(PaginationConfig).type].asks
            and several
            and sample.first_records != values[limit]
        ):
            scope.warn(limit, f"the API gives {sample.first_records} records a page")
        if sample.truncated and values.of(OffsetsConfig).rereads:
            scope.warn(
                "pagination.max.pages",
                "the API has more pages: each poll ends before them",
            )
        entries = "cache.response.max.size"
        stored = (
            values.of(ResponseCacheConfig).enabled and values.of(OffsetsConfig).rereads
        )
        if stored and flow.calls > self._c.number(entries):
            self._c.warn(
                entries,
                f"a poll of {flow.api} has {flow.calls:,.0f} pages: each pushes out "
                "one that the next poll would ask for",
            )

    def _answers_are_as_expected(self, flow: FlowEstimate) -> None:
        scope, sample = self._of(flow), flow.sample
        threshold = "health.check.response.time.threshold.ms"
        response = 1000 * flow.response_seconds
        if self._c.of(HealthConfig).enabled and response > self._c.number(threshold):
            self._c.warn(
                threshold,
                f"{flow.api} answers in {response:,.0f} ms: health will be degraded",
            )
        largest = "http.client.max.response.size.bytes"
        if sample.largest_body > NEAR * scope.number(largest):
            scope.warn(largest, f"a page had {sample.largest_body:,} bytes already")
        if sample.letters:
            scope.warn(
                "errors.tolerance",
                f"{sample.letters} of {sample.records} sampled records cannot be "
                "produced",
            )


def due(scope: Scope) -> str:
    """The key that says when an api is polled."""
    return INTERVAL if scope[SCHEDULE] is None else SCHEDULE


def least(flows: list[FlowEstimate]) -> str:
    """Put before a number that is only the least it can be."""
    return "" if all(flow.known for flow in flows) else "at least "


def demands(flows: list[FlowEstimate]) -> Iterator[HostReading]:
    """What the hosts said of their limits, the last word of each."""
    told: dict[str, HostReading] = {}
    for flow in flows:
        told.update({each.host: each for each in flow.sample.demands})
    yield from told.values()
