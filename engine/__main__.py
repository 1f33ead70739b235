"""
The program: `kafka-http-source`, and `python -m engine`, which is the same.

Owns what a signal means while Python still imports: nothing has been begun, so
the process ends at once and without a word.  The command line takes over from
there: `run` holds signals back for its supervisor, every other command is
interrupted like any Python program.  And what stderr is: something that may be
closed, full or unread, and then costs words and no work.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from types import FrameType


def leave(number: int, frame: FrameType | None) -> None:
    """End now; there is nothing to clear up."""
    os._exit(0)


class Stderr(io.TextIOWrapper):
    """A stderr whose failures are nobody's: a full disk, a reader that is gone."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            return


def steady() -> None:
    """Replace stderr; one that is closed leads to nowhere, and not to stdout."""
    try:
        os.fstat(2)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != 2:
            os.dup2(nowhere, 2)
            os.close(nowhere)
    raw = open(2, "wb", buffering=0, closefd=False)  # noqa: SIM115 - for life
    sys.stderr = Stderr(raw, errors="backslashreplace", write_through=True)


def main() -> int:
    """Run one command; returns its exit code."""
    steady()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    command = importlib.import_module("engine.cli.main")
    try:
        return int(command.main())
    finally:
        # What is left is Python's own end, which has no word for Ctrl-C.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
