"""
Broker: the Kafka side of a connector, made from its configuration.

Owns the translation of keys into what `sink` is constructed from: seconds and
bytes, no key names behind this line.  Opens nothing until it is asked.

Path: ``task.build``, and the commands that look at stored offsets
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Sequence

from engine.config import Connector, Secret, Values, jaas
from engine.config.sections.delivery import (
    StateConfig,
    StateTopicConfig,
    TransactionsConfig,
)
from engine.config.sections.engine import IdentityConfig
from engine.config.sections.kafka import (
    AdminClientConfig,
    BootstrapConfig,
    ProducerConfig,
    SecurityConfig,
)
from engine.config.sections.letters import DeadLetterQueueConfig
from engine.config.sections.tls import TlsConfig
from engine.config.sections.topics import (
    TOPIC_SETTINGS,
    DefaultGroupConfig,
    GroupConfig,
    GroupsConfig,
    TopicsConfig,
)
from engine.errors import Misconfigured
from engine.observe.redact import redact
from engine.sink.commit import DeliveryOptions
from engine.sink.compress import packing
from engine.sink.deadletter import DeadLetters
from engine.sink.delivery import Delivery
from engine.sink.group import Boundary
from engine.sink.kafka import Cluster
from engine.sink.preflight import TopicCreationGroup, Topics
from engine.sink.produce.producer import Producer
from engine.sink.produce.transaction import Transactional
from engine.sink.shelving import SharedReading
from engine.sink.state import State
from engine.sink.statefile import FileState
from engine.sink.statesettings import SETTINGS
from engine.sink.statetopic import TopicState
from engine.sink.transactions import ENDING
from engine.sink.window import Budget

log = logging.getLogger("task")

#: `offsets.storage.topic` where nothing else is said.
DEFAULT_STATE = "kafka-http-source-offsets"

#: Requests to one broker on their way of which brokers remember the batches.
IN_FLIGHT = 5

#: Seconds until a transactional id has to be initialised; a transaction that its
#: former owner was just ending is waited for.
INITIALISING = 10.0

#: The clients of ours; each reads its security keys under this prefix.
PREFIXES = {"producer": "producer.", "admin": "admin.override."}


def cluster_of(
    values: Values, *, bootstrap: tuple[str, ...], client: str, client_id: str
) -> Cluster:
    """
    How a client of ours reaches the brokers.

    Args:
        values: The connector's.
        bootstrap: `host:port`; the embedded broker's where that is used.
        client: "producer" or "admin".
    """
    prefix = PREFIXES[client]
    security = values.of(SecurityConfig, at=prefix)
    tls = values.of(TlsConfig, at=f"{prefix}ssl.")
    producer, admin = values.of(ProducerConfig), values.of(AdminClientConfig)
    timeout = producer.request_timeout
    if client == "admin":
        # A call of the admin client is one request: the smaller of the two wins.
        timeout = min(admin.request_timeout, admin.api_timeout)
    return Cluster(
        bootstrap=bootstrap,
        client_id=client_id,
        protocol=security.protocol,
        mechanism=security.mechanism or "PLAIN",
        login=login_of(security.jaas),
        token_url=security.token_url or "",
        ca_file=text(tls.truststore_location),
        ca=plain(tls.truststore_certificates),
        chain_file=text(tls.keystore_location),
        chain=plain(tls.keystore_certificate_chain),
        key=plain(tls.keystore_key),
        key_password=plain(tls.key_password),
        check_hostname=tls.identification != "none",
        versions=tls.protocols,
        ciphers=tls.ciphers or (),
        request_timeout=timeout,
        metadata_max_age=producer.metadata_max_age,
        retry_backoff=producer.retry_backoff,
        reconnect_backoff=producer.reconnect_backoff,
        reconnect_backoff_max=producer.reconnect_backoff_max,
        connections_max_idle=producer.connections_max_idle,
        send_buffer=producer.send_buffer,
        receive_buffer=producer.receive_buffer,
    )


def login_of(secret: Secret | None) -> dict[str, str]:
    """The options of a JAAS line, none without."""
    return {} if secret is None else jaas.options(secret.reveal())


def plain(secret: Secret | None) -> str:
    """A secret's text, "" if unset; to be handed to a library, never kept."""
    return "" if secret is None else secret.reveal()


def text(value: object) -> str:
    """A path as text, "" if unset."""
    return "" if value is None else str(value)


class KafkaBuilder:
    """
    One connector's Kafka side.

    Args:
        connector: Its configuration.
        bootstrap: `host:port`, at least one.
        task: The task's number; None for a command that is no task.
    """

    def __init__(
        self, connector: Connector, bootstrap: tuple[str, ...], task: int | None = None
    ):
        values = connector.values
        self._connector = connector
        self._values = values
        self._task = 0 if task is None else task
        client_id = values.of(ProducerConfig).client_id or (
            f"connector-producer-{connector.name}-{self._task}"
        )
        self.cluster = cluster_of(
            values, bootstrap=bootstrap, client="producer", client_id=client_id
        )
        self.admin = cluster_of(
            values,
            bootstrap=bootstrap,
            client="admin",
            client_id=f"connector-adminclient-{connector.name}-{self._task}",
        )

    def state(
        self,
        *,
        once: bool = False,
        siblings: Sequence[str] = (),
        shared_reading: SharedReading | None = None,
        say: Callable[[str], None] = log.warning,
        producer: Producer | None = None,
    ) -> State:
        """
        Where offsets are kept; opened at its first use.

        Args:
            once: For `run --once`.
            siblings, shared_reading, say, producer: As `TopicState`.
        """
        values = self._values
        directory = values.of(StateConfig).file
        if directory is not None:
            return FileState(directory, self._connector.name, once=once)
        return TopicState(
            self.admin,
            self._connector.name,
            values.of(StateTopicConfig).topic,
            partitions=values.of(StateTopicConfig).partitions,
            replication=values.of(StateTopicConfig).replication,
            settings=state_settings(values),
            stated=any(values.stated(f"{STORAGE}{name}") for name in SETTINGS),
            once=once,
            siblings=siblings,
            shared_reading=shared_reading,
            say=say,
            producer=producer,
        )

    def topics(self, say: Callable[[str], None]) -> Topics:
        """The connector's topics, and how those that are missing are made."""
        values = self._values
        groups = []
        dead = self.letters()
        if dead is not None:
            groups.append(
                TopicCreationGroup(
                    include=(re.escape(dead),),
                    partitions=1,
                    replication=values.of(DeadLetterQueueConfig).replication,
                )
            )
        groups += map(self._group, values.of(GroupsConfig).groups or ())
        groups.append(
            TopicCreationGroup(
                partitions=values.of(DefaultGroupConfig).partitions,
                replication=values.of(DefaultGroupConfig).replication,
                settings=settings(values, "default"),
            )
        )
        return Topics(
            self.admin,
            groups,
            creating=values.of(TopicsConfig).enable,
            tasks=values.of(IdentityConfig).tasks_max,
            max_request_size=values.of(ProducerConfig).max_request_size,
            most=values.of(TopicsConfig).max,
            say=say,
        )

    def _group(self, name: str) -> TopicCreationGroup:
        group = self._values.of(GroupConfig, group=name)
        return TopicCreationGroup(
            include=group.include or (),
            exclude=group.exclude or (),
            partitions=-1 if group.partitions is None else group.partitions,
            replication=-1 if group.replication is None else group.replication,
            settings=settings(self._values, name),
        )

    def letters(self) -> str | None:
        """`errors.deadletterqueue.topic.name` with the connector's name in it."""
        name = self._values.of(DeadLetterQueueConfig).topic
        if name is None:
            return None
        return str(name).replace("${connector}", self._connector.known_as)

    def reserved(self) -> list[str]:
        """Topics that hold the engine's own records: no template may name one."""
        dead = self.letters()
        own = self._values.of(StateTopicConfig).topic
        return [own, *([dead] if dead else [])]

    def delivery(
        self,
        topics: Topics,
        *,
        budget: Budget,
        patience: float | None = None,
        producer: Producer | None = None,
        begun: Producer | None = None,
        expected: Sequence[str] = (),
    ) -> Delivery:
        """
        A producer and what feeds it.

        Args:
            producer: As `transactional` has made it; None: one for at least once.
            begun: One for at least once as `begin` has made it, or None.
            expected: Topics that are going to be written to.
            patience: Seconds a write may wait, None for as long as it takes.

        Raises: Unavailable, Misconfigured.  Blocks: for the first connection.
        """
        values = self._values
        made = producer or begun
        if made is None:
            made = self._producer(None)
        elif made is begun:
            made.reach()
        made.expect(expected)
        dead = self.letters()
        letters = None
        if dead is not None:
            letters = DeadLetters(
                dead,
                connector=self._connector.known_as,
                task=self._task,
                headers=values.of(DeadLetterQueueConfig).context_headers,
                limit=topics.limit(dead),
                redacted=redact,
            )
        return Delivery(
            made,
            budget=budget,
            options=DeliveryOptions(
                limits=topics.limit,
                batch_size=values.of(ProducerConfig).batch_size,
                packing=packing(values.of(ProducerConfig).compression),
                letters=letters,
                revive=topics.revive,
                most_pages=values.of(StateConfig).flush_pages,
                patience=patience,
            ),
            boundary=None if producer is None else self._boundary(),
        )

    def begin(self) -> Producer | None:
        """
        The producer of at least once on its way to the brokers, for `delivery`.

        None where it may be another one that is needed.  Never blocks.
        """
        support = self._values.of(TransactionsConfig).support
        return None if support != "disabled" else self._producer(None, waiting=False)

    def _producer(
        self, transactional: Transactional | None, *, waiting: bool = True
    ) -> Producer:
        producer = self._values.of(ProducerConfig)
        return Producer(
            self.cluster,
            acks=producer.acks,
            idempotent=producer.idempotent,
            linger=producer.linger,
            in_flight=producer.in_flight,
            max_block=producer.max_block,
            max_request_size=producer.max_request_size,
            transactional=transactional,
            waiting=waiting,
        )

    def transactional_id(self, task: int | str | None = None) -> str:
        """
        The transactional id of a task: one for each number of a task.

        Connectors of one name that keep their state in different topics of a cluster
        are strangers, so another topic than the default one is named in it.

        Args:
            task: Its number, None for this one; "fence" and "probe" are the
                start's own.
        """
        number = self._task if task is None else task
        found = f"kafka-http-source-{self._connector.name}-{number}"
        topic = self._values["offsets.storage.topic"]
        return found if topic == DEFAULT_STATE else f"{found}@{topic}"

    def transactional(self, name: str) -> Producer:
        """
        A producer for transactions; whoever had the id before is fenced.

        Raises: Misconfigured without the right to them; Unavailable.
        Blocks: for the first connection, and until the id is initialised.
        """
        made = self._producer(
            Transactional(
                name,
                round(1000 * self._values.of(ProducerConfig).transaction_timeout),
            )
        )
        try:
            made.initialise(INITIALISING)
        except BaseException:
            made.close(1.0)
            raise
        return made

    def _boundary(self) -> Boundary:
        values = self._values
        # The broker ends a transaction by itself that takes longer.
        most = values.of(ProducerConfig).transaction_timeout - ENDING - 1.0
        flush = min(values.of(ProducerConfig).delivery_timeout, most)
        if values.of(TransactionsConfig).boundary == "interval":
            collect = values.of(TransactionsConfig).interval
            return Boundary(collect, True, flush)
        return Boundary(flush=flush)

    @property
    def patience(self) -> float:
        """Seconds a write may wait where somebody waits for the end of it."""
        return float(self._values.of(ProducerConfig).delivery_timeout)

    def budget(self) -> Budget:
        """The task's bound of bytes in flight and bodies waiting."""
        return Budget(self._values.of(ProducerConfig).buffer_memory)


#: What is stated under `topic.creation.<group>.` and is no topic setting.
_NO_SETTING = ("include", "exclude", "partitions", "replication.factor")


def settings(values: Values, group: str) -> dict[str, str]:
    """The topic settings a group of `topic.creation.*` states."""
    found = values.prefixed(f"topic.creation.{group}.")
    return {key: str(value) for key, value in found.items() if key not in _NO_SETTING}


#: What the keys of the state topic's settings begin with, as in Kafka Connect.
STORAGE = "offset.storage."


def state_settings(values: Values) -> dict[str, str]:
    """The settings that the state topic is to have: `offset.storage.<setting>`."""
    found = values.of(StateTopicConfig).fixed_settings
    others = values.prefixed(STORAGE)
    found.update(
        (name, str(value)) for name, value in others.items() if name in TOPIC_SETTINGS
    )
    return found


def bootstrap_of(values: Values, embedded: Callable[[], str]) -> tuple[str, ...]:
    """
    `bootstrap.servers`, the embedded broker's address where that is asked for.

    Raises: Misconfigured if nothing is configured.
    """
    servers = values.of(BootstrapConfig).servers
    if not servers:
        raise Misconfigured("bootstrap.servers is not set")
    if servers == ("embedded",):
        return (embedded(),)
    return servers


def state_place(values: Values) -> str:
    """
    A short name of the place where a connector's offsets are kept.

    Two engines on the same connector and place exclude each other.
    """
    place = str(
        values.of(StateConfig).file
        or (values.of(BootstrapConfig).servers, values.of(StateTopicConfig).topic)
    )
    return hashlib.blake2b(place.encode(), digest_size=8).hexdigest()


def unfit(values: Values) -> str:
    """Why a configuration allows no transactions, or ""."""
    if values.of(StateConfig).file is not None:
        return "offset.storage.file.filename keeps the state in a file"
    if values.of(ProducerConfig).acks != "all":
        return f"producer.acks={values.of(ProducerConfig).acks} is not all"
    if not values.of(ProducerConfig).idempotent:
        if values.of(ProducerConfig).in_flight > IN_FLIGHT:
            return (
                "producer.max.in.flight.requests.per.connection is above "
                f"{IN_FLIGHT}, which allows no idempotence"
            )
        return "producer.enable.idempotence=false"
    return ""
