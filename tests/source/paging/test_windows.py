"""Time windows, on a model of an API that is asked for from and until."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import pytest

from engine.errors import SourceError, StateError, Unexpected
from engine.language.instants import bound_in, instant
from engine.language.spans import Grid
from engine.records import Offset, Page, Request, Response
from engine.source.decode.decoder import compile_decoder
from engine.source.paging.pager import Others, Paging
from engine.source.paging.paginator import Paginator
from engine.source.paging.request import Shape
from engine.source.paging.windows import Windowed, WindowKeys
from engine.source.poll import Poll
from engine.source.wire.origin import AllowedOrigins, origin_of
from tests.fakes.walks import Never

URL = "http://api.test"
DAY = 86_400
T0 = 1_700_000_000


class Log:
    """
    A `Fetch` over records with times, from and until.

    Args:
        size: Records on a page.
        cap: Most records of a window; behind it nothing is given.
        refuses: Whether more than that is a 413 instead.
        tells: Whether an answer says that it is cut.
    """

    def __init__(
        self,
        times: Sequence[float],
        kind: str = "none",
        *,
        size: int = 1000,
        cap: int | None = None,
        refuses: bool = False,
        tells: bool = False,
        total: bool = False,
    ):
        self.times, self.kind, self.size = list(times), kind, size
        self.cap, self.refuses, self.tells, self.total = cap, refuses, tells, total
        self.asked: list[dict[str, str]] = []

    def __call__(self, request: Request) -> Response:
        query = dict(parse_qsl(urlsplit(request.url).query))
        self.asked.append(query)
        low, high = (instant(query[name]) / 1e9 for name in ("from", "until"))
        found = [
            {"id": n, "at": at} for n, at in enumerate(self.times) if low <= at < high
        ]
        cut = self.cap is not None and len(found) > self.cap
        if cut and self.refuses:
            raise Unexpected("too much", status=413, url=request.url)
        total = len(found)
        if self.cap is not None:
            found = found[: self.cap]
        at = 0
        if self.kind == "page":
            at = (int(query["page"]) - 1) * self.size
        elif self.kind == "cursor":
            at = int(query.get("cursor", 0))
        page = found[at : at + self.size]
        told: dict[str, Any] = {"items": page}
        if self.kind == "cursor" and at + self.size < len(found):
            told["next"] = str(at + self.size)
        if self.tells:
            told["cut"] = cut
        if self.total:
            told["total"] = total
        body = json.dumps(told).encode()
        return Response(
            request=request,
            url=request.url,
            status=200,
            headers=(),
            body=body,
            sent_at=0.0,
            received_ms=0,
        )


def poll_of(
    log: Log,
    now: float,
    *,
    index: int = 0,
    count: int = 1,
    others: Others = (),
    start: object = "2023-11-14T22:13:20Z",
    end: object = None,
    format: str = "ISO8601",
    notes: list[str] | None = None,
    **keys: Any,
) -> Poll:
    zone = keys.pop("zone", UTC)
    window = WindowKeys(
        **{
            "size": 60,
            "start": lambda now_ms, scope: start,
            "end": None if end is None else (lambda now_ms, scope: end),
            "bound": bound_in(format, zone),
            "zone": zone,
            **keys,
        }
    )
    note = (lambda name: None) if notes is None else notes.append
    paging = Paging(
        type=log.kind,
        limit=log.size,
        cursor_field="next" if log.kind == "cursor" else None,
        total_field="total" if log.total else None,
    )
    paginator = Paginator(
        paging,
        shape=Shape(
            method="GET",
            url=f"{URL}/log",
            paging=paging,
            params="from=${window.start}&until=${window.end}",
        ),
        follow=AllowedOrigins((origin_of(URL),)).follow,
        around=Windowed(
            window,
            index=index,
            count=count,
            others=others,
            total_field=paging.total_field,
            note=note,
        ),
        note=note,
    )
    return Poll(
        paginator,
        fetch=log,
        decode=compile_decoder(data_path="items", wanted=paginator.paths),
        stopping=Never(),
        clock=_At(now),
    )


class _At:
    """A clock that stands."""

    def __init__(self, now: float):
        self._now = now

    def wall_ms(self) -> int:
        return int(self._now * 1000)

    def monotonic(self) -> float:
        return 0.0


def numbers(pages: Sequence[Page]) -> list[int]:
    return [
        json.loads(bytes(record))["id"] for page in pages for record in page.records
    ]


def stored(page: Page) -> Offset:
    found: Offset = json.loads(json.dumps(page.offset))
    return found


@pytest.mark.parametrize("kind", ["none", "page", "cursor"])
def test_each_window_is_walked_once_and_what_is_not_past_is_left(kind: str) -> None:
    log = Log([T0 + 10 * n for n in range(40)], kind, size=4 if kind != "none" else 100)

    pages = list(poll_of(log, T0 + 200).pages(None))

    assert list(range(18)) == numbers(pages)
    assert pages[-1].offset["done"] is True
    assert 3 == pages[-1].offset["window"]
    assert "2023-11-14T22:13:20.000Z" == log.asked[0]["from"]
    assert (T0 * 1000, (T0 + 60) * 1000) == pages[0].window
    more = list(poll_of(log, T0 + 239).pages(stored(pages[-1])))
    assert [] == more
    more = list(poll_of(log, T0 + 240).pages(stored(pages[-1])))
    assert list(range(18, 24)) == numbers(more)


def test_a_lag_keeps_its_distance_and_an_end_cuts_the_last_window() -> None:
    log = Log([T0 + 10 * n for n in range(40)])

    assert 6 == len(numbers(list(poll_of(log, T0 + 149, lag=30).pages(None))))
    assert 12 == len(numbers(list(poll_of(log, T0 + 150, lag=30).pages(None))))
    end = "2023-11-14T22:15:00Z"
    pages = list(poll_of(log, T0 + 9999, end=end).pages(None))
    assert list(range(10)) == numbers(pages)
    assert [] == list(poll_of(log, T0 + 99999, end=end).pages(stored(pages[-1])))
    # An end that is put off leaves no hole behind the window that it had cut.
    end = "2023-11-14T22:16:10Z"
    more = list(poll_of(log, T0 + 99999, end=end).pages(stored(pages[-1])))
    assert list(range(10, 17)) == numbers(more)


@pytest.mark.parametrize("kind", ["none", "page", "cursor"])
def test_every_saved_position_leads_to_the_same_end(kind: str) -> None:
    log = Log([T0 + 7 * n for n in range(60)], kind, size=3 if kind != "none" else 100)
    whole = list(poll_of(log, T0 + 400).pages(None))

    for at, page in enumerate(whole):
        rest = list(poll_of(log, T0 + 400).pages(stored(page)))
        assert numbers(whole) == numbers(whole[: at + 1]) + numbers(rest)
        end = rest[-1] if rest else whole[-1]
        for name in ("window", "start", "done"):
            assert whole[-1].offset[name] == end.offset[name]


@pytest.mark.parametrize("before", [1, 2, 3, 5])
@pytest.mark.parametrize("after", [1, 2, 3, 4])
@pytest.mark.parametrize("cut", [1, 4, 7, 99])
def test_windows_are_shared_by_tasks_and_by_others_after_them(
    before: int, after: int, cut: int
) -> None:
    log = Log([T0 + 7 * n for n in range(100)], "cursor", size=4)
    now = T0 + 720
    got: list[int] = []
    family: list[tuple[int, int, Offset]] = []
    for index in range(before):
        poll = poll_of(log, now, index=index, count=before)
        last: Offset | None = None
        for number, page in enumerate(poll.pages(None)):
            got += numbers([page])
            last = stored(page)
            if number + 1 >= cut * (index + 1):
                break
        last = last or poll.idle
        if last is not None:
            family.append((index, before, last))
    for index in range(after):
        own = next((o for i, c, o in family if (i, c) == (index, after)), None)
        others = [each for each in family if each[1] != after]
        poll = poll_of(log, now, index=index, count=after, others=others)
        got += numbers(list(poll.pages(own)))

    assert list(range(100)) == sorted(got)


def test_a_window_of_another_size_goes_on_where_it_stood() -> None:
    log = Log([T0 + 10 * n for n in range(40)])
    pages = list(poll_of(log, T0 + 130).pages(None))

    more = list(poll_of(log, T0 + 400, size=30).pages(stored(pages[-1])))

    assert list(range(39)) == numbers([*pages, *more])
    with pytest.raises(StateError, match="size.seconds"):
        list(poll_of(log, T0 + 400, size=30, count=2).pages(stored(pages[-1])))


# -- too large -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", "page", "cursor"])
@pytest.mark.parametrize("how", ["status", "field", "cap", "total"])
def test_a_window_that_is_too_large_is_halved(how: str, kind: str) -> None:
    times = [T0 + n * n / 5 for n in range(30)]
    log = Log(
        times,
        kind,
        size=3 if kind != "none" else 1000,
        cap=7,
        refuses=how == "status",
        tells=how == "field",
        total=how == "total",
    )
    keys: dict[str, Any] = {
        "status": {"too_large": (413,)},
        "field": {"too_large_field": "cut"},
        "cap": {"most": 7},
        "total": {"most": 7},
    }[how]
    poll = poll_of(log, T0 + 250, size=100, **keys)

    pages = list(poll.pages(None))

    assert list(range(30)) == numbers(pages)
    assert pages[-1].last
    for at, page in enumerate(pages):
        rest = list(poll.pages(stored(page)))
        assert numbers(pages[at + 1 :]) == numbers(rest), page.offset


def test_a_window_that_cannot_be_halved_is_said() -> None:
    notes: list[str] = []
    log = Log([T0 + 0.01 * n for n in range(50)], cap=20)
    pages = list(poll_of(log, T0 + 60, most=20, notes=notes).pages(None))

    assert list(range(20)) == sorted(set(numbers(pages)))
    assert any(page.unread for page in pages)
    assert "windows_too_large_total" in notes
    log = Log([T0 + 0.01 * n for n in range(50)], cap=20, refuses=True)
    with pytest.raises(SourceError):
        list(poll_of(log, T0 + 60, too_large=(413,)).pages(None))


def test_an_overlap_brings_what_came_late_and_nothing_twice() -> None:
    log = Log([T0 + 10 * n for n in range(12)])
    first = list(poll_of(log, T0 + 60, overlap=30).pages(None))
    log.times.append(T0 + 45)

    second = list(poll_of(log, T0 + 120, overlap=30).pages(stored(first[-1])))

    assert list(range(6)) == numbers(first)
    assert [6, 7, 8, 9, 10, 11, 12] == sorted(numbers(second))
    assert 3 == sum(page.deduplicated for page in second)
    assert "2023-11-14T22:13:50.000Z" == log.asked[-1]["from"]


def test_the_overlap_keeps_what_lies_in_it_where_the_time_is_known() -> None:
    log = Log([T0 + 10 * n for n in range(12)])
    pages = list(poll_of(log, T0 + 60, overlap=30, pointer="at").pages(None))

    kept = str(pages[-1].offset["ties"])
    assert 3 * 8 == len(__import__("base64").b64decode(kept))


# -- clocks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("Europe/Berlin", datetime(2024, 3, 31), 23),
        ("Europe/Berlin", datetime(2024, 10, 27), 25),
        ("America/New_York", datetime(2024, 11, 3), 25),
        ("Australia/Lord_Howe", datetime(2024, 4, 7), 24.5),
        ("Asia/Kolkata", datetime(2024, 3, 31), 24),
    ],
)
def test_a_day_is_as_long_as_it_is_in_its_zone(
    name: str, day: datetime, hours: float
) -> None:
    zone = ZoneInfo(name)
    start = int(day.replace(tzinfo=zone).timestamp() * 1000)
    low, high = Grid(start - 5 * DAY * 1000, DAY, zone).bounds(5)
    low, high = Grid(start, DAY, zone).bounds(0)

    assert hours == (high - low) / 3_600_000


@pytest.mark.parametrize("size", [900, 3600, 7200, DAY])
@pytest.mark.parametrize(
    "name", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Tehran"]
)
def test_windows_have_no_gap_and_no_overlap_whatever_clocks_do(
    name: str, size: int
) -> None:
    zone = ZoneInfo(name)
    grid = Grid(int(datetime(2021, 1, 1, tzinfo=zone).timestamp() * 1000), size, zone)
    behind = grid.start
    shown: Counter[str] = Counter()
    for index in range(400 * DAY // size):
        low, high = grid.bounds(index)
        assert behind == low <= high
        behind = high
        moment = datetime.fromtimestamp(low / 1000, zone)
        shown[moment.strftime("%Y-%m-%d %H:%M:%S")] += high > low
    # Asked for by the clock, no hour is asked for twice.
    assert 1 == max(shown.values())


def test_days_in_a_path_are_those_of_the_zone() -> None:
    log = Log([])
    zone = ZoneInfo("Europe/Berlin")
    poll = poll_of(
        log,
        datetime(2024, 4, 2, tzinfo=zone).timestamp(),
        start="2024-03-30T00:00:00",
        size=DAY,
        wall=True,
        zone=zone,
        format="yyyy/MM/dd",
    )
    asked = []
    course = poll._paginator.start(
        None, int(datetime(2024, 4, 2, tzinfo=zone).timestamp() * 1000)
    )
    request = course.ask()
    assert request is not None
    asked.append(dict(parse_qsl(urlsplit(request.url).query)))
    assert [{"from": "2024/03/30", "until": "2024/03/31"}] == asked


@pytest.mark.parametrize("size", [1, 2, 5, 50])
def test_another_page_size_in_the_middle_of_a_window_loses_nothing(size: int) -> None:
    log = Log([T0 + n for n in range(120)], "page", size=7)
    pages = []
    for page in poll_of(log, T0 + 120).pages(None):
        pages.append(page)
        if len(pages) == 3:
            break
    log.size = size

    more = list(poll_of(log, T0 + 120).pages(stored(pages[-1])))

    assert set(range(120)) == set(numbers(pages)) | set(numbers(more))
