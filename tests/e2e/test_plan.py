"""`plan` from the command line: numbers of live pages, and nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Broker
from tests.e2e.conftest import Make
from tests.e2e.rig import Setup
from tests.fakes.api import Answer, Api, Asked

pytestmark = pytest.mark.slow

PAGED = {
    "pagination.type": "page",
    "pagination.limit.value": 50,
    "pagination.total.field": "total",
}


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(pages=20, records=50, size=120, latency=0.03, totals=True) as found:
        yield found


def planned(setup: Setup, *words: str) -> dict[str, Any]:
    done = setup.call("plan", "--json", *words)
    assert 0 == done.code, done.err
    document: dict[str, Any] = done.document
    return document


def warned(document: dict[str, Any]) -> set[str]:
    return {f["key"] for f in document["findings"] if f["severity"] == "warning"}


def test_the_formulas_with_what_was_measured(
    make: Make, api: Api, embedded: Broker
) -> None:
    setup = make(
        f"{api.url}/page/0",
        PAGED
        | {
            "tasks.max": 4,
            "http.source.poll.interval.ms": 1000,
            "rate.limit.enabled": "true",
            "rate.limit.requests.per.second": 15,
        },
    )
    embedded.create(setup.topic, 2)

    document = planned(setup, "--pages", "3", "--quota", "1000000")
    [told] = document["connectors"]
    [one] = told["apis"]

    assert 3 == len(api.targets()) == one["sampled"]["pages"]
    assert (50, 120) == (one["records_per_call"], one["bytes_per_record"])
    assert 0.03 <= one["response_seconds"] <= one["call_seconds"] < 0.3
    # 1,000 records in pages of 50 are 20 calls; 15 a second take 1.33 s, so that
    # every second tick of the grid is missed: 20 calls in 2 s.
    assert (20, 1000) == (one["calls_per_poll"], one["records_per_poll"])
    assert one["calls_per_poll_known"] is True
    assert 20 / 15 == pytest.approx(one["poll_seconds"], abs=1e-5)
    assert 10 * 86_400 == one["calls_per_day"] == told["calls_per_day"]
    assert 500 * 86_400 == told["records_per_day"]
    assert 0.864 == told["quota"]["used"]
    most = told["throughput"]
    assert most["records_per_second"] == most["records_per_call"] * 15
    assert "rate limit" == most["bound_by"]
    assert 2 * 1000 * 120 == told["memory"]["transformation_bytes"]
    assert {setup.topic: 2} == told["partitions"]["topics"]
    assert 4 == told["partitions"]["least"]
    assert {"rate.limit.requests.per.second", "tasks.max"} <= warned(document)


def test_it_leaves_nothing_behind(make: Make, api: Api, embedded: Broker) -> None:
    setup = make(f"{api.url}/page/0", PAGED)

    document = planned(setup)

    assert 0 == embedded.partitions(setup.topic)
    assert [] == setup.call("offsets", "get", "--json").document["offsets"]
    assert {} == document["connectors"][0]["partitions"]["topics"]
    assert 1 == document["connectors"][0]["tasks"]["suggested"]


def test_a_person_reads_the_same(make: Make, api: Api) -> None:
    setup = make(f"{api.url}/page/0", PAGED | {"http.source.poll.interval.ms": 100})

    done = setup.call("plan")

    assert 0 == done.code, done.err
    for word in ("api1", "calls/poll", "throughput", "memory", "partitions"):
        assert word in done.out
    line = list(setup.keys).index("http.source.poll.interval.ms") + 1
    place = f"{setup.file}:{line}: http.source.poll.interval.ms"
    assert f"warning: {place}" in done.out
    assert 78 == setup.call("plan", "--strict").code


def test_children_are_asked_for_one_record_of_their_parent(
    make: Make, api: Api
) -> None:
    def child(asked: Asked) -> Answer:
        return 200, [], json.dumps({"items": [{"id": 1}, {"id": 2}]}).encode()

    for number in range(50):
        api.route(f"/child/s0-{number:07d}", child)
    setup = make(
        f"{api.url}/none/0",
        {
            "api1.api.name": "parents",
            "api1.http.source.url": f"{api.url}/none/0",
            "api2.api.name": "children",
            "api2.http.source.url": f"{api.url}/child/${{parent_value}}",
            "api2.api.chaining.parent": "parents",
            "api2.api.chaining.extract.field": "id",
        },
    )

    [told] = planned(setup)["connectors"]
    parents, children = told["apis"]

    assert ("children", "parents") == (children["name"], children["parent"])
    assert 2 == len(api.targets())
    assert parents["records_per_poll"] == children["calls_per_poll"]
    assert 2 * parents["records_per_poll"] == children["records_per_poll"]


def test_what_the_host_says_of_its_own_limit(make: Make, api: Api) -> None:
    def told(asked: Asked) -> Answer:
        limits = [
            ("X-RateLimit-Limit", "100"),
            ("X-RateLimit-Remaining", "60"),
            ("X-RateLimit-Reset", "3600"),
        ]
        return 200, limits, b'{"items":[{"id":1}]}'

    api.route("/limited", told)
    setup = make(f"{api.url}/limited", {"http.source.poll.interval.ms": 30000})

    document = planned(setup)
    [host] = document["connectors"][0]["quota"]["hosts"]

    assert (100, 60) == (host["limit"], host["remaining"])
    # One call each 30 s until the window is over.
    assert host["reset_seconds"] / 30 == pytest.approx(
        host["wanted_until_reset"], abs=0.1
    )
    assert "http.source.poll.interval.ms" in warned(document)


def test_no_broker_leaves_the_partitions_unknown(tmp_path: Path, api: Api) -> None:
    setup = Setup(tmp_path, f"{api.url}/page/0", "127.0.0.1:1", PAGED)

    [told] = planned(setup)["connectors"]

    assert "127.0.0.1:1" in told["partitions"]["unknown"]


@pytest.mark.parametrize(
    ("keys", "code", "word"),
    [
        ({"http.source.url": "http://127.0.0.1:1/x"}, 69, "127.0.0.1"),
        ({"http.response.data.json.pointer": "nothing"}, 65, "nothing"),
        ({"pagination.type": "sideways"}, 78, "pagination.type"),
    ],
)
def test_its_exit_code_says_what_is_wrong(
    make: Make, api: Api, keys: dict[str, str], code: int, word: str
) -> None:
    setup = make(f"{api.url}/page/0", {**PAGED, "max.retries": 0, **keys})

    done = setup.call("plan")

    assert code == done.code
    assert word in done.err
