from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.errors import BadPage, Unexpected, Unreachable
from engine.records import Request, Response
from engine.shared.cache.settings import CacheSettings, TierSettings
from engine.shared.cache.tiers import Tiers
from engine.source.fetch.cache import Cached
from engine.source.fetch.freshness import decode, encode
from tests.fakes.hands import Hands

URL = "https://api.example.com/items"


class Api:
    """An API that counts what it is asked."""

    def __init__(self, clock: Hands) -> None:
        self.clock = clock
        self.asked: list[Request] = []
        self.body = b"[1]"
        self.status = 200
        self.headers: list[tuple[str, str]] = []
        self.failure: Exception | None = None
        self.etag: str | None = None
        self.takes = 0.0
        self.hook: Callable[[], None] = lambda: None

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        sent_at = self.clock.monotonic()
        self.hook()
        self.clock.turn(self.takes)
        if self.failure is not None:
            raise self.failure
        headers = list(self.headers)
        status, body = self.status, self.body
        if self.etag is not None:
            headers.append(("etag", self.etag))
            if dict(request.headers).get("If-None-Match") == self.etag:
                status, body = 304, b""
        return Response(
            request=request,
            url=request.url,
            status=status,
            headers=headers,
            body=body,
            sent_at=sent_at,
            received_ms=self.clock.wall_ms(),
            wire_bytes=len(body),
        )


class Stop:
    def __init__(self, clock: Hands) -> None:
        self.clock = clock
        self.stopped = False

    def is_set(self) -> bool:
        return self.stopped

    def wait(self, seconds: float) -> bool:
        self.clock.turn(seconds)
        time.sleep(0.001)
        return self.stopped


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def api(clock) -> Api:
    return Api(clock)


def tiers_at(path: Path, clock: Hands) -> Tiers:
    tier = TierSettings(entries=100, ttl=1e6, volume=10_000_000)
    return Tiers(
        path / "run",
        path / "disk",
        levels=(tier, tier, tier),
        settings=CacheSettings(),
        encode=encode,
        decode=decode,
        clock=clock,
    )


def cached(path: Path, api: Api, **more) -> Cached:
    more.setdefault("tiers", tiers_at(path, api.clock))
    more.setdefault("stopping", Stop(api.clock))
    return Cached(api, more.pop("tiers"), clock=api.clock, **more)


def get(**headers: str) -> Request:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Request("GET", URL, pairs)


def test_a_fresh_answer_is_not_asked_for_again(tmp_path, api, clock) -> None:
    api.headers = [("cache-control", "max-age=60")]
    fetch = cached(tmp_path, api)
    first = fetch(get())
    clock.turn(30)

    again = fetch(get())

    assert 1 == len(api.asked)
    assert ("network", "fresh") == (first.origin, again.origin)
    assert (first.body, 200, 0, 0) == (
        again.body,
        again.status,
        again.tries,
        again.wire_bytes,
    )
    assert "30" == again.header("age")
    # Whoever asks now has it now, as if the API had sent it.
    assert first.received_ms + 30_000 == again.received_ms
    clock.turn(31)
    fetch(get())
    assert 2 == len(api.asked)


def test_a_304_costs_no_body(tmp_path, api) -> None:
    api.etag = '"v1"'
    fetch = cached(tmp_path, api)
    fetch(get())

    again = fetch(get())

    assert '"v1"' == dict(api.asked[1].headers)["If-None-Match"]
    assert ("revalidated", b"[1]", 200) == (again.origin, again.body, again.status)
    assert get() == again.request
    api.etag, api.body = '"v2"', b"[2]"
    changed = fetch(get())
    assert (b"[2]", "network") == (changed.body, changed.origin)
    assert (b"[2]", "revalidated") == (fetch(get()).body, fetch(get()).origin)


def test_a_304_makes_it_fresh_again(tmp_path, api, clock) -> None:
    api.etag = '"v1"'
    api.headers = [("cache-control", "max-age=10")]
    fetch = cached(tmp_path, api)
    fetch(get())
    clock.turn(11)
    assert "revalidated" == fetch(get()).origin
    clock.turn(9)

    assert "fresh" == fetch(get()).origin
    assert 2 == len(api.asked)


def test_last_modified_is_a_condition_too(tmp_path, api) -> None:
    api.headers = [("last-modified", "Mon, 16 Nov 2020 16:52:31 GMT")]
    fetch = cached(tmp_path, api)
    fetch(get())
    fetch(get())

    found = dict(api.asked[1].headers)

    assert "Mon, 16 Nov 2020 16:52:31 GMT" == found["If-Modified-Since"]


def test_what_states_nothing_is_asked_for_each_time_unless_told(
    tmp_path, api, clock
) -> None:
    plain = cached(tmp_path / "a", api)
    told = cached(tmp_path / "b", api, ttl=5.0)
    for fetch, asked in ((plain, 5), (told, 1)):
        api.asked.clear()
        for _ in range(5):
            fetch(get())
            clock.turn(0.9)
        assert asked == len(api.asked)
    clock.turn(1)
    told(get())
    assert 2 == len(api.asked)


def test_pages_of_a_chain_are_never_kept(tmp_path, api) -> None:
    api.headers = [("cache-control", "max-age=60")]
    fetch = cached(tmp_path, api)
    chained = Request("GET", URL, chained=True)
    fetch(chained)
    fetch(chained)
    fetch(get())

    assert 3 == len(api.asked)
    once = cached(tmp_path, api, repeatable=False)
    once(get())
    assert 4 == len(api.asked)


def test_credentials_do_not_share(tmp_path, api) -> None:
    api.headers = [("cache-control", "max-age=60, private")]
    mine = cached(tmp_path, api, credential="me")
    yours = cached(tmp_path, api, credential="you")
    mine(get())
    yours(get())
    mine(get(X_Api_Key="one"))
    mine(get(X_Api_Key="two"))
    mine(get(Authorization="Bearer x"))

    assert 5 == len(api.asked)
    for request in (get(), get(X_Api_Key="two"), get(Authorization="Bearer x")):
        mine(request)
    assert 5 == len(api.asked)
    raw = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"Bearer x" not in raw


def test_vary_keeps_the_variants_apart(tmp_path, api) -> None:
    api.headers = [("cache-control", "max-age=60"), ("vary", "Accept, X-Other")]
    fetch = cached(tmp_path, api)
    bodies = {}
    for accept in ("a", "b", "c"):
        api.body = accept.encode()
        bodies[accept] = fetch(get(Accept=accept)).body

    assert bodies == {a: fetch(get(Accept=a)).body for a in "abc"}
    assert 3 == len(api.asked)
    fetch(get(Accept="a", X_Other="1"))
    fetch(get())
    assert 5 == len(api.asked)
    other = cached(tmp_path, api)
    assert b"b" == other(get(Accept="b")).body
    assert 5 == len(api.asked)


def test_no_store_forgets_what_was_kept_before(tmp_path, api, clock) -> None:
    api.headers = [("cache-control", "max-age=1")]
    fetch = cached(tmp_path, api)
    fetch(get())
    clock.turn(2)
    api.headers = [("cache-control", "no-store")]
    fetch(get())

    assert fetch._tiers.find(fetch.key(get())) is None


@pytest.mark.parametrize("name", ["Range", "If-None-Match", "If-Modified-Since"])
def test_a_callers_own_condition_passes_by(tmp_path, api, name) -> None:
    api.headers = [("cache-control", "max-age=60")]
    fetch = cached(tmp_path, api)
    fetch(get())
    request = Request("GET", URL, ((name, "x"),))
    fetch(request)

    assert 2 == len(api.asked)
    assert request == api.asked[1]


def test_a_post_is_not_kept_and_makes_the_get_wrong(tmp_path, api, clock) -> None:
    api.headers = [("cache-control", "max-age=60")]
    fetch = cached(tmp_path, api, changed=True)
    fetch(get(X_Tenant="a"))
    clock.turn(1)
    for _ in range(2):
        fetch(Request("POST", URL, body=b"{}"))
    clock.turn(1)
    for _ in range(2):
        # Whoever asks, with whatever headers, asks anew; then it is kept again.
        fetch(get(X_Tenant="a"))

    assert ["GET", "POST", "POST", "GET"] == [each.method for each in api.asked]


def test_failures_pass_and_are_not_kept(tmp_path, api) -> None:
    fetch = cached(tmp_path, api)
    for failure in (
        Unreachable("no"),
        Unexpected("404", status=404),
        BadPage("half a page"),
    ):
        api.failure = failure
        with pytest.raises(type(failure)):
            fetch(get())

    assert fetch._tiers.find(fetch.key(get())) is None


@pytest.mark.parametrize(
    ("control", "failure", "stands_in"),
    [
        ("max-age=1, stale-if-error=60", Unreachable("no"), True),
        ("max-age=1, stale-if-error=60", Unreachable("503", status=503), True),
        ("max-age=1, stale-if-error=60", Unexpected("404", status=404), False),
        ("max-age=1, stale-if-error=60, must-revalidate", Unreachable("no"), False),
        ("max-age=1", Unreachable("no"), False),
    ],
)
def test_a_stale_answer_stands_in_where_it_may(
    tmp_path, api, clock, control, failure, stands_in
) -> None:
    api.headers = [("cache-control", control)]
    fetch = cached(tmp_path, api)
    fetch(get())
    clock.turn(5)
    api.failure = failure

    if stands_in:
        assert b"[1]" == fetch(get()).body
        assert 1 == fetch._tiers.lookups["1", "stale"]
    else:
        with pytest.raises(type(failure)):
            fetch(get())


def test_a_stale_answer_is_used_while_it_is_asked_for(tmp_path, api, clock) -> None:
    api.headers = [("cache-control", "max-age=1, stale-while-revalidate=60")]
    fetch = cached(tmp_path, api)
    fetch(get())
    clock.turn(5)
    api.body = b"[2]"
    done = threading.Event()
    api.hook = done.set

    assert b"[1]" == fetch(get()).body
    assert done.wait(5)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if fetch(get()).body == b"[2]":
            break
        time.sleep(0.01)
    assert b"[2]" == fetch(get()).body
    assert 2 == len(api.asked)


def test_the_time_an_answer_took_counts_as_age(tmp_path, api, clock) -> None:
    api.headers = [("cache-control", "max-age=10")]
    api.takes = 8.0
    fetch = cached(tmp_path, api)
    fetch(get())
    clock.turn(3)
    fetch(get())

    assert 2 == len(api.asked)


def test_another_process_asks_once_and_all_have_it(tmp_path, api) -> None:
    api.headers = [("cache-control", "max-age=60")]
    leader, follower = cached(tmp_path, api), cached(tmp_path, api)
    answers = []
    entered = threading.Event()
    leave = threading.Event()

    def hook() -> None:
        entered.set()
        assert leave.wait(5)

    api.hook = hook
    one = threading.Thread(target=lambda: answers.append(leader(get())))
    one.start()
    assert entered.wait(5)
    two = threading.Thread(target=lambda: answers.append(follower(get())))
    two.start()
    time.sleep(0.1)
    leave.set()
    one.join(5)
    two.join(5)

    assert 1 == len(api.asked)
    assert {"network", "fresh"} == {answer.origin for answer in answers}


def test_an_answer_that_came_while_waiting_needs_no_second_question(
    tmp_path, api
) -> None:
    """Even one that must be asked for at every use: it is newer than the asking."""
    api.etag = '"v1"'
    leader, follower = cached(tmp_path, api), cached(tmp_path, api)
    leader(get())
    entered, leave = threading.Event(), threading.Event()

    def hook() -> None:
        entered.set()
        assert leave.wait(5)

    api.hook = hook
    answers = []
    threads = [
        threading.Thread(target=lambda fetch=fetch: answers.append(fetch(get())))
        for fetch in (leader, follower)
    ]
    threads[0].start()
    assert entered.wait(5)
    threads[1].start()
    time.sleep(0.1)
    leave.set()
    for thread in threads:
        thread.join(5)

    assert 2 == len(api.asked)
    assert 2 == len(answers)


def test_nobody_waits_for_ever(tmp_path, api) -> None:
    api.headers = [("cache-control", "max-age=60")]
    fetch = cached(tmp_path, api, patience=1.0)
    other = tiers_at(tmp_path, api.clock)
    flight = other.lead(fetch.key(get()))

    began = api.clock.monotonic()
    assert b"[1]" == fetch(get()).body

    assert 1.0 <= api.clock.monotonic() - began < 1.2
    flight.land()


def test_nobody_waits_twice_for_what_is_not_kept(tmp_path, api) -> None:
    fetch = cached(tmp_path, api)
    fetch(get())
    flight = tiers_at(tmp_path, api.clock).lead(fetch.key(get()))

    began = api.clock.monotonic()
    fetch(get())

    assert began == api.clock.monotonic()
    flight.land()


def test_lookups_are_counted_by_level_and_result(tmp_path, api, clock) -> None:
    api.headers = [("cache-control", "max-age=60")]
    api.etag = '"v1"'
    fetch = cached(tmp_path, api)
    fetch(get())
    fetch(get())
    other = cached(tmp_path, api)
    other(get())
    clock.turn(61)
    other(get())

    assert {("none", "first"): 1, ("1", "hit"): 1} == fetch._tiers.lookups
    assert {("2", "hit"): 1, ("1", "revalidated"): 1} == other._tiers.lookups


def test_only_if_cached_never_asks(tmp_path, api) -> None:
    fetch = cached(tmp_path, api)

    assert 504 == fetch(get(Cache_Control="only-if-cached")).status
    assert [] == api.asked


def test_a_broken_cache_changes_no_answer(tmp_path, api) -> None:
    (tmp_path / "run").write_text("")
    (tmp_path / "disk").write_text("")
    api.headers = [("cache-control", "max-age=60")]
    fetch = cached(tmp_path, api)
    bodies = []
    for n in range(5):
        api.body = b"[%d]" % n
        bodies.append(fetch(Request("GET", f"{URL}?p={n}")).body)

    assert [b"[%d]" % n for n in range(5)] == bodies


def test_a_body_that_is_mapped_is_not_kept(tmp_path, api) -> None:
    api.headers = [("cache-control", "max-age=60")]
    api.body = memoryview(b"[1]")
    fetch = cached(tmp_path, api)
    fetch(get())
    fetch(get())

    assert 2 == len(api.asked)


@pytest.mark.parametrize("status", [400, 403, 404, 406, 412, 413, 417, 428, 431, 494])
def test_a_condition_that_is_refused_is_left_out_once(tmp_path, api, status) -> None:
    api.etag = '"v1"'
    fetch = cached(tmp_path, api)
    fetch(get())

    def refuse() -> None:
        conditional = "If-None-Match" in dict(api.asked[-1].headers)
        api.failure = Unexpected("no", status=status) if conditional else None

    api.hook = refuse

    again = fetch(get())

    assert (b"[1]", "network") == (again.body, again.origin)
    assert [False, True, False] == [
        "If-None-Match" in dict(request.headers) for request in api.asked
    ]


def test_what_is_refused_without_condition_too_is_asked_twice_at_most(
    tmp_path, api
) -> None:
    api.etag = '"v1"'
    fetch = cached(tmp_path, api)
    fetch(get())
    api.asked.clear()
    api.failure = Unexpected("gone", status=404)

    with pytest.raises(Unexpected):
        fetch(get())

    assert 2 == len(api.asked)
    api.asked.clear()
    with pytest.raises(Unexpected):
        fetch(get())
    assert 1 == len(api.asked)


def test_a_wait_is_no_refusal_of_the_condition(tmp_path, api) -> None:
    api.etag = '"v1"'
    fetch = cached(tmp_path, api)
    fetch(get())
    api.asked.clear()
    api.failure = Unexpected("later", status=429)

    with pytest.raises(Unexpected):
        fetch(get())

    assert 1 == len(api.asked)


@pytest.mark.parametrize(
    ("name", "value", "sent"),
    [
        ("etag", '"' + "x" * 8_190 + '"', True),
        ("etag", '"' + "x" * 8_191 + '"', False),
        ("etag", '"' + "x" * 60_000 + '"', False),
        ("etag", '"\u2603"', False),
        ("last-modified", "x" * 8_193, False),
        ("last-modified", "Mon, 16 Nov 2020 16:52:31 GMT", True),
    ],
)
def test_a_validator_that_no_request_can_carry_is_not_kept(
    tmp_path, api, name, value, sent
) -> None:
    api.headers = [(name, value), ("cache-control", "max-age=0")]
    fetch = cached(tmp_path, api)
    fetch(get())
    fetch(get())

    found = dict(api.asked[1].headers)

    assert sent == ("If-None-Match" in found or "If-Modified-Since" in found)


# -- whose answer it is --------------------------------------------------------


def redirected(api: Api, target: str) -> Callable[[Request], Response]:
    """What `source.wire.http1` brings where the API leads elsewhere."""

    def fetch(request: Request) -> Response:
        return replace(api(request), hops=1, url=target)

    return fetch


@pytest.mark.parametrize(
    "headers",
    [
        [("cache-control", "max-age=31536000, immutable")],
        [("etag", '"v1"')],
        [("last-modified", "Mon, 16 Nov 2020 16:52:31 GMT")],
    ],
)
def test_what_a_redirect_led_to_is_not_kept_for_who_asked(
    tmp_path, api, headers
) -> None:
    api.headers = headers
    fetch = cached(tmp_path, api)
    fetch._inner = redirected(api, "https://api.example.com/files/v1")
    fetch(get())
    api.body = b"[2]"

    assert b"[2]" == fetch(get()).body
    assert api.asked[0].headers == api.asked[1].headers


OTHERS = [
    "X-Session",
    "X-Tenant",
    "X-User",
    "Authentication",
    "X-Forwarded-User",
    "X-Account-Id",
    "From",
    "X-Org",
    "Accept",
    "Accept-Language",
    "Prefer",
    "Cookie",
    "traceparent",
]


@pytest.mark.parametrize("name", OTHERS)
def test_every_header_tells_answers_apart(tmp_path, api, name) -> None:
    api.headers = [("cache-control", "max-age=60")]
    fetch = cached(tmp_path, api)
    pairs = ((name, "alice"),), ((name, "bob"),), ()
    requests = [Request("GET", URL, headers) for headers in pairs]
    for number, request in enumerate(requests):
        api.body = b"[%d]" % number
        fetch(request)

    assert [b"[0]", b"[1]", b"[2]"] == [fetch(each).body for each in requests]
    raw = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"alice" not in raw


def test_a_body_and_the_order_of_parameters_tell_answers_apart(tmp_path, api) -> None:
    fetch = cached(tmp_path, api)
    requests = [
        Request("GET", URL),
        Request("GET", URL, body=b"{}"),
        Request("GET", f"{URL}?a=1&b=2"),
        Request("GET", f"{URL}?b=2&a=1"),
        Request("GET", URL, (("a", "b"), ("c", "d"))),
        Request("GET", URL, (("a", "b\0c"), ("d", ""))),
    ]

    assert len(requests) == len({fetch.key(each) for each in requests})
    # What is no part of it: the case of a name, the order of headers, the page.
    assert fetch.key(Request("GET", URL, (("A", "b"), ("C", "d")))) == fetch.key(
        Request("GET", URL, (("c", "d"), ("a", "b")), page=7)
    )


def test_another_installation_has_other_keys(tmp_path, api) -> None:
    one, other = (cached(tmp_path / name, api) for name in "ab")

    assert one.key(get()) != other.key(get())
    (tmp_path / "a" / "disk" / "secret").unlink()
    assert one.key(get()) != cached(tmp_path / "a", api).key(get())


# -- what a 304 says -----------------------------------------------------------

OLD = "Mon, 16 Nov 2020 16:52:31 GMT"
NEWER = "Tue, 17 Nov 2020 16:52:31 GMT"


@pytest.mark.parametrize(
    ("kept", "said", "confirmed"),
    [
        ([("etag", '"a"')], [("etag", '"a"')], True),
        ([("etag", '"a"')], [], True),
        ([("etag", '"a"')], [("etag", '"b"')], False),
        ([("etag", '"a"')], [("etag", 'W/"a"')], True),
        ([("etag", 'W/"a"')], [("etag", '"a"')], True),
        ([("etag", 'W/"a"')], [("etag", 'W/"b"')], False),
        ([("etag", '"a"')], [("etag", "*")], True),
        ([("etag", '"a"'), ("last-modified", OLD)], [("last-modified", NEWER)], False),
        ([("last-modified", OLD)], [("last-modified", OLD)], True),
        ([("last-modified", OLD)], [("last-modified", NEWER)], False),
        ([("last-modified", OLD)], [("etag", '"b"')], False),
        ([("last-modified", OLD)], [], True),
    ],
)
def test_a_304_counts_for_the_answer_that_was_asked_about(
    tmp_path, api, kept, said, confirmed
) -> None:
    api.headers = kept
    fetch = cached(tmp_path, api)
    fetch(get())
    api.body = b"[2]"

    def answer(request: Request) -> Response:
        conditional = "If-None-Match" in dict(request.headers) or (
            "If-Modified-Since" in dict(request.headers)
        )
        api.status, api.headers = (304, said) if conditional else (200, kept)
        return api(request)

    fetch._inner = answer
    found = fetch(get())

    assert ((b"[1]", "revalidated") if confirmed else (b"[2]", "network")) == (
        found.body,
        found.origin,
    )
    assert 200 == found.status


@pytest.mark.parametrize(
    "said",
    [
        [("cache-control", "no-store")],
        [("vary", "*")],
        [("cache-control", "no-cache")],
        [("cache-control", "max-age=0")],
    ],
)
def test_what_a_304_says_of_keeping_counts_from_then_on(
    tmp_path, api, clock, said
) -> None:
    api.headers = [("cache-control", "max-age=60")]
    api.etag = '"v1"'
    fetch = cached(tmp_path, api)
    fetch(get())
    clock.turn(61)
    api.headers = said
    assert "revalidated" == fetch(get()).origin
    api.etag, api.body, api.headers = None, b"[2]", []

    assert b"[2]" == fetch(get()).body
    kept_on = said[0][1] in ("no-cache", "max-age=0")
    assert kept_on is ("If-None-Match" in dict(api.asked[-1].headers))


@pytest.mark.parametrize(
    ("headers", "condition"),
    [
        ([("etag", '"a"')], {"If-None-Match": '"a"'}),
        ([("etag", 'W/"a"')], {"If-None-Match": 'W/"a"'}),
        ([("etag", '""')], {"If-None-Match": '""'}),
        ([("etag", '"a"'), ("last-modified", OLD)], {"If-None-Match": '"a"'}),
        ([("last-modified", OLD)], {"If-Modified-Since": OLD}),
        ([("last-modified", OLD), ("date", OLD)], {}),
        ([("last-modified", OLD), ("date", "Mon, 16 Nov 2020 16:53:30 GMT")], {}),
        (
            [("last-modified", OLD), ("date", "Mon, 16 Nov 2020 16:53:31 GMT")],
            {"If-Modified-Since": OLD},
        ),
        ([("last-modified", NEWER), ("date", OLD)], {}),
        ([("last-modified", "yesterday")], {}),
        ([("etag", "*")], {}),
        ([("etag", "abc")], {}),
        ([("etag", '"a')], {}),
        ([("etag", 'w/"a"')], {}),
        ([("etag", '"a", "b"')], {}),
        ([("etag", '"a"'), ("etag", '"b"')], {}),
        ([("etag", '"a b"')], {}),
        ([("etag", "*"), ("last-modified", OLD)], {"If-Modified-Since": OLD}),
    ],
)
def test_one_strong_validator_is_asked_with_or_none(
    tmp_path, api, headers, condition
) -> None:
    api.headers = [("cache-control", "max-age=0"), *headers]
    fetch = cached(tmp_path, api)
    fetch(get())
    fetch(get())

    assert condition == dict(api.asked[1].headers)
    assert bool(condition) is api.asked[1].conditional


def test_a_stale_answer_is_used_only_by_the_process_that_will_ask(
    tmp_path, api, clock
) -> None:
    api.headers = [("cache-control", "max-age=0, stale-while-revalidate=86400")]
    api.etag = '"1"'
    bodies = []
    for version in range(5):
        # A process each, as `run --once` is.
        api.body, api.etag = b"[%d]" % version, f'"{version}"'
        bodies.append(cached(tmp_path, api)(get()).body)
        clock.turn(2)

    assert [b"[%d]" % version for version in range(5)] == bodies


def test_only_what_was_kept_and_is_gone_is_a_miss(tmp_path, api, clock) -> None:
    fetch = cached(tmp_path, api)
    fetch(get())
    api.headers = [("cache-control", "max-age=1")]
    fetch(get(Accept="a"))
    clock.turn(2)
    api.body = b"[2]"
    fetch(get(Accept="a"))
    key = fetch.key(get(Accept="a"))
    fetch._tiers.drop(key)
    fetch(get(Accept="a"))

    assert {
        ("none", "uncacheable"): 1,
        ("none", "first"): 1,
        ("none", "news"): 1,
        ("none", "miss"): 1,
    } == fetch._tiers.lookups
    assert (1, 0.0) == fetch._tiers.ratio.read()
