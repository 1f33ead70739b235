"""A directory of connectors: what REST makes of it, and what people put there."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Broker
from tests.e2e.admin import Admin, Told, listening
from tests.e2e.rig import Running, until
from tests.fakes.api import Answer, Api, Asked

pytestmark = pytest.mark.slow

_NUMBERS = itertools.count()
SECRET = "lit3ral-t0ken-of-rest"


def news(asked: Asked) -> Answer:
    """A record that nobody has seen."""
    return 200, [], b'{"items":[{"id":%d}]}' % next(_NUMBERS)


class Service:
    """`run --connectors DIR WORKER`, and what it is asked."""

    def __init__(self, folder: Path, broker: Broker, api: Api) -> None:
        self.folder = folder
        self.directory = folder / "connectors"
        self.api = api
        self.worker = folder / "worker.properties"
        self.worker.write_text(
            f"bootstrap.servers={broker.address}\n"
            f"state.dir={folder}/state\ncache.dir={folder}/cache\n"
            f"runtime.dir={folder}/run\nlisteners=http://127.0.0.1:0\n"
            "health.check.cache.hit.ratio.threshold=0\n"
        )

    def keys(self, topic: str, **more: object) -> dict[str, Any]:
        return {
            "connector.class": "HttpSource",
            "http.source.url": f"{self.api.url}/{topic}",
            "http.response.data.json.pointer": "items",
            "http.source.poll.interval.ms": "50",
            "kafka.topic": topic,
            **{key.replace("__", "."): value for key, value in more.items()},
        }

    @contextlib.contextmanager
    def running(self, *files: Path) -> Iterator[Running]:
        words = ["run", "--connectors", str(self.directory), str(self.worker)]
        command = [sys.executable, "-m", "engine", *words, *map(str, files)]
        with Running(command, self.folder) as running:
            self.admin = Admin(listening(self.folder / "run", running)[0])
            yield running

    def ask(self, method: str, path: str, body: object = None) -> Told:
        return self.admin.ask(path, method=method, body=body)

    def create(self, name: str, **more: object) -> Told:
        self.api.route(f"/{name}-t", news)
        keys = self.keys(f"{name}-t", **more)
        return self.ask("POST", "/connectors", {"name": name, "config": keys})

    def polls(self, name: str) -> int:
        return sum(asked.path == f"/{name}-t" for asked in self.api.log)

    def polled(self, name: str) -> None:
        before = self.polls(name)
        until(lambda: self.polls(name) > before, f"{name} polls")


@pytest.fixture
def service(tmp_path: Path, embedded: Broker) -> Iterator[Service]:
    with Api() as api:
        yield Service(tmp_path, embedded, api)


def test_connectors_come_change_and_go_while_it_runs(service: Service) -> None:
    with service.running() as running:
        # With no connector it is ready, and waits.
        assert [] == service.admin.get("/connectors")
        until(lambda: service.ask("GET", "/health").status == 200, "healthy")

        told = service.create("a")
        assert 201 == told.status
        assert f"{service.admin.url}/connectors/a" == told.headers["Location"]
        assert [] == told.document["tasks"]
        assert {**service.keys("a-t"), "name": "a"} == told.document["config"]
        service.polled("a")
        file = service.directory / "a.json"
        assert told.document["config"] == json.loads(file.read_text())
        assert 0o600 == stat.S_IMODE(file.stat().st_mode)
        assert 409 == service.create("a").status

        # A secret is kept beside, and told as a reference that can be sent back.
        patch = {"auth.type": "BEARER", "bearer.token": SECRET}
        told = service.ask("PATCH", "/connectors/a/config", patch)
        assert 200 == told.status
        config = told.document["config"]
        assert config["bearer.token"].startswith("${file:")
        until(
            lambda: (
                service.api.log[-1].headers.get("authorization") == f"Bearer {SECRET}"
            ),
            "the token is sent",
        )
        assert 200 == service.ask("PUT", "/connectors/a/config", config).status
        told = service.ask("GET", "/connectors/a/config")
        assert config == told.document
        # What is not referred to any more is gone.
        patch = {"auth.type": None, "bearer.token": None}
        assert 200 == service.ask("PATCH", "/connectors/a/config", patch).status
        assert [] == os.listdir(service.directory / ".secrets")
        assert SECRET not in "".join(
            path.read_text() for path in service.directory.glob("*.json")
        )

        # Another one comes, changes and goes, and the first one knows nothing of it.
        task = running.tasks()[0]
        assert 201 == service.create("b", tasks__max="1").status
        service.polled("b")
        body = service.keys("b-t", http__source__poll__interval__ms="20")
        assert 200 == service.ask("PUT", "/connectors/b/config", body).status
        assert 204 == service.ask("DELETE", "/connectors/b").status
        assert 404 == service.ask("GET", "/connectors/b").status
        assert 404 == service.ask("DELETE", "/connectors/b").status
        assert not (service.directory / "b.json").exists()
        assert f"a/0 started as process {task} " in running.err
        assert 0 == running.end().code
        assert SECRET not in running.err
    with service.running():
        assert ["a"] == service.admin.get("/connectors")
        service.polled("a")


def test_what_people_put_there_is_taken_up_and_a_bad_file_stops_nobody(
    service: Service,
) -> None:
    service.directory.mkdir()
    service.api.route("/hand-t", news)
    keys = service.keys("hand-t", name="hand")
    text = "".join(f"{key}={value}\n" for key, value in keys.items())
    (service.directory / "bad.properties").write_text("name=bad\nno.such.key=1\n")
    own = text.replace("name=hand", "name=own")
    (service.directory / "own.properties").write_text(f"{own}listeners=none\n")
    with service.running() as running:
        assert [] == service.admin.get("/connectors")
        assert running.said(r"bad\.properties is left as it was: .*unknown key")
        assert running.said(r"own\.properties.*a key of the whole process")

        (service.directory / "hand.properties").write_text(text)
        until(
            lambda: service.admin.get("/connectors") == ["hand"], "taken up", within=2.5
        )
        service.polled("hand")

        # A mistake changes nothing; what REST changes is JSON from then on.
        (service.directory / "hand.properties").write_text(text + "tasks.max=many\n")
        until(lambda: running.said(r"hand\.properties is left as it was"), "said")
        service.polled("hand")
        (service.directory / "hand.properties").write_text(text)
        time.sleep(1.5)
        told = service.ask("PATCH", "/connectors/hand/config", {"tasks.max": 2})
        assert (200, "2") == (told.status, told.document["config"]["tasks.max"])
        assert sorted(os.listdir(service.directory)) == [
            "bad.properties",
            "hand.json",
            "hand.properties.replaced",
            "own.properties",
        ]
        (service.directory / "hand.json").unlink()
        until(lambda: service.admin.get("/connectors") == [], "gone", within=2.5)
        running.tell(signal.SIGHUP)
        until(lambda: running.said("Reloaded"), "a reload")
        assert 0 == running.end().code


def test_a_file_of_the_command_line_is_its_owners(service: Service) -> None:
    service.api.route("/own-t", news)
    keys = service.keys("own-t", name="own")
    file = service.folder / "own.properties"
    file.write_text("".join(f"{key}={value}\n" for key, value in keys.items()))
    before = file.read_text()
    with service.running(file):
        path = "/connectors/own"
        for method, where, body in (
            ("PUT", "/config", service.keys("own-t")),
            ("PATCH", "/config", {"tasks.max": "2"}),
            ("DELETE", "", None),
        ):
            told = service.ask(method, f"{path}{where}", body)
            assert 409 == told.status
            assert str(file) in told.document["message"]
        assert 202 == service.ask("PUT", f"{path}/pause").status
        assert "PAUSED" == service.admin.get(f"{path}/status")["connector"]["state"]
        assert before == file.read_text()
        # One that lies in the directory under the same name is left out.
        service.directory.joinpath("own.json").write_text(json.dumps(keys))
        assert 409 == service.create("own").status
        assert ["own"] == service.admin.get("/connectors")


def test_initial_states_are_kept(service: Service) -> None:
    with service.running() as running:
        for state in ("STOPPED", "paused"):
            name = state.lower()
            body = {
                "name": name,
                "config": service.keys(f"{name}-t"),
                "initial_state": state,
            }
            assert 201 == service.ask("POST", "/connectors", body).status
            told = service.admin.get(f"/connectors/{name}/status")
            assert (state.upper(), []) == (told["connector"]["state"], told["tasks"])
        body = {**service.keys("paused-t"), "tasks.max": "2"}
        assert 200 == service.ask("PUT", "/connectors/paused/config", body).status
        told = service.admin.get("/connectors/paused/status")
        assert "PAUSED" == told["connector"]["state"]
        assert 0 == running.end().code
    with service.running():
        told = service.admin.get("/connectors?expand=status")
        assert {"STOPPED", "PAUSED"} == {
            each["status"]["connector"]["state"] for each in told.values()
        }


def test_bad_input_changes_nothing(service: Service) -> None:
    with service.running() as running:
        good = service.keys("x-t")
        put = "/connectors/x/config"
        for method, path, body, status, words in (
            ("POST", "/connectors", b"{", 400, "Invalid JSON"),
            ("POST", "/connectors", b'{"name":"x"} trailing', 400, "Invalid JSON"),
            ("POST", "/connectors", b'{"name":"\xff"}', 400, "Invalid JSON"),
            ("POST", "/connectors", [], 400, "a list"),
            ("POST", "/connectors", "x", 400, "a string"),
            ("POST", "/connectors", {}, 400, "config is needed"),
            ("POST", "/connectors", {"config": good, "more": 1}, 400, '"more"'),
            ("POST", "/connectors", {"name": "x", "config": []}, 400, "config"),
            (
                "POST",
                "/connectors",
                {"name": "x", "config": {}},
                400,
                "no connector type",
            ),
            ("POST", "/connectors", {"config": good}, 400, "not be empty"),
            ("POST", "/connectors", {"name": " ", "config": good}, 400, "not be empty"),
            ("POST", "/connectors", {"name": "a\nb", "config": good}, 400, "control"),
            ("POST", "/connectors", {"name": "../x", "config": good}, 400, "slash"),
            (
                "POST",
                "/connectors",
                {"name": "n" * 300, "config": good},
                400,
                "at most",
            ),
            (
                "POST",
                "/connectors",
                {"name": "x", "config": good, "initial_state": "NO"},
                400,
                "initial_state",
            ),
            ("PUT", put, {**good, "name": "y"}, 400, "doesn't match"),
            ("PUT", put, {"config": good}, 400, "the value of config"),
            ("PUT", put, {**good, "a": None}, 400, "Null value"),
            ("PUT", put, {**good, "kafka.topic": ""}, 400, '"kafka.topic"'),
            ("PUT", put, {**good, "no.such.key": "1"}, 400, "no.such.key"),
            ("PUT", put, {**good, "listeners": "none"}, 400, "whole process"),
            ("PUT", put, {**good, "connector.class": "No.Such"}, 400, "Failed to find"),
            ("PATCH", put, {"tasks.max": "2"}, 404, "Connector x not found"),
            ("DELETE", "/connectors/x", None, 404, "Connector x not found"),
            ("POST", "/connectors", b"x" * 10_000_000, 413, "more than"),
        ):
            told = service.ask(method, path, body)
            assert (status, status) == (told.status, told.document["error_code"]), path
            assert words in told.document["message"]
        assert [] == service.admin.get("/connectors")
        assert [] == [
            name for name in os.listdir(service.directory) if "secret" not in name
        ]
        assert "Traceback" not in running.err
