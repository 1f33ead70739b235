"""The supervisor with real forks, real signals and real kills."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.process.rig import Engine, connector, gone, until, wanted

Start = Callable[..., Engine]


def test_sigterm_drains_and_ends_with_0(engine: Start, tmp_path: Path) -> None:
    run = engine(lambda: wanted(connector(tmp_path, tasks=3)))
    run.running(3)
    children = run.children()

    assert 0 == run.stop()
    assert [] == [child for child in children if child.is_running()]
    assert [] == list(run.base.iterdir())
    assert "Traceback" not in run.log


def test_a_killed_task_is_started_again(engine: Start, tmp_path: Path) -> None:
    run = engine(lambda: wanted(connector(tmp_path, tasks=2)))
    run.running(2)
    before = run.pids()

    os.kill(before["c/0"], signal.SIGKILL)
    until(lambda: run.child("c/0").restarts == 1, "it starts again")
    run.running(2)

    assert run.pids()["c/0"] != before["c/0"]
    assert run.pids()["c/1"] == before["c/1"]
    assert "memory?" in run.child("c/0").last_exit
    assert 0 == run.stop()


def test_children_go_with_a_killed_supervisor(engine: Start, tmp_path: Path) -> None:
    run = engine(lambda: wanted(connector(tmp_path, tasks=3)))
    run.running(3)
    children = run.children()

    run.signal(signal.SIGKILL)
    assert -signal.SIGKILL == run.wait()

    until(lambda: all(map(gone, children)), "no orphan", 1.0)
