"""
What does a record cost from HTTP into Kafka, against loops written by hand?

    python -m perf.bench_kafka [--pages 600] [--runs 3] [--tasks 1]

Cursor paging from nginx, 500 records of 290 bytes a page, Apache Kafka, acks=all,
idempotent.  Each contestant reads all pages into a topic of its own, in turn,
so that a slow minute of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from perf import rig

CONFIG = """\
name=bench
http.source.url={url}/cursor
http.response.data.json.pointer=records
pagination.type=cursor
pagination.cursor.field=next
pagination.max.pages=1000000
kafka.topic={topic}
bootstrap.servers={bootstrap}
state.dir={folder}/state
runtime.dir={folder}/run
"""


def engine(url: str, bootstrap: str, topic: str, extra: str = "") -> rig.Run:
    """One `run --once` of the engine."""
    with tempfile.TemporaryDirectory(prefix="khs-bench-") as folder:
        config = Path(folder) / "bench.properties"
        config.write_text(
            CONFIG.format(url=url, topic=topic, bootstrap=bootstrap, folder=folder)
            + f"offsets.storage.topic={topic}-offsets\n"
            + extra
        )
        return rig.run(
            [sys.executable, "-m", "engine", "run", "--once", "--json", str(config)]
        )


def loop(name: str, url: str, bootstrap: str, topic: str) -> rig.Run:
    """One run of a loop written by hand."""
    module = f"perf.baselines.{name}"
    return rig.run([sys.executable, "-m", module, f"{url}/cursor", bootstrap, topic])


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    words.add_argument("--pages", type=int, default=600)
    words.add_argument("--runs", type=int, default=3)
    words.add_argument("--quick", action="store_true", help="one short run")
    words.add_argument("--only", default="", help="contestants, comma separated")
    args = words.parse_args()
    if args.quick:
        args.pages, args.runs = 40, 1
    per_page = 500
    records = args.pages * per_page
    rows = {
        name: rig.Row(name)
        for name in ("engine", "hand_loop", "plain_loop")
        if not args.only or name in args.only.split(",")
    }
    with rig.apache_kafka() as bootstrap, rig.pages(args.pages, per_page) as url:
        for turn in range(args.runs):
            for name, row in rows.items():
                if name == "plain_loop" and turn:
                    continue
                topic = f"{name}-{turn}".replace("_", "-")
                rig.create_topic(bootstrap, topic)
                done = (
                    engine(url, bootstrap, topic)
                    if name == "engine"
                    else loop(name, url, bootstrap, topic)
                )
                arrived = rig.count_topic(bootstrap, topic)
                if done.code or arrived != records:
                    raise SystemExit(
                        f"{name}: exit code {done.code}, {arrived} of {records} arrived"
                    )
                row.add(records, done.seconds, done.cpu, done.peak)
    notes: dict[str, object] = {"records a run": records}
    if "engine" in rows and "hand_loop" in rows:
        own, hand = rows["engine"], rows["hand_loop"]
        notes["CPU, engine / hand loop"] = [
            round(a / b, 3)
            for a, b in zip(own.cpu_us_per_record, hand.cpu_us_per_record, strict=True)
        ]
        notes["records/s, engine / hand loop"] = [
            round(a / b, 3)
            for a, b in zip(
                own.records_per_second, hand.records_per_second, strict=True
            )
        ]
    rig.report("kafka", __doc__.strip().splitlines()[0], list(rows.values()), notes)


if __name__ == "__main__":
    main()
