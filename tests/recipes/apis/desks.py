"""Models of desks and trackers whose records are asked for by the time of a change."""

from __future__ import annotations

import json
import re
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

WAIT = ("Retry-After", "0")


class Jira(Documented):
    """Issues by a query in JQL, whose times are of a minute; pages by token."""

    recipe = "jira-issues"
    environment = variables(JIRA_EMAIL="a@example.com", JIRA_TOKEN="jt")
    limit = Limit(10, 1)

    def make(self, number: int, at: float) -> Row:
        return {"id": str(10_000 + number), "updated": iso(at, 3, "+0000")}

    def identity(self, record: Any) -> str:
        return f"{record['id']}@{(record.get('fields') or record)['updated']}"

    def alter(self, row: Row, at: float) -> bool:
        row["updated"] = iso(at, 3, "+0000")
        return True

    def trouble(self) -> Sequence[Answer]:
        return [
            said({"errorMessages": ["Rate limit exceeded."]}, 429, [WAIT]),
            said(
                "<html>503 Service Unavailable</html>",
                503,
                [("Content-Type", "text/html")],
            ),
        ]

    def respond(self, asked: Asked) -> Answer:
        need(asked, "authorization", basic("a@example.com", "jt"))
        path(asked, "/rest/api/3/search/jql")
        allow(asked, "jql nextPageToken maxResults fields expand")
        query = asked.query
        found = re.fullmatch(
            r'project = KAFKA AND updated >= "(\d{4}-\d\d-\d\d \d\d:\d\d)" '
            r"ORDER BY updated ASC",
            query["jql"],
        )
        if found is None:
            raise Refused(400, {"errorMessages": [f"Error in JQL: {query['jql']}"]})
        since = epoch(found[1])
        size(query.get("maxResults"), 50, 5000)
        rows = sorted(
            (row for row in self.rows if epoch(row["updated"]) >= since),
            key=lambda row: (row["updated"], row["id"]),
        )
        start = 0
        if "nextPageToken" in query:
            # A token stands for the place behind a record of this query.
            at, _, name = query["nextPageToken"].removeprefix("Ch").partition("_")
            start = sum((row["updated"], row["id"]) <= (at, name) for row in rows)
        page = self.give(rows[start : start + 3])
        body: dict[str, Any] = {
            "issues": [
                {
                    "id": row["id"],
                    "key": f"KAFKA-{row['id']}",
                    "fields": {"summary": "An issue", "updated": row["updated"]},
                }
                for row in page
            ],
            "isLast": start + 3 >= len(rows),
        }
        if not body["isLast"]:
            body["nextPageToken"] = f"Ch{page[-1]['updated']}_{page[-1]['id']}"
        return said(body)


class Notion(Documented):
    """Pages of a data source, by a filter of minutes, in POST."""

    recipe = "notion-pages"
    environment = variables(NOTION_TOKEN="ntn")
    limit = Limit(3, 1)

    def make(self, number: int, at: float) -> Row:
        return {
            "object": "page",
            "id": f"59833787-{number:04d}",
            # Rounded down to the minute by the API.
            "last_edited_time": iso(at // 60 * 60, 3),
            "properties": {"Edits": {"number": 0}},
        }

    def identity(self, record: Any) -> str:
        return f"{record['id']}@{record['properties']['Edits']['number']}"

    def alter(self, row: Row, at: float) -> bool:
        row["last_edited_time"] = iso(at // 60 * 60, 3)
        row["properties"] = {
            "Edits": {"number": row["properties"]["Edits"]["number"] + 1}
        }
        return True

    def trouble(self) -> Sequence[Answer]:
        error = {"object": "error", "status": 429, "code": "rate_limited"}
        return [said(error, 429, [WAIT])]

    def respond(self, asked: Asked) -> Answer:
        need(asked, "authorization", "Bearer ntn", {"code": "unauthorized"})
        need(asked, "notion-version", "2025-09-03", {"code": "missing_version"})
        path(asked, "/v1/data_sources/2f26ee68df304251aad48ddc420cba3d/query")
        body = json.loads(asked.body)
        error = {"object": "error", "status": 400, "code": "validation_error"}
        if asked.method != "POST" or not {"filter", "sorts"} <= set(body):
            raise Refused(400, error)
        if not isinstance(body.get("start_cursor", ""), str):
            raise Refused(400, error)
        size(str(body.get("page_size", 100)), 100, 100)
        since = epoch(body["filter"]["last_edited_time"]["on_or_after"])
        rows = sorted(
            (row for row in self.rows if epoch(row["last_edited_time"]) >= since),
            key=lambda row: (row["last_edited_time"], row["id"]),
        )
        start = 0
        if "start_cursor" in body:
            start = next(
                at for at, row in enumerate(rows) if row["id"] == body["start_cursor"]
            )
        page = self.give(rows[start : start + 3])
        more = start + 3 < len(rows)
        return said(
            {
                "object": "list",
                "results": page,
                "next_cursor": rows[start + 3]["id"] if more else None,
                "has_more": more,
            }
        )


class Intercom(Documented):
    """Conversations behind a second, by a search in POST."""

    recipe = "intercom-conversations"
    environment = variables(INTERCOM_TOKEN="it")
    limit = Limit(1000, 60)
    version = "updated_at"

    def make(self, number: int, at: float) -> Row:
        return {"type": "conversation", "id": f"{900 + number}", "updated_at": int(at)}

    def alter(self, row: Row, at: float) -> bool:
        row["updated_at"] = int(at)
        return True

    def trouble(self) -> Sequence[Answer]:
        errors = [{"code": "rate_limit_exceeded", "message": "Exceeded rate limit"}]
        reset = [
            ("X-RateLimit-Remaining", "0"),
            ("X-RateLimit-Reset", str(int(self.now))),
        ]
        return [said({"type": "error.list", "errors": errors}, 429, reset)]

    def respond(self, asked: Asked) -> Answer:
        need(
            asked, "authorization", "Bearer it", {"errors": [{"code": "unauthorized"}]}
        )
        path(asked, "/conversations/search")
        body = json.loads(asked.body)
        query = body["query"]
        assert ("updated_at", ">") == (query["field"], query["operator"]), query
        assert {"field": "updated_at", "order": "ascending"} == body["sort"]
        if not isinstance(query["value"], int):
            raise Refused(400, {"errors": [{"code": "parameter_invalid"}]})
        size(str(body["pagination"]["per_page"]), 20, 150)
        rows = sorted(
            (row for row in self.rows if row["updated_at"] > query["value"]),
            key=lambda row: (row["updated_at"], row["id"]),
        )
        start = 0
        if body["pagination"].get("starting_after") is not None:
            at, name = json.loads(body["pagination"]["starting_after"])
            start = sum((row["updated_at"], row["id"]) <= (at, name) for row in rows)
        page = self.give(rows[start : start + 3])
        pages: Row = {"type": "pages", "per_page": 150}
        if start + 3 < len(rows):
            after = json.dumps([page[-1]["updated_at"], page[-1]["id"]])
            pages["next"] = {"starting_after": after}
        return said(
            {"type": "conversation.list", "conversations": page, "pages": pages}
        )


class PagerDuty(Documented):
    """Log entries, newest first, by offset within a range of time."""

    recipe = "pagerduty-log-entries"
    environment = variables(PAGERDUTY_KEY="pd")
    limit = Limit(960, 60)
    first = 230
    later = 130

    def make(self, number: int, at: float) -> Row:
        return {
            "id": f"R{number:05d}",
            "type": "notify_log_entry",
            "created_at": iso(at),
        }

    def trouble(self) -> Sequence[Answer]:
        error = {"message": "Rate Limit Exceeded", "code": 2020}
        return [said({"error": error}, 429, [("ratelimit-reset", "0")])]

    def respond(self, asked: Asked) -> Answer:
        need(asked, "authorization", "Token token=pd", {"error": {"code": 2006}})
        path(asked, "/log_entries")
        allow(asked, "limit offset total since until is_overview time_zone")
        query = asked.query
        start = int(query.get("offset", "0"))
        width = size(query.get("limit"), 25, 100)
        if start + width > 10_000:
            raise Refused(400, {"error": {"code": 2001, "message": "Invalid Input"}})
        since = epoch(query["since"])
        rows = [row for row in self.rows if epoch(row["created_at"]) >= since][::-1]
        page = self.give(rows[start : start + width])
        return said(
            {
                "log_entries": page,
                "limit": width,
                "offset": start,
                "total": None,
                "more": start + width < len(rows),
            }
        )


class Datadog(Documented):
    """Logs of a range of time, by a cursor in POST."""

    recipe = "datadog-logs"
    environment = variables(DD_API_KEY="dk", DD_APP_KEY="da")
    limit = Limit(300, 3600)

    def make(self, number: int, at: float) -> Row:
        return {
            "id": f"AQAAA{number:06d}",
            "type": "log",
            "attributes": {"timestamp": iso(at, 3), "message": f"line {number}"},
        }

    def trouble(self) -> Sequence[Answer]:
        limits = [
            ("X-RateLimit-Limit", "300"),
            ("X-RateLimit-Period", "3600"),
            ("X-RateLimit-Remaining", "0"),
            ("X-RateLimit-Reset", "0"),
        ]
        page: Row = {"data": [], "meta": {"status": "timeout"}}
        return [said({"errors": ["Too many requests"]}, 429, limits), said(page)]

    def respond(self, asked: Asked) -> Answer:
        need(asked, "dd-api-key", "dk", {"errors": ["Forbidden"]})
        need(asked, "dd-application-key", "da", {"errors": ["Forbidden"]})
        path(asked, "/api/v2/logs/events/search")
        body = json.loads(asked.body)
        size(str(body["page"]["limit"]), 10, 1000)
        if not isinstance(body["page"].get("cursor", ""), str):
            raise Refused(400, {"errors": ["cursor is no string"]})
        assert ("timestamp", "now") == (body["sort"], body["filter"]["to"])
        since = epoch(body["filter"]["from"])
        rows = [
            row for row in self.rows if epoch(row["attributes"]["timestamp"]) >= since
        ]
        start = 0
        if "cursor" in body["page"]:
            last = body["page"]["cursor"].removeprefix("eyJ")
            start = 1 + next(at for at, row in enumerate(rows) if row["id"] == last)
        page = self.give(rows[start : start + 3])
        meta: Row = {"elapsed": 132, "status": "done", "request_id": "x"}
        if start + 3 < len(rows):
            meta["page"] = {"after": f"eyJ{page[-1]['id']}"}
        return said({"data": page, "meta": meta})
