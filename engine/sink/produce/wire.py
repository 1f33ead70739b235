"""
Wire: Produce requests and their answers as bytes.

Owns the one protocol message of the hot path, versions 3 to 13, by struct.
Everything else that is said to a broker goes through `sink.produce.messages`.

Path: `sink.produce.sender` encodes here; `sink.produce.connection` cuts frames.
Source: Kafka's protocol guide, ProduceRequest.json and ProduceResponse.json.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

#: The number of the Produce request.
PRODUCE = 0

#: The first version for records of format 2, and the newest that is spoken here.
OLDEST = 3
NEWEST = 13

#: From here on: errors by record, compact forms, hints of the new leader (KIP-951),
#: topics by id.
RECORD_ERRORS = 8
FLEXIBLE = 9
HINTS = 10
BY_ID = 13

#: Largest answer that is read; a frame that says more is none of Kafka's.
FRAME_LIMIT = 64 << 20

NO_ID = bytes(16)

_HEAD = struct.Struct(">hhi")
_ACKS = struct.Struct(">hi")
_RESULT_V3 = struct.Struct(">ihqq")
_RESULT_V5 = struct.Struct(">ihqqq")

#: What is sent without being copied.
Piece: TypeAlias = bytes | bytearray | memoryview


class Garbled(Exception):
    """Bytes that are no answer of a broker."""


class PartitionBatch(Struct, eq=False):
    """
    A batch on its way to one partition.

    Attributes:
        header: The batch's header, stamped.
        blocks: Its records.
        size: Bytes of both.
    """

    topic: str
    topic_id: bytes
    partition: int
    header: bytes
    blocks: Sequence[bytes]
    size: int


class Hint(Struct, frozen=True):
    """The leader of a partition now, as the former one names it (KIP-951)."""

    leader: int
    epoch: int


class Result(Struct, frozen=True):
    """
    What became of one batch.

    Attributes:
        code: 0 for written.
        offset: Of its first record; -1 where it was not written.
        errors: (index in the batch, what is wrong) of refused records.
        message: What is wrong with all of it, or "".
        hint: Where to send it instead, or None.
    """

    topic: str
    topic_id: bytes
    partition: int
    code: int
    offset: int = -1
    errors: tuple[tuple[int, str], ...] = ()
    message: str = ""
    hint: Hint | None = None


class BrokerAddress(Struct, frozen=True):
    """A broker and where it listens."""

    node: int
    host: str
    port: int


class ProduceResponse(Struct, frozen=True):
    """
    An answer to a Produce request.

    Attributes:
        throttle: Seconds for which the broker wants to be left alone.
        endpoints: Brokers named by hints.
    """

    results: list[Result]
    throttle: float = 0.0
    endpoints: tuple[BrokerAddress, ...] = ()


def uvarint(number: int) -> bytes:
    """An unsigned number, 7 bits a byte, low bits first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode(
    version: int,
    correlation: int,
    client_id: bytes,
    acks: int,
    timeout: int,
    parts: Sequence[PartitionBatch],
    transactional_id: bytes | None = None,
) -> list[Piece]:
    """
    A request in pieces, batches uncopied, its length in front.

    Args:
        acks: 0, 1 or -1 for all.
        timeout: Milliseconds the broker may wait for its replicas.
        parts: At most one for each partition, those of a topic together.
    """
    flexible = version >= FLEXIBLE
    head = bytearray(4)
    head += _HEAD.pack(PRODUCE, version, correlation)
    head += struct.pack(">h", len(client_id)) + client_id
    if flexible:
        head += b"\0"
        if transactional_id is None:
            head += b"\0"
        else:
            head += uvarint(len(transactional_id) + 1) + transactional_id
    elif transactional_id is None:
        head += b"\xff\xff"
    else:
        head += struct.pack(">h", len(transactional_id)) + transactional_id
    head += _ACKS.pack(acks, timeout)
    topics = _by_topic(parts)
    head += uvarint(len(topics) + 1) if flexible else struct.pack(">i", len(topics))
    pieces: list[Piece] = []
    total = 0
    for members in topics:
        first = members[0]
        if version >= BY_ID:
            head += first.topic_id
        else:
            name = first.topic.encode()
            size = uvarint(len(name) + 1) if flexible else struct.pack(">h", len(name))
            head += size + name
        count = len(members)
        head += uvarint(count + 1) if flexible else struct.pack(">i", count)
        for part in members:
            head += struct.pack(">i", part.partition)
            if flexible:
                head += uvarint(part.size + 1)
            else:
                head += struct.pack(">i", part.size)
            # The framing and the batch's header go as one piece.
            head += part.header
            total += len(head)
            pieces.append(head)
            pieces += part.blocks
            total += part.size - len(part.header)
            head = bytearray(b"\0" if flexible else b"")
        head += b"\0" if flexible else b""
    head += b"\0" if flexible else b""
    if head:
        total += len(head)
        pieces.append(bytes(head))
    struct.pack_into(">i", pieces[0], 0, total - 4)
    return pieces


def _by_topic(parts: Sequence[PartitionBatch]) -> list[list[PartitionBatch]]:
    found: dict[str, list[PartitionBatch]] = {}
    for part in parts:
        found.setdefault(part.topic, []).append(part)
    return list(found.values())


class _Reader:
    """Reads an answer from its front; what is cut short is garbled."""

    __slots__ = ("_at", "_data", "_flexible")

    def __init__(self, data: bytes | memoryview, flexible: bool) -> None:
        self._data = bytes(data)
        self._at = 0
        self._flexible = flexible

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        found = form.unpack_from(self._data, self._at)
        self._at += form.size
        return found

    def i32(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def i16(self) -> int:
        return int.from_bytes(self.take(2), "big", signed=True)

    def take(self, size: int) -> bytes:
        if size < 0 or self._at + size > len(self._data):
            raise Garbled("an answer ends too early")
        found = self._data[self._at : self._at + size]
        self._at += size
        return found

    def uvarint(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7
            if shift > 35:
                raise Garbled("a number in an answer has no end")

    def count(self) -> int:
        found = self.uvarint() - 1 if self._flexible else self.i32()
        if found > len(self._data):
            raise Garbled(f"an answer promises {found} items")
        return max(found, 0)

    def text(self) -> str:
        size = self.uvarint() - 1 if self._flexible else self.i16()
        return self.take(size).decode(errors="replace") if size > 0 else ""

    def tags(self) -> dict[int, bytes]:
        """Tagged fields, none before the compact forms."""
        found: dict[int, bytes] = {}
        if self._flexible:
            for _ in range(self.uvarint()):
                tag = self.uvarint()
                found[tag] = self.take(self.uvarint())
        return found


def decode(version: int, body: bytes | memoryview) -> ProduceResponse:
    """
    An answer, read from behind its correlation id.

    Raises: Garbled.
    """
    try:
        return _decode(version, body)
    except struct.error as error:
        raise Garbled("an answer ends too early") from error


def _decode(version: int, body: bytes | memoryview) -> ProduceResponse:
    flexible = version >= FLEXIBLE
    form = _RESULT_V5 if version >= 5 else _RESULT_V3
    read = _Reader(body, flexible)
    read.tags()
    results: list[Result] = []
    for _ in range(read.count()):
        name, topic_id = "", NO_ID
        if version >= BY_ID:
            topic_id = read.take(16)
        else:
            name = read.text()
        for _ in range(read.count()):
            partition, code, offset, *_ = read.unpack(form)
            errors: tuple[tuple[int, str], ...] = ()
            message = ""
            if version >= RECORD_ERRORS:
                if found := read.count():
                    errors = tuple(_record_error(read) for _ in range(found))
                message = read.text()
            tags = read.tags()
            hint = _hint(tags[0]) if version >= HINTS and 0 in tags else None
            results.append(
                Result(
                    name,
                    topic_id,
                    partition,
                    code,
                    offset,
                    errors,
                    message,
                    hint,
                )
            )
        read.tags()
    throttle = read.i32()
    tags = read.tags()
    endpoints: tuple[BrokerAddress, ...] = ()
    if version >= HINTS and 0 in tags:
        endpoints = _endpoints(tags[0])
    return ProduceResponse(results, max(throttle, 0) / 1000, endpoints)


def _record_error(read: _Reader) -> tuple[int, str]:
    index, message = read.i32(), read.text()
    read.tags()
    return index, message


def _hint(data: bytes) -> Hint | None:
    leader, epoch = struct.unpack_from(">ii", data)
    return Hint(leader, epoch) if leader >= 0 else None


def _endpoints(data: bytes) -> tuple[BrokerAddress, ...]:
    read = _Reader(data, flexible=True)
    found = []
    for _ in range(read.count()):
        node, host, port = read.i32(), read.text(), read.i32()
        read.text()  # the rack
        read.tags()
        if node >= 0:
            found.append(BrokerAddress(node, host, port))
    return tuple(found)
