"""Models of APIs that make their data first: Salesforce's Bulk API, Amazon's reports."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence

from tests.fakes.api import Answer, Asked
from tests.recipes.documented import (
    Documented,
    Limit,
    Refused,
    Row,
    allow,
    iso,
    need,
    said,
    token,
    variables,
)


class Jobs(Documented):
    """
    Jobs that are done at the second look, each with the rows of its creation.

    Attributes:
        jobs: Those rows, by the number of the job.
    """

    absent = True

    def __init__(self) -> None:
        self.jobs: list[list[Row]] = []
        self._looks: dict[int, int] = {}
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {
            **super().settings(),
            "oauth2.token.url": f"{self.url}{self.aside[0]}",
            "http.job.interval.ms": 50,
        }

    def create(self) -> int:
        """A job of what there is now."""
        self.jobs.append([dict(row) for row in self.rows])
        return len(self.jobs) - 1

    def done(self, number: int) -> bool:
        """Look at a job."""
        self._looks[number] = self._looks.get(number, 0) + 1
        return self._looks[number] > 1


class SalesforceBulk(Jobs):
    """Queries as jobs, their results as CSV in parts."""

    recipe = "salesforce-bulk"
    environment = variables(SALESFORCE_CLIENT_ID="app", SALESFORCE_CLIENT_SECRET="s3")
    limit = Limit(100_000, 86_400)
    aside = ("/services/oauth2/token",)
    key = "Id"
    version = "SystemModstamp"

    def make(self, number: int, at: float) -> Row:
        return {
            "Id": f"001{number:012d}AAA",
            "Name": f'Account "{number}", Inc.',
            "SystemModstamp": iso(at, 3),
        }

    def alter(self, row: Row, at: float) -> bool:
        row["SystemModstamp"] = iso(at, 3)
        return True

    def remove(self, row: Row, at: float) -> str:
        return f"{row['Id']} is gone"

    def trouble(self) -> Sequence[Answer]:
        text = "TotalRequests Limit exceeded."
        return [said([{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": text}], 403)]

    def respond(self, asked: Asked) -> Answer:
        if asked.path in self.aside:
            form = {
                "grant_type": "client_credentials",
                "client_id": "app",
                "client_secret": "s3",
            }
            return token(asked, form, {"access_token": "00D!", "token_type": "Bearer"})
        wrong = [{"errorCode": "INVALID_SESSION_ID"}]
        need(asked, "authorization", "Bearer 00D!", wrong)
        base = "/services/data/v62.0/jobs/query"
        if asked.path == base and asked.method == "POST":
            body = json.loads(asked.body)
            if body["operation"] not in ("query", "queryAll") or "query" not in body:
                raise Refused(400, [{"errorCode": "INVALIDJOB"}])
            return said({"id": f"750R{self.create()}", "state": "UploadComplete"})
        found = re.fullmatch(rf"{base}/750R(\d+)(/results)?", asked.path)
        if found is None or int(found[1]) >= len(self.jobs):
            raise Refused(404, [{"errorCode": "NOT_FOUND"}])
        number = int(found[1])
        if not found[2]:
            state = "JobComplete" if self.done(number) else "InProgress"
            return said({"id": f"750R{number}", "state": state})
        if self._looks.get(number, 0) < 2:
            raise Refused(400, [{"errorCode": "INVALIDJOBSTATE"}])
        allow(asked, "locator maxRecords")
        start = int(asked.query.get("locator", "MT0")[2:])
        rows = self.jobs[number]
        page = self.give(rows[start : start + 3])
        lines = ['"Id","Name","SystemModstamp"']
        for row in page:
            cells = [str(row[name]).replace('"', '""') for name in row]
            lines.append(",".join(f'"{cell}"' for cell in cells))
        more = f"MT{start + 3}" if start + 3 < len(rows) else "null"
        return said(
            "\n".join(lines) + "\n",
            headers=[
                ("Content-Type", "text/csv"),
                ("Sforce-Locator", more),
                ("Sforce-NumberOfRecords", str(len(page))),
            ],
        )


class Amazon(Jobs):
    """Reports, whose documents are files behind URLs that end."""

    recipe = "amazon-listings"
    environment = variables(
        LWA_CLIENT_ID="app", LWA_CLIENT_SECRET="s3", LWA_REFRESH_TOKEN="Atzr"
    )
    limit = Limit(2, 1)
    aside = ("/auth/o2/token",)
    key = "seller-sku"
    version = "price"

    def make(self, number: int, at: float) -> Row:
        return {
            "item-name": f'Röhre 3" {number}',
            "seller-sku": f"S{number}",
            "price": "9.99",
        }

    def alter(self, row: Row, at: float) -> bool:
        row["price"] = f"{float(row['price']) + 1:.2f}"
        return True

    def remove(self, row: Row, at: float) -> str:
        return f"{row['seller-sku']} is gone"

    def trouble(self) -> Sequence[Answer]:
        errors = [{"code": "QuotaExceeded", "message": "You exceeded your quota"}]
        return [said({"errors": errors}, 429)]

    def respond(self, asked: Asked) -> Answer:
        if asked.path in self.aside:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": "Atzr",
                "client_id": "app",
                "client_secret": "s3",
            }
            granted = {
                "access_token": "Atza",
                "token_type": "bearer",
                "expires_in": 3600,
            }
            return token(asked, form, granted)
        if asked.path.startswith("/file/"):
            rows = self.give(self.jobs[int(asked.path[6:])])
            names = ["item-name", "seller-sku", "price"]
            lines = ["\t".join(names)]
            lines += ["\t".join(row[name] for name in names) for row in rows]
            body = gzip.compress("\r\n".join(lines).encode())
            return 200, [("Content-Type", "application/octet-stream")], body
        need(
            asked, "x-amz-access-token", "Atza", {"errors": [{"code": "Unauthorized"}]}
        )
        base = "/reports/2021-06-30"
        if asked.path == f"{base}/reports" and asked.method == "POST":
            body = json.loads(asked.body)
            if not {"reportType", "marketplaceIds"} <= set(body):
                raise Refused(400, {"errors": [{"code": "InvalidInput"}]})
            return said({"reportId": f"ID{self.create()}"}, 202)
        report = re.fullmatch(rf"{base}/reports/ID(\d+)", asked.path)
        if report is not None:
            number = int(report[1])
            if not self.done(number):
                return said({"reportId": f"ID{number}", "processingStatus": "IN_QUEUE"})
            document = f"amzn1.spdoc.{number}"
            return said({"processingStatus": "DONE", "reportDocumentId": document})
        document = re.fullmatch(rf"{base}/documents/amzn1\.spdoc\.(\d+)", asked.path)
        if document is None:
            raise Refused(404, {"errors": [{"code": "NotFound"}]})
        url = f"{self.url}/file/{document[1]}"
        return said({"url": url, "compressionAlgorithm": "GZIP"})
