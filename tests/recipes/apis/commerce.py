"""Models of what sells and bills: Salesforce, HubSpot, Shopify, Stripe, Xero."""

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
    epoch,
    iso,
    need,
    path,
    said,
    size,
    token,
    variables,
)

WAIT = ("Retry-After", "0")


class Salesforce(Documented):
    """Records by SOQL; further pages behind a relative URL."""

    recipe = "salesforce-soql"
    environment = variables(SALESFORCE_CLIENT_ID="app", SALESFORCE_CLIENT_SECRET="s3")
    limit = Limit(100_000, 86_400)
    aside = ("/services/oauth2/token",)
    key = "Id"
    version = "SystemModstamp"

    def __init__(self) -> None:
        self._queries: list[list[Row]] = []
        self._token = 0
        #: What was deleted and is told for fifteen days.
        self._bin: list[Row] = []
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "oauth2.token.url": f"{self.url}{self.aside[0]}"}

    def make(self, number: int, at: float) -> Row:
        name = f"001{number:012d}AAA"
        return {
            "attributes": {"type": "Account", "url": f"/services/data/{name}"},
            "Id": name,
            "Name": f"Account {number}",
            "SystemModstamp": iso(at, 3, "+0000"),
            "IsDeleted": False,
        }

    def alter(self, row: Row, at: float) -> bool:
        row["SystemModstamp"] = iso(at, 3, "+0000")
        return True

    def identity(self, record: Any) -> str:
        return (
            f"{record['Id']} is gone"
            if record["IsDeleted"]
            else super().identity(record)
        )

    def remove(self, row: Row, at: float) -> str:
        gone = {**row, "IsDeleted": True, "SystemModstamp": iso(at, 3, "+0000")}
        self._bin.append(gone)
        return self.identity(gone)

    def trouble(self) -> Sequence[Answer]:
        text = "TotalRequests Limit exceeded."
        return [
            said([{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": text}], 403),
            said([{"errorCode": "SERVER_UNAVAILABLE", "message": "Busy"}], 503),
            said([{"errorCode": "INVALID_SESSION_ID", "message": "expired"}], 401),
        ]

    def respond(self, asked: Asked) -> Answer:
        if asked.path in self.aside:
            form = {
                "grant_type": "client_credentials",
                "client_id": "app",
                "client_secret": "s3",
            }
            self._token += 1
            return token(
                asked,
                form,
                {
                    "access_token": f"00D!{self._token}",
                    "token_type": "Bearer",
                    "instance_url": self.url,
                },
            )
        wrong = [{"errorCode": "INVALID_SESSION_ID", "message": "Session expired"}]
        need(asked, "authorization", f"Bearer 00D!{self._token}", wrong)
        base = "/services/data/v62.0/queryAll"
        if asked.path == base:
            allow(asked, "q")
            found = re.fullmatch(
                r"SELECT [\w, ]+ FROM Account WHERE SystemModstamp >= (\S+Z) "
                r"ORDER BY SystemModstamp",
                asked.query["q"],
            )
            if found is None:
                raise Refused(400, [{"errorCode": "MALFORMED_QUERY"}])
            since = epoch(found[1])
            rows = sorted(
                (
                    dict(row)
                    for row in [*self.rows, *self._bin]
                    if epoch(row["SystemModstamp"]) >= since
                ),
                key=lambda row: str(row["SystemModstamp"]),
            )
            self._queries.append(rows)
            number, start = len(self._queries) - 1, 0
        else:
            match = re.fullmatch(rf"{base}/01gD(\d+)-(\d+)", asked.path)
            if match is None or int(match[1]) >= len(self._queries):
                raise Refused(400, [{"errorCode": "INVALID_QUERY_LOCATOR"}])
            number, start = int(match[1]), int(match[2])
        # A query is what was found when it was asked, for two days.
        rows = self._queries[number]
        page = self.give(rows[start : start + 3])
        done = start + 3 >= len(rows)
        body = {"totalSize": len(rows), "done": done, "records": page}
        if not done:
            body["nextRecordsUrl"] = f"{base}/01gD{number}-{start + 3}"
        return said(body)


class HubSpot(Documented):
    """Contacts by a search from a time on."""

    recipe = "hubspot-contacts"
    environment = variables(HUBSPOT_TOKEN="pat")
    limit = Limit(5, 1)
    first = 900
    later = 450

    def make(self, number: int, at: float) -> Row:
        return {
            "id": str(50_000 + number),
            "properties": {
                "email": f"c{number}@example.com",
                "lastmodifieddate": iso(at, 3),
            },
            "updatedAt": iso(at, 3),
            "archived": False,
        }

    def identity(self, record: Any) -> str:
        return f"{record['id']}@{record['properties']['lastmodifieddate']}"

    def alter(self, row: Row, at: float) -> bool:
        row["properties"] = {**row["properties"], "lastmodifieddate": iso(at, 3)}
        row["updatedAt"] = iso(at, 3)
        return True

    def trouble(self) -> Sequence[Answer]:
        error = {"status": "error", "errorType": "RATE_LIMIT", "policyName": "SECONDLY"}
        return [said(error, 429)]

    def respond(self, asked: Asked) -> Answer:
        need(
            asked, "authorization", "Bearer pat", {"category": "INVALID_AUTHENTICATION"}
        )
        path(asked, "/crm/v3/objects/contacts/search")
        body = json.loads(asked.body)
        [group] = body["filterGroups"]
        [wanted] = group["filters"]
        assert ("lastmodifieddate", "GTE") == (
            wanted["propertyName"],
            wanted["operator"],
        )
        assert "ASCENDING" == body["sorts"][0]["direction"]
        width = size(str(body.get("limit", 10)), 10, 200)
        start = int(body.get("after") or 0)
        if start + width > 10_000:
            raise Refused(400, {"status": "error", "category": "VALIDATION_ERROR"})
        since = int(wanted["value"]) / 1000
        rows = sorted(
            (row for row in self.rows if epoch(row["updatedAt"]) >= since),
            key=lambda row: str(row["updatedAt"]),
        )
        page = self.give(rows[start : start + width])
        found: Row = {"total": len(rows), "results": page}
        if start + width < len(rows):
            found["paging"] = {"next": {"after": str(start + width)}}
        return said(found)


class Shopify(Documented):
    """Orders from a time on; a link's page takes no filter of its own."""

    recipe = "shopify-orders"
    environment = variables(SHOPIFY_TOKEN="shpat")
    limit = Limit(2, 1)
    version = "updated_at"

    def make(self, number: int, at: float) -> Row:
        # Shops have a zone.
        return {"id": 450_789_469 + number, "updated_at": iso(at, zone="+00:00")}

    def alter(self, row: Row, at: float) -> bool:
        row["updated_at"] = iso(at, zone="+00:00")
        return True

    def trouble(self) -> Sequence[Answer]:
        text = "Exceeded 2 calls per second for api client. Reduce request rates."
        called = [("X-Shopify-Shop-Api-Call-Limit", "40/40"), ("Retry-After", "0.0")]
        return [said({"errors": text}, 429, called)]

    def respond(self, asked: Asked) -> Answer:
        need(
            asked,
            "x-shopify-access-token",
            "shpat",
            {"errors": "[API] Invalid API key"},
        )
        path(asked, "/admin/api/2026-01/orders.json")
        query = asked.query
        if "page_info" in query:
            allow(asked, "limit page_info fields", {"errors": {"page_info": "Invalid"}})
            since, at, number = json.loads(query["page_info"])
        else:
            allow(
                asked,
                "status limit updated_at_min updated_at_max order fields since_id",
            )
            assert ("any", "updated_at asc") == (query["status"], query["order"])
            since = query.get("updated_at_min", "1970-01-01T00:00:00Z")
            at, number = "", 0
        size(query.get("limit"), 50, 250)
        rows = sorted(
            (row for row in self.rows if epoch(row["updated_at"]) >= epoch(since)),
            key=lambda row: (row["updated_at"], row["id"]),
        )
        left = [row for row in rows if (row["updated_at"], row["id"]) > (at, number)]
        page = self.give(left[:3])
        headers = [("X-Shopify-Shop-Api-Call-Limit", "1/40")]
        if len(left) > 3:
            info = json.dumps([since, page[-1]["updated_at"], page[-1]["id"]])
            encoded = info.replace('"', "%22").replace(" ", "%20").replace("+", "%2B")
            link = f"{self.url}{asked.path}?limit=250&page_info={encoded}"
            headers.append(("Link", f'<{link}>; rel="next"'))
        return said({"orders": page}, headers=headers)


class Stripe(Documented):
    """Events of thirty days, newest first, from an id downwards."""

    recipe = "stripe-events"
    environment = variables(STRIPE_KEY="rk_live")
    limit = Limit(100, 1)

    def make(self, number: int, at: float) -> Row:
        return {
            "id": f"evt_{number:06d}",
            "object": "event",
            "created": int(at),
            "type": "charge.succeeded",
        }

    def trouble(self) -> Sequence[Answer]:
        error = {"type": "invalid_request_error", "code": "rate_limit"}
        return [
            said({"error": error}, 429),
            said({"error": {"type": "api_error"}}, 500),
        ]

    def respond(self, asked: Asked) -> Answer:
        need(asked, "authorization", "Bearer rk_live", {"error": {"type": "auth"}})
        path(asked, "/v1/events")
        unknown = {"error": {"code": "parameter_unknown"}}
        allow(
            asked,
            "limit starting_after ending_before created[gte] created[gt] type types[]",
            unknown,
        )
        query = asked.query
        size(query.get("limit"), 10, 100)
        since = int(query.get("created[gte]", "0"))
        rows = [row for row in self.rows if row["created"] >= since][::-1]
        start = 0
        if "starting_after" in query:
            last = query["starting_after"]
            known = [at for at, row in enumerate(rows) if row["id"] == last]
            if not known:
                raise Refused(400, {"error": {"code": "resource_missing"}})
            start = known[0] + 1
        page = self.give(rows[start : start + 3])
        return said(
            {
                "object": "list",
                "url": "/v1/events",
                "has_more": start + 3 < len(rows),
                "data": page,
            }
        )


class Xero(Documented):
    """Invoices changed since a header's time, in numbered pages."""

    recipe = "xero-invoices"
    environment = variables(
        XERO_CLIENT_ID="app", XERO_CLIENT_SECRET="s3", XERO_TENANT="t1"
    )
    limit = Limit(60, 60)
    aside = ("/connect/token",)
    first = 1200
    later = 1300
    key = "InvoiceID"
    version = "UpdatedDateUTC"

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "oauth2.token.url": f"{self.url}{self.aside[0]}"}

    def make(self, number: int, at: float) -> Row:
        return {
            "InvoiceID": f"243216c5-{number:05d}",
            "UpdatedDateUTC": f"/Date({int(at * 1000)}+0000)/",
        }

    def alter(self, row: Row, at: float) -> bool:
        row["UpdatedDateUTC"] = f"/Date({int(at * 1000)}+0000)/"
        return True

    def trouble(self) -> Sequence[Answer]:
        return [said("", 429, [WAIT, ("X-Rate-Limit-Problem", "minute")])]

    def respond(self, asked: Asked) -> Answer:
        if asked.path in self.aside:
            form = {
                "grant_type": "client_credentials",
                "scope": "accounting.transactions",
            }
            if asked.headers.get("authorization", "")[:6] != "Basic ":
                raise Refused(400, {"error": "invalid_client"})
            granted = {"access_token": "xt", "expires_in": 1800, "token_type": "Bearer"}
            return token(asked, form, granted)
        need(asked, "authorization", "Bearer xt", {"Title": "Unauthorized"})
        need(asked, "xero-tenant-id", "t1", {"Title": "Forbidden"})
        need(asked, "accept", "application/json", "<xml/>")
        path(asked, "/api.xro/2.0/Invoices")
        allow(asked, "page pageSize order where Statuses")
        query = asked.query
        width = size(query.get("pageSize"), 100, 1000)
        page = int(query["page"])
        since = asked.headers.get("if-modified-since")
        # Seconds, without a zone.
        if since is not None and not re.fullmatch(r"[\d-]{10}T[\d:]{8}", since):
            raise Refused(400, {"Message": f"If-Modified-Since {since}"})
        after = epoch(since) if since else 0.0
        assert "UpdatedDateUTC DESC" == query["order"]
        rows = sorted(
            (row for row in self.rows if self._at(row) >= after),
            key=self._at,
            reverse=True,
        )
        found = self.give(rows[(page - 1) * width : page * width])
        pages = -(-len(rows) // width)
        counts = {
            "page": page,
            "pageSize": width,
            "pageCount": pages,
            "itemCount": len(rows),
        }
        return said({"Status": "OK", "pagination": counts, "Invoices": found})

    def _at(self, row: Row) -> float:
        found = re.search(r"\d+", row["UpdatedDateUTC"])
        assert found is not None
        return int(found[0]) / 1000


class SapBusinessOne(Documented):
    """Orders by the day of their change, for whoever has a session."""

    recipe = "sap-business-one"
    environment = variables(SAP_USER="u", SAP_PASSWORD="p", SAP_COMPANY="SBO")
    aside = ("/b1s/v2/Login",)
    key = "DocEntry"

    def __init__(self) -> None:
        self._session = 0
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "auth.login.url": f"{self.url}{self.aside[0]}"}

    def make(self, number: int, at: float) -> Row:
        row = {"DocEntry": 100 + number, "CardCode": "C1", "DocTotal": 10.5}
        self.alter(row, at)
        return row

    def alter(self, row: Row, at: float) -> bool:
        moment = iso(at)
        row["UpdateDate"] = f"{moment[:10]}T00:00:00Z"
        row["UpdateTime"] = moment[11:19]
        return True

    def identity(self, record: Any) -> str:
        return f"{record['DocEntry']}@{record['UpdateDate']} {record['UpdateTime']}"

    def trouble(self) -> Sequence[Answer]:
        text = "Invalid session or session already timeout."
        return [said({"error": {"code": "301", "message": text}}, 401)]

    def respond(self, asked: Asked) -> Answer:
        if asked.path in self.aside:
            wanted = {"CompanyDB": "SBO", "UserName": "u", "Password": "p"}
            if json.loads(asked.body) != wanted:
                raise Refused(
                    401, {"error": {"code": "102", "message": "Login failed"}}
                )
            self._session += 1
            cookies = [
                ("Set-Cookie", f"B1SESSION=s{self._session};path=/b1s/v2;HttpOnly"),
                ("Set-Cookie", "ROUTEID=.node1; path=/b1s"),
            ]
            return said(
                {"SessionId": f"s{self._session}", "SessionTimeout": 30}, 200, cookies
            )
        cookies = asked.headers.get("cookie", "")
        if f"B1SESSION=s{self._session}" not in cookies or "ROUTEID" not in cookies:
            raise Refused(401, {"error": {"code": "301", "message": "Invalid session"}})
        path(asked, "/b1s/v2/Orders")
        allow(asked, "$select $filter $orderby $skip $top")
        assert asked.headers.get("prefer", "").startswith("odata.maxpagesize=")
        found = re.fullmatch(
            r"UpdateDate ge '(\d{4}-\d\d-\d\d)'", asked.query["$filter"]
        )
        if found is None:
            raise Refused(400, {"error": {"code": "-1", "message": "filter"}})
        rows = [row for row in self.rows if row["UpdateDate"][:10] >= found[1]]
        start = int(asked.query.get("$skip", "0"))
        body: Row = {"value": self.give(rows[start : start + 3])}
        if start + 3 < len(rows):
            target = asked.target.partition("/b1s/v2/")[2].partition("&$skip")[0]
            body["@odata.nextLink"] = f"{target}&$skip={start + 3}"
        return said(body)
