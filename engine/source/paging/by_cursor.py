"""
By cursor: pages of which each one says how to ask for the next.

Owns the walks along cursors and links, and the single page of type none.

Path: `source.paging.paginator` -> here -> `source.paging.pager`
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from msgspec import DecodeError, Raw
from msgspec import json as msgjson

from engine.errors import BadPage, Forbidden, Looping, SourceError, StateError
from engine.records import Page, Primitive, Request, Response
from engine.source.decode.decoder import Decoded
from engine.source.paging.links import at_own, link_of, without
from engine.source.paging.pager import PagingPlan, PollLedger, PollRequests
from engine.source.paging.position import (
    Position,
    local_part,
    primitive,
    records_hash,
    text_in,
    whole,
)
from engine.source.paging.request import behind

log = logging.getLogger("source")


class CursorPager:
    """
    One page, or a chain in which each page names the next: a cursor, a URL,
    a Link header, an OData link.
    """

    def __init__(self, plan: PagingPlan, stored: Position, start: PollRequests):
        paging = plan.paging
        self.over = False
        self._plan = plan
        self._ledger = PollLedger(plan, stored)
        self._start = start
        self._field = "cursor" if paging.type == "cursor" else "next"
        #: What the page in hand is asked with; None: the first one.
        self._at: object = None
        #: The first records of the first page, delivered in an earlier poll.
        self._known = (0, "")
        self._asked = False
        self._resumed = False
        #: The request before, as the guard knows it, and its page's records.
        self._before = (0, 0)
        #: The most records on a page.
        self._largest = 0
        if stored.fresh:
            if paging.type == "cursor" and paging.mode == "CURSOR_PAGINATION":
                self._at = start.initial or None
        else:
            self._resume(stored.position)

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
        circle = self._circle(request, records, onward)
        stops = ledger.stops(decoded, response)
        more = ledger.more(decoded)
        if circle == "itself":
            # It is the last one, and was delivered when it came first.
            self.over = True
            unread = ledger.repeated(request.url, met=False, more=more is True)
            position = self._position(onward, decoded, request, tip=True)
            return ledger.page(
                response,
                [],
                position,
                ended=True,
                index=ledger.index,
                dropped=len(records),
                unread=unread,
            )
        ledger.learn_last(records)
        kept, dropped = self._drop_known(records)
        ledger.totals.learn(len(kept), decoded.found)
        if more and onward is None and not stops:
            raise BadPage("there is more, but no cursor or link to it", url=request.url)
        # What an earlier poll had, and it names itself: nothing has come since.
        tip = circle == "tip" or (bool(dropped) and not kept and onward == self._at)
        ended = stops or tip or more is False or onward is None or self._enough(kept)
        if ended and onward is None:
            ledger.mismatch()
        elif not ended:
            ledger.doubt()

        position = self._position(onward, decoded, request, tip=tip)
        index = ledger.index
        page = ledger.page(
            response, kept, position, ended=ended, index=index, dropped=dropped
        )
        self._at = onward
        self.over = page.last
        return page

    def refused(self, request: Request, failure: SourceError) -> Page | None:
        raise failure

    def _circle(self, request: Request, records: list[Raw], onward: object) -> str:
        """
        Whether the chain turns round: "" if it does not.

        Returns: "tip" for an empty page where there was one before, "itself" for
            a page that names itself as the next one and was asked twice.

        Raises:
            Looping: A longer circle, or an API that does not look at the cursor.
        """
        guard = self._ledger.guard
        known = guard.asked(request)
        again = guard.again(request, records)
        here = guard.signature(request), guard.last
        before, self._before = self._before, here
        if known and not records:
            return "tip"
        if again and here == before:
            return "itself"
        if again:
            raise Looping(
                "PaginationLoop: a request already sent in this poll brought the "
                "same records again",
                url=request.url,
            )
        if (
            self._field == "cursor"
            and records
            and onward is not None
            and onward == self._at
            and here[1] == before[1]
        ):
            raise Looping(
                "PaginationLoop: the API answers every cursor with the same page; "
                "pagination.cursor.param has to name the parameter that it reads",
                url=request.url,
            )
        return ""

    def _enough(self, kept: list[Raw]) -> bool:
        """
        True if all that was promised has come, though there is a link.

        A total is a hint: against a page as large as any before it, or if more
        has come already, it is not believed.
        """
        totals, largest = self._ledger.totals, self._largest
        self._largest = max(largest, len(kept))
        return totals.reached and not totals.exceeded and len(kept) < largest

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
        return self._link(request, response, decoded, link)

    def _link(
        self, request: Request, response: Response, decoded: Decoded, link: object
    ) -> str:
        """
        The URL that a link leads to, from the one that answered.

        Source: RFC 3986, section 5.1.3: after a redirect that is the last one.
        """
        plan = self._plan
        paging = plan.paging
        if isinstance(link, Raw):
            link = _target(link)
        if not isinstance(link, str):
            raise BadPage("the next link is not text", url=request.url)
        base = response.url
        if paging.base_field is not None:
            start = plan.fields.token("base", decoded.found)
            if isinstance(start, str):
                link = behind(start, link)
        if paging.own_origin:
            link = at_own(self._start.home, base, link)
            base = request.url
        try:
            url = plan.follow(base, link)
        except Forbidden as e:
            if paging.own_origin:
                raise
            raise Forbidden(
                f"the next link leads astray: {e}; pagination.next.origin=OWN asks "
                "for it where the page before came from",
                url=request.url,
            ) from e
        return without(url, paging.cut)

    def _position(
        self, onward: object, decoded: Decoded, request: Request, *, tip: bool
    ) -> dict[str, Primitive]:
        """
        Where the chain goes on; behind its end, the last page once more.

        Args:
            tip: The page names itself: the next poll asks for it again.
        """
        plan = self._plan
        incremental = plan.paging.mode != "FULL"
        if onward is None and plan.paging.type == "odata":
            delta = plan.fields.token("delta", decoded.found)
            if delta is not None and incremental:
                url = plan.follow(request.url, str(delta))
                url = without(url, plan.paging.cut)
                return {"delta": local_part(url, self._start.home)}
            if delta is not None:
                plan.note("delta_links_unused_total")
        if onward is not None and not (tip and decoded.records):
            position = self._place(onward)
            if incremental or plan.paging.type == "cursor":
                position["count"] = 0
                position["hash"] = ""
            return position
        if not incremental:
            return {} if onward is None else self._place(onward)
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


def _target(link: Raw) -> object:
    """The URL of a link that is an object: its `href`, as JSON:API has it."""
    value = msgjson.decode(link)
    if isinstance(value, dict):
        for name in ("href", "url"):
            if isinstance(value.get(name), str):
                return value[name]
    return None
