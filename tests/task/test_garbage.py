"""Garbage: collected between pages, never inside one, never what is frozen."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from engine.task import garbage
from tests.fakes.clock import HandClock


class Ring:
    """An object that only a collection ends."""

    def __init__(self) -> None:
        self.ring = self


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_until_somebody_says_so() -> None:
    garbage.begin()
    ring = weakref.ref(Ring())
    kept = [[number] for number in range(100_000)]

    assert ring() is not None
    garbage.between_pages()
    assert ring() is None
    assert 100_000 == len(kept)


def test_a_page_of_little_is_no_reason_to_look() -> None:
    garbage.begin()
    gc.collect()
    ring = weakref.ref(Ring())

    garbage.GarbageCollector().between_pages()

    assert ring() is not None


@pytest.mark.parametrize(
    ("new", "seconds", "collected"),
    [
        (1_000, 0.0, False),
        (1_000, garbage.PAUSE * 0.9, False),
        (1_000, garbage.PAUSE * 1.1, True),
        (700 * garbage.MANY + 1_000, 0.0, True),
    ],
    ids=["at once", "a little later", "after the pause", "too many to wait"],
)
def test_pages_that_follow_at_once_are_looked_at_together(
    new: int, seconds: float, collected: bool
) -> None:
    clock = HandClock()
    collector = garbage.GarbageCollector(clock)
    garbage.begin()
    make_rings(1_000)
    collector.between_pages()
    ring = weakref.ref(Ring())
    kept = [[number] for number in range(new)]
    clock.move(seconds)

    collector.between_pages()

    assert collected is (ring() is None)
    assert new == len(kept)


def test_rings_that_grew_old_are_found_too() -> None:
    clock = HandClock()
    collector = garbage.GarbageCollector(clock)

    def page() -> None:
        make_rings(1_000)
        clock.move(garbage.PAUSE)
        collector.between_pages()

    garbage.begin()
    gc.collect()
    ring = Ring()
    for _ in range(30):
        page()
    seen = weakref.ref(ring)
    del ring

    pages = 0
    while seen() is not None and pages < 1000:
        page()
        pages += 1

    assert 1 < pages < 1000


def make_rings(count: int) -> None:
    for _ in range(count):
        Ring()


def test_what_is_frozen_is_not_looked_at() -> None:
    garbage.begin()
    kept = [[number] for number in range(1000)]
    garbage.freeze()

    assert gc.get_freeze_count() >= 1000
    assert not any(each is kept for each in gc.get_objects())
