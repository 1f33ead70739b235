"""
Kafka Connect's own worker and ours get the same calls, and answer alike.

For each call: the same status, the same headers that a client reads, the same fields with
the same types, and the same words where a client could know them.  What may differ stands in
`connect_differences`, each with its reason; one that nothing needs any more fails, too.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.contracts import connect_worker, consoles
from tests.contracts.connect_calls import CALLS, Call, Side, put_all
from tests.contracts.connect_differences import DIFFERENCES, USED, differences
from tests.contracts.connect_worker import Told
from tests.e2e.test_connectors import Service, news
from tests.fakes.api import Answer, Api, Asked

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture(scope="module")
def sides(
    apache: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Side, Side]]:
    folders = tmp_path_factory.mktemp("worker"), tmp_path_factory.mktemp("ours")
    with both(apache, *folders) as found:
        yield found


@contextlib.contextmanager
def both(apache: Broker, folder: Path, own: Path) -> Iterator[tuple[Side, Side]]:
    """Connect's worker and ours on one broker."""
    file = folder / "lines"
    file.write_text("one\ntwo\n")
    topic = apache.create(f"lines-{folder.name}")
    lines = {
        "connector.class": "FileStreamSource",
        "tasks.max": "1",
        "file": str(file),
        "topic": topic,
    }
    full = "org.apache.kafka.connect.file.FileStreamSourceConnector"
    with Api() as api, connect_worker.worker(folder, apache.address) as url:
        api.route("/x-t", news)
        api.route("/denied", denied)

        def failures() -> int:
            return sum(each.path == "/denied" for each in api.log)

        service = Service(own, apache, api)
        keys = {
            **service.keys(f"x-t-{folder.name}"),
            "http.source.url": f"{api.url}/x-t",
        }
        keys["tasks.max"] = "1"
        our = "io.confluent.connect.http.HttpSourceConnector"
        with service.running():
            theirs = Side(
                url,
                lines,
                {**lines, "topic": "no topic!"},
                "topic",
                full,
                {"position": "x"},
                {
                    url: "<url>",
                    full: "<class>",
                    "FileStreamSourceConnector": "<class>",
                    "FileStreamSource": "<class>",
                    "topic": "<required>",
                },
                # What has failed there stays so.
                lambda: 2,
            )
            ours = Side(
                service.admin.url,
                keys,
                {**keys, "http.source.url": f"{api.url}/denied"},
                "kafka.topic",
                our,
                {"poll": "x"},
                {
                    service.admin.url: "<url>",
                    our: "<class>",
                    "HttpSourceConnector": "<class>",
                    "HttpSource": "<class>",
                    "kafka.topic": "<required>",
                },
                failures,
            )
            yield theirs, ours


def denied(asked: Asked) -> Answer:
    return 401, [], b"{}"


@pytest.fixture(scope="module")
def answers(sides: tuple[Side, Side]) -> tuple[dict[str, Told], dict[str, Told]]:
    """What each said to each call."""
    told: tuple[dict[str, Told], dict[str, Told]] = {}, {}
    failed: list[BaseException] = []

    def run(side: Side, into: dict[str, Told]) -> None:
        try:
            put_all(side, into)
        except BaseException as failure:  # noqa: BLE001 - shown below
            failed.append(failure)

    threads = [
        threading.Thread(target=run, args=pair)
        for pair in zip(sides, told, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return told


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_a_call_is_answered_as_connect_answers_it(
    sides: tuple[Side, Side],
    answers: tuple[dict[str, Told], dict[str, Told]],
    call: Call,
) -> None:
    theirs, ours = (each[call.name] for each in answers)

    assert [] == differences(call, theirs, ours, sides), (theirs, ours)


def test_no_difference_is_allowed_for_nothing(
    sides: tuple[Side, Side], answers: tuple[dict[str, Told], dict[str, Told]]
) -> None:
    USED.clear()
    for call in CALLS:
        theirs, ours = (each[call.name] for each in answers)
        differences(call, theirs, ours, sides)

    unused = [each.why for each in DIFFERENCES if each not in USED and not each.seldom]
    assert [] == unused


@pytest.mark.parametrize("side", [0, 1], ids=["Connect", "here"])
def test_clients_read_every_answer(
    answers: tuple[dict[str, Told], dict[str, Told]], side: int
) -> None:
    """Connect's own answers show that what is written down of the clients is right."""
    read = set()
    for call in CALLS:
        method, path = call.line
        told = answers[side][call.name]
        if method == "HEAD" or call.headers:
            continue
        line = f"{method} {path}"
        assert [] == list(consoles.findings(line, told.status, told.body))
        found = consoles.read_of(line)
        if told.status < 300 and found is not None:
            read.add(found)
    assert [] == [each.call for each in consoles.READS if each not in read]
