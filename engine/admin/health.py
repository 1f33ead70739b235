"""
Health: is it well, in one word, and the numbers people watch.

Owns the rules of `health.check.*` as pure functions of a picture, and the
paths `/health`, `/health/live`, `/health/ready` and `/health/metrics`; it
measures nothing.

Bash scripts read `/health/metrics` with jq and bc: every number is plain and
always there.  The paths leave out connectors with `health.check.enabled=false`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from msgspec import Struct

from engine.admin.answers import Answer, Question, json_answer, plain, refusal
from engine.admin.view import WAITING, ConnectorCard, ShardState, TaskState
from engine.admin.watch import Figures, Picture

#: Requests in 5 minutes below which neither times nor errors are judged.
FEWEST_REQUESTS = 20

#: Lookups below which the hit ratio is not judged.
FEWEST_LOOKUPS = 100

#: An api is silent when nothing succeeded for so many intervals.
SILENT_INTERVALS = 3

#: Shortest interval that silence is judged by: the pause that a poll without
#: records is followed by at least.
SHORTEST_INTERVAL = 1.0


class Status(Enum):
    """What a connector's health is called; the worst of several counts."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    STARTING = "starting"
    FAILED = "failed"

    @property
    def code(self) -> int:
        """The status code of `/health`."""
        return _CODES[self]


_CODES = {
    Status.HEALTHY: 200,
    Status.DEGRADED: 200,
    Status.STARTING: 503,
    Status.FAILED: 500,
}
_WORST = tuple(Status)


class Verdict(Struct, frozen=True):
    """
    Attributes:
        status: In one word.
        reasons: Why, in sentences; empty when healthy.
    """

    status: Status
    reasons: tuple[str, ...] = ()


def judge(picture: Picture, card: ConnectorCard, *, began: float) -> Verdict:
    """
    How a connector fares.

    A broker that is away is waited for and makes it degraded, never failed.
    An api whose interval is not known is not judged by its silence.

    Args:
        began: Monotonic seconds of the supervisor's start.
    """
    tasks = picture.tasks_of(card.name)
    shards = picture.shards_of(card.name)
    figures = picture.figures([card.name])
    waiting = [task for task in tasks if task.phase == WAITING]

    failed = [*_failed_tasks(tasks), *_failed_shards(shards)]
    if not failed and not waiting and not _resting(tasks):
        failed = _silent(picture, card, shards, figures, began)
    if failed:
        return Verdict(Status.FAILED, tuple(failed))

    degraded = [
        f"Task {task.number} waits for the Kafka broker." for task in waiting
    ] + _thresholds(card, figures)
    if degraded and (waiting or _succeeded(shards)):
        return Verdict(Status.DEGRADED, tuple(degraded))
    if _resting(tasks) or _succeeded(shards):
        return Verdict(Status.HEALTHY)
    return Verdict(Status.STARTING, ("No page has been delivered yet.",))


def overall(verdicts: Sequence[Verdict]) -> Status:
    """The worst of them."""
    return max(
        (verdict.status for verdict in verdicts),
        key=_WORST.index,
        default=Status.STARTING,
    )


def _succeeded(shards: Sequence[ShardState]) -> bool:
    return any(shard.success_ms for shard in shards)


def _resting(tasks: Sequence[TaskState]) -> bool:
    return bool(tasks) and all(task.state == "PAUSED" for task in tasks)


def _failed_tasks(tasks: Sequence[TaskState]) -> list[str]:
    return [
        f"Task {task.number} is FAILED: {_first_line(task.trace)}"
        for task in tasks
        if task.state == "FAILED"
    ]


def _failed_shards(shards: Sequence[ShardState]) -> list[str]:
    return [
        f"{shard.label} is FAILED: {_first_line(shard.failed)}"
        for shard in shards
        if shard.failed
    ]


def _first_line(trace: str) -> str:
    lines = trace.strip().splitlines()
    return lines[0] if lines else "no reason was given."


def _silent(
    picture: Picture,
    card: ConnectorCard,
    shards: Sequence[ShardState],
    figures: Figures,
    began: float,
) -> list[str]:
    """
    Apis without success for three intervals.

    An interval shorter than a request takes is stretched to it: a poll that
    outlasts its tick is late, not silent.  Time in which no task could poll,
    because it was starting or the broker was away, is nobody's silence.
    """
    found = []
    able_for = picture.now - max(began, picture.held_at(card.name))
    for api in card.apis:
        mine = [shard for shard in shards if shard.api == api.name]
        if api.interval is None or not mine:
            continue
        interval = max(api.interval, SHORTEST_INTERVAL, figures.response_ms / 1000)
        newest = max(shard.success_ms for shard in mine)
        silence = able_for
        if newest:
            silence = min(silence, (picture.wall_ms - newest) / 1000)
        if silence > SILENT_INTERVALS * interval:
            found.append(
                f"{api.name}: nothing succeeded for {silence:.0f} s, "
                f"{SILENT_INTERVALS} intervals are {SILENT_INTERVALS * interval:g} s."
            )
    return found


def _thresholds(card: ConnectorCard, figures: Figures) -> list[str]:
    limits = card.thresholds
    found = []
    enough = figures.recent["requests"] >= FEWEST_REQUESTS
    if enough and figures.response_ms > 1000 * limits.response_seconds:
        found.append(
            f"The mean response time is {figures.response_ms:.0f} ms, above "
            f"health.check.response.time.threshold.ms="
            f"{1000 * limits.response_seconds:.0f}."
        )
    if enough and figures.error_ratio > limits.error_ratio:
        found.append(
            f"The error ratio is {plain(figures.error_ratio)}, above "
            f"health.check.error.rate.threshold={limits.error_ratio:g}."
        )
    if (
        figures.cached
        and figures.lookups >= FEWEST_LOOKUPS
        and figures.hit_ratio < limits.hit_ratio
    ):
        found.append(
            f"The cache hit ratio is {plain(figures.hit_ratio)}, below "
            f"health.check.cache.hit.ratio.threshold={limits.hit_ratio:g}."
        )
    return found


def answer(question: Question, picture: Picture, *, began: float) -> Answer:
    """One of the four paths; the caller has matched `/health`."""
    cards = [card for card in picture.cards if card.health]
    if not cards:
        return refusal(404, "health.check.enabled is false in every connector")
    verdicts = {card.name: judge(picture, card, began=began) for card in cards}
    status = overall(list(verdicts.values()))

    match question.path.rstrip("/"):
        case "/health":
            return json_answer(status.code, _told(status, verdicts))
        case "/health/live":
            return json_answer(200, {"status": "alive"})
        case "/health/ready":
            ready = status in (Status.HEALTHY, Status.DEGRADED)
            told = _told(status, verdicts)
            return json_answer(200 if ready else 503, {"ready": ready, **told})
        case "/health/metrics":
            return json_answer(200, metrics(picture, cards, status, verdicts))
    return refusal(404, "HTTP 404 Not Found")


def _told(status: Status, verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    """Connect's shape, and each connector's reasons beside it."""
    return {
        "status": status.value,
        "message": _sentence(status, verdicts),
        "reasons": [
            f"{name}: {reason}"
            for name, verdict in verdicts.items()
            for reason in verdict.reasons
        ],
        "connectors": {
            name: {"status": verdict.status.value, "reasons": list(verdict.reasons)}
            for name, verdict in verdicts.items()
        },
    }


def _sentence(status: Status, verdicts: Mapping[str, Verdict]) -> str:
    if status is Status.HEALTHY:
        return "Every connector delivers."
    about = [
        f"{name}: {' '.join(verdict.reasons)}"
        for name, verdict in verdicts.items()
        if verdict.status is status
    ]
    return " ".join(about)


def metrics(
    picture: Picture,
    cards: Sequence[ConnectorCard],
    status: Status,
    verdicts: Mapping[str, Verdict],
) -> dict[str, Any]:
    """
    The numbers, for all of these connectors and for each.

    `errorRate` is in percent, `errors.rate` the same as a ratio.
    """
    together = numbers(picture.figures([card.name for card in cards]))
    return {
        "status": status.value,
        **together,
        "connectors": {
            card.name: {
                "status": verdicts[card.name].status.value,
                **numbers(picture.figures([card.name])),
            }
            for card in cards
        },
    }


def numbers(figures: Figures) -> dict[str, Any]:
    """Figures as plain decimals; totals are integers."""
    total, recent = figures.total, figures.recent
    return {
        "throughput": {
            "messagesPerSecond": plain(figures.messages_per_second),
            "receivedPerSecond": plain(figures.received_per_second),
            "requestsPerSecond": plain(figures.requests_per_second),
            "bytesPerSecond": plain(figures.bytes_per_second),
        },
        "latency": {
            "averageMs": plain(figures.latency_ms),
            "p50Ms": plain(recent.quantile_ms("ack", 0.5)),
            "p90Ms": plain(recent.quantile_ms("ack", 0.9)),
            "p99Ms": plain(recent.quantile_ms("ack", 0.99)),
        },
        "response": {
            "averageMs": plain(figures.response_ms),
            "p50Ms": plain(recent.quantile_ms("response", 0.5)),
            "p90Ms": plain(recent.quantile_ms("response", 0.9)),
            "p99Ms": plain(recent.quantile_ms("response", 0.99)),
        },
        "cache": {
            "enabled": figures.cached,
            "hitRatio": plain(figures.hit_ratio),
            "lookups": figures.lookups,
        },
        "errors": {
            "rate": plain(figures.error_ratio),
            "failedRequests": int(total["failed"]),
            "badRecords": int(max(total["errors"], total["dead"])),
            "retries": int(total["retries"]),
        },
        "requests": {
            "total": int(total["requests"]),
            "recent": int(recent["requests"]),
        },
        "records": {
            "received": int(total["received"]),
            "produced": int(total["written"]),
            "filtered": int(total["filtered"]),
            "deadLettered": int(total["dead"]),
            "deduplicated": int(total["deduplicated"]),
        },
        "pages": {"total": int(total["pages"]), "saved": int(total["saved"])},
        "connectionPool": {"utilization": plain(figures.pool_utilization)},
        "totalBytes": int(total["bytes"]),
        "totalMessages": int(total["written"]),
        "averageLatency": plain(figures.latency_ms),
        "averageResponseTime": plain(figures.response_ms),
        "cacheHitRatio": plain(figures.hit_ratio),
        "errorRate": plain(100 * figures.error_ratio),
    }
