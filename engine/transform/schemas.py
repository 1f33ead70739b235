"""
Schemas: what a record's values say about their types.

Owns inference, the join of two types, and their spelling as Connect's JSON
envelope, Avro and JSON Schema.  Nothing is forced to text: where two types
have no common one, Avro and JSON Schema say both, Connect's envelope cannot.

Path: `convert`, `registered` -> here
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from msgspec import Raw, Struct

from engine.later import pattern

_LEAST, _MOST = -(2**63), 2**63 - 1
_NAME: Final = pattern(r"[A-Za-z_][A-Za-z0-9_]*")


class SchemaMismatch(ValueError):
    """A value or a name that has no place in the schema's language."""


class Type(Struct, frozen=True):
    """
    The set of what was seen at one place; null is always allowed beside it.

    Attributes:
        boolean, string: Were there any?
        integer: Were there integers of 64 bits?
        wide: Was there one among them that no double holds exactly?
        double: Were there numbers with a fraction or an exponent?
        items: The type of the items of arrays, or None: there were none.
        fields: The types of the fields of objects in order of appearance, or
            None: there were none.
    """

    boolean: bool = False
    string: bool = False
    integer: bool = False
    wide: bool = False
    double: bool = False
    items: Type | None = None
    fields: tuple[tuple[str, Type], ...] | None = None

    @property
    def kinds(self) -> int:
        """How many kinds of value there were."""
        return (
            self.boolean
            + self.string
            + len(self.numbers)
            + (self.items is not None)
            + (self.fields is not None)
        )

    @property
    def numbers(self) -> tuple[str, ...]:
        """
        The number types it needs: a double holds small integers as well.
        """
        if self.double:
            return ("int64", "double") if self.wide else ("double",)
        return ("int64",) if self.integer else ()


NOTHING: Final = Type()
_BOOLEAN: Final = Type(boolean=True)
_STRING: Final = Type(string=True)
_INT64: Final = Type(integer=True)
_WIDE: Final = Type(integer=True, wide=True)
_DOUBLE: Final = Type(double=True)
_EXACT: Final = 2**53

#: An integer that was left unread for its sign.
_MINUS_ZERO: Final = Raw(b"-0")


def infer(value: Any) -> Type:
    """
    The type of one value.

    Raises: Unfit: an integer beyond 64 bits.
    """
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return _BOOLEAN
    if isinstance(value, str):
        return _STRING
    if isinstance(value, int):
        if not _LEAST <= value <= _MOST:
            raise SchemaMismatch("an integer beyond 64 bits")
        return _INT64 if -_EXACT <= value <= _EXACT else _WIDE
    if isinstance(value, (float, Raw)):
        return _INT64 if value == _MINUS_ZERO else _DOUBLE
    if isinstance(value, list):
        joined = NOTHING
        for item in value:
            joined = join(joined, infer(item))
        return Type(items=joined)
    return Type(fields=tuple((name, infer(each)) for name, each in value.items()))


def join(a: Type, b: Type) -> Type:
    """The least type that holds both; the order of `a`'s fields first."""
    if a is b or a == b:
        return a
    items = a.items if b.items is None else b.items
    if a.items is not None and b.items is not None:
        items = join(a.items, b.items)
    fields = a.fields if b.fields is None else b.fields
    if a.fields is not None and b.fields is not None:
        merged = dict(a.fields)
        for name, each in b.fields:
            merged[name] = join(merged[name], each) if name in merged else each
        fields = tuple(merged.items())
    return Type(
        boolean=a.boolean or b.boolean,
        string=a.string or b.string,
        integer=a.integer or b.integer,
        wide=a.wide or b.wide,
        double=a.double or b.double,
        items=items,
        fields=fields,
    )


def python(value: Any) -> Any:
    """A value with its unread numbers as floats; -0 is the integer 0."""
    if isinstance(value, Raw):
        return 0 if value == _MINUS_ZERO else float(bytes(value))
    if isinstance(value, list):
        return [python(item) for item in value]
    if isinstance(value, dict):
        return {name: python(item) for name, item in value.items()}
    return value


@lru_cache(maxsize=1024)
def connect_schema(seen: Type) -> bytes:
    """
    The `schema` of Connect's JSON envelope.

    Raises: Unfit: values of two kinds in one place.
    """
    return json.dumps(
        _connect(seen), separators=(",", ":"), ensure_ascii=False
    ).encode()


def _connect(seen: Type) -> dict[str, Any]:
    if seen.kinds > 1:
        raise SchemaMismatch("values of several kinds in one array")
    if seen.boolean:
        return {"type": "boolean", "optional": True}
    if seen.numbers:
        return {"type": seen.numbers[0], "optional": True}
    if seen.items is not None:
        return {"type": "array", "items": _connect(seen.items), "optional": True}
    if seen.fields is not None:
        fields = [_connect(each) | {"field": name} for name, each in seen.fields]
        return {"type": "struct", "fields": fields, "optional": True}
    return {"type": "string", "optional": True}


#: The longest number and name that Connect's JsonConverter reads (the limits of
#: its parser, Jackson's StreamReadConstraints).
_NUMBER_LENGTH: Final = 1000
_NAME_LENGTH: Final = 50_000


def check_connect(value: Any) -> None:
    """
    Look for what Connect's JsonConverter cannot read, or reads as something
    else.

    Args:
        value: Decoded, numbers with a fraction still `Raw`.

    Raises: Unfit: a number beyond a double's range, which it makes infinite;
    a number or a name that is too long for it; a field without a name.
    """
    rest = [value]
    while rest:
        each = rest.pop()
        if isinstance(each, Raw):
            text = bytes(each)
            if len(text) > _NUMBER_LENGTH:
                raise SchemaMismatch(
                    f"a number of more than {_NUMBER_LENGTH} characters"
                )
            if math.isinf(float(text)):
                raise SchemaMismatch("a number out of the range of a double")
        elif isinstance(each, list):
            rest.extend(each)
        elif isinstance(each, dict):
            for name in each:
                if not name:
                    raise SchemaMismatch("a field without a name")
                if len(name) > _NAME_LENGTH:
                    raise SchemaMismatch(
                        f"a name of more than {_NAME_LENGTH} characters"
                    )
            rest.extend(each.values())


def avro_schema(seen: Type, name: str, sanitize: bool = False) -> Any:
    """
    An Avro schema; every field may be null and is so by default.

    Args:
        name: Of the record; those within are named after their fields.
        sanitize: Fields whose names Avro does not allow get one it allows.

    Raises: Unfit: a field's name that Avro does not allow, or two that become
    the same.
    """
    spelling = _Spelling(sanitize)
    if seen.fields is not None and seen.kinds == 1:
        return spelling.record(seen.fields, name)
    return spelling.union(seen, name)


def sanitized(value: dict[str, Any]) -> dict[str, Any]:
    """
    An object with the names that Avro allows, itself where all are allowed.

    Raises: Unfit: two names become the same.
    """
    renamed = {safe_name(name): each for name, each in value.items()}
    if len(renamed) < len(value):
        raise SchemaMismatch("two fields whose names are the same once sanitised")
    return renamed


@lru_cache(maxsize=10_000)
def safe_name(name: str) -> str:
    """`_` for each character that Avro does not allow, and before a digit."""
    safe = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return safe if _NAME.fullmatch(safe) else f"_{safe}"


class _Spelling:
    """One schema as it is written; no two records of it have one name."""

    def __init__(self, sanitize: bool):
        self._sanitize = sanitize
        self._names: set[str] = set()

    def record(self, fields: tuple[tuple[str, Type], ...], name: str) -> dict[str, Any]:
        while name in self._names:
            # Two places whose names, joined, are the same.
            name += "_"
        self._names.add(name)
        spelled: dict[str, dict[str, Any]] = {}
        for field, each in fields:
            known = safe_name(field) if self._sanitize else field
            if _NAME.fullmatch(known) is None:
                raise SchemaMismatch(
                    f"a field's name that Avro does not allow: {field!r}"
                    " (schema.names.sanitize)"
                )
            if known in spelled:
                raise SchemaMismatch(f"two fields named {known} once sanitised")
            kind = self.union(each, f"{name}_{known}")
            spelled[known] = {"name": known, "type": kind, "default": None}
        return {"type": "record", "name": name, "fields": list(spelled.values())}

    def union(self, seen: Type, name: str) -> list[Any]:
        branches: list[Any] = ["null"]
        if seen.boolean:
            branches.append("boolean")
        branches += [{"int64": "long"}.get(each, each) for each in seen.numbers]
        if seen.string or not seen.kinds:
            branches.append("string")
        if seen.items is not None:
            items = self.union(seen.items, f"{name}_item")
            branches.append({"type": "array", "items": items})
        if seen.fields is not None:
            branches.append(self.record(seen.fields, name))
        return branches


def json_schema(seen: Type, title: str) -> dict[str, Any]:
    """
    A JSON Schema (draft 7); objects are closed, so that a field more is a
    change the registry takes for compatible.
    """
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": title,
        **_json_schema(seen),
    }


def _json_schema(seen: Type) -> dict[str, Any]:
    kinds = ["null"]
    spelled: dict[str, Any] = {}
    if seen.boolean:
        kinds.append("boolean")
    if seen.numbers:
        kinds.append("integer" if seen.numbers == ("int64",) else "number")
    if seen.string or not seen.kinds:
        kinds.append("string")
    if seen.items is not None:
        kinds.append("array")
        spelled["items"] = _json_schema(seen.items)
    if seen.fields is not None:
        kinds.append("object")
        spelled["properties"] = {name: _json_schema(each) for name, each in seen.fields}
        spelled["additionalProperties"] = False
    return {"type": kinds, **spelled}


def record_name(topic: str) -> str:
    """A name for an inferred record, after its topic, as Avro allows names."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", topic)
    return name if _NAME.fullmatch(name) else f"_{name}"


def subject_of(strategy: str, topic: str, side: str, record: str) -> str:
    """
    A schema's subject.

    Args:
        strategy: TopicName, RecordName or TopicRecordName.
        side: key or value.
        record: The record's full name.
    """
    names: Mapping[str, str] = {
        "TopicName": f"{topic}-{side}",
        "RecordName": record,
        "TopicRecordName": f"{topic}-{record}",
    }
    return names[strategy]
