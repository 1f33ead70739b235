"""
Options of the converters: how keys, values and headers become bytes.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from engine.config.kinds import (
    Bool,
    Choice,
    ClassName,
    CommaList,
    File,
    InvalidValue,
    Password,
    Text,
    Url,
)
from engine.config.sections.section import Section, option, unset
from engine.observe.redact import Secret

CONVERTERS = ClassName(
    {
        "org.apache.kafka.connect.storage.StringConverter": "StringConverter",
        "org.apache.kafka.connect.converters.ByteArrayConverter": (
            "ByteArrayConverter"
        ),
        "org.apache.kafka.connect.json.JsonConverter": "JsonConverter",
        "io.confluent.connect.avro.AvroConverter": "AvroConverter",
        "io.confluent.connect.json.JsonSchemaConverter": "JsonSchemaConverter",
        "io.confluent.connect.protobuf.ProtobufConverter": "ProtobufConverter",
    },
    "Converter",
)

HEADER_CONVERTERS = ClassName(
    {
        "org.apache.kafka.connect.storage.SimpleHeaderConverter": (
            "SimpleHeaderConverter"
        ),
        "org.apache.kafka.connect.storage.StringConverter": "StringConverter",
        "org.apache.kafka.connect.json.JsonConverter": "JsonConverter",
    },
    "Converter",
)

STRATEGIES = ClassName(
    {
        f"io.confluent.kafka.serializers.subject.{name}": name
        for name in (
            "TopicNameStrategy",
            "RecordNameStrategy",
            "TopicRecordNameStrategy",
        )
    },
    "Strategy",
)


def _user_info(text: str) -> None:
    if ":" not in text:
        raise InvalidValue("allowed: user:password")


class ConverterConfig(Section, frozen=True, kw_only=True):
    """The converter of one side: the key's or the value's."""

    TITLE: ClassVar[str] = "Converters and schemas"
    SCOPE: ClassVar[str] = "A"

    converter: str = option(
        "{side}.converter",
        CONVERTERS,
        "StringConverter",
        "How {of} becomes bytes.",
        "io.confluent.connect.avro.AvroConverter",
    )
    schemas_enable: bool = option(
        "{side}.converter.schemas.enable",
        Bool(),
        "false",
        'JsonConverter writes {"schema":..., "payload":...}.',
        "true",
    )
    registry_url: tuple[str, ...] | None = unset(
        "{side}.converter.schema.registry.url",
        CommaList(Url()),
        None,
        "Schema registries, needed by Avro, JsonSchema and Protobuf.",
        "https://registry.example.com",
    )
    credentials_source: str = option(
        "{side}.converter.basic.auth.credentials.source",
        Choice(("USER_INFO",)),
        "USER_INFO",
        "Where the registry's login comes from.",
    )
    user_info: Secret | None = unset(
        "{side}.converter.basic.auth.user.info",
        Password(check=_user_info),
        None,
        "The registry's login as user:password.",
        "${env:REGISTRY_LOGIN}",
    )
    auto_register: bool = option(
        "{side}.converter.auto.register.schemas",
        Bool(),
        "true",
        "false: a schema the registry does not know makes a bad record.",
        "false",
    )
    use_latest: bool = option(
        "{side}.converter.use.latest.version",
        Bool(),
        "false",
        "Encodes with the registry's latest schema instead of ours.",
        "true",
    )
    strategy: str = option(
        "{side}.converter.subject.name.strategy",
        STRATEGIES,
        "TopicNameStrategy",
        "How a schema's subject is named.",
        "RecordNameStrategy",
    )
    schema_file: Path | None = unset(
        "{side}.schema.file",
        File(exists=True),
        None,
        "Avro or JSON Schema, or a compiled descriptor set; unset: inferred.",
        "order.avsc",
    )
    schema_message: str | None = unset(
        "{side}.schema.message",
        Text(r"[A-Za-z_][\w.]*", "message name"),
        None,
        "The message of a descriptor set.",
        "shop.Order",
    )


class NamesConfig(Section, frozen=True, kw_only=True):
    """What both sides have in common, and the headers."""

    TITLE: ClassVar[str] = "Converters and schemas"
    SCOPE: ClassVar[str] = "A"

    sanitize: bool = option(
        "schema.names.sanitize",
        Bool(),
        "false",
        "AvroConverter: a character that Avro does not allow in a field's name becomes "
        "_, and a digit in front gets one; false: such a name makes a bad record.",
        "true",
    )
    header_converter: str = option(
        "header.converter",
        HEADER_CONVERTERS,
        "SimpleHeaderConverter",
        "How kafka.headers become bytes.",
        "StringConverter",
    )


#: The entries of both sides.
SIDES = [
    *ConverterConfig.entries(side="key", of="kafka.key"),
    *ConverterConfig.entries(
        {"converter": {"default": "JsonConverter"}}, side="value", of="the record"
    ),
]
