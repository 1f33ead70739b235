"""Every `cache.*` key seen where it has its effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import Connector, load
from engine.records import Request, Response
from engine.shared.limiter import RateLimiter, RateLimits
from engine.shared.rates import Rate
from engine.source.fetch.warming import Trace
from engine.task.build.cache import (
    layer_of,
    own_answers,
    tiers_of,
    unique_headers,
    warming_of,
)
from engine.task.build.http import url_of
from tests.fakes.hands import Hands

BASE = """
name=orders
http.source.url=https://api.example.com/v1/things
kafka.topic=things
bootstrap.servers=127.0.0.1:9092
cache.enabled=true
"""


class Going:
    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        return False


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def connector(tmp_path):
    count = 0

    def make(*keys: str) -> Connector:
        nonlocal count
        count += 1
        path = tmp_path / f"c{count}.properties"
        path.write_text(BASE + "\n".join(keys))
        path.chmod(0o600)
        return load([path]).connectors[0]

    return make


def tiers(one: Connector, path: Path, clock: Hands):
    found = tiers_of(one, place=path / "r", disk=path / "d", clock=clock)
    assert found is not None
    return found


def test_without_the_cache_there_is_none(connector, tmp_path) -> None:
    assert tiers(connector(), tmp_path, Hands()) is not None
    off = connector("api1.cache.enabled=false")

    assert tiers_of(off, place=tmp_path, disk=tmp_path) is None


def test_the_keys_reach_the_tiers(connector, tmp_path, clock) -> None:
    one = tiers(
        connector(
            "tasks.max=4",
            "cache.l1.max.size=11",
            "cache.l2.max.size=22",
            "cache.l3.max.size=33",
            "cache.l1.ttl.seconds=111",
            "cache.l2.ttl.seconds=222",
            "cache.l3.ttl.seconds=333",
            "cache.eviction.policy=LFU",
            "cache.l2.policy=FIFO",
            "cache.max.memory.bytes=8388608",
            "cache.l3.max.bytes=77777777",
            "cache.response.max.size=44",
            "cache.eviction.enabled=false",
            "cache.eviction.threshold=0.5",
            "cache.eviction.batch.size=7",
            "cache.cleanup.interval.seconds=9",
            "cache.statistics.enabled=true",
            "cache.statistics.window.minutes=3",
            "cache.hit.ratio.threshold=0.6",
            "cache.auto.tuning.enabled=true",
            "cache.auto.tuning.interval.minutes=2",
        ),
        tmp_path,
        clock,
    )

    found = [(t.entries, t.ttl, t.policy, t.volume) for t in one._levels]
    assert [
        (11, 111.0, "LFU", 1 << 20),
        (22, 222.0, "FIFO", 4 << 20),
        (33, 333.0, "LFU", 77_777_777),
    ] == found
    settings = one.settings
    assert (44, False, 0.5, 7, 9.0) == (
        settings.total,
        settings.evict,
        settings.threshold,
        settings.batch,
        settings.cleanup,
    )
    assert (True, 180.0, 0.6, 120.0) == (
        settings.statistics,
        settings.window,
        settings.ratio,
        settings.tuning,
    )


class Api:
    def __init__(self, clock: Hands, *headers: tuple[str, str]) -> None:
        self.clock = clock
        self.headers = headers
        self.asked: list[str] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(request.url)
        return Response(
            request=request,
            url=request.url,
            status=200,
            headers=list(self.headers),
            body=b"[]",
            sent_at=self.clock.monotonic(),
            received_ms=self.clock.wall_ms(),
        )


def layer(one: Connector, path: Path, clock: Hands, api: Api, trace=None):
    return layer_of(
        one.apis[0],
        api,
        tiers(one, path, clock),
        stopping=Going(),
        trace=trace,
        clock=clock,
    )


def test_a_time_to_live_makes_fresh_what_states_nothing(
    connector, tmp_path, clock
) -> None:
    for seconds, asked in ((0, 5), (5, 1)):
        api = Api(clock)
        keys = f"cache.response.ttl.seconds={seconds}"
        fetch = layer(connector(keys), tmp_path / keys, clock, api)
        for _ in range(5):
            fetch(Request("GET", "https://api.example.com/v1/things"))
            clock.turn(0.9)

        assert asked == len(api.asked)


def test_positions_that_move_on_have_no_skin(connector, tmp_path, clock) -> None:
    one = connector("http.offset.mode=SIMPLE_INCREMENTING")

    assert layer(one, tmp_path, clock, Api(clock)) is None


def test_credentials_are_part_of_the_key(connector, tmp_path, clock) -> None:
    request = Request("GET", "https://api.example.com/v1/things")
    keys = set()
    for auth in (
        [],
        ["auth.type=BEARER", "bearer.token=one"],
        ["auth.type=BEARER", "bearer.token=two"],
        ["auth.type=BASIC", "connection.user=u", "connection.password=p"],
    ):
        keys.add(layer(connector(*auth), tmp_path, clock, Api(clock)).key(request))

    assert 4 == len(keys)
    again = connector("auth.type=BEARER", "bearer.token=one")
    assert layer(again, tmp_path, clock, Api(clock)).key(request) in keys


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("kafka.headers=x:${response.header.etag}", True),
        ("kafka.headers=x:${response.header.set-cookie}", False),
        ("kafka.key=${response.header.Set-Cookie}", False),
        ("kafka.key=${record.id}", True),
    ],
)
def test_an_answer_whose_header_is_not_kept_is_not_kept(
    connector, tmp_path, clock, key, kept
) -> None:
    one = connector(key)
    shared = tiers(one, tmp_path, clock)

    made = layer_of(one.apis[0], Api(clock), shared, stopping=Going(), clock=clock)

    assert kept is (made is not None)


def test_headers_that_are_only_a_number_are_known(connector) -> None:
    api = connector(
        "http.source.header.X-Request-Id=${uuid}",
        "http.source.header.X-Trace=a-${ uuid }-b",
        "http.source.header.X-Day=${now}",
        "http.source.header.X-Both=${uuid}-${now}",
        "http.source.header.X-Plain=1",
    ).apis[0]

    assert frozenset({"x-request-id", "x-trace"}) == unique_headers(api.values)


def test_warming_asks_what_the_keys_name(connector, tmp_path, clock) -> None:
    one = connector(
        "cache.warming.enabled=true",
        "cache.warming.strategies=PREDICTIVE,LRU",
        "cache.warming.schedule=0 */5 * * * *",
        'cache.warming.patterns=["v1/featured", "v1/users/*"]',
        "cache.response.ttl.seconds=60",
        "http.source.header.X-Plain=1",
    )
    api, trace = Api(clock), Trace(clock=clock)
    shared = tiers(one, tmp_path, clock)
    fetch = layer_of(
        one.apis[0], api, shared, stopping=Going(), trace=trace, clock=clock
    )
    limiter = RateLimiter(
        [tmp_path / "l"], "orders", RateLimits(rate=Rate(100.0)), clock=clock
    )
    warming = warming_of(
        one,
        layers={one.apis[0].name: fetch},
        tiers=shared,
        limiter=limiter,
        trace=trace,
        zone="UTC",
        url_of=url_of,
        leads={"api1"},
        clock=clock,
    )
    for path in ("v1/users/1", "v1/orders/1"):
        fetch(Request("GET", f"https://api.example.com/{path}"))
    clock.turn(61)
    api.asked.clear()

    clock.wall = 1_800_000_000_000
    assert 3 == warming.step()
    assert [
        "https://api.example.com/v1/featured",
        "https://api.example.com/v1/users/1",
        "https://api.example.com/v1/orders/1",
    ] == api.asked
    # Fresh for a minute: five minutes later all of it goes again, at the tick.
    clock.turn(299)
    assert 0 == warming.step()
    clock.turn(1)
    assert 3 == warming.step()
    assert 0 == warming.step()


def test_one_task_warms_an_api_and_no_other_api_with_it(
    connector, tmp_path, clock
) -> None:
    one = connector(
        "cache.warming.enabled=true",
        'cache.warming.patterns=["v1/*"]',
        "cache.response.ttl.seconds=1",
        "apis.num=2",
        "api2.http.source.url=https://api.example.com/v1/others",
        "api1.kafka.topic=things",
        "api2.kafka.topic=others",
    )
    shared = tiers(one, tmp_path, clock)
    apis = {each.name: Api(clock) for each in one.apis}
    traces = {each.name: Trace(clock=clock) for each in one.apis}
    layers = {
        each.name: layer_of(
            each,
            apis[each.name],
            shared,
            stopping=Going(),
            trace=traces[each.name],
            clock=clock,
        )
        for each in one.apis
    }
    layers["api1"](Request("GET", "https://api.example.com/v1/things"))
    layers["api2"](Request("GET", "https://api.example.com/v1/others"))
    clock.turn(2)

    def fetched(leads: set[str], mine: str) -> int:
        warming = warming_of(
            one,
            layers={mine: layers[mine]},
            tiers=shared,
            limiter=RateLimiter([tmp_path / "l"], "orders", RateLimits(), clock=clock),
            trace=traces[mine],
            zone="UTC",
            url_of=url_of,
            leads=leads,
            clock=clock,
        )
        return warming.step()

    assert 0 == fetched(set(), "api1")
    assert 1 == fetched({"api2"}, "api2")
    assert 1 == len(apis["api1"].asked)
    assert ["https://api.example.com/v1/others"] * 2 == apis["api2"].asked
    assert 1 == fetched({"api1"}, "api1")


def test_without_warming_there_is_none(connector, tmp_path, clock) -> None:
    one = connector()
    found = warming_of(
        one,
        layers={"api1": layer(one, tmp_path, clock, Api(clock))},
        tiers=tiers(one, tmp_path, clock),
        limiter=RateLimiter([tmp_path], "orders", RateLimits()),
        trace=Trace(),
        zone="UTC",
        url_of=url_of,
        leads={"api1"},
    )

    assert found is None


TWO = "apis.num=2\napi1.api.name=a\napi2.api.name=b\n"
PLACES = f"{TWO}api1.http.source.url=https://h/a\napi2.http.source.url=https://h/b\n"
CHILD = PLACES.replace("https://h/b", "https://h/${parent_value}")
CHILD += "api2.api.chaining.parent=a\napi2.api.chaining.extract.field=id\n"


@pytest.mark.parametrize(
    ("lines", "own"),
    [
        ("", True),
        ("tasks.max=8\npagination.type=page", True),
        ("entity.names=a,b\nhttp.source.url=https://h/${entityName}", True),
        ("http.request.method=POST\nhttp.request.body={}", False),
        (TWO, False),
        (PLACES, True),
        (CHILD, False),
    ],
    ids=["one", "dealt", "entities", "post", "alike", "two", "children"],
)
def test_whose_answers_no_other_task_asks_for(tmp_path, lines: str, own: bool) -> None:
    path = tmp_path / "c.properties"
    # What is said twice counts as said last; here only once.
    base = "".join(
        f"{line}\n"
        for line in BASE.splitlines()
        if not line or f"\n{line.split('=')[0]}=" not in f"\n{lines}"
    )
    path.write_text(base + lines)
    path.chmod(0o600)

    assert own is own_answers(load([path]).connectors[0])
