"""
By number: pages that can be addressed without the page before.

Owns the walk by numbers, whatever they count, alone or as one of several shards
that share an api's pages between them.  It is one class, and long: whether a page is
the last one follows from the sizes of those before it, from what the API has promised,
and from what the other shards have seen, all of which move with each page.

Path: `source.paging.paginator` -> here -> `source.paging.pager`
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Raw

from engine.errors import SourceError, StateError
from engine.records import Page, Primitive, Request, Response
from engine.source.decode.decoder import Decoded
from engine.source.paging.coverage import Coverage
from engine.source.paging.of_type import TypePager
from engine.source.paging.position import Position, text_in, whole

log = logging.getLogger("source")

#: Statuses that say of a page that it is not there.
_NOT_THERE: Final = frozenset({404, 410, 416})

#: Statuses by which some APIs say the same, if all that was promised has come or
#: the page before was short.
_REFUSED: Final = frozenset({400, 403, 422})


class NumberPager(TypePager):
    """
    Pages that can be addressed: all of them, or every L-th from the i-th on.

    A type says what is sent for a page, and what that number counts.

    Attributes:
        TYPE: Also the field of a position that holds a number.
    """

    def _taken_up(self, stored: Position) -> Position:
        plan, paging = self._plan, self._plan.paging
        self._base = self._first_number(self._start.initial)
        self._grid = plan.count > 1 or bool(plan.others)
        self._coverage = Coverage(
            plan.others, field=self.TYPE, base=self._base, limit=paging.limit
        )
        if plan.others and self._coverage.poll > stored.poll:
            stored.poll, stored.fresh = self._coverage.poll, True
        if stored.fresh:
            stored.position = {}
        return stored

    def _begin(self, stored: Position, *, child: bool) -> None:
        plan, ledger, position = self._plan, self._ledger, stored.position
        paging = plan.paging
        self._fresh = stored.fresh
        guard = ledger.guard
        if not child:
            # The pages of a poll that goes on are still its pages. The polls of
            # children have one number and are of different parents.
            guard = plan.guards.get(ledger.poll, guard)
            plan.guards = {ledger.poll: guard}
            ledger.guard = guard
        #: Hash of the first page of the poll, 0 if nothing is known of it.
        self._front = _hash_in(position)
        guard.remember(self._base, self._front)

        #: Records in a cell of the grid; None until it is known.
        self._size: int | None = None
        #: A later page with fewer records is short.
        self._full = paging.limit
        #: True while one request at a time is to be asked.
        self._single = True
        self._first = True
        #: The index behind the last page, where some shard has seen the end.
        self._end: int | None = None
        #: Nothing is asked in advance from this number on.
        self._bound: int | None = None
        #: Empty pages in a row, and the number of the first of them.
        self._empties = 0
        self._empty_from = 0
        #: What was promised and lies on pages that repeat others, or "".
        self._unread = ""
        #: True if the page before was not full, and if that was seen by another.
        self._was_short = self._shorter = False
        self._pending: deque[tuple[Request, int]] = deque()
        if self._grid:
            if self._coverage.poll == stored.poll and self._coverage.size:
                self._adopt(self._coverage.size)
            elif "size" in position:
                self._adopt(whole(position, "size", least=1))
        self._at: int | None = None
        #: False if others have done all that was left to us.
        self._left = True
        if not stored.fresh:
            at = whole(position, self.TYPE)
            if at < self._base:
                raise StateError(
                    f"the stored {self.TYPE} {at} lies before the first, {self._base}"
                )
            self._at = at
            if plan.others:
                place = self._place(self._index_of(at))
                self._at, self._left = place, place is not None
                if place is not None:
                    self._at = max(at, place)

    def _adopt(self, size: int) -> None:
        """Go on with a page size that a first page has shown."""
        limit = self._plan.paging.limit
        self._size = size
        self._full = min(size, limit)
        self._first = False
        # Short: the server caps, or there is no more; ask one by one.
        self._single = size < limit or not self._plan.addressable

    # Numbers are what is sent; indexes count pages of the api from 0.

    @property
    @abstractmethod
    def _least(self) -> int:
        """The first number where nothing says which."""

    @abstractmethod
    def _request(self, number: int, index: int) -> Request:
        """The request for a page."""

    @abstractmethod
    def _index_of(self, number: int) -> int:
        """Which page a number is of."""

    def _asked_index(self, number: int) -> int:
        """Which page a number is of that is asked now, behind those on their way."""
        return self._index_of(number)

    @abstractmethod
    def _number_of(self, index: int) -> int:
        """What a page is asked for with."""

    @abstractmethod
    def _after(self, number: int) -> int | None:
        """What is asked right behind a full page; None: others have the rest."""

    @abstractmethod
    def _behind(self, number: int, count: int) -> int | None:
        """What is asked after a page with `count` records."""

    @property
    @abstractmethod
    def _skipped(self) -> tuple[int, bool]:
        """
        Pages or records, as the type counts, that the poll leaves out in front, at
        least, and whether that is exact: where an api begins to count, nobody says.
        """

    @abstractmethod
    def _suppose(self, number: int, index: int) -> None:
        """Set the totals to what stands before a page, its shards' pages too."""

    @abstractmethod
    def _count_up(self, number: int, index: int, count: int) -> None:
        """Totals, where the number says how much has come with a page."""

    @abstractmethod
    def _bound_by(self, number: int) -> int | None:
        """The number from which nothing is there, as the totals promise."""

    def _first_number(self, initial: object) -> int:
        """`http.initial.offset` as a number, or where the type begins."""
        if initial is None or initial == "":
            return self._least
        text = bytes(initial).decode() if isinstance(initial, Raw) else str(initial)
        if not text.isdigit() or not text.isascii():
            raise SourceError(f"http.initial.offset is {text!r}: not a count")
        return int(text)

    def _place(self, index: int) -> int | None:
        """
        The first number from a page on that is ours and not done; None if
        others have done all that is left.
        """
        plan = self._plan
        index += (plan.index - index) % plan.count
        if not plan.others:
            return self._number_of(index)
        poll = self._ledger.poll
        horizon = max(index, self._horizon()) + math.lcm(
            self._coverage.period, plan.count
        )
        while index <= horizon:
            start, end = self._number_of(index), self._number_of(index + 1)
            reached = self._coverage.reach(poll, index, start, end)
            if reached < end:
                return reached
            index += plan.count
        return None

    def _horizon(self) -> int:
        """A page behind which only finished shards count as done."""
        return self._index_of(max(self._coverage.furthest, self._base))

    def ask(self) -> Request | None:
        plan, ledger, pending = self._plan, self._ledger, self._pending
        if self.over or (self._single and pending):
            return None
        if ledger.index + len(pending) >= plan.paging.max_pages:
            return None
        if self._grid and not self._board():
            return None
        number = self._next()
        if number is None:
            if not pending:
                self._nothing()
            return None
        if pending and self._bound is not None and number >= self._bound:
            return None
        index = self._asked_index(number)
        if self._end is not None and index >= self._end:
            if pending:
                return None
            if self._fresh and not ledger.index:
                # Others saw the end before anything was ours to ask.
                self._nothing()
                return None
            # We learn of the end only now, behind our last page: the empty
            # page that follows is what carries "done" into the state.
        request = self._request(number, index)
        pending.append((request, number))
        return request

    def _nothing(self) -> None:
        """The poll ends without a page of ours."""
        self.over = True
        plan = self._plan
        plan.note("polls_without_page_total")
        plan.idle = {"poll": self._ledger.poll, "done": True}
        if self._size is not None:
            plan.idle["size"] = self._size

    def _next(self) -> int | None:
        """The next number to ask for, or None: others did the rest."""
        if self._pending:
            return self._after(self._pending[-1][1])
        if not self._left:
            return None
        if self._at is None:
            self._at = self._place(0) if self._grid else self._base
        return self._at

    def _board(self) -> bool:
        """Hear what the other shards saw; False: the size is not known yet."""
        plan, poll = self._plan, self._ledger.poll
        if plan.count == 1:
            return True
        told = plan.coordination.learn(poll)
        if told is not None and not told[0]:
            if self._size is None and plan.index:
                # The first shard could not read its page; so ends our poll.
                self.over = True
                return False
        elif told is not None:
            if self._size is None:
                self._adopt(told[0])
            if told[1] is not None:
                self._end = told[1]
        return self._size is not None or plan.index == 0

    def give_up(self) -> None:
        if self._plan.count > 1 and not self._plan.index and self._size is None:
            self._plan.coordination.publish(self._ledger.poll, 0, None)

    def expects(self, request: Request) -> bool:
        return not self.over and any(each is request for each, _ in self._pending)

    def learn(
        self, request: Request, response: Response, decoded: Decoded
    ) -> Page | None:
        if self.over or not self._pending or self._pending[0][0] is not request:
            return None
        _, number = self._pending.popleft()
        ledger, paging = self._ledger, self._plan.paging
        records = decoded.records
        count = len(records)
        index = self._index_of(number)
        again = overtaken = False
        if count and not paging.repeats:
            again = ledger.guard.repeats(number, records)
            if not again:
                again, overtaken = self._overtaken(request, number, decoded)
        if again:
            return self._repeated(request, response, number, decoded)
        if not self._front and count:
            self._front = ledger.guard.last
        stops = ledger.stops(decoded, response)
        more = ledger.more(decoded)
        self._count(number, index, count, decoded)
        ledger.learn_last(records)
        full = self._is_full(count)
        self._was_short = not full
        ended = self._ended(stops, more, number, count, full)
        if not ended:
            ledger.doubt()
        if self._grid:
            self._tell(index, count, ended)
            records, dropped = self._within(number, records)
        else:
            dropped = 0
        if overtaken:
            records, dropped = [], count
        behind = self._behind(number, count)
        if behind is None:
            ended = True
            behind = self._number_of(index + 1)
        elif self._grid and self._end is not None:
            ended = ended or self._index_of(behind) >= self._end
        if ended:
            if not more and not stops and not full and self._exact:
                ledger.mismatch()
        elif behind != self._following(number):
            # The page was not as large as reckoned: what is under way lies
            # elsewhere than it should.
            self._pending.clear()
            self._single = True
        self._at = behind
        page = ledger.page(
            response,
            records,
            self._position(self._kept(behind, more)),
            ended=ended,
            index=index,
            dropped=dropped,
            unread=self._unread if ended else "",
        )
        self.over = page.last
        return page

    def _overtaken(
        self, request: Request, number: int, decoded: Decoded
    ) -> tuple[bool, bool]:
        """
        Whether another shard has taken this page's records in this poll.

        Returns: whether it took them from a page before this one, which is then the
            repetition, or from a later one. That is the repetition then, and behind
            it nothing is new; it is itself still to be read, for who took it may
            have been killed before it was delivered.
        """
        ledger, coordination = self._ledger, self._plan.coordination
        taken = coordination.claim(ledger.poll, number, ledger.guard.last)
        if taken is None or taken < number:
            return taken is not None, False
        end = self._index_of(taken) + 1
        self._end = end if self._end is None else min(self._end, end)
        self._unread = self._say_repeated(request, taken, decoded)
        return False, True

    def _say_repeated(self, request: Request, number: int, decoded: Decoded) -> str:
        """Say that the page at a place is one again; what is unread then, or ""."""
        ledger = self._ledger
        more = ledger.more(decoded) is True
        met = self._met(number, decoded) and not more
        return ledger.repeated(request.url, met=met, more=more)

    def _met(self, number: int, decoded: Decoded) -> bool:
        """True if all that the API promised stands before a place."""
        totals = self._ledger.totals
        if self._plan.count == 1:
            return totals.reached
        # The pages between ours are for the others to read.
        self._suppose(number, self._index_of(number))
        totals.learn(0, decoded.found)
        return totals.reached

    def _repeated(
        self, request: Request, response: Response, number: int, decoded: Decoded
    ) -> Page:
        """The poll ends at a page that is not to be produced again."""
        unread = self._say_repeated(request, number, decoded)
        count = len(decoded.records)
        return self._last_page(response, number, dropped=count, unread=unread)

    def refused(self, request: Request, failure: SourceError) -> Page | None:
        if self.over or not self._pending or self._pending[0][0] is not request:
            return None
        _, number = self._pending[0]
        met = self._ledger.totals.reached
        # What an error rule says is no end, whatever the status.
        beyond = (
            not failure.ruled
            and number > self._base
            and (
                failure.status in _NOT_THERE
                or (failure.status in _REFUSED and (met or self._was_short))
            )
        )
        if not beyond:
            raise failure
        self._pending.popleft()
        if not (failure.status == 416 or (met and failure.status in _NOT_THERE)):
            self._plan.note("polls_refused_total")
            log.warning(
                "The poll ends at a page that the API refuses (%s): taken for the one "
                "behind its last; http.response.status.empty=204,205,%s says so.",
                failure,
                failure.status,
            )
        return self._last_page(self._ledger.nothing(request, failure), number)

    def _last_page(
        self, response: Response, number: int, *, dropped: int = 0, unread: str = ""
    ) -> Page:
        """A page without records behind the last one that had some."""
        self.over = True
        index = self._index_of(number)
        if self._grid:
            self._tell(index, 0, True)
        at = self._empty_from if self._empties else number
        return self._ledger.page(
            response,
            [],
            self._position(at),
            ended=True,
            index=index,
            dropped=dropped,
            unread=unread or self._unread,
        )

    def _kept(self, behind: int, more: bool | None) -> int:
        """
        Where a later poll goes on.

        Behind empty pages it is the first of them, if the next poll goes on from
        there: records may come to stand on it.
        """
        if not self._empties or self._plan.paging.mode == "FULL" or more:
            return behind
        return self._empty_from

    def _following(self, number: int) -> int | None:
        """What was, or would be, asked right behind a number."""
        return self._pending[0][1] if self._pending else self._after(number)

    @property
    def _exact(self) -> bool:
        return self._skipped[1]

    def _count(
        self,
        number: int,
        index: int,
        count: int,
        decoded: Decoded,
    ) -> None:
        """Totals; where the number says how much has come, it is believed."""
        totals = self._ledger.totals
        totals.learn(count, decoded.found)
        self._count_up(number, index, count)
        self._bound = None if totals.exceeded else self._bound_by(number)

    def _is_full(self, count: int) -> bool:
        """
        False for a page that is shorter than another one was, or empty.

        The first one shows how large a page is: a server may give fewer than are
        asked for.  It counts as full where it has all that is asked for.
        """
        if not self._first:
            self._shorter = count < self._full
            return not self._shorter
        self._first = False
        limit = self._plan.paging.limit
        if 0 < count < limit:
            self._full = self._size = count
            return False
        self._size = count or limit
        self._single = not self._plan.addressable
        return count >= limit

    def _ended(
        self, stops: bool, more: bool | None, number: int, count: int, full: bool
    ) -> bool:
        """Whether nothing comes behind this page; see `pagination.end`."""
        totals, paging = self._ledger.totals, self._plan.paging
        if count:
            self._empties = 0
        else:
            self._empty_from = self._empty_from if self._empties else number
            self._empties += 1
        if stops or more is False:
            return True
        if more:
            return False
        if totals.reached:
            # A total is a hint: it never ends a poll against a full page.
            return not full
        if not count:
            if totals.all_pages is not None:
                return False
            return self._empties >= paging.empty_pages
        return paging.short_ends and self._shorter and not totals.known

    def _tell(self, index: int, count: int, ended: bool) -> None:
        """Say on the board what this page has shown."""
        end = self._end
        if ended:
            here = index + 1 if count else index
            end = here if end is None else min(end, here)
        self._end = end
        size = self._size or self._plan.paging.limit
        self._plan.coordination.publish(self._ledger.poll, size, end)

    def _within(self, number: int, records: Sequence[Raw]) -> tuple[Sequence[Raw], int]:
        """Leave to the next page what is not of this one, and how much that is."""
        return records, 0

    def _position(self, behind: int) -> dict[str, Primitive]:
        position: dict[str, Primitive] = {self.TYPE: behind}
        if self._size is not None and self._plan.paging.mode == "FULL":
            # What other shards need to know, should this api be split anew.
            position["size"] = self._size
        if self._front and self._ledger.index + 1 >= self._plan.paging.max_pages:
            # The poll may go on in another process, which knows its pages no more.
            position["first"] = f"{self._front:016x}"
        return position


def _hash_in(position: Mapping[str, Primitive]) -> int:
    """The hash of the poll's first page that an offset keeps, or 0."""
    text = text_in(position, "first")
    try:
        return int(text or "0", 16)
    except ValueError as e:
        raise StateError(f"the stored offset's first is {text!r}") from e
