"""Small disks: file systems in memory, for tests of what is full."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.needs import need


def mount(*words: str | Path) -> str:
    """
    Run `mount`, with `sudo` for who is not root.

    Returns: why it could not be done, or nothing.
    """
    return _as_root("mount", *words)


@contextlib.contextmanager
def disk_of(place: Path, kib: int) -> Iterator[Path]:
    """A new folder that is a file system of so many KiB, ours to write to."""
    place.mkdir()
    options = f"size={kib}k,mode=700,uid={os.getuid()},gid={os.getgid()}"
    wrong = mount("-t", "tmpfs", "-o", options, "tmpfs", place)
    need(not wrong, f"the right to mount a disk of {kib} KiB ({wrong})")
    try:
        yield place
    finally:
        # Somebody may still look at it.
        wrong = _as_root("umount", "-l", place)
        assert not wrong, wrong


def _as_root(*words: str | Path) -> str:
    command = [*words] if os.getuid() == 0 else ["sudo", "-n", *words]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError as failure:
        return str(failure)
    return done.stderr.strip() or "it failed" if done.returncode else ""
