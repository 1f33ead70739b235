"""`--fast` starts no process and no broker, and says what would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import is_fast, refuse_processes
from tests.examples import FAST, LEAST, examples

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("event", ["os.fork", "os.posix_spawn", "subprocess.Popen"])
def test_what_starts_a_process_is_refused(event: str) -> None:
    with pytest.raises(AssertionError, match=event):
        refuse_processes(event, ())


def test_everything_else_is_allowed() -> None:
    for event in ("open", "socket.connect", "import"):
        refuse_processes(event, ())


def test_who_needs_a_process_or_a_broker_is_not_fast(request) -> None:
    # This module starts one below.
    assert not is_fast(request.node)


def test_examples_are_a_share(monkeypatch) -> None:
    monkeypatch.delenv(FAST, raising=False)
    assert 1000 == examples(1000)
    monkeypatch.setenv(FAST, "1")
    assert 200 == examples(1000)
    assert LEAST == examples(30)


def test_a_fast_run_refuses_a_fork(tmp_path: Path) -> None:
    """The whole way: a test that forks by a name that nobody knows."""
    (tmp_path / "test_it.py").write_text(
        "import os\n\n\ndef test_it():\n    getattr(os, 'fork')() or os._exit(0)\n"
        "\n\ndef test_other():\n    pass\n"
    )
    command = [sys.executable, "-m", "pytest", "--fast", "-p", "tests.conftest"]
    command += ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tmp_path]
    done = subprocess.run(
        [*command, tmp_path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert "a test of --fast starts a process (os.fork)" in done.stdout, done.stdout
    assert "1 failed, 1 passed" in done.stdout
