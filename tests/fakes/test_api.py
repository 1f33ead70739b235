"""The oracle itself: what it says it is, and as fast as tests need it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

from tests.fakes.api import Api, record


def test_a_record_can_be_computed_and_has_its_size() -> None:
    assert 290 == len(record(3, 14, 290))
    assert {"id": "s3-0000014", "source": 3, "n": 7, "text": "x"} == json.loads(
        record(3, 14, ties=2)
    )


def test_it_answers_thousands_of_small_pages_a_second() -> None:
    with Api(pages=10, records=1, keep_log=False) as api:
        connection = http.client.HTTPConnection("127.0.0.1", api.port)
        began = time.process_time()
        for _ in range(500):
            connection.request("GET", "/cursor/0")
            connection.getresponse().read()
        # Client and server together, in CPU: the machine may be busy.
        assert time.process_time() - began < 1.0
        assert 1 == api.counts.connections


def test_it_runs_as_a_process_and_tells_what_it_saw() -> None:
    command = [sys.executable, "-m", "tests.fakes.api", "--pages", "2", "--log"]
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        page = json.load(urlopen(f"{url}/cursor/0"))
        counts = json.load(urlopen(f"{url}/-/counts"))
        log = json.load(urlopen(f"{url}/-/log"))
        process.kill()

    assert 500 == len(page["items"])
    assert {"/cursor/0": 1} == counts["by_path"]
    assert ["/cursor/0"] == [target for _, target, _ in log]
