"""Models of data stores with an HTTP API: Elasticsearch, CouchDB, CKAN."""

from __future__ import annotations

import json
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
    variables,
)


class Elasticsearch(Documented):
    """An index, walked by the sort values of the last hit."""

    recipe = "elasticsearch"
    environment = variables(ELASTIC_API_KEY="a2V5")
    first = 1500
    later = 2300

    def make(self, number: int, at: float) -> Row:
        # Three events of a moment, told apart by their id.
        moment = self.now - number % 3 * self.step
        return {
            "@timestamp": iso(moment, 3),
            "event": {"id": f"e-{number:06d}"},
            "message": f"line {number}",
        }

    def identity(self, record: Any) -> str:
        found: str = record.get("_source", record)["event"]["id"]
        return found

    def trouble(self) -> Sequence[Answer]:
        reason = {"type": "es_rejected_execution_exception", "reason": "queue is full"}
        shards = {"total": 5, "successful": 4, "skipped": 0, "failed": 1}
        hits: dict[str, Any] = {"hits": []}
        return [
            said({"error": reason, "status": 429}, 429),
            said({"took": 5, "timed_out": True, "_shards": shards, "hits": hits}),
            said({"took": 5, "timed_out": False, "_shards": shards, "hits": hits}),
        ]

    def respond(self, asked: Asked) -> Answer:
        need(asked, "authorization", "ApiKey a2V5", {"error": "security_exception"})
        path(asked, "/logs/_search")
        body = json.loads(asked.body)
        if set(body) - {"size", "query", "sort", "search_after", "track_total_hits"}:
            raise Refused(400, {"error": {"type": "parsing_exception"}})
        if not 0 < body["size"] <= 10_000:
            reason = "Result window is too large"
            raise Refused(
                400, {"error": {"type": "illegal_argument", "reason": reason}}
            )
        assert [{"@timestamp": "asc"}, {"event.id": "asc"}] == body["sort"]
        sorted_rows = sorted(
            ([int(epoch(row["@timestamp"]) * 1000), row["event"]["id"]], row)
            for row in self.rows
        )
        if "search_after" in body:
            after = body["search_after"]
            if len(after) != 2:
                raise Refused(400, {"error": {"type": "parsing_exception"}})
            sorted_rows = [pair for pair in sorted_rows if pair[0] > after]
        page = sorted_rows[: body["size"]]
        self.give(row for _, row in page)
        return said(
            {
                "took": 3,
                "timed_out": False,
                "_shards": {"total": 5, "successful": 5, "skipped": 0, "failed": 0},
                "hits": {
                    "max_score": None,
                    "hits": [
                        {
                            "_index": "logs",
                            "_id": f"x{row['event']['id']}",
                            "_score": None,
                            "_source": row,
                            "sort": values,
                        }
                        for values, row in page
                    ],
                },
            }
        )


class CouchDb(Documented):
    """A database's feed of changes, each document once, at its newest."""

    recipe = "couchdb-changes"
    environment = variables(COUCHDB_USER="reader", COUCHDB_PASSWORD="pw")

    def __init__(self) -> None:
        self.changes: list[Row] = []
        super().__init__()

    def make(self, number: int, at: float) -> Row:
        row = {"id": f"doc-{number}", "rev": 1}
        self._change(row)
        return row

    def alter(self, row: Row, at: float) -> bool:
        row["rev"] += 1
        self._change(row)
        return True

    def remove(self, row: Row, at: float) -> str:
        row["rev"] += 1
        row["deleted"] = True
        self._change(row)
        return self.identity(row)

    def _change(self, row: Row) -> None:
        self.changes = [each for each in self.changes if each["id"] != row["id"]]
        number = self.changes[-1]["number"] + 1 if self.changes else 1
        self.changes.append({**row, "number": number})

    def identity(self, record: Any) -> str:
        if record.get("deleted"):
            return f"{record['id']} is gone"
        rev = record.get("rev") or record["changes"][0]["rev"].partition("-")[0]
        return f"{record['id']}@{rev}"

    def trouble(self) -> Sequence[Answer]:
        return [said({"error": "timeout", "reason": "The request timed out"}, 500)]

    def respond(self, asked: Asked) -> Answer:
        need(asked, "authorization", basic("reader", "pw"), {"error": "unauthorized"})
        path(asked, "/orders/_changes")
        allow(asked, "since limit feed style include_docs descending")
        query = asked.query
        since = int(query.get("since", "0").partition("-")[0])
        left = [row for row in self.changes if row["number"] > since]
        page = left[: min(int(query["limit"]), 3)]
        self.give(page)
        last = page[-1]["number"] if page else since
        results = [
            {
                "seq": f"{row['number']}-g1AAAAB",
                "id": row["id"],
                "changes": [{"rev": f"{row['rev']}-abc"}],
                **({"deleted": True} if row.get("deleted") else {}),
            }
            for row in page
        ]
        # A sequence is opaque: it is written anew each time.
        return said(
            {
                "results": results,
                "last_seq": f"{last}-g1AAAAB",
                "pending": len(left) - len(page),
            }
        )


class Ckan(Documented):
    """A table of an open data portal, by offset, errors by a member."""

    recipe = "ckan"
    limit = Limit(5, 1)
    first = 1400
    later = 1300
    key = "_id"

    def make(self, number: int, at: float) -> Row:
        return {"_id": number + 1, "date": iso(at, zone=""), "value": str(number)}

    def trouble(self) -> Sequence[Answer]:
        return [
            said("<html>502 Bad Gateway</html>", 502, [("Content-Type", "text/html")])
        ]

    def respond(self, asked: Asked) -> Answer:
        path(asked, "/api/3/action/datastore_search")
        error = {"success": False, "error": {"__type": "Validation Error"}}
        allow(asked, "resource_id limit offset sort fields q filters", error, 409)
        query = asked.query
        if query.get("sort") != "_id asc" or "resource_id" not in query:
            raise Refused(409, error)
        # The portal's own most is silently less than what is asked for.
        width = min(int(query.get("limit", "100")), 32_000, 500)
        start = int(query.get("offset", "0"))
        rows = self.give(self.rows[start : start + width])
        result = {
            "resource_id": query["resource_id"],
            "records": rows,
            "total": len(self.rows),
            "limit": width,
        }
        return said({"success": True, "result": result})
