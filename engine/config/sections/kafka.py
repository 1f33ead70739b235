"""
Options of the Kafka clients: the way to the brokers, the producer, the admin client.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from msgspec.structs import replace

from engine.config import jaas
from engine.config.kinds import (
    Bool,
    BootstrapServers,
    Choice,
    Int,
    Password,
    Text,
    Url,
    ms,
    size,
)
from engine.config.libraries import missing
from engine.config.sections.key import Computed, Key, Lookup
from engine.config.sections.section import Section, duration, option, unset
from engine.config.sections.tls import TlsConfig
from engine.observe.redact import Secret

#: Keys of the producer that are computed here.
COMPUTED_HERE = (
    "transactional.id",
    "key.serializer",
    "value.serializer",
    "partitioner.class",
)


def no_embedded() -> str:
    """What to do where `embedded` is asked for and not installed; "" if it is."""
    why = missing("the embedded broker")
    return f"{why}, or name your own broker" if why else ""


def has_embedded() -> bool:
    """True if the extra `embedded` is installed."""
    return not no_embedded()


def _embedded(get: Lookup) -> object:
    return ("embedded",) if has_embedded() else None


class BootstrapConfig(Section, frozen=True, kw_only=True):
    """Where the brokers are."""

    TITLE: ClassVar[str] = "Kafka"
    SCOPE: ClassVar[str] = "C"

    servers: tuple[str, ...] | None = unset(
        "bootstrap.servers",
        BootstrapServers(),
        Computed(_embedded, "embedded if the extra is installed, else required"),
        "The brokers, or `embedded`: a broker of our own for trying out.",
        "broker1:9092,broker2:9092",
        required="every connector without the extra `embedded`",
    )


class SecurityConfig(Section, frozen=True, kw_only=True):
    """How a client connects and logs in; `at` is "", `producer.` or `admin.override.`."""

    TITLE: ClassVar[str] = "Kafka"
    SCOPE: ClassVar[str] = "C"

    protocol: str = option(
        "{at}security.protocol",
        Choice(("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")),
        "PLAINTEXT",
        "How every Kafka client of ours connects.",
        "SASL_SSL",
    )
    mechanism: str | None = unset(
        "{at}sasl.mechanism",
        Choice(("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")),
        None,
        "How it logs in.",
        "SCRAM-SHA-512",
    )
    jaas: Secret | None = unset(
        "{at}sasl.jaas.config",
        Password(check=jaas.check),
        None,
        "The login as Java writes it; user name and password, or client id, "
        "secret and scope, are read out of it.",
        "${file:jaas.conf}",
    )
    token_url: str | None = unset(
        "{at}sasl.oauthbearer.token.endpoint.url",
        Url(),
        None,
        "Where OAUTHBEARER gets its token.",
        "https://login.example.com/token",
    )


def _idempotence(get: Lookup) -> object:
    flight = get("producer.max.in.flight.requests.per.connection")
    return get("producer.acks") == "all" and isinstance(flight, int) and flight <= 5


_ACKS = Choice(("all", "0", "1"), also={"-1": "all"})
_CODECS = Choice(("none", "gzip", "snappy", "lz4", "zstd"))


class ProducerConfig(Section, frozen=True, kw_only=True):
    """How records are written; seconds and bytes."""

    TITLE: ClassVar[str] = "Producer"
    SCOPE: ClassVar[str] = "C"

    batch_size: int = option(
        "producer.batch.size",
        size(1),
        "262144",
        "Bytes at which a batch is closed, before compression; a single larger "
        "record goes alone. Pages share a batch until then.",
        "65536",
    )
    linger: float = duration(
        "producer.linger.ms",
        ms(0, 60000),
        "5",
        "How long an open batch waits for further pages. The end of a poll sends "
        "at once, and so does a task of one shard whose last pages came further apart.",
        "20",
    )
    buffer_memory: int = option(
        "producer.buffer.memory",
        size(1048576),
        "33554432",
        "Bytes encoded and not acknowledged, and bodies that wait. Full, fetching "
        "pauses.",
        "134217728",
        scope="T",
    )
    acks: str = option("producer.acks", _ACKS, "all", "Whose acknowledgement counts.")
    compression: str = option(
        "producer.compression.type",
        _CODECS,
        "none",
        "How batches are compressed; snappy and zstd need the extra `compression`.",
        "lz4",
    )
    max_request_size: int = option(
        "producer.max.request.size",
        size(1024, 2147483647),
        "1048576",
        "Most bytes of one request to a broker.",
        "4194304",
    )
    request_timeout: float = duration(
        "producer.request.timeout.ms",
        ms(1, 2147483647),
        "15000",
        "How long a broker may take to answer.",
        "30000",
    )
    delivery_timeout: float = duration(
        "producer.delivery.timeout.ms",
        ms(1, 2147483647),
        "30000",
        "How long run --once and dlq replay wait for a write of which nothing is "
        "heard before they end with code 69; at least linger and request "
        "time-out. A connector that goes on waits for as long as it takes: what "
        "waits is said by partition after 5 s, then each minute, and nothing is "
        "given up, sent twice or asked for again.",
        "120000",
    )
    transaction_timeout: float = duration(
        "producer.transaction.timeout.ms",
        ms(1, 2147483647),
        "60000",
        "After which the broker ends a transaction by itself.",
        "120000",
    )
    max_block: float = duration(
        "producer.max.block.ms",
        ms(0, 2147483647),
        "10000",
        "How long a call waits for metadata.",
        "60000",
    )
    metadata_max_age: float = duration(
        "producer.metadata.max.age.ms",
        ms(0, 2147483647),
        "300000",
        "After which metadata is asked for again.",
        "60000",
    )
    retry_backoff: float = duration(
        "producer.retry.backoff.ms",
        ms(0, 2147483647),
        "100",
        "Pause before a request to a broker is repeated.",
        "200",
    )
    reconnect_backoff: float = duration(
        "producer.reconnect.backoff.ms",
        ms(0, 2147483647),
        "50",
        "First pause before a broker is connected again.",
        "100",
    )
    reconnect_backoff_max: float = duration(
        "producer.reconnect.backoff.max.ms",
        ms(0, 2147483647),
        "1000",
        "Longest pause before a broker is connected again.",
        "5000",
    )
    connections_max_idle: float = duration(
        "producer.connections.max.idle.ms",
        ms(1000, 2147483647),
        "540000",
        "After which an idle connection to a broker is closed.",
        "300000",
    )
    send_buffer: int = option(
        "producer.send.buffer.bytes",
        Int(-1, 2147483647, "bytes"),
        "-1",
        "The socket's send buffer; -1: the system's, which grows with what the broker takes. "
        "Kafka's clients fix it at 131072, less than one request of theirs or ours.",
        "131072",
    )
    receive_buffer: int = option(
        "producer.receive.buffer.bytes",
        Int(-1, 2147483647, "bytes"),
        "32768",
        "The socket's receive buffer; -1: the system's.",
        "-1",
    )
    in_flight: int = option(
        "producer.max.in.flight.requests.per.connection",
        Int(1, 2147483647),
        "5",
        "Requests to one broker that are not answered yet.",
        "1",
    )
    idempotent: bool = option(
        "producer.enable.idempotence",
        Bool(),
        Computed(_idempotence, "true where acks is all and at most 5 are in flight"),
        "A batch that is sent twice is written once.",
        "true",
    )
    client_id: str = option(
        "producer.client.id",
        Text(r"[\x21-\x7e]{1,249}", "up to 249 printable characters"),
        Computed(
            lambda get: f"connector-producer-{get('name')}",
            "connector-producer-<name>-<task>",
        ),
        "How brokers see us; the task's number is put behind it.",
        "orders",
    )


class AdminClientConfig(Section, frozen=True, kw_only=True):
    """How long a call of the admin client may take; seconds."""

    TITLE: ClassVar[str] = "Admin client"
    SCOPE: ClassVar[str] = "C"

    request_timeout: float = duration(
        "admin.override.request.timeout.ms",
        ms(1, 2147483647),
        "15000",
        "How long a broker may take to answer the admin client.",
    )
    api_timeout: float = duration(
        "admin.override.default.api.timeout.ms",
        ms(1, 2147483647),
        "60000",
        "How long a call of the admin client may take, retries included.",
    )


def _secured(at: str, title: str, client: str) -> Iterator[Key]:
    """The security keys of one client; by default what every client has."""
    for key in SECURITY:
        yield replace(
            key,
            name=f"{at}{key.name}",
            default=Computed(lambda get, name=key.name: get(name), key.name),  # type: ignore[misc]
            meaning=f"{key.name} of the {client}.",
            section=title,
        )


def _overrides() -> Iterator[Key]:
    """What wins over each key of the producer, as Kafka Connect spells it."""
    for key in (*ProducerConfig.entries(), *PRODUCER_SECURITY):
        yield replace(
            key,
            name=f"producer.override.{key.name.removeprefix('producer.')}",
            default=None,
            meaning=f"Wins over {key.name}.",
            section="Producer overrides",
            folds=key.name,
        )


SECURITY = [
    *SecurityConfig.entries(at=""),
    *TlsConfig.entries(title="TLS towards Kafka", scope="C", at="ssl.", side="Kafka"),
]
PRODUCER_SECURITY = list(_secured("producer.", "Producer", "producer"))

KEYS = [
    *BootstrapConfig.entries(),
    *SECURITY,
    *ProducerConfig.entries(),
    *PRODUCER_SECURITY,
    *_secured("admin.override.", "Admin client", "admin client"),
    *_overrides(),
    *AdminClientConfig.entries(),
]
