"""
Date patterns: times written as somebody says, in Java's letters.

Owns the letters and what each reads and writes; a pattern is compiled once.

Path: `language.functions`, `transform.casts` -> here -> `language.times`
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Final

from engine.language.faults import EvaluationError, LanguageError
from engine.language.times import (
    MONTHS,
    WEEKDAYS,
    clock_of,
    day_of,
    epoch_ms,
    moment_in,
    offset_text,
    read_offset,
)
from engine.later import pattern


class _Fields:
    """What a pattern has read so far."""

    __slots__ = (
        "day",
        "half",
        "hour",
        "minute",
        "month",
        "ms",
        "offset",
        "second",
        "year",
    )

    def __init__(self) -> None:
        self.year, self.month, self.day = 1970, 1, 1
        self.hour = self.minute = self.second = self.ms = 0
        self.half: int | None = None
        self.offset: int | None = None


def _to_year(fields: _Fields, text: str) -> None:
    fields.year = int(text)


def _to_short_year(fields: _Fields, text: str) -> None:
    fields.year = 2000 + int(text)


def _to_month(fields: _Fields, text: str) -> None:
    fields.month = int(text)


def _to_month_name(fields: _Fields, text: str) -> None:
    fields.month = MONTHS.index(text.capitalize()) + 1


def _to_day(fields: _Fields, text: str) -> None:
    fields.day = int(text)


def _to_day_name(fields: _Fields, text: str) -> None:
    """The day of the week adds nothing to a date."""


def _to_hour(fields: _Fields, text: str) -> None:
    fields.hour = int(text)


def _to_half_hour(fields: _Fields, text: str) -> None:
    if not 1 <= int(text) <= 12:
        raise EvaluationError("no such hour of half a day")
    fields.hour = int(text) % 12
    fields.half = fields.half or 0


def _to_half(fields: _Fields, text: str) -> None:
    fields.half = 12 if text.upper() == "PM" else 0


def _to_minute(fields: _Fields, text: str) -> None:
    fields.minute = int(text)


def _to_second(fields: _Fields, text: str) -> None:
    fields.second = int(text)


def _to_ms(fields: _Fields, text: str) -> None:
    fields.ms = int(text)


def _to_offset(fields: _Fields, text: str) -> None:
    fields.offset = read_offset(text)


_Show = Callable[[datetime], str]


_Take = Callable[[_Fields, str], None]


_NAMES_OF_MONTHS: Final = "|".join(MONTHS)


_NAMES_OF_DAYS: Final = "|".join(WEEKDAYS)


_HALF: Final = ("AM", "PM")


#: Each run of letters: how it is written, what it matches, what it means.
_LETTERS: Final[dict[str, tuple[_Show, str, _Take]]] = {
    "yyyy": (lambda t: f"{t.year:04d}", "[0-9]{4}", _to_year),
    "yy": (lambda t: f"{t.year % 100:02d}", "[0-9]{2}", _to_short_year),
    "MMM": (lambda t: MONTHS[t.month - 1], _NAMES_OF_MONTHS, _to_month_name),
    "MM": (lambda t: f"{t.month:02d}", "[0-9]{2}", _to_month),
    "M": (lambda t: str(t.month), "[0-9]{1,2}", _to_month),
    "dd": (lambda t: f"{t.day:02d}", "[0-9]{2}", _to_day),
    "d": (lambda t: str(t.day), "[0-9]{1,2}", _to_day),
    "HH": (lambda t: f"{t.hour:02d}", "[0-9]{2}", _to_hour),
    "H": (lambda t: str(t.hour), "[0-9]{1,2}", _to_hour),
    "hh": (lambda t: f"{t.hour % 12 or 12:02d}", "[0-9]{2}", _to_half_hour),
    "mm": (lambda t: f"{t.minute:02d}", "[0-9]{2}", _to_minute),
    "ss": (lambda t: f"{t.second:02d}", "[0-9]{2}", _to_second),
    "SSS": (lambda t: f"{t.microsecond // 1000:03d}", "[0-9]{3}", _to_ms),
    "a": (lambda t: _HALF[t.hour >= 12], "[AaPp][Mm]", _to_half),
    "EEE": (lambda t: WEEKDAYS[t.weekday()], _NAMES_OF_DAYS, _to_day_name),
    "X": (
        lambda t: offset_text(t, "", True, True),
        "[Zz]|[+-][0-9]{2}(?:[0-9]{2})?",
        _to_offset,
    ),
    "XX": (
        lambda t: offset_text(t, "", True, False),
        "[Zz]|[+-][0-9]{4}",
        _to_offset,
    ),
    "XXX": (
        lambda t: offset_text(t, ":", True, False),
        "[Zz]|[+-][0-9]{2}:[0-9]{2}",
        _to_offset,
    ),
    "Z": (
        lambda t: offset_text(t, "", False, False),
        "[+-][0-9]{4}",
        _to_offset,
    ),
}


class Pattern:
    """
    A compiled date pattern.

    Attributes:
        text: As it was written.
    """

    __slots__ = ("_expression", "_shows", "_takes", "text")

    def __init__(
        self,
        text: str,
        shows: list[str | _Show],
        expression: re.Pattern[str],
        takes: list[_Take],
    ):
        self.text = text
        self._shows = shows
        self._expression = expression
        self._takes = takes

    def format(self, ms: int, zone: tzinfo = UTC) -> str:
        """
        An instant as text, in a zone.

        Raises: EvaluationError: outside the years 1 to 9999.
        """
        moment = moment_in(ms, zone)
        return "".join(
            show if isinstance(show, str) else show(moment) for show in self._shows
        )

    def parse(self, text: str, zone: tzinfo = UTC) -> int:
        """
        Epoch milliseconds; fields the pattern lacks are those of 1970-01-01.

        Raises: EvaluationError: the text is not of this pattern.
        """
        match = self._expression.fullmatch(text)
        if match is None:
            raise EvaluationError(f"not a time of the pattern {self.text}")
        fields = _Fields()
        for take, found in zip(self._takes, match.groups()):
            take(fields, found)
        hour = fields.hour
        if fields.half is not None:
            hour = hour % 12 + fields.half
        clock_of(hour, fields.minute, fields.second, bool(fields.ms))
        return epoch_ms(
            day_of(fields.year, fields.month, fields.day),
            hour,
            fields.minute,
            fields.second,
            fields.ms,
            fields.offset,
            zone,
        )


def compile_pattern(text: str) -> Pattern:
    """
    Compile `yyyy-MM-dd'T'HH:mm:ss.SSSXXX` and the like.

    Raises: LanguageError: a letter that means nothing, a quote left open.
    """
    shows: list[str | _Show] = []
    expression: list[str] = []
    takes: list[_Take] = []
    at = 0
    while at < len(text):
        letter = text[at]
        if letter == "'":
            end = at + 1
            literal = ""
            while True:
                close = text.find("'", end)
                if close < 0:
                    raise LanguageError("a quote is not closed", at + 1)
                literal += text[end:close]
                end = close + 1
                # Two quotes are one, inside as well as alone.
                if text[end : end + 1] != "'" or close == at + 1:
                    break
                literal += "'"
                end += 1
            literal = literal or "'"
            shows.append(literal)
            expression.append(re.escape(literal))
            at = end
            continue
        if not (letter.isascii() and letter.isalpha()):
            shows.append(letter)
            expression.append(re.escape(letter))
            at += 1
            continue
        end = at
        while end < len(text) and text[end] == letter:
            end += 1
        run = text[at:end]
        if run not in _LETTERS:
            raise LanguageError(
                f"{run} is no part of a date pattern; text goes in quotes", at + 1
            )
        show, match, take = _LETTERS[run]
        shows.append(show)
        expression.append(f"({match})")
        takes.append(take)
        at = end
    return Pattern(text, shows, pattern("".join(expression), re.IGNORECASE), takes)
