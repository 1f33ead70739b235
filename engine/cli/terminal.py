"""
Terminal: what leaves by stdout and stderr is text, whoever wrote it.

Owns the wrapper around the two streams.  API answers, dead letters, names and errors
are other people's words: in a terminal's escape sequences they could retitle it, hide
lines or type commands.

Path: ``cli.main`` -> here; ``display`` and ``top`` ask for the bare stream for rich
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

from engine.observe.printable import printable


class Printable:
    """A text stream that shows what it would not be safe to send."""

    def __init__(self, bare: TextIO) -> None:
        self.bare = bare

    def write(self, text: str) -> int:
        """As of a text stream; the number of characters it was given."""
        self.bare.write(printable(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """As of a text stream."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Both streams are `Printable` meanwhile."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_guarded(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _guarded(stream: TextIO) -> TextIO:
    # None where the process was started with the descriptor closed.
    if stream is None or isinstance(stream, Printable):
        return stream
    return cast(TextIO, Printable(stream))


def bare(stream: TextIO) -> TextIO:
    """The stream itself, for a library that draws; its texts go by `printable`."""
    return stream.bare if isinstance(stream, Printable) else stream
