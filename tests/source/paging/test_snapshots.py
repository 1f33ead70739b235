"""Polls that read everything or a delta: what is produced, and where the next one begins."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.errors import CursorExpired, SourceError
from engine.records import Offset, Page, Request, Response
from engine.source.paging.asking import BookmarkKeys
from engine.source.poll import Poll
from tests.fakes.feeds import URL, Feed
from tests.fakes.walks import TYPES, bytes_of, poll_of


def snapshots(feed: Feed) -> Poll:
    paging: dict[str, Any] = {"limit": feed.size, "bookmarked": False}
    if feed.kind == "keyset":
        paging |= {"cursor_param": "since", "limit_stated": True}
    keys = BookmarkKeys(pointer="updated", filtered=False, whole=True)
    return poll_of(URL, feed.kind, fetch=feed, bookmark=keys, **paging)


def ids(pages: list[Page]) -> list[int]:
    return sorted(json.loads(record)["id"] for record in bytes_of(pages))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("order", ["NONE", "ASC", "DESC"])
def test_a_snapshot_reads_all_and_brings_what_is_above(kind: str, order: str) -> None:
    if kind == "keyset" and order != "ASC":
        pytest.skip("keyset goes by the value, upwards")
    feed = Feed(kind, size=1000 if kind == "none" else 3, order=order)
    for number in range(7):
        feed.now += 10
        feed.put(number)
    poll = snapshots(feed)
    offset: Offset | None = None

    def polled() -> list[int]:
        nonlocal offset
        pages = list(poll.pages(offset))
        offset = json.loads(json.dumps(pages[-1].offset))
        return ids(pages)

    assert polled() == list(range(7))
    first = len(feed.asked)
    assert polled() == []
    # Each poll asks for all of it.
    assert len(feed.asked) == 2 * first
    feed.now += 10
    feed.put(3)
    feed.put(20)
    assert polled() == [3, 20]
    assert polled() == []


@pytest.mark.parametrize("kind", ["cursor", "link_header", "next_url", "odata"])
def test_a_snapshot_goes_on_from_every_position(kind: str) -> None:
    feed = Feed(kind, order="NONE")
    for number in range(8):
        feed.now += 10
        feed.put(number)
    offsets: list[Offset | None] = [None]
    brought: list[list[int]] = []
    for page in snapshots(feed).pages(None):
        offsets.append(json.loads(json.dumps(page.offset)))
        brought.append(ids([page]))
    for at, offset in enumerate(offsets):
        before = [number for each in brought[:at] for number in each]
        rest = ids(list(snapshots(feed).pages(offset)))
        assert sorted([*before, *rest]) == list(range(8)), offset


class Graph:
    """An API with delta links: changes since a token, removals among them."""

    def __init__(self, *, delta: bool = True):
        self.log: list[dict[str, Any]] = []
        self.delta = delta
        self.oldest = 0
        self.asked: list[str] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(request.url)
        token, _, place = request.url.partition("token=")[2].partition("-")
        since, at = int(token or 0), int(place or 0)
        if since < self.oldest and token:
            raise SourceError("status 410", status=410, url=request.url)
        rows = self.log[max(since, self.oldest) :]
        here = rows[at : at + 2]
        body: dict[str, Any] = {"value": here}
        if at + 2 < len(rows):
            body["@odata.nextLink"] = f"{URL}/odata/0?token={since}-{at + 2}"
        elif self.delta:
            body["@odata.deltaLink"] = f"{URL}/odata/0?token={len(self.log)}"
        return Response(
            request=request,
            url=request.url,
            status=200,
            headers=[],
            body=json.dumps(body).encode(),
            sent_at=0.0,
            received_ms=0,
        )

    def put(self, *ids: int) -> None:
        self.log += [{"id": number} for number in ids]


def deltas(graph: Graph, **poll: Any) -> Poll:
    return poll_of(URL, "odata", fetch=graph, mode="ODATA_PAGINATION", poll=poll)


def last(pages: list[Page]) -> Offset:
    found: Offset = json.loads(json.dumps(pages[-1].offset))
    return found


def test_a_delta_goes_on_from_its_link_whatever_was_saved() -> None:
    graph = Graph()
    graph.put(*range(5))
    walked = list(deltas(graph).pages(None))
    assert ids(walked) == list(range(5))
    for place, page in enumerate(walked):
        rest = list(deltas(graph).pages(page.offset))
        assert ids([*walked[: place + 1], *rest]) == list(range(5))
    offset = last(walked)
    assert ids(list(deltas(graph).pages(offset))) == []
    graph.put(7, 8, 9)
    pages = list(deltas(graph).pages(offset))
    assert ids(pages) == [7, 8, 9]
    assert ids(list(deltas(graph).pages(last(pages)))) == []


def test_without_a_delta_link_everything_is_read_again() -> None:
    graph = Graph(delta=False)
    graph.put(*range(3))
    pages = list(deltas(graph).pages(None))
    assert ids(list(deltas(graph).pages(last(pages)))) == [0, 1, 2]


def test_a_delta_link_that_has_expired_is_resynchronised_by_policy() -> None:
    graph = Graph()
    graph.put(*range(3))
    offset = last(list(deltas(graph).pages(None)))
    graph.oldest = 10
    graph.log = [{"id": number} for number in range(12)]
    with pytest.raises(CursorExpired, match=r"pagination\.cursor\.expired"):
        list(deltas(graph).pages(offset))
    pages = list(deltas(graph, restart=True).pages(offset))
    assert ids(pages) == [10, 11]
    assert ids(list(deltas(graph).pages(last(pages)))) == []
