"""Rows K3, K4: three brokers on one machine, of which one or two go away."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from tests.brokers import PATIENCE, Apache, Broker
from tests.e2e.rig import until
from tests.faults.field import Field, Run
from tests.faults.proxy import Proxy
from tests.faults.rows import row
from tests.faults.verdict import Verdict, look

#: Lines of each broker's server.properties.
LINES = {
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "broker.session.timeout.ms": "3000",
    "replica.lag.time.max.ms": "3000",
}


class Replicated(Broker):
    """Three brokers; each topic lies on all of them."""

    def create(self, name: str, partitions: int = 1, **settings: str) -> str:
        config = {key.replace("_", "."): value for key, value in settings.items()}
        topic = NewTopic(name, partitions, 3, config=config)
        admin = AdminClient({"bootstrap.servers": self.address})
        [made] = admin.create_topics([topic], operation_timeout=PATIENCE).values()
        made.result(PATIENCE)
        return name


class Three(Field):
    """
    Three brokers without proxies.

    Attributes:
        nodes: By id; 1 is the controller, too, and has to live.
    """

    def __init__(self, nodes: dict[int, Apache], proxy: Proxy) -> None:
        super().__init__(nodes[1], 0, proxy)
        self.nodes = nodes
        self.direct = Replicated(",".join(each.address for each in nodes.values()))

    @property
    def address(self) -> str:
        return self.direct.address

    def led(self, topic: str) -> set[int]:
        """Leaders of a topic's partitions."""
        admin = AdminClient({"bootstrap.servers": self.address})
        found = admin.list_topics(topic, timeout=PATIENCE).topics[topic]
        return {each.leader for each in found.partitions.values()}

    def whole(self, topic: str) -> bool:
        """Whether all replicas of a topic are in sync."""
        admin = AdminClient({"bootstrap.servers": self.address})
        found = admin.list_topics(topic, timeout=PATIENCE).topics[topic]
        return all(len(each.isrs) == 3 for each in found.partitions.values())


@contextlib.contextmanager
def three() -> Iterator[Three]:
    """Node 1 is broker and controller, 2 and 3 are brokers."""
    root = Path(tempfile.mkdtemp(prefix="three-"))
    proxy = Proxy()
    nodes: dict[int, Apache] = {}
    shared = [word for k, v in LINES.items() for word in ("--set", f"{k}={v}")]
    try:
        nodes[1] = Apache(root / "1", *shared)
        config = (root / "1" / "server.properties").read_text()
        voters = re.search(r"^controller.quorum.voters=.*$", config, re.MULTILINE)
        meta = (root / "1" / "data" / "meta.properties").read_text()
        cluster = re.search(r"^cluster.id=(.*)$", meta, re.MULTILINE)
        assert voters is not None and cluster is not None
        for node in (2, 3):
            nodes[node] = Apache(
                root / str(node),
                *shared,
                *("--cluster-id", cluster[1]),
                *("--set", f"node.id={node}"),
                *("--set", "process.roles=broker"),
                *("--set", voters[0]),
                *("--set", "listeners=PLAINTEXT://127.0.0.1:${port}"),
            )
        found = Three(nodes, proxy)

        def ready() -> bool:
            admin = AdminClient({"bootstrap.servers": found.address})
            return len(admin.list_topics(timeout=PATIENCE).brokers) == 3

        until(ready, "three brokers", 90)
        yield found
    finally:
        proxy.close()
        for each in nodes.values():
            each.kill()
        shutil.rmtree(root, ignore_errors=True)


def judged(folder: Path, mode: str, deed: str) -> Verdict:
    from tests.faults.matrix import end

    with three() as field, Run(field, folder, mode) as run:
        run.start()
        run.underway()
        if mode == "exactly once":
            run.rewinds += 8 * run.sources
        {"leaders": leaders, "replicas": replicas}[deed](run, field)
        return end(run)


@row(
    "K3",
    "three brokers: SIGKILL of two in turn, leaders and coordinators move",
    loaded=False,
    needs="three",
)
def killed_leaders(folder: Path, mode: str) -> Verdict:
    return judged(folder, mode, "leaders")


def _without(field: Three, topic: str, node: int) -> Callable[[], bool]:
    return lambda: node not in field.led(topic)


def leaders(run: Run, field: Three) -> None:
    for node in (2, 3):
        field.nodes[node].kill()
        until(_without(field, run.topic, node), "others lead", 60)
        run.underway(2)
        field.nodes[node].start()
        until(lambda: field.whole(run.topic), "replicas are in sync", 90)
        look(run)


@row(
    "K4",
    "three brokers: fewer than min.insync.replicas for 15 s",
    loaded=False,
    needs="three",
)
def too_few(folder: Path, mode: str) -> Verdict:
    return judged(folder, mode, "replicas")


def replicas(run: Run, field: Three) -> None:
    for node in (2, 3):
        field.nodes[node].kill()
    time.sleep(15.0)
    assert run.engine.process.poll() is None
    for node in (2, 3):
        field.nodes[node].start()
