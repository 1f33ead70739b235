"""
Checksum: CRC-32C, as record batches and files of ours have it.

Owns how its C comes in (GATE crc32c).

Path: `sink.batch`, `shared.store` -> here
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any


def compiled() -> Callable[..., int]:
    """
    The function of the package `crc32c`, without the rest of that package.

    The package reads its own version when it is imported, and brings the libraries for
    that and for a command line along: 15 ms of every start.  What cannot be found in it
    any more is imported as everybody does.
    """
    package = importlib.util.find_spec("crc32c")
    places = package.submodule_search_locations if package is not None else None
    found = PathFinder.find_spec("crc32c._crc32c", places) if places else None
    if found is not None and found.loader is not None:
        try:
            module: Any = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
            function: Callable[..., int] = module.crc32c
            return function
        except (ImportError, AttributeError):
            pass
    return importlib.import_module("crc32c").crc32c  # type: ignore[no-any-return]


__all__ = ["compiled", "crc32c"]

if TYPE_CHECKING:
    from crc32c import crc32c
else:
    crc32c = compiled()
