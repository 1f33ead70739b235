"""
Loggers: Connect's calls for the levels of loggers.

Owns which loggers a change concerns: the one that is named and those below it, or of the
root all that are known; only those whose level changes are told.

Source: KIP-495, KIP-976; Kafka Connect 4.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.admin.answers import (
    AdminRequest,
    AdminResponse,
    json_answer,
    read_object,
    refusal,
)
from engine.admin.view import EngineView
from engine.later import pattern

#: Names as Python and Java give them; each one set stays in every process.
_LOGGER = pattern(r"[A-Za-z0-9_$-]{1,64}(?:\.[A-Za-z0-9_$-]{1,64}){0,15}")

LEVELS = ("OFF", "FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE", "ALL")


def every(view: EngineView) -> AdminResponse:
    """`GET /admin/loggers`."""
    names = sorted(view.loggers())
    return json_answer(200, {name: _level(view, name) for name in names})


def one(view: EngineView, name: str) -> AdminResponse:
    """`GET /admin/loggers/{logger}`."""
    if name not in view.loggers():
        return refusal(404, f"Logger {name} not found.")
    return json_answer(200, _level(view, name))


def _level(view: EngineView, name: str) -> dict[str, Any]:
    level = view.loggers()[name]
    return {"level": level.level, "last_modified": level.changed_ms}


def change(
    request: AdminRequest, view: EngineView, logger: str, *, most: int
) -> AdminResponse:
    """
    `PUT /admin/loggers/{logger}`.

    Args:
        most: Loggers that have a level of their own; a further one is refused.
    """
    wanted = read_object(request.body)
    level = wanted.get("level")
    if level is None:
        return refusal(400, "Desired 'level' parameter was not specified in request.")
    word = str(level).upper() if isinstance(level, str | int) else ""
    if word not in LEVELS:
        return refusal(404, f"invalid log level '{str(level)[:40]}'.")
    known = view.loggers()
    if logger not in known:
        if not _LOGGER.fullmatch(logger):
            return refusal(400, f"'{logger[:40]}' is no logger's name.")
        if len(known) >= most:
            return refusal(
                400, f"{most} loggers have a level of their own: admin.max.loggers."
            )
    concerned = _concerned(logger)
    changed = sorted(
        name for name, now in known.items() if concerned(name) and now.level != word
    )
    if logger not in known:
        changed = sorted([*changed, logger])
    for name in changed:
        view.set_level(name, word)
    if (request.flag("scope") or "").lower() == "cluster":
        return AdminResponse(204, content_type="")
    return json_answer(200, changed)


def _concerned(logger: str) -> Callable[[str], bool]:
    if logger == "root":
        return lambda name: True
    return lambda name: name == logger or name.startswith(f"{logger}.")
