"""
By value: pages asked for with a value of the last record.

Owns what makes two values the same (the request that they lead to), which
records of that value were delivered, and the way through more of them than fit
a page.

Path: `source.paging.paginator` -> here -> `source.paging.pager`
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Raw

from engine.errors import BadPage, StateError
from engine.records import Page, Primitive, Request, Response, picked
from engine.source.decode.decoder import Decoded
from engine.source.paging.loops import fingerprint
from engine.source.paging.of_type import TypePager
from engine.source.paging.position import (
    DIGEST,
    NOWHERE,
    Position,
    digest,
    primitive,
    single,
    text_in,
)

#: Most records with one offset value whose hashes are kept.
MAX_TIES: Final = 10_000


class KeysetPager(TypePager):
    """
    A chain whose next page is asked for with a value of the last record.

    Values are the same that are sent the same: an API that filters by the minute
    brings all records of a minute again.
    """

    TYPE = "keyset"

    def _begin(self, stored: Position, *, child: bool) -> None:
        paging = self._plan.paging
        #: A page with fewer records is short; None: nobody knows.
        self._full = paging.limit if paging.limit_stated else None
        #: The largest page that was not the last one.
        self._largest = 0
        #: The records of the page before, as a hash.
        self._before = 0
        self._value: object = None
        #: Hashes of the records that are sent as this value is, and delivered.
        self._ties: set[bytes] = set()
        #: Pages and records that were asked for with this value before.
        self._inside = self._passed = 0
        if stored.fresh:
            initial = self._start.initial
            self._value = initial if initial != "" else None
        else:
            self._resume(stored)
        self._key = self._key_of(self._value, self._ledger.last)

    def _resume(self, stored: Position) -> None:
        position = stored.position
        value = position.get("offset")
        if isinstance(value, bool):
            raise StateError(f"the stored offset is {value!r}")
        # A poll that ended without any record has no value to go on from.
        if value is None and "ties" not in position:
            raise StateError(NOWHERE.format("offset"))
        self._value = Raw(repr(value).encode()) if isinstance(value, float) else value
        if value is None:
            initial = self._start.initial
            self._value = initial if initial != "" else None
        self._ties = _ties_of(text_in(position, "ties"))

    def _request(
        self, value: object, last: Mapping[str, object], inside: int, passed: int
    ) -> Request:
        paging = self._plan.paging
        tie: int | None = None
        if inside and paging.tie_param is not None:
            tie = paging.page_start + inside if paging.tie_by_page else passed
        return self._start(
            self._ledger.index,
            offset=value,
            cursor=value,
            page=paging.page_start + inside,
            last=last,
            tie=tie,
        )

    def _key_of(self, value: object, last: Mapping[str, object]) -> int:
        """What a value is sent as."""
        return self._ledger.guard.signature(self._request(value, last, 0, 0))

    def ask(self) -> Request | None:
        if self.over or self._asked:
            return None
        self._asked = True
        return self._request(self._value, self._ledger.last, self._inside, self._passed)

    def learn(
        self, request: Request, response: Response, decoded: Decoded
    ) -> Page | None:
        ledger = self._ledger
        records = decoded.records
        self._asked = False
        count = len(records)
        stops = ledger.stops(decoded, response)
        more = ledger.more(decoded)
        kept = self._without_ties(records)
        paging = self._plan.paging
        full = bool(more) or (paging.limit_stated and count >= paging.limit)
        short = self._is_short(count)
        found = fingerprint(records) if records else 0
        before, self._before = self._before, found
        if kept and found == before:
            return self._unfiltered(request, response, count, full, more is True)
        ledger.learn_last(records)
        ledger.totals.learn(len(kept), decoded.found)
        moved = bool(records) and self._advance(records, request)
        ended = stops or more is False
        if not ended and moved:
            ended = self._enough(short, full, more)
        elif not ended:
            ended = self._is_end(request, records, kept, full, more)
        if ended:
            if not more and not stops:
                ledger.mismatch()
        else:
            ledger.doubt()
        self._largest = max(self._largest, count)

        page = ledger.page(
            response,
            kept,
            self._position(),
            ended=ended,
            index=ledger.index,
            dropped=count - len(kept),
        )
        self.over = page.last
        return page

    def _unfiltered(
        self,
        request: Request,
        response: Response,
        count: int,
        full: bool,
        more: bool,
    ) -> Page:
        """The page is the one before, whatever it was asked with."""
        if full or (count > 1 and not self._plan.paging.limit_stated):
            raise BadPage(
                "the API answers with the page before, whatever value it is asked "
                "with: pagination.cursor.param (or the template with ${offset}) has to "
                "name its filter",
                url=request.url,
            )
        self.over = True
        ledger = self._ledger
        unread = ledger.repeated(request.url, met=False, more=more)
        return ledger.page(
            response,
            [],
            self._position(),
            ended=True,
            index=ledger.index,
            dropped=count,
            unread=unread,
        )

    def _without_ties(self, records: Sequence[Raw]) -> Sequence[Raw]:
        """
        Leave out the records of the value asked with that were delivered.

        They stand in front, as the API sorts by this value.
        """
        ties = self._ties
        if not ties or not records:
            return records
        kept: list[int] = []
        for place, record in enumerate(records):
            if digest(record) in ties:
                continue
            if not self._tied(record):
                kept += range(place, len(records))
                break
            kept.append(place)
        return picked(records, kept)

    def _tied(self, record: Raw) -> bool:
        """True if a record is sent as the value that was asked with."""
        plan = self._plan
        value = plan.offset_of(record)
        if not plan.shape.last and same(value, self._value):
            return True
        return self._key_of(value, plan.last_of(record)) == self._key

    def _advance(self, records: Sequence[Raw], request: Request) -> bool:
        """
        Go on to the last record's value; False if it is sent as the one before.

        Raises:
            BadPage: No value, or more of one value than can be kept.
        """
        value = single(self._plan.offset_of(records[-1]))
        if value is None:
            raise BadPage(
                "the last record has no single value at http.offset.json.pointer",
                url=request.url,
            )
        key = self._key_of(value, self._ledger.last)
        moved = key != self._key
        if moved:
            self._ties = set()
            self._inside = self._passed = 0
        self._value, self._key = value, key
        for record in reversed(records):
            if not self._tied(record):
                break
            self._ties.add(digest(record))
        if len(self._ties) > MAX_TIES:
            raise BadPage(
                f"over {MAX_TIES} records with one offset value; use a finer offset",
                url=request.url,
            )
        return moved

    def _is_end(
        self,
        request: Request,
        records: Sequence[Raw],
        kept: Sequence[Raw],
        full: bool,
        more: bool | None,
    ) -> bool:
        """
        Whether a page that leads no further is the end.

        Raises:
            BadPage: There is more, and no way to ask for it.
        """
        paging, count = self._plan.paging, len(records)
        if not count and not more:
            return True
        # A page as large as one that had a successor may be full as well.
        like = 0 < self._largest <= count
        if not full and not like:
            return True
        if count and (paging.tie_param is not None or self._plan.shape.pages):
            self._inside += 1
            self._passed += count
            return False
        if not full and not kept:
            if count > 1 and not paging.limit_stated:
                self._ledger.unsure(
                    f"a page of {count} records of one offset value, as large as a "
                    "page before: whether there are more of them cannot be asked; state "
                    "pagination.limit.value"
                )
            return True
        if not full and paging.limit_stated:
            # It may have come meanwhile: what is behind it is seen by asking again.
            return False
        if not count:
            raise BadPage(
                "there is more, but no record whose value leads to it", url=request.url
            )
        raise BadPage(
            "a full page of one single offset value, as it is sent: there is no way to "
            "ask for the rest; state pagination.page.param or pagination.offset.param "
            "if the API pages within one value, or use a larger pagination.limit.value "
            "or a finer offset",
            url=request.url,
        )

    def _enough(self, short: bool, full: bool, more: bool | None) -> bool:
        """Whether a page that leads on is the last one all the same."""
        totals = self._ledger.totals
        if more:
            return False
        if totals.known:
            return totals.reached and not totals.exceeded and not full
        return short and self._plan.paging.short_ends

    def _is_short(self, count: int) -> bool:
        """True for a page shorter than a full one; the first shows what is full."""
        if self._full is None:
            return False
        if self._ledger.index == 0 and 0 < count < self._full:
            self._full = count
            return False
        return count < self._full

    def _position(self) -> dict[str, Primitive]:
        position: dict[str, Primitive] = {}
        if self._value is not None:
            position["offset"] = primitive(self._value, "the offset")
        position["ties"] = base64.b64encode(b"".join(sorted(self._ties))).decode()
        return position


def same(left: object, right: object) -> bool:
    """Equal as offset values: the same text, or the same number."""
    if isinstance(left, Raw) or isinstance(right, Raw):
        return _as_text(left) == _as_text(right)
    return left == right


def _as_text(value: object) -> str:
    return bytes(value).decode() if isinstance(value, Raw) else str(value)


def _ties_of(text: str) -> set[bytes]:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise StateError("the stored offset's ties are not base64") from e
    if len(data) % DIGEST:
        raise StateError("the stored offset's ties are cut")
    return {data[at : at + DIGEST] for at in range(0, len(data), DIGEST)}


PAGERS: Final[tuple[type[TypePager], ...]] = (KeysetPager,)
