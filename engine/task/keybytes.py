"""
KeyBytes: the bytes of keys, one behind the other in a file without a name.

Path: `task.snapshot` -> here -> `spool`
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from engine.errors import StateError
from engine.spool import KEYS, spooling, unnamed


class KeyBytes:
    """
    Args:
        directory: Where the file is made; None: where the system has such files.

    Attributes:
        end: Bytes of the file.

    Raises: SpoolError where the disk has no room, here and in `append`.
    """

    def __init__(self, directory: str | None = None):
        self.end = 0
        self._directory = directory
        self._file = unnamed(directory, KEYS)

    def append(self, blob: bytes) -> None:
        """Put these behind the others; after a failure all is as before."""
        fd, done = self._file.fileno(), 0
        with spooling(self._directory, KEYS):
            while done < len(blob):
                done += os.pwrite(fd, blob[done:], self.end + done)
        self.end += len(blob)

    def read(self, at: int, length: int) -> bytes:
        """Raises StateError where so many bytes do not stand there."""
        raw = os.pread(self._file.fileno(), length, at)
        if len(raw) != length:
            raise StateError("the file of a snapshot's keys is cut")
        return raw

    def copied(self, pieces: Iterable[bytes]) -> KeyBytes:
        """Another file, of these; raises SpoolError, and then there is none."""
        fresh = KeyBytes(self._directory)
        try:
            for piece in pieces:
                fresh.append(piece)
        except BaseException:
            fresh.close()
            raise
        return fresh

    def close(self) -> None:
        """The file goes."""
        self._file.close()
