"""
Files: bytes of regular files, never of anything that could make us wait.

Owns the one way this room opens a file.

Path: ``documents`` and ``providers`` -> here
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


class NotRegularError(OSError):
    """A FIFO, socket or device."""


def read_regular(path: Path, most: int) -> tuple[bytes, os.stat_result, os.stat_result]:
    """
    At most `most` bytes of a file, and its status before and after.

    Raises: OSError, NotRegularError among them; ValueError for a NUL in the path.
    Blocks: on the disk only.
    """
    # O_NONBLOCK: opening a FIFO without it waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        before = os.fstat(descriptor)
        if stat.S_ISDIR(before.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a directory", str(path))
        if not stat.S_ISREG(before.st_mode):
            raise NotRegularError(errno.EINVAL, "not a regular file", str(path))
        pieces = []
        left = most
        while left > 0 and (piece := os.read(descriptor, left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces), before, os.fstat(descriptor)
    finally:
        os.close(descriptor)
