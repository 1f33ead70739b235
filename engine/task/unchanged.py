"""
Unchanged: pages that would put into Kafka what is there already.

Owns the comparison of what a page would produce with what the same place of the
poll before has produced, and the form in which that is remembered in the state.
Judged is what comes out of all rules (topics, keys, values, headers, dead
letters) and what was asked, never the body alone: what a rule reads beside it
(the time, a zone, a header, a module) shows in what it makes.  Where anything is
not known, the page is produced.

A chain has no twin in another poll and is not looked at.  Knows nothing of the
cache: a page is the same by what becomes of it, whether it was kept or sent again.

Path: `task.memory` (Parcel) -> here
"""

from __future__ import annotations

import base64
import binascii
import struct
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from xxhash import xxh3_64, xxh3_64_hexdigest

from engine.clock import SYSTEM, Clock
from engine.errors import StateError
from engine.records import (
    Encoded,
    KafkaHeaders,
    Page,
    Parcel,
    Primitive,
    in_pieces,
)

#: Records that are joined at once to be hashed.
PIECE = 10_000

#: Bytes of a hash, and pages of which one is kept; later ones are produced.
WIDTH = 8
MOST_PAGES = 10_000

#: Keys of one poll's produced records that are remembered; past it every later
#: page of the poll is produced.
MOST_KEYS = 100_000

#: Polls in a row in which a page has changed, after which it is not stored: it will
#: have changed again before a restart could make use of it.
RESTLESS = 3

#: Milliseconds of the unit in which it is kept when a page was produced.
TENTH = 100

#: Stands for a page of which nothing is known; no page has it.
_UNKNOWN = bytes(WIDTH)

#: The length of a record that is null, where lengths are hashed.
_NULL = 2**32 - 1

#: Headers that say which delivery it was, and not what was delivered.
PROVENANCE = frozenset({"khttp-id"})


class TopicOf(Protocol):
    """What is known of a topic beside its name; see `sink.identity`."""

    @property
    def id(self) -> str:
        """Which topic of that name, of which cluster."""

    @property
    def retention(self) -> float | None:
        """Seconds after which its records go, None: never, or nobody says."""

    @property
    def emptied_ms(self) -> int:
        """Wall milliseconds at which it was found empty, 0: it was not."""


class Unchanged:
    """
    One source partition's memory of its pages, for mode FULL.

    Args:
        stored: What `finished` gave the last time, out of the state.
        topic: What is known of a topic; None: nothing.
        max_age: `cache.unchanged.max.age.seconds`: None: each topic's retention;
            0.0: no page is too old.
        count: Over how many shards the pages are dealt.
        chain: The pages come out of one another.  Only the first has a twin in
            another poll; it is taken off where the API itself said that nothing
            changed, or where it is all there is.
        stamped: A record's timestamp is a rule's to say, and not the time.
        unique: Request headers, in lower case, that are another each time.

    Raises: StateError for a stored value it did not write.
    """

    def __init__(
        self,
        stored: Mapping[str, Primitive] | None = None,
        *,
        topic: Callable[[str], TopicOf | None],
        max_age: float | None = None,
        count: int = 1,
        chain: bool = False,
        stamped: bool = False,
        unique: Iterable[str] = (),
        clock: Clock = SYSTEM,
    ) -> None:
        self._topic = topic
        self._max_age = max_age
        self._count = count
        self._chain = chain
        self._stamped = stamped
        self._unique = frozenset(unique)
        self._wall_ms = clock.wall_ms
        #: Place -> what it produced, and when, of the last finished poll; of this.
        self._before = _read(stored)
        self._now: dict[int, tuple[bytes, int]] = {}
        #: Places that produced in this poll, and for how many in a row others did.
        self._changed: set[int] = set()
        self._in_a_row: dict[int, int] = {}
        self._keys: set[bytes] | None = set()
        self._whole = True
        self._seal = seal_of(stored)
        #: Places of which something is stored that a delivery could make wrong.
        self._vouched = set(self._before)
        #: True if the page that was judged last is one of them, and is produced.
        self.forgets = False

    def begin(self, *, whole: bool = True, seal: str = "") -> None:
        """
        A poll starts.

        Args:
            whole: From its first page.  The places of one that is taken up in
                its middle are not those of a whole one: nothing is taken off,
                and the next poll produces everything.
            seal: What the position of the poll before says of what is
                remembered.  Where it says anything else, somebody has
                delivered meanwhile who remembers nothing.
        """
        self._now = {}
        self._changed = set()
        self._keys = set()
        self._whole = whole
        if not whole or seal != self._seal:
            self._before = {}

    def judge(self, parcel: Parcel) -> bool:
        """True if all that a page would produce is there, from the last poll on."""
        page = parcel.page
        self.forgets = False
        if page.response.request.chained or not self._whole:
            return False
        place = page.index // self._count
        if place >= MOST_PAGES:
            return False
        found, oldest = self._digest(parcel, self._wall_ms())
        before = self._before.get(place)
        alone = not self._chain or page.last or page.response.origin != "network"
        if (
            alone
            and before is not None
            and before[0] == found
            and before[1] >= oldest
            and not self._overtaken(parcel)
        ):
            self._now[place] = before
            return True
        # What is delivered now is newer than the poll before: should this
        # one not be finished, the old page must not pass for it again.
        self._before.pop(place, None)
        self._changed.add(place)
        self.forgets = place in self._vouched
        if found is not None:
            # Later than every look at its topic so far.
            self._now[place] = found, self._wall_ms()
        self._remember_keys(parcel)
        return False

    def finished(self, poll: int) -> dict[str, Primitive]:
        """
        The poll is over, delivered to its last page: what the state keeps.

        Pages of other shards, those left out, and those that change in every poll
        stand as unknown: what is stored must be forgotten before such a page is
        produced, and that would cost each of its polls a write.
        """
        stored = self._stored(poll)
        self._before, self._now = self._now, {}
        self._in_a_row = {
            place: self._in_a_row.get(place, 0) + 1 for place in self._changed
        }
        self._changed = set()
        self._seal = seal_of(stored)
        self._vouched = set(_read(stored))
        return stored

    def seal(self, poll: int) -> str:
        """What a position says of what `finished` will store for its poll."""
        return seal_of(self._stored(poll))

    def _stored(self, poll: int) -> dict[str, Primitive]:
        pages = {
            place: one
            for place, one in self._now.items()
            if place not in self._changed or self._in_a_row.get(place, 0) < RESTLESS
        }
        last = max(pages, default=-1)
        base = min((when for _, when in pages.values()), default=0)
        hashes, times = bytearray(), array("I")
        for place in range(last + 1):
            digest, when = pages.get(place, (_UNKNOWN, base))
            hashes += digest
            times.append(min(-(-(when - base) // TENTH), 2**32 - 1))
        return {
            "poll": poll,
            "hashes": base64.b64encode(hashes).decode(),
            "since": base,
            "produced": base64.b64encode(_little(times).tobytes()).decode(),
        }

    def _digest(self, parcel: Parcel, now: int) -> tuple[bytes | None, int]:
        """
        (what it would produce, wall milliseconds since when that may be there);
        None: it cannot be known.
        """
        parcel = parcel.content or parcel
        page = parcel.page
        digest = xxh3_64(self._asked(page))
        oldest = 0
        if len(parcel.values):
            topics = parcel.topic
            names = [topics] if isinstance(topics, str) else list(dict.fromkeys(topics))
            for name in names:
                known = self._topic(name)
                if known is None:
                    return None, 0
                digest.update(f"{name}\0{known.id}\0".encode())
                limit = known.retention if self._max_age is None else self._max_age
                if limit:
                    oldest = max(oldest, now - round(limit * 1000))
                oldest = max(oldest, known.emptied_ms)
            if not isinstance(topics, str):
                _add_texts(digest, topics)
        _add(digest, parcel.values, parcel.lengths)
        if parcel.keys is not None:
            _add(digest, parcel.keys, parcel.key_lengths)
        if self._stamped:
            stamps = parcel.timestamps
            told = stamps if isinstance(stamps, int) else list(stamps)
            digest.update(repr(told).encode())
        _add_headers(digest, parcel.headers)
        for letter in parcel.letters:
            digest.update(
                f"{letter.index}\0{letter.stage}\0{letter.message}\0".encode()
            )
            digest.update(letter.value)
        return digest.digest(), oldest

    def _asked(self, page: Page) -> bytes:
        """What was asked: other events may look the same."""
        request = page.response.request
        parts = [request.method, request.url, repr(page.window)]
        for name, value in request.headers:
            if name.lower() not in self._unique:
                parts += [name.lower(), value]
        return "\0".join(parts).encode() + b"\0" + (request.body or b"")

    def _overtaken(self, parcel: Parcel) -> bool:
        """
        True if a page of this poll has produced one of its keys again.

        In every poll the later page has the last word; were it left out here, the
        earlier one would.
        """
        if self._keys is None:
            return bool(parcel.keys)
        if not self._keys or parcel.keys is None:
            return False
        return not self._keys.isdisjoint(key for key in parcel.keys if key is not None)

    def _remember_keys(self, parcel: Parcel) -> None:
        # Only where a later page could still be left out.
        if not self._before or self._keys is None or parcel.keys is None:
            return
        self._keys.update(key for key in parcel.keys if key is not None)
        if len(self._keys) > MOST_KEYS:
            self._keys = None


def seal_of(stored: Mapping[str, Any] | None) -> str:
    """What names a stored value in the position that vouches for it; "": nothing."""
    if stored is None or not stored.get("hashes"):
        return ""
    parts = (stored.get(name) for name in ("hashes", "since", "produced"))
    return xxh3_64_hexdigest("\0".join(map(str, parts)).encode())


def pages_known(stored: Mapping[str, Any] | None) -> int:
    """How many pages a stored value tells of; 0 for one that cannot be read."""
    try:
        return len(_read(stored))
    except StateError:
        return 0


def _read(stored: Mapping[str, Any] | None) -> dict[int, tuple[bytes, int]]:
    if stored is None:
        return {}
    if "since" not in stored and "hashes" in stored:
        # Of a version that judged pages by their bodies: not to be compared.
        return {}
    try:
        raw = base64.b64decode(stored["hashes"], validate=True)
        times = array("I", base64.b64decode(stored["produced"], validate=True))
        base = stored["since"]
    except (KeyError, TypeError, ValueError, binascii.Error) as failure:
        raise StateError(f"the stored hashes of pages cannot be read: {failure}") from (
            failure
        )
    if len(raw) != WIDTH * len(times) or not isinstance(base, int):
        raise StateError("the stored hashes of pages are cut")
    pieces = (raw[n : n + WIDTH] for n in range(0, len(raw), WIDTH))
    return {
        place: (piece, base + when * TENTH)
        for place, (piece, when) in enumerate(zip(pieces, _little(times), strict=True))
        if piece != _UNKNOWN
    }


def _little(numbers: array[int]) -> array[int]:
    """As they are stored: little-endian on every machine."""
    if struct.pack("=I", 1) != struct.pack("<I", 1):
        numbers = array("I", numbers)
        numbers.byteswap()
    return numbers


def _add(
    digest: Any,
    column: Sequence[Encoded | None],
    lengths: Sequence[int] | None = None,
) -> None:
    """A column, with its lengths: no two columns have the same bytes."""
    # Hot path: 25 us for 500 records.  To ask each whether it is null costs more
    # than to find out that one has no length.
    whole: Any = column
    try:
        found: Iterable[int] = lengths or array("I", map(len, whole))
    except TypeError:
        found = [_NULL if each is None else len(each) for each in column]
    heads = array("I", [len(column)])
    heads.extend(found)
    digest.update(_little(heads))
    # A large page joined whole would stand in memory once more.
    for piece in in_pieces(whole, PIECE):
        try:
            text = b"".join(piece)
        except TypeError:
            text = b"".join([each for each in piece if each is not None])
        digest.update(text)


def _add_texts(digest: Any, texts: Sequence[str]) -> None:
    _add(digest, [text.encode() for text in texts])


def _add_headers(digest: Any, headers: KafkaHeaders | Sequence[KafkaHeaders]) -> None:
    if not headers:
        return
    # One set for all has names in it, one for each record has sets.
    first = headers[0]
    alike = len(first) == 2 and isinstance(first[0], str)
    sets: Any = [headers] if alike else headers
    for each in sets:
        kept = [pair for pair in each if pair[0] not in PROVENANCE]
        _add_texts(digest, [name for name, _ in kept])
        _add(digest, [value for _, value in kept])
