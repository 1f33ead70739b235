"""
Shelving: where the tasks of an engine keep one reading of the state topic.

Owns the few verbs of that shelf, and the one for who reads alone.

Path: `sink.statetopic` -> here; `task.shelf` is the real one
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from engine.sink.reading import Progress


class SharedReading(Protocol):
    """Where the tasks of an engine keep one reading for all of them."""

    def holding(self, progress: Progress) -> AbstractContextManager[None]:
        """
        Alone among the tasks inside.

        Args:
            progress: Told how far the task that holds it is; may raise.

        Blocks: until the task that holds it has read, or has ended.
        """

    def taken(self) -> bytes | None:
        """What was kept last."""

    def keep(self, content: bytes) -> None:
        """Keep a reading in place of the one before."""

    def told(self, done: int, total: int) -> None:
        """Let those who wait know how far the reading is."""


class UnsharedReading:
    """A shared_reading for who reads alone."""

    def holding(self, progress: Progress) -> AbstractContextManager[None]:
        return nullcontext()

    def taken(self) -> bytes | None:
        return None

    def keep(self, content: bytes) -> None:
        return

    def told(self, done: int, total: int) -> None:
        return
