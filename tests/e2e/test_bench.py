"""`bench` from the command line: what it prints is what has been delivered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from engine.config.sections.kafka import has_embedded
from tests.e2e.conftest import Make
from tests.e2e.rig import TYPES
from tests.fakes.api import Api
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


def test_a_recorded_api_is_benched_without_it(make: Make, tmp_path: Path) -> None:
    """Its records, in turn, and nothing else; the API is asked for them alone."""
    kept = tmp_path / "kept.ndjson"
    with Api(pages=4, records=50) as api:
        url = f"{api.url}/cursor/0"
        setup = make(url, {"pagination.type": "cursor", **TYPES["cursor"]})
        short = ["bench", "--seconds", "1", "--warm-up", "0.5", "--json"]
        broker = str(setup.keys["bootstrap.servers"])

        first = setup.call(
            *short, "--record", str(kept), "--pages", "2", "--bootstrap", broker
        )
        assert 0 == first.code, first.err
        assert "recorded" == first.document["records"]
        assert 2 == len(api.targets())
        recorded = api.all_records()[:100]

    lines = [msgspec.json.decode(line) for line in kept.read_bytes().splitlines()]
    assert [50, 50] == [len(line["records"]) for line in lines]
    produced = first.document["connectors"][0]["produced"]
    values = setup.values()
    assert len(values) >= produced > 100
    # As they were recorded, byte for byte, in turn.
    assert recorded == values[:100]
    assert set(recorded) == set(values)

    # The API is gone, and its records are there.
    again = setup.call(*short, "--recording", str(kept), "--bootstrap", broker)
    assert 0 == again.code, again.err
    assert set(recorded) == set(setup.values()[len(values) :])


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ('{"api": "x/api1", "records": [{}]}\n{"api": 1\n', "kept.ndjson:2: not a rec"),
        ('{"api": "x/api1", "records": [{}]}\n', "kept.ndjson: no records of c"),
        ("", "kept.ndjson: no records of c"),
    ],
)
def test_what_is_no_recording_of_it_is_said(
    make: Make, tmp_path: Path, kept: str, words: str
) -> None:
    (tmp_path / "kept.ndjson").write_text(kept)
    setup = make("http://127.0.0.1:9/page")

    done = setup.call("bench", "--recording", str(tmp_path / "kept.ndjson"))

    assert 78 == done.code, done
    assert words in done.err


def test_a_file_that_is_not_there_is_said(make: Make, tmp_path: Path) -> None:
    setup = make("http://127.0.0.1:9/page")

    for words in (
        ["bench", str(tmp_path / "none.properties")],
        ["bench", "--recording", str(tmp_path / "none.ndjson")],
    ):
        done = setup.call(*words)

        assert 66 == done.code, done
        assert "none." in done.err
        assert "o such file" in done.err
