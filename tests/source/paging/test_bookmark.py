"""Incremental polls of every pagination type, on a model of an API that changes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from engine.errors import BadPage, StateError, Unexpected
from engine.records import Offset, Page, Request, Response
from engine.source.paging.asking import BookmarkKeys, epoch_unit
from engine.source.paging.ties import PageEdge
from engine.source.poll import Poll
from tests.examples import examples
from tests.fakes.feeds import URL, Feed
from tests.fakes.walks import TYPES, bytes_of, poll_of

#: Types whose next page does not depend on how many records lie before it.
STABLE = ("none", "cursor", "next_url", "link_header", "keyset", "odata")

ORDERS = ("NONE", "ASC", "DESC")


def feed_of(kind: str, *, size: int = 3, **keys: Any) -> Feed:
    return Feed(kind, size=1000 if kind == "none" else size, **keys)


def poll_over(feed: Feed, notes: list[str] | None = None, **keys: Any) -> Poll:
    """An incremental poll of a feed's own type."""
    kind = feed.kind
    paging: dict[str, Any] = {"limit": feed.size}
    shape = {"params": "since=${offset}"}
    if kind == "keyset":
        shape = {}
        paging |= {"cursor_param": "since", "limit_stated": True}
    bookmark = BookmarkKeys(**{"pointer": "updated", **keys})
    return poll_of(
        URL, kind, fetch=feed, shape=shape, bookmark=bookmark, notes=notes, **paging
    )


def versions(pages: Sequence[Page]) -> list[tuple[int, int]]:
    found = [json.loads(record) for record in bytes_of(pages)]
    return [(record["id"], record["version"]) for record in found]


class Polled:
    """Polls in turn, and what they brought."""

    def __init__(self, poll: Poll):
        self.poll = poll
        self.offset: Offset | None = None
        self.offsets: list[Offset] = []
        self.got: list[tuple[int, int]] = []

    def __call__(self, pages: int = 1 << 30) -> list[tuple[int, int]]:
        """One poll, or so many pages of it, and nothing of the rest."""
        brought: list[tuple[int, int]] = []
        walk = self.poll.pages(self.offset)
        for page in walk:
            brought += versions([page])
            self.offset = json.loads(json.dumps(page.offset))
            self.offsets.append(self.offset)
            pages -= 1
            if not pages:
                break
        walk.close()
        self.got += brought
        return brought


# -- every type ----------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", TYPES)
def test_the_next_poll_brings_what_has_come_since(kind: str, order: str) -> None:
    if kind == "keyset" and order != "ASC":
        pytest.skip("keyset goes by the value, upwards")
    feed = feed_of(kind, order=order)
    for number in range(7):
        feed.now += 10
        feed.put(number)
    polled = Polled(poll_over(feed, order=order))

    assert sorted((n, 1) for n in range(7)) == sorted(polled())
    assert [] == polled()
    feed.now += 10
    feed.put(3)
    feed.put(20)
    assert [(3, 2), (20, 1)] == sorted(polled())
    assert [] == polled()
    assert "2023-11-14T22:14:40Z" == (polled.offset or {})["bookmark"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", TYPES)
def test_every_saved_position_leads_to_the_same_end(kind: str, order: str) -> None:
    if kind == "keyset" and order != "ASC":
        pytest.skip("keyset goes by the value, upwards")
    feed = feed_of(kind, order=order, size=8 if kind == "keyset" else 3)
    for number in range(11):
        feed.now += 10 * (number % 3)
        feed.put(number)
    poll = poll_over(feed, order=order)
    first = Polled(poll)
    first()
    feed.now += 5
    for number in (2, 5, 6, 30, 31, 32, 33):
        feed.put(number)
    whole = Polled(poll)
    whole.offset = first.offset
    whole()
    every = set(feed.versions)

    states = first.offsets + whole.offsets
    for at, state in enumerate(states):
        before = [*first.offsets, *whole.offsets][: at + 1]
        assert before[-1] is state
        resumed = Polled(poll)
        resumed.offset = state
        # Two polls: the one that is gone on with, and the one behind it.
        resumed()
        resumed()
        assert whole.offset is not None and resumed.offset is not None
        for name in ("bookmark", "ties", "kind"):
            assert whole.offset.get(name) == resumed.offset.get(name), (at, state)
        delivered = whole.got if at >= len(first.offsets) - 1 else first.got
        missing = {v for v in every if feed.records[v[0]]["version"] == v[1]}
        assert missing <= set(delivered) | set(resumed.got) | set(first.got)


# -- ties ------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "keyset"])
def test_more_records_of_one_time_than_a_page(kind: str, order: str) -> None:
    feed = feed_of(kind, order=order)
    for number in range(10):
        feed.put(number)
    polled = Polled(poll_over(feed, order=order))

    assert 10 == len(polled())
    feed.put(50)
    feed.put(4)
    assert [(4, 2), (50, 1)] == sorted(polled())
    assert [] == polled()


def test_two_records_that_are_alike_are_two() -> None:
    same = {"id": 1, "version": 1, "updated": "2024-01-01T00:00:00Z"}
    feed = feed_of("none")
    feed.records = {0: dict(same), 1: dict(same)}
    feed._times = {0: 0, 1: 1}
    feed._rows = lambda query: list(feed.records.values())  # type: ignore[method-assign]
    polled = Polled(poll_over(feed))

    assert 2 == len(polled())
    assert 0 == len(polled())
    feed.records[2] = dict(same)
    assert 1 == len(polled())
    assert 0 == len(polled())


def test_ties_beyond_the_bound_are_said_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.source.paging.bookmark.MOST_TIES", 4)
    notes: list[str] = []
    feed = feed_of("cursor")
    for number in range(10):
        feed.put(number)
    polled = Polled(poll_over(feed, notes))

    assert 10 == len(polled())
    assert ["offset_ties_forgotten_total"] == notes
    again = polled()
    assert 6 == len(again)
    feed.now += 1
    feed.put(77)
    assert (77, 1) in polled()
    assert [] == polled()


# -- the server's clock, and late arrivals ---------------------------------------------


def test_the_bookmark_is_never_beyond_the_servers_date() -> None:
    feed = feed_of("cursor")
    for number in range(4):
        feed.put(number, feed.now + number)
    feed.now += 1
    polled = Polled(poll_over(feed))

    assert 4 == len(polled())
    assert "2023-11-14T22:13:21Z" == (polled.offset or {})["bookmark"]
    # As of a second that had not yet passed when the poll began.
    feed.put(9, feed.now + 1)
    assert [(9, 1)] == polled()


@pytest.mark.parametrize("unit", [1, 1000, 10**6])
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize(
    ("kind", "capped"), [("auto", True), ("timestamp", True), ("number", False)]
)
def test_seconds_since_1970_are_no_more_ahead_of_the_servers_clock(
    kind: str, capped: bool, text: bool, unit: int
) -> None:
    def write(at: float) -> object:
        number = int(at) * unit
        return str(number) if text else number

    feed = feed_of("cursor", write=write, read=lambda told: int(told) / unit)
    for number in range(4):
        feed.put(number, feed.now + number)
    feed.now += 1
    polled = Polled(poll_over(feed, value_type=kind))
    if text and kind == "auto":
        kind = "string"

    assert 4 == len(polled())
    ahead = 0 if capped and kind != "string" else 2
    at = int(feed.now + ahead) * unit
    assert at == int(str((polled.offset or {})["bookmark"]))
    assert [] == polled()


@pytest.mark.parametrize(
    ("pointer", "unit"),
    [("created", 1), ("updated_at", 1), ("updatedAt", 1), ("ts", 1), ("time_ms", 1),
     ("data.created_utc", 1), ("lastModified", 1), ("Timestamp", 1), ("/a/date", 1),
     ("id", 0), ("update_id", 0), ("stat", 0), ("status", 0), ("format", 0),
     ("version", 0), ("seq", 0), ("points", 0), ("updated[0]", 0)],
)  # fmt: skip
def test_a_number_is_a_time_by_the_name_of_its_field(pointer: str, unit: int) -> None:
    keys = BookmarkKeys(pointer=pointer)

    assert unit == epoch_unit(keys, 1_700_000_000)
    assert 0 == epoch_unit(keys, 17)
    stated = BookmarkKeys(pointer=pointer, value_type="number")
    assert 0 == epoch_unit(stated, 1_700_000_000)


@pytest.mark.parametrize("kind", ["page", "offset"])
def test_what_comes_in_front_while_pages_are_read_repeats_nothing(kind: str) -> None:
    feed = feed_of(kind, order="DESC", size=4)
    for number in range(15):
        feed.now += 10
        feed.put(number)
    polled = Polled(poll_over(feed, order="DESC"))
    fresh = iter(range(100, 103))

    def insert() -> None:
        feed.now += 10
        if len(feed.asked) % 2 and (number := next(fresh, None)) is not None:
            feed.put(number)

    feed.between = insert
    polled()
    feed.between = lambda: None
    polled()

    assert feed.versions == set(polled.got)
    assert 1 == max(Counter(polled.got).values())


def test_records_that_are_alike_are_not_taken_for_what_slid() -> None:
    one, other = Raw(b'{"a":1}'), Raw(b'{"a":2}')
    edge = PageEdge()

    assert 0 == edge.slid([other, one, one])
    assert 0 == edge.slid([one, other])
    assert 0 == edge.slid([other])


@pytest.mark.parametrize(
    ("record", "slid"),
    [
        (b'{"id":7}', 1),
        (b'{"_id":"a","t":1}', 1),
        (b'{"kind":"t3","data":{"id":"x"}}', 1),
        (b'{"node":{"id":"x"},"cursor":"c"}', 1),
        # Another one may look the same.
        (b'{"t":1,"customer":{"id":5}}', 0),
        (b'{"customer_id":5,"t":1}', 0),
        (b'{"id":null,"t":1}', 0),
        (b"17", 0),
        (b'["id"]', 0),
    ],
)
def test_only_a_record_that_says_which_it_is_has_slid(record: bytes, slid: int) -> None:
    edge = PageEdge()

    assert 0 == edge.slid([Raw(b'{"id":1}'), Raw(record)])
    assert slid == edge.slid([Raw(record), Raw(b'{"id":2}')])


def test_what_changes_while_the_pages_are_read_is_not_passed_over() -> None:
    """By id, a record before the page in hand gets a time after the poll's start."""
    feed = feed_of("cursor", order="NONE", size=2)
    for number in range(6):
        feed.put(number)
    feed.now += 10
    polled = Polled(poll_over(feed))

    def change() -> None:
        feed.now += 5
        if len(feed.asked) == 2:
            feed.put(0)

    feed.between = change
    polled()
    feed.between = lambda: None
    polled()
    assert feed.versions == set(polled.got)
    assert max(Counter(polled.got).values()) == 1


@pytest.mark.parametrize("kind", TYPES)
def test_late_arrivals_within_the_lookback_come_and_the_rest_does_not_again(
    kind: str,
) -> None:
    feed = feed_of(kind)
    for number in range(8):
        feed.now += 10
        feed.put(number)
    polled = Polled(poll_over(feed, lookback=Decimal(30)))

    assert 8 == len(polled())
    feed.put(90, feed.now - 25)
    feed.now += 10
    feed.put(91)
    assert [(90, 1), (91, 1)] == sorted(polled())
    feed.put(92, feed.now - 29)
    assert [(92, 1)] == polled()
    assert [] == polled()


def test_a_record_that_is_missing_for_one_poll_is_not_produced_twice() -> None:
    feed = feed_of("cursor")
    for number in range(3):
        feed.now += 10
        feed.put(number)
    polled = Polled(poll_over(feed, lookback=Decimal(60)))
    polled()
    hidden, at = feed.records.pop(1), feed._times[1]
    feed.now += 5
    feed.put(8)
    assert [(8, 1)] == polled()
    feed.records[1], feed._times[1] = hidden, at
    assert [] == polled()


def test_a_coarse_filter_needs_its_granularity_and_nothing_comes_twice() -> None:
    feed = feed_of("page", grain=60)
    for number in range(9):
        feed.now += 7
        feed.put(number)
    polled = Polled(
        poll_over(
            feed,
            format="yyyy-MM-dd HH:mm",
        )
    )
    feed.read = lambda text: _minutes(text)
    assert 9 == len(polled())
    for number in range(20, 29):
        feed.now += 9
        feed.put(number)
        assert [(number, 1)] == polled()
    assert feed.asked[-1]["since"].endswith("22:15")


def _minutes(text: str) -> float:
    from datetime import UTC, datetime

    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp()


def test_granularity_asks_from_its_beginning_on() -> None:
    feed = feed_of("cursor")
    feed.put(1)
    polled = Polled(poll_over(feed, granularity=60))
    polled()
    assert [] == polled()
    assert "2023-11-14T22:13:00Z" == feed.asked[-1]["since"]


# -- orders ------------------------------------------------------------------------


def test_ascending_moves_the_bookmark_within_a_poll() -> None:
    feed = feed_of("cursor", order="ASC")
    for number in range(7):
        feed.now += 10
        feed.put(number)
    polled = Polled(poll_over(feed, order="ASC"))

    assert 3 == len(polled(pages=1))
    assert {"bookmark": "2023-11-14T22:13:50Z"}.items() <= (polled.offset or {}).items()
    assert "cursor" not in (polled.offset or {})
    assert [(3, 1), (4, 1), (5, 1), (6, 1)] == polled()


@pytest.mark.parametrize("order", ["ASC", "NONE"])
def test_a_cursor_that_lives_for_two_pages_only(order: str) -> None:
    """In order the bookmark moves with each page, so that each walk comes further."""
    feed = feed_of("cursor", order=order)
    for number in range(20):
        feed.now += 10
        feed.put(number)
    asked: list[str] = []

    def fetch(request: Request) -> Response:
        asked.append(request.url)
        lives = [url for url in asked if "cursor=" not in url]
        if len(asked) - asked.index(lives[-1], 0) > 2 and "cursor=" in request.url:
            raise Unexpected("gone", status=404)
        return feed(request)

    bookmark = BookmarkKeys(pointer="updated", order=order)
    poll = poll_of(
        URL,
        "cursor",
        fetch=fetch,
        shape={"params": "since=${offset}"},
        bookmark=bookmark,
        limit=feed.size,
        poll={"restart": True},
    )
    polled = Polled(poll)
    if order == "NONE":
        with pytest.raises(Unexpected):
            polled()
        return
    polled()
    assert sorted((n, 1) for n in range(20)) == sorted(polled.got)


def test_a_record_out_of_order_is_said_and_the_poll_goes_on_as_with_none() -> None:
    notes: list[str] = []
    feed = feed_of("cursor", order="NONE")
    for number in (0, 1, 2, 3, 4, 5, 6, 7):
        feed.put(number, feed.now + (number if number != 4 else -100))
    feed.now += 50
    polled = Polled(poll_over(feed, notes, order="ASC"))

    polled(pages=1)
    assert "cursor" not in (polled.offset or {})
    polled.offset = None
    polled.got.clear()
    polled(pages=2)
    assert ["records_out_of_order_total"] == notes
    assert "cursor" in (polled.offset or {})
    assert "bookmark" not in (polled.offset or {})
    polled()
    assert sorted(feed.versions) == sorted(polled.got)


@pytest.mark.parametrize("filtered", [True, False])
def test_descending_stops_at_the_bookmark(filtered: bool) -> None:
    feed = feed_of("cursor", order="DESC", since="since" if filtered else "nothing")
    for number in range(30):
        feed.now += 10
        feed.put(number)
    polled = Polled(poll_over(feed, order="DESC", filtered=filtered))

    assert 30 == len(polled())
    feed.asked.clear()
    feed.now += 10
    feed.put(40)
    assert [(40, 1)] == polled()
    assert 1 == len(feed.asked)


def test_descending_a_pinned_record_in_front_ends_nothing() -> None:
    feed = feed_of("cursor", order="DESC", since="nothing")
    for number in range(12):
        feed.now += 10
        feed.put(number)
    polled = Polled(poll_over(feed, order="DESC", filtered=False))
    polled()
    rows = feed._rows

    def pinned(query: dict[str, str]) -> list[dict[str, Any]]:
        found = rows(query)
        return [found[-1], *found[:-1]]

    feed._rows = pinned  # type: ignore[method-assign]
    feed._place = lambda query, found: (  # type: ignore[method-assign]
        int(query["cursor"]) if "cursor" in query else 0
    )
    for number in range(40, 46):
        feed.now += 10
        feed.put(number)
    notes: list[str] = []
    again = Polled(
        poll_of(
            URL,
            "page",
            fetch=_by_page(feed),
            limit=3,
            bookmark=BookmarkKeys(pointer="updated", order="DESC", filtered=False),
            notes=notes,
        )
    )
    again.offset = polled.offset
    assert {(n, 1) for n in range(40, 46)} == set(again())
    assert "records_out_of_order_total" in notes


def _by_page(feed: Feed) -> Feed:
    feed.kind = "page"
    feed._place = lambda query, rows: (int(query["page"]) - 1) * 3  # type: ignore[method-assign]
    return feed


# -- the property ------------------------------------------------------------------


class Dice:
    """Changes between requests, as hypothesis throws them."""

    def __init__(self, feed: Feed, data: st.DataObject, most: int = 3):
        self._feed, self._data, self._most = feed, data, most
        self.gone: set[tuple[int, int]] = set()

    def __call__(self) -> None:
        for _ in range(self._data.draw(st.integers(0, self._most))):
            what, number = self._data.draw(
                st.tuples(
                    st.sampled_from(["put", "put", "late", "remove", "wait"]),
                    st.integers(0, 12),
                )
            )
            feed = self._feed
            old = feed.records.get(number)
            if what == "wait":
                feed.now += 1 + number
            elif what == "remove" or old is not None:
                self.gone.add((number, 0 if old is None else old["version"]))
            if what == "put":
                feed.put(number)
            elif what == "late" and old is None:
                # Written late, but not by more than the lookback.
                feed.put(number, feed.now - number)
            elif what == "remove":
                feed.remove(number)


@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_nothing_is_lost_and_nothing_comes_twice_whatever_changes(
    data: st.DataObject,
) -> None:
    kind = data.draw(st.sampled_from(STABLE))
    order = data.draw(st.sampled_from(ORDERS if kind != "keyset" else ("ASC",)))
    feed = feed_of(kind, order=order, size=50 if kind == "keyset" else 4)
    dice = Dice(feed, data)
    feed.between = dice
    poll = poll_over(feed, order=order, lookback=Decimal(20))
    polled = Polled(poll)
    for _ in range(data.draw(st.integers(1, 5))):
        # A poll, or a part of one that is killed behind a page.
        polled(pages=data.draw(st.sampled_from([1, 2, 1 << 30])))
    feed.between = lambda: None
    for _ in range(3):
        feed.now += 1
        polled()

    there = {(r["id"], r["version"]) for r in feed.records.values()}
    assert there <= set(polled.got)
    twice = {each for each, n in Counter(polled.got).items() if n > 1}
    assert not twice


# -- values ------------------------------------------------------------------------


def values_polled(
    values: Sequence[object], **keys: Any
) -> tuple[Polled, Callable[[], dict[str, str]], list[object]]:
    records = [{"id": n, "version": 1, "v": value} for n, value in enumerate(values)]
    feed = feed_of("none")
    feed._rows = lambda query: records  # type: ignore[method-assign, return-value]
    feed.now = 2_000_000_000.0
    poll = poll_over(feed, **{"pointer": "v", "filtered": False, **keys})
    return Polled(poll), lambda: feed.asked[-1], records  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("values", "keys", "asked"),
    [
        ([3, 11, 7], {}, "11"),
        ([2**70, 5], {}, str(2**70)),
        ([1.5, 1.25], {}, "1.5"),
        (["3", "11"], {"value_type": "number"}, "11"),
        (["3", "11"], {}, "3"),
        (["a", "ä", "b"], {}, "ä"),
        ([11, 7], {"lookback": Decimal(5)}, "6"),
        ([1.5, 1.25], {"lookback": Decimal("0.25")}, "1.25"),
        (
            ["2024-01-02T03:04:05+02:00", "2024-01-02T02:00:00Z"],
            {},
            "2024-01-02T02:00:00Z",
        ),
        (
            ["2024-01-02T03:04:05Z", "2024-01-02T03:04:05.5Z"],
            {},
            "2024-01-02T03:04:05.5Z",
        ),
        (
            ["2024-01-02T03:04:05.123456Z"],
            {"lookback": Decimal(1)},
            "2024-01-02T03:04:04.123456Z",
        ),
        (
            ["1503435956.000247", "1503435956.000100"],
            {"value_type": "timestamp", "lookback": Decimal(6)},
            "1503435950.000247",
        ),
        (
            [1700000000, 1700000100],
            {"value_type": "timestamp", "format": "ISO8601_SECONDS"},
            "2023-11-14T22:15:00Z",
        ),
        (
            ["Tue, 02 Jan 2024 03:04:05 GMT"],
            {"value_type": "timestamp", "lookback": Decimal(5)},
            "Tue, 02 Jan 2024 03:04:00 GMT",
        ),
        (
            ["/Date(1700000000123)/"],
            {"value_type": "timestamp", "lookback": Decimal(1)},
            "/Date(1699999999123)/",
        ),
        (["2024-01-02T03:04:05.999Z"], {"format": "EPOCH_SECONDS"}, "1704164645"),
        (["2024-01-02T03:04:05.999Z"], {"format": "EPOCH_MILLIS"}, "1704164645999"),
        (["2024-01-02T03:04:05.999Z"], {"format": "DATE"}, "2024-01-02"),
        (
            ["2024-01-02T03:04:05.999Z"],
            {"format": "HTTP_DATE"},
            "Tue, 02 Jan 2024 03:04:05 GMT",
        ),
        (["2024-01-02T03:04:05.9Z"], {"format": "yyyyMMdd'T'HHmm"}, "20240102T0304"),
    ],
)
def test_the_largest_value_is_asked_for_in_its_own_or_another_form(
    values: list[object], keys: dict[str, Any], asked: str
) -> None:
    polled, last, _ = values_polled(values, **keys)

    assert len(values) == len(polled())
    assert [] == polled()
    assert asked == last()["since"]
    assert [] == polled()


def test_values_of_two_kinds_are_a_bad_page() -> None:
    polled, _, _ = values_polled([1, "2024-01-01T00:00:00Z"])

    with pytest.raises(BadPage, match="unlike those before"):
        polled()


def test_a_record_without_a_value_is_produced_once() -> None:
    polled, _, _ = values_polled([1, None, 5])

    assert 3 == len(polled())
    assert [] == polled()
    assert [] == polled()


def test_a_position_of_another_mode_is_refused() -> None:
    polled, _, _ = values_polled([1])
    polled.offset = {"poll": 3, "done": True, "page": 4}

    with pytest.raises(StateError, match="page"):
        polled()


def test_fields_of_the_bookmarks_record_are_named_in_the_next_poll() -> None:
    """As templates of other connectors have it: `${last.<path>}` goes over polls."""
    feed = feed_of("page")
    for number in range(7):
        feed.now += 10
        feed.put(number)
    poll = poll_of(
        URL,
        "page",
        fetch=feed,
        limit=3,
        shape={"params": "since=${coalesce(last.updated, '2020-01-01')}&id=${last.id}"},
        bookmark=BookmarkKeys(pointer="updated", filtered=False),
    )
    feed.read = lambda text: (
        0.0 if text == "2020-01-01" else datetime.fromisoformat(text).timestamp()
    )
    polled = Polled(poll)

    assert 7 == len(polled())
    assert {"2020-01-01"} == {query["since"] for query in feed.asked}
    feed.asked.clear()
    feed.now += 10
    feed.put(9)
    feed.put(10)
    feed.put(11)
    assert [(9, 1), (10, 1), (11, 1)] == polled()
    # The same in all requests of a poll.
    assert {("2023-11-14T22:14:30Z", "6")} == {
        (q["since"], q["id"]) for q in feed.asked
    }
    for state in polled.offsets:
        resumed = Polled(poll)
        resumed.offset = state
        resumed()
        resumed()
        assert (resumed.offset or {})["mark.id"] == (polled.offset or {})["mark.id"]


@pytest.mark.parametrize("kind", ["page", "offset", "cursor", "next_url"])
@pytest.mark.parametrize("size", [1, 2, 5, 50])
def test_another_page_size_in_the_middle_of_a_poll_loses_nothing(
    kind: str, size: int
) -> None:
    feed = feed_of(kind, order="NONE")
    for number in range(20):
        feed.now += 10
        feed.put(number)
    feed.now += 10
    polled = Polled(poll_over(feed))
    polled(pages=3)
    feed.size = size
    polled.poll = poll_over(feed)

    polled()

    assert feed.versions == set(polled.got)
    assert [] == polled()
