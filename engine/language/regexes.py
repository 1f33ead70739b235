"""
Regexes: expressions out of a configuration, tried before they are trusted.

Owns the budget: an expression whose time explodes on a hostile sample is
refused when it is loaded, not found out by a hanging task.

Path: `transform`, `config` -> here -> `faults`
"""

from __future__ import annotations

import re
from typing import Final

from engine.clock import SYSTEM
from engine.language.faults import LanguageError
from engine.language.paths import LONGEST

#: Seconds for all trials of one expression.
BUDGET: Final = 1.0

#: One trial that would take longer than this share of it is not begun.
_SHARE: Final = 0.5

#: The longest sample.  Growth up to here shows exponential and cubic time.
_LONGEST_SAMPLE: Final = 2048


def compile_regex(text: str, budget: float = BUDGET) -> re.Pattern[str]:
    """
    Compile an expression that is to match whole texts.

    Blocks: at most about `budget` seconds, on the samples.

    Raises: LanguageError: no expression, or one that backtracks without end.
    """
    if len(text) > LONGEST:
        raise LanguageError(f"an expression is at most {LONGEST} characters")
    try:
        expression = re.compile(text)
    except re.error as e:
        raise LanguageError(f"no regular expression: {e.msg}", (e.pos or 0) + 1) from e
    except (OverflowError, RecursionError, MemoryError) as e:
        raise LanguageError("a regular expression that is too large") from e
    if any(mark in text for mark in "*+{?"):
        _try(expression, budget)
    return expression


def _try(expression: re.Pattern[str], budget: float) -> None:
    """Grow runs of what the expression likes, ended by what it cannot like."""
    started = SYSTEM.monotonic()
    for piece in _pieces(expression.pattern):
        length, before, last = 1, 0.0, 0.0
        while length * len(piece) <= _LONGEST_SAMPLE:
            # The time of the next trial, if it grows as it did: a doubling
            # exponential is stopped one trial before it would hurt.
            growth = max(2.0, last / before) if before > 1e-5 else 2.0
            if last * growth > budget * _SHARE:
                raise _endless()
            begun = SYSTEM.monotonic()
            expression.fullmatch(piece * length + "\0")
            now = SYSTEM.monotonic()
            before, last = last, now - begun
            if now - started > budget:
                raise _endless()
            length = length + 1 if length < 40 else length * 2


def _endless() -> LanguageError:
    return LanguageError(
        "a regular expression that may backtrack without end; make its repeats"
        " exclude each other"
    )


def _pieces(pattern: str) -> list[str]:
    """Runs worth trying: each letter and digit of it, and the usual classes."""
    pieces = ["a", "0", " ", "A", "-", ".", "a.", "0.", "a ", "a@"]
    for character in dict.fromkeys(pattern):
        if character not in pieces and len(pieces) < 40:
            pieces.append(character)
    words = re.findall(r"[A-Za-z0-9]{2,16}", pattern)
    return pieces + list(dict.fromkeys(words))[:10]
