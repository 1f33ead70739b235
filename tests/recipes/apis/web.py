"""Models of what people write: WordPress."""

from __future__ import annotations

from collections.abc import Sequence

from tests.fakes.api import Answer, Asked
from tests.recipes.documented import (
    Documented,
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


class WordPress(Documented):
    """Posts in numbered pages, whose number stands in a header."""

    recipe = "wordpress-posts"
    environment = variables(WORDPRESS_USER="reader", WORDPRESS_PASSWORD="ab cd")
    first = 230
    later = 130
    version = "modified_gmt"

    def make(self, number: int, at: float) -> Row:
        return {
            "id": 10 + number,
            "date_gmt": iso(at, zone=""),
            "modified_gmt": iso(at, zone=""),
            "title": {"rendered": f"Post {number}"},
        }

    def alter(self, row: Row, at: float) -> bool:
        row["modified_gmt"] = iso(at, zone="")
        return True

    def trouble(self) -> Sequence[Answer]:
        text = "<html>Briefly unavailable for scheduled maintenance.</html>"
        return [said(text, 503, [("Content-Type", "text/html"), ("Retry-After", "0")])]

    def respond(self, asked: Asked) -> Answer:
        need(asked, "authorization", basic("reader", "ab cd"))
        path(asked, "/wp-json/wp/v2/posts")
        allow(
            asked,
            "page per_page orderby order modified_after status context _fields",
            {"code": "rest_invalid_param"},
        )
        query = asked.query
        width = int(query.get("per_page", "10"))
        if not 1 <= width <= 100:
            raise Refused(400, {"code": "rest_invalid_param", "message": "per_page"})
        page = int(query.get("page", "1"))
        assert ("modified", "desc") == (query["orderby"], query["order"])
        # Later than a time of the site, or in UTC where a Z says so.
        since = query.get("modified_after", "1970-01-01T00:00:00Z")
        if not since.endswith("Z"):
            raise Refused(400, {"code": "rest_invalid_param", "message": since})
        rows = sorted(
            (row for row in self.rows if epoch(row["modified_gmt"]) > epoch(since)),
            key=lambda row: (row["modified_gmt"], row["id"]),
            reverse=True,
        )
        pages = -(-len(rows) // width)
        if page > max(pages, 1):
            raise Refused(
                400,
                {
                    "code": "rest_post_invalid_page_number",
                    "message": "The page number requested is larger than the number "
                    "of pages available.",
                    "data": {"status": 400},
                },
            )
        found = self.give(rows[(page - 1) * width : page * width])
        counts = [("X-WP-Total", str(len(rows))), ("X-WP-TotalPages", str(pages))]
        return said(found, headers=counts)
