"""
What each version of Kafka speaks: the lowest and highest version of each request.

Source: ApiVersions answers of those brokers; OffsetCommit and OffsetFetch end below
the versions that name topics by their id.
"""

from __future__ import annotations

from typing import Any

from kafka.protocol.admin import (
    CreateTopicsRequest,
    DeleteTopicsRequest,
    DescribeConfigsRequest,
)
from kafka.protocol.consumer import (
    FetchRequest,
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    ListOffsetsRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
    OffsetForLeaderEpochRequest,
    SyncGroupRequest,
)
from kafka.protocol.metadata import (
    ApiVersionsRequest,
    FindCoordinatorRequest,
    MetadataRequest,
)
from kafka.protocol.producer import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    ProduceRequest,
    TxnOffsetCommitRequest,
)
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

#: By a broker's version, then by api key.
# fmt: off
SPOKEN: dict[str, dict[int, tuple[int, int]]] = {
    "2.4": {
        0: (0, 8), 1: (0, 11), 2: (0, 5), 3: (0, 9), 8: (0, 8), 9: (0, 6), 10: (0, 3),
        11: (0, 6), 12: (0, 4), 13: (0, 4), 14: (0, 4), 17: (0, 1), 18: (0, 3),
        19: (0, 5), 20: (0, 4), 22: (0, 2), 23: (0, 3), 24: (0, 1), 25: (0, 1),
        26: (0, 1), 28: (0, 2), 32: (0, 2), 36: (0, 1),
    },
    "2.8": {
        0: (0, 9), 1: (0, 12), 2: (0, 6), 3: (0, 11), 8: (0, 8), 9: (0, 7),
        10: (0, 3), 11: (0, 7), 12: (0, 4), 13: (0, 4), 14: (0, 5), 17: (0, 1),
        18: (0, 3), 19: (0, 7), 20: (0, 6), 22: (0, 4), 23: (0, 4), 24: (0, 3),
        25: (0, 3), 26: (0, 3), 28: (0, 3), 32: (0, 4), 36: (0, 2),
    },
    "3.7": {
        0: (0, 10), 1: (0, 16), 2: (0, 8), 3: (0, 12), 8: (0, 9), 9: (0, 9),
        10: (0, 4), 11: (0, 9), 12: (0, 4), 13: (0, 5), 14: (0, 5), 17: (0, 1),
        18: (0, 3), 19: (0, 7), 20: (0, 6), 22: (0, 5), 23: (0, 4), 24: (0, 5),
        25: (0, 3), 26: (0, 3), 28: (0, 3), 32: (0, 4), 36: (0, 2),
    },
    "4.0": {
        0: (3, 12), 1: (4, 17), 2: (1, 10), 3: (0, 13), 8: (2, 9), 9: (1, 9),
        10: (0, 6), 11: (0, 9), 12: (0, 4), 13: (0, 5), 14: (0, 5), 17: (0, 1),
        18: (0, 4), 19: (2, 7), 20: (1, 6), 22: (0, 5), 23: (2, 4), 24: (0, 5),
        25: (0, 4), 26: (0, 5), 28: (0, 5), 32: (1, 4), 36: (0, 2),
    },
    "4.3": {
        0: (3, 13), 1: (4, 18), 2: (1, 11), 3: (0, 13), 8: (2, 9), 9: (1, 9),
        10: (0, 6), 11: (0, 9), 12: (0, 4), 13: (0, 5), 14: (0, 5), 17: (0, 1),
        18: (0, 4), 19: (2, 7), 20: (1, 6), 22: (0, 5), 23: (2, 4), 24: (0, 5),
        25: (0, 4), 26: (0, 5), 28: (0, 5), 32: (1, 4), 36: (0, 2),
    },
}
# fmt: on

#: The level of `transaction.version` that a cluster of this version has when new
#: (KIP-890: 2 from 4.0 on; 0 where the feature is unknown).
TRANSACTION_VERSION = {"4.0": 2, "4.3": 2}

REQUESTS: dict[int, Any] = {
    kind.API_KEY: kind
    for kind in (
        AddOffsetsToTxnRequest,
        AddPartitionsToTxnRequest,
        ApiVersionsRequest,
        CreateTopicsRequest,
        DeleteTopicsRequest,
        DescribeConfigsRequest,
        EndTxnRequest,
        FetchRequest,
        FindCoordinatorRequest,
        HeartbeatRequest,
        InitProducerIdRequest,
        JoinGroupRequest,
        LeaveGroupRequest,
        ListOffsetsRequest,
        MetadataRequest,
        OffsetCommitRequest,
        OffsetFetchRequest,
        OffsetForLeaderEpochRequest,
        ProduceRequest,
        SaslAuthenticateRequest,
        SaslHandshakeRequest,
        SyncGroupRequest,
        TxnOffsetCommitRequest,
    )
}
