"""
Section: how a struct of options declares its keys and is filled from a configuration.

Owns the machinery and no key.  A section is a frozen struct whose fields are made by
`option`, `unset` and `duration`:

    class Retry(Section, frozen=True, kw_only=True):
        TITLE: ClassVar[str] = "Retries and circuit breaker"
        SCOPE: ClassVar[str] = "A"

        backoff: float = duration("retry.backoff.ms", ms(1), "1000", "The first pause.")

`Retry()` has the defaults of the table, `values.of(Retry)` what was configured.

Path: here -> the sections beside -> ``config.keys``
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeAlias, TypeVar, cast

import msgspec
from msgspec import Struct

from engine.config.kinds import Duration, Kind
from engine.config.sections.key import Computed, Key

T = TypeVar("T")

#: A rule out of a JSON value; `config.shapes` has checked its members.
Rule: TypeAlias = Mapping[str, Any]
Read_co = TypeVar("Read_co", covariant=True)


class Reads(Protocol[Read_co]):
    """A kind, and the type that it reads a text into."""

    @property
    def allowed(self) -> str:
        """As `Kind.allowed`."""

    def read(self, text: str, near: Path) -> Read_co:
        """As `Kind.read`."""


class Option:
    """
    A declared option; called, it gives the default of the table, where that is fixed.

    Attributes:
        key: Its entry, without the title of its section.
        seconds: True if the field holds in seconds what the key says in ms.
    """

    __slots__ = ("key", "seconds")

    def __init__(self, key: Key, *, seconds: bool = False):
        self.key = key
        self.seconds = seconds

    def __call__(self) -> object:
        key = self.key
        if isinstance(key.default, Computed):
            raise TypeError(f"{key.name}: its default follows from others; give it")
        if key.default is None:
            return None
        return self.held(key.kind.read(key.default, Path()))

    def held(self, value: object) -> object:
        """What the field holds for a value of the table."""
        if self.seconds and isinstance(value, int):
            return Duration.seconds(value)
        return value


def _field(
    name: str,
    kind: Kind,
    default: str | Computed | None,
    meaning: str,
    example: str | None,
    scope: str,
    required: str,
    seconds: bool = False,
) -> Any:
    if example is None:
        example = default if isinstance(default, str) else ""
    key = Key(
        name=name,
        kind=kind,
        default=default,
        scope=scope,
        meaning=meaning,
        example=example,
        section="",
        required=required,
    )
    return msgspec.field(default_factory=Option(key, seconds=seconds))


def option(
    name: str,
    kind: Reads[T],
    default: str | Computed,
    meaning: str,
    example: str | None = None,
    *,
    scope: str = "",
    required: str = "",
) -> T:
    """
    A field that always has a value, of the type that its kind reads.

    Args:
        name: The key; `{word}` in it stands for what `entries` and `of` are given.
        default: As text of its kind, or computed and never None.
        example: A value that works; None: the default.
        scope: As `Key.scope`; "": the section's.
        required: Whom it is required from, in words.
    """
    return cast(T, _field(name, kind, default, meaning, example, scope, required))


def unset(
    name: str,
    kind: Reads[T],
    default: Computed | None,
    meaning: str,
    example: str = "",
    *,
    scope: str = "",
    required: str = "",
) -> T | None:
    """A field that is None where nothing is stated; arguments as for `option`."""
    return cast(
        "T | None", _field(name, kind, default, meaning, example, scope, required)
    )


def duration(
    name: str,
    kind: Duration,
    default: str | Computed,
    meaning: str,
    example: str | None = None,
    *,
    scope: str = "",
) -> float:
    """A field in seconds of a key in milliseconds; arguments as for `option`."""
    found = _field(name, kind, default, meaning, example, scope, "", seconds=True)
    return cast(float, found)


def needed(value: T | None) -> T:
    """
    A value that another one makes necessary, as a token URL is for OAuth.

    Raises: TypeError where it is unset; a rule of `check` refuses that before.
    """
    if value is None:
        raise TypeError("a value is unset that the rules of check ask for")
    return value


class Section(Struct, frozen=True, kw_only=True):
    """
    The options of one part of the engine.

    Attributes:
        TITLE: The heading they stand under in the reference.
        SCOPE: As `Key.scope`, of every field that says no other.
    """

    TITLE: ClassVar[str] = ""
    SCOPE: ClassVar[str] = ""

    @classmethod
    def options(cls) -> dict[str, Option]:
        """The declared options by the name of their field, in their order."""
        return _options(cls)

    @classmethod
    def entries(
        cls,
        changes: Mapping[str, Mapping[str, Any]] | None = None,
        title: str | None = None,
        scope: str | None = None,
        **words: str,
    ) -> list[Key]:
        """
        The entries of the table.

        Args:
            changes: Field -> what of its entry is otherwise in this place.
            title, scope: Of this place, where a section stands in several.
            words: What `{word}` stands for in names and meanings.
        """
        found = []
        for name, declared in cls.options().items():
            key = declared.key
            found.append(
                msgspec.structs.replace(
                    key,
                    **{
                        "name": _filled(key.name, words),
                        "meaning": _filled(key.meaning, words),
                        "section": cls.TITLE if title is None else title,
                        "scope": key.scope or scope or cls.SCOPE,
                        **(changes or {}).get(name, {}),
                    },
                )
            )
        return found

    @classmethod
    def read(cls, look: Callable[[str], object], words: Mapping[str, str]) -> Self:
        """
        The options as configured.

        Args:
            look: Gives the table's value of a key.
        """
        return cls(
            **{
                name: declared.held(look(_filled(declared.key.name, words)))
                for name, declared in cls.options().items()
            }
        )


@functools.cache
def _options(section: type[Section]) -> dict[str, Option]:
    # The library's own look at a struct's fields evaluates all its annotations: 1 ms.
    defaults = section.__struct_defaults__
    names = section.__struct_fields__[-len(defaults) :] if defaults else ()
    found = {
        name: getattr(default, "factory", None)
        for name, default in zip(names, defaults, strict=True)
    }
    return {name: made for name, made in found.items() if isinstance(made, Option)}


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(f"{{{word}}}", value)
    return text
