"""
What does the supervisor cost, and how soon does it notice and act?

    python perf/bench_supervisor.py [--quick] [--seconds 20] [--rounds 20]

For 1, 4, 16 and 64 tasks that only wait: seconds until all of them work, CPU of
the supervisor in percent of a core while nothing happens, milliseconds from a
task's SIGKILL to its successor's first report (the back-off set to nothing) and
from SIGTERM to the end of the run.  Baseline in the same run: a bare fork and
wait, without anything of ours.  And the price of a log line: shaped, cut and
written to a file, and dropped at a full pipe.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
import psutil

from engine.observe import log
from engine.supervisor.child import ChildContext
from engine.supervisor.restart import RestartPolicy
from perf.rig import ROOT, machine, spread
from tests.process.rig import QUICK, Engine, connector, until, wanted

TASKS = (1, 4, 16, 64)

AT_ONCE = msgspec.structs.replace(
    QUICK,
    silence=30.0,
    grace=10.0,
    restarts=RestartPolicy(backoff=0.0, backoff_max=0.0, most=1_000_000),
)


def bare_fork(rounds: int) -> list[float]:
    """Milliseconds of a fork, its child's end and the wait for it."""
    spent = []
    for _ in range(rounds):
        began = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        spent.append((time.perf_counter() - began) * 1e3)
    return spent


def supervised(
    place: Path, tasks: int, seconds: float, rounds: int
) -> dict[str, object]:
    """One supervisor with so many tasks."""
    reported = place / "reported"

    def entry(context: ChildContext) -> int:
        context.ready()
        if context.number == 0:
            fd = os.open(reported, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(fd, f"{time.monotonic()}\n".encode())
        while not context.stopping.wait(30):
            pass
        return 0

    def starts() -> list[float]:
        if not reported.exists():
            return []
        return [float(line) for line in reported.read_text().split()]

    began = time.monotonic()
    run = Engine(
        place,
        lambda: wanted(connector(place, entry, tasks=tasks), patience=AT_ONCE),
    )
    run.running(tasks)
    started = time.monotonic() - began
    try:
        supervisor = psutil.Process(run.pid)
        before, since = sum(supervisor.cpu_times()[:2]), time.monotonic()
        time.sleep(seconds)
        used = sum(supervisor.cpu_times()[:2]) - before
        share = used / (time.monotonic() - since)

        back = []
        for _ in range(rounds):
            run.running(tasks)
            victim = run.pids()["c/0"]
            seen, killed = len(starts()), time.monotonic()
            os.kill(victim, signal.SIGKILL)
            until(lambda: len(starts()) > seen, "it is back")  # noqa: B023
            until(
                lambda: run.pids().get("c/0", victim) != victim,  # noqa: B023
                "the supervisor has told so",
            )
            back.append((starts()[-1] - killed) * 1e3)
        run.running(tasks)
        resident = supervisor.memory_info().rss
        began = time.monotonic()
        run.stop()
        stopped = time.monotonic() - began
    finally:
        run.clear_up()
    print(
        f"{tasks:>6}{started:>11.3f}{share:>10.2%}{spread(back):>24}"
        f"{stopped * 1e3:>9.0f}{resident / 1e6:>9.0f}"
    )
    return {
        "start_seconds": started,
        "cpu_share": share,
        "back_ms": back,
        "stop_ms": stopped * 1e3,
        "resident_bytes": resident,
    }


def lines(place: Path, count: int) -> dict[str, float]:
    """Microseconds of a log line, by where it goes."""
    price = {}
    reader, writer = os.pipe()
    with (place / "log").open("ab") as file:
        for name, shape, fd in (
            ("text to a file", "text", file.fileno()),
            ("json to a file", "json", file.fileno()),
            ("text, dropped at a full pipe", "text", writer),
        ):
            log.configure(format=shape, fd=fd)
            logger = logging.getLogger("perf")
            for _ in range(1000 if fd == writer else 10):
                logger.info("Warm.", extra={"filler": "x" * 100})
            began = time.perf_counter()
            for number in range(count):
                logger.info("Page %d is delivered.", number, extra={"records": 500})
            price[name] = (time.perf_counter() - began) / count * 1e6
            print(f"{name:<32}{price[name]:>8.0f} us a line")
    os.close(reader)
    os.close(writer)
    return price


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    seconds, rounds = (0.2, 2) if given.quick else (given.seconds, given.rounds)

    with tempfile.TemporaryDirectory() as name:
        forked = bare_fork(rounds)
        print(f"a bare fork and wait: {statistics.median(forked):.2f} ms")
        print(" tasks  started s   CPU idle      back after kill, ms  stop ms   RSS MB")
        table = {}
        for tasks in TASKS[:2] if given.quick else TASKS:
            place = Path(name) / str(tasks)
            place.mkdir()
            table[str(tasks)] = supervised(place, tasks, seconds, rounds)
        document = {
            "question": (__doc__ or "").strip().splitlines()[0],
            "machine": machine(),
            "bare_fork_ms": forked,
            "tasks": table,
            "line_us": lines(Path(name), 100 if given.quick else 2000),
        }
    if not given.quick:
        results = ROOT / "perf" / "results"
        results.mkdir(exist_ok=True)
        (results / "supervisor.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
