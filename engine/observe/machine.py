"""
Machine: what a process costs its machine.

Owns the questions to the operating system about one pid (GATE psutil), and
answers with plain numbers.  It never keeps a process alive or waits for one:
a process that is gone costs nothing.

Asked by ``supervisor.endings`` about memory, by admin about all of it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from engine.later import later

if TYPE_CHECKING:
    import psutil
else:
    # A task asks nothing of it, nor does a supervisor.
    psutil = later("psutil")

#: Bytes of a page of memory.
_PAGE = os.sysconf("SC_PAGE_SIZE")

#: Mappings that are counted as shared memory, not as files.
_SHARED_MEMORY = ("/dev/zero", "/dev/shm/", "/memfd:", "/SYSV")


class Cost(Struct, frozen=True):
    """
    What a process has used and holds.

    Attributes:
        resident: Bytes in memory, shared pages among them.
        cpu: Seconds of processor time since its start, user and system.
        descriptors: Open files, 0 where we may not look.
    """

    resident: int
    cpu: float
    descriptors: int


def cost(pid: int) -> Cost | None:
    """All of it, or None if the process is gone or not ours to look at."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            memory = process.memory_info()
        try:
            descriptors = process.num_fds()
        except psutil.AccessDenied:
            descriptors = 0
        return Cost(
            resident=int(memory.rss),
            cpu=float(times.user + times.system),
            descriptors=int(descriptors),
        )
    except psutil.Error:
        return None


def resident(pid: int) -> int:
    """
    Bytes in memory; 0 if the process is gone.

    About 30 us: cheap enough to ask of every task each second.
    Source: proc(5), statm.
    """
    try:
        text = Path(f"/proc/{pid}/statm").read_bytes()
    except OSError:
        return 0
    return int(text.split()[1]) * _PAGE


def queued() -> float:
    """
    Seconds that the living threads of this process have waited for a processor.

    0.0 where the system does not tell.  About 20 us a thread.
    Source: proc(5), schedstat.
    """
    total = 0
    try:
        for thread in os.listdir("/proc/self/task"):
            # One that has just ended has waited for nothing that matters now.
            with suppress(FileNotFoundError, ProcessLookupError):
                told = Path(f"/proc/self/task/{thread}/schedstat").read_bytes()
                total += int(told.split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return total / 1e9


def together(pids: Iterable[int], files: Path) -> int:
    """
    Bytes that processes hold together, what they share counted once.

    Anonymous memory by its share in each (a fork's pages divide themselves
    among those who have them), mapped files once whoever else maps them, and
    what the processes keep in a directory that may be memory.  A process that
    is gone holds nothing.

    Args:
        files: That directory, all below it included.

    Blocks: some ms a process; the kernel walks its page tables.
    Source: proc(5), smaps and smaps_rollup.
    """
    own, mapped = 0, Counter[str]()
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            maps = psutil.Process(pid).memory_maps(grouped=True)
        except (OSError, psutil.Error):
            continue
        kinds = dict(line.split(":") for line in rollup.splitlines()[1:])
        for kind in ("Pss_Anon", "Pss_Shmem"):
            own += int(kinds[kind].split()[0]) << 10
        for found in maps:
            place = found.path
            if place.startswith("/") and not place.startswith(
                (*_SHARED_MEMORY, f"{files}/")
            ):
                size = found.rss - found.anonymous
                mapped[place] = max(mapped[place], size)
    return own + mapped.total() + _blocks(files)


def _blocks(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total


def memory_total() -> int:
    """Bytes of memory of the machine."""
    return int(psutil.virtual_memory().total)
