"""The layers of a fetch: retries, breaker, limiter, endpoints."""

from __future__ import annotations

import math
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import (
    BadPage,
    Denied,
    Forbidden,
    SourceError,
    Throttled,
    Unexpected,
    Unreachable,
)
from engine.records import Request, Response
from engine.shared.breaker import CircuitBreaker
from engine.source.fetch.balance import Balanced, Endpoints
from engine.source.fetch.breaker import Guarded
from engine.source.fetch.limit import Limited, RateGate
from engine.source.fetch.policy import LEAST, RetryPolicy, judge, pause
from engine.source.fetch.retry import Retrying
from engine.source.fetch.waits import Waits
from engine.source.wire.pool import HttpCounters
from tests.fakes.clock import HandClock
from tests.fakes.misbehaving import Misbehaving, Peer, Say
from tests.source.clients import Client, Stopping

URL = "https://api.example/v1/items?page=1"
WALL = 1_700_000_000_000
DATE = formatdate(WALL / 1000, usegmt=True)


def answer(
    status: int = 200,
    headers: tuple[tuple[str, str], ...] = (),
    request: Request | None = None,
    body: bytes = b"{}",
) -> Response:
    request = request or Request("GET", URL)
    return Response(
        request=request,
        url=request.url,
        status=status,
        headers=list(headers),
        body=body,
        sent_at=0.0,
        received_ms=WALL,
    )


class Script:
    """A fetch that answers from a list; the last entry stays."""

    def __init__(self, *entries: Response | SourceError | int):
        self.entries = entries
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Response:
        index = min(len(self.asked), len(self.entries) - 1)
        self.asked.append(request)
        entry = self.entries[index]
        if isinstance(entry, SourceError):
            raise entry
        return answer(entry, request=request) if isinstance(entry, int) else entry


def retrying(script: Script, **options: Any) -> tuple[Retrying, Stopping, HttpCounters]:
    stopping, counters = Stopping(), HttpCounters()
    layer = {
        key: options.pop(key)
        for key in ("decode", "refresh", "allow")
        if key in options
    }
    return (
        Retrying(
            script,
            RetryPolicy(**options),
            stopping=stopping,
            counters=counters,
            draw=lambda low, high: high,
            **layer,
        ),
        stopping,
        counters,
    )


# -- what a status means ------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "means"),
    [
        *((status, None) for status in (200, 201, 202, 203, 207, 204, 205)),
        *((status, Unreachable) for status in (408, 425, 500, 502, 504)),
        *((status, Throttled) for status in (429, 503)),
        *((status, Denied) for status in (401, 403)),
        *((status, Unexpected) for status in (206, 300, 302, 304, 400, 404, 405, 410,
                                              418, 422, 501, 505, 999)),
    ],
)  # fmt: skip
def test_what_a_status_means(status: int, means: type[SourceError] | None) -> None:
    failure = judge(answer(status), RetryPolicy())

    assert (None if failure is None else type(failure)) is means
    if failure is not None:
        assert status == failure.status


def test_429_and_503_are_retried_whatever_is_configured() -> None:
    policy = RetryPolicy(statuses=frozenset())

    assert isinstance(judge(answer(429), policy), Throttled)
    assert isinstance(judge(answer(503), policy), Throttled)
    assert isinstance(judge(answer(500), policy), Unexpected)


def test_a_304_is_for_who_asked_with_a_condition() -> None:
    asked = Request("GET", URL, (("If-None-Match", '"a"'),))

    assert judge(answer(304, request=asked), RetryPolicy()) is None


# -- retries -------------------------------------------------------------------


def test_a_page_after_failures_counts_its_tries() -> None:
    script = Script(500, Unreachable("reset"), 502, 200)
    fetch, stopping, counters = retrying(script)
    response = fetch(Request("GET", URL))

    assert (4, 3) == (response.tries, counters.retries)
    assert [1.0, 2.0, 4.0] == stopping.waits


def test_tries_are_one_more_than_retries() -> None:
    for retries in (0, 1, 5):
        script = Script(500)
        fetch, _, _ = retrying(script, max_retries=retries)
        with pytest.raises(Unreachable):
            fetch(Request("GET", URL))

        assert retries + 1 == len(script.asked)


def test_a_bad_page_is_asked_for_again_and_then_named() -> None:
    def decode(response: Response) -> str:
        if len(script.asked) < 3:
            raise BadPage("not JSON")
        return "pieces"

    script = Script(200)
    fetch, _, _ = retrying(script, decode=decode)
    assert "pieces" == fetch(Request("GET", URL)).decoded

    script = Script(200)
    fetch, _, _ = retrying(script, decode=decode, max_retries=1)
    with pytest.raises(BadPage):
        fetch(Request("GET", URL))


@pytest.mark.parametrize("failure", [Forbidden("too large"), 404, 403])
def test_what_is_permanent_is_not_tried_again(failure: Any) -> None:
    script = Script(failure)
    fetch, stopping, _ = retrying(script)
    with pytest.raises(SourceError):
        fetch(Request("GET", URL))

    assert (1, []) == (len(script.asked), stopping.waits)


@pytest.mark.parametrize(
    ("failure", "tries"),
    [
        (Unreachable("reset"), 1),
        (Unreachable("refused", sent=False), 3),
        (500, 1),
        (502, 1),
        (504, 1),
        (503, 3),
        (429, 3),
    ],
)
def test_what_must_not_run_twice(failure: Any, tries: int) -> None:
    script = Script(failure)
    fetch, _, _ = retrying(script, idempotent=False, max_retries=2)
    with pytest.raises(SourceError):
        fetch(Request("POST", URL))

    assert tries == len(script.asked)


def test_stopping_ends_the_pause_and_the_tries() -> None:
    script = Script(500)
    fetch, stopping, _ = retrying(script)
    stopping.flag.set()
    with pytest.raises(Unreachable):
        fetch(Request("GET", URL))

    assert 1 == len(script.asked)


def test_an_open_breaker_ends_the_retries_of_others() -> None:
    script = Script(500)
    fetch, _, _ = retrying(script, allow=lambda host: len(script.asked) < 2)
    with pytest.raises(Unreachable):
        fetch(Request("GET", URL))

    assert 2 == len(script.asked)


def test_a_401_is_repeated_at_once_and_once_whatever_the_retries() -> None:
    script = Script(401, 200)
    fetch, stopping, _ = retrying(
        script, refresh=lambda refused, stale: True, max_retries=0
    )

    assert 200 == fetch(Request("GET", URL)).status
    assert [] == stopping.waits

    script = Script(401)
    fetch, _, _ = retrying(script, refresh=lambda refused, stale: True)
    with pytest.raises(Denied):
        fetch(Request("GET", URL))
    assert 2 == len(script.asked)

    script = Script(401)
    fetch, _, _ = retrying(script)
    with pytest.raises(Denied):
        fetch(Request("GET", URL))
    assert 1 == len(script.asked)


@given(
    tried=st.integers(1, 2000),
    backoff=st.floats(0.001, 3600),
    longest=st.floats(0.001, 3600),
    chance=st.floats(0, 1),
)
def test_the_jitter_is_full_and_bounded(
    tried: int, backoff: float, longest: float, chance: float
) -> None:
    policy = RetryPolicy(backoff=backoff, backoff_max=longest, max_retries=2000)
    waited = pause(
        Unreachable("x"), tried, policy, lambda low, high: low + (high - low) * chance
    )

    highest = min(longest, backoff * math.pow(2, min(tried - 1, 900)))
    assert waited is not None
    assert LEAST <= waited <= max(LEAST, highest)


def test_a_constant_pause_is_constant() -> None:
    script = Script(500)
    fetch, stopping, _ = retrying(script, exponential=False, backoff=3.0, max_retries=3)
    with pytest.raises(Unreachable):
        fetch(Request("GET", URL))

    assert [3.0, 3.0, 3.0] == stopping.waits


# -- breaker --------------------------------------------------------------------


def guarded(
    tmp_path: Path, script: Script, clock: HandClock
) -> tuple[Guarded, Waits, Stopping]:
    stopping = Stopping()
    breaker = CircuitBreaker([tmp_path], threshold=3, recovery=30.0, clock=clock)
    waits = Waits(clock)
    return Guarded(script, breaker, stopping=stopping, waits=waits), waits, stopping


def test_an_open_breaker_costs_no_request_and_one_probe_closes_it(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    script = Script(
        Unreachable("a"), Unreachable("b"), Unreachable("c", status=500), 200
    )
    fetch, waits, _ = guarded(tmp_path, script, clock)
    for _ in range(3):
        with pytest.raises(Unreachable):
            fetch(Request("GET", URL))
    clock.move(1)
    for _ in range(2):
        with pytest.raises(Unreachable, match="circuit"):
            fetch(Request("GET", URL))
    assert 3 == len(script.asked)
    clock.move(9)
    assert {"breaker": 9.0} == waits.read()

    clock.move(22)
    assert {"breaker": 29.0} == waits.read(), "no longer than it is open"
    assert 200 == fetch(Request("GET", URL)).status
    clock.move(1)
    assert 200 == fetch(Request("GET", URL)).status


@pytest.mark.parametrize(
    "failure",
    [
        Throttled("429", status=429),
        Unexpected("404", status=404),
        Denied("403", status=403),
        Unreachable("408", status=408),
        BadPage("not JSON", status=200),
        Forbidden("another origin"),
    ],
)
def test_only_no_answer_and_5xx_open_it(tmp_path: Path, failure: SourceError) -> None:
    clock = HandClock()
    script = Script(failure)
    fetch, _, _ = guarded(tmp_path, script, clock)
    for _ in range(6):
        clock.move(1)
        with pytest.raises(type(failure)):
            fetch(Request("GET", URL))

    assert 6 == len(script.asked)


def test_being_stopped_says_nothing_of_the_host(tmp_path: Path) -> None:
    clock = HandClock()
    script = Script(Unreachable("stopping"))
    fetch, _, stopping = guarded(tmp_path, script, clock)
    stopping.flag.set()
    for _ in range(6):
        clock.move(1)
        with pytest.raises(Unreachable, match="stopping"):
            fetch(Request("GET", URL))


# -- limiter --------------------------------------------------------------------


class Bucket:
    """A limiter that makes everybody wait in steps."""

    def __init__(self, *waits: float):
        self.waits = list(waits)
        self.calls: list[Any] = []
        self.left = 0.0

    def _next(self) -> float:
        return self.waits.pop(0) if self.waits else 0.0

    def reserve(self, host: str, api: str) -> float:
        self.calls.append(("reserve", host, api))
        return self._next()

    def recheck(self, host: str) -> float:
        self.calls.append(("recheck", host))
        return self._next()

    @property
    def cause(self) -> str:
        return "limiter"

    def observe(self, host: str, api: str, status: int, headers: Any) -> None:
        self.calls.append(("observe", host, api, status))


def test_a_wait_is_told_up_to_its_end_and_not_to_the_next_look() -> None:
    """Else a pause of an hour looks like one of a moment, over and over."""
    bucket, clock = Bucket(0.25, 0.25, 0.0), HandClock()
    waits = Waits(clock)
    bucket.left = 30.0
    gate = RateGate(
        bucket, stopping=Stopping(clock), api="api1", waits=waits, clock=clock
    )
    gate.admit("h")

    # As it stood when it was last looked at.
    assert ("limiter", 1030.25) == waits.held


def test_every_try_costs_a_token_and_is_waited_for() -> None:
    bucket, clock = Bucket(1.0, 0.5, 0.0), HandClock()
    stopping, waits = Stopping(clock), Waits(clock)
    rate_gate = RateGate(
        bucket, stopping=stopping, api="api1", waits=waits, clock=clock
    )
    fetch = Limited(Script(429), rate_gate)
    fetch(Request("GET", URL))
    fetch(Request("GET", URL))

    assert [1.0, 0.5] == stopping.waits
    assert {"limiter": 1.5} == waits.read()
    host = "api.example"
    assert [
        ("reserve", host, "api1"),
        ("recheck", host),
        ("recheck", host),
        ("observe", host, "api1", 429),
        ("reserve", host, "api1"),
        ("observe", host, "api1", 429),
    ] == bucket.calls


def test_stopping_ends_the_wait_for_a_token() -> None:
    script, stopping = Script(200), Stopping()
    rate_gate = RateGate(Bucket(1.0), stopping=stopping, api="api1", waits=Waits())
    stopping.flag.set()
    with pytest.raises(Unreachable) as caught:
        Limited(script, rate_gate)(Request("GET", URL))

    assert not caught.value.sent
    assert not script.asked


# -- endpoints -------------------------------------------------------------------

BASE = "https://api.example"
URLS = ("https://a.example/x", "https://b.example", "https://c.example")


def balanced(script: Any, **options: Any) -> tuple[Balanced, Endpoints, HttpCounters]:
    counters = HttpCounters()
    endpoints = Endpoints(BASE, URLS, counters=counters, **options)
    return Balanced(script, endpoints, stopping=Stopping()), endpoints, counters


def hosts(script: Script) -> list[str]:
    return [request.url.split("/")[2][0] for request in script.asked]


def test_round_robin_starts_at_the_tasks_number() -> None:
    script = Script(200)
    fetch, _, _ = balanced(script, start=1)
    response, *_ = [fetch(Request("GET", URL, page=n)) for n in range(6)]

    assert list("bcabca") == hosts(script)
    # Everybody else sees the logical URL.
    assert (URL, URL) == (response.url, response.request.url)
    assert "https://a.example/x/v1/items?page=1" == script.asked[2].url


def test_random_and_failover() -> None:
    script = Script(200)
    fetch, _, _ = balanced(script, strategy="RANDOM", choose=lambda urls: urls[-1])
    fetch(Request("GET", URL))
    fetch, _, _ = balanced(script, strategy="FAILOVER")
    fetch(Request("GET", URL))
    fetch(Request("GET", URL, page=1))

    assert list("caa") == hosts(script)


def test_a_chain_never_changes_its_host_within_a_poll() -> None:
    script = Script(200)
    fetch, _, _ = balanced(script)
    for _ in range(2):
        fetch(Request("GET", URL, page=0))
        for page in (1, 2, 3):
            fetch(Request("GET", URL, page=page, chained=True))

    assert list("aaaabbbb") == hosts(script)


def test_a_chain_whose_host_dies_is_given_up_and_resumed_elsewhere() -> None:
    dead = Unreachable("reset")
    script = Script(200, dead, dead, 200)
    fetch, _, _ = balanced(script)
    fetch(Request("GET", URL, page=0))
    for _ in range(2):
        with pytest.raises(Unreachable):
            fetch(Request("GET", URL, page=1, chained=True))
    fetch(Request("GET", URL, page=0, chained=True))

    assert list("aaab") == hosts(script)


def test_a_link_the_api_gave_goes_where_it_says() -> None:
    script = Script(200)
    fetch, _, _ = balanced(script)
    link = "https://b.example/v1/items?page=2"
    response = fetch(Request("GET", link, page=1, chained=True))

    assert link == script.asked[0].url == response.url


def test_a_sick_endpoint_leaves_the_rotation_and_is_probed_back(tmp_path: Path) -> None:
    clock = HandClock()
    health = CircuitBreaker([tmp_path], threshold=3, recovery=10.0, clock=clock)
    sick = {"a"}
    probed: list[str] = []

    def serve(request: Request) -> Response:
        clock.move(0.01)
        if request.url.split("/")[2][0] in sick:
            raise Unreachable("refused")
        return answer(request=request)

    def probe(request: Request) -> Response:
        probed.append(request.url)
        return serve(request)

    script: list[str] = []

    def noted(request: Request) -> Response:
        script.append(request.url.split("/")[2][0])
        return serve(request)

    fetch, endpoints, counters = balanced(
        noted, health=health, probe=probe, probe_path="/up"
    )
    for page in range(9):
        try:
            fetch(Request("GET", URL, page=page))
        except Unreachable:
            pass
    script.clear()
    for page in range(6):
        fetch(Request("GET", URL, page=page))
    assert "a" not in script
    assert 1 == counters.endpoints_out

    endpoints.tick()
    assert not probed
    clock.move(10.1)
    tick_until(endpoints, lambda: len(probed) == 1)
    clock.move(5)
    sick.clear()
    endpoints.tick()
    assert ["https://a.example/x/up"] == probed
    clock.move(6)
    tick_until(endpoints, lambda: health.state(URLS[0]) == "closed")
    assert 2 == len(probed)
    script.clear()
    for page in range(3):
        fetch(Request("GET", URL, page=page))
    assert {"a", "b", "c"} == set(script)


def tick_until(endpoints: Endpoints, done: Any) -> None:
    end = time.monotonic() + 5
    while not (done() and not endpoints._probing):
        endpoints.tick()
        assert time.monotonic() < end
        time.sleep(0.005)


def test_with_all_out_all_are_in(tmp_path: Path) -> None:
    health = CircuitBreaker([tmp_path], threshold=1, recovery=10.0, clock=HandClock())
    script = Script(503)
    fetch, _, _ = balanced(script, health=health)
    for page in range(6):
        fetch(Request("GET", URL, page=page))

    assert list("abcabc") == hosts(script)


def test_f65_numbered_pages_are_spread_and_one_dead_host_costs_no_page() -> None:
    def page(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with Misbehaving(page) as one, Misbehaving(page) as two, Misbehaving(Say()) as dead:
        gone = dead.url
        servers = (one, two)
        urls = (one.url, two.url, gone)
        client = Client(one.url)
        dead.__exit__()
        stopping = Stopping()
        endpoints = Endpoints(one.url, urls, counters=client.counters)
        fetch = Retrying(
            Balanced(client.http, endpoints, stopping=stopping),
            RetryPolicy(),
            stopping=stopping,
            counters=client.counters,
        )
        for number in range(30):
            assert (
                200
                == fetch(Request("GET", f"{one.url}/?p={number}", page=number)).status
            )

        assert 30 == sum(len(server.asked) for server in servers)
        assert abs(len(one.asked) - len(two.asked)) <= 11
