"""
How many requests can all tasks' limiter decide, and how much of a rate do they use?

    python perf/bench_limiter.py [--quick] [--seconds 2] [--rounds 5]

Decisions: 1, 2 and 8 processes reserve as fast as they can under a rate that
makes nobody wait.  Baselines in the same run: the four system calls that a
decision cannot do without, and `multiprocessing`'s own lock around a shared
number, which is faster alone and dead for ever once a holder is killed.
Utilisation: 8 processes wait as they are told, at 1, 10, 100 and 1,000 a second.
To compare before and after, run it on both commits and look at the baselines
first: they tell how far the machine has moved.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from engine.shared.limiter import RateLimiter, RateLimits
from engine.shared.rates import ALGORITHMS, Rate
from perf.rig import ROOT, machine, spread

FORK = multiprocessing.get_context("fork")
CHUNK = 200


def race(
    processes: int, seconds: float, make: Callable[[], Callable[[], object]]
) -> tuple[float, float]:
    """(calls a second of all processes, CPU us a call)."""
    begin = time.monotonic() + 0.2
    pipes = []
    for _ in range(processes):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            call = make()
            time.sleep(max(0.0, begin - time.monotonic()))
            done, cpu = 0, time.process_time()
            while time.monotonic() < begin + seconds:
                for _ in range(CHUNK):
                    call()
                done += CHUNK
            spent = time.monotonic() - begin
            told = {"rate": done / spent, "cpu": (time.process_time() - cpu) / done}
            os.write(writing, json.dumps(told).encode())
            os._exit(0)
        os.close(writing)
        pipes.append((pid, reading))
    found = []
    for pid, reading in pipes:
        os.waitpid(pid, 0)
        found.append(json.loads(os.read(reading, 1000)))
        os.close(reading)
    calls = sum(one["rate"] for one in found)
    return calls, statistics.mean(one["cpu"] for one in found) * 1e6


def limiter(directory: Path, algorithm: str, rate: float) -> RateLimiter:
    limits = RateLimits(rate=Rate(rate, algorithm, burst=1))
    return RateLimiter([directory], f"c-{algorithm}", limits)


def decisions(directory: Path, seconds: float, rounds: int) -> dict[str, object]:
    number = FORK.Value("d", 0.0)

    def bare() -> Callable[[], object]:
        fd = os.open(directory / "bare", os.O_RDWR | os.O_CREAT, 0o600)
        os.posix_fallocate(fd, 0, 64)

        def call() -> None:
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.pwrite(fd, os.pread(fd, 44, 0), 0)
            fcntl.flock(fd, fcntl.LOCK_UN)

        return call

    def library() -> Callable[[], object]:
        def call() -> None:
            with number.get_lock():
                number.value = number.value + 1.0

        return call

    def ours(algorithm: str) -> Callable[[], Callable[[], object]]:
        def make() -> Callable[[], object]:
            rate = 1e9 if "BUCKET" in algorithm else 5e6
            reserve = limiter(directory, algorithm, rate).reserve
            return lambda: reserve("api.example.com", "api1")

        return make

    contestants: dict[str, Callable[[], Callable[[], object]]] = {
        "baseline: flock, pread, pwrite": bare,
        "baseline: multiprocessing.Value": library,
        **{algorithm: ours(algorithm) for algorithm in ALGORITHMS},
    }
    table: dict[str, object] = {}
    for processes in (1, 2, 8):
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, make in contestants.items():
                runs[name].append(race(processes, seconds, make))
        print(f"\n{processes} processes{'decisions/s':>40}{'CPU us':>24}")
        for name, found in runs.items():
            rates, costs = [r for r, _ in found], [c for _, c in found]
            print(f"{name:34}{spread(rates, 0):>30}{spread(costs):>22}")
            table[f"{name}, {processes}"] = {"per_second": rates, "cpu_us": costs}
    return table


def utilisation(directory: Path, seconds: float) -> dict[str, object]:
    table: dict[str, object] = {}
    print(f"\n8 processes{'granted':>22}{'allowed':>10}{'used':>10}")
    for rate in (1.0, 10.0, 100.0, 1000.0):
        span = max(seconds, 5 / rate)
        place = directory / f"at-{rate:g}"
        begin = time.monotonic() + 0.3
        counts = FORK.Array("l", 8)

        def work(number: int) -> None:
            one = limiter(place, "TOKEN_BUCKET", rate)  # noqa: B023
            time.sleep(max(0.0, begin - time.monotonic()))  # noqa: B023
            granted = 0
            until = begin + span  # noqa: B023
            while True:
                wait = one.reserve("api.example.com", "api1")
                while wait > 0 and time.monotonic() + wait < until:
                    time.sleep(wait)
                    wait = one.recheck("api.example.com")
                if wait > 0 or time.monotonic() >= until:
                    break
                granted += 1
            counts[number] = granted  # noqa: B023
            os._exit(0)

        children = []
        for number in range(8):
            pid = os.fork()
            if pid == 0:
                work(number)
            children.append(pid)
        for pid in children:
            os.waitpid(pid, 0)
        granted, allowed = sum(counts), rate * span
        print(f"{rate:>8g}/s{granted:>23,}{allowed:>10,.0f}{granted / allowed:>10.2%}")
        table[f"{rate:g}"] = {
            "granted": granted,
            "allowed": allowed,
            "used": granted / allowed,
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    seconds, rounds = (0.1, 1) if given.quick else (given.seconds, given.rounds)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        document = {
            "question": (__doc__ or "").strip().splitlines()[0],
            "machine": machine(),
            "decisions": decisions(Path(name), seconds, rounds),
            "utilisation": utilisation(Path(name), 1.0 if given.quick else 10.0),
        }
    if not given.quick:
        results = ROOT / "perf" / "results"
        results.mkdir(exist_ok=True)
        (results / "limiter.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
