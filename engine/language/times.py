"""
Times: epoch milliseconds out of what APIs write, and back.

Owns the reading by size of number, ISO 8601, RFC 3339, HTTP dates, and the
patterns of `format` and `parse`.  Pure: it knows no clock.

Path: `values`, `templates`, `transform` -> here -> `faults`
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import ROUND_FLOOR, Decimal
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from msgspec import Raw, Struct

from engine.language.faults import EvaluationError, LanguageError
from engine.later import pattern

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_WALL: Final = datetime(1970, 1, 1)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_MILLISECOND: Final = timedelta(milliseconds=1)
_DAY_MS: Final = 86_400_000

_from_iso: Final = datetime.fromisoformat

MONTHS: Final = [
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
]
WEEKDAYS: Final = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]

_ISO: Final = pattern(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r"(?:([Zz])|([+-])([0-9]{2})(?::?([0-9]{2}))?)?)?"
)
_IMF: Final = pattern(
    r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) "
    r"([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)
_RFC850: Final = pattern(
    r"[A-Z][a-z]{5,8}, ([0-9]{2})-([A-Z][a-z]{2})-([0-9]{2}) "
    r"([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)
_ASCTIME: Final = pattern(
    r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([ 0-9][0-9]) "
    r"([0-9]{2}):([0-9]{2}):([0-9]{2}) ([0-9]{4})"
)
#: RFC 5322, 3.3: the day of the week may be missing, the zone an offset or a name.
_MAIL: Final = pattern(
    r"(?:[A-Z][a-z]{2}, *)?([0-9]{1,2}) ([A-Z][a-z]{2}) ([0-9]{4}|[0-9]{2}) "
    r"([0-9]{2}):([0-9]{2})(?::([0-9]{2}))? *(?:([+-])([0-9]{2})([0-9]{2})|([A-Za-z]{1,3}))"
    r"(?: *\([^()]*\))?"
)
#: Zones of RFC 5322, 4.3, in hours.
_ZONES: Final = {
    "UT": 0,
    "UTC": 0,
    "GMT": 0,
    "Z": 0,
    "EDT": -4,
    "EST": -5,
    "CDT": -5,
    "CST": -6,
    "MDT": -6,
    "MST": -7,
    "PDT": -7,
    "PST": -8,
}
#: Milliseconds as old JSON of .NET has them; the offset shifts no instant.
_DOTNET: Final = pattern(r"\\?/Date\((-?[0-9]{1,19})(?:[+-][0-9]{4})?\)\\?/")
#: The end of an ISO 8601 time that names its offset.
_OFFSET: Final = pattern(
    r":[0-9]{2}(?:[.,][0-9]+)?(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)$"
)
_NUMBER: Final = pattern(r"[+-]?[0-9]+(?:\.[0-9]+)?")

#: Longer digit strings are no time in any unit.
_LONGEST: Final = 64


class DateFormat(Protocol):
    """What a time is written and read by: a pattern of `language.datepatterns`."""

    def format(self, ms: int, zone: tzinfo = UTC) -> str:
        """An instant as text, in a zone."""

    def parse(self, text: str, zone: tzinfo = UTC) -> int:
        """Epoch milliseconds; raises EvaluationError for another text."""


class Time(Struct, frozen=True):
    """
    An instant inside an expression.

    Attributes:
        ms: Epoch milliseconds, UTC.
        pattern: How it is written as text; None: ISO 8601 with `Z`.
        zone: The zone it is written in with a pattern.
    """

    ms: int
    pattern: DateFormat | None = None
    zone: tzinfo = UTC

    @property
    def text(self) -> str:
        if self.pattern is not None:
            return self.pattern.format(self.ms, self.zone)
        return iso_text(self.ms)

    def moved(self, ms: int) -> Time:
        """The instant so many milliseconds later, written the same way."""
        return Time(self.ms + ms, self.pattern, self.zone)


def compile_zone(name: str) -> tzinfo:
    """
    A zone by its IANA name.

    Raises: LanguageError: no such zone.
    """
    if name in ("UTC", "Z", "Etc/UTC"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as e:
        raise LanguageError(f"no such time zone: {name}") from e


def iso_text(ms: int) -> str:
    """ISO 8601 with milliseconds and `Z`."""
    moment = moment_in(ms, UTC)
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


def instant_text(ms: int) -> str:
    """ISO 8601 with `Z`, and milliseconds only where there are any."""
    return iso_text(ms).replace(".000Z", "Z")


def midnight(ms: int, zone: tzinfo, days: int = 0) -> int:
    """00:00 in a zone of the day an instant falls on, some days later."""
    day = moment_in(ms, zone).date().toordinal() + days
    return epoch_ms(day, 0, 0, 0, 0, None, zone)


def moment_in(ms: int, zone: tzinfo) -> datetime:
    try:
        moment = _EPOCH + timedelta(milliseconds=ms)
        return moment if zone is UTC else moment.astimezone(zone)
    except (OverflowError, ValueError, OSError) as e:
        raise EvaluationError("a time out of range") from e


def epoch_ms(
    day: int,
    hour: int,
    minute: int,
    second: int,
    ms: int,
    offset: int | None,
    zone: tzinfo,
) -> int:
    """
    Epoch milliseconds of a wall time; offset in minutes, None: the zone's.

    24:00:00 is the next day and second 60 the next second.
    """
    wall = (day - _EPOCH_DAY) * _DAY_MS + hour * 3_600_000 + minute * 60_000
    wall += second * 1000 + ms
    if offset is not None:
        return wall - offset * 60_000
    if zone is UTC:
        return wall
    local = moment_in(wall, UTC).replace(tzinfo=zone)
    gap = local.utcoffset()
    if gap is None:
        raise EvaluationError("a time zone without an offset")
    return wall - gap // _MILLISECOND


def clock_of(hour: int, minute: int, second: int, rest: bool) -> None:
    """Raises: EvaluationError unless 00:00:00 to 23:59:60, or 24:00:00."""
    if hour == 24 and not minute and not second and not rest:
        return
    if hour > 23 or minute > 59 or second > 60:
        raise EvaluationError("no such time of day")


def day_of(year: int, month: int, day: int) -> int:
    try:
        return date(year, month, day).toordinal()
    except ValueError as e:
        raise EvaluationError("no such day") from e


def parse_iso(text: str, zone: tzinfo = UTC) -> int | None:
    """Epoch ms of an ISO 8601 time, None if the text is of another shape."""
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, utc, sign, oh, om = match.groups()
    number = day_of(int(year), int(month), int(day))
    if hour is None:
        return epoch_ms(number, 0, 0, 0, 0, None, zone)
    h, m, s = int(hour), int(minute), int(second or 0)
    ms = int((fraction or "0")[:3].ljust(3, "0"))
    clock_of(h, m, s, bool(fraction and fraction.strip("0")))
    offset: int | None = None
    if utc:
        offset = 0
    elif sign:
        if int(oh) > 23 or int(om or 0) > 59:
            raise EvaluationError("no such offset")
        offset = int(oh) * 60 + int(om or 0)
        if sign == "-":
            offset = -offset
    return epoch_ms(number, h, m, s, ms, offset, zone)


def read_iso(text: str) -> int | None:
    """Epoch ms of an ISO 8601 text, None for every other text."""
    if not text[:4].isdigit() or text[4:5] != "-":
        return None
    try:
        return parse_iso(text)
    except EvaluationError:
        return None


def _http_date(text: str) -> int | None:
    match = _IMF.fullmatch(text)
    if match is not None:
        day, month, year, h, m, s = match.groups()
    else:
        match = _RFC850.fullmatch(text)
        if match is not None:
            day, month, year, h, m, s = match.groups()
            # RFC 9110 5.6.7 leaves the century to the reader; POSIX's split.
            year = f"20{year}" if int(year) < 69 else f"19{year}"
        else:
            match = _ASCTIME.fullmatch(text)
            if match is None:
                return None
            month, day, h, m, s, year = match.groups()
    if month not in MONTHS:
        return None
    number = day_of(int(year), MONTHS.index(month) + 1, int(day))
    clock_of(int(h), int(m), int(s), False)
    return epoch_ms(number, int(h), int(m), int(s), 0, 0, UTC)


def _by_size(number: int | Decimal) -> int:
    if isinstance(number, Decimal):
        return _by_size_exactly(number)
    size = abs(number)
    if size < 10**11:
        scaled = number * 1000
    elif size < 10**14:
        scaled = number
    else:
        scaled = number // (1000 if size < 10**17 else 1_000_000)
    return _within(scaled)


def _by_size_exactly(number: Decimal) -> int:
    """The same of a fraction, without the rounding of decimal's contexts."""
    if number.is_zero():
        return 0
    if not number.is_finite():
        raise EvaluationError("not a time")
    size = number.copy_abs()
    shift = 3 if size < 10**11 else 0 if size < 10**14 else -3 if size < 10**17 else -6
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    scaled = Decimal((sign, digits, exponent + shift))
    if scaled.adjusted() >= _LONGEST:
        raise EvaluationError("a time out of range")
    if scaled.adjusted() < 0:
        return -1 if sign else 0
    return _within(int(scaled.to_integral_value(ROUND_FLOOR)))


def _within(ms: int) -> int:
    if not -(2**63) <= ms < 2**63:
        raise EvaluationError("a time out of range")
    return ms


def parse_timestamp(
    value: object, zone: tzinfo, pattern: DateFormat | None = None
) -> int:
    """
    Epoch milliseconds of a number, a text or a Time.

    Numbers and texts of digits go by size: below 1e11 seconds, below 1e14
    milliseconds, below 1e17 microseconds, else nanoseconds, rounded down.
    Texts are ISO 8601 (a zone UTC behind it allowed), RFC 3339, HTTP and mail dates
    (RFC 5322), and `/Date(ms)/`; with a pattern, only that.

    Args:
        value: A plain value or `Raw`.
        zone: For texts without an offset.

    Raises: EvaluationError: anything else.
    """
    if type(value) is Time:
        return value.ms
    if type(value) is Raw:
        text = bytes(value).decode().strip()
        if _NUMBER_JSON.fullmatch(text) is None:
            raise EvaluationError("not a time")
        if pattern is not None:
            return pattern.parse(text, zone)
        value = Decimal(text)
    elif isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, str):
        if pattern is not None:
            return pattern.parse(value, zone)
        return parse_text(value, zone)
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        if pattern is not None:
            return pattern.parse(_text_of(value), zone)
        return _by_size(value)
    raise EvaluationError("not a time")


def _text_of(number: int | Decimal) -> str:
    try:
        return str(number)
    except ValueError as e:
        raise EvaluationError("an integer of too many digits") from e


_NUMBER_JSON: Final = pattern(
    r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?"
)


def parse_text(text: str, zone: tzinfo) -> int:
    """
    Epoch milliseconds of a text, as `parse_timestamp` reads it.

    Raises: EvaluationError.
    """
    # Hot path: the commonest shapes, `2024-01-02T03:04:05Z` and the same with
    # milliseconds.  The marks, three places apart, leave `fromisoformat` no
    # other reading, and it costs a fifth of the expression that follows.
    marks = text[7:20:3]
    whole = marks == "-T::Z" and len(text) == 20
    if whole or (marks == "-T::." and len(text) == 24 and text[23] == "Z"):
        try:
            since = _from_iso(text[:-1]) - _EPOCH_WALL
        except ValueError:
            pass
        else:
            ms = since.days * 86_400_000 + since.seconds * 1000
            return ms if whole else ms + since.microseconds // 1000
    found = parse_iso(text, zone)
    if found is not None:
        return found
    if len(text) <= _LONGEST and _NUMBER.fullmatch(text) is not None:
        return _by_size(Decimal(text) if "." in text else int(text))
    found = _http_date(text)
    if found is None:
        found = _otherwise(text, zone)
    if found is not None:
        return found
    raise EvaluationError("not a time")


def _otherwise(text: str, zone: tzinfo) -> int | None:
    """What mail, old JSON of .NET and people write."""
    match = _DOTNET.fullmatch(text)
    if match is not None:
        ms = int(match[1])
        if not -(2**63) <= ms < 2**63:
            raise EvaluationError("a time out of range")
        return ms
    for name in (" UTC", " GMT"):
        if text.endswith(name) and (plain := text.removesuffix(name))[4:5] == "-":
            # A wall time of its own zone may not have another one behind it.
            return parse_iso(plain, UTC) if _OFFSET.search(plain) is None else None
    match = _MAIL.fullmatch(text)
    if match is None:
        return None
    day, month, year, h, m, s, sign, oh, om, name = match.groups()
    if month not in MONTHS or (name is not None and name.upper() not in _ZONES):
        return None
    if len(year) == 2:
        year = f"20{year}" if int(year) < 50 else f"19{year}"
    if name is not None:
        offset = _ZONES[name.upper()] * 60
    else:
        if int(oh) > 23 or int(om) > 59:
            raise EvaluationError("no such offset")
        offset = (int(oh) * 60 + int(om)) * (-1 if sign == "-" else 1)
    number = day_of(int(year), MONTHS.index(month) + 1, int(day))
    clock_of(int(h), int(m), int(s or 0), False)
    return epoch_ms(number, int(h), int(m), int(s or 0), 0, offset, UTC)


def offset_text(moment: datetime, colon: str, zulu: bool, short: bool) -> str:
    gap = moment.utcoffset() or timedelta(0)
    minutes = gap // timedelta(minutes=1)
    if zulu and minutes == 0:
        return "Z"
    sign = "-" if minutes < 0 else "+"
    hours, rest = divmod(abs(minutes), 60)
    if short and rest == 0:
        return f"{sign}{hours:02d}"
    return f"{sign}{hours:02d}{colon}{rest:02d}"


def read_offset(text: str) -> int:
    if text in ("Z", "z"):
        return 0
    digits = text[1:].replace(":", "")
    hours, minutes = int(digits[:2]), int(digits[2:] or 0)
    if hours > 23 or minutes > 59:
        raise EvaluationError("no such offset")
    total = hours * 60 + minutes
    return -total if text[0] == "-" else total
