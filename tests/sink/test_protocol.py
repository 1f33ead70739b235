"""Messages are coded as kafka-python codes them, in every version of each."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import pytest
from kafka.protocol import admin, consumer, metadata, producer, sasl

from engine.sink import protocol
from engine.sink.codec import Message, MessageType
from engine.sink.produce.wire import Garbled

#: The library's request and answer of each message.
THEIRS: dict[str, tuple[Any, Any]] = {
    name: (getattr(room, f"{name}Request"), getattr(room, f"{name}Response"))
    for room, names in (
        (metadata, ("ApiVersions", "Metadata", "FindCoordinator")),
        (producer, ("InitProducerId", "AddPartitionsToTxn", "EndTxn")),
        (sasl, ("SaslHandshake", "SaslAuthenticate")),
        (admin, ("CreateTopics", "DescribeConfigs")),
        (consumer, ("ListOffsets", "Fetch")),
    )
    for name in names
}

#: Names of fields that the library has others for.
OTHERS = {
    "AddPartitionsToTxn": {
        "transactional_id": "v3_and_below_transactional_id",
        "producer_id": "v3_and_below_producer_id",
        "producer_epoch": "v3_and_below_producer_epoch",
        "topics": "v3_and_below_topics",
        "results": "results_by_topic_v3_and_below",
    },
}

#: What the library reads as sets; nobody here asks for it.
BITS = {"topic_authorized_operations", "cluster_authorized_operations"}


def each_version() -> Iterator[Any]:
    for kind in protocol.KINDS:
        theirs = THEIRS[kind.name][0]
        lowest = max(kind.oldest, theirs.min_version)
        for version in range(lowest, min(kind.newest, theirs.max_version) + 1):
            yield pytest.param(kind, version, id=f"{kind.name}-{version}")


def made_up(form: Any, version: int, draw: random.Random) -> dict[str, Any]:
    """Values for the fields that a version has."""
    found: dict[str, Any] = {}
    for field in form:
        if not field.first <= version <= field.last or field.tag >= 0:
            continue
        if version >= field.null_from and draw.random() < 0.2:
            found[field.name] = None
        elif field.array:
            found[field.name] = [
                made_up(field.form, version, draw)
                if field.form
                else value(field.kind, draw)
                for _ in range(draw.choice([0, 1, 3]))
            ]
        else:
            found[field.name] = value(field.kind, draw)
    return found


def value(kind: str, draw: random.Random) -> Any:
    if kind == "string":
        return draw.choice(["", "orders", "ü" * 70, "x" * 200])
    if kind == "bytes":
        return draw.choice([b"", b"\0token", b"r" * 300])
    if kind == "uuid":
        return draw.randbytes(16)
    if kind == "bool":
        return draw.random() < 0.5
    bits = int(kind[3:])
    return draw.choice([0, 1, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))])


def theirs(kind: MessageType, cls: Any, form: Any, values: Mapping[str, Any]) -> Any:
    """The same values as the library takes them."""
    given: dict[str, Any] = {}
    for field in form:
        if field.name not in values or field.name in BITS:
            continue
        told = values[field.name]
        if field.kind == "uuid":
            told = UUID(bytes=told)
        name = OTHERS.get(kind.name, {}).get(field.name, field.name)
        if field.form and told is not None:
            inner = cls.fields[name].data_class
            told = [theirs(kind, inner, field.form, each) for each in told]
        given[name] = told
    return cls(**given)


def same(ours: Any, library: Any, form: Any, version: int, kind: MessageType) -> bool:
    """Whether two decoded structures say the same."""
    for field in form:
        if not field.first <= version <= field.last or field.tag >= 0:
            continue
        if field.name in BITS:
            continue
        name = OTHERS.get(kind.name, {}).get(field.name, field.name)
        one, other = getattr(ours, field.name), getattr(library, name)
        if field.kind == "uuid" and other is not None:
            other = other.bytes
        if field.array and field.form and one is not None:
            if len(one) != len(other) or not all(
                same(a, b, field.form, version, kind)
                for a, b in zip(one, other, strict=True)
            ):
                return False
        elif field.kind == "bytes" and other is not None:
            if one != bytes(other):
                return False
        elif one != other:
            return False
    return True


@pytest.mark.parametrize(("kind", "version"), [*each_version()])
def test_a_request_is_coded_as_the_library_codes_it(
    kind: MessageType, version: int
) -> None:
    draw = random.Random(f"{kind.name} {version}")
    for _ in range(20):
        values = made_up(kind.request, version, draw)
        request = theirs(kind, THEIRS[kind.name][0], kind.request, values)
        request.API_VERSION = version
        request.with_header(correlation_id=7, client_id="me")

        ours = Message(kind, version, values).encode(7, "me")

        assert bytes(request.encode(framed=True, header=True)) == ours


@pytest.mark.parametrize(("kind", "version"), [*each_version()])
def test_an_answer_is_read_as_the_library_reads_it(
    kind: MessageType, version: int
) -> None:
    draw = random.Random(f"{kind.name} {version}")
    cls = THEIRS[kind.name][1]
    for _ in range(20):
        values = made_up(kind.answer, version, draw)
        if kind is protocol.API_VERSIONS:
            # That of a version which a broker does not know has a form of its own.
            values["error_code"] = 0
        answer = theirs(kind, cls, kind.answer, values)
        answer.API_VERSION = version
        answer.with_header(correlation_id=7)
        frame = bytes(answer.encode(header=True))

        ours = Message(kind, version, {}).decode(frame)

        assert same(ours, answer, kind.answer, version, kind)


def test_tagged_fields_are_read_and_those_that_nobody_knows_are_passed_over() -> None:
    cls = THEIRS["ApiVersions"][1]
    feature = cls.FinalizedFeatureKey(
        name="transaction.version", max_version_level=2, min_version_level=0
    )
    answer = cls(
        error_code=0,
        api_keys=[],
        throttle_time_ms=0,
        finalized_features=[feature],
        zk_migration_ready=True,
    )
    answer.API_VERSION = 3
    answer.with_header(correlation_id=7)

    found = Message(protocol.API_VERSIONS, 3, {}).decode(answer.encode(header=True))

    assert [("transaction.version", 2)] == [
        (each.name, each.max_version_level) for each in found.finalized_features
    ]
    assert not found.supported_features


def test_a_broker_that_does_not_know_our_version_is_read_in_its_own() -> None:
    frame = b"\0\0\0\7" + b"\0\x23" + b"\0\0\0\1" + b"\0\x12\0\0\0\2"

    found = Message(protocol.API_VERSIONS, 3, {}).decode(frame)

    assert (35, 18, 2) == (
        found.error_code,
        found.api_keys[0].api_key,
        found.api_keys[0].max_version,
    )


@pytest.mark.parametrize(("kind", "version"), [*each_version()])
def test_hostile_bytes_are_garbled_and_nothing_else(
    kind: MessageType, version: int
) -> None:
    draw = random.Random(f"{kind.name} {version}")
    message = Message(kind, version, {})
    for size in range(60):
        frame = b"\0\0\0\7" + draw.randbytes(size)
        with contextlib.suppress(Garbled):
            message.decode(frame)
    with pytest.raises(Garbled):
        message.decode(b"\0\0\0\7\0")
