"""What somebody sees who starts `run` on a terminal: whole lines, one below the other."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable

import pyte
import pytest

from tests.e2e.conftest import Make
from tests.e2e.rig import PATIENCE, ROOT, Setup
from tests.fakes.api import Api

pytestmark = pytest.mark.slow

#: Wider than any line, and higher than all of them.
WIDE, HIGH = 1000, 50_000

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?:DEBUG|INFO|WARN|ERROR)"
LINE = re.compile(rf"{STAMP} +[\w.]+: .+\[.*pid=\d+[^\]]*\]")
STATUS = re.compile(r"[\d,]+ records produced, [\d,]+/s; [\d,]+ pages, .*")


def on_a_terminal(
    setup: Setup, *words: str, columns: int, until: Callable[[bytes], bool]
) -> bytes:
    """All that `run` writes to a terminal, ended by Ctrl-C once that is so."""
    terminal, inner = pty.openpty()
    size = struct.pack("HHHH", 40, columns, 0, 0)
    fcntl.ioctl(inner, termios.TIOCSWINSZ, size)
    ran = subprocess.Popen(
        setup.command("run", *words),
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color"},
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
    )
    os.close(inner)
    seen = bytearray()
    told = False
    deadline = time.monotonic() + 2 * PATIENCE
    try:
        while True:
            assert time.monotonic() < deadline, seen[-3000:].decode(errors="replace")
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    piece = os.read(terminal, 65536)
                except OSError:  # the last process has closed it
                    break
                seen += piece
            if not told and until(bytes(seen)):
                os.killpg(ran.pid, signal.SIGINT)
                told = True
        assert 0 == ran.wait(PATIENCE)
    finally:
        os.close(terminal)
        if ran.poll() is None:
            os.killpg(ran.pid, signal.SIGKILL)
            ran.wait(PATIENCE)
    return bytes(seen)


def rendered(written: bytes, columns: int) -> list[str]:
    """The lines of a terminal of this width that has got all of it."""
    screen = pyte.Screen(columns, HIGH)
    pyte.ByteStream(screen).feed(written)
    lines = []
    for y in range(screen.cursor.y + 1):
        # Cells that were written to, and few of them.
        row = screen.buffer[y]
        cells = (row[x].data for x in range(max(row, default=-1) + 1))
        lines.append("".join(cells).rstrip())
    return lines


@pytest.mark.parametrize("colour", ["rich", "plain"])
def test_no_line_of_a_run_on_a_terminal_is_erased_or_broken(
    make: Make, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if colour == "rich":
        pytest.importorskip("rich")
    else:
        monkeypatch.setenv("NO_COLOR", "1")
    with Api(records=20) as api:
        setup = make(
            "",
            {
                "http.source.url": None,
                "apis.num": 4,
                "tasks.max": 4,
                **{
                    f"api{at}.http.source.url": f"{api.url}/none/0"
                    for at in range(1, 5)
                },
                "http.source.poll.interval.ms": 100,
                "log.level": "DEBUG",
            },
        )

        def enough(seen: bytes) -> bool:
            """Status lines among the lines of four tasks."""
            return seen.count(b" records produced, ") >= 2

        written = on_a_terminal(setup, columns=WIDE, until=enough)

    lines = rendered(written, WIDE)
    stamps = len(re.findall(STAMP.encode(), written))
    assert stamps > 200
    assert stamps == sum(LINE.fullmatch(line) is not None for line in lines)
    # None is longer than what was written, none begins in another.
    assert [] == [line for line in lines if len(re.findall(STAMP, line)) > 1]
    assert 2 <= sum(STATUS.fullmatch(line) is not None for line in lines)
    pids = set(re.findall(r"GET .* pid=(\d+)\]", "\n".join(lines)))
    assert 4 == len(pids)
    # What follows a screen's worth of lines is below them, not over them.
    assert written.count(b"\n") == len(lines) - 1


def test_on_a_narrow_terminal_a_line_goes_on_in_the_next(make: Make) -> None:
    with Api(records=20) as api:
        setup = make(f"{api.url}/none/0", {"http.source.poll.interval.ms": 100})
        written = on_a_terminal(
            setup, columns=80, until=lambda seen: b" records produced, " in seen
        )

    # Nothing moves the cursor but the end of a line: the terminal wraps by itself.
    text = written.decode()
    assert [] == re.findall(r"\x1b\[[\d;?]*[A-HJKSTfhl]", text)
    whole = [line.rstrip() for line in rendered(written, WIDE)]
    joined = "".join(line.ljust(80) for line in rendered(written, 80))
    for line in whole:
        if line:
            assert re.sub(r"\s+", "", line) in re.sub(r"\s+", "", joined)
