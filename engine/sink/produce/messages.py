"""
Messages: what is said to a broker beside Produce, by kafka-python's classes.

Owns which versions are spoken and what is read out of the answers; knows no
socket and no time.  None of these is on the hot path.

Path: `sink.produce.handshake` and `sink.produce.sender` ask here for requests.
"""

from __future__ import annotations

from typing import Any

import kafka.errors as foreign
from kafka.protocol.metadata import (
    ApiVersionsRequest,
    FindCoordinatorRequest,
    MetadataRequest,
)
from kafka.protocol.producer import (
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
)
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest
from msgspec import Struct

from engine.sink.produce.wire import NO_ID, Endpoint, Garbled

#: api key -> the versions a broker speaks, lowest and highest.
Versions = dict[int, tuple[int, int]]

#: The version of ApiVersions that brokers from 2.4 on speak; an older one answers
#: it in the form of version 0 (KIP-511).
VERSIONS_ASKED = 3

#: The api key of EndTxn.
END_TXN = int(EndTxnRequest.API_KEY)

#: The kind of key by which a transaction's coordinator is looked for.
TRANSACTION = 1


class Message(Struct, frozen=True):
    """A request of kafka-python's and the version it is sent in."""

    request: Any
    version: int

    def encode(self, correlation: int, client_id: str) -> bytes:
        """The frame, its length in front."""
        self.request.API_VERSION = self.version
        self.request.with_header(correlation_id=correlation, client_id=client_id)
        return bytes(self.request.encode(framed=True, header=True))

    def decode(self, frame: bytes) -> Any:
        """
        The answer in a frame, its correlation id included.

        Raises: Garbled.
        """
        try:
            kind = self.request.header.get_response_class()
            return kind.decode(frame, header=True)
        # Hostile bytes make the library raise whatever comes of them.
        except Exception as error:
            name = type(self.request).__name__
            raise Garbled(f"the answer to {name} cannot be read: {error}") from error


def _version(kind: Any, spoken: Versions) -> int:
    """
    The newest version of a request that both sides speak.

    Raises: kafka.errors.UnsupportedVersionError.
    """
    lowest, highest = spoken.get(kind.API_KEY, (0, -1))
    version: int = min(kind.max_version, highest)
    if version < lowest:
        raise foreign.UnsupportedVersionError(
            f"the broker speaks no version of {kind.__name__} that is known here"
        )
    return version


def api_versions(version: int, software: str) -> Message:
    """Ask what a broker speaks."""
    if version < VERSIONS_ASKED:
        return Message(ApiVersionsRequest(), version)
    request = ApiVersionsRequest(
        client_software_name="kafka-http-source", client_software_version=software
    )
    return Message(request, version)


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
    return Message(SaslHandshakeRequest(mechanism=mechanism), 1)


def sasl_authenticate(token: bytes, versions: Versions) -> Message:
    """One step of a mechanism."""
    return Message(
        SaslAuthenticateRequest(auth_bytes=token),
        _version(SaslAuthenticateRequest, versions),
    )


def init_producer_id(
    versions: Versions, transactional_id: str | None = None, timeout_ms: int = -1
) -> Message:
    """
    Ask for a producer id.

    With a transactional id: whoever had it before is fenced, and what it left
    open is aborted.
    """
    request = InitProducerIdRequest(
        transactional_id=transactional_id,
        transaction_timeout_ms=timeout_ms,
        producer_id=-1,
        producer_epoch=-1,
    )
    # From 6 on it speaks of two-phase commits, which are not stable yet.
    return Message(request, min(_version(InitProducerIdRequest, versions), 5))


def find_coordinator(transactional_id: str, versions: Versions) -> Message:
    """Ask which broker keeps a transactional id."""
    version = _version(FindCoordinatorRequest, versions)
    if version < 1:
        raise foreign.UnsupportedVersionError("the broker knows no transactions")
    request = FindCoordinatorRequest(
        key=transactional_id,
        key_type=TRANSACTION,
        coordinator_keys=[transactional_id],
    )
    # 6 adds nothing but another kind of key.
    return Message(request, min(version, 5))


class Coordinator(Struct, frozen=True):
    """What an answer to `find_coordinator` says; no endpoint with an error."""

    code: int
    endpoint: Endpoint | None


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
        return Coordinator(0, Endpoint(told.node_id, told.host, told.port))
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
    kind = AddPartitionsToTxnRequest
    by_topic: dict[str, list[int]] = {}
    for topic, index in places:
        by_topic.setdefault(topic, []).append(index)
    request = kind(
        v3_and_below_transactional_id=transactional_id,
        v3_and_below_producer_id=producer,
        v3_and_below_producer_epoch=epoch,
        v3_and_below_topics=[
            kind.AddPartitionsToTxnTopic(name=name, partitions=indexes)
            for name, indexes in by_topic.items()
        ],
    )
    # From 4 on it is what brokers say to each other.
    return Message(request, min(_version(kind, versions), 3))


def added(answer: Any) -> dict[tuple[str, int], int]:
    """
    The code of each partition in an answer to `add_partitions`.

    Raises: Garbled.
    """
    try:
        return {
            (topic.name, part.partition_index): part.partition_error_code
            for topic in answer.results_by_topic_v3_and_below
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
    request = EndTxnRequest(
        transactional_id=transactional_id,
        producer_id=producer,
        producer_epoch=epoch,
        committed=commit,
    )
    return Message(request, min(_version(EndTxnRequest, versions), highest))


def metadata(topics: list[str], versions: Versions) -> Message:
    """
    Ask for brokers and the leaders of topics.

    Never makes a topic: one that was deleted would come back with the broker's
    defaults.
    """
    request = MetadataRequest(
        topics=[MetadataRequest.MetadataRequestTopic(name=name) for name in topics],
        allow_auto_topic_creation=False,
    )
    version = _version(MetadataRequest, versions)
    if version < 4:
        raise foreign.UnsupportedVersionError("the broker is older than Kafka 0.11")
    return Message(request, version)


class Told(Struct, frozen=True):
    """
    A partition as a broker tells of it.

    Attributes:
        leader: -1 for none.
        epoch: The leader's, -1 where it was not said.
    """

    leader: int
    epoch: int


class Topic(Struct, frozen=True):
    """
    A topic as a broker tells of it.

    Attributes:
        code: 0, or why there is nothing to tell.
        partitions: By index.
    """

    code: int
    id: bytes
    partitions: dict[int, Told]


class Metadata(Struct, frozen=True):
    """What a broker knows of the cluster."""

    cluster: str
    brokers: dict[int, Endpoint]
    topics: dict[str, Topic]


def told(answer: Any) -> Metadata:
    """
    What an answer to `metadata` says.

    Raises: Garbled.
    """
    try:
        topics = {}
        for each in answer.topics:
            partitions = {
                part.partition_index: Told(part.leader_id, _epoch(part))
                for part in each.partitions
            }
            topic_id = getattr(each, "topic_id", None)
            topics[each.name] = Topic(
                each.error_code,
                topic_id.bytes if topic_id is not None else NO_ID,
                partitions,
            )
        brokers = {
            each.node_id: Endpoint(each.node_id, each.host, each.port)
            for each in answer.brokers
        }
        return Metadata(answer.cluster_id or "", brokers, topics)
    except (AttributeError, TypeError, ValueError) as error:
        raise Garbled(f"the metadata cannot be read: {error}") from error


def _epoch(part: Any) -> int:
    found = getattr(part, "leader_epoch", None)
    return -1 if found is None else int(found)
