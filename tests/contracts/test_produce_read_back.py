"""
Every form of record that the sender writes, read back by librdkafka and the Java client.

Each codec with and without idempotence, from and to brokers of three ages: what is
Apache Kafka now, one of the line before, and one that still needs ZooKeeper.
"""

from __future__ import annotations

import base64
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.sink.batch import Batch, HeadStore
from engine.sink.columns import Column, column_of
from engine.sink.compress import packing
from tests.brokers import Apache, Broker, Seen, apache_kafka, has_java
from tests.e2e.rig import Setup
from tests.fakes.api import Api
from tests.needs import need
from tests.sink.producing import Receipt, putting
from tests.sink.rig import topic_name

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

#: The version whose Java client reads, that of `scripts/kafka`.
CLIENT = "4.3.1"

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

PARTITIONS = 2

#: The timestamps' base: late enough that no broker takes a record for expired.
NOW = time.time_ns() // 1_000_000

#: Headers as the sender takes them; a name may come twice, a value may be missing.
HEADERS = (("a", b"1"), ("é", b""), ("a", None), ("long", b"h" * 300))

Wanted = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]

#: Each way a column can be: its arguments for `column_of`.
COLUMNS = {
    "short values": {"values": [b"%d" % at for at in range(300)]},
    "one record": {"values": [b"{}"]},
    "empty and missing values": {"values": [b"", None, b"x", None, b""]},
    "only tombstones": {"values": [None] * 3, "keys": [b"a", b"b", b"c"]},
    "keys": {"values": [b"v"] * 60, "keys": [b"k%d" % at for at in range(60)]},
    "empty and missing keys": {"values": [b"v"] * 3, "keys": [None, b"", b"k"]},
    "headers of all": {"values": [b"v"] * 70, "headers": HEADERS},
    "headers of each": {
        "values": [b"v", None, b"w"],
        "keys": [b"k", b"l", None],
        "headers": [HEADERS, (), (("b", b"\0\xff"),)],
    },
    "a timestamp of each": {
        "values": [b"v"] * 5,
        "timestamps": [NOW, NOW - 86_400_000, NOW + 60_000, NOW, NOW - 1],
    },
    "long values": {"values": [bytes([at]) * (1 << at) for at in range(16)]},
    "bytes that do not shrink": {"values": [os.urandom(5_000) for _ in range(4)]},
    "all at once": {
        "values": [b"x" * 70_000, None, b""],
        "keys": [b"k" * 2_000, b"", None],
        "headers": [HEADERS, HEADERS[:1], ()],
        "timestamps": [NOW + 5, NOW, NOW - 5],
    },
}


def columns() -> Iterator[tuple[Column, list[Wanted]]]:
    """Each column with the records that are in it."""
    for named in COLUMNS.values():
        given = {"timestamps": NOW, **named}
        values = given["values"]
        count = len(values)
        keys = given.get("keys") or [None] * count
        stamps = given["timestamps"]
        headers = given.get("headers", ())
        if isinstance(stamps, int):
            stamps = [stamps] * count
        sets = headers if isinstance(headers, list) else [headers] * count
        wanted = [
            (stamp, key, value, list(one))
            for stamp, key, value, one in zip(stamps, keys, values, sets, strict=True)
        ]
        yield column_of(**given), wanted


def write(broker: Broker, codec: str, idempotent: bool) -> tuple[str, list[Wanted]]:
    """
    All columns into a topic, in batches of one, two, ... columns, by partition.

    Returns: the topic, and its records by partition and offset.
    """
    # Without idempotence what a new leader refuses is sent again behind the others.
    topic = broker.led(broker.create(topic_name(), PARTITIONS))
    wanted: list[list[Wanted]] = [[] for _ in range(PARTITIONS)]
    acks = "all" if idempotent else "1"
    with putting([broker.address], idempotent=idempotent, acks=acks) as to:
        assert PARTITIONS == to.producer.partitions(topic)
        queue = list(columns()) + list(columns())
        number = 0
        while queue:
            partition = number % PARTITIONS
            batch = Batch(HeadStore())
            for column, records in queue[: 1 + number % 4]:
                batch.append(column)
                wanted[partition] += records
            queue = queue[1 + number % 4 :]
            receipt = Receipt(to.answers, number)
            pack = packing(codec)
            to.producer.put(topic, partition, batch, pack, receipt, full=True)
            number += 1
        assert {None} == set(to.wait(number, 60.0).values())
        assert not to.answers.bad
    return topic, list(itertools.chain(*wanted))


def seen(records: list[Seen]) -> list[Wanted]:
    return [
        (each.timestamp, each.key, each.value, list(each.headers)) for each in records
    ]


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that reads topics with the Java client."""
    for tool in ("java", "javac", "mvn"):
        need(shutil.which(tool), tool)
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    place = Path(root, "kafka-http-source", f"kafka-{CLIENT}")
    need((place / "complete").exists(), f"kafka-clients {CLIENT}")
    classes = tmp_path_factory.mktemp("classes")
    source = Path(__file__).with_name("ReadBack.java")
    path = f"{place}/*"
    subprocess.run(["javac", "-cp", path, "-d", str(classes), str(source)], check=True)
    options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    return ["java", *options, "-cp", f"{path}:{classes}", "ReadBack"]


def by_java(java: list[str], broker: Broker, *topics: str) -> dict[str, list[Wanted]]:
    """The records of topics by partition and offset, as the Java client reads them."""
    done = subprocess.run(
        [*java, broker.address, *topics], capture_output=True, check=False, timeout=180
    )
    assert 0 == done.returncode, done.stderr.decode()[-2000:]
    found: dict[str, list[tuple[int, int, Wanted]]] = {}
    for line in done.stdout.decode().splitlines():
        topic, partition, offset, stamp, key, value, *headers = line.split(" ")
        pairs = [header.split("=.", 1) if "=." in header else (header[:-2], None)
                 for header in headers]  # fmt: skip
        names = [
            ((raw(name) or b"").decode(), raw("." + text if text is not None else "-"))
            for name, text in pairs
        ]
        record = (int(stamp), raw(key), raw(value), names)
        found.setdefault(topic, []).append((int(partition), int(offset), record))
    return {
        topic: [record for *_, record in sorted(records, key=lambda each: each[:2])]
        for topic, records in found.items()
    }


def raw(text: str) -> bytes | None:
    return None if text == "-" else base64.b64decode(text[1:])


def read_back(broker: Broker, java: list[str]) -> None:
    """Write each codec with and without idempotence; both clients see the same."""
    kinds = list(itertools.product(CODECS, (True, False)))
    wanted = dict(write(broker, *kind) for kind in kinds)
    found = by_java(java, broker, *wanted)
    for kind, (topic, records) in zip(kinds, wanted.items(), strict=True):
        assert records == seen(broker.read(topic)), f"librdkafka, {kind}"
        assert records == found[topic], f"Java, {kind}"


def test_todays_kafka(apache: Broker, java: list[str]) -> None:
    read_back(apache, java)


class TestOlder:
    """The same, and a whole run, against brokers of two ages before."""

    @pytest.fixture(scope="class", params=["2.8.2", "3.5.1"])
    def older(self, request: pytest.FixtureRequest) -> Iterator[Apache]:
        need(has_java(), "Java or Maven")
        with apache_kafka("--version", request.param) as found:
            yield found

    def test_the_same_records(self, older: Apache, java: list[str]) -> None:
        read_back(older, java)

    def test_a_run_and_the_next(self, older: Apache, tmp_path: Path) -> None:
        """Topics are made, the state is stored and found again."""
        with Api(pages=3, records=20) as api:
            keys = {"pagination.type": "page", "pagination.limit.value": 20}
            setup = Setup(tmp_path, f"{api.url}/page/0", older, keys)
            first, second = setup.once(), setup.once()
            offsets = setup.call("offsets", "get", "--json")

            assert (0, 0) == (first.code, second.code), first.err + second.err
            assert api.all_records() == setup.values()
            assert 60 == first.total["produced"]
            assert 0 == second.total["produced"]
            assert 1 == len(offsets.document["offsets"])
