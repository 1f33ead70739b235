"""Models of what people say: Slack, Reddit, Discourse, Twilio, SendGrid, Wikipedia."""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import formatdate
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
    size,
    token,
    variables,
)

WAIT = ("Retry-After", "0")


class Slack(Documented):
    """A channel's messages, newest first, errors inside 200."""

    recipe = "slack-messages"
    environment = variables(SLACK_TOKEN="xoxb")
    limit = Limit(50, 60)
    key = "ts"

    def make(self, number: int, at: float) -> Row:
        return {
            "type": "message",
            "ts": f"{int(at)}.{number:06d}",
            "text": f"say {number}",
        }

    def trouble(self) -> Sequence[Answer]:
        return [
            said({"ok": False, "error": "ratelimited"}, 429, [WAIT]),
            said({"ok": False, "error": "ratelimited"}),
            said({"ok": False, "error": "internal_error"}),
        ]

    def respond(self, asked: Asked) -> Answer:
        if asked.headers.get("authorization") != "Bearer xoxb":
            return said({"ok": False, "error": "invalid_auth"})
        path(asked, "/api/conversations.history")
        query = asked.query
        if query.get("channel") != "C0123456789":
            return said({"ok": False, "error": "channel_not_found"})
        if not 1 <= int(query.get("limit", "100")) <= 999:
            return said({"ok": False, "error": "invalid_limit"})
        oldest = float(query.get("oldest", "0"))
        within = query.get("inclusive") == "true"
        rows = [
            row
            for row in self.rows
            if float(row["ts"]) > oldest or (within and float(row["ts"]) == oldest)
        ][::-1]
        start = 0
        if "cursor" in query:
            last = query["cursor"].removeprefix("bmV4dF90czox").removesuffix("=")
            start = sum(row["ts"] >= last for row in rows)
        page = self.give(rows[start : start + 3])
        more = start + 3 < len(rows)
        cursor = f"bmV4dF90czox{page[-1]['ts']}=" if more else ""
        return said(
            {
                "ok": True,
                "messages": page,
                "has_more": more,
                "response_metadata": {"next_cursor": cursor},
            }
        )


class Reddit(Documented):
    """The newest posts, downwards, without a filter."""

    recipe = "reddit-new"
    environment = variables(REDDIT_CLIENT_ID="app", REDDIT_CLIENT_SECRET="s3")
    limit = Limit(100, 60)
    aside = ("/api/v1/access_token",)

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "oauth2.token.url": f"{self.url}{self.aside[0]}"}

    def make(self, number: int, at: float) -> Row:
        data = {
            "name": f"t3_{number:05d}",
            "created_utc": float(at),
            "title": f"{number}",
        }
        return {"kind": "t3", "data": data}

    def identity(self, record: Any) -> str:
        found: str = record["data"]["name"]
        return found

    def trouble(self) -> Sequence[Answer]:
        limits = [("x-ratelimit-remaining", "0.0"), ("x-ratelimit-reset", "0")]
        return [said({"message": "Too Many Requests", "error": 429}, 429, limits)]

    def respond(self, asked: Asked) -> Answer:
        if "kafka" not in asked.headers.get("user-agent", ""):
            raise Refused(429, {"message": "Too Many Requests", "error": 429})
        if asked.path in self.aside:
            need(asked, "authorization", basic("app", "s3"))
            granted = {
                "access_token": "rt",
                "token_type": "bearer",
                "expires_in": 86_400,
            }
            return token(asked, {"grant_type": "client_credentials"}, granted)
        need(asked, "authorization", "Bearer rt", {"message": "Unauthorized"})
        path(asked, "/r/apachekafka/new")
        allow(asked, "limit after before count raw_json")
        size(asked.query.get("limit"), 25, 100)
        rows = self.rows[::-1][:1000]
        start = 0
        if "after" in asked.query:
            names = [row["data"]["name"] for row in rows]
            start = names.index(asked.query["after"]) + 1
        page = self.give(rows[start : start + 3])
        after = page[-1]["data"]["name"] if start + 3 < len(rows) else None
        return said({"kind": "Listing", "data": {"after": after, "children": page}})


class Discourse(Documented):
    """The newest posts of a forum, downwards by id."""

    recipe = "discourse-posts"
    environment = variables(DISCOURSE_KEY="dk", DISCOURSE_USER="reader")
    limit = Limit(60, 60)

    def make(self, number: int, at: float) -> Row:
        return {
            "id": 5000 + number,
            "created_at": iso(at, 3),
            "cooked": f"<p>{number}</p>",
        }

    def trouble(self) -> Sequence[Answer]:
        errors = {"errors": ["You've performed this action too many times"]}
        return [said({**errors, "error_type": "rate_limit"}, 429, [WAIT])]

    def respond(self, asked: Asked) -> Answer:
        need(asked, "api-key", "dk", {"error_type": "invalid_access"})
        need(asked, "api-username", "reader", {"error_type": "invalid_access"})
        path(asked, "/posts.json")
        allow(asked, "before")
        below = int(asked.query.get("before", "999999999"))
        # The newest 50, those of the reader's own that he may not see left out.
        rows = [row for row in self.rows if row["id"] < below][::-1][:3]
        return said({"latest_posts": self.give(rows)})


class Twilio(Documented):
    """Messages sent on a day or later, by URLs without an origin."""

    recipe = "twilio-messages"
    environment = variables(TWILIO_SID="AC1", TWILIO_TOKEN="tt")
    limit = Limit(100, 1)
    key = "sid"
    version = "status"
    step = 3000.0

    def make(self, number: int, at: float) -> Row:
        return {
            "sid": f"SM{number:06d}",
            "date_sent": formatdate(at).replace("-0000", "+0000"),
            "status": "sent",
            "at": at,
        }

    def alter(self, row: Row, at: float) -> bool:
        # Nothing but the message's own day says where a status has changed.
        sent = self.rows[-1 - self.later]
        sent["status"] = f"delivered {int(at)}"
        self.due.append(self.identity(sent))
        return False

    def trouble(self) -> Sequence[Answer]:
        return [said({"code": 20429, "message": "Too Many Requests"}, 429)]

    def respond(self, asked: Asked) -> Answer:
        need(asked, "authorization", basic("AC1", "tt"), {"code": 20003})
        path(asked, "/2010-04-01/Accounts/AC1/Messages.json")
        allow(asked, "PageSize Page PageToken DateSent> DateSent< DateSent To From")
        query = asked.query
        size(query.get("PageSize"), 50, 1000)
        since = epoch(query.get("DateSent>", "1970-01-01")) // 86_400 * 86_400
        rows = [row for row in self.rows if row["at"] >= since][::-1]
        start = 0
        if "PageToken" in query:
            last = query["PageToken"].removeprefix("PA")
            start = 1 + next(at for at, row in enumerate(rows) if row["sid"] == last)
        page = self.give(rows[start : start + 3])
        onward = None
        if start + 3 < len(rows):
            target = asked.target.partition("&Page=")[0]
            onward = f"{target}&Page=1&PageToken=PA{page[-1]['sid']}"
        return said({"messages": page, "page_size": 1000, "next_page_uri": onward})


class SendGrid(Documented):
    """Bounces from a second on, by offset."""

    recipe = "sendgrid-bounces"
    environment = variables(SENDGRID_KEY="SG.")
    limit = Limit(600, 60)
    first = 1200
    later = 700
    key = "email"
    version = "created"

    def make(self, number: int, at: float) -> Row:
        return {
            "created": int(at),
            "email": f"r{number}@example.com",
            "reason": "550 5.1.1",
            "status": "5.1.1",
        }

    def trouble(self) -> Sequence[Answer]:
        limits = [
            ("X-RateLimit-Remaining", "0"),
            ("X-RateLimit-Reset", str(int(self.now))),
        ]
        return [said({"errors": [{"message": "too many requests"}]}, 429, limits)]

    def respond(self, asked: Asked) -> Answer:
        need(
            asked, "authorization", "Bearer SG.", {"errors": [{"message": "forbidden"}]}
        )
        path(asked, "/v3/suppression/bounces")
        allow(asked, "start_time end_time limit offset email")
        query = asked.query
        width, start = size(query.get("limit"), 500, 500), int(query.get("offset", "0"))
        since = int(query.get("start_time", "0"))
        rows = [row for row in self.rows if row["created"] >= since][::-1]
        return said(self.give(rows[start : start + width]))


class Wikipedia(Documented):
    """Recent changes, upwards, until the one to continue with."""

    recipe = "wikipedia-changes"
    key = "rcid"

    def make(self, number: int, at: float) -> Row:
        return {
            "type": "edit",
            "rcid": 1_900_000_000 + number,
            "title": f"Page {number}",
            "timestamp": iso(at),
        }

    def trouble(self) -> Sequence[Answer]:
        error = {"code": "maxlag", "info": "Waiting for a database server: 6 s lagged"}
        return [
            said({"error": error}, 200, [WAIT, ("MediaWiki-API-Error", "maxlag")]),
            said({"error": {"code": "ratelimited", "info": "exceeded"}}, 200),
        ]

    def respond(self, asked: Asked) -> Answer:
        if "@" not in asked.headers.get("user-agent", ""):
            return said(
                "Please set a user-agent", 403, [("Content-Type", "text/plain")]
            )
        path(asked, "/w/api.php")
        query = asked.query
        assert ("2", "newer", "json") == (
            query["formatversion"],
            query["rcdir"],
            query["format"],
        )
        assert "5" == query["maxlag"] and int(query["rclimit"]) <= 500
        since = epoch(query.get("rcstart", "1970-01-01T00:00:00Z"))
        rows = [row for row in self.rows if epoch(row["timestamp"]) >= since]
        if "rccontinue" in query:
            number = int(query["rccontinue"].partition("|")[2])
            rows = [row for row in rows if row["rcid"] >= number]
        body: Row = {"batchcomplete": True}
        if len(rows) > 3:
            at = rows[3]["timestamp"].translate(str.maketrans("", "", "-:TZ"))
            body["continue"] = {
                "rccontinue": f"{at}|{rows[3]['rcid']}",
                "continue": "-||",
            }
        body["query"] = {"recentchanges": self.give(rows[:3])}
        return said(body)
