"""
Transform: an api's rules made into one callable for its pages.

Owns the translation of keys into what `transform` is compiled from.

Path: ``task.entry``, `preview`
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from engine.config import Api, Connector, Values
from engine.language import compile_zone
from engine.observe.redact import redact
from engine.records import Shard
from engine.task.registry import MODULES, Registries
from engine.transform.compile import PageTransform, compile_transform
from engine.transform.convert import Converter, JsonKey, TextKey, simple_converter


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
    limits = [values["transformation.max.record.size.bytes"]]
    limits += [] if limit is None else [limit]
    return compile_transform(
        shard=shard,
        topic=values["kafka.topic"],
        key=values["kafka.key"],
        timestamp=values["kafka.timestamp"],
        headers=tuple(values["kafka.headers"] or ()),
        header_converter=short(values["header.converter"]),
        provenance=values["kafka.headers.provenance.enabled"],
        reserved_topics=reserved,
        enabled=values["transformation.enabled"],
        mappings=values["transformation.field.mappings"],
        unmapped=values["transformation.unmapped.fields"],
        nulls=values["transformation.null.value.handling"],
        enrichment_enabled=values["transformation.enrichment.enabled"],
        enrichment=values["transformation.enrichment.rules"],
        filters=values["transformation.filter.expressions"],
        validation_enabled=values["transformation.validation.enabled"],
        validation=values["transformation.validation.rules"],
        function=values["transformation.function"],
        function_unit=values["transformation.function.unit"],
        directory=Path(origin[0]).resolve().parent if origin else None,
        batch_size=connector.values["transformation.batch.size"],
        max_record_bytes=min(limits),
        tolerance=values["errors.tolerance"],
        debug=values["transformation.debug.enabled"],
        deduplication=values["deduplication.enabled"],
        deduplication_fields=tuple(values["deduplication.key.fields"] or ()),
        deduplication_window=values["deduplication.window.minutes"] * 60.0,
        value_converter=value_converter_of(values, registries),
        key_converter=key_converter_of(values, registries),
        window_format=values["http.source.window.format"],
        zone=compile_zone(zone),
        mask=redact,
    )


def value_converter_of(values: Values, registries: Registries) -> Converter:
    """What `value.converter` names."""
    if values["value.converter"] in MODULES:
        return registries.converter(values, "value")
    return simple_converter(
        short(values["value.converter"]), values["value.converter.schemas.enable"]
    )


def key_converter_of(values: Values, registries: Registries) -> TextKey | JsonKey:
    """What `key.converter` names."""
    kind = values["key.converter"]
    if kind in MODULES:
        return JsonKey(registries.converter(values, "key"))
    if kind == "JsonConverter":
        return JsonKey(simple_converter("Json", values["key.converter.schemas.enable"]))
    return TextKey()


def short(name: str) -> str:
    """A converter's class name in one word: SimpleHeaderConverter is Simple."""
    return name.removesuffix("Converter").removesuffix("Header")
