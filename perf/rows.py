"""
Every row of what the way into Kafka costs, in one run: `perf/run`.

    perf/run [--runs 5] [--rows a,b] [--records 300000] [--quick]

Rows take turns, each with its baseline beside it; one that fails is said, and the
others go on.  Writes results/rows.json, the table in README.md and rows.svg; a part of
the rows, or a quick run, is only printed.  A run is noisy when strangers use more than
a quarter of a core meanwhile, and says so in all three.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from perf import (
    bench_kafka,
    bench_large,
    bench_latency,
    bench_limits,
    contests,
    rig,
    serving,
)
from perf.figure import Line, keep, show

#: Cores that strangers may use before a run is noisy.
QUIET = 0.25

#: Both of one turn: ours and the baseline's.
Pair = tuple[float, float]


class Alone:
    """
    A row that is one figure of ours and one of a baseline.

    Args:
        go: One turn.
        line: Its words; the figures are put in.
    """

    def __init__(self, line: Line, go: Callable[[], Pair]) -> None:
        self.line = line
        self._go = go

    def turn(self) -> None:
        try:
            pair = self._go()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - said; the others go on
            self.line.failed = f"{type(error).__name__}: {error}"[:300]
            say(f"{self.line.name}: {self.line.failed}")
            return
        self.line.ours.append(round(pair[0], 3))
        self.line.baseline.append(round(pair[1], 3))
        say(f"{self.line.name:18} {pair[0]:10.2f} {pair[1]:10.2f} {self.line.unit}")

    def lines(self) -> list[Line]:
        return [self.line]


class Raced:
    """A row of `bench_kafka`."""

    def __init__(self, field: bench_kafka.Field, row: contests.Contest) -> None:
        self._field = field
        self.row = row
        self.result = bench_kafka.Result(row.name)

    def turn(self) -> None:
        bench_kafka.turn(self._field, self.row, self.result)

    def lines(self) -> list[Line]:
        row, result = self.row, self.result
        line = Line(
            row.name,
            row.title,
            "us a record",
            "hand loop" if row.base is None else "engine",
            asked=row.asked,
            faster=row.faster,
            failed="; ".join(result.failed[:1]),
        )
        if result.ours:
            line.ours = [round(x, 3) for x in bench_kafka.cpu_us(result.ours)]
            line.baseline = [round(x, 3) for x in bench_kafka.cpu_us(result.baseline)]
            line.speeds = [round(x, 3) for x in result.speed()]
            line.rates = [round(x) for x in bench_kafka.rates(result.ours)]
            costs = [*result.ours, *result.baseline]
            line.others = statistics.median(cost.others for cost in costs)
        return [line]


class Machine:
    """The machine's limit, and the engine's defaults as a share of it."""

    def __init__(self, go: Callable[[], dict[str, Pair]], engine: Raced) -> None:
        self._go = go
        self._engine = engine
        self.runs: list[dict[str, Pair]] = []
        self.failed = ""

    def turn(self) -> None:
        try:
            found = self._go()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - said; the others go on
            self.failed = f"{type(error).__name__}: {error}"[:300]
            say(f"limit: {self.failed}")
            return
        self.runs.append(found)
        say(f"{'limit':18} {found['limit'][0]:10.2f} us a record")

    def lines(self) -> list[Line]:
        found = []
        names = self.runs[0] if self.runs else ("limit",)
        [engine] = self._engine.lines()
        for name in names:
            line = Line(
                f"limit: {name}",
                f"the engine's defaults to the machine's limit: {name}",
                "us a record",
                "one thread",
                failed=self.failed,
            )
            line.baseline = [round(run[name][0], 3) for run in self.runs]
            line.ours = engine.ours[: len(line.baseline)]
            rates = [run[name][1] for run in self.runs]
            line.speeds = [
                round(a / b, 3) for a, b in zip(engine.rates, rates, strict=False)
            ]
            found.append(line)
        return found


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def latency(field: bench_kafka.Field, loop: Raced, seconds: float) -> Pair:
    """p99 of the engine and of the loop, at half of what the loop could take."""
    costs = loop.result.baseline
    rate = statistics.median(bench_kafka.rates(costs)) if costs else 100_000
    pages = max(10.0, rate / 2 / bench_latency.PER_PAGE)
    ours, theirs = (
        bench_latency.percentiles(
            bench_latency.latencies(field.doors[False], pages, seconds, ours)
        )[1]
        for ours in (True, False)
    )
    return ours, theirs


class Starts:
    """Seconds to the first record in Kafka: with a new state topic, and later."""

    def __init__(self, field: bench_kafka.Field, url: str) -> None:
        self._bootstrap = field.doors[False]
        self._url = url
        self._offsets = ""
        self._hand = 0.0

    def first(self) -> Pair:
        """The very first start of an engine on a cluster, and the loop's."""
        self._offsets = f"offsets-{time.time_ns()}"
        took = self._engine()
        from perf.bench_start import first_record

        command = [sys.executable, "-m", "perf.baselines.hand_loop"]
        topic = f"start-{time.time_ns()}"
        command += [f"{self._url}/cursor", self._bootstrap, topic]
        self._hand = first_record(self._bootstrap, topic, command)[0] / 1e3
        serving.delete_topics(self._bootstrap, topic)
        return took, self._hand

    def later(self) -> Pair:
        """A start behind the first."""
        took = self._engine()
        serving.delete_topics(self._bootstrap, self._offsets)
        return took, self._hand

    def _engine(self) -> float:
        from perf.bench_start import COMMAND, first_record

        topic = f"start-{time.time_ns()}"
        with tempfile.TemporaryDirectory(prefix="khs-bench-") as folder:
            config = Path(folder) / "bench.properties"
            text = bench_kafka.CONFIG.format(
                url=self._url, topic=topic, bootstrap=self._bootstrap, folder=folder
            ).replace(f"{topic}-offsets", self._offsets)
            config.write_text(text + "listeners=http://127.0.0.1:0\n")
            command = [COMMAND, "run", "--once", str(config)]
            took = first_record(self._bootstrap, topic, command)[0] / 1e3
        serving.delete_topics(self._bootstrap, topic)
        return took


def http2(url: str, count: int) -> Pair:
    """CPU us a request over HTTP/2: ours, bare pycurl."""
    from perf import bench_fetch

    found = bench_fetch.contest(bench_fetch.OVER_H2, url, count, 3)
    ours, theirs = (statistics.median(found[name]) for name in bench_fetch.OVER_H2)
    return ours, theirs


def measures(
    stack: contextlib.ExitStack, wanted: Sequence[str], records: int, quick: bool
) -> list[Any]:
    """What takes turns; only what is wanted is set up."""
    field = stack.enter_context(bench_kafka.ready(records))
    races = {row.name: Raced(field, row) for row in contests.CONTESTS}
    pages = max(2, records // 500)
    found: dict[str, Any] = {**races}
    if {"limit"} & set(wanted):
        url = field.pages(contests.CONTESTS[0], pages)
        found["limit"] = Machine(
            lambda: bench_limits.limits(field.doors[False], url, pages),
            races["default-1"],
        )
    if {"latency"} & set(wanted):
        span = 1.0 if quick else 4.0
        found["latency"] = Alone(
            Line(
                "latency",
                "page answered to readable by a consumer, half load, p99",
                "ms",
                "hand loop",
                asked=1.0,
            ),
            lambda: latency(field, races["default-1"], span),
        )
    if {"start-first", "start-later"} & set(wanted):
        starts = Starts(field, field.pages(contests.CONTESTS[0], 20))
        for name, title, most, go in (
            (
                "start-first",
                "start to the first record, the very first",
                0.6,
                starts.first,
            ),
            ("start-later", "start to the first record, later", 0.5, starts.later),
        ):
            line = Line(name, title, "s", "hand loop", asked=most, absolute=True)
            found[name] = Alone(line, go)
    if {"large-page"} & set(wanted):
        count = 365_000
        large = stack.enter_context(serving.pages(1, count))
        small = stack.enter_context(serving.pages(1, 1))
        found["large-page"] = Alone(
            Line(
                "large-page",
                "memory of a page of 100 MB above a small one's",
                "MiB",
                "hand loop",
                asked=96.0,
                absolute=True,
            ),
            lambda: tuple(  # type: ignore[arg-type, return-value]
                bench_large.above(field.doors[False], large, small, count, ours)
                for ours in (True, False)
            ),
        )
    if {"http2"} & set(wanted):
        from perf.bench_fetch import nginx_h2

        secured = stack.enter_context(nginx_h2())
        found["http2"] = Alone(
            Line(
                "http2",
                "a page of 100 KB over HTTP/2",
                "us a request",
                "bare pycurl",
                asked=1.35,
            ),
            lambda: http2(secured, 200 if quick else 700),
        )
    if {"two-tasks"} & set(wanted):
        from perf import bench_transform

        found["two-tasks"] = Alone(
            Line(
                "two-tasks",
                "records/s of two tasks to one, as a share of what counting gets",
                "times one",
                "counting loop",
                least=0.95,
            ),
            lambda: bench_transform.scaled(0.1 if quick else 0.4),
        )
    return [found[name] for name in wanted]


NAMES = (
    *(row.name for row in contests.CONTESTS),
    "limit",
    "latency",
    "start-first",
    "start-later",
    "large-page",
    "http2",
    "two-tasks",
)

#: Rows whose figures need those of another.
NEEDS = {"limit": "default-1", "start-later": "start-first"}


def wanted_of(words: str) -> list[str]:
    """The rows of a list of names, in order, and what they need."""
    asked = [name for name in words.split(",") if name]
    for name in asked:
        if name not in NAMES:
            raise SystemExit(f"no row {name!r}; there are {', '.join(NAMES)}")
    needed = [NEEDS[name] for name in asked if name in NEEDS]
    return [name for name in NAMES if not asked or name in asked or name in needed]


def main() -> None:
    words = argparse.ArgumentParser(
        prog="perf/run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words.add_argument("--runs", type=int, default=5)
    words.add_argument("--rows", default="", help=", ".join(NAMES))
    words.add_argument("--records", type=int, default=300_000, help="of a run")
    words.add_argument("--quick", action="store_true", help="one short run, not kept")
    words.add_argument(
        "--keep", action="store_true", help="write the table of a part, too"
    )
    words.add_argument(
        "--if-quiet", action="store_true", help="end at once if the machine is busy"
    )
    given = words.parse_args()
    rig.end_cleanly()
    if given.quick:
        given.runs, given.records = 1, min(given.records, 100_000)
    before = strangers()
    if given.if_quiet and before > QUIET:
        raise SystemExit(f"others use {before:.1f} cores; {QUIET} are allowed")
    say(f"others use {before:.1f} of {os.cpu_count()} cores, load {os.getloadavg()}")
    wanted = wanted_of(given.rows)
    began = time.monotonic()
    spent: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        taking_turns = dict(
            zip(
                wanted, measures(stack, wanted, given.records, given.quick), strict=True
            )
        )
        for turn in range(given.runs):
            say(f"-- run {turn + 1} of {given.runs}, {time.monotonic() - began:.0f} s")
            for name, each in taking_turns.items():
                at = time.monotonic()
                each.turn()
                spent[name] = spent.get(name, 0.0) + time.monotonic() - at
        lines = [line for each in taking_turns.values() for line in each.lines()]
    others = statistics.median([before, *(x.others for x in lines if x.rates)])
    notes = {
        "machine": rig.machine(),
        "runs": given.runs,
        "records": given.records,
        "others_cores": round(others, 2),
        "noisy": others > QUIET,
        "load": os.getloadavg(),
        "seconds": round(time.monotonic() - began),
        "seconds_of_a_turn": {k: round(v / given.runs, 1) for k, v in spent.items()},
        "commit": commit(),
    }
    print(show(lines, notes))
    if given.keep or not (given.quick or given.rows):
        keep(lines, notes)


def strangers(seconds: float = 1.0) -> float:
    """Cores in use while we do nothing; blocks so long."""
    before = rig.busy()
    time.sleep(seconds)
    return (rig.busy() - before) / seconds


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=rig.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main()
