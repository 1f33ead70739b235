"""
Brokers for tests: the embedded one and Apache Kafka, and a second client's eyes.

Readers use confluent-kafka, so that nothing of ours judges what we wrote.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from engine.supervisor.broker import find

SCRIPT = Path(__file__).parents[2] / "scripts" / "kafka"

#: What a broker that lives for a minute does not earn back: the better compiler.
JAVA = os.environ.get("KAFKA_HEAP_OPTS", "-Xms128m -Xmx512m -XX:TieredStopAtLevel=1")

#: Seconds anything of a broker may take on a busy machine.
PATIENCE = 60.0


class Seen(NamedTuple):
    """A record as another client sees it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp: int


class Broker:
    """
    A broker that tests may ask, fill, stop and start.

    Attributes:
        lag: Seconds in which a record that was acknowledged may not be seen yet.
    """

    def __init__(self, address: str, lag: float = 0.0) -> None:
        self.address = address
        self.lag = lag

    def create(self, name: str, partitions: int = 1, **settings: str) -> str:
        """
        Create a topic; `_` in a setting's name stands for a dot.

        Records stay: those of tests may be older than a broker keeps them.
        """
        config = {key.replace("_", "."): value for key, value in settings.items()}
        config.setdefault("retention.ms", "-1")
        topic = NewTopic(name, partitions, 1, config=config)
        admin = AdminClient({"bootstrap.servers": self.address})
        [made] = admin.create_topics([topic], operation_timeout=PATIENCE).values()
        made.result(PATIENCE)
        return name

    def settings(self, name: str) -> Mapping[str, str]:
        """A topic's settings."""
        admin = AdminClient({"bootstrap.servers": self.address})
        resource = ConfigResource(ResourceType.TOPIC, name)
        [found] = admin.describe_configs([resource]).values()
        return {key: entry.value for key, entry in found.result(PATIENCE).items()}

    def partitions(self, name: str) -> int:
        """How many partitions a topic has; 0 for none such."""
        admin = AdminClient({"bootstrap.servers": self.address})
        found = admin.list_topics(timeout=PATIENCE).topics.get(name)
        return len(found.partitions) if found is not None else 0

    def led(self, name: str) -> str:
        """Wait until each of a topic's partitions has a leader that answers for it."""
        settings = {"bootstrap.servers": self.address, "group.id": "reader"}
        consumer = Consumer(settings)
        deadline = time.monotonic() + PATIENCE
        try:
            for at in range(self.partitions(name)):
                while True:
                    with contextlib.suppress(KafkaException):
                        consumer.get_watermark_offsets(TopicPartition(name, at), 1.0)
                        break
                    assert time.monotonic() < deadline, f"{name}-{at} has no leader"
        finally:
            consumer.close()
        return name

    def delete(self, name: str) -> None:
        admin = AdminClient({"bootstrap.servers": self.address})
        [done] = admin.delete_topics([name], operation_timeout=PATIENCE).values()
        done.result(PATIENCE)

    def read(self, name: str, isolation: str = "read_committed") -> list[Seen]:
        """All records of a topic up to its end, by partition and offset."""
        with Reading(self, name, isolation) as reading:
            found = reading.take()
            while self.lag:
                # Nothing is fetched meanwhile: the embedded broker answers who waits at
                # the end of a topic at once, again and again, and both would need a
                # processor for it.
                time.sleep(self.lag)
                reading.begin_anew()
                before, found = len(found), reading.take()
                if len(found) == before:
                    break
            return sorted(found, key=lambda each: each[:2])


class Reading:
    """A topic that is read on from time to time; a context that closes it."""

    def __init__(self, broker: Broker, name: str, isolation: str = "read_committed"):
        self._name = name
        self._consumer = Consumer(
            {
                "bootstrap.servers": broker.address,
                "group.id": "reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": isolation,
                "auto.offset.reset": "error",
                "check.crcs": True,
            }
        )
        self._next: dict[int, int] = {}

    def take(self) -> list[Seen]:
        """
        What came since the last take, each partition's records in order.

        Raises: KafkaException; begin anew then.  Blocks: until the end of the topic.
        """
        if not self._next:
            topic = self._consumer.list_topics(self._name, PATIENCE).topics[self._name]
            self._next = dict.fromkeys(range(len(topic.partitions)), OFFSET_BEGINNING)
        found: list[Seen] = []
        deadline = time.monotonic() + PATIENCE
        consumer, due = self._consumer, set(self._next)
        consumer.assign([TopicPartition(self._name, *at) for at in self._next.items()])
        while due:
            assert time.monotonic() < deadline, f"no end of {self._name}"
            for message in consumer.consume(1000, 0.01):
                error, partition = message.error(), message.partition()
                if error is None:
                    self._next[partition] = message.offset() + 1
                    found.append(
                        Seen(
                            partition,
                            message.offset(),
                            message.key(),
                            message.value(),
                            message.headers() or [],
                            message.timestamp()[1],
                        )
                    )
                elif error.name() == "_PARTITION_EOF":
                    # One that gets more meanwhile comes to its end more than once.
                    self._next[partition] = message.offset()
                    due.discard(partition)
                else:
                    raise KafkaException(error)
        consumer.unassign()
        return found

    def begin_anew(self) -> None:
        """Take all of it once more."""
        self._next = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


class Apache(Broker):
    """Apache Kafka in a directory of its own."""

    def __init__(self, directory: Path, *extra: str) -> None:
        self.directory = directory
        super().__init__(self._run("start", *extra))

    def start(self) -> None:
        assert self.address == self._run("start")

    def stop(self) -> None:
        self._run("stop")

    def kill(self) -> None:
        self._run("kill")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped by SIGSTOP inside."""
        pid = int((self.directory / "pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def _run(self, verb: str, *extra: str) -> str:
        command = [sys.executable, str(SCRIPT), verb, "--dir", str(self.directory)]
        done = subprocess.run(
            [*command, *extra],
            check=False,
            stdout=subprocess.PIPE,
            text=True,
            timeout=180,
            env={**os.environ, "KAFKA_HEAP_OPTS": JAVA},
        )
        assert done.returncode == 0, f"scripts/kafka {verb} failed"
        return done.stdout.strip()


@contextlib.contextmanager
def apache_kafka(*extra: str) -> Iterator[Apache]:
    """An Apache Kafka of its own for a test that stops or freezes it."""
    directory = Path(tempfile.mkdtemp(prefix="kafka-"))
    broker = Apache(directory, *extra)
    try:
        yield broker
    finally:
        broker.kill()
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def embedded_kafka() -> Iterator[Broker]:
    """The embedded broker, in the foreground of a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    directory = tempfile.mkdtemp(prefix="noida-")
    # Not the package's command: what that starts would outlive it.
    command = [str(find()), "start"]
    command += ["--only", "kafka", "--kafka-port", str(port), "--data-dir", directory]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        broker = Broker(f"127.0.0.1:{port}", lag=0.5)
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(KafkaException):
                AdminClient({"bootstrap.servers": broker.address}).list_topics(
                    timeout=1.0
                )
                break
            assert child.poll() is None, "the embedded broker has ended"
            assert time.monotonic() < deadline, "the embedded broker does not answer"
        yield broker
    finally:
        child.terminate()
        child.wait(10)
        shutil.rmtree(directory, ignore_errors=True)


def has_java() -> bool:
    """Whether Apache Kafka can be started here."""
    return all(shutil.which(name) for name in ("java", "mvn"))
