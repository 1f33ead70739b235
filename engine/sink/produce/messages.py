"""
Messages: what is said to a broker beside Produce.

Owns which versions are spoken and what is read out of the answers; knows no
socket and no time.  None of these is on the hot path.

Path: `sink.produce.handshake`, `sink.produce.sender` and `sink.caller` ask here for
requests -> `sink.protocol`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from engine.sink import codes, protocol
from engine.sink.codec import Message, MessageType
from engine.sink.codes import BrokerError
from engine.sink.produce import verdicts
from engine.sink.produce.wire import NO_ID, BrokerAddress, Garbled

#: api key -> the versions a broker speaks, lowest and highest.
Versions = dict[int, tuple[int, int]]

#: The version of ApiVersions that brokers from 2.4 on speak; an older one answers
#: it in the form of version 0 (KIP-511).
VERSIONS_ASKED = 3

#: The api key of EndTxn.
END_TXN = protocol.END_TXN.key

#: The kind of key by which a transaction's coordinator is looked for.
TRANSACTION = 1


def unspoken(name: str, spoken: tuple[int, int] | None, known: tuple[int, int]) -> str:
    """That no version of a request is spoken on both sides, for people."""
    said = "none" if spoken is None else "{} to {}".format(*spoken)
    return (
        f"the broker speaks no version of {name} that is known here "
        f"({said}; known are {known[0]} to {known[1]}): brokers from 2.4 on are served"
    )


def message(kind: MessageType, spoken: Versions, values: Mapping[str, Any]) -> Message:
    """
    A request in the newest version that both sides speak.

    Raises: BrokerError.
    """
    lowest, highest = spoken.get(kind.key, (0, -1))
    version = min(kind.newest, highest)
    if version < max(lowest, kind.oldest):
        raise BrokerError(
            codes.UNSUPPORTED_VERSION,
            unspoken(kind.name, spoken.get(kind.key), (kind.oldest, kind.newest)),
        )
    return Message(kind, version, values)


def api_versions(version: int, software: str) -> Message:
    """Ask what a broker speaks."""
    return Message(
        protocol.API_VERSIONS,
        version,
        {
            "client_software_name": "kafka-http-source",
            "client_software_version": software,
        },
    )


def spoken(answer: Any) -> Versions:
    """What a broker speaks."""
    return {
        each.api_key: (each.min_version, each.max_version) for each in answer.api_keys
    }


def features(answer: Any) -> dict[str, int]:
    """What the cluster has agreed on: name -> level; empty where it says nothing."""
    found = getattr(answer, "finalized_features", None) or ()
    return {each.name: each.max_version_level for each in found}


def sasl_handshake(mechanism: str) -> Message:
    """Ask for a mechanism; brokers from 1.0 on speak version 1."""
    return Message(protocol.SASL_HANDSHAKE, 1, {"mechanism": mechanism})


def sasl_authenticate(token: bytes, versions: Versions) -> Message:
    """One step of a mechanism."""
    return message(protocol.SASL_AUTHENTICATE, versions, {"auth_bytes": token})


def init_producer_id(
    versions: Versions, transactional_id: str | None = None, timeout_ms: int = -1
) -> Message:
    """
    Ask for a producer id.

    With a transactional id: whoever had it before is fenced, and what it left
    open is aborted.
    """
    return message(
        protocol.INIT_PRODUCER_ID,
        versions,
        {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": timeout_ms,
            "producer_id": -1,
            "producer_epoch": -1,
        },
    )


def find_coordinator(transactional_id: str, versions: Versions) -> Message:
    """Ask which broker keeps a transactional id."""
    return message(
        protocol.FIND_COORDINATOR,
        versions,
        {
            "key": transactional_id,
            "key_type": TRANSACTION,
            "coordinator_keys": [transactional_id],
        },
    )


class Coordinator(Struct, frozen=True):
    """What an answer to `find_coordinator` says; no endpoint with an error."""

    code: int
    endpoint: BrokerAddress | None


def coordinator(answer: Any) -> Coordinator:
    """
    Read an answer to `find_coordinator`.

    Raises: Garbled.
    """
    try:
        # From version 4 on it is a list.
        many = getattr(answer, "coordinators", None)
        told = many[0] if many else answer
        if told.error_code:
            return Coordinator(told.error_code, None)
        if told.node_id < 0:
            return Coordinator(verdicts.NO_COORDINATOR, None)
        return Coordinator(0, BrokerAddress(told.node_id, told.host, told.port))
    except (AttributeError, TypeError, ValueError) as error:
        raise Garbled(f"the coordinator cannot be read: {error}") from error


def add_partitions(
    transactional_id: str,
    producer: int,
    epoch: int,
    places: list[tuple[str, int]],
    versions: Versions,
) -> Message:
    """Tell the coordinator that the transaction writes to these partitions."""
    by_topic: dict[str, list[int]] = {}
    for topic, index in places:
        by_topic.setdefault(topic, []).append(index)
    return message(
        protocol.ADD_PARTITIONS_TO_TXN,
        versions,
        {
            "transactional_id": transactional_id,
            "producer_id": producer,
            "producer_epoch": epoch,
            "topics": [
                {"name": name, "partitions": indexes}
                for name, indexes in by_topic.items()
            ],
        },
    )


def added(answer: Any) -> dict[tuple[str, int], int]:
    """
    The code of each partition in an answer to `add_partitions`.

    Raises: Garbled.
    """
    try:
        return {
            (topic.name, part.partition_index): part.partition_error_code
            for topic in answer.results
            for part in topic.results_by_partition
        }
    except (AttributeError, TypeError) as error:
        raise Garbled(f"the partitions added cannot be read: {error}") from error


def end_txn(
    transactional_id: str,
    producer: int,
    epoch: int,
    commit: bool,
    versions: Versions,
    highest: int,
) -> Message:
    """End a transaction; from version 5 on the answer has the next epoch."""
    values = {
        "transactional_id": transactional_id,
        "producer_id": producer,
        "producer_epoch": epoch,
        "committed": commit,
    }
    newest = message(protocol.END_TXN, versions, values)
    return Message(newest.kind, min(newest.version, highest), values)


def metadata(topics: Sequence[str], versions: Versions) -> Message:
    """
    Ask for brokers and the leaders of topics.

    Never makes a topic: one that was deleted would come back with the broker's
    defaults.
    """
    values = {
        "topics": [{"name": name} for name in topics],
        "allow_auto_topic_creation": False,
    }
    return message(protocol.METADATA, versions, values)


class PartitionMetadata(Struct, frozen=True):
    """
    A partition as a broker tells of it.

    Attributes:
        leader: -1 for none.
        epoch: The leader's, -1 where it was not said.
    """

    leader: int
    epoch: int


class TopicMetadata(Struct, frozen=True):
    """
    A topic as a broker tells of it.

    Attributes:
        code: 0, or why there is nothing to tell.
        partitions: By index.
    """

    code: int
    id: bytes
    partitions: dict[int, PartitionMetadata]


class Metadata(Struct, frozen=True):
    """
    What a broker knows of the cluster.

    Attributes:
        controller: The broker that makes topics, -1 for none.
    """

    cluster: str
    brokers: dict[int, BrokerAddress]
    topics: dict[str, TopicMetadata]
    controller: int = -1


def told(answer: Any) -> Metadata:
    """
    What an answer to `metadata` says.

    Raises: Garbled.
    """
    try:
        topics = {}
        for each in answer.topics:
            partitions = {
                part.partition_index: PartitionMetadata(part.leader_id, _epoch(part))
                for part in each.partitions
            }
            topic_id = getattr(each, "topic_id", NO_ID)
            topics[each.name] = TopicMetadata(each.error_code, topic_id, partitions)
        brokers = {
            each.node_id: BrokerAddress(each.node_id, each.host, each.port)
            for each in answer.brokers
            if each.node_id >= 0
        }
        return Metadata(answer.cluster_id or "", brokers, topics, answer.controller_id)
    except (AttributeError, TypeError, ValueError) as error:
        raise Garbled(f"the metadata cannot be read: {error}") from error


def _epoch(part: Any) -> int:
    found = getattr(part, "leader_epoch", None)
    return -1 if found is None else int(found)
