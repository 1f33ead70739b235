"""
Kafka: what is asked of a cluster about its topics, and how they are made.

Owns the questions: whether it answers, what a topic is, where it ends; whatever a
broker refuses leaves this file as a SinkError.  Every client is made after the fork,
by the process that uses it, and never handed to another.

Path: `sink.preflight`, `sink.statetopic`, `sink.identity` -> here -> `sink.caller`
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Unavailable
from engine.records import KafkaHeaders
from engine.seams import Stopping
from engine.sink import codes, protocol
from engine.sink.caller import PROBE_LIMIT, BrokerClient, calling
from engine.sink.cluster import Cluster, tls
from engine.sink.codec import MessageType
from engine.sink.codes import BrokerError
from engine.sink.naming import naming, renamed
from engine.sink.produce import messages
from engine.sink.produce.wire import NO_ID
from engine.sink.protocol import Asking

__all__ = [
    "PROBE_LIMIT",
    "Cluster",
    "Stored",
    "TopicDescription",
    "admin",
    "create",
    "describe",
    "naming",
    "reachable",
    "renamed",
    "tls",
    "topic_settings",
    "wait_for_broker",
]

#: Seconds of silence before the first word about a broker that is away, and
#: between the words after it.
FIRST_WORD = 5.0
NEXT_WORD = 60.0

#: Topics, or partitions, of one request.
AT_ONCE = 500

#: Seconds between two looks whether a new topic can be written to, at first and at
#: most.
SOON, LATER = 0.005, 0.1

#: What is asked of a topic's settings.
_ASKED = (
    "cleanup.policy",
    "max.message.bytes",
    "retention.ms",
    "retention.bytes",
    "message.timestamp.type",
    "message.timestamp.difference.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
)

#: A resource of DescribeConfigs that is a topic.
_TOPIC = 2

#: Time stamps of ListOffsets that mean an end.
LATEST, EARLIEST = -1, -2


def admin(
    cluster: Cluster, limit: float = PROBE_LIMIT, *, patient: bool = True
) -> AbstractContextManager[BrokerClient]:
    """
    A client for a few calls; what it is refused is renamed.

    Args:
        patient: False to ask each bootstrap server once, instead of again and
            again for `limit` seconds.

    Blocks: at most `limit` seconds to connect, `request_timeout` for each call.
    """
    return calling(cluster, limit, patient=patient)


def asking(kind: MessageType, **values: Any) -> Asking:
    """Makes a request, once it is known what the broker speaks."""
    return lambda spoken: messages.message(kind, dict(spoken), values)


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


class TopicDescription(Struct, frozen=True):
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


def metadata(client: BrokerClient, names: Iterable[str]) -> messages.Metadata:
    """What a broker knows of the cluster and of these topics."""
    return messages.told(client.ask(_metadata_of(names)))


def _metadata_of(names: Iterable[str]) -> Asking:
    return lambda spoken: messages.metadata(list(names), dict(spoken))


def describe(client: BrokerClient, names: Sequence[str]) -> dict[str, TopicDescription]:
    """
    The topics that exist among `names`.

    Raises: Misconfigured if one may not be described.
    """
    return described_in(client, names)[1]


def described_in(
    client: BrokerClient, names: Sequence[str]
) -> tuple[messages.Metadata | None, dict[str, TopicDescription]]:
    """As `describe`, and what the last of the answers said of the cluster."""
    told: messages.Metadata | None = None
    found: dict[str, TopicDescription] = {}
    for at in range(0, len(names), AT_ONCE):
        part = names[at : at + AT_ONCE]
        # At once: a start waits for each round in turn.
        known, settings = client.ask_all(
            [(None, _metadata_of(part)), (None, _settings_of(part, _ASKED))]
        )
        told = messages.told(known)
        stated = _stated(settings)
        for name, topic in told.topics.items():
            if not topic.code:
                found[name] = _described(len(topic.partitions), stated.get(name, {}))
            elif topic.code != codes.UNKNOWN_TOPIC_OR_PARTITION:
                error = BrokerError(topic.code, name)
                raise renamed(error, f"describing topic {name}") from error
    return told, found


def _described(partitions: int, settings: Mapping[str, str]) -> TopicDescription:
    limit = settings.get("max.message.bytes")
    # A broker that keeps its settings to itself answers with an empty set.
    stated = settings.get("cleanup.policy") or ("delete" if settings else "")
    policies = sorted(part.strip() for part in stated.split(","))
    deletes = "delete" in policies
    kept_ms = _whole(settings.get("retention.ms"))
    return TopicDescription(
        partitions,
        ",".join(policies),
        int(limit) if limit is not None else None,
        kept_ms / 1000 if deletes and kept_ms >= 0 else None,
        deletes and _whole(settings.get("retention.bytes")) >= 0,
        *_time_bounds(settings),
    )


def _settings(
    client: BrokerClient, names: Sequence[str], wanted: Sequence[str] | None
) -> dict[str, dict[str, str]]:
    """Topics' settings as they hold, by name; none where we may not see them."""
    found: dict[str, dict[str, str]] = {}
    for at in range(0, len(names), AT_ONCE):
        found |= _stated(client.ask(_settings_of(names[at : at + AT_ONCE], wanted)))
    return found


def _settings_of(names: Sequence[str], wanted: Sequence[str] | None) -> Asking:
    return asking(
        protocol.DESCRIBE_CONFIGS,
        resources=[
            {
                "resource_type": _TOPIC,
                "resource_name": name,
                "configuration_keys": wanted,
            }
            for name in names
        ],
    )


def _stated(answer: Any) -> dict[str, dict[str, str]]:
    return {
        each.resource_name: {
            entry.name: entry.value
            for entry in each.configs or ()
            if entry.value is not None
        }
        for each in answer.results or ()
        if not each.error_code
    }


def _whole(text: object) -> int:
    """A topic setting that is a whole number; -1 for what is none: no limit."""
    try:
        return int(str(text))
    except ValueError:
        return -1


def topic_id(topic: messages.TopicMetadata) -> str:
    """A topic's id for people and comparisons, "" where brokers do not say it."""
    return "" if topic.id == NO_ID else str(UUID(bytes=topic.id))


def topic_settings(client: BrokerClient, name: str) -> dict[str, str]:
    """A topic's settings as they hold; none where we have no right to see them."""
    return _settings(client, [name], None).get(name, {})


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


def create(
    client: BrokerClient,
    name: str,
    partitions: int,
    replication: int,
    settings: Mapping[str, str],
    limit: float = 10.0,
    *,
    only_asking: bool = False,
    clock: Clock = SYSTEM,
) -> None:
    """
    Create a topic and wait until it can be written to; one that exists is left.

    Args:
        only_asking: Create nothing, but have the broker say whether it would.

    Raises: Misconfigured, Unavailable.  Blocks: at most `limit` seconds and the
    request.
    """
    request = asking(
        protocol.CREATE_TOPICS,
        topics=[
            {
                "name": name,
                "num_partitions": partitions,
                "replication_factor": replication,
                "configs": [
                    {"name": key, "value": value} for key, value in settings.items()
                ],
            }
        ],
        timeout_ms=int(limit * 1000),
        validate_only=only_asking,
    )
    deadline = clock.monotonic() + limit
    pause = SOON
    with naming(f"creating topic {name}"):
        while True:
            known = metadata(client, [name])
            # Before KRaft only the controller makes topics.
            to = known.controller if known.controller in known.brokers else None
            told = client.ask(request, to).topics[0]
            code = told.error_code
            if code != codes.NOT_CONTROLLER or clock.monotonic() > deadline:
                break
            client.pause(LATER)
        if code != codes.TOPIC_ALREADY_EXISTS:
            codes.require(code, told.error_message or name)
        if only_asking:
            return
        while not _writable(metadata(client, [name]), name):
            if clock.monotonic() > deadline:
                raise BrokerError(codes.LEADER_NOT_AVAILABLE, name)
            client.pause(pause)
            pause = min(2 * pause, LATER)


def _writable(known: messages.Metadata, name: str) -> bool:
    topic = known.topics.get(name)
    return (
        topic is not None
        and not topic.code
        and all(part.leader >= 0 for part in topic.partitions.values())
    )


class Stored(Struct, frozen=True):
    """A record as it stands in a topic; the time stamp in epoch milliseconds."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: KafkaHeaders = ()
