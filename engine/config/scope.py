"""
Scope: one api or connector under check, and where to note what is wrong.

Path: ``rules`` and its siblings -> here -> ``entries``
"""

from __future__ import annotations

from engine.config.entries import Findings
from engine.config.values import S, Values


class Scope:
    """
    One api or connector under check, and where to note what is wrong.

    Args:
        file: Where to look for a key that is missing.

    Attributes:
        values: What it says.
    """

    def __init__(self, values: Values, prefix: str, findings: Findings, file: str = ""):
        self.values = values
        self._file = file
        self._prefix = prefix
        self._findings = findings

    def of(self, section: type[S], **words: str) -> S:
        """As `Values.of`."""
        return self.values.of(section, **words)

    def __getitem__(self, key: str) -> object:
        return self.values.get(key)

    def number(self, key: str) -> float:
        """A numeric value; 0 if it is unset."""
        value = self.values.get(key)
        return value if isinstance(value, int | float) else 0

    def error(self, key: str, message: str) -> None:
        """Note an error of this key."""
        self._add("error", key, message)

    def warn(self, key: str, message: str) -> None:
        """Note a warning of this key."""
        self._add("warning", key, message)

    def note(self, key: str, message: str) -> None:
        """Note what is worth knowing of this key."""
        self._add("notice", key, message)

    def _add(self, severity: str, key: str, message: str) -> None:
        entry = self.values.entry(key)
        if entry is None and {key, f"{self._prefix}{key}"} & self._findings.spoiled:
            return
        if entry is None:
            self._findings.add(
                severity, message, file=self._file, key=f"{self._prefix}{key}"
            )
        else:
            self._findings.add(
                severity, message, file=entry.file, line=entry.line, key=entry.key
            )
