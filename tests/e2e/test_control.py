"""Pause, resume, stop and restart over HTTP, of an engine that polls for real."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.brokers import Broker
from tests.e2e.admin import LISTENING, Admin, admin_of
from tests.e2e.conftest import Make
from tests.e2e.rig import Setup, until
from tests.fakes.api import Answer, Api, Asked

pytestmark = pytest.mark.slow

_NUMBERS = itertools.count()


def news(asked: Asked) -> Answer:
    """A record that nobody has seen."""
    return 200, [], b'{"items":[{"id":%d}]}' % next(_NUMBERS)


KEYS: dict[str, object] = {**LISTENING, "http.source.poll.interval.ms": 50}


def put(admin: Admin, setup: Setup, verb: str) -> int:
    return admin.ask(f"/connectors/{setup.name}/{verb}", method="PUT").status


def called(process: psutil.Process) -> str:
    """What a process calls itself; nothing of one that has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def states(admin: Admin, setup: Setup) -> tuple[str, list[str]]:
    told: Any = admin.get(f"/connectors/{setup.name}/status")
    return told["connector"]["state"], [task["state"] for task in told["tasks"]]


def produced(admin: Admin) -> int:
    return int(admin.get("/health/metrics")["totalMessages"])


def test_a_pause_keeps_its_connections_and_a_stop_frees_everything(make: Make) -> None:
    with Api() as api:
        api.route("/x", news)
        setup = make(f"{api.url}/x", KEYS)
        with setup.running() as running:
            admin = admin_of(setup, running)
            until(lambda: produced(admin) > 3, "records flow")
            task = running.tasks()[0]
            until(lambda: states(admin, setup) == ("RUNNING", ["RUNNING"]), "runs")

            assert 202 == put(admin, setup, "pause")
            until(lambda: states(admin, setup) == ("PAUSED", ["PAUSED"]), "it pauses")
            # What was under way has been counted.
            time.sleep(1.0)
            asked, connections = len(api.log), api.counts.connections
            arrived = produced(admin)
            time.sleep(1.0)
            assert (asked, arrived) == (len(api.log), produced(admin))
            assert 202 == put(admin, setup, "pause")

            assert 202 == put(admin, setup, "resume")
            until(lambda: produced(admin) > arrived, "records flow again")
            assert connections == api.counts.connections, "the same connection"
            assert task == running.tasks()[0]

            # What was decided holds over a restart of the engine.
            assert 202 == put(admin, setup, "pause")
            assert 0 == running.end().code
        asked = len(api.log)
        with setup.running() as running:
            admin = admin_of(setup, running)
            until(lambda: states(admin, setup) == ("PAUSED", []), "paused")
            assert 202 == put(admin, setup, "resume")
            until(lambda: len(api.log) > asked, "polls again")

            assert 204 == put(admin, setup, "stop")
            assert ("STOPPED", []) == states(admin, setup)
            until(
                lambda: not [p for p in running.children() if "/0" in called(p)],
                "no task is left",
            )
            assert [] == admin.get(f"/connectors/{setup.name}/tasks")
            asked = len(api.log)
            assert 0 == running.end().code
        with setup.running() as running:
            admin = admin_of(setup, running)
            until(lambda: states(admin, setup) == ("STOPPED", []), "stopped")
            assert len(api.log) == asked
        # A single run is somebody's wish for one poll, whatever was decided before.
        assert 0 == setup.once().code
        assert len(api.log) > asked


def test_what_is_asked_ahead_and_probes_of_servers_are_paused_too(make: Make) -> None:
    with Api() as api, Api() as broken:
        api.route("/x", news)
        api.route("/ahead", news)
        for path in ("/x", "/ahead", "/probe"):
            broken.route(path, lambda asked: (500, [], b""))
        setup = make(
            f"{api.url}/x",
            {
                **KEYS,
                "cache.warming.enabled": "true",
                "cache.warming.schedule": "* * * * * *",
                "cache.warming.patterns": '["ahead"]',
                "http.source.endpoints": json.dumps([api.url, broken.url]),
                "http.load.balancing.health.check.threshold": 1,
                "http.load.balancing.health.check.interval.ms": 100,
                "http.load.balancing.health.check.path": "/probe",
            },
        )

        def ahead() -> int:
            return sum(asked.path == "/ahead" for asked in [*api.log, *broken.log])

        with setup.running() as running:
            admin = admin_of(setup, running)
            until(lambda: ahead() > 1, "warmed")
            probed = len(broken.log)
            until(lambda: len(broken.log) > probed + 3, "probed")

            assert 202 == put(admin, setup, "pause")
            # Within a second; what was on its way then has come back.
            time.sleep(1.0)
            asked = len(api.log), len(broken.log)
            # Two ticks of the schedule, and twenty times the probes' interval.
            time.sleep(2.2)
            assert asked == (len(api.log), len(broken.log))

            assert 202 == put(admin, setup, "resume")
            before = ahead()
            until(lambda: ahead() > before, "warmed again")
            probed = len(broken.log)
            until(lambda: len(broken.log) > probed, "probed again")


def test_of_a_stopped_connector_nothing_is_left(make: Make) -> None:
    """No process, no connection, no descriptor; and what comes again is as it was."""
    with Api() as api:
        api.route("/x", news)
        setup = make(f"{api.url}/x", KEYS)
        with setup.running() as running:
            admin = admin_of(setup, running)
            until(lambda: produced(admin) > 3, "records flow")
            until(lambda: states(admin, setup) == ("RUNNING", ["RUNNING"]), "runs")
            supervisor = psutil.Process(running.pid)
            assert isinstance(setup.broker, Broker)
            servers = urlsplit(api.url), urlsplit(f"//{setup.broker.address}")
            others = {each.port for each in servers}
            lived = [running.tasks()[0]]
            held: list[int] = []
            for _ in range(3):
                assert 204 == put(admin, setup, "stop")
                until(lambda: not psutil.pid_exists(lived[-1]), "it has ended")
                until(lambda: not api.open, "its connections are closed")
                peers = {
                    connection.raddr.port
                    for process in [supervisor, *running.children()]
                    for connection in process.net_connections()
                    if connection.raddr
                }
                assert not peers & others
                held.append(supervisor.num_fds())
                assert 202 == put(admin, setup, "resume")
                until(
                    lambda: running.tasks()[0] not in lived and api.open,
                    "it polls again",
                )
                lived.append(running.tasks()[0])
            assert 1 == len(set(held)), held
