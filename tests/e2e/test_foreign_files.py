"""Files of castorm's and Confluent's connectors, run as they are."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from engine.cli.check import as_run_sees
from engine.config import load
from tests.brokers import Broker
from tests.e2e.foreign import FILES, File, Rows, dated, written
from tests.e2e.rig import Running
from tests.fakes.api import Answer, Api, Asked

PATIENCE = 40.0
URL = "https://api.example.com"

#: Warnings that are meant: what has no effect here, what names no secret, and that
#: their records keep the time of the API.
UNDERSTOOD = (
    "no effect here: ",
    "a literal secret in a file",
    "a broker deletes records by this time",
)


@pytest.mark.parametrize("name", FILES)
def test_check_has_nothing_against_a_file(name: str, tmp_path: Path) -> None:
    suffix = "properties" if FILES[name].properties else "json"
    file = tmp_path / f"{name}.{suffix}"
    file.write_text(written(name, URL))
    base = tmp_path / "base.properties"
    base.write_text("bootstrap.servers=127.0.0.1:9092\n")

    loaded = load([base, file])
    findings, refused = as_run_sees(loaded, loaded.findings)

    assert not refused, findings
    bad = [
        finding
        for finding in findings
        if finding.severity != "notice"
        and not any(words in finding.message for words in UNDERSTOOD)
    ]
    assert not bad, bad


class Told:
    """What came of the run: how often each version arrived, by file and part."""

    def __init__(self) -> None:
        self.arrived: dict[str, dict[str, Counter[tuple[int, int]]]] = {}
        self.due: dict[str, dict[str, set[tuple[int, int]]]] = {}
        self.said: dict[str, str] = {}


def _stands(versions: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """The last of each row: what changes twice between two polls is read once."""
    newest: dict[int, int] = {}
    for number, version in versions:
        newest[number] = max(version, newest.get(number, 0))
    return set(newest.items())


def _arrived(broker: Broker) -> dict[str, Counter[tuple[int, int]]]:
    """How often each version stands in each file's topic, by one reader for all."""
    found: dict[str, Counter[tuple[int, int]]] = {name: Counter() for name in FILES}
    consumer = Consumer(
        {
            "bootstrap.servers": broker.address,
            "group.id": "reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        topics = consumer.list_topics(timeout=PATIENCE).topics
        places = [
            TopicPartition(name, number, OFFSET_BEGINNING)
            for name in FILES
            if name in topics
            for number in topics[name].partitions
        ]
        consumer.assign(places)
        # One that gets more meanwhile comes to its end more than once.
        ended: set[tuple[str | None, int | None]] = set()
        deadline = time.monotonic() + PATIENCE
        while len(ended) < len(places) and time.monotonic() < deadline:
            for message in consumer.consume(10_000, 0.1):
                if message.error() is not None:
                    ended.add((message.topic(), message.partition()))
                    continue
                record = json.loads(message.value() or b"null")
                row = record.get("_source", record)
                version = int(row["id"]), row["version"]
                found[str(message.topic())][version] += 1
    finally:
        consumer.close()
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, embedded: Broker) -> Iterator[Told]:
    """All files side by side: polls, a restart, a kill."""
    folder = tmp_path_factory.mktemp("foreign")
    rows = {name: Rows(live=file.live) for name, file in FILES.items()}
    result = Told()
    with Api() as api:
        for name, file in FILES.items():

            def answer(asked: Asked, name: str = name, file: File = file) -> Answer:
                return dated(file.answer(asked, rows[name]))

            api.route(file.path, answer)
        paths = []
        for name, file in FILES.items():
            path = folder / f"{name}.{'properties' if file.properties else 'json'}"
            path.write_text(written(name, api.url))
            paths.append(str(path))
        over = folder / "over.properties"
        over.write_text(
            f"bootstrap.servers={embedded.address}\n"
            f"state.dir={folder / 'state'}\ncache.dir={folder / 'cache'}\n"
            f"runtime.dir={folder / 'run'}\nlisteners=none\n"
            "offsets.storage.topic=offsets-foreign\n"
            "errors.deadletterqueue.topic.replication.factor=1\n"
        )
        command = [sys.executable, "-m", "engine", "run", str(over), *paths]

        def settle(part: str, running: Running) -> None:
            """Wait until all has come, and a little for what should not."""
            deadline = time.monotonic() + PATIENCE
            while True:
                arrived = _arrived(embedded)
                whole = all(_stands(rows[n].versions) <= set(arrived[n]) for n in FILES)
                if whole or time.monotonic() > deadline or running.process.poll():
                    print(
                        "SETTLED",
                        part,
                        [n for n in FILES if not rows[n].versions <= set(arrived[n])],
                    )
                    break
                time.sleep(0.2)
            time.sleep(0.5)
            result.arrived[part] = _arrived(embedded)
            result.due[part] = {n: set(rows[n].versions) for n in FILES}
            result.said[part] = running.err

        def more(first: int, count: int) -> None:
            for name, file in FILES.items():
                rows[name].put(*range(first, first + count))
                if file.changes:
                    rows[name].put(1, first)

        more(1, 23)
        with Running(command, folder) as running:
            settle("first", running)
            more(50, 7)
            settle("polls", running)
            running.end()
        more(70, 4)
        with Running(command, folder) as running:
            settle("restart", running)
            more(90, 12)
            time.sleep(0.15)
            os.killpg(running.pid, signal.SIGKILL)
        more(120, 3)
        with Running(command, folder) as running:
            settle("kill", running)
            running.end()
        yield result


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("part", ["first", "polls", "restart", "kill"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_runs_as_it_is(name: str, part: str, told: Told) -> None:
    """Over polls, a restart and a kill: all comes, and nothing twice but after a kill."""
    arrived, due = told.arrived[part][name], told.due[part][name]
    own = [line for line in told.said[part].splitlines() if name in line][-5:]

    lost = _stands(due) - set(arrived)
    assert not lost, (sorted(lost), own)
    assert set(arrived) <= due
    if part != "kill":
        twice = {version: n for version, n in arrived.items() if n > 1}
        assert not twice, (twice, own)
