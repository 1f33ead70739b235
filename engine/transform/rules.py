"""
Rules: what the `transformation.*` keys ask for, compiled.

Owns what a mapping, an enrichment, a filter and a check do (what they must look like is
`language.rulecheck`), and the lookup of a field: in the record as it now is, then as it
was received.  A rule knows how to treat one value; the paths through a record are
`general` (any record, any rule) and `typed` (the common ones, fast).

Path: `compile` -> here -> `casts`, `conditions`, `engine.language`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, tzinfo
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct

from engine.errors import ConfigError
from engine.language import (
    MISSING,
    RECORD_NAMES,
    EvaluationError,
    Path,
    Template,
    compile_path,
    compile_pattern,
    compile_template,
    decode,
)
from engine.language.rulecheck import (
    Place,
    RuleFault,
    enrichment_faults,
    filter_faults,
    is_list,
    is_static,
    mapping_faults,
    target_names,
    validation_faults,
)
from engine.language.values import encode
from engine.transform.casts import Cast, cast_of
from engine.transform.conditions import (
    Check,
    Condition,
    check_of,
    condition_of,
)

MAPPINGS: Final = "transformation.field.mappings"
ENRICHMENT: Final = "transformation.enrichment.rules"
FILTERS: Final = "transformation.filter.expressions"
VALIDATION: Final = "transformation.validation.rules"

#: The JSON null as it lies in a record.
NULL: Final = Raw(b"null")


class FieldMapping(Struct, frozen=True):
    """
    One field's way into the output.

    Attributes:
        rule: The rule's name for messages, `transformation.field.mappings[0]`.
        source: Where it comes from.
        target: Names from the root; empty: it becomes the whole record.
        kind: One of MAPPING_TYPES, or None: copied as it is.
        default: For missing and null, or MISSING: there is none.
        nulls: SKIP, KEEP or FAIL, for null without a default.
        cast: Of a value that is there.
        patterned: True if it has a `format`.
    """

    rule: str
    source: Path
    target: tuple[str, ...]
    kind: str | None
    default: Any
    nulls: str
    cast: Cast | None
    patterned: bool = False

    def apply(self, value: Any) -> Any:
        """
        The output's value, or UNSET: leave the field out.

        Raises: EvaluationError: the cast is not possible.
        """
        if value is MISSING:
            return UNSET if self.default is MISSING else self.default
        if value is None or (type(value) is Raw and value == NULL):
            if self.default is not MISSING:
                return self.default
            if self.nulls == "FAIL":
                raise EvaluationError("null")
            return UNSET if self.nulls == "SKIP" else None
        return value if self.cast is None else self.cast(value)


class Enrichment(Struct, frozen=True):
    """
    One field that is set.

    Attributes:
        rule: The rule's name for messages.
        target: Names from the root, at least one.
        constant: The value, or MISSING with a template.
        template: What gives the value.
    """

    rule: str
    target: tuple[str, ...]
    constant: Any
    template: Template | None


class Rules(Struct, frozen=True):
    """Everything `transformation.*` asks of a record but the function."""

    mappings: tuple[FieldMapping, ...] = ()
    keep: bool = False
    enrichment: tuple[Enrichment, ...] = ()
    filters: tuple[tuple[str, Condition], ...] = ()
    checks: tuple[tuple[str, Check], ...] = ()

    @property
    def whole(self) -> bool:
        """True if one mapping with an empty target makes the whole record."""
        return len(self.mappings) == 1 and not self.mappings[0].target

    @property
    def read(self) -> frozenset[str]:
        """The top-level fields that mappings read: those KEEP does not keep."""
        return frozenset(
            name
            for mapping in self.mappings
            if (name := top(mapping.source)) is not None
        )

    def __bool__(self) -> bool:
        return bool(self.mappings or self.enrichment or self.filters or self.checks)


def top(path: Path) -> str | None:
    """The top-level field a path begins with, None for other beginnings."""
    if not path.steps:
        return None
    first = path.steps[0]
    if isinstance(first, str):
        return first
    return getattr(first, "text", None)


def held(value: Any) -> Any:
    """A constant as rules keep it: scalars plain, objects and arrays as `Raw`."""
    written = isinstance(value, (dict, list, float, Decimal))
    return Raw(encode(value)) if written else value


def given(rules: str | bytes | Sequence[Any] | None, key: str) -> list[Any]:
    """
    A list of rules out of JSON text (numbers stay exact) or parsed JSON.

    Raises: ConfigError.
    """
    if rules is None:
        return []
    if isinstance(rules, (str, bytes)):
        try:
            data = rules.encode() if isinstance(rules, str) else rules
            rules = decode(data)
        except (EvaluationError, UnicodeEncodeError) as e:
            raise ConfigError(f"{key}: {e}") from e
    if not is_list(rules):
        raise ConfigError(f"{key}: an array of rules")
    return list(rules)


def compile_rules(
    *,
    mappings: str | Sequence[Any] | None = None,
    unmapped: str = "DROP",
    nulls: str = "SKIP",
    enrichment: str | Sequence[Any] | None = None,
    filters: str | Sequence[Any] | None = None,
    validation: str | Sequence[Any] | None = None,
    zone: tzinfo = UTC,
) -> Rules:
    """
    Compile the rules of an api.

    Raises: ConfigError with all findings: key, index of the rule, column.
    """
    found: list[str] = []
    mapped = _good(mappings, MAPPINGS, mapping_faults, found)
    enriched = _good(enrichment, ENRICHMENT, enrichment_faults, found)
    filtered = _good(filters, FILTERS, filter_faults, found)
    checked = _good(validation, VALIDATION, validation_faults, found)
    if found:
        raise ConfigError("\n".join(found))
    return Rules(
        tuple(_mapping(rule, at, nulls, zone) for at, rule in enumerate(mapped)),
        unmapped == "KEEP",
        tuple(_enrichment(rule, at, zone) for at, rule in enumerate(enriched)),
        tuple((f"{FILTERS}[{at}]", condition_of(r)) for at, r in enumerate(filtered)),
        tuple(
            (f"{VALIDATION}[{at}]", check_of(r, zone)) for at, r in enumerate(checked)
        ),
    )


def _good(
    rules: str | Sequence[Any] | None,
    key: str,
    check: Callable[[object, Place], list[RuleFault]],
    found: list[str],
) -> list[Any]:
    """The rules of a key; what is wrong with them is put among what was `found`."""

    def place(at: int) -> str:
        return f"{key}[{at}]"

    listed = given(rules, key)
    for fault in check(listed, place):
        called = key if fault.item is None else place(fault.item)
        known = fault.message.startswith(called)
        found.append(fault.message if known else f"{called}: {fault.message}")
    return listed


def _mapping(
    rule: Mapping[str, Any], at: int, nulls: str, zone: tzinfo
) -> FieldMapping:
    kind = rule["type"].upper() if "type" in rule else None
    pattern = compile_pattern(rule["format"]) if "format" in rule else None
    return FieldMapping(
        f"{MAPPINGS}[{at}]",
        compile_path(rule["source"]),
        target_names(rule["target"]),
        kind,
        held(rule["default"]) if "default" in rule else MISSING,
        nulls,
        None if kind is None else cast_of(kind, zone, pattern),
        pattern is not None,
    )


def _enrichment(rule: Mapping[str, Any], at: int, zone: tzinfo) -> Enrichment:
    name, target = f"{ENRICHMENT}[{at}]", target_names(rule["field"])
    if is_static(rule):
        return Enrichment(name, target, held(rule["value"]), None)
    text = rule["expression"]
    return Enrichment(name, target, MISSING, compile_template(text, RECORD_NAMES, zone))


#: Writes what rules made; numbers nobody computed with go in as they came.
ENCODER: Final = msgspec.json.Encoder()
