"""
Segments: the keys of a snapshot as the state keeps them.

Owns the form of one segment: topics' names, and of each entry its topic, the length of its
key and what stands for its content, column by column and little-endian, then the keys.

Path: `task.snapshot` -> here
"""

from __future__ import annotations

import base64
import binascii
import struct
from array import array
from collections.abc import Mapping, Sequence

from msgspec import Struct

from engine.errors import StateError
from engine.records import Offset, Primitive


class SegmentEntries(Struct, frozen=True, kw_only=True):
    """
    The entries of a segment, column by column.

    Attributes:
        names: Of the topics that there are.
        topics: Of each entry, a place in `names`.
        contents: What stands for what was produced of its key.
        lengths: Bytes of its key.
        keys: All keys, one behind the other.
    """

    names: Sequence[str]
    topics: array[int]
    contents: array[int]
    lengths: array[int]
    keys: bytes


def packed(entries: SegmentEntries, *, sure: bool) -> dict[str, Primitive]:
    """
    A segment as it is stored.

    Args:
        sure: What it says was delivered.
    """
    columns = entries.topics, entries.lengths, entries.contents
    blob = b"".join(
        (
            struct.pack("<I", len(entries.lengths)),
            *(_little(each).tobytes() for each in columns),
            entries.keys,
        )
    )
    return {
        "sure": sure,
        "topics": "\n".join(entries.names),
        "keys": base64.b64encode(blob).decode(),
    }


def unpacked(number: int, stored: Mapping[str, Primitive]) -> SegmentEntries:
    """
    What a stored segment says.

    Args:
        number: The segment's, for people.

    Raises: StateError for what `packed` did not write.
    """
    try:
        blob = base64.b64decode(str(stored["keys"]), validate=True)
        names = str(stored["topics"]).split("\n")
        (count,) = struct.unpack_from("<I", blob)
        at = 4
        columns = []
        for kind in "HIQ":
            column = array(kind)
            size = count * column.itemsize
            column.frombytes(blob[at : at + size])
            columns.append(_little(column))
            at += size
        topics, lengths, contents = columns
        if len(contents) != count or len(blob) - at != sum(lengths):
            raise ValueError("it is cut")
        if max(topics, default=0) >= len(names):
            raise ValueError("it names a topic that it does not have")
    except (KeyError, TypeError, ValueError, struct.error, binascii.Error) as failure:
        raise StateError(
            f"segment {number} of a snapshot cannot be read: {failure}; "
            "offsets reset forgets it"
        ) from failure
    return SegmentEntries(
        names=names, topics=topics, contents=contents, lengths=lengths, keys=blob[at:]
    )


def keys_known(stored: Offset) -> int:
    """How many entries a stored segment has; 0 for one that cannot be read."""
    try:
        return len(unpacked(0, stored).lengths)
    except StateError:
        return 0


def _little(numbers: array[int]) -> array[int]:
    """As they are stored: little-endian on every machine."""
    if struct.pack("=I", 1) != struct.pack("<I", 1):
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers
