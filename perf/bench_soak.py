"""
Does a record cost the same, and memory stay flat, over ten million records of one run?

    python -m perf.bench_soak [--pages 20000]

Cursor paging from nginx, 500 records of 290 bytes a page, Apache Kafka, the engine's
defaults, one task.  The run is cut into ten parts of equal records; compared are the
last part and the second, CPU a record and resident memory of the task: the run is its
own baseline.  Asked for: CPU within 15 %, memory within 10 MB.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from perf import rig, serving
from perf.bench_kafka import CONFIG
from perf.middle import PER_PAGE

PARTS = 10

Trail = Sequence[tuple[float, int, float, int]]


def parts_of(trail: Trail, records: int) -> list[tuple[int, float, float, int]]:
    """
    The run in `PARTS` parts of equal records.

    Returns: of each: records, seconds, CPU seconds and largest resident bytes.
    """
    found = []
    for part in range(PARTS):
        low, high = records * part // PARTS, records * (part + 1) // PARTS
        inside = [look for look in trail if low <= look[1] <= high]
        first, last = inside[0], inside[-1]
        found.append(
            (
                last[1] - first[1],
                last[0] - first[0],
                last[2] - first[2],
                max(look[3] for look in inside),
            )
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=20_000)
    given = parser.parse_args()
    records = given.pages * PER_PAGE

    with (
        serving.apache_kafka() as bootstrap,
        serving.pages(given.pages, PER_PAGE) as url,
        tempfile.TemporaryDirectory(prefix="khs-bench-") as folder,
    ):
        serving.create_topic(bootstrap, "soak")
        topic = rig.Topic(bootstrap, "soak")
        config = Path(folder) / "bench.properties"
        config.write_text(
            CONFIG.format(url=url, topic="soak", bootstrap=bootstrap, folder=folder)
        )
        command = [sys.executable, "-m", "engine", "run", "--once", "--json"]
        done = rig.run(
            [*command, str(config)], topic=topic, window=(records // 10, records)
        )
        arrived = topic.count()
        topic.close()
    if done.code or arrived != records:
        raise SystemExit(f"exit code {done.code}, {arrived} of {records} arrived")

    parts = parts_of(done.trail, records)
    rows = []
    for number, (count, seconds, cpu, peak) in enumerate(parts, 1):
        row = rig.Row(f"part {number} of {PARTS}")
        row.add(count, seconds, cpu, peak)
        rows.append(row)
    cost = [cpu / count * 1e6 for count, _, cpu, _ in parts]
    resident = [peak / 1e6 for _, _, _, peak in parts]
    rig.report(
        "soak",
        (__doc__ or "").strip().splitlines()[0],
        rows,
        {
            "records": records,
            "CPU a record, last part to second": round(cost[-1] / cost[1], 3),
            "resident MB, last part less second": round(resident[-1] - resident[1], 1),
            "supervisor, % of a core": round(done.first / done.window * 100, 2),
        },
        keep=given.pages >= 20_000,
    )


if __name__ == "__main__":
    main()
