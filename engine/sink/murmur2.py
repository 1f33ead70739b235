"""
Murmur2: which partition a key belongs to, as Kafka's Java client decides it.

Owns the hash and the modulo, for many keys at once.  Knows nothing of records
or brokers.

Path: `sink.filling` asks for the partitions of a page's keys.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

#: Murmur2's multiplier, and the seed of Kafka's `Utils.murmur2`.
MULTIPLIER = 0x5BD1E995
SEED = 0x9747B28C

WORD = 0xFFFFFFFF

#: Keys whose partition is remembered.
MOST_KNOWN = 1 << 13

#: Pages that are hashed without a look, once most keys were new.
REST = 1000

#: Fewer keys of one length are hashed one by one: the lanes would not pay.
FEW = 4


@lru_cache(maxsize=64)
def _lane_masks(count: int) -> tuple[int, int, int]:
    """In each of `count` lanes of 64 bits: a 1, a word, the upper byte of a word."""
    one = int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")
    return one, one * WORD, one * 0xFF000000


def murmur2(key: bytes) -> int:
    """The hash of one key, as an unsigned number of 32 bits."""
    length = len(key)
    whole = length & ~3
    hashed = (SEED ^ length) & WORD
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * MULTIPLIER & WORD
        word = (word ^ word >> 24) * MULTIPLIER & WORD
        hashed = hashed * MULTIPLIER & WORD ^ word
    if whole != length:
        hashed ^= int.from_bytes(key[whole:], "little")
        hashed = hashed * MULTIPLIER & WORD
    hashed = (hashed ^ hashed >> 13) * MULTIPLIER & WORD
    return hashed ^ hashed >> 15


def partition_of(key: bytes, count: int) -> int:
    """The partition of one key among `count`."""
    return (murmur2(key) & 0x7FFFFFFF) % count


def _lanes(keys: Sequence[bytes], length: int, count: int) -> list[int]:
    """
    The partitions of keys that are all `length` bytes long.

    Hot path: one number carries all keys, 64 bits each.  A product of two
    32-bit words fits its lane, so no carry reaches the next key, and each
    step of the hash is one operation of C over all of them: 0.1 us a key
    and step of 8 bytes, where the same in Python takes 4 us.
    """
    lanes = len(keys)
    one, low, upper = _lane_masks(lanes)
    words, rest = divmod(length, 4)
    # Two words of each key are taken out at once.
    padding = bytes(-length % 8)
    packed = memoryview(padding.join(keys) + padding).cast("Q")
    stride = (words + 2) // 2 if rest else (words + 1) // 2
    hashed = one * ((SEED ^ length) & WORD)
    both = 0
    for at in range(words):
        if at % 2:
            word = both >> 32 & low
        else:
            both = int.from_bytes(packed[at // 2 :: stride].tobytes(), "little")
            word = both & low
        word = word * MULTIPLIER & low
        word = (word ^ (word & upper) >> 24) * MULTIPLIER & low
        hashed = hashed * MULTIPLIER & low ^ word
    if rest:
        if words % 2:
            word = both >> 32 & low
        else:
            word = int.from_bytes(packed[words // 2 :: stride].tobytes(), "little")
        hashed = (hashed ^ word) * MULTIPLIER & low
    hashed = (hashed ^ hashed >> 13 & low) * MULTIPLIER & low
    hashed = (hashed ^ hashed >> 15 & low) & one * 0x7FFFFFFF
    # The remainder of a 31-bit number by multiplication (Granlund and
    # Montgomery 1994): the product has at most 63 bits, and is exact.
    shift = 31 + (count - 1).bit_length()
    inverse = -(-(1 << shift) // count)
    quotient = hashed * inverse >> shift & one * ((1 << 64 - shift) - 1)
    remainder = hashed - quotient * count
    return memoryview(remainder.to_bytes(8 * lanes, "little")).cast("Q").tolist()


def _each_of(table: Any, names: Sequence[Any]) -> Sequence[list[int]]:
    """As `columns.each_of`; at least one name.  Raises: KeyError."""
    return itemgetter(*names)(table) if len(names) > 1 else (table[names[0]],)


class Partitions:
    """
    Deals many keys to `count` partitions, those of known keys from memory.

    For one thread.  Keys that come again cost 0.1 us where hashing takes 0.25; keys
    that are new cost 0.15 more, so that where most were when the memory was full it
    is left alone for `REST` pages.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._members: list[list[int]] = [[] for _ in range(count)]
        #: A key's partition, as the list that its places are put into.
        self._known: dict[bytes, list[int]] = {}
        self._asked = self._missing = self._resting = 0

    def dealt(self, keys: Sequence[bytes], lengths: Sequence[int]) -> list[list[int]]:
        """
        The places of the keys of each partition, in their order.

        Args:
            lengths: As for `partitions_of`.

        Returns: a list for each partition; they are its own, good until the next call.
        """
        members, known = self._members, self._known
        if self._count == 1:
            members[0] = list(range(len(keys)))
            return members
        if self._resting:
            self._resting -= 1
            return self._put(self._hashed(keys, lengths))
        self._asked += len(keys)
        try:
            # Hot path: no Python for a key, 0.08 us where a loop takes 0.15.
            return self._put(_each_of(known, keys))
        except KeyError:
            found = self._hashed(keys, lengths)
        before = len(known)
        known.update(zip(keys, found, strict=True))
        self._missing += len(known) - before
        if len(known) >= MOST_KNOWN:
            known.clear()
            if self._missing > self._asked // 2:
                self._resting = REST
            self._asked = self._missing = 0
        return self._put(found)

    def _put(self, found: Iterable[list[int]]) -> list[list[int]]:
        for each in self._members:
            each.clear()
        deque(map(list.append, found, itertools.count()), 0)
        return self._members

    def _hashed(
        self, keys: Sequence[bytes], lengths: Sequence[int]
    ) -> Sequence[list[int]]:
        found = partitions_of(keys, lengths, self._count)
        return _each_of(self._members, found)


def partitions_of(
    keys: Sequence[bytes], lengths: Sequence[int], count: int
) -> list[int]:
    """
    The partition of each key among `count`, in the order of the keys.

    Args:
        lengths: Of the keys, known to the caller already.

    Source: Kafka's `BuiltInPartitioner.partitionForKey`.
    """
    if count == 1:
        return [0] * len(keys)
    first = lengths[0] if lengths else 0
    if 0 < first and lengths.count(first) == len(keys) >= FEW:
        return _lanes(keys, first, count)
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        groups.setdefault(length, []).append(index)
    found = [0] * len(keys)
    for length, members in groups.items():
        if length and len(members) >= FEW:
            parts = _lanes([keys[index] for index in members], length, count)
        else:
            parts = [partition_of(keys[index], count) for index in members]
        for index, part in zip(members, parts, strict=True):
            found[index] = part
    return found
