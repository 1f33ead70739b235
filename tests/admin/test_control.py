"""The calls that change a run state: what is asked of the supervisor, what is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.admin import commands
from engine.admin.commands import Unanswered
from engine.admin.guard import ConnectionEnds
from engine.admin.view import TaskState
from engine.shared.link import Ask, AskOutcome, Message
from tests.admin.conftest import Stage

OUTSIDE = ConnectionEnds("192.0.2.1", "192.0.2.9")


@pytest.fixture
def two(stage: Stage) -> Stage:
    stage.view.task_states = [
        TaskState("orders", 0, "RUNNING"),
        TaskState("orders", 1, "FAILED", trace="Denied: 401"),
    ]
    return stage


@pytest.mark.parametrize(
    ("method", "path", "status", "asked"),
    [
        ("PUT", "pause", 202, ("pause", {})),
        ("PUT", "pause/", 202, ("pause", {})),
        ("PUT", "resume", 202, ("resume", {})),
        ("PUT", "stop", 204, ("stop", {})),
        ("POST", "restart", 204, ("restart", {"tasks": False, "failed": False})),
        ("POST", "tasks/1/restart", 204, ("restart-task", {"task": 1})),
    ],
)
def test_each_call_asks_for_its_verb(
    stage: Stage, method: str, path: str, status: int, asked: tuple[str, dict[str, Any]]
) -> None:
    answer = stage.ask(f"/connectors/orders/{path}", method=method)

    verb, more = asked
    assert (status, b"") == (answer.status, answer.body)
    assert [(verb, "orders", {**more, "who": "127.0.0.1"})] == stage.commands.asked


@pytest.mark.parametrize(
    ("query", "status", "states"),
    [
        ({"includeTasks": ["false"]}, 204, None),
        ({"includeTasks": [""]}, 204, None),
        ({"includeTasks": ["x"]}, 204, None),
        ({"includeTasks": ["true"]}, 202, ["RESTARTING"] * 3),
        ({"onlyFailed": ["true"]}, 202, ["RUNNING", "RUNNING", "FAILED"]),
        (
            {"includeTasks": ["TRUE"], "onlyFailed": ["true"]},
            202,
            ["RUNNING", "RUNNING", "RESTARTING"],
        ),
    ],
)
def test_a_restart_tells_what_starts_anew(
    two: Stage, query: dict[str, list[str]], status: int, states: list[str] | None
) -> None:
    every = query.get("includeTasks", [""])[0].lower() == "true"
    failed = "onlyFailed" in query
    restarted = ((1,) if failed else (0, 1)) if every else ()
    two.commands.told = AskOutcome(1, restarted=restarted)

    answer = two.ask("/connectors/orders/restart", method="POST", query=query)

    assert status == answer.status
    if states is not None:
        told = json.loads(answer.body)
        found = [told["connector"]["state"], *(t["state"] for t in told["tasks"])]
        assert states == found
        # What failed says so until it runs again.
        assert "Denied: 401" == told["tasks"][1]["trace"]


@pytest.mark.parametrize(
    ("method", "path", "refusal", "status", "message"),
    [
        ("PUT", "pause", "unknown", 404, "Unknown connector gone"),
        ("POST", "restart", "unknown", 404, "Unknown connector: gone"),
        ("POST", "tasks/0/restart", "unknown", 404, "Unknown connector: gone"),
        ("POST", "tasks/9/restart", "unknown-task", 404, "Unknown connector gone"),
        ("PUT", "stop", "busy", 409, "Unknown connector gone"),
        ("PUT", "stop", "unsaved", 500, "Unknown connector gone"),
    ],
)
def test_a_refusal_is_told_in_connects_form(
    stage: Stage, method: str, path: str, refusal: str, status: int, message: str
) -> None:
    stage.commands.told = AskOutcome(1, refusal, "Unknown connector gone")

    answer = stage.ask(f"/connectors/gone/{path}", method=method)

    assert status == answer.status
    assert {"error_code": status, "message": message} == json.loads(answer.body)


@pytest.mark.parametrize("task", ["x", "1x", "1234567890", "%31"])
def test_what_is_no_tasks_number_is_no_path(stage: Stage, task: str) -> None:
    path = f"/connectors/orders/tasks/{task}/restart"
    assert 404 == stage.ask(path, method="POST").status
    assert [] == stage.commands.asked


@pytest.mark.parametrize(
    ("caller", "headers", "status"),
    [
        (OUTSIDE, {"host": "connect.example"}, 403),
        (None, {"origin": "http://evil.example"}, 403),
        (None, {"host": "evil.example"}, 403),
        (None, {"origin": "http://localhost:8080"}, 202),
    ],
)
def test_who_may_not_write_changes_nothing(
    stage: Stage, caller: ConnectionEnds | None, headers: dict[str, str], status: int
) -> None:
    given: dict[str, Any] = {"caller": caller} if caller is not None else {}
    answer = stage.ask("/connectors/orders/pause", method="PUT", **given, **headers)

    assert status == answer.status
    assert (status == 202) == bool(stage.commands.asked)


# --- the wait for the supervisor -----------------------------------------------


def test_the_answer_of_its_own_number_is_waited_for() -> None:
    sent: list[Ask] = []

    def report(message: Message) -> bool:
        assert isinstance(message, Ask)
        sent.append(message)
        # Another's answer, and then its own.
        asking.hear(
            [AskOutcome(message.id + 7, "busy"), AskOutcome(message.id, restarted=(3,))]
        )
        return True

    asking = commands.SupervisorClient(report)

    assert (3,) == asking.restart("orders", who="me").restarted
    assert (3,) == asking.restart_task("orders", 3, who="me").restarted
    assert [1, 2] == [ask.id for ask in sent]
    assert ("restart", "orders", True, "me") == (
        sent[0].verb,
        sent[0].connector,
        sent[0].tasks,
        sent[0].who,
    )


@pytest.mark.parametrize("taken", [True, False])
def test_a_supervisor_that_does_not_answer_is_no_answer(taken: bool) -> None:
    asking = commands.SupervisorClient(lambda message: taken, patience=0.01)

    with pytest.raises(Unanswered):
        asking.pause("orders", who="me")

    # What comes too late finds nobody.
    asking.hear([AskOutcome(1)])


def test_no_answer_is_told_as_connect_tells_it(stage: Stage) -> None:
    def silent(*_: object, **__: object) -> AskOutcome:
        raise Unanswered("The supervisor does not answer.")

    stage.commands.ask = silent  # type: ignore[method-assign]
    answer = stage.ask("/connectors/orders/pause", method="PUT")

    assert 500 == answer.status
    assert json.loads(answer.body)["message"].startswith("Request timed out.")
