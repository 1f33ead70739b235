"""
Machine: what a process costs its machine.

Owns the questions to the operating system about one pid (GATE psutil), and
answers with plain numbers.  It never keeps a process alive or waits for one:
a process that is gone costs nothing.

Asked by ``supervisor.loop`` about memory, by admin about all of it.
"""

from __future__ import annotations

import psutil
from msgspec import Struct


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
    """
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def memory_total() -> int:
    """Bytes of memory of the machine."""
    return int(psutil.virtual_memory().total)
