"""Reporting: what a shard says of itself stands on the board."""

from __future__ import annotations

from engine.errors import Unreachable
from engine.observe.failures import FailureLog, decoded
from engine.records import Shard
from engine.shared.board import Board, Layout
from engine.shared.limiter import CAUSES
from engine.source.fetch.waits import Waits
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
        board, {SHARD: 1}, {SHARD: log}, {SHARD: waits}, [loop], clock=clock
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
