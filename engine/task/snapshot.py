"""
Snapshot: the keys an api had, and what was produced of each.

Owns a table of a million keys in about 60 MB and which segments of the state tell of
them: those are written in order and never changed (their form is `task.segments`).  A
key's newest entry holds; a segment goes once nothing of it is the newest entry, the oldest
first, since an entry that says that a key is gone must outlive those it speaks of.

A row has the 128 bits by which a key is known, 64 bits of what was produced, and
where the key itself stands in a file: it is needed for a tombstone and for nothing
else.

Path: `task.diff` -> here -> `task.segments`
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Final

from xxhash import xxh3_64_intdigest, xxh3_128_digest

from engine.errors import SpoolError
from engine.records import Offset, Primitive
from engine.task.keybytes import KeyBytes
from engine.task.segments import SegmentEntries, packed, unpacked

#: Of an entry: its record may have been delivered or not, and it is gone.
UNKNOWN: Final = 0
GONE: Final = 1

#: Entries of a segment that is written to make room, and bytes of its keys.
ENTRIES: Final = 4096
KEY_BYTES: Final = 96 * 1024

#: Segments that are never too many, and the live keys for which there is one more.
FEW: Final = 64
KEYS_A_SEGMENT: Final = 1000

#: Bytes of keys that are gone which the file may have beside as many as are there.
SLACK: Final = 8 << 20

#: Row of slots whose key is gone; row 0 is that of free ones.
_DELETED: Final = 1
_ROWS: Final = 2


class KeyTable:
    """
    Keys, what was produced of each, and in which poll it was seen last.

    Args:
        spool: Where the file of the keys' bytes is made; it has no name.

    Raises: SpoolError, also from whatever takes in a key, where the disk has no room.

    Attributes:
        known: Keys at the beginning of the poll.
        found: Keys of this poll, each counted once.
        last: The highest number that a segment ever had, 0: none had one.
    """

    def __init__(self, spool: str | None = None):
        self.known = 0
        self.found = 0
        self.last = 0
        self._poll = 0
        # Row 0 stands for a free slot and row 1 for one whose key is gone: no key
        # has these 128 bits.
        self._low = array("Q", [0, 0])
        self._high = array("Q", [0, 0])
        self._content = array("Q", [GONE, GONE])
        self._place = array("Q", [0, 0])
        self._length = array("I", [0, 0])
        self._topic = array("H", [0, 0])
        self._segment = array("I", [0, 0])
        self._seen = array("I", [0, 0])
        self._index = array("I", bytes(4 * 1024))
        self._used = 0
        self._free: list[int] = []
        self._count = 0
        self._topics: list[str] = []
        self._seeds: list[int] = []
        self._file = KeyBytes(spool)
        #: Bytes in the file of keys that are there.
        self._bytes = 0
        #: Segment -> its entries, and how many of them are the newest of their key.
        self._entries: dict[int, int] = {}
        self._live: dict[int, int] = {}

    def __len__(self) -> int:
        return self._count

    def begin(self) -> None:
        """A poll starts from its first page: nothing was seen in it."""
        self._poll += 1
        self.known = self._count
        self.found = 0
        if self._file.end > 2 * self._bytes + SLACK:
            # Without room for another file this one does: it is as good, and larger.
            with contextlib.suppress(SpoolError):
                self._pack()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    # -- a page ------------------------------------------------------------------

    def changed(
        self,
        topics: str | Sequence[str],
        keys: Sequence[bytes],
        contents: Sequence[int],
        most: int,
    ) -> tuple[list[int], list[int], int]:
        """
        Which records of a page are to be produced: those of new keys, and those that
        are not what was produced of their key.  All of them count as seen.

        Args:
            topics: One for all, or one for each.
            contents: `content_of` of each.
            most: Keys at most.

        Returns: their places, their rows, and how many of them had been seen in this
            poll with other content.

        Raises: OverflowError for a key too many, SpoolError; nothing of the page is
            taken in then.
        """
        # Hot path: 0.7 us a record that is as it was.
        index, low, high = self._index, self._low, self._high
        content, seen, poll = self._content, self._seen, self._poll
        mask = len(index) - 1
        numbers = self._numbers(topics)
        halves = self._halves(numbers, keys)
        places: list[int] = []
        rows: list[int] = []
        fresh: list[bytes] = []
        before: list[int] = []
        found = again = 0
        at = self._file.end
        for place, (one, two, now) in enumerate(
            zip(halves[::2], halves[1::2], contents, strict=True)
        ):
            slot = one & mask
            row = index[slot]
            while row:
                if low[row] == one and high[row] == two:
                    break
                slot = slot + 1 & mask
                row = index[slot]
            if row:
                if content[row] != now:
                    again += seen[row] == poll
                    before.append(content[row])
                    content[row] = now
                    places.append(place)
                    rows.append(row)
                if seen[row] != poll:
                    seen[row] = poll
                    found += 1
                continue
            if self._count >= most:
                self._undo(rows, before)
                raise OverflowError
            key = keys[place]
            number = numbers if isinstance(numbers, int) else numbers[place]
            row = self._add(slot, one, two, number)
            self._keep(row, at, len(key))
            at += len(key)
            fresh.append(key)
            before.append(GONE)
            content[row] = now
            seen[row] = poll
            found += 1
            places.append(place)
            rows.append(row)
            if index is not self._index:
                index = self._index
                mask = len(index) - 1
        try:
            self._file.append(b"".join(fresh))
        except SpoolError:
            self._undo(rows, before)
            raise
        self.found += found
        return places, rows, again

    def gone(self) -> list[int]:
        """The rows of keys that were not seen in this poll."""
        if self.found >= self._count:
            return []
        poll = self._poll
        content = self._content
        return [
            row
            for row, seen in enumerate(self._seen)
            if seen != poll and content[row] != GONE and row >= _ROWS
        ]

    def key(self, row: int) -> tuple[str, bytes]:
        """The topic and the bytes of a key."""
        raw = self._file.read(self._place[row], self._length[row])
        return self._topics[self._topic[row]], raw

    def drop(self, rows: Iterable[int]) -> None:
        """Forget keys that are gone, once their entry says so."""
        for row in rows:
            self._remove(row)

    # -- segments ----------------------------------------------------------------

    def segment(
        self,
        number: int,
        rows: Sequence[int],
        *,
        sure: bool,
        gone: bool = False,
        keys: Mapping[int, bytes] | None = None,
    ) -> dict[str, Primitive]:
        """
        The segment of some rows as the state keeps it; its entries are from now on
        the newest of their keys.

        Args:
            number: Above that of any other.
            sure: What it says was delivered.  Else it holds from the position on that
                names it, and until then its keys may be there with any content.
            gone: Its keys are.
            keys: The bytes of the keys, by row, where they are at hand.
        """
        if keys is None:
            texts = [self.key(row)[1] for row in rows]
        else:
            texts = [keys[row] for row in rows]
        contents = array("Q", [self._content[row] for row in rows])
        if gone:
            contents = array("Q", [GONE]) * len(rows)
        for row in rows:
            before = self._segment[row]
            if before in self._live:
                self._live[before] -= 1
            self._segment[row] = number
        self.last = number
        self._entries[number] = len(rows)
        self._live[number] = len(rows)
        topics = array("H", [self._topic[row] for row in rows])
        lengths = array("I", map(len, texts))
        entries = SegmentEntries(
            names=self._topics,
            topics=topics,
            contents=contents,
            lengths=lengths,
            keys=b"".join(texts),
        )
        return packed(entries, sure=sure)

    def load(self, number: int, stored: Offset, confirmed: int) -> list[int]:
        """
        Take in a stored segment; the oldest first.

        Args:
            confirmed: The newest one whose records were all delivered.

        Returns: the rows of which is not known what was delivered.

        Raises: StateError for what it did not write.
        """
        entries = unpacked(number, stored)
        contents, lengths, blob = entries.contents, entries.lengths, entries.keys
        self.last = max(self.last, number, confirmed)
        holds = stored.get("sure") is True or number <= confirmed
        mapped = [self._number(name) for name in entries.names]
        unsure: list[int] = []
        at = self._file.end
        self._file.append(blob)
        self._entries[number] = len(lengths)
        self._live.setdefault(number, 0)
        place = 0
        keys = []
        for length in lengths:
            keys.append(blob[place : place + length])
            place += length
        numbers = [mapped[topic] for topic in entries.topics]
        halves = self._halves(numbers, keys)
        low, high = self._low, self._high
        for which, (one, two, content) in enumerate(
            zip(halves[::2], halves[1::2], contents, strict=True)
        ):
            index = self._index
            mask = len(index) - 1
            slot = one & mask
            row = index[slot]
            while row and not (low[row] == one and high[row] == two):
                slot = slot + 1 & mask
                row = index[slot]
            length = lengths[which]
            if content == GONE and holds:
                if row:
                    self._remove(row)
                at += length
                continue
            if not row:
                row = self._add(slot, one, two, numbers[which])
            else:
                before = self._segment[row]
                if before in self._live:
                    self._live[before] -= 1
            self._keep(row, at, length)
            self._segment[row] = number
            self._live[number] += 1
            self._content[row] = content if holds else UNKNOWN
            if not holds:
                unsure.append(row)
            at += length
        return unsure

    def outworn(self) -> tuple[list[int], list[int]]:
        """
        The oldest segments, where too many tell of what is no more, and the rows that
        have to be written anew before those are forgotten.
        """
        entries = sum(self._entries.values())
        segments = len(self._entries)
        most = 2 * self._count + ENTRIES
        many = FEW + self._count // KEYS_A_SEGMENT
        victims: list[int] = []
        moved = 0
        for number in sorted(self._entries):
            if entries <= most and segments <= many:
                break
            victims.append(number)
            moved += self._live[number]
            entries -= self._entries[number] - self._live[number]
            # What is moved is packed close.
            segments = len(self._entries) - len(victims) + moved // ENTRIES + 1
        if not victims:
            return [], []
        among = set(victims)
        rows = [
            row
            for row, number in enumerate(self._segment)
            if number in among and row >= _ROWS and self._content[row] != GONE
        ]
        return victims, rows

    def forgotten(self, numbers: Iterable[int]) -> None:
        """These segments are stored no more."""
        for number in numbers:
            self._entries.pop(number, None)
            self._live.pop(number, None)

    def parcels(self, rows: Sequence[int]) -> Iterator[list[int]]:
        """Rows in pieces of the size of a segment."""
        piece: list[int] = []
        size = 0
        for row in rows:
            length = self._length[row]
            if piece and (len(piece) >= ENTRIES or size + length > KEY_BYTES):
                yield piece
                piece, size = [], 0
            piece.append(row)
            size += length
        if piece:
            yield piece

    # -- inside ------------------------------------------------------------------

    def _numbers(self, topics: str | Sequence[str]) -> int | list[int]:
        if isinstance(topics, str):
            return self._number(topics)
        return [self._number(topic) for topic in topics]

    def _number(self, topic: str) -> int:
        try:
            return self._topics.index(topic)
        except ValueError:
            if len(self._topics) > 0xFFFF:
                raise OverflowError from None
            self._topics.append(topic)
            self._seeds.append(xxh3_64_intdigest(topic.encode()))
            return len(self._topics) - 1

    def _halves(
        self, numbers: int | Sequence[int], keys: Sequence[bytes]
    ) -> array[int]:
        seeds = self._seeds
        each = (
            repeat(seeds[numbers])
            if isinstance(numbers, int)
            else [seeds[number] for number in numbers]
        )
        return array("Q", b"".join(map(xxh3_128_digest, keys, each)))

    def _add(self, slot: int, one: int, two: int, topic: int) -> int:
        """A row for a key that is not there; its slot is the free one found."""
        if self._free:
            row = self._free.pop()
            self._low[row], self._high[row] = one, two
            self._topic[row] = topic
            self._content[row] = UNKNOWN
            self._segment[row] = self._seen[row] = 0
            self._length[row] = 0
        else:
            row = len(self._low)
            self._low.append(one)
            self._high.append(two)
            self._topic.append(topic)
            self._content.append(UNKNOWN)
            self._place.append(0)
            self._length.append(0)
            self._segment.append(0)
            self._seen.append(0)
        self._index[slot] = row
        self._count += 1
        self._used += 1
        if 3 * self._used > 2 * len(self._index):
            self._rebuild()
        return row

    def _remove(self, row: int) -> None:
        index = self._index
        mask = len(index) - 1
        slot = self._low[row] & mask
        while index[slot] != row:
            slot = slot + 1 & mask
        index[slot] = _DELETED
        segment = self._segment[row]
        if segment in self._live:
            self._live[segment] -= 1
        self._content[row] = GONE
        self._bytes -= self._length[row]
        self._low[row] = self._high[row] = 0
        self._free.append(row)
        self._count -= 1

    def _undo(self, rows: Sequence[int], before: Sequence[int]) -> None:
        """Take back what a page did to these rows, whose contents were these; the last first."""
        for row, content in zip(reversed(rows), reversed(before), strict=True):
            if content == GONE:
                self._remove(row)
            else:
                self._content[row] = content

    def _rebuild(self) -> None:
        size = 1024
        while size < 2 * self._count:
            size *= 2
        index = array("I", bytes(4 * size))
        mask = size - 1
        content = self._content
        for row, low in enumerate(self._low):
            if content[row] == GONE:
                continue
            slot = low & mask
            while index[slot]:
                slot = slot + 1 & mask
            index[slot] = row
        self._index = index
        self._used = self._count

    def _keep(self, row: int, at: int, length: int) -> None:
        """Where the bytes of a key stand."""
        self._bytes += length - self._length[row]
        self._place[row] = at
        self._length[row] = length

    def _pack(self) -> None:
        """The bytes of the keys that are there, in a file of their own."""
        content = self._content
        rows = [n for n, is_ in enumerate(content) if is_ != GONE and n >= _ROWS]
        some = (rows[at : at + ENTRIES] for at in range(0, len(rows), ENTRIES))
        fresh = self._file.copied(
            b"".join(self.key(row)[1] for row in each) for each in some
        )
        at = 0
        for row in rows:
            self._place[row] = at
            at += self._length[row]
        self._file.close()
        self._file, self._bytes = fresh, at
