"""
Processes that share a rate and die holding its lock, started by a small one.

The kernel frees the memory of the dead before it lets go of their locks.  What
is forked from a test runner that has grown holds a lock for so long by dying
that hardly anybody else comes to ask: run as ``python -m tests.process.fire``.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.shared import cell
from engine.shared.bucket import Bucket
from engine.shared.rates import Rate
from tests.shared.children import Child

#: Seconds a process waits for the lock: longer than a test lasts, so that
#: nobody goes on alone because others are long in dying.
PATIENCE = 300.0

#: Processes at a time that die.
AT_ONCE = 8

#: Seconds in which enough have to have died.
LONGEST = 60.0


class Fired(msgspec.Struct):
    """
    What came of it.

    Attributes:
        kills: How many died.
        moments: When each request was granted, once it was due (monotonic).
        began, ended: Between which moments it was asked.
    """

    kills: int
    moments: list[float]
    began: float
    ended: float


def draw(
    directory: Path, rate: Rate, until: float, risk: float = 0.0
) -> Callable[[Callable[[str], None]], None]:
    """
    A task that says for when each of its requests was granted, once it is due.

    Args:
        risk: Chance that it is killed (SIGKILL) at a write into the shared
            file, which it does while it holds the lock.
    """

    def run(say):
        chance = random.Random(os.getpid())

        def deadly(fd: int, content: bytes, offset: int) -> int:
            before, after = chance.random() < risk / 2, chance.random() < risk / 2
            if before:
                os.kill(os.getpid(), signal.SIGKILL)
            written = os.pwrite(fd, content, offset)
            if after:
                os.kill(os.getpid(), signal.SIGKILL)
            return written

        cell.pwrite = deadly
        one = Bucket(
            [directory], "c all", "all", rate, generation=1.0, patience=PATIENCE
        )
        while True:
            wait, due, _ = one.take(1.0)
            if time.monotonic() + wait >= until:
                return
            time.sleep(wait)
            if due:
                say(repr(due))

    return run


def fire(directory: Path, rate: Rate, risk: float, deaths: int) -> Fired:
    """`AT_ONCE` that die of `risk`, each replaced at once, and one that lives on."""
    began = time.monotonic()
    forever = began + LONGEST
    run = draw(directory, rate, forever, risk)
    found = Fired(0, [], began, began)

    def reap(child: Child) -> None:
        found.moments.extend(float(line) for line in child.rest() if line[0].isdigit())
        assert -signal.SIGKILL == child.wait()

    # One that lives on asks for what the others, dead or not yet born, leave.
    steady = Child(draw(directory, rate, forever))
    children = [Child(run) for _ in range(AT_ONCE)]
    while found.kills < deaths and time.monotonic() < forever:
        for n, child in enumerate(children):
            if child.gone():
                reap(child)
                children[n] = Child(run)
                found.kills += 1
        time.sleep(0.001)
    found.ended = time.monotonic()
    for child in (*children, steady):
        child.signal(signal.SIGKILL)
        reap(child)
    return found


if __name__ == "__main__":
    folder, *more = msgspec.json.decode(sys.argv[1], type=tuple[str, Rate, float, int])
    sys.stdout.buffer.write(msgspec.json.encode(fire(Path(folder), *more)))
