"""
Bookmark: polls that ask for what has come since the last one (`INCREMENTAL`).

Owns the pager around the pager of any type: the inner one walks the pages of a poll
whose requests name the bookmark, this one leaves out what was delivered, keeps the
largest value and says where the next poll goes on. A position of an unfinished poll has
the bookmark of its start beside the inner pager's own, so that a poll goes on wherever
it was cut. It is one class, and long: what a poll asks for, leaves out and stores are
three sides of one value, which moves with each page.

Path: `source.paging.paginator` -> here -> the pager of a type, `asking`, `values`, `ties`
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from engine.errors import BadPage, SourceError, StateError
from engine.language.instants import MILLI
from engine.records import Offset, Page, Primitive, Request, Response, picked
from engine.source.decode.decoder import Decoded
from engine.source.paging.asking import (
    Asking,
    BookmarkedRequests,
    BookmarkKeys,
    epoch_unit,
    known_until,
    plain_initial,
)
from engine.source.paging.envelope import Fields
from engine.source.paging.marks import RENAMED, StoredBookmark
from engine.source.paging.pager import Note, PollRequests, ShardPagers
from engine.source.paging.position import (
    COMMON,
    Position,
    digest,
    put_fields,
    reader,
    single,
)
from engine.source.paging.rows import ValueRow, row_of
from engine.source.paging.ties import MOST_BACK, MOST_TIES, PageEdge, Ties
from engine.source.paging.values import (
    NUMBER,
    TIMESTAMP,
    Key,
    Scale,
    ValueReader,
    stored_value,
)

log = logging.getLogger("source")


class Incremental:
    """
    The mode INCREMENTAL of one shard, poll after poll; shared by the polls of children.

    Args:
        keys: As configured.
        note: Told the name of each counter that goes up.

    Attributes:
        paths: What a decoder has to find beside what the inner pager looks at.
    """

    def __init__(self, keys: BookmarkKeys, *, note: Note = lambda name: None):
        self.keys = keys
        self.note = note
        self.column = None if keys.pointer is None else ValueReader(keys.pointer)
        self.value_of = reader(keys.pointer or "")
        self.fields = Fields({"next": keys.next_field})
        self.paths = self.fields.paths

    def start(
        self,
        walks: ShardPagers,
        offset: Offset | None,
        now_ms: int,
        scope: Mapping[str, object] | None = None,
        number: int | None = None,
        *,
        anew: bool = False,
    ) -> BookmarkPager:
        """
        A poll from a stored offset; arguments as for `Paginator.start`.

        Args:
            anew: The walk begins anew, from the bookmark; what says that the API does
                not know the bookmark itself begins without one.
        """
        stored = StoredBookmark(offset, self.keys)
        if number is not None:
            stored.poll = number
        if anew:
            if stored.walk or not self.keys.opaque:
                stored.begin_anew()
            else:
                poll = stored.poll
                stored = StoredBookmark(None, self.keys)
                stored.poll = poll
        return BookmarkPager(self, walks, stored, now_ms, scope)


class BookmarkPager:
    """
    One poll around the pager of its type.

    Args:
        mode: The shard's.
        walks: Makes the inner pager.
        stored: Where the poll goes on.
    """

    def __init__(
        self,
        mode: Incremental,
        walks: ShardPagers,
        stored: StoredBookmark,
        now_ms: int,
        scope: Mapping[str, object] | None,
    ):
        keys = mode.keys
        self.over = False
        paging = walks.paging
        #: What a page's number counts in, where there are such numbers.
        self._size = paging.limit if paging.kind.asks == "page" else 0
        if stored.walk and stored.limit != self._size:
            # Of another size it is another page: the poll begins anew at its bookmark.
            stored.begin_anew()
        self._mode, self._keys = mode, keys
        self._now_ms = now_ms
        self._poll = stored.poll
        self._scale = Scale(
            stored.kind or keys.value_type, zone=keys.zone, pattern=keys.value_pattern
        )
        self._asking = Asking(keys, self._scale)
        #: The bookmark of the poll's start, as a value and as what it is compared by.
        self._old = stored.bookmark
        self._old_key = self._key_of_bookmark(stored.bookmark)
        #: The largest value of the poll, never below the bookmark.
        self._high = self._old if stored.high is None else stored.high
        self._high_key = (
            self._old_key if stored.high is None else self._scale.key(stored.high)
        )
        self._next = stored.next
        self._last, self._peak = stored.last, stored.peak
        self._readers = {path: reader(path) for path in walks.shape.last}
        self._cap = stored.cap
        self._order = stored.order or keys.order
        #: The value of the record before, while the order holds.
        self._before: Key | None = None
        #: Delivered in earlier polls and not yet seen in this one; what was seen.
        self._left, self._seen = stored.ties, stored.seen
        self._top = self._left.top
        self._index = 0
        #: Newest first and by number, what comes meanwhile shifts the pages.
        self._shifting = paging.kind.addressable and keys.order == "DESC"
        self._edge = PageEdge()
        self._forgotten = False
        self._all_known = True

        requests = walks.shape.begin(now_ms, scope)
        self._initial = stored.initial
        if self._old is None and self._initial is None and not keys.whole:
            self._initial = plain_initial(requests.initial)
        offset: object
        self._floor: Key | None = None
        if self._old is None or self._old_key is None:
            value = self._initial if self._old is None else self._old
            offset = self._asking.first(value)
        else:
            offset, self._floor = self._asking.asked(self._old, self._old_key)
        if keys.opaque:
            self._floor = None
        #: False while `http.initial.offset` may say from where on records are wanted.
        self._floor_known = (
            keys.opaque or self._old is not None or self._initial is None
        )
        position = Position(
            {"poll": self._poll, "done": False, **stored.walk} if stored.walk else None,
            type=walks.paging.type,
            mode="FULL",
        )
        position.poll = self._poll
        #: The size of a poll that is one request and may be cut, or None.
        self._limit = None
        if not paging.kind.pages and paging.limit_stated:
            self._limit = paging.limit
        start: PollRequests = requests
        if not keys.whole:
            start = BookmarkedRequests(
                requests,
                offset,
                asking=self._asking,
                by_record=walks.paging.kind.by_record,
                last=stored.last,
            )
        self._inner = walks.walk(position, start, child=scope is not None)

    def _key_of_bookmark(self, value: object) -> Key | None:
        if value is None or (self._keys.opaque and self._keys.pointer is None):
            return None
        try:
            return self._scale.key(value)
        except BadPage as e:
            if self._keys.opaque:
                return None
            raise StateError(f"the stored bookmark cannot be read: {e}") from e

    @property
    def stored(self) -> bool:
        if self._inner.stored:
            return True
        return self._keys.opaque and self._old is not None and not self._index

    @property
    def onward(self) -> bool:
        return self._inner.onward

    def ask(self) -> Request | None:
        return None if self.over else self._inner.ask()

    def give_up(self) -> None:
        self._inner.give_up()

    def expects(self, request: Request) -> bool:
        return not self.over and self._inner.expects(request)

    def refused(self, request: Request, failure: SourceError) -> Page | None:
        page = self._inner.refused(request, failure)
        return None if page is None else self._marked(page, request, None)

    def learn(
        self, request: Request, response: Response, decoded: Decoded
    ) -> Page | None:
        if self.over:
            return None
        page = self._inner.learn(request, response, decoded)
        if page is None:
            return None
        return self._marked(page, request, decoded)

    # -- one page ------------------------------------------------------------------

    def _marked(self, page: Page, request: Request, decoded: Decoded | None) -> Page:
        """The inner pager's page, less what was delivered, with our position."""
        if self._cap is None:
            self._cap = known_until(page.response, self._now_ms)
        first = not self._index
        self._index += 1
        records = fresh = page.records
        received = len(records)
        body: object = page.response.body
        if records and self._shifting and (slid := self._edge.slid(records)):
            records = fresh = picked(records, range(slid, received))
            body = None
        stop = False
        if records and self._mode.column is not None:
            if not self._floor_known:
                self._floor_known = True
                self._floor = self._first_floor(records)
            fresh, stop = self._sifted(records, body)
        if fresh:
            self._all_known = False
        if decoded is not None and self._keys.next_field is not None:
            found = self._mode.fields.token("next", decoded.found)
            if found is not None:
                self._next = stored_value(found)
        if records and self._keys.next_record is not None:
            self._learn_record(records, first, request)
        done = page.offset.get("done") is True
        cut = stop and not done
        done = done or cut
        self.over = page.last or cut
        if done:
            self._stuck(received)
        return replace(
            page,
            records=fresh,
            deduplicated=page.deduplicated + received - len(fresh),
            last=self.over,
            truncated=page.truncated and not cut,
            offset=self._position(page.offset, done),
            age=self._age(),
        )

    def _age(self) -> float | None:
        """As `Page.age`."""
        key, cap = self._high_key, self._cap
        if cap is None or key is None or isinstance(key, str):
            return None
        if self._scale.kind == TIMESTAMP:
            return float(cap * MILLI - key) / 1e9
        unit = epoch_unit(self._keys, key) if self._scale.kind == NUMBER else 0
        return cap / 1000 - float(key) / unit if unit else None

    def _learn_record(
        self, records: Sequence[Raw], first: bool, request: Request
    ) -> None:
        """The position is the value of the poll's first, or of its last record."""
        if self._keys.next_record == "FIRST":
            if self._next is not None or (not first and self._old is not None):
                return
            record = records[0]
        else:
            record = records[-1]
        value = single(self._mode.value_of(record))
        if value is None:
            raise BadPage(
                "the record of http.offset.next.record has no single value at "
                "http.offset.json.pointer",
                url=request.url,
            )
        self._next = stored_value(value)
        self._seen = Ties()
        self._seen.add(digest(record), None)

    def _first_floor(self, records: Sequence[Raw]) -> Key | None:
        """`http.initial.offset` as a value, where it compares with the records'."""
        values = self._mode.column.read(records) if self._mode.column else []
        for value in values:
            if single(value) is not None:
                self._scale.key(value)
                break
        try:
            key = self._scale.key(self._initial)
        except BadPage:
            return None
        return key

    def _sifted(
        self, records: Sequence[Raw], body: object
    ) -> tuple[Sequence[Raw], bool]:
        """
        Leave out what was delivered, and learn the rest.

        Returns: the others, and whether the poll ends here: newest first, and all
            behind this page is below the bookmark.
        """
        column = self._mode.column
        assert column is not None
        values = column.read(records, body)
        row = row_of(self._scale, values)
        if row is not None:
            self._keep_order(row.values, row)
            if not self._left and self._floor is None or not self._touches(row.low):
                self._rise(row.largest, row.high, records[row.place])
                self._remember_row(records, row)
                return records, False
        return self._one_by_one(records, values, row is not None)

    def _touches(self, low: Key) -> bool:
        """True if records from this value on may have been delivered, or are below."""
        if self._left and (self._top is None or not _less(self._top, low)):
            return True
        return self._floor is not None and _less(low, self._floor)

    def _keep_order(self, values: Sequence[Any], row: ValueRow | None) -> None:
        """Look at `http.offset.order`; a record out of order ends it for the poll."""
        if self._order == "NONE":
            return
        down = self._order == "DESC"
        if row is not None:
            holds = row.holds(down=down)
            first, last = (row.high, row.low) if down else (row.low, row.high)
        else:
            holds = sorted(values, reverse=down) == list(values)
            first, last = values[0], values[-1]
        if holds and self._before is not None:
            holds = not (
                _less(self._before, first) if down else _less(first, self._before)
            )
        self._before = last
        if holds:
            return
        self._order = "NONE"
        self._mode.note("records_out_of_order_total")
        log.warning(
            "A record is out of order: http.offset.order=%s does not hold, and this "
            "poll goes on as with NONE.",
            self._keys.order,
        )

    def _rise(self, value: object, key: Key, record: Raw) -> None:
        if self._high_key is None or _less(self._high_key, key):
            self._high, self._high_key = value, key
            for path, read in self._readers.items():
                self._peak[path] = read(record)

    def _one_by_one(
        self, records: Sequence[Raw], values: list[object], judged: bool
    ) -> tuple[Sequence[Raw], bool]:
        """As `_sifted`; `judged` if their order has been looked at."""
        keys = [self._scale.key(value) for value in values]
        known = [key for key in keys if key is not None]
        if len(known) < len(keys):
            self._mode.note("offset_values_missing_total")
        for value, key, record in zip(values, keys, records):
            if key is not None:
                self._rise(value, key, record)
        if not judged and known:
            self._keep_order(known, None)
        floor, threshold = self._floor, self._threshold()
        drops = not self._keys.filtered or self._order == "DESC"
        kept: list[int] = []
        for place, (record, key) in enumerate(zip(records, keys)):
            below = key is not None and floor is not None and _less(key, floor)
            if below and drops:
                continue
            found = digest(record)
            if not self._left.take(found):
                kept.append(place)
            if key is None or below:
                # It came although it was not asked for: it may come again.
                self._seen.add(found, None)
            elif threshold is None or not _less(key, threshold):
                self._seen.add(found, key)
        self._bound()
        stop = (
            self._order == "DESC"
            and floor is not None
            and bool(known)
            and _less(known[-1], floor)
        )
        return picked(records, kept), stop

    def _remember_row(self, records: Sequence[Raw], row: ValueRow) -> None:
        """Keep the hashes of what the next poll will bring again."""
        threshold = self._threshold()
        if threshold is None or _less(row.high, threshold):
            return
        seen = self._seen
        seen.prune(threshold)
        for at in row.behind(threshold):
            seen.add(digest(records[at]), row.key(at))
        self._bound()

    def _bound(self) -> None:
        most = MOST_BACK if self._keys.lookback else MOST_TIES
        if len(self._seen) + len(self._left) <= most:
            return
        self._seen.prune(self._threshold())
        gone = self._seen.bound(max(most - len(self._left), 0))
        if gone and not self._forgotten:
            self._forgotten = True
            self._mode.note("offset_ties_forgotten_total")
            log.warning(
                "More than %d records stand at or behind the bookmark: those that are "
                "not kept apart are produced again by the next poll; a finer offset, or "
                "a smaller http.offset.lookback, keeps them apart.",
                most,
            )

    # -- where it goes on ------------------------------------------------------------

    def _bookmark(self) -> tuple[object, Key | None]:
        """
        The largest value seen, not beyond the server's clock at the poll's start.

        What changes while the pages of a poll are read may stand on one that was read.
        """
        high, key = self._high, self._high_key
        assert self._cap is not None
        if self._scale.kind == NUMBER and key is not None:
            return self._numbered(high, key)
        if self._scale.kind != TIMESTAMP or not isinstance(key, int):
            return high, key
        cap = self._cap * MILLI
        if key <= cap:
            return high, key
        if isinstance(self._old_key, int) and self._old_key >= cap:
            return self._old, self._old_key
        value = self._asking.written(cap, high)
        return value, self._scale.key(value)

    def _numbered(self, high: object, key: Key) -> tuple[object, Key]:
        """As `_bookmark`, of numbers: seconds since 1970 and their like are times."""
        assert self._cap is not None
        unit = epoch_unit(self._keys, key)
        cap = self._cap * unit // 1000
        if not unit or isinstance(key, str) or key <= cap:
            return high, key
        old = self._old_key
        if isinstance(old, int | Decimal) and old >= cap:
            return self._old, old
        return (str(cap) if isinstance(high, str) else cap), cap

    def _threshold(self) -> Key | None:
        """From which value on the next poll will bring what it is asked for."""
        if self._keys.next_record is not None:
            return None if self._high_key is None else self._high_key
        value, key = self._bookmark()
        if key is None:
            return None
        return self._asking.floor(value, key)

    def _position(self, inner: Offset, done: bool) -> dict[str, Primitive]:
        position: dict[str, Primitive] = {"poll": self._poll, "done": done}
        if done or (self._order == "ASC" and not self._keys.opaque):
            self._new(position)
            return position
        self._write(position, self._old, self._left, self._last)
        self._seen.write("seen", position)
        if self._high is not None and self._high is not self._old:
            position["high"] = stored_value(self._high)
        if self._next is not None:
            position["next.position"] = stored_value(self._next)
        if self._cap is not None:
            position["cap"] = self._cap
        if self._size:
            position["limit"] = self._size
        if self._order != self._keys.order:
            position["order"] = self._order
        put_fields(position, "peak.", self._peak)
        for name, value in inner.items():
            if name not in COMMON:
                position[RENAMED.get(name, name)] = value
        return position

    def _new(self, position: dict[str, Primitive]) -> None:
        """The position with the bookmark moved to what has come."""
        if self._keys.opaque:
            value = self._old if self._next is None else self._next
            ties = self._seen if self._next is not None else self._left
            if self._keys.next_record is None and self._next is not None:
                ties = self._seen.copy()
                key = self._key_of_bookmark(self._next)
                ties.prune(None if key is None else self._asking.floor(value, key))
            self._write(position, value, ties, self._last)
            return
        value, key = self._bookmark()
        threshold = None if key is None else self._asking.floor(value, key)
        left, seen = self._left, self._seen
        moved = key is not None and key != self._old_key
        if moved:
            left = left.copy()
            left.prune(threshold)
            if position["done"] and left.top is None:
                # Of these no value is known: they are below, or gone.
                left = Ties()
        ties = seen.merged(left)
        ties.prune(threshold)
        self._write(position, value, ties, self._peak or self._last)

    def _write(
        self,
        position: dict[str, Primitive],
        value: object,
        ties: Ties,
        last: Mapping[str, object],
    ) -> None:
        put_fields(position, "mark.", last)
        if value is None:
            if self._initial is not None:
                position["initial"] = stored_value(self._initial)
        else:
            position["bookmark"] = stored_value(value)
            if self._scale.kind:
                position["kind"] = self._scale.kind
        ties.write("ties", position)

    def _stuck(self, received: int) -> None:
        """Say that one request is all of a poll, and brought nothing but the known."""
        if self._limit is None or received < self._limit or not self._all_known:
            return
        self._mode.note("polls_unsure_total")
        log.warning(
            "A page as large as pagination.limit.value brought nothing but records that "
            "were delivered before: what may be behind them is not asked for. A larger "
            "limit, a smaller http.offset.lookback or a pagination.type that pages "
            "reaches it."
        )


def _less(left: Key, right: Key) -> bool:
    if isinstance(left, str) or isinstance(right, str):
        return str(left) < str(right)
    return left < right
