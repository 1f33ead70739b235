"""
Tokens: APIs that say themselves where the next poll goes on, and files for them.

Owns a model of one (Google's sync tokens, OData's delta links, lists of events by their
first or last one) and the rows of the table of configurations that ask it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from engine.records import Request, Response
from tests.task.configurations import URL


class Synced:
    """
    A list of changes in the order in which they came; a `Fetch`.

    Args:
        kind: The pagination type it speaks.
        gives: How it says where the next poll goes on: "token" and "header" with what
            stood at the poll's start, "delta" as OData's link, "first" and "last" not
            at all: it is asked for what lies before or behind a record.

    Attributes:
        between: Called before each request.
        size: Changes on a page.
    """

    def __init__(self, kind: str, gives: str):
        self.kind, self.gives = kind, gives
        self.size = 100_000 if kind == "none" else 3
        self.changes: list[tuple[int, int]] = []
        self.between: Callable[[], None] = lambda: None
        self.now = 1_700_000_000.0

    def put(self, number: int) -> None:
        version = sum(each[0] == number for each in self.changes) + 1
        self.changes.append((number, version))

    def rows(self) -> set[tuple[int, int]]:
        """The last version of each."""
        return set(dict(self.changes).items())

    def __call__(self, request: Request) -> Response:
        self.between()
        url = urlsplit(request.url)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        # What stood at the poll's start goes with it from page to page.
        since = int(query.get("sync") or query.get("after") or query.get("before") or 0)
        place, _, stood = query.get("cursor", "").partition(".")
        head = int(query.get("head") or stood or len(self.changes))
        newest = dict(self.changes[since:head])
        if self.gives == "token" or self.gives in ("delta", "header"):
            found = [
                (place, each)
                for place, each in enumerate(self.changes[:head])
                if place >= since and newest.get(each[0]) == each[1]
            ]
        else:
            found = list(enumerate(self.changes))[since:head]
        if self.gives == "first":
            found.reverse()
        at = int(query.get("at", place) or 0)
        if self.kind == "page":
            at = (int(query["page"]) - 1) * self.size
        page = found[at : at + self.size]
        more = at + self.size < len(found)
        told: dict[str, Any] = {}
        headers: list[tuple[str, str]] = []
        link = (
            f"{url.path}?"
            f"{urlencode({**query, 'at': at + self.size, 'head': head, 'sync': since})}"
        )
        if more and self.kind == "cursor":
            told["next"] = f"{at + self.size}.{head}"
        elif more and self.kind == "next_url":
            told["next"] = link
        elif more and self.kind == "link_header":
            headers.append(("link", f'<{link}>; rel="next"'))
        elif more and self.kind == "odata":
            told["@odata.nextLink"] = f"{URL}{link}"
        if not more and self.gives == "token":
            told["sync"] = str(head)
        elif not more and self.gives == "header":
            headers.append(("x-sync", str(head)))
        elif not more and self.gives == "delta":
            told["@odata.deltaLink"] = f"{URL}{url.path}?{urlencode({'sync': head})}"
        name = "value" if self.kind == "odata" else "items"
        told[name] = [
            {"id": number, "version": version, "n": place + 1}
            for place, (number, version) in page
        ]
        return Response(
            request=request,
            url=request.url,
            status=200,
            headers=headers,
            body=json.dumps(told).encode(),
            sent_at=0.0,
            received_ms=0,
        )


class Synchronised(NamedTuple):
    """A configuration: its keys, and what makes its API."""

    keys: Mapping[str, str]
    feed: Callable[[], Synced]


_PAGING: dict[str, Mapping[str, str]] = {
    "none": {},
    "page": {},
    "cursor": {"pagination.cursor.field": "next"},
    "next_url": {"pagination.cursor.field": "next"},
    "link_header": {},
}

#: How a position is given, with what a file says of it.
_GIVEN: dict[str, Mapping[str, str]] = {
    "token": {"http.offset.next.field": "sync", "http.offset.next.param": "sync"},
    "header": {
        "http.offset.next.field": "header:X-Sync",
        "http.source.query.params": "sync=${offset}",
    },
    "first": {
        "http.offset.next.record": "FIRST",
        "http.offset.next.param": "before",
        "http.offset.json.pointer": "/n",
    },
    "last": {
        "http.offset.next.record": "LAST",
        "http.offset.next.param": "after",
        "http.offset.json.pointer": "/n",
    },
}


def _all() -> dict[str, Synchronised]:
    made = {}
    for gives, said in _GIVEN.items():
        for kind, paging in _PAGING.items():
            keys = {
                "http.source.url": f"{URL}/list",
                "http.response.data.json.pointer": "/items",
                "http.offset.mode": "INCREMENTAL",
                "pagination.type": kind,
                "pagination.limit.value": "LIMIT",
                **paging,
                **said,
            }
            made[f"next-{gives}-{kind}"] = Synchronised(
                keys, lambda kind=kind, gives=gives: Synced(kind, gives)
            )
    made["delta-odata"] = Synchronised(
        {
            "http.source.url": f"{URL}/list",
            "http.response.data.json.pointer": "/value",
            "http.offset.mode": "ODATA_PAGINATION",
            "pagination.type": "odata",
            "kafka.key": "${record.id}",
        },
        lambda: Synced("odata", "delta"),
    )
    return made


SYNCHRONISED = _all()
