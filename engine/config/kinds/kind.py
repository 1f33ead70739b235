"""
Kind: what every type of value has, and how a wrong one is refused.

Owns the protocol, the mistakes and the two questions that the syntax asks of a kind.

Path: here -> the kinds beside
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.config import grammar
from engine.later import later, pattern

if TYPE_CHECKING:
    import difflib
else:
    difflib = later("difflib")

#: The largest number a size or duration may be: a signed 64-bit integer.
INT64 = 2**63 - 1


#: RFC 9110 section 5.6.2.
TOKEN = pattern(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


#: A longer URL or header is refused.
URL_BYTES = 8192


TOPIC = pattern(r"[A-Za-z0-9._-]{1,249}")


EXPRESSION = pattern(r"\$\{(?:[^}'\"]|'[^']*'|\"[^\"]*\")*\}")


UNSENDABLE = pattern(r"[\x00-\x08\x0a-\x1f\x7f]")


class InvalidValue(ValueError):
    """
    A value that is not of its kind.

    Attributes:
        nearest: A value that may have been meant, or None.
        item: Which item of a list it is about, from 0, or None: the whole value.
        at: Where that item begins in the value's text, from 0, or None.
        each: Every mistake in the value; itself, where there is one.
    """

    def __init__(
        self,
        message: str,
        nearest: str | None = None,
        *,
        several: Sequence[InvalidValue] = (),
    ):
        super().__init__(message)
        self.nearest = nearest
        self.item: int | None = None
        self.at: int | None = None
        self.each: tuple[InvalidValue, ...] = tuple(several) or (self,)


class Mistakes:
    """
    Every mistake of a list, not only its first.

    `with mistakes.of(item):` around a check of one thing notes what is wrong
    with it and goes on behind.
    """

    def __init__(self) -> None:
        self._found: list[InvalidValue] = []

    @contextmanager
    def of(self, item: int) -> Iterator[None]:
        """Around one check of an item."""
        try:
            yield
        except InvalidValue as error:
            for one in error.each:
                one.item = item
                self._found.append(one)

    def close(self) -> None:
        """Raises: Unfit with all of them, if there are any."""
        if self._found:
            first = self._found[0]
            raise InvalidValue(str(first), first.nearest, several=self._found)


class Comment(Enum):
    """What a blank followed by `#` means inside a value."""

    #: It ends the value.
    ENDS = "ends"
    #: As ENDS, but quotes of either sort protect it.
    ENDS_OUTSIDE_QUOTES = "ends outside quotes"
    #: As ENDS, but `${...}` protects it.
    ENDS_OUTSIDE_TEMPLATE = "ends outside a template"
    #: It may be text or a comment, so it is refused.
    REFUSED = "refused"
    #: It is text.
    TEXT = "text"


class Kind(Protocol):
    """A type of value."""

    @property
    def allowed(self) -> str:
        """What is accepted, in a few words for people."""

    def read(self, text: str, near: Path) -> object:
        """
        The typed value.

        Args:
            text: Without escapes, comments and providers; not empty.
            near: The directory that relative files start at.

        Raises: Unfit.
        """


def comment_rule(kind: Kind | None) -> Comment:
    """How an inline comment is treated; an unknown key is the lenient case."""
    return getattr(kind, "comment", Comment.ENDS)


def is_template(kind: Kind | None) -> bool:
    """Whether `${...}` belongs to the value."""
    return getattr(kind, "template", False)


def fold(word: str) -> str:
    return word.upper().replace("-", "_")


def nearest(word: str, among: Sequence[str]) -> str | None:
    """The word of `among` that is most alike, or None."""
    folded = {other.lower(): other for other in among}
    found = difflib.get_close_matches(word.lower(), list(folded), 1, 0.6)
    return folded[found[0]] if found else None


def in_grammar(check: Callable[..., object], *args: object) -> object:
    try:
        return check(*args)
    except grammar.LanguageError as error:
        raise InvalidValue(str(error)) from error
