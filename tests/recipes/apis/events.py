"""Models of feeds of events: Okta's log, Zendesk's exports, Mastodon's timelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.fakes.api import Answer, Asked
from tests.recipes.documented import (
    Documented,
    Limit,
    Refused,
    Row,
    allow,
    basic,
    epoch,
    iso,
    need,
    path,
    said,
    size,
    variables,
)


class Okta(Documented):
    """System log: a bounded page and a link to the next one, for ever."""

    recipe = "okta-system-log"
    environment = variables(OKTA_TOKEN="00secret")
    limit = Limit(60, 60)
    key = "uuid"

    def make(self, number: int, at: float) -> Row:
        return {
            "uuid": f"u-{number:05d}",
            "published": iso(at, 3),
            "eventType": "user.session.start",
            "outcome": {"result": "SUCCESS"},
        }

    def trouble(self) -> Sequence[Answer]:
        body = {"errorCode": "E0000047", "errorSummary": "API call exceeded rate limit"}
        reset = str(int(self.now))
        return [
            said(
                body,
                429,
                [
                    ("X-Rate-Limit-Limit", "120"),
                    ("X-Rate-Limit-Remaining", "0"),
                    ("X-Rate-Limit-Reset", reset),
                ],
            )
        ]

    def respond(self, asked: Asked) -> Answer:
        need(
            asked,
            "authorization",
            "SSWS 00secret",
            {"errorCode": "E0000011", "errorSummary": "Invalid token provided"},
        )
        path(asked, "/api/v1/logs")
        allow(asked, "since until after limit sortOrder filter q")
        query = asked.query
        width = min(size(query.get("limit"), 100, 1000), 3)
        if "after" in query:
            start = int(query["after"].split("_")[0])
        else:
            since = epoch(query["since"])
            start = next(
                (
                    at
                    for at, row in enumerate(self.rows)
                    if epoch(row["published"]) >= since
                ),
                len(self.rows),
            )
        rows = self.give(self.rows[start : start + width])
        onward = f"{self.url}/api/v1/logs?after={start + len(rows)}_1&limit=1000"
        links = [
            ("Link", f'<{self.url}{asked.target}>; rel="self"'),
            ("Link", f'<{onward}>; rel="next"'),
        ]
        left = [("X-Rate-Limit-Limit", "120"), ("X-Rate-Limit-Remaining", "119")]
        return said(rows, headers=[*links, *left])


class Zendesk(Documented):
    """Tickets in the order of their changes, by cursor."""

    recipe = "zendesk-tickets"
    environment = variables(ZENDESK_EMAIL="a@example.com", ZENDESK_TOKEN="zt")
    limit = Limit(10, 60)
    version = "updated_at"

    def __init__(self) -> None:
        #: The order of changes: what the cursor counts.
        self.changes: list[Row] = []
        super().__init__()

    def make(self, number: int, at: float) -> Row:
        row = {
            "id": 100 + number,
            "created_at": iso(at),
            "updated_at": iso(at),
            "generated_timestamp": int(at),
            "subject": f"ticket {number}",
        }
        self.changes.append(dict(row))
        return row

    def alter(self, row: Row, at: float) -> bool:
        row |= {"updated_at": iso(at), "generated_timestamp": int(at)}
        self.changes.append(dict(row))
        return True

    def identity(self, record: Any) -> str:
        if record.get("status") == "deleted":
            return f"{record['id']} is gone"
        return super().identity(record)

    def remove(self, row: Row, at: float) -> str:
        self.changes.append({**row, "updated_at": iso(at), "status": "deleted"})
        return self.identity(self.changes[-1])

    def trouble(self) -> Sequence[Answer]:
        text = "Number of allowed incremental ticket export API requests exceeded"
        return [
            said({"error": "APIRateLimitExceeded", "description": text}, 429, [WAIT]),
            said("<html>Zendesk is being repaired</html>", 503, [HTML]),
        ]

    def respond(self, asked: Asked) -> Answer:
        need(asked, "authorization", basic("a@example.com/token", "zt"))
        path(asked, "/api/v2/incremental/tickets/cursor.json")
        allow(asked, "start_time cursor per_page include exclude_deleted")
        query = asked.query
        if "cursor" in query:
            # The real one is opaque, too.
            if not query["cursor"].startswith("MTU3"):
                raise Refused(400, {"error": "InvalidPaginationParameter"})
            start = int(query["cursor"].removeprefix("MTU3").removesuffix("fHw="))
        elif "start_time" in query:
            start = 0
        else:
            raise Refused(400, {"error": "InvalidValue", "description": "start_time"})
        width = min(size(query.get("per_page"), 1000, 1000), 3)
        rows = self.give(self.changes[start : start + width])
        after = f"MTU3{start + len(rows)}fHw="
        return said(
            {
                "tickets": rows,
                "after_cursor": after,
                "after_url": f"{self.url}{asked.path}?cursor={after}",
                "before_cursor": None,
                "before_url": None,
                "end_of_stream": start + len(rows) >= len(self.changes),
            }
        )


class Mastodon(Documented):
    """A timeline: newest first on a page, upwards by the Link `prev`."""

    recipe = "mastodon-hashtag"
    environment = variables(MASTODON_TOKEN="mt")
    limit = Limit(300, 300)

    def make(self, number: int, at: float) -> Row:
        # A snowflake: larger than a double holds, hence a string.
        status = str(109_500_000_000_000_000 + number * 977)
        return {"id": status, "created_at": iso(at, 3), "content": f"<p>{number}</p>"}

    def trouble(self) -> Sequence[Answer]:
        return [
            said(
                {"error": "Too many requests"},
                429,
                [
                    ("X-RateLimit-Limit", "300"),
                    ("X-RateLimit-Remaining", "0"),
                    ("X-RateLimit-Reset", iso(self.now, 6)),
                ],
            ),
        ]

    def respond(self, asked: Asked) -> Answer:
        need(asked, "authorization", "Bearer mt", {"error": "The token is invalid"})
        path(asked, "/api/v1/timelines/tag/kafka")
        query = asked.query
        width = min(int(query.get("limit", "20")), 40, 3)
        if "min_id" in query:
            above = int(query["min_id"])
            rows = [row for row in self.rows if int(row["id"]) > above][:width]
        else:
            below = int(query.get("max_id", "9" * 30))
            rows = [row for row in self.rows if int(row["id"]) < below][-width:]
        rows = self.give(rows[::-1])
        headers = []
        if rows:
            here = f"{self.url}{asked.path}?limit=40"
            older, newer = rows[-1]["id"], rows[0]["id"]
            links = (
                f'<{here}&max_id={older}>; rel="next", '
                f'<{here}&min_id={newer}>; rel="prev"'
            )
            headers.append(("Link", links))
        return said(rows, headers=headers)


WAIT = ("Retry-After", "0")
HTML = ("Content-Type", "text/html")
