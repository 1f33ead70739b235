"""Several tasks over one api, pages side by side, and the modes across restarts."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.brokers import Broker
from tests.e2e.conftest import Make
from tests.e2e.rig import Done, Running, Setup, until
from tests.fakes.api import Api, Asked

pytestmark = pytest.mark.slow


def shard_rows(done: Done) -> list[dict[str, object]]:
    [connector] = done.document["connectors"]
    rows: list[dict[str, object]] = connector["apis"]
    return rows


@pytest.mark.parametrize("kind", ["page", "offset"])
def test_four_tasks_ask_each_page_of_one_api_once(
    make: Make, embedded: Broker, kind: str
) -> None:
    with Api(pages=80, records=20, size=100, latency=0.02) as api:
        setup = make(
            f"{api.url}/{kind}/0",
            {"tasks.max": 4, "pagination.type": kind, "pagination.limit.value": 20},
        )
        embedded.create(setup.topic, 4)
        done = setup.once()
        asked = Counter(api.targets())

    assert 0 == done.code, done.err
    assert sorted(api.all_records()) == sorted(setup.values())
    # Where the data ends is found out by asking behind it, by each at most once.
    name = "page" if kind == "page" else "offset"
    full = {
        target: count
        for target, count in asked.items()
        if int(target.partition(f"{name}=")[2].partition("&")[0])
        < (81 if kind == "page" else 1600)
    }
    assert 80 == len(full)
    assert {1} == set(full.values()), asked.most_common(3)
    rows = shard_rows(done)
    assert 4 == len(rows)
    assert all(int(str(row["produced"])) >= 200 for row in rows), rows


def test_pages_side_by_side_are_delivered_in_order(make: Make) -> None:
    with Api(pages=40, records=10, size=100, latency=0.05) as api:
        setup = make(
            f"{api.url}/page/0",
            {
                "pagination.type": "page",
                "pagination.limit.value": 10,
                "pagination.concurrent.enabled": "true",
                "pagination.concurrent.max.threads": 8,
                "http.client.max.connections.per.route": 8,
            },
        )
        done = setup.once()
        busy = api.counts.most_busy

    assert 0 == done.code, done.err
    assert api.all_records() == setup.values()
    assert 4 <= busy <= 8


def test_full_mode_reads_everything_again_at_each_poll(make: Make) -> None:
    with Api(pages=3, records=10) as api:
        setup = make(
            f"{api.url}/cursor/0",
            {"pagination.type": "cursor", "pagination.cursor.field": "next"},
        )
        assert 0 == setup.once().code
        api.grow(10)
        done = setup.once()

    assert 0 == done.code, done.err
    assert 40 == done.total["received"]
    # Pages that have not changed may be known from the first poll.
    assert done.total["produced"] in (40, 10)
    assert set(api.all_records()) == set(setup.values())


#: Modes that go on where they stood: what they ask of `tests.fakes.api`.
MODES: dict[str, tuple[str, Mapping[str, object]]] = {
    "SIMPLE_INCREMENTING": ("offset", {"pagination.limit.value": 10}),
    "CHAINING": (
        "keyset",
        {"pagination.limit.value": 10, "http.offset.json.pointer": "n"},
    ),
    "CURSOR_PAGINATION": (
        "cursor",
        {"pagination.limit.value": 10, "pagination.cursor.field": "next"},
    ),
}


def incremental(make: Make, api: Api, mode: str) -> Setup:
    kind, keys = MODES[mode]
    return make(
        f"{api.url}/{kind}/0",
        {"http.offset.mode": mode, "pagination.type": kind, **keys},
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_goes_on_where_it_stood_and_brings_what_is_new(
    make: Make, mode: str
) -> None:
    with Api(pages=3, records=10, size=80) as api:
        setup = incremental(make, api, mode)
        first = setup.once()
        # A whole number of pages, none, a part of one, many.
        for more in (10, 0, 3, 25):
            api.grow(more)
            done = setup.once()
            assert 0 == done.code, done.err
            assert more == done.total["produced"], (more, done.out)
            assert api.all_records() == setup.values()

    assert 0 == first.code
    assert 30 == first.total["produced"]


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_brings_what_is_new_while_it_runs(make: Make, mode: str) -> None:
    with Api(pages=2, records=10, size=80) as api:
        setup = incremental(make, api, mode)
        setup.write(**{"http.source.poll.interval.ms": 100})
        with setup.running() as running:
            until(lambda: setup.arrived() == 20, "the first records")
            for more in (5, 25):
                api.grow(more)
                until(
                    lambda: setup.arrived() >= len(api.all_records()), "the new records"
                )
            assert 0 == running.end().code, running.err
        assert api.all_records() == setup.values()
        assert 0 == setup.once().total["produced"]


def pages_asked(api: Api) -> Counter[int]:
    """How often each page of a list was asked for."""
    queries = (parse_qs(urlsplit(target).query) for target in api.targets())
    return Counter(int(query["page"][0]) for query in queries)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_run_once_that_was_killed_is_gone_on_with_and_ends_with_its_poll(
    make: Make, before: int
) -> None:
    """
    Shards that are done wait for those that were cut, and for any not begun.

    So does it on top of runs `before` that went to their end.
    """
    with Api(pages=24, records=20) as api:
        slow = threading.Event()

        def answer(asked: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
            page = int(asked.query["page"])
            if page % 4 != 1 and not slow.is_set():
                # Only the first shard comes to its end before the kill.
                slow.wait(60)
            at = (page - 1) * 20
            items = b",".join(api.all_records()[at : at + 20])
            return 200, [], b'{"items":[' + items + b"]}"

        api.route("/list", answer)
        keys = {
            "pagination.type": "page",
            "pagination.limit.value": 20,
            "tasks.max": 4,
            "cache.enabled": "false",
        }
        setup = make(f"{api.url}/list", keys)
        slow.set()
        assert [0] * before == [setup.once().code for _ in range(before)]
        slow.clear()
        asked = pages_asked(api)[25]
        with Running(setup.command("run", "--once"), setup.folder) as first:
            until(lambda: pages_asked(api)[25] > asked, "the first shard is done")
            until(lambda: setup.arrived() == 480 * before + 120, "and delivered")
            time.sleep(0.5)
            first.tell(signal.SIGKILL)
        slow.set()
        rest = setup.once()
        again = setup.once()

    assert [0, 0] == [rest.code, again.code], rest.err
    assert 360 == rest.total["produced"]
    # Only then a new poll, of all of it.
    assert 480 == again.total["produced"]
    assert sorted(api.all_records() * (2 + before)) == sorted(setup.values())


def test_once_polls_all_shards_though_one_had_fewer_polls_before(make: Make) -> None:
    """A run that goes on lets its shards count their polls apart."""
    failing = threading.Event()
    with Api(pages=8, records=20) as api:

        def answer(asked: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
            page = int(asked.query["page"])
            if page == 2 and failing.is_set():
                return 500, [], b""
            at = (page - 1) * 20
            items = b",".join(api.all_records()[at : at + 20])
            return 200, [], b'{"items":[' + items + b"]}"

        api.route("/list", answer)
        setup = make(
            f"{api.url}/list",
            {
                "pagination.type": "page",
                "pagination.limit.value": 20,
                "tasks.max": 2,
                "cache.enabled": "false",
                "http.source.poll.interval.ms": 1000,
                "max.retries": 0,
                "circuit.breaker.enabled": "false",
            },
        )

        def polls() -> list[object]:
            found = setup.call("offsets", "get", "--json").document["offsets"]
            return [(each["offset"]["poll"], each["offset"]["done"]) for each in found]

        failing.set()
        with setup.running() as running:
            count = len(api.log)
            until(lambda: len(api.log) > count + 16, "the first shard goes on alone")
            failing.clear()
            count = pages_asked(api)[2]
            until(lambda: pages_asked(api)[2] > count + 2, "both go on")
            # Between two polls, so that none is cut and gone on with below.
            until(lambda: time.monotonic() - api.log[-1].at > 0.4, "both wait")
            assert 0 == running.end().code, running.err
        drifted = polls()
        asked = pages_asked(api)
        runs = [setup.once() for _ in range(2)]
        again = pages_asked(api) - asked
        together = polls()

    assert drifted[0] != drifted[1], "or this shows nothing"
    assert [0, 0] == [done.code for done in runs], runs[0].err
    assert {2} == {again[page] for page in range(1, 9)}, drifted
    assert 1 == len(set(together)), together
