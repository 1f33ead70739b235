"""Reporting: what a shard says of itself stands on the board."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.errors import StateError, Unreachable
from engine.observe.failures import FailureLog, decoded
from engine.records import Offset, Shard
from engine.shared.board import POSITION, Board, Layout
from engine.shared.demands import CAUSES
from engine.sink.seams import Failure, Sending
from engine.sink.state import Saved
from engine.source.fetch.waits import Waits
from engine.task.positions import Positions, encoded
from engine.task.reporting import Reporter
from tests.fakes.clock import HandClock

SHARD = Shard("orders", "api1")


class Loop:
    shard = SHARD
    next_ms = 0


def test_it_tells_what_went_wrong_what_holds_it_back_and_when_it_polls_next() -> None:
    clock = HandClock()
    board = Board(Layout(children=1, shards=2), clock=clock)
    log, waits, loop = FailureLog(clock=clock), Waits(clock), Loop()
    reporter = Reporter(
        board,
        {SHARD: 1},
        {SHARD: log},
        {SHARD: waits},
        Positions([SHARD], []),
        [loop],
        clock=clock,
    )

    reporter.report()
    assert board.failure(1) is None
    assert 0 == board.shard(1).get("held_until_ms")

    log.failed(Unreachable("no address"), 3.0)
    waits.holding("retry_after", clock.monotonic() + 60)
    loop.next_ms = 77
    reporter.report()

    assert log.last == decoded(board.failure(1))
    assert "retry_after" == CAUSES[board.shard(1).get("held_by")]
    assert clock.wall_ms() + 60_000 == board.shard(1).get("held_until_ms")
    assert 77 == board.shard(1).get("next_poll_ms")
    assert board.failure(0) is None


class State:
    """A saver whose writes end when a test says so."""

    def __init__(self) -> None:
        self.ends: list[Callable[[Failure], None]] = []

    def save(
        self,
        delivery: Sending,
        partition: Mapping[str, str],
        offset: Offset,
        done: Callable[[Failure], None],
    ) -> None:
        self.ends.append(done)

    forget = save  # type: ignore[assignment]


def test_a_position_is_shown_once_it_is_saved_and_only_then() -> None:
    clock = HandClock()
    board = Board(Layout(children=1, shards=2), clock=clock)
    board.position(0, b"of a life before")
    positions = Positions([SHARD], [])
    state = State()
    saver = positions.saver(state)
    reporter = Reporter(board, {SHARD: 0}, {}, {}, positions, [], clock=clock)
    told: list[Failure] = []

    def shown(page: str) -> bytes | None:
        saver.save(None, SHARD.partition, {"page": page}, told.append)  # type: ignore[arg-type]
        reporter.report()
        return board.position(0)

    assert b"" == shown("1")
    state.ends.pop()(None)
    reporter.report()
    assert b'{"page":"1"}' == board.position(0)
    assert b'{"page":"1"}' == shown("2")
    state.ends.pop()(StateError("no"))
    reporter.report()
    assert b'{"page":"1"}' == board.position(0)
    assert 2 == len(told)


def test_what_was_read_at_the_start_is_shown() -> None:
    other = Saved({"api": "other"}, {"page": "9"})

    positions = Positions([SHARD], [other, Saved(SHARD.partition, {"page": "4"})])

    assert {"page": "4"} == positions.of(SHARD)


def test_a_long_position_is_cut_at_a_character() -> None:
    assert b'{"a":1}' == encoded({"a": 1})
    for size in range(1000, 1010):
        found = encoded({"a": "é" * size})
        assert len(found) <= POSITION
        assert found.decode().endswith("…")
