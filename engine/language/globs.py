"""
Globs: which URLs a pattern means.

Owns the wildcards.  Matching is by sets of states, never by backtracking, so
that no pattern is slow.

Path: `config`, `source` -> here -> `faults`
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from engine.language.faults import LanguageError
from engine.language.paths import LONGEST

_Test = Callable[[str], bool]


def _any(character: str) -> bool:
    return True


def _within(character: str) -> bool:
    return character != "/"


class _Runs:
    """A wildcard for a run: which characters may be in it."""

    __slots__ = ("test",)

    def __init__(self, test: _Test):
        self.test = test


_ACROSS: Final = _Runs(_any)
_INSIDE: Final = _Runs(_within)


def has_wildcards(text: str) -> bool:
    """False if the pattern means exactly one text."""
    return any(
        isinstance(token, _Runs) or token is _within or isinstance(token, re.Pattern)
        for token in _tokens(text)
    )


def compile_glob(text: str) -> Callable[[str], bool]:
    """
    Compile a pattern into a test of whole strings, without case.

    `*` is a run without `/`, `**` and a `*` at the very end any run, `?` one
    character and `[a-m]`, `[!a-m]` one of a set, none of them `/`; a
    backslash takes the next character as it is.

    Raises: LanguageError: a set left open, empty or upside down.
    """
    tokens = _tokens(text)
    if not any(isinstance(token, _Runs) for token in tokens):
        return _fixed(tokens)
    last = len(tokens)

    def closure(states: set[int]) -> set[int]:
        """A run may be empty."""
        for state in sorted(states):
            while state < last and isinstance(tokens[state], _Runs):
                state += 1
                states.add(state)
        return states

    def matches(candidate: str) -> bool:
        states = closure({0})
        for character in candidate:
            after = set()
            for state in states:
                if state == last:
                    continue
                token = tokens[state]
                if isinstance(token, _Runs):
                    if token.test(character):
                        after.add(state)
                elif _takes(token, character):
                    after.add(state + 1)
            if not after:
                return False
            states = closure(after)
        return last in states

    return matches


def compile_wildcards(text: str) -> Callable[[str], bool]:
    """
    Compile a pattern of JMX's object names into a test of whole strings.

    `*` is any run and `?` any character, all else itself, case included.  Takes at
    most as many steps as pattern times text has characters.
    """
    pieces = text.split("*")

    def fits(piece: str, candidate: str, at: int) -> bool:
        return at + len(piece) <= len(candidate) and all(
            sign in ("?", candidate[at + offset]) for offset, sign in enumerate(piece)
        )

    def matches(candidate: str) -> bool:
        first, last = pieces[0], pieces[-1]
        if len(pieces) == 1:
            return len(candidate) == len(first) and fits(first, candidate, 0)
        at, end = len(first), len(candidate) - len(last)
        if end < at or not fits(first, candidate, 0) or not fits(last, candidate, end):
            return False
        # The earliest place is as good as any later one: a run is in between.
        for piece in filter(None, pieces[1:-1]):
            while at + len(piece) <= end and not fits(piece, candidate, at):
                at += 1
            if at + len(piece) > end:
                return False
            at += len(piece)
        return at <= end

    return matches


_Token = _Runs | _Test | str | re.Pattern[str]


def _takes(token: _Token, character: str) -> bool:
    if isinstance(token, str):
        return token == character.casefold()
    if isinstance(token, re.Pattern):
        return character != "/" and token.fullmatch(character) is not None
    assert not isinstance(token, _Runs)
    return token(character)


def _fixed(tokens: list[_Token]) -> Callable[[str], bool]:
    def matches(candidate: str) -> bool:
        return len(candidate) == len(tokens) and all(
            _takes(token, character) for token, character in zip(tokens, candidate)
        )

    return matches


def _tokens(text: str) -> list[_Token]:
    if len(text) > LONGEST:
        raise LanguageError(f"a pattern is at most {LONGEST} characters")
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        character = text[at]
        if character == "*":
            end = at
            while end < len(text) and text[end] == "*":
                end += 1
            across = end - at > 1 or end == len(text)
            tokens.append(_ACROSS if across else _INSIDE)
            at = end
        elif character == "?":
            tokens.append(_within)
            at += 1
        elif character == "[":
            token, at = _set(text, at)
            tokens.append(token)
        elif character == "\\":
            if at + 1 == len(text):
                raise LanguageError("nothing follows the backslash", at + 1)
            tokens.append(text[at + 1].casefold())
            at += 2
        else:
            tokens.append(character.casefold())
            at += 1
    return tokens


def _set(text: str, at: int) -> tuple[re.Pattern[str], int]:
    """`[abc]`, `[a-m]` or `[!a-m]` from `at`; a `]` first in it is itself."""
    start = at + 1
    negated = text[start : start + 1] == "!"
    start += negated
    parts: list[str] = []
    here = start
    while True:
        if here >= len(text):
            raise LanguageError("a [ is not closed", at + 1)
        if text[here] == "]" and here > start:
            break
        low, here = _member(text, here, at)
        high = low
        if text[here : here + 1] == "-" and text[here + 1 : here + 2] not in ("]", ""):
            high, here = _member(text, here + 1, at)
            if high < low:
                raise LanguageError(f"{low}-{high} is upside down", here - 2)
        parts.append(f"{re.escape(low)}-{re.escape(high)}")
    body = "".join(parts)
    expression = f"[{'^' if negated else ''}{body}]"
    return re.compile(expression, re.IGNORECASE), here + 1


def _member(text: str, at: int, opening: int) -> tuple[str, int]:
    if text[at] == "\\":
        at += 1
        if at >= len(text):
            raise LanguageError("a [ is not closed", opening + 1)
    return text[at], at + 1
