"""
Output: a standard output that may be full, closed, or read no longer.

Owns what becomes of a command whose output is lost, as Unix tools have it: a reader
that has gone (`| head`) has seen enough and ends the command without a word; a full
disk or a closed descriptor is a failure (74) and is said.  Neither changes a verdict
that was reached before, such as the errors that `check` has found.

Path: ``engine.__main__`` puts it in the place of stdout; ``cli.main`` judges.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import Exit


class OutputLost(OSError):
    """
    What was printed does not arrive.

    Attributes:
        verdict: The exit code that the command had come to, None if it had not.
        needed: False if nobody is worse off without what was to be said.
    """

    verdict: int | None = None
    needed = True


class Stdout(io.TextIOWrapper):
    """A stdout whose failures have a name of their own; no character is refused."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as failure:
            raise OutputLost(failure.errno, failure.strerror) from failure

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as failure:
            raise OutputLost(failure.errno, failure.strerror) from failure


def stdout() -> Stdout:
    """Standard output, for the life of the process."""
    raw = open(1, "wb", closefd=False)  # noqa: SIM115 - for life
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return Stdout(raw, encoding, "backslashreplace", line_buffering=os.isatty(1))


@contextmanager
def telling(verdict: int, *, needed: bool = True) -> Iterator[None]:
    """
    Print what a command has come to; the end of it sees to it that it arrived.

    Args:
        verdict: Its exit code, which stands whether or not it can be told.
        needed: False if a full disk is no failure here.

    Raises: OutputLost.
    """
    try:
        yield
        # None where a test, or nobody, reads it.
        if sys.stdout is not None:
            sys.stdout.flush()
    except OutputLost as lost:
        lost.verdict = verdict
        lost.needed = needed
        raise


def lost(failure: OutputLost) -> tuple[int, str]:
    """
    What follows: the exit code, and what to say on stderr ("" for nothing).

    What is still buffered goes nowhere.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    verdict = Exit.OK if failure.verdict is None else failure.verdict
    if failure.errno == errno.EPIPE or not failure.needed:
        return verdict, ""
    return verdict or Exit.IO, f"standard output: {failure.strerror}"
