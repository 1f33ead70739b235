"""
Later: modules that are imported when they are first used, and not before.

Owns the stand-in for a module that a process may never need: a command then pays
only for what it does.  Beside it stands the ordinary import under `TYPE_CHECKING`,
which mypy and `tests/test_floor_plan.py` read.

    if TYPE_CHECKING:
        import psutil
    else:
        psutil = later("psutil")
"""

from __future__ import annotations

import importlib
from typing import Any


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
