"""How many tasks there should be: thresholds, bounds, rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.supervisor.scale import (
    Load,
    LoadSample,
    Scaling,
    ScalingDecision,
    due,
    judge,
)

SCALING = Scaling(least=1, most=8, up=1000.0, down=100.0, interval=60.0)


def judged(
    rate: float,
    tasks: int,
    *,
    held: float = 0.0,
    loops: int = 1,
    rests: bool = False,
    most: int | None = None,
    settled: bool = True,
    scaling: Scaling = SCALING,
) -> ScalingDecision:
    """After an interval with `rate` records/s over all tasks."""
    watch = LoadSample(0.0, Load(500, 10.0, loops), rests)
    load = Load(500 + int(rate * 60), 10.0 + held * 60 * loops, loops)
    _, judgement = judge(
        watch, load, 60.0, tasks=tasks, most=most, scaling=scaling, settled=settled
    )
    return judgement


@pytest.mark.parametrize(
    ("judgement", "tasks", "direction", "reason"),
    [
        (judged(1200, 1), 2, "up", "throughput"),
        (judged(3600, 3), 4, "up", "throughput"),
        (judged(3000, 3), 3, "none", "steady"),
        (judged(100, 1), 1, "none", "steady"),
        (judged(50, 1), 1, "none", "at_minimum"),
        (judged(150, 3), 2, "down", "throughput"),
        (judged(9000, 8), 8, "none", "at_maximum"),
        (judged(1200, 1, most=1), 1, "none", "at_maximum"),
        (judged(1200, 1, held=0.6), 1, "none", "held_back"),
        (judged(1200, 1, held=0.6, loops=4), 1, "none", "held_back"),
        (judged(1200, 1, held=0.4, loops=4), 2, "up", "throughput"),
        (judged(150, 3, held=0.9), 2, "down", "throughput"),
        (judged(1200, 1, rests=True), 1, "none", "resting"),
        (judged(1200, 1, settled=False), 1, "none", "unsettled"),
        (judged(1200, 9), 8, "down", "bounds"),
        (judged(1200, 5, most=3), 4, "down", "bounds"),
        (judged(0, 1, scaling=Scaling(least=2, most=4)), 2, "up", "bounds"),
    ],
)
def test_one_step_at_a_time_with_its_reason(
    judgement: ScalingDecision, tasks: int, direction: str, reason: str
) -> None:
    assert (tasks, direction, reason) == (
        judgement.tasks,
        judgement.direction,
        judgement.reason,
    )
    assert judgement.text


def test_after_a_step_one_whole_interval_passes_without_another() -> None:
    watch, tasks, steps = LoadSample(0.0, Load(0, 0.0, 1)), 1, []
    for number in range(1, 9):
        now = number * 60.0
        load = Load(number * 60 * 100_000, 0.0, 1)
        watch, judgement = judge(
            watch, load, now, tasks=tasks, most=None, scaling=SCALING
        )
        if judgement.tasks != tasks:
            steps.append(now)
        tasks = judgement.tasks

    assert [60.0, 180.0, 300.0, 420.0] == steps
    assert 5 == tasks


def test_it_is_due_when_an_interval_is_over() -> None:
    watch = LoadSample(100.0, Load(0, 0.0, 1))

    assert not due(watch, 159.9, SCALING)
    assert due(watch, 160.0, SCALING)


@given(
    st.floats(0, 1e6),
    st.integers(1, 8),
    st.floats(1.0, 1e5),
    st.floats(0.0, 0.5),
)
def test_no_step_is_undone_by_the_same_load(
    rate: float, tasks: int, up: float, share: float
) -> None:
    """`scale.down` is at most half of `scale.up`."""
    scaling = Scaling(least=1, most=9, up=up, down=up * share, interval=60.0)

    first = judged(rate, tasks, scaling=scaling)
    second = judged(rate, first.tasks, scaling=scaling)

    assert abs(first.tasks - tasks) <= 1
    assert 1 <= first.tasks <= 9
    assert first.tasks == tasks or second.direction in ("none", first.direction)
