"""Incremental polls in real runs: killed, gone on with, run again."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Mapping

import pytest

from tests.brokers import Broker
from tests.e2e.conftest import Make
from tests.e2e.rig import Setup, until
from tests.fakes.api import Answer, Api, Asked
from tests.fakes.feeds import Feed

pytestmark = pytest.mark.slow

#: What each type needs beside its name.
NEEDS: dict[str, Mapping[str, object]] = {
    "none": {},
    "page": {"pagination.limit.value": 10},
    "next_url": {"pagination.cursor.field": "next"},
}


def served(api: Api, feed: Feed) -> str:
    """Serve a feed; its URL."""

    def answer(asked: Asked) -> Answer:
        return feed.answer(asked.target)

    path = f"/{feed.kind}/0"
    api.route(path, answer)
    return f"{api.url}{path}"


def arrived(setup: Setup) -> Counter[tuple[int, int]]:
    records = [json.loads(value) for value in setup.values()]
    return Counter((record["id"], record["version"]) for record in records)


@pytest.mark.parametrize("kind", NEEDS)
def test_a_run_that_is_killed_goes_on_and_the_next_ones_bring_what_is_new(
    make: Make, embedded: Broker, kind: str
) -> None:
    feed = Feed(kind, size=1000 if kind == "none" else 10, order="NONE")
    for number in range(400):
        feed.now += 1
        feed.put(number)
    feed.now += 60
    with Api(latency=0.02) as api:
        setup = make(
            served(api, feed),
            {
                "http.offset.mode": "INCREMENTAL",
                "http.offset.json.pointer": "updated",
                "http.source.query.params": "since=${offset}",
                "pagination.type": kind,
                **NEEDS[kind],
            },
        )
        with setup.running() as running:
            until(lambda: setup.arrived() >= 50, "some of the records")
            running.tell(signal.SIGKILL)
        done = setup.once()
        assert 0 == done.code, done.err
        assert feed.versions == set(arrived(setup))

        for turn in range(2):
            feed.now += 10
            for number in (3 + turn, 399, 1000 + turn):
                feed.put(number)
            before = arrived(setup)
            done = setup.once()
            assert 0 == done.code, done.err
            assert 3 == (arrived(setup) - before).total()
        shown = setup.call("offsets", "get")

    assert feed.versions == set(arrived(setup))
    assert '"bookmark"' in shown.out and "since=" in shown.out


def test_windows_are_shared_by_tasks_and_go_on_after_a_kill(
    make: Make, embedded: Broker
) -> None:
    start = 1_700_000_000
    times = [start + 7 * number for number in range(900)]

    def answer(asked: Asked) -> Answer:
        low, high = (float(asked.query[name]) for name in ("from", "to"))
        found = [n for n, at in enumerate(times) if low <= at < high]
        if len(found) > 20:
            return 413, [], b"{}"
        items = [{"id": n, "version": 1} for n in found]
        return 200, [], json.dumps({"items": items}).encode()

    with Api(latency=0.01) as api:
        api.route("/log", answer)
        setup = make(
            f"{api.url}/log",
            {
                "http.source.query.params": "from=${window.start}&to=${window.end}",
                "http.source.window.size.seconds": 60,
                "http.source.window.start": start,
                "http.source.window.end": "2023-11-15T00:00:00Z",
                "http.source.window.format": "EPOCH_SECONDS",
                "http.source.window.too.large.status": 413,
                "tasks.max": 3,
            },
        )
        embedded.create(setup.topic, 3)
        with setup.running() as running:
            until(lambda: setup.arrived() >= 100, "some of the records")
            running.tell(signal.SIGKILL)
        setup.write(**{"tasks.max": 2, "http.source.window.size.seconds": 60})
        done = setup.once()
        assert 0 == done.code, done.err
        assert {(n, 1) for n in range(900)} == set(arrived(setup))
        again = setup.once()
        assert 0 == again.code, again.err
        assert 0 == again.total["received"]
        shown = setup.call("offsets", "get")

    assert '"window"' in shown.out


def test_castorms_catch_up_interval_reads_on_while_what_comes_is_old(
    make: Make, embedded: Broker
) -> None:
    """Its API gives ten at once and no page behind them; polls are an hour apart."""
    feed = Feed("none", size=10)
    for number in range(45):
        feed.now += 10
        feed.put(number)
    feed.now += 86_400
    with Api() as api:
        setup = make("", {"http.source.url": None, "kafka.topic": None})
        setup.write(
            **{
                "connector.class": (
                    "com.github.castorm.kafka.connect.http.HttpSourceConnector"
                ),
                "kafka.topic": setup.topic,
                "http.request.url": served(api, feed),
                "http.request.params": "since=${offset.timestamp}",
                "http.offset.initial": "timestamp=2020-05-08T07:55:44Z",
                "http.response.list.pointer": "/items",
                "http.response.data.json.pointer": None,
                "http.response.record.offset.pointer": "key=/id, timestamp=/updated",
                "http.timer.interval.millis": 3_600_000,
                "http.timer.catchup.interval.millis": 50,
            }
        )
        with setup.running() as running:
            until(lambda: setup.arrived() == 45, "all of them")
            # The last one asked for what is behind the newest, and brought nothing.
            until(lambda: len(feed.asked) == 6, "the poll that found nothing new")
            done = running.end()
        assert 0 == done.code, done.err

    assert feed.versions == set(arrived(setup))
    assert 6 == len(feed.asked)


def test_a_file_of_castorms_connector_runs_as_it_is(
    make: Make, embedded: Broker
) -> None:
    """Its offset goes over polls: what is new comes, what was there does not."""
    feed = Feed("none", size=1000)
    for number in range(5):
        feed.now += 10
        feed.put(number)
    with Api() as api:
        setup = make("", {"http.source.url": None, "kafka.topic": None})
        keys = {
            "connector.class": "com.github.castorm.kafka.connect.http.HttpSourceConnector",
            "kafka.topic": setup.topic,
            "http.request.url": served(api, feed),
            "http.request.params": "since=${offset.timestamp}&after=${offset.key}",
            "http.offset.initial": "timestamp=2020-05-08T07:55:44Z, key=none",
            "http.response.list.pointer": "/items",
            "http.response.data.json.pointer": None,
            "http.response.record.offset.pointer": "key=/id, timestamp=/updated",
            "http.timer.interval.millis": 100,
        }
        setup.write(**keys)
        done = setup.once()
        assert 0 == done.code, done.err
        assert 5 == done.total["produced"]
        assert {"since": "2020-05-08T07:55:44Z", "after": "none"} == feed.asked[-1]
        feed.now += 10
        feed.put(9)
        done = setup.once()
        assert 0 == done.code, done.err
        assert 1 == done.total["produced"]
        assert {"since": "2023-11-14T22:14:10Z", "after": "4"} == feed.asked[-1]

    assert feed.versions == set(arrived(setup))
