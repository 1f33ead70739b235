"""The admin process of a real engine: forked, watched, killed, restarted."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine import config
from engine.admin import running
from engine.cli.wanted import Plan
from engine.observe import names
from engine.observe.meters import DIRECTORY, Meters
from engine.supervisor.broker import EmbeddedBroker
from engine.supervisor.child import ChildContext
from engine.supervisor.orders import DesiredState
from tests.process.rig import Engine, auxiliary, connector, until, wanted

FILE = """\
name=c
connector.class=HttpSourceConnector
http.source.url=http://127.0.0.1:9/orders
http.source.poll.interval.ms=2000
kafka.topic=orders
bootstrap.servers=127.0.0.1:9
tasks.max=2
jmx.enabled=true
auth.type=BEARER
bearer.token=lit3ral-s3cret
http.source.headers=X-Api-Key:${env:THE_KEY}
"""


def counting(context: ChildContext) -> int:
    """A task that delivers ten records a turn and says when it debugs."""
    context.ready()
    meters = Meters(
        directory=context.runtime / DIRECTORY,
        connector=context.connector,
        task=context.number,
    )
    while not context.stopping.wait(0.05):
        for assigned in context.assigned:
            slot = context.board.shard(assigned.slot)
            slot.add("received", 10)
            slot.add("produced", 10)
            slot.put("last_success_ms", running.SYSTEM.wall_ms())
        meters.count(names.BATCHES)
        meters.flush()
        logging.getLogger("engine.task").debug("A turn of task %d.", context.number)
    meters.close()
    return 0


def plan(tmp: Path, listeners: str, tasks: int = 2) -> Callable[[], DesiredState]:
    file = tmp / "c.properties"
    file.write_text(FILE + f"listeners={listeners}\n")
    loaded = config.load([file], environment={"THE_KEY": "k3y"})

    def planned() -> DesiredState:
        return wanted(
            connector(tmp, counting, tasks=tasks),
            others=(auxiliary(partial(running.run, loaded=loaded)),),
        )

    return planned


def url(engine: Engine) -> str:
    """Where the admin process listens, once it does."""
    until(lambda: engine.runtime is not None, "a runtime directory")
    assert engine.runtime is not None
    file = engine.runtime / running.LISTENERS
    until(file.exists, "the listeners are written down")
    return file.read_text().split()[0]


def get(address: str, **given: Any) -> Any:
    request = urllib.request.Request(address, **given)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            content = answer.read()
    except urllib.error.HTTPError as refused:
        content = refused.read()
    try:
        return json.loads(content)
    except ValueError:
        return content.decode()


def written(base: str) -> dict[str, float]:
    """Task -> records written, off `/metrics`."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(get(f"{base}/metrics")):
        for sample in family.samples:
            if sample.name == names.RECORDS_WRITTEN.name:
                task = sample.labels["task"]
                found[task] = found.get(task, 0) + sample.value
    return found


@pytest.fixture
def base(tmp_path: Path, engine: Callable[..., Engine]) -> tuple[Engine, str]:
    started = engine(plan(tmp_path, "http://127.0.0.1:0"))
    started.running(3)
    return started, url(started)


def test_it_tells_what_the_tasks_do(base: tuple[Engine, str]) -> None:
    _, address = base

    until(lambda: get(f"{address}/health")["status"] == "healthy", "healthy")
    until(lambda: {"0", "1"} <= written(address).keys(), "both tasks counted")
    metrics = get(f"{address}/health/metrics")
    status = get(f"{address}/connectors/c/status")
    name = "kafka.connect.http:type=HttpSourceConnector"

    assert metrics["totalMessages"] > 0 == metrics["errorRate"]
    assert ["RUNNING", "RUNNING"] == [task["state"] for task in status["tasks"]]
    assert status["tasks"][0]["worker_id"].endswith(address[address.rindex(":") :])
    assert get(f"{address}/jolokia/read/{name}/TotalMessages")["value"] > 0
    assert "http_source_batches_total" in get(f"{address}/metrics")


def test_the_configuration_shows_references_and_no_secret(
    base: tuple[Engine, str],
) -> None:
    shown = get(f"{base[1]}/connectors/c/config")

    assert "X-Api-Key:${env:THE_KEY}" == shown["http.source.headers"]
    # What holds for the whole process is no part of a connector.
    assert "listeners" not in shown
    assert "lit3ral-s3cret" not in json.dumps(shown)
    assert "k3y" not in json.dumps(shown)


def test_counters_go_on_when_a_task_is_killed(base: tuple[Engine, str]) -> None:
    engine, address = base
    until(lambda: written(address).get("0", 0) > 50, "records")
    pid = engine.pids()["c/0"]
    before = written(address)

    os.kill(pid, signal.SIGKILL)
    until(lambda: engine.pids().get("c/0", pid) != pid, "a new process")

    after = written(address)
    assert all(after[task] >= n for task, n in before.items())
    until(lambda: written(address)["0"] > after["0"], "it goes on counting")


def test_admin_dies_and_comes_back_while_tasks_go_on(base: tuple[Engine, str]) -> None:
    engine, address = base
    before = engine.pids()
    until(lambda: written(address).get("0", 0) > 50, "records")
    total = get(f"{address}/health/metrics")["totalMessages"]
    assert engine.runtime is not None
    (engine.runtime / running.LISTENERS).unlink()

    os.kill(before["admin"], signal.SIGKILL)
    until(lambda: engine.pids().get("admin", 0) not in (0, before["admin"]), "admin")

    assert get(f"{url(engine)}/health/metrics")["totalMessages"] >= total
    after = engine.pids()
    assert (before["c/0"], before["c/1"]) == (after["c/0"], after["c/1"])


def test_a_taken_port_touches_no_task(
    tmp_path: Path, engine: Callable[..., Engine]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        started = engine(plan(tmp_path, f"http://127.0.0.1:{port}"))
        started.running(3)

        until(
            lambda: "Cannot listen on 127.0.0.1" in started.log_path.read_text(),
            "the warning",
        )
        assert 3 == len(started.pids())
    assert 0 == started.stop()


def test_a_level_reaches_every_process(base: tuple[Engine, str]) -> None:
    engine, address = base
    assert "A turn of task" in engine.log_path.read_text()

    body = json.dumps({"level": "WARN"}).encode()
    kind = {"Content-Type": "application/json"}
    changed = get(
        f"{address}/admin/loggers/engine.task", data=body, method="PUT", headers=kind
    )
    told = get(f"{address}/admin/loggers/engine.task")

    def silent() -> bool:
        size = engine.log_path.stat().st_size
        signal.sigtimedwait([], 0.3)
        return engine.log_path.stat().st_size == size

    assert ["engine.task"] == changed
    assert "WARN" == told["level"] and told["last_modified"]
    until(silent, "no task debugs any more")


def test_it_ends_with_the_engine(base: tuple[Engine, str]) -> None:
    engine, _ = base

    assert 0 == engine.stop()
    assert not engine.children()


@pytest.mark.parametrize(
    ("listeners", "once", "admins"),
    [
        (None, False, 1),
        (None, True, 0),
        ("http://127.0.0.1:0", True, 1),
        ("none", False, 0),
    ],
)
def test_a_run_has_an_admin_process_unless_it_ends_by_itself_or_none_is_wanted(
    tmp_path: Path, listeners: str | None, once: bool, admins: int
) -> None:
    file = tmp_path / "c.properties"
    file.write_text(FILE + (f"listeners={listeners}\n" if listeners else ""))
    loaded = config.load([file], environment={"THE_KEY": "k3y"})
    broker = EmbeddedBroker(state=tmp_path, runtime=tmp_path)

    planned = Plan(loaded, lambda: loaded, once=once, state=tmp_path, broker=broker)()

    assert admins == len(planned.others)
    assert all(child.auxiliary for child in planned.others)
