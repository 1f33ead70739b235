"""
Verdicts: is a connector well, in one word, and why not.

Owns the rules of `health.check.*` as pure functions of a picture; it measures nothing and
answers nobody.

Path: ``admin.health``, ``admin.prometheus``, ``admin.page`` -> here -> ``admin.watch``
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum

from msgspec import Struct

from engine.admin.answers import plain
from engine.admin.view import WAITING, ConnectorCard, ShardState, TaskState
from engine.admin.watch import Figures, Picture
from engine.observe.failures import LastFailure

#: Requests in 5 minutes below which neither times nor errors are judged.
FEWEST_REQUESTS = 20

#: Lookups below which the hit ratio is not judged.
FEWEST_LOOKUPS = 100

#: An api is silent when nothing succeeded for so many intervals.
SILENT_INTERVALS = 3

#: Seconds to the next poll beyond which a single poll that was given up counts as
#: a failure: nothing is going to heal before somebody could look.
SOON = 600.0

#: Seconds for which a restart for too much memory is told.
REMEMBERED = 900.0

#: What an API demands, of the causes why a request waits.
DEMANDED = ("retry_after", "budget", "throttled")

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


class HealthVerdict(Struct, frozen=True):
    """
    Attributes:
        status: In one word.
        reasons: Why, in sentences; empty when healthy.
    """

    status: Status
    reasons: tuple[str, ...] = ()


def judge(picture: Picture, card: ConnectorCard, *, began: float) -> HealthVerdict:
    """
    How a connector fares: by its polls, whatever brought their answers.

    A broker that is away is waited for and makes it degraded, never failed; one
    that was never reached leaves it starting.  A poll that was given up makes it
    degraded, `SILENT_INTERVALS` of them in a row failed, and so does a single one
    where the next is more than `SOON` away.  An api that waits for its own limits
    is well, one that waits for what the API demands is degraded.

    Args:
        began: Monotonic seconds of the supervisor's start.
    """
    tasks = picture.tasks_of(card.name)
    shards = picture.shards_of(card.name)
    figures = picture.figures([card.name])
    waiting = [task for task in tasks if task.phase == WAITING]
    resting = _resting(tasks)

    failed = [*_failed_tasks(tasks), *_failed_shards(shards)]
    troubled: list[str] = []
    if not resting:
        given_up, troubled = _given_up(picture, card, shards)
        failed += given_up
    troubles = _troubles(tasks)
    if not failed and not waiting and not troubles and not resting:
        failed = _silent(picture, card, shards, figures, began)
    if failed:
        return HealthVerdict(Status.FAILED, (*failed, *_held(picture, card, shards)))

    begun = _succeeded(shards) or _not_due(card, shards)
    if waiting and not begun and all(task.state != "RUNNING" for task in waiting):
        # A task says that it runs once it has read its state out of Kafka.
        return HealthVerdict(Status.STARTING, tuple(map(_waits, waiting)))
    degraded = [
        *map(_waits, waiting),
        *troubles,
        *troubled,
        *_held(picture, card, shards),
        *_withheld(shards),
        *_drained(picture, tasks),
        *_without_records(picture, card, shards, began),
        *_thresholds(card, figures),
    ]
    if degraded and (waiting or troubles or troubled or begun):
        return HealthVerdict(Status.DEGRADED, tuple(degraded))
    if resting or begun:
        return HealthVerdict(Status.HEALTHY)
    steps = [
        f"Task {task.number} is starting: {task.step}." for task in tasks if task.step
    ]
    return HealthVerdict(Status.STARTING, (*steps, "No page has been delivered yet."))


def overall(verdicts: Sequence[HealthVerdict]) -> Status:
    """The worst of them; an engine with no connector yet is well."""
    return max(
        (verdict.status for verdict in verdicts),
        key=_WORST.index,
        default=Status.HEALTHY,
    )


def told(failure: LastFailure) -> str:
    """A failure in a sentence: what, how often, since when, and when again."""
    often = f"{failure.count:,} times" if failure.count > 1 else "once"
    text = f"{failure.message} ({often} since {clock_time(failure.since_ms)}"
    if failure.next_ms:
        text += f", next try at {clock_time(failure.next_ms)}"
    return f"{text})"


def clock_time(wall_ms: int) -> str:
    """Local time to the second with its offset; the date where it is not today."""
    then = datetime.fromtimestamp(wall_ms / 1000).astimezone()
    text = then.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
    today = datetime.now().astimezone().date() == then.date()
    return text.partition(" ")[2] if today else text


def _succeeded(shards: Sequence[ShardState]) -> bool:
    return any(shard.success_ms for shard in shards)


def _not_due(card: ConnectorCard, shards: Sequence[ShardState]) -> bool:
    """All that it polls is on a schedule, and nothing was due so far."""
    scheduled = {api.name for api in card.apis if api.interval is None}
    mine = [shard for shard in shards if shard.task is not None]
    return bool(mine) and all(
        shard.api in scheduled and shard.next_ms and shard.failure is None
        for shard in mine
    )


def _resting(tasks: Sequence[TaskState]) -> bool:
    """
    True if no task has anything to do: all are PAUSED, or the connector is STOPPED and has none.
    """
    return all(task.state == "PAUSED" for task in tasks)


def _waits(task: TaskState) -> str:
    why = f": {_first_line(task.waiting)}" if task.waiting else "."
    return f"Task {task.number} waits for the Kafka broker{why}"


def _troubles(tasks: Sequence[TaskState]) -> list[str]:
    """Each once, also where every task has it."""
    return list(dict.fromkeys(text for task in tasks for text in task.troubles))


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


def _given_up(
    picture: Picture, card: ConnectorCard, shards: Sequence[ShardState]
) -> tuple[list[str], list[str]]:
    """Shards whose last polls were given up: for failed, and for degraded."""
    scheduled = {api.name for api in card.apis if api.interval is None}
    failed: list[str] = []
    degraded: list[str] = []
    for shard in shards:
        failure = shard.failure
        if failure is None or failure.over_ms or not failure.polls or shard.failed:
            continue
        polls = "poll was" if failure.polls == 1 else f"{failure.polls:,} polls were"
        text = f"{shard.label}: its last {polls} given up: {told(failure)}."
        far = shard.next_ms - picture.wall_ms > 1000 * SOON
        if failure.polls >= SILENT_INTERVALS or far:
            failed.append(text)
        elif failure.polls > 1 or shard.api in scheduled:
            degraded.append(text)
    return failed, degraded


def _held(
    picture: Picture, card: ConnectorCard, shards: Sequence[ShardState]
) -> list[str]:
    """Apis that the API itself makes wait for longer than it is to be silent."""
    intervals = {api.name: api.interval or 0.0 for api in card.apis}
    found = []
    for shard in shards:
        wait = (shard.held_until_ms - picture.wall_ms) / 1000
        longest = SILENT_INTERVALS * max(
            SHORTEST_INTERVAL, intervals.get(shard.api, 0.0)
        )
        if shard.held_by in DEMANDED and wait > longest:
            found.append(
                f"{shard.label}: the API asked to wait, {wait:,.0f} s more, until "
                f"{clock_time(shard.held_until_ms)}."
            )
    return found


def _withheld(shards: Sequence[ShardState]) -> list[str]:
    """Snapshots whose last poll missed keys that are not taken for gone."""
    return [
        f"{shard.label}: {missing:,} of {shard.counts.get('snapshot_keys', 0):,} keys "
        "did not come with the last poll, and are not taken for gone: the log says why."
        for shard in shards
        if (missing := shard.counts.get("withheld_keys", 0))
    ]


def _drained(picture: Picture, tasks: Sequence[TaskState]) -> list[str]:
    return [
        f"Task {task.number} was over process.memory.max.bytes and restarted "
        f"{'once' if task.drained == 1 else f'{task.drained:,} times'}, last at "
        f"{clock_time(task.drained_ms)}: raise the limit, or see "
        "`kafka-http-source plan`."
        for task in tasks
        if task.drained and picture.wall_ms - task.drained_ms < 1000 * REMEMBERED
    ]


def _without_records(
    picture: Picture,
    card: ConnectorCard,
    shards: Sequence[ShardState],
    began: float,
) -> list[str]:
    most = card.thresholds.record_seconds
    if not most:
        return []
    up = picture.now - began
    newest = max((shard.record_ms for shard in shards), default=0)
    silence = (picture.wall_ms - newest) / 1000 if newest else up
    if min(silence, up) <= most:
        return []
    return [
        f"No record was delivered for {silence:,.0f} s, more than "
        + f"health.check.no.records.threshold.ms={1000 * most:.0f}."
    ]


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
    because it was starting or the broker was away, is nobody's silence, nor is
    time in which a limit held the api back.  A poll goes on while apis below are
    asked for its records: what succeeds there, succeeds for it.
    """
    found = []
    able_for = picture.now - max(began, picture.held_at(card.name))
    for api in card.apis:
        mine = [shard for shard in shards if shard.api == api.name]
        if api.interval is None or not mine:
            continue
        interval = max(api.interval, SHORTEST_INTERVAL, figures.response_ms / 1000)
        tree = [shard for shard in shards if shard.api in (api.name, *api.below)]
        newest = max(max(shard.success_ms, shard.held_until_ms) for shard in tree)
        silence = able_for
        if newest:
            silence = min(silence, (picture.wall_ms - newest) / 1000)
        if silence > SILENT_INTERVALS * interval:
            why = [shard.failure for shard in mine if shard.failure is not None]
            lasting = [failure for failure in why if not failure.over_ms]
            last = f" The last failure: {told(lasting[-1])}." if lasting else ""
            found.append(
                f"{api.name}: nothing succeeded for {silence:,.0f} s, "
                f"{SILENT_INTERVALS} intervals are {SILENT_INTERVALS * interval:g} s."
                f"{last}"
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
