"""
Records: the values that travel from an HTTP API to Kafka.

Owns their shapes and nothing else: no I/O, no rules.  A page is the unit of
work, a record the unit of accounting; `Page` is what `source` hands to
`transform`, `Parcel` what `transform` hands to `sink`.  What travels is frozen: who has
more to say of it makes another one by `msgspec.structs.replace`, in 0.2 us.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, overload

from msgspec import Raw, Struct
from msgspec.structs import replace

#: One value inside an offset: Kafka Connect allows primitives only.
Primitive: TypeAlias = str | int | float | bool

#: Where a poll may resume: a flat map, as Kafka Connect stores it.
Offset: TypeAlias = Mapping[str, Primitive]

#: Bytes that are handed on unread; `Raw` is a view into the page's body.
Encoded: TypeAlias = bytes | Raw

_Item = TypeVar("_Item")

#: Record headers of Kafka: order and repeats kept.
KafkaHeaders: TypeAlias = tuple[tuple[str, bytes | None], ...]


class Shard(Struct, frozen=True, order=True):
    """
    The part of an api that exactly one task polls: a source partition.

    Attributes:
        connector: The connector's `name`.
        api: The api's `api.name`.
        entity: One of `entity.names`, or None.
        index: Which part of the pages, 0 <= index < count.
        count: Over how many shards the pages are dealt.
    """

    connector: str
    api: str
    entity: str | None = None
    index: int = 0
    count: int = 1

    @property
    def label(self) -> str:
        """The shard in one word for people: `api1`, `api1/users`, `api1[2/8]`."""
        entity = f"/{self.entity}" if self.entity is not None else ""
        part = f"[{self.index}/{self.count}]" if self.count > 1 else ""
        return f"{self.api}{entity}{part}"

    @property
    def partition(self) -> dict[str, str]:
        """The source partition as Kafka Connect stores it."""
        partition = {"api": self.api}
        if self.entity is not None:
            partition["entity"] = self.entity
        if self.count > 1:
            partition["shard"] = f"{self.index}/{self.count}"
        return partition


class Request(Struct, frozen=True):
    """
    A request as the pager made it: what is to be asked of an API.

    Attributes:
        method: Upper case.
        url: Absolute logical URL, encoded, without fragment.  With several
            `http.source.endpoints` the origin is replaced when it is sent.
        headers: Name and value, order and repeats kept; credentials of
            `auth.type` are not among them, they are added for each try.
        body: Bytes to send, or None.
        page: Index of the page in its poll, from 0.
        chained: True if it continues a cursor or link chain, so that its
            host must not change within the poll.
        conditional: True if the cache has added a condition to the headers,
            which is about this URL and no other.
        jar: The cookies of its poll (`source.wire.cookies.CookieJar`), or None:
            none are kept.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    page: int = 0
    chained: bool = False
    conditional: bool = False
    jar: Any = None


class Response(Struct, frozen=True, kw_only=True):
    """
    A complete answer; an incomplete one is an error and never a value.

    Attributes:
        request: What was asked.
        url: Where it was answered, after redirects.
        status: Status code.
        headers: Names in lower case, values as Latin-1 text, order kept.
        body: Inflated, proven complete, never changed; a `memoryview` over a
            map where spooled.
        sent_at: Monotonic seconds at which the (last) try was sent.
        received_ms: Wall milliseconds at which the body was complete.
        tries: Requests it took, from 1; 0 from the cache.
        wire_bytes: Bytes of the body on the wire; 0 from the cache.
        origin: "network", "fresh" (cache hit) or "revalidated" (304).
        decoded: What the decoder made of it, where it was decoded already (a
            bad page is retried, so its decoding is part of the try); or None.
        hops: Redirects that were followed to it.
    """

    request: Request
    url: str
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes | bytearray | memoryview
    sent_at: float
    received_ms: int
    tries: int = 1
    wire_bytes: int = 0
    origin: str = "network"
    decoded: Any = None
    hops: int = 0

    def header(self, name: str) -> str | None:
        """All values of a header joined by ", ", or None; name in lower case."""
        found = [value for key, value in self.headers if key == name]
        return ", ".join(found) if found else None


class CutSequence(Sequence[_Item]):
    """
    A column of a page too large for memory, cut off where it lies as it is asked for.

    A window of it is made at a time, the newest is kept, and another one takes its
    place.  Read in order, each is made once; never changed, so any thread may read.
    A slice is a list, and as large as it is.

    Args:
        lengths: Bytes of each item.
        firsts: Place of each window's first item, ascending from 0.
        cut: The items of a window by its number, the same each time.

    Attributes:
        lengths: As given.
    """

    __slots__ = ("_cut", "_firsts", "_newest", "lengths")

    def __init__(
        self,
        lengths: array[int],
        firsts: Sequence[int],
        cut: Callable[[int], Sequence[_Item]],
    ):
        self.lengths = lengths
        self._firsts = firsts
        self._cut = cut
        self._newest: tuple[int, Sequence[_Item]] = (-1, ())

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[_Item]:
        for window in self.windows():
            yield from window

    @overload
    def __getitem__(self, at: int) -> _Item: ...

    @overload
    def __getitem__(self, at: slice) -> list[_Item]: ...

    def __getitem__(self, at: int | slice) -> _Item | list[_Item]:
        places = range(len(self))[at]
        if isinstance(places, int):
            number = bisect_right(self._firsts, places) - 1
            return self._window(number)[places - self._firsts[number]]
        if places.step != 1:
            return [self[place] for place in places]
        found: list[_Item] = []
        number = bisect_right(self._firsts, places.start) - 1
        while len(found) < len(places):
            first = self._firsts[number]
            start = places.start + len(found) - first
            found += self._window(number)[start : places.stop - first]
            number += 1
        return found

    def windows(self) -> Iterator[Sequence[_Item]]:
        """All of it in order, a window at a time."""
        return map(self._window, range(len(self._firsts)))

    def picked(self, places: Sequence[int]) -> Sequence[_Item]:
        """The items at ascending places, cut off likewise."""
        if not places:
            return []
        groups, firsts = [], []
        ends = [*self._firsts[1:], len(self)]
        stop = 0
        for number, end in enumerate(ends):
            start, stop = stop, bisect_left(places, end, stop)
            if start < stop:
                groups.append((number, self._firsts[number], start, stop))
                firsts.append(start)

        def cut(at: int) -> Sequence[_Item]:
            number, first, start, stop = groups[at]
            window = self._window(number)
            return [window[place - first] for place in places[start:stop]]

        lengths = array(self.lengths.typecode, map(self.lengths.__getitem__, places))
        return CutSequence(lengths, firsts, cut)

    def _window(self, number: int) -> Sequence[_Item]:
        newest, items = self._newest
        if newest != number:
            # The one before is let go first: two at a time are never needed.
            self._newest = (-1, ())
            del items
            items = self._cut(number)
            self._newest = (number, items)
        return items


def picked(items: Sequence[_Item], places: Sequence[int]) -> Sequence[_Item]:
    """The items at ascending places; of a `CutSequence` they stay where they lie."""
    if type(items) is CutSequence:
        return items.picked(places)
    if isinstance(places, range) and places.step == 1:
        return items[places.start : places.stop]
    return [items[place] for place in places]


def in_pieces(items: Sequence[_Item], count: int) -> Iterator[Sequence[_Item]]:
    """All of a column in order, so many at a time or what lies together."""
    if type(items) is CutSequence:
        return items.windows()
    return (items[at : at + count] for at in range(0, len(items), count))


def joined_pieces(
    items: Sequence[Encoded], between: bytes, count: int
) -> Iterator[bytes]:
    """All of a column as text with `between` between any two, as by `in_pieces`."""
    before = b""
    for piece in in_pieces(items, count):
        yield before + between.join(piece)
        before = between


class Page(Struct, frozen=True, kw_only=True):
    """
    A usable response, split into records that are not yet read.

    Attributes:
        response: Where it came from.
        index: Place in its poll, from 0.
        records: One piece of JSON each, in order; of a page too large for memory
            `CutSequence`.
        offset: Where a poll resumes once this page is delivered.
        last: True if the poll ends with this page.
        truncated: True if it ends because of `pagination.max.pages` only.
        deduplicated: Records received and dropped as already delivered;
            they are not among `records`.
        saved: True if it brought nothing new: nothing to produce.
        saved_records: Records that were on it, of a saved page.
        task: The task's number, for `${task}`.
        entity: `${entityName}`, or None.
        parent: The parent record for `${parent.<path>}` as JSON, or None.
        parent_value: What it names as `${parent_value}`: str, int, bool, or
            `Raw` for a number with a fraction; or None.
        window: (start, end) in epoch milliseconds, or None.
        unread: Of a last page: what the API promised and the poll could not read,
            in words; "" for nothing.
        age: By how many seconds the newest record so far lies behind the API's clock,
            where records have a time by which polls go on; None: nobody knows.
    """

    response: Response
    index: int
    records: Sequence[Raw]
    offset: Offset
    last: bool
    truncated: bool = False
    deduplicated: int = 0
    saved: bool = False
    saved_records: int = 0
    task: int = 0
    entity: str | None = None
    parent: Raw | None = None
    window: tuple[int, int] | None = None
    parent_value: object = None
    unread: str = ""
    age: float | None = None

    @property
    def received(self) -> int:
        """Records on the page, those dropped as delivered before included."""
        return len(self.records) + self.deduplicated


class DeadLetter(Struct, frozen=True, kw_only=True):
    """
    A record that could not be produced, with what is needed to try it again.

    Attributes:
        index: Place in its page, from 0.
        value: The record's bytes as received.
        stage: As `RecordError.stage`.
        cause: Class name of the failure.
        message: What went wrong, secrets cut.
        cut: True if `value` is only the beginning of what was received.
        size: Bytes received, where `value` is cut.
    """

    index: int
    value: bytes
    stage: str
    cause: str
    message: str
    cut: bool = False
    size: int = 0


class Parcel(Struct, frozen=True, kw_only=True):
    """
    What a page has become: encoded records, column by column.

    A column that is the same for all records is given once.

    Attributes:
        page: Where it came from.
        topic: One topic, or one for each record.
        values: Encoded values; None is a tombstone.
        keys: Encoded keys, one for each record, or None: no record has one.
        timestamps: Epoch milliseconds, one for all or one for each.
        headers: One set for all, or one for each record.
        filtered: Records a filter left out.
        deduplicated: Records left out by `deduplication.*` or the page.
        letters: Records that could not be produced.
        acknowledged: Called once, by the thread of its shard, some time after
            all of it is acknowledged; or None.
        added: Records a user's function gave beyond those it was given.
        delivered: Each called once, by any thread, at the moment all of it is
            acknowledged and before its offset is saved, with the monotonic
            seconds of that moment.  Must neither block nor raise.
        lengths, key_lengths: Of the values and of the keys, where somebody has asked
            for them already; else None.
        content: The same before de-duplication left records out, or None: none was.
        indexes: Where each record stood in its page, or None: each at its own
            place.
    """

    page: Page
    topic: str | list[str]
    values: Sequence[Encoded | None]
    keys: Sequence[bytes | None] | None = None
    timestamps: int | Sequence[int] = 0
    headers: KafkaHeaders | Sequence[KafkaHeaders] = ()
    filtered: int = 0
    deduplicated: int = 0
    letters: Sequence[DeadLetter] = ()
    acknowledged: Callable[[], None] | None = None
    added: int = 0
    delivered: tuple[Callable[[float], None], ...] = ()
    lengths: Sequence[int] | None = None
    key_lengths: Sequence[int] | None = None
    content: Parcel | None = None
    indexes: Sequence[int] | None = None

    def telling(self, delivered: Callable[[float], None]) -> Parcel:
        """The same, of whose delivery one more is told."""
        return replace(self, delivered=(*self.delivered, delivered))

    def picked(self, places: Sequence[int]) -> Parcel:
        """Some of its records, in this order; the counts stay as they are."""
        columns: dict[str, Any] = {}
        for name in ("topic", "values", "keys", "timestamps", "headers", "indexes"):
            column = getattr(self, name)
            # What is one for all of them stays: a topic, a time, a set of headers.
            if isinstance(column, list | range) or name in ("values", "keys"):
                columns[name] = column and picked(column, places)
        return replace(self, **columns, lengths=None, key_lengths=None)

    def without_keyless(self, words: str) -> Parcel:
        """The same, of which records without a key have become dead letters."""
        keys = self.keys if self.keys is not None else [None] * len(self.values)
        indexes = self.indexes or range(len(keys))
        letters = [
            DeadLetter(
                index=indexes[at],
                value=bytes(self.page.records[indexes[at]]),
                stage="route",
                cause="RecordError",
                message=words,
            )
            for at, key in enumerate(keys)
            if key is None
        ]
        left = [at for at, key in enumerate(keys) if key is not None]
        return replace(self.picked(left), letters=[*self.letters, *letters])

    @property
    def balanced(self) -> bool:
        """received + added = produced + filtered + dead-lettered + deduplicated."""
        return self.page.received + self.added == (
            len(self.values) + self.filtered + len(self.letters) + self.deduplicated
        )
