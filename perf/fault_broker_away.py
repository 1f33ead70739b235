"""
Does the engine wait for a broker that is away for five minutes, and lose nothing?

    python -m perf.fault_broker_away [--seconds 300]

A chain of cursors into Apache Kafka; the broker is stopped in the middle for longer
than `producer.delivery.timeout.ms`, so that the producer gives up and the task waits
in place, then started again.  Reports what was said and when, the resident memory of
the task, what was lost (nothing) and what stands in the topic twice.  The slow sister
of `tests/faults/test_delivery.py`; the baseline is the same run before the stop.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

from perf.rig import ROOT, machine
from tests.brokers import apache_kafka
from tests.e2e.rig import TYPES, Setup, until
from tests.fakes.api import Api

KEYS = {
    "pagination.type": "cursor",
    **TYPES["cursor"],
    "pagination.max.pages": 10_000_000,
}

RECORDS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    given = parser.parse_args()

    with (
        apache_kafka() as broker,
        Api(pages=100_000, records=RECORDS, size=400, latency=0.02) as api,
        tempfile.TemporaryDirectory() as folder,
    ):
        setup = Setup(Path(folder), f"{api.url}/cursor/0", broker, KEYS)
        with setup.running() as running:

            def pages(more: int) -> None:
                count = len(api.log)
                until(lambda: len(api.log) > count + more, f"{more} more pages")

            def resident() -> int:
                return max(child.memory_info().rss for child in running.children())

            pages(500)
            before = resident()
            broker.stop()
            stopped = time.monotonic()
            until(lambda: running.said("has not answered for"), "it is said")
            said_after = time.monotonic() - stopped
            memory = []
            while time.monotonic() - stopped < given.seconds:
                time.sleep(1.0)
                memory.append(resident())
            broker.start()
            back = time.monotonic()
            pages(200)
            resumed_after = time.monotonic() - back
            done = running.end()
        counts = Counter(setup.values())
        lost = set(api.all_records()[: len(counts)]) - counts.keys()

    notes = {
        "away_seconds": round(given.seconds),
        "said_after_seconds": round(said_after, 1),
        "lines_logged": len(done.err.splitlines()),
        "said": re.findall(r"task: (.*?)(?: \[connector.*)?\n", done.err),
        "tasks_started": done.err.count(" started as process "),
        "failed": done.err.count("FAILED"),
        "exit_code": done.code,
        "resident_mb_before": round(before / 1e6, 1),
        "resident_mb_away": [
            round(each / 1e6, 1) for each in memory[:: len(memory) // 10]
        ],
        "pages_200_more_after_seconds": round(resumed_after, 1),
        "records": len(counts),
        "lost": len(lost),
        "twice": sum(counts.values()) - len(counts),
    }
    print(json.dumps(notes, indent=1))
    question = (__doc__ or "").strip().splitlines()[0]
    results = ROOT / "perf" / "results" / "broker_away.json"
    document = {"question": question, "machine": machine(), "notes": notes}
    if given.seconds >= 300:
        results.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
