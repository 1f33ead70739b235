"""
Content: what the status page says, as plain values.

Owns which facts stand on the page, their words and their order, the failing first;
it writes no HTML and no answer.

Path: `admin.routes` -> `page.pages` -> here -> `page.pages`, which renders it
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from engine.admin import health, verdicts
from engine.admin.beans import connector_state
from engine.admin.page.plots import Plot, plot
from engine.admin.totals import Totals
from engine.admin.verdicts import Status
from engine.admin.view import ConnectorCard, EngineView, ShardState, TaskState
from engine.admin.watch import Figures, Picture
from engine.clock import span
from engine.observe.advice import advice

#: Shards of a connector that are shown one by one.
MOST_SHARDS = 50

#: Seconds below which an open wait is not worth a word.
SHORTEST_WAIT = 1.0

#: What a request waits for, of `shared.demands.CAUSES`, in words.
WAITS = {
    "limiter": "the rate limit of the connector",
    "api_limiter": "the rate limit of the api",
    "retry_after": "the time the API named (Retry-After)",
    "budget": "the API's window to begin anew",
    "throttled": "the API, which refused without naming a time",
}

#: Order of the connectors: what needs a person comes first.
_ORDER = ("failed", "degraded", "starting", "stopped", "paused", "healthy")

#: Somebody wanted it so: that nothing comes is no trouble.
_AT_REST = ("stopped", "paused")

#: What follows the advice for a shard that is FAILED.
_THEN = " Then restart or resume the connector: nothing is tried again before."

#: What can be asked for in each state; the rest would change nothing.
_ACTIONS: Mapping[str, Sequence[str]] = {
    "PAUSED": ("resume", "restart", "stop"),
    "STOPPED": ("resume",),
}
_RUNNING = ("pause", "restart", "stop")


class DisplayTime(Struct, frozen=True):
    """
    A point in time.

    Attributes:
        words: How far away it is: "12 s ago", "in 3 min 4 s".
        exact: RFC 3339, UTC; "" for none.
    """

    words: str
    exact: str = ""


class TroubleLine(Struct, frozen=True):
    """
    A failure of one shard that lasts.

    Attributes:
        shard: Its label.
        kind: One of `observe.failures.KINDS`.
        message: What went wrong.
        often: "3 times since 12 min 4 s".
        again: When it is tried again, None where it is not or not any more.
        advice: What to do.
        lasts: False for one that is over.
    """

    shard: str
    kind: str
    message: str
    often: str
    again: DisplayTime | None
    advice: str
    lasts: bool


class ShardRow(Struct, frozen=True):
    """
    The line of one shard in a connector's table.

    Attributes:
        label: Its name.
        task: Number of its task, "" for none.
        state: "FAILED", or the state of its connector.
        record: Its last record.
        success: Its last good poll.
        coming: Its next poll.
        waits: What holds it back, "" for nothing.
        position: The position that was saved last, "" where it is not shown.
    """

    label: str
    task: str
    state: str
    record: DisplayTime
    success: DisplayTime
    coming: DisplayTime
    waits: str
    position: str


class ConnectorPanel(Struct, frozen=True):
    """
    All that the page shows of one connector.

    Attributes:
        name: Its name.
        anchor: A name for the browser, from its place.
        state: In Connect's word.
        health: One of `verdicts.Status`, "paused" or "stopped".
        reasons: Why it is not well.
        troubles: Failures by shard, those that last first.
        facts: Name and value of each number.
        tasks: "2 RUNNING".
        traces: Of tasks that failed: number and first line.
        plots: Over the last minutes.
        rows: Its shards.
        more: Shards that are not shown.
        actions: What can be asked for.
    """

    name: str
    anchor: str
    state: str
    health: str
    reasons: Sequence[str]
    troubles: Sequence[TroubleLine]
    facts: Sequence[tuple[str, str]]
    tasks: str
    traces: Sequence[tuple[int, str]]
    plots: Sequence[Plot]
    rows: Sequence[ShardRow]
    more: int
    actions: Sequence[str]


class Content(Struct, frozen=True):
    """
    All that the page shows.

    Attributes:
        status: The worst of the connectors, in one word.
        sentence: The same for a title: "1 of 3 connectors failed".
        version: Of the engine.
        cluster: Kafka's cluster id, or "".
        worker: "host:port".
        up: For how long the engine runs.
        facts: Numbers of all connectors together.
        panels: The connectors.
    """

    status: str
    sentence: str
    version: str
    cluster: str
    worker: str
    up: str
    facts: Sequence[tuple[str, str]]
    panels: Sequence[ConnectorPanel]


def content(
    view: EngineView, picture: Picture, *, began: float, trusted: bool
) -> Content:
    """
    What the page says now.

    Args:
        began: Monotonic seconds of the supervisor's start.
        trusted: True for a reader who may change things: positions, which can hold
            what an API gave us in confidence, are shown to no one else.
    """
    panels = [
        _panel(
            picture,
            card,
            place,
            target=view.target(card.name),
            began=began,
            trusted=trusted,
        )
        for place, card in enumerate(picture.cards)
    ]
    panels.sort(key=lambda panel: (_ORDER.index(panel.health), panel.name))
    worst = panels[0].health if panels else "waiting"
    return Content(
        status=worst,
        sentence=_sentence(panels, worst),
        version=view.version,
        cluster=view.cluster_id,
        worker=view.worker_id,
        up=span(picture.now - began),
        facts=_facts(picture.figures()) if len(panels) > 1 else (),
        panels=panels,
    )


def _sentence(panels: Sequence[ConnectorPanel], worst: str) -> str:
    if not panels:
        return "no connector yet"
    alike = sum(panel.health == worst for panel in panels)
    if alike == len(panels):
        return worst if alike == 1 else f"all {alike:,} connectors {worst}"
    return f"{alike:,} of {len(panels):,} connectors {worst}"


def _panel(
    picture: Picture,
    card: ConnectorCard,
    place: int,
    *,
    target: str,
    began: float,
    trusted: bool,
) -> ConnectorPanel:
    tasks = picture.tasks_of(card.name)
    shards = picture.shards_of(card.name)
    verdict = verdicts.judge(picture, card, began=began)
    state = connector_state(target, tasks)
    figures = picture.figures([card.name])
    held = [shard for shard in shards if shard.task is not None]
    failed_first = sorted(held, key=lambda shard: not _fails(shard))
    troubles = _troubles(picture, shards)
    status = verdict.status.value
    if verdict.status is not Status.FAILED and state in ("PAUSED", "STOPPED"):
        status = state.lower()
    return ConnectorPanel(
        name=card.name,
        anchor=f"connector-{place}",
        state=state,
        health=status,
        reasons=() if status in _AT_REST else _besides(verdict.reasons, troubles),
        troubles=troubles,
        facts=_facts(figures),
        tasks=_tasks(tasks),
        traces=_traces(tasks, verdict.reasons),
        plots=_plots(picture, card.name),
        rows=[
            _row(picture, shard, trusted, state=state)
            for shard in failed_first[:MOST_SHARDS]
        ],
        more=max(0, len(held) - MOST_SHARDS),
        actions=_ACTIONS.get(state, _RUNNING),
    )


def _fails(shard: ShardState) -> bool:
    lasting = shard.failure is not None and not shard.failure.over_ms
    return bool(shard.failed) or lasting


def _troubles(picture: Picture, shards: Sequence[ShardState]) -> list[TroubleLine]:
    now = picture.wall_ms
    found = []
    for shard in shards:
        failure = shard.failure
        if failure is None:
            continue
        often = f"{failure.count:,} times" if failure.count > 1 else "once"
        lasts = not failure.over_ms
        since = span((now - failure.since_ms) / 1000)
        words = f"{often} in {since}" if lasts else f"{often}, over"
        if not lasts:
            words += f" since {span((now - failure.over_ms) / 1000)}"
        again = _ahead(health.next_try(shard), now)
        found.append(
            TroubleLine(
                shard=shard.label,
                kind=failure.kind,
                message=failure.message,
                often=words,
                again=again if lasts and not shard.failed else None,
                advice=advice(failure.kind) + (_THEN if shard.failed else ""),
                lasts=lasts,
            )
        )
    found.sort(key=lambda trouble: not trouble.lasts)
    return found[:MOST_SHARDS]


def _tasks(tasks: Sequence[TaskState]) -> str:
    states: dict[str, int] = {}
    for task in tasks:
        states[task.state] = states.get(task.state, 0) + 1
    return ", ".join(f"{n:,} {state}" for state, n in states.items()) or "none"


def _besides(reasons: Sequence[str], troubles: Sequence[TroubleLine]) -> list[str]:
    """The reasons that no failure below them says again, with more."""
    said = [trouble.message for trouble in troubles if trouble.lasts]
    return [one for one in reasons if not any(message in one for message in said)]


def _traces(
    tasks: Sequence[TaskState], reasons: Sequence[str]
) -> list[tuple[int, str]]:
    """Number and first line of each trace that no reason has said."""
    first = [
        (task.number, task.trace.strip().splitlines()[0])
        for task in tasks
        if task.trace.strip()
    ]
    return [pair for pair in first if not any(pair[1] in one for one in reasons)]


def _facts(figures: Figures) -> list[tuple[str, str]]:
    total, recent = figures.total, figures.recent
    p99 = recent.quantile_ms("ack", 0.99)
    cache = f"{100 * figures.hit_ratio:.0f} %" if figures.lookups else "–"
    return [
        ("records/s", _rate(figures.messages_per_second)),
        ("latency, mean", _milliseconds(figures.latency_ms)),
        ("latency, p99", _milliseconds(p99)),
        ("requests/s", _rate(figures.requests_per_second)),
        ("errors", f"{100 * figures.error_ratio:.1f} %"),
        ("cache hits", cache),
        ("records produced", f"{total['written']:,.0f}"),
        ("of received", f"{total['received']:,.0f}"),
        ("filtered", f"{total['filtered']:,.0f}"),
        ("dead letters", f"{total['dead']:,.0f}"),
        ("deduplicated", f"{total['deduplicated']:,.0f}"),
    ]


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _milliseconds(value: float) -> str:
    if value <= 0:
        return "–"
    return f"{value / 1000:.1f} s" if value >= 10_000 else f"{value:,.0f} ms"


def _plots(picture: Picture, connector: str) -> list[Plot]:
    """Records a second, and the 99th percentile of the latency, by sample."""
    moments: list[float] = []
    rates: list[float] = []
    latencies: list[float | None] = []
    for at, passed, gained in _steps(picture, connector):
        moments.append(at - picture.now)
        rates.append(gained["written"] / passed)
        timed = sum(gained.buckets("ack"))
        latencies.append(gained.quantile_ms("ack", 0.99) if timed else None)
    return [
        plot("records/s", moments, rates, _rate, "bars"),
        plot("latency, p99", moments, latencies, _milliseconds, "line"),
    ]


def _steps(picture: Picture, connector: str) -> Iterator[tuple[float, float, Totals]]:
    """Time of each sample, seconds since the one before, and what came meanwhile."""
    before: tuple[float, Totals] | None = None
    for at, totals in picture.history:
        mine = Totals.sum(
            total for place, total in totals.items() if place[0] == connector
        )
        if before is not None and at > before[0]:
            yield at, at - before[0], mine.minus(before[1])
        before = at, mine


def _row(picture: Picture, shard: ShardState, trusted: bool, *, state: str) -> ShardRow:
    """
    Args:
        state: Of its connector.
    """
    now = picture.wall_ms
    if state != "RUNNING":
        coming = DisplayTime("–")
    elif shard.failed:
        coming = DisplayTime("none until a restart, a resume or a reload")
    else:
        coming = (
            _ahead(shard.next_ms, now) if shard.next_ms else DisplayTime("polls now")
        )
    return ShardRow(
        label=shard.label,
        task="" if shard.task is None else str(shard.task),
        state="FAILED" if shard.failed else state,
        record=_ago(shard.record_ms, now),
        success=_ago(shard.success_ms, now),
        coming=coming,
        waits=_waits(shard, now) if state == "RUNNING" else "",
        position=shard.position if trusted else "",
    )


def _waits(shard: ShardState, now: int) -> str:
    seconds = (shard.held_until_ms - now) / 1000
    if shard.held_by not in WAITS or seconds < SHORTEST_WAIT:
        return ""
    return f"{WAITS[shard.held_by]}, {span(seconds)} more"


def _ago(wall_ms: int, now: int) -> DisplayTime:
    if not wall_ms:
        return DisplayTime("never")
    return DisplayTime(f"{span((now - wall_ms) / 1000)} ago", _exact(wall_ms))


def _ahead(wall_ms: int, now: int) -> DisplayTime:
    if not wall_ms:
        return DisplayTime("soon")
    seconds = (wall_ms - now) / 1000
    return DisplayTime(
        f"in {span(seconds)}" if seconds >= 1 else "now", _exact(wall_ms)
    )


def _exact(wall_ms: int) -> str:
    then = datetime.fromtimestamp(wall_ms / 1000, UTC)
    return then.isoformat(timespec="seconds").replace("+00:00", "Z")
