"""
What does a record cost from HTTP into Kafka, against the same loop written by hand?

    python -m perf.bench_kafka [--rows a,b] [--runs 5] [--records 300000] [--quick]

nginx, records of 290 bytes, Apache Kafka, acks=all, idempotent, at the settings of
each row (`perf.contests`).  Counted is the CPU of all processes from start to end, less
that of the same contestant on a single page: what records cost, and not what a start
does.  Contestants take turns, each into a topic of its own, whose records are counted.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from confluent_kafka import KafkaException

from perf import rig, serving
from perf.contests import CONTESTS, Contest, Keys

#: At least once, as the loops by hand are; two rows are exactly once.
CONFIG = """\
name=bench
http.source.url={url}/cursor
http.response.data.json.pointer=records
pagination.type=cursor
pagination.cursor.field=next
pagination.max.pages=1000000
kafka.topic={topic}
bootstrap.servers={bootstrap}
offsets.storage.topic={topic}-offsets
exactly.once.support=disabled
state.dir={folder}/state
cache.dir={folder}/cache
runtime.dir={folder}/run
"""

#: Most seconds of one run, on a machine that has other work, too.
PATIENCE = 240.0


@dataclass(frozen=True)
class Cost:
    """
    One run of one contestant, and one of it over a single page: its start.

    Attributes:
        cpu, seconds, start_cpu, start: Of all its processes, from start to end.
        records: That the run had more than the start.
        others: Cores that strangers used meanwhile.
    """

    cpu: float
    seconds: float
    start_cpu: float
    start: float
    records: int
    others: float


@dataclass
class Result:
    """The runs of one row: the engine's, the baseline's, and why one failed."""

    name: str
    ours: list[Cost] = field(default_factory=list)
    baseline: list[Cost] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def share(self) -> list[float]:
        """CPU a record as a share of the baseline's, run by run."""
        ours, theirs = cpu_us(self.ours), cpu_us(self.baseline)
        return [a / b for a, b in zip(ours, theirs, strict=True)]

    def speed(self) -> list[float]:
        """Records/s as a multiple of the baseline's, run by run."""
        ours, theirs = rates(self.ours), rates(self.baseline)
        return [a / b for a, b in zip(ours, theirs, strict=True)]


def cpu_us(costs: Sequence[Cost]) -> list[float]:
    """CPU microseconds a record of each run, less the median of the starts."""
    start = statistics.median(cost.start_cpu for cost in costs)
    return [max(cost.cpu - start, 1e-6) / cost.records * 1e6 for cost in costs]


def rates(costs: Sequence[Cost]) -> list[float]:
    """Records/s of each run, less the median of the starts."""
    start = statistics.median(cost.start for cost in costs)
    # A start that strangers held up may be longer than a whole run.
    return [
        cost.records / max(cost.seconds - start, cost.seconds / 20) for cost in costs
    ]


class Field:
    """
    Where rows are run: a broker with three doors, and nginx for each kind of page.

    Args:
        records: Of a run.

    Attributes:
        doors: The broker's address, and the one with TLS.
        behind: Its address for a proxy, which has to listen at `proxy_port`.
        ca: File of the authority that all certificates are of.
    """

    def __init__(self, records: int, stack: contextlib.ExitStack) -> None:
        self._records = records
        self._stack = stack
        self._folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="khs-bench-"))
        )
        self._authority = trustme.CA()
        self.ca = str(self._folder / "ca.pem")
        self._authority.cert_pem.write_to_path(self.ca)
        serving.certificate(self._folder, self._authority)
        door, self.proxy_port, behind = (serving.free_port() for _ in range(3))
        settings = doors(door, self._folder / "server.pem", behind, self.proxy_port)
        self.behind = f"127.0.0.1:{behind}"
        self.doors = {
            False: stack.enter_context(serving.apache_kafka(**settings)),
            True: f"127.0.0.1:{door}",
        }
        self._served: dict[tuple[object, ...], str] = {}
        self._number = 0

    def pages(self, row: Contest, count: int) -> str:
        """The URL of `count` pages of a row; served until the end."""
        distinct = row.distinct or row.numbered
        kind = (count, row.per_page, row.size, row.packed, distinct, row.make)
        if kind not in self._served:
            self._served[kind] = self._stack.enter_context(
                serving.pages(
                    count,
                    row.per_page,
                    row.size,
                    row.make,
                    distinct=distinct,
                    packed=row.packed,
                    authority=self._authority if row.packed else None,
                )
            )
        return self._served[kind]

    def cost(self, row: Contest, keys: Keys | None) -> Cost:
        """
        Run a row's pages, and one page; blocks for seconds.

        Args:
            keys: Of the engine; None: the loop by hand.

        Raises: Failed, unless every record has arrived, once.
        """
        count = row.pages or max(2, self._records // row.per_page // row.apis)
        whole, records = self._run(row, keys, count)
        begun, few = self._run(row, keys, 1)
        return Cost(
            cpu=whole.cpu,
            seconds=whole.seconds,
            start_cpu=begun.cpu,
            start=begun.seconds,
            records=records - few,
            others=round(whole.others_cores, 2),
        )

    def _run(self, row: Contest, keys: Keys | None, count: int) -> tuple[rig.Run, int]:
        """One run over `count` pages of each api, and the records that arrived."""
        plain = self.doors[False]
        records = count * row.per_page * row.apis
        url = self.pages(row, count)
        with self.topic(row) as name:
            if keys is None:
                done = rig.run(self._by_hand(row, url, name), timeout=PATIENCE)
            else:
                folder = Path(tempfile.mkdtemp(dir=self._folder))
                config = folder / "bench.properties"
                config.write_text(lines(self.keys(row, keys, url, name, folder)))
                command = ["-m", "engine", "run", "--once", "--json", str(config)]
                done = rig.run([sys.executable, *command], timeout=PATIENCE)
            topic = rig.Topic(plain, name)
            arrived = topic.await_count(records)
            if arrived > records:
                # Watermarks count what ends a transaction, too.
                arrived = topic.readable()
            topic.close()
        if done.code or arrived != records:
            who = "loop" if keys is None else "engine"
            raise Failed(
                f"{who}: exit code {done.code}, {arrived} of {records} arrived"
            )
        return done, records

    @contextlib.contextmanager
    def topic(self, row: Contest) -> Iterator[str]:
        """A new topic of a row; it and the one of its positions go at the end."""
        self._number += 1
        name = f"{row.name}-{self._number}-{time.time_ns()}"
        serving.create_topic(self.doors[False], name, row.partitions)
        try:
            yield name
        finally:
            serving.delete_topics(self.doors[False], name, f"{name}-offsets")

    def _by_hand(self, row: Contest, url: str, topic: str) -> list[str]:
        words = [word for k, v in row.loop.items() for word in ("--set", f"{k}={v}")]
        if row.guarded:
            words += ["--set", "security.protocol=SSL"]
            words += ["--set", f"ssl.ca.location={self.ca}"]
        if row.packed:
            words += ["--ca", self.ca]
        if row.numbered:
            words += ["--numbered"]
        urls = ",".join(place(url, row, number + 1) for number in range(row.apis))
        module = ["-m", "perf.baselines.hand_loop"]
        return [sys.executable, *module, *words, urls, self.doors[row.guarded], topic]

    def keys(
        self, row: Contest, keys: Keys, url: str, topic: str, folder: Path
    ) -> dict[str, str]:
        """The whole configuration of a row's engine."""
        door = self.doors[row.guarded]
        text = CONFIG.format(url=url, topic=topic, bootstrap=door, folder=folder)
        found = dict(line.split("=", 1) for line in text.splitlines())
        found["listeners"] = "http://127.0.0.1:0"
        found.update(keys)
        found["http.source.url"] = place(url, row, 1)
        if row.packed:
            found["https.ssl.truststore.location"] = self.ca
        if row.guarded:
            found["security.protocol"] = "SSL"
            found["ssl.truststore.location"] = self.ca
        if row.apis > 1:
            found["apis.num"] = str(row.apis)
            for number in range(1, row.apis + 1):
                found[f"api{number}.api.name"] = f"a{number}"
                found[f"api{number}.http.source.url"] = place(url, row, number)
        return found


def place(url: str, row: Contest, number: int) -> str:
    """Where an api of a row is asked; each of several has a place of its own."""
    if not row.numbered:
        return f"{url}/cursor"
    return f"{url}/list/a{number}" if row.apis > 1 else f"{url}/list"


class Failed(Exception):
    """A run that did not bring its records, in words."""


def doors(port: int, pem: Path, behind: int, proxy: int) -> dict[str, str]:
    """
    What makes `scripts/kafka` listen at two more ports.

    Args:
        port: With TLS, by a certificate and key of a PEM file.
        behind: Of a door that clients are told to be at the port `proxy`.
    """
    both = f"PLAINTEXT://127.0.0.1:${{port}},SSL://127.0.0.1:{port}"
    controller = "CONTROLLER://127.0.0.1:${controller}"
    return {
        "listeners": f"{both},PROXIED://127.0.0.1:{behind},{controller}",
        "advertised_listeners": f"{both},PROXIED://127.0.0.1:{proxy}",
        "listener_security_protocol_map": (
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,SSL:SSL"
        ),
        "inter_broker_listener_name": "PLAINTEXT",
        "ssl_keystore_type": "PEM",
        "ssl_keystore_location": str(pem),
        # Topics of earlier runs are out of the way before the next ones are written.
        "log_segment_delete_delay_ms": "1000",
    }


def lines(keys: Mapping[str, str]) -> str:
    """A properties file; a key without a value is left out."""
    return "".join(f"{key}={value}\n" for key, value in keys.items() if value)


@contextlib.contextmanager
def ready(records: int) -> Iterator[Field]:
    """A field for so many records a run, and its end."""
    with contextlib.ExitStack() as stack:
        yield Field(records, stack)


def turn(field: Field, row: Contest, result: Result) -> None:
    """One run of the engine and one of its baseline; a failure is kept in words."""
    try:
        ours = field.cost(row, row.engine)
        baseline = field.cost(row, row.base)
    except (Failed, OSError, KafkaException, subprocess.SubprocessError) as error:
        result.failed.append(f"{type(error).__name__}: {error}")
        print(f"{row.name}: {result.failed[-1]}", file=sys.stderr, flush=True)
        return
    result.ours.append(ours)
    result.baseline.append(baseline)
    print(
        f"{row.name:18} {cpu_us(result.ours)[-1]:6.2f} us,"
        f" {cpu_us(result.baseline)[-1]:6.2f} us: {result.share()[-1]:.2f} of the CPU,"
        f" {result.speed()[-1]:.2f} x records/s"
        f"  (others {max(ours.others, baseline.others):.1f} cores)",
        file=sys.stderr,
        flush=True,
    )


def chosen(names: str) -> list[Contest]:
    """The rows of a list of names; all of them for an empty one."""
    wanted = [name for name in names.split(",") if name]
    known = {row.name: row for row in CONTESTS}
    for name in wanted:
        if name not in known:
            raise SystemExit(f"no row {name!r}; there are {', '.join(known)}")
    return [known[name] for name in wanted] or list(CONTESTS)


def main() -> None:
    question = (__doc__ or "").strip().splitlines()[0]
    words = argparse.ArgumentParser(description=question)
    words.add_argument("--rows", default="", help="comma separated; default: all")
    words.add_argument("--runs", type=int, default=5)
    words.add_argument("--records", type=int, default=300_000)
    words.add_argument("--quick", action="store_true", help="one short run")
    args = words.parse_args()
    rig.end_cleanly()
    if args.quick:
        args.runs, args.records = 1, 150_000
    rows = chosen(args.rows)
    results = {row.name: Result(row.name) for row in rows}
    with ready(args.records) as field:
        for _ in range(args.runs):
            for row in rows:
                turn(field, row, results[row.name])
    print(f"\n{'':18} {'CPU, share: min / median / max':>32} {'asked':>6}"
          f" {'records/s, multiple':>24} {'us a record':>20}")  # fmt: skip
    for row in rows:
        found = results[row.name]
        if not found.ours:
            print(f"{row.name:18} failed: {found.failed}")
            continue
        costs = (found.ours, found.baseline)
        both = [statistics.median(cpu_us(cost)) for cost in costs]
        print(
            f"{row.name:18} {rig.spread(found.share()):>32} {row.asked or '-':>6}"
            f" {rig.spread(found.speed()):>24} {both[0]:>9.2f} {both[1]:>10.2f}"
        )


if __name__ == "__main__":
    main()
