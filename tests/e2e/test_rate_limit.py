"""The rate limit from the command line: several tasks, one budget, a server that counts."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections.abc import Callable

import pytest

from tests.e2e.admin import LISTENING, admin_of, total
from tests.e2e.conftest import Make
from tests.e2e.rig import Done, until
from tests.fakes.api import Answer, Api, Asked
from tests.fakes.strict import Strict

pytestmark = pytest.mark.slow

#: An `http.auth.class` without needs.
SIGNS = "class Signs:\n    def __call__(self, request):\n        return request\n"

PAGES = {"pagination.type": "page", "pagination.limit.value": 5}


def limit(rate: float, algorithm: str = "TOKEN_BUCKET", **more: object) -> dict:
    return {
        "rate.limit.enabled": "true",
        "rate.limit.requests.per.second": rate,
        "rate.limit.algorithm": algorithm,
        **{f"rate.limit.{name.replace('_', '.')}": v for name, v in more.items()},
    }


def waited(done: Done) -> dict[str, float]:
    found: dict[str, float] = done.total["waited"]
    return found


def gaps(moments: list[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(moments)]


def quickest(moments: list[float], count: int) -> float:
    """
    The shortest time in which so many came one after the other.

    What was allowed is used somewhere, even if a busy machine stands still elsewhere.
    """
    return min(b - a for a, b in zip(moments, moments[count - 1 :], strict=False))


def test_eight_tasks_share_one_rate(make: Make) -> None:
    """20 a second, one at a time: 120 pages take six seconds, whoever asks."""
    with Api(pages=120, records=5) as api:
        keys = {**PAGES, **limit(20, burst_capacity=1), "tasks.max": 8}
        done = make(f"{api.url}/page/0", keys).once()
        moments = sorted(asked.at for asked in api.log)

    assert 0 == done.code, done.err
    assert 600 == done.total["produced"]
    assert len(moments) <= (moments[-1] - moments[0]) * 20 + 1 + 2
    # Twenty gaps of a twentieth of a second.
    assert quickest(moments, 21) <= 1.05
    [connector] = done.document["connectors"]
    assert 8 == len(connector["apis"])
    # Each of them has waited, and says for what.
    assert all(row["waited"]["limiter"] > 2.0 for row in connector["apis"])
    assert waited(done)["limiter"] == pytest.approx(
        sum(row["waited"]["limiter"] for row in connector["apis"]), abs=0.01
    )
    [left] = connector["limits"]
    assert ("all", 1.0, 20.0) == (
        left["limit"],
        left["capacity"],
        left["requests_per_second"],
    )


def test_just_below_the_servers_own_limit_nothing_is_refused(make: Make) -> None:
    """A sliding window of 100 a second there, 98 here, four tasks."""
    with Strict(100, pages=500, records=5) as api:
        keys = {**PAGES, **limit(98, "SLIDING_WINDOW"), "tasks.max": 4}
        done = make(f"{api.url}/page/0", keys).once()

    assert 0 == done.code, done.err
    assert 2500 == done.total["produced"]
    assert {} == api.refused
    # Who has room does not wait: evenly spaced, thirty would take 0.3 seconds.
    assert quickest(api.served, 30) < 0.25
    # All of what was allowed is used again as soon as the window opens.
    assert quickest(api.served, 2 * 98) < 3.0


def test_a_limit_learnt_from_headers_costs_what_was_in_flight(make: Make) -> None:
    """40 in each window of two seconds, which the engine only hears of."""
    with Strict(40, 2.0, tell=True, pages=160, records=5) as api:
        keys = {**PAGES, "tasks.max": 4}
        setup = make(f"{api.url}/page/0", keys)
        done = setup.once()
        text = make(f"{api.url}/page/0", {**keys, "pagination.max.pages": 40})
        said = text.call("run", "--once").out

    assert 0 == done.code, done.err
    assert 800 == done.total["produced"]
    assert max(api.refused.values(), default=0) <= 4
    causes = waited(done)
    assert causes["budget"] + causes["retry_after"] > 4.0
    assert 0 == causes["limiter"] == causes["throttled"]
    [host] = done.document["connectors"][0]["hosts"]
    assert 40 == host["quota"]
    assert f"host 127.0.0.1:{api.port}: " in said
    assert " of 40 requests left by its own word" in said


@pytest.mark.parametrize("status", [429, 503])
def test_what_one_task_is_told_all_of_them_obey(make: Make, status: int) -> None:
    with Api(pages=80, records=5, latency=0.02) as api:
        told: list[float] = []

        def once(asked: Asked) -> Answer:
            if len(api.log) > 20 and not told:
                told.append(time.monotonic())
                return status, [("Retry-After", "2")], b"{}"
            return Api.answer(plain, asked)

        with Api(pages=80, records=5) as plain:
            api.route("/page/0", once)
            done = make(f"{api.url}/page/0", {**PAGES, "tasks.max": 4}).once()
        moments = [asked.at for asked in api.log]

    assert 0 == done.code, done.err
    assert 400 == done.total["produced"]
    # Those under way when it was said come a moment later; then nobody for two seconds.
    after = [told[0], *(m for m in moments if m > told[0])]
    quiet, last = max((b - a, a) for a, b in itertools.pairwise(after))
    assert quiet > 1.8
    assert last - told[0] < 1.0
    # Nobody waits longer than until the first goes on, but for what the machine takes.
    each = [row["waited"] for row in done.document["connectors"][0]["apis"]]
    assert all(1.5 < causes["retry_after"] < quiet + 1.0 for causes in each), each


def test_every_try_costs_a_token_and_a_fresh_answer_none(make: Make) -> None:
    """Token call, redirect, retry and page: ten a second, one by one."""
    with Api(pages=1, records=5) as api:
        answers = {"/moved": 0, "/page": 0}

        def token(asked: Asked) -> Answer:
            body = {"access_token": "t", "token_type": "bearer", "expires_in": 3600}
            kind = [("Content-Type", "application/json")]
            return 200, kind, json.dumps(body).encode()

        def moved(asked: Asked) -> Answer:
            answers["/moved"] += 1
            if answers["/moved"] == 1:
                return 500, [], b"no"
            return 302, [("Location", "/page")], b""

        def page(asked: Asked) -> Answer:
            answers["/page"] += 1
            if asked.headers.get("if-none-match"):
                return 304, [("ETag", '"1"')], b""
            return 200, [("ETag", '"1"')], b'{"items":[{"id":1}]}'

        for path, answer in (("/token", token), ("/moved", moved), ("/page", page)):
            api.route(path, answer)
        keys = {
            **limit(10, burst_capacity=1),
            "retry.backoff.ms": 1,
            "http.source.poll.interval.ms": 1,
            "auth.type": "OAUTH2",
            "oauth2.token.url": f"{api.url}/token",
            "oauth2.client.id": "me",
            "oauth2.client.secret": "s3cret",
        }
        setup = make(f"{api.url}/moved", keys)
        with setup.running() as running:
            until(lambda: answers["/page"] >= 8, "some polls")
            running.end()
        moments = sorted(asked.at for asked in api.log)
        paths = {asked.path for asked in api.log}
        asked_again = sum("if-none-match" in asked.headers for asked in api.log)

    assert {"/token", "/moved", "/page"} == paths
    # An answer behind a redirect is its target's: there is nothing to revalidate.
    assert 0 == asked_again
    # A grant may be used late, and the next one in time: never two of them.
    assert all(b - a >= 0.1 - 0.03 for a, b in zip(moments, moments[2:]))
    # One more: the page that waited for its token was paid for before that.
    assert len(moments) <= (moments[-1] - moments[0]) * 10 + 3


def test_an_answer_from_the_cache_costs_nothing(make: Make) -> None:
    with Api(pages=1, records=5) as api:

        def fresh(asked: Asked) -> Answer:
            return 200, [("Cache-Control", "max-age=60")], b'{"items":[{"id":1}]}'

        api.route("/page", fresh)
        keys = {**limit(0.001, burst_capacity=1), "http.source.poll.interval.ms": 100}
        setup = make(f"{api.url}/page", {**keys, **LISTENING})
        with setup.running() as running:
            admin = admin_of(setup, running)

            def polls() -> bool:
                scrape = admin.scrape()
                return total(scrape, "http_source_polls_total") >= 10

            until(polls, "ten polls on one token")
            running.end()

    assert 1 == len(api.log)


def test_probes_cost_nothing_whoever_signs_them(make: Make) -> None:
    """An endpoint that is out is probed while not one token is left."""
    with Api(pages=1, records=5) as api, Api() as away:

        def down(asked: Asked) -> Answer:
            return 500, [], b"down"

        for path in ("/ok", "/none/0"):
            away.route(path, down)
        keys = {
            **limit(0.01, burst_capacity=2),
            "http.source.url": "/none/0",
            "http.source.endpoints": json.dumps([away.url, api.url]),
            "http.load.balancing.health.check.enabled": "true",
            "http.load.balancing.health.check.path": "/ok",
            "http.load.balancing.health.check.threshold": 1,
            "http.load.balancing.health.check.interval.ms": 200,
            "http.auth.class": "signs:Signs",
            "retry.backoff.ms": 1,
            "http.source.poll.interval.ms": 10,
        }
        setup = make("/none/0", keys)
        (setup.folder / "signs.py").write_text(SIGNS)
        with setup.running() as running:
            until(lambda: sum(a.path == "/ok" for a in away.log) >= 4, "probes")
            running.end()
        paid = [a for a in [*away.log, *api.log] if a.path != "/ok"]

    assert len(paid) <= 2


def test_an_api_has_a_limit_of_its_own_inside_the_connectors(make: Make) -> None:
    with Api(sources=2, pages=20, records=5) as api:
        keys = {
            **PAGES,
            **limit(20, burst_capacity=1),
            "api1.http.source.url": f"{api.url}/page/0",
            "api1.rate.limit.requests.per.second": 5,
            "api1.rate.limit.burst.capacity": 1,
            "api2.http.source.url": f"{api.url}/page/1",
            "tasks.max": 2,
        }
        done = make(f"{api.url}/page/0", keys).once()
        slow = [asked.at for asked in api.log if asked.path == "/page/0"]
        both = sorted(asked.at for asked in api.log)

    assert 0 == done.code, done.err
    rate = (len(slow) - 1) / (slow[-1] - slow[0])
    assert rate == pytest.approx(5, rel=0.1)
    assert len(both) <= (both[-1] - both[0]) * 20 + 2
    one, two = done.document["connectors"][0]["apis"]
    assert one["waited"]["api_limiter"] > 2.0
    assert 0 == two["waited"]["api_limiter"] < two["waited"]["limiter"]
    limits = {each["limit"] for each in done.document["connectors"][0]["limits"]}
    assert {"all", "api api1"} == limits


def test_a_reload_changes_the_rate_of_tasks_that_wait(make: Make) -> None:
    with Api(pages=4000, records=5) as api:
        # The next one at this rate would come in a quarter of an hour.
        keys = {**PAGES, **limit(0.001, burst_capacity=1), "tasks.max": 3}
        setup = make(f"{api.url}/page/0", keys)
        with setup.running() as running:
            until(lambda: api.log, "the first request")
            tasks = until(lambda: len(running.tasks()) == 3 and running.tasks(), "3")
            setup.write(**limit(50, burst_capacity=1))
            before, began = len(api.log), time.monotonic()
            running.tell(signal.SIGHUP)
            until(lambda: len(api.log) >= before + 30, "thirty at the new rate")
            moments = [asked.at - began for asked in api.log[before:]]

            # Nobody was started anew for it.
            assert tasks == running.tasks()
            assert "Reloaded" in running.err
            running.end()

    assert 1 / (sum(gaps(moments[:30])) / 29) <= 55
    assert quickest(moments[:30], 10) <= 9 / 25


def test_what_is_left_and_what_is_waited_for_are_metrics(make: Make) -> None:
    with Api(pages=400, records=5) as api:
        keys = {**PAGES, **limit(10, burst_capacity=5), **LISTENING}
        setup = make(f"{api.url}/page/0", keys)
        with setup.running() as running:
            admin = admin_of(setup, running)
            waits: Callable[[], bool] = lambda: (
                total(admin.scrape(), "http_source_wait_seconds_total", on="limiter")
                > 1.0
            )
            until(waits, "a second of waiting")
            scrape = admin.scrape()
            running.end()

    assert 5 == total(scrape, "http_source_rate_limit_capacity", limit="all")
    assert 10 == total(scrape, "http_source_rate_limit_requests_per_second")
    assert 5 > total(scrape, "http_source_rate_limit_left", limit="all")
    endpoint = {"endpoint": f"127.0.0.1:{api.port}"}
    assert 1 == total(scrape, "http_source_rate_limit_factor_ratio", **endpoint)
    found = [key for key in scrape if key[0] == "http_source_breaker_state"]
    assert [("endpoint", endpoint["endpoint"])] == [
        label for _, labels in found for label in labels if label[0] == "endpoint"
    ]
    assert total(scrape, "http_source_rate_limit_wait_seconds_total") > 1.0


def test_up_to_when_a_server_asked_to_wait_is_told(make: Make) -> None:
    with Api() as api:
        numbers = itertools.count()

        def tired(asked: Asked) -> Answer:
            number = next(numbers)
            if number > 3:
                return 503, [("Retry-After", "3000")], b""
            return 200, [], b'{"items":[{"id":%d}]}' % number

        api.route("/x", tired)
        keys = {**LISTENING, "http.source.poll.interval.ms": 100}
        setup = make(f"{api.url}/x", keys)
        with setup.running() as running:
            admin = admin_of(setup, running)
            until(
                lambda: "the API asked to wait, 2," in admin.health(setup.name)[1],
                "health says for how long",
            )
            page = admin.ask("/", headers={"Accept": "text/html"}).body.decode()
            assert "waits for the time the API named (Retry-After), 49 min" in page
