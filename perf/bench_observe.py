"""
What share of the hot path's CPU is spent on observing it?

    python -m perf.bench_observe [--pages 4000] [--runs 6] [--times 21]

The engine's hot path (cursor paging from nginx, 500 records of 290 bytes a page,
Apache Kafka, acks=all, idempotent) as it comes and with
`performance.metrics.detailed`, each once observed and observed many times over
(`perf.baselines.observed`).  They take turns, and each turn begins with another.
Compared is the CPU of the task's process between 20 and 90 of 100 records: what
comes of one more time, by the CPU of a page that is not observed at all.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Sequence

from perf import rig, serving
from perf.middle import PER_PAGE, Contest, Contestant, engine

DETAILED = "performance.metrics.detailed=true\n"


def observed(times: int, extra: str = "") -> Contestant:
    """The engine, observed so many times."""
    go = engine(extra, module="perf.baselines.observed")

    def run(*given: object) -> rig.Run:
        os.environ["OBSERVED"] = str(times)
        return go(*given)  # type: ignore[arg-type]

    return run


def cost(
    once: Sequence[float], many: Sequence[float], times: int
) -> dict[str, float | list[float]]:
    """Of a page, in microseconds and as a share; both are lists of runs."""
    one = statistics.median(once)
    each = (statistics.median(many) - one) / (times - 1)
    runs = [(b - a) / (times - 1) / a for a, b in zip(once, many, strict=True)]
    return {
        "us a page": round(each * PER_PAGE, 2),
        "share of a page": round(each / (one - each), 5),
        "share, run by run": [round(value, 5) for value in runs],
    }


def main() -> None:
    question = (__doc__ or "").strip().splitlines()[0]
    words = argparse.ArgumentParser(description=question)
    words.add_argument("--pages", type=int, default=4000)
    words.add_argument("--runs", type=int, default=6)
    words.add_argument("--times", type=int, default=21)
    words.add_argument("--quick", action="store_true", help="one short run")
    args = words.parse_args()
    if args.quick:
        args.pages, args.runs = 60, 1
    contestants = {
        "engine": observed(1),
        f"engine x {args.times}": observed(args.times),
        "engine detailed": observed(1, DETAILED),
        f"engine detailed x {args.times}": observed(args.times, DETAILED),
    }
    names = list(contestants)
    with (
        serving.apache_kafka() as bootstrap,
        serving.pages(args.pages, PER_PAGE) as url,
    ):
        contest = Contest(bootstrap, 1)
        for turn in range(args.runs):
            for place in range(len(names)):
                name = names[(turn + place) % len(names)]
                contest.run(name, turn, url, args.pages, contestants[name])
    notes: dict[str, object] = {"records a run": args.pages * PER_PAGE}
    for name in ("engine", "engine detailed"):
        once, many = contest.rows[name], contest.rows[f"{name} x {args.times}"]
        notes[name] = cost(once.cpu_us_per_record, many.cpu_us_per_record, args.times)
    rows = [contest.rows[name] for name in names]
    rig.report("observe", question, rows, notes, keep=not args.quick)


if __name__ == "__main__":
    main()
