"""
Casts: the eight types of a field mapping.

Owns the table of what becomes what.  A cast takes a value that is there and
not null (`Raw` where nobody has read it) and gives what the encoder writes;
what the table calls bad is an EvaluationError.

Path: `rules` -> here -> `engine.language`
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import tzinfo
from decimal import Decimal
from typing import Any, Final

from msgspec import Raw

from engine.language import EvaluationError, Pattern, decode, parse_timestamp, plain
from engine.language.comparing import kind_of
from engine.language.values import NUMBER, Spelled, as_integer, text_of
from engine.later import pattern

_WHOLE: Final = pattern(r"([+-]?)([0-9]+)(?:\.0*)?")
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}

#: More digits than any range has.
_DIGITS: Final = 40


def _bad(value: Any, kind: str) -> EvaluationError:
    return EvaluationError(f"{kind_of(plain(value))} is no {kind}")


def to_string(value: Any) -> Any:
    """Numbers as written, objects and arrays as compact JSON."""
    return text_of(value)


def _integer(value: Any, low: int, high: int, kind: str) -> int:
    number = plain(value)
    whole: int | None = None
    if isinstance(number, str):
        text = number.strip(" \t\r\n")
        match = _WHOLE.fullmatch(text)
        if match is not None:
            digits = match[2].lstrip("0") or "0"
            if len(digits) > _DIGITS:
                raise EvaluationError(f"out of the range of {kind}")
            whole = int(match[1] + digits)
    elif isinstance(number, Decimal):
        if number.adjusted() > _DIGITS and not number.is_zero():
            raise EvaluationError(f"out of the range of {kind}")
        whole = as_integer(number)
    elif isinstance(number, int) and not isinstance(number, bool):
        whole = number
    else:
        raise _bad(number, kind)
    if whole is None:
        raise EvaluationError(f"{kind_of(number)} is no whole number of {kind}")
    if not low <= whole <= high:
        raise EvaluationError(f"out of the range of {kind}")
    return whole


def to_integer(value: Any) -> Any:
    """-2^31 to 2^31-1."""
    return _integer(value, -(2**31), 2**31 - 1, "INTEGER")


def to_long(value: Any) -> Any:
    """-2^63 to 2^63-1."""
    return _integer(value, -(2**63), 2**63 - 1, "LONG")


def to_double(value: Any) -> Any:
    """The nearest double; an overflow is bad."""
    if type(value) is float:
        return value
    number: Any = value
    if type(value) is Raw:
        # Its own text, which may have more digits or a larger exponent than
        # anything else here takes.
        text = bytes(value).strip().decode()
        number = text if NUMBER.fullmatch(text) is not None else plain(value)
    elif isinstance(value, Spelled):
        number = value.text
    if isinstance(number, str):
        text = number.removeprefix("+")
        if NUMBER.fullmatch(text) is None or number.startswith("+-"):
            raise EvaluationError("text is no DOUBLE")
        # The integer -0 is 0; only a fraction can be a zero with a sign.
        double = 0.0 if text == "-0" else float(text)
    elif isinstance(number, (int, Decimal)) and not isinstance(number, bool):
        try:
            double = float(number)
        except OverflowError as e:
            raise EvaluationError("out of the range of DOUBLE") from e
    else:
        raise _bad(number, "DOUBLE")
    if math.isinf(double):
        raise EvaluationError("out of the range of DOUBLE")
    return double


def to_boolean(value: Any) -> Any:
    """true, false, 1, 0; as text in any case."""
    known = plain(value)
    if isinstance(known, bool):
        return known
    if isinstance(known, str) and known.lower() in _BOOLEANS:
        return _BOOLEANS[known.lower()]
    if isinstance(known, int) and known in (0, 1):
        return known == 1
    if isinstance(known, Spelled) and known.text == "-0":
        return False
    raise _bad(known, "BOOLEAN")


def to_timestamp(zone: tzinfo, pattern: Pattern | None) -> Callable[[Any], Any]:
    """Epoch milliseconds, UTC; with a pattern only texts of that pattern."""

    def cast(value: Any) -> Any:
        known = plain(value)
        if isinstance(known, (dict, list, bool)):
            raise _bad(known, "TIMESTAMP")
        return parse_timestamp(known, zone, pattern)

    return cast


def to_object(value: Any) -> Any:
    """An object as it is, or out of a text that holds one."""
    if type(value) is dict:
        return value
    if type(value) is Raw and bytes(value).lstrip()[:1] == b"{":
        return value
    known = plain(value)
    if isinstance(known, str):
        found = _held(known, "{")
        if found is not None:
            return found
    raise _bad(known, "OBJECT")


def to_array(value: Any) -> Any:
    """An array as it is or out of a text; anything else as its one item."""
    if type(value) is list:
        return value
    if type(value) is Raw:
        text = bytes(value).lstrip()
        if text[:1] == b"[":
            return value
        if text[:1] != b'"':
            return [value]
    known = plain(value)
    if isinstance(known, str):
        found = _held(known, "[")
        if found is not None:
            return found
        return [known]
    return [value]


def _held(text: str, opening: str) -> Raw | None:
    """The JSON in a text if it is of that kind, checked, else None."""
    if not text.lstrip(" \t\r\n").startswith(opening):
        return None
    try:
        data = text.encode()
        decode(data)
    except (EvaluationError, UnicodeEncodeError):
        return None
    return Raw(data)


Cast = Callable[[Any], Any]


def cast_of(kind: str, zone: tzinfo, pattern: Pattern | None) -> Cast:
    """The cast of a mapping's `type`; KeyError for a type there is not."""
    return {
        "STRING": to_string,
        "INTEGER": to_integer,
        "LONG": to_long,
        "DOUBLE": to_double,
        "BOOLEAN": to_boolean,
        "TIMESTAMP": to_timestamp(zone, pattern),
        "OBJECT": to_object,
        "ARRAY": to_array,
    }[kind]
