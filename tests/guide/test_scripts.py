"""The founding guide's bash scripts, byte for byte, against a running engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def engine(tmp_path: Path) -> Any:
    """What the engine showed when the script had ended."""
    return json.loads((tmp_path / "metrics.json").read_text())


def test_the_monitor_is_silent_when_all_is_well(tmp_path: Path) -> None:
    assert "" == run(tmp_path, script("THROUGHPUT_THRESHOLD"), "well")
    assert engine(tmp_path)["throughput"]["messagesPerSecond"] >= 100


def test_the_monitor_names_what_is_ill(tmp_path: Path) -> None:
    said = run(tmp_path, script("THROUGHPUT_THRESHOLD"), "ill").splitlines()
    told = engine(tmp_path)

    throughput, latency, *rest = said
    shown = float(re.findall(r"throughput: ([\d.]+) ", throughput)[0])
    assert 0 < shown < 100
    shown = float(re.findall(r": ([\d.]+) ms", latency)[0])
    assert 2000 < shown < 10_000
    assert shown == pytest.approx(told["latency"]["averageMs"], rel=0.2)
    # Nothing but news: every look-up misses.
    assert told["cache"]["enabled"]
    [hits] = rest
    assert hits.endswith(": 0")


def test_the_load_test_reports_what_was_delivered(tmp_path: Path) -> None:
    said = run(tmp_path, script("baseline-metrics.json"), "well")
    told = engine(tmp_path)
    before = json.loads((tmp_path / "baseline-metrics.json").read_text())
    after = json.loads((tmp_path / "final-metrics.json").read_text())

    numbers = dict(re.findall(r"^(.+?): ([\d.]+) ?\S*$", said, re.MULTILINE))
    processed = int(numbers["Messages Processed"])
    seconds = int(numbers["Test Duration"])
    assert "300\n" == (tmp_path / "slept").read_text()
    assert 2 <= seconds <= 10
    assert after["totalMessages"] - before["totalMessages"] == processed > 500
    assert told["totalMessages"] >= after["totalMessages"]
    assert processed // seconds == int(numbers["Average Throughput"])
    assert 50 <= float(numbers["Average Latency"]) < 500
    assert re.search(r"^Cache Hit Ratio: 1$", said, re.MULTILINE)
    rate = float(re.findall(r"^Error Rate: ([\d.]+)%", said, re.MULTILINE)[0])
    assert 7 < rate <= 10
