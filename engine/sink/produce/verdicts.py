"""
Verdicts: what follows from a broker's answer to a batch.

Owns the table of Kafka's error codes; decides nothing beside it.

Path: `sink.produce.sender` looks an answer up here.
Source: org.apache.kafka.common.protocol.Errors, and which of them are retriable.
"""

from __future__ import annotations

from enum import Enum

from engine.errors import SinkError
from engine.sink import codes
from engine.sink.naming import renamed


class BatchVerdict(Enum):
    """What to do with a batch."""

    #: It is written.
    WRITTEN = "written"
    #: Send the same bytes again after a pause, for as long as it takes.
    AGAIN = "again"
    #: Ask who leads the partition now, then send again.
    MOVED = "moved"
    #: The broker does not take one of its records: find out which.
    RECORDS = "records"
    #: It is larger than the topic allows: cut it.
    TOO_LARGE = "too large"
    #: It is not the next in its sequence: a batch before it is missing.
    ORDER = "order"
    #: The broker has forgotten the producer: begin a new epoch.
    FORGOTTEN = "forgotten"
    #: It never will be written.
    FAILED = "failed"


OK = 0
CORRUPT = 2
UNKNOWN_TOPIC = 3
MESSAGE_TOO_LARGE = 10
INVALID_RECORD = 87
UNKNOWN_TOPIC_ID = 100
NO_COORDINATOR = 15
CONCURRENT_TRANSACTIONS = 51
NOT_ATTEMPTED = 55

#: Codes that say that the topic is not there.
NO_TOPIC = (UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID)

_TABLE = {
    OK: BatchVerdict.WRITTEN,
    # DUPLICATE_SEQUENCE_NUMBER: an earlier try was written, only its answer lost.
    46: BatchVerdict.WRITTEN,
    # UNKNOWN_SERVER_ERROR: may be a disk; what it means for a batch is not said.
    -1: BatchVerdict.AGAIN,
    CORRUPT: BatchVerdict.AGAIN,
    7: BatchVerdict.AGAIN,  # REQUEST_TIMED_OUT
    8: BatchVerdict.MOVED,  # BROKER_NOT_AVAILABLE
    13: BatchVerdict.AGAIN,  # NETWORK_EXCEPTION
    14: BatchVerdict.AGAIN,  # COORDINATOR_LOAD_IN_PROGRESS
    15: BatchVerdict.AGAIN,  # COORDINATOR_NOT_AVAILABLE
    16: BatchVerdict.AGAIN,  # NOT_COORDINATOR
    19: BatchVerdict.AGAIN,  # NOT_ENOUGH_REPLICAS
    20: BatchVerdict.AGAIN,  # NOT_ENOUGH_REPLICAS_AFTER_APPEND
    CONCURRENT_TRANSACTIONS: BatchVerdict.AGAIN,
    89: BatchVerdict.AGAIN,  # THROTTLING_QUOTA_EXCEEDED
    UNKNOWN_TOPIC: BatchVerdict.MOVED,
    5: BatchVerdict.MOVED,  # LEADER_NOT_AVAILABLE
    6: BatchVerdict.MOVED,  # NOT_LEADER_OR_FOLLOWER
    9: BatchVerdict.MOVED,  # REPLICA_NOT_AVAILABLE
    56: BatchVerdict.MOVED,  # KAFKA_STORAGE_ERROR
    72: BatchVerdict.MOVED,  # LISTENER_NOT_FOUND
    74: BatchVerdict.MOVED,  # FENCED_LEADER_EPOCH
    75: BatchVerdict.MOVED,  # UNKNOWN_LEADER_EPOCH
    UNKNOWN_TOPIC_ID: BatchVerdict.MOVED,
    103: BatchVerdict.MOVED,  # INCONSISTENT_TOPIC_ID
    MESSAGE_TOO_LARGE: BatchVerdict.TOO_LARGE,
    18: BatchVerdict.TOO_LARGE,  # RECORD_LIST_TOO_LARGE
    INVALID_RECORD: BatchVerdict.RECORDS,
    32: BatchVerdict.RECORDS,  # INVALID_TIMESTAMP
    44: BatchVerdict.RECORDS,  # POLICY_VIOLATION
    45: BatchVerdict.ORDER,  # OUT_OF_ORDER_SEQUENCE_NUMBER
    59: BatchVerdict.FORGOTTEN,  # UNKNOWN_PRODUCER_ID
}

#: Tries after which a batch that arrives corrupt is taken for a refusal: brokers
#: before 2.4 say so of a record without key in a compacted topic.
CORRUPT_TRIES = 3


def verdict(code: int, tries: int) -> BatchVerdict:
    """
    What follows from an error code.

    Args:
        tries: How often the batch has been sent.
    """
    if code == CORRUPT and tries >= CORRUPT_TRIES:
        return BatchVerdict.RECORDS
    return _TABLE.get(code, BatchVerdict.FAILED)


def name(code: int) -> str:
    """Kafka's own name of an error code."""
    return codes.name(code)


#: What is to be changed where a broker refuses for good.
_REFUSALS = {
    17: "the broker takes the topic's name for none",
    21: "the broker takes no such producer.acks",
    29: "there is no right to write to the topic (Write, and Create for one to be made)",
    31: (
        "there is no right to the cluster (IdempotentWrite), or "
        "producer.enable.idempotence=false goes without"
    ),
    35: "the broker speaks no version of the request that is known here",
    42: "the broker takes the request for an invalid one",
    43: "the topic keeps messages of a format before 0.11: see its message.format.version",
    44: "a policy of the cluster refuses it",
    50: "the time-out is above the broker's transaction.max.timeout.ms",
    53: "there is no right to the transactional id (Write and Describe)",
    76: "the broker does not take producer.compression.type, or the topic's own",
}


def described(code: int) -> str:
    """What a refusal means, for people."""
    return _REFUSALS.get(code, codes.name(code))


def failure(code: int, message: str, doing: str) -> SinkError:
    """Our name for an error code that no retry mends."""
    said = "; ".join(filter(None, (_REFUSALS.get(code, ""), message)))
    return renamed(codes.BrokerError(code, said), doing)
