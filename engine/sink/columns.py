"""
Columns: the records of a parcel, column by column, as batches are filled from them.

Owns what is known of records before they are cut into batches: lengths, weights, and
the pieces that are the same whichever batch they go to.

Path: `sink.outlet`, `sink.filling` -> here; `sink.batch` fills batches from them
"""

from __future__ import annotations

from array import array
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


#: The most bytes that the length of something short takes.
LENGTH_MOST = 2

#: Key lengths whose tables of `numbered` are kept, each of at most SHORT texts.
MOST_NUMBERED = 8

_numbered: dict[int, list[bytes]] = {}


def numbers(first: int, last: int) -> list[bytes]:
    """The numbers from `first` to below `last`."""
    found = NUMBERS_SHORT[first:last]
    if last > SHORT:
        found += [varint(at) for at in range(max(first, SHORT), last)]
    return found


def numbered(first: int, last: int, length: int) -> list[bytes]:
    """The numbers from `first` to below `last`, each with a key's length behind it."""
    known = _numbered.get(length)
    kept = min(last, SHORT)
    if known is None or len(known) < kept:
        if known is None and len(_numbered) >= MOST_NUMBERED:
            _numbered.clear()
        end = number_of(length)
        # A new list: another thread may be reading the shorter one.
        size = 1 << (kept - 1).bit_length()
        known = _numbered[length] = [each + end for each in NUMBERS_SHORT[:size]]
    found = known[first:last]
    if last > SHORT:
        end = number_of(length)
        found += [each + end for each in numbers(max(first, SHORT), last)]
    return found


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
        framing: The most bytes of framing a record has, `fixed` among them.
        fixed: Bytes of a record beside its weight that are the same for all: of lengths,
            and of keys of one length.
        alike: The length that all keys have, of a short column; -1 where they differ
            or there are none.
        total: All weights.
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
    fixed: int
    alike: int
    total: int
    template: list[Any] = []
    sums: list[int] = []
    members: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """Pieces of a record in the template."""
        if self.keys is None:
            return 4
        return 6 if self.alike < 0 else 5

    def picked(self, members: Sequence[int]) -> Column:
        """The records at these places, in this order; at least one."""
        return self._cut(self._cutter(members), members)

    def _cutter(self, members: Sequence[int]) -> Callable[[Any], Any]:
        if len(members) == 1:
            return itemgetter(slice(members[0], members[0] + 1))
        return itemgetter(*members)

    def _places(
        self, members: Sequence[int], cut: Callable[[Any], Any]
    ) -> Sequence[int]:
        # Hot path: kept until the records are acknowledged.  Four bytes each in place of
        # an object, which would have to be made for each page anew and which each
        # collection would look at.
        places = members if self.members is None else cut(self.members)
        return places if isinstance(places, range) else array("I", places)

    def _cut(self, cut: Callable[[Any], Any], members: Sequence[int]) -> Column:
        """The records at these places, which `cut` takes out of any sequence."""
        stamps, headers = self.timestamps, self.headers
        key_lengths = self.key_lengths
        if key_lengths is not None:
            # Hot path: keys of one length are not picked once more.
            alike = self.alike >= 0
            key_lengths = key_lengths[: len(members)] if alike else cut(key_lengths)
        lengths = cut(self.lengths)
        weights = lengths if self.weights is self.lengths else cut(self.weights)
        whole = len(members) == len(self)
        return Column(
            cut(self.values),
            lengths,
            cut(self.keys) if self.keys is not None else None,
            key_lengths,
            stamps if isinstance(stamps, int) else cut(stamps),
            headers if isinstance(headers, bytes) else cut(headers),
            self.short,
            weights,
            self.framing,
            self.fixed,
            self.alike,
            self.total if whole else sum(weights),
            members=self._places(members, cut),
        )

    def separated(self, members: Sequence[int], keyed: bool) -> Column:
        """
        The records at these places, all of which have a key, or none.

        Whether they are `short` is asked anew: without the others they may be.
        """
        cut = self._cutter(members)
        stamps, headers = self.timestamps, self.headers
        made = column_from(
            cut(self.values),
            cut(self.keys) if keyed else None,
            stamps if isinstance(stamps, int) else cut(stamps),
            headers if isinstance(headers, bytes) else cut(headers),
        )
        made.members = self._places(members, cut)
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
            stop = min(start + SLICE, len(self))
            yield self._cut(itemgetter(slice(start, stop)), range(start, stop))

    def weight(self, start: int, stop: int) -> int:
        """The most bytes that the records from `start` to `stop` take."""
        if stop - start == len(self):
            return self.total + len(self) * self.framing
        if self.sums:
            weights = self.sums[stop] - self.sums[start]
        else:
            weights = sum(self.weights[start:stop])
        return weights + (stop - start) * self.framing

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
            elif self.alike >= 0:
                # The key's length stands beside the index.
                made[2::5] = self.keys
                made[3::5] = each_of(NUMBERS_SHORT, self.lengths)
                made[4::5] = self.values
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
    key_lengths: Sequence[int] | None = None,
) -> Column:
    """The columns of a parcel, as `records.Parcel` has them."""
    blocks = _blocks(headers)
    return column_from(values, keys, timestamps, blocks, lengths, key_lengths)


def column_from(
    values: Sequence[bytes | Raw | None],
    keys: Sequence[bytes | None] | None,
    timestamps: int | Sequence[int],
    headers: bytes | Sequence[bytes],
    lengths: Sequence[int] | None = None,
    key_lengths: Sequence[int] | None = None,
) -> Column:
    """The same with headers that are blocks already."""
    if lengths is None:
        lengths, longest = _lengths(values)
    else:
        longest = max(lengths, default=0)
    framing, fixed, alike = RECORD_OVERHEAD, 0, -1
    if keys is None:
        key_lengths = None
    elif key_lengths is None:
        key_lengths, longest_key = _lengths(keys)
        longest = max(longest, longest_key)
    if key_lengths:
        # Hot path: most keys have one length, which is told in 1 us a page.
        first = key_lengths[0]
        if key_lengths.count(first) == len(key_lengths):
            alike = first
        longest = max(longest, alike if alike >= 0 else max(key_lengths))
    weights: Sequence[int] = lengths
    short = (
        0 < len(lengths)
        and longest < SHORT
        and isinstance(headers, bytes)
        and isinstance(timestamps, int)
    )
    if short:
        # Hot path: what is the same for all is framing, and no pass over the records.
        if key_lengths is None:
            fixed = LENGTH_MOST
        elif alike >= 0:
            fixed = LENGTH_MOST + WITH_LENGTH[alike]
        else:
            weights = _with_lengths(lengths)
            weights = _numbers(map(add, weights, _with_lengths(key_lengths)), lengths)
    elif key_lengths is not None:
        alike = -1
        weights = _numbers(map(add, lengths, key_lengths), lengths)
    if isinstance(headers, bytes):
        framing += len(headers)
    else:
        weights = _numbers(map(add, weights, map(len, headers)), lengths)
    return Column(
        values,
        lengths,
        keys,
        key_lengths,
        timestamps,
        headers,
        short,
        weights,
        framing + fixed,
        fixed,
        alike,
        sum(weights),
    )


def _with_lengths(lengths: Sequence[int]) -> Sequence[int]:
    """What texts of these lengths take together with their lengths."""
    if len(lengths) <= SLICE:
        return each_of(WITH_LENGTH, lengths)
    found = array("I")
    for start in range(0, len(lengths), SLICE):
        found.extend(each_of(WITH_LENGTH, lengths[start : start + SLICE]))
    return found


def _numbers(found: Iterable[int], like: Sequence[int]) -> Sequence[int]:
    """One number for each record; of a large page four bytes each, and no objects."""
    return list(found) if len(like) <= SLICE else array("I", found)


def _lengths(texts: Sequence[Any]) -> tuple[Sequence[int], int]:
    """Each length, and the longest; SHORT if one is missing."""
    try:
        lengths = _numbers(map(len, texts), texts)
    except TypeError:
        if len(texts) <= SLICE:
            return [0 if text is None else len(text) for text in texts], SHORT
        return array("I", (0 if text is None else len(text) for text in texts)), SHORT
    return lengths, max(lengths, default=0)


def _blocks(headers: Iterable[Any]) -> bytes | list[bytes]:
    """Header sets are tuples of pairs: one set for all, or a list of such sets."""
    if isinstance(headers, tuple) and (
        not headers or (len(headers[0]) == 2 and isinstance(headers[0][0], str))
    ):
        return headers_block(headers)
    return [headers_block(each) for each in headers]
