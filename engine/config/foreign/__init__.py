"""
Foreign: other connectors' keys, taken for ours where they mean the same.

Owns the tables of foreign spellings and what becomes of each: taken as our
key, converted, without effect, or refused with the reason.  Nothing foreign
is ever accepted in silence.

Path: ``load`` -> here, after the layers are joined and before types are read
"""

from __future__ import annotations

import fnmatch
import functools

from engine.config import keys
from engine.config.entries import Entry, Findings
from engine.config.foreign.convert import values
from engine.config.foreign.rows import ROWS, Row
from engine.config.foreign.translation import Translation
from engine.config.kinds import Comment, Kind, Text
from engine.config.sections.engine import DIALECTS

#: The kind of a foreign value that is read as none of ours.
_ANY = Text(comment=Comment.ENDS)

_EXACT = {row.theirs: row for row in ROWS if "*" not in row.theirs}
_PATTERNS = tuple(row for row in ROWS if "*" in row.theirs)

#: Values of our own keys that other spellings have.
_VALUES = {
    "pagination.type": values(
        "pagination.type", {"PAGE_SIZE": "page", "OFFSET_LIMIT": "offset"}
    ),
    "http.offset.mode": values(
        "http.offset.mode",
        {
            "TIMESTAMP": "INCREMENTAL",
            "TIMESTAMP_PAGINATION": "INCREMENTAL",
            "OFFSET": (("http.offset.mode", "FULL"), ("pagination.type", "offset")),
            "PAGE": (("http.offset.mode", "FULL"), ("pagination.type", "page")),
            "PAGE_PAGINATION": (
                ("http.offset.mode", "FULL"),
                ("pagination.type", "page"),
            ),
            "LINK_HEADER": (
                ("http.offset.mode", "FULL"),
                ("pagination.type", "link_header"),
            ),
            "LINK_HEADER_PAGINATION": (
                ("http.offset.mode", "FULL"),
                ("pagination.type", "link_header"),
            ),
        },
        refused={
            "HYBRID_PAGINATION": "one mode at a time: " + "CURSOR_PAGINATION, CHAINING"
        },
    ),
}
_VALUE_WORDS = {
    "pagination.type": frozenset({"PAGE_SIZE", "OFFSET_LIMIT"}),
    "http.offset.mode": frozenset(
        {
            "TIMESTAMP",
            "TIMESTAMP_PAGINATION",
            "OFFSET",
            "PAGE",
            "PAGE_PAGINATION",
            "LINK_HEADER",
            "LINK_HEADER_PAGINATION",
            "HYBRID_PAGINATION",
        }
    ),
}


@functools.cache
def row(name: str) -> Row | None:
    """The row of a foreign key, without `apiN.`, or None."""
    found = _EXACT.get(name)
    if found is not None:
        return found
    for pattern in _PATTERNS:
        if fnmatch.fnmatchcase(name, pattern.theirs):
            return pattern
    return None


def names() -> list[str]:
    """Foreign keys without patterns, for guesses."""
    return list(_EXACT)


def kind_of(name: str) -> Kind | None:
    """The kind that a foreign key's text is read as; None if it is unknown."""
    found = row(keys.split_api(name)[1])
    if found is None:
        return None
    ours = keys.find(found.like) if found.like else None
    return ours.kind if ours is not None else _ANY


def translate(entries: dict[str, Entry], findings: Findings) -> dict[str, Entry]:
    """
    The entries under our keys; unknown ones as they are.

    Args:
        findings: Where to say what became of each foreign one.
    """
    stated = entries.get("connector.class")
    dialect = DIALECTS.get(stated.text if stated is not None else "", "v1")
    t = Translation(entries, dialect, findings)
    for name in list(entries):
        number, key = keys.split_api(name)
        if keys.find(key) is not None:
            _own(t, number, key, name)
    for name in sorted(entries, key=_place):
        entry = t.entries.get(name)
        if entry is None:
            continue
        number, key = keys.split_api(name)
        found = row(key)
        del t.entries[name]
        if found is None:
            t.ours[name] = entry
        elif found.action == "alias":
            if t.put(number, found.ours, entry.text, entry):
                t.taken(number, entry, found.ours, found.note)
        elif found.action == "void":
            t.void(entry, found.note)
        elif found.convert is not None:
            found.convert(t, number, entry)
        else:
            t.refuse(entry, found.note)
    return t.ours


def _own(t: Translation, number: int | None, key: str, name: str) -> None:
    """One of our keys: as it is, but for values that other spellings have."""
    entry = t.entries[name]
    word = entry.text.strip().upper().replace("-", "_")
    if word in _VALUE_WORDS.get(key, ()):
        del t.entries[name]
        _VALUES[key](t, number, entry)
    else:
        t.ours[name] = t.entries.pop(name)


#: These drop or rewrite other entries, so they come first.
_FIRST = (
    "dlq.enabled",
    "http.offset.json.primary.key.pointer",
    "enable.cursor.pagination.with.timestamp.mode",
    "chaining.with.timestamp.mode",
)


def _place(name: str) -> bool:
    return keys.split_api(name)[1] not in _FIRST
