"""
Transform: an api's rules made into one callable for its pages.

Owns the translation of keys into what `transform` is compiled from.

Path: `build.shards`, `preview`
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from msgspec.structs import replace

from engine.clock import SYSTEM, Clock
from engine.config import Api, Connector, Values
from engine.config.sections.converters import ConverterConfig, NamesConfig
from engine.config.sections.letters import DeadLetterQueueConfig, ErrorsConfig
from engine.config.sections.offsets import WindowsConfig
from engine.config.sections.response import (
    REMOVED,
    DeduplicationConfig,
    RecordsConfig,
)
from engine.config.sections.section import needed
from engine.config.sections.transformation import BatchingConfig, TransformationConfig
from engine.language import (
    RECORD_NAMES,
    LanguageError,
    compile_template,
    compile_zone,
)
from engine.observe.redact import redact
from engine.records import Shard
from engine.seams import Transform
from engine.task.build.registry import MODULES, Registries
from engine.task.contents import Contents, contents_as_received, contents_of_values
from engine.task.counting import Complaints
from engine.transform.compile import TransformOptions, compile_transform
from engine.transform.conditions import compile_condition
from engine.transform.convert import Converter, JsonKey, TextKey, simple_converter
from engine.transform.page import PageTransform
from engine.transform.tombstones import TombstoneTransform


def transform_of(
    connector: Connector,
    api: Api,
    shard: Shard,
    *,
    zone: str,
    registries: Registries,
    limit: int | None = None,
    reserved: Collection[str] = (),
) -> PageTransform:
    """
    One shard's transformation.

    Args:
        zone: `schedule.timezone`.
        registries: Where converters find their schemas.
        limit: Bytes a record of the api's topic may have, where known; the
            smallest of this and the configured ones counts.
        reserved: Topics that no record may go to.

    Raises: ConfigError with every finding; a user's function that cannot be
    loaded is one, and a schema that is none.
    """
    values = api.values
    origin = values.origin("transformation.function")
    rules, records = values.of(TransformationConfig), values.of(RecordsConfig)
    repeats = values.of(DeduplicationConfig)
    limits = [rules.max_record_bytes]
    limits += [] if limit is None else [limit]
    return compile_transform(
        TransformOptions(
            shard=shard,
            connector=connector.known_as,
            topic=needed(records.topic),
            key=records.key,
            timestamp=records.timestamp,
            headers=tuple(records.headers or ()),
            header_converter=short(values.of(NamesConfig).header_converter),
            provenance=records.provenance,
            reserved_topics=reserved,
            enabled=rules.enabled,
            mappings=rules.mappings,
            unmapped=rules.unmapped,
            nulls=rules.nulls,
            enrichment_enabled=rules.enrichment_enabled,
            enrichment=rules.enrichment,
            filters=rules.filters,
            validation_enabled=rules.validation_enabled,
            validation=rules.validation,
            function=rules.function,
            function_unit=rules.function_unit,
            directory=Path(origin[0]).resolve().parent if origin else None,
            batch_size=connector.values.of(BatchingConfig).batch_size,
            max_record_bytes=min(limits),
            tolerance=values.of(ErrorsConfig).tolerance,
            debug=rules.debug,
            deduplication=repeats.enabled,
            deduplication_fields=tuple(repeats.key_fields or ()),
            deduplication_window=repeats.window_minutes * 60.0,
            value_converter=value_converter_of(values, registries),
            key_converter=key_converter_of(values, registries),
            window_format=values.of(WindowsConfig).format,
            window_zone=(
                compile_zone(window_zone)
                if (window_zone := values.of(WindowsConfig).zone) is not None
                else None
            ),
            zone=compile_zone(zone),
            mask=redact,
        )
    )


def burying(
    connector: Connector,
    api: Api,
    shard: Shard,
    inner: Transform,
    *,
    zone: str,
    registries: Registries,
    limit: int | None = None,
    reserved: Collection[str] = (),
) -> Transform:
    """
    The same transformation, with tombstones where a record says that something is
    gone (`kafka.tombstone.condition`).

    Args: as for `transform_of`.
    """
    records = api.values.of(RecordsConfig)
    if records.tombstone is None:
        return inner
    bare = {
        "transformation.enabled": False,
        "transformation.function": None,
        "deduplication.enabled": False,
        "value.converter": "ByteArrayConverter",
    }
    plain = transform_of(
        connector,
        replace(api, values=api.values.replaced(bare)),
        shard,
        zone=zone,
        registries=registries,
        limit=limit,
        reserved=reserved,
    )
    return TombstoneTransform(
        inner,
        plain,
        compile_condition(records.tombstone),
        markers=(b"@removed", b"$deletedEntity")
        if records.tombstone == REMOVED
        else (),
        tolerant=api.values.of(ErrorsConfig).tolerance == "all",
    )


def contents_of(values: Values) -> Contents:
    """
    What mode SNAPSHOT_DIFF compares: what is produced of a record, or what was
    received of it where its rules write another text each time.
    """
    for rule in values.of(TransformationConfig).enrichment or ():
        text = str(rule.get("expression", ""))
        if values.of(TransformationConfig).enabled and _PASSING & names_in(text):
            return contents_as_received
    return contents_of_values


def names_in(text: str) -> frozenset[str]:
    """The names that a record's template asks for."""
    try:
        return compile_template(text, RECORD_NAMES).names
    except LanguageError:
        return frozenset()


#: Names whose values are others in each poll.
_PASSING = frozenset({"now", "today", "yesterday", "uuid"})


def value_converter_of(values: Values, registries: Registries) -> Converter:
    """What `value.converter` names."""
    if values.of(ConverterConfig, side="value").converter in MODULES:
        return registries.converter(values, "value")
    return simple_converter(
        short(values.of(ConverterConfig, side="value").converter),
        values.of(ConverterConfig, side="value").schemas_enable,
    )


def key_converter_of(values: Values, registries: Registries) -> TextKey | JsonKey:
    """What `key.converter` names."""
    kind = values.of(ConverterConfig, side="key").converter
    if kind in MODULES:
        return JsonKey(registries.converter(values, "key"))
    if kind == "JsonConverter":
        return JsonKey(
            simple_converter(
                "Json", values.of(ConverterConfig, side="key").schemas_enable
            )
        )
    return TextKey()


def short(name: str) -> str:
    """A converter's class name in one word: SimpleHeaderConverter is Simple."""
    return name.removesuffix("Converter").removesuffix("Header")


def complaints_of(values: Values, *, always: bool, clock: Clock = SYSTEM) -> Complaints:
    """
    Says in the log which records are bad, as `errors.log.*` has it.

    Args:
        always: No topic takes the dead letters: the log is all there is.
    """
    letters = values.of(DeadLetterQueueConfig)
    return Complaints(
        enabled=letters.log or always, whole=letters.log_messages, clock=clock
    )
