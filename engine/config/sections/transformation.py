"""
Options of what happens to records between response and Kafka.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from engine.config import shapes
from engine.config.kinds import Bool, Choice, Int, Json, Text, size
from engine.config.sections.section import Rule, Section, option, unset


class TransformationConfig(Section, frozen=True, kw_only=True):
    """The rules that records go through."""

    TITLE: ClassVar[str] = "Transformation"
    SCOPE: ClassVar[str] = "A"

    enabled: bool = option(
        "transformation.enabled",
        Bool(),
        "true",
        "Switch of mappings, enrichment, filters and validation. Without rules "
        "a record's bytes go on as the API wrote them and nobody looks into "
        "them: what only decoding would find (nesting beyond 100, a lone "
        "surrogate, a number out of range) is no bad record then; a page "
        "that is no JSON is always a bad page.",
        "false",
    )
    mappings: Sequence[Rule] | None = unset(
        "transformation.field.mappings",
        Json(shapes.mappings, "JSON array of mappings"),
        None,
        "Which fields survive, under which name and type, in this order. What "
        "has no type is copied as it is written; no number passes through "
        "binary floating point unless its type is DOUBLE.",
        '[{"source": "id", "target": "record_id", "type": "STRING"}]',
    )
    enrichment_enabled: bool = option(
        "transformation.enrichment.enabled",
        Bool(),
        "true",
        "Runs the enrichment rules.",
        "false",
    )
    enrichment: Sequence[Rule] | None = unset(
        "transformation.enrichment.rules",
        Json(shapes.enrichment, "JSON array of enrichment rules"),
        None,
        "Fields set to a value or to what an expression gives, one after the other.",
        '[{"field": "source", "value": "crm"}, '
        '{"field": "name", "expression": "${upper(name)}"}]',
    )
    filters: Sequence[Rule] | None = unset(
        "transformation.filter.expressions",
        Json(shapes.filters, "JSON array of filters"),
        None,
        "Conditions that all must hold, or the record is left out and counted.",
        '[{"field": "status", "operator": "EQUALS", "value": "active"}]',
    )
    validation_enabled: bool = option(
        "transformation.validation.enabled",
        Bool(),
        "true",
        "Runs the validation rules.",
        "false",
    )
    validation: Sequence[Rule] | None = unset(
        "transformation.validation.rules",
        Json(shapes.validation, "JSON array of validation rules"),
        None,
        "What a record must be; one that is not is a bad record.",
        '[{"field": "email", "required": true, "pattern": ".+@.+"}]',
    )
    nulls: str = option(
        "transformation.null.value.handling",
        Choice(("SKIP", "KEEP", "FAIL")),
        "SKIP",
        "A mapped field that is null and has no default: left out, null, or a "
        "bad record.",
        "KEEP",
    )
    unmapped: str = option(
        "transformation.unmapped.fields",
        Choice(("DROP", "KEEP")),
        "DROP",
        "KEEP: top-level fields that no mapping reads follow the mapped ones.",
        "KEEP",
    )
    function: str | None = unset(
        "transformation.function",
        Text(
            r"[A-Za-z_][\w.]*:[A-Za-z_]\w*",
            "module:name, beside this file or installed",
        ),
        None,
        "A Python function for each record or page, after enrichment and before "
        "the filters.",
        "mymodule:reshape",
    )
    function_unit: str = option(
        "transformation.function.unit",
        Choice(("record", "page")),
        "record",
        "What that function is given.",
        "page",
    )
    debug: bool = option(
        "transformation.debug.enabled",
        Bool(),
        "false",
        "A log line for each of a page's first 10 records, before and after.",
        "true",
    )
    max_record_bytes: int = option(
        "transformation.max.record.size.bytes",
        size(1, 1073741824),
        "1048576",
        "Most bytes of a record's key, value and headers; more is a bad record.",
    )


class BatchingConfig(Section, frozen=True, kw_only=True):
    """How many records the rules see at once."""

    TITLE: ClassVar[str] = "Transformation"
    SCOPE: ClassVar[str] = "T"

    batch_size: int = option(
        "transformation.batch.size",
        Int(1, 100000),
        "1000",
        "Most records decoded and handed on in one go; a bigger page is cut, "
        "smaller ones are not joined.",
        "500",
    )
