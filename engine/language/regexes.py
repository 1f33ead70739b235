"""
Regexes: expressions out of a configuration, run by an engine that never backtracks.

Owns the one way by which a pattern of a user meets data (GATE re2): time and memory
grow with the text, whatever the pattern and whoever wrote the text.  The grammar and
the meaning are those of Python's `re`; what cannot be had so is refused when it is
read, by name.

Path: `transform`, `config`, `source`, `sink` -> here -> `dialect`, `faults`
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import re2

from engine.language.alphabet import Alphabet, ascii_spelt
from engine.language.dialect import Parsed, Ranges, parse, written
from engine.language.faults import EvaluationError, LanguageError
from engine.language.paths import LONGEST

#: Bytes of memory for one compiled expression, and for matching it.
MEMORY: Final = 8 * 1024 * 1024


#: Bytes of text times steps of the program.  A step takes about 10 ns where the
#: engine cannot use its quick way, so one match ends within about ten seconds.
STEPS: Final = 1_000_000_000

_WHOLE: Final = re2._re2.RE2.Anchor.ANCHOR_BOTH
_START: Final = re2._re2.RE2.Anchor.ANCHOR_START
_ANYWHERE: Final = re2._re2.RE2.Anchor.UNANCHORED


class Regex:
    """
    An expression that was compiled.

    Attributes:
        pattern: As it was written.
    """

    __slots__ = ("_alphabet", "_ends", "_longest", "_narrow", "_wide", "pattern")

    def __init__(self, pattern: str, parsed: Parsed):
        self.pattern = pattern
        self._ends = parsed.ends
        self._longest = parsed.longest
        self._narrow = _Program(parsed, ascii_spelt, last_line=False)
        self._alphabet = Alphabet(parsed.sets, parsed.words)
        self._wide = _Program(parsed, self._alphabet.spelt, last_line=parsed.ends)

    def matches(self, text: str) -> bool:
        """
        True if the whole of `text` is what the expression says.

        Blocks: at most about ten seconds, a microsecond or two as a rule.

        Raises: EvaluationError: a text too long for so large an expression.
        """
        if len(text) > self._longest:
            return False
        return self._run(_WHOLE, text)

    def found_in(self, text: str) -> bool:
        """True if the expression matches somewhere in `text`; else as `matches`."""
        return self._run(_ANYWHERE, text)

    def _run(self, anchor: Any, text: str) -> bool:
        if text.isascii() and not (self._ends and text[-1:] == "\n"):
            return self._narrow.run(anchor, text.encode())
        raw = self._alphabet.read(text, last_line=self._ends)
        return self._wide.run(anchor, raw)

    def __repr__(self) -> str:
        return f"Regex({self.pattern!r})"


class _Program:
    """One translation, for texts of one alphabet."""

    __slots__ = ("_looks", "_match", "_most", "_search")

    def __init__(
        self, parsed: Parsed, spell: Callable[[Ranges], str], *, last_line: bool
    ):
        def write(tokens: Any) -> str:
            return written(tokens, parsed.flags, spell, last_line=last_line)

        body = write(parsed.body)
        self._match, self._most = _compiled(body)
        self._search = self._match
        if parsed.anchored:
            self._search, _ = _compiled(rf"\A(?:{body})")
        self._looks = []
        for look in parsed.looks:
            program, most = _compiled(write(look.tokens))
            self._most = min(most, self._most)
            self._looks.append((look.positive, program))

    def run(self, anchor: Any, raw: bytes) -> bool:
        end = len(raw)
        if end > self._most:
            raise EvaluationError(
                f"a text of {end:,} characters is too long for this expression: at "
                f"most {self._most:,}"
            )
        program = self._match if anchor is _WHOLE else self._search
        # Its one span is (-1, -1) where nothing was found.
        if program(anchor, raw, 0, end)[0][0] < 0:
            return False
        for positive, look in self._looks:
            if (look(_START, raw, 0, end)[0][0] >= 0) != positive:
                return False
        return True


@lru_cache(maxsize=1024)
def compile_regex(text: str, *, anywhere: bool = False) -> Regex:
    """
    Compile an expression in the grammar of Python's `re`.

    Args:
        anywhere: It will be looked for in a text, not held against the whole.

    Blocks: at most about a second of CPU, for one as large as may be.

    Raises: LanguageError: no expression, or one that cannot be matched in linear
        time (back-references, look-behind), or one that is too large.
    """
    if len(text) > LONGEST:
        raise LanguageError(f"an expression is at most {LONGEST} characters")
    parsed = parse(text)
    if anywhere and parsed.looks and not parsed.anchored:
        raise LanguageError(
            "a look-ahead in an expression that may match anywhere: begin it with ^"
        )
    try:
        return Regex(text, parsed)
    except RecursionError as e:
        raise LanguageError("a regular expression that is nested too deep") from e


def _compiled(text: str) -> tuple[Any, int]:
    """(what matches, bytes of text it is given at most)."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = MEMORY
    options.log_errors = False
    options.never_capture = True
    try:
        program = re2.compile(text.encode(), options)
    except re2.error as e:
        said = e.args[0].decode(errors="replace") if e.args else ""
        if "repetition" in said:
            raise LanguageError(
                "repeats within repeats that come to more than 1,000"
            ) from e
        raise LanguageError("a regular expression that is too large") from e
    # The wrapper's own methods make four objects a call: 2.6 us where this is 1.0.
    return program._regexp.Match, STEPS // max(1, program.programsize)
