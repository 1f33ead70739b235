"""
Shapes: what the JSON values of the configuration must look like.

Owns the members of mappings, enrichment, filter and validation rules, and
says which rule of a list is wrong, by its index.  What a rule does belongs to
``transform``; here it is only refused if it could not be done.

Path: ``keys`` -> here -> ``grammar``
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import cast

from engine.config import grammar
from engine.config.kinds import Codes, StatusCodes, Unfit, check_url

#: A longer list of rules is refused.
MOST_RULES = 10_000

#: Deeper nesting of filters is refused.
MOST_NESTING = 32

MAPPING_TYPES = (
    "STRING",
    "INTEGER",
    "LONG",
    "DOUBLE",
    "BOOLEAN",
    "TIMESTAMP",
    "OBJECT",
    "ARRAY",
)
VALIDATION_TYPES = (
    "NUMERIC",
    "STRING",
    "INTEGER",
    "BOOLEAN",
    "OBJECT",
    "ARRAY",
    "TIMESTAMP",
)

#: Operator -> the members it needs besides `field`.
OPERATORS: Mapping[str, tuple[str, ...]] = {
    "EQUALS": ("value",),
    "NOT_EQUALS": ("value",),
    "GREATER_THAN": ("value",),
    "GREATER_EQUAL": ("value",),
    "LESS_THAN": ("value",),
    "LESS_EQUAL": ("value",),
    "GREATER_THAN_OR_EQUAL": ("value",),
    "LESS_THAN_OR_EQUAL": ("value",),
    "BETWEEN": ("min", "max"),
    "IN": ("values",),
    "NOT_IN": ("values",),
    "CONTAINS": ("value",),
    "NOT_CONTAINS": ("value",),
    "MATCHES": ("value",),
    "REGEX_MATCH": ("value",),
    "EXISTS": (),
    "NOT_EXISTS": (),
    "IS_NULL": (),
    "IS_NOT_NULL": (),
}


def mappings(value: object) -> None:
    """Field mappings: source and target, no target twice or inside another."""
    targets: list[tuple[str, tuple[str, ...]]] = []
    for at, rule in _rules(value):
        _members(rule, at, ("source", "target"), ("type", "default", "format"))
        _path(rule["source"], f"rule {at}: source", empty=True)
        _word(rule.get("type", "STRING"), MAPPING_TYPES, f"rule {at}: type")
        if "format" in rule:
            _pattern(rule["format"], at)
            if str(rule.get("type", "")).upper() != "TIMESTAMP":
                raise Unfit(f"rule {at}: format belongs to type TIMESTAMP")
        target = rule["target"]
        steps = _target(target, f"rule {at}: target", empty=True)
        targets.append((str(target), steps))
    if len(targets) > 1 and any(not steps for _, steps in targets):
        raise Unfit("an empty target is allowed only as the single mapping")
    _disjoint(targets)


def _disjoint(targets: Sequence[tuple[str, tuple[str, ...]]]) -> None:
    seen: dict[tuple[str, ...], int] = {}
    for at, (target, steps) in enumerate(targets):
        if steps in seen:
            raise Unfit(f"rules {seen[steps]} and {at} have the same target {target!r}")
        seen[steps] = at
    for steps, at in seen.items():
        for length in range(1, len(steps)):
            if (other := seen.get(steps[:length])) is not None:
                raise Unfit(
                    f"rule {at}: target {targets[at][0]!r} lies inside "
                    f"{targets[other][0]!r} of rule {other}"
                )


def enrichment(value: object) -> None:
    """Enrichment rules: a field, and a value or an expression."""
    for at, rule in _rules(value):
        kind = str(rule.get("type", "")).upper()
        if kind not in ("", "STATIC", "EXPRESSION"):
            _word(rule["type"], ("STATIC", "EXPRESSION"), f"rule {at}: type")
        static = kind == "STATIC" or (not kind and "value" in rule)
        _members(rule, at, ("field", "value" if static else "expression"), ("type",))
        _target(rule["field"], f"rule {at}: field")
        if not static:
            expression = rule["expression"]
            if not isinstance(expression, str):
                raise Unfit(f"rule {at}: expression must be text")
            try:
                grammar.template(expression, grammar.RECORD_NAMES)
            except grammar.LanguageError as error:
                raise Unfit(f"rule {at}: {error}") from error


def filters(value: object) -> None:
    """Filter expressions: a field, an operator and its members; any, all, not."""
    for at, rule in _rules(value):
        _filter(rule, f"rule {at}", 1)


def _filter(rule: Mapping[str, object], at: str, depth: int) -> None:
    if depth > MOST_NESTING:
        raise Unfit(f"{at}: nested deeper than {MOST_NESTING}")
    for group in ("any", "all", "not"):
        if group not in rule:
            continue
        if len(rule) > 1:
            raise Unfit(f"{at}: {group} stands alone")
        inner = rule[group]
        parts = [inner] if group == "not" else inner
        if not isinstance(parts, list) or not parts:
            raise Unfit(f"{at}: {group} holds a list of filters")
        for index, part in enumerate(parts):
            if not isinstance(part, dict):
                raise Unfit(f"{at}: {group} holds filters, each a JSON object")
            _filter(part, f"{at}.{group}[{index}]", depth + 1)
        return
    if "operator" not in rule:
        raise Unfit(f"{at}: operator is missing")
    operator = _word(rule["operator"], tuple(OPERATORS), f"{at}: operator")
    _members(rule, at, ("field", "operator", *OPERATORS[operator]), ())
    _path(rule["field"], f"{at}: field")
    if operator in ("IN", "NOT_IN") and not isinstance(rule["values"], list):
        raise Unfit(f"{at}: values must be a list")
    if operator in ("MATCHES", "REGEX_MATCH"):
        _regex(rule["value"], f"{at}: value")


def stop(value: object) -> None:
    """The condition that ends a poll: a filter over the response."""
    if not isinstance(value, dict):
        raise Unfit("a filter is a JSON object")
    _filter(value, "the condition", 1)
    for name in _fields(value):
        kind, _, rest = name.partition(".")
        known = name == "count" or (kind in ("response", "header") and rest)
        if not known and not name.startswith("header:"):
            raise Unfit(
                f"field {name!r}, allowed: ${{response.<path>}}, ${{header.<Name>}}, "
                "${count}"
            )


def _fields(rule: Mapping[str, object]) -> Iterator[str]:
    """The fields of a filter, without `${...}`."""
    for group in ("any", "all", "not"):
        inner = rule.get(group)
        for part in [inner] if isinstance(inner, dict) else inner or ():  # type: ignore[attr-defined]
            yield from _fields(part)
    if "field" in rule:
        text = str(rule["field"])
        inside = text.startswith("${") and text.endswith("}")
        yield text[2:-1].strip() if inside else text


def validation(value: object) -> None:
    """Validation rules: a field and what it must be."""
    optional = (
        "required",
        "type",
        "min",
        "max",
        "minLength",
        "maxLength",
        "pattern",
        "values",
    )
    for at, rule in _rules(value):
        _members(rule, at, ("field",), optional)
        _path(rule["field"], f"rule {at}: field")
        if len(rule) == 1:
            raise Unfit(f"rule {at}: nothing to check, allowed: {', '.join(optional)}")
        if not isinstance(rule.get("required", True), bool):
            raise Unfit(f"rule {at}: required must be true or false")
        _word(rule.get("type", "STRING"), VALIDATION_TYPES, f"rule {at}: type")
        for name in ("min", "max"):
            if not _is_number(rule.get(name, 0)):
                raise Unfit(f"rule {at}: {name} must be a number")
        for name in ("minLength", "maxLength"):
            length = rule.get(name, 0)
            if isinstance(length, bool) or not isinstance(length, int) or length < 0:
                raise Unfit(f"rule {at}: {name} must be a whole number from 0")
        for low, high in (("min", "max"), ("minLength", "maxLength")):
            bounds = [cast(Decimal, rule[name]) for name in (low, high) if name in rule]
            if len(bounds) == 2 and bounds[0] > bounds[1]:
                raise Unfit(f"rule {at}: {low} is above {high}")
        if "pattern" in rule:
            _regex(rule["pattern"], f"rule {at}: pattern")
        if not isinstance(rule.get("values", []), list):
            raise Unfit(f"rule {at}: values must be a list")


#: What an error rule may do.
ERROR_ACTIONS = (
    "RETRY",
    "RATE_LIMITED",
    "REFRESH_TOKEN",
    "EMPTY",
    "RESTART",
    "FAIL",
)
ERROR_TESTS = ("equals", "matches", "exists")


def error_rules(value: object) -> None:
    """Error rules: what is looked at, how it is tested, and what follows."""
    for at, rule in _rules(value):
        place = f"rule {at}"
        _members(rule, at, ("action",), ("status", "header", "field", *ERROR_TESTS))
        _word(rule["action"], ERROR_ACTIONS, f"{place}: action")
        if "status" in rule:
            try:
                status_codes(rule["status"])
            except Unfit as error:
                raise Unfit(f"{place}: status: {error}") from error
        looked = [name for name in ("header", "field") if name in rule]
        tests = [name for name in ERROR_TESTS if name in rule]
        if len(looked) > 1:
            raise Unfit(f"{place}: header and field do not stand in one rule")
        if not looked and "status" not in rule:
            raise Unfit(f"{place}: nothing to look at, allowed: status, header, field")
        if tests and not looked:
            raise Unfit(f"{place}: {tests[0]} tests a header or a field")
        if len(tests) > 1:
            raise Unfit(f"{place}: one of {', '.join(ERROR_TESTS)}, not {len(tests)}")
        if "field" in rule:
            _path(rule["field"], f"{place}: field")
        header = rule.get("header", "X")
        if not isinstance(header, str) or not re.fullmatch(
            r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", header
        ):
            raise Unfit(f"{place}: header must be the name of a header")
        if not isinstance(rule.get("exists", True), bool):
            raise Unfit(f"{place}: exists must be true or false")
        if "matches" in rule:
            _regex(rule["matches"], f"{place}: matches")


def status_codes(value: object) -> Codes:
    """
    The statuses of an error rule: a number, a text of codes and ranges (also 5xx), or
    a list of both.

    Raises: Unfit.
    """
    items = value if isinstance(value, list) else [value]
    ranges: list[tuple[int, int]] = []
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int | str):
            raise Unfit("a code as 404, a range as 500-599 or 5xx, or a list of them")
        text = re.sub(r"\b([1-5])[xX]{2}\b", r"\g<1>00-\g<1>99", str(item))
        ranges += StatusCodes().read(text, Path()).ranges
    if not ranges:
        raise Unfit("the list of statuses is empty")
    return Codes(tuple(ranges))


def endpoints(value: object) -> None:
    """Equivalent base URLs."""
    for at, url in _texts(value, 100):
        try:
            check_url(url)
        except Unfit as error:
            raise Unfit(f"item {at}: {error}") from error


def globs(value: object) -> None:
    """Patterns relative to the base URL."""
    for at, text in _texts(value, MOST_RULES):
        if text.startswith("/"):
            raise Unfit(f"item {at}: relative to the base URL, no leading '/'")
        try:
            grammar.glob(text)
        except grammar.LanguageError as error:
            raise Unfit(f"item {at}: {error}") from error


def _texts(value: object, most: int) -> Iterator[tuple[int, str]]:
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise Unfit(f"allowed: a JSON array of 1 to {most} strings")
    for at, item in enumerate(value):
        if not isinstance(item, str) or not item:
            raise Unfit(f"item {at}: a string is expected")
        yield at, item


def _rules(value: object) -> Iterator[tuple[int, dict[str, object]]]:
    if not isinstance(value, list):
        raise Unfit("allowed: a JSON array of objects")
    if len(value) > MOST_RULES:
        raise Unfit(f"at most {MOST_RULES} rules")
    for at, rule in enumerate(value):
        if not isinstance(rule, dict):
            raise Unfit(f"rule {at}: a JSON object is expected")
        yield at, rule


def _members(
    rule: Mapping[str, object],
    at: int | str,
    needed: Sequence[str],
    optional: Sequence[str],
) -> None:
    place = f"rule {at}" if isinstance(at, int) else at
    for name in needed:
        if name not in rule:
            raise Unfit(f"{place}: {name} is missing")
    known = [*needed, *optional]
    for name in rule:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise Unfit(
                f"{place}: unknown member {name!r}, allowed: {', '.join(known)}",
                near[0] if near else None,
            )


def _word(value: object, allowed: Sequence[str], place: str) -> str:
    word = value.upper().replace("-", "_") if isinstance(value, str) else ""
    if word not in allowed:
        near = difflib.get_close_matches(word, allowed, 1)
        raise Unfit(
            f"{place} {value!r}, allowed: {', '.join(allowed)}",
            near[0] if near else None,
        )
    return word


def _path(value: object, place: str, *, empty: bool = False) -> None:
    if not isinstance(value, str) or (not value and not empty):
        raise Unfit(f"{place} must be a path")
    _check(grammar.path, value, place)


def _target(value: object, place: str, *, empty: bool = False) -> tuple[str, ...]:
    _path(value, place, empty=empty)
    if value == "":
        return ()
    try:
        return grammar.target(str(value))
    except grammar.LanguageError as error:
        raise Unfit(f"{place}: {error}") from error


def _pattern(value: object, at: int) -> None:
    if not isinstance(value, str) or not value:
        raise Unfit(f"rule {at}: format must be a date pattern")
    _check(grammar.pattern, value, f"rule {at}: format")


def _regex(value: object, place: str) -> None:
    if not isinstance(value, str):
        raise Unfit(f"{place} must be a regular expression")
    _check(grammar.regex, value, place)


def _check(check: Callable[[str], None], value: str, place: str) -> None:
    try:
        check(value)
    except grammar.LanguageError as error:
        raise Unfit(f"{place}: {error}") from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)
