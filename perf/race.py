"""
Is anything lost, whatever the pages look like, while processes die and connections break?

    perf/run --race [--rows a,b] [--records 40000] [--runs 2] [--quick]

Each shape of page (`SHAPES`) is read undisturbed, in turn with the loop by hand: what a
record costs of the loop's CPU.  Then through two proxies that end connections after
random bytes, the API's and the broker's, while a process of the engine is killed
(SIGKILL) again and again, the supervisor among them, and started again until a run ends
well.  Then every record of the topic is compared with every record of the pages: none
may be missing and none may be another; those that came twice are told, and where
transactions were asked for all have to come equally often.  A whole run writes its
table into README.md.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import multiprocessing
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from perf import bench_kafka, figure, rig, shapes
from perf.contests import Contest
from perf.rows import commit

SHAPES: tuple[Contest, ...] = (
    Contest("tiny", "40 B, 10,000 a page", None, make=shapes.tiny, per_page=10_000),
    Contest("one", "290 B, 1 a page", None, per_page=1),
    Contest("gzip", "290 B, 500 a page, gzip over TLS", None, packed="gzip"),
    Contest("br", "290 B, 500 a page, br over TLS", None, packed="br",
            engine={"http.client.compression.types": "br"}),
    Contest("nested", "2 KB, nested", None, make=shapes.nested, size=2000, per_page=200),
    Contest("unicode", "1 KB, not ASCII", None, make=shapes.unicode, size=1000, per_page=100),
    Contest("uneven", "40 B to 4 KB", None, make=shapes.uneven, size=1000, per_page=333),
    Contest("large", "20 KB, 20 a page", None, size=20_000, per_page=20),
    Contest("partitions", "290 B, 100 partitions", None, partitions=100),
    Contest("keyed", "290 B, keyed, 16 KB batches", None, partitions=6,
            engine={"kafka.key": "${key}", "producer.batch.size": "16384"},
            loop={"batch.size": "16384"}),
    Contest("exactly", "290 B, exactly once", None,
            engine={"exactly.once.support": "required"}),
)  # fmt: skip

#: Most bytes of a shape's pages, whatever `--records` says.
BYTES = 40_000_000

#: Records and bytes of an undisturbed run: of fewer nothing is seen beside a start.
UNDISTURBED, UNDISTURBED_BYTES = 200_000, 80_000_000

#: Between them stands its table in README.md.
BEGIN, END = "<!-- rows of the race -->", "<!-- end of the race -->"

#: Mean seconds from one kill to the next, and most starts of one shape.
BETWEEN, STARTS = 2.0, 40


@dataclass
class Verdict:
    """
    What came of a disturbed run.

    Attributes:
        exact: Transactions were asked for.
        uneven: Some records came more often than others.  A run that is killed when all
            is delivered is one whole poll, and the next one another.
    """

    records: int = 0
    missing: int = 0
    foreign: int = 0
    twice: int = 0
    kills: int = 0
    starts: int = 0
    cuts: int = 0
    exact: bool = False
    uneven: bool = False

    @property
    def good(self) -> bool:
        return not (self.missing or self.foreign or (self.exact and self.uneven))


def proxy(
    told: Connection, target: tuple[str, int], mean: float, seed: int, port: int
) -> None:
    """
    Pass connections on and end each after random bytes, about `mean`; never returns.

    Tells its port; then, to whatever it is sent, how many it has ended.  Bytes of
    answers and of requests count alike, so that both are cut.
    """
    dice, cuts = random.Random(seed), [0]
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    told.send(listener.getsockname()[1])

    def answer() -> None:
        with contextlib.suppress(EOFError):
            while told.recv() is not None:
                told.send(cuts[0])

    def pass_on(one: socket.socket, other: socket.socket, left: list[float]) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                left[0] -= len(data)
                if left[0] < 0:
                    cuts[0] += 1
                    # Part of it arrives.
                    other.sendall(data[: dice.randrange(len(data) + 1)])
                    break
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=answer, daemon=True).start()
    while True:
        near, _ = listener.accept()
        try:
            far = socket.create_connection(target)
        except OSError:
            near.close()
            continue
        left = [dice.expovariate(1 / mean)]
        for pair in ((near, far), (far, near)):
            thread = threading.Thread(target=pass_on, args=(*pair, left), daemon=True)
            thread.start()


class Proxy:
    """A `proxy` in a process of its own."""

    def __init__(self, address: str, mean: float, seed: int, port: int) -> None:
        host, _, there = address.rpartition(":")
        spawn = multiprocessing.get_context("spawn")
        self._pipe, other = spawn.Pipe()
        self._process = spawn.Process(
            target=proxy,
            args=(other, (host, int(there)), mean, seed, port),
            daemon=True,
        )
        self._process.start()
        self.port: int = self._pipe.recv()

    def cuts(self) -> int:
        self._pipe.send(True)
        found: int = self._pipe.recv()
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.join()


@contextlib.contextmanager
def broken(address: str, mean: float, seed: int, port: int = 0) -> Iterator[Proxy]:
    """A proxy to an address; `port`: where, 0 for anywhere."""
    made = Proxy(address, mean, seed, port)
    try:
        yield made
    finally:
        made.close()


def disturbed(field: bench_kafka.Field, row: Contest, count: int, seed: int) -> Verdict:
    """One shape through proxies and kills; blocks until a run has ended well."""
    dice, door = random.Random(seed), field.proxy_port
    url = field.pages(row, count)
    scheme, _, address = url.partition("://")
    size = count * row.per_page * max(row.size, 40)
    with (
        broken(address, max(size / 8, 20_000.0), seed) as api,
        broken(field.behind, max(size / 8, 20_000.0), seed + 1, door) as broker,
        field.topic(row) as name,
        tempfile.TemporaryDirectory(prefix="khs-race-") as folder,
    ):
        keys = field.keys(row, row.engine, url, name, Path(folder))
        keys["http.source.url"] = f"{scheme}://127.0.0.1:{api.port}/cursor"
        keys["bootstrap.servers"] = f"127.0.0.1:{broker.port}"
        keys |= {"retry.backoff.ms": "50", "max.retries": "100"}
        config = Path(folder) / "race.properties"
        config.write_text(bench_kafka.lines(keys))
        exact = row.engine.get("exactly.once.support") == "required"
        verdict = Verdict(exact=exact)
        run_until_done(config, dice, verdict)
        verdict.cuts = api.cuts() + broker.cuts()
        compare(field.doors[False], name, row, count, verdict)
    return verdict


def run_until_done(config: Path, dice: random.Random, verdict: Verdict) -> None:
    """Start, kill, start again; SystemExit when it never ends well."""
    command = [sys.executable, "-m", "engine", "run", "--once", "--json", str(config)]
    for _ in range(STARTS):
        verdict.starts += 1
        with tempfile.TemporaryFile() as errors:
            process = psutil.Popen(
                command, cwd=rig.ROOT, stdout=subprocess.DEVNULL, stderr=errors
            )
            # The last starts are left alone, or a slow machine would never end.
            spared = verdict.starts > STARTS // 2
            while True:
                pause = None if spared else 0.5 + dice.expovariate(1 / BETWEEN)
                try:
                    code = process.wait(pause or 300)
                    break
                except psutil.TimeoutExpired:
                    if spared:
                        process.kill()
                        raise SystemExit("no end within 300 s, undisturbed") from None
                verdict.kills += kill_one(process, dice)
            if code == 0:
                return
            errors.seek(0)
            said = errors.read().decode(errors="replace")[-1500:]
        if code > 0 and code not in (69, 75):
            raise SystemExit(f"exit code {code}: {said}")
        time.sleep(0.2)
    raise SystemExit(f"no good end within {STARTS} starts: {said}")


def kill_one(process: psutil.Popen, dice: random.Random) -> int:
    """SIGKILL one process of the engine; 1, or 0 if it was gone."""
    with contextlib.suppress(psutil.Error):
        tree = [process, *process.children(recursive=True)]
        dice.choice(tree).kill()
        return 1
    return 0


def compare(
    bootstrap: str, name: str, row: Contest, count: int, verdict: Verdict
) -> None:
    """Read what is committed of a topic and hold it against all of the pages."""
    from confluent_kafka import (
        OFFSET_BEGINNING,
        Consumer,
        KafkaError,
        KafkaException,
        TopicPartition,
    )

    numbers = range(count * row.per_page)
    wanted = collections.Counter(hash(row.make(at, row.size)) for at in numbers)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": name,
            "log_level": 0,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    parts = consumer.list_topics(name, 30).topics[name].partitions
    places = [TopicPartition(name, at, OFFSET_BEGINNING) for at in parts]
    consumer.assign(places)
    found: collections.Counter[int] = collections.Counter()
    # What is behind an open transaction ends no partition.
    left, end = set(parts), time.monotonic() + 300
    while left and time.monotonic() < end:
        for message in consumer.consume(5000, 1.0):
            error = message.error()
            if error is None:
                found[hash(message.value())] += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard(message.partition())
            else:
                raise KafkaException(error)
    consumer.close()
    if left:
        raise SystemExit(f"partitions {sorted(left)} were not read to their end")
    verdict.records = sum(wanted.values())
    verdict.missing = sum((wanted - found).values())
    verdict.foreign = sum(n for each, n in found.items() if each not in wanted)
    verdict.twice = sum((found - wanted).values()) - verdict.foreign
    verdict.uneven = len({found[each] for each in wanted}) > 1


def main() -> None:
    words = argparse.ArgumentParser(
        prog="perf/run --race",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words.add_argument("--rows", default="", help=", ".join(x.name for x in SHAPES))
    words.add_argument("--records", type=int, default=40_000)
    words.add_argument("--runs", type=int, default=2, help="undisturbed ones")
    words.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    words.add_argument("--quick", action="store_true", help="few records, not kept")
    given = words.parse_args()
    rig.end_cleanly()
    if given.quick:
        given.records, given.runs = min(given.records, 5_000), 1
    names = [name for name in given.rows.split(",") if name]
    rows = [row for row in SHAPES if not names or row.name in names]
    print(f"--seed {given.seed}", file=sys.stderr)
    found: dict[str, dict[str, object]] = {}
    began = time.monotonic()
    with bench_kafka.ready(given.records) as field:
        for row in rows:
            try:
                found[row.name] = told = raced(field, row, given)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - said; others go on
                found[row.name] = told = {"title": row.title, "failed": str(error)}
            print(f"{row.name:12}", *(f"{k} {v}" for k, v in told.items()), flush=True)
    if not (given.quick or names):
        seconds = round(time.monotonic() - began)
        place = rig.ROOT / "perf" / "results" / "race.json"
        document = {
            "machine": rig.machine(),
            "commit": commit(),
            "seed": given.seed,
            "seconds": seconds,
            "rows": found,
        }
        place.write_text(json.dumps(document, indent=1) + "\n")
        readme = rig.ROOT / "perf" / "README.md"
        figure.between(readme, BEGIN, END, table(document))
    raise SystemExit(0 if all(told.get("good") for told in found.values()) else 1)


def raced(
    field: bench_kafka.Field, row: Contest, given: argparse.Namespace
) -> dict[str, object]:
    """What came of one shape, undisturbed and disturbed; blocks for a minute."""
    size = max(row.size, 40)
    many = UNDISTURBED if not given.quick else given.records
    many = min(many, UNDISTURBED_BYTES // size, 5_000 * row.per_page)
    result = bench_kafka.Result(row.name)
    for _ in range(given.runs):
        shape = replace(row, pages=max(3, many // row.per_page))
        bench_kafka.turn(field, shape, result)
    # One record a page is a request for each.
    records = min(given.records, BYTES // size, 2_000 * row.per_page)
    count = max(3, records // row.per_page)
    shape = replace(row, distinct=True, pages=count)
    verdict = disturbed(field, shape, count, given.seed)
    return {
        "title": row.title,
        "good": verdict.good and not result.failed,
        "cpu_share": [round(each, 2) for each in result.share()],
        "times": [round(each, 2) for each in result.speed()],
        **vars(verdict),
        **({"failed": "; ".join(result.failed)} if result.failed else {}),
    }


def table(document: dict[str, Any]) -> str:
    """The table of README.md."""
    machine = document["machine"]
    lines = [
        (
            f"{machine['date']}, commit {document['commit']}, {machine['cores']} cores;"
            f" --seed {document['seed']}; {document['seconds']} s."
        ),
        "",
        (
            "| pages | records | lost, another | twice | killed, starts, cuts"
            " | of the loop's CPU |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for told in document["rows"].values():
        if "records" not in told:
            lines.append(f"| {told['title']} | failed: {told['failed']} | | | | |")
            continue
        lines.append(
            f"| {told['title']} | {told['records']:,} | {told['missing']},"
            f" {told['foreign']} | {told['twice']:,} | {told['kills']},"
            f" {told['starts']}, {told['cuts']} | {spread(told['cpu_share'])} |"
        )
    return "\n".join(lines)


def spread(found: list[float]) -> str:
    """The median, and where there are several the least and the most."""
    if not found:
        return "failed"
    middle = f"{statistics.median(found):.2f}"
    return middle if len(found) < 2 else f"{middle} ({min(found)} to {max(found)})"


if __name__ == "__main__":
    main()
