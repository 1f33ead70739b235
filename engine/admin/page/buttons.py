"""
Buttons: what a button of the status page asks the supervisor for.

Path: `page.pages` -> here -> `admin.commands`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.admin.commands import SupervisorClient, Unanswered
from engine.admin.guard import ConnectionEnds
from engine.shared.link import AskOutcome


class Buttons:
    """
    `page.pages.Act` over the supervisor's commands.

    Args:
        commands: Asks the supervisor.
    """

    def __init__(self, commands: SupervisorClient) -> None:
        self._verbs: Mapping[str, Callable[..., AskOutcome]] = {
            "pause": commands.pause,
            "resume": commands.resume,
            "restart": commands.restart,
            "stop": commands.stop,
        }

    def __call__(self, connector: str, action: str, caller: ConnectionEnds) -> str:
        try:
            told = self._verbs[action](connector, who=caller.peer)
        except Unanswered as silence:
            return f"{silence} What was asked for may still happen."
        return told.message if told.refusal else ""
