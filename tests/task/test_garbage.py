"""Garbage: collected between pages, never inside one, never what is frozen."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from engine.task import garbage


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

    garbage.between_pages()

    assert ring() is not None


def test_rings_that_grew_old_are_found_too() -> None:
    garbage.begin()
    gc.collect()
    ring = Ring()
    for _ in range(30):
        make_rings()
        garbage.between_pages()
    seen = weakref.ref(ring)
    del ring

    pages = 0
    while seen() is not None and pages < 1000:
        make_rings()
        garbage.between_pages()
        pages += 1

    assert 1 < pages < 1000


def make_rings() -> None:
    for _ in range(1000):
        Ring()


def test_what_is_frozen_is_not_looked_at() -> None:
    garbage.begin()
    kept = [[number] for number in range(1000)]
    garbage.freeze()

    assert gc.get_freeze_count() >= 1000
    assert not any(each is kept for each in gc.get_objects())
