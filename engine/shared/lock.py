"""
Lock: one holder among processes and threads, and none after its death.

Owns the kernel's file locks (GATE fcntl).  A lock belongs to an open file, so
it is named before the fork and opened after it; the kernel lets go of it the
moment its holder dies, however it dies.  Never deletes a lock's file: whoever
waits on a deleted file waits beside those who open the new one.

Below the limiter, the breaker and the cache, which change small files under
it; the supervisor claims its connectors with it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from select import select
from threading import Lock
from typing import Self

from engine.clock import SYSTEM, Clock
from engine.errors import Occupied, SharedError

#: Seconds of the first and of the longest pause between two attempts.
FIRST_PAUSE = 0.0002
LONGEST_PAUSE = 0.010

#: Attempts that only let others run before the first pause: a holder is done
#: in 5 us, unless it has lost its core.
YIELDS = 20

#: Hot path: the kernel's call and its two arguments, for the cell, which takes
#: its lock once for each request and saves two frames of 5 with them.
flock = fcntl.flock
TAKE = fcntl.LOCK_EX | fcntl.LOCK_NB
FREE = fcntl.LOCK_UN

#: Seconds a refusal looks for the pid of a holder that has only just begun.
NAMING = 0.2


def try_lock(fd: int) -> bool:
    """True if `fd` now holds its file's lock exclusively; never blocks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as failure:
        if failure.errno == errno.EINTR:
            return False
        raise SharedError(f"no lock on descriptor {fd}: {failure}") from failure
    return True


def lock_within(fd: int, patience: float, clock: Clock = SYSTEM) -> bool:
    """
    Try until the lock is held or the patience is over.

    A blocking flock cannot be given a deadline, and an alarm belongs to the
    main thread; asking again after 0.2 to 10 ms costs less than either.

    Blocks: at most `patience` seconds, and one pause of 10 ms.
    """
    if try_lock(fd):
        return True
    deadline = clock.monotonic() + patience
    for _ in range(YIELDS):
        os.sched_yield()
        if try_lock(fd):
            return True
    pause = FIRST_PAUSE
    while (left := deadline - clock.monotonic()) > 0:
        select((), (), (), min(pause, left))
        if try_lock(fd):
            return True
        pause = min(2 * pause, LONGEST_PAUSE)
    return False


def unlock(fd: int) -> None:
    """Let the next one in; also where the lock was not held."""
    fcntl.flock(fd, fcntl.LOCK_UN)


class FileLock:
    """
    A lock that all processes share which know its path.

    Safe among the threads of a process, too.  The file is opened at first
    use, anew in every process, with mode 0600.

    Args:
        path: The lock's file; its directory exists.
        patience: Seconds that `with` waits at most.
    """

    def __init__(
        self, path: Path, *, patience: float = 1.0, clock: Clock = SYSTEM
    ) -> None:
        self._path = path
        self._patience = patience
        self._clock = clock
        # A flock belongs to the open file and not to a thread: two threads of this process would
        # both get it through the one descriptor. This lock lets one of them at it. It is taken
        # before the file's lock and let go after it, and guards the descriptor, too.
        self._threads = Lock()
        self._fd = -1
        self._owner = 0

    def acquire(self, patience: float | None = None) -> bool:
        """
        True once the lock is held, by this thread alone.

        Raises: SharedError if the file cannot be opened.
        Blocks: at most `patience` seconds (default: the constructor's).
        """
        if patience is None:
            patience = self._patience
        began = self._clock.monotonic()
        if not self._threads.acquire(timeout=max(0.0, patience)):
            return False
        try:
            left = patience - (self._clock.monotonic() - began)
            held = lock_within(self._open(), left, self._clock)
        except BaseException:
            self._threads.release()
            raise
        if not held:
            self._threads.release()
        return held

    def release(self) -> None:
        """Let the next one in."""
        unlock(self._fd)
        self._threads.release()

    def __enter__(self) -> Self:
        if not self.acquire():
            raise SharedError(f"{self._path}: locked for {self._patience} s by another")
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        if self._fd >= 0 and self._owner == os.getpid():
            os.close(self._fd)
        self._fd = -1

    def _open(self) -> int:
        # A descriptor that came through a fork shares its lock with the
        # parent and would exclude nobody: every process opens its own.
        pid = os.getpid()
        if self._fd < 0 or self._owner != pid:
            self._fd = open_private(self._path)
            self._owner = pid
        return self._fd


def open_private(path: Path | str) -> int:
    """
    Open a file for reading and writing, made with mode 0600 where missing.

    No link is followed and no program inherits the descriptor.

    Raises: SharedError.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except OSError as failure:
        raise SharedError(f"{path}: {failure.strerror}") from failure


class Claim:
    """
    The right to run one connector, held by a supervisor for its life.

    The file carries the holder's pid, so that a refusal can name it.

    Args:
        directory: Where the state of the connector is kept.
        connector: The connector's `name`.
    """

    def __init__(
        self, directory: Path, connector: str, *, clock: Clock = SYSTEM
    ) -> None:
        self.connector = connector
        self._path = directory / f"{connector}.lock"
        self._clock = clock
        self._fd = -1

    def take(self) -> None:
        """
        Hold the connector until `release` or death.

        Raises: Occupied if another engine has it; SharedError if the file
        cannot be opened.  Blocks: never, but 0.2 s for a refusal's pid.
        """
        if self._fd >= 0:
            return
        fd = open_private(self._path)
        try:
            held = try_lock(fd)
            if not held:
                pid = self._holder(fd)
                who = f"process {pid}" if pid is not None else "another process"
                raise Occupied(
                    f"connector {self.connector!r} is already run by {who} "
                    f"(lock {self._path})",
                    pid=pid,
                )
            os.pwrite(fd, b"%-20d\n" % os.getpid(), 0)
        except OSError as failure:
            os.close(fd)
            raise SharedError(f"{self._path}: {failure.strerror}") from failure
        except SharedError:
            os.close(fd)
            raise
        self._fd = fd

    def holder(self) -> int | None:
        """
        The process that says it holds the connector, if it is alive; else None.

        Takes no lock, not even for a moment: an engine that starts just then would
        be refused.
        """
        try:
            text = self._path.read_bytes().strip()
        except OSError:
            return None
        alive = text.isdigit() and Path(f"/proc/{int(text)}").exists()
        return int(text) if alive else None

    def release(self) -> None:
        """Give the connector up, at the end of the supervisor."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            unlock(self._fd)
            self.forget()

    def forget(self) -> None:
        """
        Close without unlocking: the first thing a forked child does.

        The child's descriptor is the same open file as the supervisor's: an
        unlock here would free the connector, and keeping it open would hold
        the connector beyond the supervisor's death.
        """
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _holder(self, fd: int) -> int | None:
        # The holder writes its pid just after it has the lock, and a killed
        # one leaves its own behind: a pid that is not alive is read again.
        deadline = self._clock.monotonic() + NAMING
        while True:
            text = os.pread(fd, 32, 0).strip()
            if text.isdigit() and Path(f"/proc/{int(text)}").exists():
                return int(text)
            if self._clock.monotonic() >= deadline:
                return None
            select((), (), (), LONGEST_PAUSE)
