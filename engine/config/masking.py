"""
Masking: an entry's text as people may see it.

Owns the answer to what of a line is a secret: keys of that type, headers and
parameters whose names say so.  References to providers stay as written, what
they stand for never shows.

Path: ``load``, ``show`` -> here
"""

from __future__ import annotations

import re

from engine.config.entries import Entry
from engine.config.kinds import (
    Header,
    Headers,
    Kind,
    Params,
    Password,
    Unfit,
    split_headers,
)
from engine.observe.redact import MASK, learn, redact_url, sensitive


def holds_secret(entry: Entry, kind: Kind) -> bool:
    """Whether a literal secret stands in it, for the file's mode to protect."""
    if isinstance(kind, Password) or entry.secret:
        return "${" not in entry.text
    if isinstance(kind, Header):
        return sensitive(_header(entry)) and "${" not in entry.text
    if isinstance(kind, Headers) and not kind.kafka:
        return any(
            sensitive(name) and "${" not in value
            for name, value in split_headers(entry.text)
        )
    return False


def shown(entry: Entry, kind: Kind | None) -> str:
    """An entry's text: unresolved, without secrets."""
    text = entry.text
    if isinstance(kind, Password) or entry.secret:
        return _unless_reference(text)
    if isinstance(kind, Header):
        return _unless_reference(text) if sensitive(_header(entry)) else text
    if isinstance(kind, Headers) and not kind.kafka:
        try:
            headers = split_headers(text)
        except Unfit:
            return MASK
        return ";".join(
            f"{name}:{_unless_reference(value) if sensitive(name) else value}"
            for name, value in headers
        )
    if isinstance(kind, Params):
        return redact_url(f"?{text}")[1:]
    return redact_url(text)


def masked(entry: Entry, kind: Kind | None) -> Entry:
    """The entry with its text as `shown`, for a finding."""
    text = shown(entry, kind)
    return Entry(entry.key, text, entry.file, entry.line, entry.near)


def _header(entry: Entry) -> str:
    return entry.key.rpartition("http.source.header.")[2]


def _unless_reference(text: str) -> str:
    """The text if it is nothing but references, a scheme word before them."""
    if re.fullmatch(r"([A-Za-z]+ )?(\$\{[^{}]*\})+", text):
        return text
    learn(text)
    return MASK
