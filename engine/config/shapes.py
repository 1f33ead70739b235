"""
Shapes: what the JSON values of the configuration must look like.

Owns the conditions that end a poll, error rules and lists of texts; of mappings,
enrichment, filters and checks what `language.rulecheck` finds wrong becomes refusals here,
each with the rule's index in its list.

Path: ``keys`` -> here -> ``grammar``, `language.rulecheck`
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from engine.config import grammar
from engine.config.kinds import Codes, InvalidValue, Mistakes, StatusCodes, check_url
from engine.language import rulecheck
from engine.language.rulecheck import (
    CheckFailed,
    Faults,
    RuleFault,
    require_path,
    require_regex,
    require_word,
)
from engine.language.rules import MOST_RULES


def mappings(value: object) -> None:
    """Field mappings: source and target, no target twice or inside another."""
    _refuse(rulecheck.mapping_faults(value, _called))


def enrichment(value: object) -> None:
    """Enrichment rules: a field, and a value or an expression."""
    _refuse(rulecheck.enrichment_faults(value, _called))


def filters(value: object) -> None:
    """Filter expressions: a field, an operator and its members; any, all, not."""
    _refuse(rulecheck.filter_faults(value, _called))


def validation(value: object) -> None:
    """Validation rules: a field and what it must be."""
    _refuse(rulecheck.validation_faults(value, _called))


def condition(value: object) -> None:
    """A condition over a record: a filter."""
    _refuse(rulecheck.condition_faults(value))


def _called(at: int) -> str:
    return f"rule {at}"


def _refuse(faults: Sequence[RuleFault]) -> None:
    """Raises: InvalidValue with all of them, if there are any."""
    mistakes = Mistakes()
    for fault in faults:
        refused = InvalidValue(fault.message, fault.nearest)
        if fault.item is None:
            raise refused
        with mistakes.of(fault.item):
            raise refused
    mistakes.close()


def stop(value: object) -> None:
    """The condition that ends a poll: a filter over the response."""
    condition(value)
    assert isinstance(value, dict)
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
    faults = Faults(_called)
    known = ("status", "header", "field", *ERROR_TESTS)
    for at, place, rule in faults.rules(value):
        faults.members(rule, at, place, ("action",), known)
        for check in (_error_action, _error_status, _error_place, _error_test):
            with faults.of(at):
                check(rule, place)
    _refuse(faults.found)


def _error_action(rule: Mapping[str, object], place: str) -> None:
    if "action" in rule:
        require_word(rule["action"], ERROR_ACTIONS, f"{place}: action")


def _error_status(rule: Mapping[str, object], place: str) -> None:
    if "status" not in rule:
        return
    try:
        status_codes(rule["status"])
    except InvalidValue as error:
        raise CheckFailed(f"{place}: status: {error}") from error


def _error_place(rule: Mapping[str, object], place: str) -> None:
    looked = [name for name in ("header", "field") if name in rule]
    if len(looked) > 1:
        raise CheckFailed(f"{place}: header and field do not stand in one rule")
    if not looked and "status" not in rule:
        raise CheckFailed(
            f"{place}: nothing to look at, allowed: status, header, field"
        )
    if "field" in rule:
        require_path(rule["field"], f"{place}: field")
    header = rule.get("header", "X")
    if not isinstance(header, str) or not re.fullmatch(
        r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", header
    ):
        raise CheckFailed(f"{place}: header must be the name of a header")


def _error_test(rule: Mapping[str, object], place: str) -> None:
    tests = [name for name in ERROR_TESTS if name in rule]
    if tests and "header" not in rule and "field" not in rule:
        raise CheckFailed(f"{place}: {tests[0]} tests a header or a field")
    if len(tests) > 1:
        raise CheckFailed(f"{place}: one of {', '.join(ERROR_TESTS)}, not {len(tests)}")
    if not isinstance(rule.get("exists", True), bool):
        raise CheckFailed(f"{place}: exists must be true or false")
    if "matches" in rule:
        require_regex(rule["matches"], f"{place}: matches")


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
