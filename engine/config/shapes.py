"""
Shapes: what the JSON values of the configuration must look like.

Owns the members of mappings, enrichment, filter and validation rules, and
says which rule of a list is wrong, by its index.  What a rule does belongs to
``transform``; here it is only refused if it could not be done.

Path: ``keys`` -> here -> ``grammar``
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, cast

from engine.config import grammar
from engine.config.kinds import Codes, InvalidValue, Mistakes, StatusCodes, check_url
from engine.language.rules import (
    ALIASES,
    CHECKS,
    MAPPING_TYPES,
    MOST_NESTING,
    MOST_RULES,
    OPERATORS,
    VALIDATION_TYPES,
)
from engine.later import later

if TYPE_CHECKING:
    import difflib
else:
    difflib = later("difflib")


def mappings(value: object) -> None:
    """Field mappings: source and target, no target twice or inside another."""
    targets: list[tuple[int, str, tuple[str, ...]]] = []
    mistakes = Mistakes()
    for at, rule in _rules(value, mistakes):
        _members(
            rule, at, ("source", "target"), ("type", "default", "format"), mistakes
        )
        if "source" in rule:
            with mistakes.of(at):
                _path(rule["source"], f"rule {at}: source", empty=True)
        with mistakes.of(at):
            _word(rule.get("type", "STRING"), MAPPING_TYPES, f"rule {at}: type")
        if "format" in rule:
            with mistakes.of(at):
                _pattern(rule["format"], at)
                if str(rule.get("type", "")).upper() != "TIMESTAMP":
                    raise InvalidValue(f"rule {at}: format belongs to type TIMESTAMP")
        if "target" in rule:
            with mistakes.of(at):
                target = rule["target"]
                steps = _target(target, f"rule {at}: target", empty=True)
                targets.append((at, str(target), steps))
    if len(targets) > 1 and any(not steps for _, _, steps in targets):
        empty = next(at for at, _, steps in targets if not steps)
        with mistakes.of(empty):
            raise InvalidValue("an empty target is allowed only as the single mapping")
    else:
        _disjoint(targets, mistakes)
    mistakes.close()


def _disjoint(
    targets: Sequence[tuple[int, str, tuple[str, ...]]], mistakes: Mistakes
) -> None:
    seen: dict[tuple[str, ...], tuple[int, str]] = {}
    for at, target, steps in targets:
        if steps in seen:
            with mistakes.of(at):
                first = seen[steps][0]
                raise InvalidValue(
                    f"rules {first} and {at} have the same target {target!r}"
                )
        else:
            seen[steps] = at, target
    for steps, (at, target) in seen.items():
        for length in range(1, len(steps)):
            if (other := seen.get(steps[:length])) is not None:
                with mistakes.of(at):
                    raise InvalidValue(
                        f"rule {at}: target {target!r} lies inside "
                        f"{other[1]!r} of rule {other[0]}"
                    )


def enrichment(value: object) -> None:
    """Enrichment rules: a field, and a value or an expression."""
    mistakes = Mistakes()
    for at, rule in _rules(value, mistakes):
        kind = str(rule.get("type", "")).upper()
        if kind not in ("", "STATIC", "EXPRESSION"):
            with mistakes.of(at):
                _word(rule["type"], ("STATIC", "EXPRESSION"), f"rule {at}: type")
        static = kind == "STATIC" or ("value" in rule and kind != "EXPRESSION")
        content = "value" if static else "expression"
        _members(rule, at, ("field", content), ("type",), mistakes)
        if "field" in rule:
            with mistakes.of(at):
                _target(rule["field"], f"rule {at}: field")
        if not static and "expression" in rule:
            with mistakes.of(at):
                _expression(rule["expression"], at)
    mistakes.close()


def _expression(expression: object, at: int) -> None:
    if not isinstance(expression, str):
        raise InvalidValue(f"rule {at}: expression must be text")
    try:
        grammar.template(expression, grammar.RECORD_NAMES)
    except grammar.LanguageError as error:
        raise InvalidValue(f"rule {at}: {error}") from error


def filters(value: object) -> None:
    """Filter expressions: a field, an operator and its members; any, all, not."""
    mistakes = Mistakes()
    for at, rule in _rules(value, mistakes):
        with mistakes.of(at):
            _filter(rule, f"rule {at}", 1)
    mistakes.close()


def _filter(rule: Mapping[str, object], at: str, depth: int) -> None:
    if depth > MOST_NESTING:
        raise InvalidValue(f"{at}: nested deeper than {MOST_NESTING}")
    for group in ("any", "all", "not"):
        if group in rule:
            _group(rule, group, at, depth)
            return
    mistakes = Mistakes()
    operator = ""
    with mistakes.of(0):
        if "operator" not in rule:
            raise InvalidValue(f"{at}: operator is missing")
        words = (*OPERATORS, *ALIASES)
        operator = _word(rule["operator"], words, f"{at}: operator")
        operator = ALIASES.get(operator, operator)
    if operator:
        needed = ("field", "operator", *OPERATORS[operator])
        _members(rule, at, needed, (), mistakes)
    if "field" in rule:
        with mistakes.of(0):
            _path(rule["field"], f"{at}: field")
    with mistakes.of(0):
        lists = operator in ("IN", "NOT_IN") and "values" in rule
        if lists and not isinstance(rule["values"], list):
            raise InvalidValue(f"{at}: values must be a list")
    if operator == "MATCHES" and "value" in rule:
        with mistakes.of(0):
            _regex(rule["value"], f"{at}: value")
    mistakes.close()


def _group(rule: Mapping[str, object], group: str, at: str, depth: int) -> None:
    """The filters that stand in any, all or not."""
    if len(rule) > 1:
        raise InvalidValue(f"{at}: {group} stands alone")
    inner = rule[group]
    parts = [inner] if group == "not" else inner
    if not isinstance(parts, list) or not parts:
        raise InvalidValue(f"{at}: {group} holds a list of filters")
    mistakes = Mistakes()
    for index, part in enumerate(parts):
        with mistakes.of(index):
            if not isinstance(part, dict):
                raise InvalidValue(f"{at}: {group} holds filters, each a JSON object")
            _filter(part, f"{at}.{group}[{index}]", depth + 1)
    mistakes.close()


def condition(value: object) -> None:
    """A condition over a record: a filter."""
    if not isinstance(value, dict):
        raise InvalidValue("a filter is a JSON object")
    _filter(value, "the condition", 1)


def stop(value: object) -> None:
    """The condition that ends a poll: a filter over the response."""
    if not isinstance(value, dict):
        raise InvalidValue("a filter is a JSON object")
    _filter(value, "the condition", 1)
    for name in _fields(value):
        kind, _, rest = name.partition(".")
        known = name == "count" or (kind in ("response", "header") and rest)
        if not known and not name.startswith("header:"):
            raise InvalidValue(
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
    mistakes = Mistakes()
    for at, rule in _rules(value, mistakes):
        _members(rule, at, ("field",), CHECKS, mistakes)
        if "field" in rule:
            with mistakes.of(at):
                _path(rule["field"], f"rule {at}: field")
        with mistakes.of(at):
            if len(rule) == 1:
                raise InvalidValue(
                    f"rule {at}: nothing to check, allowed: {', '.join(CHECKS)}"
                )
        with mistakes.of(at):
            if not isinstance(rule.get("required", True), bool):
                raise InvalidValue(f"rule {at}: required must be true or false")
        with mistakes.of(at):
            _word(rule.get("type", "STRING"), VALIDATION_TYPES, f"rule {at}: type")
        with mistakes.of(at):
            _bounds(rule, at)
        if "pattern" in rule:
            with mistakes.of(at):
                _regex(rule["pattern"], f"rule {at}: pattern")
        with mistakes.of(at):
            if not isinstance(rule.get("values", []), list):
                raise InvalidValue(f"rule {at}: values must be a list")
    mistakes.close()


def _bounds(rule: Mapping[str, object], at: int) -> None:
    for name in ("min", "max"):
        if not _is_number(rule.get(name, 0)):
            raise InvalidValue(f"rule {at}: {name} must be a number")
    for name in ("minLength", "maxLength"):
        length = rule.get(name, 0)
        if isinstance(length, bool) or not isinstance(length, int) or length < 0:
            raise InvalidValue(f"rule {at}: {name} must be a whole number from 0")
    for low, high in (("min", "max"), ("minLength", "maxLength")):
        bounds = [cast(Decimal, rule[name]) for name in (low, high) if name in rule]
        if len(bounds) == 2 and bounds[0] > bounds[1]:
            raise InvalidValue(f"rule {at}: {low} is above {high}")


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
    mistakes = Mistakes()
    known = ("status", "header", "field", *ERROR_TESTS)
    for at, rule in _rules(value, mistakes):
        _members(rule, at, ("action",), known, mistakes)
        for check in (_error_action, _error_status, _error_place, _error_test):
            with mistakes.of(at):
                check(rule, f"rule {at}")
    mistakes.close()


def _error_action(rule: Mapping[str, object], place: str) -> None:
    if "action" in rule:
        _word(rule["action"], ERROR_ACTIONS, f"{place}: action")


def _error_status(rule: Mapping[str, object], place: str) -> None:
    if "status" not in rule:
        return
    try:
        status_codes(rule["status"])
    except InvalidValue as error:
        raise InvalidValue(f"{place}: status: {error}") from error


def _error_place(rule: Mapping[str, object], place: str) -> None:
    looked = [name for name in ("header", "field") if name in rule]
    if len(looked) > 1:
        raise InvalidValue(f"{place}: header and field do not stand in one rule")
    if not looked and "status" not in rule:
        raise InvalidValue(
            f"{place}: nothing to look at, allowed: status, header, field"
        )
    if "field" in rule:
        _path(rule["field"], f"{place}: field")
    header = rule.get("header", "X")
    if not isinstance(header, str) or not re.fullmatch(
        r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", header
    ):
        raise InvalidValue(f"{place}: header must be the name of a header")


def _error_test(rule: Mapping[str, object], place: str) -> None:
    tests = [name for name in ERROR_TESTS if name in rule]
    if tests and "header" not in rule and "field" not in rule:
        raise InvalidValue(f"{place}: {tests[0]} tests a header or a field")
    if len(tests) > 1:
        raise InvalidValue(
            f"{place}: one of {', '.join(ERROR_TESTS)}, not {len(tests)}"
        )
    if not isinstance(rule.get("exists", True), bool):
        raise InvalidValue(f"{place}: exists must be true or false")
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
            raise InvalidValue(
                "a code as 404, a range as 500-599 or 5xx, or a list of them"
            )
        text = re.sub(r"\b([1-5])[xX]{2}\b", r"\g<1>00-\g<1>99", str(item))
        ranges += StatusCodes().read(text, Path()).ranges
    if not ranges:
        raise InvalidValue("the list of statuses is empty")
    return Codes(tuple(ranges))


def claims(value: object) -> None:
    """Claims of an assertion: an object."""
    if not isinstance(value, dict) or not all(value):
        raise InvalidValue("allowed: a JSON object of claims")


def endpoints(value: object) -> None:
    """Equivalent base URLs."""
    mistakes = Mistakes()
    for at, url in _texts(value, 100, mistakes):
        with mistakes.of(at):
            try:
                check_url(url)
            except InvalidValue as error:
                raise InvalidValue(f"item {at}: {error}") from error
    mistakes.close()


def globs(value: object) -> None:
    """Patterns relative to the base URL."""
    mistakes = Mistakes()
    for at, text in _texts(value, MOST_RULES, mistakes):
        with mistakes.of(at):
            if text.startswith("/"):
                raise InvalidValue(
                    f"item {at}: relative to the base URL, no leading '/'"
                )
            try:
                grammar.glob(text)
            except grammar.LanguageError as error:
                raise InvalidValue(f"item {at}: {error}") from error
    mistakes.close()


def _texts(value: object, most: int, mistakes: Mistakes) -> Iterator[tuple[int, str]]:
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise InvalidValue(f"allowed: a JSON array of 1 to {most} strings")
    for at, item in enumerate(value):
        if isinstance(item, str) and item:
            yield at, item
            continue
        with mistakes.of(at):
            raise InvalidValue(f"item {at}: a string is expected")


def _rules(
    value: object, mistakes: Mistakes
) -> Iterator[tuple[int, dict[str, object]]]:
    if not isinstance(value, list):
        raise InvalidValue("allowed: a JSON array of objects")
    if len(value) > MOST_RULES:
        raise InvalidValue(f"at most {MOST_RULES} rules")
    for at, rule in enumerate(value):
        if isinstance(rule, dict):
            yield at, rule
            continue
        with mistakes.of(at):
            raise InvalidValue(f"rule {at}: a JSON object is expected")


def _members(
    rule: Mapping[str, object],
    at: int | str,
    needed: Sequence[str],
    optional: Sequence[str],
    mistakes: Mistakes,
) -> None:
    """Note members that are missing or unknown; one that is misspelt is one mistake."""
    place = f"rule {at}" if isinstance(at, int) else at
    item = at if isinstance(at, int) else 0
    missing = [name for name in needed if name not in rule]
    known = [*needed, *optional]
    for name in rule:
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, 1)
        if near and near[0] in missing:
            missing.remove(near[0])
        with mistakes.of(item):
            raise InvalidValue(
                f"{place}: unknown member {name!r}, allowed: {', '.join(known)}",
                near[0] if near else None,
            )
    for name in missing:
        with mistakes.of(item):
            raise InvalidValue(f"{place}: {name} is missing")


def _word(value: object, allowed: Sequence[str], place: str) -> str:
    word = value.upper().replace("-", "_") if isinstance(value, str) else ""
    if word not in allowed:
        near = difflib.get_close_matches(word, allowed, 1)
        raise InvalidValue(
            f"{place} {value!r}, allowed: {', '.join(allowed)}",
            near[0] if near else None,
        )
    return word


def _path(value: object, place: str, *, empty: bool = False) -> None:
    if not isinstance(value, str) or (not value and not empty):
        raise InvalidValue(f"{place} must be a path")
    _check(grammar.path, value, place)


def _target(value: object, place: str, *, empty: bool = False) -> tuple[str, ...]:
    _path(value, place, empty=empty)
    if value == "":
        return ()
    try:
        return grammar.target(str(value))
    except grammar.LanguageError as error:
        raise InvalidValue(f"{place}: {error}") from error


def _pattern(value: object, at: int) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidValue(f"rule {at}: format must be a date pattern")
    _check(grammar.pattern, value, f"rule {at}: format")


def _regex(value: object, place: str) -> None:
    if not isinstance(value, str):
        raise InvalidValue(f"{place} must be a regular expression")
    _check(grammar.regex, value, place)


def _check(check: Callable[[str], None], value: str, place: str) -> None:
    try:
        check(value)
    except grammar.LanguageError as error:
        raise InvalidValue(f"{place}: {error}") from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)
