"""One event, one line, one write; and nothing a log line can do to a task."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.observe import events, log, streams
from engine.observe.log import LogHandler
from engine.observe.redact import Secret
from engine.observe.streams import Journal, Repeats, Stderr
from tests.fakes.clock import HandClock

#: One of each kind: C0, DEL, C1, direction, separators, tags.
DANGEROUS = "\x1b\x07\x00\r\x7f\x85\x9b\u200e\u202e\u2066\u2028\u2029\ufeff\U000e0041"

FORMATS = sorted(events.SHAPES)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Levels, handlers and the outlet as they were before."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr(log, "_STATE", log._State())
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in (*events.FLOORED, "kafka.conn", "engine.test"):
        logging.getLogger(name).setLevel(logging.NOTSET)


class Pipe:
    """A stderr whose other end the test holds."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def text(self) -> str:
        os.set_blocking(self.reader, False)
        pieces = []
        while True:
            try:
                piece = os.read(self.reader, 65536)
            except BlockingIOError:
                break
            if not piece:
                break
            pieces.append(piece)
        return b"".join(pieces).decode()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    for fd in (made.reader, made.writer):
        try:
            os.close(fd)
        except OSError:
            pass


LOG = logging.getLogger("engine.test")


# --- shapes ---------------------------------------------------------------


def test_text_is_a_sentence_with_its_values(pipe: Pipe) -> None:
    log.configure(format="text", fd=pipe.writer)
    log.name_process(connector="orders", task="3")

    LOG.warning("The cursor is old.", extra={"age": 7, "api": "a b"})

    line = pipe.text()
    assert line.endswith(
        "Z WARN  engine.test: The cursor is old. "
        f'[connector=orders task=3 pid={os.getpid()} age=7 api="a b"]\n'
    )
    assert 24 == len(line.split(" ")[0])


def test_json_is_one_object_a_line(pipe: Pipe) -> None:
    log.configure(format="json", fd=pipe.writer)
    log.name_process(connector="orders", task="3")

    LOG.error("Two\nlines, \u00fc and \ud800.", extra={"status": 503, "level": "mine"})

    text = pipe.text()
    assert 1 == text.count("\n")
    content = json.loads(text)
    assert "ERROR" == content["level"]
    assert "Two\nlines, \u00fc and ?." == content["message"]
    assert ("orders", "3", 503) == (
        content["connector"],
        content["task"],
        content["status"],
    )


def test_a_library_warns_of_the_same_thing_once_a_minute(pipe: Pipe) -> None:
    log.configure(level="DEBUG", format="json", fd=pipe.writer)
    clock = HandClock()
    logging.getLogger().handlers[0].repeats = Repeats(clock)
    kafka = logging.getLogger("kafka.net.manager")

    for port in range(50_000, 50_020):
        kafka.error("<%d>: Connection to %s failed", port, "one")
        kafka.error("<%d>: Connection to %s failed", port, "two")
        LOG.error("Ours.")
    clock.move(61.0)
    kafka.error("<%d>: Connection to %s failed", 50_020, "one")

    said = [json.loads(line) for line in pipe.text().splitlines()]
    foreign = [line for line in said if line["logger"] == "kafka.net.manager"]
    assert [None, None, 19] == [line.get("alike") for line in foreign]
    assert 20 == sum(line["message"] == "Ours." for line in said)


def test_logfmt_quotes_what_needs_it(pipe: Pipe) -> None:
    log.configure(format="logfmt", fd=pipe.writer)

    LOG.info("Done.", extra={"n": 1, "ok": True, "why": 'a "b"', "none": None, "e": ""})

    line = pipe.text()
    assert line.endswith(' n=1 ok=true why="a \\"b\\"" none=null e=""\n')
    assert " level=info logger=engine.test msg=Done. " in line


def test_without_the_journal_its_lines_carry_a_priority_and_no_time(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "JOURNAL", "/nowhere")
    log.configure(format="journal", fd=pipe.writer)
    logging.getLogger().handlers[0]._journal = Journal("/nowhere")

    LOG.error("Broken.")

    assert pipe.text().startswith("<3>ERROR engine.test: Broken.")


@pytest.mark.parametrize("shape", FORMATS)
def test_an_exception_comes_with_its_traceback_in_one_write(
    shape: str, tmp_path: Path
) -> None:
    end, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with end, far:
        log.configure(format=shape, fd=far.fileno())
        logging.getLogger().handlers[0]._journal = None
        try:
            raise ValueError("token=hunter22")
        except ValueError:
            LOG.exception("Failed.")
        text = end.recv(65536).decode()

    assert "Traceback" in text
    assert "hunter22" not in text
    if shape in ("json", "logfmt"):
        assert 1 == text.count("\n")
    if shape == "journal":
        assert all(line.startswith("<3>") for line in text.splitlines())


@pytest.mark.parametrize(
    ("level", "named", "lines"),
    [("INFO", None, 0), ("INFO", "WARN", 2), ("DEBUG", None, 5)],
)
def test_a_librarys_failure_is_named_and_traced_for_who_looks_closer(
    level: str, named: str | None, lines: int, pipe: Pipe
) -> None:
    log.configure(level=level, fd=pipe.writer)
    if named is not None:
        log.set_level("kafka", named)

    try:
        raise OSError("bad certificate")
    except OSError:
        logging.getLogger("kafka.net.transport").exception("Lost.")

    text = pipe.text()
    assert ("OSError: bad certificate" in text) == (lines > 0)
    assert lines == text.count("\n")
    assert (level == "DEBUG") == ("Traceback" in text)


@pytest.mark.parametrize("shape", FORMATS)
def test_no_text_from_outside_can_forge_a_line(shape: str, pipe: Pipe) -> None:
    log.configure(format=shape, fd=pipe.writer)
    logging.getLogger().handlers[0]._journal = None

    LOG.info("name\n2026 ERROR forged\r\x1b[31m", extra={"x": "a\nb"})

    assert 1 == pipe.text().count("\n")


@pytest.mark.parametrize("shape", FORMATS)
def test_nothing_but_text_is_sent(shape: str, pipe: Pipe, tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(path)
    log.configure(format=shape, fd=pipe.writer)
    logging.getLogger().handlers[0]._journal = None

    def say() -> None:
        try:
            raise RuntimeError(DANGEROUS)
        except RuntimeError:
            LOG.exception("It says %s.", DANGEROUS, extra={"x": DANGEROUS})

    say()
    logging.getLogger().handlers[0]._journal = Journal(path)
    say()

    with journal:
        sent = journal.recv(1 << 20).decode("utf-8", "replace")
    # The journal's protocol has lengths in binary, which are no text.
    for text, never in ((pipe.text(), DANGEROUS), (sent, DANGEROUS[4:] + "\x1b")):
        assert not set(never) & set(text)
        assert "2028" in text and "202e" in text
    if shape == "json":
        # What was said is still what a reader of JSON reads.
        log.configure(format=shape, fd=pipe.writer)
        logging.getLogger().handlers[0]._journal = None
        LOG.info(DANGEROUS)
        assert DANGEROUS == json.loads(pipe.text().splitlines()[-1])["message"]


@pytest.mark.parametrize("shape", FORMATS)
def test_no_secret_gets_through(shape: str, pipe: Pipe) -> None:
    secret = Secret("s3cr3t-c4n4ry")
    log.configure(format=shape, fd=pipe.writer)
    logging.getLogger().handlers[0]._journal = None

    LOG.info(
        "Sent %s.", secret.reveal(), extra={"url": f"https://u:{secret.reveal()}@h"}
    )
    try:
        raise RuntimeError(secret.reveal())
    except RuntimeError:
        LOG.exception("It broke with %s.", secret.reveal())

    assert "c4n4ry" not in pipe.text()


def test_the_journal_gets_fields_of_its_own(tmp_path: Path, pipe: Pipe) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        outlet = LogHandler("journal", Stderr(pipe.writer), Journal(path))
        outlet.process = {"connector": "orders", "task": "0"}
        record = LOG.makeRecord(
            "engine.test",
            logging.ERROR,
            "f.py",
            7,
            "Two\nlines.",
            (),
            None,
            "f",
            {"code": 65},
        )
        outlet.emit(record)
        datagram = journal.recv(65536)

    message = b"Two\nlines."
    assert b"MESSAGE\n" + struct.pack("<Q", len(message)) + message in datagram
    for field in (
        b"PRIORITY=3",
        b"SYSLOG_IDENTIFIER=kafka-http-source",
        b"CONNECTOR=orders",
        b"TASK=0",
        b"CODE=65",
        b"CODE_LINE=7",
    ):
        assert field in datagram.split(b"\n")
    assert "" == pipe.text()


def test_what_the_journal_does_not_take_goes_to_stderr(
    tmp_path: Path, pipe: Pipe
) -> None:
    path = str(tmp_path / "journal")
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(path)
    outlet = LogHandler("journal", Stderr(pipe.writer), Journal(path))

    def say(words: str) -> None:
        outlet.emit(LOG.makeRecord("e", logging.INFO, "", 0, words, (), None))

    say("first")
    assert b"MESSAGE=first" in journal.recv(65536)
    journal.close()
    say("second")
    assert "second" in pipe.text()
    os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(path)
        say("third")
        assert b"MESSAGE=third" in again.recv(65536)


def test_the_journal_is_recognised_by_the_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w") as file:
        found = os.fstat(file.fileno())
        ours = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}

        assert "journal" == log.default_format(ours, file.fileno())
        assert "text" == log.default_format({"JOURNAL_STREAM": "1:2"}, file.fileno())
        assert "text" == log.default_format({}, file.fileno())


# --- levels ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "lines"),
    [("OFF", 0), ("ERROR", 1), ("WARN", 2), ("INFO", 3), ("DEBUG", 4), ("TRACE", 4)],
)
def test_a_level_lets_its_own_and_worse_through(
    level: str, lines: int, pipe: Pipe
) -> None:
    log.configure(level=level, fd=pipe.writer)

    for say in (LOG.error, LOG.warning, LOG.info, LOG.debug):
        say("x")

    assert lines == pipe.text().count("\n")


def test_levels_change_live_and_by_logger(pipe: Pipe) -> None:
    log.configure(level="WARN", fd=pipe.writer)

    log.set_level("engine.test", "DEBUG")
    LOG.debug("a")
    logging.getLogger("engine.other").info("b")
    log.set_level("root", "INFO")
    logging.getLogger("engine.other").info("c")
    log.set_level("root", "no such level")

    assert ["a", "c"] == [line.split()[3] for line in pipe.text().splitlines()]
    assert {"": "INFO", "engine.test": "DEBUG"} == log.levels()


@pytest.mark.parametrize("library", events.FLOORED)
def test_libraries_that_print_passwords_never_go_below_info(
    library: str, pipe: Pipe
) -> None:
    log.configure(level="DEBUG", fd=pipe.writer)
    log.set_level(library, "TRACE")
    log.set_level(f"{library}.conn", "DEBUG")

    logging.getLogger(f"{library}.conn").debug("password=x")
    logging.getLogger(f"{library}.other").debug("password=x")
    logging.getLogger(f"{library}.conn").info("Connected.")

    assert 1 == pipe.text().count("\n")


@pytest.mark.parametrize("library", [*events.FLOORED, "kafka.net.selector"])
@pytest.mark.parametrize("level", ["ERROR", "WARN", "INFO", "DEBUG"])
@pytest.mark.parametrize("named", [None, "WARN"])
def test_a_library_speaks_only_to_who_asks_for_debug_or_names_it(
    library: str, level: str, named: str | None, pipe: Pipe
) -> None:
    log.configure(level=level, fd=pipe.writer)
    if named is not None:
        log.set_level(library, named)

    logging.getLogger(library).error("Task died.")

    asked = level == "DEBUG" or named is not None
    assert asked == ("Task died." in pipe.text())


def test_the_wire_is_shown_to_who_asks_for_it_by_name(pipe: Pipe) -> None:
    log.configure(level="DEBUG", unsafe_wire=True, fd=pipe.writer)

    logging.getLogger("kafka.conn").debug("bytes")

    assert 1 == pipe.text().count("\n")


def test_python_warnings_are_lines_too(pipe: Pipe) -> None:
    import warnings

    log.configure(fd=pipe.writer)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    assert "DeprecationWarning: old" in pipe.text()


# --- a stderr that is full, gone or strange -------------------------------


def test_a_full_pipe_costs_lines_and_no_time_and_they_are_counted(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.writer, fcntl.F_SETPIPE_SZ, 4096)
    log.configure(fd=pipe.writer)
    began = time.monotonic()

    for number in range(2000):
        LOG.info("Line %d.", number, extra={"filler": "x" * 50})
    elapsed = time.monotonic() - began
    first = pipe.text()
    LOG.info("After.")
    second = pipe.text()

    # Nobody reads: one write that waited would wait for ever.
    assert elapsed < 30.0
    kept = first.count("Line ")
    assert f"lines={2000 - kept}" in second
    assert "After." in second
    assert os.get_blocking(pipe.writer), "the shared description is left alone"


def test_many_processes_can_share_a_full_pipe(pipe: Pipe) -> None:
    pids = []
    log.configure(fd=pipe.writer)
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(500):
                    LOG.info("x" * 200)
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        deadline = time.monotonic() + 5
        while not os.waitpid(pid, os.WNOHANG)[0]:
            assert time.monotonic() < deadline, "a child waits for the reader"
            time.sleep(0.01)

    for line in pipe.text().splitlines():
        assert 1 == line.count("engine.test: ") + line.count("engine.observe.log: ")


def test_a_reader_that_is_gone_ends_nothing(pipe: Pipe) -> None:
    log.configure(fd=pipe.writer)
    os.close(pipe.reader)

    LOG.error("Nobody hears this.")

    outlet = logging.getLogger().handlers[0]
    assert isinstance(outlet, LogHandler)
    assert 1 == outlet._stderr.dropped


def test_a_full_disk_ends_nothing_and_is_told_when_there_is_room() -> None:
    with open("/dev/full", "wb") as full:
        stderr = Stderr(full.fileno())

        assert not stderr.write(b"line\n")
        assert 1 == stderr.dropped


def test_a_closed_stderr_ends_nothing() -> None:
    fd = os.open(os.devnull, os.O_WRONLY)
    os.close(fd)

    assert not Stderr(fd).write(b"line\n")


def test_a_file_gets_every_line_after_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    with path.open("ab") as file:
        log.configure(fd=file.fileno())
        LOG.info("One.")
        LOG.info("Two.")

    assert 3 == path.read_text().count("\n")


def test_a_socket_is_sent_to_without_waiting() -> None:
    end, far = socket.socketpair()
    with end, far:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        stderr = Stderr(far.fileno())
        began = time.monotonic()
        sent = [stderr.write(b"x" * 500 + b"\n") for _ in range(200)]

        assert time.monotonic() - began < 1.0
        assert {True, False} == set(sent)
        assert far.getblocking()


def test_a_line_cut_by_a_full_pipe_does_not_swallow_the_next(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.writer, fcntl.F_SETPIPE_SZ, 4096)
    stderr = Stderr(pipe.writer)

    assert not stderr.write(b"a" * 9000 + b"\n")
    cut = pipe.text()
    assert stderr.write(b"whole\n")

    assert 0 < len(cut) < 9001
    assert "\nwhole\n" == pipe.text()


def test_another_users_pipe_is_asked_for_room_first(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl.fcntl(pipe.writer, fcntl.F_SETPIPE_SZ, 4096)

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    stderr = Stderr(pipe.writer)
    written = [stderr.write(b"x" * 1000 + b"\n") for _ in range(50)]

    assert written[0] and not written[-1]


def test_a_value_that_cannot_be_shown_costs_its_line_only(pipe: Pipe) -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError

    log.configure(fd=pipe.writer)
    LOG.info("Bad.", extra={"bad": Bad()})
    LOG.info("%d", "no number")
    LOG.info("Good.")

    text = pipe.text()
    assert "Good." in text
    assert "lines=2" in text


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("ab") as file:
        log.configure(format="json", fd=file.fileno())
        threads = [
            threading.Thread(target=lambda: [LOG.info("x" * 500) for _ in range(100)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    lines = path.read_text().splitlines()
    assert 400 == len(lines)
    assert all(json.loads(line)["message"] == "x" * 500 for line in lines)


def test_a_missing_stderr_is_never_taken_for_a_file_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    script = (
        "import logging\n"
        "from engine.observe import log\n"
        "log.configure()\n"
        f"file = open({str(path)!r}, 'w')\n"
        "logging.error('into the wrong place?')\n"
        "file.close()\n"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "{sys.executable}" -c "$0" 2>&- 0<&-', script],
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(log.__file__).parents[2])},
        timeout=20,
    )

    assert 0 == done.returncode
    assert "" == path.read_text()
