"""
Connect: the reading part of Kafka Connect's REST API, and its loggers.

Owns the shapes and words of Connect's answers, errors included, so that the
consoles and scripts people have for Connect work here; it starts, stops and
changes nothing but log levels.

Source: Kafka Connect 4.0's REST API; KIP-495 and KIP-976 for the loggers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from engine.admin import health
from engine.admin.answers import (
    Answer,
    Malformed,
    Question,
    json_answer,
    read_json,
    refusal,
)
from engine.admin.beans import connector_state
from engine.admin.view import ConnectorCard, ShardState, TaskState, View

#: A task's number: what is longer is none.
_TASK = re.compile(r"[0-9]{1,9}")

#: Names as Python and Java give them; each one set stays in every process.
_LOGGER = re.compile(r"[A-Za-z0-9_$-]{1,64}(?:\.[A-Za-z0-9_$-]{1,64}){0,15}")

LEVELS = ("OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE")

NOT_FOUND = "HTTP 404 Not Found"
NOT_ALLOWED = "HTTP 405 Method Not Allowed"


def not_allowed(allowed: str) -> Answer:
    """Connect's 405, with the Allow that RFC 9110 (15.5.6) wants beside it."""
    answer = refusal(405, NOT_ALLOWED)
    return Answer(405, answer.body, answer.content_type, (("Allow", allowed),))


#: The level of Connect's API that is spoken here: clients choose their calls by it.
LEVEL = "4.0.0"


def root(view: View) -> Answer:
    """`GET /`: Connect's level, as clients expect it, and our own version beside it."""
    return json_answer(
        200,
        {
            "version": LEVEL,
            "kafka_http_source_version": view.version,
            "commit": view.commit,
            "kafka_cluster_id": view.cluster_id,
        },
    )


def plugins(view: View) -> Answer:
    """`GET /connector-plugins`: the classes that stand in the files."""
    classes = dict.fromkeys(card.connector_class for card in view.connectors())
    return json_answer(
        200,
        [
            {"class": name, "type": "source", "version": view.version}
            for name in classes
        ],
    )


def connectors(question: Question, view: View) -> Answer:
    """`GET /connectors...`, the path split after `connectors`."""
    match question.path.strip("/").split("/")[1:]:
        case []:
            return _all(question, view)
        case [name]:
            return _of(view, name, _shown)
        case [name, "config"]:
            return _of(view, name, lambda card, tasks: dict(card.config))
        case [name, "tasks"]:
            return _of(view, name, _tasks)
        case [name, "topics"]:
            return _of(
                view, name, lambda card, tasks: {name: {"topics": list(card.topics)}}
            )
        case [name, "status"]:
            card = _card(view, name)
            if card is None:
                return refusal(404, f"No status found for connector {name}")
            return json_answer(200, _status(view, card))
        case [name, "tasks", number, "status"] if _TASK.fullmatch(number):
            for task in view.tasks():
                if task.connector == name and task.number == int(number):
                    return json_answer(200, _task_status(view, task))
            return refusal(404, f"No status found for task {name}-{int(number)}")
    return refusal(404, NOT_FOUND)


def _all(question: Question, view: View) -> Answer:
    """Names, or a map with what `?expand=` asks for, which may stand twice."""
    wanted = question.query.get("expand", ())
    cards = view.connectors()
    if not wanted:
        return json_answer(200, [card.name for card in cards])
    found: dict[str, dict[str, Any]] = {}
    for card in cards:
        found[card.name] = {}
        if "status" in wanted:
            found[card.name]["status"] = _status(view, card)
        if "info" in wanted:
            found[card.name]["info"] = _shown(card, _tasks_of(view, card.name))
    return json_answer(200, found)


def _of(
    view: View,
    name: str,
    shape: Callable[[ConnectorCard, Sequence[TaskState]], Any],
) -> Answer:
    card = _card(view, name)
    if card is None:
        return refusal(404, f"Connector {name} not found")
    return json_answer(200, shape(card, _tasks_of(view, name)))


def _card(view: View, name: str) -> ConnectorCard | None:
    return next((card for card in view.connectors() if card.name == name), None)


def _tasks_of(view: View, name: str) -> list[TaskState]:
    found = [task for task in view.tasks() if task.connector == name]
    return sorted(found, key=lambda task: task.number)


def _shown(card: ConnectorCard, tasks: Sequence[TaskState]) -> dict[str, Any]:
    return {
        "name": card.name,
        "config": dict(card.config),
        "tasks": [{"connector": card.name, "task": task.number} for task in tasks],
        "type": "source",
    }


def _tasks(card: ConnectorCard, tasks: Sequence[TaskState]) -> list[dict[str, Any]]:
    # The same text for each task: what it polls is dealt while it runs.
    return [
        {
            "id": {"connector": card.name, "task": task.number},
            "config": dict(card.config),
        }
        for task in tasks
    ]


def _status(view: View, card: ConnectorCard) -> dict[str, Any]:
    tasks = _tasks_of(view, card.name)
    failed = [
        f"{shard.label}: {why}"
        for shard in view.shards()
        if shard.connector == card.name and (why := _why(shard))
    ]
    connector: dict[str, Any] = {
        "state": connector_state(view.target(card.name), tasks),
        "worker_id": view.worker_id,
    }
    if failed:
        # Shards are no word of Connect's: what they say stands in the trace.
        connector["trace"] = "\n".join(failed)
    return {
        "name": card.name,
        "connector": connector,
        "tasks": [_task_status(view, task) for task in tasks],
        "type": "source",
    }


def status_of(view: View, name: str) -> dict[str, Any] | None:
    """The body of `GET .../status`, or None for a connector that is not there."""
    card = _card(view, name)
    return None if card is None else _status(view, card)


def _why(shard: ShardState) -> str:
    """Why a shard is FAILED, or what it fails with at present; "" for well."""
    if shard.failed or shard.failure is None or shard.failure.over_ms:
        return shard.failed
    return health.told(shard.failure)


def _task_status(view: View, task: TaskState) -> dict[str, Any]:
    status: dict[str, Any] = {
        "id": task.number,
        "state": task.state,
        "worker_id": view.worker_id,
    }
    if task.trace:
        status["trace"] = task.trace
    return status


# --- loggers -----------------------------------------------------------------


def loggers(question: Question, view: View, *, most: int) -> Answer:
    """
    `GET /admin/loggers[/{logger}]` and `PUT /admin/loggers/{logger}`.

    Args:
        most: Loggers whose level is set; a further one is refused.
    """
    match question.path.strip("/").split("/")[2:]:
        case [] if question.method != "PUT":
            return json_answer(
                200, {name: _level(view, name) for name in sorted(view.loggers())}
            )
        case [name] if question.method == "PUT":
            return _set(question, view, name, most)
        case [name]:
            if name not in view.loggers():
                return refusal(404, f"Logger {name} not found.")
            return json_answer(200, _level(view, name))
        case []:
            return refusal(405, NOT_ALLOWED)
    return refusal(404, NOT_FOUND)


def _level(view: View, name: str) -> dict[str, Any]:
    level = view.loggers()[name]
    return {"level": level.level, "last_modified": level.changed_ms}


def _set(question: Question, view: View, logger: str, most: int) -> Answer:
    try:
        wanted = read_json(question.body)
    except Malformed as problem:
        return refusal(400, f"Bad request: {problem}")
    level = wanted.get("level") if isinstance(wanted, dict) else None
    if not isinstance(level, str):
        return refusal(400, "Desired 'level' parameter was not specified in request.")
    if level.upper() not in LEVELS:
        return refusal(404, f"invalid log level '{level[:40]}'.")
    known = view.loggers()
    if logger not in known:
        if not _LOGGER.fullmatch(logger):
            return refusal(400, f"'{logger[:40]}' is no logger's name.")
        if len(known) >= most:
            return refusal(
                400, f"{most} loggers have a level of their own: admin.max.loggers."
            )
    changed = view.set_level(logger, level.upper())
    if question.flag("scope") == "cluster":
        return Answer(204)
    return json_answer(200, list(changed))
