"""
Fetching: a topic's record batches as they lie with the brokers, undecoded.

Knows kafka-python's request classes and its connection manager (3.0.12), and
reaches into them on purpose: its consumer makes an object of each record, 10 us
each, where `sink.scan` looks at a key for half of one.
`tests/sink/test_statetopic.py` holds what it relies on against real brokers.

Path: `sink.reading` asks -> here -> `sink.kafka`'s admin client
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import kafka.errors as foreign
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.net.transport import KafkaTCPTransport
from kafka.protocol.consumer import FetchRequest
from kafka.record import MemoryRecords
from msgspec import Struct

from engine.errors import SinkError, Unavailable
from engine.sink.kafka import Cluster, admin, naming
from engine.sink.scan import Batch

#: Bytes of an answer, and of it for one partition: what a reading holds in
#: memory is a few times this.
ANSWER = 8 << 20

#: Bytes taken off a socket at a time.
CHUNK = 1 << 18

#: Milliseconds a broker may hold an answer back for which it has nothing.
WAIT_MS = 250

#: Seconds between two attempts after an error that passes.
PAUSE = 0.2

#: The newest version that names topics by name.
VERSION = 12

#: What a new look at the leaders may mend.
PASSING = (
    foreign.RetriableError,
    foreign.UnknownBrokerIdError,
    foreign.BrokerNotAvailableError,
    OSError,
)


class Span(Struct, frozen=True):
    """
    What there is of a topic.

    Attributes:
        identity: Changes when the topic is made anew; "" where a broker says none.
        starts, ends: Partition -> its first offset, and the one behind its last:
            the high watermark, also of open transactions.
    """

    identity: str
    starts: Mapping[int, int]
    ends: Mapping[int, int]


class Topic:
    """
    One topic's batches.

    Every verb raises what the library raises; see `reading` for its names.
    Used by one thread.
    """

    def __init__(self, client: KafkaAdminClient, name: str) -> None:
        self._client = client
        self._manager = client._manager
        _read_much(self._manager)
        self._name = name
        self._leaders: dict[int, int] = {}

    def span(self) -> Span:
        """How far it reaches now; blocks for three requests."""
        [told] = self._client.describe_topics([self._name])
        if told["error_code"]:
            raise foreign.for_code(told["error_code"])(self._name)
        self._leaders = {
            each["partition_index"]: each["leader_id"] for each in told["partitions"]
        }
        places = [TopicPartition(self._name, each) for each in self._leaders]
        return Span(
            str(told.get("topic_id") or ""),
            self._offsets(places, OffsetSpec.EARLIEST),
            self._offsets(places, OffsetSpec.LATEST),
        )

    def fetch(self, positions: Mapping[int, int]) -> Iterator[tuple[Batch, int]]:
        """
        One round: what the leaders have from these offsets on.

        Yields: a piece of a partition, and the partition's log start: where to
        go on if that is beyond what was asked for.
        Blocks: at most a request's time; a broker that has nothing answers
        within `WAIT_MS`.
        """
        groups: dict[int, list[int]] = {}
        for partition in positions:
            groups.setdefault(self._leaders.get(partition, -1), []).append(partition)
        if -1 in groups:
            raise foreign.LeaderNotAvailableError(f"{self._name}-{groups[-1][0]}")
        requests = [
            (node, self._request({each: positions[each] for each in members}))
            for node, members in groups.items()
        ]

        async def ask() -> list[Any]:
            sent = [self._manager.send(request, node_id=n) for n, request in requests]
            return [await each for each in sent]

        for answer in self._manager.run(ask):
            if answer.error_code:
                raise foreign.for_code(answer.error_code)(self._name)
            for topic in answer.responses:
                for part in topic.partitions:
                    yield from self._piece(part, positions)

    def look_again(self) -> None:
        """Ask anew who leads; blocks for a request."""
        [told] = self._client.describe_topics([self._name])
        for each in told["partitions"] if not told["error_code"] else ():
            self._leaders[each["partition_index"]] = each["leader_id"]

    def late(self, limit: float) -> SinkError:
        """Why a reading is given up that did not get on for `limit` seconds."""
        return Unavailable(
            f"reading topic {self._name}: its end was not reached in {limit:.0f} s"
        )

    def _request(self, positions: Mapping[int, int]) -> Any:
        wanted = [
            FetchRequest.FetchTopic.FetchPartition(
                partition=partition,
                current_leader_epoch=-1,
                fetch_offset=offset,
                last_fetched_epoch=-1,
                partition_max_bytes=ANSWER,
            )
            for partition, offset in positions.items()
        ]
        return FetchRequest(
            max_wait_ms=WAIT_MS,
            min_bytes=1,
            max_bytes=ANSWER,
            # Committed ones, with a list of those that were aborted.
            isolation_level=1,
            # No session: each request says all.
            session_id=0,
            session_epoch=-1,
            topics=[FetchRequest.FetchTopic(topic=self._name, partitions=wanted)],
            forgotten_topics_data=[],
            rack_id="",
            min_version=4,
            max_version=VERSION,
        )

    def _piece(
        self, part: Any, positions: Mapping[int, int]
    ) -> Iterator[tuple[Batch, int]]:
        partition = part.partition_index
        if part.error_code == foreign.OffsetOutOfRangeError.errno:
            place = TopicPartition(self._name, partition)
            first = self._offsets([place], OffsetSpec.EARLIEST)[partition]
            if first <= positions[partition]:
                raise foreign.for_code(part.error_code)(f"{self._name}-{partition}")
            yield Batch(partition, b""), first
            return
        if part.error_code:
            raise foreign.for_code(part.error_code)(f"{self._name}-{partition}")
        aborted = [
            (each.producer_id, each.first_offset)
            for each in part.aborted_transactions or ()
        ]
        yield Batch(partition, bytes(part.records or b""), aborted), 0

    def _offsets(self, places: list[TopicPartition], spec: Any) -> dict[int, int]:
        found = self._client.list_partition_offsets(dict.fromkeys(places, spec))
        return {place.partition: max(told.offset, 0) for place, told in found.items()}


@contextmanager
def opened(cluster: Cluster, name: str) -> Iterator[Topic]:
    """A topic for a few rounds; what the library raises inside is renamed."""
    with admin(cluster) as client, naming(f"reading topic {name}"):
        yield Topic(client, name)


def of_old_format(
    batch: bytes,
) -> Iterator[tuple[int, int, bytes | None, bytes | None]]:
    """
    The records of a batch before magic 2: offset, time stamp, key, value.

    A broker keeps them as they were written, however long ago.
    """
    for each in MemoryRecords(batch):
        for record in each:
            yield record.offset, record.timestamp or 0, record.key, record.value


def _read_much(manager: Any) -> None:
    """
    Take more off a socket at a time.

    The library takes 4 KB, which for an answer of 8 MB is 2,000 calls.
    """
    build = manager._build_transport

    async def build_transport(*more: Any, **named: Any) -> Any:
        made = await build(*more, **named)
        receive, sock = made._sock_recv, made._sock

        def received() -> tuple[bytes, Exception | None]:
            try:
                data = sock.recv(CHUNK)
            except OSError:
                data = b""
            # The end, an error and nothing are told as the library tells them.
            return (data, None) if data else receive()

        if type(made) is KafkaTCPTransport:
            made._sock_recv = received
        return made

    manager._build_transport = build_transport
