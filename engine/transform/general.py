"""
General: every rule, on any record, one record at a time.

Owns the order of the steps: decode, map, enrich, filter, validate.  It is
the meaning of the rules; `typed` is held to it.  A record is opened no
further than a rule looks, so that what no rule names leaves as it came.

Path: `compile` -> here -> `rules`, `engine.language`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET, Raw

from engine.errors import RecordError
from engine.language import MISSING, EvaluationError, Path
from engine.language.values import UNENCODABLE, check_depth, opened
from engine.transform.conditions import holds
from engine.transform.rules import ENCODER, NULL, Rules

Scope = dict[str, Any]


def look(scope: Scope) -> Callable[[Path], Any]:
    """The lookup of a field: as the record now is, then as received."""
    record, received = scope["record"], scope["received"]

    def lookup(path: Path) -> Any:
        found = path.get(record)
        if found is MISSING and received is not record:
            found = path.get(received)
        return found

    return lookup


def receive(raw: Raw) -> Any:
    """
    The record as received, opened one level.

    Raises: RecordError: null, or not decodable.
    """
    if raw == NULL:
        raise RecordError("the record is null", stage="decode")
    try:
        return opened(raw)
    except EvaluationError as e:
        raise RecordError(str(e), stage="decode") from e


def shape(rules: Rules, scope: Scope) -> None:
    """
    Map and enrich: `record` in the scope becomes what the rules make of it.

    Args:
        scope: With `received`; `record` is set here.

    Raises: RecordError.
    """
    received = scope["received"]
    record = received
    if rules.mappings:
        record = _mapped(rules, received)
    if rules.enrichment:
        record = opened(record)
        if record is received and isinstance(record, dict):
            record = dict(record)
    scope["record"] = record
    for rule in rules.enrichment:
        try:
            if rule.template is None:
                value = rule.constant
            else:
                value = rule.template.value(scope)
            put(record, rule.target, value)
        except EvaluationError as e:
            raise RecordError(
                f"{rule.rule}: {e}", stage="enrich", rule=rule.rule
            ) from e


def _mapped(rules: Rules, received: Any) -> Any:
    record: dict[str, Any] = {}
    for mapping in rules.mappings:
        try:
            value = mapping.apply(mapping.source.get(received))
        except EvaluationError as e:
            raise RecordError(
                f"{mapping.rule}: {e}", stage="map", rule=mapping.rule
            ) from e
        if not mapping.target:
            if value is UNSET:
                raise RecordError(
                    f"{mapping.rule}: nothing is left of the record",
                    stage="map",
                    rule=mapping.rule,
                )
            return value
        # A nested target keeps the place of its first mapping, also where
        # that one is left out: order does not depend on the data.
        node = record
        for step in mapping.target[:-1]:
            node = node.setdefault(step, {})
        if value is not UNSET:
            node[mapping.target[-1]] = value
    if any(len(mapping.target) > 1 for mapping in rules.mappings):
        record = _without_empty(rules, record)
    if rules.keep and isinstance(received, dict):
        read = rules.read
        for name, value in received.items():
            if name not in read and name not in record:
                record[name] = value
    return record


def _without_empty(rules: Rules, record: dict[str, Any]) -> dict[str, Any]:
    """Drop the objects that only mappings asked for and nothing came into."""
    targets = {mapping.target for mapping in rules.mappings}
    prefixes = {target[:n] for target in targets for n in range(1, len(target))}
    for prefix in sorted(prefixes, key=len, reverse=True):
        node = record
        for step in prefix[:-1]:
            node = node[step]
        if not node[prefix[-1]]:
            del node[prefix[-1]]
    return record


def put(record: Any, target: tuple[str, ...], value: Any) -> None:
    """
    Set a field, opening and making objects on the way.

    Raises: EvaluationError: what is on the way is no object.
    """
    node = opened(record)
    if not isinstance(node, dict):
        raise EvaluationError("the record is no object")
    for step in target[:-1]:
        child = opened(node.get(step))
        if child is None or (type(child) is Raw and child == NULL):
            child = {}
        elif not isinstance(child, dict):
            raise EvaluationError("a field on the way is no object")
        node[step] = child
        node = child
    node[target[-1]] = value


def passes(rules: Rules, scope: Scope) -> str | None:
    """
    Filter: None, or the name of the rule that leaves the record out.

    Raises: RecordError: a field that is not decodable.
    """
    lookup = look(scope)
    for name, condition in rules.filters:
        try:
            if not holds(condition, lookup):
                return name
        except EvaluationError as e:
            raise RecordError(f"{name}: {e}", stage="filter", rule=name) from e
    return None


def validate(rules: Rules, scope: Scope) -> None:
    """Raises: RecordError naming the first rule that fails."""
    lookup = look(scope)
    for name, check in rules.checks:
        try:
            complaint = check.failed(lookup(check.path))
        except EvaluationError as e:
            complaint = str(e)
        if complaint is not None:
            raise RecordError(
                f"{name}: {check.path.text or 'the record'} {complaint}",
                stage="validate",
                rule=name,
            )


def write(record: Any) -> bytes:
    """
    A record as JSON.

    Copied parts were read when their record was opened, a lone surrogate
    would have shown then; only their depth is still to be judged.

    Raises: RecordError: nested deeper than 100, or not JSON.
    """
    try:
        data = ENCODER.encode(record)
    except UNENCODABLE as e:
        raise RecordError(f"not encodable as JSON: {e}", stage="map") from e
    inspect_output(data)
    return data


def inspect_output(data: bytes) -> None:
    """Raises: RecordError if what was copied is nested too deep."""
    try:
        check_depth(data)
    except EvaluationError as e:
        raise RecordError(str(e), stage="decode") from e
