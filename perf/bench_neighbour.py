"""
How late are a connector's pages while another one comes, changes, is paused and goes?

    python -m perf.bench_neighbour [--rounds 3] [--seconds 10]

An API of our own, in a process of its own, answers `steady` at each of its polls, every
20 ms, with one record that says when; a consumer in a third process (librdkafka, waits of at
most 5 ms) writes down when it has it.  In turns nothing happens, and `other` is created,
changed, paused, resumed, restarted, stopped and deleted over REST without a break.  Late is
what is above the pause of 20 ms between two answers, and what passes from an answer to its
record; the baseline is the quiet part of the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from perf import rig, serving

#: Milliseconds between two polls of `steady`.
INTERVAL = 20

#: Milliseconds above which a page is counted as late.
LATE = 100.0

WORKER = """\
bootstrap.servers={bootstrap}
offsets.storage.topic=neighbour-offsets-{number}
state.dir={folder}/state
cache.dir={folder}/cache
runtime.dir={folder}/run
listeners=http://127.0.0.1:{port}
log.level=WARN
cache.enabled=false
"""


def serve(told: Connection) -> None:
    """
    Answer every request with one record that says when (monotonic ns); told: the port.

    Requests for `/steady` are told, too, once somebody asks for them.
    """
    import selectors

    listener = socket.create_server(("127.0.0.1", 0))
    told.send(listener.getsockname()[1])
    watch = selectors.DefaultSelector()
    watch.register(listener, selectors.EVENT_READ)
    watch.register(told, selectors.EVENT_READ)
    moments: list[int] = []
    while True:
        for key, _ in watch.select():
            if key.fileobj is listener:
                peer, _ = listener.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                watch.register(peer, selectors.EVENT_READ)
            elif key.fileobj is told:
                told.recv()
                told.send(moments)
                moments = []
            elif isinstance(key.fileobj, socket.socket):
                asked = b""
                with contextlib.suppress(OSError):
                    asked = key.fileobj.recv(65536)
                if not asked:
                    watch.unregister(key.fileobj)
                    key.fileobj.close()
                    continue
                now = time.monotonic_ns()
                body = b'{"records":[{"at":%d}]}' % now
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                head += b"Content-Length: %d\r\n\r\n" % len(body)
                with contextlib.suppress(OSError):
                    key.fileobj.sendall(head + body)
                if asked.startswith(b"GET /steady"):
                    moments.append(now)


def consume(told: Connection, bootstrap: str, topic: str) -> None:
    """Tell, whenever asked: (moment in the record, moment it was had), monotonic ns."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": topic,
            "fetch.wait.max.ms": 5,
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    told.send(True)
    found: list[tuple[int, int]] = []
    while True:
        for message in consumer.consume(1000, 0.005):
            value = message.value()
            if value is not None:
                found.append((int(json.loads(value)["at"]), time.monotonic_ns()))
        if told.poll():
            told.recv()
            told.send(found)
            found = []


class Rest:
    """The engine's REST API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, method: str, path: str, body: object = None) -> int:
        """The status of an answer; 0: nobody listens yet."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        asked = urllib.request.Request(
            f"{self._url}{path}", data, headers, method=method
        )
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            return refused.code
        except OSError:
            return 0


def keys(url: str, name: str) -> dict[str, str]:
    return {
        "connector.class": "HttpSource",
        "http.source.url": f"{url}/{name}",
        "http.response.data.json.pointer": "records",
        "http.source.poll.interval.ms": str(INTERVAL),
        "kafka.topic": f"neighbour-{name}",
        "tasks.max": "1",
    }


def steps(url: str) -> Iterator[tuple[str, str, object]]:
    """What happens to `other`, again and again."""
    path = "/connectors/other"
    for turn in itertools.count():
        yield "POST", "/connectors", {"name": "other", "config": keys(url, "other")}
        yield (
            "PATCH",
            f"{path}/config",
            {"http.source.poll.interval.ms": str(30 + turn)},
        )
        yield "PUT", f"{path}/pause", None
        yield "PUT", f"{path}/resume", None
        yield "POST", f"{path}/restart?includeTasks=true", None
        yield "PUT", f"{path}/stop", None
        yield "PUT", f"{path}/resume", None
        yield "DELETE", path, None


def late(moments: Sequence[int], had: Sequence[tuple[int, int]]) -> list[float]:
    """Milliseconds of each page: of its answer above the interval, and to its record."""
    readable = dict(had)
    found = []
    for before, now in itertools.pairwise(sorted(moments)):
        if now in readable:
            gap = max(0.0, (now - before) / 1e6 - INTERVAL)
            found.append(max(gap, (readable[now] - now) / 1e6))
    return found


def told_of(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "pages": len(ordered),
        "p50_ms": round(statistics.median(ordered), 1),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 1),
        "most_ms": round(ordered[-1], 1),
        "later_than_100_ms": sum(value > LATE for value in ordered),
    }


def main() -> None:
    question = (__doc__ or "").strip().splitlines()[0]
    words = argparse.ArgumentParser(description=question)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--seconds", type=float, default=10.0)
    args = words.parse_args()
    rig.end_cleanly()
    spawn = multiprocessing.get_context("spawn")
    found: dict[str, list[float]] = {"quiet": [], "disturbed": []}
    changes = 0
    with serving.apache_kafka() as bootstrap, tempfile.TemporaryDirectory() as folder:
        for name in ("steady", "other"):
            serving.create_topic(bootstrap, f"neighbour-{name}")
        api, told_api = spawn.Pipe()
        reader, told_reader = spawn.Pipe()
        workers = [
            spawn.Process(target=serve, args=(told_api,), daemon=True),
            spawn.Process(
                target=consume,
                args=(told_reader, bootstrap, "neighbour-steady"),
                daemon=True,
            ),
        ]
        for worker in workers:
            worker.start()
        url, port = f"http://127.0.0.1:{api.recv()}", serving.free_port()
        reader.recv()
        file = Path(folder) / "worker.properties"
        file.write_text(
            WORKER.format(
                bootstrap=bootstrap, folder=folder, port=port, number=time.time_ns()
            )
        )
        command = [sys.executable, "-m", "engine", "run", "-q"]
        command += ["--connectors", f"{folder}/connectors", str(file)]
        engine = subprocess.Popen(command, cwd=rig.ROOT)
        rest = Rest(port)
        try:
            body = {"name": "steady", "config": keys(url, "steady")}
            while rest.ask("POST", "/connectors", body) not in (201, 409):
                time.sleep(0.1)
            time.sleep(3.0)
            coming = steps(url)
            for _ in range(args.rounds):
                for part, values in found.items():
                    for link in (api, reader):
                        link.send(True)
                        link.recv()
                    end = time.monotonic() + args.seconds
                    while time.monotonic() < end:
                        if part == "quiet":
                            time.sleep(0.1)
                            continue
                        method, path, sent = next(coming)
                        status = rest.ask(method, path, sent)
                        if status not in (200, 201, 202, 204):
                            raise SystemExit(f"{method} {path}: {status}")
                        changes += 1
                        time.sleep(0.25)
                    time.sleep(0.5)
                    api.send(True)
                    moments = api.recv()
                    time.sleep(0.5)
                    reader.send(True)
                    values += late(moments, reader.recv())
        finally:
            engine.terminate()
            code = engine.wait(60)
            for worker in workers:
                worker.terminate()
                worker.join()
    document = {
        "question": question,
        "machine": rig.machine(),
        "load": os.getloadavg()[0],
        "changes": changes,
        "exit_code": code,
        **{part: told_of(values) for part, values in found.items()},
    }
    for part in found:
        print(part, document[part])
    print(f"{changes} changes; load {os.getloadavg()[0]:.1f}; exit code {code}")
    place = rig.ROOT / "perf" / "results" / "neighbour.json"
    place.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
