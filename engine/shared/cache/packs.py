"""
Packs: many large values of a store in one file, written once and never changed.

Owns the folder of these files, numbered by the time they were written at.  Which value
lies where is for the store to say, whose row has number, place and check sum.  Never
synchronised: what a crash of the machine spoils is a miss.  A file goes when no row
speaks of it any more, and the oldest goes first where they would take too much.

Under `cache.store`, which counts what fails here as its own failures.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import stat
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import TypeAlias

from engine.clock import SYSTEM, Clock

Part: TypeAlias = bytes | bytearray | memoryview

#: A value's bytes, or the parts that make it up: a page is neither copied to be put
#: behind its head nor to be written.
Parts: TypeAlias = Part | tuple[Part, ...]

#: Bytes from which a value is put into a pack: a database writes each of its pages
#: twice and waits for the disk, which for 145 KB is 0.9 ms of a core and 4 ms.
PACKED = 4096

#: Bytes of the largest value; it is read and written in one piece.
LARGEST = 8 * 1024 * 1024

#: Seconds for which a pack that no row speaks of is left alone: its rows may be about
#: to be written.
ORPHANED_AFTER = 60.0

#: Bits of a number that tell packs of one millisecond apart.
_APART = 20

#: Parts that are written by one call: the least that every system allows is 16, Linux
#: takes 1024.
_AT_ONCE = min(os.sysconf("SC_IOV_MAX"), 1024)


def parts_of(value: Parts) -> tuple[Part, ...]:
    """The parts of a value, in their order."""
    return value if isinstance(value, tuple) else (value,)


def size_of(value: Parts) -> int:
    """The bytes of a value."""
    return sum(map(len, value)) if isinstance(value, tuple) else len(value)


class Packs:
    """
    Args:
        folder: Of the files; made at the first write, with mode 0700.
    """

    def __init__(self, folder: Path, *, clock: Clock = SYSTEM) -> None:
        self._folder = folder
        self._clock = clock

    def write(
        self, values: Sequence[Parts], most: int
    ) -> tuple[int, Sequence[int]] | None:
        """
        Write a new pack; its number, and where in it each value begins.

        Args:
            most: Bytes that all packs may take; None, and nothing written, where
                these alone are more.

        Raises: OSError.
        """
        sizes = list(map(size_of, values))
        size = sum(sizes)
        if size > most:
            return None
        self._make_room(most - size)
        number = self._clock.wall_ms() << _APART | random.getrandbits(_APART)
        parts = [part for value in values for part in parts_of(value)]
        write_new(self._path(number), parts, self._prepare)
        return number, [0, *itertools.accumulate(sizes)][:-1]

    def read(self, number: int, at: int, size: int) -> bytes | None:
        """
        What lies there, or less of it; None where there is no such pack.

        Raises: OSError, also for what is no plain file of ours.
        """
        try:
            fd, _ = open_ours(self._path(number))
        except FileNotFoundError:
            return None
        try:
            return os.pread(fd, size, at)
        finally:
            os.close(fd)

    def sweep(self, known: Callable[[], Container[int]]) -> None:
        """
        Remove packs of which no row speaks.

        Args:
            known: The numbers that rows speak of; asked for behind the files.
        """
        before = self._clock.wall_ms() / 1000 - ORPHANED_AFTER
        old = [number for number, found in self._found() if found.st_mtime < before]
        if not old:
            return
        kept = known()
        for number in old:
            if number not in kept:
                self._remove(number)

    def clear(self) -> None:
        """Remove all of them."""
        for number, _ in self._found():
            self._remove(number)

    def _make_room(self, most: int) -> None:
        """Drop the oldest until they take no more than so many bytes."""
        found = sorted(self._found())
        total = sum(each.st_size for _, each in found)
        for number, each in found:
            if total <= most:
                return
            self._remove(number)
            total -= each.st_size

    def _found(self) -> list[tuple[int, os.stat_result]]:
        """All packs; whatever else lies here is left alone."""
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as files:
            for each in files:
                with contextlib.suppress(FileNotFoundError, ValueError):
                    number = int(each.name, 16)
                    if self._path(number) == each.path:
                        found.append((number, each.stat(follow_symlinks=False)))
        return found

    def _prepare(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def _remove(self, number: int) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path(number))

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:016x}"


def write_new(path: str, parts: Sequence[Part], prepare: Callable[[], object]) -> None:
    """
    A file that was not there, of the parts one behind the other.

    Args:
        prepare: Makes its folder, where that is missing.

    Raises: OSError, and nothing is left.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        prepare()
        fd = os.open(path, flags, 0o600)
    try:
        try:
            _write(fd, parts)
        finally:
            os.close(fd)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def open_ours(path: str) -> tuple[int, os.stat_result]:
    """
    The descriptor of a file to be read, for the caller to close, and what it is.

    Raises: FileNotFoundError; OSError, also for what is no plain file of ours.
    """
    # Whatever is planted here neither blocks nor leads elsewhere.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(path, flags)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        os.close(fd)
        raise PermissionError(f"{path} is not ours")
    return fd, found


def _write(fd: int, parts: Sequence[Part]) -> None:
    """All of the parts into a file, one behind the other; raises OSError."""
    # Hot path: one call for a pack of 64 pages, from where they lie.
    for first in range(0, len(parts), _AT_ONCE):
        some = parts[first : first + _AT_ONCE]
        rest = sum(map(len, some)) - os.writev(fd, some)
        if not rest:
            continue
        # A full disk takes a part first, and a call takes 2 GB at most.
        behind = memoryview(b"".join(some))[-rest:]
        while behind:
            behind = behind[os.write(fd, behind) :]
