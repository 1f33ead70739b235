"""
Targets: the run state that each connector is wanted in, over restarts.

Owns one small file for each connector, beside its lock.  PAUSED and STOPPED are
somebody's decision: they hold until somebody decides otherwise, whatever becomes of
the engine meanwhile.  `run --once` neither reads nor writes them.

Path: ``supervisor.commands`` writes, ``supervisor.reloading`` reads at its start and for
each connector that comes
"""

from __future__ import annotations

import os
from pathlib import Path

#: Run states of a connector, in Connect's words.
RUN_STATES = ("RUNNING", "PAUSED", "STOPPED")


def read(directory: Path, connector: str) -> str | None:
    """
    What was decided last, or None if nothing ever was.

    Args:
        directory: Of the connector's lock: the place of its state.
    """
    try:
        text = _path(directory, connector).read_text("ascii", "replace").strip()
    except OSError:
        return None
    return text if text in RUN_STATES else None


def write(directory: Path, connector: str, state: str) -> None:
    """
    Keep a decision; it is on the disk when this returns.

    Raises: OSError; what was decided before still holds then.
    Blocks: for one fsync of a file and one of its directory.
    """
    replace(_path(directory, connector), f"{state}\n".encode())


def forget(directory: Path, connector: str) -> None:
    """The connector is gone; the next one of its name begins as it is written."""
    try:
        _path(directory, connector).unlink(missing_ok=True)
    except OSError:
        # Its directory cannot be written: then nothing was ever kept there.
        return


def replace(path: Path, content: bytes) -> None:
    """
    Replace a file whole: another reader sees all of the old one or of the new.

    Raises: OSError, and the old one stands.
    """
    draft = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(draft, flags, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(directory: Path) -> None:
    """
    What was renamed or removed in a directory is so on the disk, too.

    Raises: OSError.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _path(directory: Path, connector: str) -> Path:
    return directory / f"{connector}.state"
