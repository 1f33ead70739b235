"""
How far is the memory that `check` prints from what engines with full buffers hold?

    python -m perf.bench_memory [--only NAME ...]

Each configuration is run by the real engine against an API on loopback and an
embedded broker, which is stopped in the middle, so that everything that can fill
does.  Measured is the most that all processes of the engine hold together, shared
pages counted once (`engine.observe.machine.together`), the broker not included.
The baseline is what `check` says: it is to be within 20 % of the expected sum and
never above the bound.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from engine import config
from engine.config.memory import memory
from engine.observe import machine as measured
from engine.supervisor.broker import find
from perf.rig import ROOT, machine
from perf.serving import await_port, free_port
from tests.e2e.rig import Running, Setup
from tests.fakes.api import Api

#: Seconds from the first record to the broker's stop, and then.
BEFORE, BEHIND = 3.0, 14.0

KEYS: Mapping[str, object] = {
    "pagination.type": "page",
    "pagination.max.pages": 1_000_000,
    "http.source.poll.interval.ms": 0,
    "listeners": "http://127.0.0.1:0",
    "log.level": "WARN",
}

RULES = {
    "transformation.field.mappings": json.dumps(
        [
            {"source": name, "target": f"{name}_", "type": kind}
            for name, kind in (("id", "STRING"), ("n", "LONG"), ("text", "STRING"))
        ]
    )
}


@dataclass
class Case:
    """
    One configuration.

    Attributes:
        records, size: Records of a page, and bytes of one.
        pages: Of the whole list; a poll that ends begins again.
        seconds: That it runs before the broker is stopped.
    """

    name: str
    keys: Mapping[str, object] = field(default_factory=dict)
    records: int = 500
    size: int = 300
    pages: int = 1_000_000
    seconds: float = BEFORE
    latency: float = 0.01


OFF = {"cache.enabled": "false"}
MIB = 1 << 20

CASES = (
    Case("idle, 1 task", {"http.source.poll.interval.ms": 3600000}, 1, 100, 1),
    Case(
        "idle, 4 tasks",
        {"http.source.poll.interval.ms": 3600000, "tasks.max": 4},
        1,
        100,
        4,
    ),
    Case("defaults, 1 task", OFF),
    Case("defaults, 2 tasks", {**OFF, "tasks.max": 2}),
    Case(
        "16 MiB, 4 tasks", {**OFF, "tasks.max": 4, "producer.buffer.memory": 16 * MIB}
    ),
    Case("4 MiB, 1 task", {**OFF, "producer.buffer.memory": 4 * MIB}),
    Case("128 MiB, 1 task", {**OFF, "producer.buffer.memory": 128 * MIB}),
    Case("small records, 1 task", OFF, 1000, 80),
    Case("rules, 2 tasks", {**OFF, **RULES, "tasks.max": 2}),
    Case(
        "large batches, 1 task",
        {
            **OFF,
            "producer.batch.size": MIB,
            "producer.linger.ms": 100,
            "transformation.batch.size": 10000,
        },
        5000,
    ),
    Case("pages of 4 MB, 1 task", OFF, 8000, 500),
    Case(
        "4 pages of 1 MB at once, 2 tasks",
        {**OFF, "tasks.max": 2, "pagination.concurrent.enabled": "true"},
        2000,
        500,
    ),
    Case(
        "cache of 64 MiB, 1 task",
        {"cache.max.memory.bytes": 64 * MIB, "cache.response.ttl.seconds": 3600},
        pages=800,
        seconds=25.0,
    ),
    Case(
        "cache of 64 MiB, 4 tasks",
        {
            "cache.max.memory.bytes": 64 * MIB,
            "cache.response.ttl.seconds": 3600,
            "tasks.max": 4,
        },
        pages=800,
        seconds=25.0,
    ),
)


@contextlib.contextmanager
def embedded(folder: Path) -> Iterator[tuple[psutil.Process, int]]:
    """A trial broker; killed at the end, as it may hold more than it can save."""
    port = free_port()
    command = [str(find()), "start", "--only", "kafka", "--kafka-port", str(port)]
    with (folder / "broker.log").open("wb") as log:
        started = subprocess.Popen(
            [*command, "--data-dir", str(folder / "broker")], stdout=log, stderr=log
        )
    try:
        await_port(port)
        yield psutil.Process(started.pid), port
    finally:
        started.kill()
        started.wait()


def weigh(running: Running, files: Path) -> int:
    """What the engine holds now."""
    pids = [running.pid, *(child.pid for child in running.children())]
    return measured.together(pids, files)


def run(case: Case, behind: float = BEHIND) -> dict[str, float]:
    """
    One case; MiB.

    Args:
        behind: Seconds that it is looked at after the broker's stop.
    """
    with (
        tempfile.TemporaryDirectory() as name,
        embedded(folder := Path(name)) as (broker, port),
        Api(
            pages=case.pages,
            records=case.records,
            size=case.size,
            latency=case.latency,
            keep_log=False,
        ) as api,
    ):
        keys = {
            **KEYS,
            "pagination.limit.value": case.records,
            **case.keys,
        }
        address = f"127.0.0.1:{port}"
        setup = Setup(folder, f"{api.url}/page/0", address, keys)
        [connector] = config.load([setup.file], []).connectors
        expected, bound = memory(
            connector, record=case.size, page=case.records * case.size
        )
        with setup.running() as running:
            await_pages(api)
            peak, end = 0, time.monotonic() + case.seconds
            while time.monotonic() < end:
                peak = max(peak, weigh(running, folder / "run"))
                time.sleep(0.3)
            broker.suspend()
            end = time.monotonic() + behind
            while time.monotonic() < end:
                peak = max(peak, weigh(running, folder / "run"))
                time.sleep(0.3)
    return {
        "expected": expected.total / MIB,
        "measured": peak / MIB,
        "bound": bound.total / MIB,
        "measured_to_expected": peak / expected.total,
    }


def await_pages(api: Api) -> None:
    """Until the engine has asked for a page."""
    end = time.monotonic() + 60
    while not api.counts.requests:
        if time.monotonic() > end:
            raise SystemExit("the engine asks for nothing")
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    given = parser.parse_args()
    question = (__doc__ or "").strip().splitlines()[0]
    print(f"{question}\n\n{'MiB':34} {'expected':>9} {'measured':>9} {'bound':>9}")
    rows = {}
    for case in CASES:
        if given.only and case.name not in given.only:
            continue
        row = rows[case.name] = {k: round(v, 3) for k, v in run(case).items()}
        print(
            f"{case.name:34} {row['expected']:>9.0f} {row['measured']:>9.0f} "
            f"{row['bound']:>9.0f}  {row['measured_to_expected']:.2f}",
            flush=True,
        )
    if not given.only:
        ratios = [row["measured_to_expected"] for row in rows.values()]
        notes = {"measured to expected": f"{min(ratios):.2f} to {max(ratios):.2f}"}
        document = {"question": question, "machine": machine(), "rows": rows}
        place = ROOT / "perf" / "results" / "memory.json"
        place.write_text(json.dumps({**document, "notes": notes}, indent=1) + "\n")


if __name__ == "__main__":
    main()
