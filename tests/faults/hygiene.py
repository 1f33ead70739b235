"""
I7 and the sums of I8: what an engine holds of the machine, and whether its counts agree.

What it held when it was first underway is compared with what it holds after the fault;
what it leaves behind is looked for once it has ended.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from tests.faults.field import Run

#: Descriptors that a process may hold more of than before the fault.
MORE = 5

#: Bytes of memory that none of its processes may reach.
LARGEST = 400 << 20

#: Seconds in which an engine lets go of what a fault made it hold.
SETTLES = 30.0

#: What a file's name ends in while it is being written.
UNFINISHED = (".new", ".tmp")


@dataclass(frozen=True)
class Held:
    """
    What the processes of an engine hold.

    Attributes:
        parent, task: Descriptors of the supervisor, and of the task with the most.
        largest: Bytes of the largest of them.
        zombies: Children that ended and were not reaped.
    """

    parent: int = 0
    task: int = 0
    largest: int = 0
    zombies: int = 0


def held(run: Run) -> Held:
    """Just now; zeros of an engine that has ended."""
    found = Held()
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(run.engine.pid)
        tasks, zombies, largest = 0, 0, parent.memory_info().rss
        for each in parent.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if each.status() == psutil.STATUS_ZOMBIE:
                    zombies += 1
                    continue
                tasks = max(tasks, _descriptors(each))
                largest = max(largest, each.memory_info().rss)
        found = Held(parent.num_fds(), tasks, largest, zombies)
    return found


def _descriptors(process: psutil.Process) -> int:
    """
    How many it holds, each of its files of meters not counted once.

    Those are opened when the meters are first written down, whenever that is.
    """
    folder = Path(f"/proc/{process.pid}/fd")
    files = []
    with suppress(FileNotFoundError):
        for each in folder.iterdir():
            # It may be closed meanwhile.
            with suppress(FileNotFoundError):
                files.append(os.readlink(each))
    meters = {file for file in files if "/meters/" in file}
    return len(files) - len(meters)


def grown(before: Held, after: Held) -> list[str]:
    """What does not hold of I7 while an engine runs."""
    wrong = []
    if after.parent > before.parent + MORE:
        wrong.append(
            f"I7: the supervisor holds {after.parent} descriptors, {before.parent} before"
        )
    if after.task > before.task + MORE:
        wrong.append(f"I7: a task holds {after.task} descriptors, {before.task} before")
    if after.largest > LARGEST:
        wrong.append(f"I7: a process has {after.largest >> 20} MiB")
    if after.zombies:
        wrong.append(f"I7: {after.zombies} zombies")
    return wrong


def settled(run: Run) -> list[str]:
    """
    What does not hold of I7 however long the engine is given.

    What catches up asks for more at a time than usual, and lets go of it afterwards;
    what has leaked stays.  Blocks: until nothing is wrong, half a minute at most.
    """
    deadline = time.monotonic() + SETTLES
    while run.held and (wrong := grown(run.held, held(run))):
        if time.monotonic() > deadline:
            return wrong
        time.sleep(0.1)
    return []


def left(run: Run) -> list[str]:
    """What does not hold of I7 once all engines have ended."""
    wrong = []
    if found := [path.name for path in run.temporary.rglob("*") if path.is_file()]:
        wrong.append(f"I7: temporary files are left: {found[:5]}")
    folders = [*run.folder.glob("run*"), *run.folder.glob("state*")]
    files = [path for folder in folders for path in folder.rglob("*")]
    if found := [path.name for path in files if path.suffix in UNFINISHED]:
        wrong.append(f"I7: unfinished files are left: {found[:5]}")
    # Others use it, too: what is ours has a process or the connector in its name.
    names = [*map(str, run.pids), run.setup.name]
    shared = [
        name
        for name in os.listdir("/dev/shm")
        if any(word in name for word in names) and Path("/dev/shm", name).exists()
    ]
    if new := set(shared) - run.shared_before:
        wrong.append(f"I7: shared memory is left: {sorted(new)}")
    return wrong


def sums(run: Run, committed: int, written: int) -> list[str]:
    """
    What does not hold of I8: counts that do not add up, or not with the topic.

    Args:
        committed, written: Records of the topic for either kind of reader.
    """
    wrong = []
    totals = [document["total"] for document in documents(run)]
    if not totals:
        wrong.append("I8: no engine has told its counts")
    for total in totals:
        out = sum(
            total.get(name, 0)
            for name in ("produced", "filtered", "dead_lettered", "deduplicated")
        )
        if total["received"] != out:
            wrong.append(f"I8: {total['received']} received, {out} accounted for")
    produced = sum(total["produced"] for total in totals)
    there = committed if run.mode == "exactly once" else written
    # Who is killed takes his last counts along, never his records.
    whole = not run.rewinds and len(totals) == len(run.engines)
    if produced > there or (whole and produced != there):
        wrong.append(f"I8: {produced} counted as produced, {there} in the topic")
    return wrong


def documents(run: Run) -> Sequence[dict[str, Any]]:
    """What each engine told at its end; nothing of those that were killed."""
    found = []
    for engine in run.engines:
        with suppress(ValueError):
            found.append(json.loads(engine.out))
    return found
