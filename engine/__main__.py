"""
The program: `kafka-http-source`, and `python -m engine`, which is the same.

Owns what a signal means while Python still imports: nothing has been begun, so
the process ends at once and without a word.  The command line takes over from
there: `run` holds signals back for its supervisor, every other command is
interrupted like any Python program.  And what the standard streams are: stderr may be
closed, full or unread, and then costs words and no work; what a lost stdout costs says
``cli.output``; and no file of ours ever gets one of their three numbers.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import signal
import sys
from types import FrameType


def leave(number: int, frame: FrameType | None) -> None:
    """End now; there is nothing to clear up."""
    os._exit(0)


class LateStderr(io.TextIOWrapper):
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
    """Replace stdout and stderr; a stream that is closed leads to nowhere."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Stdout may be read only: what is written to it is lost, and is told so.
            mode = os.O_RDWR if number == 2 else os.O_RDONLY
            nowhere = os.open(os.devnull, mode)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
    raw = open(2, "wb", buffering=0, closefd=False)  # noqa: SIM115 - for life
    sys.stderr = LateStderr(raw, errors="backslashreplace", write_through=True)
    sys.stdout = importlib.import_module("engine.cli.output").stdout()
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for life


def lean() -> None:
    """
    Import msgspec without `typing_extensions`, whose names Python itself has by now.

    It takes them where they are, and with them `inspect`, `ast` and `dis`: 13 ms.
    """
    if "typing_extensions" in sys.modules:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("msgspec")
    finally:
        del sys.modules["typing_extensions"]


def main() -> int:
    """Run one command; returns its exit code."""
    # Before anything else of ours is imported: Ctrl-C may come in the middle of it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    # What is imported stays: to look for garbage in it time and again is 5 % of a start.
    gc.disable()
    lean()
    steady()
    command = importlib.import_module("engine.cli.main")
    try:
        return int(command.main())
    finally:
        # Nobody needs what is left to be taken to pieces.
        gc.freeze()
        # What is left is Python's own end, which has no word for Ctrl-C.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
