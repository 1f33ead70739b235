"""
Runtime: a directory of its own, in memory, for one supervisor.

Owns where that directory is, who may read it and when it is removed: those of
supervisors that died go when the next one starts.  Nothing in it outlives the
engine, and nothing in it is needed to go on after a reboot.

Below the limiter, the cache's second tier and the meters, whose files live
here; the command line finds running engines by it.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError, Exit
from engine.later import later
from engine.shared.lock import open_private, try_lock

if TYPE_CHECKING:
    import shutil
else:
    shutil = later("shutil")

_LOG = logging.getLogger(__name__)

#: Name of the directory that all supervisors of a user share.
NAME = "kafka-http-source"

_ALIVE = "alive.lock"


class NoRuntime(EngineError):
    """No directory can be had for the files that processes share."""

    code = Exit.PERMISSION


class Runtime:
    """
    The directory of one running supervisor.

    Attributes:
        path: Where; mode 0700, ours only, `<base>/<pid>.<number>`.
    """

    def __init__(self, base: Path) -> None:
        """
        Make it, and remove those of the dead beside it.

        Args:
            base: As `base_of` finds it; made if missing.

        Raises: NoRuntime.
        """
        make_private(base)
        sweep(base)
        self._fd = -1
        for number in range(1000):
            path = base / f"{os.getpid()}.{number}"
            try:
                path.mkdir(mode=0o700)
            except FileExistsError:
                continue
            except OSError as failure:
                raise NoRuntime(f"{path}: {failure.strerror}") from failure
            # Between mkdir and the lock another starter may take this for the
            # directory of a dead one and remove it: then the next number.
            try:
                fd = open_private(path / _ALIVE)
            except EngineError:
                continue
            if try_lock(fd) and _is_there(path, fd):
                self.path = path
                self._fd = fd
                return
            os.close(fd)
        raise NoRuntime(f"{base}: no free name for a runtime directory")

    def forget(self) -> None:
        """Let go of it in a forked child: the directory is the parent's."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """The end of the engine: all of it goes."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.forget()


def base_of(
    environ: Mapping[str, str], *, configured: Path | None, state: Path
) -> Path:
    """
    Where supervisors of this user have their runtime directories.

    `runtime.dir`; else systemd's RUNTIME_DIRECTORY; else XDG_RUNTIME_DIR; else
    /dev/shm, by user; else under the state directory.

    Args:
        configured: `runtime.dir`, or None.
        state: The state directory.
    """
    if configured is not None:
        return configured
    for name, below in (("RUNTIME_DIRECTORY", ""), ("XDG_RUNTIME_DIR", NAME)):
        first = environ.get(name, "").split(":")[0]
        if first.startswith("/") and os.access(first, os.W_OK | os.X_OK):
            return Path(first) / below
    shm = Path("/dev/shm")
    if os.access(shm, os.W_OK | os.X_OK):
        base = shm / f"{NAME}-{os.getuid()}"
        try:
            make_private(base)
        except NoRuntime as failure:
            # Anyone may have taken the name in a directory that is everyone's.
            _LOG.warning("%s; the state directory is used instead.", failure)
        else:
            return base
    return state / "runtime"


def make_private(path: Path) -> None:
    """
    Make a directory that only we can look into, or make sure that it is one.

    A link to one will do if root or we have made it, as systemd does for a
    DynamicUser (systemd.exec(5), StateDirectory): anybody else's may be a trap.

    Raises: NoRuntime if it is no directory, another user's, or cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            if found.st_uid not in (0, os.getuid()):
                raise NoRuntime(f"{path} is a link of user {found.st_uid}")
            found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise NoRuntime(f"{path} is no directory")
        if found.st_uid != os.getuid():
            raise NoRuntime(f"{path} belongs to user {found.st_uid}")
        if found.st_mode & 0o077:
            path.chmod(0o700)
    except OSError as failure:
        raise NoRuntime(f"{path}: {failure.strerror}") from failure


def make_usable(path: Path) -> None:
    """
    Make a directory, or make sure that there is one that we can write into.

    Raises: NoRuntime.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as failure:
        raise NoRuntime(f"{path}: {failure.strerror}") from failure
    if not os.access(path, os.W_OK | os.X_OK):
        raise NoRuntime(f"{path}: may not be written into")
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        raise NoRuntime(f"{path}: {os.strerror(errno.EROFS)}")


def running(base: Path) -> list[Path]:
    """Runtime directories of supervisors that live, oldest first."""
    found: list[tuple[float, Path]] = []
    for path in _candidates(base):
        try:
            fd = os.open(path / _ALIVE, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if not try_lock(fd):
                found.append((path.stat().st_ctime, path))
        except OSError:
            continue
        finally:
            os.close(fd)
    return [path for _, path in sorted(found)]


def sweep(base: Path) -> list[Path]:
    """Remove the directories of supervisors that are dead; which ones."""
    removed: list[Path] = []
    for path in _candidates(base):
        try:
            fd = open_private(path / _ALIVE)
        except EngineError:
            continue
        try:
            # Its lock ended with the supervisor that held it.
            if try_lock(fd):
                shutil.rmtree(path, ignore_errors=True)
                removed.append(path)
        finally:
            os.close(fd)
    return removed


def _candidates(base: Path) -> list[Path]:
    try:
        entries = sorted(base.iterdir())
    except OSError:
        return []
    return [path for path in entries if _ours(path)]


def _ours(path: Path) -> bool:
    pid, dot, number = path.name.partition(".")
    return bool(dot) and pid.isdigit() and number.isdigit() and not path.is_symlink()


def _is_there(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path / _ALIVE), os.fstat(fd))
    except OSError:
        return False
