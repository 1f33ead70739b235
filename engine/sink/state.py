"""
State: where each shard's offset is kept, in Kafka Connect's own format.

Owns the format: key `["<connector>",{partition}]`, value a flat map, null for
forgotten; a compacted topic or a directory of files.  Whatever cannot be read
is an error that names its place, never a reason to start over.

Path: loaded by the task before its first poll; saved by `sink.outlet` behind
the acknowledgements; kept by `sink.statetopic` or `sink.statefile`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from engine.clock import Clock
from engine.errors import StateError
from engine.records import Offset, Primitive
from engine.sink.reading import Progress
from engine.sink.seams import Failure, Sending

#: Version of the values; another one is not ours to read.
VERSION = 1

#: Fields of a value that are about the record and not the position.
OWN_FIELDS = frozenset({"v", "seq", "at", "once"})

#: First element of the key under which the topic's partition count is kept.
#: Connect's readers skip keys that are not a pair of name and map.
COUNT_KEY = b'"kafka-http-source-partitions"'

#: What to do about an offset that cannot be read.
REMEDY = "offsets reset forgets it"

encoder = msgspec.json.Encoder(order="sorted")


def canonical(partition: Mapping[str, str]) -> str:
    """A source partition as one text, equal for equal partitions."""
    return encoder.encode(dict(partition)).decode()


def key_of(connector: str, partition: Mapping[str, str]) -> bytes:
    """The record key, canonical: no blanks, names sorted."""
    return encoder.encode([connector, dict(partition)])


class Saved(Struct, frozen=True):
    """
    What is saved for a source partition.

    Attributes:
        partition: The source partition.
        offset: The position.
        seq: Counts the writes.
        at: When it was written, epoch milliseconds.
        place: Where it stands, for people.
        once: True if `run --once` wrote it.
    """

    partition: dict[str, str]
    offset: dict[str, Primitive]
    seq: int = 0
    at: int = 0
    place: str = ""
    once: bool = False


def parse(partition: dict[str, str], value: bytes, place: str) -> Saved:
    """
    Read a value.

    Raises: StateError, naming the place.
    """
    try:
        found = msgspec.json.decode(value, type=dict[str, Primitive])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StateError(
            f"the offset at {place} cannot be read: {error}; {REMEDY}"
        ) from error
    version = found.get("v")
    # A tool that sets offsets the Connect way knows nothing of our version.
    if version is not None and version != VERSION:
        raise StateError(
            f"the offset at {place} has the unknown version {version!r}; {REMEDY}"
        )
    seq, at = found.get("seq", 0), found.get("at", 0)
    if not isinstance(seq, int) or not isinstance(at, int):
        raise StateError(
            f"the offset at {place} has no whole numbers in seq and at; {REMEDY}"
        )
    position = {name: each for name, each in found.items() if name not in OWN_FIELDS}
    return Saved(partition, position, seq, at, place, found.get("once") is True)


def value_of(offset: Offset, seq: int, at: int, *, once: bool = False) -> bytes:
    """The record value of an offset."""
    own: Offset = {"v": VERSION, "seq": seq, "at": at}
    if once:
        own = {**own, "once": True}
    return encoder.encode({**offset, **own})


class State(Protocol):
    """One connector's offsets; also a `seams.Saver`."""

    def load(self, progress: Progress = lambda done, total: None) -> dict[str, Saved]:
        """
        All that is saved, by `canonical` partition.

        Args:
            progress: Called about once a second with how much of how much is
                read; what it raises ends the loading.

        Raises: StateError, a SinkError.  Blocks: while it reads.
        """

    def able(self) -> str:
        """
        Why nothing can be saved just now, or "".

        Blocks: for a write.
        """

    def own(
        self,
        partitions: Iterable[Mapping[str, str]],
        generation: int | None = None,
    ) -> None:
        """
        Partitions that only this process is to save, from `load` on.

        Args:
            generation: Of the engine, where it owns the connector's transactions.
        """

    def rival(self) -> str:
        """
        Who else has saved a partition of this process since the last call, in words.

        Returns: what it did and what to do, for people; "" if nobody has.
        Raises: TakenOver if it owns the connector's transactions by now; a SinkError.
        Blocks: for a few requests.
        """

    def read(self) -> dict[str, Saved]:
        """As `load`, by who only looks: makes and writes nothing."""

    def known(self) -> list[dict[str, str]]:
        """
        The partitions of all that is saved, also of what cannot be read.

        Makes and writes nothing.

        Raises, blocks: as `load`.
        """

    def reset(self, partitions: Sequence[Mapping[str, str]]) -> None:
        """
        Forget partitions; only while no task runs.

        Raises: as `load`.  Blocks: until it is written.
        """

    def put(self, entries: Sequence[tuple[Mapping[str, str], Offset | None]]) -> None:
        """
        Set offsets, None forgets one; only while no task runs.

        Raises: as `load`.  Blocks: until all of them are written.
        """

    def save(
        self,
        delivery: Sending,
        partition: Mapping[str, str],
        offset: Offset,
        done: Callable[[Failure], None],
    ) -> None:
        """As `seams.Saver`."""

    def forget(
        self,
        delivery: Sending,
        partition: Mapping[str, str],
        done: Callable[[Failure], None],
    ) -> None:
        """As `seams.Saver`."""


class Counter:
    """How often each source partition has been written."""

    def __init__(self, clock: Clock, once: bool) -> None:
        self._clock = clock
        self._once = once
        self._last: dict[str, int] = {}

    def loaded(self, found: Mapping[str, Saved]) -> None:
        """Go on behind what was loaded."""
        self._last.update((name, saved.seq) for name, saved in found.items())

    def next_value(self, partition: Mapping[str, str], offset: Offset) -> bytes:
        """The record value of the next write."""
        name = canonical(partition)
        self._last[name] = seq = self._last.get(name, 0) + 1
        return value_of(offset, seq, self._clock.wall_ms(), once=self._once)

    def set_value(self, seq: int, offset: Offset) -> bytes:
        """The record value of an offset that is set from outside, behind `seq`."""
        own = {k: v for k, v in offset.items() if k not in OWN_FIELDS}
        return value_of(own, seq + 1, self._clock.wall_ms())

    def forgotten(self, partition: Mapping[str, str]) -> None:
        """A partition that is saved again begins anew."""
        self._last.pop(canonical(partition), None)


class NoState:
    """A `seams.Saver` for what keeps no offset."""

    def save(
        self,
        delivery: Sending,
        partition: Mapping[str, str],
        offset: Offset,
        done: Callable[[Failure], None],
    ) -> None:
        done(None)

    def forget(
        self,
        delivery: Sending,
        partition: Mapping[str, str],
        done: Callable[[Failure], None],
    ) -> None:
        done(None)
