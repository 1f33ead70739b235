"""
Rule check: what is wrong with mappings, enrichment, filters and checks.

Owns the one reading of a rule's members: which it has, which of them are missing or
misspelt, and whether the small languages inside them compile.  Who asks says how a rule is
called to people; what a rule does is compiled in `transform`, of rules that are good.

Path: ``config.shapes``, `transform.rules`, `transform.conditions` -> here -> `rules`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from engine.language.datepatterns import compile_pattern
from engine.language.faults import LanguageError
from engine.language.paths import compile_path
from engine.language.regexes import compile_regex
from engine.language.rules import (
    ALIASES,
    CHECKS,
    MAPPING_TYPES,
    MOST_NESTING,
    MOST_RULES,
    OPERATORS,
    VALIDATION_TYPES,
)
from engine.language.templates import RECORD_NAMES, compile_template
from engine.language.values import plain
from engine.later import later

if TYPE_CHECKING:
    import difflib
else:
    difflib = later("difflib")

#: How the rule at a place in its list is called: "rule 3".
Place: TypeAlias = Callable[[int], str]


class RuleFault(Struct, frozen=True):
    """
    One mistake in a rule.

    Attributes:
        item: Which rule of the list, from 0, or None: it is no list of rules.
        message: What is wrong, most often behind the rule's place, and what is allowed.
        nearest: A word that may have been meant, or None.
    """

    item: int | None
    message: str
    nearest: str | None = None


class CheckFailed(Exception):
    """What one check of a rule ends with; `Faults` makes a fault of it."""

    def __init__(self, message: str, nearest: str | None = None):
        super().__init__(message)
        self.nearest = nearest


class Faults:
    """
    Every mistake of a list of rules.

    Args:
        place: How its rules are called.
    """

    def __init__(self, place: Place):
        self.place = place
        self.found: list[RuleFault] = []

    def add(self, item: int | None, message: str, nearest: str | None = None) -> None:
        """One mistake more."""
        self.found.append(RuleFault(item, message, nearest))

    @contextmanager
    def of(self, item: int | None) -> Iterator[None]:
        """Around one check: what is wrong is noted, and it goes on behind."""
        try:
            yield
        except CheckFailed as wrong:
            self.add(item, str(wrong), wrong.nearest)

    def rules(self, value: object) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
        """The rules of a list that are objects: where each stands, and as what."""
        if not is_list(value):
            self.add(None, "allowed: a JSON array of objects")
            return
        assert isinstance(value, Sequence)
        if len(value) > MOST_RULES:
            self.add(None, f"at most {MOST_RULES} rules")
            return
        for at, rule in enumerate(value):
            place = self.place(at)
            if isinstance(rule, Mapping):
                yield at, place, rule
                continue
            self.add(at, f"{place}: a JSON object is expected")

    def members(
        self,
        rule: Mapping[str, object],
        item: int,
        place: str,
        needed: Sequence[str],
        optional: Sequence[str],
    ) -> None:
        """Members that are missing or unknown; one that is misspelt is one mistake."""
        missing = [name for name in needed if name not in rule]
        known = [*needed, *optional]
        for name in rule:
            if name in known:
                continue
            near = difflib.get_close_matches(name, known, 1)
            if near and near[0] in missing:
                missing.remove(near[0])
            self.add(
                item,
                f"{place}: unknown member {name!r}, allowed: {', '.join(known)}",
                near[0] if near else None,
            )
        for name in missing:
            self.add(item, f"{place}: {name} is missing")


# -- the four lists ------------------------------------------------------------------


def mapping_faults(value: object, place: Place) -> list[RuleFault]:
    """Field mappings: source and target, no target twice or inside another."""
    targets: list[tuple[int, str, tuple[str, ...]]] = []
    faults = Faults(place)
    for at, called, rule in faults.rules(value):
        faults.members(
            rule, at, called, ("source", "target"), ("type", "default", "format")
        )
        if "source" in rule:
            with faults.of(at):
                require_path(rule["source"], f"{called}: source", empty=True)
        with faults.of(at):
            require_word(rule.get("type", "STRING"), MAPPING_TYPES, f"{called}: type")
        if "format" in rule:
            with faults.of(at):
                _require_pattern(rule["format"], f"{called}: format")
                if str(rule.get("type", "")).upper() != "TIMESTAMP":
                    raise CheckFailed(f"{called}: format belongs to type TIMESTAMP")
        if "target" in rule:
            with faults.of(at):
                steps = _target(rule["target"], f"{called}: target", empty=True)
                targets.append((at, str(rule["target"]), steps))
    if len(targets) > 1 and any(not steps for _, _, steps in targets):
        empty = next(at for at, _, steps in targets if not steps)
        faults.add(empty, "an empty target is allowed only as the single mapping")
    else:
        _disjoint(targets, faults)
    return faults.found


def _disjoint(
    targets: Sequence[tuple[int, str, tuple[str, ...]]], faults: Faults
) -> None:
    seen: dict[tuple[str, ...], tuple[int, str]] = {}
    for at, target, steps in targets:
        if steps in seen:
            first = seen[steps][0]
            faults.add(at, f"rules {first} and {at} have the same target {target!r}")
        else:
            seen[steps] = at, target
    for steps, (at, target) in seen.items():
        for length in range(1, len(steps)):
            if (other := seen.get(steps[:length])) is not None:
                faults.add(
                    at,
                    f"{faults.place(at)}: target {target!r} lies inside "
                    f"{other[1]!r} of {faults.place(other[0])}",
                )


def enrichment_faults(value: object, place: Place) -> list[RuleFault]:
    """Enrichment rules: a field, and a value or an expression."""
    faults = Faults(place)
    for at, called, rule in faults.rules(value):
        kind = str(rule.get("type", "")).upper()
        if kind not in ("", "STATIC", "EXPRESSION"):
            with faults.of(at):
                require_word(rule["type"], ("STATIC", "EXPRESSION"), f"{called}: type")
        static = is_static(rule)
        content = "value" if static else "expression"
        faults.members(rule, at, called, ("field", content), ("type",))
        if "field" in rule:
            with faults.of(at):
                _target(rule["field"], f"{called}: field")
        if not static and "expression" in rule:
            with faults.of(at):
                _require_expression(rule["expression"], called)
    return faults.found


def is_static(rule: Mapping[str, Any]) -> bool:
    """Whether an enrichment rule has a value, and not an expression."""
    kind = str(rule.get("type", "")).upper()
    return kind == "STATIC" or ("value" in rule and kind != "EXPRESSION")


def filter_faults(value: object, place: Place) -> list[RuleFault]:
    """Filter expressions: a field, an operator and its members; any, all, not."""
    faults = Faults(place)
    for at, called, rule in faults.rules(value):
        _filter(rule, called, 1, faults, at)
    return faults.found


def condition_faults(value: object, called: str = "the condition") -> list[RuleFault]:
    """One filter by itself."""
    faults = Faults(lambda at: called)
    if not isinstance(value, Mapping):
        return [RuleFault(None, "a filter is a JSON object")]
    _filter(value, called, 1, faults, 0)
    return faults.found


def _filter(
    rule: Mapping[str, Any], place: str, depth: int, faults: Faults, item: int
) -> None:
    if depth > MOST_NESTING:
        faults.add(item, f"{place}: nested deeper than {MOST_NESTING}")
        return
    for group in ("any", "all", "not"):
        if group in rule:
            _group(rule, group, place, depth, faults, item)
            return
    operator = ""
    with faults.of(item):
        if "operator" not in rule:
            raise CheckFailed(f"{place}: operator is missing")
        words = (*OPERATORS, *ALIASES)
        operator = require_word(rule["operator"], words, f"{place}: operator")
        operator = ALIASES.get(operator, operator)
    if operator:
        needed = ("field", "operator", *OPERATORS[operator])
        faults.members(rule, item, place, needed, ())
    if "field" in rule:
        with faults.of(item):
            require_path(rule["field"], f"{place}: field")
    with faults.of(item):
        lists = operator in ("IN", "NOT_IN") and "values" in rule
        if lists and not is_list(rule["values"]):
            raise CheckFailed(f"{place}: values must be a list")
    if operator == "MATCHES" and "value" in rule:
        with faults.of(item):
            require_regex(rule["value"], f"{place}: value")


def _group(
    rule: Mapping[str, Any],
    group: str,
    place: str,
    depth: int,
    faults: Faults,
    item: int,
) -> None:
    """The filters that stand in any, all or not."""
    inner = rule[group]
    parts = [inner] if group == "not" else inner
    with faults.of(item):
        if len(rule) > 1:
            raise CheckFailed(f"{place}: {group} stands alone")
        if not is_list(parts) or not parts:
            raise CheckFailed(f"{place}: {group} holds a list of filters")
        for index, part in enumerate(parts):
            if isinstance(part, Mapping):
                _filter(part, f"{place}.{group}[{index}]", depth + 1, faults, item)
                continue
            faults.add(item, f"{place}: {group} holds filters, each a JSON object")


def validation_faults(value: object, place: Place) -> list[RuleFault]:
    """Validation rules: a field and what it must be."""
    faults = Faults(place)
    for at, called, rule in faults.rules(value):
        faults.members(rule, at, called, ("field",), CHECKS)
        if "field" in rule:
            with faults.of(at):
                require_path(rule["field"], f"{called}: field")
        with faults.of(at):
            if len(rule) == 1:
                raise CheckFailed(
                    f"{called}: nothing to check, allowed: {', '.join(CHECKS)}"
                )
        with faults.of(at):
            if not isinstance(rule.get("required", True), bool):
                raise CheckFailed(f"{called}: required must be true or false")
        with faults.of(at):
            kind = rule.get("type", "STRING")
            require_word(kind, VALIDATION_TYPES, f"{called}: type")
        with faults.of(at):
            _require_bounds(rule, called)
        if "pattern" in rule:
            with faults.of(at):
                require_regex(rule["pattern"], f"{called}: pattern")
        with faults.of(at):
            if not is_list(rule.get("values", [])):
                raise CheckFailed(f"{called}: values must be a list")
    return faults.found


def _require_bounds(rule: Mapping[str, Any], place: str) -> None:
    for name in ("min", "max"):
        if not _is_number(plain(rule.get(name, 0))):
            raise CheckFailed(f"{place}: {name} must be a number")
    for name in ("minLength", "maxLength"):
        length = rule.get(name, 0)
        if isinstance(length, bool) or not isinstance(length, int) or length < 0:
            raise CheckFailed(f"{place}: {name} must be a whole number from 0")
    for low, high in (("min", "max"), ("minLength", "maxLength")):
        bounds: list[Any] = [plain(rule[name]) for name in (low, high) if name in rule]
        if len(bounds) == 2 and bounds[0] > bounds[1]:
            raise CheckFailed(f"{place}: {low} is above {high}")


# -- one member ----------------------------------------------------------------------


def require_word(value: object, allowed: Sequence[str], place: str) -> str:
    """
    One of some words, in any case and with either hyphen.

    Raises: Wrong, with the nearest.
    """
    word = value.upper().replace("-", "_") if isinstance(value, str) else ""
    if word not in allowed:
        near = difflib.get_close_matches(word, allowed, 1)
        raise CheckFailed(
            f"{place} {value!r}, allowed: {', '.join(allowed)}",
            near[0] if near else None,
        )
    return word


def require_path(value: object, place: str, *, empty: bool = False) -> None:
    """Raises: Wrong for what is no path; `empty`: the whole record is one."""
    if not isinstance(value, str) or (not value and not empty):
        raise CheckFailed(f"{place} must be a path")
    _compiles(compile_path, value, place)


def require_regex(value: object, place: str) -> None:
    """Raises: Wrong for what is no regular expression."""
    if not isinstance(value, str):
        raise CheckFailed(f"{place} must be a regular expression")
    _compiles(compile_regex, value, place)


def target_names(text: str) -> tuple[str, ...]:
    """
    The steps of a path that is written to: names only, no index; "": none.

    Raises: LanguageError.
    """
    if text.startswith("/"):
        raise LanguageError("a target is a dotted path, as a.b; a pointer only reads")
    names = compile_path(text).names
    if names is None:
        raise LanguageError("a target has names only, no index")
    return names


def _target(value: object, place: str, *, empty: bool = False) -> tuple[str, ...]:
    require_path(value, place, empty=empty)
    return _compiles(target_names, str(value), place) if value else ()


def _require_pattern(value: object, place: str) -> None:
    if not isinstance(value, str) or not value:
        raise CheckFailed(f"{place} must be a date pattern")
    _compiles(compile_pattern, value, place)


def _require_expression(value: object, place: str) -> None:
    if not isinstance(value, str):
        raise CheckFailed(f"{place}: expression must be text")
    _compiles(lambda text: compile_template(text, RECORD_NAMES), value, place)


def _compiles(compile: Callable[[str], Any], text: str, place: str) -> Any:
    try:
        return compile(text)
    except LanguageError as fault:
        raise CheckFailed(f"{place}: {fault}") from fault


def is_list(value: object) -> bool:
    """Whether it is a JSON array, as it was read."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_number(value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)
