"""
Waited: what made the shards of a task wait, on its way to the board.

Path: `task.session` moves it once a second, out of `source.fetch.waits` and `sink.window`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from engine.observe import names
from engine.records import Shard
from engine.shared.board import Slot


class ShardWaits(Protocol):
    """What is read of `source.fetch.waits.ShardWaits`."""

    def read(self) -> dict[str, float]:
        """Seconds so far, by what was waited for."""


class Room(Protocol):
    """What is read of `sink.window.Budget`."""

    waited: float

    @property
    def used(self) -> int:
        """Bytes that are held now."""


class WaitMeter:
    """
    Moves to the board what made the shards of a task wait.

    Args:
        waits: What kept each of them from asking.
        room: Its `waited` is the time the broker kept the task from going on;
            it goes to the first of the shards.
        slots: Where it goes.
    """

    def __init__(
        self, waits: Mapping[Shard, ShardWaits], room: Room, slots: Mapping[Shard, Slot]
    ) -> None:
        self._waits = waits
        self._room = room
        self._slots = slots
        self._before: dict[tuple[Shard, str], float] = {}

    def move(self) -> None:
        """What came since the last call."""
        waited = self._room.waited
        for number, (shard, slot) in enumerate(self._slots.items()):
            waits = self._waits.get(shard)
            found = {} if waits is None else waits.read()
            if number == 0:
                found["broker"] = waited
            for on, seconds in found.items():
                grown = seconds - self._before.get((shard, on), 0.0)
                if grown > 0:
                    slot.add(names.WAITS[on], int(grown * 1e9))
                    self._before[shard, on] = seconds
