"""
Room: the meters' files on a file system that may be full.

The library maps files that are longer than what the file system has given them: the
first byte written where there is no room ends the process with SIGBUS, the next task
as well, and so for ever.  Here a file gets its room before it is mapped, and what
finds none is counted in this process alone, which is said once.

GATE prometheus_client, under `observe.meters`.
"""

from __future__ import annotations

import logging
import mmap
import os
from typing import Any

from prometheus_client import mmap_dict, values

#: Bytes of a new file, as the library makes it.
SMALLEST: int = mmap_dict._INITIAL_MMAP_SIZE

# The library has no types.
_Theirs: Any = mmap_dict.MmapedDict

log = logging.getLogger("meters")


class Roomy(_Theirs):  # type: ignore[misc]
    """
    One file of meters, as the library's own, that never maps what is not there.

    Attributes:
        unseen: Value and moment of each series that found no room; nobody but this
            process can read them.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self.unseen: dict[str, tuple[float, float]] = {}
        try:
            if not read_mode:
                _lay_out(filename, 0)
            super().__init__(filename, read_mode)
        except OSError as error:
            if read_mode:
                raise
            self._f: Any = None
            self._m: Any = None
            self._positions: dict[str, int] = {}
            self._capacity = self._used = 0
            _say(filename, error)

    def _init_value(self, key: str) -> None:
        padded = len(key.encode()) + 8
        needed = self._used + 4 + padded + 16
        if self._m is None:
            self.unseen[key] = (0.0, 0.0)
            return
        if needed > self._capacity:
            capacity = self._capacity
            while needed > capacity:
                capacity *= 2
            try:
                _lay_out(self._fname, capacity)
                self._m = mmap.mmap(self._f.fileno(), capacity)
            except OSError as error:
                _say(self._fname, error)
                self.unseen[key] = (0.0, 0.0)
                return
            self._capacity = capacity
        super()._init_value(key)

    def read_value(self, key: str) -> tuple[float, float]:
        """Value and moment of a series, which is begun if it is new."""
        if key in self.unseen:
            return self.unseen[key]
        if key not in self._positions:
            self._init_value(key)
            if key in self.unseen:
                return self.unseen[key]
        found: tuple[float, float] = super().read_value(key)
        return found

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Set value and moment of a series."""
        if key not in self._positions and key not in self.unseen:
            self._init_value(key)
        if key in self.unseen:
            self.unseen[key] = (value, timestamp)
        else:
            super().write_value(key, value, timestamp)


def _lay_out(filename: str, size: int) -> None:
    """Have the file system give a file all of its bytes, `size` at least."""
    fd = os.open(filename, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        there = os.fstat(fd).st_size
        os.posix_fallocate(fd, 0, max(there or SMALLEST, size))
    except OSError:
        if there == 0:
            os.unlink(filename)
        raise
    finally:
        os.close(fd)


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


def use() -> None:
    """Have the library open its files this way."""
    library: Any = values
    library.MmapedDict = Roomy
