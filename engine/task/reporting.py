"""
Reporting: what a shard says of itself beside its counters.

Owns the reading, about once a second, of what went wrong last, what holds a
shard back, which position was saved and when it polls next, and puts it on the board, where it outlives
this process.  Only what has changed is written.

Path: `build.wiring` makes it, its session ticks it -> ``shared.board`` -> ``admin``
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from engine.clock import SYSTEM, Clock
from engine.observe.failures import FailureLog, LastFailure
from engine.records import Offset, Shard
from engine.shared.board import Slot
from engine.shared.demands import CAUSES
from engine.task.positions import Positions, encoded


class BoardPlaces(Protocol):
    """What is used of `shared.board.Board`."""

    def shard(self, index: int) -> Slot:
        """The cells of a shard on the board."""

    def failure(self, index: int, content: bytes | None = None) -> bytes | None:
        """What a shard says of its last failure."""

    def position(self, index: int, content: bytes | None = None) -> bytes | None:
        """The position a shard has saved last."""


class Waiting(Protocol):
    """What is read of `source.fetch.waits.Waits`."""

    @property
    def held(self) -> tuple[str, float]:
        """What a request waits for, and up to which monotonic time."""


class Polling(Protocol):
    """What is read of `task.shardloop.ShardLoop`."""

    next_ms: int

    @property
    def shard(self) -> Shard:
        """The shard whose loop it is."""


class Reporter:
    """
    Puts on the board what the shards of a task say.

    Args:
        slots: Each shard's place on the board.
        failures: What went wrong last.
        waits: What holds each of them back.
        positions: What was saved of each.
        loops: Their loops; more may be added later.
    """

    def __init__(
        self,
        board: BoardPlaces,
        slots: Mapping[Shard, int],
        failures: Mapping[Shard, FailureLog],
        waits: Mapping[Shard, Waiting],
        positions: Positions,
        loops: Sequence[Polling],
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._board = board
        self._slots = slots
        self._failures = failures
        self._waits = waits
        self._positions = positions
        self._loops = loops
        self._clock = clock
        self._told: dict[Shard, LastFailure | None] = {
            shard: log.last for shard, log in failures.items()
        }
        self._shown: dict[Shard, Offset | None] = {}

    def report(self) -> None:
        """Write what is new; never blocks."""
        # A monotonic moment as wall time: the wall clock may have been set since.
        ahead = self._clock.wall_ms() / 1000 - self._clock.monotonic()
        for shard, place in self._slots.items():
            slot = self._board.shard(place)
            waits = self._waits.get(shard)
            if waits is not None:
                cause, until = waits.held
                if cause in CAUSES:
                    slot.put("held_by", CAUSES.index(cause))
                    slot.put(
                        "held_until_ms", round(1000 * (until + ahead)) if until else 0
                    )
            failures = self._failures.get(shard)
            if failures is not None and failures.last != self._told.get(shard):
                self._told[shard] = failures.last
                if failures.last is not None:
                    self._board.failure(place, failures.last.encoded())
            position = self._positions.of(shard)
            # The first time also where nothing is saved: somebody may have reset it.
            if shard not in self._shown or position is not self._shown[shard]:
                self._shown[shard] = position
                self._board.position(
                    place, b"" if position is None else encoded(position)
                )
        for loop in self._loops:
            place = self._slots[loop.shard]
            self._board.shard(place).put("next_poll_ms", loop.next_ms)
