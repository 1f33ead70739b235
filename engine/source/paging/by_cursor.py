"""
By cursor: pages of which each one says how to ask for the next.

Owns the walk along a chain, the one of cursors, and the single page of type none.

Path: `source.paging.paginator` -> here -> `source.paging.pager`
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from msgspec import DecodeError, Raw
from msgspec import json as msgjson

from engine.errors import BadPage, Looping, StateError
from engine.records import Page, Primitive, Request, Response, picked
from engine.source.decode.decoder import Decoded
from engine.source.paging.of_type import TypePager
from engine.source.paging.position import (
    NOWHERE,
    Position,
    primitive,
    records_hash,
    text_in,
    whole,
)

log = logging.getLogger("source")


class SinglePager(TypePager):
    """One request, one page: nothing says that there are more."""

    TYPE = "none"

    def _begin(self, stored: Position, *, child: bool) -> None:
        """Nothing of it is stored."""

    def ask(self) -> Request | None:
        if self.over or self._asked:
            return None
        self._asked = True
        return self._start(0, offset=self._start.initial, last=self._ledger.last)

    def learn(
        self, request: Request, response: Response, decoded: Decoded
    ) -> Page | None:
        self.over = True
        return self._ledger.page(response, decoded.records, {}, ended=True, index=0)


class ChainPager(TypePager):
    """
    A chain in which each page names the next.

    A type says what a place in its chain is: how it is asked for, where the next
    one stands in an answer, and how the state keeps it.

    Attributes:
        FIELD: The field of a position that holds a place.
        COUNTED: True if a position says of the page that comes how many of its
            records are known, in every mode.
    """

    TYPE: ClassVar[str]
    FIELD: ClassVar[str]
    COUNTED: ClassVar[bool] = False

    def _begin(self, stored: Position, *, child: bool) -> None:
        #: What the page in hand is asked with; None: the first one.
        self._at: object = None
        #: The first records of the first page, delivered in an earlier poll.
        self._known = (0, "")
        self._resumed = False
        #: The request before, as the guard knows it, and its page's records.
        self._before = (0, 0)
        #: The most records on a page.
        self._largest = 0
        if stored.fresh:
            self._at = self._first()
        else:
            self._resume(stored.position)

    def _first(self) -> object:
        """The place of a first page, or None: it is asked for without one."""
        return None

    @abstractmethod
    def _request(self, at: object, index: int) -> Request:
        """The request for the page at a place."""

    @abstractmethod
    def _onward(self, request: Request, response: Response, decoded: Decoded) -> object:
        """The next place, or None."""

    @abstractmethod
    def _place(self, at: object) -> dict[str, Primitive]:
        """A place as a position keeps it."""

    @abstractmethod
    def _kept(self, at: Primitive, position: Mapping[str, Primitive]) -> object:
        """The place that a position keeps."""

    def _behind_all(
        self, request: Request, decoded: Decoded
    ) -> dict[str, Primitive] | None:
        """Where the API says that a later poll goes on behind the last page."""
        return None

    def _resume(self, position: Mapping[str, Primitive]) -> None:
        field = self._field_in(position)
        at = position.get(field)
        if at is None and "count" not in position:
            raise StateError(NOWHERE.format(field))
        if at is not None:
            if isinstance(at, bool) or at == "":
                raise StateError(f"the stored offset's {field} is {at!r}")
            self._at = self._kept(at, position)
            self._resumed = True
        self._known = (whole(position, "count", 0), text_in(position, "hash"))

    def _field_in(self, position: Mapping[str, Primitive]) -> str:
        """The field of a position that holds its place."""
        return self.FIELD

    @property
    def stored(self) -> bool:
        return self._resumed and self._ledger.index == 0

    @property
    def onward(self) -> bool:
        return self._at is not None and self._ledger.index > 0

    def ask(self) -> Request | None:
        if self.over or self._asked:
            return None
        self._asked = True
        return self._request(self._at, self._ledger.index)

    def learn(
        self, request: Request, response: Response, decoded: Decoded
    ) -> Page | None:
        ledger = self._ledger
        records = decoded.records
        self._asked = False
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

    def _circle(self, request: Request, records: Sequence[Raw], onward: object) -> str:
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
            records
            and onward is not None
            and onward == self._at
            and here[1] == before[1]
        ):
            self._unheard(request)
        return ""

    def _unheard(self, request: Request) -> None:
        """A page named its own place, and was the page before it, too."""

    def _enough(self, kept: Sequence[Raw]) -> bool:
        """
        True if all that was promised has come, though there is a link.

        A total is a hint: against a page as large as any before it, or if more
        has come already, it is not believed.
        """
        totals, largest = self._ledger.totals, self._largest
        self._largest = max(largest, len(kept))
        return totals.reached and not totals.exceeded and len(kept) < largest

    def _drop_known(self, records: Sequence[Raw]) -> tuple[Sequence[Raw], int]:
        """Leave out what an earlier poll delivered from this very page."""
        count, known = self._known
        self._known = (0, "")
        if not count:
            return records, 0
        if len(records) >= count and records_hash(records[:count]) == known:
            return picked(records, range(count, len(records))), count
        self._plan.note("page_rewritten_total")
        log.warning("The last page has been rewritten; it is produced whole.")
        return records, 0

    def _position(
        self, onward: object, decoded: Decoded, request: Request, *, tip: bool
    ) -> dict[str, Primitive]:
        """
        Where the chain goes on; behind its end, the last page once more.

        Args:
            tip: The page names itself: the next poll asks for it again.
        """
        # In mode ODATA_PAGINATION nothing but a delta link leads on.
        incremental = self._plan.paging.mode not in ("FULL", "ODATA_PAGINATION")
        if onward is None:
            behind_all = self._behind_all(request, decoded)
            if behind_all is not None:
                return behind_all
        if onward is not None and not (tip and decoded.records):
            position = self._place(onward)
            if incremental or self.COUNTED:
                position["count"] = 0
                position["hash"] = ""
            return position
        if not incremental:
            return {} if onward is None else self._place(onward)
        position = {} if self._at is None else self._place(self._at)
        position["count"] = len(decoded.records)
        position["hash"] = records_hash(decoded.records)
        return position


class CursorPager(ChainPager):
    """A chain of cursors: each page brings the token of the next one."""

    TYPE = "cursor"
    FIELD = "cursor"
    COUNTED = True

    def _first(self) -> object:
        if self._plan.paging.mode == "CURSOR_PAGINATION":
            return self._start.initial or None
        return None

    def _request(self, at: object, index: int) -> Request:
        mode = self._plan.paging.mode
        return self._start(
            index,
            offset=at if mode == "CURSOR_PAGINATION" else self._start.initial,
            cursor=at,
            last=self._ledger.last,
        )

    def _onward(self, request: Request, response: Response, decoded: Decoded) -> object:
        return self._plan.fields.token("cursor", decoded.found)

    def _unheard(self, request: Request) -> None:
        raise Looping(
            "PaginationLoop: the API answers every cursor with the same page; "
            "pagination.cursor.param has to name the parameter that it reads",
            url=request.url,
        )

    def _place(self, at: object) -> dict[str, Primitive]:
        if isinstance(at, Raw) and bytes(at)[:1] in b"[{":
            return {"cursor": bytes(at).decode(), "json": True}
        return {"cursor": primitive(at, "the cursor")}

    def _kept(self, at: Primitive, position: Mapping[str, Primitive]) -> object:
        if position.get("json") is True:
            try:
                return Raw(msgjson.format(str(at).encode(), indent=-1))
            except DecodeError as e:
                raise StateError("the stored offset's cursor is not JSON") from e
        return Raw(repr(at).encode()) if isinstance(at, float) else at


PAGERS: Final[tuple[type[TypePager], ...]] = (SinglePager, CursorPager)
