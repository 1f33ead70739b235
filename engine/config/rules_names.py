"""
Rules of names: a template's first word that is nearly one of the names that hold.

Owns the warning for `${recrod.id}`: where any other word is a path in the record, a
slip of the pen is no error, and every key would be empty for ever.

Path: ``rules`` -> here
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.config import grammar
from engine.config.scope import Scope
from engine.config.values import Api, Connector
from engine.later import pattern

#: Keys whose templates take any other word for a path in the record.
_KEYS = (
    "kafka.topic",
    "kafka.key",
    "kafka.timestamp",
    "kafka.headers",
    "transformation.enrichment.rules",
)

#: Names shorter than this are one letter away from too many ordinary words.
_LEAST = 5

_EXPRESSION = pattern(r"\$\{([^}]*)\}?")
_QUOTED = pattern(r"\\?\"[^\"]*\"|'[^']*'")

#: A word that begins a path: not a step of one, and no function.
_FIRST = pattern(r"(?<![\w.\]\-$])([A-Za-z_]\w*)(?![\w(]|\s+\()")


def first_words_are_meant(s: Scope, api: Api, connector: Connector) -> None:
    for key in _KEYS:
        entry = s.values.entry(key)
        if entry is None:
            continue
        for word, name in sorted(set(_slips(entry.text))):
            s.warn(
                key,
                f"{word} is read as a field of the record; did you mean {name}? "
                f"(record.{word} says that the field is meant)",
            )


def _slips(text: str) -> Iterator[tuple[str, str]]:
    """Each first word that is one slip away from a name, and that name."""
    known = {name.partition(".")[0] for name in grammar.RECORD_NAMES} - {"*"}
    for expression in _EXPRESSION.findall(text):
        for word in _FIRST.findall(_QUOTED.sub("''", expression)):
            if word in known:
                continue
            for name in sorted(known):
                if len(name) >= _LEAST and one_slip(word, name):
                    yield word, name


def one_slip(word: str, name: str) -> bool:
    """Whether one letter more, less, other or two exchanged make the one the other."""
    if word.lower() == name.lower():
        return word != name
    short, long = sorted((word, name), key=len)
    if len(long) - len(short) > 1:
        return False
    at = next(
        (i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b),
        len(short),
    )
    if len(short) < len(long):
        return short[at:] == long[at + 1 :]
    exchanged = short[at : at + 2] == long[at : at + 2][::-1]
    return short[at + 1 :] == long[at + 1 :] or (
        exchanged and short[at + 2 :] == long[at + 2 :]
    )
