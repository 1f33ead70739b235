"""
Coordination: the notices of an api's shards, in one process.

Stands where the board stands.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.shared.board import Board, Layout
from engine.shared.claims import claim
from engine.source.paging.pager import gathered


class Wall:
    """Where the shards of one api put up their notices."""

    def __init__(self, count: int):
        self.notices: list[tuple[int, int, int | None] | None] = [None] * count
        self.board = Board(Layout(children=1, shards=count))

    def member(self, index: int) -> Member:
        """The coordination as one shard sees it."""
        return Member(self, index)

    def said(self) -> Sequence[tuple[int, int, int | None]]:
        return [notice for notice in self.notices if notice is not None]


class Member:
    """One shard's `Crew`."""

    def __init__(self, wall: Wall, index: int):
        self._wall = wall
        self._index = index
        claims = [wall.board.claims(each) for each in range(len(wall.notices))]
        self._mine = claims.pop(index)
        self._theirs = claims

    def publish(self, poll: int, size: int, end: int | None) -> None:
        self._wall.notices[self._index] = (poll, size, end)

    def learn(self, poll: int) -> tuple[int, int | None] | None:
        return gathered(poll, self._wall.said())

    def claim(self, poll: int, place: int, found: int) -> int | None:
        return claim(self._mine, self._theirs, poll, place, found)
