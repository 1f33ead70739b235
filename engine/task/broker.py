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
from typing import Any

from engine.config import Connector, Secret, Values, jaas
from engine.config.sections.topics import TOPIC_SETTINGS
from engine.errors import Misconfigured
from engine.observe.redact import redact
from engine.sink.commit import Delivery
from engine.sink.compress import packing
from engine.sink.deadletter import DeadLetters
from engine.sink.kafka import Cluster
from engine.sink.preflight import Group, Topics
from engine.sink.produce.producer import Producer
from engine.sink.produce.transaction import Transactional
from engine.sink.state import State
from engine.sink.statefile import FileState
from engine.sink.statetopic import SETTINGS, Shelf, TopicState
from engine.sink.transactions import ENDING, Boundary
from engine.sink.window import Budget

log = logging.getLogger("task")

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

    def own(key: str) -> Any:
        return values[f"{prefix}{key}"]

    timeout = values[f"{prefix}request.timeout.ms"] / 1000
    if client == "admin":
        # A call of the admin client is one request: the smaller of the two wins.
        longest = values["admin.override.default.api.timeout.ms"] / 1000
        timeout = min(timeout, longest)
    return Cluster(
        bootstrap=bootstrap,
        client_id=client_id,
        protocol=own("security.protocol"),
        mechanism=own("sasl.mechanism") or "PLAIN",
        login=login_of(own("sasl.jaas.config")),
        token_url=own("sasl.oauthbearer.token.endpoint.url") or "",
        ca_file=text(own("ssl.truststore.location")),
        ca=plain(own("ssl.truststore.certificates")),
        chain_file=text(own("ssl.keystore.location")),
        chain=plain(own("ssl.keystore.certificate.chain")),
        key=plain(own("ssl.keystore.key")),
        key_password=plain(own("ssl.key.password")),
        check_hostname=own("ssl.endpoint.identification.algorithm") != "none",
        versions=tuple(own("ssl.enabled.protocols")),
        ciphers=tuple(own("ssl.cipher.suites") or ()),
        request_timeout=timeout,
        metadata_max_age=values["producer.metadata.max.age.ms"] / 1000,
        retry_backoff=values["producer.retry.backoff.ms"] / 1000,
        reconnect_backoff=values["producer.reconnect.backoff.ms"] / 1000,
        reconnect_backoff_max=values["producer.reconnect.backoff.max.ms"] / 1000,
        connections_max_idle=values["producer.connections.max.idle.ms"] / 1000,
        send_buffer=values["producer.send.buffer.bytes"],
        receive_buffer=values["producer.receive.buffer.bytes"],
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


class Brokers:
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
        client_id = values["producer.client.id"] or (
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
        shelf: Shelf | None = None,
        say: Callable[[str], None] = log.warning,
    ) -> State:
        """
        Where offsets are kept; opened at its first use.

        Args:
            once: For `run --once`.
            siblings, shelf, say: As `TopicState`.
        """
        values = self._values
        directory = values["offset.storage.file.filename"]
        if directory is not None:
            return FileState(directory, self._connector.name, once=once)
        return TopicState(
            self.admin,
            self._connector.name,
            values["offsets.storage.topic"],
            partitions=values["offset.storage.partitions"],
            replication=values["offset.storage.replication.factor"],
            settings=state_settings(values),
            stated=any(values.stated(f"{STORAGE}{name}") for name in SETTINGS),
            once=once,
            siblings=siblings,
            shelf=shelf,
            say=say,
        )

    def topics(self, say: Callable[[str], None]) -> Topics:
        """The connector's topics, and how those that are missing are made."""
        values = self._values
        groups = []
        dead = self.letters()
        if dead is not None:
            groups.append(
                Group(
                    include=(re.escape(dead),),
                    partitions=1,
                    replication=values[
                        "errors.deadletterqueue.topic.replication.factor"
                    ],
                )
            )
        groups += map(self._group, values["topic.creation.groups"] or ())
        groups.append(
            Group(
                partitions=values["topic.creation.default.partitions"],
                replication=values["topic.creation.default.replication.factor"],
                settings=settings(values, "default"),
            )
        )
        return Topics(
            self.admin,
            groups,
            creating=values["topic.creation.enable"],
            tasks=values["tasks.max"],
            max_request_size=values["producer.max.request.size"],
            most=values["kafka.topic.creation.max"],
            say=say,
        )

    def _group(self, name: str) -> Group:
        values = self._values
        prefix = f"topic.creation.{name}."
        partitions = values.get(f"{prefix}partitions")
        replication = values.get(f"{prefix}replication.factor")
        return Group(
            include=values.get(f"{prefix}include") or (),
            exclude=values.get(f"{prefix}exclude") or (),
            partitions=-1 if partitions is None else partitions,
            replication=-1 if replication is None else replication,
            settings=settings(values, name),
        )

    def letters(self) -> str | None:
        """`errors.deadletterqueue.topic.name` with the connector's name in it."""
        name = self._values["errors.deadletterqueue.topic.name"]
        if name is None:
            return None
        return str(name).replace("${connector}", self._connector.name)

    def reserved(self) -> list[str]:
        """Topics that hold the engine's own records: no template may name one."""
        dead = self.letters()
        own = self._values["offsets.storage.topic"]
        return [own, *([dead] if dead else [])]

    def delivery(
        self,
        topics: Topics,
        *,
        budget: Budget,
        patience: float | None = None,
        producer: Producer | None = None,
    ) -> Delivery:
        """
        A producer and what feeds it.

        Args:
            producer: As `transactional` has made it; None: one for at least once.
            patience: Seconds a write may wait, None for as long as it takes.

        Raises: Unavailable, Misconfigured.  Blocks: for the first connection.
        """
        values = self._values
        made = self._producer(None) if producer is None else producer
        dead = self.letters()
        letters = None
        if dead is not None:
            letters = DeadLetters(
                dead,
                connector=self._connector.name,
                task=self._task,
                headers=values["errors.deadletterqueue.context.headers.enable"],
                limit=topics.limit(dead),
                redacted=redact,
            )
        return Delivery(
            made,
            budget=budget,
            batch_size=values["producer.batch.size"],
            packing=packing(values["producer.compression.type"]),
            limits=topics.limit,
            letters=letters,
            revive=topics.revive,
            most_pages=values["offset.flush.pages.max"],
            patience=patience,
            boundary=None if producer is None else self._boundary(),
        )

    def _producer(self, transactional: Transactional | None) -> Producer:
        values = self._values
        return Producer(
            self.cluster,
            acks=values["producer.acks"],
            idempotent=values["producer.enable.idempotence"],
            linger=values["producer.linger.ms"] / 1000,
            in_flight=values["producer.max.in.flight.requests.per.connection"],
            max_block=values["producer.max.block.ms"] / 1000,
            max_request_size=values["producer.max.request.size"],
            transactional=transactional,
        )

    def transactional_id(self, task: int | str | None = None) -> str:
        """
        Who a task is in transactions: one id for each number of a task.

        Args:
            task: Its number, None for this one; "fence" and "probe" are the
                start's own.
        """
        number = self._task if task is None else task
        return f"kafka-http-source-{self._connector.name}-{number}"

    def transactional(self, name: str) -> Producer:
        """
        A producer for transactions; whoever had the id before is fenced.

        Raises: Misconfigured without the right to them; Unavailable.
        Blocks: for the first connection, and until the id is initialised.
        """
        made = self._producer(
            Transactional(
                name,
                self._values["producer.transaction.timeout.ms"],
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
        most = values["producer.transaction.timeout.ms"] / 1000 - ENDING - 1.0
        flush = min(values["producer.delivery.timeout.ms"] / 1000, most)
        if values["transaction.boundary"] == "interval":
            collect = values["transaction.boundary.interval.ms"] / 1000
            return Boundary(collect, True, flush)
        return Boundary(flush=flush)

    @property
    def patience(self) -> float:
        """Seconds a write may wait where somebody waits for the end of it."""
        return float(self._values["producer.delivery.timeout.ms"] / 1000)

    def budget(self) -> Budget:
        """The task's bound of bytes in flight and bodies waiting."""
        return Budget(self._values["producer.buffer.memory"])


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
    found = {name: str(values[f"{STORAGE}{name}"]) for name in SETTINGS}
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
    servers = values["bootstrap.servers"]
    if not servers:
        raise Misconfigured("bootstrap.servers is not set")
    if tuple(servers) == ("embedded",) or servers == "embedded":
        return (embedded(),)
    return tuple(servers)


def state_place(values: Values) -> str:
    """
    A short name of the place where a connector's offsets are kept.

    Two engines on the same connector and place exclude each other.
    """
    place = str(
        values["offset.storage.file.filename"]
        or (values["bootstrap.servers"], values["offsets.storage.topic"])
    )
    return hashlib.blake2b(place.encode(), digest_size=8).hexdigest()
