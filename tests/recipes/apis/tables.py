"""Models of tables: Google's sheets, Airtable's bases, Socrata's data sets."""

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
    iso,
    need,
    path,
    said,
    size,
    variables,
)


class Sheets(Documented):
    """A sheet: rows of values, the first with the names."""

    recipe = "google-sheets"
    environment = variables(GOOGLE_API_KEY="AIzaSecret")
    limit = Limit(300, 60)
    once = False
    held = 1
    version = "amount"

    def make(self, number: int, at: float) -> Row:
        return {"id": number, "name": f"row {number}", "amount": number * 1.5}

    def alter(self, row: Row, at: float) -> bool:
        row["amount"] += 1000
        return True

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
    once = False

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
            token, _, record = query["offset"].partition("/")
            if token != f"itr{len(self.rows)}":
                kind = "LIST_RECORDS_ITERATOR_NOT_AVAILABLE"
                raise Refused(422, {"error": {"type": kind}})
            start = int(record.removeprefix("rec"))
        rows = self.give(self.rows[start : start + width])
        found: dict[str, Any] = {"records": rows}
        if start + width < len(self.rows):
            found["offset"] = f"itr{len(self.rows)}/rec{start + width:014d}"
        return said(found)


class Socrata(Documented):
    """A data set: any slice of a query, rows told apart by system fields."""

    recipe = "socrata"
    environment = variables(SOCRATA_APP_TOKEN="st")
    limit = Limit(1000, 3600)
    once = False
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
        if "$order" not in query:
            raise Refused(400, {"message": "the model wants an order: pages need one"})
        start, width = int(query.get("$offset", "0")), int(query.get("$limit", "1000"))
        rows = self.rows
        return said(self.give(rows[start : start + min(width, 50_000)]))
