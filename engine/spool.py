"""
Spool: files without names, for what is too large for memory.

Owns where they are made and what is said where a disk has no room for them: the page
is given up, not the shard, and the next poll tries again.

Path: `source.wire.pieces` keeps bodies in one, `columnfile` columns, `task.snapshot` keys
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

from engine.errors import SpoolError
from engine.later import later

if TYPE_CHECKING:
    import tempfile
else:
    tempfile = later("tempfile")


#: What a file is for, and what helps beside room for it.
PAGE: Final = ("a large page", "ask for smaller pages")
KEYS: Final = ("the keys of a snapshot", "remember fewer (http.snapshot.max.keys)")


@contextmanager
def spooling(
    directory: str | None = None, purpose: tuple[str, str] = PAGE
) -> Iterator[None]:
    """
    Around whatever writes to such a file of a directory; None: the system's own.

    Args:
        purpose: PAGE or KEYS, for the message.

    Raises: SpoolError in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        place = directory or tempfile.tempdir or "the temporary directory"
        why = error.strerror or str(error)
        what, instead = purpose
        raise SpoolError(
            f"{what} cannot be kept in {place}: {why}; make room there, or {instead}"
        ) from error


def unnamed(directory: str | None = None, purpose: tuple[str, str] = PAGE) -> IO[bytes]:
    """
    A new file, open for reading and writing, which goes when it is closed.

    Raises: SpoolError.
    """
    with spooling(directory, purpose):
        return tempfile.TemporaryFile(dir=directory)
