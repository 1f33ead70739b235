"""
Built: which behaviours are there, and which are not available yet.

Owns one list.  A key is always known and checked; what this list names is
refused by `run` where a value asks for it, and never where it says no.

Path: ``load`` -> here
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from engine.config import keys
from engine.config.entries import Findings
from engine.config.values import Connector, Values
from engine.errors import Finding


class Unbuilt(Struct, frozen=True):
    """
    A behaviour that is not available yet.

    Attributes:
        keys: Names, or patterns with `*`.
        values: The values that ask for it; None: any that is stated and is
            not the default.
    """

    keys: tuple[str, ...]
    values: tuple[object, ...] | None = None


#: Not part of what is promised for now.
LATER = (Unbuilt(("group.*", "session.timeout.ms", "heartbeat.interval.ms")),)


def unbuilt(
    connectors: Sequence[Connector], process: Values, findings: Findings
) -> tuple[Finding, ...]:
    """Every stated value that asks for what is absent, also as a warning."""
    asks = []
    for values in _scopes(connectors, process):
        for key in values:
            entry = values.entry(key)
            if entry is None or not _asks(key, values[key]):
                continue
            value = values[key]
            shown = f"={value}" if isinstance(value, str) else ""
            message = f"not available yet: {key}{shown}"
            findings.add(
                "warning", message, file=entry.file, line=entry.line, key=entry.key
            )
            found = Finding("warning", entry.file, entry.line, entry.key, None, message)
            if found not in asks:
                asks.append(found)
    return tuple(asks)


def absent_defaults(connectors: Sequence[Connector]) -> tuple[str, ...]:
    """Defaults that would do something once they are built, as `key=value`."""
    found: dict[str, None] = {}
    for values in _scopes(connectors, None):
        for key in values:
            named = any(
                rule.values is not None
                and values[key] in rule.values
                and _matches(rule, key)
                for rule in LATER
            )
            if values.entry(key) is None and named:
                shown = values[key]
                text = str(shown).lower() if isinstance(shown, bool) else str(shown)
                found[f"{key}={text}"] = None
    return tuple(found)


def availability(key: str) -> str:
    """What of a key is not available yet, in words; "" if all of it is there."""
    for rule in LATER:
        if _matches(rule, key):
            if rule.values is None:
                return "not available yet"
            words = ", ".join(
                str(value).lower() if isinstance(value, bool) else str(value)
                for value in rule.values
            )
            return f"not available yet: {words}"
    return ""


def _scopes(connectors: Sequence[Connector], process: Values | None) -> list[Values]:
    found = [] if process is None else [process]
    for connector in connectors:
        found.append(connector.values)
        found += [api.values for api in connector.apis]
    return found


def _asks(key: str, value: object) -> bool:
    return any(
        value != _default(key) if rule.values is None else value in rule.values
        for rule in LATER
        if _matches(rule, key)
    )


def _default(key: str) -> object:
    """A key's fixed default, which asks for nothing where it is stated."""
    table = keys.find(key)
    if table is None or not isinstance(table.default, str):
        return _NOTHING
    return table.kind.read(table.default, Path())


_NOTHING = object()


def _matches(rule: Unbuilt, key: str) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in rule.keys)
