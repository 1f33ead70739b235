"""
Seen: the keys of de-duplication, kept over a restart.

Owns their places in the state: chunks beside a shard's position, each under a
source partition of its own, written after a poll's records are acknowledged.  A key
that is not there after a crash costs a repeat and never a record.

Path: `build.shards` -> here -> ``sink.commit``; ``transform.dedup`` has the keys
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Final
from zlib import crc32

from engine.clock import SYSTEM, Clock
from engine.errors import StateError
from engine.records import Offset, Parcel, Primitive, Shard
from engine.seams import Outlet
from engine.sink.outlet import AtLeastOnce
from engine.sink.state import Saved
from engine.task.memory import NO_PAGE, Outlets
from engine.transform.dedup import WIDTH, Seen

#: The part of a source partition's key under which keys are kept.
PART: Final = {"part": "seen"}
#: Keys of a chunk: 160 KB of state.
MOST: Final = 7_500
#: A chunk that tells of keys seen since is written again after this part of the
#: window.
STALE: Final = 4


class Chunk:
    """
    Some of a shard's keys, as they stand in the state.

    Attributes:
        keys: Oldest first.
        at_ms: Wall milliseconds at which the newest of them was last seen.
        of: What they are keys of, as `kind_of` names it; "": nobody says.
    """

    def __init__(self, keys: list[bytes], at_ms: int, of: str = ""):
        self.keys = keys
        self.at_ms = at_ms
        self.of = of


class SeenStore:
    """
    The keys of one shard in the state (`deduplication.store=STATE`).

    Args:
        seen: The memory they are for; filled from what is stored.
        stored: What is kept under this shard's own partitions, by chunk.
        others: What other shards of the same api and entity keep, of whatever
            count; this shard's pages may have been theirs.
        of: What this shard's keys are of, as `kind_of` names it: what was kept of
            others is left alone.
        window_ms: How long a key counts.
        open: Makes the outlet of a chunk.
        delivery: Where those outlets belong to.

    Raises: StateError for what it did not write.
    """

    def __init__(
        self,
        seen: Seen,
        stored: Mapping[int, Offset],
        others: Iterable[Offset],
        *,
        of: str = "",
        window_ms: int,
        open: Callable[[int], AtLeastOnce],
        delivery: Outlets,
        clock: Clock = SYSTEM,
    ):
        self._seen = seen
        self._of = of
        self._window_ms = window_ms
        self._open = open
        self._delivery = delivery
        self._clock = clock
        read = {number: _read(offset) for number, offset in stored.items()}
        # A key of other fields may look like one of these, and what went into another topic
        # is missing from this one.
        self._chunks = {n: each for n, each in read.items() if each.of in ("", of)}
        now = clock.wall_ms()
        seen.restore((), 0.0)
        family = [each for each in map(_read, others) if each.of in ("", of)]
        known = [*family, *self._chunks.values()]
        for chunk in sorted(known, key=lambda each: each.at_ms):
            seen.restore(chunk.keys, max(0.0, (now - chunk.at_ms) / 1000))

    def keep(self) -> None:
        """
        Write what has come since the last time; all records are acknowledged.

        Blocks: until it is saved.  Raises: what the delivery failed with.
        """
        changed = self._refreshed()
        new = self._seen.take()
        while new:
            number = self._room()
            chunk = self._chunks.setdefault(number, Chunk([], 0, self._of))
            space = MOST - len(chunk.keys)
            chunk.keys += new[:space]
            new = new[space:]
            chunk.at_ms = self._clock.wall_ms()
            changed.add(number)
        outlets = []
        for number in sorted(changed):
            chunk = self._chunks[number]
            outlet = self._open(number)
            outlet.begin()
            outlet.hand_over(Parcel(page=NO_PAGE, topic="", values=()), _written(chunk))
            outlets.append(outlet)
        for outlet in outlets:
            outlet.commit()
            self._delivery.forget(outlet)

    def _room(self) -> int:
        """The number of a chunk that takes more."""
        for number, chunk in self._chunks.items():
            if len(chunk.keys) < MOST:
                return number
        return next(number for number in count() if number not in self._chunks)

    def _refreshed(self) -> set[int]:
        """Chunks whose keys were seen again, or are forgotten, brought up to now."""
        now = self._clock.wall_ms()
        changed = set()
        for number, chunk in self._chunks.items():
            if not chunk.keys or now - chunk.at_ms < self._window_ms // STALE:
                continue
            live = [key for key in chunk.keys if key in self._seen]
            youngest = min((self._seen.age(key) for key in live), default=0.0)
            at_ms = now - int(youngest * 1000)
            if len(live) < len(chunk.keys) or at_ms > chunk.at_ms:
                chunk.keys, chunk.at_ms = live, at_ms
                changed.add(number)
        return changed


class DedupOutlet:
    """An outlet whose commit keeps what de-duplication has learned."""

    def __init__(self, inner: Outlet, stores: Sequence[SeenStore]):
        self._inner = inner
        self._stores = stores

    def begin(self) -> None:
        """As `seams.Outlet`."""
        self._inner.begin()

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        """As `seams.Outlet`."""
        self._inner.hand_over(parcel, offset)

    def commit(self) -> None:
        """As `seams.Outlet`."""
        self._inner.commit()
        for store in self._stores:
            store.keep()


def partition_of(shard: Shard, chunk: int) -> dict[str, str]:
    """The source partition of a chunk."""
    return {**shard.partition, **PART, "chunk": str(chunk)}


def kept(
    saved: Iterable[Saved], shard: Shard
) -> tuple[dict[int, Offset], list[Offset]]:
    """What is stored of a shard's own keys, by chunk, and of its siblings'."""
    own: dict[int, Offset] = {}
    others: list[Offset] = []
    for each in saved:
        partition = dict(each.partition)
        number = partition.pop("chunk", "")
        if partition.pop("part", None) != PART["part"] or not number.isdigit():
            continue
        if partition == shard.partition:
            own[int(number)] = each.offset
        elif (partition.get("api"), partition.get("entity")) == (
            shard.api,
            shard.entity,
        ):
            others.append(each.offset)
    return own, others


def kind_of(fields: Sequence[str] | None, topic: str) -> str:
    """
    What tells keys of one kind from others.

    Args:
        fields: `deduplication.key.fields`, None: the whole record.
        topic: `kafka.topic`, where the records go.
    """
    return f"{crc32(repr((fields and tuple(fields), topic)).encode()):08x}"


def keys_known(offset: Offset) -> int:
    """How many keys a stored chunk has; 0 for one that cannot be read."""
    try:
        return len(_read(offset).keys)
    except StateError:
        return 0


def _written(chunk: Chunk) -> dict[str, Primitive]:
    keys = base64.b64encode(b"".join(chunk.keys)).decode()
    return {"keys": keys, "seen_ms": chunk.at_ms, "of": chunk.of}


def _read(offset: Offset) -> Chunk:
    try:
        raw = base64.b64decode(str(offset["keys"]), validate=True)
        at_ms = int(offset["seen_ms"])
        of = str(offset.get("of", ""))
    except (KeyError, TypeError, ValueError, binascii.Error) as failure:
        raise StateError(
            f"the stored keys of de-duplication cannot be read: {failure}"
        ) from failure
    if len(raw) % WIDTH:
        raise StateError("the stored keys of de-duplication are cut")
    return Chunk([raw[n : n + WIDTH] for n in range(0, len(raw), WIDTH)], at_ms, of)
