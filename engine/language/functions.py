"""
Functions: what an expression can call, and its operators.

Owns their meaning and the number of their arguments.  Each takes and gives
plain values (see `values`); null in gives null out, a wrong kind is an
EvaluationError that names the kind and never the value.

Path: `templates`, `transform` -> here -> `values`, `times`
"""

from __future__ import annotations

import base64 as b64
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import tzinfo
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Decimal,
    DecimalException,
    Inexact,
)
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from engine.language.comparing import compare, equal, kind_of
from engine.language.datepatterns import Pattern, compile_pattern
from engine.language.faults import EvaluationError, LanguageError
from engine.language.times import (
    Time,
    compile_zone,
    instant_text,
    parse_timestamp,
)
from engine.language.values import (
    DIGITS,
    DIVISION,
    EXACT,
    MISSING,
    ROUNDING,
    Boundless,
    Verbatim,
    as_integer,
    compact,
    encode,
    text_of,
)

#: The longest text a function builds: beyond it no record would fit anyway.
_LONGEST: Final = 16_777_216


def _wrong(name: str, value: Any) -> EvaluationError:
    return EvaluationError(f"{name} of {kind_of(value)}")


def _null(value: Any) -> bool:
    return value is None or value is MISSING


def _number(name: str, value: Any) -> int | Decimal:
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        if type(value) is Boundless:
            raise EvaluationError(f"{name} of a number out of range")
        return value
    raise _wrong(name, value)


def _text(name: str, value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise _wrong(name, value)
    text = text_of(value)
    assert text is not None
    return text


def _whole(name: str, value: Any) -> int:
    number = _number(name, value)
    whole = as_integer(number) if isinstance(number, Decimal) else number
    if whole is None:
        raise EvaluationError(f"{name} needs a whole number")
    return whole


def _reduced(number: Decimal) -> int | Decimal:
    """A computed number: how its operands were written is forgotten."""
    whole = as_integer(number)
    return Decimal(number) if whole is None else whole


def _computed(
    name: str, left: int | Decimal, right: int | Decimal, operator: str
) -> int | Decimal:
    if isinstance(left, int) and isinstance(right, int) and operator != "/":
        if operator == "*" and left.bit_length() + right.bit_length() > 16_384:
            raise EvaluationError("a number out of range")
        return {"+": left + right, "-": left - right, "*": left * right}[operator]
    a, b = Decimal(left), Decimal(right)
    try:
        if operator == "+":
            return _reduced(EXACT.add(a, b))
        if operator == "-":
            return _reduced(EXACT.subtract(a, b))
        if operator == "*":
            return _reduced(EXACT.multiply(a, b))
        return _quotient(a, b)
    except Inexact as e:
        raise EvaluationError(f"a result of more than {DIGITS} digits") from e
    except DecimalException as e:
        raise EvaluationError("a number out of range") from e


def _quotient(a: Decimal, b: Decimal) -> int | Decimal:
    """Exact where the quotient comes out even, else to 28 digits."""
    short = DIVISION.copy()
    short.clear_flags()
    quotient = short.divide(a, b)
    if short.flags[Inexact]:
        # A divisor of n digits adds less than 4 n digits, or comes to no end.
        size = len(a.as_tuple().digits) + 4 * len(b.as_tuple().digits)
        if short.prec < size <= DIGITS:
            exact = EXACT.copy()
            exact.prec = size
            with suppress(Inexact):
                quotient = exact.divide(a, b)
    return _reduced(quotient)


def add(left: Any, right: Any) -> Any:
    """`+`: numbers, a time and milliseconds, or texts joined."""
    if _null(left) or _null(right):
        return None
    if isinstance(left, str) or isinstance(right, str):
        return _bounded(_text("+", left) + _text("+", right))
    if isinstance(left, Time):
        return left.moved(_whole("+", right))
    if isinstance(right, Time):
        return right.moved(_whole("+", left))
    return _computed("+", _number("+", left), _number("+", right), "+")


def subtract(left: Any, right: Any) -> Any:
    """`-`: numbers, a time less milliseconds, or the ms between two times."""
    if _null(left) or _null(right):
        return None
    if isinstance(left, Time):
        if isinstance(right, Time):
            return left.ms - right.ms
        return left.moved(-_whole("-", right))
    return _computed("-", _number("-", left), _number("-", right), "-")


def multiply(left: Any, right: Any) -> Any:
    """`*` of numbers."""
    if _null(left) or _null(right):
        return None
    return _computed("*", _number("*", left), _number("*", right), "*")


def divide(left: Any, right: Any) -> Any:
    """`/` of numbers, to 28 digits where it does not come out even."""
    if _null(left) or _null(right):
        return None
    a, b = _number("/", left), _number("/", right)
    if not b:
        raise EvaluationError("division by zero")
    return _computed("/", a, b, "/")


def negate(value: Any) -> Any:
    """`-x`."""
    if _null(value):
        return None
    number = _number("-", value)
    return -number if isinstance(number, int) else _reduced(number.copy_negate())


def invert(value: Any) -> Any:
    """`!x`."""
    if _null(value):
        return None
    if not isinstance(value, bool):
        raise _wrong("!", value)
    return not value


def is_equal(left: Any, right: Any) -> bool:
    """`==`; null equals null."""
    return equal(left, right)


def is_unequal(left: Any, right: Any) -> bool:
    """`!=`."""
    return not equal(left, right)


def _ordered(name: str, left: Any, right: Any) -> int | None:
    if _null(left) or _null(right):
        return None
    order = compare(left, right)
    if order is None:
        raise EvaluationError(f"{name} of {kind_of(left)} and {kind_of(right)}")
    return order


def is_less(left: Any, right: Any) -> bool | None:
    """`<`."""
    order = _ordered("<", left, right)
    return None if order is None else order < 0


def is_at_most(left: Any, right: Any) -> bool | None:
    """`<=`."""
    order = _ordered("<=", left, right)
    return None if order is None else order <= 0


def is_greater(left: Any, right: Any) -> bool | None:
    """`>`."""
    order = _ordered(">", left, right)
    return None if order is None else order > 0


def is_at_least(left: Any, right: Any) -> bool | None:
    """`>=`."""
    order = _ordered(">=", left, right)
    return None if order is None else order >= 0


def truth(name: str, value: Any) -> bool | None:
    """
    A value as a condition; None for null.

    Raises: EvaluationError: neither true, false nor null.
    """
    if _null(value):
        return None
    if not isinstance(value, bool):
        raise _wrong(name, value)
    return value


def _bounded(text: str) -> str:
    if len(text) > _LONGEST:
        raise EvaluationError("a text out of bounds")
    return text


def _upper(s: Any) -> Any:
    return _text("upper", s).upper()


def _lower(s: Any) -> Any:
    return _text("lower", s).lower()


def _trim(s: Any) -> Any:
    return _text("trim", s).strip()


def _length(x: Any) -> Any:
    if isinstance(x, (list, dict)):
        return len(x)
    return len(_text("length", x))


def _substring(s: Any, start: Any, end: Any = MISSING) -> Any:
    text = _text("substring", s)
    a = _whole("substring", start)
    b = len(text) if end is MISSING else _whole("substring", end)
    if a < 0 or b < 0:
        raise EvaluationError("substring before the start of the text")
    return text[a:b]


def _replace(s: Any, old: Any, new: Any) -> Any:
    text, before = _text("replace", s), _text("replace", old)
    after = _text("replace", new)
    if not before:
        return text
    if len(text) + text.count(before) * len(after) > _LONGEST:
        raise EvaluationError("a text out of bounds")
    return text.replace(before, after)


def _concat(*parts: Any) -> Any:
    return _bounded("".join(_text("concat", part) for part in parts))


def _rounded(name: str, x: Any, places: int, how: str) -> Any:
    number = _number(name, x)
    if not -400 <= places <= 400:
        raise EvaluationError(f"{name} to so many places")
    if isinstance(number, int) and places >= 0:
        return number
    exponent = Decimal((0, (1,), -places))
    value = Decimal(number)
    if value.is_zero():
        return 0
    # More digits behind the point than there are: nothing to round, and
    # quantize would ask for an exponent beyond its precision.
    size = value.as_tuple()
    assert isinstance(size.exponent, int)
    if size.exponent >= -places:
        return _reduced(value)
    try:
        return _reduced(value.quantize(exponent, rounding=how, context=ROUNDING))
    except DecimalException as e:
        raise EvaluationError("a number out of range") from e


def _round(x: Any, places: Any = 0) -> Any:
    return _rounded("round", x, _whole("round", places), ROUND_HALF_UP)


def _floor(x: Any) -> Any:
    return _rounded("floor", x, 0, ROUND_FLOOR)


def _ceil(x: Any) -> Any:
    return _rounded("ceil", x, 0, ROUND_CEILING)


def _abs(x: Any) -> Any:
    number = _number("abs", x)
    return abs(number) if isinstance(number, int) else _reduced(number.copy_abs())


def _least(*values: Any) -> Any:
    least = values[0]
    for value in values[1:]:
        if _ordered("min", value, least) == -1:
            least = value
    return least if len(values) > 1 else _number("min", least)


def _greatest(*values: Any) -> Any:
    greatest = values[0]
    for value in values[1:]:
        if _ordered("max", value, greatest) == 1:
            greatest = value
    return greatest if len(values) > 1 else _number("max", greatest)


def _bytes_of(x: Any) -> bytes:
    text = text_of(x)
    assert text is not None
    try:
        return text.encode()
    except UnicodeEncodeError as e:
        raise EvaluationError("text with a lone surrogate") from e


def _hash(x: Any) -> Any:
    return hashlib.sha256(_bytes_of(x)).hexdigest()


def _base64(x: Any) -> Any:
    return b64.b64encode(_bytes_of(x)).decode()


def _urlencode(x: Any) -> Any:
    return quote(_bytes_of(x), safe="")


def _raw(x: Any) -> Any:
    text = text_of(x)
    return None if text is None else Verbatim(text)


def _mask(s: Any, keep: Any = 4) -> Any:
    text = _text("mask", s)
    kept = _whole("mask", keep)
    if kept < 0:
        raise EvaluationError("mask keeps at least nothing")
    # A text no longer than what is kept would be shown whole.
    hidden = len(text) - kept if len(text) > kept else len(text)
    return "*" * hidden + text[hidden:]


def _json(x: Any) -> Any:
    return compact(encode(x)).decode()


def _to_fahrenheit(x: Any) -> Any:
    return add(divide(multiply(_number("celsius_to_fahrenheit", x), 9), 5), 32)


def _to_celsius(x: Any) -> Any:
    less = subtract(_number("fahrenheit_to_celsius", x), 32)
    return divide(multiply(less, 5), 9)


@lru_cache(maxsize=256)
def _pattern(text: str) -> Pattern:
    try:
        return compile_pattern(text)
    except LanguageError as e:
        raise EvaluationError(e.message) from e


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    try:
        return compile_zone(name)
    except LanguageError as e:
        raise EvaluationError(e.message) from e


class Function:
    """
    One function of the language.

    Attributes:
        name: As it is called.
        least: Fewest arguments.
        most: Most arguments, or None.
        call: Plain values in, a plain value out; never called with null.
    """

    __slots__ = ("call", "least", "most", "name")

    def __init__(
        self, name: str, call: Callable[..., Any], least: int, most: int | None
    ):
        self.name = name
        self.call = call
        self.least = least
        self.most = most

    def apply(self, *values: Any) -> Any:
        """The result; null if an argument is."""
        for value in values:
            if value is None or value is MISSING:
                return None
        return self.call(*values)


def functions(zone: tzinfo) -> Mapping[str, Function]:
    """
    The functions by name, times without offset read in a zone.

    `if` and `coalesce` are not among them: they do not look at every
    argument, and the compiler knows them.
    """

    def instant(x: Any) -> Time:
        return x if isinstance(x, Time) else Time(parse_timestamp(x, zone))

    def formatted(t: Any, pattern: Any, name: Any = None) -> str:
        within = zone if name is None else _zone(_text("format", name))
        return _pattern(_text("format", pattern)).format(instant(t).ms, within)

    def parsed(s: Any, pattern: Any, name: Any = None) -> Time:
        within = zone if name is None else _zone(_text("parse", name))
        return Time(_pattern(_text("parse", pattern)).parse(_text("parse", s), within))

    table: list[tuple[str, Callable[..., Any], int, int | None]] = [
        ("upper", _upper, 1, 1),
        ("lower", _lower, 1, 1),
        ("trim", _trim, 1, 1),
        ("length", _length, 1, 1),
        ("substring", _substring, 2, 3),
        ("replace", _replace, 3, 3),
        ("concat", _concat, 1, None),
        ("round", _round, 1, 2),
        ("floor", _floor, 1, 1),
        ("ceil", _ceil, 1, 1),
        ("abs", _abs, 1, 1),
        ("min", _least, 1, None),
        ("max", _greatest, 1, None),
        ("hash", _hash, 1, 1),
        ("base64", _base64, 1, 1),
        ("urlencode", _urlencode, 1, 1),
        ("raw", _raw, 1, 1),
        ("mask", _mask, 1, 2),
        ("format", formatted, 2, 3),
        ("parse", parsed, 2, 3),
        ("time", instant, 1, 1),
        ("epoch_ms", lambda t: instant(t).ms, 1, 1),
        ("epoch_s", lambda t: instant(t).ms // 1000, 1, 1),
        ("iso", lambda t: Time(instant(t).ms).text, 1, 1),
        ("instant", lambda t: instant_text(instant(t).ms), 1, 1),
        ("celsius_to_fahrenheit", _to_fahrenheit, 1, 1),
        ("fahrenheit_to_celsius", _to_celsius, 1, 1),
        ("json", _json, 1, 1),
    ]
    return MappingProxyType({row[0]: Function(*row) for row in table})
