"""
Values: JSON as this engine computes with it.

A value is None, bool, int, str, list, dict, `msgspec.Raw`, or inside an
expression also Decimal and Time.  `Raw` is JSON text nobody has read yet:
whole subtrees, and every number whose text an int would not keep.  A number
that was read and not computed with is a `Spelled`, so that it leaves as it
came; what an operator or a function computed is an int or a plain Decimal.
Owns reading, showing and comparing; never touches binary floating point but
where a caller brings a float.

Path: `paths`, `templates`, `transform` -> here -> `times`, `faults`
"""

from __future__ import annotations

import json
import re
from decimal import (
    MAX_EMAX,
    MIN_EMIN,
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    Underflow,
)
from typing import Any, Final

import msgspec
from msgspec import Raw

from engine.language.faults import EvaluationError
from engine.language.times import Time
from engine.later import pattern


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
#: for text; an exponent could otherwise ask for gigabytes), and no result of
#: a computation has more.
DIGITS: Final = 4300


def _context(digits: int, *more: type[DecimalException]) -> Context:
    # Python's own default ends at an exponent of 999,999 and cuts silently.
    traps: list[type[DecimalException]] = [
        InvalidOperation,
        DivisionByZero,
        Overflow,
        Underflow,
        *more,
    ]
    return Context(prec=digits, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=traps)


#: For sums and products: exact, or an error.
EXACT: Final = _context(DIGITS, Inexact)

#: For rounding to places, which is meant to lose digits.
ROUNDING: Final = _context(DIGITS)

#: For a quotient that does not come out even.
DIVISION: Final = _context(28)


class Verbatim(str):
    """A text whose `/` a URL keeps: what `raw(x)` gives."""

    __slots__ = ()


class Spelled(Decimal):
    """
    A number that was read, with its text; computing with it gives a Decimal.

    Attributes:
        text: The number as JSON, as it was written.
    """

    __slots__ = ("text",)

    text: str

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return spelled, (self.text,)


class Boundless(Spelled):
    """
    A number whose exponent is beyond 10^18.

    It stands in the order of numbers where its text does, beyond all others
    or next to zero; nobody can compute with it.
    """

    __slots__ = ()


def spelled(text: str) -> Spelled:
    """
    The number a JSON text is.

    Raises: EvaluationError: a NaN or an infinity.
    """
    try:
        number = Spelled(text)
    except DecimalException:
        mantissa, _, exponent = text.lower().partition("e")
        least = f"1e{MIN_EMIN}" if exponent.startswith("-") else f"9e{MAX_EMAX}"
        if not mantissa.strip("-0."):
            number = Spelled(mantissa)
        else:
            number = Boundless(f"-{least}" if mantissa.startswith("-") else least)
    if not number.is_finite():
        raise EvaluationError("not a finite number")
    number.text = text
    return number


_DECODER: Final = msgspec.json.Decoder(float_hook=Raw)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_ARRAY: Final = msgspec.json.Decoder(list[Raw])


def _unknown(value: Any) -> Any:
    """What msgspec has no JSON for: a number with its text."""
    if type(value) is Spelled:
        return Raw(value.text.encode())
    raise TypeError(f"no JSON for {type(value).__name__}")


_ENCODER: Final = msgspec.json.Encoder(decimal_format="number", enc_hook=_unknown)

#: One JSON number, nothing around it.
NUMBER: Final = pattern(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


#: A minus zero without fraction, which an int would lose.  It may stand in a
#: string, too: whoever finds it has to look closer.
MINUS_ZERO: Final = pattern(rb"(?:^|[\[:,\s])-0(?![0-9.eE])")


def decode(data: bytes | bytearray | memoryview | Raw) -> Any:
    """
    One JSON document as a value; numbers that an int would not keep (those
    with a fraction or an exponent, and -0) stay `Raw`.

    Raises: EvaluationError: not JSON, a lone surrogate, an integer of more
    than 4,300 digits, or nested deeper than 100.
    """
    text = bytes(data)
    check_depth(text)
    try:
        if b"-0" in text and MINUS_ZERO.search(text) is not None:
            return _decode_slowly(text)
        return _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as e:
        raise EvaluationError(f"not decodable: {e}") from e


def _decode_slowly(text: bytes) -> Any:
    """What msgspec's decoder has no hook for."""
    try:
        value = json.loads(
            text.decode(),
            parse_float=_unread,
            parse_int=_integer_of,
            parse_constant=_no_number,
        )
        if b"\\u" in text:
            # The standard library lets a lone surrogate through.
            _ENCODER.encode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as e:
        raise EvaluationError(f"not decodable: {e}") from e
    return value


def _unread(number: str) -> Raw:
    return Raw(number.encode())


def _integer_of(number: str) -> int | Raw:
    return _unread(number) if number == "-0" else int(number)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


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
_BRACKETS: Final = pattern(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def opened(value: Any) -> Any:
    """
    A value whose top level can be looked into: dict, list or a scalar.

    `Raw` is read one level deep; its scalars stay `Raw`.

    Raises: EvaluationError: text that is not JSON.
    """
    if type(value) is not Raw:
        return value
    text = bytes(value).lstrip()
    try:
        if text[:1] == b"{":
            return _OBJECT.decode(text)
        if text[:1] == b"[":
            return _ARRAY.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
        raise EvaluationError(f"not decodable: {e}") from e
    return value


def plain(value: Any) -> Any:
    """
    A value one can compute with: never `Raw`, float or undecoded at its top.

    Numbers come as int, or as `Spelled` where an int would lose their text.
    Items of a list or dict are as they lie there: `Raw`, mostly.

    Raises: EvaluationError: not JSON, or nested deeper than 100.
    """
    kind = type(value)
    if kind is Raw:
        text = bytes(value).strip()
        if text[:1] in NUMERIC:
            return _number_of(text.decode())
        if text[:1] in (b"{", b"["):
            check_depth(text)
            return opened(value)
        return _leaf(text)
    if kind is float:
        return _decimal(repr(value))
    return value


#: What a number begins with.
NUMERIC: Final = frozenset(bytes([code]) for code in b"-0123456789")


def _leaf(text: bytes) -> Any:
    """As `decode`, of what is no number, object or list: nothing in it is nested."""
    try:
        return _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as e:
        raise EvaluationError(f"not decodable: {e}") from e


def _number_of(text: str) -> int | Spelled:
    if len(text) <= DIGITS and text.removeprefix("-").isdigit() and text != "-0":
        return int(text)
    return spelled(text)


def _decimal(text: str) -> Decimal:
    return Decimal(spelled(text))


def settle(value: Any) -> Any:
    """
    The result of an expression as it leaves it.

    Numbers nobody computed with are `Raw` as they came; whole decimals become
    int, other decimals `Raw` number text, a Time its ISO text, what `raw` gave a
    text; everything else is handed on.
    """
    kind = type(value)
    if kind is Spelled:
        return Raw(value.text.encode())
    if kind is Decimal:
        whole = as_integer(value)
        return whole if whole is not None else Raw(decimal_text(value).encode())
    if kind is Time:
        return value.text
    if kind is Verbatim:
        # What it means is a URL's affair: elsewhere it is a text.
        return str(value)
    return value


def decimal_text(number: Decimal) -> str:
    """
    A computed decimal as a JSON number, without zeros at its end: plain where
    short, else with an exponent.
    """
    if number.is_zero():
        return "0"
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).lstrip("0")
    bare = text.rstrip("0")
    exponent += len(text) - len(bare)
    adjusted = len(bare) + exponent - 1
    minus = "-" if sign else ""
    if -7 <= adjusted <= 40:
        if exponent >= 0:
            return f"{minus}{bare}{'0' * exponent}"
        whole = bare[:exponent] or "0"
        return f"{minus}{whole}.{bare[exponent:].rjust(-exponent, '0')}"
    rest = f".{bare[1:]}" if len(bare) > 1 else ""
    return f"{minus}{bare[0]}{rest}e{adjusted}"


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


#: What a value is refused with that is no JSON.
UNENCODABLE: Final = (
    msgspec.MsgspecError,
    UnicodeError,
    RecursionError,
    TypeError,
    ValueError,
)


def encode(value: Any) -> bytes:
    """
    A value as compact JSON; `Raw` goes in as it is.

    Raises: EvaluationError where there is no JSON for it (a lone surrogate,
    an integer of more than 4,300 digits).
    """
    if isinstance(value, (Time, Decimal)):
        value = settle(value)
    elif type(value) is Verbatim:
        value = str(value)
    try:
        return _ENCODER.encode(value)
    except UNENCODABLE as e:
        raise EvaluationError("not encodable as JSON") from e


def compact(data: Raw | bytes) -> bytes:
    """JSON text without blanks between its tokens, tokens unchanged."""
    check_depth(bytes(data))
    try:
        return msgspec.json.format(bytes(data), indent=-1)
    except (msgspec.MsgspecError, RecursionError) as e:
        raise EvaluationError("not JSON") from e


def is_null(value: Any) -> bool:
    """Missing or null, read or not.  Raises: as `plain`."""
    return value is MISSING or value is None or plain(value) is None


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
        text = bytes(value).strip()
        first = text[:1]
        if first == b'"' or first == b"n":
            return text_of(decode(text))
        if first in (b"{", b"["):
            return compact(text).decode()
        return text.decode()
    if kind is Spelled or kind is Time:
        return value.text  # type: ignore[no-any-return]
    if kind is Decimal:
        return text_of(settle(value))
    if kind is Verbatim:
        return str(value)
    return compact(encode(value)).decode()


def _digits(number: int) -> str:
    try:
        return str(number)
    except ValueError as e:
        raise EvaluationError("an integer of too many digits") from e
