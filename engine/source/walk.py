"""
Walk: what every way through an api's pages has in common.

Owns the keys of paging, the seams between a walk and what drives it, and the
book a walk keeps: pages, totals, `last.<path>`.

Path: `source.chained`, `source.counted` -> here -> `source.standing`,
`source.guard`
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from msgspec import Raw, Struct

from engine.errors import BadPage, Forbidden
from engine.records import Offset, Page, Primitive, Request, Response
from engine.source.guard import Guard
from engine.source.standing import (
    MAX_CURSOR,
    Standing,
    primitive,
    reader,
    token_of,
    whole,
)

log = logging.getLogger("source")

#: Types whose next request comes out of the page before.
CHAINS: Final = frozenset({"cursor", "next_url", "link_header", "odata"})


COUNTS: Final = frozenset({"offset", "page"})


#: What a counter of ours is told: a metric's name, and by how much.
Note = Callable[[str], None]


#: The shards of another `count` that worked on this api: (index, count, offset).
Others = Sequence[tuple[int, int, Offset]]


class Decoded(Protocol):
    """What a decoder found in a response."""

    @property
    def records(self) -> list[Raw]:
        """The records, in order, unread."""

    @property
    def values(self) -> Sequence[Raw | None]:
        """One for each of `Plan.paths`; None where there is nothing."""


class Ask(Protocol):
    """A request shape with everything filled in that is the same in a poll."""

    @property
    def initial(self) -> object:
        """`http.initial.offset` as a value, or None."""

    @property
    def home(self) -> str:
        """The URL of the first request, without query."""

    def __call__(
        self,
        index: int,
        *,
        offset: object = None,
        cursor: object = None,
        page: int | None = None,
        last: Mapping[str, object] | None = None,
    ) -> Request:
        """The request for one page."""

    def follow(self, index: int, url: str) -> Request:
        """A GET of another URL with the same headers."""


class Shape(Protocol):
    """What all requests of an api have in common."""

    @property
    def carries(self) -> bool:
        """True if the place of a page stands in its URL or body."""

    @property
    def last(self) -> Sequence[str]:
        """The fields of a record that its templates name as `last.<path>`."""

    def begin(self, now_ms: int, scope: Mapping[str, object] | None = None) -> Ask:
        """Fill in what stays the same in a poll that starts now."""


class Crew(Protocol):
    """How the shards of one api tell each other what they saw."""

    def publish(self, poll: int, size: int, end: int | None) -> None:
        """
        Tell the others.

        A later poll replaces an earlier one, an earlier one is ignored; of
        two ends of one poll the lower holds, and None takes nothing back.

        Args:
            poll: Number of the poll.
            size: Records on a full page.
            end: How many pages there are, or None: not known yet.
        """

    def learn(self, poll: int) -> tuple[int, int | None] | None:
        """Size and end as told in this poll or a later one, or None."""


class Alone:
    """The crew of an api that is one shard."""

    def publish(self, poll: int, size: int, end: int | None) -> None:
        """Nobody to tell."""

    def learn(self, poll: int) -> tuple[int, int | None] | None:
        """Nobody to ask."""
        return None


class Paging(Struct, frozen=True, kw_only=True):
    """
    The keys `pagination.*`, `http.offset.*` and `odata.*` of one api.

    Fields of the response are paths, or `header:NAME`; None is not set.

    Attributes:
        limit: Page size asked for.
        limit_stated: True if somebody wrote it down.
        max_pages: Most pages of one poll of this shard.
        offset_field: `http.offset.json.pointer`, a path in a record.
        cut: Names of query parameters that carry credentials; they are
            taken out of links.
    """

    type: str = "none"
    mode: str = "FULL"
    limit: int = 100
    limit_stated: bool = False
    max_pages: int = 1000
    page_start: int = 1
    cursor_field: str | None = None
    has_more_field: str | None = None
    total_field: str | None = None
    total_pages_field: str | None = None
    link_header: str = "Link"
    link_rel: str = "next"
    nextlink_field: str = "'@odata.nextLink'"
    deltalink_field: str = "'@odata.deltaLink'"
    offset_field: str | None = None
    limit_param: str = "limit"
    offset_param: str = "offset"
    page_param: str = "page"
    cursor_param: str = "cursor"
    cut: frozenset[str] = frozenset()


class Course(Protocol):
    """
    One poll's walk; the driver fetches what it asks and tells it the answers.

    Answers are told in the order in which their requests were given out.
    """

    @property
    def over(self) -> bool:
        """True once the poll has ended; nothing more is asked."""

    @property
    def stored(self) -> bool:
        """True while what is asked comes out of a stored cursor or link."""

    def ask(self) -> Request | None:
        """The next request, or None: nothing can be asked yet, or ever."""

    def expects(self, request: Request) -> bool:
        """False for an answer nobody needs any more, not even its failure."""

    def learn(
        self, request: Request, response: Response, decoded: Decoded
    ) -> Page | None:
        """
        The page that an answer makes, or None if it lies behind the end.

        Raises:
            BadPage: The page contradicts the configuration or itself.
            Looping: This request brought the same records before.
            Forbidden: A cursor too long, a link that leads astray.
        """


class Found:
    """
    The fields of an envelope or of the headers, by the names we give them.

    An answer with a status that means "empty" has no envelope.
    """

    def __init__(self, fields: Mapping[str, str | None]):
        paths: list[str] = []
        self._headers: dict[str, str] = {}
        self._places: dict[str, int] = {}
        for name, field in fields.items():
            if field is None:
                continue
            if field.lower().startswith("header:"):
                self._headers[name] = field[7:].strip().lower()
            else:
                self._places[name] = len(paths)
                paths.append(field)
        self.paths = tuple(paths)

    def __contains__(self, name: str) -> bool:
        return name in self._places or name in self._headers

    def get(self, name: str, response: Response, values: Sequence[Raw | None]) -> Any:
        """`Raw` out of the body, str out of a header, None where missing."""
        place = self._places.get(name)
        if place is not None:
            return values[place] if values else None
        header = self._headers.get(name)
        return None if header is None else response.header(header)


def found_token(found: object, what: str) -> object:
    """A cursor out of a field of the body or a header."""
    if isinstance(found, str):
        if len(found) > MAX_CURSOR:
            raise Forbidden(f"{what} is over {MAX_CURSOR} bytes")
        return found or None
    assert found is None or isinstance(found, Raw)
    return token_of(found, what)


def _flag(found: object, what: str) -> bool:
    """A bool out of a field of the body or a header."""
    text = found.strip().lower() if isinstance(found, str) else None
    if isinstance(found, Raw):
        text = bytes(found).strip().decode("utf-8", "replace")
    if text == "true":
        return True
    if text == "false":
        return False
    raise BadPage(f"{what} is not true or false")


def _number(found: object, what: str) -> int | None:
    """A count out of a field of the body or a header; None if it is missing."""
    if found is None:
        return None
    text = found if isinstance(found, str) else bytes(found).decode("utf-8", "replace")  # type: ignore[call-overload]
    text = text.strip().strip('"').strip()
    if text in ("null", ""):
        return None
    whole, _, rest = text.partition(".")
    if not whole.isdigit() or not whole.isascii() or rest.strip("0"):
        raise BadPage(f"{what} is not a count")
    return int(whole)


class Totals:
    """
    How much there is, as the API says, against how much has come.

    Attributes:
        received, pages: In this poll so far; kept in the offset where a
            field of the API counts them.
        records, all_pages: What was promised last, or None.
    """

    def __init__(self, found: Found, received: int, pages: int):
        self._found = found
        self.received = received
        self.pages = pages
        self.records: int | None = None
        self.all_pages: int | None = None

    def learn(
        self, count: int, response: Response, values: Sequence[Raw | None]
    ) -> None:
        """One more page with `count` records."""
        self.received += count
        self.pages += 1
        found = self._found
        if "total" in found:
            total = _number(found.get("total", response, values), "the total")
            if total is not None:
                self.records = total
        if "total_pages" in found:
            total = _number(found.get("total_pages", response, values), "total pages")
            if total is not None:
                self.all_pages = total

    @property
    def known(self) -> bool:
        return self.records is not None or self.all_pages is not None

    @property
    def reached(self) -> bool:
        """True if all that was promised has come."""
        return (self.records is not None and self.received >= self.records) or (
            self.all_pages is not None and self.pages >= self.all_pages
        )

    def position(self) -> dict[str, Primitive]:
        """What a resumed poll needs to know."""
        position: dict[str, Primitive] = {}
        if "total" in self._found:
            position["received"] = self.received
        if "total_pages" in self._found:
            position["pages"] = self.pages
        return position


class Plan:
    """
    What a walk through one shard of one api goes by, poll after poll.

    Args:
        paging: The keys.
        shape: Makes requests.
        follow: (URL asked, reference) to the URL it leads to, or Forbidden.
        index, count: Which of the shards this is.
        others: Stored offsets of shards of another count.
        crew: Where the shards of this api meet.
        note: Told the name of each counter that goes up.
    """

    def __init__(
        self,
        paging: Paging,
        *,
        shape: Shape,
        follow: Callable[[str, str], str],
        index: int = 0,
        count: int = 1,
        others: Others = (),
        crew: Crew | None = None,
        note: Note = lambda name: None,
    ):
        self.paging = paging
        self.found = Found(
            {
                "cursor": paging.cursor_field,
                "has_more": paging.has_more_field,
                "total": paging.total_field,
                "total_pages": paging.total_pages_field,
                "next": paging.nextlink_field if paging.type == "odata" else None,
                "delta": paging.deltalink_field if paging.type == "odata" else None,
            }
        )
        self.shape = shape
        self.follow = follow
        self.offset_of = reader(paging.offset_field or "")
        self._last_of = {path: reader(path) for path in shape.last}
        self.index = index
        self.count = count
        self.others = others
        self.crew = crew or Alone()
        self.note = note
        #: The last poll in which no page fell to this shard.
        self.idle_poll = 0

    @property
    def addressable(self) -> bool:
        """True if later pages can be asked for before earlier ones came."""
        return self.paging.type in COUNTS and not self._last_of

    def last_of(self, record: Raw) -> dict[str, object]:
        """The fields of a record that the next request may name."""
        return {path: read(record) for path, read in self._last_of.items()}


class Ledger:
    """What every walk keeps: its pages, its guard, its totals, `last.<path>`."""

    def __init__(self, plan: Plan, standing: Standing):
        position = standing.position
        self.plan = plan
        self.poll = standing.poll
        self.index = 0
        self.guard = Guard()
        self.totals = Totals(
            plan.found,
            whole(position, "received", 0),
            whole(position, "pages", 0),
        )
        self.last: dict[str, object] = standing.last()

    def more(self, response: Response, values: Sequence[Raw | None]) -> bool | None:
        """`has.more.field`, or None: not configured, or no envelope."""
        found = self.plan.found
        if "has_more" not in found or not values and response.body == b"":
            return None
        return _flag(found.get("has_more", response, values), "has.more.field")

    def learn_last(self, records: Sequence[Raw]) -> None:
        if records:
            self.last = self.plan.last_of(records[-1])

    def page(
        self,
        response: Response,
        records: list[Raw],
        position: dict[str, Primitive],
        *,
        ended: bool,
        index: int,
        dropped: int = 0,
    ) -> Page:
        """The page, with the offset that holds once it is delivered."""
        self.index += 1
        truncated = not ended and self.index >= self.plan.paging.max_pages
        offset: dict[str, Primitive] = {"poll": self.poll, "done": ended, **position}
        offset.update(self.totals.position())
        for path, value in self.last.items():
            if value is not None:
                offset[f"last.{path}"] = primitive(value, f"the record's {path}")
        if truncated:
            self.plan.note("polls_truncated_total")
            log.warning(
                "The poll stops at pagination.max.pages (%d) before the end of data; "
                "the next one goes on from here.",
                self.plan.paging.max_pages,
            )
        return Page(
            response,
            index,
            records,
            offset,
            ended or truncated,
            truncated,
            dropped,
        )

    def short_of(self, promised: str) -> None:
        """Say that fewer records came than the API promised."""
        self.plan.note("total_mismatch_total")
        log.warning("The poll ended before %s had come.", promised)

    def mismatch(self) -> None:
        """Say so if fewer came than were promised."""
        totals = self.totals
        if totals.known and not totals.reached:
            if totals.records is not None:
                self.short_of(f"{totals.records} records ({totals.received} came)")
            else:
                self.short_of(f"{totals.all_pages} pages ({totals.pages} came)")
