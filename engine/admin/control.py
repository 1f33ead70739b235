"""
Control: the calls of Connect's REST API that change something.

Owns which call asks the supervisor for what, and Connect's answer to what became of it.
Nothing is changed in this process: a refusal anywhere leaves everything as it was.

Source: Kafka Connect 4.3's REST API; KIP-745 (restart of tasks), KIP-875 (stop).

Path: ``admin.routes`` -> here -> ``admin.commands``
"""

from __future__ import annotations

import re
from collections.abc import Callable

from engine.admin import connect
from engine.admin.answers import Answer, Question, json_answer, refusal
from engine.admin.commands import Commands, Unanswered
from engine.admin.guard import Caller
from engine.admin.view import View
from engine.shared.link import Told

#: Status of each refusal of the supervisor's.
STATUS = {
    "unknown": 404,
    "unknown-task": 404,
    "busy": 409,
    "owned": 409,
    "invalid": 400,
    "unsaved": 500,
}

#: Answers without a body.
ACCEPTED = Answer(202, content_type="")
DONE = Answer(204, content_type="")

_TASK = re.compile(r"-?[0-9]{1,9}")


class Control:
    """
    Answers the calls that change something.

    Args:
        view: What is running.
        commands: Asks the supervisor.
    """

    def __init__(self, view: View, commands: Commands) -> None:
        self._view = view
        self._commands = commands

    def __call__(self, question: Question, caller: Caller) -> Answer:
        """Under `/connectors`, by another method than GET and HEAD."""
        parts = question.path.strip("/").split("/")[1:]
        who = caller.peer
        match question.method, parts:
            case "PUT", [name, "pause"]:
                return self._told(
                    lambda: self._commands.pause(name, who=who), lambda _: ACCEPTED
                )
            case "PUT", [name, "resume"]:
                return self._told(
                    lambda: self._commands.resume(name, who=who), lambda _: ACCEPTED
                )
            case "PUT", [name, "stop"]:
                return self._told(
                    lambda: self._commands.stop(name, who=who), lambda _: DONE
                )
            case "POST", [name, "restart"]:
                return self._restart(question, name, who)
            case "POST", [name, "tasks", number, "restart"] if _TASK.fullmatch(number):
                return self._restart_task(name, int(number), who)
        return connect.not_allowed("GET, HEAD")

    def _restart(self, question: Question, name: str, who: str) -> Answer:
        tasks = _true(question, "includeTasks")
        failed = _true(question, "onlyFailed")

        def answered(told: Told) -> Answer:
            if not tasks and not failed:
                return DONE
            status = connect.status_of(self._view, name)
            if status is None:
                return refusal(404, f"Unknown connector: {name}")
            if tasks and not failed:
                status["connector"]["state"] = "RESTARTING"
            for task in status["tasks"]:
                if task["id"] in told.restarted:
                    task["state"] = "RESTARTING"
            return json_answer(202, status)

        return self._told(
            lambda: self._commands.restart(name, tasks=tasks, failed=failed, who=who),
            answered,
            unknown=f"Unknown connector: {name}",
        )

    def _restart_task(self, name: str, number: int, who: str) -> Answer:
        return self._told(
            lambda: self._commands.restart_task(name, number, who=who),
            lambda _: DONE,
            unknown=f"Unknown connector: {name}",
        )

    def _told(
        self,
        ask: Callable[[], Told],
        answered: Callable[[Told], Answer],
        *,
        unknown: str = "",
    ) -> Answer:
        try:
            told = ask()
        except Unanswered as silence:
            return refusal(500, f"Request timed out. {silence}")
        if told.refusal == "unknown" and unknown:
            return refusal(404, unknown)
        if told.refusal:
            return refusal(STATUS.get(told.refusal, 500), told.message)
        return answered(told)


def _true(question: Question, name: str) -> bool:
    """As Java reads it: anything but `true` is false."""
    return (question.flag(name) or "").lower() == "true"
