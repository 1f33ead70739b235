"""
Cron: when something is due, six fields with seconds first.

Owns the spelling: five fields mean second 0, `?` is `*`, and the macros are
written out, so that whoever computes ticks is given one form only.  It knows
no clock and no zone.

Path: `config` checks with it, `task.pace` computes ticks of what it gives
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from cronsim import CronSim, CronSimError

from engine.language.faults import LanguageError
from engine.later import pattern

_MACROS: Final = {
    "@hourly": "0 0 * * * *",
    "@daily": "0 0 0 * * *",
    "@weekly": "0 0 0 * * 0",
    "@monthly": "0 0 0 1 * *",
    "@yearly": "0 0 0 1 1 *",
}

_FIELDS: Final = ("second", "minute", "hour", "day of month", "month", "day of week")
_NAMES: Final = pattern(
    r"\b(?:MON|TUE|WED|THU|FRI|SAT|SUN|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)\b"
)


def compile_cron(text: str) -> str:
    """
    The schedule as six fields, seconds first, in capital letters.

    Raises: LanguageError, at the column of the field.
    """
    text = _MACROS.get(text.strip().lower(), text)
    if text.lstrip().startswith("@"):
        raise LanguageError(f"a macro is one of {', '.join(_MACROS)}")
    fields = text.upper().replace("?", "*").split()
    if len(fields) not in (5, 6):
        raise LanguageError("six fields, seconds first, or five for second 0")
    names = _FIELDS[-len(fields) :]
    for field, name in zip(fields, names, strict=True):
        if re.search("[LW#]", _NAMES.sub("", field)):
            column = text.upper().replace("?", "*").find(field) + 1
            raise LanguageError(f"L, W and # are not available ({name})", column)
    if len(fields) == 5:
        fields.insert(0, "0")
    schedule = " ".join(fields)
    try:
        CronSim(schedule, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise LanguageError(f"{error}, in {schedule!r}".lower(), 1) from error
    return schedule
