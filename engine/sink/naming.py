"""
Naming: our names for what a broker refuses and what a connection fails with.

Owns which of Kafka's codes mean that somebody has to change something, that a newer
producer has taken over, or that it passes.

Path: whoever asks a broker, `sink.produce.verdicts` for a batch -> here
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import Doubtful, Fenced, Misconfigured, SinkError, Unavailable
from engine.sink.codes import RETRIABLE, BrokerError
from engine.sink.produce.wire import Garbled
from engine.sink.reasons import LoginRefused

#: Codes that only other keys, rights or topics mend.
MISCONFIGURED = frozenset(
    {
        3,  # UNKNOWN_TOPIC_OR_PARTITION
        17,  # INVALID_TOPIC_EXCEPTION
        21,  # INVALID_REQUIRED_ACKS
        29,  # TOPIC_AUTHORIZATION_FAILED
        30,  # GROUP_AUTHORIZATION_FAILED
        31,  # CLUSTER_AUTHORIZATION_FAILED
        33,  # UNSUPPORTED_SASL_MECHANISM
        34,  # ILLEGAL_SASL_STATE
        35,  # UNSUPPORTED_VERSION
        37,  # INVALID_PARTITIONS
        38,  # INVALID_REPLICATION_FACTOR
        40,  # INVALID_CONFIG
        43,  # UNSUPPORTED_FOR_MESSAGE_FORMAT
        44,  # POLICY_VIOLATION
        53,  # TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        54,  # SECURITY_DISABLED
        58,  # SASL_AUTHENTICATION_FAILED
        65,  # DELEGATION_TOKEN_AUTHORIZATION_FAILED
        76,  # UNSUPPORTED_COMPRESSION_TYPE
    }
)

#: INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED, FENCED_INSTANCE_ID,
#: PRODUCER_FENCED.
FENCED = frozenset({47, 52, 82, 90})

#: BROKER_NOT_AVAILABLE is not retriable by name, and passes all the same.
PASSING = RETRIABLE | {8}


def renamed(error: BaseException, doing: str) -> SinkError:
    """
    Our name for a failure.

    Args:
        doing: What was attempted, the resource named: "writing to orders-3".
    """
    if isinstance(error, SinkError):
        return error
    said = f"{doing}: {error or type(error).__name__}"
    if isinstance(error, BrokerError):
        if error.code in FENCED:
            return Fenced(said)
        if error.code in MISCONFIGURED:
            return Misconfigured(said)
        if error.code in PASSING:
            return Unavailable(said)
    elif isinstance(error, LoginRefused):
        return Misconfigured(said)
    elif isinstance(error, OSError):
        return Unavailable(said)
    return Doubtful(said)


@contextmanager
def naming(doing: str) -> Iterator[None]:
    """Rename what a broker refuses inside."""
    try:
        yield
    except (BrokerError, LoginRefused, Garbled, OSError) as error:
        raise renamed(error, doing) from error


def passes(error: Exception) -> bool:
    """True if a new look at the leaders, or another try, may mend it."""
    if isinstance(error, BrokerError):
        return error.code in PASSING
    return isinstance(error, (OSError, Unavailable))
