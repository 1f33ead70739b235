"""
Grammar: the small languages inside values, checked when they are loaded.

Owns nothing but the door: every check compiles with the language that will
run later and throws the result away, so that what loads also runs.

Path: ``kinds`` and ``shapes`` -> here -> ``engine.language``
"""

from __future__ import annotations

from engine.language import (
    RECORD_NAMES,
    REQUEST_NAMES,
    LanguageError,
    compile_glob,
    compile_path,
    compile_pattern,
    compile_regex,
    compile_template,
    text_codec,
)
from engine.language.cron import compile_cron
from engine.language.instants import FORMATS

__all__ = [
    "FORMATS",
    "RECORD_NAMES",
    "REQUEST_NAMES",
    "LanguageError",
    "charset",
    "cron",
    "glob",
    "hyphenated",
    "path",
    "pattern",
    "regex",
    "template",
]


def path(text: str) -> None:
    """Check a path.  Raises: LanguageError."""
    compile_path(text)


def template(text: str, names: frozenset[str]) -> frozenset[str]:
    """The names that text with `${...}` asks for.  Raises: LanguageError."""
    return compile_template(text, names).names


def hyphenated(text: str, names: frozenset[str]) -> tuple[str, ...]:
    """The unquoted names with a hyphen in `${...}`.  Raises: LanguageError."""
    return compile_template(text, names).hyphenated


def glob(text: str) -> None:
    """Check a glob.  Raises: LanguageError."""
    compile_glob(text)


def pattern(text: str) -> None:
    """Check a date pattern.  Raises: LanguageError."""
    compile_pattern(text)


def regex(text: str) -> None:
    """
    Check a regular expression.

    Raises: LanguageError.
    """
    compile_regex(text)


def charset(text: str) -> str | None:
    """The codec of a charset's name, or None."""
    return text_codec(text)


def cron(text: str) -> str:
    """The schedule as six fields, seconds first.  Raises: LanguageError."""
    return compile_cron(text)
