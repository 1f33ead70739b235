"""
Regexes: expressions out of a configuration, tried before they are trusted.

Owns the budget: an expression whose time explodes on a hostile sample is
refused when it is loaded, not found out by a hanging task.

Path: `transform`, `config` -> here -> `faults`
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from engine.clock import thread_cpu
from engine.language.faults import LanguageError
from engine.language.paths import LONGEST

#: Seconds of CPU for all trials of one expression.
BUDGET: Final = 1.0

#: One trial that would take longer than this share of it is not begun.
_SHARE: Final = 0.5

#: Samples grow by one piece up to here, where exponential time must show.
_SMALL: Final = 100

#: The longest sample.  Growth up to here shows exponential and cubic time.
_LONGEST_SAMPLE: Final = 2048


@lru_cache(maxsize=1024)
def compile_regex(text: str, budget: float = BUDGET) -> re.Pattern[str]:
    """
    Compile an expression that is to match whole texts.

    Blocks: at most about `budget` seconds of CPU, on the samples.

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
    started = thread_cpu()
    with _alarm(budget):
        for piece in _pieces(expression.pattern):
            length, before, last = 1, 0.0, 0.0
            while length * len(piece) <= _LONGEST_SAMPLE:
                # The time of the next trial, if it grows as it did: mostly
                # exponential time is stopped before the trial that would hurt.
                growth = max(2.0, last / before) if before > 1e-5 else 2.0
                begun = thread_cpu()
                if last * growth > budget * _SHARE or begun - started > budget:
                    raise _endless()
                expression.fullmatch(piece * length + "\0")
                before, last = last, thread_cpu() - begun
                length = length + 1 if length < _SMALL else length * 5 // 4


@contextmanager
def _alarm(budget: float) -> Iterator[None]:
    """
    End a trial in the middle once the process has spent its budget of CPU.

    An expression may go from no time to hours in one step.  Matching looks
    for signals now and then, and only the main thread may set what one does;
    elsewhere growth is all there is to go by.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise _endless()

    former = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, budget)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)


def _endless() -> LanguageError:
    return LanguageError(
        "a regular expression that may backtrack without end; make its repeats"
        " exclude each other"
    )


def _pieces(pattern: str) -> list[str]:
    """Runs worth trying: each letter and digit of it, and the usual classes."""
    pieces = ["a", "0", " ", "A", "-", "a."]
    for character in dict.fromkeys(pattern):
        if character.isalnum() and character not in pieces and len(pieces) < 16:
            pieces.append(character)
    words = re.findall(r"[A-Za-z0-9]{2,16}", pattern)
    return pieces + list(dict.fromkeys(words))[:4]
