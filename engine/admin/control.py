"""
Control: the calls of Connect's REST API that change a run state.

Owns which call asks the supervisor for what, and Connect's answer to what became of it.
Nothing is changed in this process: a refusal anywhere leaves everything as it was.

Source: Kafka Connect 4.3's REST API; KIP-745 (restart of tasks), KIP-875 (stop).

Path: ``admin.routes`` -> here -> ``admin.commands``
"""

from __future__ import annotations

from collections.abc import Callable

from engine.admin import connect
from engine.admin.answers import AdminRequest, AdminResponse, json_answer, refusal
from engine.admin.commands import SupervisorClient, Unanswered
from engine.admin.view import EngineView
from engine.shared.link import AskOutcome

#: Status of each refusal of the supervisor's.
STATUS = {
    "unknown": 404,
    "unknown-task": 404,
    "exists": 409,
    "busy": 409,
    "running": 400,
    "owned": 409,
    "invalid": 400,
    "unsaved": 500,
}

#: Answers without a body.
ACCEPTED = AdminResponse(202, content_type="")
DONE = AdminResponse(204, content_type="")


class Control:
    """
    Answers the calls that change a run state.

    Args:
        view: What is running.
        commands: Asks the supervisor.
    """

    def __init__(self, view: EngineView, commands: SupervisorClient) -> None:
        self._view = view
        self._commands = commands

    def pause(self, name: str, who: str) -> AdminResponse:
        """`PUT /connectors/{name}/pause`."""
        return told(lambda: self._commands.pause(name, who=who), lambda _: ACCEPTED)

    def resume(self, name: str, who: str) -> AdminResponse:
        """`PUT /connectors/{name}/resume`."""
        return told(lambda: self._commands.resume(name, who=who), lambda _: ACCEPTED)

    def stop(self, name: str, who: str) -> AdminResponse:
        """`PUT /connectors/{name}/stop`."""
        return told(lambda: self._commands.stop(name, who=who), lambda _: DONE)

    def restart(self, request: AdminRequest, name: str, who: str) -> AdminResponse:
        """`POST /connectors/{name}/restart[?includeTasks=][&onlyFailed=]`."""
        tasks = true(request, "includeTasks")
        failed = true(request, "onlyFailed")

        def answered(done: AskOutcome) -> AdminResponse:
            if not tasks and not failed:
                return DONE
            status = connect.status_of(self._view, name)
            if status is None:
                return refusal(404, f"Unknown connector: {name}")
            if tasks and not failed:
                status["connector"]["state"] = "RESTARTING"
            for task in status["tasks"]:
                if task["id"] in done.restarted:
                    task["state"] = "RESTARTING"
            return json_answer(202, status)

        return told(
            lambda: self._commands.restart(name, tasks=tasks, failed=failed, who=who),
            answered,
            unknown=f"Unknown connector: {name}",
        )

    def restart_task(self, name: str, number: int, who: str) -> AdminResponse:
        """`POST /connectors/{name}/tasks/{number}/restart`."""
        return told(
            lambda: self._commands.restart_task(name, number, who=who),
            lambda _: DONE,
            unknown=f"Unknown connector: {name}",
        )


def told(
    ask: Callable[[], AskOutcome],
    answered: Callable[[AskOutcome], AdminResponse],
    *,
    unknown: str = "",
) -> AdminResponse:
    """
    Ask the supervisor, and say what became of it in Connect's way.

    Args:
        answered: Makes the answer to what was done.
        unknown: Connect's words of this call for a connector that is not there.
    """
    try:
        done = ask()
    except Unanswered as silence:
        return refusal(500, f"Request timed out. {silence}")
    if done.refusal == "unknown" and unknown:
        return refusal(404, unknown)
    if done.refusal:
        return refusal(STATUS.get(done.refusal, 500), done.message)
    return answered(done)


def true(request: AdminRequest, name: str) -> bool:
    """As Java reads it: anything but `true` is false."""
    return (request.flag(name) or "").lower() == "true"
