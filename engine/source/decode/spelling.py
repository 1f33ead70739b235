"""
Spelling: where things stand in a JSON text, byte for byte.

Owns the way through a document that msgspec does not read, of one with a lone surrogate
(RFC 8259, 8.2): rare and slow, and each record keeps what the API wrote.

Path: `source.decode.decoder` -> here
"""

from __future__ import annotations

import json
from typing import Any

from msgspec import Raw

from engine.language.values import MISSING
from engine.later import pattern
from engine.source.decode.formats import SPELLER

_BLANK = pattern(r"[ \t\r\n]*")


def as_raw(value: Any) -> Any:
    """What the standard library decoded, as the decoder has it."""
    if value is MISSING:
        return value
    # Escapes stay escapes: a lone surrogate has no UTF-8.
    return Raw(json.dumps(value, separators=(",", ":")).encode("ascii"))


def skip_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found is not None else at


def member_at(text: str, at: int, name: str) -> int | None:
    """Where the value of a member starts; the last one of that name."""
    if text[at] != "{":
        return None
    found = None
    at = skip_blank(text, at + 1)
    while text[at] != "}":
        key, end = SPELLER.raw_decode(text, at)
        at = skip_blank(text, skip_blank(text, end) + 1)  # behind the colon
        if key == name:
            found = at
        _, end = SPELLER.raw_decode(text, at)
        at = skip_blank(text, end)
        if text[at] == ",":
            at = skip_blank(text, at + 1)
    return found


def items_at(text: str, at: int) -> Any:
    """The items of the array there, or the one value, as they are written."""
    if text[at] != "[":
        _, end = SPELLER.raw_decode(text, at)
        return Raw(text[at:end].encode())
    records = []
    at = skip_blank(text, at + 1)
    while text[at] != "]":
        _, end = SPELLER.raw_decode(text, at)
        records.append(Raw(text[at:end].encode()))
        at = skip_blank(text, end)
        if text[at] == ",":
            at = skip_blank(text, at + 1)
    return records
