"""Models of code hosts: GitHub, also by GraphQL, and GitLab."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tests.fakes.api import Answer, Asked
from tests.recipes.documented import (
    Documented,
    Limit,
    Row,
    allow,
    epoch,
    iso,
    need,
    path,
    said,
    size,
    variables,
)


class GitHubGraph(Documented):
    """Issues in the order of their making, by a cursor that stays good."""

    recipe = "github-graphql"
    environment = variables(GITHUB_TOKEN="ghp")
    limit = Limit(5000, 3600)
    key = "number"

    def make(self, number: int, at: float) -> Row:
        return {
            "id": f"I_{number}",
            "number": number + 1,
            "title": f"Issue {number}",
            "createdAt": iso(at),
            "updatedAt": iso(at),
        }

    def trouble(self) -> Sequence[Answer]:
        limited = {"type": "RATE_LIMITED", "message": "API rate limit exceeded"}
        return [
            said({"errors": [limited]}),
            said(
                {"message": "You have exceeded a secondary rate limit"},
                403,
                [("Retry-After", "0")],
            ),
            said({"data": None, "errors": [{"message": "Something went wrong"}]}, 502),
        ]

    def respond(self, asked: Asked) -> Answer:
        need(asked, "authorization", "Bearer ghp", {"message": "Bad credentials"})
        path(asked, "/graphql")
        if asked.method != "POST" or "user-agent" not in asked.headers:
            return said({"message": "Not Found"}, 404)
        body = json.loads(asked.body)
        variables = body["variables"]
        if not 1 <= variables["first"] <= 100:
            return said({"errors": [{"type": "EXCESSIVE_PAGINATION"}]})
        after = variables["after"]
        start = 0 if after is None else int(after.removeprefix("Y3Vyc29y"))
        end = min(start + 3, len(self.rows))
        rows = self.give(self.rows[start:end])
        issues = {
            "nodes": rows,
            "pageInfo": {
                "hasNextPage": end < len(self.rows),
                "endCursor": f"Y3Vyc29y{end}" if rows else None,
            },
        }
        return said({"data": {"repository": {"issues": issues}}})


class GitHub(Documented):
    """Issues since a time, in pages that the Link header numbers."""

    recipe = "github-issues"
    environment = variables(GITHUB_TOKEN="ghp")
    limit = Limit(5000, 3600)
    key = "number"
    version = "updated_at"
    place = "/repos/apache/kafka/issues"
    parameters = "state sort direction since per_page page labels"
    since = "since"
    order = ("updated", "desc")

    def make(self, number: int, at: float) -> Row:
        return {"id": 3_000_000 + number, "number": number + 1, "updated_at": iso(at)}

    def alter(self, row: Row, at: float) -> bool:
        row["updated_at"] = iso(at)
        return True

    def trouble(self) -> Sequence[Answer]:
        spent = [
            ("X-RateLimit-Limit", "5000"),
            ("X-RateLimit-Remaining", "0"),
            ("X-RateLimit-Reset", str(int(self.now))),
        ]
        second = {"message": "You have exceeded a secondary rate limit."}
        return [
            said({"message": "API rate limit exceeded for user ID 1."}, 403, spent),
            said(second, 403, [("Retry-After", "0")]),
            said({"message": "Server Error"}, 502),
        ]

    def prove(self, asked: Asked) -> None:
        """Refuse who has no token."""
        need(asked, "authorization", "Bearer ghp", {"message": "Bad credentials"})
        need(asked, "x-github-api-version", "2022-11-28")

    def respond(self, asked: Asked) -> Answer:
        self.prove(asked)
        path(asked, self.place)
        allow(asked, self.parameters)
        query = asked.query
        assert self.order == (query.get("sort"), query.get("direction")) or (
            self.order == (query.get("order_by"), query.get("sort"))
        )
        since = epoch(query.get(self.since, "1970-01-01T00:00:00Z"))
        size(query.get("per_page"), 30, 100)
        page = int(query.get("page", "1"))
        rows = sorted(
            (row for row in self.rows if epoch(row["updated_at"]) >= since),
            key=lambda row: (row["updated_at"], row["id"]),
            reverse=True,
        )
        found = self.give(rows[(page - 1) * 3 : page * 3])
        headers = []
        if page * 3 < len(rows):
            target = asked.target.partition("&page=")[0]
            here, last = f"{self.url}{target}", -(-len(rows) // 3)
            links = f'<{here}&page={page + 1}>; rel="next", <{here}&page={last}>; rel="last"'
            headers.append(("Link", links))
        return said(found, headers=headers)


class GitLab(GitHub):
    """The same way, in GitLab's words."""

    recipe = "gitlab-issues"
    environment = variables(GITLAB_TOKEN="glpat")
    limit = Limit(2000, 60)
    key = "iid"
    place = "/api/v4/projects/278964/issues"
    parameters = "state scope order_by sort updated_after per_page page"
    since = "updated_after"
    order = ("updated_at", "desc")

    def make(self, number: int, at: float) -> Row:
        return {"id": 80_000 + number, "iid": number + 1, "updated_at": iso(at, 3)}

    def alter(self, row: Row, at: float) -> bool:
        row["updated_at"] = iso(at, 3)
        return True

    def trouble(self) -> Sequence[Answer]:
        limits = [("RateLimit-Remaining", "0"), ("Retry-After", "0")]
        text = ("Content-Type", "text/plain")
        return [said("Retry later", 429, [*limits, text])]

    def prove(self, asked: Asked) -> None:
        need(asked, "private-token", "glpat", {"message": "401 Unauthorized"})
