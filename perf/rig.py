"""
Rig: what every benchmark here stands on.

Owns the pages (written once into a folder and served by nginx), the broker
(Apache Kafka by `scripts/kafka`), the clock of a whole process (CPU of it and
its children, peak memory) and the form of the results.  Measures nothing by
itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent

NGINX = """\
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  default_type application/json;
  open_file_cache max=4000 inactive=600s;
  map $arg_page $numbered {{
    default /p0.json;
    ~(?<last>[0-9])$ /p$last.json;
  }}
  server {{
    listen 127.0.0.1:{port};
    root {dir}/pages;
    location = /cursor {{ try_files /p$arg_cursor.json =404; }}
    location = /numbered {{ try_files $numbered =404; }}
  }}
}}
"""


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def record(number: int, size: int = 290) -> bytes:
    """A record of `size` bytes that looks like an order."""
    head = json.dumps(
        {
            "id": number,
            "key": f"customer-{number % 5000:06d}",
            "created": "2026-01-01T00:00:00.000Z",
            "amount": round((number * 37 % 100_000) / 100, 2),
            "currency": "EUR",
            "paid": number % 3 == 0,
            "address": {"city": "Lyon", "zip": f"{number % 100_000:05d}"},
            "tags": ["a", "b"],
            "note": "",
        },
        separators=(",", ":"),
    )
    fill = max(0, size - len(head))
    return (head[:-2] + "x" * fill + '"}').encode()


@contextlib.contextmanager
def pages(count: int, per_page: int = 500, size: int = 290) -> Iterator[str]:
    """
    Serve `count` cursor pages at URL/cursor; yields URL.

    Page 0 has no cursor; each page names the next in `next`, the last null.
    URL/numbered?page=N answers any N with one of the first ten pages.
    """
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    folder = Path(tempfile.mkdtemp(prefix="khs-perf-"))
    folder.chmod(0o755)
    try:
        (folder / "pages").mkdir()
        for page in range(count):
            items = b",".join(
                record(page * per_page + i, size) for i in range(per_page)
            )
            following = b"null" if page == count - 1 else b'"%d"' % (page + 1)
            body = b'{"records":[' + items + b'],"next":' + following + b"}"
            name = "p.json" if page == 0 else f"p{page}.json"
            (folder / "pages" / name).write_bytes(body)
            if page == 0:
                (folder / "pages" / "p0.json").write_bytes(body)
        port = free_port()
        conf = folder / "nginx.conf"
        user = f"user {os.environ.get('USER', 'root')};\n" if os.getuid() == 0 else ""
        conf.write_text(user + NGINX.format(dir=folder, port=port))
        server = subprocess.Popen(
            [nginx, "-c", str(conf), "-p", str(folder)],
            stderr=subprocess.DEVNULL,
        )
        try:
            await_port(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def await_port(port: int, seconds: float = 30) -> None:
    """Block until something listens on the port; TimeoutError after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 1),
        ):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")


@contextlib.contextmanager
def apache_kafka() -> Iterator[str]:
    """Apache Kafka for this run, or the one KAFKA_BOOTSTRAP names; yields host:port."""
    if given := os.environ.get("KAFKA_BOOTSTRAP"):
        yield given
        return
    folder = tempfile.mkdtemp(prefix="khs-kafka-")
    script = str(ROOT / "scripts" / "kafka")
    try:
        done = subprocess.run(
            [script, "start", "--dir", folder],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        yield done.stdout.strip().splitlines()[-1].split()[-1]
    finally:
        subprocess.run([script, "stop", "--dir", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def create_topic(bootstrap: str, name: str, partitions: int = 1) -> None:
    """Create a topic, by another client than ours."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(30)


def count_topic(bootstrap: str, name: str) -> int:
    """Records in a topic, by its watermarks (Apache Kafka only)."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "count"})
    try:
        parts = consumer.list_topics(name, 10).topics[name].partitions
        total = 0
        for part in parts:
            low, high = consumer.get_watermark_offsets(TopicPartition(name, part), 10)
            total += high - low
        return total
    finally:
        consumer.close()


@dataclass
class Run:
    """
    One process tree, from start to end.

    Attributes:
        cpu: User and system seconds of the tree.
        worker_cpu: The same without the first process (for a supervisor: its
            children), or equal to `cpu` where there is only one.
        peak: Largest sum of resident bytes seen, sampled.
    """

    seconds: float
    cpu: float
    worker_cpu: float
    peak: int
    code: int
    output: str


def run(
    command: Sequence[str], timeout: float = 600, env: dict[str, str] | None = None
) -> Run:
    """Run a command to its end and account for its whole tree."""
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
    peak = 0
    own = 0.0
    ended = threading.Event()

    def sample() -> None:
        nonlocal peak, own
        while not ended.wait(0.05):
            with contextlib.suppress(psutil.Error):
                tree = [process, *process.children(recursive=True)]
                peak = max(peak, sum(p.memory_info().rss for p in tree))
                times = process.cpu_times()
                own = times.user + times.system

    watcher = threading.Thread(target=sample, daemon=True)
    watcher.start()
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        ended.set()
        if process.is_running():
            process.kill()
    watcher.join()
    after = os.times()
    cpu = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    if process.returncode != 0:
        sys.stderr.write(errors[-4000:])
    return Run(
        seconds=time.monotonic() - begin,
        cpu=cpu,
        worker_cpu=max(cpu - own, 0.0),
        peak=peak,
        code=process.returncode,
        output=output,
    )


@dataclass
class Row:
    """One contestant of one benchmark, a list of runs each."""

    name: str
    records_per_second: list[float] = field(default_factory=list)
    cpu_us_per_record: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)

    def add(self, records: int, seconds: float, cpu: float, peak: int) -> None:
        self.records_per_second.append(records / seconds)
        self.cpu_us_per_record.append(cpu / records * 1e6)
        self.peak_mb.append(peak / 1e6)


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
    name: str, question: str, rows: Sequence[Row], notes: dict[str, object]
) -> None:
    """Print the table and keep it in perf/results/<name>.json."""
    print(f"\n{question}\n")
    print(f"{'':34} {'records/s':>34} {'CPU us a record':>24} {'peak MB':>9}")
    for row in rows:
        print(
            f"{row.name:34} {spread(row.records_per_second, 0):>34} "
            f"{spread(row.cpu_us_per_record):>24} {max(row.peak_mb):>9.0f}"
        )
    for key, value in notes.items():
        print(f"{key}: {value}")
    folder = ROOT / "perf" / "results"
    folder.mkdir(exist_ok=True)
    document = {
        "question": question,
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
        "notes": notes,
    }
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
