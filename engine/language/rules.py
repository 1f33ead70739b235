"""
Rules: what a mapping, an enrichment, a filter and a check may say.

Owns the words: types, operators with the members that each takes, checks, and how many
and how deep.  `rulecheck` finds by them what is wrong; `transform` compiles what is good.

Path: here -> `rulecheck`, `transform.conditions`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Most rules of one kind.
MOST_RULES: Final = 10_000

#: Filters within filters.
MOST_NESTING: Final = 32

#: What the value of a mapped field becomes.
MAPPING_TYPES: Final = (
    "STRING",
    "INTEGER",
    "LONG",
    "DOUBLE",
    "BOOLEAN",
    "TIMESTAMP",
    "OBJECT",
    "ARRAY",
)

#: What a validated field is.
VALIDATION_TYPES: Final = (
    "NUMERIC",
    "STRING",
    "INTEGER",
    "BOOLEAN",
    "OBJECT",
    "ARRAY",
    "TIMESTAMP",
)

#: Members of a validation rule beside its field.
CHECKS: Final = (
    "required",
    "type",
    "min",
    "max",
    "minLength",
    "maxLength",
    "pattern",
    "values",
)

#: Longer words for operators.
ALIASES: Final[Mapping[str, str]] = {
    "GREATER_THAN_OR_EQUAL": "GREATER_EQUAL",
    "LESS_THAN_OR_EQUAL": "LESS_EQUAL",
    "REGEX_MATCH": "MATCHES",
}

#: Operator -> the members that it takes beside field and operator.
OPERATORS: Final[Mapping[str, tuple[str, ...]]] = {
    "EQUALS": ("value",),
    "NOT_EQUALS": ("value",),
    "GREATER_THAN": ("value",),
    "GREATER_EQUAL": ("value",),
    "LESS_THAN": ("value",),
    "LESS_EQUAL": ("value",),
    "BETWEEN": ("min", "max"),
    "IN": ("values",),
    "NOT_IN": ("values",),
    "CONTAINS": ("value",),
    "NOT_CONTAINS": ("value",),
    "MATCHES": ("value",),
    "EXISTS": (),
    "NOT_EXISTS": (),
    "IS_NULL": (),
    "IS_NOT_NULL": (),
}


def operator_of(word: str) -> str:
    """An operator as it is listed, however it is written; "" for none."""
    plain = word.upper().replace("-", "_")
    plain = ALIASES.get(plain, plain)
    return plain if plain in OPERATORS else ""
