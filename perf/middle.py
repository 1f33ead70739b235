"""
Contests in the middle of a run: what the working process spends on a record.

Between 20 and 90 of 100 records, so that neither start nor end is in it: for questions
about the task alone.  `bench_kafka` counts all processes instead.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from perf import rig, serving
from perf.bench_kafka import CONFIG

PER_PAGE = 500

Contestant = Callable[[str, str, str, rig.Topic, tuple[int, int]], rig.Run]


def engine(extra: str = "", *, module: str = "engine") -> Contestant:
    """One `run --once` of the engine; `module` is its command line."""

    def run(
        url: str, bootstrap: str, name: str, topic: rig.Topic, window: tuple[int, int]
    ) -> rig.Run:
        with tempfile.TemporaryDirectory(prefix="khs-bench-") as folder:
            config = Path(folder) / "bench.properties"
            text = CONFIG.format(
                url=url, topic=name, bootstrap=bootstrap, folder=folder
            )
            config.write_text(text + extra)
            command = ["-m", module, "run", "--once", "--json", str(config)]
            return rig.run([sys.executable, *command], topic=topic, window=window)

    return run


def loop(module: str, *words: str) -> Contestant:
    """One run of a loop written by hand; `words` stand before the URL."""

    def run(
        url: str, bootstrap: str, name: str, topic: rig.Topic, window: tuple[int, int]
    ) -> rig.Run:
        command = ["-m", f"perf.baselines.{module}", *words]
        command += [f"{url}/cursor", bootstrap, name]
        return rig.run([sys.executable, *command], topic=topic, window=window)

    return run


class Contest:
    """Runs in turn, and what came of them."""

    def __init__(self, bootstrap: str, partitions: int):
        self._bootstrap = bootstrap
        self._partitions = partitions
        self.rows: dict[str, rig.Row] = {}
        self.notes: dict[str, list[float]] = {}

    def run(
        self,
        name: str,
        turn: int,
        url: str,
        pages: int,
        go: Contestant,
        kept: int = PER_PAGE,
    ) -> None:
        """
        One run of one contestant.

        Args:
            kept: Records of a page that no filter leaves out.

        Raises: SystemExit unless each of these has arrived, once.
        """
        records = pages * kept
        place = f"{name}-{turn}-{time.time_ns()}".replace(" ", "-").replace("_", "-")
        serving.create_topic(self._bootstrap, place, self._partitions)
        topic = rig.Topic(self._bootstrap, place)
        window = (records // 5, records * 9 // 10)
        done = go(url, self._bootstrap, place, topic, window)
        arrived = topic.count()
        topic.close()
        if done.code or arrived != records:
            raise SystemExit(
                f"{name}: exit code {done.code}, {arrived} of {records} arrived"
            )
        row = self.rows.setdefault(name, rig.Row(name))
        if not done.records:
            # Too short for two looks at its middle.
            done.records, done.window, done.worker = records, done.seconds, done.cpu
        row.add(done.records, done.window, done.worker, done.worker_peak)
        self._note(f"{name}: CPU us a record, start to end", done.cpu / records * 1e6)
        self._note(f"{name}: records/s, start to end", records / done.seconds)
        self._note(f"{name}: peak MB of all processes", done.peak / 1e6)
        if name.startswith("engine"):
            self._note(
                f"{name}: supervisor, % of a core", done.first / done.window * 100
            )
            self._note(f"{name}: admin, % of a core", done.others / done.window * 100)
        print(f"{name} {turn}: {row.cpu_us_per_record[-1]} us", file=sys.stderr)

    def _note(self, name: str, value: float) -> None:
        self.notes.setdefault(name, []).append(round(value, 2))

    def compare(self, one: str, other: str) -> None:
        """Note how one stands to another, run by run."""
        if one not in self.rows or other not in self.rows:
            return
        a, b = self.rows[one], self.rows[other]
        for title, ours, theirs in (
            ("CPU", a.cpu_us_per_record, b.cpu_us_per_record),
            ("records/s", a.records_per_second, b.records_per_second),
        ):
            for x, y in zip(ours, theirs, strict=False):
                self.notes.setdefault(f"{title}, {one} / {other}", []).append(
                    round(x / y, 3)
                )
