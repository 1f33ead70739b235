"""
Rules: what the `transformation.*` keys ask for, checked and compiled.

Owns the shapes of mappings, enrichment, filters and validation, and the
lookup of a field: in the record as it now is, then as it was received.  A
rule knows how to treat one value; the paths through a record are `general`
(any record, any rule) and `typed` (the common ones, fast).

Path: `compile` -> here -> `casts`, `conditions`, `engine.language`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, tzinfo
from decimal import Decimal
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct

from engine.errors import ConfigError
from engine.language import (
    MISSING,
    RECORD_NAMES,
    EvaluationError,
    LanguageError,
    Path,
    Template,
    compile_path,
    compile_pattern,
    compile_template,
    decode,
)
from engine.language.rules import MAPPING_TYPES, MOST_RULES
from engine.language.values import encode
from engine.transform.casts import Cast, cast_of
from engine.transform.conditions import (
    Check,
    Condition,
    compile_check,
    compile_condition,
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
    if not isinstance(rules, Sequence):
        raise ConfigError(f"{key}: an array of rules")
    if len(rules) > MOST_RULES:
        raise ConfigError(f"{key}: at most {MOST_RULES} rules")
    return list(rules)


class RuleFindings:
    """All findings of one compilation, raised together."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, key: str, fault: LanguageError | str) -> None:
        self._found.append(f"{key}: {fault}")

    def attempt(self, key: str, compile: Callable[[], Any]) -> Any:
        """What `compile` gives, or None and one finding more."""
        try:
            return compile()
        except LanguageError as fault:
            self.add(key, fault)
        return None

    def settle(self) -> None:
        """Raises: ConfigError if there is any finding."""
        if self._found:
            raise ConfigError("\n".join(self._found))


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
    complaints = RuleFindings()
    mapped = [
        complaints.attempt(
            f"{MAPPINGS}[{at}]",
            partial(_mapping, rule, at, nulls, zone),
        )
        for at, rule in enumerate(given(mappings, MAPPINGS))
    ]
    enriched = [
        complaints.attempt(f"{ENRICHMENT}[{at}]", partial(_enrichment, rule, at, zone))
        for at, rule in enumerate(given(enrichment, ENRICHMENT))
    ]
    conditions = [
        (
            f"{FILTERS}[{at}]",
            complaints.attempt(f"{FILTERS}[{at}]", partial(compile_condition, rule)),
        )
        for at, rule in enumerate(given(filters, FILTERS))
    ]
    checks = [
        (
            f"{VALIDATION}[{at}]",
            complaints.attempt(
                f"{VALIDATION}[{at}]", partial(compile_check, rule, zone)
            ),
        )
        for at, rule in enumerate(given(validation, VALIDATION))
    ]
    _disjoint([each for each in mapped if each is not None], complaints)
    complaints.settle()
    return Rules(
        tuple(mapped),
        unmapped == "KEEP",
        tuple(enriched),
        tuple(conditions),
        tuple(checks),
    )


def _members(rule: Any, needed: set[str], optional: set[str]) -> Mapping[str, Any]:
    if not isinstance(rule, Mapping):
        raise LanguageError("a rule is a JSON object")
    missing = needed - rule.keys()
    if missing:
        raise LanguageError(f"{', '.join(sorted(missing))} is missing")
    unknown = rule.keys() - needed - optional
    if unknown:
        known = ", ".join(sorted(needed | optional))
        raise LanguageError(f"no member {', '.join(sorted(unknown))}; known: {known}")
    return rule


def _text(rule: Mapping[str, Any], name: str) -> str:
    value = rule[name]
    if not isinstance(value, str):
        raise LanguageError(f"{name} is text")
    return value


def _target(text: str) -> tuple[str, ...]:
    """A dotted path of names only."""
    if text.startswith("/"):
        raise LanguageError("a target is a dotted path; quote a name with a /")
    steps = compile_path(text).steps
    names = tuple(step for step in steps if isinstance(step, str))
    if len(names) != len(steps):
        raise LanguageError("a target has no index")
    return names


def _mapping(rule: Any, at: int, nulls: str, zone: tzinfo) -> FieldMapping:
    members = _members(rule, {"source", "target"}, {"type", "default", "format"})
    kind: str | None = None
    if "type" in members:
        kind = _text(members, "type").upper()
        if kind not in MAPPING_TYPES:
            known = ", ".join(MAPPING_TYPES)
            raise LanguageError(f"no type {members['type']}; known: {known}")
    pattern = None
    if "format" in members:
        if kind != "TIMESTAMP":
            raise LanguageError("format belongs to type TIMESTAMP")
        pattern = compile_pattern(_text(members, "format"))
    default = held(members["default"]) if "default" in members else MISSING
    return FieldMapping(
        f"{MAPPINGS}[{at}]",
        compile_path(_text(members, "source")),
        _target(_text(members, "target")),
        kind,
        default,
        nulls,
        None if kind is None else cast_of(kind, zone, pattern),
        pattern is not None,
    )


def _disjoint(mappings: Sequence[FieldMapping], complaints: RuleFindings) -> None:
    if len(mappings) < 2:
        return
    seen: dict[tuple[str, ...], str] = {}
    inner: dict[tuple[str, ...], str] = {}
    for mapping in mappings:
        target = mapping.target
        prefixes = [target[:n] for n in range(len(target))]
        other = seen.get(target) or inner.get(target)
        other = other or next((seen[p] for p in prefixes if p in seen), None)
        if not target:
            complaints.add(
                mapping.rule, "an empty target is allowed only as the single mapping"
            )
        elif other is not None:
            complaints.add(mapping.rule, f"its target is that of, or within, {other}")
        seen[target] = mapping.rule
        for prefix in prefixes[1:]:
            inner.setdefault(prefix, mapping.rule)


def _enrichment(rule: Any, at: int, zone: tzinfo) -> Enrichment:
    members = _members(rule, {"field"}, {"value", "expression", "type"})
    target = _target(_text(members, "field"))
    if not target:
        raise LanguageError("field is a name")
    kind = str(members.get("type", "")).upper()
    if kind not in ("", "STATIC", "EXPRESSION"):
        raise LanguageError(f"no type {members['type']}; known: STATIC, EXPRESSION")
    static = "value" in members if not kind else kind == "STATIC"
    wanted = "value" if static else "expression"
    _members(rule, {"field", wanted}, {"type"})
    name = f"{ENRICHMENT}[{at}]"
    if static:
        return Enrichment(name, target, held(members["value"]), None)
    text = _text(members, "expression")
    return Enrichment(name, target, MISSING, compile_template(text, RECORD_NAMES, zone))


#: Writes what rules made; numbers nobody computed with go in as they came.
ENCODER: Final = msgspec.json.Encoder()
