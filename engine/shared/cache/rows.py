"""
Rows: what stands in the database of a store, byte by byte.

Owns the check sum in front of each value, the form of a row whose value lies in a pack,
and the statement that enters many of them.

Under `cache.store`.
"""

from __future__ import annotations

import struct

from engine.checksum import crc32c
from engine.shared.cache.packs import Parts, parts_of, size_of

#: What stands in front of a value: its check sum and its size.
SUM = struct.Struct("<II")

#: All that stands in a row whose value lies in a pack: behind its check sum and size
#: the pack's number and the place in it.
PLACE = struct.Struct("<IIQQ")

#: What the library's `set` does to a row, in one statement for many of them: key,
#: seconds of now, of its end, of now again, mode, value.
ENTER = (
    "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, mode, value)"
    " VALUES (?, 1, ?, ?, ?, ?, ?) ON CONFLICT (key, raw) DO UPDATE SET"
    " store_time = excluded.store_time, expire_time = excluded.expire_time,"
    " access_time = excluded.access_time, access_count = 0, tag = NULL, size = 0,"
    " mode = excluded.mode, filename = NULL, value = excluded.value"
)


def summed(key: str, body: Parts) -> bytes:
    """What stands in front of a value."""
    # The key is in it, so that no value can stand in for another one.  It
    # finds damage, not forgery: the directory is ours alone.  CRC-32C has an
    # instruction of its own: 3 us for 20 KB, where SHA-1 takes 13 and BLAKE2 29.
    found = crc32c(key.encode())
    for part in parts_of(body):
        found = crc32c(part, found)
    return SUM.pack(found, size_of(body))


def whole(key: str, value: Parts) -> bytes:
    """A row whose value stands in it."""
    return b"".join((summed(key, value), *parts_of(value)))


def placed(key: str, value: Parts, number: int, at: int) -> bytes:
    """A row whose value lies in a pack."""
    return summed(key, value) + PLACE.pack(0, 0, number, at)[SUM.size :]
