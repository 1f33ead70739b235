"""
Wellbehaved: APIs that do nothing wrong, each in a way of its own.

Owns what they answer to every profile of conf/ and to configurations without a
URL: lists at the root or below a member, all of them or page by page, by number,
offset, token in query or body, or link.  Nothing here fails, and no way to fare
well is a reason for anybody to be woken.
"""

from __future__ import annotations

import hashlib
import json
import time

from tests.fakes.api import Answer, Api, Asked

#: How an API fares, in words that stand in names and paths.
WAYS = (
    "growing",  # more at each poll, nothing about caching
    "unchanged",  # the same bytes again and again, nothing to tell them by
    "validated",  # an ETag, and 304 to whoever shows it
    "versioned",  # an ETag, and something new each time
    "fresh",  # good for an hour
    "uncacheable",  # no-store
    "slow",  # takes a second for an answer
    "few",  # a record now and then
    "empty",  # nothing at all so far
)

_HEADERS = {
    "fresh": [("Cache-Control", "max-age=3600")],
    "uncacheable": [("Cache-Control", "no-store")],
}

#: Seconds that a slow one takes.
SLOWNESS = 1.2


class Wellbehaved(Api):
    """
    Args:
        way: One of WAYS.
        members: Path -> the member that holds its list; others are lists.
    """

    def __init__(self, way: str, members: dict[str, str] | None = None) -> None:
        self.way = way
        self.members = members if members is not None else {}
        self.began = time.monotonic()
        super().__init__(keep_log=False)

    def length(self) -> int:
        """How many records there are by now."""
        passed = time.monotonic() - self.began
        return {
            "empty": 0,
            "few": 1 + int(passed / 10),
            "growing": 45 + int(2 * passed),
            "versioned": 45 + int(2 * passed),
            "slow": 20 + int(passed),
        }.get(self.way, 40)

    def answer(self, asked: Asked) -> Answer:
        if self.way == "slow":
            time.sleep(SLOWNESS)
        headers = [("Content-Type", "application/json"), *_HEADERS.get(self.way, [])]
        _, _, last = asked.path.rpartition("/")
        if last.isdecimal():
            return 200, headers, json.dumps(_record(int(last))).encode()
        content, onward = self._page(asked)
        if onward is not None:
            headers.append(("Link", f'<{asked.path}?offset={onward}>; rel="next"'))
        body = json.dumps(content).encode()
        if self.way in ("validated", "versioned"):
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            headers.append(("ETag", tag))
            if asked.headers.get("if-none-match") == tag:
                return 304, headers, b""
        return 200, headers, body

    def _page(self, asked: Asked) -> tuple[object, int | None]:
        """The content, and where the next page begins."""
        given = {**asked.query}
        if asked.body:
            given |= {k: v for k, v in json.loads(asked.body).items() if v is not None}
        width = int(given.get("limit") or given.get("size") or 30)
        start = (int(given["page"]) - 1) * width if "page" in given else 0
        for name in ("offset", "cursor", "after"):
            start = int(given.get(name, start))
        length = self.length()
        paged = {"limit", "size", "offset", "page"} & given.keys()
        end = min(start + width, length) if paged else length
        onward = end if end < length else None
        found = [_record(number) for number in range(start, end)]
        member = self.members.get(asked.path)
        if member is None:
            return found, onward
        token = None if onward is None else str(onward)
        told = {"next": token, "next_cursor": token, "meta": {"after": token}}
        return {member: found, "total": length, **told}, onward


def _record(number: int) -> dict[str, object]:
    return {
        "id": f"r{number}",
        "amount": number,
        "at": f"2024-05-01T10:00:{number % 60:02d}Z",
        "user": {"mail": f"user{number}@example.com"},
    }
