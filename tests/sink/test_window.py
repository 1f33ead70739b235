"""The mark follows the contiguous prefix; the budget never overflows."""

from __future__ import annotations

import threading
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sink.window import Budget, HandOver, Window


class Flag:
    """A stop flag for tests."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def is_set(self) -> bool:
        return self.event.is_set()

    def wait(self, seconds: float) -> bool:
        return self.event.wait(seconds)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_mark_is_the_newest_offset_with_nothing_open_before_it(
    order: tuple[int, ...],
) -> None:
    window = Window()
    entries = [HandOver({"page": at}) for at in range(4)]
    for entry in entries:
        window.add(entry)

    answered: set[int] = set()
    best = -1
    for at in order:
        window.close_one(entries[at])
        answered.add(at)
        prefix = next((n for n in range(4) if n not in answered), 4) - 1
        mark = window.mark()
        assert (None if prefix == best else {"page": prefix}) == mark
        best = prefix
    assert 0 == len(window)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.randoms())
def test_a_page_in_several_batches_is_delivered_with_the_last_of_them(
    batches: list[int], random: object
) -> None:
    window = Window()
    told: list[int] = []
    entries = []
    for at, count in enumerate(batches):
        entry = HandOver({"page": at}, count)
        window.add(entry)
        entries += [entry] * count
    random.shuffle(entries)  # type: ignore[attr-defined]

    marks = []
    for entry in entries:
        if window.close_one(entry):
            told.append(int(entry.offset["page"]))
        mark = window.mark()
        if mark is not None:
            marks.append(mark["page"])

    assert sorted(marks) == marks
    assert len(batches) - 1 == marks[-1]
    assert sorted(told) == list(range(len(batches)))


def test_a_failed_page_holds_the_mark_for_ever() -> None:
    window = Window()
    entries = [HandOver({"page": at}) for at in range(3)]
    for entry in entries:
        window.add(entry)

    window.close_one(entries[0])
    window.close_one(entries[2])

    assert {"page": 0} == window.mark()
    assert window.mark() is None
    assert 2 == len(window)


def test_queues_get_half_so_that_batches_find_room() -> None:
    budget = Budget(100)
    flag = Flag()
    flag.event.set()

    assert budget.acquire(50, flag)
    assert not budget.acquire(1, flag)
    assert budget.take(50)
    assert not budget.take(1)


def test_who_waited_goes_on_when_a_part_is_free_again() -> None:
    budget = Budget(100)
    assert budget.take(60) and budget.take(40)
    assert not budget.eased

    budget.give(40)
    assert budget.eased
    assert not budget.take(20, spare=25)
    assert budget.take(15, spare=25)

    budget.give(75)
    assert budget.eased
    assert budget.take(1000, spare=25), "nothing else is on its way"


def test_a_page_larger_than_everything_passes_alone() -> None:
    budget = Budget(100)
    flag = Flag()
    flag.event.set()

    assert budget.acquire(1000, flag)
    assert not budget.acquire(1, flag)
    assert budget.take(1000), "nothing else is on its way"
    assert not budget.take(1)


def test_waiting_for_room_ends_with_it_and_is_counted() -> None:
    budget = Budget(100)
    assert budget.take(100)
    flag = Flag()
    taken: list[bool] = []
    waiter = threading.Thread(target=lambda: taken.append(budget.acquire(10, flag)))
    waiter.start()
    while budget._changed.acquire(False):
        budget._changed.release()
        if budget._changed._waiters:  # type: ignore[attr-defined]
            break

    budget.give(100)
    waiter.join(5.0)

    assert [True] == taken
    assert 10 == budget.used
    assert 0.0 < budget.waited < 5.0


def test_stopping_ends_the_wait_and_takes_nothing() -> None:
    budget = Budget(100)
    assert budget.take(100)
    flag = Flag()
    taken: list[bool] = []
    waiter = threading.Thread(target=lambda: taken.append(budget.acquire(10, flag)))
    waiter.start()

    flag.event.set()
    waiter.join(5.0)

    assert [False] == taken
    assert 100 == budget.used
