"""`bench` from the command line: what it prints is what has been delivered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.brokers import has_embedded
from tests.needs import need

CONFIG = """\
name=benched
http.source.url=http://127.0.0.1:9/page
pagination.type=page
kafka.topic=orders
bootstrap.servers=embedded
"""


def test_made_up_records_are_delivered_and_what_they_cost_is_told(
    tmp_path: Path,
) -> None:
    need(has_embedded(), "noida-db")
    file = tmp_path / "benched.properties"
    file.write_text(CONFIG)
    words = ["bench", str(file), "--seconds", "2", "--warm-up", "1", "--json"]

    done = subprocess.run(
        [sys.executable, "-m", "engine", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert 0 == done.returncode, done.stderr
    [told] = json.loads(done.stdout)["connectors"]
    assert told["produced"] > 0
    assert told["received"] == told["produced"]
    assert told["cpu_us_per_record"] > 0
    assert 0 < told["latency_ms"]["p50"] <= told["latency_ms"]["p99"]
    assert told["peak_task_memory_bytes"] > 10 << 20


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "engine", "bench", str(tmp_path / "none.properties")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert 66 == done.returncode
    assert "no such file" in done.stderr
