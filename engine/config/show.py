"""
Show: a loaded configuration as text, and where each line of it came from.

Owns the layout of `config show`.  It never resolves a provider and never
prints a secret.

Path: ``values`` -> here -> ``cli.check``
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from engine.config import keys
from engine.config.masking import shown
from engine.config.values import Connector, Loaded, Values
from engine.observe.redact import MASK, Secret, redact


def show(loaded: Loaded, resolved: bool = False) -> str:
    """
    One line a key, `key=value  # file:line`, connector by connector.

    Args:
        resolved: True for every key, defaults included; False for those that
            are stated.
    """
    lines: list[str] = []
    for connector in loaded.connectors:
        if lines:
            lines.append("")
        lines.append(f"# connector {connector.name}")
        lines += _connector(connector, resolved)
    process = list(_lines(loaded.process, "", resolved))
    if process:
        lines += ["", "# process", *process]
    return "\n".join(lines)


def _connector(connector: Connector, resolved: bool) -> Iterator[str]:
    yield from _lines(connector.values, "", resolved)
    several = len(connector.apis) > 1
    for api in connector.apis:
        prefix = f"api{api.index}." if several else ""
        if several:
            yield f"# api {api.name}"
        yield from _lines(api.values, prefix, resolved)


def _lines(values: Values, prefix: str, resolved: bool) -> Iterator[str]:
    for key in values:
        entry = values.entry(key)
        table = keys.find(key)
        if table is None:
            continue
        if entry is not None:
            text = shown(entry, table.kind).replace("\n", " ")
            yield f"{prefix}{key}={text}  # {entry.file}:{entry.line}"
        elif resolved:
            yield f"{prefix}{key}={_text(values[key])}  # default"


def _text(value: object) -> str:
    """A default as it would be written."""
    if value is None:
        return ""
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, Path | Enum):
        return str(value)
    return redact(str(value))
