"""What follows from the end of a child: the whole table."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Exit
from engine.supervisor.restart import (
    GRAVITY,
    HEALTHY,
    WINDOW,
    Exited,
    GiveUp,
    RestartAfter,
    RestartPolicy,
    decide,
    remembered,
    worst,
)

LIMITS = RestartPolicy()


def ended(code: int, at: float = 0.0, lived: float = 1.0, cause: str = "") -> Exited:
    return Exited(code=code, at=at, lived=lived, cause=cause)


@pytest.mark.parametrize(
    ("code", "final"),
    [
        (Exit.OK, False),
        (Exit.USAGE, True),
        (Exit.DATA, True),
        (Exit.NO_INPUT, True),
        (Exit.UNAVAILABLE, False),
        (Exit.BUG, False),
        (Exit.IO, False),
        (Exit.TRY_AGAIN, False),
        (Exit.PERMISSION, True),
        (Exit.CONFIG, True),
        (1, False),
        (-signal.SIGKILL, False),
        (-signal.SIGABRT, False),
        (-signal.SIGSEGV, False),
    ],
)
def test_what_cannot_get_better_by_itself_is_given_up_at_once(
    code: int, final: bool
) -> None:
    verdict = decide(ended(code), [], 0.0, LIMITS)

    assert final == isinstance(verdict, GiveUp)


def test_every_exit_code_has_its_gravity() -> None:
    assert set(Exit) == set(GRAVITY)


def test_the_pause_doubles_up_to_its_cap_and_starts_anew_after_health() -> None:
    limits = RestartPolicy(most=1000)
    history: list[Exited] = []
    pauses = []
    for number in range(10):
        end = ended(70, at=float(number))
        verdict = decide(end, history, float(number), limits)
        assert isinstance(verdict, RestartAfter)
        pauses.append(verdict.after)
        history.append(end)

    assert [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0] == pauses
    assert RestartAfter(0.2) == decide(
        ended(70, 100.0, HEALTHY), history, 100.0, limits
    )
    healthy = [*history, ended(70, 100.0, HEALTHY)]
    assert RestartAfter(0.4) == decide(ended(70, 101.0), healthy, 101.0, limits)


def test_more_ends_than_the_limit_within_five_minutes_is_failed() -> None:
    ten = [ended(-9, at=float(n)) for n in range(10)]

    assert isinstance(decide(ten[-1], ten[:-1], 9.0, LIMITS), RestartAfter)
    verdict = decide(ended(-9, at=10.0), ten, 10.0, LIMITS)
    assert isinstance(verdict, GiveUp)
    assert "11 exits" in verdict.why
    late = WINDOW + 0.5
    assert isinstance(decide(ended(-9, at=late), ten, late, LIMITS), RestartAfter)


def test_waiting_for_the_broker_is_never_counted() -> None:
    away = [ended(69, at=float(n)) for n in range(100)]

    assert isinstance(decide(ended(69, at=100.0), away, 100.0, LIMITS), RestartAfter)
    assert isinstance(decide(ended(70, at=100.0), away, 100.0, LIMITS), RestartAfter)


def test_drained_for_its_memory_it_never_fails_but_waits_longer() -> None:
    drained = [ended(0, at=float(at), cause="memory") for at in range(50)]

    verdict = decide(drained[-1], drained[:-1], 50.0, LIMITS)

    assert RestartAfter(LIMITS.backoff_max) == verdict
    killed = [ended(-9, at=float(at), cause="memory") for at in range(50)]
    assert isinstance(decide(killed[-1], killed[:-1], 50.0, LIMITS), GiveUp)


def test_a_limit_of_0_forgives_nothing() -> None:
    assert isinstance(decide(ended(-9), [], 0.0, RestartPolicy(most=0)), GiveUp)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (ended(-9), "memory?"),
        (ended(-9, cause="silent"), "no sign of life"),
        (ended(0, cause="memory"), "process.memory.max.bytes"),
        (ended(-11), "SIGSEGV"),
        (ended(-7), "SIGBUS"),
        (ended(-15), "SIGTERM"),
        (ended(0), "nobody asked"),
        (ended(75), "TRY_AGAIN"),
        (ended(3), "exit 3"),
        (ended(-63), "signal 63"),
    ],
)
def test_the_end_is_told_in_words(end: Exited, words: str) -> None:
    assert words in end.why


ENDS = st.builds(
    ended,
    st.sampled_from([0, 69, 70, 75, -9, -6]),
    lived=st.floats(0.0, 200.0),
)


@given(st.lists(ENDS, max_size=60))
def test_what_is_forgotten_never_changes_the_verdict(ends: list[Exited]) -> None:
    now = 0.0
    whole: list[Exited] = []
    kept: list[Exited] = []
    for end in ends:
        now += end.lived
        end = ended(end.code, now, end.lived)
        assert decide(end, whole, now, LIMITS) == decide(end, kept, now, LIMITS)
        verdict = decide(end, whole, now, LIMITS)
        whole.append(end)
        kept = remembered([*kept, end], now)
        now += verdict.after if isinstance(verdict, RestartAfter) else 0.0


@given(st.lists(ENDS, max_size=40), ENDS)
def test_a_pause_lies_between_the_base_and_the_cap(
    history: list[Exited], end: Exited
) -> None:
    verdict = decide(end, history, 0.0, RestartPolicy(most=1000))

    assert isinstance(verdict, RestartAfter)
    assert 0.2 <= verdict.after <= 30.0


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], Exit.OK),
        ([0, 0], Exit.OK),
        ([0, 75], Exit.TRY_AGAIN),
        ([75, 65], Exit.DATA),
        ([65, 77], Exit.PERMISSION),
        ([78, 65, 69], Exit.CONFIG),
        ([-9, 78], Exit.BUG),
        ([3], Exit.BUG),
    ],
)
def test_a_run_ends_with_the_code_that_says_most(
    codes: list[int], expected: Exit
) -> None:
    assert expected == worst(codes)
