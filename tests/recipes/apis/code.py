"""Models of code hosts: GitHub by GraphQL."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tests.fakes.api import Answer, Asked
from tests.recipes.documented import (
    Documented,
    Limit,
    Row,
    iso,
    need,
    path,
    said,
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
