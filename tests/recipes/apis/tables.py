"""Models of tables: Google's sheets, Airtable's bases, Socrata's data sets."""

from __future__ import annotations

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
    iso,
    need,
    path,
    said,
    size,
    token,
    variables,
)


class Sheets(Documented):
    """A sheet: rows of values, the first with the names."""

    recipe = "google-sheets"
    environment = variables(GOOGLE_API_KEY="AIzaSecret")
    limit = Limit(300, 60)
    absent = True
    held = 1
    version = "amount"

    def make(self, number: int, at: float) -> Row:
        return {"id": number, "name": f"row {number}", "amount": number * 1.5}

    def alter(self, row: Row, at: float) -> bool:
        row["amount"] += 1000
        return True

    def remove(self, row: Row, at: float) -> str:
        return f"{row['id']} is gone"

    def trouble(self) -> Sequence[Answer]:
        text = "Quota exceeded for quota metric 'Read requests'"
        error = {"code": 429, "message": text, "status": "RESOURCE_EXHAUSTED"}
        return [said({"error": error}, 429)]

    def respond(self, asked: Asked) -> Answer:
        if asked.query.get("key") != "AIzaSecret":
            text = "The request is missing a valid API key."
            raise Refused(403, {"error": {"code": 403, "message": text}})
        path(
            asked, "/v4/spreadsheets/1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs/values/Data!A:Z"
        )
        allow(asked, "key majorDimension valueRenderOption dateTimeRenderOption")
        names = ["id", "name", "amount"]
        rows = [[row[name] for name in names] for row in self.give(self.rows)]
        return said(
            {
                "range": "Data!A1:Z1000",
                "majorDimension": "ROWS",
                "values": [names, *rows],
            }
        )


class Airtable(Documented):
    """A base: pages by a token that ends some minutes after it was given."""

    recipe = "airtable"
    environment = variables(AIRTABLE_TOKEN="pat.secret")
    limit = Limit(5, 1)
    absent = True

    def __init__(self) -> None:
        #: How many lists were begun: what a token is good for.
        self._lists = 0
        super().__init__()

    def make(self, number: int, at: float) -> Row:
        return {
            "id": f"rec{number:014d}",
            "createdTime": iso(at, 3),
            "fields": {"Name": f"row {number}", "Count": number},
        }

    def identity(self, record: Any) -> str:
        return f"{record['id']}@{record['fields']['Count']}"

    def alter(self, row: Row, at: float) -> bool:
        row["fields"] = {**row["fields"], "Count": row["fields"]["Count"] + 1000}
        return True

    def remove(self, row: Row, at: float) -> str:
        return f"{row['id']} is gone"

    def trouble(self) -> Sequence[Answer]:
        text = "You have reached the rate limit of 5 requests per second"
        return [
            said({"errors": [{"error": "RATE_LIMIT_REACHED", "message": text}]}, 429)
        ]

    def respond(self, asked: Asked) -> Answer:
        need(
            asked,
            "authorization",
            "Bearer pat.secret",
            {"error": {"type": "AUTHENTICATION_REQUIRED"}},
        )
        path(asked, "/v0/appExample/Orders")
        allow(
            asked,
            "pageSize offset maxRecords view fields[] filterByFormula",
            {"error": {"type": "INVALID_REQUEST_UNKNOWN"}},
            422,
        )
        query = asked.query
        width = min(size(query.get("pageSize"), 100, 100), 3)
        start = 0
        if "offset" in query:
            name, _, record = query["offset"].partition("/")
            if name != f"itr{self._lists}x{len(self.rows)}":
                kind = "LIST_RECORDS_ITERATOR_NOT_AVAILABLE"
                raise Refused(422, {"error": {"type": kind}})
            start = int(record.removeprefix("rec"))
        else:
            self._lists += 1
        rows = self.give(self.rows[start : start + width])
        found: dict[str, Any] = {"records": rows}
        if start + width < len(self.rows):
            name = f"itr{self._lists}x{len(self.rows)}"
            found["offset"] = f"{name}/rec{start + width:014d}"
        return said(found)


class Socrata(Documented):
    """A data set: any slice of a query, rows told apart by system fields."""

    recipe = "socrata"
    environment = variables(SOCRATA_APP_TOKEN="st")
    limit = Limit(1000, 3600)
    first = 2100
    later = 1200
    key = ":id"
    version = ":updated_at"

    def make(self, number: int, at: float) -> Row:
        return {
            ":id": f"row-{number:06d}",
            ":created_at": iso(at, 3),
            ":updated_at": iso(at, 3),
            "case": str(number),
        }

    def alter(self, row: Row, at: float) -> bool:
        row[":updated_at"] = iso(at, 3)
        return True

    def trouble(self) -> Sequence[Answer]:
        return [said({"code": "too_many_requests", "error": True}, 429)]

    def respond(self, asked: Asked) -> Answer:
        need(asked, "x-app-token", "st", {"code": "permission_denied", "error": True})
        path(asked, "/resource/erm2-nwe9.json")
        allow(asked, "$select $where $order $limit $offset $q")
        query = asked.query
        assert (":*, *", ":updated_at DESC, :id") == (query["$select"], query["$order"])
        found = re.fullmatch(
            r":updated_at >= '([\d-]{10}T[\d:.]{8,12}Z)'", query["$where"]
        )
        if found is None:
            raise Refused(400, {"code": "query.soql", "message": query["$where"]})
        start, width = int(query.get("$offset", "0")), int(query.get("$limit", "1000"))
        rows = sorted(
            (row for row in self.rows if row[":updated_at"] >= found[1]),
            key=lambda row: row[":updated_at"],
            reverse=True,
        )
        return said(self.give(rows[start : start + min(width, 50_000)]))


class Calendar(Documented):
    """Events and what has changed of them, by a token of the last page."""

    recipe = "google-calendar"
    environment = variables(
        GOOGLE_CLIENT_ID="app", GOOGLE_CLIENT_SECRET="s3", GOOGLE_REFRESH_TOKEN="1//r"
    )
    limit = Limit(600, 60)
    aside = ("/token",)
    version = "updated"

    def __init__(self) -> None:
        self.changes: list[Row] = []
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "oauth2.token.url": f"{self.url}/token"}

    def make(self, number: int, at: float) -> Row:
        row = {"id": f"ev{number:05d}", "status": "confirmed", "updated": iso(at, 3)}
        self.changes.append(dict(row))
        return row

    def alter(self, row: Row, at: float) -> bool:
        row["updated"] = iso(at, 3)
        self.changes.append(dict(row))
        return True

    def identity(self, record: Any) -> str:
        if record["status"] == "cancelled":
            return f"{record['id']} is gone"
        return super().identity(record)

    def remove(self, row: Row, at: float) -> str:
        gone = {**row, "status": "cancelled", "updated": iso(at, 3)}
        self.changes.append(gone)
        return self.identity(gone)

    def trouble(self) -> Sequence[Answer]:
        errors = [{"domain": "usageLimits", "reason": "rateLimitExceeded"}]
        text = "Rate Limit Exceeded"
        return [said({"error": {"code": 403, "message": text, "errors": errors}}, 403)]

    def respond(self, asked: Asked) -> Answer:
        if asked.path in self.aside:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": "1//r",
                "client_id": "app",
                "client_secret": "s3",
            }
            granted = {
                "access_token": "ya29",
                "expires_in": 3599,
                "token_type": "Bearer",
            }
            return token(asked, form, granted)
        need(asked, "authorization", "Bearer ya29", {"error": {"code": 401}})
        path(asked, "/calendar/v3/calendars/primary/events")
        allow(asked, "maxResults pageToken syncToken singleEvents showDeleted")
        query = asked.query
        size(query.get("maxResults"), 250, 2500)
        if query.get("syncToken") == "old":
            raise Refused(
                410, {"error": {"code": 410, "message": "Sync token is invalid"}}
            )
        after = int(query["syncToken"].strip("CPDA=")) if "syncToken" in query else 0
        start = int(query["pageToken"].strip("CiA")) if "pageToken" in query else after
        seen = {}
        for number, row in enumerate(self.changes):
            if number >= after:
                seen.pop(row["id"], None)
                seen[row["id"]] = number, row
        left = [(number, row) for number, row in seen.values() if number >= start]
        page = left[:3]
        body: Row = {"kind": "calendar#events", "items": self.give(r for _, r in page)}
        if len(left) > 3:
            body["nextPageToken"] = f"CiA{page[-1][0] + 1}"
        else:
            body["nextSyncToken"] = f"CPDA{len(self.changes)}="
        return said(body)
