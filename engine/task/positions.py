"""
Positions: which position of each shard was saved last.

Owns the memory of it, for those who look at a running task; what is stored is the
state's.  A save puts a reference into a dictionary, which is all it costs.

Path: `build.wiring` puts it between outlets and state -> ``task.reporting`` reads it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import msgspec

from engine.records import Offset, Shard
from engine.shared.board import POSITION
from engine.sink.seams import Failure, Saver, Sending
from engine.sink.state import Saved

_CUT = "…".encode()

_Key = frozenset[tuple[str, str]]

#: Told why something failed; None: it did not.
Ended: TypeAlias = Callable[[Failure], None]


class Positions:
    """
    Args:
        shards: Of the task; other source partitions are not remembered.
        saved: What was read when the task was started.
    """

    def __init__(self, shards: Iterable[Shard], saved: Iterable[Saved]) -> None:
        self._last: dict[_Key, Offset | None] = {
            _key(shard.partition): None for shard in shards
        }
        for each in saved:
            key = _key(each.partition)
            if key in self._last:
                self._last[key] = each.offset

    def of(self, shard: Shard) -> Offset | None:
        """The position of a shard that was saved last; None before the first."""
        return self._last.get(_key(shard.partition))

    def saver(self, inner: Saver) -> Saver:
        """The same saver, its writes noted once they are done."""

        def saving(partition: Mapping[str, str], offset: Offset) -> Ended:
            def noted(why: Failure) -> None:
                key = _key(partition)
                if why is None and key in self._last:
                    self._last[key] = offset

            return noted

        return Watched(inner, saving)


class Watched:
    """
    A saver of which somebody hears how each save has ended, before who asked for it.

    Args:
        saving: Told of each save as it begins; gives what is told its end.
    """

    def __init__(
        self, inner: Saver, saving: Callable[[Mapping[str, str], Offset], Ended]
    ) -> None:
        self._inner = inner
        self._saving = saving

    def save(
        self,
        delivery: Sending,
        partition: Mapping[str, str],
        offset: Offset,
        done: Ended,
    ) -> None:
        ended = self._saving(partition, offset)

        def both(why: Failure) -> None:
            ended(why)
            done(why)

        self._inner.save(delivery, partition, offset, both)

    def forget(
        self, delivery: Sending, partition: Mapping[str, str], done: Ended
    ) -> None:
        self._inner.forget(delivery, partition, done)


def encoded(offset: Offset) -> bytes:
    """A position as JSON for its place on the board, cut where it is too long."""
    content = msgspec.json.encode(offset)
    if len(content) <= POSITION:
        return content
    whole = content[: POSITION - len(_CUT)].decode(errors="ignore")
    return whole.encode() + _CUT


def _key(partition: Mapping[str, str]) -> _Key:
    return frozenset(partition.items())
