"""
Pager: what every way through an api's pages has in common.

Owns the keys of paging, what one shard's polls go by, and the seams between a pager
and what drives it.

Path: `paging.of_type`, `paging.ledger` -> here -> `paging.position`,
`envelope`
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Raw, Struct

from engine.config.pagination import TYPES, PaginationType
from engine.errors import SourceError
from engine.records import Offset, Page, Request, Response
from engine.source.decode.decoder import Decoded
from engine.source.paging.envelope import Fields
from engine.source.paging.loops import LoopGuard
from engine.source.paging.position import Position, reader

log = logging.getLogger("source")

#: What a counter of ours is told: a metric's name.
Note = Callable[[str], None]


#: Whether a page is the last one (`pagination.stop.condition`): what a decoder
#: found, the answer's headers, how many records there are.
Stop = Callable[[Mapping[str, object], Response, int], bool]


#: The shards of another `count` that worked on this api: (index, count, offset).
Others = Sequence[tuple[int, int, Offset]]


class PollRequests(Protocol):
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
        tie: int | None = None,
        skip: object = None,
    ) -> Request:
        """The request for one page."""

    def follow(self, index: int, url: str, *, offset: object = None) -> Request:
        """Another URL with the same headers, by GET unless all is to be the same."""


class RequestShape(Protocol):
    """What all requests of an api have in common."""

    @property
    def carries(self) -> bool:
        """True if the place of a page stands in its URL or body."""

    @property
    def in_headers(self) -> bool:
        """True if the place of a page stands in a header."""

    @property
    def pages(self) -> bool:
        """True if a template names the page's number."""

    @property
    def last(self) -> Sequence[str]:
        """The fields of a record that its templates name as `last.<path>`."""

    def begin(
        self, now_ms: int, scope: Mapping[str, object] | None = None
    ) -> PollRequests:
        """Fill in what stays the same in a poll that starts now."""


class ShardCoordination(Protocol):
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

    def claim(self, poll: int, place: int, found: int) -> int | None:
        """
        Take the records of a page, before it is handed over.

        Args:
            place: Its number, or the place of its first record.
            found: The hash of its records.

        Returns: None if they are this shard's to deliver, else the place at which
            another shard, or this one before it was started again, has taken the
            same records in this poll.

        Blocks: while another shard decides the same, for half a second at most.
        """


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


class SingleShard:
    """The coordination of an api that is one shard."""

    def publish(self, poll: int, size: int, end: int | None) -> None:
        """Do nothing: a shard that is alone has nobody to tell."""

    def learn(self, poll: int) -> tuple[int, int | None] | None:
        """None: a shard that is alone has nobody to ask."""
        return None

    def claim(self, poll: int, place: int, found: int) -> int | None:
        """None: nobody else takes the pages of a shard that is alone."""
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
        inverted: True if `has_more_field` says that there is no more.
        short_ends: True if a page that is shorter than the one before ends a
            poll (`pagination.end=SHORT_PAGE`).
        empty_pages: Empty pages in a row that end a poll.
        repeats: True if a page may bring the records of another one.
        stop, stop_paths: `pagination.stop.condition`, and the places in the
            response that it looks at.
        own_origin: True if links are asked for at the origin that was asked
            before (`pagination.next.origin=OWN`).
        base_field: Where the URL stands that relative links are put behind.
        same_method: True if links are asked with our method and body.
        tie_param: Of type keyset: the query parameter that pages among records
            with one value, or None: the API has none.
        tie_by_page: True if it is a page's number, False if it is how many
            records to leave out.
        bookmarked: `${offset}` is the bookmark of an incremental poll and no page's
            place, which is `${skip}` then.
        next_param: The query parameter that the bookmark is sent in, where no template
            names it, or None.
        first_params: `pagination.first.query.params`.
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
    inverted: bool = False
    short_ends: bool = False
    empty_pages: int = 1
    repeats: bool = False
    stop: Stop | None = None
    stop_paths: tuple[str, ...] = ()
    own_origin: bool = False
    base_field: str | None = None
    same_method: bool = False
    tie_param: str | None = None
    tie_by_page: bool = False
    bookmarked: bool = False
    next_param: str | None = None
    first_params: str = ""

    @property
    def kind(self) -> PaginationType:
        """What the type is, as it was declared."""
        return TYPES[self.type]


class Pager(Protocol):
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

    @property
    def onward(self) -> bool:
        """True while it is asked by a cursor or link of an answer of this walk."""

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
            Looping: The pages run in a circle.
            Forbidden: A cursor too long, a link that leads astray.
        """

    def refused(self, request: Request, failure: SourceError) -> Page | None:
        """
        As `learn`, of a request that failed for good.

        Returns: an empty last page, where the refusal can only mean the end.

        Raises: the failure, where it means anything else.
        """


class ShardPagers(Protocol):
    """The walks of one shard by its pagination type, for a mode around them."""

    @property
    def paging(self) -> Paging:
        """The keys; the mode among them is the one around the walks."""

    @property
    def shape(self) -> RequestShape:
        """What makes the requests of this pager."""

    def nothing(self, offset: Offset) -> None:
        """No page fell to the shard in this poll: where it stands (`Poll.idle`)."""

    def walk(
        self, stored: Position, start: PollRequests, *, child: bool = False
    ) -> Pager:
        """
        A walk through the pages of a poll, which carries nothing over to the next one.

        Args:
            stored: Read with mode FULL: fresh, or within an unfinished poll.
            start: Makes its requests.
            child: The poll is one of many with this number: of one parent's value.
        """


class AroundMode(Protocol):
    """
    An offset mode that goes with every pagination type: a pager around its pager.

    Attributes:
        paths: The fields of an answer that it looks at itself.
    """

    @property
    def paths(self) -> Sequence[str]:
        """The fields of an answer that it looks at itself."""

    def start(
        self,
        walks: ShardPagers,
        offset: Offset | None,
        now_ms: int,
        scope: Mapping[str, object] | None = None,
        number: int | None = None,
        *,
        anew: bool = False,
    ) -> Pager:
        """One poll; arguments as for `Paginator.start`."""


class PagingPlan:
    """
    What a walk through one shard of one api goes by, poll after poll.

    Args:
        paging: The keys.
        shape: Makes requests.
        follow: (URL asked, reference) to the URL it leads to, or Forbidden.
        index, count: Which of the shards this is.
        others: Stored offsets of shards of another count.
        coordination: Where the shards of this api meet.
        note: Told the name of each counter that goes up.
        places: Where the type's own fields stand in an answer.
    """

    def __init__(
        self,
        paging: Paging,
        *,
        shape: RequestShape,
        follow: Callable[[str, str], str],
        index: int,
        count: int,
        others: Others,
        coordination: ShardCoordination | None,
        note: Note,
        places: Mapping[str, str | None],
    ):
        self.paging = paging
        self.fields = Fields(
            {
                "cursor": paging.cursor_field,
                "has_more": paging.has_more_field,
                "total": paging.total_field,
                "total_pages": paging.total_pages_field,
                "base": paging.base_field,
                **places,
            }
        )
        #: Everything that a decoder must find.
        self.paths = tuple(dict.fromkeys((*self.fields.paths, *paging.stop_paths)))
        self.shape = shape
        self.follow = follow
        self.offset_of = reader(paging.offset_field or "")
        self._last_of = {path: reader(path) for path in shape.last}
        self.index = index
        self.count = count
        self.others = others
        self.coordination = coordination or SingleShard()
        self.note = note
        #: The hashes of a poll that goes on in another walk, by its number.
        self.guards: dict[int, LoopGuard] = {}
        #: Where the shard stands behind a poll in which no page fell to it.
        self.idle: Offset | None = None

    @property
    def addressable(self) -> bool:
        """True if later pages can be asked for before earlier ones came."""
        return self.paging.kind.addressable and not self._last_of

    def last_of(self, record: Raw) -> dict[str, object]:
        """The fields of a record that the next request may name."""
        return {path: read(record) for path, read in self._last_of.items()}
