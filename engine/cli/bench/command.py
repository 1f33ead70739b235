"""
Bench: how fast a configuration goes, and what it costs, without asking anybody.

Owns a folder in the temporary directory and the processes it starts there: the
API's stand-in and the engine itself (GATE subprocess).  What is measured is the
engine's processes between two looks, behind the start; what came of it is
counted by the engine, which checks its sums at every page.

Path: ``cli.main`` -> here -> ``stand_in``, ``benched`` -> (HTTP) -> ``scrape``
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from engine.cli.bench.benched import ASKING, PACE
from engine.cli.bench.stand_in import Job, pages_of
from engine.cli.check import load
from engine.cli.remote import LISTENERS, NoAnswer
from engine.cli.scrape import (
    Labels,
    Scrape,
    buckets,
    grown,
    quantile,
    scraped,
    total,
)
from engine.cli.wanted import refuse_unbuilt
from engine.clock import SYSTEM
from engine.config import Loaded
from engine.config.sections.engine import ScheduleConfig
from engine.errors import EngineError, Exit
from engine.observe import machine
from engine.supervisor import status
from engine.supervisor.broker import find
from engine.supervisor.status import Snapshot
from engine.task.probe import pages

#: Seconds that the engine has to come up, to deliver its first page, and to go.
PATIENCE = 60.0

#: Seconds between two looks at the processes' memory.
LOOK = 0.1

#: Percentiles of the latency that are told.
SHARES = (0.5, 0.9, 0.99)


class BenchFailed(EngineError):
    """A part of the bench did not come up, or delivered nothing."""

    code = Exit.UNAVAILABLE


class NotTwice(EngineError):
    """Several processes read the files: standard input cannot be one of them."""

    code = Exit.USAGE


def bench(args: argparse.Namespace) -> int:
    """
    `bench FILE...`: records/s, CPU a record, latency, memory of a configuration.

    Args:
        args: Beside the files: `seconds`, `warm_up`, `recording`, `record`,
            `pages`, `latency` in milliseconds, `bootstrap`, `paced`, `json`.

    Returns: 0, or what the engine ended with: not all was delivered then.
    Raises: ConfigError, OSError, SourceError, BenchFailed.  Blocks: for the length of
        the bench.
    """
    if "-" in args.files:
        raise NotTwice("bench reads its files several times: - is not one of them")
    loaded = load(args, quiet=True)
    refuse_unbuilt(loaded)
    if args.bootstrap is None:
        find()
    recording = args.recording
    if args.record is not None:
        record(loaded, Path(args.record), args.pages)
        recording = args.record
    with tempfile.TemporaryDirectory(prefix="kafka-http-source-bench-") as folder:
        job = Job(
            files=tuple(args.files),
            overrides=tuple(args.overrides),
            folder=folder,
            recording=recording,
            latency=args.latency / 1000,
            bootstrap=tuple(args.bootstrap.split(",")) if args.bootstrap else None,
            paced=args.paced,
        )
        # What cannot be answered is said before anything is started.
        pages_of(job, loaded, base="")
        report = Bench(job, args.warm_up, args.seconds).run()
    report["records"] = "recorded" if recording else "made up"
    report["exchanged"] = sorted({*ASKING, *(() if args.paced else PACE)})
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(lines(report)))
    return int(report["exit_code"])


def record(loaded: Loaded, path: Path, most: int) -> None:
    """
    Write the records of the first pages of each top-level api to a file.

    Raises: SourceError, OSError.  Blocks: for the requests.
    """
    zone = loaded.process.of(ScheduleConfig).timezone
    with path.open("wb") as file:
        for connector in loaded.connectors:
            for api in connector.apis:
                if connector.parent(api) is not None:
                    continue
                with pages(connector, api, zone) as found:
                    for page in found:
                        line = {
                            "api": f"{connector.name}/{api.name}",
                            "records": page.records,
                        }
                        file.write(msgspec.json.encode(line) + b"\n")
                        if page.index + 1 >= most:
                            break


class BenchLook(Struct, frozen=True):
    """
    Everything that is measured, at one moment.

    Attributes:
        at: Monotonic seconds.
        scrape: What the engine counts.
        cpu: Seconds of processor time by process.
    """

    at: float
    scrape: Scrape
    cpu: Mapping[int, float]


class Bench:
    """One run of it."""

    def __init__(self, job: Job, warm_up: float, seconds: float):
        self._job = job
        self._folder = Path(job.folder)
        self._warm_up = warm_up
        self._seconds = seconds
        self._started: list[subprocess.Popen[str]] = []
        self._peaks: dict[int, int] = {}
        self._peak = 0

    def run(self) -> dict[str, Any]:
        """Start everything, measure, end everything; the report."""
        try:
            stand_in = self._start("stand_in", self._job)
            assert stand_in.stdout is not None
            url = stand_in.stdout.readline().strip()
            if not url:
                raise BenchFailed(
                    f"the API's stand-in ended: {self._words('stand_in')}"
                )
            job = msgspec.structs.replace(self._job, url=url)
            engine = self._start("benched", job)
            admin = self._address(engine)
            self._wait_for_records(engine, admin)
            self._watch(engine, self._warm_up)
            first = self._look(admin)
            self._watch(engine, self._seconds)
            last = self._look(admin)
            snapshot = self._snapshot()
            report = reported(first, last, snapshot, self._peaks)
            report["total"]["peak_memory_bytes"] = self._peak
            report["exit_code"] = self._end(engine)
            return report
        finally:
            for process in self._started:
                self._end(process)

    def _start(self, module: str, job: Job) -> subprocess.Popen[str]:
        told = self._folder / f"{module}.json"
        runtime = self._folder / "run"
        runtime.mkdir(exist_ok=True)
        told.write_bytes(msgspec.json.encode(job))
        with (self._folder / f"{module}.log").open("wb") as errors:
            # A session of its own: Ctrl-C is for us, we pass it on in order.
            process = subprocess.Popen(
                [sys.executable, "-m", f"engine.cli.bench.{module}", str(told)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "RUNTIME_DIRECTORY": str(runtime)},
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def _words(self, module: str) -> str:
        """The last line that a process has left."""
        said = (self._folder / f"{module}.log").read_text(errors="replace").strip()
        return said.splitlines()[-1] if said else "it said nothing"

    def _snapshot(self) -> Snapshot:
        for place in (self._folder / "run").glob("*"):
            if (found := status.read(place)) is not None:
                return found
        raise BenchFailed(f"the engine ended: {self._words('benched')}")

    def _address(self, engine: subprocess.Popen[str]) -> str:
        """The admin process's address, as the engine wrote it into its runtime directory."""
        end = SYSTEM.monotonic() + PATIENCE
        while SYSTEM.monotonic() < end:
            for place in (self._folder / "run").glob(f"*/{LISTENERS}"):
                if address := place.read_text().split():
                    return address[0]
            self._watch(engine, LOOK)
        raise BenchFailed("the engine did not come up")

    def _wait_for_records(self, engine: subprocess.Popen[str], admin: str) -> None:
        end = SYSTEM.monotonic() + PATIENCE
        while SYSTEM.monotonic() < end:
            snapshot = self._snapshot()
            for shard in snapshot.shards:
                if shard.failed:
                    raise BenchFailed(f"shard {shard.label} failed: {shard.failed}")
            with suppress(NoAnswer):
                if total(scraped(admin), "records_written_total", {}):
                    return
            self._watch(engine, LOOK)
        raise BenchFailed(f"no record was delivered in {PATIENCE:.0f} s")

    def _watch(self, engine: subprocess.Popen[str], seconds: float) -> None:
        """Let it run, an eye on its memory."""
        end = SYSTEM.monotonic() + seconds
        while (left := end - SYSTEM.monotonic()) > 0:
            try:
                engine.wait(min(left, LOOK))
            except subprocess.TimeoutExpired:
                self._weigh()
            else:
                raise BenchFailed(
                    f"the engine ended with {engine.returncode}: "
                    f"{self._words('benched')}"
                )

    def _weigh(self) -> None:
        with suppress(BenchFailed):
            sizes = {pid: machine.resident(pid) for pid in _pids(self._snapshot())}
            self._peak = max(self._peak, sum(sizes.values()))
            for pid, size in sizes.items():
                self._peaks[pid] = max(size, self._peaks.get(pid, 0))

    def _look(self, admin: str) -> BenchLook:
        scrape = scraped(admin)
        costs = {pid: machine.cost(pid) for pid in _pids(self._snapshot())}
        cpu = {pid: cost.cpu for pid, cost in costs.items() if cost is not None}
        return BenchLook(SYSTEM.monotonic(), scrape, cpu)

    def _end(self, process: subprocess.Popen[str]) -> int:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return code


def _pids(snapshot: Snapshot) -> list[int]:
    """The engine's own processes; the trial's broker is none of them."""
    return [snapshot.pid, *(child.pid for child in snapshot.children if child.pid)]


def _labels(connector: str) -> Labels:
    """Those of one connector's samples; "" for all of them."""
    return {"connector": connector} if connector else {}


def _distribution(
    first: Scrape, last: Scrape, name: str, connector: str
) -> dict[str, float]:
    """Mean and percentiles in milliseconds of what was observed in between."""

    labels = _labels(connector)
    counts = grown(buckets(last, name, labels), buckets(first, name, labels))
    told = {f"p{share * 100:g}": 1000 * quantile(counts, share) for share in SHARES}
    count, seconds = (
        total(last, f"{name}_{part}", labels) - total(first, f"{name}_{part}", labels)
        for part in ("count", "sum")
    )
    told["mean"] = 1000 * seconds / count if count else 0.0
    return {key: round(value, 3) for key, value in told.items()}


def reported(
    first: BenchLook, last: BenchLook, snapshot: Snapshot, peaks: Mapping[int, int]
) -> dict[str, Any]:
    """
    What happened between two looks, numbers as numbers.

    Times are seconds, latencies milliseconds, sizes bytes; CPU is that of the
    processes named, a record.
    """
    tasks = [child for child in snapshot.children if not child.auxiliary]
    names = list(dict.fromkeys(child.connector for child in tasks))
    report: dict[str, Any] = {
        "seconds": round(last.at - first.at, 3),
        "connectors": [
            {
                "name": name,
                "tasks": sum(child.connector == name for child in tasks),
                **_measured(
                    first, last, name, [c.pid for c in tasks if c.connector == name]
                ),
                "peak_task_memory_bytes": max(
                    (peaks.get(c.pid, 0) for c in tasks if c.connector == name),
                    default=0,
                ),
            }
            for name in names
        ],
        "total": _measured(first, last, "", _pids(snapshot)),
    }
    return report


def _measured(
    first: BenchLook, last: BenchLook, connector: str, pids: Iterable[int]
) -> dict[str, Any]:
    seconds = last.at - first.at
    labels = _labels(connector)

    def since(name: str) -> int:
        return int(total(last.scrape, name, labels) - total(first.scrape, name, labels))

    received, produced = since("records_received_total"), since("records_written_total")
    cpu = sum(
        last.cpu[pid] - first.cpu.get(pid, 0.0) for pid in pids if pid in last.cpu
    )
    return {
        "received": received,
        "produced": produced,
        "filtered": since("records_filtered_total"),
        "dead_lettered": since("records_dead_lettered_total"),
        "deduplicated": since("records_deduplicated_total"),
        "records_per_second": round(produced / seconds, 1),
        "bytes_per_second": round(since("response_bytes_total") / seconds, 1),
        "requests_per_second": round(since("requests_total") / seconds, 1),
        "cpu_share": round(cpu / seconds, 4),
        "cpu_us_per_record": round(1e6 * cpu / received, 3) if received else 0.0,
        "latency_ms": _distribution(
            first.scrape, last.scrape, "fetch_to_ack_seconds", connector
        ),
        "response_ms": _distribution(
            first.scrape, last.scrape, "request_duration_seconds", connector
        ),
    }


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """For people."""
    total = report["total"]
    yield f"{report['seconds']:.1f} s, {report['records']} records, an API on this machine"
    for one in report["connectors"]:
        latency, response = one["latency_ms"], one["response_ms"]
        tasks = f"{one['tasks']} task{'s' * (one['tasks'] != 1)}"
        yield ""
        yield f"{one['name']}, {tasks}"
        yield (
            f"  records      {one['records_per_second']:,.0f}/s"
            f"  ({one['produced']:,} of {one['received']:,} received)"
        )
        yield (
            f"  requests     {one['requests_per_second']:,.1f}/s, "
            f"{one['bytes_per_second'] / 1e6:,.1f} MB/s"
        )
        yield (
            f"  CPU          {one['cpu_us_per_record']:.2f} us a record, "
            f"{100 * one['cpu_share']:.0f} % of a core"
        )
        yield f"  latency      {_percentiles(latency)}, request sent to acknowledged"
        yield f"  response     {_percentiles(response)}"
        yield f"  memory       {one['peak_task_memory_bytes'] / 2**20:,.0f} MiB a task at most"
    yield ""
    yield (
        f"all processes: {total['cpu_us_per_record']:.2f} us a record, "
        f"{total['peak_memory_bytes'] / 2**20:,.0f} MiB at most"
    )


def _percentiles(told: Mapping[str, float]) -> str:
    shares = ", ".join(
        f"p{share * 100:g} {told[f'p{share * 100:g}']:.1f}" for share in SHARES
    )
    return f"{shares} ms"
