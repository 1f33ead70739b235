"""
Columns: the records of a parcel, column by column, as batches are filled from them.

Owns what is known of records before they are cut into batches: lengths, weights, and
the pieces that are the same whichever batch they go to.

Path: `sink.outlet`, `sink.filling` -> here; `sink.batch` fills batches from them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from operator import add, itemgetter
from typing import Any

from msgspec import Raw, Struct

from engine.records import KafkaHeaders

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


#: Keys and values shorter than this have their lengths written from tables; for
#: a longer one the way through `_any` costs nothing beside its bytes.
SHORT = 1 << 13

#: Records that are cut into batches at once; pages that APIs have are smaller.
SLICE = 10_000

_UPPER = [bytes((number,)) for number in range(128, 256, 2)]

#: A number; with the mark of a record that has no key before it; and the bytes
#: that something of this length takes together with its length.
#: One byte, then two: the first of two has its upper bit set.  To ask `varint` for each
#: of them was 5 ms of a start.
NUMBERS_SHORT = [bytes((low,)) for low in range(0, 128, 2)] + [
    low + high
    for high in [bytes((number,)) for number in range(1, 128)]
    for low in _UPPER
]
NO_KEY = b"\1"
KEYLESS = [NO_KEY + number for number in NUMBERS_SHORT]
WITH_LENGTH = [*range(1, 65), *range(66, SHORT + 2)]


def number_of(number: int) -> bytes:
    return NUMBERS_SHORT[number] if 0 <= number < SHORT else varint(number)


def headers_block(headers: KafkaHeaders) -> bytes:
    """Record headers as they stand at a record's end, their count first."""
    out = [varint(len(headers))]
    for name, value in headers:
        text = name.encode()
        out += [varint(len(text)), text]
        out += [b"\1"] if value is None else [varint(len(value)), value]
    return b"".join(out)


def each_of(table: Any, names: Sequence[int]) -> Sequence[Any]:
    """`table[name]` for each name, without a call for each."""
    # Hot path: an itemgetter takes 15 ns an item, a map over getitem 45.
    return itemgetter(*names)(table) if len(names) > 1 else (table[names[0]],)


class Column(Struct):
    """
    Records that are to stand one after the other.

    Attributes:
        values: Encoded values; None is a tombstone.
        lengths: Their lengths; 0 for a tombstone.
        keys: One for each value, or None: no record has one.
        key_lengths: Their lengths, 0 for a record without; None without keys.
        timestamps: Epoch milliseconds, one for all or one for each.
        headers: Header blocks, one for all or one for each.
        short: True if all of it can be written from tables: nothing is missing
            or long, and headers and timestamps are the same.
        weights: Bytes of each record without its framing.
        framing: The most bytes of framing a record has.
        template: Pieces of the records, heads and indexes left out; made with
            the first use, empty till then.
        sums: Weights of all records before each, and of all; made likewise.
        members: Where each record stands in the column it was picked from, or
            None: this is the first.
    """

    values: Sequence[bytes | Raw | None]
    lengths: Sequence[int]
    keys: Sequence[bytes | None] | None
    key_lengths: Sequence[int] | None
    timestamps: int | Sequence[int]
    headers: bytes | Sequence[bytes]
    short: bool
    weights: Sequence[int]
    framing: int
    template: list[Any] = []
    sums: list[int] = []
    members: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """Pieces of a record in the template."""
        return 4 if self.keys is None else 6

    def picked(self, members: Sequence[int]) -> Column:
        """The records at these places, in this order; at least one."""
        if len(members) == 1:
            cut: Callable[[Any], Any] = itemgetter(slice(members[0], members[0] + 1))
        else:
            cut = itemgetter(*members)
        stamps, headers = self.timestamps, self.headers
        return Column(
            cut(self.values),
            cut(self.lengths),
            cut(self.keys) if self.keys is not None else None,
            cut(self.key_lengths) if self.key_lengths is not None else None,
            stamps if isinstance(stamps, int) else cut(stamps),
            headers if isinstance(headers, bytes) else cut(headers),
            self.short,
            cut(self.weights),
            self.framing,
            members=members if self.members is None else cut(self.members),
        )

    def without_keys(self) -> Column:
        """The same records for any partition; none of them has a key."""
        made = column_from(self.values, None, self.timestamps, self.headers)
        made.members = self.members
        return made

    def slices(self) -> Iterator[Column]:
        """
        The same records, of a large page `SLICE` at once.

        What is made of a column when it is cut into batches is four objects a record,
        as much again as a large page itself takes beside its bytes.
        """
        if len(self) <= SLICE:
            yield self
            return
        for start in range(0, len(self), SLICE):
            yield self.picked(range(start, min(start + SLICE, len(self))))

    def weight(self, start: int, stop: int) -> int:
        """The most bytes that the records from `start` to `stop` take."""
        if stop - start == len(self) > SLICE:
            return sum(self.weights) + len(self) * self.framing
        sums = self.summed()
        return sums[stop] - sums[start] + (stop - start) * self.framing

    def summed(self) -> list[int]:
        """Weights of all records before each, and behind the last of all."""
        # Hot path: once for a page; the rest of a page summed anew for each of
        # its batches was half of what filling small batches cost.
        if not self.sums:
            self.sums = list(accumulate(self.weights, initial=0))
        return self.sums

    def origin(self, at: int) -> int:
        """Where the record stands in the column that all of it came from."""
        return at if self.members is None else self.members[at]

    def pieces(self, start: int, stop: int) -> list[Any]:
        """
        The records from `start` to `stop` in pieces, a place free for head and index.

        Only for `short` columns.
        """
        # Hot path: made once for a page, and cut for its partitions.
        width = self.width
        if not self.template:
            made = self.template = [b""] * (width * len(self))
            if self.keys is None:
                made[2::4] = each_of(KEYLESS, self.lengths)
                made[3::4] = self.values
            else:
                assert self.key_lengths is not None
                made[2::6] = each_of(NUMBERS_SHORT, self.key_lengths)
                made[3::6] = self.keys
                made[4::6] = each_of(NUMBERS_SHORT, self.lengths)
                made[5::6] = self.values
        return self.template[width * start : width * stop]


def column_of(
    values: Sequence[bytes | Raw | None],
    keys: Sequence[bytes | None] | None = None,
    timestamps: int | Sequence[int] = 0,
    headers: KafkaHeaders | Sequence[KafkaHeaders] = (),
    lengths: Sequence[int] | None = None,
) -> Column:
    """The columns of a parcel, as `records.Parcel` has them."""
    return column_from(values, keys, timestamps, _blocks(headers), lengths)


def column_from(
    values: Sequence[bytes | Raw | None],
    keys: Sequence[bytes | None] | None,
    timestamps: int | Sequence[int],
    headers: bytes | Sequence[bytes],
    lengths: Sequence[int] | None = None,
) -> Column:
    """The same with headers that are blocks already."""
    if lengths is None:
        lengths, longest = _lengths(values)
    else:
        longest = max(lengths, default=0)
    key_lengths = None
    if keys is not None:
        key_lengths, longest_key = _lengths(keys)
        longest = max(longest, longest_key)
    framing = RECORD_OVERHEAD
    weights: Sequence[int] = lengths
    short = (
        0 < len(lengths)
        and longest < SHORT
        and isinstance(headers, bytes)
        and isinstance(timestamps, int)
    )
    if short:
        weights = each_of(WITH_LENGTH, lengths)
        if key_lengths is not None:
            weights = list(map(add, weights, each_of(WITH_LENGTH, key_lengths)))
    elif key_lengths is not None:
        weights = list(map(add, lengths, key_lengths))
    if isinstance(headers, bytes):
        framing += len(headers)
    else:
        weights = list(map(add, weights, map(len, headers)))
    return Column(
        values,
        lengths,
        keys,
        key_lengths,
        timestamps,
        headers,
        short,
        weights,
        framing,
    )


def _lengths(texts: Sequence[Any]) -> tuple[list[int], int]:
    """Each length, and the longest; SHORT if one is missing."""
    try:
        lengths = list(map(len, texts))
    except TypeError:
        return [0 if text is None else len(text) for text in texts], SHORT
    return lengths, max(lengths, default=0)


def _blocks(headers: Iterable[Any]) -> bytes | list[bytes]:
    """Header sets are tuples of pairs: one set for all, or a list of such sets."""
    if isinstance(headers, tuple) and (
        not headers or (len(headers[0]) == 2 and isinstance(headers[0][0], str))
    ):
        return headers_block(headers)
    return [headers_block(each) for each in headers]
