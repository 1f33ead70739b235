"""
Values: JSON as this engine computes with it.

A value is None, bool, int, str, list, dict, `msgspec.Raw`, or inside an
expression also Decimal and Time.  `Raw` is JSON text nobody has read yet:
whole subtrees, and every number with a fraction or an exponent, so that such
a number leaves as it came.  Owns reading, showing and comparing; never
touches binary floating point but where a caller brings a float.

Path: `paths`, `templates`, `transform` -> here -> `times`, `faults`
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Context, Decimal, DecimalException
from typing import Any, Final

import msgspec
from msgspec import Raw

from engine.language.faults import EvaluationError
from engine.language.times import Time, read_iso


class _Missing:
    """The type of MISSING."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


#: What a path finds where there is nothing; null is something.
MISSING: Final = _Missing()

#: A record nested deeper is bad wherever a rule has to decode it.
DEPTH: Final = 100

#: More digits than this are not turned into an integer (CPython's own limit
#: for text; an exponent could otherwise ask for gigabytes).
DIGITS: Final = 4300

#: Exact for every sum and product people write; division is cut to 28 digits.
EXACT: Final = Context(prec=200)
DIVISION: Final = Context(prec=28)

_DECODER: Final = msgspec.json.Decoder(float_hook=Raw)
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")

#: One JSON number, nothing around it.
NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def decode(data: bytes | bytearray | memoryview | Raw) -> Any:
    """
    One JSON document as a value; numbers with a fraction stay `Raw`.

    Raises: EvaluationError: not JSON, a lone surrogate, an integer of more
    than 4,300 digits, or nested deeper than 100.
    """
    text = bytes(data)
    check_depth(text)
    try:
        return _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as e:
        raise EvaluationError(f"not decodable: {e}") from e


def check_depth(text: bytes, limit: int = DEPTH) -> None:
    """Raises: EvaluationError if JSON is nested deeper than `limit`."""
    if text.count(b"{") + text.count(b"[") <= limit:
        return
    depth = 0
    for mark in _BRACKETS.finditer(text):
        first = mark[0][0]
        if first in b"[{":
            depth += 1
            if depth > limit:
                raise EvaluationError(f"nested deeper than {limit}")
        elif first in b"]}":
            depth -= 1


#: A whole string (and so none of the brackets in it), or one bracket.
_BRACKETS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def plain(value: Any) -> Any:
    """
    A value one can compute with: never `Raw`, float or undecoded at its top.

    Numbers come as int or Decimal.  Items of a list or dict may be `Raw`.
    """
    kind = type(value)
    if kind is Raw:
        value = decode(value)
        if type(value) is Raw:
            return _decimal(bytes(value).decode())
        return value
    if kind is float:
        return _decimal(repr(value))
    return value


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except DecimalException as e:
        raise EvaluationError("a number out of range") from e
    if not number.is_finite():
        raise EvaluationError("not a finite number")
    return number


def settle(value: Any) -> Any:
    """
    The result of a computation as it leaves an expression.

    Whole decimals become int, other decimals `Raw` number text, a Time its
    ISO text; everything else is handed on.
    """
    if type(value) is Decimal:
        whole = as_integer(value)
        return whole if whole is not None else Raw(decimal_text(value))
    if type(value) is Time:
        return value.text
    return value


def decimal_text(number: Decimal) -> str:
    """A decimal as a JSON number: plain where short, else with an exponent."""
    if -7 <= number.adjusted() <= 40:
        text = format(number, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(number.normalize(EXACT)).replace("E+", "e").replace("E", "e")


def as_integer(number: Decimal) -> int | None:
    """The integer a decimal equals, or None; None also past 4,300 digits."""
    if number.is_zero():
        return 0
    if number.adjusted() >= DIGITS:
        return None
    digits = number.as_tuple()
    exponent = digits.exponent
    assert isinstance(exponent, int)
    if exponent >= 0:
        return int(number)
    if len(digits.digits) + exponent <= 0:
        return None
    if any(digits.digits[exponent:]):
        return None
    return int(number)


def encode(value: Any) -> bytes:
    """
    A value as compact JSON; `Raw` goes in as it is.

    Raises: EvaluationError where there is no JSON for it (a lone surrogate).
    """
    if type(value) is Time:
        value = value.text
    elif type(value) is Decimal:
        value = settle(value)
    try:
        return _ENCODER.encode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError) as e:
        raise EvaluationError("not encodable as JSON") from e


def compact(data: Raw | bytes) -> bytes:
    """JSON text without blanks between its tokens, tokens unchanged."""
    check_depth(bytes(data))
    try:
        return msgspec.json.format(bytes(data), indent=-1)
    except (msgspec.MsgspecError, RecursionError) as e:
        raise EvaluationError("not JSON") from e


def text_of(value: Any) -> str | None:
    """
    A value as text: strings as they are, numbers as written, the rest as
    compact JSON; None for null and missing.
    """
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if value is None or value is MISSING:
        return None
    if kind is int:
        return _digits(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is Raw:
        first = bytes(value).lstrip()[:1]
        if first == b'"' or first == b"n":
            return text_of(decode(value))
        if first in b"{[":
            return compact(value).decode()
        text = bytes(value).strip().decode()
        # An integer is the same whether or not somebody has read it.
        return "0" if text == "-0" else text
    if kind is Time:
        return value.text  # type: ignore[no-any-return]
    if kind is Decimal:
        return text_of(settle(value))
    return compact(encode(value)).decode()


def _digits(number: int) -> str:
    try:
        return str(number)
    except ValueError as e:
        raise EvaluationError("an integer of too many digits") from e


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
    if len(value) > DIGITS or NUMBER.fullmatch(value) is None:
        return None
    return _decimal(value)


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
