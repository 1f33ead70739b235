"""
What the public test suite for HTTP caches requires, as rows of our own.

The suite (http-tests/cache-tests) has 150 required cases for caches of every
kind.  Each stands here in a row, by what it asks for, or in `NOT_OURS` with the
reason why a private cache in a client need not do it.  Where a case only lets a
cache be lazy (an answer *may* be used again), asking again is never wrong: ours
is stricter with several ages and says so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path

import pytest

from engine.errors import SourceError, Unreachable
from engine.records import Request, Response
from engine.shared.cache.settings import CacheSettings, TierSettings
from engine.shared.cache.tiers import Tiers
from engine.source.fetch.cache import Cached
from engine.source.fetch.freshness import decode, encode
from tests.fakes.hands import Hands

URL = "http://api.example.com/items"

Pairs = Sequence[tuple[str, str]]

NOT_OURS = {
    "a shared cache uses s-maxage, alone and before max-age (4 cases)": "ours is "
    "private: it belongs to one credential (RFC 9111 5.2.2.10)",
    "a shared cache keeps no private answer, and none to Authorization (2)": "as above",
    "a shared cache minds proxy-revalidate and s-maxage when stale (2)": "as above; "
    "ours uses nothing stale that the answer has not allowed",
    "Set-Cookie and Set-Cookie2 are kept (2)": "a cookie belongs to the moment",
    "an own If-None-Match is answered with 304, before If-Modified-Since (2)": "a "
    "request with a condition of its own passes by",
    "a range is cut out of a whole answer (2)": "a request for a range passes by",
    "an Age that is no number, or that stands there twice, is ignored (7)": "nobody "
    "knows then how old the answer is: it is asked for again",
    "an older answer is used again after a newer one with no-store (2)": "what was "
    "kept is forgotten: the newer one is the truth",
    "informational answers are not kept (1)": "they never leave `source.wire.body`",
}


class Origin:
    """Answers what it is told, and remembers what it was asked."""

    def __init__(self, clock: Hands) -> None:
        self.clock = clock
        self.status = 200
        self.headers: list[tuple[str, str]] = []
        self.body = b"[1]"
        self.gone = False
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if self.gone:
            raise Unreachable("gone")
        return Response(
            request=request,
            url=request.url,
            status=self.status,
            headers=[(name.lower(), value) for name, value in self.headers],
            body=b"" if self.status == 304 else self.body,
            sent_at=self.clock.monotonic(),
            received_ms=self.clock.wall_ms(),
        )


class Never:
    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        return False


class Bench:
    """A cache with nothing in it before an origin, and time in our hands."""

    def __init__(self, place: Path) -> None:
        self.clock = Hands()
        self.origin = Origin(self.clock)
        tier = TierSettings(entries=100, ttl=1e9, volume=10_000_000)
        tiers = Tiers(
            place / "run",
            place / "disk",
            levels=(tier, tier, tier),
            settings=CacheSettings(),
            encode=encode,
            decode=decode,
            clock=self.clock,
        )
        self.fetch = Cached(
            self.origin, tiers, stopping=Never(), changed=True, clock=self.clock
        )

    def date(self, seconds: float = 0) -> str:
        """An HTTP-date, so many seconds from now."""
        return formatdate(self.clock.wall_ms() / 1000 + seconds, usegmt=True)

    def dated(self, headers: Sequence[tuple[str, str | int]]) -> list[tuple[str, str]]:
        """Numbers are dates that far from now."""
        return [
            (name, self.date(value) if isinstance(value, int) else value)
            for name, value in headers
        ]

    def get(self, headers: Pairs = (), url: str = URL) -> Response:
        return self.fetch(Request("GET", url, tuple(headers)))

    @property
    def conditional(self) -> bool:
        return self.origin.asked[-1].conditional


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


AGED = [("Date", 0), ("Cache-Control", "max-age=3600")]


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        # Freshness.
        ([("Cache-Control", "max-age=2")], 3),
        ([("Cache-Control", "max-age=0")], 0),
        ([("Cache-Control", "max-age=-3600")], 0),
        ([*AGED, ("Age", "7200")], 0),
        ([("Expires", 3600), ("Cache-Control", "max-age=0"), ("Date", 0)], 0),
        ([("Expires", -2592000), ("Date", 0)], 0),
        ([("Expires", 0), ("Date", 0)], 0),
        ([("Expires", 300), ("Date", 400)], 0),
        ([("Expires", "0"), ("Date", 0)], 0),
        ([("Date", -10), ("Expires", 10), ("Age", "25")], 0),
        ([("Date", 10), ("Expires", 20), ("Age", "15")], 0),
        # What quotes hold is no directive, and other quotes are none.
        ([("Cache-Control", 'extension="max-age=3600", max-age=1')], 2),
        ([("Cache-Control", 'max-age=1, extension="max-age=3600"')], 2),
        ([("Cache-Control", "max-age='3600'")], 0),
        # Ages.
        ([*AGED, ("Age", "2147483647")], 0),
        ([*AGED, ("Age", "2147483648")], 0),
        ([*AGED, ("Age", "2147483649")], 0),
        ([*AGED, ("Age", "7200, 0")], 0),
        ([*AGED, ("Age", "7200"), ("Age", "0")], 0),
        # What is nearly a date.
        ([("Expires", "Thu, 18 Aug 2050 02:01:18 UTC"), ("Date", 0)], 0),
        ([("Expires", "Thu, 18 Aug 2050 02:01:18 AEST"), ("Date", 0)], 0),
        ([("Expires", "Thu, 18 Aug 50 02:01:18 GMT"), ("Date", 0)], 0),
        ([("Expires", "Thu 18 Aug 2050 02:01:18 GMT"), ("Date", 0)], 0),
        ([("Expires", "Thu, 18  Aug  2050 02:01:18 GMT"), ("Date", 0)], 0),
        ([("Expires", "Thu, 18-Aug-2050 02:01:18 GMT"), ("Date", 0)], 0),
        ([("Expires", "Thu, 18 Aug 2050 02.01.18 GMT"), ("Date", 0)], 0),
        ([("Expires", "Thu, 18 Aug 2050 2:01:18 GMT"), ("Date", 0)], 0),
        (
            [
                ("Expires", "Thu, 18 Aug 2050 02:01:18 GMT"),
                ("Expires", "Thu, 18 Aug 2050 02:01:19 GMT"),
            ],
            0,
        ),
        ([("Expires", "Thu, 18 Aug 2050 02:01:18 +0000"), ("Date", 0)], 0),
        ([("Expires", "Thu, 18 Aug 2050 02:01:18 Z"), ("Date", 0)], 0),
        ([("Expires", "2050-08-18T02:01:18Z"), ("Date", 0)], 0),
        ([("Expires", "2544321678"), ("Date", 0)], 0),
        ([("Expires", "Thu, 18 Aug 2050 02:01:18"), ("Date", 0)], 0),
        ([("Expires", "Thu, 18 Aug 2050 25:01:18 GMT"), ("Date", 0)], 0),
        ([("Expires", "Thu, 31 Feb 2050 02:01:18 GMT"), ("Date", 0)], 0),
        ([("Expires", "never"), ("Date", 0)], 0),
        ([("Expires", ""), ("Date", 0)], 0),
        # What must not be kept, or not used.
        ([("Cache-Control", "no-store")], 0),
        ([("Cache-Control", "No-StOrE")], 0),
        ([("Cache-Control", "max-age=10000, no-store"), ("Expires", 10000)], 0),
        ([("Cache-Control", "max-age=10000, no-cache"), ("Expires", 10000)], 0),
        ([("Cache-Control", "max-age=10000, No-CaChE"), ("Expires", 10000)], 0),
        ([("Cache-Control", 'max-age=10000, no-cache="Set-Cookie"')], 0),
        ([("Cache-Control", "max-age=3600, no-store, must-understand")], 0),
        # Nothing is guessed of a Last-Modified.
        ([("Last-Modified", -86400), ("Date", 0)], 0),
        # What no request header tells.
        *[
            ([("Cache-Control", "max-age=5000"), *vary], 0)
            for vary in (
                [("Vary", "*")],
                [("Vary", "*, *")],
                [("Vary", "*"), ("Vary", "*")],
                [("Vary", ", *")],
                [("Vary", ""), ("Vary", "*")],
                [("Vary", "*, Foo")],
                [("Vary", "Foo, *")],
            )
        ],
    ],
)
def test_what_is_not_used_again_without_asking(bench: Bench, headers, wait) -> None:
    bench.origin.headers = bench.dated(headers)
    bench.get()
    bench.clock.turn(wait)
    bench.origin.body = b"[2]"

    assert b"[2]" == bench.get().body


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ([("Cache-Control", "max-age=003600")], 3599),
        ([("Cache-Control", 'max-age="3600"')], 10),
        ([("Cache-Control", "private, max-age=3600")], 10),
        ([*AGED, ("Age", "0")], 10),
        ([("Expires", 30), ("Date", 0)], 10),
        ([("Expires", "Thursday, 18-Aug-50 02:01:18 GMT"), ("Date", 0)], 10),
        ([("Expires", "Thu Aug 18 02:01:18 2050"), ("Date", 0)], 10),
        ([("Expires", "Mon Aug  8 02:01:18 2050"), ("Date", 0)], 10),
        ([("Expires", "Sun, 21 Nov 2286 04:46:39 GMT"), ("Date", 0)], 10),
    ],
)
def test_what_is_used_again_and_says_how_old_it_is(bench: Bench, headers, wait) -> None:
    bench.origin.headers = bench.dated(headers)
    bench.get()
    bench.clock.turn(wait)

    found = bench.get()

    assert 1 == len(bench.origin.asked)
    assert "fresh" == found.origin
    assert str(wait) == found.header("age")


@pytest.mark.parametrize(
    ("headers", "age"),
    [
        ([("Cache-Control", "max-age=100000"), ("Date", 0)], "3"),
        ([("Expires", 2592000), ("Date", 0), ("Age", "30")], "33"),
        ([("Cache-Control", "max-age=100000"), ("Date", 0), ("Age", "30")], "33"),
    ],
)
def test_an_age_grows_and_a_date_stays(bench: Bench, headers, age) -> None:
    bench.origin.headers = bench.dated(headers)
    date = dict(bench.origin.headers)["Date"]
    bench.get()
    bench.clock.turn(3)
    found = bench.get()

    assert (age, date) == (found.header("age"), found.header("date"))


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_a_date_without_a_zone_is_utc_wherever_we_are(
    bench: Bench, zone, monkeypatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        soon = bench.date(30)
        day, month, year, clock = (soon.split()[n] for n in (1, 2, 3, 4))
        text = f"{soon[:3]} {month} {int(day):2} {clock} {year}"
        bench.origin.headers = [("Expires", text), ("Date", bench.date())]
        bench.get()
        bench.clock.turn(20)
        assert "fresh" == bench.get().origin
        bench.clock.turn(11)
        assert "network" == bench.get().origin
    finally:
        monkeypatch.undo()
        time.tzset()


STATUSES = [201, 202, 203, 204, 206, 299, 301, 302, 303, 307, 308, 400, 403, 404]
STATUSES += [410, 499, 500, 502, 503, 504, 599]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    "headers",
    [
        [("Expires", -5000), ("Last-Modified", -100000), ("Date", 0)],
        [("Last-Modified", -86400), ("Date", 0)],
        # Stricter than it must be: an error is never served for an answer.
        [("Cache-Control", "max-age=3600"), ("Date", 0)],
    ],
)
def test_only_a_whole_page_is_kept(bench: Bench, status, headers) -> None:
    bench.origin.status, bench.origin.headers = status, bench.dated(headers)
    bench.get()
    bench.get()

    assert 2 == len(bench.origin.asked)
    assert not bench.conditional


@pytest.mark.parametrize(
    ("vary", "first", "second"),
    [
        ("Foo", [("Foo", "1")], [("Foo", "2")]),
        ("Foo", [], [("Foo", "1")]),
        ("Foo", [("Foo", "1")], []),
        ("Foo, Bar", [("Foo", "1"), ("Bar", "a")], [("Foo", "2"), ("Bar", "a")]),
        ("Foo, Bar", [("Foo", "1"), ("Bar", "a")], []),
        (
            "Foo, Bar, Baz",
            [("Foo", "1"), ("Bar", "a"), ("Baz", "7")],
            [("Foo", "2"), ("Bar", "a"), ("Baz", "7")],
        ),
        (
            "Foo, Bar, Baz",
            [("Foo", "1"), ("Bar", "a"), ("Baz", "7")],
            [("Foo", "1"), ("Baz", "7"), ("Bar", "ab")],
        ),
    ],
)
def test_other_headers_have_another_answer(bench: Bench, vary, first, second) -> None:
    bench.origin.headers = bench.dated(
        [("Cache-Control", "max-age=5000"), ("Date", 0), ("Vary", vary)]
    )
    bench.get(first)
    bench.origin.body = b"[2]"

    assert b"[2]" == bench.get(second).body
    assert [b"[1]", b"[2]"] == [bench.get(first).body, bench.get(second).body]
    assert 2 == len(bench.origin.asked)


def test_another_query_is_another_url(bench: Bench) -> None:
    bench.origin.headers = [("Cache-Control", "max-age=5000")]
    bench.get(url=f"{URL}?test=a")
    bench.origin.body = b"[2]"

    assert b"[2]" == bench.get(url=f"{URL}?test=b").body


def test_a_condition_carries_what_vary_names(bench: Bench) -> None:
    bench.origin.headers = bench.dated(
        [("Expires", 1), ("ETag", '"abc"'), ("Date", 0), ("Vary", "Abc")]
    )
    bench.get([("Abc", "123")])
    bench.clock.turn(3)
    bench.get([("Abc", "123")])

    asked = dict(bench.origin.asked[1].headers)
    assert ("123", '"abc"') == (asked["Abc"], asked["If-None-Match"])


NOT_KEPT = ["Connection", "Keep-Alive", "Proxy-Authenticate"]
NOT_KEPT += ["Proxy-Authentication-Info", "Proxy-Authorization", "Proxy-Connection"]
NOT_KEPT += ["TE", "Transfer-Encoding", "Upgrade"]
KEPT = ["Test-Header", "X-Test-Header", "Content-Foo", "X-Content-Foo"]
KEPT += ["Content-Encoding", "Content-Length", "Content-Location", "Content-MD5"]
KEPT += ["Content-Range", "Content-Security-Policy", "Content-Type"]
KEPT += ["Clear-Site-Data", "Expires", "Public-Key-Pins", "X-Frame-Options"]
KEPT += ["X-XSS-Protection"]


@pytest.mark.parametrize("name", [*KEPT, *NOT_KEPT, "ETag", "Cache-Control"])
def test_which_headers_are_kept(bench: Bench, name) -> None:
    value = {"ETag": '"abc"', "Cache-Control": "max-age=5"}.get(name, "abc")
    bench.origin.headers = [("Cache-Control", "max-age=5000"), (name, value)]
    if name == "Cache-Control":
        del bench.origin.headers[0]
    bench.get()
    found = bench.get()

    assert "fresh" == found.origin
    assert (value if name not in NOT_KEPT else None) == found.header(name.lower())


def test_what_connection_names_is_not_kept(bench: Bench) -> None:
    bench.origin.headers = [
        ("Cache-Control", "max-age=5000"),
        ("Connection", "a, b"),
        ("A", "1"),
        ("B", "2"),
        ("C", "3"),
    ]
    bench.get()
    found = bench.get()

    assert (None, None, "3") == tuple(found.header(name) for name in "abc")


CHANGED = ["Test-Header", "X-Test-Header", "Content-Foo", "X-Content-Foo", "Expires"]
CHANGED += [
    "Cache-Control",
    "Content-Security-Policy",
    "Content-Type",
    "X-Frame-Options",
]
#: They speak of the body, which a 304 does not bring: RFC 9111 3.2.
UNCHANGED = ["Content-Length", "Content-Encoding", "Content-Range", "Content-MD5"]


@pytest.mark.parametrize("name", [*CHANGED, *UNCHANGED])
@pytest.mark.parametrize(
    "validator",
    [("ETag", '"abc"'), ("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT")],
)
def test_which_headers_a_304_brings(bench: Bench, name, validator) -> None:
    before, after = ("max-age=1", "max-age=3600") if "Cache" in name else ("a", "b")
    lifetime = [] if "Cache" in name else [("Cache-Control", "max-age=1")]
    bench.origin.headers = [*lifetime, validator, (name, before), ("Kept", "1")]
    bench.get()
    bench.clock.turn(2)
    bench.origin.status = 304
    bench.origin.headers = [validator, (name, after)]

    found = bench.get()

    assert bench.conditional
    assert (200, b"[1]", "revalidated") == (found.status, found.body, found.origin)
    assert "1" == found.header("kept")
    assert (after if name in CHANGED else before) == found.header(name.lower())


@pytest.mark.parametrize(
    "control",
    ["max-age=2, must-revalidate", "max-age=2, proxy-revalidate", "max-age=2, no-cache"]
    + ["max-age=2, s-maxage=2", "max-age=2"]
    + ["max-age=2, must-revalidate, stale-if-error=3600"],
)
def test_nothing_stale_stands_in_unless_the_answer_allows_it(
    bench: Bench, control
) -> None:
    bench.origin.headers = [("Cache-Control", control)]
    bench.get()
    bench.clock.turn(3)
    bench.origin.gone = True

    with pytest.raises(SourceError):
        bench.get()


def test_must_revalidate_is_validated_once_stale(bench: Bench) -> None:
    control = ("Cache-Control", "max-age=2, must-revalidate")
    bench.origin.headers = [control, ("ETag", '"abcd"')]
    bench.get()
    assert "fresh" == bench.get().origin
    bench.clock.turn(3)
    bench.origin.status = 304

    assert "revalidated" == bench.get().origin


def test_nothing_is_used_beyond_its_stale_while_revalidate(bench: Bench) -> None:
    control = ("Cache-Control", "max-age=1, stale-while-revalidate=4")
    bench.origin.headers = [control, ("ETag", '"abc"')]
    bench.get()
    bench.clock.turn(6)
    bench.origin.body = b"[2]"
    bench.origin.headers = [control, ("ETag", '"def"')]

    assert b"[2]" == bench.get().body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "M-SEARCH", "PATCH"])
@pytest.mark.parametrize("where", ["", "location", "content-location"])
def test_a_change_makes_what_is_kept_wrong(bench: Bench, method, where) -> None:
    target = f"{URL}/1" if where else URL
    bench.origin.headers = bench.dated([("Cache-Control", "max-age=9999"), ("Date", 0)])
    bench.get(url=target)
    bench.clock.turn(1)
    bench.origin.headers = [(where, "/items/1")] if where else []
    bench.fetch(Request(method, URL, body=b"abc"))
    bench.clock.turn(1)
    bench.origin.body = b"[2]"

    assert b"[2]" == bench.get(url=target).body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "M-SEARCH"])
def test_a_failed_change_changes_nothing(bench: Bench, method) -> None:
    bench.origin.headers = [("Cache-Control", "max-age=9999")]
    bench.get()
    bench.clock.turn(1)
    bench.origin.status = 500
    bench.fetch(Request(method, URL, body=b"abc"))
    bench.clock.turn(1)

    assert "fresh" == bench.get().origin


@pytest.mark.parametrize("name", ["Range", "If-None-Match", "If-Modified-Since"])
def test_a_request_for_less_than_a_page_passes_by(bench: Bench, name) -> None:
    bench.origin.headers = [("Cache-Control", "max-age=9999")]
    bench.get()
    bench.origin.status, bench.origin.body = 206, b"["
    bench.get([(name, "bytes=0-0")])
    bench.origin.status, bench.origin.body = 200, b"[2]"

    assert b"[1]" == bench.get().body
    assert 2 == len(bench.origin.asked)
