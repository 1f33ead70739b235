"""
How long does one scrape of `/metrics` take with 16 tasks, beside the library's way?

    python perf/bench_scrape.py [--tasks 16] [--detailed] [--rounds 30] [--quick]

Makes the meters' files of that many tasks, serves them from the admin process'
own loop, and fetches `/metrics` over loopback; the baseline renders the same
files through prometheus_client's MultiProcessCollector and exposition.  To
compare before and after, run it on both commits: the baseline tells how far the
machine has moved meanwhile.  Prints one JSON document, times in milliseconds, and keeps it
in perf/results/ unless it was --quick.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from engine.admin.view import ShardState, TaskState
from engine.clock import SYSTEM
from engine.observe import names
from engine.observe.meters import Meters
from engine.observe.names import MetricKind, MetricOrigin
from perf.rig import ROOT, machine
from tests.fakes.view import FakeView, card, serving

APIS = ("api1", "api2")


def metered(directory: str, tasks: int, detailed: bool) -> None:
    """Every family of every task, every value of its labels."""
    for number in range(tasks):
        meters = Meters(
            directory=directory, connector="orders", task=number, detailed=detailed
        )
        for metric in names.TABLE:
            if metric.origin is not MetricOrigin.METERS or metric.detailed > detailed:
                continue
            sets: list[tuple[str, ...]] = [()]
            for label in metric.own:
                values = metric.values.get(label, APIS)
                sets = [(*given, value) for given in sets for value in values]
            for labels in sets:
                if metric.kind is MetricKind.COUNTER:
                    meters.count(metric, labels, 3)
                elif metric.kind is MetricKind.GAUGE:
                    meters.state(metric, labels, 3)
                else:
                    for seconds in (0.004, 0.02, 0.3, 4.0):
                        meters.timer(metric, labels)(seconds)
        meters.close()


def milliseconds(rounds: int, action: Callable[[], object]) -> dict[str, float]:
    """Wall time, and the CPU of client and server: both are in this process."""
    action()
    taken = []
    used = time.process_time()
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        taken.append(1000 * (time.perf_counter() - start))
    used = time.process_time() - used
    taken.sort()
    return {
        "cpu": round(1000 * used / rounds, 2),
        "median": round(statistics.median(taken), 2),
        "p90": round(taken[int(0.9 * (len(taken) - 1))], 2),
        "max": round(taken[-1], 2),
    }


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    words.add_argument("--tasks", type=int, default=16)
    words.add_argument("--rounds", type=int, default=30)
    words.add_argument("--detailed", action="store_true")
    words.add_argument("--quick", action="store_true", help="3 rounds")
    args = words.parse_args()
    rounds = 3 if args.quick else args.rounds

    with tempfile.TemporaryDirectory() as place:
        directory = f"{place}/meters"
        metered(directory, args.tasks, args.detailed)
        view = FakeView(directory, started_ms=SYSTEM.wall_ms() - 1000, cards=[card()])
        view.task_states = [
            TaskState("orders", n, "RUNNING") for n in range(args.tasks)
        ]
        view.shard_states = [
            ShardState(2 * n + i, "orders", api, f"{api}[{n}]", n, {"received": 500})
            for n in range(args.tasks)
            for i, api in enumerate(APIS)
        ]
        registry = CollectorRegistry()
        MultiProcessCollector(registry, directory)

        with serving(view, f"{place}/ports") as urls:

            def scrape() -> bytes:
                with urllib.request.urlopen(f"{urls[0]}/metrics") as answer:
                    found: bytes = answer.read()
                return found

            lines = scrape().count(b"\n")
            ours = milliseconds(rounds, scrape)
        theirs = milliseconds(rounds, lambda: generate_latest(registry))

    document = {
        "question": (__doc__ or "").strip().splitlines()[0],
        "machine": machine(),
        "tasks": args.tasks,
        "detailed": args.detailed,
        "lines": lines,
        "rounds": rounds,
        "scrape_ms": ours,
        "prometheus_client_ms": theirs,
    }
    print(json.dumps(document, indent=1))
    if not args.quick:
        results = ROOT / "perf" / "results"
        results.mkdir(exist_ok=True)
        name = "scrape_detailed" if args.detailed else "scrape"
        (results / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
