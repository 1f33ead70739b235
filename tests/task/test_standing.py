"""What is stored of an api's shards, and whether its poll is to go on."""

from __future__ import annotations

import pytest

from engine.records import Shard
from engine.sink.state import Saved
from engine.task.entry import stored


def saved(shard: str, poll: int, done: bool, at: int = 0) -> Saved:
    index, _, count = shard.partition("/")
    partition = Shard("c", "api1", None, int(index), int(count)).partition
    return Saved(dict(partition), {"poll": poll, "done": done}, at=at)


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
    standing = stored(states, Shard("c", "api1", None, int(index), int(count)))

    assert unfinished == standing.unfinished


def test_a_schedule_misses_no_tick_where_the_cut_is_another() -> None:
    states = [saved("0/2", 3, True, at=70), saved("1/2", 3, True, at=90)]

    assert 90 == stored(states, Shard("c", "api1", None, 2, 3)).at
    assert 70 == stored(states, Shard("c", "api1", None, 0, 2)).at
    assert None is stored([], Shard("c", "api1", None, 0, 2)).at
