"""
Value files: each large value of a tier in shared memory in a file of its own.

Owns a folder of files named by their keys, each a check sum over key and value and the
value behind it.  A file is written beside its place and becomes visible whole, when the
tier's ledger says so; it goes with its entry.  What a killed writer leaves is swept.

Under `cache.shared_tier`.  A database takes 0.5 to 0.8 ms to store a page of 29 KB, this
60 us.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.clock import SYSTEM, Clock
from engine.shared.cache import rows
from engine.shared.cache.packs import (
    LARGEST,
    ORPHANED_AFTER,
    Parts,
    open_ours,
    parts_of,
    write_new,
)

log = logging.getLogger(__name__)

#: Bytes from which a value has a file of its own: smaller ones share a page of memory.
APART = 1024

#: Bytes that memory is given out by, so that a tier's limit is one of what it takes.
_PAGE = 4096

#: Characters of a key, and what stands between it and the number of a writer.
_KEY = 32
_UNDER_WAY = "."

#: Bytes of the largest file that is read.
_LARGEST = LARGEST + _PAGE


def taken(size: int) -> int:
    """Bytes of memory that the file of a value of so many bytes takes."""
    return -(-(size + rows.SUM.size) // _PAGE) * _PAGE


class ValueFiles:
    """
    Keys are 32 hexadecimal digits, as digests are written.

    Args:
        folder: Of the files; made at the first write, with mode 0700.

    Attributes:
        damaged: Values that were not as written, in this process.
    """

    def __init__(self, folder: Path, *, clock: Clock = SYSTEM) -> None:
        self.damaged = 0
        self._folder = folder
        self._clock = clock
        self._numbers = itertools.count()
        self._looked = 0

    def write(self, key: str, value: Parts) -> str:
        """
        Write a value beside its place; where, for `land` or `discard`.

        Raises: OSError, and nothing is left.
        """
        # Hot path: four calls of the system with `land`, from where the parts lie.
        number = f"{os.getpid():x}-{self._clock.wall_ms():x}-{next(self._numbers):x}"
        path = f"{self._folder}/{key}{_UNDER_WAY}{number}"
        if self._looked != os.getpid():
            self._prepare()
        write_new(path, (rows.summed(key, value), *parts_of(value)), self._prepare)
        return path

    def land(self, key: str, path: str) -> None:
        """What was written takes its place, and that of what stood there; raises OSError."""
        try:
            os.rename(path, self._path(key))
        except IsADirectoryError:
            self.remove(key)
            os.rename(path, self._path(key))

    def discard(self, path: str) -> None:
        """What was written is not wanted."""
        with contextlib.suppress(OSError):
            os.unlink(path)

    def read(self, key: str) -> memoryview | None:
        """
        The value, or None; one that is not as written is removed.

        Raises: OSError.
        """
        try:
            fd, found = open_ours(self._path(key))
        except FileNotFoundError:
            return None
        except OSError:
            # A link, what is not ours, or cannot be opened at all.
            self._spoilt(key)
            return None
        try:
            if not rows.SUM.size <= found.st_size <= _LARGEST:
                self._spoilt(key)
                return None
            whole = os.pread(fd, found.st_size, 0)
        finally:
            os.close(fd)
        body = memoryview(whole)[rows.SUM.size :]
        if whole.startswith(rows.summed(key, body)):
            return body
        self._spoilt(key)
        return None

    def remove(self, key: str) -> None:
        """Remove a value, or whatever stands in its place."""
        path = self._path(key)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError:
            shutil.rmtree(path, ignore_errors=True)

    def count(self) -> int:
        """How many values there are; reads the folder."""
        return sum(not number for _, number, _ in self._found())

    def sweep(self, entered: Callable[[str], bool]) -> None:
        """
        Remove what killed writers have left, and values that nobody speaks of.

        Args:
            entered: Whether a key is in the ledger; asked for files that are not new.
        """
        before = self._clock.wall_ms() / 1000 - ORPHANED_AFTER
        for key, number, path in self._found():
            try:
                old = os.lstat(path).st_mtime < before
            except OSError:
                continue
            if number:
                if old or not _alive(number):
                    self.discard(path)
            elif old and not entered(key):
                self.remove(key)

    def clear(self) -> None:
        """Remove all of them."""
        for key, number, path in self._found():
            if number:
                self.discard(path)
            else:
                self.remove(key)

    def _spoilt(self, key: str) -> None:
        self.damaged += 1
        log.warning("A cached value in %s was damaged; dropped.", self._folder)
        self.remove(key)

    def _found(self) -> Iterator[tuple[str, str, str]]:
        """(key, number of its writer or "", path); whatever else lies here is left alone."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return
        for name in names:
            key, _, number = name.partition(_UNDER_WAY)
            with contextlib.suppress(ValueError):
                if len(key) == _KEY and bytes.fromhex(key).hex() == key:
                    yield key, number, f"{self._folder}/{name}"

    def _prepare(self) -> None:
        """A folder that is ours alone in place of anything else; raises OSError."""
        folder = self._folder
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(folder.lstat().st_mode):
                folder.unlink()
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
            raise PermissionError(f"{folder} is not ours")
        if stat.S_IMODE(found.st_mode) != 0o700:
            folder.chmod(0o700)
        self._looked = os.getpid()

    def _path(self, key: str) -> str:
        return f"{self._folder}/{key}"


def _alive(number: str) -> bool:
    """Whether the writer of this number may still be at work."""
    try:
        os.kill(int(number.partition("-")[0], 16), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except OSError:
        return True
    return True
