"""
Commands: what this process asks of the supervisor, and the wait for its answer.

Owns the numbers of the requests under way.  Only the supervisor starts and stops
processes: whoever wants something changed calls a verb here, in any thread that answers
a request, and is told what became of it.

Path: ``admin.control``, ``admin.page`` -> here -> link -> ``supervisor.commands``
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from typing import Any

from engine.shared.link import Ask, AskOutcome, Message

#: Seconds the supervisor has for an answer; it needs milliseconds where it lives.
PATIENCE = 10.0


class Unanswered(Exception):
    """The supervisor did not answer in time; what was asked for may still happen."""


class SupervisorClient:
    """
    Asks, and waits.

    Args:
        report: Puts a message on its way; False if the link is full.
        patience: Seconds to wait for an answer.
    """

    def __init__(
        self, report: Callable[[Message], bool], *, patience: float = PATIENCE
    ) -> None:
        self._report = report
        self._patience = patience
        self._numbers = itertools.count(1)
        # Guards `_waiting` between the threads that ask and the one that hears. It is not held
        # while a message is sent: `hear` has to give out answers while a full link is waited for.
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._waiting: dict[int, _Waiting] = {}

    # The verbs.  `who` is named in the log: the address of who asked.

    def pause(self, connector: str, *, who: str) -> AskOutcome:
        """Pause a connector: its tasks begin nothing more and keep their connections."""
        return self.ask("pause", connector, who=who)

    def resume(self, connector: str, *, who: str) -> AskOutcome:
        """Back to work, from PAUSED or STOPPED; what is FAILED is tried again."""
        return self.ask("resume", connector, who=who)

    def stop(self, connector: str, *, who: str) -> AskOutcome:
        """Stop a connector: its tasks drain and end, and nothing of it is left running."""
        return self.ask("stop", connector, who=who)

    def restart(
        self, connector: str, *, tasks: bool = True, failed: bool = False, who: str
    ) -> AskOutcome:
        """
        Restart a connector: its tasks start anew, or with `failed` those that have failed;
        without `tasks` none, as Connect has it.
        """
        return self.ask("restart", connector, tasks=tasks, failed=failed, who=who)

    def restart_task(self, connector: str, task: int, *, who: str) -> AskOutcome:
        """One task starts anew."""
        return self.ask("restart-task", connector, task=task, who=who)

    def ask(self, verb: str, connector: str, **more: Any) -> AskOutcome:
        """
        Ask for a verb of `supervisor.commands`.

        Args:
            more: Further fields of `link.Ask`.

        Returns: the answer; its `refusal` says whether anything was done.
        Raises: Unanswered.
        Blocks: until the answer is there, at most `patience` seconds.
        """
        waiting = _Waiting()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = waiting
        try:
            # A link is not shared between threads: one message at a time.
            with self._sending:
                sent = self._report(Ask(number, verb, connector, **more))
            if not sent or not waiting.there.wait(self._patience):
                raise Unanswered("The supervisor does not answer.")
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        assert waiting.told is not None
        return waiting.told

    def hear(self, messages: Iterable[Message]) -> None:
        """Give the answers among some messages to those who wait; any thread."""
        for message in messages:
            if isinstance(message, AskOutcome):
                with self._lock:
                    waiting = self._waiting.pop(message.id, None)
                if waiting is not None:
                    waiting.told = message
                    waiting.there.set()


class _Waiting:
    """A thread that has asked the supervisor and waits for its answer."""

    __slots__ = ("there", "told")

    def __init__(self) -> None:
        self.there = threading.Event()
        self.told: AskOutcome | None = None
