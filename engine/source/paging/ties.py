"""
Ties: which records were delivered of those that an API will send again.

Owns the hashes of records by their offset value, how they lie in a position, and how many
there may be.  A record counts as often as it came: two that are alike are two.

Path: `source.paging.bookmark` -> here -> `source.paging.position`
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec
from msgspec import Raw

from engine.errors import StateError
from engine.records import Primitive
from engine.source.paging.position import DIGEST, digest, text_in
from engine.source.paging.values import Key

#: Most hashes that are kept at a bookmark, and within a lookback.
MOST_TIES: Final = 10_000
MOST_BACK: Final = 50_000


class Ties:
    """
    A multiset of records: their hash, and the value that they came with.

    A value of None is not known, or no value: it is never pruned by another one.
    """

    __slots__ = ("_counts", "_keys")

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}
        self._keys: dict[bytes, Key | None] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def __bool__(self) -> bool:
        return bool(self._counts)

    def __iter__(self) -> Iterator[tuple[bytes, Key | None]]:
        return iter(self._keys.items())

    def add(self, found: bytes, key: Key | None, times: int = 1) -> None:
        """A record has come, or so many that are alike."""
        self._counts[found] = self._counts.get(found, 0) + times
        self._keys[found] = key

    def take(self, found: bytes) -> bool:
        """True if one of these was delivered; it is one less then."""
        count = self._counts.get(found, 0)
        if not count:
            return False
        if count == 1:
            del self._counts[found], self._keys[found]
        else:
            self._counts[found] = count - 1
        return True

    def prune(self, floor: Key | None) -> None:
        """Forget what lies below a value: no request brings it again."""
        if floor is None:
            return
        gone = [
            found
            for found, key in self._keys.items()
            if key is not None and _below(key, floor)
        ]
        for found in gone:
            del self._counts[found], self._keys[found]

    def merged(self, other: Ties, *, most: bool = False) -> Ties:
        """
        The values of two sets of ties as one set.

        Args:
            most: What is in both is the same, and counts as often as in either.
        """
        made = self.copy()
        for found, count in other._counts.items():
            have = made._counts.get(found, 0)
            made._counts[found] = max(have, count) if most else have + count
            made._keys[found] = other._keys[found]
        return made

    def copy(self) -> Ties:
        made = Ties()
        made._counts = dict(self._counts)
        made._keys = dict(self._keys)
        return made

    def bound(self, most: int) -> int:
        """
        Forget the smallest values beyond so many; how many were forgotten.

        What is forgotten is delivered again where it comes again, and never lost.
        """
        over = len(self._counts) - most
        if over <= 0:
            return 0
        known = [pair for pair in self._keys.items() if pair[1] is not None]
        unknown = [found for found, key in self._keys.items() if key is None]
        known.sort(key=lambda pair: pair[1])  # type: ignore[arg-type,return-value]
        for found in [*unknown, *(found for found, _ in known)][:over]:
            del self._counts[found], self._keys[found]
        return over

    @property
    def top(self) -> Key | None:
        """The largest value, or None: nothing is kept, or one is not known."""
        if not self._keys or None in self._keys.values():
            return None
        return max(self._keys.values())  # type: ignore[type-var]

    # -- in a position -----------------------------------------------------------

    def write(self, name: str, position: dict[str, Primitive]) -> None:
        """
        Put it into a position: `name` has the hashes, ascending by value, and
        `name.at` how far each value lies above the one before, where they are numbers.
        """
        if not self._counts:
            return
        numbered = all(isinstance(key, int | Decimal) for key in self._keys.values())
        items = list(self._keys.items())
        if numbered:
            items.sort(key=lambda pair: (pair[1], pair[0]))
        else:
            items.sort(key=lambda pair: pair[0])
        hashes, steps, before = bytearray(), bytearray(), 0
        for found, key in items:
            # A fraction is rounded up: it is pruned late, and not early.
            at = math.ceil(key) if isinstance(key, int | Decimal) else 0
            for _ in range(self._counts[found]):
                hashes += found
                _put(steps, at - before)
                before = at
        position[name] = base64.b64encode(hashes).decode()
        if numbered and before:
            position[f"{name}.at"] = base64.b64encode(steps).decode()

    @classmethod
    def read(cls, name: str, position: Mapping[str, Primitive]) -> Ties:
        """
        Out of a position.

        Raises: StateError: it cannot be read.
        """
        made = cls()
        hashes = _data(position, name)
        if len(hashes) % DIGEST:
            raise StateError(f"the stored offset's {name} are cut")
        steps = _data(position, f"{name}.at")
        place, at = 0, 0
        known = f"{name}.at" in position
        for start in range(0, len(hashes), DIGEST):
            if known:
                step, place = _got(steps, place, name)
                at += step
            made.add(hashes[start : start + DIGEST], at if known else None)
        if known and place != len(steps):
            raise StateError(f"the stored offset's {name}.at does not fit its hashes")
        return made


_decode = msgspec.json.Decoder().decode

#: Names by which a record says which one it is.
_IDENTITY: Final = frozenset({"id", "_id", "Id", "ID", "uuid", "guid"})
#: Members in which APIs wrap a record: GraphQL's edges, listings that say its kind.
_WRAPPED: Final = ("node", "data")


class PageEdge:
    """
    The end of the page before, of numbered pages that have the newest first.

    Who is added in front while they are read shifts the others onto the next page: it
    begins then with what stood at the end of the one before.  Two records that are alike
    at the edge of a page look the same; only one that says which it is (`id`) is known to
    have slid, since to produce twice is better than to lose one.
    """

    def __init__(self) -> None:
        self._before: list[bytes] = []
        #: False once two records of a page were alike: what repeats says nothing then.
        self._unlike = True

    def slid(self, records: Sequence[Raw]) -> int:
        """How many records in front of a page ended the page before."""
        found = [digest(record) for record in records]
        before, self._before = self._before, found
        if len(set(found)) < len(found):
            self._unlike = False
        if not self._unlike or not before or found[0] not in before:
            return 0
        ended = before[before.index(found[0]) :]
        if found[: len(ended)] != ended:
            return 0
        return len(ended) if all(map(_identified, records[: len(ended)])) else 0


def _identified(record: Raw) -> bool:
    """Whether a record, or what it wraps, says which one it is."""
    try:
        members = _decode(record)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # What comes of a record that is broken is decided where it is decoded for good.
        return False
    if not isinstance(members, dict):
        return False
    wrapped = [members.get(name) for name in _WRAPPED]
    return any(
        isinstance(each, dict) and any(each.get(name) is not None for name in _IDENTITY)
        for each in (members, *wrapped)
    )


def _below(key: Key, floor: Key) -> bool:
    if isinstance(key, str) or isinstance(floor, str):
        return str(key) < str(floor)
    return key < floor


def _put(data: bytearray, number: int) -> None:
    """A signed number in as few bytes as it needs, seven bits each."""
    number = number * 2 if number >= 0 else -number * 2 - 1
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)


def _got(data: bytes, place: int, name: str) -> tuple[int, int]:
    number = shift = 0
    while place < len(data):
        part = data[place]
        place += 1
        number |= (part & 127) << shift
        shift += 7
        if part < 128:
            return (number >> 1) ^ -(number & 1), place
    raise StateError(f"the stored offset's {name}.at is cut")


def _data(position: Mapping[str, Primitive], name: str) -> bytes:
    text = text_in(position, name)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise StateError(f"the stored offset's {name} is not base64") from e
