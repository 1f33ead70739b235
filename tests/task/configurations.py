"""
Configurations: how incremental APIs are asked, as files have it, and models of them.

Owns the table of the modes, of pagination types, of the forms of a value and of the
places where it goes; each is a file's keys and an API whose rows are inserted, changed
and deleted between any two requests.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit
from zoneinfo import ZoneInfo

from engine.errors import Unexpected
from engine.records import Request, Response
from tests.fakes.feeds import Feed, iso

URL = "http://api.test"
BERLIN = ZoneInfo("Europe/Berlin")


class Form(NamedTuple):
    """
    A form of an offset value.

    Attributes:
        write: Seconds to what stands in a record.
        read: What is sent, to seconds.
        keys: What has to be said of it.
        grain: Seconds to which the API's filter is coarse.
        back: Something can be taken off it.
    """

    write: Callable[[float], object]
    read: Callable[[str], float]
    keys: Mapping[str, str] = {}
    grain: int = 1
    back: bool = True


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _in(pattern: str, zone: timezone | ZoneInfo = UTC) -> Callable[[str], float]:
    return lambda text: (
        datetime.strptime(text, pattern).replace(tzinfo=zone).timestamp()
    )


TIMESTAMP = {"http.offset.value.type": "timestamp"}

FORMS: dict[str, Form] = {
    "number": Form(int, float),
    "seconds": Form(int, float, TIMESTAMP),
    "millis": Form(lambda at: int(at * 1000), lambda t: float(t) / 1000, TIMESTAMP),
    "millis-text": Form(
        lambda at: str(int(at * 1000)), lambda t: float(t) / 1000, TIMESTAMP
    ),
    "iso": Form(iso, _at),
    "iso-offset": Form(
        lambda at: datetime.fromtimestamp(at, timezone(timedelta(hours=2))).isoformat(
            timespec="milliseconds"
        ),
        _at,
    ),
    "iso-local": Form(
        lambda at: datetime.fromtimestamp(at, BERLIN).strftime("%Y-%m-%dT%H:%M:%S"),
        _in("%Y-%m-%dT%H:%M:%S", BERLIN),
        {"http.offset.zone": "Europe/Berlin"},
    ),
    "iso-asked-as-seconds": Form(iso, float, {"http.offset.format": "EPOCH_SECONDS"}),
    "mail": Form(
        lambda at: format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True),
        lambda text: parsedate_to_datetime(text).timestamp(),
        TIMESTAMP,
    ),
    "pattern": Form(
        lambda at: datetime.fromtimestamp(at, UTC).strftime("%d.%m.%Y %H:%M:%S"),
        _in("%d.%m.%Y %H:%M:%S"),
        {"http.offset.value.format": "dd.MM.yyyy HH:mm:ss"},
    ),
    "minutes": Form(
        iso,
        _in("%Y-%m-%d %H:%M"),
        {"http.offset.format": "yyyy-MM-dd HH:mm"},
        grain=60,
    ),
    "granular": Form(iso, _at, {"http.offset.granularity.seconds": "60"}, grain=60),
    "date": Form(iso, _in("%Y-%m-%d"), {"http.offset.format": "DATE"}, grain=86_400),
    "string": Form(lambda at: f"v{int(at):012d}", lambda t: float(t[1:]), back=False),
}


class Place(NamedTuple):
    """
    Where the value goes.

    Attributes:
        keys: For the URL of the list.
        find: A request's value, or "".
        first: It cannot be left out: the first poll needs `http.initial.offset`.
    """

    keys: Callable[[str], Mapping[str, str]]
    find: Callable[[Request, Mapping[str, str]], str]
    first: bool = False


def _header(name: str) -> Callable[[Request, Mapping[str, str]], str]:
    def find(request: Request, query: Mapping[str, str]) -> str:
        return next((v for n, v in request.headers if n.lower() == name), "")

    return find


def _body(request: Request, query: Mapping[str, str]) -> str:
    return str(json.loads(request.body or b"{}").get("filter", {}).get("from", ""))


def _behind(word: str, end: str) -> Callable[[Request, Mapping[str, str]], str]:
    def find(request: Request, query: Mapping[str, str]) -> str:
        return query.get("q", "").partition(word)[2].partition(end)[0]

    return find


def _segment(request: Request, query: Mapping[str, str]) -> str:
    return unquote(urlsplit(request.url).path.partition("/since/")[2])


PLACES: dict[str, Place] = {
    "query": Place(
        lambda url: {
            "http.source.url": url,
            "http.source.query.params": "since=${offset}",
        },
        lambda request, query: query.get("since", ""),
    ),
    "path": Place(
        lambda url: {"http.source.url": f"{url}/since/${{offset}}"}, _segment, True
    ),
    "body": Place(
        lambda url: {
            "http.source.url": url,
            "http.source.method": "POST",
            "http.source.body": '{"filter": {"from": "${offset}"}}',
        },
        _body,
        True,
    ),
    "header": Place(
        lambda url: {
            "http.source.url": url,
            "http.source.header.X-Since": "${offset}",
        },
        _header("x-since"),
    ),
    "soql": Place(
        lambda url: {
            "http.source.url": url,
            "http.source.query.params": (
                "q=SELECT Id FROM T WHERE At >= ${offset} ORDER BY At"
            ),
        },
        _behind(" >= ", " ORDER BY"),
        True,
    ),
    "jql": Place(
        lambda url: {
            "http.source.url": url,
            "http.source.query.params": 'q=updated >= "${offset}" ORDER BY updated',
        },
        _behind(' >= "', '"'),
        True,
    ),
}

#: What a pagination type has to be told of the models.
PAGING: dict[str, Mapping[str, str]] = {
    "none": {},
    "page": {"pagination.limit.value": "LIMIT"},
    "offset": {"pagination.limit.value": "LIMIT"},
    "cursor": {"pagination.cursor.field": "next"},
    "next_url": {"pagination.cursor.field": "next"},
    "link_header": {},
    "odata": {},
    "keyset": {
        "pagination.cursor.param": "since",
        "pagination.limit.value": "LIMIT",
        "pagination.offset.param": "skip",
    },
}


class Changing(Feed):
    """
    A feed that is asked in any place, and whose Date differs from its rows' clock.

    Args:
        skew: By how many seconds the Date is ahead of the times of rows.
    """

    def __init__(self, kind: str, place: Place, form: Form, order: str, skew: int):
        size = 100_000 if kind == "none" else 4
        super().__init__(
            kind,
            size=size,
            order=order,
            read=form.read,
            write=form.write,
            grain=form.grain,
        )
        self.place, self.skew = place, skew
        self.most_requests = 20_000

    def __call__(self, request: Request) -> Response:
        self.most_requests -= 1
        assert self.most_requests, "it asks for ever"
        url = urlsplit(request.url)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        found = self.place.find(request, query)
        if found and "since" not in query:
            query["since"] = found
        status, headers, body = self.answer(f"{url.path}?{urlencode(query)}")
        at = datetime.fromtimestamp(self.now + self.skew, UTC)
        headers = [
            (name, format_datetime(at, True) if name == "date" else value)
            for name, value in headers
        ]
        return Response(
            request=request,
            url=request.url,
            status=status,
            headers=headers,
            body=body,
            sent_at=0.0,
            received_ms=0,
        )

    def _place(self, query: dict[str, str], rows: list[dict[str, Any]]) -> int:
        if self.kind == "keyset":
            return int(query.get("skip", "0"))
        return super()._place(query, rows)

    def rows(self) -> set[tuple[int, int]]:
        """What there is, as (id, version)."""
        return {(row["id"], row["version"]) for row in self.records.values()}


class Changes:
    """Rows that are inserted, changed and deleted between any two requests."""

    def __init__(self, feed: Changing, seed: int, *, late: bool):
        self._feed, self._late = feed, late
        self._dice = random.Random(seed)

    def __call__(self) -> None:
        feed, dice = self._feed, self._dice
        for _ in range(dice.randrange(4)):
            what = dice.choice(("put", "put", "tie", "late", "remove", "wait"))
            number = dice.randrange(14)
            if what == "wait":
                feed.now += 1 + number
            elif what == "remove":
                feed.remove(number)
            elif what == "late" and self._late and number not in feed.records:
                feed.put(number, feed.now - dice.randrange(13))
            elif what == "tie":
                # More of one time than fit a page.
                feed.put(number + 100)
                feed.put(number + 200)
            else:
                feed.put(number)


class Configuration(NamedTuple):
    """
    One configuration.

    Attributes:
        keys: Of the file.
        feed: Makes its API.
        late: Rows may come late, within the lookback.
        within: Rows change within a poll, too.
        repeats: What has moved on behind a page that was read comes again: the API says
            of no record whether it is the one from the page before.
    """

    keys: Mapping[str, str]
    feed: Callable[[], Changing]
    late: bool = True
    within: bool = True
    repeats: bool = False


def incremental(
    kind: str,
    form: str = "iso",
    place: str = "query",
    order: str = "NONE",
    *,
    skew: int = 0,
    whole: bool = False,
    still: bool = False,
) -> Configuration:
    """INCREMENTAL, or SNAPSHOT_PAGINATION where each poll reads the `whole`."""
    shape, where = FORMS[form], PLACES[place]
    keys = {
        "http.offset.mode": "SNAPSHOT_PAGINATION" if whole else "INCREMENTAL",
        "http.offset.json.pointer": "/updated",
        "http.offset.order": order,
        "pagination.type": kind,
        "http.response.data.json.pointer": "/value" if kind == "odata" else "/items",
        **PAGING[kind],
        **{
            name: value
            for name, value in shape.keys.items()
            if not whole
            or name not in ("http.offset.format", "http.offset.granularity.seconds")
        },
    }
    if whole or kind == "keyset":
        keys["http.source.url"] = f"{URL}/list"
    else:
        keys |= where.keys(f"{URL}/list")
        if where.first:
            keys["http.initial.offset"] = str(shape.write(1_600_000_000))
    numbered = kind in ("page", "offset")
    late = shape.back
    if late:
        # Numbered pages skip rows where others go or move: all are read again.
        keys["http.offset.lookback"] = "1000000" if numbered else "30"
    return Configuration(
        keys,
        lambda: Changing(kind, where, shape, order, skew),
        late=late,
        within=not still,
        repeats=numbered and not still,
    )


def _all() -> dict[str, Configuration]:
    made: dict[str, Configuration] = {}

    def add(kind: str, *words: str, **keys: Any) -> None:
        name = "-".join(
            ["snapshot" if keys.get("whole") else "incremental", kind, *words]
        )
        if keys.get("skew"):
            name += f"-skew{keys['skew']}"
        if keys.get("still"):
            name += "-still"
        made[name] = incremental(kind, *words, **keys)

    kinds = [kind for kind in PAGING if kind != "keyset"]
    for order in ("ASC", "DESC", "NONE"):
        for kind in kinds:
            add(kind, "iso", "query", order)
    for form in FORMS:
        add("cursor", form, "query", "ASC")
        add("none", form, "query", "NONE")
        add("keyset", form, "query", "ASC")
    for place in PLACES:
        for kind in ("page", "cursor", "none"):
            add(kind, "seconds", place, "ASC")
    for place in ("query", "path", "header", "soql", "jql"):
        add("link_header", "minutes", place, "NONE")
        add("next_url", "date", place, "DESC")
    for kind in ("cursor", "page", "link_header"):
        for skew in (-20, 20):
            add(kind, "iso", "query", "NONE", skew=skew)
    for kind in ("page", "offset"):
        # Nothing moves while pages are read: nothing comes twice.
        for order in ("ASC", "DESC", "NONE"):
            add(kind, "iso", "query", order, still=True)
        add(kind, "iso", "query", "NONE", whole=True, still=True)
    for kind in kinds:
        add(kind, "iso", "query", "NONE", whole=True)
        add(kind, "millis", "query", "ASC", whole=True)
    return made


CONFIGURATIONS = _all()


class Sliced:
    """
    An API that is asked from a time until another: a `Fetch`.

    Args:
        find: A request's bounds, in seconds.
        cap: Most records of a window.
        how: What it does beyond: "refuses", "tells", "cuts" or "counts".
    """

    def __init__(
        self,
        kind: str,
        find: Callable[[Request, Mapping[str, str]], tuple[float, float]],
        cap: int | None = None,
        how: str = "cuts",
    ):
        self.kind, self.find, self.cap, self.how = kind, find, cap, how
        self.size = 100_000 if kind == "none" else 3
        self.rows: dict[int, float] = {}
        self.now = 1_700_000_000.0

    def put(self, number: int, at: float) -> None:
        self.rows[number] = at

    def __call__(self, request: Request) -> Response:
        url = urlsplit(request.url)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        low, high = self.find(request, query)
        found = [n for n, at in sorted(self.rows.items()) if low <= at < high]
        cut = self.cap is not None and len(found) > self.cap
        if cut and self.how == "refuses":
            raise Unexpected("too much", status=413, url=request.url)
        told: dict[str, Any] = {"total": len(found)} if self.how == "counts" else {}
        if self.how == "tells":
            told["cut"] = cut
        if self.cap is not None:
            found = found[: self.cap]
        at = int(query.get("after", query.get("cursor", "")) or 0)
        if self.kind == "page":
            at = (int(query["page"]) - 1) * self.size
        elif self.kind == "offset":
            at = int(query["offset"])
        headers = []
        if at + self.size < len(found):
            link = f"{url.path}?{urlencode({**query, 'after': at + self.size})}"
            if self.kind == "cursor":
                told["next"] = str(at + self.size)
            elif self.kind == "next_url":
                told["next"] = link
            elif self.kind == "link_header":
                headers.append(("link", f'<{link}>; rel="next"'))
        told["items"] = [
            {"id": n, "at": self.rows[n]} for n in found[at : at + self.size]
        ]
        return Response(
            request=request,
            url=request.url,
            status=200,
            headers=headers,
            body=json.dumps(told).encode(),
            sent_at=0.0,
            received_ms=0,
        )


class Windows(NamedTuple):
    """A configuration of time windows: its keys, and what makes its API."""

    keys: Mapping[str, str]
    feed: Callable[[], Sliced]


def _from_query(read: Callable[[str], float]) -> Any:
    return lambda request, query: (read(query["from"]), read(query["to"]))


def _from_path(request: Request, query: Mapping[str, str]) -> tuple[float, float]:
    day = urlsplit(request.url).path.partition("/day/")[2]
    low = _in("%Y/%m/%d", BERLIN)(day)
    following = datetime.fromtimestamp(low, BERLIN).date() + timedelta(days=1)
    return low, datetime(
        following.year, following.month, following.day, tzinfo=BERLIN
    ).timestamp()


def _from_body(request: Request, query: Mapping[str, str]) -> tuple[float, float]:
    asked = json.loads(request.body or b"{}")
    return asked["from"], asked["to"]


#: Where the bounds of a window go: keys, and how they are read.
BOUNDS: dict[str, tuple[Mapping[str, str], Any]] = {
    "iso": (
        {"http.source.query.params": "from=${window.start}&to=${window.end}"},
        _from_query(_at),
    ),
    "seconds": (
        {
            "http.source.query.params": "from=${window.start}&to=${window.end}",
            "http.source.window.format": "EPOCH_SECONDS",
        },
        _from_query(float),
    ),
    "local": (
        {
            "http.source.query.params": "from=${window.start}&to=${window.end}",
            "http.source.window.format": "yyyy-MM-dd HH:mm:ss",
            "http.source.window.zone": "Europe/Berlin",
        },
        _from_query(_in("%Y-%m-%d %H:%M:%S", BERLIN)),
    ),
    "days-in-path": (
        {
            "http.source.url": f"{URL}/day/${{raw(window.start)}}",
            "http.source.window.format": "yyyy/MM/dd",
            "http.source.window.zone": "Europe/Berlin",
            "http.source.window.size.seconds": "86400",
            "http.source.window.start": "2023-11-10T00:00:00",
        },
        _from_path,
    ),
    "body": (
        {
            "http.source.method": "POST",
            "http.source.body": '{"from": ${window.start}, "to": ${window.end}}',
            "http.source.window.format": "EPOCH_SECONDS",
        },
        _from_body,
    ),
}

#: How an API says that a window is too large.
LARGE: dict[str, Mapping[str, str]] = {
    "refuses": {"http.source.window.too.large.status": "413"},
    "tells": {"http.source.window.too.large.field": "cut"},
    "cuts": {"http.source.window.records.max": "9"},
    "counts": {
        "http.source.window.records.max": "9",
        "pagination.total.field": "total",
    },
}


def windows(kind: str, bounds: str, large: str | None, **keys: str) -> Windows:
    """Windows of ten minutes, or days."""
    said, find = BOUNDS[bounds]
    paging = {} if kind == "keyset" else PAGING[kind]
    made = {
        "http.source.url": f"{URL}/list",
        "http.response.data.json.pointer": "/items",
        "pagination.type": kind,
        "http.source.window.size.seconds": "600",
        "http.source.window.start": "2023-11-14T12:00:00Z",
        "http.source.window.lag.seconds": "30",
        **paging,
        **said,
        **(LARGE[large] if large else {}),
        **keys,
    }
    cap = None if large is None else 9
    if large == "counts":
        cap = 8
    return Windows(made, lambda: Sliced(kind, find, cap, large or "cuts"))


def _windows() -> dict[str, Windows]:
    made = {}
    for kind in ("none", "page", "offset", "cursor", "next_url", "link_header"):
        for bounds in BOUNDS:
            if bounds == "body" and kind in ("next_url", "link_header"):
                continue
            made[f"windows-{kind}-{bounds}"] = windows(kind, bounds, None)
        for large in LARGE:
            if kind != "offset" or large != "counts":
                made[f"windows-{kind}-{large}"] = windows(kind, "seconds", large)
    made["windows-overlap"] = windows(
        "cursor", "iso", None, **{"http.source.window.overlap.seconds": "120"}
    )
    made["windows-overlap-pointer"] = windows(
        "page",
        "seconds",
        None,
        **{
            "http.source.window.overlap.seconds": "120",
            "http.offset.json.pointer": "/at",
        },
    )
    return made


WINDOWS = _windows()
