"""
Soak: a process tree watched for minutes.

Owns the looks at it (resident bytes, descriptors, CPU of each process) and the
slope of a line through them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil


@dataclass
class Trail:
    """
    One process, seen again and again.

    Attributes:
        name: What it calls itself.
        at: Seconds of each look.
        resident, descriptors, cpu: At each look: bytes, count, seconds.
    """

    name: str
    at: list[float] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def since(self, seconds: float) -> int:
        """Index of the first look behind the warm-up."""
        return next(i for i, at in enumerate(self.at) if at >= seconds)

    def slope(self, warm_up: float) -> float:
        """MiB a minute, by least squares, behind the warm-up."""
        start = self.since(warm_up)
        return 60 * slope(self.at[start:], self.resident[start:]) / 2**20

    def share(self, warm_up: float) -> float:
        """Share of a core behind the warm-up."""
        start = self.since(warm_up)
        return (self.cpu[-1] - self.cpu[start]) / (self.at[-1] - self.at[start])


def slope(xs: list[float], ys: list[int]) -> float:
    """Of the line of least squares."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return (
        sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    )


def watched(
    root: psutil.Process,
    seconds: float,
    every: float,
    wanted: Callable[[psutil.Process], bool] = lambda process: True,
) -> dict[int, Trail]:
    """
    The processes of a tree over so many seconds, by pid.

    Blocks: for `seconds`.
    """
    trails: dict[int, Trail] = {}
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        for each in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                if not wanted(each):
                    continue
                trail = trails.setdefault(each.pid, Trail(""))
                # Its title, which comes a moment after its start.
                trail.name = " ".join(each.cmdline()).strip()
                times = each.cpu_times()
                trail.at.append(now)
                trail.resident.append(each.memory_info().rss)
                trail.descriptors.append(each.num_fds())
                trail.cpu.append(times.user + times.system)
        time.sleep(every)
    return trails
