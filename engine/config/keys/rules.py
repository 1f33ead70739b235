"""
Keys of the transformation: rules, converters, schemas, bad records.

Owns their entries in the table and nothing else.

Path: here -> ``keys.TABLE``
"""

from __future__ import annotations

from engine.config import shapes
from engine.config.keys.key import Key, section
from engine.config.kinds import (
    Bool,
    Choice,
    ClassName,
    Csv,
    File,
    Int,
    Json,
    Password,
    Text,
    Topic,
    Unfit,
    Url,
    size,
)

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
        raise Unfit("allowed: user:password")


def _transformation() -> list[Key]:
    key = section("Transformation")
    return [
        key(
            "transformation.enabled",
            Bool(),
            "true",
            "A",
            "Switch of mappings, enrichment, filters and validation. Without rules "
            "a record's bytes go on as the API wrote them and nobody looks into "
            "them: what only decoding would find (nesting beyond 100, a lone "
            "surrogate, a number out of range) is no bad record then; a page "
            "that is no JSON is always a bad page.",
            "false",
        ),
        key(
            "transformation.batch.size",
            Int(1, 100000),
            "1000",
            "T",
            "Most records decoded and handed on in one go; a bigger page is cut, "
            "smaller ones are not joined.",
            "500",
        ),
        key(
            "transformation.field.mappings",
            Json(shapes.mappings, "JSON array of mappings"),
            None,
            "A",
            "Which fields survive, under which name and type, in this order. What "
            "has no type is copied as it is written; no number passes through "
            "binary floating point unless its type is DOUBLE.",
            '[{"source": "id", "target": "record_id", "type": "STRING"}]',
        ),
        key(
            "transformation.enrichment.enabled",
            Bool(),
            "true",
            "A",
            "Runs the enrichment rules.",
            "false",
        ),
        key(
            "transformation.enrichment.rules",
            Json(shapes.enrichment, "JSON array of enrichment rules"),
            None,
            "A",
            "Fields set to a value or to what an expression gives, one after the "
            "other.",
            '[{"field": "source", "value": "crm"}, '
            '{"field": "name", "expression": "${upper(name)}"}]',
        ),
        key(
            "transformation.filter.expressions",
            Json(shapes.filters, "JSON array of filters"),
            None,
            "A",
            "Conditions that all must hold, or the record is left out and counted.",
            '[{"field": "status", "operator": "EQUALS", "value": "active"}]',
        ),
        key(
            "transformation.validation.enabled",
            Bool(),
            "true",
            "A",
            "Runs the validation rules.",
            "false",
        ),
        key(
            "transformation.validation.rules",
            Json(shapes.validation, "JSON array of validation rules"),
            None,
            "A",
            "What a record must be; one that is not is a bad record.",
            '[{"field": "email", "required": true, "pattern": ".+@.+"}]',
        ),
        key(
            "transformation.null.value.handling",
            Choice(("SKIP", "KEEP", "FAIL")),
            "SKIP",
            "A",
            "A mapped field that is null and has no default: left out, null, or a "
            "bad record.",
            "KEEP",
        ),
        key(
            "transformation.unmapped.fields",
            Choice(("DROP", "KEEP")),
            "DROP",
            "A",
            "KEEP: top-level fields that no mapping reads follow the mapped ones.",
            "KEEP",
        ),
        key(
            "transformation.function",
            Text(
                r"[A-Za-z_][\w.]*:[A-Za-z_]\w*",
                "module:name, beside this file or installed",
            ),
            None,
            "A",
            "A Python function for each record or page, after enrichment and before "
            "the filters.",
            "mymodule:reshape",
        ),
        key(
            "transformation.function.unit",
            Choice(("record", "page")),
            "record",
            "A",
            "What that function is given.",
            "page",
        ),
        key(
            "transformation.debug.enabled",
            Bool(),
            "false",
            "A",
            "A log line for each of a page's first 10 records, before and after.",
            "true",
        ),
        key(
            "transformation.max.record.size.bytes",
            size(1, 1073741824),
            "1048576",
            "A",
            "Most bytes of a record's key, value and headers; more is a bad record.",
        ),
    ]


def _converter(side: str, default: str) -> list[Key]:
    key = section("Converters and schemas")
    name = f"{side}.converter"
    of = {"key": "kafka.key", "value": "the record"}[side]
    return [
        key(
            name,
            CONVERTERS,
            default,
            "A",
            f"How {of} becomes bytes.",
            "io.confluent.connect.avro.AvroConverter",
        ),
        key(
            f"{name}.schemas.enable",
            Bool(),
            "false",
            "A",
            'JsonConverter writes {"schema":..., "payload":...}.',
            "true",
        ),
        key(
            f"{name}.schema.registry.url",
            Csv(Url()),
            None,
            "A",
            "Schema registries, needed by Avro, JsonSchema and Protobuf.",
            "https://registry.example.com",
        ),
        key(
            f"{name}.basic.auth.credentials.source",
            Choice(("USER_INFO",)),
            "USER_INFO",
            "A",
            "Where the registry's login comes from.",
        ),
        key(
            f"{name}.basic.auth.user.info",
            Password(check=_user_info),
            None,
            "A",
            "The registry's login as user:password.",
            "${env:REGISTRY_LOGIN}",
        ),
        key(
            f"{name}.auto.register.schemas",
            Bool(),
            "true",
            "A",
            "false: a schema the registry does not know makes a bad record.",
            "false",
        ),
        key(
            f"{name}.use.latest.version",
            Bool(),
            "false",
            "A",
            "Encodes with the registry's latest schema instead of ours.",
            "true",
        ),
        key(
            f"{name}.subject.name.strategy",
            STRATEGIES,
            "TopicNameStrategy",
            "A",
            "How a schema's subject is named.",
            "RecordNameStrategy",
        ),
        key(
            f"{side}.schema.file",
            File(exists=True),
            None,
            "A",
            "Avro or JSON Schema, or a compiled descriptor set; unset: inferred.",
            "order.avsc",
        ),
        key(
            f"{side}.schema.message",
            Text(r"[A-Za-z_][\w.]*", "message name"),
            None,
            "A",
            "The message of a descriptor set.",
            "shop.Order",
        ),
    ]


def _errors() -> list[Key]:
    key = section("Bad records")
    letters = "errors.deadletterqueue."
    return [
        key(
            "errors.tolerance",
            Choice(("none", "all")),
            "none",
            "A",
            "none: the first bad record stops the api, its page unmoved. all: bad "
            "records become dead letters.",
            "all",
        ),
        key(
            f"{letters}topic.name",
            Topic(names=frozenset({"connector"})),
            None,
            "C",
            "Where dead letters go; ${connector} may stand in it. Unset: the log.",
            "orders-dead",
        ),
        key(
            f"{letters}topic.replication.factor",
            Int(-1, 32767, nonzero=True),
            "-1",
            "C",
            "For the creation of that topic; -1: the broker's default.",
        ),
        key(
            f"{letters}context.headers.enable",
            Bool(),
            "true",
            "C",
            "Headers that say where a dead letter came from; replay needs them.",
            "false",
        ),
        key(
            "errors.log.enable",
            Bool(),
            "true",
            "C",
            "A line for each bad record, at most 10 a second and task.",
            "false",
        ),
        key(
            "errors.log.include.messages",
            Bool(),
            "false",
            "C",
            "With the record's first 1,000 characters.",
            "true",
        ),
    ]


KEYS = [
    *_transformation(),
    *_converter("key", "StringConverter"),
    *_converter("value", "JsonConverter"),
    section("Converters and schemas")(
        "schema.names.sanitize",
        Bool(),
        "false",
        "A",
        "AvroConverter: a character that Avro does not allow in a field's name becomes "
        "_, and a digit in front gets one; false: such a name makes a bad record.",
        "true",
    ),
    section("Converters and schemas")(
        "header.converter",
        HEADER_CONVERTERS,
        "SimpleHeaderConverter",
        "A",
        "How kafka.headers become bytes.",
        "StringConverter",
    ),
    *_errors(),
]
