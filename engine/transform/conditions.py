"""
Conditions: filters and validation, compiled into tests of one value.

Owns the operators and what they answer for missing and null.  A test takes a
value or MISSING; it never raises for a kind it cannot compare, it is false.

Path: `rules` -> here -> `engine.language`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from engine.language.rules import (
    CHECKS,
    MOST_NESTING,
    OPERATORS,
    VALIDATION_TYPES,
    operator_of,
)
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
    """`not`."""

    item: Condition


Condition: TypeAlias = Field | ConditionGroup | Negation


def compile_condition(rule: Any, depth: int = 1) -> Condition:
    """
    Compile a filter: a field with an operator, or any, all, not.

    Raises: LanguageError.
    """
    if depth > MOST_NESTING:
        raise LanguageError(f"filters nested deeper than {MOST_NESTING}")
    if not isinstance(rule, Mapping):
        raise LanguageError("a filter is a JSON object")
    for name in ("any", "all", "not"):
        if name not in rule:
            continue
        if len(rule) > 1:
            raise LanguageError(f"{name} stands alone")
        inner = rule[name]
        if name == "not":
            return Negation(compile_condition(inner, depth + 1))
        if not isinstance(inner, Sequence) or isinstance(inner, str) or not inner:
            raise LanguageError(f"{name} holds a list of filters")
        return ConditionGroup(
            name == "all", tuple(compile_condition(each, depth + 1) for each in inner)
        )
    operator = rule.get("operator")
    if not isinstance(operator, str):
        raise LanguageError("operator is missing")
    known = operator_of(operator)
    if not known:
        raise LanguageError(f"no operator {operator}; known: {', '.join(OPERATORS)}")
    wanted = {"field", "operator", *OPERATORS[known]}
    if rule.keys() != wanted:
        raise LanguageError(f"{known} takes {', '.join(sorted(wanted))}")
    path = compile_path(_text(rule["field"], "field"))
    return Field(path, _test(known, rule), known, rule)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise LanguageError(f"{name} is text")
    return value


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
            return _matches(compile_regex(_text(rule["value"], "value")))
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
    if not isinstance(constants, Sequence) or isinstance(constants, str):
        raise LanguageError("values is a list")
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
    One validation rule.

    Attributes:
        path: Which field.
        failed: What is wrong with its value (or MISSING), None if nothing.
    """

    path: Path
    failed: Callable[[Any], str | None]


def compile_check(rule: Any, zone: tzinfo) -> Check:
    """
    Compile a validation rule.

    Raises: LanguageError.
    """
    if not isinstance(rule, Mapping) or "field" not in rule:
        raise LanguageError("a validation rule is a JSON object with field")
    unknown = set(rule) - {"field", *CHECKS}
    if unknown:
        raise LanguageError(
            f"no check {', '.join(sorted(unknown))}; known: {', '.join(CHECKS)}"
        )
    if len(rule) == 1:
        raise LanguageError(f"nothing to check; known: {', '.join(CHECKS)}")
    path = compile_path(_text(rule["field"], "field"))
    required = rule.get("required", False)
    if not isinstance(required, bool):
        raise LanguageError("required is true or false")
    checks: list[tuple[str, Test]] = []
    if "type" in rule:
        kind = str(rule["type"]).upper()
        if kind not in VALIDATION_TYPES:
            known = ", ".join(VALIDATION_TYPES)
            raise LanguageError(f"no type {rule['type']}; known: {known}")
        checks.append((f"is no {kind}", _of_kind(kind, zone)))
    if "min" in rule:
        checks.append(("is below min", _numeric(rule["min"], "min", (0, 1))))
    if "max" in rule:
        checks.append(("is above max", _numeric(rule["max"], "max", (-1, 0))))
    if "minLength" in rule:
        least = _length(rule["minLength"], "minLength")
        checks.append(("is shorter than minLength", _long(least, None)))
    if "maxLength" in rule:
        most = _length(rule["maxLength"], "maxLength")
        checks.append(("is longer than maxLength", _long(None, most)))
    if "pattern" in rule:
        expression = compile_regex(_text(rule["pattern"], "pattern"))
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


def _numeric(bound: Any, name: str, orders: tuple[int, ...]) -> Test:
    limit = plain(bound)
    if isinstance(limit, bool) or not isinstance(limit, (int, Decimal)):
        raise LanguageError(f"{name} is a number")

    def test(value: Any) -> bool:
        known = plain(value)
        return kind_of(known) == "number" and compare(known, limit) in orders

    return test


def _length(bound: Any, name: str) -> int:
    if isinstance(bound, bool) or not isinstance(bound, int) or bound < 0:
        raise LanguageError(f"{name} is a whole number from 0")
    return bound


def _long(least: int | None, most: int | None) -> Test:
    def test(value: Any) -> bool:
        known = plain(value)
        if not isinstance(known, (str, list)):
            return False
        if least is not None and len(known) < least:
            return False
        return most is None or len(known) <= most

    return test
