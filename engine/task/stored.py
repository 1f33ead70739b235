"""
Stored: what is stored of an api's shards, and what follows for one of them.

Owns which stored offsets belong together (one cut of an api's pages into
shards, and those before it), and by them whether a poll was cut short and
where a shard goes on.

Path: `build.wiring` reads the state -> here -> the shard's loop
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from engine.errors import StateError
from engine.records import Offset, Shard
from engine.shared.board import Slot
from engine.sink.state import Saved
from engine.source.paging.position import done_once, told


class StoredPosition(Struct, frozen=True):
    """
    What is stored of an api's entity.

    Attributes:
        own: The shard's own state, or None.
        siblings: States of all shards of the same count, its own among them.
        others: States of shards of another count that worked on the same.
    """

    own: Saved | None
    siblings: tuple[Saved, ...]
    others: tuple[Saved, ...]

    @property
    def family(self) -> list[tuple[int, int, Offset]]:
        """The others as (index, count, offset)."""
        return [(*cut_of(each.partition), each.offset) for each in self.others]

    @property
    def unfinished(self) -> bool:
        """True if the newest poll was cut short, in this cut or in another."""
        known = [*self.others, *([] if self.own is None else [self.own])]
        newest = max(map(poll_of, known), default=0)
        known = [each for each in known if poll_of(each) == newest]
        cuts: dict[int, list[bool]] = {}
        for each in known:
            done = bool(each.offset.get("done", True))
            cuts.setdefault(cut_of(each.partition)[1], []).append(done)
        own = None if self.own is None else cut_of(self.own.partition)[1]
        if any(
            all(done) and len(done) == count
            for count, done in cuts.items()
            if count != own
        ):
            # Whatever an older cut left, a later one has brought it to its end.
            return False
        if self.own in known:
            known = [self.own]
        return any(not each.offset.get("done", True) for each in known)

    @property
    def at(self) -> int | None:
        """Wall milliseconds at which the shard, or one before it, last worked."""
        if self.own is not None:
            return self.own.at
        return max((each.at for each in self.others), default=None)

    def outlived(self, count: int) -> bool:
        """True if the present shards have finished a poll: the others may go."""
        done = [each for each in self.siblings if each.offset.get("done") is True]
        return bool(self.others) and len(done) == count

    @property
    def poll(self) -> int | None:
        """Number of the poll that the shard was in last, None if it never was."""
        return None if self.own is None else poll_of(self.own)

    @property
    def told(self) -> tuple[int, int] | None:
        """What the shard lets the others know."""
        return told(None if self.own is None else self.own.offset)

    def finished(self, count: int) -> bool:
        """True if the shard's part of an unfinished poll is done."""
        if self.own is None:
            return False
        siblings = [each.offset for each in self.siblings]
        return done_once(self.own.offset, siblings, count, once=self.own.once)

    def offset(self, once: bool) -> Offset | None:
        """
        Where the shard goes on.

        A run that goes on lets each shard count its polls.  Under `run --once` the
        next poll of all has one number, or a later run could not tell who has
        had it: that of the poll which some have begun, else of the one behind
        the newest.
        """
        if self.own is None:
            return None
        mine, poll = self.own.offset, poll_of(self.own)
        if not once or mine.get("done") is not True:
            return mine
        newest = max(map(poll_of, self.siblings))
        begun = any(
            each.once or each.offset.get("done") is not True
            for each in self.siblings
            if poll_of(each) == newest > poll
        )
        return {**mine, "poll": max(poll, newest - 1 if begun else newest)}


def over(position: StoredPosition, count: int, slot: Slot) -> bool:
    """
    Whether a shard's poll of this `run --once` is over.

    It had its part of a poll that others have yet to finish, or this run saw
    it end before its task was started again.
    """
    own = position.own
    ended = own is not None and own.offset.get("done") is True
    return position.finished(count) or (ended and slot.get("polls") > 0)


def stored_position(saved: Iterable[Saved], shard: Shard) -> StoredPosition:
    """What is stored for a shard and for those it shares an api with."""
    own: Saved | None = None
    siblings: list[Saved] = []
    others: list[Saved] = []
    for each in saved:
        partition = each.partition
        if partition.get("api") != shard.api or "part" in partition:
            continue
        if partition.get("entity") != shard.entity or "parent" in partition:
            continue
        if partition == shard.partition:
            own = each
        (siblings if cut_of(each.partition)[1] == shard.count else others).append(each)
    return StoredPosition(own, tuple(siblings), tuple(others))


def poll_of(saved: Saved) -> int:
    """The number of the poll that a state tells of."""
    number = saved.offset.get("poll", 1)
    return number if isinstance(number, int) else 1


def cut_of(partition: Mapping[str, str]) -> tuple[int, int]:
    """
    Index and count of the shard whose stored source partition this is.

    Raises: StateError for what `Shard.partition` never says.
    """
    text = partition.get("shard", "0/1")
    index, _, count = text.partition("/")
    if index.isdecimal() and count.isdecimal() and int(index) < int(count):
        return int(index), int(count)
    raise StateError(
        f"a stored source partition has the shard {text!r}, which is no index/count; "
        "offsets reset forgets it"
    )
