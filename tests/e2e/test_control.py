"""Pause, resume, stop and restart over HTTP, of an engine that polls for real."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

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
            time.sleep(1.0)
            asked, connections = len(api.log), api.counts.connections
            arrived = produced(admin)
            assert ("PAUSED", ["PAUSED"]) == states(admin, setup)
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
                lambda: (
                    not [p for p in running.children() if "/0" in " ".join(p.cmdline())]
                ),
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
