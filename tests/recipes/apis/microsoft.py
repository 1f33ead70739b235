"""Models of Microsoft's APIs that tell what has changed by delta links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

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
    token,
    variables,
)


class Delta(Documented):
    """A collection with a log of its changes, walked by opaque links."""

    scope: ClassVar[str] = ""
    collection: ClassVar[str] = ""
    parameters: ClassVar[str] = ""
    width: ClassVar[int] = 3
    aside = ("/tenant/oauth2/v2.0/token",)

    def __init__(self) -> None:
        #: A row, or what is left of it, at each change.
        self.changes: list[Row] = []
        super().__init__()

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "oauth2.token.url": f"{self.url}{self.aside[0]}"}

    def removed(self, row: Row) -> Row:
        """What stands in a delta for a record that is gone."""
        raise NotImplementedError

    def remove(self, row: Row, at: float) -> str:
        gone = self.removed(row)
        self.changes.append(gone)
        return self.identity(gone)

    def respond(self, asked: Asked) -> Answer:
        if asked.path == self.aside[0]:
            form = {
                "grant_type": "client_credentials",
                "scope": self.scope,
                "client_id": "app",
                "client_secret": "s3cret",
            }
            granted = {
                "token_type": "Bearer",
                "expires_in": 3599,
                "access_token": "eyJ",
            }
            return token(asked, form, granted)
        wrong = {"error": {"code": "InvalidAuthenticationToken", "message": "no"}}
        need(asked, "authorization", "Bearer eyJ", wrong)
        path(asked, self.collection)
        allow(asked, self.parameters, {"error": {"code": "BadRequest"}})
        query = asked.query
        position = query.get("$skiptoken") or query.get("$deltatoken") or "0-0"
        start, _, base = position.partition("-")
        # A delta has each record once, as it is now.
        first, after = int(start), int(base)
        seen: dict[str, tuple[int, Row]] = {}
        for number, row in enumerate(self.changes):
            if number >= after:
                seen.pop(row[self.key], None)
                seen[row[self.key]] = number, row
        left = [(number, row) for number, row in seen.values() if number >= first]
        page = left[: self.width]
        rows = self.give(row for _, row in page)
        body: dict[str, Any] = {
            "@odata.context": f"{self.url}/$metadata#{self.collection}",
            "value": rows,
        }
        here = f"{self.url}{self.collection}"
        if len(left) > len(page):
            upto = page[-1][0] + 1
            body["@odata.nextLink"] = f"{here}?$skiptoken={upto}-{after}"
        else:
            end = len(self.changes)
            body["@odata.deltaLink"] = f"{here}?$deltatoken={end}-{end}"
        return said(body)


class GraphUsers(Delta):
    """Users of a directory."""

    recipe = "microsoft-graph-users"
    environment = variables(AZURE_CLIENT_ID="app", AZURE_CLIENT_SECRET="s3cret")
    limit = Limit(3500, 10)
    scope = "https://graph.microsoft.com/.default"
    collection = "/v1.0/users/delta"
    parameters = "$select $filter $skiptoken $deltatoken"

    def make(self, number: int, at: float) -> Row:
        row = {
            "id": f"0000-{number:04d}",
            "displayName": f"User {number}",
            "mail": f"u{number}@example.com",
        }
        self.changes.append(dict(row))
        return row

    def identity(self, record: Any) -> str:
        return f"{record['id']} {record.get('displayName', 'is gone')}"

    def alter(self, row: Row, at: float) -> bool:
        row["displayName"] += " II"
        self.changes.append(dict(row))
        return True

    def removed(self, row: Row) -> Row:
        return {"id": row["id"], "@removed": {"reason": "changed"}}

    def trouble(self) -> Sequence[Answer]:
        error = {"code": "TooManyRequests", "message": "Too many requests"}
        return [
            said({"error": error}, 429, [("Retry-After", "0")]),
            said({"error": {"code": "serviceNotAvailable"}}, 503),
        ]


class Dataverse(Delta):
    """Accounts of Dynamics 365."""

    recipe = "dataverse-accounts"
    environment = variables(AZURE_CLIENT_ID="app", AZURE_CLIENT_SECRET="s3cret")
    limit = Limit(6000, 300)
    scope = "https://example.crm.dynamics.com/.default"
    collection = "/api/data/v9.2/accounts"
    parameters = "$select $filter $skiptoken $deltatoken"
    key = "accountid"

    def make(self, number: int, at: float) -> Row:
        row = {
            "@odata.etag": f'W/"{number}"',
            "accountid": f"0000-{number:04d}",
            "name": f"Account {number}",
            "modifiedon": iso(at),
        }
        self.changes.append(dict(row))
        return row

    def identity(self, record: Any) -> str:
        if "reason" in record:
            return f"{record['id']} is gone"
        return f"{record['accountid']} {record['modifiedon']}"

    def alter(self, row: Row, at: float) -> bool:
        row["modifiedon"] = iso(at)
        self.changes.append(dict(row))
        return True

    def removed(self, row: Row) -> Row:
        context = f"{self.url}/api/data/v9.2/$metadata#accounts/$deletedEntity"
        return {
            "@odata.context": context,
            "id": row["accountid"],
            "reason": "deleted",
            "accountid": row["accountid"],
        }

    def trouble(self) -> Sequence[Answer]:
        text = "Number of requests exceeded the limit of 6000"
        error = {"code": "0x80072322", "message": text}
        return [said({"error": error}, 429, [("Retry-After", "0")])]

    def respond(self, asked: Asked) -> Answer:
        if asked.path not in self.aside:
            prefer = asked.headers.get("prefer", "")
            if "odata.track-changes" not in prefer:
                raise Refused(400, {"error": {"code": "0x80060888"}})
        return super().respond(asked)
