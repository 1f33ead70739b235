"""APIs that make their data by jobs: Salesforce's, Shopify's and Amazon's ways."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from engine.records import Request, Response

Answer = tuple[int, list[tuple[str, str]], bytes]


class Jobs:
    """
    Jobs that are done after some looks; what they make is `rows` at that time.

    Attributes:
        rows: What there is.
        looks: Looks at a status until a job is done.
        created: Ids of jobs.
        ends: Id -> the status that it ends with, where that is not a success.
        forgotten: Ids that the API knows no longer.
        asked: Method and path of each request.
    """

    def __init__(self, url: str = "http://jobs.test") -> None:
        self.url = url
        self.rows: list[dict[str, Any]] = []
        self.looks = 2
        self.created: list[str] = []
        self.ends: dict[str, str] = {}
        self.forgotten: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[Any] = []
        self.retry_after = ""
        #: Path -> the records of a list that is no job.
        self.lists: dict[str, list[dict[str, Any]]] = {}
        self._left: dict[str, int] = {}
        self._made: dict[str, list[dict[str, Any]]] = {}

    def __call__(self, request: Request) -> Response:
        status, headers, body = self.answer(request.method, request.url, request.body)
        response = Response(
            request=request,
            url=request.url,
            status=status,
            headers=headers,
            body=body,
            sent_at=0.0,
            received_ms=0,
        )
        if status >= 400:
            from engine.errors import Unexpected

            raise Unexpected(f"status {status}", status=status, url=request.url)
        return response

    def answer(self, method: str, target: str, body: bytes | None) -> Answer:
        url = urlsplit(target)
        self.asked.append((method, url.path))
        if url.path in self.lists:
            return _json({"items": self.lists[url.path]})
        path = url.path.strip("/").split("/")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        kind = path[0]
        if method == "POST" and len(path) == 2 and path[1] == "jobs":
            return self._create(kind, body)
        if kind == "shopify" and path[1] == "graphql":
            number = json.loads(body or b"{}")["id"]
        else:
            number = path[2]
        if number in self.forgotten:
            return 404, [], b'{"error":"unknown"}'
        if path[-1] in ("results", "file"):
            return self._results(number, query)
        if path[1] == "documents":
            return _json({"url": f"{self.url}/amazon/files/{number}/file"})
        return self._status(kind, number)

    def _create(self, kind: str, body: bytes | None) -> Answer:
        number = f"j{len(self.created) + 1}"
        self.created.append(number)
        self.bodies.append(json.loads(body or b"null"))
        self._left[number] = self.looks
        secret = {"secret": "not for the state"}
        if kind == "location":
            place = f"/location/jobs/{number}"
            return 202, [("location", place)], b""
        if kind == "amazon":
            return _json({"reportId": number, **secret}, 202)
        return _json({"id": number, "state": "UploadComplete", **secret})

    def _status(self, kind: str, number: str) -> Answer:
        headers = [("retry-after", self.retry_after)] if self.retry_after else []
        if self._left[number] > 0:
            self._left[number] -= 1
            if kind == "location":
                return 202, headers, b""
            return _json({"state": "InProgress", "id": number}, 200, headers)
        state = self.ends.get(number, "JobComplete")
        self._made.setdefault(number, self._of(number))
        made: dict[str, Any] = {"state": state, "id": number}
        made["reportDocumentId"] = number
        some = self._made[number]
        place = f"{self.url}/{kind}/files/{number}/file"
        halves = [f"{place}?part=0", f"{place}?part=1"]
        made["url"] = place if some else None
        made["urls"] = halves
        return _json(made, 200, headers)

    def _of(self, number: str) -> list[dict[str, Any]]:
        """What a job makes: all rows, or those from one id to another."""
        body = self.bodies[self.created.index(number)]
        if not isinstance(body, dict) or "from" not in body:
            return list(self.rows)
        low, high = int(body["from"]), int(body["to"])
        return [row for row in self.rows if low <= row["id"] < high]

    def _results(self, number: str, query: dict[str, str]) -> Answer:
        rows = self._made.setdefault(number, self._of(number))
        headers = []
        if "part" in query:
            half = (len(rows) + 1) // 2
            rows = rows[:half] if query["part"] == "0" else rows[half:]
        if "limit" in query:
            at, size = int(query.get("locator", "0")), int(query["limit"])
            if at + size < len(rows):
                headers.append(("sforce-locator", str(at + size)))
            rows = rows[at : at + size]
        return _json({"items": rows}, 200, headers)


def _json(
    document: Any, status: int = 200, headers: list[tuple[str, str]] | None = None
) -> Answer:
    return status, [*(headers or ())], json.dumps(document).encode()
