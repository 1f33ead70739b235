"""
Compile: an api's keys into one callable, `Page` in and `Parcel` out.

Owns the options of a transformation and what is compiled of them, with every finding
at once.

Path: `task.build.transform` -> here -> `page`, `rules`, `route`, `typed`
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, tzinfo
from pathlib import Path as FilePath
from typing import Any

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import ConfigError
from engine.language import LanguageError, compile_path
from engine.language.instants import bound_in
from engine.records import Shard
from engine.transform.convert import Converter, JsonKey, JsonText, TextKey, decoder_of
from engine.transform.dedup import Seen
from engine.transform.function import load_function
from engine.transform.page import PageTransform, TransformParts
from engine.transform.route import RecordRouter
from engine.transform.rules import Rules, compile_rules
from engine.transform.typed import compile_typed


def _same(text: str) -> str:
    return text


class TransformOptions(Struct, frozen=True, kw_only=True):
    """
    One shard's transformation as plain values.

    Attributes:
        shard: Whose pages these are.
        connector: `${connector}`, where it is another name than the shard's.
        topic, key, timestamp: Templates of `kafka.topic` and its siblings.
        headers: Name and template of each of `kafka.headers`.
        header_converter: Simple, String or Json.
        provenance: `kafka.headers.provenance.enabled`.
        reserved_topics: Topics no record may go to (state, dead letters).
        mappings, enrichment, filters, validation: The rules as JSON text, in
            which numbers stay exact, or as parsed JSON.
        function: `module:name`, or the function itself.
        directory: Where the configuration file lies.
        batch_size: Most records decoded at once.
        max_record_bytes: The smallest of the limits on a record.
        tolerance: none or all.
        deduplication_window: Seconds.
        value_converter, key_converter: As `convert`, `registered` make them;
            None: JSON as it is, text.
        window_format, window_zone: `http.source.window.format` and `.zone`, for
            `${window.start}`; None: `zone`.
        mask: Cuts secrets out of a text.
        fast: False: the general path only, what the fast one is held to.
    """

    shard: Shard
    topic: str
    connector: str = ""
    key: str | None = None
    timestamp: str | None = None
    headers: Sequence[tuple[str, str]] = ()
    header_converter: str = "Simple"
    provenance: bool = False
    reserved_topics: Collection[str] = ()
    enabled: bool = True
    mappings: str | Sequence[Any] | None = None
    unmapped: str = "DROP"
    nulls: str = "SKIP"
    enrichment_enabled: bool = True
    enrichment: str | Sequence[Any] | None = None
    filters: str | Sequence[Any] | None = None
    validation_enabled: bool = True
    validation: str | Sequence[Any] | None = None
    function: str | Callable[..., Any] | None = None
    function_unit: str = "record"
    directory: FilePath | None = None
    batch_size: int = 1000
    max_record_bytes: int = 1_048_576
    tolerance: str = "none"
    debug: bool = False
    deduplication: bool = False
    deduplication_fields: Sequence[str] = ()
    deduplication_window: float = 3600.0
    value_converter: Converter | None = None
    key_converter: TextKey | JsonKey | None = None
    window_format: str = "ISO8601"
    window_zone: tzinfo | None = None
    zone: tzinfo = UTC
    clock: Clock = SYSTEM
    mask: Callable[[str], str] = _same
    fast: bool = True


def compile_transform(options: TransformOptions) -> PageTransform:
    """
    Make one shard's transformation out of its options.

    Raises: ConfigError with every finding.
    """
    rules = Rules()
    if options.enabled:
        rules = compile_rules(
            mappings=options.mappings,
            unmapped=options.unmapped,
            nulls=options.nulls,
            enrichment=options.enrichment if options.enrichment_enabled else None,
            filters=options.filters,
            validation=options.validation if options.validation_enabled else None,
            zone=options.zone,
        )
    routes = RecordRouter(
        topic=options.topic,
        key=options.key,
        timestamp=options.timestamp,
        headers=options.headers,
        header_converter=options.header_converter,
        reserved=options.reserved_topics,
        zone=options.zone,
    )
    try:
        fields = [compile_path(text) for text in options.deduplication_fields] or None
    except LanguageError as e:
        raise ConfigError(f"deduplication.key.fields: {e}") from e
    called = None
    if options.function is not None and options.enabled:
        called = (
            load_function(options.function, options.directory)
            if isinstance(options.function, str)
            else options.function
        )
    if options.function_unit not in ("record", "page"):
        raise ConfigError("transformation.function.unit: record or page")
    values = JsonText() if options.value_converter is None else options.value_converter
    keys = TextKey() if options.key_converter is None else options.key_converter
    loops = None
    if options.fast and called is None:
        loops = compile_typed(
            rules,
            routes,
            values,
            keys,
            decoded=decoder_of(values),
            marks=(fields or []) if options.deduplication else None,
        )
    return PageTransform(
        TransformParts(
            shard=options.shard,
            connector=options.connector,
            rules=rules,
            routes=routes,
            value_converter=values,
            key_converter=keys,
            function=called,
            function_unit=options.function_unit,
            provenance=options.provenance,
            batch_size=options.batch_size,
            record_limit=options.max_record_bytes,
            tolerant=options.tolerance == "all",
            debug=options.debug,
            mask=options.mask,
            zone=options.zone,
            window=bound_in(options.window_format, options.window_zone or options.zone),
            seen=Seen(options.deduplication_window, options.clock)
            if options.deduplication
            else None,
            seen_fields=fields,
            loops=loops,
        )
    )
