"""Positions that an API gives itself: sync tokens, end times, ids of records."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from engine.errors import CursorExpired, Unexpected
from engine.records import Offset, Page, Request, Response
from engine.source.paging.asking import BookmarkKeys
from engine.source.poll import Poll
from tests.fakes.walks import poll_of

URL = "http://api.test"

Answer = dict[str, Any]


class Api:
    """A `Fetch` over a function from a query to an answer, or to a status."""

    def __init__(self, answer: Callable[[dict[str, str]], Answer | int]):
        self._answer = answer
        self.asked: list[dict[str, str]] = []

    def __call__(self, request: Request) -> Response:
        query = dict(parse_qsl(urlsplit(request.url).query, keep_blank_values=True))
        self.asked.append(query)
        told = self._answer(query)
        if isinstance(told, int):
            raise Unexpected("refused", status=told, url=request.url)
        headers = [(name, str(v)) for name, v in told.pop("headers", {}).items()]
        body = json.dumps(told).encode()
        return Response(
            request=request,
            url=request.url,
            status=200,
            headers=headers,
            body=body,
            sent_at=0.0,
            received_ms=0,
        )


def poll_over(
    api: Api, kind: str, keys: dict[str, Any], params: str = "", **paging: Any
) -> Poll:
    poll_keys = paging.pop("poll", None)
    return poll_of(
        URL,
        kind,
        fetch=api,
        shape={"params": params},
        bookmark=BookmarkKeys(**keys),
        poll=poll_keys,
        **paging,
    )


def ids(pages: list[Page]) -> list[object]:
    return [json.loads(bytes(r))["id"] for page in pages for r in page.records]


def stored(pages: list[Page]) -> Offset:
    found: Offset = json.loads(json.dumps(pages[-1].offset))
    return found


def google(query: dict[str, str]) -> Answer | int:
    """Events by pages; the last one has the token that asks for what follows."""
    if query.get("syncToken") == "old":
        return 410
    first = int(query.get("syncToken", "s0")[1:])
    at = int(query.get("pageToken", str(first)))
    items = [{"id": n} for n in range(at, min(at + 2, google.end))]  # type: ignore[attr-defined]
    if at + 2 < google.end:  # type: ignore[attr-defined]
        return {"items": items, "nextPageToken": str(at + 2)}
    return {"items": items, "nextSyncToken": f"s{google.end}"}  # type: ignore[attr-defined]


GOOGLE: dict[str, Any] = {
    "cursor_field": "nextPageToken",
    "cursor_param": "pageToken",
    "next_param": "syncToken",
}


def test_a_sync_token_behind_the_last_page_asks_for_what_follows() -> None:
    google.end = 5  # type: ignore[attr-defined]
    api = Api(google)
    poll = poll_over(
        api, "cursor", {"next_field": "nextSyncToken"}, "timeMin=x", **GOOGLE
    )

    pages = list(poll.pages(None))

    assert [0, 1, 2, 3, 4] == ids(pages)
    assert {"timeMin": "x"} == api.asked[0]
    # Within the poll the token is the one of its start.
    assert {"timeMin": "x", "pageToken": "2"} == api.asked[1]
    assert {"bookmark": "s5", "done": True}.items() <= pages[-1].offset.items()
    google.end = 8  # type: ignore[attr-defined]
    api.asked.clear()
    more = list(poll.pages(stored(pages)))
    assert [5, 6, 7] == ids(more)
    assert {"timeMin": "x", "syncToken": "s5"} == api.asked[0]
    assert {"timeMin": "x", "syncToken": "s5", "pageToken": "7"} == api.asked[1]
    for at, page in enumerate(more[:-1]):
        assert ids(more[at + 1 :]) == ids(list(poll.pages(stored([page]))))
    assert [] == ids(list(poll.pages(stored(more))))


def test_a_token_that_the_api_knows_no_more_fails_or_begins_anew() -> None:
    google.end = 3  # type: ignore[attr-defined]
    old = {"poll": 4, "done": True, "bookmark": "old"}
    with pytest.raises(CursorExpired):
        list(
            poll_over(
                Api(google), "cursor", {"next_field": "nextSyncToken"}, **GOOGLE
            ).pages(old)
        )
    api = Api(google)
    poll = poll_over(
        api,
        "cursor",
        {"next_field": "nextSyncToken"},
        poll={"restart": True},
        **GOOGLE,
    )

    pages = list(poll.pages(old))

    assert [0, 1, 2] == ids(pages)
    assert "syncToken" not in api.asked[1]
    assert {"bookmark": "s3", "poll": 5}.items() <= pages[-1].offset.items()


def test_a_poll_without_a_position_keeps_the_one_before() -> None:
    api = Api(lambda query: {"items": [], "last": None})
    poll = poll_over(api, "none", {"next_field": "last"}, "since=${offset}")
    old = {"poll": 4, "done": True, "bookmark": "1500.7"}

    pages = list(poll.pages(old))

    assert {"bookmark": "1500.7", "done": True}.items() <= pages[-1].offset.items()
    assert [{"since": "1500.7"}] == api.asked


def kraken(query: dict[str, str]) -> Answer:
    """Trades behind a time, and the time of the last of them: one page a poll."""
    since = int(query.get("since", "0"))
    trades = [{"id": n} for n in range(10) if 100 * n > since][:3]
    return {
        "items": trades,
        "last": str(100 * int(trades[-1]["id"])) if trades else str(since),
    }


def test_one_page_a_poll_keeps_its_cursor() -> None:
    api = Api(kraken)
    poll = poll_over(api, "none", {"next_field": "last"}, "since=${offset}")
    offset: Offset | None = None
    got: list[object] = []
    for _ in range(6):
        pages = list(poll.pages(offset))
        got += ids(pages)
        offset = stored(pages)

    assert list(range(1, 10)) == got
    assert "900" == (offset or {})["bookmark"]


def test_an_end_time_is_inclusive_and_brings_nothing_twice() -> None:
    """As Zendesk's: the records of the last second come again with the next export."""
    records = [{"id": n, "updated_at": 1_700_000_000 + n // 2} for n in range(8)]

    def export(query: dict[str, str]) -> Answer:
        start = int(query.get("start_time", "0"))
        found = [r for r in records if r["updated_at"] >= start]
        page = found[:3] if "after" not in query else found[3:]
        told: Answer = {
            "items": page,
            "end_time": found[-1]["updated_at"] if found else None,
        }
        if len(found) > 3 and "after" not in query:
            told["next"] = f"/export?start_time={start}&after=3"
        return told

    api = Api(export)
    poll = poll_over(
        api,
        "next_url",
        {
            "next_field": "end_time",
            "pointer": "updated_at",
            "value_type": "timestamp",
        },
        "start_time=${offset}",
        cursor_field="next",
    )

    pages = list(poll.pages(None))
    assert list(range(8)) == ids(pages)
    assert 1_700_000_003 == pages[-1].offset["bookmark"]
    assert [] == ids(list(poll.pages(stored(pages))))
    records.append({"id": 50, "updated_at": 1_700_000_003})
    records.append({"id": 51, "updated_at": 1_700_000_009})
    more = list(poll.pages(stored(pages)))
    assert [50, 51] == ids(more)
    assert {"start_time": "1700000003"} == api.asked[-2]
    assert [] == ids(list(poll.pages(stored(more))))


def test_a_header_holds_the_position() -> None:
    api = Api(lambda query: {"items": [{"id": 1}], "headers": {"x-next": "abc"}})
    poll = poll_over(api, "none", {"next_field": "header:X-Next"}, "at=${offset}")

    pages = list(poll.pages(None))

    assert "abc" == pages[-1].offset["bookmark"]
    list(poll.pages(stored(pages)))
    assert [{}, {"at": "abc"}] == api.asked


def stripe(query: dict[str, str]) -> Answer:
    """Newest first; `ending_before` gives what is newer than an event."""
    events = [f"evt_{n:03d}" for n in range(stripe.end)][::-1]  # type: ignore[attr-defined]
    before = query.get("ending_before")
    after = query.get("starting_after")
    if before is not None:
        newer = events[: events.index(before)]
        return {"items": [{"id": e} for e in newer[-3:]], "has_more": len(newer) > 3}
    at = events.index(after) + 1 if after else 0
    page = events[at : at + 3]
    return {"items": [{"id": e} for e in page], "has_more": at + 3 < len(events)}


def test_the_first_record_is_the_position_of_what_is_newer() -> None:
    stripe.end = 3  # type: ignore[attr-defined]
    api = Api(stripe)
    poll = poll_over(
        api,
        "none",
        {"next_record": "FIRST", "pointer": "id"},
        next_param="ending_before",
    )
    pages = list(poll.pages(None))
    assert ["evt_002", "evt_001", "evt_000"] == ids(pages)
    assert "evt_002" == pages[-1].offset["bookmark"]
    assert [] == ids(list(poll.pages(stored(pages))))
    stripe.end = 9  # type: ignore[attr-defined]
    got: list[object] = []
    offset = stored(pages)
    for _ in range(3):
        found = list(poll.pages(offset))
        got += ids(found)
        offset = stored(found)
    assert [f"evt_{n:03d}" for n in range(3, 9)] == sorted(map(str, got))


def test_the_first_record_of_the_first_page_counts_and_not_those_behind_it() -> None:
    stripe.end = 8  # type: ignore[attr-defined]
    api = Api(stripe)
    poll = poll_over(
        api,
        "cursor",
        {"next_record": "FIRST", "pointer": "id"},
        cursor_field="items[-1].id",
        cursor_param="starting_after",
        has_more_field="has_more",
        next_param="ending_before",
    )

    pages = list(poll.pages(None))

    assert 8 == len(ids(pages))
    assert "evt_007" == pages[-1].offset["bookmark"]
    for page in pages[:-1]:
        rest = list(poll.pages(stored([page])))
        assert 8 == len(set(ids(pages[: pages.index(page) + 1])) | set(ids(rest)))
        assert "evt_007" == rest[-1].offset["bookmark"]


def test_the_last_record_is_the_position() -> None:
    def log(query: dict[str, str]) -> Answer:
        after = int(query.get("after", "-1"))
        return {"items": [{"id": n} for n in range(after + 1, min(after + 4, 9))]}

    api = Api(log)
    poll = poll_over(
        api, "none", {"next_record": "LAST", "pointer": "id"}, "after=${offset}"
    )
    offset: Offset | None = None
    got: list[object] = []
    for _ in range(4):
        pages = list(poll.pages(offset))
        got += ids(pages)
        offset = stored(pages)
    assert list(range(9)) == got


@pytest.mark.parametrize("kind", ["page", "offset", "cursor"])
def test_the_first_pages_parameters_are_sent_with_no_other(kind: str) -> None:
    def answer(query: dict[str, str]) -> Answer:
        if kind == "cursor":
            at = int(query.get("cursor", 0))
        elif kind == "page":
            at = 2 * (int(query["page"]) - 1)
        else:
            at = int(query["offset"])
        told: Answer = {"items": [{"id": n} for n in range(at, min(at + 2, 5))]}
        if kind == "cursor" and at + 2 < 5:
            told["next"] = str(at + 2)
        return told

    api = Api(answer)
    poll = poll_over(
        api,
        kind,
        {"pointer": "id"},
        limit=2,
        first_params="since=${offset}&order=asc",
        **({"cursor_field": "next"} if kind == "cursor" else {}),
    )

    pages = list(poll.pages(None))
    assert list(range(5)) == ids(pages)
    assert [True] + [False] * (len(api.asked) - 1) == ["order" in q for q in api.asked]
    api.asked.clear()
    list(poll.pages(stored(pages)))
    assert "4" == api.asked[0]["since"] and "asc" == api.asked[0]["order"]
    # Gone on with in the middle, the page in hand is not the first.
    api.asked.clear()
    list(poll.pages(stored(pages[:1])))
    assert not any("order" in query for query in api.asked)
