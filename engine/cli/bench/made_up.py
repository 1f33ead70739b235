"""
Made up: records that a configuration can work on, for an API that is not asked.

Owns the guess what such a record looks like: every field the configuration
names is there, with a value of the type it asks for, which its filters let
through and its rules accept.  Recorded records take the place of the guess;
only the offset goes up in them.

Path: ``stand_in`` -> here
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeGuard

import msgspec

from engine.config import Api, Connector
from engine.config.sections.engine import ApiConfig
from engine.config.sections.offsets import OffsetsConfig
from engine.config.sections.response import DeduplicationConfig
from engine.config.sections.section import needed
from engine.config.sections.transformation import TransformationConfig
from engine.language import (
    RECORD_NAMES,
    REQUEST_NAMES,
    LanguageError,
    compile_path,
)
from engine.language.paths import Token
from engine.later import pattern

#: What stands in a record for its number, for text with it, and for a time
#: that goes up with it; one record a second.
NUMBER, TIME = "@number@", "@time@"
TEXT = "{}-@digits@"

#: The first record's time.
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

#: A record of which the configuration says nothing, about 300 bytes.
PLAIN: Mapping[str, Any] = {
    "id": NUMBER,
    "customer": TEXT.format("customer"),
    "city": "Lyon",
    "amount": "199.90",
    "currency": "EUR",
    "paid": True,
    "note": "left at the door, please ring twice " * 4,
}

#: Keys whose templates are written from a record.
RECORD_TEMPLATES = ("kafka.topic", "kafka.key", "kafka.timestamp")

_EXPRESSION = pattern(r"\$\{([^}]*)\}")
_QUOTED = pattern(r"'[^']*'|\"[^\"]*\"")
_FIELD = pattern(r"(?<![\w.])(?:record\.)?([A-Za-z_]\w*(?:\.\w+)*)(?!\w*\()")

#: Names in a template that are no fields of the record.
_NO_FIELDS = frozenset(
    {name.partition(".")[0] for name in (*REQUEST_NAMES, *RECORD_NAMES)}
    | {"true", "false", "null"}
)

_MARKS = pattern(rb'"@number@"|"@time@"|@digits@')

_BY_TYPE: Mapping[str, Any] = {
    "STRING": TEXT.format("text"),
    "INTEGER": NUMBER,
    "LONG": NUMBER,
    "NUMERIC": NUMBER,
    "DOUBLE": 12.5,
    "BOOLEAN": True,
    "TIMESTAMP": TIME,
    "OBJECT": {},
    "ARRAY": [],
}


class Records:
    """
    An endless run of records, number 0 upwards.

    Args:
        documents: Records with marks in them; taken in turn.
    """

    def __init__(self, documents: Sequence[Any]):
        self._kinds: list[tuple[bool, ...]] = []
        self._templates: list[bytes] = []
        for document in documents:
            raw = msgspec.json.encode(document)
            marks = _MARKS.findall(raw)
            self._kinds.append(tuple(mark == b'"@time@"' for mark in marks))
            self._templates.append(
                _MARKS.sub(
                    lambda mark: b'"%b"' if mark[0] == b'"@time@"' else b"%d",
                    raw.replace(b"%", b"%%"),
                )
            )

    def some(self, start: int, count: int) -> Iterator[bytes]:
        """`count` records from number `start` on, as JSON."""
        templates, kinds = self._templates, self._kinds
        turns = len(templates)
        for number in range(start, start + count):
            marks = kinds[number % turns]
            if True not in marks:
                yield templates[number % turns] % ((number,) * len(marks))
                continue
            stamp = (EPOCH + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
            filled = tuple(stamp.encode() if time else number for time in marks)
            yield templates[number % turns] % filled


def made_up(connector: Connector, api: Api) -> Records:
    """Records as the configuration of this api supposes them."""
    document = dict(PLAIN)
    for path, value in _wishes(connector, api):
        place(document, path, value)
    return Records([document])


def recorded(api: Api, documents: Sequence[Any]) -> Records:
    """Records that were recorded, with offsets that go up."""
    values = api.values
    pointer = values.of(OffsetsConfig).pointer
    if pointer is not None:
        for document in documents:
            if isinstance(document, dict):
                place(document, pointer, _offset(document, pointer))
    return Records(documents)


def _offset(document: Any, pointer: str) -> object:
    """The mark that goes in the place of what stands there."""
    found = compile_path(pointer).get(document)
    if isinstance(found, str):
        return NUMBER if found.isdigit() else TIME
    return NUMBER


def place(document: Any, path: str, value: object) -> None:
    """Put a value where a path points to, with all that is above it."""
    try:
        steps = [
            step.text if isinstance(step, Token) else step
            for step in compile_path(path).steps
        ]
    except LanguageError:
        return
    names = [step for step in steps if isinstance(step, str)]
    if not names or len(names) < len(steps):
        # Into an array: what stands there already has to do.
        return
    for name in names[:-1]:
        inner = document.get(name)
        if not isinstance(inner, dict):
            inner = document[name] = {}
        document = inner
    document[names[-1]] = value


def _wishes(connector: Connector, api: Api) -> Iterator[tuple[str, object]]:
    """(path, value) of every field that is named; the later wins."""
    values = api.values
    texts = [values.text(key) or "" for key in RECORD_TEMPLATES]
    texts.append(values.text("kafka.headers") or "")
    rules = values.of(TransformationConfig).enrichment or ()
    texts += [rule["expression"] for rule in rules if "expression" in rule]
    for text in texts:
        for name in fields_of(text):
            yield name, TEXT.format(name.rpartition(".")[2])
    for name in fields_of(values.text("kafka.timestamp") or ""):
        yield name, TIME
    for rule in values.of(TransformationConfig).mappings or ():
        kind = str(rule.get("type", "STRING")).upper()
        yield rule["source"], _BY_TYPE[kind]
    for name in values.of(DeduplicationConfig).key_fields or ():
        yield name, NUMBER
    for rule in values.of(TransformationConfig).validation or ():
        yield rule["field"], _valid(rule)
    for rule in values.of(TransformationConfig).filters or ():
        yield from _passing(rule)
    for child in connector.children(api):
        yield needed(child.values.of(ApiConfig).extract), NUMBER
    pointer = values.of(OffsetsConfig).pointer
    if pointer is not None:
        initial = values.text("http.initial.offset") or ""
        timed = values.of(OffsetsConfig).value_type == "timestamp" or "-" in initial
        yield pointer, TIME if timed else NUMBER


def fields_of(template: str) -> Iterator[str]:
    """The paths into the record that a template names."""
    for expression in _EXPRESSION.findall(template):
        for found in _FIELD.finditer(_QUOTED.sub("", expression)):
            name = found[1]
            if name.split(".")[0] not in _NO_FIELDS:
                yield name


def _valid(rule: Mapping[str, Any]) -> object:
    """A value that a validation rule accepts, as far as that can be guessed."""
    if rule.get("values"):
        return rule["values"][0]
    if "min" in rule or "max" in rule:
        return rule.get("min", rule.get("max"))
    if "type" in rule:
        return _BY_TYPE[str(rule["type"]).upper()]
    return "x" * int(rule.get("minLength", 8))


def _passing(rule: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Values that let a record through a filter, as far as that can be guessed."""
    if "all" in rule or "any" in rule:
        for inner in rule.get("all", rule.get("any", ())[:1]):
            yield from _passing(inner)
        return
    if "field" not in rule:
        return
    field, value = rule["field"], rule.get("value")
    match str(rule["operator"]).upper():
        case "EQUALS" | "CONTAINS":
            yield field, value
        case "GREATER_THAN" | "GREATER_EQUAL" | "GREATER_THAN_OR_EQUAL":
            yield field, value + 1 if _is_number(value) else f"{value}~"
        case "LESS_THAN" | "LESS_EQUAL" | "LESS_THAN_OR_EQUAL":
            yield field, value - 1 if _is_number(value) else ""
        case "BETWEEN":
            yield field, rule["min"]
        case "IN":
            yield field, rule["values"][0]
        case "IS_NULL" | "NOT_EXISTS":
            yield field, None
        case "MATCHES" | "REGEX_MATCH":
            yield field, re.sub(r"\W+", "", str(value))
        case _:
            yield field, TEXT.format("text")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
