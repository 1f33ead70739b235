"""
Connect: the reading part of Kafka Connect's REST API.

Owns the shapes and words of Connect's answers, errors included, so that the
consoles and scripts people have for Connect work here; it changes nothing.

Source: Kafka Connect 4.3's REST API, field by field as a worker of 4.3.1 answers.

Path: ``admin.routes`` -> here
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.admin import verdicts
from engine.admin.answers import AdminRequest, AdminResponse, json_answer, refusal
from engine.admin.beans import connector_state
from engine.admin.view import ConnectorCard, EngineView, ShardState, TaskState
from engine.later import pattern

#: A task's number: what is longer is none.
TASK = pattern(r"-?[0-9]{1,9}")

NOT_FOUND = "HTTP 404 Not Found"
NOT_ALLOWED = "HTTP 405 Method Not Allowed"

#: The level of Connect's API that is spoken here: clients choose their calls by it.
LEVEL = "4.3.1"


def not_allowed(allowed: str) -> AdminResponse:
    """Connect's 405, with the Allow that RFC 9110 (15.5.6) wants beside it."""
    answer = refusal(405, NOT_ALLOWED)
    return AdminResponse(405, answer.body, answer.content_type, (("Allow", allowed),))


def missing(name: str) -> AdminResponse:
    """Connect's 404 of a connector."""
    return refusal(404, f"Connector {name} not found")


def root(view: EngineView) -> AdminResponse:
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


def names(request: AdminRequest, view: EngineView) -> AdminResponse:
    """`GET /connectors`: names, or a map with what `?expand=` asks for, also twice."""
    wanted = request.query.get("expand", ())
    cards = view.connectors()
    if not wanted:
        return json_answer(200, [card.name for card in cards])
    found: dict[str, dict[str, Any]] = {}
    for card in cards:
        found[card.name] = {}
        if "status" in wanted:
            found[card.name]["status"] = _status(view, card)
        if "info" in wanted:
            found[card.name]["info"] = info_of(card, tasks_of(view, card.name))
    return json_answer(200, found)


def info(view: EngineView, name: str) -> AdminResponse:
    """`GET /connectors/{name}`."""
    card = card_of(view, name)
    if card is None:
        return missing(name)
    return json_answer(200, info_of(card, tasks_of(view, name)))


def config(view: EngineView, name: str) -> AdminResponse:
    """`GET /connectors/{name}/config`."""
    card = card_of(view, name)
    return missing(name) if card is None else json_answer(200, dict(card.config))


def tasks(view: EngineView, name: str) -> AdminResponse:
    """
    `GET /connectors/{name}/tasks`.

    The same text for each task: what it polls is dealt while it runs.
    """
    card = card_of(view, name)
    if card is None:
        return missing(name)
    task = card.connector_class.removesuffix("Connector") + "Task"
    return json_answer(
        200,
        [
            {
                "id": {"connector": name, "task": each.number},
                "config": {**card.config, "task.class": task},
            }
            for each in tasks_of(view, name)
        ],
    )


def status(view: EngineView, name: str) -> AdminResponse:
    """`GET /connectors/{name}/status`."""
    told = status_of(view, name)
    if told is None:
        return refusal(404, f"No status found for connector {name}")
    return json_answer(200, told)


def task_status(view: EngineView, name: str, number: int) -> AdminResponse:
    """`GET /connectors/{name}/tasks/{number}/status`."""
    for task in view.tasks():
        if task.connector == name and task.number == number:
            return json_answer(200, _task_status(view, task))
    return refusal(404, f"No status found for task {name}-{number}")


def topics(view: EngineView, name: str) -> AdminResponse:
    """
    `GET /connectors/{name}/topics`: those written to since the last reset.

    Of a connector that is not there Connect knows no topic and no error either.
    """
    return json_answer(200, {name: {"topics": list(view.topics(name))}})


def card_of(view: EngineView, name: str) -> ConnectorCard | None:
    """The connector of a name, or None."""
    return next((card for card in view.connectors() if card.name == name), None)


def tasks_of(view: EngineView, name: str) -> list[TaskState]:
    """The tasks of a connector, by number."""
    found = [task for task in view.tasks() if task.connector == name]
    return sorted(found, key=lambda task: task.number)


def info_of(card: ConnectorCard, tasks: Sequence[TaskState]) -> dict[str, Any]:
    """Connect's ConnectorInfo."""
    return {
        "name": card.name,
        "config": dict(card.config),
        "tasks": [{"connector": card.name, "task": task.number} for task in tasks],
        "type": "source",
    }


def status_of(view: EngineView, name: str) -> dict[str, Any] | None:
    """The body of `GET .../status`, or None for a connector that is not there."""
    card = card_of(view, name)
    return None if card is None else _status(view, card)


def _status(view: EngineView, card: ConnectorCard) -> dict[str, Any]:
    tasks = tasks_of(view, card.name)
    failed = [
        f"{shard.label}: {why}"
        for shard in view.shards()
        if shard.connector == card.name and (why := _why(shard))
    ]
    target = view.target(card.name)
    connector: dict[str, Any] = {
        "state": connector_state(target, tasks),
        "worker_id": view.worker_id,
        "version": None if target == "STOPPED" else view.version,
    }
    if failed and target != "STOPPED":
        # Shards are no word of Connect's: what they say stands in the trace.
        connector["trace"] = "\n".join(failed)
    return {
        "name": card.name,
        "connector": connector,
        "tasks": [_task_status(view, task) for task in tasks],
        "type": "source",
    }


def _why(shard: ShardState) -> str:
    """Why a shard is FAILED, or what it fails with at present; "" for well."""
    if shard.failed or shard.failure is None or shard.failure.over_ms:
        return shard.failed
    return verdicts.told(shard.failure)


def _task_status(view: EngineView, task: TaskState) -> dict[str, Any]:
    status: dict[str, Any] = {
        "id": task.number,
        "state": task.state,
        "worker_id": view.worker_id,
        "version": None if task.state == "UNASSIGNED" else view.version,
    }
    if task.trace:
        status["trace"] = task.trace
    return status
