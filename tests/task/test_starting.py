"""A start beats while it opens things, can be stopped, and hides no failure."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from engine.clock import SYSTEM
from engine.errors import Misconfigured
from engine.shared.board import Board, Layout
from engine.shared.limiter import RateLimits
from engine.shared.link import Message, SetLimits, Trouble
from engine.task import starting
from engine.task.starting import Building, Start, StartCancelled
from tests.fakes.clock import HandClock


class Context:
    """A child's, whose supervisor orders something."""

    def __init__(self) -> None:
        self.slot = Board(Layout(children=1, shards=1)).child(0)
        self.beats: list[str] = []
        self.given: list[Message] = []
        self.told: list[Message] = []

    def beat(self, phase: str = "") -> None:
        self.beats.append(phase)

    def orders(self) -> list[Message]:
        taken, self.given = self.given, []
        return taken

    def report(self, message: Message) -> bool:
        self.told.append(message)
        return True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "LOOK", 0.01)


def never() -> bool:
    return False


def until(condition: Callable[[], bool]) -> None:
    deadline = SYSTEM.monotonic() + 20.0
    while not condition():
        assert SYSTEM.monotonic() < deadline
        threading.Event().wait(0.005)


def test_it_beats_and_says_how_far_it_is() -> None:
    context = Context()

    def open(start: Start) -> str:
        start.step("reading_state")
        start.progress(120, 600)
        until(lambda: "reading_state" in context.beats)
        assert (120, 600) == (
            context.slot.get("step_done"),
            context.slot.get("step_total"),
        )
        return "opened"

    assert ("opened", []) == Building(context, open).run(never)
    assert 0 == context.slot.get("step_total")


def test_orders_that_come_meanwhile_are_kept() -> None:
    context = Context()
    order = SetLimits(RateLimits())
    context.given.append(order)

    def open(start: Start) -> None:
        until(lambda: not context.given)

    assert (None, [order]) == Building(context, open).run(never)


def test_a_stop_ends_it_in_the_middle() -> None:
    context, stopping = Context(), threading.Event()
    ended = threading.Event()

    def open(start: Start) -> None:
        try:
            stopping.set()
            until(lambda: start.progress(1, 2) is not None)
        finally:
            ended.set()

    with pytest.raises(StartCancelled):
        Building(context, open).run(stopping.is_set)
    assert ended.wait(20.0)


def test_a_stop_does_not_wait_for_a_step_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(starting, "NOTICING", 0.05)
    hanging, stopping = threading.Event(), threading.Event()
    stopping.set()

    with pytest.raises(StartCancelled):
        Building(Context(), lambda start: hanging.wait()).run(stopping.is_set)
    hanging.set()


def test_a_failure_is_the_openers_own() -> None:
    def open(start: Start) -> None:
        raise Misconfigured("no such topic")

    with pytest.raises(Misconfigured, match="no such topic"):
        Building(Context(), open).run(never)


def test_what_people_have_to_mend_is_told_to_the_supervisor() -> None:
    context = Context()

    def open(start: Start) -> None:
        start.step("saving_state")
        until(
            lambda: start.wait(0.01, "the disk is full") is None and bool(context.told)
        )
        start.step("opening_connections")

    Building(context, open).run(never)

    assert [Trouble("start", "the disk is full"), Trouble("start", "")] == context.told


def test_a_step_that_says_nothing_is_vouched_for_no_longer() -> None:
    clock = HandClock()
    start = Start(Context().slot, clock)
    start.step("reading_state")

    clock.move(starting.PATIENCE)
    assert start.alive
    clock.move(0.1)
    assert not start.alive
    start.progress(1, 2)
    assert start.alive


def test_the_log_says_beginning_and_end_of_much_and_seconds_of_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = HandClock()
    start = Start(Context().slot, clock)

    start.step("reading_state")
    for done in (0, 0, 100_000, 200_000, 600_000, 600_000):
        start.progress(done, 600_000)
    start.step("reading_state")
    for done in range(10):
        start.progress(done, 10)
        clock.move(1.0)

    said = [each.getMessage() for each in caplog.records]
    assert [
        "Starting: reading state: 0 of 600,000.",
        "Starting: reading state: 600,000 of 600,000.",
        "Starting: reading state: 5 of 10.",
    ] == said
