"""The admin process of a running engine: Connect's words, Jolokia, rude clients."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from engine import __version__
from tests.brokers import Broker
from tests.e2e.admin import LISTENING, Admin, admin_of, listening
from tests.e2e.conftest import Make
from tests.e2e.rig import ROOT, Running, Setup, until
from tests.fakes.api import Answer, Api, Asked
from tests.needs import need

pytestmark = pytest.mark.slow

PASSWORD = "hunter2-and-more"

KEYS: dict[str, object] = {
    **LISTENING,
    "http.source.poll.interval.ms": 50,
    # An API whose every answer is new is no reason for concern here.
    "health.check.cache.hit.ratio.threshold": 0,
    "jmx.enabled": "true",
    "jmx.metrics.detailed": "true",
    "auth.type": "BASIC",
    "connection.user": "reader",
    "connection.password": PASSWORD,
    "http.source.headers": "X-Api-Key:${file:%s:key}",
}


class Stage(NamedTuple):
    setup: Setup
    running: Running
    admin: Admin

    def arriving(self) -> None:
        """Records still flow."""
        before = self.admin.get("/health/metrics")["totalMessages"]
        until(
            lambda: self.admin.get("/health/metrics")["totalMessages"] > before,
            "records flow",
        )


_NUMBERS = itertools.count()


def news(asked: Asked) -> Answer:
    """Two records that nobody has seen."""
    return 200, [], b'{"items":[{"id":%d},{"id":-1}]}' % next(_NUMBERS)


@pytest.fixture(scope="module")
def stage(
    tmp_path_factory: pytest.TempPathFactory, embedded: Broker
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("admin")
    (folder / "secrets").write_text("key=k3y-out-of-a-file\n")
    with Api() as api:
        api.route("/x", news)
        setup = Setup(folder, f"{api.url}/x", embedded, KEYS)
        reference = str(KEYS["http.source.headers"]) % (folder / "secrets")
        setup.write(**{"http.source.headers": reference})
        with setup.running() as running:
            made = Stage(setup, running, admin_of(setup, running))
            made.arriving()
            yield made


# --- Connect's words ---------------------------------------------------------


def test_the_root_names_version_commit_and_cluster(stage: Stage) -> None:
    until(lambda: stage.admin.get("/")["kafka_cluster_id"], "the cluster's id")
    told = stage.admin.get("/")

    # Clients of Connect choose their calls by the level; ours is beside it.
    assert {"version", "commit", "kafka_cluster_id"} <= told.keys()
    assert "4.3.1" == told["version"]
    assert __version__ == told["kafka_http_source_version"]
    assert re.fullmatch("[0-9a-f]{16}|unknown", told["commit"])


def test_a_connector_is_told_in_connects_shape(stage: Stage) -> None:
    name, admin = stage.setup.name, stage.admin
    worker = f"{socket.gethostname()}:{admin.url.rpartition(':')[2]}"
    status = {
        "name": name,
        "connector": {
            "state": "RUNNING",
            "worker_id": worker,
            "version": __version__,
        },
        "tasks": [
            {
                "id": 0,
                "state": "RUNNING",
                "worker_id": worker,
                "version": __version__,
            }
        ],
        "type": "source",
    }
    info = {
        "name": name,
        "config": admin.get(f"/connectors/{name}/config"),
        "tasks": [{"connector": name, "task": 0}],
        "type": "source",
    }

    assert [name] == admin.get("/connectors")
    assert info == admin.get(f"/connectors/{name}")
    assert status == admin.get(f"/connectors/{name}/status")
    assert {name: {"status": status, "info": info}} == admin.get(
        "/connectors?expand=status&expand=info"
    )


def test_a_configuration_is_text_without_a_secret(stage: Stage) -> None:
    told = stage.admin.get(f"/connectors/{stage.setup.name}/config")

    assert all(isinstance(value, str) for value in told.values())
    assert str(stage.setup.keys["http.source.headers"]) == told["http.source.headers"]
    everything = "".join(
        stage.admin.ask(path).body.decode()
        for path in (
            *("/connectors?expand=info&expand=status", "/metrics", "/health"),
            *("/health/metrics", "/jolokia/list", "/admin/loggers", "/"),
        )
    )
    assert PASSWORD not in everything
    assert "k3y-out-of-a-file" not in everything


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/connectors/none", 404, "Connector none not found"),
        ("GET", "/connectors/none/config", 404, "Connector none not found"),
        ("GET", "/connectors/none/status", 404, "No status found for connector none"),
        ("GET", "/admin/loggers/none", 404, "Logger none not found."),
        ("GET", "/no/such/path", 404, "HTTP 404 Not Found"),
        ("DELETE", "/connectors", 405, "HTTP 405 Method Not Allowed"),
        ("PATCH", "/health", 405, "HTTP 405 Method Not Allowed"),
    ],
)
def test_errors_are_connects_word_for_word(
    stage: Stage, method: str, path: str, status: int, message: str
) -> None:
    told = stage.admin.ask(path, method=method)

    assert status == told.status
    assert "application/json" == told.headers["Content-Type"]
    assert {"error_code": status, "message": message} == told.document


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "Desired 'level' parameter was not specified in request."),
        ({"level": "LOUD"}, 404, "invalid log level 'LOUD'."),
    ],
)
def test_a_level_that_is_none_is_refused(
    stage: Stage, body: object, status: int, message: str
) -> None:
    told = stage.admin.ask("/admin/loggers/root", method="PUT", body=body)

    assert (status, message) == (told.status, told.document["message"])


def test_a_level_reaches_a_task_that_runs_and_one_that_starts_later(
    stage: Stage,
) -> None:
    def put(level: str) -> None:
        told = stage.admin.ask(
            "/admin/loggers/root", method="PUT", body={"level": level}
        )
        assert (200, ["root"]) == (told.status, told.document)

    def debugged(pid: int) -> bool:
        return re.search(rf" DEBUG .*pid={pid}\]", stage.running.err) is not None

    first = stage.running.tasks()[0]
    assert not debugged(first)

    put("DEBUG")
    told = stage.admin.get("/admin/loggers")["root"]
    assert "DEBUG" == told["level"]
    assert abs(told["last_modified"] - 1000 * time.time()) < 60_000
    until(lambda: debugged(first), "the task debugs")

    os.kill(first, signal.SIGKILL)
    until(lambda: stage.running.tasks()[0] != first, "another process")
    until(lambda: debugged(stage.running.tasks()[0]), "it debugs, too")
    put("INFO")
    stage.arriving()


# --- Jolokia -----------------------------------------------------------------

CLIENT = """
import Jolokia from 'jolokia.js'
const jolokia = new Jolokia({ url: process.argv[2], method: process.argv[3] })
const name = 'kafka.connect.http:type=HttpSourceConnector'
const read = attribute => ({ type: 'read', mbean: name, attribute })
const told = {
  version: await jolokia.request({ type: 'version' }),
  one: await jolokia.request(read('MessagesPerSecond')),
  all: await jolokia.request({ type: 'read', mbean: name }),
  found: await jolokia.request({ type: 'search', mbean: 'kafka.connect.http:*' }),
  connect: await jolokia.request({ type: 'search', mbean: 'kafka.connect:*' }),
  tree: await jolokia.request({ type: 'list' }),
  missing: await jolokia.request({ type: 'read', mbean: 'no:type=such' }),
  exec: await jolokia.request({ type: 'exec', mbean: name, operation: 'stop' }),
}
if (process.argv[3] === 'post') {
  told.some = await jolokia.request(read(['AverageResponseTime', 'ErrorRate']))
  told.bulk = await jolokia.request([read('TotalMessages'), read('NoSuch'),
    { type: 'read', mbean: 'kafka.connect:type=source-task-metrics,*' }])
}
console.log(JSON.stringify(told))
"""


@pytest.fixture(scope="module")
def published_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with jolokia.js."""
    need(shutil.which("npm"), "npm")
    folder = tmp_path_factory.mktemp("jolokia")
    (folder / "package.json").write_text('{"private": true}')
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "jolokia.js@2.6.1"],
        cwd=folder,
        capture_output=True,
        timeout=100,
        check=False,
    )
    need(0 == installed.returncode, "jolokia.js")
    (folder / "client.mjs").write_text(CLIENT)
    return folder


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_published_jolokia_client_reads_searches_and_lists(
    stage: Stage, published_client: Path, method: str
) -> None:
    ran = subprocess.run(
        ["node", "client.mjs", f"{stage.admin.url}/jolokia", method],
        cwd=published_client,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert "" == ran.stderr
    told = json.loads(ran.stdout)
    assert "8.2" == told["version"]["value"]["protocol"]
    assert isinstance(told["one"]["value"], int)
    assert told["all"]["value"]["TotalMessages"] > 0
    main = "kafka.connect.http:type=HttpSourceConnector"
    assert {main, f"{main[:19]}connector={stage.setup.name},{main[19:]}"} <= set(
        told["found"]["value"]
    )
    assert any("type=source-task-metrics" in name for name in told["connect"]["value"])
    assert {"kafka.connect", "kafka.connect.http"} == told["tree"]["value"].keys()
    assert (404, 403) == (told["missing"]["status"], told["exec"]["status"])
    if method == "post":
        assert {"AverageResponseTime", "ErrorRate"} == told["some"]["value"].keys()
        total, missing, tasks = told["bulk"]
        assert total["value"] > 0
        assert 404 == missing["status"]
        [values] = tasks["value"].values()
        assert values["source-record-write-total"] > 0


# --- status and top ----------------------------------------------------------


def asked(stage: Stage, *words: str) -> str:
    """What a command says of the engine, from wherever it is asked."""
    command = [sys.executable, "-m", "engine", *words, "--url", stage.admin.url]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_status_and_top_tell_of_the_running_engine(stage: Stage) -> None:
    name = stage.setup.name
    told = json.loads(asked(stage, "status", "--json"))
    assert "healthy" == told["health"]["connectors"][name]["status"]
    assert told["metrics"]["totalMessages"] > 0
    assert f"{name}: healthy" in asked(stage, "status").splitlines()

    [row] = json.loads(asked(stage, "top", "--json", "--interval", "1"))["tasks"]
    assert (name, "0", "RUNNING") == (row["connector"], row["task"], row["state"])
    assert row["written"] > 0 < row["written_rate"]
    assert row["memory"] > 10_000_000 and row["p99_ms"] > 0


# --- who may ask, and who is rude ----------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8080"}, 403),
        ({"Host": "localhost:8080"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_foreign_host_or_origin_is_refused(
    stage: Stage, headers: dict[str, str], status: int
) -> None:
    assert status == stage.admin.ask("/health", headers=headers).status


def test_a_thousand_connections_and_drips_hold_up_neither_records_nor_probes(
    stage: Stage,
) -> None:
    host, _, port = stage.admin.url.removeprefix("http://").rpartition(":")
    with ExitStack() as open_:
        for number in range(1000):
            client = open_.enter_context(socket.create_connection((host, int(port)), 5))
            if number % 10 == 0:
                client.sendall(b"GET /health HTTP/1.1\r\nHost: local")
        stage.arriving()
        assert 200 == stage.admin.ask("/health/live").status
        pid = _admin(stage.running).pid
        assert psutil.Process(pid).num_fds() < 100


def _admin(running: Running) -> psutil.Process:
    found = re.findall(r"admin started as process (\d+)", running.err)
    return psutil.Process(int(found[-1]))


def test_admin_dies_and_comes_back_while_records_flow(stage: Stage) -> None:
    """Last of those that share the engine: its port is another one after it."""
    runtime = Path(str(stage.setup.keys["runtime.dir"]))
    before = stage.admin.get("/health/metrics")["totalMessages"]
    task = stage.running.tasks()[0]
    for file in runtime.glob("**/listeners"):
        file.unlink()

    os.kill(_admin(stage.running).pid, signal.SIGKILL)

    again = Stage(
        stage.setup, stage.running, Admin(listening(runtime, stage.running)[0])
    )
    assert again.admin.get("/health/metrics")["totalMessages"] > before
    again.arriving()
    assert task == stage.running.tasks()[0]


def test_a_taken_port_is_a_warning_and_records_flow(make: Make) -> None:
    with Api() as api, socket.create_server(("127.0.0.1", 0)) as taken:
        api.route("/x", news)
        port = taken.getsockname()[1]
        setup = make(f"{api.url}/x", {"listeners": f"http://127.0.0.1:{port}"})
        with setup.running() as running:
            until(
                lambda: running.said("WARN .*Cannot listen on 127.0.0.1"), "a warning"
            )
            until(setup.arrived, "records arrive")
            assert 0 == running.end().code


def _own_address() -> str | None:
    """An address of this machine that is not loopback."""
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family == socket.AF_INET and not one.address.startswith("127."):
                return str(one.address)
    return None


@pytest.mark.parametrize("token", ["", "t0ken-of-the-operator"])
def test_off_loopback_nothing_is_written_without_a_token(
    make: Make, token: str
) -> None:
    address = _own_address()
    need(address, "an address that is not loopback")
    with Api() as api:
        api.route("/x", news)
        keys = {"listeners": f"http://{address}:0", "admin.token": token or None}
        setup = make(f"{api.url}/x", keys)
        with setup.running() as running:
            admin = admin_of(setup, running)
            level: Callable[[dict[str, str]], int] = lambda headers: (
                admin.ask(
                    "/admin/loggers/root",
                    method="PUT",
                    body={"level": "INFO"},
                    headers=headers,
                ).status
            )
            assert 200 == admin.ask("/metrics").status
            assert (401 if token else 403) == level({})
            assert (401 if token else 403) == level({"Authorization": "Bearer x"})
            shut = admin.ask(f"/connectors/{setup.name}/config").status
            assert (401 if token else 403) == shut
            foreign = admin.ask("/metrics", headers={"Host": "evil.example"})
            assert 403 == foreign.status
            if token:
                assert 200 == level({"Authorization": f"Bearer {token}"})
                assert token not in running.err
