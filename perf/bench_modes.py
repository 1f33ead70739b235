"""
What does a record cost in INCREMENTAL and in windows of time, next to FULL?

    python -m perf.bench_modes [--pages 400] [--rounds 3] [--quick]

The whole engine, `run --once` from nginx into the embedded broker, contestants in turns:
CPU of its processes a record, less that of a run over one page, its start.  Records of
290 bytes with a time of their own, 500 on a page.  INCREMENTAL reads times and compares
them, with order NONE and ASC; windows walk a chain of ten pages each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from perf import rig, serving
from tests.brokers import embedded_kafka

PER_PAGE = 500
#: Pages of one window.
CHAIN = 10

CONFIG = """\
name=bench
http.source.url={url}/cursor
http.response.data.json.pointer=records
pagination.type=cursor
pagination.cursor.field=next
pagination.max.pages=1000000
kafka.topic={topic}
bootstrap.servers={bootstrap}
offsets.storage.topic={topic}-offsets
exactly.once.support=disabled
listeners=none
state.dir={folder}/state
cache.dir={folder}/cache
runtime.dir={folder}/run
"""

INCREMENTAL = {
    "http.offset.mode": "INCREMENTAL",
    "http.offset.json.pointer": "/created",
    "http.source.query.params": "since=${offset}",
}

#: Contestant -> its keys beside those of FULL.
MODES: Mapping[str, Mapping[str, str]] = {
    "FULL": {},
    "INCREMENTAL": INCREMENTAL,
    "INCREMENTAL, ASC": {**INCREMENTAL, "http.offset.order": "ASC"},
    "windows": {
        "http.source.query.params": "from=${window.start}&to=${window.end}",
        "http.source.window.size.seconds": "3600",
        "http.source.window.start": "2020-01-01T00:00:00Z",
    },
}

_START = datetime(2026, 1, 1, tzinfo=UTC)


def record(number: int, size: int) -> bytes:
    """An order, a second after the one before."""
    made = serving.record(number, size)
    at = (_START + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%S")
    return made.replace(b"2026-01-01T00:00:00", at.encode(), 1)


def cpu_of(mode: str, url: str, bootstrap: str, pages: int) -> float:
    """CPU seconds of one run over so many pages."""
    topic = f"modes-{time.time_ns()}"
    serving.create_topic(bootstrap, topic)
    keys = dict(MODES[mode])
    if mode == "windows":
        end = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=max(pages // CHAIN, 1))
        keys["http.source.window.end"] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
    with tempfile.TemporaryDirectory(prefix="khs-bench-") as folder:
        file = Path(folder) / "bench.properties"
        text = CONFIG.format(url=url, topic=topic, bootstrap=bootstrap, folder=folder)
        lines = [f"{key}={value}\n" for key, value in keys.items()]
        file.write_text(text + "".join(lines))
        command = [sys.executable, "-m", "engine", "run", "--once", "--json", str(file)]
        run = rig.run(command, 120)
    if run.code:
        raise SystemExit(run.output[-2000:])
    found = json.loads(run.output[run.output.index("{") :])
    produced = found["total"]["produced"]
    wanted = pages * PER_PAGE
    if produced != wanted:
        raise SystemExit(f"{mode}: {produced} records, and not {wanted}")
    serving.delete_topics(bootstrap, topic, f"{topic}-offsets")
    return run.cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    pages, rounds = (40, 1) if args.quick else (args.pages, args.rounds)
    us: dict[str, list[float]] = {mode: [] for mode in MODES}
    with (
        serving.pages(pages, PER_PAGE, make=record, distinct=True) as long,
        serving.pages(CHAIN, PER_PAGE, make=record, distinct=True) as chain,
        serving.pages(1, PER_PAGE, make=record) as one,
        embedded_kafka() as broker,
    ):
        for _ in range(rounds):
            for mode in MODES:
                url = chain if mode == "windows" else long
                whole = cpu_of(mode, url, broker.address, pages)
                start = cpu_of(mode, one, broker.address, 1)
                us[mode].append((whole - start) * 1e6 / ((pages - 1) * PER_PAGE))
                print(f"{mode:20} {us[mode][-1]:6.2f} us a record", flush=True)
    ratios = {
        mode: [a / b for a, b in zip(us[mode], us["FULL"], strict=True)]
        for mode in MODES
        if mode != "FULL"
    }
    for mode, found in ratios.items():
        print(f"{mode}: {statistics.median(found):.2f} of FULL ({rig.spread(found)})")
    if args.quick:
        return
    document = {
        "question": "What does a record cost in INCREMENTAL and in windows, next to FULL?",
        "machine": rig.machine(),
        "pages": pages,
        "records_on_a_page": PER_PAGE,
        "cpu_us_a_record": us,
        "of_full": ratios,
    }
    target = rig.ROOT / "perf" / "results" / "modes.json"
    target.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
