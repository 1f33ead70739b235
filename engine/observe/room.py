"""
Room: the meters' files on a file system that may be full.

Owns the writing of the files: series of two doubles behind their key, in mapped
memory, in the format of prometheus_client's multiprocess mode, which
`observe.meterfiles` reads.  A file that is mapped longer than what the file system
has given it ends the process with SIGBUS at the first byte, and the next task as
well, and so for ever.  Here a file gets its room before it is mapped, and what
finds none is counted in this process alone, which is said once.

Path: `observe.meters` -> here
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
from contextlib import suppress

from engine.observe.meterfiles import FIRST, places

#: Bytes of a new file.
SMALLEST = 1 << 16

_LENGTH = struct.Struct("i")
_VALUE = struct.Struct("dd")

log = logging.getLogger("meters")


class MeterFile:
    """
    One file of meters that never maps what is not there.  Not thread-safe.

    Args:
        filename: Made if it is not there; what it holds is gone on with.

    Raises: ValueError for a file that no meter wrote.

    Attributes:
        unseen: Value and moment of each series that found no room; nobody but this
            process can read them.
    """

    def __init__(self, filename: str) -> None:
        self.unseen: dict[str, tuple[float, float]] = {}
        self._name = filename
        self._positions: dict[str, int] = {}
        self._used = FIRST
        self._memory = memory = self._mapped(0)
        if memory is None:
            return
        self._positions = {key: at for key, _, _, at in places(memory)}
        (used,) = _LENGTH.unpack_from(memory)
        self._used = used or FIRST
        memory[: _LENGTH.size] = _LENGTH.pack(self._used)

    def read_value(self, key: str) -> tuple[float, float]:
        """Value and moment of a series, which is begun if it is new."""
        at = self._place(key)
        if at is None or self._memory is None:
            return self.unseen[key]
        value, moment = _VALUE.unpack_from(self._memory, at)
        return value, moment

    def write_value(self, key: str, value: float, moment: float) -> None:
        """Set value and moment (epoch seconds, or 0) of a series."""
        at = self._place(key)
        if at is None or self._memory is None:
            self.unseen[key] = (value, moment)
        else:
            # One assignment: a reader never sees a value that is half written.
            self._memory[at : at + _VALUE.size] = _VALUE.pack(value, moment)

    def close(self) -> None:
        """Let go of the file; may be called twice."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def _place(self, key: str) -> int | None:
        """Where the series stands in the file, None if it found no room."""
        at = self._positions.get(key)
        if at is None and key not in self.unseen:
            at = self._begin(key)
        return at

    def _begin(self, key: str) -> int | None:
        text = key.encode()
        # Padded to a boundary of eight, by at least one blank.
        text_size = len(text) + 8 - (len(text) + _LENGTH.size) % 8
        size = _LENGTH.size + text_size + _VALUE.size
        if self._memory is None or not self._fits(self._used + size):
            self.unseen[key] = (0.0, 0.0)
            return None
        at = self._used
        entry = _LENGTH.pack(len(text)) + text.ljust(text_size) + _VALUE.pack(0.0, 0.0)
        self._memory[at : at + size] = entry
        self._used = at + size
        # Last: a reader goes only as far as this says.
        self._memory[: _LENGTH.size] = _LENGTH.pack(self._used)
        self._positions[key] = place = self._used - _VALUE.size
        return place

    def _fits(self, size: int) -> bool:
        capacity = 0 if self._memory is None else len(self._memory)
        if size <= capacity:
            return True
        while capacity < size:
            capacity *= 2
        fresh = self._mapped(capacity)
        if fresh is not None:
            self.close()
            self._memory = fresh
        return fresh is not None

    def _mapped(self, size: int) -> mmap.mmap | None:
        """The file mapped, `size` bytes at least; None if it finds no room."""
        try:
            fd = os.open(self._name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _lay_out(fd, self._name, size)
                return mmap.mmap(fd, 0)
            finally:
                os.close(fd)
        except OSError as error:
            _say(self._name, error)
            return None


def _lay_out(fd: int, filename: str, size: int) -> None:
    """Have the file system give a file all of its bytes, `size` at least."""
    there = os.fstat(fd).st_size
    try:
        os.posix_fallocate(fd, 0, max(there or SMALLEST, size))
    except OSError:
        if there == 0:
            with suppress(OSError):
                os.unlink(filename)
        raise


_said: set[str] = set()


def _say(filename: str, error: OSError) -> None:
    directory = os.path.dirname(filename)
    if directory in _said:
        return
    _said.add(directory)
    log.warning(
        "Metrics of this process are incomplete: %s has no room for them (%s). "
        "Records are delivered all the same; see runtime.dir.",
        directory,
        error.strerror,
    )
