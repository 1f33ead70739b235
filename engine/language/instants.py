"""
Instants: times as APIs write them, to the nanosecond, and written back the same way.

Owns the reading of every form into one integer that can be compared, the form that a
value came in, and the forms that a request may ask with.  Writing never rounds up: what
asks for everything since an instant has to ask for no less.

Path: `source.paging` -> here -> `times`
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import ROUND_FLOOR, Context, Decimal, InvalidOperation
from typing import Final, Protocol

from msgspec import Raw, Struct

from engine.language.datepatterns import Pattern, compile_pattern
from engine.language.faults import EvaluationError
from engine.language.times import Time, iso_text, parse_text, parse_timestamp
from engine.later import pattern

#: Nanoseconds of a second and of a millisecond.
SECOND: Final = 1_000_000_000
MILLI: Final = 1_000_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS: Final = pattern(r"[+-]?[0-9]+(?:\.([0-9]+))?")
_ISO: Final = pattern(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:([Tt ])[0-9]{2}:[0-9]{2}(:[0-9]{2}(?:([.,])([0-9]+))?)?"
    r"( ?)([Zz]|UTC|GMT|[+-][0-9]{2}(?:(:?)[0-9]{2})?)?)?"
)
_BASIC: Final = pattern(
    r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})"
    r"(?:\.([0-9]+))?(Z|[+-][0-9]{4})?"
)
#: The name of a zone behind its offset, as Java writes it.
_BRACKETS: Final = pattern(r"\[[A-Za-z0-9_+/-]+\]$")
#: `Wed Oct 10 20:19:24 +0000 2018`
_TWITTER: Final = pattern(
    r"([A-Z][a-z]{2} [A-Z][a-z]{2} [0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}) "
    r"([0-9]{4})"
)
_DOTNET: Final = pattern(r"(\\?)/Date\(-?[0-9]{1,19}([+-][0-9]{4})?\)\\?/")
_MAIL: Final = pattern(
    r"(?:[A-Z][a-z]{2}, *)?[0-9]{1,2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} "
    r"*(?:([+-])([0-9]{2})([0-9]{2}))"
)

_TWITTER_PATTERN: Final = compile_pattern("EEE MMM dd HH:mm:ss Z yyyy")
_HTTP_PATTERN: Final = compile_pattern("EEE, dd MMM yyyy HH:mm:ss 'GMT'")
_MAIL_PATTERN: Final = compile_pattern("EEE, dd MMM yyyy HH:mm:ss Z")
_SECONDS_PATTERN: Final = compile_pattern("yyyy-MM-dd'T'HH:mm:ss'Z'")
_LOCAL_PATTERN: Final = compile_pattern("yyyy-MM-dd'T'HH:mm:ss")
_DAY_PATTERN: Final = compile_pattern("yyyy-MM-dd")
#: Large enough for every digit that is a time.
_EXACT: Final = Context(prec=120)

#: Forms that a request may ask with, beside a pattern; SAME: as the records have it.
FORMATS: Final = (
    "ISO8601",
    "ISO8601_SECONDS",
    "ISO8601_LOCAL",
    "EPOCH_SECONDS",
    "EPOCH_MILLIS",
    "EPOCH_MICROS",
    "DATE",
    "HTTP_DATE",
)


class Form(Protocol):
    """One way to write an instant."""

    def write(self, ns: int) -> object:
        """
        An instant, rounded down to what the form can say: str, int, or `Raw` for a
        JSON number with a fraction.

        Raises: EvaluationError: outside the years 1 to 9999.
        """


class Epoch(Struct, frozen=True):
    """
    A number since 1970.

    Attributes:
        unit: Nanoseconds of its unit.
        digits: Behind the point.
        text: It is a text of digits and no number.
    """

    unit: int = SECOND
    digits: int = 0
    text: bool = False

    def write(self, ns: int) -> object:
        scaled = ns * 10**self.digits // self.unit
        if not self.digits:
            return str(scaled) if self.text else scaled
        whole, rest = divmod(abs(scaled), 10**self.digits)
        sign = "-" if scaled < 0 else ""
        written = f"{sign}{whole}.{rest:0{self.digits}d}"
        return written if self.text else Raw(written.encode())


class Iso(Struct, frozen=True):
    """
    Times as ISO 8601 writes them, to and from nanoseconds.

    Attributes:
        between: What stands between date and time; "": there is no time.
        seconds: They are written.
        mark, digits: The fraction of a second.
        gap: What stands in front of the offset.
        suffix: `Z` and the like as it is; "": a wall time of `zone`; None: the offset
            of `zone`.
        colon: Between hours and minutes of the offset, or None: hours alone.
    """

    between: str = "T"
    seconds: bool = True
    mark: str = "."
    digits: int = 3
    gap: str = ""
    suffix: str | None = "Z"
    colon: str | None = ":"
    zone: tzinfo = UTC

    def write(self, ns: int) -> str:
        whole, rest = divmod(ns, SECOND)
        try:
            moment = (_EPOCH + timedelta(seconds=whole)).astimezone(self.zone)
        except (OverflowError, ValueError) as e:
            raise EvaluationError("a time out of range") from e
        day = f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d}"
        if not self.between:
            return day
        text = f"{day}{self.between}{moment.hour:02d}:{moment.minute:02d}"
        if self.seconds:
            text += f":{moment.second:02d}"
            if self.digits:
                text += (
                    f"{self.mark}{f'{rest:09d}'.ljust(self.digits, '0')[: self.digits]}"
                )
        if self.suffix is not None:
            return f"{text}{self.gap}{self.suffix}" if self.suffix else text
        minutes = (moment.utcoffset() or timedelta()) // timedelta(minutes=1)
        hours, left = divmod(abs(minutes), 60)
        sign = "-" if minutes < 0 else "+"
        offset = f"{sign}{hours:02d}"
        if self.colon is not None:
            offset += f"{self.colon}{left:02d}"
        return f"{text}{self.gap}{offset}"


class Basic(Struct, frozen=True):
    """`20240102T030405Z`, with so many digits of a fraction."""

    digits: int = 0
    suffix: str = "Z"

    def write(self, ns: int) -> str:
        text = Iso(digits=self.digits, suffix="").write(ns)
        return text.replace("-", "").replace(":", "") + self.suffix


class Patterned(Struct, frozen=True):
    """A date pattern, in a zone."""

    pattern: Pattern
    zone: tzinfo = UTC

    def write(self, ns: int) -> str:
        return self.pattern.format(ns // MILLI, self.zone)


class DotNet(Struct, frozen=True):
    """Times as .NET's JSON writes them, `/Date(ms)/`, to and from nanoseconds."""

    escape: str = ""
    suffix: str = ""

    def write(self, ns: int) -> str:
        return f"{self.escape}/Date({ns // MILLI}{self.suffix}){self.escape}/"


class DefaultIso(Struct, frozen=True):
    """ISO 8601 with milliseconds and `Z`, as templates write times."""

    def write(self, ns: int) -> str:
        return iso_text(ns // MILLI)


def form_named(name: str, zone: tzinfo) -> Form:
    """One of FORMATS, or a date pattern."""
    match name:
        case "ISO8601":
            return DefaultIso()
        case "ISO8601_SECONDS":
            return Iso(digits=0)
        case "ISO8601_LOCAL":
            return Iso(digits=0, suffix="", zone=zone)
        case "EPOCH_SECONDS":
            return Epoch()
        case "EPOCH_MILLIS":
            return Epoch(MILLI)
        case "EPOCH_MICROS":
            return Epoch(1000)
        case "DATE":
            return Patterned(_DAY_PATTERN, zone)
        case "HTTP_DATE":
            return Patterned(_HTTP_PATTERN)
    return Patterned(compile_pattern(name), zone)


def bound_in(name: str, zone: tzinfo) -> Callable[[int], object]:
    """
    How an expression has epoch milliseconds that are written in one of FORMATS: a Time,
    which can be reckoned with, or a number.
    """
    if name.startswith("EPOCH_"):
        form = form_named(name, zone)
        return lambda ms: form.write(ms * MILLI)
    if name == "ISO8601":
        return Time
    pattern, within = {
        "ISO8601_SECONDS": (_SECONDS_PATTERN, UTC),
        "ISO8601_LOCAL": (_LOCAL_PATTERN, zone),
        "DATE": (_DAY_PATTERN, zone),
        "HTTP_DATE": (_HTTP_PATTERN, UTC),
    }.get(name, (None, zone))
    written = compile_pattern(name) if pattern is None else pattern
    return lambda ms: Time(ms, written, within)


def zoneless(name: str) -> bool:
    """True if a form does not say which zone its times are of."""
    if name in FORMATS:
        return name in ("ISO8601_LOCAL", "DATE")
    return not set(re.sub(r"'[^']*'", "", name)) & {"X", "Z"}


def instant(value: object, zone: tzinfo = UTC, pattern: Pattern | None = None) -> int:
    """
    Epoch nanoseconds of a time in any form that APIs send.

    Numbers go by size, as `times.parse_timestamp` has it; beside what that reads:
    fractions to the nanosecond, an offset behind a space, `[Europe/Berlin]` behind an
    offset, `20240102T030405Z` and `Wed Oct 10 20:19:24 +0000 2018`.

    Args:
        value: str, int, float or `Raw`.
        zone: Of texts without an offset.
        pattern: The only form that is read.

    Raises: EvaluationError: it is no time.
    """
    if pattern is not None:
        return parse_timestamp(value, zone, pattern) * MILLI
    if isinstance(value, str):
        return _of_text(value.strip(), zone)
    if isinstance(value, Raw):
        value = bytes(value).decode()
    elif isinstance(value, float):
        value = repr(value)
    if isinstance(value, str):
        try:
            return _by_size(Decimal(value))
        except InvalidOperation as e:
            raise EvaluationError("not a time") from e
    if isinstance(value, int) and not isinstance(value, bool):
        return _by_size(Decimal(value))
    raise EvaluationError("not a time")


def _by_size(number: Decimal) -> int:
    if not number.is_finite() or number.adjusted() > 20:
        raise EvaluationError("not a time")
    scaled = _EXACT.multiply(number, unit_of(number))
    return int(scaled.to_integral_value(ROUND_FLOOR, _EXACT))


def unit_of(number: Decimal | int) -> int:
    """The nanoseconds of the unit that a number since 1970 is taken to count."""
    size = number if number >= 0 else -number
    if size < 10**11:
        return SECOND
    if size < 10**14:
        return MILLI
    return 1000 if size < 10**17 else 1


def _of_text(text: str, zone: tzinfo) -> int:
    match = _ISO.fullmatch(text)
    if match is not None:
        plain = text
        below = 0
        if match[4] is not None and len(match[4]) > 3:
            # What is below the millisecond; a tenth nanosecond and more are left out.
            below = int(match[4][3:9].ljust(6, "0"))
            plain = text[: match.end(4) - len(match[4]) + 3] + text[match.end(4) :]
        if match[5] and match[6] not in ("UTC", "GMT"):
            plain = plain.replace(f" {match[6]}", match[6])
        return parse_text(plain, zone) * MILLI + below
    if len(text) <= 64 and _DIGITS.fullmatch(text) is not None:
        return _by_size(Decimal(text))
    match = _BASIC.fullmatch(text)
    if match is not None:
        y, mo, d, h, mi, s, fraction, suffix = match.groups()
        plain = f"{y}-{mo}-{d}T{h}:{mi}:{s}"
        if fraction:
            plain += f".{fraction}"
        return _of_text(plain + (suffix or ""), zone)
    match = _TWITTER.fullmatch(text)
    if match is not None:
        return _TWITTER_PATTERN.parse(text) * MILLI
    if text.endswith("]"):
        shorter = _BRACKETS.sub("", text)
        if shorter != text:
            return _of_text(shorter, zone)
    return parse_text(text, zone) * MILLI


def form_of(value: object, zone: tzinfo = UTC, pattern: Pattern | None = None) -> Form:
    """
    The form that a value came in, as `instant` reads it.

    Args:
        zone: Of texts without an offset, which are written in it again.
    """
    if pattern is not None:
        return Patterned(pattern, zone)
    if not isinstance(value, str):
        written = bytes(value).decode() if isinstance(value, Raw) else str(value)
        return _form_of_number(written, text=False)
    text = _BRACKETS.sub("", value.strip())
    match = _ISO.fullmatch(text)
    if match is not None:
        between, seconds, mark, fraction, gap, suffix, colon = match.groups()
        if between is None:
            return Patterned(_DAY_PATTERN, zone)
        its: tzinfo = zone
        named: str | None = suffix or ""
        short = False
        if suffix and suffix[0] in "+-":
            minutes = int(suffix[1:3]) * 60 + int(suffix[-2:] if len(suffix) > 3 else 0)
            its = timezone(timedelta(minutes=-minutes if suffix[0] == "-" else minutes))
            named, short = None, len(suffix) == 3
        elif suffix:
            its = UTC
        return Iso(
            between,
            seconds is not None,
            mark or ".",
            len(fraction or ""),
            gap or "",
            named,
            None if short else (colon or ""),
            its,
        )
    if _DIGITS.fullmatch(text) is not None:
        return _form_of_number(text, text=True)
    match = _BASIC.fullmatch(text)
    if match is not None:
        return Basic(len(match[7] or ""), "Z")
    if _TWITTER.fullmatch(text) is not None:
        return Patterned(_TWITTER_PATTERN)
    match = _DOTNET.fullmatch(text)
    if match is not None:
        return DotNet(match[1], match[2] or "")
    match = _MAIL.fullmatch(text)
    if match is not None:
        minutes = int(match[2]) * 60 + int(match[3])
        its = timezone(timedelta(minutes=-minutes if match[1] == "-" else minutes))
        return Patterned(_MAIL_PATTERN, its)
    return Patterned(_HTTP_PATTERN)


def _form_of_number(written: str, *, text: bool) -> Form:
    number = Decimal(written)
    match = _DIGITS.fullmatch(written)
    digits = len(match[1] or "") if match is not None else 0
    return Epoch(unit_of(number), digits, text)
