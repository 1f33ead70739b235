"""
A partition's log: record batches as they came, and what transactions make of them.

Keeps bytes and never decodes records for itself.  Sequences are judged as a broker
does (KIP-98, KIP-360); an open transaction holds back the last stable offset, and an
aborted one is listed for the reader that has to leave it out.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import crc32c
from kafka.record.memory_records import MemoryRecords

#: Head of a batch, message format 2: base offset, length, leader epoch, magic, crc,
#: attributes, last offset delta, base and max timestamp, producer id and epoch, base
#: sequence, count of records.
HEAD = struct.Struct(">qiibIhiqqqhii")

TRANSACTIONAL, CONTROL = 0x10, 0x20

#: Bytes from the start of a batch to the first that its checksum covers.
UNCHECKED = 21


class Batch:
    """One batch as it arrived, or as it lies in the log."""

    def __init__(self, topic: str, partition: int, data: bytes) -> None:
        self.topic, self.partition, self.data = topic, partition, data
        self.base: int
        self.attributes: int
        self.last_delta: int
        (
            self.base,
            length,
            _,
            magic,
            crc,
            self.attributes,
            self.last_delta,
            _,
            self.max_timestamp,
            self.producer,
            self.epoch,
            self.sequence,
            self.count,
        ) = HEAD.unpack_from(data)
        assert magic == 2 and length + 12 == len(data), "one batch of format 2"
        assert crc32c.crc32c(data[UNCHECKED:]) == crc, "its checksum"

    @cached_property
    def values(self) -> list[Any]:
        [found] = list(MemoryRecords(self.data))
        return [record.value for record in found]

    @property
    def compression(self) -> int:
        return self.attributes & 7

    @property
    def transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def control(self) -> bool:
        return bool(self.attributes & CONTROL)

    @property
    def last(self) -> int:
        """Its last record's offset."""
        return self.base + self.last_delta

    def placed(self, base: int) -> Batch:
        """The same at an offset; the leader's epoch is 0."""
        found = bytearray(self.data)
        struct.pack_into(">q", found, 0, base)
        struct.pack_into(">i", found, 12, 0)
        return Batch(self.topic, self.partition, bytes(found))


def marker(producer: int, epoch: int, committed: bool) -> bytes:
    """A control batch that ends a transaction (KIP-98)."""
    key = struct.pack(">hh", 0, int(committed))
    value = struct.pack(">hi", 0, 0)
    # attributes, two deltas of 0, then lengths as zigzag varints, no headers
    body = b"\0\0\0" + bytes([len(key) * 2]) + key
    body += bytes([len(value) * 2]) + value + b"\0"
    record = bytes([len(body) * 2]) + body
    now = time.time_ns() // 1_000_000
    attributes = TRANSACTIONAL | CONTROL
    data = bytearray(
        HEAD.pack(0, 0, 0, 2, 0, attributes, 0, now, now, producer, epoch, -1, 1)
        + record
    )
    struct.pack_into(">i", data, 8, len(data) - 12)
    struct.pack_into(">I", data, 17, crc32c.crc32c(bytes(data[UNCHECKED:])))
    return bytes(data)


@dataclass
class Producer:
    """What a partition knows of a producer id: its epoch and its last five batches."""

    epoch: int = -1
    last: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass
class Aborted:
    """A transaction that was aborted: from its first record to its marker."""

    producer: int
    first: int
    last: int


class Log:
    """
    One partition.

    Attributes:
        batches: In the order of their offsets.
        start: The first offset that is kept.
        end: The offset that the next record gets: the high watermark.
        open: First offset of the open transaction, by producer id.
    """

    def __init__(self, topic: str, partition: int) -> None:
        self.topic, self.partition = topic, partition
        self.batches: list[Batch] = []
        self.start = 0
        self.end = 0
        self.open: dict[int, int] = {}
        self.aborted: list[Aborted] = []
        self.producers: dict[int, Producer] = {}

    @property
    def stable(self) -> int:
        """The last stable offset: what a read_committed reader may see ends here."""
        return min(self.open.values(), default=self.end)

    def append(self, batch: Batch) -> tuple[int, int]:
        """An error code, and the offset of the first record (-1 for none)."""
        if batch.producer >= 0:
            known = self.producers.setdefault(batch.producer, Producer())
            if batch.epoch < known.epoch:
                return 47, -1
            if batch.epoch > known.epoch:
                if known.epoch >= 0 and batch.sequence != 0:
                    return 45, -1
                known.last = []
            for sequence, count, base in known.last:
                if (sequence, count) == (batch.sequence, batch.count):
                    return 0, base
            if known.last:
                sequence, count, _ = known.last[-1]
                if batch.sequence != (sequence + count) & 0x7FFFFFFF:
                    return 45, -1
            known.epoch = batch.epoch
            known.last = [*known.last, (batch.sequence, batch.count, self.end)][-5:]
            if batch.transactional:
                self.open.setdefault(batch.producer, self.end)
        return 0, self._add(batch)

    def mark(self, producer: int, epoch: int, committed: bool) -> None:
        """End a producer's transaction; its sequences begin anew in a new epoch."""
        known = self.producers.setdefault(producer, Producer())
        if epoch > known.epoch:
            known.epoch, known.last = epoch, []
        first = self.open.pop(producer, None)
        at = self._add(
            Batch(self.topic, self.partition, marker(producer, epoch, committed))
        )
        if first is not None and not committed:
            self.aborted.append(Aborted(producer, first, at))

    def _add(self, batch: Batch) -> int:
        base = self.end
        placed = batch.placed(base)
        self.batches.append(placed)
        self.end = placed.last + 1
        return base

    def read(self, offset: int, limit: int, until: int) -> bytes:
        """Whole batches from the one that holds `offset`, `limit` bytes or one."""
        found: list[bytes] = []
        size = 0
        for batch in self.batches[self._index(offset) :]:
            if batch.base >= until or (found and size + len(batch.data) > limit):
                break
            found.append(batch.data)
            size += len(batch.data)
        return b"".join(found)

    def _index(self, offset: int) -> int:
        low, high = 0, len(self.batches)
        while low < high:
            middle = (low + high) // 2
            if self.batches[middle].last < offset:
                low = middle + 1
            else:
                high = middle
        return low

    def aborted_from(self, offset: int, until: int) -> list[Aborted]:
        """Aborted transactions with records in offset..until."""
        return [
            each for each in self.aborted if each.last >= offset and each.first < until
        ]

    def since(self, timestamp: int) -> tuple[int, int]:
        """Offset and timestamp of a batch that has a record this young, or -1, -1."""
        for batch in self.batches:
            if batch.max_timestamp >= timestamp and not batch.control:
                return batch.base, batch.max_timestamp
        return -1, -1

    def delete_before(self, offset: int) -> None:
        """As retention does: records and what was known of their producers go."""
        self.start = min(offset, self.end)
        self.batches = [each for each in self.batches if each.last >= self.start]
        kept = {each.producer for each in self.batches}
        self.producers = {
            id_: known for id_, known in self.producers.items() if id_ in kept
        }
