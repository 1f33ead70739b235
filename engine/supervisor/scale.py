"""
Scale: how many tasks a connector should have.

Owns the judgement of `auto.scaling.*` and when it is due; pure.  It never
starts or ends anything: it answers with a number and the reason for it.

Path: ``supervisor.resizing`` measures -> here -> ``supervisor.orders`` wants so many
"""

from __future__ import annotations

from msgspec import Struct

#: Share of its time above which a task is held back by others.
HELD_BACK = 0.5


class Scaling(Struct, frozen=True, kw_only=True):
    """
    `auto.scaling.*`.

    Attributes:
        least: Lower bound of tasks.
        most: Upper bound of tasks.
        up: Records a second and task above which one is added.
        down: Records a second and task below which one is taken away.
        interval: Seconds between judgements.
    """

    least: int = 1
    most: int = 1
    up: float = 1000.0
    down: float = 100.0
    interval: float = 300.0


class Load(Struct, frozen=True):
    """
    What the tasks of a connector have done since the supervisor's start.

    Attributes:
        records: Records acknowledged.
        held: Seconds spent waiting for the limiter, a Retry-After or a breaker.
        loops: How many shards spent them.
    """

    records: int
    held: float
    loops: int


class LoadSample(Struct, frozen=True):
    """
    Since when a connector's load is measured.

    Attributes:
        since: Monotonic seconds.
        load: What it had done by then.
        rests: The last judgement was a step: the next one is left out.
    """

    since: float
    load: Load
    rests: bool = False


class ScalingDecision(Struct, frozen=True):
    """
    What to do, and why.

    Attributes:
        tasks: How many there should be.
        direction: "up", "down" or "none".
        reason: One word out of a few, for metrics.
        text: The reason for people.
    """

    tasks: int
    direction: str
    reason: str
    text: str


def due(watch: LoadSample, now: float, scaling: Scaling) -> bool:
    """True once an interval is over."""
    return now - watch.since >= scaling.interval


def judge(
    watch: LoadSample,
    load: Load,
    now: float,
    *,
    tasks: int,
    most: int | None,
    scaling: Scaling,
    settled: bool = True,
) -> tuple[LoadSample, ScalingDecision]:
    """
    Judge the interval that is over.

    One step at a time, and after a step one interval without any.  That
    `scale.down` is at most half of `scale.up` keeps a step from undoing the
    one before: what is above `up` on n tasks is above `down` on n + 1.

    Args:
        tasks: How many there are.
        most: How many could have work at all, None for any number.
        settled: All of them run; else their rate says nothing.

    Returns: The watch for the next interval, and the judgement.
    """
    judgement = _judge(watch, load, now, tasks, most, scaling, settled)
    return LoadSample(now, load, judgement.tasks != tasks), judgement


def _judge(
    watch: LoadSample,
    load: Load,
    now: float,
    tasks: int,
    most: int | None,
    scaling: Scaling,
    settled: bool,
) -> ScalingDecision:
    upper = scaling.most if most is None else min(scaling.most, most)
    lower = min(scaling.least, upper)
    elapsed = max(now - watch.since, 1e-9)
    rate = max(0, load.records - watch.load.records) / elapsed / max(tasks, 1)
    held = max(0.0, load.held - watch.load.held) / elapsed / max(load.loops, 1)
    measured = f"{rate:.0f} records/s a task"

    def stay(reason: str, text: str) -> ScalingDecision:
        return ScalingDecision(tasks, "none", reason, text)

    if tasks > upper:
        return ScalingDecision(
            tasks - 1, "down", "bounds", f"at most {upper} tasks can have work"
        )
    if tasks < lower:
        return ScalingDecision(tasks + 1, "up", "bounds", f"at least {lower} tasks")
    if not settled:
        return stay("unsettled", "not all tasks are running")
    if watch.rests:
        return stay("resting", "one interval after a step")
    if rate > scaling.up:
        if held > HELD_BACK:
            return stay(
                "held_back",
                f"{measured}, but {held:.0%} of the time is spent waiting for the "
                "rate limit, a Retry-After or a breaker",
            )
        if tasks >= upper:
            return stay("at_maximum", f"{measured}, and {upper} tasks is the most")
        return ScalingDecision(
            tasks + 1, "up", "throughput", f"{measured} is above {scaling.up:g}"
        )
    if rate < scaling.down:
        if tasks <= lower:
            return stay("at_minimum", f"{measured}, and {lower} tasks is the least")
        return ScalingDecision(
            tasks - 1, "down", "throughput", f"{measured} is below {scaling.down:g}"
        )
    return stay("steady", f"{measured} lies between the thresholds")
