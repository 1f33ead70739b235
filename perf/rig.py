"""
Rig: what every benchmark here measures with.

Owns the clock of a whole process tree (CPU of it and its children, peak memory), the
count of a topic's records and the form of the results.  What is measured against
stands in `perf.serving`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent


def end_cleanly() -> None:
    """Let SIGTERM end this process as Ctrl-C does: brokers and servers are ended, too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell starts what runs behind with this ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def busy() -> float:
    """CPU seconds that all processes of the machine have used since it started."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait)


def accounted() -> float:
    """CPU seconds of this process, its ended children, living ones, and the broker's."""
    mine = os.times()
    found = sum(mine[:4])
    java = []
    for each in psutil.process_iter(["pid", "cmdline"]):
        if "kafka.Kafka" in (each.info["cmdline"] or ()) and "khs-kafka-" in str(
            each.info["cmdline"]
        ):
            java.append(each)
    for each in [*psutil.Process().children(recursive=True), *java]:
        with contextlib.suppress(psutil.Error):
            times = each.cpu_times()
            found += times.user + times.system
    return found


@dataclass
class Run:
    """
    One process tree, from start to end, and a window in the middle of it.

    The window lies between two looks at the topic, behind the start and before
    the end, so that imports and connecting are not in it.

    Attributes:
        seconds, cpu: Of the whole tree; CPU is user and system time.
        peak: Largest sum of resident bytes of the tree, sampled.
        worker_peak: The same of the process that did the work.
        records: That arrived within the window; 0 if there was no window.
        window: Its seconds.
        worker: CPU seconds of the process that did the work: the child with
            the most, or the first process where it has no children.
        first: CPU seconds of the first process: a supervisor.
        others: CPU seconds of all others.
        trail: Each look: seconds since the start, records that have arrived,
            CPU of the worker, its resident bytes.
        others_cores: Cores that processes of strangers used meanwhile.
    """

    seconds: float
    cpu: float
    peak: int
    worker_peak: int
    code: int
    output: str
    records: int = 0
    window: float = 0.0
    worker: float = 0.0
    first: float = 0.0
    others: float = 0.0
    trail: list[tuple[float, int, float, int]] = field(default_factory=list)
    others_cores: float = 0.0


class Topic:
    """How many records a topic holds, asked again and again."""

    def __init__(self, bootstrap: str, name: str):
        from confluent_kafka import Consumer, TopicPartition

        settings = {"bootstrap.servers": bootstrap, "group.id": "count"}
        self._consumer = Consumer({**settings, "log_level": 0})
        end = time.monotonic() + 30
        # A broker may need a moment to know a topic that was just made.
        while not (
            parts := self._consumer.list_topics(name, 10).topics[name].partitions
        ):
            if time.monotonic() > end:
                raise TimeoutError(f"no partitions of {name}")
            time.sleep(0.05)
        self._places = [TopicPartition(name, part) for part in parts]

    def count(self) -> int:
        """Records in it, by its watermarks; transactions' markers count, too."""
        ends = [self._consumer.get_watermark_offsets(each, 10) for each in self._places]
        return sum(high - low for low, high in ends)

    def await_count(self, records: int, seconds: float = 10.0) -> int:
        """What `count` answers once it is that many, or after so many seconds."""
        end = time.monotonic() + seconds
        while (found := self.count()) < records and time.monotonic() < end:
            time.sleep(0.05)
        return found

    def readable(self) -> int:
        """Records that a reader of committed ones finds; reads all of them."""
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        self._consumer.assign(
            [
                TopicPartition(each.topic, each.partition, OFFSET_BEGINNING)
                for each in self._places
            ]
        )
        found, quiet = 0, time.monotonic() + 5
        while time.monotonic() < quiet:
            got = [m for m in self._consumer.consume(50_000, 0.2) if not m.error()]
            if got:
                found, quiet = found + len(got), time.monotonic() + 5
        return found

    def written(self) -> int:
        """Records ever written to it, those that were dropped since among them."""
        ends = [self._consumer.get_watermark_offsets(each, 10) for each in self._places]
        return sum(high for _, high in ends)

    def close(self) -> None:
        self._consumer.close()


#: One look: monotonic seconds, records, CPU seconds and resident bytes by pid.
Look = tuple[float, int, dict[int, float], dict[int, int]]


def run(
    command: Sequence[str],
    timeout: float = 600,
    env: dict[str, str] | None = None,
    *,
    topic: Topic | None = None,
    window: tuple[int, int] | None = None,
    until: int | None = None,
) -> Run:
    """
    Run a command to its end and account for its whole tree.

    Args:
        topic: Looked at meanwhile.
        window: Records between which the window lies.
        until: Send SIGTERM once that many records have arrived.
    """
    elsewhere = busy() - accounted()
    begin = time.monotonic()
    before = os.times()
    process = psutil.Popen(
        list(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
    )
    looks: list[Look] = []
    ended = threading.Event()

    def watch() -> None:
        told = False
        while not ended.wait(0.1):
            with contextlib.suppress(psutil.Error):
                cpu, resident = {}, {}
                count = topic.count() if topic is not None else 0
                for each in [process, *process.children(recursive=True)]:
                    times = each.cpu_times()
                    cpu[each.pid] = times.user + times.system
                    resident[each.pid] = each.memory_info().rss
                looks.append((time.monotonic(), count, cpu, resident))
                if until is not None and count >= until and not told:
                    told = True
                    process.terminate()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        ended.set()
        if process.is_running():
            process.kill()
    seconds = time.monotonic() - begin
    watcher.join()
    after = os.times()
    elsewhere = busy() - accounted() - elsewhere
    if process.returncode != 0:
        sys.stderr.write(errors[-4000:])
    done = Run(
        seconds=seconds,
        others_cores=max(0.0, elsewhere / seconds),
        cpu=(after.children_user - before.children_user)
        + (after.children_system - before.children_system),
        peak=max((sum(look[3].values()) for look in looks), default=0),
        worker_peak=0,
        code=process.returncode,
        output=output,
    )
    most: dict[int, float] = {}
    for look in looks:
        most.update(look[2])
    first = process.pid
    children = [pid for pid in most if pid != first]
    worker = max(children, key=most.__getitem__) if children else first
    done.trail = [
        (at - begin, count, cpu[worker], resident[worker])
        for at, count, cpu, resident in looks
        if worker in cpu
    ]
    done.worker_peak = max((each[3] for each in done.trail), default=0)
    low, high = window or (0, 0)
    inside = [look for look in looks if low <= look[1] <= high and worker in look[2]]
    if len(inside) > 1:
        one, two = inside[0], inside[-1]
        spent = {pid: cpu - one[2].get(pid, 0.0) for pid, cpu in two[2].items()}
        done.window, done.records = two[0] - one[0], two[1] - one[1]
        done.worker = spent.pop(worker)
        done.first = done.worker if worker == first else spent.pop(first)
        done.others = sum(cpu for pid, cpu in spent.items() if pid != first)
    return done


@dataclass
class Row:
    """One contestant of one benchmark, a list of runs each."""

    name: str
    records_per_second: list[float] = field(default_factory=list)
    cpu_us_per_record: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)

    def add(self, records: int, seconds: float, cpu: float, peak: int) -> None:
        self.records_per_second.append(round(records / seconds, 1))
        self.cpu_us_per_record.append(round(cpu / records * 1e6, 3))
        self.peak_mb.append(round(peak / 1e6, 1))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """min / median / max as text."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{low:,.{digits}f} / {middle:,.{digits}f} / {high:,.{digits}f}"


def machine() -> dict[str, str]:
    """What the figures were made on."""
    names = ("kafka-python", "urllib3", "requests", "msgspec", "httptools",
             "confluent-kafka", "crc32c")  # fmt: skip
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "cores": str(os.cpu_count()),
        **found,
    }


def report(
    name: str,
    question: str,
    rows: Sequence[Row],
    notes: dict[str, object],
    *,
    keep: bool = True,
) -> None:
    """
    Print the table and keep it in perf/results/<name>.json.

    Args:
        keep: False only to print: a quick run is no result.
    """
    print(f"\n{question}\n")
    print(f"{'':34} {'records/s':>34} {'CPU us a record':>24} {'peak MB':>9}")
    for row in rows:
        print(
            f"{row.name:34} {spread(row.records_per_second, 0):>34} "
            f"{spread(row.cpu_us_per_record):>24} {max(row.peak_mb):>9.0f}"
        )
    for key, value in notes.items():
        print(f"{key}: {value}")
    if not keep:
        return
    folder = ROOT / "perf" / "results"
    folder.mkdir(exist_ok=True)
    document = {
        "question": question,
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
        "notes": notes,
    }
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
