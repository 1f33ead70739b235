"""What is fetched ahead, seen by the API and in the topic."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Make
from tests.e2e.rig import until
from tests.e2e.test_cache import Shelf, etag
from tests.fakes.api import Api

pytestmark = pytest.mark.slow

#: One poll, and then nothing but warming.
WARMING = {
    "http.source.poll.interval.ms": 3_600_000,
    "cache.warming.enabled": "true",
    "cache.warming.schedule": "* * * * * *",
    "cache.warming.strategies": "PREDICTIVE",
    "cache.warming.patterns": '["users/*", "featured"]',
}


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as found:
        yield found


def asked(api: Api, path: str) -> int:
    return sum(each.path == path for each in api.log)


def test_one_of_the_tasks_fetches_what_the_patterns_name_at_each_tick(
    make: Make, api: Api
) -> None:
    shelf = Shelf(api, etag)
    paths = ["/users/a", "/users/b", "/featured"]
    for path in paths:
        shelf.put(path)
    keys = {**WARMING, "entity.names": "a,b", "tasks.max": 2}
    setup = make(f"{api.url}/users/${{entityName}}", keys)

    with setup.running() as running:
        until(lambda: setup.arrived() == 4, "both polls")
        began = time.monotonic()
        before = {path: asked(api, path) for path in paths}
        until(
            lambda: all(asked(api, path) >= before[path] + 3 for path in paths),
            "three ticks",
        )
        ticks = time.monotonic() - began
        for path in paths:
            assert asked(api, path) - before[path] <= ticks + 2
        assert 0 == running.end().code

    assert 4 == len(setup.values())


def test_what_was_fetched_ahead_is_found_and_produced_by_the_poll(
    make: Make, api: Api
) -> None:
    shelf = Shelf(api, lambda version: [("Cache-Control", "max-age=3600")])
    shelf.put("/doc")
    keys = {
        **WARMING,
        "cache.warming.patterns": '["doc"]',
        "http.source.poll.interval.ms": None,
        "http.source.poll.schedule": "0 0 0 1 1 *",
    }
    setup = make(f"{api.url}/doc", keys)
    with setup.running() as running:
        until(lambda: asked(api, "/doc"), "a request ahead of any poll")
        assert 0 == setup.arrived()
        assert 0 == running.end().code
    setup.write(**{"http.source.poll.schedule": None})

    done = setup.once()

    assert (2, 1) == (done.total["produced"], done.total["saved_requests"])
    assert shelf.records("/doc") == setup.values()
    assert 1 == len(api.log)


def test_polls_come_first_where_the_rate_is_scarce(make: Make, api: Api) -> None:
    shelf = Shelf(api, etag)
    ahead = [f"ahead/{n}" for n in range(30)]
    for path in ("/doc", *(f"/{each}" for each in ahead)):
        shelf.put(path)
    patterns = ",".join(f'"{each}"' for each in ahead)
    keys = {
        **WARMING,
        "http.source.poll.interval.ms": 250,
        "cache.warming.patterns": f"[{patterns}]",
        "rate.limit.enabled": "true",
        "rate.limit.requests.per.second": 8,
        "rate.limit.burst.capacity": 4,
    }
    setup = make(f"{api.url}/doc", keys)

    with setup.running() as running:
        until(lambda: asked(api, "/doc") >= 16, "sixteen polls")
        polls = [each.at for each in api.log if each.path == "/doc"]
        everything = [each.at for each in api.log]
        assert 0 == running.end().code

    took = polls[-1] - polls[0]
    # Each at its time, though thirty others would like to go each second.
    assert took < 15 * 0.25 + 1.5
    assert len(everything) > len(polls)
    assert len(everything) <= 4 + 8 * (everything[-1] - everything[0]) + 1


def test_one_poll_and_the_end_fetches_nothing_ahead(make: Make, api: Api) -> None:
    shelf = Shelf(api, etag)
    for path in ("/doc", "/featured"):
        shelf.put(path)
    setup = make(f"{api.url}/doc", WARMING)

    for _ in range(2):
        assert 0 == setup.once().code

    assert ["/doc", "/doc"] == [each.path for each in api.log]
