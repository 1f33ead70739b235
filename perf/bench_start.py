"""
How soon does `--help` answer, and how soon is the first record in Kafka?

    python -m perf.bench_start [--rounds 15]

Wall milliseconds of whole processes, in turn: `--help` against a Python that does
nothing, and from the start of `run` on a broker that is up to the moment in which
another client has the first record, against the hand-written loop (requests,
msgspec.Raw, confluent-kafka) on the same pages.  Asked for: 150 ms and 1.5 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from perf import rig
from perf.bench_kafka import CONFIG

PAGES = 20

#: The command as it was installed, beside the interpreter.
COMMAND = str(Path(sys.executable).with_name("kafka-http-source"))


def wall(command: Sequence[str]) -> float:
    """Milliseconds of a command from its start to its end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=rig.ROOT)
    return (time.perf_counter() - began) * 1e3


def first_record(bootstrap: str, topic: str, command: Sequence[str]) -> float:
    """Milliseconds from a command's start to the first record in a topic."""
    rig.create_topic(bootstrap, topic)
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": topic, "fetch.wait.max.ms": 5}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    # Connected and waiting before the clock starts.
    consumer.poll(1.0)
    began = time.perf_counter()
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
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    took: dict[str, list[float]] = {}

    with (
        rig.apache_kafka() as bootstrap,
        rig.pages(PAGES) as url,
        tempfile.TemporaryDirectory(prefix="khs-bench-") as folder,
    ):

        def engine(turn: int) -> float:
            topic = f"engine-{turn}"
            config = Path(folder) / f"{topic}.properties"
            text = CONFIG.format(
                url=url, topic=topic, bootstrap=bootstrap, folder=folder
            )
            # One state topic, as a user has it: the very first start makes it.
            config.write_text(text.replace(f"{topic}-offsets", "offsets"))
            command = [COMMAND, "run", "--once", str(config)]
            return first_record(bootstrap, topic, command)

        def hand(turn: int) -> float:
            topic = f"hand-{turn}"
            command = [sys.executable, "-m", "perf.baselines.hand_loop"]
            command += [f"{url}/cursor", bootstrap, topic]
            return first_record(bootstrap, topic, command)

        contestants: dict[str, Callable[[int], float]] = {
            "--help": lambda turn: wall([COMMAND, "--help"]),
            "python -c pass": lambda turn: wall([sys.executable, "-c", "pass"]),
            "engine, start to first record": engine,
            "hand loop, start to first record": hand,
        }
        very_first = round(engine(-1), 1)
        for turn in range(given.rounds):
            for name, go in contestants.items():
                took.setdefault(name, []).append(round(go(turn), 1))

    print(f"{'':34} {'ms: min / median / max':>34}")
    for name, values in took.items():
        print(f"{name:34} {rig.spread(values, 0):>34}")
    print(f"the very first start, which makes the state topic: {very_first:,.0f}")
    document = {
        "question": (__doc__ or "").strip().splitlines()[0],
        "machine": rig.machine(),
        "engine_very_first_ms": very_first,
        "ms": took,
        "median_ms": {name: statistics.median(v) for name, v in took.items()},
    }
    if given.rounds >= 10:
        path = rig.ROOT / "perf" / "results" / "start.json"
        path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
