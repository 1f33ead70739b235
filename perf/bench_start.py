"""
How soon does `--help` answer, and how soon is the first record in Kafka?

    python -m perf.bench_start [--rounds 15]

Wall milliseconds of whole processes, in turn: `--help` against a Python that does
nothing, `check`, and from the start of `run` on a broker that is up to the moment in
which another client has the first record: Apache Kafka and the embedded broker, with the
state topic there and with one that the start makes, against the hand-written loop
(requests, msgspec.Raw, confluent-kafka) on the same pages.  CPU milliseconds of the whole
tree stand beside them: they tell a busy machine from a slow start.  Asked for: 150 ms;
0.6 s first ever, 0.5 s later.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from confluent_kafka import Consumer, TopicPartition

from perf import rig, serving
from perf.bench_kafka import CONFIG
from tests import brokers

PAGES = 20

#: Milliseconds that something took in a turn, and those of the processor.
Contestant: TypeAlias = Callable[[int], tuple[float, float]]

#: The command as it was installed, beside the interpreter.
COMMAND = str(Path(sys.executable).with_name("kafka-http-source"))


def wall(command: Sequence[str]) -> tuple[float, float]:
    """Milliseconds of a command from its start to its end, and of the processor's."""
    spent, began = processor(), time.perf_counter()
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=rig.ROOT,
    )
    return (time.perf_counter() - began) * 1e3, processor() - spent


def processor() -> float:
    """Milliseconds of the processor that children which have ended have had."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1e3


def first_record(
    bootstrap: str, topic: str, command: Sequence[str]
) -> tuple[float, float]:
    """
    Milliseconds from a command's start to the first record in a topic, and of the
    processor's for the whole of the command.
    """
    serving.create_topic(bootstrap, topic)
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": topic, "fetch.wait.max.ms": 5}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    # Connected and waiting before the clock starts.
    consumer.poll(1.0)
    spent, began = processor(), time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=rig.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while True:
        message = consumer.poll(0.05)
        if message is not None and message.error() is None:
            break
        if time.perf_counter() - began > 60:
            raise SystemExit(f"{topic}: no record within 60 s")
    took = (time.perf_counter() - began) * 1e3
    consumer.close()
    process.wait(60)
    return took, processor() - spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    took: dict[str, list[float]] = {}
    spent: dict[str, list[float]] = {}

    with (
        serving.apache_kafka() as apache,
        brokers.embedded_kafka() as embedded,
        serving.pages(PAGES) as url,
        tempfile.TemporaryDirectory(prefix="khs-bench-") as folder,
    ):

        def configured(topic: str, bootstrap: str, offsets: str) -> str:
            config = Path(folder) / f"{topic}.properties"
            text = CONFIG.format(
                url=url, topic=topic, bootstrap=bootstrap, folder=folder
            )
            config.write_text(text.replace(f"{topic}-offsets", offsets))
            return str(config)

        def engine(name: str, bootstrap: str, *, first_ever: bool) -> Contestant:
            def run(turn: int) -> tuple[float, float]:
                topic = f"{name}-{'first' if first_ever else 'later'}-{turn}"
                # One state topic, as a user has it, or one that is not there yet.
                offsets = f"{topic}-offsets" if first_ever else "offsets"
                config = configured(topic, bootstrap, offsets)
                command = [COMMAND, "run", "--once", "--quiet", config]
                return first_record(bootstrap, topic, command)

            return run

        def hand(turn: int) -> tuple[float, float]:
            topic = f"hand-{turn}"
            command = [sys.executable, "-m", "perf.baselines.hand_loop"]
            command += [f"{url}/cursor", apache, topic]
            return first_record(apache, topic, command)

        checked = configured("checked", apache, "offsets")
        contestants: dict[str, Contestant] = {
            "python -c pass": lambda turn: wall([sys.executable, "-c", "pass"]),
            "--version": lambda turn: wall([COMMAND, "--version"]),
            "--help": lambda turn: wall([COMMAND, "--help"]),
            "check": lambda turn: wall([COMMAND, "check", checked]),
            "hand loop, first record": hand,
            "Apache Kafka, first ever": engine("apache", apache, first_ever=True),
            "Apache Kafka, later": engine("apache", apache, first_ever=False),
            "embedded, first ever": engine(
                "embedded", embedded.address, first_ever=True
            ),
            "embedded, later": engine("embedded", embedded.address, first_ever=False),
        }
        # The state topic that a later start finds; it is not counted.
        for name in ("Apache Kafka, later", "embedded, later"):
            contestants[name](-1)
        for turn in range(given.rounds):
            for name, go in contestants.items():
                ms, cpu = go(turn)
                took.setdefault(name, []).append(round(ms, 1))
                spent.setdefault(name, []).append(round(cpu, 1))

    print(f"{'':28} {'ms: min / median / max':>30} {'CPU ms':>24}")
    for name, values in took.items():
        print(f"{name:28} {rig.spread(values, 0):>30} {rig.spread(spent[name], 0):>24}")
    document = {
        "question": (__doc__ or "").strip().splitlines()[0],
        "machine": rig.machine(),
        "ms": took,
        "cpu_ms": spent,
        "median_ms": {name: statistics.median(v) for name, v in took.items()},
        "median_cpu_ms": {name: statistics.median(v) for name, v in spent.items()},
    }
    if given.rounds >= 10:
        path = rig.ROOT / "perf" / "results" / "start.json"
        path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
