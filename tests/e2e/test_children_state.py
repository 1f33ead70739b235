"""The state of children that come once does not grow for ever."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest

from engine.sink.state import key_of
from tests.brokers import Broker
from tests.e2e.conftest import Make
from tests.e2e.rig import Setup, until
from tests.fakes.api import Answer, Api, Asked

pytestmark = pytest.mark.slow


def answer(items: list[object]) -> Answer:
    body = json.dumps({"items": items}).encode()
    return 200, [("Content-Type", "application/json")], body


@pytest.fixture
def api() -> Iterator[Api]:
    """A parent that names a new job in each poll, and one that stays."""
    jobs = itertools.count(1)
    with Api() as api:
        api.route(
            "/jobs", lambda _: answer([{"id": "stays"}, {"id": f"j{next(jobs)}"}])
        )
        for job in ("stays", *(f"j{at}" for at in range(1, 2000))):
            api.route(f"/job/{job}", rows)
        yield api


def rows(asked: Asked) -> Answer:
    return answer([{"of": asked.path.rsplit("/", 1)[1]}])


def chained(make: Make, api: Api, **keys: object) -> Setup:
    setup = make(
        "",
        {
            "http.source.url": None,
            "kafka.topic": None,
            "http.source.poll.interval.ms": 100,
            "api1.api.name": "jobs",
            "api1.http.source.url": f"{api.url}/jobs",
            "api2.api.name": "rows",
            "api2.http.source.url": f"{api.url}/job/${{parent_value}}",
            "api2.api.chaining.parent": "jobs",
            "api2.api.chaining.extract.field": "id",
        },
    )
    setup.write(
        **{
            "api2.kafka.topic": setup.topic,
            "offsets.storage.topic": f"{setup.name}-offsets",
            **keys,
        }
    )
    return setup


def states(setup: Setup) -> dict[bytes, bytes | None]:
    """Key -> its newest value, as it stands in the topic."""
    assert isinstance(setup.broker, Broker)
    topic = str(setup.keys["offsets.storage.topic"])
    return {each.key or b"": each.value for each in setup.broker.read(topic)}


def key(setup: Setup, parent: str, **more: str) -> bytes:
    return key_of(setup.name, {"api": "rows", "parent": parent, **more})


def test_the_state_of_a_child_that_is_gone_is_removed(make: Make, api: Api) -> None:
    setup = chained(make, api, **{"api2.api.chaining.state.polls": 3})
    with setup.running() as running:
        until(
            lambda: "children were removed, whose" in running.err, "the first forgotten"
        )
        assert 0 == running.end().code
    found = states(setup)

    assert found[key(setup, "j1")] is None
    assert found[key(setup, "stays")] is not None
    polls = json.loads(found[key_of(setup.name, {"api": "jobs"})] or b"")["poll"]
    kept = {f"j{at}" for at in range(1, polls + 1) if found[key(setup, f"j{at}")]}
    assert {f"j{at}" for at in range(polls - 2, polls + 1)} == kept


def test_no_state_of_a_child_is_kept_where_none_is_wanted(make: Make, api: Api) -> None:
    setup = chained(make, api, **{"api2.api.chaining.state": "NONE"})
    for _ in range(2):
        done = setup.once()
        assert 0 == done.code, done.err

    assert not [each for each in states(setup) if b'"rows"' in each]
    produced = sorted(json.loads(each)["of"] for each in setup.values())
    assert ["j1", "j2", "stays", "stays"] == produced
