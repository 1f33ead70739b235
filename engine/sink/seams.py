"""
Seams: the few verbs by which the parts of a delivery meet.

Owns no behaviour.  What moves pages into Kafka (`sink.commit`), the order of a shard
(`sink.outlet`), transactions and the state know each other by these.

Path: `sink.commit`, `outlet`, `transactions`, `state` -> here
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from engine.errors import SinkError, StateError
from engine.records import Offset
from engine.sink.window import HandOver

#: Longest sleep while waiting for answers, so that the process beats.
LOOK = 0.2

#: A time that does not come.
NEVER = float("inf")

#: What a write ended with: None for well.
Failure: TypeAlias = SinkError | StateError | None


class Sending(Protocol):
    """The way of a position to its broker: a `Delivery`, or one transaction of it."""

    def send(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes | None,
        done: Callable[[Failure], None],
    ) -> None:
        """As `Delivery.send`."""

    def hold(self, why: str, seconds: float) -> bool:
        """As `Delivery.hold`."""

    def free(self) -> None:
        """As `Delivery.free`."""


class Saver(Protocol):
    """Where a connector's offsets are saved; see `sink.state`."""

    def save(
        self,
        delivery: Sending,
        partition: Mapping[str, str],
        offset: Offset,
        done: Callable[[Failure], None],
    ) -> None:
        """
        Start to save; never blocks.

        Args:
            done: Called once, on any thread.
        """

    def forget(
        self,
        delivery: Sending,
        partition: Mapping[str, str],
        done: Callable[[Failure], None],
    ) -> None:
        """Start to remove what is saved; as `save`."""


class ShardOutlet(Protocol):
    """
    A shard's outlet, as what all shards share knows it; all but `flush` under the lock.

    Attributes:
        failure: Why nothing more of this shard is delivered, or None.
        held: Bytes of the budget.
        topics: Those that it writes to.
    """

    failure: SinkError | None
    held: int
    topics: set[str]

    @property
    def group(self) -> int:
        """The transaction that its batches belong to, 0 without."""

    def check_failure(self) -> None:
        """Raise what the shard or the whole delivery failed with."""

    def flush(self) -> None:
        """Let open batches go without lingering; for any thread."""

    def fail(self, why: SinkError) -> None:
        """Nothing more of this shard is delivered; the first reason counts."""

    def delivered(self, entry: HandOver) -> None:
        """A part of a page is acknowledged."""

    def save(self, now: float) -> float:
        """Save the mark if that is due; when it wants to be asked again."""
