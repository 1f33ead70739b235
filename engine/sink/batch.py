"""
Batch: the columns of a parcel as Kafka record batches (format v2).

Owns the bytes: record heads, cut points, header, checksum.  Knows no broker,
no partition and no time; a batch is filled, sealed, and stamped with its
producer's numbers when it is sent.

Path: `sink.commit` fills batches here and gives them to `sink.accumulator`.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import getitem
from typing import Any

from crc32c import crc32c
from msgspec import Raw, Struct

from engine.records import KafkaHeaders
from engine.sink.compress import NUMBERS, Codec

#: A batch's header: base offset, length, leader epoch, magic, checksum,
#: attributes, last offset delta, base and latest timestamp, producer id, epoch
#: and sequence, count.  Source: Kafka's message format, record batch.
HEADER = struct.Struct(">qiibIhiqqqhii")

#: Where the bytes under the checksum begin.
ATTRIBUTES_AT = 21

#: Where producer id, epoch and sequence stand, and the attributes' bit that
#: marks a batch of a transaction.
PRODUCER_AT = 43
TRANSACTIONAL = 0x10

#: Heads kept at most, over all tables: about 15 MB.
HEADS_LIMIT = 1 << 17

#: Bytes of a record beyond key, value and headers, at most: six numbers of up to
#: 5 or 10 bytes and the attributes.  Source: Kafka's `MAX_RECORD_OVERHEAD`.
RECORD_OVERHEAD = 21


def varint(number: int) -> bytes:
    """A signed number as Kafka writes it: zigzag, 7 bits a byte, low bits first."""
    rest = number << 1 if number >= 0 else ~number << 1 | 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


#: The numbers most heads are made of.
SMALL = [varint(number) for number in range(1 << 13)]


def _number(number: int) -> bytes:
    return SMALL[number] if 0 <= number < len(SMALL) else varint(number)


def headers_block(headers: KafkaHeaders) -> bytes:
    """Record headers as they stand at a record's end, their count first."""
    out = [varint(len(headers))]
    for name, value in headers:
        text = name.encode()
        out += [varint(len(text)), text]
        out += [b"\1"] if value is None else [varint(len(value)), value]
    return b"".join(out)


NO_HEADERS = headers_block(())


class _Heads(dict[int, bytes]):
    """
    The heads of the records at one index of a batch, by length of the value.

    A head begins with the end of the record before it (`tail`), so that a
    record takes two pieces and not three.
    """

    __slots__ = ("middle", "store", "tail")

    def __init__(self, store: HeadStore, tail: bytes, delta: int, index: int) -> None:
        self.store = store
        self.tail = tail
        # attributes, timestamp delta, offset delta, no key
        self.middle = b"\0" + varint(delta) + _number(index) + b"\1"

    def __missing__(self, length: int) -> bytes:
        size = _number(length)
        total = len(self.middle) + len(size) + length + len(self.tail)
        head = self.tail + _number(total) + self.middle + size
        if self.store.room():
            self[length] = head
        return head


class HeadStore:
    """
    Heads of keyless records, kept because they repeat.

    Hot path: a table for each index, so that finding the heads of a page is one
    `map` in C (0.2 us a record with its share of the join, 0.45 us built anew).
    All tables are dropped when `HEADS_LIMIT` is reached: lengths that never
    repeat must cost memory only up to a bound.
    """

    def __init__(self, limit: int = HEADS_LIMIT) -> None:
        self._limit = limit
        self._kept = 0
        self._tables: dict[tuple[bytes, int], list[_Heads]] = {}

    def room(self) -> bool:
        """Count one more head; False if there is no room for it."""
        if self._kept >= self._limit:
            return False
        self._kept += 1
        return True

    def tables(self, tail: bytes, delta: int, first: int, count: int) -> list[_Heads]:
        """The tables for the indexes from `first` on."""
        if self._kept >= self._limit:
            self._tables.clear()
            self._kept = 0
        tables = self._tables.get((tail, delta))
        if tables is None:
            tables = self._tables[tail, delta] = []
        for index in range(len(tables), first + count):
            # An empty table takes the room of a head or two.
            self._kept += 1
            tables.append(_Heads(self, tail, delta, index))
        return tables[first : first + count]


class Column(Struct):
    """
    Records of one partition that are to stand one after the other.

    Attributes:
        values: Encoded values; None is a tombstone.
        lengths: Their lengths; 0 for a tombstone.
        keys: One for each value, or None: no record has one.
        timestamps: Epoch milliseconds, one for all or one for each.
        headers: Header blocks, one for all or one for each.
        nulls: True if there may be tombstones.
    """

    values: Sequence[bytes | Raw | None]
    lengths: list[int]
    keys: Sequence[bytes | None] | None
    timestamps: int | Sequence[int]
    headers: bytes | Sequence[bytes]
    nulls: bool = False

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, stop: int) -> Column:
        """The records from `start` up to but without `stop`."""
        cut = slice(start, stop)
        stamps, headers = self.timestamps, self.headers
        return Column(
            self.values[cut],
            self.lengths[cut],
            self.keys[cut] if self.keys is not None else None,
            stamps if isinstance(stamps, int) else stamps[cut],
            headers if isinstance(headers, bytes) else headers[cut],
            self.nulls,
        )

    def picked(self, pick: Any) -> Column:
        """The records that an `operator.itemgetter` over two or more names."""
        stamps, headers = self.timestamps, self.headers
        return Column(
            pick(self.values),
            list(pick(self.lengths)),
            pick(self.keys) if self.keys is not None else None,
            stamps if isinstance(stamps, int) else pick(stamps),
            headers if isinstance(headers, bytes) else pick(headers),
            self.nulls,
        )

    def sizes(self) -> tuple[list[int], int]:
        """Bytes of each record without its framing; the most framing of one."""
        sizes = self.lengths
        if self.keys is not None:
            sizes = [
                size + (len(key) if key else 0)
                for size, key in zip(sizes, self.keys, strict=True)
            ]
        if isinstance(self.headers, bytes):
            return sizes, RECORD_OVERHEAD + len(self.headers)
        sizes = [
            size + len(block) for size, block in zip(sizes, self.headers, strict=True)
        ]
        return sizes, RECORD_OVERHEAD


class Sealed(Struct):
    """
    A batch that is complete but for its producer's numbers and the checksum.

    Attributes:
        buffer: The batch from its first byte, to be stamped in place.
        count: Records in it.
        raw: Bytes before compression.
    """

    buffer: bytearray
    count: int
    raw: int

    def stamp(self, producer: int, epoch: int, sequence: int, *, txn: bool) -> None:
        """Write the producer's numbers; -1, -1, -1 without idempotence."""
        struct.pack_into(">qhi", self.buffer, PRODUCER_AT, producer, epoch, sequence)
        if txn:
            self.buffer[ATTRIBUTES_AT + 1] |= TRANSACTIONAL

    def check(self) -> None:
        """Write the checksum; the batch must not change any more."""
        sum_ = crc32c(memoryview(self.buffer)[ATTRIBUTES_AT:])
        struct.pack_into(">I", self.buffer, ATTRIBUTES_AT - 4, sum_)


class Batch:
    """
    A batch that is being filled.

    Attributes:
        count: Records in it.
        size: Bytes it takes at most before compression, header included.
    """

    __slots__ = ("_base", "_heads", "_latest", "_pieces", "count", "size")

    def __init__(self, heads: HeadStore) -> None:
        self._heads = heads
        self._pieces: list[Any] = [bytes(HEADER.size)]
        self._base = 0
        self._latest = 0
        self.count = 0
        self.size = HEADER.size

    def fitting(self, column: Column, limit: int) -> tuple[int, int]:
        """
        How many of the first records fit, and the bytes they take at most.

        Args:
            limit: Bytes the batch may have before compression.

        Returns: none only if the batch is not empty: a record larger than
            `limit` stands alone in its batch.
        """
        sizes, framing = column.sizes()
        room = limit - self.size
        whole = sum(sizes) + len(sizes) * framing
        if whole <= room:
            return len(sizes), whole
        ends = list(accumulate(sizes))
        taken = bisect_right(
            range(len(ends)), room, key=lambda at: ends[at] + (at + 1) * framing
        )
        if not taken and not self.count:
            taken = 1
        return taken, ends[taken - 1] + taken * framing if taken else 0

    def append(self, column: Column) -> None:
        """Add records behind the others; whether they fit is asked before."""
        stamps = column.timestamps
        if not self.count:
            self._base = stamps if isinstance(stamps, int) else stamps[0]
            self._latest = self._base
        latest = stamps if isinstance(stamps, int) else max(stamps)
        self._latest = max(self._latest, latest)
        constant = isinstance(stamps, int) and isinstance(column.headers, bytes)
        if constant and column.keys is None and not column.nulls:
            self._append_plain(column)
        elif constant and column.keys is not None and not column.nulls:
            self._append_keyed(column)
        else:
            self._append_any(column)
        self.count += len(column)

    def _append_plain(self, column: Column) -> None:
        # Hot path: no Python per record, only C loops over columns.
        assert isinstance(column.timestamps, int)
        assert isinstance(column.headers, bytes)
        count = len(column)
        tail = column.headers
        tables = self._heads.tables(
            tail, column.timestamps - self._base, self.count, count
        )
        heads = list(map(getitem, tables, column.lengths))
        pieces: list[Any] = [None] * (2 * count)
        pieces[0::2] = heads
        pieces[1::2] = column.values
        # A page stands for itself: its first head has no record before it, and
        # its last record gets its own end.
        pieces[0] = heads[0][len(tail) :]
        pieces.append(tail)
        self._pieces += pieces
        self.size += sum(map(len, heads)) + sum(column.lengths)

    def _append_keyed(self, column: Column) -> None:
        # Hot path: one comprehension over the columns; 0.5 us a record.
        assert isinstance(column.timestamps, int)
        assert isinstance(column.headers, bytes)
        assert column.keys is not None
        tail = column.headers
        lead = b"\0" + varint(column.timestamps - self._base)
        fixed = len(lead) + len(tail)
        pieces: list[Any] = []
        index = self.count
        size = 0
        for key, value, length in zip(
            column.keys, column.values, column.lengths, strict=True
        ):
            place = _number(index)
            index += 1
            value_size = _number(length)
            if key is None:
                key_size, key, key_length = b"\1", b"", 0
            else:
                key_length = len(key)
                key_size = _number(key_length)
            total = (
                fixed
                + len(place)
                + len(key_size)
                + key_length
                + len(value_size)
                + length
            )
            head = _number(total) + lead + place + key_size + key + value_size
            size += len(head) + length
            pieces += (head, value, tail)
        self._pieces += pieces
        self.size += size + len(tail) * len(column)

    def _append_any(self, column: Column) -> None:
        stamps, headers = column.timestamps, column.headers
        for at, value in enumerate(column.values):
            stamp = stamps if isinstance(stamps, int) else stamps[at]
            tail = headers if isinstance(headers, bytes) else headers[at]
            key = column.keys[at] if column.keys is not None else None
            lead = b"\0" + varint(stamp - self._base) + _number(self.count + at)
            lead += b"\1" if key is None else _number(len(key)) + key
            lead += b"\1" if value is None else _number(column.lengths[at])
            length = len(lead) + column.lengths[at] + len(tail)
            head = varint(length) + lead
            self._pieces += (head, b"" if value is None else value, tail)
            self.size += len(head) + column.lengths[at] + len(tail)

    def seal(self, kind: str = "none", codec: Codec | None = None) -> Sealed:
        """
        Close the batch.

        A block that compression would make larger is left as it is: a batch
        must never outgrow what was reckoned for it.
        """
        buffer = bytearray().join(self._pieces)
        raw = len(buffer)
        attributes = 0
        if codec is not None:
            packed = codec(bytes(memoryview(buffer)[HEADER.size :]))
            if len(packed) < raw - HEADER.size:
                buffer[HEADER.size :] = packed
                attributes = NUMBERS[kind]
        HEADER.pack_into(
            buffer,
            0,
            0,
            len(buffer) - 12,
            -1,
            2,
            0,
            attributes,
            self.count - 1,
            self._base,
            self._latest,
            -1,
            -1,
            -1,
            self.count,
        )
        return Sealed(buffer, self.count, raw)


def column_of(
    values: Sequence[bytes | Raw | None],
    keys: Sequence[bytes | None] | None = None,
    timestamps: int | Sequence[int] = 0,
    headers: KafkaHeaders | Sequence[KafkaHeaders] = (),
) -> Column:
    """The columns of a parcel, as `records.Parcel` has them."""
    blocks = _blocks(headers)
    try:
        lengths = list(map(len, values))  # type: ignore[arg-type]
    except TypeError:
        lengths = [0 if value is None else len(value) for value in values]
        return Column(values, lengths, keys, timestamps, blocks, True)
    return Column(values, lengths, keys, timestamps, blocks)


def _blocks(headers: Iterable[Any]) -> bytes | list[bytes]:
    """Header sets are tuples of pairs: one set for all, or a list of such sets."""
    if isinstance(headers, tuple) and (
        not headers or (len(headers[0]) == 2 and isinstance(headers[0][0], str))
    ):
        return headers_block(headers)
    return [headers_block(each) for each in headers]
