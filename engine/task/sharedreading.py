"""
Shared reading: one reading of the state topic for all tasks of an engine.

Owns a lock and a file in the runtime directory.  The task that comes first
reads; the others wait for it, take over what it read, and read on from there to
the end that the topic has by then.  So does a task that is started again: what
has been saved since is part of what it finds.  The lock dies with its holder,
and a reading is kept every few seconds, so that the next one goes on with it.

A file that cannot be written, since the runtime directory is full, is done
without: each task then reads for itself.

Path: `build.wiring` makes it -> here <- `sink.statetopic`
"""

from __future__ import annotations

import logging
import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.shared.lock import open_private, try_lock
from engine.sink.reading import Progress

log = logging.getLogger("task")

#: Seconds between two attempts to get the lock.
LOOK = 0.1

#: Bytes of the line in which the reader says how far it is.
LINE = 48


class SharedReadingFile:
    """
    As `sink.statetopic.SharedReading`.

    Args:
        runtime: The engine's runtime directory.
        place: Names the cluster and the topic.
    """

    def __init__(self, runtime: Path, place: str):
        self._lock = runtime / f"state-{place}.lock"
        self._file = runtime / f"state-{place}.reading"
        self._fd = -1

    @contextmanager
    def holding(self, progress: Progress) -> Iterator[None]:
        """
        As `sink.statetopic.SharedReading`.

        Raises: SharedError if the lock's file cannot be opened.
        """
        fd = open_private(self._lock)
        try:
            while not try_lock(fd):
                progress(*self._heard(fd))
                threading.Event().wait(LOOK)
            self._fd = fd
            yield
        finally:
            self._fd = -1
            # Closed, it is free.
            os.close(fd)

    def taken(self) -> bytes | None:
        """As `sink.statetopic.SharedReading`; None too if it was written in part."""
        try:
            content = self._file.read_bytes()
        except OSError:
            return None
        reading = content[4:]
        if int.from_bytes(content[:4], "big") != zlib.crc32(reading):
            return None
        return reading

    def keep(self, content: bytes) -> None:
        """As `sink.statetopic.SharedReading`; replaced whole or not at all."""
        fresh = self._file.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(fresh, flags, 0o600), "wb") as file:
                file.write(zlib.crc32(content).to_bytes(4, "big"))
                file.write(content)
            os.replace(fresh, self._file)
        except OSError as error:
            log.debug("The reading of the state is not shared: %s", error)
            # An old one would be read on from as well; a part of one is no use.
            with suppress(OSError):
                fresh.unlink()

    def told(self, done: int, total: int) -> None:
        """As `sink.statetopic.SharedReading`."""
        if self._fd >= 0:
            with suppress(OSError):
                os.pwrite(self._fd, b"%d %d\n".ljust(LINE) % (done, total), 0)

    def _heard(self, fd: int) -> tuple[int, int]:
        """How far the one is that holds the lock."""
        try:
            done, total = map(int, os.pread(fd, LINE, 0).split()[:2])
        except (OSError, ValueError):
            return 0, 0
        # The beginning and the end are the reader's own to say.
        return max(1, min(done, total - 1)), total
