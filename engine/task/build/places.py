"""
Places: where files stand that processes share.

Owns their directories and what is done where one cannot be made.

Path: `build.wiring` -> here -> ``shared``
"""

from __future__ import annotations

from pathlib import Path

from engine.errors import SharedError


class Places:
    """
    Where files stand that processes share.

    Attributes:
        shared: The runtime directory, then where it is full the state's.
        state: What outlives the engine.
    """

    def __init__(self, runtime: Path, state: Path):
        self.state = state
        self.runtime = runtime
        for directory in (runtime, state):
            _make(directory)

    def shared(self, name: str, runtime: Path | None = None) -> tuple[Path, Path]:
        """
        A directory of that name in each of the two, made if missing.

        Args:
            runtime: The runtime directory of another engine, to share with it.
        """
        found = (runtime or self.runtime) / name, self.state / name
        for directory in found:
            _make(directory)
        return found

    def outlived(self, name: str) -> Path:
        """
        A directory of that name beside the state.

        Raises: SharedError, naming the key.
        """
        found = self.state / name
        try:
            found.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as failure:
            raise SharedError(f"state.dir: {found}: {failure.strerror}") from failure
        return found

    def passing(self, name: str) -> Path:
        """A directory of that name that ends with the engine; else one that does not."""
        found = self.runtime / name
        return found if _make(found) else self.outlived(name)


def _make(directory: Path) -> bool:
    """Make a directory; False where that is impossible, which its user will say."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return True
