from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.shared.bucket import Bucket
from engine.shared.rates import ALGORITHMS, HORIZON, MOST_STAMPS, Rate
from tests.examples import examples
from tests.fakes.hands import Hands


def bucket(tmp_path: Path, rate: Rate, clock: Hands, **more) -> Bucket:
    more.setdefault("generation", 1.0)
    return Bucket([tmp_path], "b", "all", rate, clock=clock, **more)


def grants(one: Bucket, clock: Hands, span: float, step: float = 0.0) -> list[float]:
    """When requests go, of a caller that never tires, for `span` seconds."""
    found: list[float] = []
    began = clock.seconds
    while True:
        wait, due, _ = one.take(1.0)
        if not due and wait:
            clock.turn(wait)
        else:
            moment = max(clock.seconds, due)
            if moment - began >= span:
                return found
            found.append(moment - began)
            clock.seconds = max(moment, clock.seconds + step)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("TOKEN_BUCKET", [0, 0, 0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        ("LEAKY_BUCKET", [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1]),
        ("FIXED_WINDOW", [0] * 10 + [0.6, 0.6]),
        ("SLIDING_WINDOW", [0] * 10 + [1.0, 1.0]),
    ],
)
def test_the_four_patterns_of_ten_a_second(tmp_path, algorithm, expected) -> None:
    clock = Hands(1000.4)
    one = bucket(tmp_path, Rate(10.0, algorithm, burst=5), clock)

    assert pytest.approx(expected, abs=1e-6) == grants(one, clock, 1.25)[:12]


def test_after_a_rest_the_burst_goes_at_once_and_the_next_one_waits(tmp_path) -> None:
    clock = Hands()
    one = bucket(tmp_path, Rate(10.0, burst=50), clock)
    grants(one, clock, 7.0)
    clock.turn(10)

    waits = [one.take(1.0)[0] for _ in range(52)]

    assert [0.0] * 50 == pytest.approx(waits[:50], abs=1e-6)
    assert pytest.approx([0.1, 0.2], abs=1e-6) == waits[50:]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("rate", [0.3, 0.7, 1.5, 2.5, 3.0, 10.5, 333.3])
def test_fractions_of_a_request_are_never_lost(tmp_path, algorithm, rate) -> None:
    clock = Hands(999.9)
    one = bucket(tmp_path, Rate(rate, algorithm, burst=1), clock)
    span = math.ceil(300 / rate)

    found = len(grants(one, clock, span))

    capacity = one.reading().capacity
    assert rate * span - 1 - 1e-6 <= found <= rate * span + capacity + 1


def test_a_leaky_bucket_keeps_its_distance_and_bounds_its_queue(tmp_path) -> None:
    clock = Hands()
    one = bucket(tmp_path, Rate(10.0, "LEAKY_BUCKET", burst=3), clock)

    answers = [one.take(1.0) for _ in range(6)]

    assert pytest.approx([0.0, 0.1, 0.2, 0.3], abs=1e-6) == [
        answer[0] for answer in answers[:4]
    ]
    assert all(due for _, due, _ in answers[:4])
    assert all(due == 0.0 and wait > 0 for wait, due, _ in answers[4:])


def test_a_window_shorter_than_a_request_is_stretched(tmp_path) -> None:
    clock = Hands()
    for algorithm in ("FIXED_WINDOW", "SLIDING_WINDOW"):
        rate = Rate(2.0, algorithm, window=0.01)
        one = Bucket([tmp_path], algorithm, "all", rate, generation=1.0, clock=clock)

        found = grants(one, clock, 10.0)

        assert 20 <= len(found) <= 21, algorithm


RATES = st.floats(0.2, 2000.0)
GAPS = st.lists(
    st.one_of(st.just(0.0), st.floats(0.0, 0.05), st.floats(0.0, 3.0)),
    min_size=1,
    max_size=200,
)


@settings(max_examples=examples(60), deadline=None)
@given(rate=RATES, window=st.floats(0.01, 5.0), gaps=GAPS)
def test_no_span_of_a_sliding_window_holds_more(
    tmp_path_factory, rate, window, gaps
) -> None:
    clock = Hands()
    limit = Rate(rate, "SLIDING_WINDOW", window=window)
    one = bucket(tmp_path_factory.mktemp("b"), limit, clock)
    moments = []
    for gap in gaps:
        clock.turn(gap)
        _, due, _ = one.take(1.0)
        if due:
            moments.append(max(due, clock.seconds))
    capacity = math.ceil(round(rate * window, 9))

    for first, moment in enumerate(moments):
        span = capacity / rate
        inside = [m for m in moments[first:] if m < moment + span - 1e-6]
        assert len(inside) <= max(1, capacity)


@settings(max_examples=examples(60), deadline=None)
@given(rate=RATES, burst=st.integers(1, 50), gaps=GAPS)
def test_no_span_of_a_token_bucket_holds_more(
    tmp_path_factory, rate, burst, gaps
) -> None:
    clock = Hands()
    one = bucket(tmp_path_factory.mktemp("b"), Rate(rate, burst=burst), clock)
    moments = []
    for gap in gaps:
        clock.turn(gap)
        _, due, _ = one.take(1.0)
        if due:
            moments.append(max(due, clock.seconds))

    for first in range(0, len(moments), 7):
        for last in range(first, len(moments)):
            allowed = burst + rate * (moments[last] - moments[first]) + 1e-3
            assert last - first + 1 <= allowed


@settings(max_examples=examples(60), deadline=None)
@given(rate=RATES, window=st.floats(0.01, 5.0), gaps=GAPS)
def test_no_fixed_window_holds_more(tmp_path_factory, rate, window, gaps) -> None:
    clock = Hands()
    limit = Rate(rate, "FIXED_WINDOW", window=window)
    one = bucket(tmp_path_factory.mktemp("b"), limit, clock)
    counts: dict[int, int] = {}
    length = max(window, 1 / rate)
    for gap in gaps:
        clock.turn(gap)
        wait, due, _ = one.take(1.0)
        if due:
            # Who waits goes just as a window begins.
            number = round(due / length)
            if not wait:
                number = math.floor(clock.seconds / length + 1e-6)
                if number != math.floor(clock.seconds / length - 1e-6):
                    # Rounding decides whose beginning or end that is.
                    continue
            counts[number] = counts.get(number, 0) + 1

    assert max(counts.values(), default=0) <= math.ceil(round(rate * length, 9))


def test_a_log_beyond_its_places_still_never_exceeds(tmp_path) -> None:
    clock = Hands()
    rate = Rate(3.5 * MOST_STAMPS, "SLIDING_WINDOW")
    one = bucket(tmp_path, rate, clock)
    many = math.ceil(rate.per_second)

    at_once = 0
    while True:
        wait, due, _ = one.take(1.0)
        if max(wait, due - clock.seconds) > 0:
            break
        at_once += 1

    assert many * 0.999 < at_once <= many
    assert pytest.approx(1.0, abs=0.01) == wait


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_places_are_given_out_for_a_minute_ahead_only(tmp_path, algorithm) -> None:
    clock = Hands()
    one = bucket(tmp_path, Rate(0.1, algorithm, burst=100), clock)
    for _ in range(200):
        wait, due, _ = one.take(1.0)
        assert due - clock.seconds <= HORIZON + 1e-6
    assert due == 0.0
    assert wait > 0

    clock.turn(wait + 1e-3)

    assert one.take(1.0)[1] > 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_request_of_double_cost_takes_two_places(tmp_path, algorithm) -> None:
    clock = Hands(1000.0)
    one = bucket(tmp_path, Rate(10.0, algorithm, burst=1), clock)
    found = 0
    while clock.seconds < 1020.0:
        wait, due, _ = one.take(2.0)
        clock.turn(wait)
        found += due > 0

    assert 100 <= found <= 111


OLD = st.sampled_from(ALGORITHMS)


@settings(max_examples=examples(40), deadline=None)
@given(old=OLD, new=OLD, before=st.floats(0.5, 200.0), after=st.floats(0.5, 200.0))
def test_a_changed_rate_holds_from_the_next_request_on(
    tmp_path_factory, old, new, before, after
) -> None:
    clock = Hands()
    path = tmp_path_factory.mktemp("b")
    one = bucket(path, Rate(before, old, burst=3), clock)
    for _ in range(30):
        one.take(1.0)
    if (before, old) == (after, new):
        after += 1.0
    other = bucket(path, Rate(after, new, burst=3), clock, generation=2.0)

    found = grants(other, clock, 10.0)

    capacity = other.reading().capacity
    assert after * 10 - capacity - 2 <= len(found) <= after * 10 + capacity + 1


def test_who_was_there_before_follows_the_newer_rate(tmp_path) -> None:
    clock = Hands()
    old = bucket(tmp_path, Rate(1.0, burst=1), clock)
    assert (0.0, 1000.0, -1.0) == old.take(1.0)
    _, place, _ = old.take(1.0)
    assert 1001.0 == pytest.approx(place)

    bucket(tmp_path, Rate(100.0, burst=1), clock, generation=2.0).take(1.0)

    assert old.changed(1.0)
    assert not old.changed(2.0)
    wait, _, _ = old.take(1.0)
    assert pytest.approx(0.02, abs=1e-6) == wait
    assert 100.0 == old.reading().per_second


def test_a_task_started_again_with_the_same_rate_moves_nobody(tmp_path) -> None:
    clock = Hands()
    rate = Rate(1.0, burst=1)
    first = bucket(tmp_path, rate, clock)
    first.take(1.0)
    first.take(1.0)
    epoch = first.epoch

    again = bucket(tmp_path, rate, clock, generation=2.0)

    assert 2.0 == pytest.approx(again.take(1.0)[0])
    assert not first.changed(epoch)
    # ... and what was configured between the two comes too late.
    late = bucket(tmp_path, Rate(500.0, burst=1), clock, generation=1.5)
    assert 3.0 == pytest.approx(late.take(1.0)[0])


def test_what_is_left_can_be_read(tmp_path) -> None:
    clock = Hands(1000.0)
    for algorithm, capacity in zip(ALGORITHMS, (20, 1, 10, 10), strict=True):
        rate = Rate(10.0, algorithm, burst=20)
        one = Bucket([tmp_path], algorithm, "all", rate, generation=1.0, clock=clock)
        assert (capacity, capacity) == (one.reading().left, one.reading().capacity)

        one.take(1.0)
        assert capacity - 1 == pytest.approx(one.reading().left), algorithm

        clock.turn(1.0)
        assert capacity == pytest.approx(one.reading().left), algorithm
        clock.turn(-1.0)


def test_a_request_that_was_late_counts_from_its_arrival(tmp_path) -> None:
    clock = Hands()
    one = bucket(tmp_path, Rate(2.0, "SLIDING_WINDOW"), clock)
    numbers = [one.take(1.0)[2] for _ in range(2)]
    one.correct(numbers[1], 0.03)
    one.correct(numbers[0], 10.0)

    waits = [one.take(1.0)[0] for _ in range(2)]

    # The first is held to a tenth of the window.
    assert pytest.approx([1.1, 1.1]) == waits
    clock.turn(2.2)
    assert 2 == one.reading().left
