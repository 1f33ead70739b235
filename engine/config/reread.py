"""
Reread: what files of secrets say now.

Owns the second look at `${file:}`, `${dir:}` and `${cred:}`: a secret that was
rotated under a running engine is taken up by what asks for it, without a reload.
What cannot be read again stays as it was.  Nothing else of a configuration changes.

Path: ``task.build.sources`` (at its start), ``task.build.credentials`` (when an API
refuses) -> here -> ``load``
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from msgspec.structs import replace

from engine.config import keys
from engine.config.entries import Entry
from engine.config.load import Loading
from engine.config.providers import REFERENCE, Providers, Restriction, Unresolved
from engine.config.values import Api, Connector, Values

log = logging.getLogger("config")

#: The providers whose values may change under a running process.
_REREAD = frozenset({"file", "dir", "directory", "cred"})


def rereads(values: Values) -> bool:
    """Whether anything of it stands in a file that may be written anew."""
    return any(_referred(entry) for _, entry in _stated(values))


def reread(connector: Connector) -> Connector:
    """
    The connector with what its files say now; itself where nothing has changed.

    Blocks: on the disk only.
    """
    may = connector.may
    values = reread_values(connector.values, may)
    common = reread_values(connector.common, may)
    apis = tuple(_api(api, may) for api in connector.apis)
    if (
        values is connector.values
        and common is connector.common
        and all(new is old for new, old in zip(apis, connector.apis, strict=True))
    ):
        return connector
    return replace(connector, values=values, common=common, apis=apis)


def _api(api: Api, may: Restriction) -> Api:
    values = reread_values(api.values, may)
    return api if values is api.values else replace(api, values=values)


def reread_values(values: Values, may: Restriction) -> Values:
    """The values of one scope with what its files say now; as `reread`."""
    loading = Loading(os.environ)
    changed: dict[str, object] = {}
    for key, entry in _stated(values):
        table = keys.find(key)
        if table is None or not _referred(entry):
            continue
        value = loading.typed(key, entry, table.kind, may)
        if value is None:
            log.warning("%s cannot be read again: what it was is kept.", key)
        elif value[0] != values[key]:
            changed[key] = value[0]
    return values.replaced(changed) if changed else values


def texts(values: Values, wanted: tuple[str, ...]) -> Mapping[tuple[str, ...], str]:
    """
    What each reference in some keys stands for now, by where it stands.

    Args:
        wanted: Keys, or the beginnings of their names.
    """
    providers, may = Providers(os.environ), Restriction()
    found: dict[tuple[str, ...], str] = {}
    for key, entry in _stated(values):
        if not key.startswith(wanted):
            continue
        for one in REFERENCE.finditer(entry.text):
            if one.group(1) in _REREAD:
                try:
                    text = providers.resolve(
                        one.group(), entry.near, may, template=False
                    )
                except Unresolved:
                    continue
                found[key, one.group(), str(entry.near)] = text
    return found


def _stated(values: Values) -> list[tuple[str, Entry]]:
    found = []
    for key in values:
        entry = values.entry(key)
        if entry is not None:
            found.append((key, entry))
    return found


def _referred(entry: Entry) -> bool:
    listed = entry.items or ()
    return any(
        found.group(1) in _REREAD
        for text in (entry.text, *listed)
        for found in REFERENCE.finditer(text)
    )
