"""Foreign spellings."""

from __future__ import annotations

from engine.config.entries import Entry, Findings
from engine.config.kinds import Kind


def translate(entries: dict[str, Entry], findings: Findings) -> dict[str, Entry]:
    """Entries under our keys."""
    return entries


def names() -> list[str]:
    return []


def kind_of(name: str) -> Kind | None:
    return None
