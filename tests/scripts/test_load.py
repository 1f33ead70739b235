"""scripts/load-test and scripts/performance-monitor against a served engine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen
from xml.etree import ElementTree

import pytest

from engine.admin.view import ShardState, TaskState
from engine.clock import SYSTEM
from engine.observe import names
from engine.observe.meters import Meters
from tests.fakes.saying import saying
from tests.fakes.view import FakeView, card, serving

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"


class Stand:
    """An engine that delivers about 2,000 records a second while a test runs."""

    def __init__(self, directory: Path):
        self.view = FakeView(
            str(directory / "meters"), started_ms=SYSTEM.wall_ms(), cards=[card()]
        )
        self.view.task_states = [TaskState("orders", 0, "RUNNING")]
        meters = Meters(directory=self.view.meters, connector="orders", task=0)
        meters.timer(names.FETCH_TO_ACK_SECONDS)(0.25)
        meters.count(names.CACHE_REQUESTS, ("1", "hit"), 9)
        meters.count(names.CACHE_REQUESTS, ("none", "miss"), 1)
        meters.count(names.REQUESTS, ("h", "ok", "2xx"), 50)
        meters.close()
        self.records = 0
        self.deliver(20)
        self.url = ""

    def deliver(self, records: int) -> None:
        self.records += records
        counts = {"received": self.records, "produced": self.records}
        self.view.shard_states = [
            ShardState(0, "orders", "api1", "api1", 0, counts, SYSTEM.wall_ms())
        ]


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path)
    ended = threading.Event()

    def deliver() -> None:
        while not ended.wait(0.01):
            made.deliver(20)

    thread = threading.Thread(target=deliver)
    thread.start()
    try:
        with serving(made.view, str(tmp_path / "ports")) as urls:
            made.url = urls[0]
            yield made
    finally:
        ended.set()
        thread.join()


def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", str(SCRIPTS / script), *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_load_test_reports_as_text_json_and_plot(
    stand: Stand, tmp_path: Path
) -> None:
    before = stand.records
    ran = run(
        "load-test",
        *("--url", stand.url, "--duration", "1.5", "--interval", "0.3"),
        *("--target", "100"),
        *("--json", str(tmp_path / "run.json"), "--plot", str(tmp_path / "run.svg")),
    )

    assert ("", 0) == (ran.stderr, ran.returncode)
    report = json.loads((tmp_path / "run.json").read_text())
    assert 0 < report["messages"] <= stand.records - before
    assert report["messages"] == pytest.approx(
        report["messages_per_second"] * report["seconds"], rel=0.01
    )
    assert 1.4 < report["seconds"] < 5
    assert (0, True) == (report["unaccounted"], report["reached"])
    assert len(report["samples"]) >= 4
    assert f"Records written:  {report['messages']}\n" in ran.stdout
    assert "Target:           100 records/s reached" in ran.stdout
    drawn = ElementTree.parse(tmp_path / "run.svg").getroot()
    assert "{http://www.w3.org/2000/svg}svg" == drawn.tag
    assert 3 == len(drawn.findall("{*}polyline"))


def test_a_missed_target_is_exit_code_1(stand: Stand) -> None:
    ran = run(
        "load-test",
        *("--url", stand.url, "--duration", "0.5", "--interval", "0.2"),
        *("--target", "1e9", "--json", "-"),
    )

    assert 1 == ran.returncode
    assert json.loads(ran.stdout)["reached"] is False


def test_the_monitor_says_nothing_when_all_is_well(stand: Stand) -> None:
    ran = run("performance-monitor", "--url", stand.url, "--throughput", "1")

    assert ("", "", 0) == (ran.stdout, ran.stderr, ran.returncode)


def test_the_monitor_names_each_alert_and_ends_with_1(stand: Stand) -> None:
    ran = run(
        "performance-monitor",
        *("--url", stand.url, "--throughput", "1e9", "--latency", "249"),
        *("--cache-hit-ratio", "0.95", "--error-rate", "-1"),
    )

    assert 1 == ran.returncode
    low, high, errors, ratio = ran.stdout.splitlines()
    assert low.startswith("ALERT: Low throughput: ")
    assert "ALERT: High latency: 250 ms (bound 249)" == high
    assert "ALERT: High error rate: 0 % (bound -1)" == errors
    assert "ALERT: Low cache hit ratio: 0.9 (bound 0.95)" == ratio


@pytest.mark.parametrize(
    ("status", "words", "names"),
    [
        ("healthy", [], []),
        ("healthy", ["--throughput", "100"], ["throughput"]),
        ("healthy", ["--latency", "2000"], ["latency"]),
        ("healthy", ["--cache-hit-ratio", "0.8"], ["cache hit ratio"]),
        ("degraded", [], ["throughput", "latency", "cache hit ratio"]),
        ("failed", [], ["throughput", "latency", "cache hit ratio"]),
    ],
)
def test_what_nobody_asked_for_is_no_alarm_where_a_connector_is_healthy(
    status: str, words: list[str], names: list[str]
) -> None:
    document = {
        "status": status,
        "totalMessages": 3,
        "throughput": {"messagesPerSecond": 0.5},
        "latency": {"averageMs": 2500},
        "errorRate": 0,
        "cache": {"enabled": True, "lookups": 200, "hitRatio": 0.1},
    }
    with saying(200, json.dumps(document).encode()) as url:
        ran = run("performance-monitor", "--url", url, "--json", *words)

    assert names == [each["name"] for each in json.loads(ran.stdout)["alerts"]]
    assert bool(names) == bool(ran.returncode)


def test_the_monitor_gives_a_document(stand: Stand) -> None:
    ran = run(
        "performance-monitor",
        *("--url", stand.url, "--throughput", "1", "--latency", "1", "--json"),
        *("--connector", "orders"),
    )

    assert [{"name": "latency", "value": 250, "limit": 1}] == json.loads(ran.stdout)[
        "alerts"
    ]


def test_the_monitor_watches_and_tells_changes_only(stand: Stand) -> None:
    ran = subprocess.Popen(
        [
            *(sys.executable, "-S", str(SCRIPTS / "performance-monitor")),
            *("--url", stand.url, "--throughput", "1", "--latency", "1"),
            *("--watch", "0.1"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ran.stdout is not None
    first = ran.stdout.readline()
    threading.Event().wait(0.5)
    ran.send_signal(signal.SIGINT)
    rest, stderr = ran.communicate(timeout=10)

    assert "ALERT: High latency: 250 ms" in first
    assert ("", "", 1) == (rest, stderr, ran.returncode)


def test_a_reader_that_has_gone_is_no_traceback(stand: Stand) -> None:
    words = f"{SCRIPTS / 'performance-monitor'} --url {stand.url} --json --watch 0.1"
    ran = subprocess.run(
        ["bash", "-c", f"{sys.executable} -S {words} --latency 1 | head -1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert "latency" in ran.stdout
    assert "" == ran.stderr


def test_an_engine_that_starts_anew_meanwhile_is_counted_on(stand: Stand) -> None:
    """Its counters begin at zero: what comes then is more, not less."""
    document = json.loads(urlopen(f"{stand.url}/health/metrics").read())
    counts = iter([1_000, 1_400, 50, *[60] * 1_000])

    def answer() -> bytes:
        return json.dumps({**document, "totalMessages": next(counts)}).encode()

    with saying(200, answer) as url:
        words = ["--duration", "1", "--interval", "0.1", "--json", "-"]
        ran = run("load-test", "--url", url, *words)

    report = json.loads(ran.stdout)
    assert (0, 460) == (ran.returncode, report["messages"])
    assert report["slowest_interval"] == 0


@pytest.mark.parametrize(
    "words",
    [
        ["load-test", "--duration", "-1"],
        ["load-test", "--interval", "nan"],
        ["load-test", "--plot", "/no/such/folder/run.svg"],
        ["load-test", "--json", "/no/such/folder/run.json"],
        ["performance-monitor", "--watch", "0"],
        ["performance-monitor", "--watch", "-1"],
    ],
)
def test_what_cannot_be_done_is_said_before_the_run(words: list[str]) -> None:
    ran = run(*words, "--url", "http://127.0.0.1:1")

    assert 64 == ran.returncode, ran.stderr
    assert words[-1] in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("script", ["load-test", "performance-monitor"])
@pytest.mark.parametrize("body", [b"{}", b"[1]", b"<html>"])
def test_another_server_is_no_engine(script: str, body: bytes) -> None:
    with saying(200, body) as url:
        ran = run(script, "--url", url.removeprefix("http://"))

    assert 69 == ran.returncode
    assert f"no engine answers at {url}" in ran.stderr


@pytest.mark.parametrize("script", ["load-test", "performance-monitor"])
def test_without_an_engine_it_is_69_and_wrong_use_64(script: str) -> None:
    assert 69 == run(script, "--url", "http://127.0.0.1:1").returncode
    assert 64 == run(script, "--nope").returncode


@pytest.mark.parametrize("script", ["load-test", "performance-monitor"])
def test_an_unknown_connector_is_wrong_use(stand: Stand, script: str) -> None:
    ran = run(script, "--url", stand.url, "--connector", "nope")

    assert 64 == ran.returncode
    assert "'nope'" in ran.stderr
