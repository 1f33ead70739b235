"""Tasks come and go with the load, and every record arrives once."""

from __future__ import annotations

import re
import threading
from collections import Counter

import pytest

from tests.e2e.admin import LISTENING, admin_of, total
from tests.e2e.conftest import Make
from tests.e2e.rig import TYPES, Running, Setup, until
from tests.fakes.api import Api

pytestmark = pytest.mark.slow

SOURCES = 4

#: Thresholds in records a second and task, judged each three seconds.
SCALING = {
    "auto.scaling.enabled": "true",
    "auto.scaling.max.tasks": 2,
    "auto.scaling.scale.up.threshold.throughput": 200,
    "auto.scaling.scale.down.threshold.throughput": 50,
    "auto.scaling.evaluation.interval.minutes": 0.05,
}

#: New records of each source are asked for ten times a second.
FOLLOWING = {
    **TYPES["keyset"],
    "pagination.type": "keyset",
    "http.offset.mode": "CHAINING",
    "http.source.poll.interval.ms": 100,
    "entity.names": ",".join(str(source) for source in range(SOURCES)),
}


class Load:
    """Records that keep coming, about 1,600 a second, until it ends."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._bring, daemon=True)
        self._thread.start()

    def _bring(self) -> None:
        while not self._over.wait(0.05):
            for source in range(SOURCES):
                self._api.grow(20, source)

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def scaled(running: Running, step: str) -> re.Match[str] | None:
    return running.said(rf"Auto-scaling of \S+: {step}")


def everything(api: Api) -> list[bytes]:
    return sorted(one for n in range(SOURCES) for one in api.all_records(n))


def follow(make: Make, api: Api, **keys: object) -> Setup:
    return make(
        f"{api.url}/keyset/${{entityName}}",
        {**FOLLOWING, **SCALING, **LISTENING, **keys},
    )


def test_a_load_that_rises_and_falls_moves_the_tasks_and_loses_nothing(
    make: Make,
) -> None:
    with Api(sources=SOURCES, pages=1, records=20) as api:
        setup = follow(make, api)
        with setup.running() as running:
            admin = admin_of(setup, running)
            load = Load(api)
            until(lambda: scaled(running, "1 tasks, wanted 2: .*is above 200"), "up")
            until(lambda: len(running.tasks()) == 2, "two tasks")
            started = running.tasks()
            until(lambda: scaled(running, r"2 tasks, wanted 2: .*after a step"), "rest")
            load.end()
            until(lambda: scaled(running, "2 tasks, wanted 1: .*is below 50"), "down")
            until(lambda: running.tasks() != started, "the one that is left has all")
            api.grow(5, 3)
            until(lambda: setup.arrived() >= len(everything(api)), "all arrived")
            scrape = admin.scrape()
            done = running.end()

    assert 0 == done.code, done.err
    assert everything(api) == sorted(setup.values())
    for direction in ("up", "down"):
        labels = {"direction": direction, "reason": "throughput"}
        assert 1 == total(scrape, "http_source_scaling_decisions_total", **labels)
    # The start, the step up, the step down; each took its time.
    rebalances = "kafka_connect_worker_rebalance"
    assert 3 == total(scrape, f"{rebalances}_completed_rebalances_total")
    assert 0 < total(scrape, f"{rebalances}_rebalance_avg_time_ms")


def test_what_holds_the_tasks_back_is_no_reason_for_more_of_them(make: Make) -> None:
    """Ten requests a second bring enough records; a second task would not help."""
    with Api(sources=SOURCES, pages=1, records=20) as api:
        setup = follow(
            make,
            api,
            **{
                "rate.limit.enabled": "true",
                "rate.limit.requests.per.second": 10,
                "rate.limit.burst.capacity": 1,
                "pagination.limit.value": 500,
            },
        )
        with setup.running() as running:
            admin = admin_of(setup, running)
            load = Load(api)
            held = "1 tasks, wanted 1: .*waiting for the rate limit"
            until(lambda: scaled(running, held), "held back")
            load.end()
            scrape = admin.scrape()
            done = running.end()

    assert 0 == done.code, done.err
    assert {0} == set(running.tasks())
    # Each once, whatever of them had arrived by then.
    assert {1} == set(Counter(setup.values()).values())
    labels = {"direction": "none", "reason": "held_back"}
    assert 1 <= total(scrape, "http_source_scaling_decisions_total", **labels)
    assert 0 == total(scrape, "http_source_scaling_decisions_total", direction="up")


def test_a_poll_goes_on_where_its_pages_are_dealt_anew(make: Make) -> None:
    """One poll of 400 pages, begun by one task, ended by two, then left alone."""
    with Api(pages=400, records=20, latency=0.02) as api:
        keys = {"pagination.type": "page", "pagination.limit.value": 20}
        hour = {"http.source.poll.interval.ms": 3_600_000}
        setup = make(f"{api.url}/page/0", {**keys, **hour, **SCALING})
        with setup.running() as running:
            until(lambda: scaled(running, "1 tasks, wanted 2"), "up")
            until(lambda: len(set(api.targets())) >= 400, "all pages")
            until(lambda: scaled(running, "2 tasks, wanted 1"), "down")
            started = running.tasks()
            until(lambda: running.tasks() != started, "the one that is left")
            until(lambda: setup.arrived() >= 8000, "all arrived")
            done = running.end()
        asked = Counter(api.targets())

    assert 0 == done.code, done.err
    assert sorted(api.all_records()) == sorted(setup.values())
    # Behind the end each task may look once for itself.
    full = {target: n for target, n in asked.items() if int(page_of(target)) <= 400}
    assert 400 == len(full)
    assert {1} == set(full.values())
    # Also what the task counted that is gone.
    assert "8,000 produced" in done.out.splitlines()[-1], done.out


def page_of(target: str) -> str:
    return target.partition("page=")[2].partition("&")[0]
