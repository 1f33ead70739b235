"""Requests ahead: as many as an API's answers take, none where the process is busy."""

from __future__ import annotations

import pytest

from engine.source.worth import CALM_SPAN, LATE, PrefetchWorth
from tests.fakes.clock import HandClock

#: Seconds between two looks of a test: a little more than is due.
STEP = 1.1 * CALM_SPAN


class Machine:
    """
    A task of which a page takes so much to compute and so long to answer.

    Args:
        page: CPU seconds of a page.
        answer: Seconds until the API answers.
    """

    def __init__(self, page: float, answer: float, *, shards: int = 1, most: int = 8):
        self.clock = HandClock()
        self.spent = 0.0
        self.page, self.answer = page, answer
        self._shards, self._most = shards, most
        #: Part of what it would compute that the machine lets it, and what not.
        self.given, self.held_up = 1.0, 0.0
        self.worth = PrefetchWorth(
            most,
            spent=lambda: self.spent,
            held_up=lambda: self.held_up,
            clock=self.clock,
        )
        self.worth.begin()

    @property
    def share(self) -> float:
        """Of a core in use: requests under way, one after the other on one core."""
        flying = min(self._shards + self.worth.ahead, self._most)
        return min(1.0, flying * self.page / (self.page + self.answer))

    def go(self, seconds: float) -> list[float]:
        """The share at each of its looks."""
        shares = []
        for _ in range(round(seconds / STEP)):
            shares.append(self.share)
            self.spent += self.share * STEP * self.given
            self.held_up += self.share * STEP * (1.0 - self.given)
            self.clock.move(STEP)
            assert self.worth.due
            self.worth.look(self._shards)
        return shares


@pytest.mark.parametrize(
    ("answer", "shards", "ahead"),
    [
        (0.0001, 1, 0),
        (0.0001, 5, 0),
        (0.002, 5, 0),
        (0.050, 1, 8),
        (0.050, 5, 8),
    ],
)
def test_as_many_are_asked_ahead_as_it_takes(
    answer: float, shards: int, ahead: int
) -> None:
    machine = Machine(0.001, answer, shards=shards)

    machine.go(3.0)

    assert ahead == machine.worth.ahead


def test_fewer_than_needed_are_tried_ever_more_rarely() -> None:
    """Three in flight are just enough, and half of them are not."""
    machine = Machine(0.001, 0.0018)

    shares = machine.go(2 * LATE)

    assert sum(shares) / len(shares) > 0.95
    assert sum(share < 0.8 for share in shares) < 24


def test_a_busy_machine_makes_no_api_slow() -> None:
    machine = Machine(0.001, 0.0001)
    machine.given = 0.3

    machine.go(3.0)

    assert 0 == machine.worth.ahead


def test_an_api_that_becomes_slow_is_asked_ahead_again() -> None:
    machine = Machine(0.001, 0.0001)
    machine.go(3.0)
    assert 0 == machine.worth.ahead

    machine.answer = 0.050
    machine.go(3 * STEP)

    assert 8 == machine.worth.ahead


def test_a_pause_between_polls_says_nothing() -> None:
    machine = Machine(0.001, 0.0001)
    machine.go(3.0)

    machine.clock.move(30.0)
    machine.worth.look(1)

    assert 0 == machine.worth.ahead
