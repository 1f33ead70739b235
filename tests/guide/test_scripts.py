"""The founding guide's bash scripts, byte for byte, against the real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import need

GUIDE = "KAFKA_HTTP_SOURCE_GUIDE"
ROOT = Path(__file__).parent.parent.parent

#: Stands before the real one on PATH: five minutes become two seconds.
SLEEP = """#!/bin/sh
echo "$1" >> slept
exec {sleep} 2
"""


def script(holding: str) -> str:
    """The guide's bash script with this text in it."""
    path = os.environ.get(GUIDE)
    if not path:
        pytest.skip(f"{GUIDE} names no guide")
    for fence in re.findall(
        r"^```bash\n(.*?)^```$", Path(path).read_text(), re.MULTILINE | re.DOTALL
    ):
        if fence.startswith("#!/bin/bash") and holding in fence:
            return str(fence)
    pytest.fail(f"{path} has no bash script with {holding!r}")


def run(tmp_path: Path, text: str, how: str) -> str:
    """What the script says, in a network of its own where 8080 is free."""
    for tool in ("curl", "jq", "bc", "unshare", "ip"):
        need(shutil.which(tool), tool)
    namespace = ["unshare", "--map-root-user", "--net"]
    tried = subprocess.run([*namespace, "true"], capture_output=True, check=False)
    need(0 == tried.returncode, "a network namespace")
    (tmp_path / "bin").mkdir()
    sleep = tmp_path / "bin" / "sleep"
    sleep.write_text(SLEEP.format(sleep=shutil.which("sleep")))
    sleep.chmod(0o755)
    (tmp_path / "script.sh").write_text(text)
    stand = f"{sys.executable} -m tests.guide.stand {tmp_path} script.sh {how}"

    ran = subprocess.run(
        [*namespace, "sh", "-c", f"ip link set lo up && exec {stand}"],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ("", 0) == (ran.stderr, ran.returncode)
    return ran.stdout


def test_the_monitor_is_silent_when_all_is_well(tmp_path: Path) -> None:
    assert "" == run(tmp_path, script("THROUGHPUT_THRESHOLD"), "well")


def test_the_monitor_names_all_three_when_all_is_ill(tmp_path: Path) -> None:
    said = run(tmp_path, script("THROUGHPUT_THRESHOLD"), "ill").splitlines()

    assert 3 == len(said)
    assert re.search(r"throughput: 0\.0[56]\d* ", said[0])
    assert said[1].endswith(": 2500 ms")
    assert said[2].endswith(": 0.5")


def test_the_load_test_reports_what_was_delivered(tmp_path: Path) -> None:
    said = run(tmp_path, script("baseline-metrics.json"), "well")

    numbers = dict(re.findall(r"^(.+?): ([\d.]+) ?\S*$", said, re.MULTILINE))
    processed = int(numbers["Messages Processed"])
    seconds = int(numbers["Test Duration"])
    assert "300\n" == (tmp_path / "slept").read_text()
    assert 2 <= seconds <= 10
    assert 500 < processed < 30_000
    assert processed // seconds == int(numbers["Average Throughput"])
    assert ("250", "0.9") == (numbers["Average Latency"], numbers["Cache Hit Ratio"])
    assert "Error Rate: 0.5%" in said
