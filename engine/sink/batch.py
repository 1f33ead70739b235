"""
Batch: the columns of a parcel as Kafka record batches (format v2).

Owns the bytes: record heads, cut points, header, checksum.  Knows no broker,
no partition and no time; a batch is filled, sealed, and stamped with its
producer's numbers when it is sent.

Path: `sink.filling` fills batches here and gives them to `sink.produce`.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import Any

from msgspec import Struct

from engine.checksum import crc32c
from engine.sink.columns import (
    NO_KEY,
    WITH_LENGTH,
    Column,
    each_of,
    number_of,
    numbered,
    numbers,
    varint,
)
from engine.sink.compress import NUMBERS, PLAIN, Packing

#: A batch's header: base offset, length, leader epoch, magic, checksum,
#: attributes, last offset delta, base and latest timestamp, producer id, epoch
#: and sequence, count.  Source: Kafka's message format, record batch.
HEADER = struct.Struct(">qiibIhiqqqhii")

#: Where the bytes under the checksum begin.
ATTRIBUTES_AT = 21

#: The attributes' bit that marks a batch of a transaction.
TRANSACTIONAL = 0x10

#: Blocks of a batch that are handed to the socket one by one; more are joined, for
#: the system takes 1024 pieces at a time (IOV_MAX).
BLOCKS_MOST = 64

#: Bytes of a block from which other threads run while it is summed.
LONG_BLOCK = 96 * 1024

#: The bytes of an index in the batch, and the first index that takes more.
INDEX_SIZES = ((1, 1 << 6), (2, 1 << 13), (3, 1 << 20), (4, 1 << 27), (5, 1 << 31))

#: Heads kept at most; they are few, one for each length of a record.
HEADS_LIMIT = 1 << 15


class _Heads(dict[int, bytes]):
    """
    How records begin, by the length of the value or by the bytes that follow the head.

    A head begins with the end of the record before it (`tail`), so that headers
    take no piece of their own.
    """

    __slots__ = ("beside", "by_value", "lead", "tail")

    def __init__(self, tail: bytes, delta: int, beside: int, by_value: bool) -> None:
        self.tail = tail
        # attributes, timestamp delta; the offset delta is the next piece
        self.lead = b"\0" + varint(delta)
        self.beside = beside
        self.by_value = by_value

    def __missing__(self, name: int) -> bytes:
        rest = WITH_LENGTH[name] if self.by_value else name
        size = len(self.lead) + self.beside + rest + len(self.tail)
        head = self[name] = self.tail + number_of(size) + self.lead
        return head


class HeadStore:
    """The heads of a process's records, kept because they repeat."""

    def __init__(self, limit: int = HEADS_LIMIT) -> None:
        self._limit = limit
        self._kept: dict[tuple[bytes, int, int, bool], _Heads] = {}

    def __len__(self) -> int:
        return sum(map(len, self._kept.values())) + len(self._kept)

    def heads(self, tail: bytes, delta: int, beside: int, by_value: bool) -> _Heads:
        """
        The table for records with these headers and this timestamp.

        Args:
            beside: Bytes of the index, and of what else is the same for all.
            by_value: They are asked for by the length of the value alone, not by all
                bytes but these.
        """
        place = tail, delta, beside, by_value
        found = self._kept.get(place)
        if found is None:
            if len(self) >= self._limit:
                self._kept.clear()
            found = self._kept[place] = _Heads(*place)
        return found


class Sealed(Struct, eq=False):
    """
    A batch that is complete but for its producer's numbers and the checksum.

    Attributes:
        blocks: The records as they follow the header, compressed or not.
        count: Records in it.
        raw: Bytes before compression, header included.
        size: Bytes it takes, header included.
        attributes: The compression's number.
        base, latest: Time stamps of the first record and of the newest.
    """

    blocks: list[bytes]
    count: int
    raw: int
    size: int
    attributes: int
    base: int
    latest: int

    def stamp(self, producer: int, epoch: int, sequence: int, *, txn: bool) -> bytes:
        """
        The header with the producer's numbers and the checksum.

        May be asked for again with other numbers; the records stay as they are.

        Args:
            producer, epoch, sequence: -1, -1, -1 without idempotence.
            txn: True for a batch of a transaction.
        """
        header = bytearray(HEADER.size)
        HEADER.pack_into(
            header,
            0,
            0,
            self.size - 12,
            -1,
            2,
            0,
            self.attributes | (TRANSACTIONAL if txn else 0),
            self.count - 1,
            self.base,
            self.latest,
            producer,
            epoch,
            sequence,
            self.count,
        )
        sum_ = crc32c(memoryview(header)[ATTRIBUTES_AT:])
        for block in self.blocks:
            # Hot path: to let another thread run meanwhile costs four calls to the
            # system where one waits, more than the sum of a block of 64 KB.
            sum_ = crc32c(block, sum_, gil_release_mode=len(block) >= LONG_BLOCK)
        struct.pack_into(">I", header, ATTRIBUTES_AT - 4, sum_)
        return bytes(header)

    def whole(self, producer: int, epoch: int, sequence: int, *, txn: bool) -> bytes:
        """The batch from its first byte to its last."""
        header = self.stamp(producer, epoch, sequence, txn=txn)
        return b"".join((header, *self.blocks))


class EncodedRecords(Struct):
    """Encoded records that are not yet in their batch."""

    block: bytes
    count: int
    base: int
    latest: int


class Batch:
    """
    A batch that is being filled.

    Attributes:
        count: Records in it.
        size: Bytes it takes at most before compression, header included.
    """

    __slots__ = ("_base", "_blocks", "_heads", "_latest", "count", "size")

    def __init__(self, heads: HeadStore) -> None:
        self._heads = heads
        self._blocks: list[bytes] = []
        self._base = 0
        self._latest = 0
        self.count = 0
        self.size = HEADER.size

    def fitting(
        self, column: Column, start: int, stop: int, limit: int
    ) -> tuple[int, int]:
        """
        How many of the records from `start` to `stop` fit, and their bytes at most.

        Args:
            limit: Bytes the batch may have before compression.

        Returns: none only if the batch is not empty: a record larger than
            `limit` stands alone in its batch.
        """
        room = limit - self.size
        whole = column.weight(start, stop)
        if whole <= room:
            return stop - start, whole
        framing = column.framing
        sums = column.summed()
        # Before a record lie the weights of the others and the framing of each.
        upto = bisect_right(
            range(start + 1, stop + 1),
            room + sums[start] + start * framing,
            key=lambda at: sums[at] + at * framing,
        )
        taken = max(upto, 0 if self.count else 1)
        return taken, column.weight(start, start + taken)

    def append(self, column: Column) -> None:
        """Add records behind the others; whether they fit is asked before."""
        self.commit(self.encode(column, 0, len(column)))

    def encode(self, column: Column, start: int, stop: int) -> EncodedRecords:
        """
        The records from `start` to `stop` as they would stand behind the others.

        Apart from `commit` so that a batch which another thread may close is
        held only for the moment in which it grows.
        """
        stamps = column.timestamps
        first = stamps if isinstance(stamps, int) else stamps[start]
        base = self._base if self.count else first
        if column.short:
            pieces = self._short(column, start, stop, first - base)
        else:
            pieces = self._any(column, start, stop, base)
        latest = stamps if isinstance(stamps, int) else max(stamps[start:stop])
        # Hot path: joined while the page is in the processor's cache, and the
        # page's body is let go; a second copy when the batch is sealed costs 20 ns
        # a record, fetching the pieces from memory then 500.
        return EncodedRecords(b"".join(pieces), stop - start, base, latest)

    def commit(self, part: EncodedRecords) -> None:
        """Take in what `encode` made since the last commit."""
        self._latest = max(self._latest, part.latest) if self.count else part.latest
        self._base = part.base
        self._blocks.append(part.block)
        self.size += len(part.block)
        self.count += part.count

    def _short(self, column: Column, start: int, stop: int, delta: int) -> list[Any]:
        # Hot path: no Python per record, only C loops over columns; 0.2 us a
        # record without key and 0.3 with one, join included, where a loop takes
        # 0.45 and 0.8.
        tail = column.headers
        assert isinstance(tail, bytes)
        width, alike = column.width, column.alike
        pieces = column.pieces(start, stop)
        weights = column.weights[start:stop]
        by_value = column.keys is None or alike >= 0
        beside = 0
        first, last = self.count, self.count + stop - start
        if alike >= 0:
            beside = WITH_LENGTH[alike]
            pieces[1::width] = numbered(first, last, alike)
        else:
            beside = int(by_value)
            pieces[1::width] = numbers(first, last)
        done = 0
        for index_size, below in INDEX_SIZES:
            upto = min(below, last) - first
            if upto > done:
                table = self._heads.heads(tail, delta, index_size + beside, by_value)
                pieces[width * done : width * upto : width] = each_of(
                    table, weights[done:upto]
                )
                if below >= last:
                    break
                done = upto
        # A page stands for itself: its first head has no record before it, and
        # its last record gets its own end.
        pieces[0] = pieces[0][len(tail) :]
        pieces.append(tail)
        return pieces

    def _any(self, column: Column, start: int, stop: int, base: int) -> list[Any]:
        stamps, headers = column.timestamps, column.headers
        pieces: list[Any] = []
        for index, at in enumerate(range(start, stop), self.count):
            value = column.values[at]
            stamp = stamps if isinstance(stamps, int) else stamps[at]
            tail = headers if isinstance(headers, bytes) else headers[at]
            key = column.keys[at] if column.keys is not None else None
            lead = b"\0" + varint(stamp - base) + number_of(index)
            lead += NO_KEY if key is None else number_of(len(key)) + key
            lead += b"\1" if value is None else number_of(column.lengths[at])
            length = len(lead) + column.lengths[at] + len(tail)
            head = varint(length) + lead
            pieces += (head, b"" if value is None else value, tail)
        return pieces

    def seal(self, packing: Packing = PLAIN) -> Sealed:
        """
        Close the batch; what it was made of is let go.

        A block that compression would make larger is left as it is: a batch
        must never outgrow what was reckoned for it.
        """
        blocks, self._blocks = self._blocks, []
        length = sum(map(len, blocks))
        raw = HEADER.size + length
        attributes = 0
        if packing.codec is not None:
            packed = packing.codec(b"".join(blocks))
            if len(packed) < length:
                blocks, length = [packed], len(packed)
                attributes = NUMBERS[packing.kind]
        elif len(blocks) > BLOCKS_MOST:
            blocks = [b"".join(blocks)]
        size = HEADER.size + length
        return Sealed(
            blocks, self.count, raw, size, attributes, self._base, self._latest
        )
