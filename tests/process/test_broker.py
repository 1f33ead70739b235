"""The embedded broker: started, found, started again, ended last."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from engine.errors import Exit
from engine.supervisor import broker
from engine.supervisor.broker import EmbeddedBroker
from engine.supervisor.child import ChildContext
from engine.supervisor.runtime import Runtime
from tests.process.rig import Engine, connector, gone, until, wanted

Start = Callable[..., Engine]

if broker.no_embedded():
    if os.environ.get("CI"):
        pytest.fail("noida-db is not installed", pytrace=False)
    pytest.skip("noida-db is not installed", allow_module_level=True)


def answers(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, int(port))) == 0


def with_broker(state: Path) -> Callable[[Runtime], dict[str, object]]:
    return lambda runtime: {
        "broker": EmbeddedBroker(state=state, runtime=runtime.path, grace=3.0)
    }


def test_the_broker_listens_before_the_tasks_start_and_ends_after_them(
    engine: Start, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"

    def entry(context: ChildContext) -> int:
        address = (context.runtime / broker.NAME).read_text().strip()
        first = answers(address)
        context.ready()
        context.stopping.wait(60)
        seen.write_text(f"{first} {answers(address)}")
        return 0

    run = engine(
        lambda: wanted(connector(tmp_path, entry), embedded=True),
        make=with_broker(tmp_path),
    )
    run.running(1)
    snapshot = run.snapshot()
    assert snapshot is not None
    server = psutil.Process(snapshot.broker_pid)

    assert 0 == run.stop()
    assert "True True" == seen.read_text()
    assert gone(server)
    assert 1 == run.log.count("trying out")
    assert "GLIBC" not in run.log


def test_a_killed_broker_comes_back_on_its_port_and_no_task_notices(
    engine: Start, tmp_path: Path
) -> None:
    run = engine(
        lambda: wanted(connector(tmp_path), embedded=True), make=with_broker(tmp_path)
    )
    run.running(1)
    before, tasks = run.snapshot(), run.pids()
    assert before is not None

    os.kill(before.broker_pid, signal.SIGKILL)

    def back() -> bool:
        now = run.snapshot()
        return bool(now and now.broker_pid not in (0, before.broker_pid))

    until(back, "another broker")
    until(lambda: answers(before.broker), "it listens on the same port")
    assert tasks == run.pids()
    assert 0 == run.stop()


def test_the_broker_goes_with_a_killed_supervisor(
    engine: Start, tmp_path: Path
) -> None:
    run = engine(
        lambda: wanted(connector(tmp_path), embedded=True), make=with_broker(tmp_path)
    )
    run.running(1)
    children = run.children()
    assert 2 == len(children)

    run.signal(signal.SIGKILL)
    run.wait()

    until(lambda: all(map(gone, children)), "no orphan", 2.0)


def test_a_second_engine_over_the_same_data_is_told_the_address(
    engine: Start, tmp_path: Path
) -> None:
    first = engine(
        lambda: wanted(connector(tmp_path), embedded=True), make=with_broker(tmp_path)
    )
    first.running(1)
    snapshot = first.snapshot()
    assert snapshot is not None

    second = engine(
        lambda: wanted(connector(tmp_path, name="d"), embedded=True),
        make=with_broker(tmp_path),
    )

    assert Exit.TRY_AGAIN == second.wait()
    assert f"bootstrap.servers={snapshot.broker}" in second.log
    assert f"process {first.pid}" in second.log
    assert 0 == first.stop()


def test_a_missing_package_is_named_with_its_extra(
    engine: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        broker, "no_embedded", lambda: "pip install 'kafka-http-source[embedded]'"
    )
    run = engine(
        lambda: wanted(connector(tmp_path), embedded=True), make=with_broker(tmp_path)
    )

    assert Exit.CONFIG == run.wait()
    assert "kafka-http-source[embedded]" in run.log


def test_a_broker_that_ends_at_once_is_an_error_with_its_words(
    engine: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad"
    bad.write_text("#!/bin/sh\necho the disk is made of cheese\nexit 3\n")
    bad.chmod(0o700)
    monkeypatch.setattr(broker, "find", lambda: bad)
    run = engine(
        lambda: wanted(connector(tmp_path), embedded=True), make=with_broker(tmp_path)
    )

    assert Exit.UNAVAILABLE == run.wait()
    assert "the disk is made of cheese" in run.log
