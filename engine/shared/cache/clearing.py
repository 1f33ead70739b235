"""
Clearing: how each process hears that everything was cleared.

Owns a file beside the shared tiers, touched by whoever clears; a process looks at its
time, which costs 1 us and lets all other threads have the interpreter.

Path: `shared.cache.tiers` -> here
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from engine.clock import SYSTEM

#: Seconds within which nobody clears and expects that what was asked for meanwhile is new.
LATELY = 0.02


class ClearingMark:
    """
    Args:
        path: Of the file; made by the first who clears.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._cleared = 0
        self._looked_at = 0.0

    def put(self) -> None:
        """Everything is cleared."""
        with contextlib.suppress(OSError):
            Path(self._path).touch()

    def news(self, *, lately: bool = False) -> bool:
        """
        True if everything was cleared since the last look.

        Args:
            lately: A look of `LATELY` seconds ago is good enough.
        """
        now = SYSTEM.monotonic()
        if lately and now - self._looked_at < LATELY:
            return False
        self._looked_at = now
        try:
            cleared = os.stat(self._path).st_mtime_ns
        except OSError:
            return False
        if cleared == self._cleared:
            return False
        self._cleared = cleared
        return True
