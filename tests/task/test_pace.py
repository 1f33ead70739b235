"""When polls are due: the grid, and the schedule over clock changes."""

from __future__ import annotations

import itertools
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from engine.source.fetch.policy import RetryPolicy
from engine.task.pace import GLANCE, Interval, Schedule, next_tick
from tests.fakes.clock import HandClock

BERLIN = ZoneInfo("Europe/Berlin")


def run(
    pace: Interval | Schedule,
    clock: HandClock,
    lasts: float,
    records: int = 1,
    failed: bool = False,
):
    """Wait until due, then poll for `lasts` seconds; when it started."""
    while (wait := pace.due()) > 0:
        clock.move(wait)
    started = clock.monotonic()
    pace.started()
    clock.move(lasts)
    pace.ended(records=records, failed=failed)
    return started


def test_polls_start_on_the_grid_whatever_they_last() -> None:
    clock = HandClock()
    pace = Interval(1.0, clock=clock)

    starts = [run(pace, clock, 0.3) for _ in range(4)]

    assert [1000.0, 1001.0, 1002.0, 1003.0] == pytest.approx(starts)


def test_missed_ticks_are_skipped_and_counted() -> None:
    clock = HandClock()
    skipped: list[int] = []
    pace = Interval(1.0, clock=clock, skipped=skipped.append)

    starts = [run(pace, clock, 2.5) for _ in range(3)]

    assert [1000.0, 1003.0, 1006.0] == pytest.approx(starts)
    assert [2, 2, 2] == skipped


def test_a_tick_that_comes_just_as_a_poll_ends_is_kept() -> None:
    clock = HandClock()
    skipped: list[int] = []
    pace = Interval(1.0, clock=clock, skipped=skipped.append)

    starts = [run(pace, clock, 2.0) for _ in range(2)]

    assert [1000.0, 1002.0] == pytest.approx(starts)
    assert [1, 1] == skipped


def test_interval_nought_polls_at_once_but_rests_after_an_empty_poll() -> None:
    clock = HandClock()
    pace = Interval(0.0, clock=clock)

    starts = [run(pace, clock, 0.25, records) for records in (5, 0, 5)]

    assert [1000.0, 1000.25, 1001.5] == pytest.approx(starts)


@pytest.mark.parametrize(
    ("fresh", "age", "failed", "behind"),
    [
        (5, None, False, True),
        (5, 11.0, False, True),
        # It is younger than the interval: that is the newest there is.
        (5, 9.0, False, False),
        (0, None, False, False),
        (0, 1e9, False, False),
        (5, None, True, False),
    ],
)
def test_a_poll_that_has_not_caught_up_is_followed_sooner(
    fresh: int, age: float | None, failed: bool, behind: bool
) -> None:
    clock = HandClock()
    pace = Interval(10.0, catchup=2.0, clock=clock)
    pace.started()
    clock.move(0.5)
    pace.ended(records=5, fresh=fresh, age=age, failed=failed)
    assert pytest.approx(1.5 if behind else 9.5) == pace.due()

    # Without the key there is no such thing.
    plain = Interval(10.0, clock=clock)
    plain.started()
    plain.ended(records=5, fresh=fresh, age=age, failed=failed)
    assert pytest.approx(10.0) == plain.due()


def test_catching_up_leaves_the_grid_where_it_is_and_skips_no_tick() -> None:
    clock, skipped = HandClock(), []
    pace = Interval(10.0, catchup=4.0, clock=clock, skipped=skipped.append)
    starts = []
    for fresh in (5, 5, 5, 5, 0, 0):
        clock.move(pace.due())
        starts.append(clock.monotonic())
        pace.started()
        pace.ended(records=5, fresh=fresh)
    assert [1000, 1004, 1008, 1012, 1016, 1020] == pytest.approx(starts)
    # A catch-up that is not reached for the length of a poll is due at once.
    clock.move(pace.due())
    pace.started()
    clock.move(7.0)
    pace.ended(records=5, fresh=5)
    assert 0.0 == pace.due()
    assert not skipped


@pytest.mark.parametrize("interval", [0.0, 1.0])
def test_the_pause_while_catching_up_may_be_the_longer_one(interval: float) -> None:
    clock = HandClock()
    pace = Interval(interval, catchup=5.0, clock=clock)
    pace.started()
    pace.ended(records=5, fresh=5)
    assert 5.0 == pytest.approx(pace.due())


def test_a_restarted_task_keeps_the_grid() -> None:
    clock = HandClock()
    first = Interval(10.0, clock=clock)
    run(first, clock, 1.0)
    clock.move(16.0)

    pace = Interval(10.0, origin=first.origin, clock=clock)

    assert 3.0 == pytest.approx(pace.due())
    assert 1020.0 == pytest.approx(run(pace, clock, 1.0))


def test_a_poll_cut_by_a_crash_resumes_at_once_and_the_grid_stays() -> None:
    clock = HandClock()
    origin = clock.monotonic()
    clock.move(17.0)

    pace = Interval(10.0, origin=origin, resume=True, clock=clock)
    starts = [run(pace, clock, 1.0) for _ in range(2)]

    assert [1017.0, 1020.0] == pytest.approx(starts)


def test_a_poll_given_up_waits_for_the_next_tick() -> None:
    clock = HandClock()
    pace = Interval(10.0, clock=clock)
    pace.started()
    clock.move(1.0)
    pace.ended(records=0, failed=True)

    assert 9.0 == pytest.approx(pace.due())


@pytest.mark.parametrize("interval", [0.0, 0.001, 0.25])
def test_polls_given_up_in_a_row_are_as_far_apart_as_retries(interval: float) -> None:
    clock = HandClock()
    retry = RetryPolicy(backoff=1.0, backoff_max=5.0)
    pace = Interval(interval, retry=retry, draw=lambda low, high: high, clock=clock)

    failed = [run(pace, clock, 0.0, failed=True) for _ in range(6)]
    good = [run(pace, clock, 0.0) for _ in range(2)]

    starts = [*failed, *good]
    apart = [after - before for before, after in itertools.pairwise(starts)]
    assert [1.0, 2.0, 4.0, 5.0, 5.0, 5.0, interval] == pytest.approx(apart, abs=0.002)


def test_an_interval_as_long_as_a_pause_keeps_its_ticks_whatever_fails() -> None:
    clock = HandClock()
    retry = RetryPolicy(backoff=1.0, backoff_max=60.0)
    pace = Interval(1.0, retry=retry, draw=lambda low, high: high, clock=clock)

    starts = [run(pace, clock, 0.1, failed=True) for _ in range(4)]

    assert [1000.0, 1001.0, 1002.0, 1003.0] == pytest.approx(starts)


def test_the_wall_clock_does_not_move_the_grid() -> None:
    clock = HandClock()
    pace = Interval(10.0, clock=clock)
    run(pace, clock, 1.0)
    clock.jump(-86_400)

    assert 9.0 == pytest.approx(pace.due())


def ms(text: str, zone: ZoneInfo = BERLIN) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


def utc(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def test_a_schedule_ticks_at_its_seconds() -> None:
    clock = HandClock(utc("2024-05-01T12:01:00+00:00"))
    pace = Schedule("0 */5 * * * *", clock=clock)

    assert GLANCE == pace.due()
    run(pace, clock, 2.0)
    assert utc("2024-05-01T12:05:02+00:00") == clock.wall_ms()
    run(pace, clock, 2.0)
    assert utc("2024-05-01T12:10:02+00:00") == clock.wall_ms()


def test_ticks_missed_while_polling_run_once_and_at_once() -> None:
    clock = HandClock(utc("2024-05-01T12:04:59+00:00"))
    pace = Schedule("0 */5 * * * *", clock=clock)

    run(pace, clock, 11 * 60.0)

    assert 0.0 == pace.due()
    run(pace, clock, 1.0)
    assert utc("2024-05-01T12:16:01+00:00") == clock.wall_ms()
    assert pace.due() > 0


def test_ticks_missed_while_nobody_was_there_run_once() -> None:
    clock = HandClock(utc("2024-05-01T12:07:00+00:00"))
    cron = "0 0 */2 * * *"

    missed = Schedule(cron, last_ms=utc("2024-05-01T03:00:00+00:00"), clock=clock)
    none = Schedule(cron, last_ms=utc("2024-05-01T12:00:01+00:00"), clock=clock)
    first = Schedule(cron, clock=clock)

    assert 0.0 == missed.due()
    assert none.due() > 0
    assert first.due() > 0


def test_a_scheduled_poll_cut_by_a_crash_resumes_at_once() -> None:
    clock = HandClock()
    pace = Schedule("0 0 3 * * *", resume=True, clock=clock)

    assert 0.0 == pace.due()
    pace.started()
    assert pace.due() > 0


def test_a_wall_clock_set_back_does_not_silence_a_schedule() -> None:
    clock = HandClock(utc("2024-05-01T12:00:00+00:00"))
    pace = Schedule("0 * * * * *", clock=clock)
    pace.started()
    clock.jump(-86_400)

    waited = 0.0
    while (wait := pace.due()) > 0:
        clock.move(wait)
        waited += wait

    assert waited <= 60.0


@pytest.mark.parametrize(
    ("cron", "after", "then"),
    [
        # 2024-03-31 02:00 became 03:00 in Berlin, 2024-10-27 03:00 became 02:00.
        ("0 30 2 * * *", "2024-03-30T12:00+01:00", "2024-03-31T03:00+02:00"),
        ("0 30 2 * * *", "2024-03-31T03:00+02:00", "2024-04-01T02:30+02:00"),
        ("0 0,20,40 2 * * *", "2024-03-31T03:00+02:00", "2024-04-01T02:00+02:00"),
        ("0 30 2 * * *", "2024-10-26T12:00+02:00", "2024-10-27T02:30+02:00"),
        ("0 30 2 * * *", "2024-10-27T02:30+02:00", "2024-10-28T02:30+01:00"),
        ("15 30 2 * * *", "2024-10-27T02:30:15+02:00", "2024-10-28T02:30:15+01:00"),
        ("0 */30 * * * *", "2024-10-27T02:30+02:00", "2024-10-27T02:00+01:00"),
        ("0 */30 * * * *", "2024-03-31T01:30+01:00", "2024-03-31T03:00+02:00"),
        ("0 0 0 1 1 *", "2024-03-31T01:30+01:00", "2025-01-01T00:00+01:00"),
    ],
)
def test_a_skipped_time_comes_once_after_it_a_repeated_one_once(
    cron: str, after: str, then: str
) -> None:
    assert utc(then) == next_tick(cron, utc(after), BERLIN)
