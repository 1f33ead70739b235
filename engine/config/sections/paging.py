"""
Options of paging: how the next page is asked for and where a poll ends.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from typing import ClassVar

from engine.config import shapes
from engine.config.grammar import REQUEST_NAMES
from engine.config.kinds import (
    Bool,
    Choice,
    Codes,
    Int,
    Json,
    Params,
    RecordPath,
    StatusCodes,
    Text,
)
from engine.config.pagination import TYPES
from engine.config.sections.key import Computed, Lookup
from engine.config.sections.offsets import MODES, REREADING
from engine.config.sections.section import Rule, Section, option, unset

PARAMETER = Text(r"[^\s&=#?]{1,256}", "name of a query parameter")


def _pagination_type(get: Lookup) -> object:
    return MODES[str(get("http.offset.mode"))][0]


def _expired(get: Lookup) -> object:
    mode = get("http.offset.mode")
    if mode == "INCREMENTAL":
        # The poll begins anew at its bookmark, unless that is the API's own as well.
        own = get("http.offset.next.field") or get("http.offset.next.record")
        return "FAIL" if own else "RESTART"
    return "RESTART" if mode in REREADING else "FAIL"


def _end(get: Lookup) -> object:
    return "SHORT_PAGE" if get("http.offset.mode") == "CHAINING" else "EMPTY_PAGE"


class PaginationConfig(Section, frozen=True, kw_only=True):
    """How the pages of a poll follow one another."""

    TITLE: ClassVar[str] = "Pagination"
    SCOPE: ClassVar[str] = "A"

    type: str = option(
        "pagination.type",
        Choice(
            tuple(TYPES),
            refused={
                "custom": "there is no code to plug in; keyset and next_url cover "
                "what it is used for"
            },
        ),
        Computed(_pagination_type, "none, or what http.offset.mode implies"),
        "How a poll walks from page to page.",
        "cursor",
    )
    cursor_field: str | None = unset(
        "pagination.cursor.field",
        RecordPath(header=True),
        None,
        "Where the next cursor (type cursor) or URL (next_url) stands in the "
        "response. Missing, null, false or empty ends the poll.",
        "meta.next_cursor",
    )
    limit: int = option(
        "pagination.limit.value",
        Int(1, 1000000),
        "100",
        "Page size asked for; also ${limit}. Sent by the types offset and page, "
        "by the others if it is stated.",
        "500",
    )
    max_pages: int = option(
        "pagination.max.pages",
        Int(1, 10000000),
        "1000",
        "Most pages of one poll. At the limit the poll is unfinished: the next "
        "tick goes on from there.",
    )
    limit_param: str = option(
        "pagination.limit.param",
        PARAMETER,
        "limit",
        "Name of the page size's query parameter; not appended where a template "
        "uses ${limit}.",
        "page_size",
    )
    offset_param: str = option(
        "pagination.offset.param",
        PARAMETER,
        "offset",
        "Name of the offset's query parameter; not appended where a template "
        "uses ${offset}. Stated for type keyset: leaves out records of one value, "
        "where they are more than a page.",
        "skip",
    )
    page_param: str = option(
        "pagination.page.param",
        PARAMETER,
        "page",
        "Name of the page number's query parameter; not appended where a "
        "template uses ${page}. Stated for type keyset: pages among the records of "
        "one value, where they are more than a page.",
        "p",
    )
    cursor_param: str = option(
        "pagination.cursor.param",
        PARAMETER,
        "cursor",
        "Name of the cursor's query parameter, also of keyset's value; not "
        "appended where a template uses ${cursor}.",
        "after",
    )
    first_params: str | None = unset(
        "pagination.first.query.params",
        Params(REQUEST_NAMES),
        None,
        "Query parameters of a poll's first page only, behind the others.",
        "updated_at_min=${offset}",
    )
    page_start: int = option(
        "pagination.page.start", Int(), "1", "Number of the first page.", "0"
    )
    total_field: str | None = unset(
        "pagination.total.field",
        RecordPath(header=True),
        None,
        "Where the number of all records stands, as a number, a text with "
        "separators or a Content-Range. It is a hint: it saves requests and ends a "
        "poll at a page that is not full, never at a full one.",
        "header:Content-Range",
    )
    total_pages_field: str | None = unset(
        "pagination.total.pages.field",
        RecordPath(header=True),
        None,
        "Where the number of all pages stands. Until it is reached no empty page ends "
        "a poll; it is a hint like the number of records.",
        "header:X-Total-Pages",
    )
    has_more_field: str | None = unset(
        "pagination.has.more.field",
        RecordPath(header=True),
        None,
        "Where it stands whether more follows: a bool, 1 or 0, yes or no, also as "
        "text; null says nothing.",
        "has_more",
    )
    inverted: bool = option(
        "pagination.has.more.inverted",
        Bool(),
        "false",
        "pagination.has.more.field says that the page is the last one.",
        "true",
    )
    stop_condition: Rule | None = unset(
        "pagination.stop.condition",
        Json(shapes.stop, "JSON object, a filter"),
        None,
        "A filter over ${response.<path>}, ${header.<Name>} and ${count} (records of "
        "the page); a page for which it holds is the last one.",
        '{"field":"${response.end_of_stream}","operator":"EQUALS","value":true}',
    )
    end: str = option(
        "pagination.end",
        Choice(("EMPTY_PAGE", "SHORT_PAGE")),
        Computed(_end, "EMPTY_PAGE; SHORT_PAGE in http.offset.mode=CHAINING"),
        "What ends a poll of the types offset, page and keyset where neither a total "
        "nor has_more does: an empty page, or one that is shorter than the first. "
        "SHORT_PAGE saves a request, and loses the rest where an API leaves out "
        "records of a page.",
        "SHORT_PAGE",
    )
    empty_pages: int = option(
        "pagination.empty.pages.max",
        Int(1, 1000),
        "1",
        "How many empty pages in a row end a poll of the types offset and page. Where "
        "the number of pages is known, or has_more is true, none does.",
        "3",
    )
    repeats: str = option(
        "pagination.repeats",
        Choice(("END", "ALLOW")),
        "END",
        "A page of type offset or page whose records are those of another page of "
        "the poll: it ends the poll with a warning and is not produced again, or is "
        "taken like any other.",
        "ALLOW",
    )
    link_header: str = option(
        "pagination.link.header",
        Text(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "header name"),
        "Link",
        "The header that holds the links of type link_header (RFC 8288).",
    )
    link_rel: str = option(
        "pagination.link.rel",
        Text(),
        "next",
        "The relation that leads to the next page.",
    )
    next_origin: str = option(
        "pagination.next.origin",
        Choice(("STRICT", "OWN")),
        "STRICT",
        "Where links lead. STRICT: to our own origin or http.source.allowed.hosts, "
        "else the poll fails. OWN: their path and query are asked for at our own "
        "origin, for http:// links behind a TLS proxy and internal host names.",
        "OWN",
    )
    base_field: str | None = unset(
        "pagination.next.base.field",
        RecordPath(header=True),
        None,
        "Where the URL stands in the response that relative links are put behind, "
        "its path kept.",
        "_links.base",
    )
    next_method: str = option(
        "pagination.next.method",
        Choice(("GET", "SAME")),
        "GET",
        "How a link is asked for: by GET, or by http.source.method with "
        "http.source.body.",
        "SAME",
    )
    cursor_expired: str = option(
        "pagination.cursor.expired",
        Choice(("RESTART", "FAIL")),
        Computed(
            _expired,
            "RESTART where http.offset.mode reads everything each time, or goes on from "
            "a bookmark of ours, else FAIL",
        ),
        "What follows when the API no longer knows the cursor or link a poll is "
        "to go on with, a stored one or one that it gave in the same poll (404 and "
        "410, or the statuses stated). RESTART: the poll begins anew, with a warning, "
        "and once more only where it came further. FAIL: the api is FAILED until its "
        "offset is reset.",
        "RESTART",
    )
    cursor_expired_status: Codes = option(
        "pagination.cursor.expired.status",
        StatusCodes(),
        "400,404,410,422",
        "Statuses by which the API says that.",
        "404,410",
    )
    nextlink_field: str = option(
        "odata.nextlink.field",
        RecordPath(),
        "'@odata.nextLink'",
        "Where the link to the next page of type odata stands.",
    )
    deltalink_field: str = option(
        "odata.deltalink.field",
        RecordPath(),
        "'@odata.deltaLink'",
        "Where the link stands that asks for what has changed since.",
    )
    concurrent: bool = option(
        "pagination.concurrent.enabled",
        Bool(),
        "false",
        "Several pages in flight where they can be addressed; chains fetch ahead "
        "of delivery. Order and state follow the pages.",
        "true",
    )


class PrefetchConfig(Section, frozen=True, kw_only=True):
    """How many pages are asked for ahead, in a task."""

    TITLE: ClassVar[str] = "Pagination"
    SCOPE: ClassVar[str] = "T"

    max_threads: int = option(
        "pagination.concurrent.max.threads",
        Int(1, 64),
        "4",
        "Page requests in flight of one task.",
        "8",
    )
    queue_size: int = option(
        "pagination.concurrent.queue.size",
        Int(1, 10000),
        "50",
        "Pages fetched and not yet handed to the producer; full, no new request "
        "starts.",
    )
