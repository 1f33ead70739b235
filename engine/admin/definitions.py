"""
Definitions: what can be configured, and what is wrong with a configuration.

Owns Connect's shape of both: a definition for each key of ours but those of the whole
process, and beside it the value that was sent, with its findings at their keys.

Source: Kafka Connect 4.3's REST API.  Clients made from an older contract read `order`,
newer ones `order_in_group`: both are there.

Path: ``admin.routes`` -> here -> ``config.keys``
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.admin import plugins
from engine.admin.answers import (
    AdminRequest,
    AdminResponse,
    json_answer,
    read_object,
    refusal,
)
from engine.admin.configuring import class_of, missing_line, texts_of
from engine.admin.invalid import Invalid, line
from engine.admin.view import EngineView
from engine.config import keys
from engine.config.entries import Entry
from engine.config.explain import default_text
from engine.config.keys import Key
from engine.config.kinds import (
    Bool,
    Choice,
    ClassName,
    CommaList,
    ConnectorClass,
    Int,
    Number,
    Password,
)
from engine.config.load import kind_of
from engine.config.masking import shown
from engine.config.sections.key import Computed
from engine.config.served import Served
from engine.errors import ConfigError, Finding

#: Whole numbers above this do not fit Connect's INT.
_INT = (1 << 31) - 1

_HERE = Path()

#: Keys that nobody can do without, and those that most people set.
_HIGH = ("name", "connector.class", "http.source.url", "kafka.topic", "tasks.max")


def every(request: AdminRequest, view: EngineView, plugin: str) -> AdminResponse:
    """`GET /connector-plugins/{plugin}/config`."""
    refused = _unknown(request, view, plugin)
    if refused is not None:
        return refused
    if plugins.connector_class(plugin) is None:
        # A converter: what there is to set stands among the connector's keys.
        return json_answer(200, [])
    return json_answer(200, [_definition(key, at) for key, at in _keys()])


def validate(request: AdminRequest, served: Served, plugin: str) -> AdminResponse:
    """`PUT /connector-plugins/{plugin}/config/validate`: 200, also with errors."""
    sent = read_object(request.body)
    try:
        texts = texts_of(sent)
        name = texts.get("name", "").strip()
        word = class_of(name, texts)
    except Invalid as problem:
        return refusal(400, str(problem))
    if not plugins.asked_of(plugin, word):
        return refusal(
            400,
            f"Included connector type {word} does not match request type {plugin}",
        )
    findings: Sequence[Finding] = ()
    try:
        served.check(name or "connector", texts)
    except ConfigError as failure:
        findings = [each for each in failure.findings if each.severity == "error"]
    errors: dict[str, list[str]] = {}
    for finding in findings:
        errors.setdefault(finding.key or "name", []).append(line(finding))
    if not name:
        errors.setdefault("name", []).append(missing_line("name"))
    configs = [_told(key, at, texts, errors) for key, at in _keys(texts, errors)]
    return json_answer(
        200,
        {
            "name": word,
            "error_count": sum(map(len, errors.values())),
            "groups": list(dict.fromkeys(c["definition"]["group"] for c in configs)),
            "configs": configs,
        },
    )


def _unknown(
    request: AdminRequest, view: EngineView, plugin: str
) -> AdminResponse | None:
    known = [name for name, _ in plugins.converters()]
    short = [name.rpartition(".")[2] for name in known]
    if plugins.connector_class(plugin) is None and plugin not in (*known, *short):
        return refusal(404, f"Unknown plugin {plugin}.")
    version = request.flag("version")
    if version is not None and version != view.version:
        return refusal(
            400,
            f"Plugin {plugin} not found that matches the version range "
            f"[{version},{version}], available versions: [{view.version}]",
        )
    return None


def _keys(
    texts: Mapping[str, str] = {}, errors: Mapping[str, Sequence[str]] = {}
) -> list[tuple[Key, tuple[str, int]]]:
    """
    Each key with its name and its place in its group.

    Args:
        texts: What was sent; of families and of single apis it has keys of its own.
        errors: Keys that something is wrong with, known or not.
    """
    found: list[tuple[Key, tuple[str, int]]] = []
    places: dict[str, int] = {}
    named = set()
    for key in keys.TABLE.values():
        if key.scope == "P" or "<" in key.name:
            continue
        found.append((key, (key.name, _next(places, key.section))))
        named.add(key.name)
    for name in dict.fromkeys([*texts, *errors]):
        if not name or name in named:
            continue
        table = keys.find(keys.split_api(name)[1])
        if table is None or table.scope == "P":
            # None of ours: what is wrong with it has to stand somewhere.
            if name not in errors:
                continue
            table = Key(
                name=name,
                kind=keys.TABLE["name"].kind,
                default=None,
                scope="C",
                meaning="No key of this connector.",
                example="",
                section="Other",
            )
        found.append((table, (name, _next(places, table.section))))
    return found


def _next(places: dict[str, int], section: str) -> int:
    places[section] = places.get(section, 0) + 1
    return places[section]


def _definition(key: Key, at: tuple[str, int]) -> dict[str, Any]:
    name, order = at
    required = bool(key.required) or name in ("name", "connector.class")
    return {
        "name": name,
        "type": _type(key),
        "required": required and not _default(key),
        "default_value": _default(key),
        "importance": _importance(key, name),
        "documentation": _documentation(key),
        "group": key.section,
        "order_in_group": order,
        "width": _width(key),
        "display_name": name,
        "dependents": [],
        "order": order,
    }


def _told(
    key: Key,
    at: tuple[str, int],
    texts: Mapping[str, str],
    errors: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    name = at[0]
    text = texts.get(name)
    wrong = list(errors.get(name, ()))
    value = _default(key)
    if text is not None:
        kind = kind_of(name)
        # What cannot be read is null, as Connect has it; a secret never shows.
        value = None if wrong else shown(Entry(name, text, "", 0, _HERE), kind)
    return {
        "definition": _definition(key, at),
        "value": {
            "name": name,
            "value": value,
            "recommended_values": _recommended(key),
            "errors": wrong,
            "visible": True,
        },
    }


def _type(key: Key) -> str:
    kind = key.kind
    if isinstance(kind, Bool):
        return "BOOLEAN"
    if isinstance(kind, Int):
        return "INT" if kind.high <= _INT else "LONG"
    if isinstance(kind, Number):
        return "DOUBLE"
    if isinstance(kind, Password):
        return "PASSWORD"
    if isinstance(kind, CommaList):
        return "LIST"
    return "CLASS" if isinstance(kind, ClassName) else "STRING"


def _documentation(key: Key) -> str:
    if isinstance(key.default, Computed):
        return f"{key.meaning} Default: {default_text(key)}."
    return key.meaning


def _default(key: Key) -> str | None:
    """As text; what follows from other keys or the machine is in the words."""
    if key.default is None or isinstance(key.default, Computed):
        return None
    return key.default


def _recommended(key: Key) -> list[str]:
    kind = key.kind
    if isinstance(kind, Choice):
        return list(kind.words)
    if isinstance(kind, Bool):
        return ["true", "false"]
    if isinstance(kind, ClassName):
        return sorted(kind.classes)
    if isinstance(kind, ConnectorClass):
        return list(kind.dialects)
    return []


def _importance(key: Key, name: str) -> str:
    if name in _HIGH or key.required:
        return "HIGH"
    return "LOW" if isinstance(key.default, str | Computed) else "MEDIUM"


def _width(key: Key) -> str:
    if isinstance(key.kind, Bool | Int | Number | Choice):
        return "SHORT"
    return "LONG" if isinstance(key.kind, Password | CommaList) else "MEDIUM"
