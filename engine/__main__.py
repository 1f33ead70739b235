"""
The program: `kafka-http-source`, and `python -m engine`, which is the same.

Owns what a signal means while Python still imports: nothing has been begun, so
the process ends at once and without a word.  The command line takes over from
there: `run` holds signals back for its supervisor, every other command is
interrupted like any Python program.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType


def leave(number: int, frame: FrameType | None) -> None:
    """End now; there is nothing to clear up."""
    os._exit(0)


def main() -> int:
    """Run one command; returns its exit code."""
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
