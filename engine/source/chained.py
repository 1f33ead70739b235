"""
Chained: pages of which each one says how to ask for the next.

Owns the walks along cursors, links and the last record's value (keyset), and
the single page of type none.

Path: `source.paginate` -> here -> `source.walk`
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Mapping
from typing import Final

from msgspec import DecodeError, Raw
from msgspec import json as msgjson

from engine.errors import BadPage, StateError
from engine.records import Page, Primitive, Request, Response
from engine.source.decode import Decoded
from engine.source.links import link_of, without
from engine.source.standing import (
    DIGEST,
    Standing,
    digest,
    local_part,
    primitive,
    records_hash,
    single,
    text_in,
    whole,
)
from engine.source.walk import Ask, Ledger, Plan

log = logging.getLogger("source")

#: Most records with one offset value whose hashes are kept.
MAX_TIES: Final = 10_000


class ChainCourse:
    """
    One page, or a chain in which each page names the next: a cursor, a URL,
    a Link header, an OData link.
    """

    def __init__(self, plan: Plan, standing: Standing, start: Ask):
        paging = plan.paging
        self.over = False
        self._plan = plan
        self._ledger = Ledger(plan, standing)
        self._start = start
        self._field = "cursor" if paging.type == "cursor" else "next"
        #: What the page in hand is asked with; None: the first one.
        self._at: object = None
        #: The first records of the first page, delivered in an earlier poll.
        self._known = (0, "")
        self._asked = False
        self._resumed = False
        if standing.fresh:
            if paging.type == "cursor" and paging.mode == "CURSOR_PAGINATION":
                self._at = start.initial or None
        else:
            self._resume(standing.position)

    def _resume(self, position: Mapping[str, Primitive]) -> None:
        paging = self._plan.paging
        if paging.type == "none":
            return
        field = "delta" if "delta" in position else self._field
        at = position.get(field)
        if at is None and "count" not in position:
            raise StateError(f"the stored offset has no {field}")
        if at is not None:
            if isinstance(at, bool) or at == "":
                raise StateError(f"the stored offset's {field} is {at!r}")
            if self._field == "next":
                if not isinstance(at, str):
                    raise StateError(f"the stored offset's {field} is {at!r}")
                self._at = self._plan.follow(self._start.home, at)
            elif position.get("json") is True:
                try:
                    self._at = Raw(msgjson.format(str(at).encode(), indent=-1))
                except DecodeError as e:
                    raise StateError("the stored offset's cursor is not JSON") from e
            else:
                self._at = Raw(repr(at).encode()) if isinstance(at, float) else at
            self._resumed = True
        self._known = (whole(position, "count", 0), text_in(position, "hash"))

    @property
    def stored(self) -> bool:
        return self._resumed and self._ledger.index == 0

    def ask(self) -> Request | None:
        if self.over or self._asked:
            return None
        self._asked = True
        at, index = self._at, self._ledger.index
        ask = self._start
        if self._field == "next" and at is not None:
            assert isinstance(at, str)
            return ask.follow(index, at)
        mode = self._plan.paging.mode
        return ask(
            index,
            offset=at if mode == "CURSOR_PAGINATION" else self._start.initial,
            cursor=at,
            last=self._ledger.last,
        )

    def give_up(self) -> None:
        """A chain is one shard: nobody waits."""

    def expects(self, request: Request) -> bool:
        return self._asked and not self.over

    def learn(
        self, request: Request, response: Response, decoded: Decoded
    ) -> Page | None:
        plan, ledger = self._plan, self._ledger
        paging = plan.paging
        records = decoded.records
        self._asked = False
        if paging.type == "none":
            self.over = True
            return ledger.page(response, records, {}, ended=True, index=0)

        onward = self._onward(request, response, decoded)
        tip = ledger.guard.check(request, records)
        more = ledger.more(decoded)
        ledger.learn_last(records)
        kept, dropped = self._drop_known(records)
        ledger.totals.learn(len(kept), decoded.found)
        if more and onward is None:
            raise BadPage("there is more, but no cursor or link to it", url=request.url)
        ended = tip or more is False or ledger.totals.reached or onward is None
        if ended and onward is None:
            ledger.mismatch()

        position = self._position(onward, decoded, request)
        index = ledger.index
        page = ledger.page(
            response, kept, position, ended=ended, index=index, dropped=dropped
        )
        self._at = onward
        self.over = page.last
        return page

    def _drop_known(self, records: list[Raw]) -> tuple[list[Raw], int]:
        """Leave out what an earlier poll delivered from this very page."""
        count, known = self._known
        self._known = (0, "")
        if not count:
            return records, 0
        if len(records) >= count and records_hash(records[:count]) == known:
            return records[count:], count
        self._plan.note("page_rewritten_total")
        log.warning("The last page has been rewritten; it is produced whole.")
        return records, 0

    def _onward(self, request: Request, response: Response, decoded: Decoded) -> object:
        """The next cursor or absolute URL, or None."""
        plan = self._plan
        paging = plan.paging
        if paging.type == "link_header":
            header = response.header(paging.link_header.lower())
            link: object = link_of(header, paging.link_rel)
        else:
            field = "next" if paging.type == "odata" else "cursor"
            link = plan.fields.token(field, decoded.found)
        if link is None or paging.type == "cursor":
            return link
        return self._link(request, link)

    def _link(self, request: Request, link: object) -> str:
        if not isinstance(link, str):
            raise BadPage("the next link is not text", url=request.url)
        return without(self._plan.follow(request.url, link), self._plan.paging.cut)

    def _position(
        self, onward: object, decoded: Decoded, request: Request
    ) -> dict[str, Primitive]:
        """Where the chain goes on; behind its end, the last page once more."""
        plan = self._plan
        incremental = plan.paging.mode != "FULL"
        if onward is None and plan.paging.type == "odata" and incremental:
            delta = plan.fields.token("delta", decoded.found)
            if delta is not None:
                url = self._link(request, delta)
                return {"delta": local_part(url, self._start.home)}
        if onward is not None:
            position = self._place(onward)
            if incremental or plan.paging.type == "cursor":
                position["count"] = 0
                position["hash"] = ""
            return position
        if not incremental:
            return {}
        position = {} if self._at is None else self._place(self._at)
        position["count"] = len(decoded.records)
        position["hash"] = records_hash(decoded.records)
        return position

    def _place(self, at: object) -> dict[str, Primitive]:
        if self._field == "next":
            assert isinstance(at, str)
            return {"next": local_part(at, self._start.home)}
        if isinstance(at, Raw) and bytes(at)[:1] in b"[{":
            return {"cursor": bytes(at).decode(), "json": True}
        return {"cursor": primitive(at, "the cursor")}


class KeysetCourse:
    """A chain whose next page is asked for with a value of the last record."""

    #: A value is no cursor: it does not expire.
    stored = False

    def __init__(self, plan: Plan, standing: Standing, start: Ask):
        self.over = False
        self._plan = plan
        self._ledger = Ledger(plan, standing)
        self._start = start
        self._asked = False
        #: A page with fewer records is short; None: nobody knows.
        self._full = plan.paging.limit if plan.paging.limit_stated else None
        #: The largest page that was not the last one.
        self._largest = 0
        self._value: object = None
        #: Hashes of the records with this value that have been delivered.
        self._ties: set[bytes] = set()
        if standing.fresh:
            self._value = start.initial if start.initial != "" else None
            return
        position = standing.position
        value = position.get("offset")
        if isinstance(value, bool):
            raise StateError(f"the stored offset is {value!r}")
        # A poll that ended without any record has no value to go on from.
        if value is None and "ties" not in position:
            raise StateError("the stored offset has no offset")
        self._value = Raw(repr(value).encode()) if isinstance(value, float) else value
        if value is None:
            self._value = start.initial if start.initial != "" else None
        self._ties = _ties_of(text_in(position, "ties"))

    def ask(self) -> Request | None:
        if self.over or self._asked:
            return None
        self._asked = True
        return self._start(
            self._ledger.index,
            offset=self._value,
            cursor=self._value,
            last=self._ledger.last,
        )

    def give_up(self) -> None:
        """A chain is one shard: nobody waits."""

    def expects(self, request: Request) -> bool:
        return self._asked and not self.over

    def learn(
        self, request: Request, response: Response, decoded: Decoded
    ) -> Page | None:
        ledger = self._ledger
        records = decoded.records
        self._asked = False
        count = len(records)
        tip = ledger.guard.check(request, records)
        more = ledger.more(decoded)
        ledger.learn_last(records)
        kept = self._without_ties(records)
        ledger.totals.learn(len(kept), decoded.found)
        stuck = False
        if records:
            stuck = self._advance(records, bool(more), bool(kept), request)
        short = self._short(count)
        if more is not None or ledger.totals.known:
            ended = more is False or ledger.totals.reached
            if not count and more is None:
                ended = True
        else:
            ended = not count or short
        if tip or stuck or ended:
            ended = True
            if not more:
                ledger.mismatch()
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

    def _without_ties(self, records: list[Raw]) -> list[Raw]:
        """
        Leave out the records of the value asked with that were delivered.

        They stand in front, as the API sorts by this value.
        """
        ties = self._ties
        if not ties or not records:
            return records
        offset_of = self._plan.offset_of
        kept: list[Raw] = []
        for place, record in enumerate(records):
            if digest(record) in ties:
                continue
            if not same(offset_of(record), self._value):
                return kept + records[place:]
            kept.append(record)
        return kept

    def _advance(
        self, records: list[Raw], more: bool, news: bool, request: Request
    ) -> bool:
        """
        Go on to the last record's value; True if that is no step forward.

        Raises:
            BadPage: No value, or a full page of the value asked with.
        """
        offset_of = self._plan.offset_of
        value = single(offset_of(records[-1]))
        if value is None:
            raise BadPage(
                "the last record has no single value at http.offset.json.pointer",
                url=request.url,
            )
        stuck = self._value is not None and same(value, self._value)
        if stuck:
            count = len(records)
            stated = self._plan.paging.limit
            full = self._plan.paging.limit_stated and count >= stated
            # A page as large as one that had a successor is full as well.
            if full or more or (news and 0 < self._largest <= count):
                raise BadPage(
                    "a full page of one single offset value: there is no way to ask "
                    "for the rest; use a larger limit or a finer offset",
                    url=request.url,
                )
        else:
            self._ties = set()
        for record in reversed(records):
            if not same(offset_of(record), value):
                break
            self._ties.add(digest(record))
        if len(self._ties) > MAX_TIES:
            raise BadPage(
                f"over {MAX_TIES} records with one offset value; use a finer offset",
                url=request.url,
            )
        self._value = value
        return stuck

    def _short(self, count: int) -> bool:
        """True if this page is shorter than a full one, past the first."""
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
