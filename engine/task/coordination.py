"""
Coordination: what the shards of one api tell each other over the board.

Owns what is written there and how it is read; the board owns the cells.

Path: `build.shards` -> here -> `shared.board`, `shared.claims`
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.shared.board import Board
from engine.shared.claims import claim
from engine.source.paging.pager import gathered


class BoardCoordination:
    """
    What shards of an api in several processes tell each other
    (`source.paging.pager.ShardCoordination`).

    Args:
        slot: The shard's own slot of the board.
        slots: Those of all shards of its api.
    """

    def __init__(self, board: Board, slot: int, slots: Sequence[int]):
        self._own = board.notice(slot)
        self._all = [board.notice(each) for each in slots]
        self._mine = board.claims(slot)
        self._theirs = [board.claims(each) for each in slots if each != slot]

    def publish(self, poll: int, size: int, end: int | None) -> None:
        """As `ShardCoordination`."""
        told = self._own.read()
        if told is not None:
            before, _, known = told
            if poll < before:
                return
            if poll == before and known >= 0:
                end = known if end is None else min(end, known)
        said = poll, size, -1 if end is None else end
        # Hot path: once a page, and what a page shows is next to always known.
        if said != told:
            self._own.publish(poll=said[0], size=said[1], end=said[2])

    def begin(self, poll: int | None, told: tuple[int, int] | None) -> None:
        """
        Begin where the stored offset is, before the first poll.

        Say what it lets the others know, unless more was said since. Pages that an
        earlier process took stay taken if they are of the stored poll: after a
        reset, and in the next poll, they are to be read again.

        Args:
            poll: The stored poll, None: nothing is stored.
            told: Poll and page size, as `source.paging.position.told`.
        """
        self._mine.keep(poll)
        if told is not None and self.learn(told[0]) is None:
            self.publish(*told, None)

    def learn(self, poll: int) -> tuple[int, int | None] | None:
        """As `ShardCoordination`."""
        notices = [notice.read() for notice in self._all]
        return gathered(
            poll,
            [
                (its_poll, size, None if end < 0 else end)
                for its_poll, size, end in filter(None, notices)
            ],
        )

    def claim(self, poll: int, place: int, found: int) -> int | None:
        """As `ShardCoordination`."""
        return claim(self._mine, self._theirs, poll, place, found)
