"""
Grammar: the small languages inside values, checked when they are loaded.

Owns nothing but the door: every check compiles with the language that will
run later and throws the result away, so that what loads also runs.

Path: ``kinds`` and ``shapes`` -> here -> ``engine.language``
"""

from __future__ import annotations

import re


class LanguageError(ValueError):
    """Text that is not of its language."""


#: Names that a request's templates may use (url, params, body, headers).
REQUEST_NAMES = frozenset(
    [
        "offset",
        "cursor",
        "page",
        "limit",
        "last",
        "window",
        "entityName",
        "parent_value",
        "parent",
        "api",
        "connector",
        "task",
        "now",
        "today",
        "yesterday",
        "uuid",
        "env",
    ]
)


def path(text: str) -> None:
    """Check a path.  Raises: LanguageError."""
    if text.startswith("/") and re.search(r"~(?![01])", text):
        raise LanguageError("in a pointer '~' is written ~0")


def template(text: str, names: frozenset[str] | None, place: str | None = None) -> None:
    """
    Check text with `${...}`.

    Args:
        names: Names it may use; None: any path of a record, too.
    Raises: LanguageError.
    """
    at = 0
    while (begin := text.find("${", at)) >= 0:
        if begin and text[begin - 1] == "$":
            at = begin + 2
            continue
        end = text.find("}", begin)
        if end < 0:
            raise LanguageError(f"'${{' without '}}' at column {begin + 1}")
        at = end


def glob(text: str) -> None:
    """Check a glob.  Raises: LanguageError."""
    if text.count("[") > text.count("]"):
        raise LanguageError("'[' without ']'")


def pattern(text: str) -> None:
    """Check a date pattern.  Raises: LanguageError."""


def regex(text: str) -> None:
    """Check a regular expression.  Raises: LanguageError."""
    try:
        re.compile(text)
    except re.error as error:
        raise LanguageError(f"not a regular expression: {error}") from error


def cron(text: str) -> str:
    """The schedule as six fields, seconds first.  Raises: LanguageError."""
    fields = text.split()
    if len(fields) == 5:
        fields.insert(0, "0")
    if len(fields) != 6:
        raise LanguageError("six fields, seconds first, or five")
    return " ".join(fields).replace("?", "*")


def target(text: str) -> tuple[str, ...]:
    """
    The steps of a path that is written to: names only, no index.

    Raises: LanguageError.
    """
    steps = re.findall(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[^.\[\]'\"]+", text)
    if re.search(r"\[[^'\"]*\]", re.sub(r"'[^']*'|\"[^\"]*\"", "", text)):
        raise LanguageError("a target has names only, no index")
    return tuple(
        step[1:-1].replace(step[0] * 2, step[0]) if step[0] in "'\"" else step
        for step in steps
    )
