"""
What does an engine cost that polls 50 endpoints each 5 seconds and finds nothing new?

    python -m perf.bench_idle [--minutes 3] [--warm-up 1] [--endpoints 50]

Pages of 60 records from nginx with its ETags, Apache Kafka, one task; every
process of the engine is looked at each second.  The baseline is the same engine
without its cache, which gets, sends and delivers each page again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import psutil

from perf import rig, serving, soak

CONFIG = """\
name=idle
http.source.poll.interval.ms=5000
http.response.data.json.pointer=records
kafka.topic=idle
bootstrap.servers={bootstrap}
offsets.storage.topic=idle-offsets-{name}
exactly.once.support=disabled
listeners=http://127.0.0.1:0
log.level=ERROR
cache.dir={folder}/cache
state.dir={folder}/state
runtime.dir={folder}/run
"""


def config(name: str, url: str, bootstrap: str, folder: str, endpoints: int) -> str:
    """The whole configuration; each endpoint is an api of its own."""
    text = CONFIG.format(name=name, bootstrap=bootstrap, folder=folder)
    for number in range(1, endpoints + 1):
        text += f"api{number}.api.name=e{number}\n"
        text += f"api{number}.http.source.url={url}/cursor?cursor={number - 1}\n"
    return text + f"cache.enabled={'true' if name == 'on' else 'false'}\n"


def measured(
    name: str, url: str, bootstrap: str, args: argparse.Namespace
) -> dict[str, object]:
    """One engine for the minutes asked; its processes and what it delivered."""
    seconds, warm_up = 60 * args.minutes, 60 * args.warm_up
    with tempfile.TemporaryDirectory(prefix="khs-idle-") as folder:
        path = Path(folder) / "idle.properties"
        path.write_text(config(name, url, bootstrap, folder, args.endpoints))
        topic = rig.Topic(bootstrap, "idle")
        before = topic.count()
        engine = psutil.Popen(
            [sys.executable, "-m", "engine", "run", "-q", str(path)], cwd=rig.ROOT
        )
        try:
            trails = soak.watched(engine, seconds, 1.0)
            arrived = topic.count() - before
        finally:
            engine.terminate()
            code = engine.wait(60)
            topic.close()
    rows = [
        {
            "process": trail.name,
            "percent_of_a_core": round(100 * trail.share(warm_up), 3),
            "resident_mib": round(trail.resident[-1] / 2**20, 1),
            "slope_mib_a_minute": round(trail.slope(warm_up), 3),
        }
        for trail in trails.values()
        if trail.at[0] < 10 and trail.at[-1] > seconds - 10
    ]
    total = round(sum(float(str(row["percent_of_a_core"])) for row in rows), 3)
    steepest = max(float(str(row["slope_mib_a_minute"])) for row in rows)
    print(
        f"cache {name:4}{total:8.2f} % of a core, {arrived:,} records, steepest "
        f"{steepest} MiB a minute, exit code {code}"
    )
    return {
        "percent_of_a_core": total,
        "records": arrived,
        "exit_code": code,
        "processes": rows,
    }


def main() -> None:
    question = (__doc__ or "").strip().splitlines()[0]
    words = argparse.ArgumentParser(description=question)
    words.add_argument("--minutes", type=float, default=3)
    words.add_argument("--warm-up", type=float, default=1, metavar="MINUTES")
    words.add_argument("--endpoints", type=int, default=50)
    args = words.parse_args()
    with serving.apache_kafka() as bootstrap, serving.pages(args.endpoints, 60) as url:
        serving.create_topic(bootstrap, "idle")
        found = {name: measured(name, url, bootstrap, args) for name in ("on", "off")}
    document = {
        "question": question,
        "machine": rig.machine(),
        "endpoints": args.endpoints,
        "minutes": args.minutes,
        "warm_up_minutes": args.warm_up,
        "cache": found,
    }
    path = rig.ROOT / "perf" / "results" / "idle.json"
    path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
