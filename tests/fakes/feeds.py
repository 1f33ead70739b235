"""
Feeds: a model of an API whose records change, asked for what has come since.

Owns its records, its clock and the ways to page through them; every change between two
requests is the test's.  The truth is `versions`: all that ever was to be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from engine.records import Request, Response

URL = "http://api.test"


def iso(at: float) -> str:
    """The instant as most APIs write it."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Feed:
    """
    A `Fetch` over records with an id and a time of change.

    Args:
        kind: The pagination type it speaks.
        size: Records on a page.
        order: "ASC" or "DESC" by time, or "NONE": by id.
        since: The query parameter that filters, inclusive.
        grain: Seconds to which the filter is coarse.
        read: What a filter's value is read by.
        write: How a time stands in a record.

    Attributes:
        now: The server's clock, in epoch seconds.
        records: What there is, by id.
        asked: Each request's query.
        versions: Every (id, version) that ever was.
        between: Called before each request.
    """

    def __init__(
        self,
        kind: str,
        *,
        size: int = 3,
        order: str = "ASC",
        since: str = "since",
        grain: int = 1,
        read: Callable[[str], float] | None = None,
        write: Callable[[float], object] = iso,
    ):
        self.kind, self.size, self.order, self.since = kind, size, order, since
        self.grain = grain
        self.read = read or (lambda text: datetime.fromisoformat(text).timestamp())
        self.write = write
        self.now = 1_700_000_000.0
        self.records: dict[int, dict[str, Any]] = {}
        self.asked: list[dict[str, str]] = []
        self.versions: set[tuple[int, int]] = set()
        self.between: Callable[[], None] = lambda: None
        self._times: dict[int, float] = {}

    def put(self, number: int, at: float | None = None) -> None:
        """Insert a record or change it, at the server's time or as of another."""
        at = self.now if at is None else at
        version = self.records.get(number, {}).get("version", 0) + 1
        while (number, version) in self.versions:
            version += 1
        self._times[number] = at
        self.records[number] = {
            "id": number,
            "version": version,
            "updated": self.write(at),
        }
        self.versions.add((number, version))

    def remove(self, number: int) -> None:
        self.records.pop(number, None)

    def __call__(self, request: Request) -> Response:
        status, headers, body = self.answer(request.url)
        return Response(
            request=request,
            url=request.url,
            status=status,
            headers=headers,
            body=body,
            sent_at=0.0,
            received_ms=0,
        )

    def answer(self, target: str) -> tuple[int, list[tuple[str, str]], bytes]:
        """What a URL is answered with: status, headers, body."""
        self.between()
        query = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
        self.asked.append(query)
        rows = self._rows(query)
        place = self._place(query, rows)
        page = rows[place : place + self.size]
        more = place + self.size < len(rows)
        envelope: dict[str, Any] = {}
        date = format_datetime(datetime.fromtimestamp(self.now, UTC), True)
        headers = [("date", date)]
        if more and self.kind in ("cursor", "next_url", "link_header", "odata"):
            at, number = self._key(page[-1])
            token = f"{at!r},{number}"
            onward = {**query, "after": token}
            link = f"{urlsplit(target).path}?{urlencode(onward, quote_via=quote)}"
            if self.kind == "cursor":
                envelope["next"] = token
            elif self.kind == "next_url":
                envelope["next"] = link
            elif self.kind == "odata":
                envelope["@odata.nextLink"] = link
            else:
                headers.append(("link", f'<{link}>; rel="next"'))
        name = "value" if self.kind == "odata" else "items"
        return 200, headers, json.dumps({name: page, **envelope}).encode()

    def _key(self, record: dict[str, Any]) -> tuple[float, int]:
        number = int(record["id"])
        at = 0.0 if self.order == "NONE" else self._times[number]
        return (-at if self.order == "DESC" else at), number

    def _rows(self, query: dict[str, str]) -> list[dict[str, Any]]:
        text = query.get(self.since, "")
        least = self.read(text) // self.grain * self.grain if text else float("-inf")
        found = [r for r in self.records.values() if self._times[r["id"]] >= least]
        return sorted(found, key=self._key)

    def _place(self, query: dict[str, str], rows: list[dict[str, Any]]) -> int:
        if self.kind == "page":
            return (int(query.get("page", "1")) - 1) * self.size
        if self.kind == "offset":
            return int(query.get("offset", "0"))
        after = query.get("cursor", query.get("after", ""))
        if not after or self.kind in ("none", "keyset"):
            return 0
        at, number = (float(each) for each in after.split(","))
        return sum(self._key(row) <= (at, number) for row in rows)
