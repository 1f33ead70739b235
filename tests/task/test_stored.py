"""What is stored of an api's shards, and whether its poll is to go on."""

from __future__ import annotations

import pytest

from engine.records import Shard
from engine.sink.state import Saved
from engine.task.stored import stored_position


def saved(
    shard: str, poll: int, done: bool, at: int = 0, *, once: bool = False
) -> Saved:
    index, _, count = shard.partition("/")
    partition = Shard("c", "api1", None, int(index), int(count)).partition
    return Saved(dict(partition), {"poll": poll, "done": done}, at=at, once=once)


@pytest.mark.parametrize(
    ("states", "shard", "unfinished"),
    [
        ([], "0/1", False),
        ([saved("0/1", 3, True)], "0/1", False),
        ([saved("0/1", 3, False)], "0/1", True),
        # Its own part is done, whatever another has left to do.
        ([saved("0/2", 3, True), saved("1/2", 3, False)], "0/2", False),
        # Cut anew in the middle of a poll, and between two.
        ([saved("0/1", 3, False)], "1/2", True),
        ([saved("0/1", 3, True)], "1/2", False),
        ([saved("0/2", 3, True), saved("1/2", 3, False)], "0/1", True),
        ([saved("0/2", 3, True), saved("1/2", 3, True)], "0/1", False),
        # There and back: the newest poll counts, and who brought it to its end.
        ([saved("0/1", 2, True), saved("0/2", 3, False)], "0/1", True),
        (
            [saved("0/1", 3, False), saved("0/2", 3, True), saved("1/2", 3, True)],
            "0/1",
            False,
        ),
        ([saved("0/1", 3, False), saved("0/2", 3, True)], "0/1", True),
    ],
)
def test_a_poll_that_was_cut_short_goes_on_at_once(
    states: list[Saved], shard: str, unfinished: bool
) -> None:
    index, _, count = shard.partition("/")
    position = stored_position(states, Shard("c", "api1", None, int(index), int(count)))

    assert unfinished == position.unfinished


@pytest.mark.parametrize(
    ("states", "shard", "over", "poll"),
    [
        # All had it: the next one.
        ([saved("0/2", 4, True, once=True), saved("1/2", 4, True, once=True)], 0, 0, 4),
        # Killed before the second had begun.
        ([saved("0/2", 5, True, once=True), saved("1/2", 4, True, once=True)], 0, 1, 5),
        ([saved("0/2", 5, True, once=True), saved("1/2", 4, True, once=True)], 1, 0, 4),
        # The second came from a run that goes on, three polls behind.
        ([saved("0/2", 9, True, once=True), saved("1/2", 5, True)], 0, 1, 9),
        ([saved("0/2", 9, True, once=True), saved("1/2", 5, True)], 1, 0, 8),
        # A run that goes on: each has its own number, and both begin.
        ([saved("0/2", 9, True), saved("1/2", 5, True)], 0, 0, 9),
        ([saved("0/2", 9, True), saved("1/2", 5, True)], 1, 0, 9),
        # One is in the middle.
        ([saved("0/2", 5, False), saved("1/2", 4, True)], 1, 0, 4),
        ([saved("0/2", 5, False), saved("1/2", 4, True)], 0, 0, 5),
    ],
)
def test_once_all_shards_have_a_poll_of_one_number(
    states: list[Saved], shard: int, over: int, poll: int
) -> None:
    position = stored_position(states, Shard("c", "api1", None, shard, 2))

    assert bool(over) == position.finished(2)
    assert poll == (position.offset(True) or {})["poll"]
    assert position.own is not None
    assert position.own.offset == position.offset(False)


def test_a_schedule_misses_no_tick_where_the_cut_is_another() -> None:
    states = [saved("0/2", 3, True, at=70), saved("1/2", 3, True, at=90)]

    assert 90 == stored_position(states, Shard("c", "api1", None, 2, 3)).at
    assert 70 == stored_position(states, Shard("c", "api1", None, 0, 2)).at
    assert None is stored_position([], Shard("c", "api1", None, 0, 2)).at
