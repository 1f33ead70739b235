"""
Split: a batch whose records the broker does not take, in parts.

Owns reading the records of a closed batch back, and writing them again with
other offsets.  None of it is on the way of a batch that is written.

Path: `sink.produce.sender` -> here, once a broker has refused a batch
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from engine.sink.batch import Batch, EncodedRecords, HeadStore, Sealed
from engine.sink.columns import varint
from engine.sink.compress import unpacked
from engine.sink.produce.queue import Queued

#: The bits of a batch's attributes that name its compression.
CODEC = 0x07


def halves(queued: Queued) -> list[Queued]:
    """Two batches out of one of at least two records."""
    count = len(_members(queued))
    middle = count // 2
    return [
        _part(queued, lambda at: at < middle),
        _part(queued, lambda at: at >= middle),
    ]


def without(queued: Queued, indexes: Collection[int]) -> list[Queued]:
    """The batch without the records at these places; none if none is left."""
    left = set(range(len(_members(queued)))) - set(indexes)
    return [_part(queued, left.__contains__)] if left else []


def original(queued: Queued, index: int) -> int:
    """Where the record stood in the batch as it was put."""
    return _members(queued)[index]


def _members(queued: Queued) -> list[int]:
    assert queued.sealed is not None
    if queued.members is None:
        return list(range(queued.sealed.count))
    return list(queued.members)


def _part(queued: Queued, chosen: Callable[[int], bool]) -> Queued:
    """A closed batch with the records at some places."""
    sealed = queued.sealed
    assert sealed is not None
    members = _members(queued)
    records = [record for at, record in enumerate(read(_plain(sealed))) if chosen(at)]
    batch = Batch(HeadStore())
    block = b"".join(
        _record(attributes, delta, at, rest)
        for at, (attributes, delta, _, rest) in enumerate(records)
    )
    latest = sealed.base + max(delta for _, delta, _, _ in records)
    batch.commit(EncodedRecords(block, len(records), sealed.base, latest))
    made = Queued(batch, queued.packing, queued.receipt, queued.created)
    made.growing = False
    made.full = True
    made.sealed = batch.seal(queued.packing)
    made.members = [member for at, member in enumerate(members) if chosen(at)]
    made.parts = queued.parts
    return made


def _plain(sealed: Sealed) -> bytes:
    """The records of a closed batch before their compression."""
    packed = b"".join(sealed.blocks)
    codec = sealed.attributes & CODEC
    return unpacked(codec, packed) if codec else packed


def _record(attributes: bytes, delta: int, index: int, rest: bytes) -> bytes:
    body = attributes + varint(delta) + varint(index) + rest
    return varint(len(body)) + body


def read(block: bytes) -> Iterator[tuple[bytes, int, int, bytes]]:
    """
    The records of a block: attributes, timestamp delta, index, and the rest as is.

    Source: Kafka's message format, record.
    """
    at = 0
    while at < len(block):
        size, at = number(block, at)
        end = at + size
        delta, behind = number(block, at + 1)
        index, behind = number(block, behind)
        yield block[at : at + 1], delta, index, block[behind:end]
        at = end


def number(block: bytes, at: int) -> tuple[int, int]:
    """A number as `batch.varint` writes it, and where it ends."""
    rest = shift = 0
    while True:
        byte = block[at]
        at += 1
        rest |= (byte & 0x7F) << shift
        if byte < 0x80:
            return rest >> 1 ^ -(rest & 1), at
        shift += 7
