"""
Kafka: the clients a process needs, built from plain values.

Owns kafka-python's constructors and the names of its failures: whatever the
library raises leaves this file as a SinkError.  Every client is made after the
fork, by the process that uses it, and never handed to another.

Path: the gate under `sink.state`, `sink.preflight` and `sink.deadletter`; what
`sink.produce` has of TLS, logins and names of failures.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import MappingProxyType
from typing import Any

import kafka.errors as foreign
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.structs import OffsetAndMetadata
from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Doubtful, Fenced, Misconfigured, SinkError, Unavailable
from engine.records import KafkaHeaders
from engine.seams import Stopping
from engine.sink.network import Client
from engine.sink.tokens import Provider, source_of

#: Seconds until a broker that does not answer is given up for one try.
PROBE_LIMIT = 5.0

#: Seconds of silence before the first word about a broker that is away, and
#: between the words after it.
FIRST_WORD = 5.0
NEXT_WORD = 60.0

MISCONFIGURED = (
    foreign.AuthorizationError,
    foreign.SaslAuthenticationFailedError,
    foreign.UnsupportedSaslMechanismError,
    foreign.IllegalSaslStateError,
    foreign.SecurityDisabledError,
    foreign.InvalidTopicError,
    foreign.UnknownTopicOrPartitionError,
    foreign.InvalidPartitionsError,
    foreign.InvalidReplicationFactorError,
    foreign.InvalidConfigurationError,
    foreign.InvalidRequiredAcksError,
    foreign.PolicyViolationError,
    foreign.UnsupportedVersionError,
    foreign.UnsupportedForMessageFormatError,
    foreign.UnsupportedCompressionTypeError,
    foreign.KafkaConfigurationError,
    foreign.UnrecognizedBrokerVersion,
    foreign.UnsupportedCodecError,
)
FENCED = (
    foreign.ProducerFencedError,
    foreign.InvalidProducerEpochError,
    foreign.TransactionCoordinatorFencedError,
    foreign.FencedInstanceIdError,
)
UNAVAILABLE = (
    foreign.RetriableError,
    foreign.BrokerNotAvailableError,
    foreign.UnknownBrokerIdError,
    OSError,
)


def renamed(error: BaseException, doing: str) -> SinkError:
    """
    Our name for a failure of the library.

    Args:
        doing: What was attempted, the resource named: "writing to orders-3".
    """
    if isinstance(error, SinkError):
        return error
    said = f"{doing}: {error or type(error).__name__}"
    if isinstance(error, FENCED):
        return Fenced(said)
    if isinstance(error, MISCONFIGURED):
        return Misconfigured(said)
    if isinstance(error, UNAVAILABLE):
        return Unavailable(said)
    return Doubtful(said)


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


_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class Cluster(Struct, frozen=True, kw_only=True):
    """
    A Kafka cluster and how to reach it; durations in seconds, sizes in bytes.

    Attributes:
        bootstrap: `host:port`, at least one.
        protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.
        login: The options of `sasl.jaas.config`: username and password, or
            clientId, clientSecret, scope.
        token_url: `sasl.oauthbearer.token.endpoint.url`.
        ca_file, ca: PEM file or PEM text of the authorities; neither: system's.
        chain_file: PEM file with certificate chain and private key.
        chain, key: The same as PEM texts.
        key_password: For either.
        check_hostname: False for `ssl.endpoint.identification.algorithm=none`.
        versions: `ssl.enabled.protocols`: those between the lowest and the highest.
        ciphers: `ssl.cipher.suites`; none: the library's choice.
    """

    bootstrap: tuple[str, ...]
    client_id: str = "kafka-http-source"
    protocol: str = "PLAINTEXT"
    mechanism: str = "PLAIN"
    login: Mapping[str, str] = {}
    token_url: str = ""
    ca_file: str = ""
    ca: str = ""
    chain_file: str = ""
    chain: str = ""
    key: str = ""
    key_password: str = ""
    check_hostname: bool = True
    versions: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")
    ciphers: tuple[str, ...] = ()
    request_timeout: float = 15.0
    metadata_max_age: float = 300.0
    retry_backoff: float = 0.1
    reconnect_backoff: float = 0.05
    reconnect_backoff_max: float = 1.0
    connections_max_idle: float = 540.0
    send_buffer: int | None = None
    receive_buffer: int | None = None

    def __repr__(self) -> str:
        return f"Cluster({self.address})"

    @property
    def address(self) -> str:
        """The bootstrap servers for people."""
        return ",".join(self.bootstrap)


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """The path of a nameless file with this text: OpenSSL reads keys by path."""
    handle = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(handle, text.encode())
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def tls(cluster: Cluster) -> ssl.SSLContext:
    """
    The TLS context for a cluster.

    Raises: Misconfigured, naming the key whose PEM cannot be read or whose
    ciphers nobody knows.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    versions = [_VERSIONS[name] for name in cluster.versions]
    context.minimum_version, context.maximum_version = min(versions), max(versions)
    context.check_hostname = cluster.check_hostname
    try:
        if cluster.ciphers:
            context.set_ciphers(":".join(cluster.ciphers))
    except ssl.SSLError as error:
        named = ",".join(cluster.ciphers)
        raise Misconfigured(f"ssl.cipher.suites names none: {named}") from error
    try:
        if cluster.ca_file or cluster.ca:
            # An empty text would be read as a certificate, and is none.
            context.load_verify_locations(
                cluster.ca_file or None, None, cluster.ca or None
            )
        else:
            context.load_default_certs()
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"ssl.truststore is no readable PEM: {error}") from error
    try:
        # A callable, since without a password OpenSSL would ask the terminal.
        if cluster.chain_file:
            context.load_cert_chain(
                cluster.chain_file, password=lambda: cluster.key_password
            )
        elif cluster.chain:
            with _in_memory(f"{cluster.chain}\n{cluster.key}") as path:
                context.load_cert_chain(path, password=lambda: cluster.key_password)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"ssl.keystore is no readable PEM: {error}") from error
    return context


def mechanism_of(cluster: Cluster) -> dict[str, Any] | None:
    """
    The settings of a SASL mechanism of the library, None without a login.

    Raises: Misconfigured, naming what `sasl.jaas.config` lacks or how the token
    endpoint refuses us; Unavailable if that does not answer.
    Blocks: for a new token, at most about 5 s.
    """
    if not cluster.protocol.startswith("SASL_"):
        return None
    settings: dict[str, Any] = {
        "security_protocol": cluster.protocol,
        "sasl_mechanism": cluster.mechanism,
    }
    options = cluster.login
    wanted = (
        ("clientId", "clientSecret")
        if cluster.mechanism == "OAUTHBEARER"
        else ("username", "password")
    )
    for name in wanted:
        if name not in options:
            raise Misconfigured(
                f"sasl.jaas.config lacks {name} for {cluster.mechanism}"
            )
    if cluster.mechanism == "OAUTHBEARER":
        secure = cluster.protocol.endswith("SSL")
        context = tls(cluster) if secure else ssl.create_default_context()
        source = source_of(cluster.token_url, options, context)
        # Here and not in the midst of a connection: what is wrong with the token
        # is no fault of a broker.
        source.token()
        settings["sasl_oauth_token_provider"] = Provider(source, options)
    else:
        settings["sasl_plain_username"] = options["username"]
        settings["sasl_plain_password"] = options["password"]
    return settings


def _login(cluster: Cluster) -> dict[str, Any]:
    settings: dict[str, Any] = {"security_protocol": cluster.protocol}
    if cluster.protocol.endswith("SSL"):
        settings["ssl_context"] = tls(cluster)
    return settings | (mechanism_of(cluster) or {})


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
def admin(
    cluster: Cluster, limit: float = PROBE_LIMIT, *, patient: bool = True
) -> Iterator[KafkaAdminClient]:
    """
    An admin client for a few calls; what it raises is renamed.

    Args:
        patient: False to ask each bootstrap server once, instead of again and
            again for `limit` seconds.

    Blocks: at most `limit` seconds to connect, `request_timeout` for each call.
    """
    with naming(f"reaching Kafka at {cluster.address}"):
        client = KafkaAdminClient(**_settings(cluster, limit, patient=patient))
    try:
        with naming(f"asking Kafka at {cluster.address}", client):
            yield client
    finally:
        with suppress(Exception):
            client.close()


def reachable(
    cluster: Cluster, limit: float = PROBE_LIMIT, *, patient: bool = True
) -> None:
    """
    Ask the cluster for its brokers once, and reach one of them.

    Raises: Unavailable, Misconfigured.  Blocks: at most about `limit` seconds; not
    `patient`, only until each server has failed once.
    """
    with admin(cluster, limit, patient=patient):
        pass


def wait_for_broker(
    cluster: Cluster,
    stopping: Stopping,
    say: Callable[[str], None],
    *,
    clock: Clock = SYSTEM,
) -> bool:
    """
    Wait until the cluster answers.

    Args:
        say: Told once within 10 s that it is away, then each minute, and once
            more when it is back; the text names the bootstrap servers.

    Returns: False if stopping came first.
    Raises: Misconfigured; somebody must change something then.
    """
    began = clock.monotonic()
    told = 0
    while True:
        try:
            reachable(cluster, patient=False)
        except Unavailable as error:
            why = str(error)
        else:
            if told:
                away = clock.monotonic() - began
                say(f"Kafka at {cluster.address} answers again after {away:.0f} s.")
            return True
        away = clock.monotonic() - began
        if away >= FIRST_WORD + told * NEXT_WORD:
            told += 1
            say(
                f"Kafka at {cluster.address} does not answer for {away:.0f} s; "
                f"waiting for it ({why})."
            )
        if stopping.wait(0.5):
            return False


class Described(Struct, frozen=True):
    """
    A topic as the broker has it.

    Attributes:
        partitions: How many.
        cleanup: `cleanup.policy`, sorted: "compact", "delete", "compact,delete"; ""
            where the broker does not say, to who has no right to DescribeConfigs.
        max_message: `max.message.bytes`, or None where the broker does not say.
        retention: Seconds after which records go, None: never by their age, or the
            broker does not say.
        sized: True if records may go before by `retention.bytes`.
        earliest, latest: Milliseconds that a record's time stamp may be before and
            behind the broker's time, None for any.
    """

    partitions: int
    cleanup: str
    max_message: int | None
    retention: float | None = None
    sized: bool = False
    earliest: int | None = None
    latest: int | None = None


def describe(client: KafkaAdminClient, names: Sequence[str]) -> dict[str, Described]:
    """
    The topics that exist among `names`.

    Raises: Misconfigured if one may not be described.
    """
    found: dict[str, int] = {}
    for topic in client.describe_topics(list(names)) if names else ():
        code = topic["error_code"]
        if not code:
            found[topic["name"]] = len(topic["partitions"])
        elif code != foreign.UnknownTopicOrPartitionError.errno:
            error = foreign.for_code(code)(topic["name"])
            raise renamed(error, f"describing topic {topic['name']}") from error
    if not found:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in found]
    told = client.describe_configs(resources, config_filter="all")
    described = {}
    for name, partitions in found.items():
        settings = {
            key: value["value"] if isinstance(value, Mapping) else value
            for key, value in _topic_settings(told, name).items()
        }
        limit = settings.get("max.message.bytes")
        # A broker that keeps its settings to itself answers with an empty set.
        stated = settings.get("cleanup.policy") or ("delete" if settings else "")
        policies = sorted(part.strip() for part in str(stated).split(","))
        deletes = "delete" in policies
        kept_ms = _whole(settings.get("retention.ms"))
        described[name] = Described(
            partitions,
            ",".join(policies),
            int(limit) if limit is not None else None,
            kept_ms / 1000 if deletes and kept_ms >= 0 else None,
            deletes and _whole(settings.get("retention.bytes")) >= 0,
            *_time_bounds(settings),
        )
    return described


def _whole(text: object) -> int:
    """A topic setting that is a whole number; -1 for what is none: no limit."""
    try:
        return int(str(text))
    except ValueError:
        return -1


class Identified(Struct, frozen=True):
    """
    Which topic it is.

    Attributes:
        id: Of its cluster, and its own where the broker has ids for topics.
        retention: As `Described`.
        empty: True if it holds nothing.
    """

    id: str
    retention: float | None
    empty: bool


def identify(cluster: Cluster, topic: str) -> Identified | None:
    """
    Which topic stands behind a name; None: there is no such one.

    Raises: a SinkError.  Blocks: for a connection and four requests.
    """
    with admin(cluster) as client:
        described = describe(client, [topic]).get(topic)
        if described is None:
            return None
        [told] = client.describe_topics([topic])
        places = [
            TopicPartition(topic, each["partition_index"])
            for each in told["partitions"]
        ]
        first, last = (
            client.list_partition_offsets({place: spec for place in places})
            for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)
        )
        # The metadata of every answer names it; describe_cluster() fails where the
        # broker is older than the library.
        name = client._manager.cluster.cluster_id
        return Identified(
            f"{name}/{told.get('topic_id') or ''}",
            described.retention,
            all(first[place].offset == last[place].offset for place in places),
        )


def topic_settings(client: KafkaAdminClient, name: str) -> dict[str, str]:
    """A topic's settings as they hold; none where we have no right to see them."""
    resource = ConfigResource(ConfigResourceType.TOPIC, name)
    try:
        told = client.describe_configs([resource], config_filter="all")
    except foreign.AuthorizationError:
        return {}
    return {
        key: str(value["value"] if isinstance(value, Mapping) else value)
        for key, value in _topic_settings(told, name).items()
    }


#: `message.timestamp.*.max.ms` that says: any.
_ANY_TIME = (1 << 63) - 1


def _time_bounds(settings: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """How far from the broker's time a record may be; before 3.6 both are one."""
    if settings.get("message.timestamp.type") == "LogAppendTime":
        return None, None
    either = settings.get("message.timestamp.difference.max.ms")
    found = []
    for side in ("before", "after"):
        # A broker that knows the newer two goes by them.
        said = settings.get(f"message.timestamp.{side}.max.ms", either)
        bound = None if said is None else int(said)
        found.append(None if bound is None or bound >= _ANY_TIME else bound)
    return found[0], found[1]


def _topic_settings(told: Any, name: str) -> Mapping[str, Any]:
    for kind, resources in told.items():
        if str(getattr(kind, "name", kind)).upper() == "TOPIC":
            found: Mapping[str, Any] = resources.get(name, {})
            return found
    return {}


def create(
    client: KafkaAdminClient,
    name: str,
    partitions: int,
    replication: int,
    settings: Mapping[str, str],
    limit: float = 10.0,
    *,
    only_asking: bool = False,
) -> None:
    """
    Create a topic and wait until it can be written to; one that exists is left.

    Args:
        only_asking: Create nothing, but have the broker say whether it would.

    Raises: Misconfigured, Unavailable.  Blocks: at most `limit` seconds and the
    request.
    """
    wanted = {
        "num_partitions": partitions,
        "replication_factor": replication,
        "configs": dict(settings),
    }
    with naming(f"creating topic {name}"):
        with suppress(foreign.TopicAlreadyExistsError):
            client.create_topics({name: wanted}, validate_only=only_asking)
        if only_asking:
            return
        client.wait_for_topics([name], timeout_ms=int(limit * 1000))


class Stored(Struct, frozen=True):
    """A record as it stands in a topic; the time stamp in epoch milliseconds."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: KafkaHeaders = ()


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


def topic_ends(cluster: Cluster, topic: str) -> dict[int, int]:
    """
    The high watermark of each partition; empty if there is no such topic.

    Raises: a SinkError.
    """
    with admin(cluster) as client:
        if topic not in describe(client, [topic]):
            return {}
    return {place[1]: end for place, end in _ends(cluster, topic).items()}


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
        with naming(f"reaching Kafka at {cluster.address}"):
            self._client = KafkaConsumer(
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                metrics_enabled=False,
                **_settings(cluster, PROBE_LIMIT),
            )

    def count(self) -> int:
        """Records in the topic now; 0 while there is no topic."""
        with naming(f"reading topic {self._topic}"):
            places = self._places()
            return sum(self._client.end_offsets(places).values()) if places else 0

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
