"""
How much memory does a page of 100 MB take, above a task that has a small one?

    python -m perf.bench_large [--runs 5] [--records 365000]

One page over HTTP into Apache Kafka, the engine's defaults.  The figure is the most
that the task was ever resident with (VmHWM of /proc), less the same of a task whose
page has one record.  The loop by hand is measured the same way.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from perf import rig, serving
from perf.bench_kafka import CONFIG

MIB = 1 << 20


def high_water(pid: int) -> int:
    """Bytes that a process was resident with at most; 0 if it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def peak(command: list[str]) -> int:
    """Run a command; the most that any process of it was resident with."""
    process = psutil.Popen(
        command, cwd=rig.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    most = 0
    try:
        # The mark never falls: the last look before the end is all that counts.
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                tree = [process, *process.children(recursive=True)]
                most = max(most, *(high_water(each.pid) for each in tree))
            time.sleep(0.01)
    finally:
        if process.poll() is None:
            process.kill()
    if process.returncode:
        raise SystemExit(process.stderr.read().decode()[-2000:])
    return most


def resident(bootstrap: str, url: str, records: int, ours: bool) -> int:
    """Peak of one run over the page at a URL; its records are counted."""
    topic = f"large-{time.time_ns()}"
    serving.create_topic(bootstrap, topic)
    try:
        with tempfile.TemporaryDirectory(prefix="khs-bench-") as folder:
            command = ["-m", "perf.baselines.hand_loop", f"{url}/cursor"]
            command += [bootstrap, topic]
            if ours:
                config = Path(folder) / "bench.properties"
                text = CONFIG.format(
                    url=url, topic=topic, bootstrap=bootstrap, folder=folder
                )
                # A page is refused above 10 MB unless more is allowed.
                text += "http.client.max.response.size.bytes=200000000\n"
                config.write_text(text + "listeners=http://127.0.0.1:0\n")
                command = ["-m", "engine", "run", "--once", "--json", str(config)]
            most = peak([sys.executable, *command])
        counted = rig.Topic(bootstrap, topic)
        arrived = counted.await_count(records)
        counted.close()
    finally:
        serving.delete_topics(bootstrap, topic, f"{topic}-offsets")
    if arrived != records:
        raise SystemExit(f"{arrived} of {records} arrived")
    return most


def above(
    bootstrap: str, large: str, small: str, records: int, ours: bool = True
) -> float:
    """MiB of a task with the large page above one with the small page."""
    most = resident(bootstrap, large, records, ours)
    return (most - resident(bootstrap, small, 1, ours)) / MIB


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--runs", type=int, default=5)
    words.add_argument("--records", type=int, default=365_000)
    given = words.parse_args()
    with (
        serving.apache_kafka() as bootstrap,
        serving.pages(1, given.records) as large,
        serving.pages(1, 1) as small,
    ):
        for ours in (True, False):
            found = [
                above(bootstrap, large, small, given.records, ours)
                for _ in range(given.runs)
            ]
            print(f"{'engine' if ours else 'hand loop':10} {rig.spread(found, 0)} MiB")


if __name__ == "__main__":
    main()
