"""
Keys of the Kafka side: clients, topics, delivery, state.

Owns their entries in the table and nothing else.

Path: here -> ``keys.TABLE``
"""

from __future__ import annotations

from engine.config import jaas
from engine.config.keys.client import tls
from engine.config.keys.key import Computed, Key, Lookup, section
from engine.config.kinds import (
    Bool,
    Brokers,
    Choice,
    Csv,
    File,
    Int,
    Kind,
    Number,
    Password,
    Regex,
    Text,
    Topic,
    Url,
    ms,
    size,
)
from engine.config.libraries import missing

#: A topic's settings, as Kafka names them (Kafka documentation, "Topic Configs").
TOPIC_SETTINGS = frozenset(
    [
        "cleanup.policy",
        "compression.type",
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.zstd.level",
        "delete.retention.ms",
        "file.delete.delay.ms",
        "flush.messages",
        "flush.ms",
        "follower.replication.throttled.replicas",
        "index.interval.bytes",
        "leader.replication.throttled.replicas",
        "local.retention.bytes",
        "local.retention.ms",
        "max.compaction.lag.ms",
        "max.message.bytes",
        "message.downconversion.enable",
        "message.format.version",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "message.timestamp.difference.max.ms",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "preallocate",
        "remote.storage.enable",
        "remote.log.copy.disable",
        "remote.log.delete.on.disable",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.index.bytes",
        "segment.jitter.ms",
        "segment.ms",
        "unclean.leader.election.enable",
    ]
)

#: Keys of the producer that are computed here.
COMPUTED_HERE = (
    "transactional.id",
    "key.serializer",
    "value.serializer",
    "partitioner.class",
)

_GROUP = Text(r"[A-Za-z0-9_-]{1,64}", "name of a group")


def no_embedded() -> str:
    """What to do where `embedded` is asked for and not installed; "" if it is."""
    why = missing("the embedded broker")
    return f"{why}, or name your own broker" if why else ""


def has_embedded() -> bool:
    """True if the extra `embedded` is installed."""
    return not no_embedded()


def _embedded(get: Lookup) -> object:
    return ("embedded",) if has_embedded() else None


def _security() -> list[Key]:
    key = section("Kafka")
    return [
        key(
            "security.protocol",
            Choice(("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")),
            "PLAINTEXT",
            "C",
            "How every Kafka client of ours connects.",
            "SASL_SSL",
        ),
        key(
            "sasl.mechanism",
            Choice(("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")),
            None,
            "C",
            "How it logs in.",
            "SCRAM-SHA-512",
        ),
        key(
            "sasl.jaas.config",
            Password(check=jaas.check),
            None,
            "C",
            "The login as Java writes it; user name and password, or client id, "
            "secret and scope, are read out of it.",
            "${file:jaas.conf}",
        ),
        key(
            "sasl.oauthbearer.token.endpoint.url",
            Url(),
            None,
            "C",
            "Where OAUTHBEARER gets its token.",
            "https://login.example.com/token",
        ),
        *tls("ssl.", "C", "Kafka"),
    ]


def _idempotence(get: Lookup) -> object:
    flight = get("producer.max.in.flight.requests.per.connection")
    return get("producer.acks") == "all" and isinstance(flight, int) and flight <= 5


_ACKS = Choice(("all", "0", "1"), also={"-1": "all"})
_CODECS = Choice(("none", "gzip", "snappy", "lz4", "zstd"))

#: Key behind `producer.` and `producer.override.`: kind, default, scope, meaning,
#: example.
PRODUCER: list[tuple[str, Kind, str | Computed, str, str, str]] = [
    (
        "batch.size",
        size(1),
        "262144",
        "C",
        (
            "Bytes at which a batch is closed, before compression; a single larger "
            "record goes alone. Pages share a batch until then."
        ),
        "65536",
    ),
    (
        "linger.ms",
        ms(0, 60000),
        "5",
        "C",
        (
            "How long an open batch waits for further pages. The end of a poll sends "
            "at once."
        ),
        "20",
    ),
    (
        "buffer.memory",
        size(1048576),
        "33554432",
        "T",
        (
            "Bytes encoded and not acknowledged, and bodies that wait. Full, fetching "
            "pauses."
        ),
        "134217728",
    ),
    (
        "acks",
        _ACKS,
        "all",
        "C",
        "Whose acknowledgement counts.",
        "all",
    ),
    (
        "compression.type",
        _CODECS,
        "none",
        "C",
        "How batches are compressed; snappy and zstd need the extra `compression`.",
        "lz4",
    ),
    (
        "max.request.size",
        size(1024, 2147483647),
        "1048576",
        "C",
        "Most bytes of one request to a broker.",
        "4194304",
    ),
    (
        "request.timeout.ms",
        ms(1, 2147483647),
        "15000",
        "C",
        "How long a broker may take to answer.",
        "30000",
    ),
    (
        "delivery.timeout.ms",
        ms(1, 2147483647),
        "30000",
        "C",
        (
            "How long run --once and dlq replay wait for a write of which nothing is "
            "heard before they end with code 69; at least linger and request "
            "time-out. A connector that goes on waits for as long as it takes: what "
            "waits is said by partition after 5 s, then each minute, and nothing is "
            "given up, sent twice or asked for again."
        ),
        "120000",
    ),
    (
        "transaction.timeout.ms",
        ms(1, 2147483647),
        "60000",
        "C",
        "After which the broker ends a transaction by itself.",
        "120000",
    ),
    (
        "max.block.ms",
        ms(0, 2147483647),
        "10000",
        "C",
        "How long a call waits for metadata.",
        "60000",
    ),
    (
        "metadata.max.age.ms",
        ms(0, 2147483647),
        "300000",
        "C",
        "After which metadata is asked for again.",
        "60000",
    ),
    (
        "retry.backoff.ms",
        ms(0, 2147483647),
        "100",
        "C",
        "Pause before a request to a broker is repeated.",
        "200",
    ),
    (
        "reconnect.backoff.ms",
        ms(0, 2147483647),
        "50",
        "C",
        "First pause before a broker is connected again.",
        "100",
    ),
    (
        "reconnect.backoff.max.ms",
        ms(0, 2147483647),
        "1000",
        "C",
        "Longest pause before a broker is connected again.",
        "5000",
    ),
    (
        "connections.max.idle.ms",
        ms(1000, 2147483647),
        "540000",
        "C",
        "After which an idle connection to a broker is closed.",
        "300000",
    ),
    (
        "send.buffer.bytes",
        Int(-1, 2147483647, "bytes"),
        "131072",
        "C",
        "The socket's send buffer; -1: the system's.",
        "-1",
    ),
    (
        "receive.buffer.bytes",
        Int(-1, 2147483647, "bytes"),
        "32768",
        "C",
        "The socket's receive buffer; -1: the system's.",
        "-1",
    ),
    (
        "max.in.flight.requests.per.connection",
        Int(1, 2147483647),
        "5",
        "C",
        "Requests to one broker that are not answered yet.",
        "1",
    ),
    (
        "enable.idempotence",
        Bool(),
        Computed(_idempotence, "true where acks is all and at most 5 are in flight"),
        "C",
        "A batch that is sent twice is written once.",
        "true",
    ),
    (
        "client.id",
        Text(r"[\x21-\x7e]{1,249}", "up to 249 printable characters"),
        Computed(
            lambda get: f"connector-producer-{get('name')}",
            "connector-producer-<name>-<task>",
        ),
        "C",
        "How brokers see us; the task's number is put behind it.",
        "orders",
    ),
]


def _producer() -> list[Key]:
    key = section("Producer")
    override = section("Producer overrides")
    admin = section("Admin client")
    keys: list[Key] = []
    folded = []
    for name, kind, default, scope, meaning, example in PRODUCER:
        keys.append(key(f"producer.{name}", kind, default, scope, meaning, example))
        folded.append((name, kind, scope, example))
    for bare in _security():
        of = Computed(lambda get, name=bare.name: get(name), bare.name)  # type: ignore[misc]
        meaning = f"{bare.name} of the producer."
        keys.append(
            key(f"producer.{bare.name}", bare.kind, of, "C", meaning, bare.example)
        )
        folded.append((bare.name, bare.kind, "C", bare.example))
        keys.append(
            admin(
                f"admin.override.{bare.name}",
                bare.kind,
                of,
                "C",
                f"{bare.name} of the admin client.",
                bare.example,
            )
        )
    for name, kind, scope, example in folded:
        keys.append(
            override(
                f"producer.override.{name}",
                kind,
                None,
                scope,
                f"Wins over producer.{name}.",
                example,
                folds=f"producer.{name}",
            )
        )
    keys += [
        admin(
            "admin.override.request.timeout.ms",
            ms(1, 2147483647),
            "15000",
            "C",
            "How long a broker may take to answer the admin client.",
        ),
        admin(
            "admin.override.default.api.timeout.ms",
            ms(1, 2147483647),
            "60000",
            "C",
            "How long a call of the admin client may take, retries included.",
        ),
    ]
    return keys


def _topics() -> list[Key]:
    key = section("Topics")
    create = "topic.creation."
    partitions = Int(-1, 2147483647, nonzero=True)
    replicas = Int(-1, 32767, nonzero=True)
    return [
        key(
            f"{create}enable",
            Bool(),
            "true",
            "C",
            "Missing topics are created; false: they are an error at the start.",
            "false",
        ),
        key(
            "kafka.topic.creation.max",
            Int(0, 1000000),
            "100",
            "C",
            "Topics that a task makes because records name them (${...} in "
            "kafka.topic). One more is a bad record; topics that exist are no matter.",
            "1000",
        ),
        key(
            f"{create}default.partitions",
            partitions,
            Computed(lambda get: get("tasks.max"), "tasks.max"),
            "C",
            "Partitions of a topic that is created; -1: the broker's default.",
            "8",
        ),
        key(
            f"{create}default.replication.factor",
            replicas,
            "-1",
            "C",
            "Replicas of a topic that is created; -1: the broker's default.",
            "3",
        ),
        key(
            f"{create}default.<topic config>",
            Text(),
            None,
            "C",
            "Any of Kafka's topic settings, for topics that are created.",
            "604800000",
        ),
        key(
            f"{create}groups",
            Csv(_GROUP),
            None,
            "C",
            "Groups of topics that are created differently; the first that fits "
            "counts.",
            "compacted",
        ),
        key(
            f"{create}<group>.include",
            Csv(Regex()),
            None,
            "C",
            "Topics of the group: regular expressions for the whole name.",
            "orders-.*",
        ),
        key(
            f"{create}<group>.exclude",
            Csv(Regex()),
            None,
            "C",
            "Topics that are not of the group after all.",
            "orders-test-.*",
        ),
        key(
            f"{create}<group>.partitions",
            partitions,
            None,
            "C",
            "Partitions of the group's topics.",
            "1",
        ),
        key(
            f"{create}<group>.replication.factor",
            replicas,
            None,
            "C",
            "Replicas of the group's topics.",
            "3",
        ),
        key(
            f"{create}<group>.<topic config>",
            Text(),
            None,
            "C",
            "Any of Kafka's topic settings, for the group's topics.",
            "compact",
        ),
    ]


def _delivery() -> list[Key]:
    key = section("Delivery and state")
    storage = "offset.storage."
    replicas = Int(-1, 32767, nonzero=True)
    return [
        key(
            "exactly.once.support",
            Choice(("requested", "required", "disabled")),
            "requested",
            "C",
            "Records, dead letters and state in one transaction. requested: where "
            "the broker can; required: or not at all.",
            "disabled",
        ),
        key(
            "transaction.boundary",
            Choice(
                ("poll", "interval"),
                refused={
                    "connector": "transactions follow pages here: write poll or "
                    "interval"
                },
            ),
            "poll",
            "C",
            "poll: a transaction a page; interval: pages are collected.",
            "interval",
        ),
        key(
            "transaction.boundary.interval.ms",
            ms(1, 30000),
            "1000",
            "C",
            "How long pages are collected with transaction.boundary=interval.",
        ),
        key(
            "offsets.storage.topic",
            Topic(),
            "kafka-http-source-offsets",
            "C",
            "The compacted topic that keeps the state, in Kafka Connect's format.",
        ),
        key(
            "offset.storage.partitions",
            Int(1, 10000),
            "25",
            "C",
            "Partitions of that topic when it is created.",
        ),
        key(
            "offset.storage.replication.factor",
            replicas,
            "-1",
            "C",
            "Replicas of that topic when it is created; -1: the broker's default.",
        ),
        key(
            f"{storage}segment.bytes",
            Int(1, 2147483647),
            "16777216",
            "C",
            "Bytes at which a segment of that topic is closed: Kafka compacts closed "
            "ones only. This and the next five hold when the topic is created; "
            "`check --connect` says what an existing one lacks.",
        ),
        key(
            f"{storage}segment.ms",
            ms(1),
            "3600000",
            "C",
            "Age at which a segment of that topic is closed.",
        ),
        key(
            f"{storage}min.compaction.lag.ms",
            ms(),
            "0",
            "C",
            "Age below which nothing of that topic is compacted.",
        ),
        key(
            f"{storage}max.compaction.lag.ms",
            ms(1),
            "3600000",
            "C",
            "Age above which all of that topic is to be compacted.",
        ),
        key(
            f"{storage}min.cleanable.dirty.ratio",
            Number(0.0, 1.0),
            "0.1",
            "C",
            "Part of a log of that topic that must be new for a compaction.",
        ),
        key(
            f"{storage}delete.retention.ms",
            ms(),
            "3600000",
            "C",
            "Age up to which that topic keeps what says that a state was forgotten.",
        ),
        key(
            f"{storage}<topic config>",
            Text(),
            None,
            "C",
            "Any other of Kafka's topic settings for that topic when it is created, "
            "but for cleanup.policy, which is compact.",
            "604800000",
        ),
        key(
            "offset.storage.file.filename",
            File(),
            None,
            "C",
            "A directory that keeps the state instead: at least once only.",
            "/var/lib/kafka-http-source/offsets",
        ),
        key(
            "offset.flush.interval.ms",
            ms(),
            "0",
            "C",
            "Least pause between two state writes of a shard. 0: whenever more is "
            "delivered; what follows within 10 ms while more is on its way is "
            "written together.",
        ),
        key(
            "offset.flush.pages.max",
            Int(1, 1000000),
            "1000",
            "C",
            "Pages of a shard that may be past its saved position, and at most "
            "producer.buffer.memory bytes of them. Full, fetching pauses: a "
            "partition that cannot be written holds back its shard, and after a "
            "crash no more than these come twice.",
            "100",
        ),
    ]


KEYS = [
    section("Kafka")(
        "bootstrap.servers",
        Brokers(),
        Computed(_embedded, "embedded if the extra is installed, else required"),
        "C",
        "The brokers, or `embedded`: a broker of our own for trying out.",
        "broker1:9092,broker2:9092",
        required="every connector without the extra `embedded`",
    ),
    *_security(),
    *_producer(),
    *_topics(),
    *_delivery(),
]
