"""
Key: one entry of the table of everything that can be configured.

Owns the shape of an entry and nothing about any key.

Path: here -> the sections beside -> ``keys.TABLE``
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from engine.config.kinds import Kind

#: Gives the value of another key of the same api or connector.
Lookup: TypeAlias = Callable[[str], object]


class Computed(Struct, frozen=True):
    """
    A default that follows from other keys or from the machine.

    Attributes:
        value: Gives it; may be None for unset.
        words: What it is, for people.
    """

    value: Callable[[Lookup], object]
    words: str


class Key(Struct, frozen=True, kw_only=True):
    """
    The declaration of one configuration key.

    Attributes:
        name: As it is written; a part in `<...>` stands for any name.
        kind: Its type.
        default: As text of its type, computed, or None: unset.
        scope: "C" one value a connector, "A" one an api, "T" one a connector
            but counted in each task, "P" one for the whole supervisor.
        meaning: What it does.
        example: A value that works, as it would be written.
        section: Where it stands in the reference.
        folds: The key that it takes the place of where it is set, or None.
        required: Whom it is required from, in words, or "".
    """

    name: str
    kind: Kind
    default: str | Computed | None
    scope: str
    meaning: str
    example: str
    section: str
    folds: str | None = None
    required: str = ""


def section(title: str) -> Callable[..., Key]:
    """A constructor of entries for one section of the reference."""

    def entry(
        name: str,
        kind: Kind,
        default: str | Computed | None,
        scope: str,
        meaning: str,
        example: str | None = None,
        *,
        folds: str | None = None,
        required: str = "",
    ) -> Key:
        if example is None:
            example = default if isinstance(default, str) else ""
        return Key(
            name=name,
            kind=kind,
            default=default,
            scope=scope,
            meaning=meaning,
            example=example,
            section=title,
            folds=folds,
            required=required,
        )

    return entry
