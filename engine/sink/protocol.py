"""
Protocol: what is said to a broker beside Produce, as bytes.

Owns the forms of the messages that are used here, version by version, and their
coding: requests from plain values, answers to plain objects.  A form is read when
its message is first used.  Hostile bytes raise Garbled and nothing else.

A form is a list of fields, `name:kind`, in the order of Kafka's schemas.  `?N`: may
be null from version N on.  `@N+`, `@N-M`: in these versions only.  `#T`: a tagged
field (KIP-482).  `[...]` is an array of such structures, `[]kind` one of values.

Path: `sink.produce.messages`, `sink.caller` and those above it -> here
Source: Kafka's protocol guide, clients/src/main/resources/common/message/*.json.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any, TypeAlias

from msgspec import Struct

from engine.later import pattern
from engine.sink.produce.wire import Garbled

#: Highest version there may be.
_ENDLESS = 1 << 15

_NUMBERS = {
    "int8": struct.Struct(">b"),
    "int16": struct.Struct(">h"),
    "int32": struct.Struct(">i"),
    "int64": struct.Struct(">q"),
    "bool": struct.Struct(">?"),
}

_HEAD = struct.Struct(">hhih")

#: A field: its name, kind, form of what is within, and its versions.
_Form: TypeAlias = "tuple[_Field, ...]"


class _Field(Struct, frozen=True):
    name: str
    kind: str
    array: bool
    form: _Form
    null_from: int
    first: int
    last: int
    tag: int


_TOKEN = pattern(r"\[\](?=\w)|[\[\]]|[^\s\[\]]+")
_ENDING = pattern(r"(?:\?(\d+))?(?:@(\d+)(?:\+|-(\d+)))?(?:#(\d+))?")


def _read_form(text: str) -> _Form:
    tokens = _TOKEN.findall(text)
    tokens.reverse()
    return _fields(tokens)


def _fields(tokens: list[str]) -> _Form:
    found = []
    while tokens and tokens[-1] != "]":
        name, _, rest = tokens.pop().partition(":")
        array = False
        form: _Form = ()
        if not rest and tokens[-1] == "[":
            tokens.pop()
            array, form = True, _fields(tokens)
            tokens.pop()
            # What stands right behind the bracket, if it is no name.
            rest = tokens.pop() if tokens and tokens[-1][0] in "?@#" else ""
        elif not rest:
            tokens.pop()
            array, rest = True, tokens.pop()
        kind = re.match(r"\w*", rest)
        assert kind is not None
        ending = _ENDING.fullmatch(rest, kind.end())
        assert ending is not None, f"{name}:{rest}"
        null, first, last, tag = ending.groups()
        found.append(
            _Field(
                name,
                kind[0],
                array,
                form,
                _ENDLESS if null is None else int(null),
                int(first or 0),
                _ENDLESS if last is None else int(last),
                -1 if tag is None else int(tag),
            )
        )
    return tuple(found)


class MessageType:
    """
    A message and its answer.

    Args:
        key: Its api key.
        oldest, newest: Versions that are spoken here.
        flexible: The first with compact forms and tagged fields.
        request, answer: Forms.
    """

    def __init__(
        self,
        name: str,
        key: int,
        versions: tuple[int, int],
        flexible: int,
        request: str,
        answer: str,
    ) -> None:
        self.name = name
        self.key = key
        self.oldest, self.newest = versions
        self.flexible = flexible
        self._request = request
        self._answer = answer

    @cached_property
    def request(self) -> _Form:
        return _read_form(self._request)

    @cached_property
    def answer(self) -> _Form:
        return _read_form(self._answer)


class Message(Struct, frozen=True):
    """
    A request, and the version it is sent in.

    Attributes:
        values: By the names of its fields; what a version does not have is left
            out, what is missing is null, nothing, 0 or false.
    """

    kind: MessageType
    version: int
    values: Mapping[str, Any]

    def encode(self, correlation: int, client_id: str) -> bytes:
        """The frame, its length in front."""
        kind = self.kind
        compact = self.version >= kind.flexible
        client = client_id.encode()
        out = bytearray(4)
        out += _HEAD.pack(kind.key, self.version, correlation, len(client)) + client
        if compact:
            out += b"\0"
        _encode(out, kind.request, self.values, self.version, compact)
        out[:4] = (len(out) - 4).to_bytes(4, "big")
        return bytes(out)

    def decode(self, frame: bytes) -> Any:
        """
        The answer in a frame, its correlation id included.

        Raises: Garbled.
        """
        kind, version = self.kind, self.version
        if kind is API_VERSIONS and frame[4:6] == b"\0\x23":
            # A broker that does not know the version answers in that of 0 (KIP-511).
            version = 0
        compact = version >= kind.flexible
        reader = _Reader(frame, compact)
        try:
            reader.at = 4
            if compact and kind is not API_VERSIONS:
                reader.skip_tags()
            return reader.read(kind.answer, version)
        except (struct.error, UnicodeDecodeError, IndexError, ValueError) as error:
            raise Garbled(
                f"the answer to {kind.name} cannot be read: {error}"
            ) from error


# -- from values to bytes -----------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _encode(
    out: bytearray, form: _Form, values: Mapping[str, Any], version: int, compact: bool
) -> None:
    for field in form:
        if field.first <= version <= field.last and field.tag < 0:
            _encode_field(out, field, values.get(field.name), version, compact)
    if compact:
        # None of our requests has a tagged field.
        out += b"\0"


def _encode_field(
    out: bytearray, field: _Field, value: Any, version: int, compact: bool
) -> None:
    if field.array:
        if value is None and version < field.null_from:
            value = ()
        count = -1 if value is None else len(value)
        out += _varint(count + 1) if compact else count.to_bytes(4, "big", signed=True)
        for each in value or ():
            if field.form:
                _encode(out, field.form, each, version, compact)
            else:
                _encode_value(out, field.kind, each, compact)
        return
    if value is None and version < field.null_from:
        value = _NOTHING.get(field.kind, 0)
    _encode_value(out, field.kind, value, compact)


_NOTHING: Mapping[str, Any] = {"string": "", "bytes": b"", "uuid": bytes(16)}


def _encode_value(out: bytearray, kind: str, value: Any, compact: bool) -> None:
    if kind == "string" or kind == "bytes":
        data = value.encode() if isinstance(value, str) else value
        size = -1 if data is None else len(data)
        if compact:
            out += _varint(size + 1)
        else:
            out += size.to_bytes(2 if kind == "string" else 4, "big", signed=True)
        out += data or b""
    elif kind == "uuid":
        out += value
    else:
        out += _NUMBERS[kind].pack(value)


# -- from bytes to values -----------------------------------------------------------


class _Reader:
    def __init__(self, data: bytes, compact: bool) -> None:
        self.data = data
        self.compact = compact
        self.at = 0

    def read(self, form: _Form, version: int) -> SimpleNamespace:
        found: dict[str, Any] = {}
        tagged = {}
        for field in form:
            if not field.first <= version <= field.last:
                continue
            if field.tag >= 0:
                tagged[field.tag] = field
                found[field.name] = () if field.array else None
                continue
            found[field.name] = self._field(field, version)
        if self.compact:
            for _ in range(self._uvarint()):
                tag, size = self._uvarint(), self._uvarint()
                end = self._within(size)
                if tag in tagged:
                    found[tagged[tag].name] = self._field(tagged[tag], version)
                self.at = end
        return SimpleNamespace(**found)

    def skip_tags(self) -> None:
        for _ in range(self._uvarint()):
            self._uvarint()
            self.at = self._within(self._uvarint())

    def _field(self, field: _Field, version: int) -> Any:
        if not field.array:
            return self._value(field.kind)
        count = self._uvarint() - 1 if self.compact else self._number("int32")
        if count < 0:
            return None
        # An element has a byte at least.
        self._within(count)
        if field.form:
            return [self.read(field.form, version) for _ in range(count)]
        return [self._value(field.kind) for _ in range(count)]

    def _value(self, kind: str) -> Any:
        if kind in _NUMBERS:
            return self._number(kind)
        if kind == "uuid":
            size = 16
        elif self.compact:
            size = self._uvarint() - 1
        else:
            size = self._number("int16" if kind == "string" else "int32")
        if size < 0:
            return None
        end = self._within(size)
        data = self.data[self.at : end]
        self.at = end
        return data.decode() if kind == "string" else data

    def _number(self, kind: str) -> Any:
        form = _NUMBERS[kind]
        [value] = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value

    def _uvarint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 28:
                raise ValueError("a number is too long")

    def _within(self, size: int) -> int:
        end = self.at + size
        if end > len(self.data):
            raise ValueError(f"{size} bytes of {len(self.data) - self.at}")
        return end


# -- the messages ---------------------------------------------------------------------

API_VERSIONS = MessageType(
    "ApiVersions",
    18,
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
    _ENDLESS,
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
