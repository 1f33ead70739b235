"""
Walk: what every way through an api's pages has in common.

Owns the keys of paging, the seams between a walk and what drives it, and the
book a walk keeps: pages, totals, `last.<path>`.

Path: `source.chained`, `source.counted` -> here -> `source.standing`,
`source.guard`
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from msgspec import Raw, Struct

from engine.errors import BadPage, Forbidden
from engine.records import Offset, Page, Primitive, Request, Response
from engine.source.decode import Decoded
from engine.source.guard import Guard
from engine.source.standing import (
    MAX_CURSOR,
    Standing,
    primitive,
    reader,
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
        Put up this shard's notice, in place of its last one.

        Args:
            poll: Number of the poll.
            size: Records on a full page; 0: this poll was given up before
                that was known.
            end: How many pages there are, or None: not known yet.
        """

    def learn(self, poll: int) -> tuple[int, int | None] | None:
        """What the notices of all shards say of a poll: `gathered`."""


def gathered(
    poll: int, notices: Iterable[tuple[int, int, int | None]]
) -> tuple[int, int | None] | None:
    """
    Size and end of a poll out of the shards' notices (poll, size, end).

    The lowest end holds.  Where all have gone on to a later poll, its size is
    still good, its end is not: there may be more by now.

    Returns: None if nobody has said anything about this poll or a later one;
        size 0 if all that was said is that it was given up.
    """
    size = later = 0
    end = None
    given_up = False
    for noticed, its_size, its_end in notices:
        if noticed >= poll and not its_size:
            given_up = True
        elif noticed == poll:
            size = its_size
            if its_end is not None and (end is None or its_end < end):
                end = its_end
        elif noticed > poll:
            later = its_size
    return (size or later, end) if size or later or given_up else None


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

    def give_up(self) -> None:
        """The poll ends here, by a failure: others need not wait for it."""

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


class Fields:
    """The places in a response or its headers that paging looks at."""

    def __init__(self, places: Mapping[str, str | None]):
        self._places = {name: place for name, place in places.items() if place}
        self.paths = tuple(dict.fromkeys(self._places.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def get(self, name: str, found: Mapping[str, object]) -> object:
        """What a decoder found there; None where it is null or missing."""
        return found.get(self._places.get(name, ""))

    def token(self, name: str, found: Mapping[str, object]) -> object:
        """
        A cursor or link: str, int, or `Raw` for a number with a fraction, an
        array or an object; None is the end of data.

        Raises:
            BadPage: It is `true`, or many values.
            Forbidden: Over 64 KiB.
        """
        value = self.get(name, found)
        if value is None or value is False or value == "":
            return None
        if value is True or isinstance(value, list):
            raise BadPage(f"{self._places[name]} is {value!r:.40}, which is no cursor")
        if isinstance(value, str | Raw) and len(value) > MAX_CURSOR // 4:
            data = value.encode() if isinstance(value, str) else bytes(value)
            if len(data) > MAX_CURSOR:
                raise Forbidden(f"{self._places[name]} is over {MAX_CURSOR} bytes")
        return value

    def flag(self, name: str, found: Mapping[str, object]) -> bool:
        """
        A bool; a header says it as text.

        Raises:
            BadPage: It is none.
        """
        value = self.get(name, found)
        place = self._places[name]
        if isinstance(value, str) and place.lower().startswith("header:"):
            value = {"true": True, "false": False}.get(value.strip().lower())
        if isinstance(value, bool):
            return value
        raise BadPage(f"{place} is not true or false")

    def count(self, name: str, found: Mapping[str, object]) -> int | None:
        """
        A count, or None where it is null or missing.

        Raises:
            BadPage: It is something else.
        """
        value = self.get(name, found)
        if value is None:
            return None
        text = bytes(value).decode() if isinstance(value, Raw) else str(value)
        whole, _, rest = text.strip().partition(".")
        if not whole.isdigit() or not whole.isascii() or rest.strip("0"):
            raise BadPage(f"{self._places[name]} is not a count")
        return int(whole)


class Totals:
    """
    How much there is, as the API says, against how much has come.

    Attributes:
        received, pages: In this poll so far; kept in the offset where a
            field of the API counts them.
        records, all_pages: What was promised last, or None.
    """

    def __init__(self, fields: Fields, received: int, pages: int):
        self._fields = fields
        self.received = received
        self.pages = pages
        self.records: int | None = None
        self.all_pages: int | None = None

    def learn(self, count: int, found: Mapping[str, object]) -> None:
        """One more page with `count` records."""
        self.received += count
        self.pages += 1
        if "total" in self._fields:
            self.records = self._later(self.records, "total", found)
        if "total_pages" in self._fields:
            self.all_pages = self._later(self.all_pages, "total_pages", found)

    def _later(
        self, before: int | None, name: str, found: Mapping[str, object]
    ) -> int | None:
        told = self._fields.count(name, found)
        return before if told is None else told

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
        if "total" in self._fields:
            position["received"] = self.received
        if "total_pages" in self._fields:
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
        index: int,
        count: int,
        others: Others,
        crew: Crew | None,
        note: Note,
    ):
        self.paging = paging
        self.fields = Fields(
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
        #: Where the shard stands behind a poll in which no page fell to it.
        self.idle: Offset | None = None

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
            plan.fields,
            whole(position, "received", 0),
            whole(position, "pages", 0),
        )
        self.last: dict[str, object] = standing.last()
        self._later = standing.later

    def more(self, decoded: Decoded) -> bool | None:
        """`has.more.field`, or None: not configured, or a status without body."""
        fields = self.plan.fields
        if "has_more" not in fields or decoded.empty:
            return None
        return fields.flag("has_more", decoded.found)

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
            # What is noted is said, too, and not more often than is of use.
            self.plan.note("polls_truncated_total")
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
        if not self._later and totals.known and not totals.reached:
            if totals.records is not None:
                self.short_of(f"{totals.records} records ({totals.received} came)")
            else:
                self.short_of(f"{totals.all_pages} pages ({totals.pages} came)")
