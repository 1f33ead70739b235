"""
Protocol: what is said to a broker beside Produce, as bytes.

Owns the forms of the messages that are used here, version by version.  A form is read
when its message is first used; `sink.codec` makes bytes by it.

A form is a list of fields, `name:kind`, in the order of Kafka's schemas.  `?N`: may
be null from version N on.  `@N+`, `@N-M`: in these versions only.  `#T`: a tagged
field (KIP-482).  `[...]` is an array of such structures, `[]kind` one of values.

Path: `sink.produce.messages`, `sink.caller` and those above it -> here
Source: Kafka's protocol guide, clients/src/main/resources/common/message/*.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from engine.sink.codec import ENDLESS, GREETING, Message, MessageType

API_VERSIONS = MessageType(
    "ApiVersions",
    GREETING,
    (0, 3),
    3,
    "client_software_name:string@3+ client_software_version:string@3+",
    """error_code:int16
    api_keys[api_key:int16 min_version:int16 max_version:int16]
    throttle_time_ms:int32@1+
    supported_features[name:string min_version:int16 max_version:int16]@3+#0
    finalized_features_epoch:int64@3+#1
    finalized_features
        [name:string max_version_level:int16 min_version_level:int16]@3+#2""",
)

METADATA = MessageType(
    "Metadata",
    3,
    (4, 12),
    9,
    """topics[topic_id:uuid@10+ name:string?10]?1 allow_auto_topic_creation:bool@4+
    include_cluster_authorized_operations:bool@8-10
    include_topic_authorized_operations:bool@8+""",
    """throttle_time_ms:int32@3+
    brokers[node_id:int32 host:string port:int32 rack:string?1@1+]
    cluster_id:string?2@2+ controller_id:int32@1+
    topics[
        error_code:int16 name:string?12 topic_id:uuid@10+ is_internal:bool@1+
        partitions[
            error_code:int16 partition_index:int32 leader_id:int32
            leader_epoch:int32@7+ replica_nodes[]int32 isr_nodes[]int32
            offline_replicas[]int32@5+
        ]
        topic_authorized_operations:int32@8+
    ]
    cluster_authorized_operations:int32@8-10""",
)

# From 6 on it speaks of two-phase commits, which are not stable yet.
INIT_PRODUCER_ID = MessageType(
    "InitProducerId",
    22,
    (0, 5),
    2,
    """transactional_id:string?0 transaction_timeout_ms:int32
    producer_id:int64@3+ producer_epoch:int16@3+""",
    "throttle_time_ms:int32 error_code:int16 producer_id:int64 producer_epoch:int16",
)

# 6 adds nothing but another kind of key.
FIND_COORDINATOR = MessageType(
    "FindCoordinator",
    10,
    (1, 5),
    3,
    "key:string@0-3 key_type:int8@1+ coordinator_keys[]string@4+",
    """throttle_time_ms:int32@1+ error_code:int16@0-3 error_message:string?1@1-3
    node_id:int32@0-3 host:string@0-3 port:int32@0-3
    coordinators[
        key:string node_id:int32 host:string port:int32 error_code:int16
        error_message:string?4
    ]@4+""",
)

# From 4 on it is what brokers say to each other.
ADD_PARTITIONS_TO_TXN = MessageType(
    "AddPartitionsToTxn",
    24,
    (0, 3),
    3,
    """transactional_id:string producer_id:int64 producer_epoch:int16
    topics[name:string partitions[]int32]""",
    """throttle_time_ms:int32
    results[
        name:string
        results_by_partition[partition_index:int32 partition_error_code:int16]
    ]""",
)

END_TXN = MessageType(
    "EndTxn",
    26,
    (0, 5),
    3,
    """transactional_id:string producer_id:int64 producer_epoch:int16
    committed:bool""",
    """throttle_time_ms:int32 error_code:int16
    producer_id:int64@5+ producer_epoch:int16@5+""",
)

SASL_HANDSHAKE = MessageType(
    "SaslHandshake",
    17,
    (0, 1),
    ENDLESS,
    "mechanism:string",
    "error_code:int16 mechanisms[]string",
)

SASL_AUTHENTICATE = MessageType(
    "SaslAuthenticate",
    36,
    (0, 2),
    2,
    "auth_bytes:bytes",
    """error_code:int16 error_message:string?0 auth_bytes:bytes
    session_lifetime_ms:int64@1+""",
)

CREATE_TOPICS = MessageType(
    "CreateTopics",
    19,
    (2, 7),
    5,
    """topics[
        name:string num_partitions:int32 replication_factor:int16
        assignments[partition_index:int32 broker_ids[]int32]
        configs[name:string value:string?0]
    ]
    timeout_ms:int32 validate_only:bool@1+""",
    """throttle_time_ms:int32@2+
    topics[
        name:string topic_id:uuid@7+ error_code:int16 error_message:string?1@1+
        topic_config_error_code:int16@5+#0 num_partitions:int32@5+
        replication_factor:int16@5+
        configs[
            name:string value:string?5 read_only:bool config_source:int8
            is_sensitive:bool
        ]?5@5+
    ]""",
)

DESCRIBE_CONFIGS = MessageType(
    "DescribeConfigs",
    32,
    (1, 4),
    4,
    """resources[
        resource_type:int8 resource_name:string configuration_keys[]string?0
    ]
    include_synonyms:bool@1+ include_documentation:bool@3+""",
    """throttle_time_ms:int32
    results[
        error_code:int16 error_message:string?0 resource_type:int8
        resource_name:string
        configs[
            name:string value:string?0 read_only:bool is_default:bool@0-0
            config_source:int8@1+ is_sensitive:bool
            synonyms[name:string value:string?0 source:int8]@1+
            config_type:int8@3+ documentation:string?3@3+
        ]
    ]""",
)

LIST_OFFSETS = MessageType(
    "ListOffsets",
    2,
    (1, 7),
    6,
    """replica_id:int32 isolation_level:int8@2+
    topics[
        name:string
        partitions[
            partition_index:int32 current_leader_epoch:int32@4+ timestamp:int64
        ]
    ]""",
    """throttle_time_ms:int32@2+
    topics[
        name:string
        partitions[
            partition_index:int32 error_code:int16 timestamp:int64@1+
            offset:int64@1+ leader_epoch:int32@4+
        ]
    ]""",
)

# 12 is the newest that names topics by name.
FETCH = MessageType(
    "Fetch",
    1,
    (4, 12),
    12,
    """replica_id:int32 max_wait_ms:int32 min_bytes:int32 max_bytes:int32
    isolation_level:int8 session_id:int32@7+ session_epoch:int32@7+
    topics[
        topic:string
        partitions[
            partition:int32 current_leader_epoch:int32@9+ fetch_offset:int64
            last_fetched_epoch:int32@12+ log_start_offset:int64@5+
            partition_max_bytes:int32
        ]
    ]
    forgotten_topics_data[topic:string partitions[]int32]@7+ rack_id:string@11+""",
    """throttle_time_ms:int32 error_code:int16@7+ session_id:int32@7+
    responses[
        topic:string
        partitions[
            partition_index:int32 error_code:int16 high_watermark:int64
            last_stable_offset:int64 log_start_offset:int64@5+
            aborted_transactions[producer_id:int64 first_offset:int64]?4
            preferred_read_replica:int32@11+ records:bytes?0
        ]
    ]""",
)

#: Of a coordinator's messages, and all others.
KINDS: Sequence[MessageType] = (
    API_VERSIONS,
    METADATA,
    INIT_PRODUCER_ID,
    FIND_COORDINATOR,
    ADD_PARTITIONS_TO_TXN,
    END_TXN,
    SASL_HANDSHAKE,
    SASL_AUTHENTICATE,
    CREATE_TOPICS,
    DESCRIBE_CONFIGS,
    LIST_OFFSETS,
    FETCH,
)

#: Builds a message for what a broker speaks.
Asking: TypeAlias = Callable[[Mapping[int, tuple[int, int]]], Message]
