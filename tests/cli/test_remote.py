"""Status and top against a served admin process: lines, JSON, no engine."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from engine.admin.view import ShardState, TaskState
from engine.cli import remote
from engine.cli.main import main
from engine.cli.scrape import parsed, quantile
from engine.cli.top import SORTS, Top, drawn, human, table
from engine.clock import SYSTEM, span
from engine.observe import names
from engine.observe.failures import LastFailure
from engine.observe.meters import Meters
from engine.supervisor.runtime import Runtime
from tests.fakes.saying import saying
from tests.fakes.view import FakeClock, FakeView, card, serving


class Stand:
    """An engine with two tasks, one of them failed."""

    def __init__(self, directory: Path):
        self.view = FakeView(
            str(directory / "meters"), started_ms=SYSTEM.wall_ms(), cards=[card()]
        )
        self.view.task_states = [
            TaskState("orders", 0, "RUNNING", pid=7),
            TaskState("orders", 1, "FAILED", pid=8, trace="Denied: 401\n  more"),
        ]
        self.deliver(1000)
        meters = Meters(directory=self.view.meters, connector="orders", task=0)
        for _ in range(10):
            meters.timer(names.FETCH_TO_ACK_SECONDS)(0.02)
        meters.count(names.CACHE_REQUESTS, ("1", "hit"), 3)
        meters.count(names.CACHE_REQUESTS, ("none", "miss"), 1)
        meters.count(names.REQUESTS, ("h", "failed", "5xx"), 2)
        meters.close()
        self.url = ""

    def deliver(self, records: int) -> None:
        counts = {"received": records, "produced": records, "bytes": 300 * records}
        self.view.shard_states = [
            ShardState(0, "orders", "api1", "api1", 0, counts, SYSTEM.wall_ms())
        ]


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path)
    with serving(made.view, str(tmp_path / "ports")) as urls:
        made.url = urls[0]
        yield made


def test_status_names_states_reasons_and_records(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 65 == main(["status", "--url", stand.url])

    said = capsys.readouterr().out
    assert f"{stand.url}: failed" in said
    assert 1 == said.count("Task 1 is FAILED: Denied: 401")
    assert 1 == said.count("Denied: 401")
    assert "tasks: 1 RUNNING, 1 FAILED" in said
    assert "1,000 produced of 1,000 received" in said
    assert "api1: last record never, last good poll 0 s ago, polls now" in said


def test_status_tells_each_failure_once_with_what_comes_next(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    now = SYSTEM.wall_ms()
    lasting = LastFailure("dns", "no address for x", 12, 7, now - 60_000, now)
    over = LastFailure("tls", "bad certificate", 1, 0, now, now, over_ms=now - 90_000)
    tried = LastFailure("server_error", "500", 2, 0, now, now, next_ms=now + 300_500)
    stand.view.task_states = [TaskState("orders", 0, "RUNNING", pid=7)]
    stand.view.shard_states = [
        ShardState(at, "orders", "api1", f"api1[{at}/3]", 0, {}, now, failure=failure)
        for at, failure in enumerate((lasting, over, tried))
    ]

    assert 65 == main(["status", "--url", stand.url])

    said = capsys.readouterr().out
    assert 1 == said.count("no address for x")
    assert "what to do: docs/troubleshooting.md, dns" in said
    assert "over since 1 min 30 s: api1[1/3]: bad certificate (once)" in said
    assert "api1[2/3]: 500 (2 times, next try in 5 min 0 s, at " in said


def test_status_says_until_when_an_api_asked_to_wait(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    now = SYSTEM.wall_ms()
    throttled = LastFailure("throttled", "answers 429", 1, 0, now, now)
    stand.view.task_states = [TaskState("orders", 0, "RUNNING", pid=7)]
    stand.view.shard_states = [
        ShardState(
            0,
            "orders",
            "api1",
            "api1",
            0,
            {},
            now,
            failure=throttled,
            held_by="retry_after",
            held_until_ms=now + 3_600_500,
        )
    ]

    assert 0 == main(["status", "--url", stand.url])

    said = capsys.readouterr().out
    assert (
        "answers 429 (once, the API asked to wait, next try in 1 h 0 min, at " in said
    )
    assert "api1: the API asked to wait, 3,600 s more, until " in said


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (3_600, "1 h 0 min"),
        (90_000, "1 d 1 h"),
        (86_400_000, "1,000 d 0 h"),
    ],
)
def test_a_span_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert text == span(seconds)


def test_status_is_one_document(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 65 == main(["status", "--url", stand.url, "--json"])

    told = json.loads(capsys.readouterr().out)
    assert stand.url == told["url"]
    assert "failed" == told["health"]["status"]
    assert 1000 == told["metrics"]["totalMessages"]
    assert "RUNNING" == told["connectors"]["orders"]["status"]["tasks"][0]["state"]


@pytest.mark.parametrize("verb", ["status", "top"])
def test_where_no_engine_answers_it_says_so_with_69(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 69 == main([verb, "--url", "http://127.0.0.1:1"])

    said = capsys.readouterr().err
    assert "no engine answers at http://127.0.0.1:1" in said
    assert "Traceback" not in said


def test_a_column_that_is_none_is_wrong_use(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 64 == main(["top", "--url", stand.url, "--sort", "nope"])

    assert "out/s" in capsys.readouterr().err


def test_top_shows_one_picture_where_nobody_watches(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == main(["top", "--url", stand.url, "--interval", "1"])

    head, first, second, why = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["TASK", "STATE", "IN/S", "OUT/S"]
    assert ["orders/0", "RUNNING"] == first.split()[:2]
    assert ["orders/1", "FAILED"] == second.split()[:2]
    assert "orders: Task 1 is FAILED: Denied: 401" == why


def test_top_as_json_names_every_column(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == main(["top", "--url", stand.url, "--interval", "1", "--json"])

    tasks = json.loads(capsys.readouterr().out)["tasks"]
    assert [1000, 0] == [task["written"] for task in tasks]
    assert 2 == tasks[0]["errors"]
    assert set(SORTS.values()) <= tasks[0].keys()


def test_rates_are_of_the_interval_alone(stand: Stand) -> None:
    clock = FakeClock(wall_ms=SYSTEM.wall_ms())
    top = Top(stand.url, clock=clock)
    top.look()
    clock.pass_by(10)
    stand.deliver(3000)

    row = top.look()[0]

    assert (200, 200, 60_000) == (row.written_rate, row.received_rate, row.bytes_rate)
    assert (3000, 20_000_000) == (row.written, row.memory)
    assert 17.5 == round(row.p50_ms, 4)
    assert row.hit_ratio is None
    assert 9 < (row.silent or 0) < 15


def test_rows_are_sorted_by_the_column_asked_for(stand: Stand) -> None:
    by_state = Top(stand.url, sort="STATE").look()
    by_errors = Top(stand.url, sort="err").look()

    assert ["FAILED", "RUNNING"] == [row.state for row in by_state]
    assert ["0", "1"] == [row.task for row in by_errors]


def test_tasks_are_shown_by_a_pattern(stand: Stand) -> None:
    assert ["1"] == [row.task for row in Top(stand.url, only="*/1").look()]
    assert [] == Top(stand.url, only="invoices/*").look()


def test_what_does_not_fit_is_left_out_between_two_columns(stand: Stand) -> None:
    watch = Top(stand.url)
    rows = watch.look()
    console = Console(width=60, file=io.StringIO())

    with console.capture() as capture:
        console.print(drawn(watch, rows, 60))
    lines = capture.get().splitlines()

    [head] = [line for line in lines if "TASK" in line]
    assert "OUT/S" in head and "ERR" in head and "CPU" not in head
    assert "Task 1 is FAILED: Denied: 401" in capture.get()
    assert "CPU" in table(rows)[0]
    assert all(len(line) <= 60 for line in lines)


class Terminal:
    """`top` on a terminal of its own, read until it shows something."""

    def __init__(self, url: str, *words: str) -> None:
        self.leader, follower = pty.openpty()
        self.before = termios.tcgetattr(follower)
        self.ran = subprocess.Popen(
            [sys.executable, "-m", "engine", "top", "--url", url, *words],
            stdin=follower,
            stdout=follower,
            stderr=subprocess.PIPE,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "24"},
        )
        self.follower = follower
        self.seen = b""

    def until(self, wanted: Callable[[bytes], bool]) -> None:
        deadline = SYSTEM.monotonic() + 20
        while not wanted(self.seen):
            assert SYSTEM.monotonic() < deadline, self.seen
            if select.select([self.leader], [], [], 0.2)[0]:
                self.seen += os.read(self.leader, 65536)

    def press(self, keys: bytes) -> None:
        os.write(self.leader, keys)

    def ended(self) -> None:
        """It ends well and leaves the terminal as it was."""
        self.until(lambda seen: b"\x1b[?1049l" in seen and b"\x1b[?25h" in seen)
        _, stderr = self.ran.communicate(timeout=10)
        after = termios.tcgetattr(self.follower)
        assert (0, b"") == (self.ran.returncode, stderr)
        assert self.before == after


@pytest.fixture
def on_terminal() -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def start(*words: str) -> Terminal:
        made.append(Terminal(*words))
        return made[-1]

    yield start
    for one in made:
        one.ran.kill()
        one.ran.communicate()
        os.close(one.leader)
        os.close(one.follower)


def test_top_refreshes_in_place_and_keys_sort_and_end_it(
    stand: Stand, on_terminal: Callable[..., Terminal]
) -> None:
    terminal = on_terminal(stand.url, "--interval", "1")
    terminal.until(lambda seen: b"orders/0" in seen and b"TASK*" in seen)
    assert terminal.seen.startswith(b"\x1b[?1049h")

    stand.deliver(4321)
    terminal.until(lambda seen: b"4321" in seen)
    terminal.press(b"s")
    terminal.until(lambda seen: b"STATE*" in seen)
    terminal.press(b"S")
    terminal.press(b"S")
    terminal.until(lambda seen: b"IN*" in seen)
    terminal.press(b"q")

    terminal.ended()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_terminal_as_it_was(
    stand: Stand, on_terminal: Callable[..., Terminal], sign: signal.Signals
) -> None:
    terminal = on_terminal(stand.url)
    terminal.until(lambda seen: b"orders/0" in seen)

    terminal.ran.send_signal(sign)

    terminal.ended()


def test_an_engine_that_goes_away_is_said_and_asked_again(
    tmp_path: Path, on_terminal: Callable[..., Terminal]
) -> None:
    stand = Stand(tmp_path)
    with serving(stand.view, str(tmp_path / "ports")) as urls:
        terminal = on_terminal(urls[0], "--interval", "1")
        terminal.until(lambda seen: b"orders/0" in seen)
    terminal.until(lambda seen: b"no engine answers" in seen)
    terminal.seen = b""
    with serving(stand.view, str(tmp_path / "ports"), listeners=[urls[0]]):
        terminal.until(lambda seen: b"version" in seen)
        terminal.press(b"q")
        terminal.ended()


@pytest.mark.parametrize("verb", ["status", "top"])
def test_what_is_no_engine_at_all_is_said_with_69(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            client, _ = other.accept()
            with client:
                client.sendall(b"220 mail.example\r\n")

        greeting = threading.Thread(target=greet)
        greeting.start()
        code = main([verb, "--url", f"127.0.0.1:{other.getsockname()[1]}"])
        greeting.join()

    assert 69 == code
    assert "no engine answers at" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["status", "top"])
@pytest.mark.parametrize(
    ("code", "body", "words"),
    [
        (200, b"<html>welcome</html>", "is no engine"),
        (200, b"http_source_up down\n\xff", "is no engine"),
        (200, b"{}", ""),
        (200, b"[]", "is no engine"),
        (200, b'{"orders": "fine"}', "is no engine"),
        (200, b'{"orders": {"status": {"tasks": [1]}}}', "is no engine"),
        (404, b'{"error": "not here"}', "refuses /"),
        (404, b"not here", "is no engine|refuses /metrics: HTTP 404"),
        (403, b'{"error_code":403,"message":"This Host is not"}', "This Host is not"),
        (502, b"Bad Gateway", "refuses /.*: HTTP 502"),
    ],
)
def test_what_another_server_says_is_no_engine_and_no_bug(
    verb: str, code: int, body: bytes, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with saying(code, body) as url:
        ended = main([verb, "--url", url, *(["--interval", "1"] * (verb == "top"))])

    said = capsys.readouterr().err
    assert (69 if words else 0) == ended, said
    assert re.search(words, said)


def test_an_address_of_another_kind_is_wrong_use(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert 64 == main(["status", "--url", "ftp://far"])
    assert "--url ftp://far" in capsys.readouterr().err


def test_status_without_health_checks_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand = Stand(tmp_path)
    stand.view.cards = [card(health=False)]
    with serving(stand.view, str(tmp_path / "ports")) as urls:
        assert 65 == main(["status", "--url", urls[0]])

    said = capsys.readouterr().out
    assert "health checks are off" in said
    assert "task 1 FAILED: Denied: 401" in said


def test_the_engine_that_runs_here_is_asked_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "kafka-http-source"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert remote.DEFAULT == remote.base_url(None)

    runtime = Runtime(base)
    (runtime.path / "listeners").write_text("http://127.0.0.1:4711\n")

    assert "http://127.0.0.1:4711" == remote.base_url(None)
    assert "http://far:80" == remote.base_url("far:80")
    runtime.remove()

    # A service of the machine, as root sees it.
    monkeypatch.setattr(remote, "SERVICES", tmp_path / "run")
    (tmp_path / "run").mkdir()
    service = Runtime(tmp_path / "run" / "kafka-http-source-orders")
    (service.path / "listeners").write_text("http://127.0.0.1:4712\n")
    assert "http://127.0.0.1:4712" == remote.base_url(None)
    service.remove()


def test_a_line_of_the_text_format_is_read() -> None:
    text = '# HELP x y\nx{a="b\\"c\\\\",d="e\\nf"} 1.5\nz +Inf\n'

    assert {
        "x": [({"a": 'b"c\\', "d": "e\nf"}, 1.5)],
        "z": [({}, float("inf"))],
    } == parsed(text)


def test_a_quantile_is_spread_evenly_inside_its_bucket() -> None:
    buckets = [(1.0, 10.0), (2.0, 20.0), (float("inf"), 20.0)]

    assert [0.5, 1.0, 1.98] == [quantile(buckets, q) for q in (0.25, 0.5, 0.99)]
    assert 0 == quantile([], 0.5)
    assert 2 == quantile([(2.0, 0.0), (float("inf"), 1.0)], 0.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.2"),
        (950, "950"),
        (12_345, "12.3k"),
        (4_560_000, "4.56M"),
        (2.5e10, "25G"),
    ],
)
def test_a_number_has_four_digits_at_most(value: float, text: str) -> None:
    assert text == human(value)


def test_help_does_not_wait_for_the_network() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "engine", "top", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert re.search(r"--interval SECONDS", said)
