"""
Feedback: what an answer says about how much more the server will take.

Owns the reading of Retry-After, RateLimit, RateLimit-Policy and of the
X-RateLimit dialects; pure.  A value that cannot be read is as good as none:
never an error, never a pause of its own.

Below the limiter, which makes all tasks of the host obey.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from engine.later import later, pattern

if TYPE_CHECKING:
    from email import utils as dates
else:
    dates = later("email.utils")

#: A reset up to this is seconds from now; beyond it, a point in time.
LONGEST_DELTA = 86_400
EPOCH_S = 1e9
EPOCH_MS = 1e12
#: The last point in time (in 2103) that a number of seconds may be in place of a delay.
LATEST = 4.2e9

#: Names that say something, as they come: in lower case.
NAMES = frozenset(
    {
        "date",
        "retry-after",
        "retry-after-ms",
        "x-ms-retry-after-ms",
        "x-retry-after",
        "ratelimit",
        "ratelimit-policy",
    }
)

#: (remaining, reset, limit) of each dialect; the first that can be read counts.
DIALECTS = (
    ("ratelimit-remaining", "ratelimit-reset", "ratelimit-limit"),
    ("x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-limit"),
    ("x-ratelimit-remaining", "x-ratelimit-reset-after", "x-ratelimit-limit"),
    ("x-rate-limit-remaining", "x-rate-limit-reset", "x-rate-limit-limit"),
    (
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "x-ratelimit-limit-requests",
    ),
    (
        "x-ratelimit-requests-remaining",
        "x-ratelimit-requests-reset",
        "x-ratelimit-requests-limit",
    ),
)
INTERESTING = NAMES | {name for dialect in DIALECTS for name in dialect}

#: Seconds that no pause is longer than, whatever was written.
LONGEST = 1e12

_NUMBER = pattern(r"[0-9]{1,15}(?:\.[0-9]{1,9})?\Z")
_SECONDS = pattern(r"\+?([0-9]{1,400})(?:\.[0-9]{0,40})?\Z")
#: Spans as people and languages write them: 2s, 1m0s, 1.5 min, 30 seconds, PT1M30S.
_PART = pattern(
    r"\s*([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*"
    r"(milliseconds?|seconds?|minutes?|hours?|days?|secs?|mins?|hrs?|ms|[smhd])",
    re.IGNORECASE,
)
_UNITS = {"ms": 0.001, "m": 60.0, "s": 1.0, "h": 3600.0, "d": 86_400.0}
#: Headers that were joined: a comma, but not the one inside of an HTTP date.
_LISTED = pattern(r"(?<!mon)(?<!tue)(?<!wed)(?<!thu)(?<!fri)(?<!sat)(?<!sun)"
                     r"(?<!day),", re.IGNORECASE)  # fmt: skip
_DELAY = pattern(r"[0-9]{1,15}\Z")
_SPAN = pattern(
    r"(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?"
    r"(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?(?:([0-9]{1,9})ms)?\Z"
)

#: A structured field's item: a string or token, then its parameters.
_ITEM = pattern(
    r'[ \t]*(?:"((?:[^"\\]|\\["\\])*)"|([A-Za-z*][A-Za-z0-9!#$%&\'*+\-.^_`|~:/]*))'
    r'((?:[ \t]*;[ \t]*[a-z*][a-z0-9_\-.*]*(?:=(?:"(?:[^"\\]|\\["\\])*"'
    r"|:[A-Za-z0-9+/=]*:|[^\";, \t]+))?)*)[ \t]*"
)
_PARAMETER = pattern(
    r';[ \t]*([a-z*][a-z0-9_\-.*]*)(?:=("(?:[^"\\]|\\.)*"|[^;, \t]+))?'
)


#: Quota unit of a policy that states none.
_REQUESTS = '"requests"'


class Demand(Struct, frozen=True):
    """
    What the server asked for.

    Attributes:
        after: Seconds until it wants to hear from us again; None: it did not
            say; 0.0: it named now or the past.
        cause: "retry_after" or "budget" (nothing left), or "".
        limit, remaining: Of the budget that is nearest its end, or None.
        reset: Seconds until that budget is whole again, or None.
    """

    after: float | None = None
    cause: str = ""
    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None


NOTHING = Demand()


def read(status: int, headers: Iterable[tuple[str, str]], wall_ms: int) -> Demand:
    """
    What an answer asks for.

    Args:
        headers: Any case, repeats allowed.
        wall_ms: Our clock, where the answer carries no date of its own.

    Source: RFC 9110 10.2.3; draft-ietf-httpapi-ratelimit-headers-11; the
    published dialects of GitHub, Okta, Discord, OpenAI, Azure, RapidAPI.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        if name in INTERESTING:
            found[name] = f"{found[name]}, {value}" if name in found else value
    if not found or found.keys() == {"date"}:
        return NOTHING
    clock = _Clock(found.get("date"), wall_ms)
    budget = _budget(found, clock)
    if status in (429, 503) and (after := _retry_after(found, clock)) is not None:
        return Demand(
            after, "retry_after", budget.limit, budget.remaining, budget.reset
        )
    return budget


class _Clock:
    """Points in time, as seconds from the moment of the answer."""

    def __init__(self, date: str | None, wall_ms: int) -> None:
        self._ours = wall_ms / 1000
        self._theirs = _instant(date) if date else None

    def until(self, epoch: float) -> float:
        # By the server's own clock, which made the value, unless that clock
        # is so far off that only ours gives a sensible span.
        if self._theirs is not None:
            span = epoch - self._theirs
            if -LONGEST_DELTA <= span <= LONGEST_DELTA:
                return max(0.0, span)
        return max(0.0, epoch - self._ours)


def _retry_after(found: Mapping[str, str], clock: _Clock) -> float | None:
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if name in found and _NUMBER.match(found[name].strip()):
            return float(found[name]) / 1000
    for name in ("retry-after", "x-retry-after"):
        if name not in found:
            continue
        # Joined or listed values: the longest is safe for all of them.
        read_ = [_pause(text.strip(), clock) for text in _LISTED.split(found[name])]
        known = [seconds for seconds in read_ if seconds is not None]
        if known:
            return max(known)
    return None


def _pause(text: str, clock: _Clock) -> float | None:
    """
    One value of a Retry-After: seconds (RFC 9110, 10.2.3), with a fraction or unit.

    A number that is a point in time in any sensible reading is taken as one.
    """
    text = text.strip("\"' ")
    if (number := _SECONDS.match(text)) is not None:
        whole = min(float(number[1]), LONGEST * 1000)
        seconds = whole if len(number[1]) > 15 else float(text)
        for epoch in (seconds, seconds / 1000):
            if EPOCH_S < epoch < LATEST:
                return clock.until(epoch)
        return min(seconds, LONGEST)
    if (span := _span(text)) is not None:
        return span
    if text and (instant := _instant(text)) is not None:
        return clock.until(instant)
    return None


def _span(text: str) -> float | None:
    """Seconds of a span with units, or None."""
    text = text[2:] if text[:2].upper() == "PT" else text
    at, total = 0, 0.0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            return None
        unit = part[2].lower()
        scale = _UNITS.get("ms" if unit.startswith(("ms", "milli")) else unit[0], 1.0)
        total += float(part[1]) * scale
        at = part.end()
    return min(total, LONGEST) if at else None


def _budget(found: Mapping[str, str], clock: _Clock) -> Demand:
    tightest = NOTHING
    if "ratelimit" in found:
        tightest = _structured(found["ratelimit"], found.get("ratelimit-policy", ""))
        if tightest is NOTHING:
            tightest = _draft_7(found["ratelimit"])
    if tightest is not NOTHING:
        return tightest
    for remaining_name, reset_name, limit_name in DIALECTS:
        remaining = _count(found.get(remaining_name, ""))
        reset = _reset(found.get(reset_name, ""), clock)
        if remaining is None:
            continue
        limit = _count(found.get(limit_name, ""))
        if reset is not None:
            return _demand(limit, remaining, reset)
        if tightest is NOTHING:
            tightest = Demand(limit=limit, remaining=remaining)
    return tightest


def _demand(limit: float | None, remaining: float, reset: float | None) -> Demand:
    if remaining <= 0 and reset is not None:
        return Demand(reset, "budget", limit, 0.0, reset)
    return Demand(None, "", limit, remaining, reset)


def _structured(field: str, policy: str) -> Demand:
    """`"name";r=50;t=30` of the current draft; several services may be listed."""
    policies = {name: members for name, members in _items(policy) or ()}
    worst = NOTHING
    for name, members in _items(field) or ():
        remaining = _integer(members.get("r"))
        if remaining is None or (policies and name not in policies):
            continue
        quota = policies.get(name, {})
        if remaining > 0 and quota.get("qu", _REQUESTS) != _REQUESTS:
            # Bytes, or requests at a time: nothing that could be counted here.
            continue
        # Without t nobody says when; after its window a quota is whole again.
        reset = _integer(members.get("t"))
        if reset is None:
            reset = _integer(quota.get("w"))
        demand = _demand(_integer(quota.get("q")), remaining, reset)
        if (
            worst is NOTHING
            or (demand.after or -1.0) > (worst.after or -1.0)
            or (worst.after is None and remaining < (worst.remaining or 0.0))
        ):
            worst = demand
    return worst


def _draft_7(field: str) -> Demand:
    """`limit=100, remaining=50, reset=30`, still sent by many."""
    members = {}
    for part in field.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals:
            return NOTHING
        members[name] = value
    remaining, reset = (
        _integer(members.get("remaining")),
        _integer(members.get("reset")),
    )
    if remaining is None:
        return NOTHING
    return _demand(_integer(members.get("limit")), remaining, reset)


def _items(field: str) -> list[tuple[str, dict[str, str]]] | None:
    """A structured list of strings with parameters; None if it is none."""
    items: list[tuple[str, dict[str, str]]] = []
    place = 0
    while place < len(field):
        match = _ITEM.match(field, place)
        if match is None:
            return None
        quoted, token, parameters = match.groups()
        name = quoted if quoted is not None else token
        items.append(
            (name, {key: value for key, value in _PARAMETER.findall(parameters)})
        )
        place = match.end()
        if place < len(field):
            if field[place] != "," or place + 1 == len(field):
                return None
            place += 1
    return items


def _integer(text: str | None) -> float | None:
    return float(text) if text is not None and _DELAY.match(text) else None


def _count(text: str) -> float | None:
    # Repeats and lists of several windows: the first is the tightest by custom.
    first = text.split(",")[0].split(";")[0].strip()
    return float(first) if _NUMBER.match(first) else None


def _reset(text: str, clock: _Clock) -> float | None:
    text = text.strip()
    if _NUMBER.match(text):
        number = float(text)
        if number <= LONGEST_DELTA:
            return number
        if number > EPOCH_MS:
            return clock.until(number / 1000)
        return clock.until(number) if number > EPOCH_S else None
    if text and (span := _SPAN.match(text)) is not None:
        hours, minutes, seconds, millis = (float(part or 0) for part in span.groups())
        return hours * 3600 + minutes * 60 + seconds + millis / 1000
    instant = _instant(text)
    return clock.until(instant) if instant is not None else None


def _instant(text: str) -> float | None:
    """Epoch seconds of an HTTP date or an ISO 8601 time, or None."""
    try:
        moment = dates.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return moment.timestamp()
    except (ValueError, OverflowError):
        return None
