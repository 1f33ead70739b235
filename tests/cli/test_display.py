"""Display: a status line waits for nobody."""

from __future__ import annotations

import os

from engine.cli.display import STATUS_EVERY, ShardSums, StatusLine
from tests.fakes.view import FakeClock


def test_a_status_line_is_left_out_where_its_reader_sleeps() -> None:
    reader, writer = os.pipe()
    clock = FakeClock()
    with os.fdopen(writer, "w") as out, os.fdopen(reader, "rb"):
        lines = StatusLine(out, clock=clock)
        os.set_blocking(writer, False)
        filled = 0
        while True:
            try:
                filled += os.write(writer, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(writer, True)
        clock.pass_by(STATUS_EVERY)
        lines.show([ShardSums(produced=5)], "")

        assert filled == len(os.read(reader, 1 << 20))
        clock.pass_by(STATUS_EVERY)
        lines.show([ShardSums(produced=7)], "")
        assert b"7 records produced" in os.read(reader, 1 << 16)
