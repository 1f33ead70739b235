"""
Library: what kafka-python is used for: whole records, and consumer groups.

Owns its constructors and the names of its failures: whatever the library raises
leaves this file as a SinkError.  Imported by who looks at records or groups, which no
task does at its start: it is a tenth of a second of the processor's time.

Path: `sink.deadletter`, `cli.dev`, old batches of `sink.fetching` -> here
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import MappingProxyType
from typing import Any

import kafka.errors as foreign
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.net.sasl.oauth import AbstractTokenProvider
from kafka.record import MemoryRecords
from kafka.structs import OffsetAndMetadata

from engine.clock import SYSTEM, Clock
from engine.errors import SinkError, Unavailable
from engine.sink import naming as names
from engine.sink.cluster import Cluster, login_of, tls
from engine.sink.codes import BrokerError
from engine.sink.fetching import TopicReader, opened
from engine.sink.kafka import PROBE_LIMIT, Stored
from engine.sink.network import Client
from engine.sink.reasons import LoginRefused
from engine.sink.sasl import Login
from engine.sink.scan import counted

#: Failures of the library's own that only other keys mend.
_MISCONFIGURED = (
    foreign.KafkaConfigurationError,
    foreign.UnrecognizedBrokerVersion,
    foreign.UnsupportedCodecError,
)


def renamed(error: BaseException, doing: str) -> SinkError:
    """As `naming.renamed`, for what the library raises."""
    if isinstance(error, foreign.BrokerResponseError):
        said = str(error.args[0]) if error.args else ""
        return names.renamed(BrokerError(error.errno, said), doing)
    if isinstance(error, _MISCONFIGURED):
        return names.renamed(LoginRefused(str(error)), doing)
    if isinstance(error, (foreign.RetriableError, foreign.UnknownBrokerIdError)):
        return Unavailable(f"{doing}: {error or type(error).__name__}")
    return names.renamed(error, doing)


@contextmanager
def naming(doing: str, client: Any = None) -> Iterator[None]:
    """
    Rename what the library raises inside.

    Args:
        client: Of the library; a broker that it could not reach is named, too.
    """
    try:
        yield
    except (foreign.KafkaError, OSError) as error:
        found = renamed(error, doing)
        shut = "; ".join(client._client.door.shut.values()) if client else ""
        if shut and isinstance(found, Unavailable) and shut not in str(found):
            found = Unavailable(f"{found}; {shut}")
        raise found from error


class Provider(AbstractTokenProvider):  # type: ignore[misc]
    """A source of tokens as the library's mechanism asks it."""

    def __init__(self, login: Login) -> None:
        super().__init__()
        self._login = login

    def token(self) -> str:
        """As `Login.token`."""
        return self._login.token()

    def extensions(self) -> dict[str, str]:
        """As `Login.extensions`."""
        return dict(self._login.extensions)


def _login(cluster: Cluster) -> dict[str, Any]:
    settings: dict[str, Any] = {"security_protocol": cluster.protocol}
    if cluster.protocol.endswith("SSL"):
        settings["ssl_context"] = tls(cluster)
    login = login_of(cluster)
    if login is not None:
        settings["sasl_mechanism"] = login.mechanism
        if login.mechanism == "OAUTHBEARER":
            settings["sasl_oauth_token_provider"] = Provider(login)
        else:
            settings["sasl_plain_username"] = login.user
            settings["sasl_plain_password"] = login.password
    return settings


def _settings(
    cluster: Cluster, limit: float, *, patient: bool = True
) -> dict[str, Any]:
    return {
        "bootstrap_servers": list(cluster.bootstrap),
        "client_id": cluster.client_id,
        "kafka_client": partial(Client, patient=patient),
        "bootstrap_timeout_ms": int(limit * 1000),
        "request_timeout_ms": int(cluster.request_timeout * 1000),
        "metadata_max_age_ms": int(cluster.metadata_max_age * 1000),
        "retry_backoff_ms": int(cluster.retry_backoff * 1000),
        "reconnect_backoff_ms": int(cluster.reconnect_backoff * 1000),
        "reconnect_backoff_max_ms": int(cluster.reconnect_backoff_max * 1000),
        "connections_max_idle_ms": int(cluster.connections_max_idle * 1000),
        "send_buffer_bytes": cluster.send_buffer,
        "receive_buffer_bytes": cluster.receive_buffer,
        **_login(cluster),
    }


@contextmanager
def admin(cluster: Cluster, limit: float = PROBE_LIMIT) -> Iterator[KafkaAdminClient]:
    """
    The library's admin client for a few calls; what it raises is renamed.

    Blocks: at most `limit` seconds to connect, `request_timeout` for each call.
    """
    with naming(f"reaching Kafka at {cluster.address}"):
        client = KafkaAdminClient(**_settings(cluster, limit))
    try:
        with naming(f"asking Kafka at {cluster.address}", client):
            yield client
    finally:
        with suppress(Exception):
            client.close()


def read_topic(
    cluster: Cluster,
    topic: str,
    limit: float,
    *,
    starts: Mapping[int, int] = MappingProxyType({}),
    clock: Clock = SYSTEM,
) -> Iterator[Stored]:
    """
    Every committed record of a topic up to the end it has now.

    Args:
        starts: Partition -> the first offset wanted; the others from their
            beginning, and so is one whose records have expired.

    The end is the high watermark, also of open transactions: who reads only to
    the last stable offset misses newer records behind somebody else's open
    transaction.

    Yields: records, in order within a partition.
    Raises: Unavailable after `limit` seconds without progress; Misconfigured.
    """
    with naming(f"reading topic {topic}"):
        ends = _ends(cluster, topic)
        if not ends:
            return
        client = KafkaConsumer(
            enable_auto_commit=False,
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            metrics_enabled=False,
            max_poll_records=5000,
            auto_offset_reset="earliest",
            **_settings(cluster, PROBE_LIMIT),
        )
        try:
            client.assign(list(ends))
            for place in ends:
                if starts.get(place[1]):
                    client.seek(place, starts[place[1]])
                else:
                    client.seek_to_beginning(place)
            left = {place for place in ends if client.position(place) < ends[place]}
            deadline = clock.monotonic() + limit
            while left:
                found = client.poll(timeout_ms=200)
                for place, records in found.items():
                    for each in records:
                        if each.offset < ends[place]:
                            yield Stored(
                                place[1],
                                each.offset,
                                each.timestamp,
                                each.key,
                                each.value,
                                tuple(each.headers),
                            )
                if found:
                    deadline = clock.monotonic() + limit
                left = {place for place in left if client.position(place) < ends[place]}
                if left and clock.monotonic() > deadline:
                    raise foreign.KafkaTimeoutError(
                        f"its end was not reached in {limit:.0f} s"
                    )
        finally:
            with suppress(Exception):
                client.close(autocommit=False)


def _ends(cluster: Cluster, topic: str) -> dict[TopicPartition, int]:
    """The high watermark of each partition that holds anything at all."""
    with admin(cluster) as client:
        [told] = client.describe_topics([topic])
        if told["error_code"]:
            raise foreign.for_code(told["error_code"])(topic)
        places = [
            TopicPartition(topic, each["partition_index"])
            for each in told["partitions"]
        ]
        latest = client.list_partition_offsets(
            {place: OffsetSpec.LATEST for place in places}
        )
        return {place: found.offset for place, found in latest.items() if found.offset}


def group_offsets(
    cluster: Cluster, group: str, topic: str
) -> dict[int, tuple[int, str]]:
    """
    What a consumer group has committed: partition -> (offset, its note).

    Raises: a SinkError.
    """
    with admin(cluster) as client:
        found = client.list_group_offsets({group: None}).get(group, {})
    return {
        place.partition: (stored.offset, stored.metadata or "")
        for place, stored in found.items()
        if place.topic == topic and stored.offset >= 0
    }


def save_group_offsets(
    cluster: Cluster, group: str, topic: str, offsets: Mapping[int, tuple[int, str]]
) -> None:
    """
    Commit offsets with their notes for a group that has no members.

    Raises: a SinkError.
    """
    wanted = {
        TopicPartition(topic, partition): OffsetAndMetadata(offset, note, -1)
        for partition, (offset, note) in offsets.items()
    }
    with admin(cluster) as client:
        told = client.alter_group_offsets(group, wanted)
        for place, error in told.items():
            if error is not foreign.NoError:
                raise error(f"{group} at {place.topic}-{place.partition}")


class Tail:
    """
    A look at what arrives in a topic, for people.

    Raises: Unavailable, Misconfigured, from any verb.
    """

    def __init__(self, cluster: Cluster, topic: str):
        self._topic = topic
        self._cluster = cluster
        self._positions: dict[int, int] = {}
        self._count = 0
        with naming(f"reaching Kafka at {cluster.address}"):
            self._client = KafkaConsumer(
                enable_auto_commit=False,
                isolation_level="read_committed",
                allow_auto_create_topics=False,
                metrics_enabled=False,
                **_settings(cluster, PROBE_LIMIT),
            )

    def count(self) -> int:
        """
        Committed records that have come into the topic; 0 while there is no topic.

        They are read: a topic's offsets count the marks of transactions, too.
        """
        with naming(f"reading topic {self._topic}"):
            places = self._places()
        if not places:
            return 0
        for each in places:
            self._positions.setdefault(each.partition, 0)
        # A partition of a topic that was just made has no leader yet.
        with suppress(Unavailable), opened(self._cluster, self._topic) as topic:
            topic.look_again()
            while self._read_on(topic):
                pass
        return self._count

    def _read_on(self, topic: TopicReader) -> bool:
        """One round; False at the end of all partitions."""
        positions, moved = self._positions, False
        for piece, start in topic.fetch(dict(positions), wait_ms=0):
            before = positions[piece.partition]
            end, count = counted(piece)
            positions[piece.partition] = max(before, start, end or 0)
            if positions[piece.partition] > before:
                self._count += count
                moved = True
        return moved

    def first(self, count: int) -> list[str]:
        """The first records as `topic[partition]@offset key=... value`."""
        with naming(f"reading topic {self._topic}"):
            self._client.assign(self._places())
            self._client.seek_to_beginning()
            found = self._client.poll(timeout_ms=1000, max_records=count)
        return [
            f"{each.topic}[{each.partition}]@{each.offset} "
            f"key={(each.key or b'').decode(errors='replace')} "
            f"{(each.value or b'').decode(errors='replace')[:120]}"
            for records in found.values()
            for each in records
        ][:count]

    def close(self) -> None:
        """Let go of the connection."""
        with suppress(Exception):
            self._client.close(autocommit=False)

    def _places(self) -> list[TopicPartition]:
        self._client.topics()
        known = self._client.partitions_for_topic(self._topic) or ()
        return [TopicPartition(self._topic, each) for each in sorted(known)]


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
