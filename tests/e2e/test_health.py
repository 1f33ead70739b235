"""What /health says of engines that fare as engines do: each state, each reason."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.brokers import Broker
from tests.e2e.admin import LISTENING, Admin, admin_of
from tests.e2e.conftest import Make
from tests.e2e.rig import Running, Setup, until
from tests.fakes.api import Answer, Api, Asked

pytestmark = pytest.mark.slow

PAGE = (200, [("Content-Type", "application/json")], b'{"items":[{"id":1}]}')
DENIED = (401, [], b"no")
BROKEN = (500, [], b"oops")

#: Polls as fast as it goes, and gives no failure a second chance.
EAGER = {"http.source.poll.interval.ms": 1, "max.retries": 0}


class Script:
    """
    Answers a path: the n-th request by the n-th act, the last act stays.

    `held` requests wait until `release`.
    """

    def __init__(self, *acts: Answer, held: bool = False) -> None:
        self.acts = list(acts)
        self.seconds = 0.0
        self.asked = 0
        self._gate = threading.Event()
        self._lock = threading.Lock()
        if not held:
            self.release()

    def release(self) -> None:
        self._gate.set()

    def __call__(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked += 1
            act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
        if self.seconds:
            threading.Event().wait(self.seconds)
        self._gate.wait(60)
        return act


def test_a_life_from_starting_over_healthy_and_degraded_to_failed(make: Make) -> None:
    script = Script(PAGE, held=True)
    with Api() as api:
        api.route("/x", script)
        setup = make(
            f"{api.url}/x",
            {**EAGER, **LISTENING, "health.check.response.time.threshold.ms": 100},
        )
        with setup.running() as running:
            admin = admin_of(setup, running)
            until(lambda: script.asked, "a request is under way")
            told = admin.ask("/health")
            assert (503, "starting") == (told.status, told.document["status"])
            assert 503 == admin.ask("/health/ready").status
            assert 200 == admin.ask("/health/live").status

            script.release()
            until(lambda: admin.health(setup.name)[0] == "healthy", "healthy")
            assert 200 == admin.ask("/health").status
            assert {"ready": True} == {
                k: v for k, v in admin.get("/health/ready").items() if k == "ready"
            }

            script.seconds = 0.4
            until(lambda: admin.health(setup.name)[0] == "degraded", "degraded")
            told = admin.ask("/health")
            assert 200 == told.status == admin.ask("/health/ready").status
            [reason] = told.document["reasons"]
            assert "health.check.response.time.threshold.ms=100" in reason
            assert admin.get("/health/metrics")["averageResponseTime"] > 100

            script.seconds, script.acts = 0.0, [DENIED]
            until(lambda: admin.health(setup.name)[0] == "failed", "failed")
            told = admin.ask("/health")
            assert 500 == told.status
            assert "401" in told.document["message"]
            assert 503 == admin.ask("/health/ready").status
            assert 200 == admin.ask("/health/live").status
            script.release()


class Company(NamedTuple):
    """One engine with a connector for each way to fare."""

    admin: Admin
    running: Running
    setups: dict[str, Setup]

    def pid(self, name: str) -> int:
        """The process of a connector's only task, as last said to have started."""
        task = f"{self.setups[name].name}/0"
        said = re.findall(rf"{task} started as process (\d+)", self.running.err)
        return int(said[-1])


def _nobody() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def _twenty(api: Api, refusing: int) -> dict[str, object]:
    """Twenty apis that are asked once, of which so many fail for good."""
    keys: dict[str, object] = {
        "apis.num": 20,
        "http.source.url": None,
        "http.source.poll.interval.ms": 60_000,
    }
    for number in range(1, 21):
        path = "refuses" if number <= refusing else "answers"
        keys[f"api{number}.http.source.url"] = f"{api.url}/{path}"
    return keys


@pytest.fixture(scope="module")
def company(
    tmp_path_factory: pytest.TempPathFactory, embedded: Broker
) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp("company")
    with Api() as api:
        api.route("/answers", Script(PAGE))
        api.route("/refuses", Script(BROKEN))
        api.route("/denies", Script(DENIED))
        api.route("/ends", Script(PAGE, BROKEN))
        numbers = itertools.count()
        api.route("/news", lambda _: (200, [], b'{"items":[%d]}' % next(numbers)))
        ways: dict[str, dict[str, object]] = {
            "one of twenty": _twenty(api, 1),
            "two of twenty": _twenty(api, 2),
            "silent": {
                "http.source.url": f"{api.url}/ends",
                "http.source.poll.interval.ms": 200,
            },
            "denied": {"http.source.url": f"{api.url}/denies"},
            # Nothing twice: a hundred look-ups without a hit take two seconds.
            "missing": {
                "http.source.url": f"{api.url}/news",
                "http.source.poll.interval.ms": 20,
            },
            "crashing": {"http.source.poll.interval.ms": 200},
            "brokerless": {"bootstrap.servers": _nobody()},
            "unwatched": {
                "http.source.url": f"{api.url}/denies",
                "health.check.enabled": "false",
            },
        }
        setups = {
            way: Setup(folder, f"{api.url}/answers", embedded, {**EAGER, **keys})
            for way, keys in ways.items()
        }
        first, *others = setups.values()
        # Keys of the process stand in one of the files.
        first.write(**LISTENING, **{"task.restart.limit": 1})
        for other in others:
            places = dict.fromkeys(("state.dir", "cache.dir", "runtime.dir"))
            other.write(**places, listeners=None)
        command = [*first.command("run"), *(str(other.file) for other in others)]
        with Running(command, folder) as running:
            yield Company(admin_of(first, running), running, setups)


def fares(company: Company, way: str, status: str, reason: str) -> None:
    setup = company.setups[way]

    def so() -> bool:
        seen = company.admin.health(setup.name)
        return status == seen[0] and reason in seen[1]

    until(so, f"{way} is {status} because of {reason!r}", 40)


@pytest.mark.parametrize(
    ("way", "status", "reason"),
    [
        ("one of twenty", "healthy", ""),
        ("two of twenty", "degraded", "is 0.1, above health.check.error.rate"),
        # What was never there before is no miss.
        ("missing", "healthy", ""),
        ("silent", "failed", "polls were given up: "),
        ("denied", "failed", "401"),
        ("brokerless", "starting", "Task 0 waits for the Kafka broker: "),
    ],
)
def test_a_connector_says_how_it_fares(
    company: Company, way: str, status: str, reason: str
) -> None:
    fares(company, way, status, reason)


def test_one_failed_request_of_twenty_is_within_the_threshold(company: Company) -> None:
    name = company.setups["one of twenty"].name

    def numbers() -> Any:
        return company.admin.get("/health/metrics")["connectors"][name]

    until(lambda: numbers()["requests"]["recent"] == 20, "twenty requests")
    assert 1 == numbers()["errors"]["failedRequests"]
    assert (0.05, 5) == (numbers()["errors"]["rate"], numbers()["errorRate"])
    fares(company, "one of twenty", "healthy", "")


def test_a_task_that_ends_again_and_again_fails_its_connector(company: Company) -> None:
    fares(company, "crashing", "healthy", "")
    for _ in range(2):
        pid = company.pid("crashing")
        os.kill(pid, signal.SIGKILL)
        until(
            lambda gone=pid: company.pid("crashing") != gone or failed(company),
            "it starts again or is given up",
        )

    fares(company, "crashing", "failed", "Task 0 is FAILED: ")


def failed(company: Company) -> bool:
    return company.admin.health(company.setups["crashing"].name)[0] == "failed"


def test_a_connector_nobody_wants_watched_is_left_out_and_the_worst_decides(
    company: Company,
) -> None:
    fares(company, "denied", "failed", "401")
    told = company.admin.ask("/health")

    assert 500 == told.status
    assert "failed" == told.document["status"]
    assert company.setups["unwatched"].name not in told.document["connectors"]
    assert company.setups["unwatched"].name not in told.document["message"]
