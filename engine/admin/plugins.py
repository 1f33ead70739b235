"""
Plugins: which classes there are, as Connect lists them.

Owns the names by which a connector's file may say what it is, and those of the
converters; there are no others to choose from.

Source: Kafka Connect 4.3's REST API; KIP-769 for what is no connector.
"""

from __future__ import annotations

from engine.admin.answers import AdminRequest, AdminResponse, json_answer
from engine.admin.view import EngineView
from engine.config import keys
from engine.config.kinds import ClassName
from engine.config.sections.engine import DIALECTS

#: Keys whose values are classes, and the type of plugin they are.
_CONVERTERS = {"key.converter": "converter", "header.converter": "header_converter"}


def every(request: AdminRequest, view: EngineView) -> AdminResponse:
    """`GET /connector-plugins[?connectorsOnly=false]`."""
    found = [(name, "source") for name in sorted(DIALECTS) if "." in name]
    only = request.flag("connectorsOnly")
    if only is not None and only.lower() != "true":
        found += converters()
    return json_answer(
        200,
        [
            {"class": name, "type": kind, "version": view.version}
            for name, kind in found
        ],
    )


def names() -> list[str]:
    """Every name of a connector's class."""
    return sorted(DIALECTS)


def converters() -> list[tuple[str, str]]:
    """Class and type of each converter."""
    found = []
    for key, kind in _CONVERTERS.items():
        entry = keys.find(key)
        if entry is not None and isinstance(entry.kind, ClassName):
            found += [(name, kind) for name in sorted(entry.kind.classes)]
    return found


def connector_class(plugin: str) -> str | None:
    """
    The class a path or a file means: in full, short, or short without `Connector`.

    Returns: None for what is none of ours.
    """
    if plugin in DIALECTS:
        return plugin
    for name in DIALECTS:
        short = name.rpartition(".")[2]
        if plugin in (short, short.removesuffix("Connector")):
            return str(name)
    return None


def asked_of(plugin: str, word: str) -> bool:
    """
    True if a configuration's class is the plugin of a path, as Connect compares them.

    A path in short is any class that ends so; a path in full is no class in short.
    """
    wanted, found = (name.removesuffix("Connector") for name in (plugin, word))
    return found.endswith(wanted)
