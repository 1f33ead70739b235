"""
Spool: files without names, for what is too large for memory.

Owns where they are made and what is said where a disk has no room for them: the page
is given up, not the shard, and the next poll tries again.

Path: `source.wire.pieces` keeps bodies in one, `columnfile` columns
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from engine.errors import SpoolError
from engine.later import later

if TYPE_CHECKING:
    import tempfile
else:
    tempfile = later("tempfile")


@contextmanager
def spooling(directory: str | None = None) -> Iterator[None]:
    """
    Around whatever writes to such a file of a directory; None: the system's own.

    Raises: SpoolError in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        place = directory or tempfile.tempdir or "the temporary directory"
        why = error.strerror or str(error)
        raise SpoolError(
            f"a large page cannot be kept in {place}: {why}; make room there, or ask "
            "for smaller pages"
        ) from error


def unnamed(directory: str | None = None) -> IO[bytes]:
    """
    A new file, open for reading and writing, which goes when it is closed.

    Raises: SpoolError.
    """
    with spooling(directory):
        return tempfile.TemporaryFile(dir=directory)
