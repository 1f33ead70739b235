"""
Scan: raw record batches to the newest record of each key of ours, undecoded.

Owns the walk over Kafka's record format that looks at keys and at nothing else:
what is not ours is passed over by its first bytes, and of ours only the last
record of each key is cut out.  Knows no client, no topic and no offset of ours.

Path: `sink.fetching` brings the batches -> here -> `sink.reading` keeps the fold
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct as Layout
from typing import TypeAlias

import msgspec
from msgspec import Struct

from engine.sink.compress import unpacked

#: Of a batch's header: base offset, length behind it, magic, attributes, last
#: offset's delta, first and largest time stamp, producer, count of records.
#: Source: Kafka protocol, record batch (magic 2).
HEADER = Layout(">qi4xb4xhiqqq6xi")
SIZE = HEADER.size
#: Bytes of base offset and length, which every message format begins with.
FRAME = 12

CODEC = 0x07
APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20

#: A control record's key: version and kind, of which 0 is an abort.
MARKER = Layout(">hh")

#: Names up to which it pays to look for them before records are looked at.
MARKS = 4

BLANK = rb"[ \t\r\n]*"


class Record(Struct, frozen=True, array_like=True):
    """
    The newest record of a key.

    Attributes:
        partition, offset: Where it stands.
        timestamp: Epoch milliseconds.
        value: None for a tombstone.
    """

    partition: int
    offset: int
    timestamp: int
    value: bytes | None


#: A record that is still undecoded: bytes, where it begins in them, and the
#: header of its batch.
_Place: TypeAlias = tuple[bytes, int, tuple[int, ...]]


class KeyFilter:
    """
    Which keys are ours.

    Args:
        connectors: Names, as they stand first in a key `["<name>",{...}]`.
        others: Whole keys beside those.

    Attributes:
        prefixes: How a key of ours begins as most write it, without blanks.
        marks: What every spelling of a key of ours has in it.
    """

    def __init__(self, connectors: Iterable[str], others: Iterable[bytes] = ()) -> None:
        names = [each.encode() for each in sorted(set(connectors))]
        self._others = tuple(others)
        self.prefixes = (*(b'["%b"' % name for name in names), *self._others)
        self.marks = (*(b'"%b"' % name for name in names), *self._others)
        any_name = b"|".join(map(re.escape, names)) or b"(?!)"
        self._own = re.compile(
            rb"%b\[%b\"(?:%b)\"%b," % (BLANK, BLANK, any_name, BLANK)
        )

    def has(self, key: bytes) -> bool:
        """Whether a key is ours by its first bytes."""
        return key in self._others or self._own.match(key) is not None


class UnknownKey(Struct, frozen=True):
    """A key that is no JSON: whoever writes it is no Connect."""

    partition: int
    offset: int


class FetchedRecords(Struct, frozen=True):
    """
    A piece of a partition's log as a broker answers it.

    Attributes:
        partition: Of the topic.
        records: Whole batches, and perhaps a part of another behind them.
        aborted: (producer, first offset) of aborted transactions that reach
            into it.
    """

    partition: int
    records: bytes
    aborted: Sequence[tuple[int, int]] = ()


class Scanned(Struct, frozen=True):
    """
    What a piece held.

    Attributes:
        end: The offset behind its last whole batch, None if there is none.
        found: Keys of ours and their newest records.
        strange: The first key that is no JSON, or None.
        old: Whole batches of the formats before magic 2, undecoded.
    """

    end: int | None
    found: dict[bytes, Record]
    strange: UnknownKey | None
    old: Sequence[bytes]


def scan(piece: FetchedRecords, wanted: KeyFilter, *, thorough: bool = True) -> Scanned:
    """
    The newest record of each key of ours.

    A batch that holds no name of ours costs 0.4 us, a record of ours in a batch of
    its own 0.7 us, a record among others 0.9 us where it is looked at.

    Args:
        thorough: Look at every key for one that is no JSON; else only at the
            first one of a batch that holds no name of ours.

    Raises: Misconfigured if the library for a batch's compression is not
        installed; ValueError, IndexError or struct.error for bytes that are no
        batch.
    """
    walk = _Walk(piece.partition, wanted)
    end, old = _through(piece, wanted, walk, thorough)
    found = {
        key: _cut_out(piece.partition, key, place)
        for key, place in walk.newest.items()
        if wanted.has(key)
    }
    return Scanned(end, found, walk.strange, old)


def every(
    piece: FetchedRecords, wanted: KeyFilter
) -> tuple[int | None, list[tuple[bytes, Record]]]:
    """
    All records of ours in their order, and the offset behind the last batch.

    Raises: as `scan`.
    """
    walk = _Walk(piece.partition, wanted)
    walk.newest = all_of_them = _All()
    end, _ = _through(piece, wanted, walk, False)
    return end, [
        (key, _cut_out(piece.partition, key, place))
        for key, place in all_of_them.places
        if wanted.has(key)
    ]


def counted(piece: FetchedRecords) -> tuple[int | None, int]:
    """The offset behind the last batch, and the records a committed reader sees."""
    data, count, end = piece.records, 0, None
    aborted = _Aborted(piece.aborted)
    for head, start, _ in batches(data):
        if not head[3] & (TRANSACTIONAL | CONTROL) or not aborted.leave(
            head, data, start + SIZE
        ):
            count += head[8]
        end = head[0] + head[4] + 1
    return end, count


def batches(data: bytes) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """The whole batches of a piece: header, where each begins and where it ends."""
    at = 0
    while at + SIZE <= len(data):
        head = HEADER.unpack_from(data, at)
        stop = at + FRAME + head[1]
        if stop > len(data):
            return
        yield head, at, stop
        at = stop


def _through(
    piece: FetchedRecords, wanted: KeyFilter, walk: _Walk, thorough: bool
) -> tuple[int | None, list[bytes]]:
    """Walk through a piece; the end and the batches of old formats."""
    data = piece.records
    total = len(data)
    marks = _Marks(wanted.marks)
    thorough = thorough or len(wanted.marks) > MARKS
    # Where the next name of ours stands, for sure not before.
    marked = -1
    old: list[bytes] = []
    aborted = _Aborted(piece.aborted)
    unpack, startswith, newest = HEADER.unpack_from, data.startswith, walk.newest
    whole: tuple[int, ...] | None = None
    at = 0
    # Hot path: once for each batch, and state has a batch for each record.
    while at + SIZE <= total:
        head = unpack(data, at)
        stop = at + FRAME + head[1]
        if stop > total:
            break
        whole, start, at = head, at, stop
        attributes = head[3]
        if head[2] != 2:
            old.append(data[start:stop])
            continue
        if attributes & (CODEC | TRANSACTIONAL | CONTROL):
            if attributes & (TRANSACTIONAL | CONTROL) and aborted.leave(
                head, data, start + SIZE
            ):
                continue
            if attributes & CODEC:
                records = unpacked(attributes & CODEC, data[start + SIZE : stop])
                ours = thorough or any(each in records for each in wanted.marks)
                walk.records(records, 0, head, head[8] if ours else 1)
                continue
        if head[8] == 1 and walk.tail and startswith(walk.tail, start + walk.skip):
            # In a batch of its own, and of the same key as the one before.
            newest[walk.key] = data, start + SIZE, head
            continue
        if marked < start and not thorough:
            marked = marks.behind(data, start)
        ours = thorough or marked < stop
        walk.records(data, start + SIZE, head, head[8] if ours else 1)
    end = None
    if whole is not None:
        # Before magic 2 the first number is the last record's offset.
        end = whole[0] + 1 + (whole[4] if whole[2] == 2 else 0)
    return end, old


class _All(dict[bytes, _Place]):
    """Keeps all that is set, where a dictionary keeps the last of each key."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[tuple[bytes, _Place]] = []

    def __setitem__(self, key: bytes, place: _Place) -> None:
        self.places.append((key, place))


class _Marks:
    """Where the next name of ours stands; no byte is searched twice."""

    def __init__(self, marks: Iterable[bytes]) -> None:
        self._next = dict.fromkeys(marks, -1)

    def behind(self, data: bytes, start: int) -> int:
        """The first of them from `start` on, or the end."""
        for mark, at in self._next.items():
            if at < start:
                found = data.find(mark, start)
                self._next[mark] = found if found >= 0 else len(data)
        return min(self._next.values())


class _Aborted:
    """Which transactional batches are to be left out."""

    def __init__(self, aborted: Iterable[tuple[int, int]]) -> None:
        self._pending = sorted(aborted, key=lambda each: each[1])
        self._producers: set[int] = set()

    def leave(self, head: tuple[int, ...], data: bytes, at: int) -> bool:
        """True if a batch is a marker or was aborted; `at`: its first record."""
        producer = head[7]
        while self._pending and self._pending[0][1] <= head[0] + head[4]:
            self._producers.add(self._pending.pop(0)[0])
        if head[3] & CONTROL:
            if not is_commit(data, at):
                self._producers.discard(producer)
            return True
        return producer in self._producers


class _Walk:
    """
    Notes where the newest records of our keys begin.

    Attributes:
        newest: Keys that begin as ours do, and their newest records.
        strange: The first key that is no JSON.
        key, tail, skip: Of the last record of ours that had a batch of its own:
            its key, its bytes from behind its length to the end of the key, and
            where they begin in the batch.
    """

    def __init__(self, partition: int, wanted: KeyFilter) -> None:
        self._partition = partition
        self._wanted = wanted
        self.newest: dict[bytes, _Place] = {}
        self.strange: UnknownKey | None = None
        self.key = self.tail = b""
        self.skip = 0

    def records(self, data: bytes, at: int, head: tuple[int, ...], count: int) -> None:
        """Look at the first records of a batch, which begin at `at`."""
        startswith = data.startswith
        prefixes = self._wanted.prefixes
        # Hot path: once for each record.  Numbers are read in place, since a
        # call for each of five would be most of the time.
        for _ in range(min(count, head[8])):
            start = at
            byte = data[at]
            at += 1
            if byte < 128:
                size = byte
            else:
                size, shift = byte & 127, 7
                while (byte := data[at]) > 127:
                    size |= (byte & 127) << shift
                    shift += 7
                    at += 1
                size |= byte << shift
                at += 1
            # Attributes, time and offset come before the key.
            key = at + 1
            at += size >> 1
            while data[key] > 127:
                key += 1
            key += 1
            while data[key] > 127:
                key += 1
            key += 1
            length = data[key]
            key += 1
            if length > 127:
                length, shift = length & 127, 7
                while (byte := data[key]) > 127:
                    length |= (byte & 127) << shift
                    shift += 7
                    key += 1
                length |= byte << shift
                key += 1
            if startswith(prefixes, key):
                text = data[key : key + (length >> 1)]
                self.newest[text] = data, start, head
                if head[8] == 1 and not head[3] & CODEC:
                    self.key = text
                    begin = at - (size >> 1)
                    self.tail = data[begin : key + (length >> 1)]
                    self.skip = SIZE + begin - start
            elif not startswith(b'["', key):
                self._other(data, start, head, key, length)

    def _other(
        self, data: bytes, start: int, head: tuple[int, ...], key: int, length: int
    ) -> None:
        """A key that does not begin as most keys of Connect do."""
        text = b"" if length & 1 else data[key : key + (length >> 1)]
        if text[:1] in b" \t\r\n[" and self._wanted.has(text):
            self.newest[text] = data, start, head
        elif self.strange is None and not _is_json(text):
            _, at = _varint(data, start)
            _, at = _varint(data, at + 1)
            offset = head[0] + _varint(data, at)[0]
            self.strange = UnknownKey(self._partition, offset)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A zigzag number and where it ends."""
    value = shift = 0
    while (byte := data[at]) > 127:
        value |= (byte & 127) << shift
        shift += 7
        at += 1
    value |= byte << shift
    return (value >> 1) ^ -(value & 1), at + 1


def _cut_out(partition: int, key: bytes, place: _Place) -> Record:
    data, start, head = place
    _, at = _varint(data, start)
    later, at = _varint(data, at + 1)
    delta, at = _varint(data, at)
    length, at = _varint(data, at)
    size, at = _varint(data, at + length)
    stamp = head[6] if head[3] & APPEND_TIME else head[5] + later
    value = None if size < 0 else data[at : at + size]
    return Record(partition, head[0] + delta, stamp, value)


def is_commit(data: bytes, at: int) -> bool:
    """Whether a control record says that its transaction was committed."""
    _, at = _varint(data, at)
    _, at = _varint(data, at + 1)
    _, at = _varint(data, at)
    _, at = _varint(data, at)
    return bool(MARKER.unpack_from(data, at)[1])


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True
