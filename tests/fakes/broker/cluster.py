"""
A cluster of Kafka brokers in memory that does what a test tells it.

Speaks the protocol by kafka-python's message classes, which are not what the sender
encodes Produce requests with; keeps logs, transactions and groups as brokers do, and
answers with errors, late, torn, garbled or not at all where a test says so.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka.protocol.metadata import ApiVersionsResponse

from tests.fakes.broker.groups import Groups
from tests.fakes.broker.log import Batch, Log
from tests.fakes.broker.producing import Producing, Verdict
from tests.fakes.broker.reading import Reading
from tests.fakes.broker.script import (
    Deed,
    Garbled,
    Late,
    Line,
    Lost,
    Refuse,
    Say,
    Script,
    Torn,
)
from tests.fakes.broker.spoken import REQUESTS, SPOKEN, TRANSACTION_VERSION
from tests.fakes.broker.topics import Topics
from tests.fakes.broker.transactions import Transactions


class Cluster:
    """
    Brokers 1 to `nodes`, each on a port of its own.

    Attributes:
        logs: What lies in each (topic, partition).
        arrived: Batches in the order of their arrival, refused ones included.
        judge: Asked for each batch.
        leaders: Node by (topic, partition); -1 for none.
        topics: Partitions by name.
        coordinators: Node by group or transactional id; 1 where none is named.
        silent: Nodes that do not answer.
        throttle_ms: In each answer to Produce.
        alter: Told of each answer before it is sent, and may change it.
        largest: Bytes of the largest batch that is taken.
        tls: The context of its listeners; None: they speak none.
        transaction_version: The cluster's level of that feature (KIP-890).
        isolates: False: who reads committed records is shown all, as by a broker that
            knows transactions by name only.
        asked_to_create: How many Metadata requests would have made a topic.
        seen: (node, api key, version) of each request.
        heard: (kind, request) of each request, in order of arrival.
        wrong: What it failed at itself; `cluster` raises the first at its end.
    """

    def __init__(
        self,
        nodes: int = 1,
        version: str = "4.3",
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.version = version
        self.tls = tls
        self.transaction_version = TRANSACTION_VERSION.get(version, 0)
        self.logs: dict[tuple[str, int], Log] = {}
        self.arrived: list[Batch] = []
        self.requests: list[list[Batch]] = []
        self.judge: Callable[[Batch], Verdict] = lambda batch: None
        self.leaders: dict[tuple[str, int], int] = {}
        self.topics: dict[str, int] = {}
        self.configs: dict[str, dict[str, str]] = {}
        self.ids: dict[str, uuid.UUID] = {}
        self.coordinators: dict[str, int] = {}
        self.silent: set[int] = set()
        self.reply: Callable[[int, Any, bytes], bytes | None] | None = None
        self.alter: Callable[[int, Any, Any], None] = lambda node, request, answer: None
        self.throttle_ms = 0
        self.largest = 1 << 30
        self.isolates = True
        self.seen: list[tuple[int, int, int]] = []
        self.heard: list[tuple[str, Any]] = []
        self.wrong: list[Exception] = []
        self.asked_to_create = 0
        self.logins: list[bytes] = []
        self.session_ms = 0
        self.login_error = 0
        self.hints: dict[tuple[str, int], tuple[int, int]] = {}
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.host = host
        self.transactions = Transactions(self)
        self.groups = Groups(self)
        self._script = Script()
        self._verbs = verbs(
            Topics(self), Producing(self), Reading(self), self.transactions, self.groups
        )
        self._stopping = False
        self._servers: dict[int, socket.socket] = {}
        self._connections: dict[int, list[socket.socket]] = defaultdict(list)
        self.ports: dict[int, int] = {}
        for node in range(1, nodes + 1):
            self.start(node)

    # -- what tests do --------------------------------------------------------------

    def start(self, node: int) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        server = socket.socket(family)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((self.host, self.ports.get(node, 0)))
        server.listen()
        self.ports[node] = server.getsockname()[1]
        self._servers[node] = server
        threading.Thread(target=self._accept, args=(node, server), daemon=True).start()

    def stop(self, node: int) -> None:
        """A broker goes away: its port refuses."""
        server = self._servers.pop(node)
        # Closing alone does not wake who waits in accept.
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        self.cut(node)

    def cut(self, node: int) -> None:
        for connection in self._connections.pop(node, []):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self._stopping = True
        for node in list(self._servers):
            self.stop(node)

    def script(
        self,
        kind: Any,
        deed: Deed,
        times: int = 1,
        when: Callable[[Any], bool] = lambda request: True,
    ) -> Line:
        """Do so to the next `times` requests of a kind that `when` is true for."""
        return self._script.add(kind, deed, times, when)

    def unscript(self) -> None:
        """As usual from now on."""
        self._script.clear()

    @property
    def bootstrap(self) -> tuple[str, ...]:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return tuple(f"{host}:{port}" for port in self.ports.values())

    @property
    def log(self) -> dict[tuple[str, int], list[Any]]:
        """Values that were written, by (topic, partition), of aborted ones, too."""
        with self.lock:
            found: dict[tuple[str, int], list[Any]] = defaultdict(list)
            for place, log in self.logs.items():
                for batch in log.batches:
                    if not batch.control:
                        found[place] += batch.values
            return found

    def committed(self, topic: str, partition: int = 0) -> list[Any]:
        """Values that a read_committed reader is shown."""
        with self.lock:
            log = self.logs[topic, partition]
            return [
                value
                for batch in log.batches
                if not batch.control and batch.base < log.stable
                if not any(
                    each.producer == batch.producer
                    and each.first <= batch.base <= each.last
                    for each in log.aborted
                )
                for value in batch.values
            ]

    def create(
        self, name: str, partitions: int = 1, leader: int = 1, **config: str
    ) -> str:
        with self.lock:
            self.topics[name] = partitions
            self.ids[name] = uuid.uuid4()
            self.configs[name] = config
            for at in range(partitions):
                self.leaders[name, at] = leader
                self.logs[name, at] = Log(name, at)
        return name

    def delete(self, name: str) -> None:
        with self.lock:
            del self.topics[name], self.ids[name], self.configs[name]
            for place in [each for each in self.leaders if each[0] == name]:
                del self.leaders[place], self.logs[place]

    def astray(self, node: int, key: str) -> int:
        """NOT_COORDINATOR where another node has this group or transactional id."""
        return 0 if self.coordinators.get(key, 1) == node else 16

    # -- connections ----------------------------------------------------------------

    def _accept(self, node: int, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is None:
                self._connections[node].append(connection)
            threading.Thread(
                target=self._serve, args=(node, connection), daemon=True
            ).start()

    def _serve(self, node: int, connection: socket.socket) -> None:
        try:
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
                self._connections[node].append(connection)
            while True:
                size = struct.unpack(">i", _exactly(connection, 4))[0]
                frame = _exactly(connection, size)
                answer = self._answer(node, frame)
                while node in self.silent and not self._stopping:
                    time.sleep(0.01)
                if answer is None:
                    continue
                share, data = answer
                data = struct.pack(">i", len(data)) + data
                connection.sendall(data[: int(len(data) * share)])
                if share < 1.0:
                    return
        except (OSError, EOFError):
            pass
        except Exception as wrong:  # noqa: BLE001
            self.wrong.append(wrong)
        finally:
            # Alone, close leaves it open while another thread is in it.
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()

    def _answer(self, node: int, frame: bytes) -> tuple[float, bytes] | None:
        """The reply and how much of it is sent; None for none."""
        key, version, correlation = struct.unpack_from(">hhi", frame)
        lowest, highest = SPOKEN[self.version][key]
        head = struct.pack(">i", correlation)
        if key == 18 and version > highest:
            refused = ApiVersionsResponse(error_code=35, api_keys=[], version=0)
            return 1.0, head + bytes(refused.encode(version=0))
        assert lowest <= version <= highest, (key, version)
        kind = REQUESTS[key]
        request = kind.decode(frame, version=version, header=True)
        do, refuse = self._verbs[kind.__name__]
        with self.lock:
            self.seen.append((node, key, version))
            self.heard.append((kind.__name__, request))
        deed = self._script.take(request)
        if isinstance(deed, Late) and not deed.done:
            time.sleep(deed.seconds)
        with self.lock:
            self.transactions.expire()
            self.groups.expire()
            if isinstance(deed, Refuse) or (isinstance(deed, Lost) and not deed.done):
                code = deed.code if isinstance(deed, Refuse) else 0
                answer = refuse(request, version, code)
            else:
                answer = do(node, request, version)
                if isinstance(deed, Say):
                    answer = refuse(request, version, deed.code)
        if isinstance(deed, Late) and deed.done:
            time.sleep(deed.seconds)
        if isinstance(deed, Lost):
            return (0.0, b"") if deed.cut else None
        if answer is None:
            return None
        with self.lock:
            self.alter(node, request, answer)
        answer.API_VERSION = version
        flexible = kind.flexible_version_q(version) and key != 18
        found = head + (b"\0" if flexible else b"")
        found += bytes(answer.encode(version=version))
        if isinstance(deed, Garbled):
            found = deed.change(found)
        if self.reply is not None:
            told = self.reply(key, request, found)
            return None if told is None else (1.0, told)
        return deed.share if isinstance(deed, Torn) else 1.0, found


def verbs(
    topics: Topics,
    producing: Producing,
    reading: Reading,
    transactions: Transactions,
    groups: Groups,
) -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """For each kind of request: who does it, and who refuses it by a code."""
    return {
        "AddOffsetsToTxnRequest": (
            transactions.add_offsets,
            transactions.add_offsets_refused,
        ),
        "AddPartitionsToTxnRequest": (transactions.add, transactions.add_refused),
        "ApiVersionsRequest": (topics.versions, topics.versions_refused),
        "CreateTopicsRequest": (topics.create, topics.create_refused),
        "DeleteTopicsRequest": (topics.delete, topics.delete_refused),
        "DescribeConfigsRequest": (topics.configs, topics.configs_refused),
        "EndTxnRequest": (transactions.end, transactions.end_refused),
        "FetchRequest": (reading.fetch, reading.fetch_refused),
        "FindCoordinatorRequest": (topics.coordinator, topics.coordinator_refused),
        "HeartbeatRequest": (groups.heartbeat, groups.heartbeat_refused),
        "InitProducerIdRequest": (transactions.init, transactions.init_refused),
        "JoinGroupRequest": (groups.join, groups.join_refused),
        "LeaveGroupRequest": (groups.leave, groups.leave_refused),
        "ListOffsetsRequest": (reading.list_offsets, reading.list_offsets_refused),
        "MetadataRequest": (topics.metadata, topics.metadata_refused),
        "OffsetCommitRequest": (groups.commit, groups.commit_refused),
        "OffsetFetchRequest": (groups.fetch, groups.fetch_refused),
        "OffsetForLeaderEpochRequest": (reading.epoch_ends, reading.epoch_ends_refused),
        "ProduceRequest": (producing.produce, producing.produce_refused),
        "SaslAuthenticateRequest": (topics.authenticate, topics.authenticate_refused),
        "SaslHandshakeRequest": (topics.handshake, topics.handshake_refused),
        "SyncGroupRequest": (groups.sync, groups.sync_refused),
        "TxnOffsetCommitRequest": (
            transactions.commit_offsets,
            transactions.commit_offsets_refused,
        ),
    }


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = connection.recv(min(size - len(found), 1 << 20))
        if not data:
            raise EOFError
        found += data
    return bytes(found)


@contextmanager
def cluster(
    nodes: int = 1,
    version: str = "4.3",
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> Iterator[Cluster]:
    made = Cluster(nodes, version, host, tls)
    try:
        yield made
    finally:
        made.close()
        for wrong in made.wrong:
            raise wrong
