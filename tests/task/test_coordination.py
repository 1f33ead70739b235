"""Coordination: what shards of one api tell each other over the board."""

from __future__ import annotations

from engine.shared.board import Board
from engine.task.coordination import BoardCoordination


def test_what_one_shard_publishes_the_others_learn() -> None:
    board = Board()
    one, two = (BoardCoordination(board, slot, (0, 1)) for slot in (0, 1))
    assert two.learn(3) is None
    one.publish(3, 100, None)
    assert two.learn(3) == (100, None)
    one.publish(3, 100, 40)
    assert two.learn(3) == (100, 40)
    # An end that is known stays known, and the nearest of several counts.
    one.publish(3, 100, None)
    two.publish(3, 100, 38)
    assert one.learn(3) == (100, 38)
    # What is past tells nothing of the next poll.
    two.publish(2, 50, 1)
    one.publish(4, 100, None)
    assert two.learn(4) == (100, None)


def test_what_is_known_is_not_written_again() -> None:
    board = Board()
    shard = BoardCoordination(board, 0, (0,))
    shard.publish(1, 100, None)
    before = bytes(board._bytes)
    shard.publish(1, 100, None)
    assert bytes(board._bytes) == before
    shard.publish(1, 100, 9)
    assert bytes(board._bytes) != before
