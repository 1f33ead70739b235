"""
Later: modules and patterns that are made when they are first used, and not before.

Owns the stand-ins for what a process may never need: a command then pays only for what
it does.  Beside a module's stands the ordinary import under `TYPE_CHECKING`, which mypy
and `tests/test_floor_plan.py` read.

    if TYPE_CHECKING:
        import psutil
    else:
        psutil = later("psutil")
"""

from __future__ import annotations

import importlib
import re
from typing import Any, AnyStr, Generic, cast


class _Later:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)

    def __repr__(self) -> str:
        return f"later({self._name!r})"


def later(name: str) -> Any:
    """
    A module that is imported at the first look at one of its names.

    Not for what a hot path looks up (0.3 us each), nor for base classes.  What the
    module lacks, or its own absence, is raised then and not here.

    Args:
        name: As `import` takes it.
    """
    return _Later(name)


class _Pattern(Generic[AnyStr]):
    """Has the verbs of a compiled pattern for its own from the first use on."""

    def __init__(self, text: AnyStr, flags: int) -> None:
        self._source: tuple[AnyStr, int] = (text, flags)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = re.compile(*self._source)
        for verb in (
            "findall",
            "finditer",
            "flags",
            "fullmatch",
            "groupindex",
            "groups",
            "match",
            "pattern",
            "search",
            "split",
            "sub",
            "subn",
        ):
            setattr(self, verb, getattr(made, verb))
        return getattr(made, name)

    def __repr__(self) -> str:
        return f"pattern({self._source[0]!r})"


def pattern(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """
    A pattern of the standard library that is compiled when it is first used.

    As fast as any from then on.  To compile all of them was a fifth of what a start
    imports.  Not for functions of `re` that take a pattern; `tests/test_later.py`
    compiles each of ours, so that a wrong one is found there.
    """
    return cast("re.Pattern[AnyStr]", _Pattern(text, flags))
