"""
Comparing: what is equal, less, within, among, and what kind a value is of.

Owns the comparisons of the expressions' operators and of the rules: numbers by value,
however they are spelt, texts that are times as times where one side is one.

Path: `language.functions`, `source.decode.answers`, `transform` -> here ->
`language.values`
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from engine.language.times import Time, read_iso
from engine.language.values import MISSING, NUMBER, plain, spelled, text_of


def kind_of(value: Any) -> str:
    """The JSON kind of a plain value, for messages and type rules."""
    if value is MISSING:
        return "missing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float, Decimal)):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Time):
        return "time"
    return "object" if isinstance(value, dict) else "array"


def equal(left: Any, right: Any) -> bool:
    """
    Equal as JSON: 1 = 1.0, and a text that is a number equals that number.

    Objects by members in any order, arrays item by item.
    """
    pairs = [(left, right)]
    while pairs:
        a, b = pairs.pop()
        a, b = plain(a), plain(b)
        if a is MISSING or b is MISSING:
            a = None if a is MISSING else a
            b = None if b is MISSING else b
        if type(a) is Time or type(b) is Time:
            if not _same_instant(a, b):
                return False
        elif isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
            if a is not b:
                return False
        elif isinstance(a, dict) and isinstance(b, dict):
            if a.keys() != b.keys():
                return False
            pairs.extend((a[key], b[key]) for key in a)
        elif isinstance(a, list) and isinstance(b, list):
            if len(a) != len(b):
                return False
            pairs.extend(zip(a, b))
        elif isinstance(a, str) and isinstance(b, str):
            if a != b:
                return False
        elif isinstance(a, (str, int, Decimal)) and isinstance(b, (str, int, Decimal)):
            x, y = _as_number(a), _as_number(b)
            if x is None or y is None or x != y:
                return False
        else:
            return False
    return True


def _same_instant(a: Any, b: Any) -> bool:
    left = a.ms if type(a) is Time else read_iso(a) if isinstance(a, str) else None
    right = b.ms if type(b) is Time else read_iso(b) if isinstance(b, str) else None
    return left is not None and left == right


def _as_number(value: str | int | Decimal) -> int | Decimal | None:
    if not isinstance(value, str):
        return value
    return None if NUMBER.fullmatch(value) is None else spelled(value)


def compare(left: Any, right: Any) -> int | None:
    """
    -1, 0 or 1; None where the two have no order.

    Numbers with numbers, text with text by code point, two ISO times (or a
    Time) as instants.
    """
    a, b = plain(left), plain(right)
    x: Any
    y: Any
    if isinstance(a, bool) or isinstance(b, bool):
        return None
    if isinstance(a, (int, Decimal)) and isinstance(b, (int, Decimal)):
        x, y = a, b
    elif isinstance(a, str) and isinstance(b, str):
        x, y = read_iso(a), None
        if x is not None:
            y = read_iso(b)
        if x is None or y is None:
            x, y = a, b
    elif type(a) is Time or type(b) is Time:
        x = a.ms if type(a) is Time else read_iso(a) if isinstance(a, str) else None
        y = b.ms if type(b) is Time else read_iso(b) if isinstance(b, str) else None
        if x is None or y is None:
            return None
    else:
        return None
    return int(x > y) - int(x < y)


def contains(container: Any, item: Any) -> bool:
    """Part of the text, or an item of the array."""
    container = plain(container)
    if isinstance(container, str):
        part = text_of(plain(item)) if not isinstance(item, (dict, list)) else None
        return part is not None and part in container
    if isinstance(container, list):
        return any(equal(each, item) for each in container)
    return False


def among(value: Any, values: Iterable[Any]) -> bool:
    """Equal to one of them."""
    return any(equal(value, each) for each in values)
