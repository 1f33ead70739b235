"""
Conditions: filters and validation, compiled into tests of one value.

Owns the operators and what they answer for missing and null.  A test takes a
value or MISSING; it never raises for a kind it cannot compare, it is false.

Path: `rules` -> here -> `engine.language`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import tzinfo
from decimal import Decimal
from typing import Any, TypeAlias

from msgspec import Struct

from engine.language import (
    MISSING,
    EvaluationError,
    LanguageError,
    Path,
    Regex,
    compile_path,
    compile_regex,
    parse_timestamp,
    plain,
)
from engine.language.comparing import among, compare, contains, equal, kind_of
from engine.language.rulecheck import condition_faults
from engine.language.rules import operator_of
from engine.language.values import as_integer, is_null, text_of

Test: TypeAlias = Callable[[Any], bool]


class Field(Struct, frozen=True):
    """
    A test of one field.

    Attributes:
        path: Which field.
        test: Of its value or MISSING.
        operator: Canonical name.
        rule: The rule as it was given.
    """

    path: Path
    test: Test
    operator: str
    rule: Mapping[str, Any]


class ConditionGroup(Struct, frozen=True):
    """`all` (every) or `any` of conditions."""

    every: bool
    items: tuple[Condition, ...]


class Negation(Struct, frozen=True):
    """A condition that holds where another one does not."""

    item: Condition


Condition: TypeAlias = Field | ConditionGroup | Negation


def compile_condition(rule: Any) -> Condition:
    """
    Compile a filter that stands by itself.

    Raises: LanguageError.
    """
    if faults := condition_faults(rule):
        raise LanguageError("; ".join(fault.message for fault in faults))
    return condition_of(rule)


def condition_of(rule: Mapping[str, Any]) -> Condition:
    """Compile a filter that was checked: a field with an operator, or any, all, not."""
    if "not" in rule:
        return Negation(condition_of(rule["not"]))
    for name in ("any", "all"):
        if name in rule:
            parts = tuple(map(condition_of, rule[name]))
            return ConditionGroup(name == "all", parts)
    operator = operator_of(rule["operator"])
    return Field(compile_path(rule["field"]), _test(operator, rule), operator, rule)


def _test(operator: str, rule: Mapping[str, Any]) -> Test:
    match operator:
        case "EQUALS":
            return _equals(rule["value"])
        case "NOT_EQUALS":
            return _inverse(_equals(rule["value"]))
        case "GREATER_THAN":
            return _ordered(rule["value"], (1,))
        case "GREATER_EQUAL":
            return _ordered(rule["value"], (0, 1))
        case "LESS_THAN":
            return _ordered(rule["value"], (-1,))
        case "LESS_EQUAL":
            return _ordered(rule["value"], (-1, 0))
        case "BETWEEN":
            low = _ordered(rule["min"], (0, 1))
            high = _ordered(rule["max"], (-1, 0))
            return lambda value: low(value) and high(value)
        case "IN":
            return _is_in(rule["values"])
        case "NOT_IN":
            return _inverse(_is_in(rule["values"]))
        case "CONTAINS":
            return _contains(rule["value"])
        case "NOT_CONTAINS":
            return _inverse(_contains(rule["value"]))
        case "MATCHES":
            return _matches(compile_regex(rule["value"]))
        case "EXISTS":
            return lambda value: value is not MISSING
        case "NOT_EXISTS":
            return lambda value: value is MISSING
        case "IS_NULL":
            return is_null
    return _inverse(is_null)


def _inverse(test: Test) -> Test:
    return lambda value: not test(value)


def _equals(constant: Any) -> Test:
    return lambda value: value is not MISSING and equal(value, constant)


def _ordered(constant: Any, orders: tuple[int, ...]) -> Test:
    def test(value: Any) -> bool:
        if value is MISSING:
            return False
        return compare(value, constant) in orders

    return test


def _is_in(constants: Any) -> Test:
    return lambda value: value is not MISSING and among(value, constants)


def _contains(constant: Any) -> Test:
    return lambda value: value is not MISSING and contains(value, constant)


def _matches(expression: Regex) -> Test:
    def test(value: Any) -> bool:
        if value is MISSING:
            return False
        text = _scalar_text(value)
        return text is not None and expression.matches(text)

    return test


def _scalar_text(value: Any) -> str | None:
    """A text, number or truth value as text; None for everything else."""
    if isinstance(plain(value), (dict, list)):
        return None
    return text_of(value)


def holds(condition: Condition, look: Callable[[Path], Any]) -> bool:
    """Does it hold, fields looked up by `look`?"""
    match condition:
        case Field(path, test):
            return test(look(path))
        case ConditionGroup(every, items):
            for item in items:
                if holds(item, look) is not every:
                    return not every
            return every
        case Negation(item):
            return not holds(item, look)


def fields_of(condition: Condition) -> list[Field]:
    """All tests of fields in it."""
    match condition:
        case Field():
            return [condition]
        case ConditionGroup(_, items):
            return [field for item in items for field in fields_of(item)]
        case Negation(item):
            return fields_of(item)


class Check(Struct, frozen=True):
    """
    One compiled validation rule.

    Attributes:
        path: Which field.
        failed: What is wrong with its value (or MISSING), None if nothing.
    """

    path: Path
    failed: Callable[[Any], str | None]


def check_of(rule: Mapping[str, Any], zone: tzinfo) -> Check:
    """Compile a validation rule that was checked."""
    path = compile_path(rule["field"])
    required = rule.get("required", False)
    checks: list[tuple[str, Test]] = []
    if "type" in rule:
        kind = rule["type"].upper()
        checks.append((f"is no {kind}", _of_kind(kind, zone)))
    if "min" in rule:
        checks.append(("is below min", _numeric(rule["min"], (0, 1))))
    if "max" in rule:
        checks.append(("is above max", _numeric(rule["max"], (-1, 0))))
    if "minLength" in rule:
        checks.append(("is shorter than minLength", _long(rule["minLength"], None)))
    if "maxLength" in rule:
        checks.append(("is longer than maxLength", _long(None, rule["maxLength"])))
    if "pattern" in rule:
        expression = compile_regex(rule["pattern"])
        checks.append(("does not match pattern", _matches(expression)))
    if "values" in rule:
        checks.append(("is none of values", _is_in(rule["values"])))

    def failed(value: Any) -> str | None:
        if is_null(value):
            if required:
                return "is missing" if value is MISSING else "is null"
            return None
        for complaint, test in checks:
            if not test(value):
                return complaint
        return None

    return Check(path, failed)


def _of_kind(kind: str, zone: tzinfo) -> Test:
    def is_time(value: Any) -> bool:
        known = plain(value)
        if isinstance(known, (bool, dict, list)):
            return False
        try:
            parse_timestamp(known, zone)
        except EvaluationError:
            return False
        return True

    def is_integer(value: Any) -> bool:
        known = plain(value)
        if isinstance(known, Decimal):
            return as_integer(known) is not None
        return isinstance(known, int) and not isinstance(known, bool)

    if kind == "TIMESTAMP":
        return is_time
    if kind == "INTEGER":
        return is_integer
    wanted = {
        "NUMERIC": "number",
        "STRING": "text",
        "BOOLEAN": "boolean",
        "OBJECT": "object",
        "ARRAY": "array",
    }[kind]
    return lambda value: kind_of(plain(value)) == wanted


def _numeric(bound: Any, orders: tuple[int, ...]) -> Test:
    limit = plain(bound)

    def test(value: Any) -> bool:
        known = plain(value)
        return kind_of(known) == "number" and compare(known, limit) in orders

    return test


def _long(least: int | None, most: int | None) -> Test:
    def test(value: Any) -> bool:
        known = plain(value)
        if not isinstance(known, (str, list)):
            return False
        if least is not None and len(known) < least:
            return False
        return most is None or len(known) <= most

    return test
