"""
Rivals: another engine that saves the offsets of the same connector.

Owns the look at what has arrived under the keys of this process: whatever it did
not write itself comes from somebody who delivers the same pages.  A lock keeps
two engines of one machine apart; between machines there is only the topic.

Path: `sink.statetopic` tells what it writes -> here; `task.watching` asks
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from engine.clock import SYSTEM, Clock
from engine.sink.fencing import fence_key, owner_of, taken_over
from engine.sink.fetching import opened
from engine.sink.kafka import Cluster
from engine.sink.scan import KeyFilter, Record, every

#: Looks for which a write of ours is remembered that was not seen: it may be on
#: its way, or compacted away.
REMEMBERED = 40

#: Looks for which a write of ours is remembered that was seen: a request that was
#: sent again for want of an answer may have written it twice.
SEEN = 6

#: Records of one key that are not ours and older than this process: one may be a
#: write that was on its way when its task was killed.
LATE = 1


class Rivals:
    """
    Watches the keys of one process in the state topic.

    `mine` is for any thread, `look` for one.

    Args:
        positions: Partition -> where to begin: what is before has been read.
        since: Epoch milliseconds of the reading.
    """

    def __init__(
        self,
        cluster: Cluster,
        connector: str,
        topic: str,
        positions: dict[int, int],
        since: int,
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._cluster = cluster
        self._connector = connector
        self._topic = topic
        self._positions = dict(positions)
        self._since = since
        self._clock = clock
        self._fence = fence_key(connector)
        self._wanted = KeyFilter([connector], [self._fence])
        self._generation: int | None = None
        # The writer of positions tells what it writes, the watching thread compares with what it
        # reads. Guards what is known of our own keys and records; it is not held while a broker
        # is asked, or each position would wait for that.
        self._lock = threading.Lock()
        self._keys: dict[bytes, int] = {}
        self._written: dict[int, int] = {}
        self._looks = 0
        self._late: dict[bytes, int] = {}

    def own(self, keys: Iterable[tuple[bytes, int]]) -> None:
        """Keys that nobody else is to write, and their partitions."""
        with self._lock:
            self._keys.update(keys)

    def owned(self, generation: int, partition: int) -> None:
        """
        Watch the fence, too: this engine owns the transactions, which another one may take over.
        """
        with self._lock:
            self._generation = generation
            self._keys[self._fence] = partition

    def mine(self, key: bytes, partition: int, value: bytes | None) -> None:
        """Take note of a record that this process writes; 1 us."""
        with self._lock:
            self._keys[key] = partition
            self._written[hash((key, value))] = self._looks

    def look(self) -> str:
        """
        Look at what has arrived since the last time.

        Returns: whose record it was in words, "" if all of it is ours.
        Raises: TakenOver if another engine owns the transactions by now; a SinkError.
        Blocks: for a few requests.
        """
        with self._lock:
            watched = set(self._keys.values())
        found = ""
        if watched:
            with opened(self._cluster, self._topic) as topic:
                span = topic.span()
                left = self._left(watched, span.starts, span.ends)
                while left:
                    moved = False
                    for piece, start in topic.fetch(left):
                        end, records = every(piece, self._wanted)
                        at = max(start, left[piece.partition], end or 0)
                        moved = moved or at > left[piece.partition]
                        self._positions[piece.partition] = at
                        for key, record in records:
                            # A broker answers with the whole batch around a position.
                            if record.offset >= left[piece.partition]:
                                found = self._judged(key, record) or found
                    # Behind somebody's open transaction: at the next look.
                    left = self._left(watched, span.starts, span.ends) if moved else {}
        self._forget_old()
        return found

    def _left(
        self, watched: set[int], starts: Mapping[int, int], ends: Mapping[int, int]
    ) -> dict[int, int]:
        left = {}
        for partition in watched & ends.keys():
            at = max(self._positions.get(partition, 0), starts[partition])
            # Beyond the end it was made anew, or lost its end: nothing is known.
            at = min(at, ends[partition])
            self._positions[partition] = at
            if at < ends[partition]:
                left[partition] = at
        return left

    def _judged(self, key: bytes, record: Record) -> str:
        if key == self._fence:
            mine, owner = self._generation, owner_of(record, self._topic)
            if mine is not None and owner.gen > mine:
                raise taken_over(self._connector, mine, owner)
            return ""
        with self._lock:
            if self._keys.get(key) != record.partition:
                return ""
            write = hash((key, record.value))
            if write in self._written:
                seen = self._looks - REMEMBERED + SEEN
                self._written[write] = min(self._written[write], seen)
                return ""
        if record.value is None:
            return ""
        try:
            value = msgspec.json.decode(record.value, type=dict[str, object])
        except (msgspec.DecodeError, msgspec.ValidationError):
            return ""
        seq, at = value.get("seq"), value.get("at")
        if not isinstance(seq, int) or not isinstance(at, int):
            # A tool that sets offsets counts nothing.
            return ""
        if at <= self._since:
            self._late[key] = self._late.get(key, 0) + 1
            if self._late[key] <= LATE:
                return ""
        when = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds")
        return (
            f"Another engine saves the offsets of connector {self._connector!r}, too: "
            f"{self._topic}-{record.partition} offset {record.offset} has seq={seq} of "
            f"{when}, which this one did not write. Both deliver the same pages, and "
            "each goes on from the other's offsets: stop one of them"
        )

    def _forget_old(self) -> None:
        with self._lock:
            self._looks += 1
            oldest = self._looks - REMEMBERED
            if oldest > 0:
                self._written = {
                    each: look for each, look in self._written.items() if look > oldest
                }
