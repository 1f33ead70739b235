"""
Does the engine hold more memory or descriptors after minutes at full speed?

    python -m perf.bench_leak [--minutes 20] [--warm-up 2] [--tasks 2]

Numbered pages from nginx, 500 records of 290 bytes, into Apache Kafka whose
topic keeps the last 256 MiB, so that the disk holds it.  Every process of the
engine is looked at each second; told is the slope of its resident bytes behind
the warm-up and its descriptors.  The baseline is the bound: one MiB a minute.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import psutil
from confluent_kafka.admin import AdminClient, NewTopic

from perf import rig, serving, soak
from tests.brokers import apache_kafka

CONFIG = """\
name=leak
http.source.url={url}/numbered
http.source.poll.interval.ms=0
http.response.data.json.pointer=records
pagination.type=page
pagination.limit.value=500
tasks.max={tasks}
kafka.topic=leak
bootstrap.servers={bootstrap}
offsets.storage.topic=leak-offsets
exactly.once.support=disabled
listeners=http://127.0.0.1:0
log.level=ERROR
state.dir={folder}/state
cache.dir={folder}/cache
runtime.dir={folder}/run
"""

#: What may be added, in MiB a minute.
BOUND = 1.0


def keeping(bootstrap: str, name: str, partitions: int) -> None:
    """Create a topic that keeps its last quarter of a GiB."""
    settings = {"retention.bytes": str(64 << 20), "segment.bytes": str(32 << 20)}
    admin = AdminClient({"bootstrap.servers": bootstrap})
    made = admin.create_topics([NewTopic(name, partitions, 1, config=settings)])
    for future in made.values():
        future.result(30)


def main() -> None:
    question = (__doc__ or "").strip().splitlines()[0]
    words = argparse.ArgumentParser(description=question)
    words.add_argument("--minutes", type=float, default=20)
    words.add_argument("--warm-up", type=float, default=2, metavar="MINUTES")
    words.add_argument("--tasks", type=int, default=2)
    args = words.parse_args()
    seconds, warm_up = 60 * args.minutes, 60 * args.warm_up
    with (
        apache_kafka("--set", "log.retention.check.interval.ms=5000") as broker,
        serving.pages(50) as url,
        tempfile.TemporaryDirectory(prefix="khs-leak-") as folder,
    ):
        keeping(broker.address, "leak", 4)
        config = Path(folder) / "leak.properties"
        config.write_text(
            CONFIG.format(
                url=url, tasks=args.tasks, bootstrap=broker.address, folder=folder
            )
        )
        engine = psutil.Popen(
            [sys.executable, "-m", "engine", "run", "-q", str(config)], cwd=rig.ROOT
        )
        topic = rig.Topic(broker.address, "leak")
        try:
            trails = soak.watched(engine, seconds, 1.0)
            arrived = topic.count()
            highest = topic.written()
        finally:
            engine.terminate()
            code = engine.wait(60)
            topic.close()
    rows = []
    for trail in trails.values():
        if trail.at[-1] < seconds - 10 or trail.at[0] > 10:
            raise SystemExit(f"{trail.name} was not there all the time")
        start = trail.since(warm_up)
        fds = trail.descriptors[start:]
        rows.append(
            {
                "process": trail.name,
                "resident_mib": [
                    round(trail.resident[start] / 2**20, 1),
                    round(trail.resident[-1] / 2**20, 1),
                ],
                "slope_mib_a_minute": round(trail.slope(warm_up), 3),
                "descriptors": [min(fds), max(fds), fds[0], fds[-1]],
                "cpu_share": round(trail.share(warm_up), 3),
            }
        )
        print(json.dumps(rows[-1]))
    document = {
        "question": question,
        "machine": rig.machine(),
        "minutes": args.minutes,
        "warm_up_minutes": args.warm_up,
        "bound_mib_a_minute": BOUND,
        "records_written": highest,
        "records_kept": arrived,
        "records_per_second": round(highest / seconds, 1),
        "exit_code": code,
        "processes": rows,
    }
    print(f"{highest:,} records, {highest / seconds:,.0f}/s, exit code {code}")
    path = rig.ROOT / "perf" / "results" / "leak.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    worst = max(row["slope_mib_a_minute"] for row in rows)
    print(f"steepest: {worst} MiB a minute (bound {BOUND})")


if __name__ == "__main__":
    main()
