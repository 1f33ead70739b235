"""
Dialect: Python's regular expressions, written anew for RE2.

Owns the translation.  The standard library parses the expression; what each
single character of it stands for is asked of the standard library, too, and
written out as ranges: so `\\d`, `\\w`, `(?i)` and the like mean what they mean in
Python, whatever Unicode version RE2 was built with.  What RE2 cannot do is
refused by name.

Path: `regexes` -> here -> `faults`
"""

from __future__ import annotations

import re
import re._compiler as sre_compiler  # type: ignore[import-not-found]
import re._constants as sre  # type: ignore[import-not-found]
import re._parser as sre_parser  # type: ignore[import-not-found]
import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from engine.language.faults import LanguageError

#: RE2 refuses a repeat beyond this; longer ones are written one after the other.
_PIECE: Final = 1_000

#: The longest repeat, `a{9999}`.
REPEAT: Final = 10_000

#: Nesting of an expression.
DEPTH: Final = 100

#: Characters of a translation: past this RE2's own limit of memory is passed.
LONGEST: Final = 2_000_000

#: Different sets of characters in one expression.
SETS: Final = 512

Ranges = tuple[tuple[int, int], ...]

_WORD: Final = ((sre.CATEGORY, sre.CATEGORY_WORD),)

_LAST: Final = 0x10FFFF

_LOOK: Final = (
    "look-ahead and look-behind ((?=..), (?!..), (?<=..), (?<!..)) are only possible "
    "at the beginning of an expression, as (?=..) or (?!..); write the rest as a "
    "rule of its own"
)


class Lookaround(Struct, frozen=True):
    """
    What an expression asks of the text's beginning before it is matched.

    Attributes:
        positive: False for `(?!..)`.
        tokens: What is to begin the text, or not.
    """

    positive: bool
    tokens: Any


class Parsed(Struct, frozen=True):
    """
    An expression that RE2 can run.

    Attributes:
        looks: Looks ahead at the beginning, all of which must hold.
        body: The rest.
        flags: Of the whole expression.
        sets: What its single characters stand for, each once.
        longest: Characters of a text that it matches as a whole, at most.
        words: What is a word to its `\\b`, or None without one.
        ends: Whether it has a `$` that stands before a last line feed, too.
        anchored: Whether it begins at the text's beginning.
    """

    looks: tuple[Lookaround, ...]
    body: Any
    flags: int
    sets: tuple[Ranges, ...]
    longest: int
    words: Ranges | None
    ends: bool
    anchored: bool


def parse(text: str) -> Parsed:
    """
    Parse an expression in Python's grammar.

    Raises: LanguageError: no expression, or one that RE2 cannot run.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            warnings.simplefilter("error", DeprecationWarning)
            tree = sre_parser.parse(text)
    except re.error as e:
        raise LanguageError(f"no regular expression: {e.msg}", (e.pos or 0) + 1) from e
    except (FutureWarning, DeprecationWarning) as e:
        raise LanguageError(
            f"{e}: other engines read it otherwise; a backslash before the bracket or "
            "sign settles it"
        ) from e
    except (OverflowError, RecursionError, MemoryError) as e:
        raise LanguageError("a regular expression that is too large") from e
    flags = tree.state.flags
    tokens = list(tree)
    anchored = False
    looks = []
    while tokens:
        op, value = tokens[0]
        if op is sre.AT and value in (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING):
            if value is sre.AT_BEGINNING and flags & re.MULTILINE:
                break
            anchored = True
        elif op in (sre.ASSERT, sre.ASSERT_NOT) and value[0] == 1:
            looks.append(Lookaround(op is sre.ASSERT, value[1]))
        else:
            break
        tokens.pop(0)
    survey = _Survey()
    for part in (*(look.tokens for look in looks), tokens):
        survey.visit(part, flags, 0)
    if survey.multiline_end and survey.ends:
        raise LanguageError("a $ with and one without (?m) in one expression")
    if survey.multiline_begin and survey.ends:
        raise LanguageError("a ^ with (?m) and a $ without it in one expression")
    return Parsed(
        looks=tuple(looks),
        body=tokens,
        flags=flags,
        sets=tuple(survey.sets),
        longest=tree.getwidth()[1],
        words=survey.words,
        ends=survey.ends,
        anchored=anchored,
    )


def _within(flags: int, added: int, removed: int) -> int:
    """Flags inside `(?flags:..)`; of (?a) and (?u) the inner one counts."""
    if added & (re.ASCII | re.UNICODE):
        flags &= ~(re.ASCII | re.UNICODE)
    return (flags | added) & ~removed


class _Survey:
    """Looks for what needs care, and for what cannot be done at all."""

    def __init__(self) -> None:
        self.sets: dict[Ranges, None] = {}
        self.words: Ranges | None = None
        self.ends = False
        self.multiline_end = False
        self.multiline_begin = False

    def visit(self, tokens: Any, flags: int, depth: int) -> None:
        """Raises: LanguageError."""
        if depth > DEPTH:
            raise LanguageError("a regular expression that is nested too deep")
        for op, value in tokens:
            if op is sre.AT:
                self._at(value, flags)
            elif op is sre.BRANCH:
                for branch in value[1]:
                    self.visit(branch, flags, depth + 1)
            elif op is sre.SUBPATTERN:
                _, added, removed, inner = value
                self.visit(inner, _within(flags, added, removed), depth + 1)
            elif op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
                low, high, inner = value
                most = low if high is sre.MAXREPEAT else high
                if most > REPEAT:
                    raise LanguageError(f"a repeat of more than {REPEAT:,}")
                self.visit(inner, flags, depth + 1)
            elif op in (sre.GROUPREF, sre.GROUPREF_EXISTS):
                raise LanguageError(
                    "back-references (\\1, (?P=name)) and conditions on a group "
                    "((?(1)..)) are not possible: they cannot be matched in linear time"
                )
            elif op in (sre.ASSERT, sre.ASSERT_NOT):
                raise LanguageError(_LOOK)
            elif op is sre.FAILURE:
                raise LanguageError("(?!) never matches")
            elif op in (sre.ATOMIC_GROUP, sre.POSSESSIVE_REPEAT):
                raise LanguageError(
                    "atomic groups ((?>..)) and possessive repeats (a++) are not "
                    "possible; nothing backtracks here, so an ordinary one will do"
                )
            else:
                self.sets[members(op, value, flags)] = None
                if len(self.sets) > SETS:
                    raise LanguageError(
                        "a regular expression with too many different characters: "
                        f"at most {SETS}"
                    )

    def _at(self, value: Any, flags: int) -> None:
        if value in (sre.AT_BOUNDARY, sre.AT_NON_BOUNDARY):
            words = members(sre.IN, _WORD, flags & ~re.IGNORECASE)
            if self.words not in (None, words):
                raise LanguageError("a \\b with and one without (?a) in one expression")
            self.words = words
        elif value is sre.AT_END:
            if flags & re.MULTILINE:
                self.multiline_end = True
            else:
                self.ends = True
        elif value is sre.AT_BEGINNING and flags & re.MULTILINE:
            self.multiline_begin = True


def written(
    tokens: Any, flags: int, spell: Callable[[Ranges], str], *, last_line: bool
) -> str:
    """
    The expression in RE2's grammar; every flag is written out in it.

    Args:
        spell: The text for one character out of some ranges.
        last_line: A line feed of the text is its last character, or is none to RE2;
            a `$` stands before it, too.

    Raises: LanguageError: an expression whose translation is too large.
    """
    pieces: list[str] = []
    size = 0
    for piece in _sequence(tokens, flags, spell, last_line):
        size += len(piece)
        if size > LONGEST:
            raise LanguageError("a regular expression that is too large")
        pieces.append(piece)
    return "".join(pieces)


def _sequence(
    tokens: Any, flags: int, spell: Callable[[Ranges], str], last_line: bool
) -> Iterator[str]:
    for op, value in tokens:
        if op is sre.AT:
            yield _place(value, flags, last_line)
        elif op is sre.BRANCH:
            yield "(?:"
            for number, branch in enumerate(value[1]):
                if number:
                    yield "|"
                yield from _sequence(branch, flags, spell, last_line)
            yield ")"
        elif op is sre.SUBPATTERN:
            _, added, removed, inner = value
            yield "(?:"
            within = _within(flags, added, removed)
            yield from _sequence(inner, within, spell, last_line)
            yield ")"
        elif op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            low, high, inner = value
            text = written(inner, flags, spell, last_line=last_line)
            yield from _repeated(text, low, None if high is sre.MAXREPEAT else high)
        else:
            yield spell(members(op, value, flags))


def _repeated(text: str, low: int, high: int | None) -> Iterator[str]:
    """Pieces of at most a thousand; which of them takes what makes no difference."""
    text = f"(?:{text})"
    while low > _PIECE:
        yield f"{text}{{{_PIECE}}}"
        low -= _PIECE
        high = None if high is None else high - _PIECE
    if high is None:
        yield f"{text}{{{low},}}"
        return
    while high > _PIECE:
        yield f"{text}{{{low},{_PIECE}}}"
        high -= _PIECE
        low = 0
    yield f"{text}{{{low},{high}}}"


def _place(value: Any, flags: int, last_line: bool) -> str:
    if value is sre.AT_BEGINNING:
        return "(?m:^)" if flags & re.MULTILINE else r"\A"
    if value is sre.AT_BEGINNING_STRING:
        return r"\A"
    if value is sre.AT_END_STRING:
        return r"\z"
    if value is sre.AT_END:
        return "(?m:$)" if last_line or flags & re.MULTILINE else r"\z"
    return r"\b" if value is sre.AT_BOUNDARY else r"\B"


def members(op: Any, value: Any, flags: int) -> Ranges:
    """Which characters one character of an expression stands for."""
    if op is sre.ANY:
        return ((0, _LAST),) if flags & re.DOTALL else ((0, 9), (11, _LAST))
    if not flags & re.IGNORECASE:
        if op is sre.LITERAL:
            return ((value, value),)
        if op is sre.NOT_LITERAL:
            return _others(((value, value),))
        if op is sre.IN and all(
            kind in (sre.LITERAL, sre.RANGE, sre.NEGATE) for kind, _ in value
        ):
            plain = _joined(
                (of, of) if kind is sre.LITERAL else of
                for kind, of in value
                if kind is not sre.NEGATE
            )
            return _others(plain) if value[0][0] is sre.NEGATE else plain
    key = tuple(value) if op is sre.IN else value
    return _asked(op, key, flags & (re.IGNORECASE | re.ASCII | re.UNICODE))


@lru_cache(maxsize=256)
def _asked(op: Any, value: Any, flags: int) -> Ranges:
    """Which characters the standard library takes, one run after the other."""
    state = sre_parser.State()
    state.flags = flags
    one = sre_parser.SubPattern(state, [(op, list(value) if op is sre.IN else value)])
    several = sre_parser.SubPattern(state, [(sre.MAX_REPEAT, (1, sre.MAXREPEAT, one))])
    expression = sre_compiler.compile(several, flags)
    return tuple(
        (_first(found.start()), _first(found.end()) - 1)
        for found in expression.finditer(_every())
    )


#: The planes without letters are asked of by one character each: (first, end).
_EMPTY: Final = ((0x40000, 0xE0000), (0xE1000, _LAST + 1))


@lru_cache(maxsize=1)
def _every() -> str:
    """Every character that may be of a class, in order; about 1 MB."""
    (low, after), (last, _) = _EMPTY
    points = array("I", (*range(low + 1), *range(after, last + 1)))
    return points.tobytes().decode("utf-32-le", "surrogatepass")


def _first(at: int) -> int:
    """The first code point that the character at that place of `_every` is for."""
    (low, after), (last, end) = _EMPTY
    if at <= low:
        return at
    point = after + at - low - 1
    return point if point <= last else end


def _joined(ranges: Iterator[tuple[int, int]]) -> Ranges:
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)


def _others(ranges: Sequence[tuple[int, int]]) -> Ranges:
    found = []
    at = 0
    for low, high in ranges:
        if at < low:
            found.append((at, low - 1))
        at = high + 1
    if at <= _LAST:
        found.append((at, _LAST))
    return tuple(found)
