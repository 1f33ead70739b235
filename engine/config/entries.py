"""
Entries: what stands in a file before anybody knows what it means.

Owns the values that travel inside this room, and the list of findings that
all of its parts write to; the first error never stops the search for more.

Path: ``properties`` and ``documents`` -> these -> ``load``
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from engine.errors import Finding
from engine.observe.redact import MASK


class Entry(Struct, frozen=True):
    """
    One line of a file.

    Attributes:
        key: As written, `apiN.` included.
        text: The value without escapes and comments; "" removes the key.
        file: As the user named it; "--set" for an override.
        line: From 1.
        near: The directory that relative paths start at.
        items: The strings of a JSON array, or None.
        public: True if others may read the file.
        secret: True if its value never shows, whatever its key says.
    """

    key: str
    text: str
    file: str
    line: int
    near: Path
    items: tuple[str, ...] | None = None
    public: bool = False
    secret: bool = False


class Document(Struct, frozen=True):
    """
    One connector's keys, or a layer for several.

    Attributes:
        name: The connector's name, or None for a layer.
        entries: By key.
        file: Where it stands.
        initial_state: "RUNNING", "PAUSED" or "STOPPED".
    """

    name: str | None
    entries: dict[str, Entry]
    file: str
    initial_state: str = "RUNNING"


class Findings:
    """
    All that was found; sorted by file and line when it is read.

    Attributes:
        spoiled: Keys that are stated but could not be read, so that no rule
            says on top of it that they are missing.
    """

    def __init__(self) -> None:
        self.spoiled: set[str] = set()
        self._found: dict[Finding, None] = {}
        self._files: dict[str, int] = {}

    def add(
        self,
        severity: str,
        message: str,
        *,
        entry: Entry | None = None,
        file: str = "",
        line: int = 0,
        key: str = "",
        value: str | None = None,
        secret: bool = False,
        nearest: str | None = None,
        place: tuple[int, int] = (0, 0),
    ) -> None:
        """
        Note a finding.

        Args:
            severity: "error", "warning" or "notice".
            entry: Gives file, line, key and value.
            secret: True if the value is not to be shown.
            place: Lines below the key's, and the column there, of a part of the
                value that runs over lines; then that part is shown, not the whole.
        """
        if entry is not None:
            file, line, key, value = entry.file, entry.line, entry.key, entry.text
        below, column = place
        if below:
            line, value = line + below, None
        if secret and value is not None:
            value = MASK
        self._files.setdefault(file, len(self._files))
        found = Finding(severity, file, line, key, value, message, nearest, column)
        self._found[found] = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What makes it unusable."""
        return tuple(found for found in self.all if found.severity == "error")

    @property
    def all(self) -> tuple[Finding, ...]:
        """Everything, in the order of files and lines."""
        return tuple(
            sorted(
                self._found,
                key=lambda found: (self._files[found.file], found.line, found.column),
            )
        )
