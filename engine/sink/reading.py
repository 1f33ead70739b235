"""
Reading: the newest record of each key of ours in a compacted topic.

Owns how far a topic has been read and what was found, as one value that can be
kept, handed to another process and read on from: a reading that is cut short
or shared loses nothing.  Values are not decoded here.

Path: `sink.state` asks -> here -> `sink.fetching`, `sink.scan` and `sink.undecided`
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Container, Iterable, Mapping
from typing import TypeAlias

import msgspec
from msgspec import Struct, field

from engine.clock import SYSTEM, Clock
from engine.errors import StateError
from engine.sink.fetching import PAUSE, TopicReader, of_old_format
from engine.sink.naming import passes
from engine.sink.scan import FetchedRecords, KeyFilter, Record, UnknownKey, scan
from engine.sink.undecided import beyond

#: Seconds without a record until a reading is given up: a transaction of another
#: task may be open so long, and 10 s more.
LIMIT = 70.0

#: Records of a topic that are looked at one by one for a key that is no JSON.
CLOSELY = 200_000

#: Seconds of reading after which what was read is kept, so that a killed reader
#: costs no more than them.
KEPT_EVERY = 3.0

#: Told how many records of how many are read; what it raises ends the reading.
Progress: TypeAlias = Callable[[int, int], None]


class Reading(Struct):
    """
    What was found in a topic, and how far it was read.

    Attributes:
        topic, identity: Which one; see `fetching.Span`.
        names: The connectors whose keys were kept.
        positions: Partition -> the next offset to read.
        records: Keys as they were written, and their newest records.
        strange: The first key that is no JSON, or None.
        closely: Records looked at for such a key.
    """

    topic: str
    identity: str = ""
    names: tuple[str, ...] = ()
    positions: dict[int, int] = field(default_factory=dict)
    records: dict[bytes, Record] = field(default_factory=dict)
    strange: UnknownKey | None = None
    closely: int = 0

    def merge(self, found: Iterable[tuple[bytes, Record]]) -> None:
        """Take what is newer."""
        records = self.records
        for key, record in found:
            known = records.get(key)
            if known is None or newer(record, known):
                records[key] = record


def newer(one: Record, other: Record) -> bool:
    """
    Whether a record replaces another of the same key.

    Offsets say so within a partition.  Another spelling of a key may stand in
    another partition: there the time of writing does.
    """
    if one.partition == other.partition:
        return one.offset >= other.offset
    return one.timestamp >= other.timestamp


def unkept(content: bytes | None, topic: str, names: Iterable[str]) -> Reading:
    """
    What was kept of a reading, or one that has yet to begin.

    Args:
        names: The connectors that are asked for.
    """
    wanted = tuple(sorted(names))
    if content is not None:
        try:
            found = msgspec.msgpack.decode(content, type=Reading)
        except msgspec.MsgspecError:
            # Somebody else's, or of another version: read anew.
            pass
        else:
            if found.topic == topic and set(wanted) <= set(found.names):
                return found
    return Reading(topic, names=wanted)


def kept(reading: Reading) -> bytes:
    """As `unkept` takes it."""
    return msgspec.msgpack.encode(reading)


def read_on(
    topic: TopicReader,
    reading: Reading,
    others: Iterable[bytes] = (),
    *,
    progress: Progress = lambda done, total: None,
    keep: Callable[[Reading], None] = lambda reading: None,
    clock: Clock = SYSTEM,
) -> None:
    """
    Read from where the reading ends up to the end that the topic has now.

    The end is the high watermark, also of open transactions: who reads only to
    the last stable offset misses newer records behind somebody else's open
    transaction.  What is committed there is taken, and the next reading begins at
    the last stable offset again; only a transaction that has records of these
    connectors is waited for.

    Args:
        others: Whole keys that are kept beside those of the connectors.
        progress: Called at least each second but for a request's time.
        keep: Called every few seconds with the reading as it stands.

    Raises: what `TopicReader` raises, after `LIMIT` seconds without progress where it
        may pass; StateError for a batch that cannot be read; what `progress`
        raises.
    """
    span = topic.span()
    if _another(reading, span.identity, span.ends):
        reading.positions.clear()
        reading.records.clear()
    reading.identity = span.identity
    positions = reading.positions
    for partition, start in span.starts.items():
        positions[partition] = max(start, positions.get(partition, start))
    begun = sum(positions[each] for each in span.ends)
    total = sum(span.ends.values()) - begun
    wanted = KeyFilter(reading.names, others)
    deadline = clock.monotonic() + LIMIT
    keep_at = clock.monotonic() + KEPT_EVERY
    #: Partitions that are read up to the end, but for others' open transactions.
    passed: set[int] = set()
    left = _left(positions, span.ends)
    progress(0, total)
    while left:
        before = sum(positions.values())
        try:
            for piece, start in topic.fetch(left):
                _take(reading, piece, wanted)
                partition = piece.partition
                positions[partition] = max(start, positions[partition])
                done = sum(positions[each] for each in span.ends) - begun
                progress(min(done, total), total)
            if sum(positions.values()) == before:
                for partition in left:
                    if _pass(topic, reading, partition, span.ends[partition], wanted):
                        passed.add(partition)
        except Exception as error:
            # Another broker leads now, or none: asked again, not for ever.
            if not passes(error) or clock.monotonic() > deadline:
                raise
            threading.Event().wait(PAUSE)
            topic.look_again()
        now = clock.monotonic()
        if sum(positions.values()) > before:
            deadline = now + LIMIT
        left = _left(positions, span.ends, passed)
        if left and now > deadline:
            raise topic.late(LIMIT)
        if left and now > keep_at:
            keep(reading)
            keep_at = clock.monotonic() + KEPT_EVERY
        done = sum(positions[each] for each in span.ends) - begun
        progress(min(done, total), total)


def _another(reading: Reading, identity: str, ends: Mapping[int, int]) -> bool:
    """Whether the topic was made anew, or lost its end, since it was read."""
    if reading.identity and identity and reading.identity != identity:
        return True
    return any(
        position > ends.get(partition, 0)
        for partition, position in reading.positions.items()
    )


def _left(
    positions: dict[int, int], ends: Mapping[int, int], passed: Container[int] = ()
) -> dict[int, int]:
    return {
        partition: positions[partition]
        for partition, end in ends.items()
        if positions[partition] < end and partition not in passed
    }


def _pass(
    topic: TopicReader, reading: Reading, partition: int, end: int, wanted: KeyFilter
) -> bool:
    """Take what is committed behind others' open transactions; False: not yet."""
    position = reading.positions[partition]
    try:
        piece = beyond(topic, partition, position, end, wanted)
    except (ValueError, IndexError, struct.error) as error:
        raise _unreadable(reading, partition, position, error) from error
    if piece is None:
        return False
    _take(reading, piece, wanted)
    reading.positions[partition] = position
    return True


def _unreadable(
    reading: Reading, partition: int, position: int, error: Exception
) -> StateError:
    return StateError(
        f"the records of {reading.topic}-{partition} from offset {position} on "
        f"cannot be read: {error}"
    )


def _take(reading: Reading, piece: FetchedRecords, wanted: KeyFilter) -> None:
    partition = piece.partition
    position = reading.positions[partition]
    thorough = reading.strange is None and reading.closely < CLOSELY
    try:
        scanned = scan(piece, wanted, thorough=thorough)
        for batch in scanned.old:
            for offset, stamp, key, value in of_old_format(batch):
                if key is not None and wanted.has(key):
                    record = Record(partition, offset, stamp, value)
                    reading.merge([(key, record)])
    except (ValueError, IndexError, struct.error) as error:
        raise _unreadable(reading, partition, position, error) from error
    reading.merge(scanned.found.items())
    reading.strange = reading.strange or scanned.strange
    if scanned.end is not None:
        reading.positions[partition] = max(position, scanned.end)
        if thorough:
            reading.closely += max(0, scanned.end - position)
