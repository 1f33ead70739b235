"""
Called: what the lines of a generated loop call for one value.

Owns what sends a record to the general path, and the ways back from a decoded value to
what rules, keys and converters take.

Path: `typed` puts them into a loop's namespace -> here -> `conditions`, `rules`
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, DecimalException
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import replace

from engine.errors import RecordError
from engine.language import MISSING, EvaluationError, plain
from engine.language.values import (
    MINUS_ZERO,
    NUMERIC,
    as_integer,
    check_depth,
    encode,
    settle,
)
from engine.transform.convert import TextKey
from engine.transform.dedup import digest
from engine.transform.route import single
from engine.transform.rules import FieldMapping, Rules

#: Stands for a field that is not there among `Raw`s; as long as null, so that
#: one look at the length finds both.
ABSENT: Final = Raw(b"    ")


#: What sends a record to the general path.
REDO: Final = (
    EvaluationError,
    RecordError,
    msgspec.MsgspecError,
    ArithmeticError,
    AttributeError,
    TypeError,
    ValueError,
    RecursionError,
    DecimalException,
)


#: A flag as a key.
TRUE: Final = b"true"
FALSE: Final = b"false"

#: What may hold text that nobody has read.
UNREAD: Final = frozenset({Raw, dict, list})


#: Bounds beyond it might have no double.
_HUGE: Final = 10**300


class Redo(ValueError):
    """A record is not of the common kind: the general path is to do its page."""


def again() -> None:
    """A value is not what it looks like: the page goes through its loop record by record."""
    raise Redo


def scalar(value: Any) -> Any:
    kind = type(value)
    if kind is dict or kind is list:
        raise Redo
    return value


def no_double(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A test of a field decoded as a double: the text behind it is gone."""

    def checked(value: Any) -> bool:
        if type(value) is float:
            raise Redo
        return test(scalar(value))

    return checked


def checked_scalar(test: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: test(scalar(value))


def present(value: Any) -> Any:
    return MISSING if value is ABSENT else value


def copying(mapping: FieldMapping, limit: int) -> Callable[[Any], Any]:
    """An untyped copy of a `Raw` that is null, missing, or long."""
    apply = mapping.apply

    def copied(value: Any) -> Any:
        value = apply(MISSING if value is ABSENT else value)
        if type(value) is Raw:
            check_depth(bytes(value), limit)
        elif type(value) is list:
            check_depth(encode(value), limit)
        return value

    return copied


def casting(mapping: FieldMapping) -> Callable[[Any], Any]:
    apply = mapping.apply

    def cast(value: Any) -> Any:
        kind = type(value)
        if kind is dict or kind is list:
            raise Redo
        return apply(MISSING if value is ABSENT else value)

    return cast


def number(value: Any) -> int | Decimal | None:
    """A bound that a double can stand in for, else None."""
    if isinstance(value, (str, bool)):
        return None
    known = plain(value)
    if not isinstance(known, (int, Decimal)) or not -_HUGE < known < _HUGE:
        return None
    if isinstance(known, Decimal) and (whole := as_integer(known)) is not None:
        return whole
    return known


def with_values(rules: Rules, decoded: Callable[[bytes], Any]) -> Rules:
    """The rules with their constants as a converter of values wants them."""
    value = decoder(decoded)
    return replace(
        rules,
        mappings=tuple(
            replace(each, default=value(each.default)) for each in rules.mappings
        ),
        enrichment=tuple(
            replace(each, constant=value(each.constant)) for each in rules.enrichment
        ),
    )


def decoder(decoded: Callable[[bytes], Any]) -> Callable[[Any], Any]:
    """What a rule made or found, as a converter of values wants it."""

    def value(found: Any) -> Any:
        if type(found) in UNREAD:
            return decoded(encode(found))
        return found

    return value


def decoding(
    mapping: FieldMapping, decoded: Callable[[bytes], Any]
) -> Callable[[Any], Any]:
    """An untyped copy where the converter wants values and not text."""
    apply, value = mapping.apply, decoder(decoded)
    return lambda found: value(apply(found))


def keyed(keys: TextKey) -> Callable[[Any], bytes | None]:
    one = keys.one

    def key(value: Any) -> bytes | None:
        # Hot path: what has a text of its own is not read, compared or written again,
        # 0.2 us for a number with a fraction in place of 2.5.
        if value is None or value is MISSING:
            return None
        kind = type(value)
        if kind is bool:
            return TRUE if value else FALSE
        if kind is Raw:
            text = bytes(value).strip()
            if text[:1] in NUMERIC:
                return text
        return one(single(scalar(value)))

    return key


def settle_missing(value: Any) -> Any:
    return None if value is MISSING else settle(value)


def settled(value: Any) -> Any:
    return None if value is MISSING or value is UNSET else value


def signed(record: Raw) -> None:
    """Is a zero of this record written -0?  The decoder has lost its sign."""
    if MINUS_ZERO.search(bytes(record)) is not None:
        raise Redo


def marked(values: list[Any]) -> bytes:
    return digest(encode([None if v is MISSING or v is UNSET else v for v in values]))
