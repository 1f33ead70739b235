"""
A cluster of Kafka brokers that does what a test tells it.

It speaks the protocol by kafka-python's message classes, which are not what the
sender encodes Produce requests with; keeps what it was sent, checks sequences as a
broker does, and answers with errors, late, garbled or not at all.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka.protocol.metadata import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    MetadataRequest,
    MetadataResponse,
)
from kafka.protocol.producer import (
    InitProducerIdRequest,
    InitProducerIdResponse,
    ProduceRequest,
    ProduceResponse,
)
from kafka.protocol.sasl import (
    SaslAuthenticateRequest,
    SaslAuthenticateResponse,
    SaslHandshakeRequest,
    SaslHandshakeResponse,
)
from kafka.record.memory_records import MemoryRecords

#: Versions of what is used, by a broker's own version: lowest and highest.
#: Source: ApiVersions answers of those brokers.
SPOKEN = {
    "2.4": {0: (0, 8), 3: (0, 9), 17: (0, 1), 18: (0, 3), 22: (0, 2), 36: (0, 1)},
    "2.8": {0: (0, 9), 3: (0, 11), 17: (0, 1), 18: (0, 3), 22: (0, 4), 36: (0, 2)},
    "3.7": {0: (0, 10), 3: (0, 12), 17: (0, 1), 18: (0, 3), 22: (0, 5), 36: (0, 2)},
    "4.0": {0: (3, 12), 3: (0, 13), 17: (0, 1), 18: (0, 4), 22: (0, 5), 36: (0, 2)},
    "4.3": {0: (3, 13), 3: (0, 13), 17: (0, 1), 18: (0, 4), 22: (0, 5), 36: (0, 2)},
}

REQUESTS = {
    kind.API_KEY: kind
    for kind in (
        ApiVersionsRequest,
        MetadataRequest,
        InitProducerIdRequest,
        ProduceRequest,
        SaslHandshakeRequest,
        SaslAuthenticateRequest,
    )
}

Part = ProduceResponse.TopicProduceResponse.PartitionProduceResponse
TopicResponse = ProduceResponse.TopicProduceResponse


class Batch:
    """A batch as it arrived."""

    def __init__(self, topic: str, partition: int, data: bytes) -> None:
        self.topic, self.partition, self.data = topic, partition, data
        [found] = list(MemoryRecords(data))
        assert found.validate_crc()
        self.producer = found.producer_id
        self.epoch = found.producer_epoch
        self.sequence = found.base_sequence
        self.values = [record.value for record in found]
        self.compression = found.compression_type


#: What a test says to a batch: an error code, a whole answer, or None for "write it".
Verdict = int | Any | None


class Cluster:
    """
    Brokers 1 to `nodes`, each on a port of its own.

    Attributes:
        log: Values written, by (topic, partition).
        arrived: Batches in the order of their arrival, refused ones included.
        judge: Asked for each batch.
        leaders: Node by (topic, partition); -1 for none.
        topics: Partitions by name.
        silent: Nodes that do not answer.
        cut_after: Requests after which a connection is cut, by node, without answer
            to the last.
        throttle_ms: In each answer to Produce.
        seen: (node, api key, version) of each request.
    """

    def __init__(self, nodes: int = 1, version: str = "4.3", host: str = "127.0.0.1"):
        self.version = version
        self.log: dict[tuple[str, int], list[Any]] = defaultdict(list)
        self.arrived: list[Batch] = []
        self.requests: list[list[Batch]] = []
        self.judge: Callable[[Batch], Verdict] = lambda batch: None
        self.leaders: dict[tuple[str, int], int] = {}
        self.topics: dict[str, int] = {}
        self.ids: dict[str, uuid.UUID] = {}
        self.silent: set[int] = set()
        self.reply: Callable[[int, Any, bytes], bytes | None] | None = None
        self.throttle_ms = 0
        self.seen: list[tuple[int, int, int]] = []
        self.logins: list[bytes] = []
        self.session_ms = 0
        self.login_error = 0
        self.hints: dict[tuple[str, int], tuple[int, int]] = {}
        self.next_id = 1000
        self.lock = threading.RLock()
        self.host = host
        self._sequences: dict[tuple[str, int, int], tuple[int, list[tuple[int, int]]]]
        self._sequences = {}
        self._stopping = False
        self._servers: dict[int, socket.socket] = {}
        self._connections: dict[int, list[socket.socket]] = defaultdict(list)
        self.ports: dict[int, int] = {}
        for node in range(1, nodes + 1):
            self.start(node)

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

    @property
    def bootstrap(self) -> tuple[str, ...]:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return tuple(f"{host}:{port}" for port in self.ports.values())

    def create(self, name: str, partitions: int = 1, leader: int = 1) -> str:
        with self.lock:
            self.topics[name] = partitions
            self.ids[name] = uuid.uuid4()
            for at in range(partitions):
                self.leaders[name, at] = leader
        return name

    def delete(self, name: str) -> None:
        with self.lock:
            del self.topics[name]
            for place in [each for each in self.leaders if each[0] == name]:
                del self.leaders[place]
            for key in [each for each in self._sequences if each[0] == name]:
                del self._sequences[key]

    # -- connections --------------------------------------------------------------

    def _accept(self, node: int, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            self._connections[node].append(connection)
            threading.Thread(
                target=self._serve, args=(node, connection), daemon=True
            ).start()

    def _serve(self, node: int, connection: socket.socket) -> None:
        try:
            while True:
                size = struct.unpack(">i", _exactly(connection, 4))[0]
                frame = _exactly(connection, size)
                answer = self._answer(node, frame)
                while node in self.silent and not self._stopping:
                    time.sleep(0.01)
                if answer is not None:
                    connection.sendall(struct.pack(">i", len(answer)) + answer)
        except (OSError, EOFError):
            pass
        finally:
            connection.close()

    def _answer(self, node: int, frame: bytes) -> bytes | None:
        key, version, correlation = struct.unpack_from(">hhi", frame)
        lowest, highest = SPOKEN[self.version][key]
        if key == 18 and version > highest:
            answer: Any = ApiVersionsResponse(error_code=35, api_keys=[], version=0)
            return struct.pack(">i", correlation) + bytes(answer.encode(version=0))
        assert lowest <= version <= highest, (key, version)
        kind = REQUESTS[key]
        request = kind.decode(frame, version=version, header=True)
        with self.lock:
            self.seen.append((node, key, version))
            answer = getattr(self, f"_on_{kind.__name__}")(node, request, version)
        if answer is None:
            return None
        answer.API_VERSION = version
        flexible = kind.flexible_version_q(version) and key != 18
        body = struct.pack(">i", correlation) + (b"\0" if flexible else b"")
        found = body + bytes(answer.encode(version=version))
        return found if self.reply is None else self.reply(key, request, found)

    def _on_ApiVersionsRequest(self, node: int, request: Any, version: int) -> Any:
        keys = [
            ApiVersionsResponse.ApiVersion(
                api_key=key, min_version=low, max_version=top
            )
            for key, (low, top) in SPOKEN[self.version].items()
        ]
        return ApiVersionsResponse(error_code=0, api_keys=keys, throttle_time_ms=0)

    def _on_SaslHandshakeRequest(self, node: int, request: Any, version: int) -> Any:
        return SaslHandshakeResponse(error_code=0, mechanisms=["PLAIN"])

    def _on_SaslAuthenticateRequest(self, node: int, request: Any, version: int) -> Any:
        self.logins.append(bytes(request.auth_bytes))
        return SaslAuthenticateResponse(
            error_code=self.login_error,
            error_message="bad credentials" if self.login_error else None,
            auth_bytes=b"",
            session_lifetime_ms=self.session_ms,
        )

    def _on_InitProducerIdRequest(self, node: int, request: Any, version: int) -> Any:
        self.next_id += 1
        return InitProducerIdResponse(
            throttle_time_ms=0, error_code=0, producer_id=self.next_id, producer_epoch=0
        )

    def _on_MetadataRequest(self, node: int, request: Any, version: int) -> Any:
        assert request.allow_auto_topic_creation is False
        Topic = MetadataResponse.MetadataResponseTopic
        topics = []
        for wanted in request.topics or []:
            count = self.topics.get(wanted.name)
            partitions = [
                Topic.MetadataResponsePartition(
                    error_code=5 if self.leaders[wanted.name, at] < 0 else 0,
                    partition_index=at,
                    leader_id=self.leaders[wanted.name, at],
                    leader_epoch=0,
                    replica_nodes=[1],
                    isr_nodes=[1],
                    offline_replicas=[],
                )
                for at in range(count or 0)
            ]
            topics.append(
                Topic(
                    error_code=0 if count else 3,
                    name=wanted.name,
                    topic_id=self.ids.get(wanted.name, uuid.UUID(int=0)),
                    is_internal=False,
                    partitions=partitions,
                )
            )
        return MetadataResponse(
            throttle_time_ms=0,
            brokers=[
                MetadataResponse.MetadataResponseBroker(
                    node_id=at, host=self.host, port=port, rack=None
                )
                for at, port in self.ports.items()
            ],
            cluster_id="fake",
            controller_id=1,
            topics=topics,
            error_code=0,
        )

    # -- batches ------------------------------------------------------------------

    def _on_ProduceRequest(self, node: int, request: Any, version: int) -> Any:
        names = {each: name for name, each in self.ids.items()}
        arrived: list[Batch] = []
        topics = []
        for topic in request.topic_data:
            name = topic.name if version < 13 else names.get(topic.topic_id, "")
            parts = []
            for part in topic.partition_data:
                batch = Batch(name, part.index, bytes(part.records))
                arrived.append(batch)
                parts.append(self._written(node, batch))
            topics.append(
                TopicResponse(
                    name=topic.name, topic_id=topic.topic_id, partition_responses=parts
                )
            )
        self.requests.append(arrived)
        if request.acks == 0:
            return None
        answer = ProduceResponse(responses=topics, throttle_time_ms=self.throttle_ms)
        if self.hints:
            Endpoint = ProduceResponse.NodeEndpoint
            answer.node_endpoints = [
                Endpoint(node_id=at, host=self.host, port=port, rack=None)
                for at, port in self.ports.items()
            ]
        return answer

    def _written(self, node: int, batch: Batch) -> Any:
        self.arrived.append(batch)
        place = batch.topic, batch.partition
        verdict = self.judge(batch)
        if verdict is None:
            leader = self.leaders.get(place)
            if leader is None:
                verdict = 3
            elif leader != node:
                verdict = 6
            else:
                verdict = self._append(batch)
        if not isinstance(verdict, int):
            return verdict
        answer = part(batch.partition, verdict)
        if verdict == 6 and place in self.hints:
            leader, epoch = self.hints[place]
            answer.current_leader = Part.LeaderIdAndEpoch(
                leader_id=leader, leader_epoch=epoch
            )
        return answer

    def _append(self, batch: Batch) -> int:
        """As a broker judges sequences (KIP-98, KIP-360)."""
        if batch.producer >= 0:
            key = batch.topic, batch.partition, batch.producer
            epoch, last = self._sequences.get(key, (-1, []))
            count = len(batch.values)
            if epoch >= 0:
                if batch.epoch < epoch:
                    return 47
                if batch.epoch > epoch:
                    last = []
                    if batch.sequence != 0:
                        return 45
                elif (batch.sequence, count) in last:
                    return 0
                elif last and batch.sequence != sum(last[-1]) & 0x7FFFFFFF:
                    return 45
            self._sequences[key] = batch.epoch, [*last, (batch.sequence, count)][-5:]
        self.log[batch.topic, batch.partition] += batch.values
        return 0


def part(
    partition: int,
    code: int,
    errors: tuple[tuple[int, str], ...] = (),
    message: str | None = None,
) -> Any:
    """An answer to a batch."""
    return Part(
        index=partition,
        error_code=code,
        base_offset=-1 if code else 0,
        log_append_time_ms=-1,
        log_start_offset=0,
        record_errors=[
            Part.BatchIndexAndErrorMessage(
                batch_index=at, batch_index_error_message=text
            )
            for at, text in errors
        ],
        error_message=message,
    )


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = connection.recv(size - len(found))
        if not data:
            raise EOFError
        found += data
    return bytes(found)


@contextmanager
def cluster(
    nodes: int = 1, version: str = "4.3", host: str = "127.0.0.1"
) -> Iterator[Cluster]:
    made = Cluster(nodes, version, host)
    try:
        yield made
    finally:
        made.close()
