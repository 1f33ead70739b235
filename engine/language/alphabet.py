"""
Alphabet: all characters in at most 256 letters, as many as an expression tells apart.

Owns how a text becomes the bytes that an expression is run over.  To an expression
like `\\w+@\\w+` there are three kinds of characters; a byte each for them makes its
program some hundred times smaller than one that spells out Unicode in UTF-8, and
lets RE2's `\\b`, which knows ASCII words only, be that of Python.

Path: `regexes` -> here -> `dialect`
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from engine.language.dialect import Ranges
from engine.language.faults import LanguageError

#: Bytes that are part of a word to RE2, and the others; 10 ends a line.
_WORD: Final = bytes(b for b in range(128) if chr(b).isalnum() or b == 95)
_OTHER: Final = bytes(b for b in range(256) if b not in _WORD and b != 10)

#: Characters whose letter is remembered.
_REMEMBERED: Final = 10_000


class Alphabet(dict[int, int]):
    """
    Letter by code point, found out as it is asked for.

    Args:
        sets: What the expression tells apart.
        words: What is a word, where it matters to the expression.

    Raises: LanguageError: more than 250 kinds of characters.
    """

    def __init__(self, sets: Sequence[Ranges], words: Ranges | None) -> None:
        super().__init__()
        told = list(sets) if words is None else [*sets, words]
        ends: dict[int, int] = {0: 0, 10: 0, 11: 0}
        for number, ranges in enumerate(told):
            for low, high in ranges:
                ends[low] = ends.get(low, 0) ^ 1 << number
                ends[high + 1] = ends.get(high + 1, 0) ^ 1 << number
        self._starts = sorted(ends)
        self._letters = bytearray()
        free = {True: iter(_WORD), False: iter(_OTHER)}
        known: dict[int, int] = {}
        mask = 0
        for start in self._starts:
            mask ^= ends[start]
            if start == 10:
                self._letters.append(10)
                continue
            if mask not in known:
                word = words is not None and bool(mask >> len(sets) & 1)
                letter = next(free[word], None)
                if letter is None and words is None:
                    letter = next(free[not word], None)
                if letter is None:
                    raise LanguageError(
                        "a regular expression with too many different characters: "
                        f"at most {255 if words is None else len(_WORD)}"
                    )
                known[mask] = letter
            self._letters.append(known[mask])
        #: What a line feed is that does not end the last line.
        self._inner = next(free[False], None)
        if self._inner is None:
            raise LanguageError("a regular expression with too many characters")

    def __missing__(self, point: int) -> int:
        letter = self._letters[bisect_right(self._starts, point) - 1]
        if len(self) < _REMEMBERED:
            self[point] = letter
        return letter

    def spelt(self, ranges: Ranges) -> str:
        """One letter out of some of the ranges the alphabet was made of."""
        letters = set()
        starts = self._starts
        for low, high in ranges:
            at = bisect_right(starts, low) - 1
            while at < len(starts) and starts[at] <= high:
                letters.add(self._letters[at])
                at += 1
        if 10 in letters and self._inner is not None:
            letters.add(self._inner)
        return byte_class(letters)

    def read(self, text: str, *, last_line: bool) -> bytes:
        """
        The text in letters, one byte for each character.

        Args:
            last_line: A line feed that is not the last character ends no line.
        """
        raw = text.translate(self).encode("latin-1")
        if last_line and 10 in raw[:-1]:
            inner = bytes((self._inner or 0,))
            raw = raw[:-1].replace(b"\n", inner) + raw[-1:]
        return raw


def ascii_spelt(ranges: Ranges) -> str:
    """One byte out of the ASCII characters of some ranges."""
    return byte_class(
        {b for low, high in ranges for b in range(low, min(high, 127) + 1)}
    )


def byte_class(members: set[int]) -> str:
    """A class of bytes in RE2's grammar."""
    shown: list[list[int]] = []
    for byte in sorted(members):
        if shown and shown[-1][1] == byte - 1:
            shown[-1][1] = byte
        else:
            shown.append([byte, byte])
    if not shown:
        return r"[^\x00-\xff]"
    return "[" + "".join(f"\\x{low:02x}-\\x{high:02x}" for low, high in shown) + "]"
