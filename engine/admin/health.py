"""
Health: is it well, in one word, and the numbers people watch.

Owns the paths `/health`, `/health/live`, `/health/ready` and `/health/metrics`; what is
well is said by `admin.verdicts`, and nothing is measured here.

Bash scripts read `/health/metrics` with jq and bc: every number is plain and
always there.  The paths leave out connectors with `health.check.enabled=false`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from engine.admin.answers import (
    AdminRequest,
    AdminResponse,
    json_answer,
    plain,
    refusal,
)
from engine.admin.verdicts import DEMANDED, HealthVerdict, Status, judge, overall
from engine.admin.view import ConnectorCard, ShardState
from engine.admin.watch import Figures, Picture


def answer(request: AdminRequest, picture: Picture, *, began: float) -> AdminResponse:
    """One of the four paths; the caller has matched `/health`."""
    cards = [card for card in picture.cards if card.health]
    if not cards and picture.cards:
        return refusal(404, "health.check.enabled is false in every connector")
    verdicts = {card.name: judge(picture, card, began=began) for card in cards}
    status = overall(list(verdicts.values()))

    match request.path.rstrip("/"):
        case "/health":
            return json_answer(status.code, _told(picture, status, verdicts))
        case "/health/live":
            return json_answer(200, {"status": "alive"})
        case "/health/ready":
            ready = status in (Status.HEALTHY, Status.DEGRADED)
            told = _told(picture, status, verdicts)
            return json_answer(200 if ready else 503, {"ready": ready, **told})
        case "/health/metrics":
            return json_answer(200, metrics(picture, cards, status, verdicts))
    return refusal(404, "HTTP 404 Not Found")


def _told(
    picture: Picture, status: Status, verdicts: Mapping[str, HealthVerdict]
) -> dict[str, Any]:
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
            name: {
                "status": verdict.status.value,
                "reasons": list(verdict.reasons),
                "failures": _failures(picture.shards_of(name)),
                "shards": [_shard(shard) for shard in picture.shards_of(name)],
            }
            for name, verdict in verdicts.items()
        },
    }


def _failures(shards: Sequence[ShardState]) -> list[dict[str, Any]]:
    """The last failure of each shard, also where it is over."""
    return [
        {
            "shard": shard.label,
            "kind": shard.failure.kind,
            "message": shard.failure.message,
            "count": shard.failure.count,
            "polls": shard.failure.polls,
            "since": instant(shard.failure.since_ms),
            "at": instant(shard.failure.at_ms),
            "next": instant(next_try(shard)),
            "asked": _asked(shard),
            "over": instant(shard.failure.over_ms),
        }
        for shard in shards
        if shard.failure is not None
    ]


def _asked(shard: ShardState) -> bool:
    """The API itself has said when it may be asked again."""
    return shard.held_by in DEMANDED and not (
        shard.failure is None or shard.failure.over_ms or shard.failure.next_ms
    )


def next_try(shard: ShardState) -> int:
    """When it is tried again; 0 where nobody knows."""
    if shard.failure is not None and shard.failure.next_ms:
        return shard.failure.next_ms
    return shard.held_until_ms if _asked(shard) else shard.next_ms


def _shard(shard: ShardState) -> dict[str, Any]:
    return {
        "shard": shard.label,
        "task": shard.task,
        "failed": shard.failed or None,
        "lastSuccess": instant(shard.success_ms),
        "lastRecord": instant(shard.record_ms),
        "nextPoll": instant(shard.next_ms),
    }


def instant(wall_ms: int) -> str | None:
    """A moment as RFC 3339 has it, in UTC; None for none."""
    if not wall_ms:
        return None
    then = datetime.fromtimestamp(wall_ms / 1000, UTC)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sentence(status: Status, verdicts: Mapping[str, HealthVerdict]) -> str:
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
    verdicts: Mapping[str, HealthVerdict],
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
