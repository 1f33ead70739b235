"""What a process costs its machine, as plain numbers."""

from __future__ import annotations

import mmap
import os
import subprocess

from engine.observe import machine


def test_our_own_cost_is_told() -> None:
    cost = machine.cost(os.getpid())

    assert cost is not None
    assert cost.resident > 5_000_000
    assert cost.cpu > 0
    assert cost.descriptors >= 3
    assert abs(machine.resident(os.getpid()) - cost.resident) < cost.resident / 2


def test_memory_that_is_taken_shows() -> None:
    before = machine.resident(os.getpid())
    # From the kernel itself: what was freed before is not taken again.
    with mmap.mmap(-1, 50_000_000) as hoard:
        hoard.write(b"x" * 50_000_000)

        assert machine.resident(os.getpid()) - before > 40_000_000
        assert len(hoard) < machine.memory_total()


def test_a_process_that_is_gone_costs_nothing() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()

    assert machine.cost(process.pid) is None
    assert 0 == machine.resident(process.pid)
