"""
Pagination types: what each one is to those who do not walk its pages.

Owns the one declaration of every type.  Keys, checks, `explain`, the plan, the
bench and the requests read it here; how a type is walked is the class of that
name in `source.paging`.

Path: here -> ``sections.paging``, ``rules_paging``, ``task.build.paging``,
`source.paging.pager`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

#: Fields of a position that addressable types keep behind their place.
_COUNTED: Final = ("size", "received", "pages", "first")

#: Fields of a position that chains keep behind their place.
_CHAINED: Final = ("count", "hash", "received", "pages")


class PaginationType(Struct, frozen=True, kw_only=True):
    """
    One value of `pagination.type`.

    Attributes:
        meaning: What it does, in a sentence for `explain`.
        position: The fields of a stored offset that say where; `poll` and `done`
            have all.
        addressable: Its pages can be asked for without the page before, so that
            several tasks may share them.
        chained: Each page brings the cursor or link that leads to the next one.
        by_record: The next page is asked for with a value of the last record.
        asks: By what name templates know the place of a page; it is sent as
            `pagination.<asks>.param` unless a template names it.  "": nothing is
            sent.
        first: The key that says what is sent first.
        sized: The page size is sent whether or not it is stated.
        told_by: The key that says where the next place stands in an answer.
        links: What stands there is a link.
        needs: Keys that have no default and have to be stated.
        modes: The offset modes that are for some types only, and for this one.
        hint: What `check` notes where no offset mode is stated.
    """

    meaning: str
    position: tuple[str, ...] = ()
    addressable: bool = False
    chained: bool = False
    by_record: bool = False
    asks: str = ""
    first: str = ""
    sized: bool = False
    told_by: str = ""
    links: bool = False
    needs: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    hint: str = ""

    @property
    def pages(self) -> bool:
        """False if a poll is one request."""
        return self.addressable or self.chained or self.by_record


#: Every type by its name, in the order in which people read of them.
TYPES: Final[Mapping[str, PaginationType]] = {
    "none": PaginationType(meaning="One request is one poll."),
    "offset": PaginationType(
        meaning="?offset=0, 500, 1000: pages are addressed, tasks share them.",
        position=("offset", *_COUNTED),
        addressable=True,
        asks="offset",
        first="http.initial.offset",
        sized=True,
        modes=("SIMPLE_INCREMENTING",),
    ),
    "page": PaginationType(
        meaning="?page=1, 2, 3: pages are addressed, tasks share them.",
        position=("page", *_COUNTED),
        addressable=True,
        asks="page",
        first="pagination.page.start",
        sized=True,
    ),
    "cursor": PaginationType(
        meaning="Each page brings the token of the next one, in body or header.",
        position=("cursor", "json", *_CHAINED),
        chained=True,
        asks="cursor",
        first="http.initial.offset",
        told_by="pagination.cursor.field",
        needs=("pagination.cursor.field",),
        modes=("CURSOR_PAGINATION",),
    ),
    "next_url": PaginationType(
        meaning="Each page brings the URL of the next one in its body.",
        position=("next", *_CHAINED),
        chained=True,
        told_by="pagination.cursor.field",
        links=True,
        needs=("pagination.cursor.field",),
        modes=("CURSOR_PAGINATION",),
    ),
    "link_header": PaginationType(
        meaning='The next URL stands in the Link header with rel="next" (RFC 8288).',
        position=("next", *_CHAINED),
        chained=True,
        told_by="pagination.link.header",
        links=True,
        modes=("CURSOR_PAGINATION",),
    ),
    "keyset": PaginationType(
        meaning="The next page begins behind the last record's value: ?since_id=123.",
        position=("offset", "ties", "received", "pages"),
        by_record=True,
        asks="cursor",
        first="http.initial.offset",
        needs=("http.offset.json.pointer",),
        modes=("CHAINING",),
    ),
    "odata": PaginationType(
        meaning="OData: @odata.nextLink, and @odata.count as the total.",
        position=("next", "delta", *_CHAINED),
        chained=True,
        told_by="odata.nextlink.field",
        links=True,
        modes=("CURSOR_PAGINATION", "ODATA_PAGINATION"),
        hint="each poll reads everything; http.offset.mode=ODATA_PAGINATION goes on "
        "from the deltaLink, where the API gives one",
    ),
}


def types_of(mode: str) -> tuple[str, ...]:
    """
    The types that go with an offset mode, the one it implies first.

    A mode that no type names for itself goes with all of them.
    """
    return tuple(name for name, kind in TYPES.items() if mode in kind.modes) or tuple(
        TYPES
    )
