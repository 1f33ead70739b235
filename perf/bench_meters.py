"""
What does observing cost a page, in its path and in the flush of each second?

    python perf/bench_meters.py [--pages 20000] [--rounds 7] [--quick]

A page counts its request, two durations, its cache lookup and its time to
acknowledgement, as a task does; with detailed metrics eight stages more.  The
baseline does the same through prometheus_client's own counters and histograms
in multiprocess mode, children held.  What that is of a page's whole cost is
`bench_observe`'s question.  Microseconds a page, median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

DIRECTORY = tempfile.TemporaryDirectory()
# The library decides at its first import whether several processes count.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = f"{DIRECTORY.name}/theirs"
os.makedirs(os.environ["PROMETHEUS_MULTIPROC_DIR"])

import prometheus_client

from engine.observe import names
from engine.observe.meters import Meters
from perf.rig import ROOT, machine

HOST = ("api.example", "ok", "2xx")
STAGES = ("limiter", "first_byte", "body", "decode", "transform", "encode", "ack")


def ours(meters: Meters) -> Callable[[], None]:
    duration = meters.timer(names.REQUEST_SECONDS)
    latency = meters.timer(names.FETCH_TO_ACK_SECONDS)
    stages = [meters.timer(names.STAGE_SECONDS, ("api1", name)) for name in STAGES]

    def page() -> None:
        meters.count(names.REQUESTS, HOST)
        duration(0.02)
        meters.count(names.CACHE_REQUESTS, ("none", "miss"))
        latency(0.03)
        meters.count(names.BATCHES)
        if meters.detailed:
            for stage in stages:
                stage(0.001)

    return page


def theirs() -> Callable[[], None]:
    def counter(name: str, *labels: str) -> prometheus_client.Counter:
        return prometheus_client.Counter(name, name, labels)

    def timer(name: str) -> prometheus_client.Histogram:
        return prometheus_client.Histogram(name, name, buckets=names.SECONDS)

    requests = counter("requests", "host", "outcome", "code").labels(*HOST)
    lookups = counter("lookups", "level", "result").labels("none", "miss")
    batches = counter("batches")
    duration, latency = timer("duration"), timer("latency")

    def page() -> None:
        requests.inc()
        duration.observe(0.02)
        lookups.inc()
        latency.observe(0.03)
        batches.inc()

    return page


def timed(
    pages: int, page: Callable[[], None], flush: Callable[[], None]
) -> list[float]:
    """Microseconds a page: in its path, in the flush."""
    start = time.perf_counter()
    for _ in range(pages):
        page()
    middle = time.perf_counter()
    flush()
    return [
        1e6 * (middle - start) / pages,
        1e6 * (time.perf_counter() - middle) / pages,
    ]


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    words.add_argument("--pages", type=int, default=20_000)
    words.add_argument("--rounds", type=int, default=7)
    words.add_argument("--quick", action="store_true", help="3 rounds, 2,000 pages")
    args = words.parse_args()
    pages, rounds = (2000, 3) if args.quick else (args.pages, args.rounds)

    made = [
        Meters(
            directory=f"{DIRECTORY.name}/m{detailed}",
            connector="c",
            task=0,
            detailed=detailed,
        )
        for detailed in (False, True)
    ]
    runs = {
        "meters": (ours(made[0]), made[0].flush),
        "meters_detailed": (ours(made[1]), made[1].flush),
        "prometheus_client": (theirs(), lambda: None),
    }
    taken: dict[str, list[list[float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (page, flush) in runs.items():
            taken[name].append(timed(pages, page, flush))

    document: dict[str, object] = {
        "question": (__doc__ or "").strip().splitlines()[0],
        "machine": machine(),
        "pages": pages,
        "rounds": rounds,
    }
    for name, values in taken.items():
        path, flush = (statistics.median(column) for column in zip(*values))
        document[name] = {
            "path_us": round(path, 2),
            "flush_us": round(flush, 2),
        }
    print(json.dumps(document, indent=1))
    if not args.quick:
        results = ROOT / "perf" / "results"
        results.mkdir(exist_ok=True)
        (results / "meters.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
