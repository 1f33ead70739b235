"""
What the sender has written, read back by two other clients, through a proxy that cuts.

The proxy stands between it and a real broker, whose advertised address it is: so
every connection can be cut, right after a request has gone through.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from kafka import KafkaConsumer, TopicPartition

from engine.sink.ends import topic_ends
from engine.sink.kafka import Cluster
from engine.sink.produce.producer import NoTopic
from engine.sink.produce.wire import BrokerAddress
from tests.brokers import Apache, Broker
from tests.sink.producing import Putting, putting
from tests.sink.rig import topic_name


class Proxy:
    """
    Passes on, and cuts.

    Attributes:
        cuts: Connections cut so far.
        odds: Of each Produce request to be the last of its connection.
    """

    def __init__(self, address: str, dice: random.Random) -> None:
        host, _, port = address.rpartition(":")
        self.cuts = 0
        self.odds = 0.0
        self._to = host, int(port)
        self._dice = dice
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(self._to)
                for work in (self._requests, self._answers):
                    threading.Thread(target=work, args=(near, far), daemon=True).start()

    def _requests(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError, EOFError):
            while True:
                head = _exactly(near, 4)
                frame = _exactly(near, struct.unpack(">i", head)[0])
                produce = frame[:2] == b"\0\0"
                if produce and self._dice.random() < self.odds:
                    self.cuts += 1
                    # Some arrive whole, some in part, some not at all.
                    share = self._dice.choice([1.0, 1.0, 0.5, 0.0])
                    far.sendall((head + frame)[: int(len(frame) * share) + 4])
                    if share == 1.0:
                        time.sleep(self._dice.choice([0.0, 0.02]))
                    near.shutdown(socket.SHUT_RDWR)
                    break
                far.sendall(head + frame)
        for end in (near, far):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _answers(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := far.recv(65536):
                near.sendall(data)
        for end in (near, far):
            with suppress(OSError):
                end.close()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = connection.recv(size - len(found))
        if not data:
            raise EOFError
        found += data
    return bytes(found)


@contextmanager
def through(proxy: Proxy) -> Iterator[Putting]:
    """A producer for which the proxy is every broker."""
    fast = {"reconnect_backoff": 0.001, "reconnect_backoff_max": 0.02}
    with putting([f"127.0.0.1:{proxy.port}"], cluster=fast) as to:
        yield to


@pytest.fixture
def to_proxy(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the broker advertises is replaced by the port that stands here."""
    from engine.sink.produce import messages

    told, port = messages.told, {"port": 0}

    def behind(answer: object) -> messages.Metadata:
        found = told(answer)
        brokers = {
            id_: BrokerAddress(id_, "127.0.0.1", port["port"]) for id_ in found.brokers
        }
        return messages.Metadata(found.cluster, brokers, found.topics)

    monkeypatch.setattr(messages, "told", behind)
    return port


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kind", "cuts"),
    [("embedded", 200), pytest.param("apache", 60, marks=pytest.mark.kafka)],
)
def test_hundreds_of_cuts_lose_and_repeat_nothing(
    request: pytest.FixtureRequest, to_proxy: dict[str, int], kind: str, cuts: int
) -> None:
    broker: Broker = request.getfixturevalue(kind)
    topic = broker.create(topic_name(), 3)
    proxy = Proxy(broker.address, random.Random(11))
    to_proxy["port"] = proxy.port
    now = time.time_ns() // 1_000_000
    count = 0
    try:
        with through(proxy) as to:
            proxy.odds = 0.3
            while proxy.cuts < cuts:
                for _ in range(20):
                    values = [b"%d-%d" % (count, at) for at in range(5)]
                    to.put(
                        count,
                        *values,
                        topic=topic,
                        partition=count % 3,
                        timestamp=now,
                    )
                    count += 1
                to.wait(max(count - 40, 0), 60.0)
            proxy.odds = 0.0
            assert {None} == set(to.wait(count, 60.0).values())
    finally:
        proxy.close()

    found = [each.value for each in broker.read(topic)]
    wanted = [
        b"%d-%d" % (batch, at)
        for partition in range(3)
        for batch in range(partition, count, 3)
        for at in range(5)
    ]
    assert wanted == found


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_two_other_clients_read_the_same(broker: Broker, codec: str) -> None:
    topic = broker.create(topic_name())
    now = time.time_ns() // 1_000_000
    values = [b"%d " % at + b"x" * (at % 300) for at in range(2000)]
    with putting([broker.address]) as to:
        to.producer.partitions(topic)
        for at in range(20):
            chunk = values[at * 100 : at * 100 + 100]
            to.put(at, *chunk, topic=topic, codec=codec, timestamp=now)
        assert {None} == set(to.wait(20).values())

    assert values == [each.value for each in broker.read(topic)]
    reader = KafkaConsumer(
        bootstrap_servers=[broker.address], auto_offset_reset="earliest"
    )
    try:
        reader.assign([TopicPartition(topic, 0)])
        found: list[bytes] = []
        deadline = time.monotonic() + 30.0
        while len(found) < len(values) and time.monotonic() < deadline:
            for records in reader.poll(timeout_ms=500).values():
                found += [record.value for record in records]
    finally:
        reader.close()
    assert values == found


@pytest.mark.kafka
def test_a_deleted_topic_is_not_made_by_asking_for_it(apache: Apache) -> None:
    """With a broker that makes topics by itself for who lets it."""
    cluster = Cluster(bootstrap=(apache.address,))
    with (
        putting([apache.address]) as to,
        pytest.raises(NoTopic, match="no such topic"),
    ):
        to.producer.partitions("never-made")
    assert {} == topic_ends(cluster, "never-made")
    assert 0 == apache.partitions("never-made")
