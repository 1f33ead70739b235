"""
Fields: what the header fields of a cache say, read as the RFCs have them.

Owns the directives of Cache-Control, seconds and dates (RFC 9110, 5.6.7): what cannot be
read says nothing.

Path: `source.fetch.freshness` -> here
"""

from __future__ import annotations

import functools
from calendar import timegm
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from engine.later import pattern

#: A lifetime beyond this is this: RFC 9111 1.2.2.
LONGEST = 2**31

_DIRECTIVE = pattern(
    r'[ \t]*([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^ \t,;"]*)))?'
    r"[^,]*(?:,|\Z)"
)
_SECONDS = pattern(r"[0-9]{1,20}\Z")

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct",
           "Nov", "Dec")  # fmt: skip
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_WHOLE_DAY = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_IMF = rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT\Z"
_RFC850 = (
    rf"{_WHOLE_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT\Z"
)
_ASCTIME = rf"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})\Z"
#: The three forms of RFC 9110 5.6.7; all of them are UTC, and nothing else is one.
_DATES = tuple(pattern(form) for form in (_IMF, _RFC850, _ASCTIME))


def directives(text: str | None) -> dict[str, str | None]:
    """
    Cache-Control by name in lower case; of a repeated one the first counts,
    unless a later one says otherwise: then it is "" and means nothing good.
    """
    found: dict[str, str | None] = {}
    if not text:
        return found
    place = 0
    while place < len(text):
        match = _DIRECTIVE.match(text, place)
        if match is None:
            comma = text.find(",", place)
            if comma < 0:
                break
            place = comma + 1
            continue
        name = match[1].lower()
        value = match[2] if match[2] is not None else match[3]
        if name in found and found[name] != value:
            found[name] = ""
        else:
            found[name] = value
        place = match.end()
    return found


def seconds(text: str | None) -> int | None:
    """Delta seconds, held to 2^31; None for anything else."""
    if text is None or not _SECONDS.match(text):
        return None
    return min(int(text), LONGEST)


# Hot path: whoever answers does so many times within a second.
@functools.lru_cache(16)
def http_date(text: str | None) -> float | None:
    """
    Epoch seconds of an HTTP-date, or None for any other text.

    Source: RFC 9110 5.6.7.  What is nearly one (another zone, one digit for an
    hour, two for a year of the first form) is none: it would be a guess.
    """
    for form in _DATES:
        match = form.match(text or "")
        if match is None:
            continue
        year = int(match["year"])
        if len(match["year"]) == 2:
            # More than fifty years ahead is the most recent past instead.
            now = datetime.now(UTC).year
            year += now // 100 * 100
            year -= 100 if year > now + 50 else 0
        month = _MONTHS.index(match["month"]) + 1
        clock = int(match["hour"]), int(match["minute"]), int(match["second"])
        try:
            # A leap second has the number 60.
            moment = datetime(
                year, month, int(match["day"]), *clock[:2], min(clock[2], 59)
            )
        except ValueError:
            return None
        if clock[2] > 60:
            return None
        return float(timegm(moment.timetuple()) + (clock[2] == 60))
    return None


def joined(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """All values of a header, any case, joined by ", "; or None."""
    # Hot path: a dozen names are asked of each answer.
    if type(headers) is tuple:
        return _folded(headers).get(name)
    found = [value.strip() for key, value in headers if key.lower() == name]
    return ", ".join(found) if found else None


@functools.lru_cache(16)
def _folded(headers: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """The headers by their names in lower case."""
    found: dict[str, str] = {}
    for key, value in headers:
        name = key.lower()
        before = found.get(name)
        value = value.strip()
        found[name] = value if before is None else f"{before}, {value}"
    return found
