"""
Routes: which path is answered by what.

Owns the list of paths and methods; it knows no socket, and computes nothing itself.

Every answer is made from one fresh picture.  What is not in the list is 404 in
Connect's words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from engine.admin import beans, connect, control, health, jolokia, prometheus
from engine.admin.answers import BOUNDS, Answer, Bounds, Question, refusal
from engine.admin.commands import Commands
from engine.admin.guard import READING, Caller, Guard
from engine.admin.page.pages import Pages, wants_page
from engine.admin.prometheus import Measure
from engine.admin.view import View
from engine.admin.watch import Watch


class Routes:
    """
    Answers questions.

    Args:
        view: What is running.
        watch: Looks at it.
        commands: Asks the supervisor for what is to change.
        guard: Who may ask.
        families: `metrics.names`.
        bounds: Of what one request may ask for.
        measure: Usage of a process.
        pages: What browsers get; None: there is none.
    """

    def __init__(
        self,
        view: View,
        watch: Watch,
        commands: Commands,
        *,
        guard: Guard,
        families: Sequence[str] = (prometheus.NATIVE, prometheus.STRIMZI),
        measure: Measure,
        bounds: Bounds = BOUNDS,
        pages: Pages | None = None,
    ) -> None:
        self._view = view
        self._watch = watch
        self._control = control.Control(view, commands)
        self._guard = guard
        self._families = families
        self._bounds = bounds
        self._measure = measure
        self._pages = pages

    def __call__(self, question: Question, caller: Caller) -> Answer:
        """The answer, refusals included; raises nothing that is foreseen."""
        refused = self._guard.refused(question, caller)
        if refused is not None:
            return refused
        if self._pages is not None:
            if question.path.startswith("/ui/"):
                return self._pages.answer(question, caller)
            if question.path == "/" and _by_a_browser(question):
                return self._pages.status(question, caller)
        return self._routed(question, caller)

    def _routed(self, question: Question, caller: Caller) -> Answer:
        path = question.path
        match path.strip("/").split("/"):
            case [""]:
                return self._reading(question, lambda: connect.root(self._view))
            case ["health"] | ["health", "live" | "ready" | "metrics"]:
                return self._reading(question, lambda: self._health(question))
            case ["metrics"]:
                return self._reading(question, lambda: self._metrics(question))
            case ["jolokia", *_]:
                return self._jolokia(question)
            case ["connector-plugins"]:
                return self._reading(question, lambda: connect.plugins(self._view))
            case ["connectors", *_] if question.method in READING:
                return connect.connectors(question, self._view)
            case ["connectors", *_]:
                return self._control(question, caller)
            case ["admin", "loggers", *_]:
                if question.method in (*READING, "PUT"):
                    return connect.loggers(
                        question, self._view, most=self._bounds.loggers
                    )
                return connect.not_allowed("GET, HEAD, PUT")
        return refusal(404, connect.NOT_FOUND)

    def _reading(self, question: Question, answered: Callable[[], Answer]) -> Answer:
        return (
            answered()
            if question.method in READING
            else connect.not_allowed("GET, HEAD")
        )

    def _health(self, question: Question) -> Answer:
        return health.answer(question, self._watch.look(), began=self._watch.began)

    def _metrics(self, question: Question) -> Answer:
        return prometheus.answer(
            question,
            self._watch.look(),
            self._view,
            families=self._families,
            measure=self._measure,
            began=self._watch.began,
        )

    def _jolokia(self, question: Question) -> Answer:
        if question.method not in (*READING, "POST"):
            return connect.not_allowed("GET, HEAD, POST")
        picture = self._watch.look()
        cards = [card for card in picture.cards if card.jmx]
        if not cards:
            return refusal(404, "jmx.enabled is false in every connector")
        every = chain(beans.http(picture), beans.connect(picture, self._view, cards))
        seconds = picture.wall_ms // 1000
        return jolokia.answer(question, every, seconds=seconds, bounds=self._bounds)


def _by_a_browser(question: Question) -> bool:
    return question.method in READING and wants_page(question.headers.get("accept", ""))
