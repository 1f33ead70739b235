"""
Routes: which path and method is answered by what.

Owns the one table of them, and what follows from it alone: 404 for a path that is in no
row, 405 with `Allow` for a method that its row has not, OPTIONS, HEAD, 406 and 415.  It
knows no socket, and computes nothing itself.

Every answer is made from one fresh picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from msgspec import Struct

from engine.admin import (
    beans,
    connect,
    definitions,
    health,
    jolokia,
    loggers,
    plugins,
    prometheus,
)
from engine.admin.answers import (
    BOUNDS,
    JSON,
    AdminRequest,
    AdminResponse,
    Malformed,
    RequestLimits,
    refusal,
)
from engine.admin.commands import SupervisorClient
from engine.admin.configuring import Configuring
from engine.admin.control import Control
from engine.admin.guard import READING, ConnectionEnds, Guard
from engine.admin.page.pages import StatusPages, wants_page
from engine.admin.positions import OffsetsResource, Place
from engine.admin.prometheus import Measure
from engine.admin.view import EngineView
from engine.admin.watch import HealthWatch
from engine.config.served import Served


class RoutedRequest(Struct, frozen=True):
    """
    A request whose path and method a route answers.

    Attributes:
        request: As it came.
        caller: Where it came from.
        names: What stands in the place of the route's `*`, in order.
    """

    request: AdminRequest
    caller: ConnectionEnds
    names: tuple[str, ...]

    @property
    def who(self) -> str:
        """The address that asked, for the log."""
        return self.caller.peer


Handler = Callable[[RoutedRequest], AdminResponse]


class Route(Struct, frozen=True):
    """
    One path of the HTTP server, and what answers each of its methods.

    Attributes:
        path: Its parts; `*` is any one, `#` a number, a last `**` all that follows.
        methods: What answers each method; GET answers HEAD, too.
        connect: A call of Connect's, which speaks JSON and nothing else.
    """

    path: tuple[str, ...]
    methods: Mapping[str, Handler]
    connect: bool = True

    def match(self, parts: Sequence[str]) -> tuple[str, ...] | None:
        """What stands in the place of its `*`, or None: another path."""
        if self.path[-1:] == ("**",):
            return () if tuple(parts[: len(self.path) - 1]) == self.path[:-1] else None
        if len(parts) != len(self.path):
            return None
        names = []
        for wanted, part in zip(self.path, parts, strict=True):
            if wanted == "*" or (wanted == "#" and connect.TASK.fullmatch(part)):
                names.append(part)
            elif wanted != part:
                return None
        return tuple(names)

    @property
    def allowed(self) -> str:
        """The methods, for `Allow`."""
        found = ["GET", "HEAD"] if "GET" in self.methods else []
        return ", ".join([*found, *(m for m in self.methods if m != "GET"), "OPTIONS"])


class Router:
    """
    Finds the route of a request, lets the guard judge it, and answers it.

    It is called on the server's threads, several at a time.

    Args:
        view: What is running.
        watch: Looks at it.
        commands: Asks the supervisor for what is to change.
        guard: Who may ask.
        families: `metrics.names`.
        bounds: Of what one request may ask for.
        measure: Usage of a process.
        pages: What browsers get; None: there is none.
        served: What the files say, for those who change connectors.
        places: Connector -> where its offsets are kept.
    """

    def __init__(
        self,
        view: EngineView,
        watch: HealthWatch,
        commands: SupervisorClient,
        *,
        guard: Guard,
        families: Sequence[str] = (prometheus.NATIVE, prometheus.STRIMZI),
        measure: Measure,
        bounds: RequestLimits = BOUNDS,
        pages: StatusPages | None = None,
        served: Served | None = None,
        places: Callable[[str], Place | None] = lambda connector: None,
    ) -> None:
        self._view = view
        self._watch = watch
        self._guard = guard
        self._families = families
        self._bounds = bounds
        self._measure = measure
        self._pages = pages
        self._served = served if served is not None else Served(())
        self._positions = OffsetsResource(view, commands, places)
        self._configuring = Configuring(view, commands, self._served)
        self._rows = (*self._ours(), *self._connects(Control(view, commands)))

    def __call__(self, request: AdminRequest, caller: ConnectionEnds) -> AdminResponse:
        """The answer, refusals included; raises nothing that is foreseen."""
        refused = self._guard.refused(request, caller)
        if refused is not None:
            return refused
        if self._pages is not None:
            if request.path.startswith("/ui/"):
                return self._pages.answer(request, caller)
            if request.path == "/" and _by_a_browser(request):
                return self._pages.status(request, caller)
        parts = segments(request.path)
        for row in self._rows:
            names = row.match(parts) if parts is not None else None
            if names is not None:
                return _answered(row, RoutedRequest(request, caller, names))
        return refusal(404, connect.NOT_FOUND)

    def _ours(self) -> tuple[Route, ...]:
        """What Connect does not have."""
        get = self._health
        jolokias = {"GET": self._jolokia, "POST": self._jolokia}
        return (
            *(
                Route(("health", *rest), {"GET": get}, connect=False)
                for rest in ((), ("live",), ("ready",), ("metrics",))
            ),
            Route(("metrics",), {"GET": self._metrics}, connect=False),
            Route(("jolokia", "**"), jolokias, connect=False),
        )

    def _connects(self, control: Control) -> tuple[Route, ...]:
        """The routes of Connect's own REST API."""
        view = self._view
        one = ("connectors", "*")
        return (
            Route((), {"GET": lambda a: connect.root(view)}),
            Route(
                ("connectors",),
                {
                    "GET": lambda a: connect.names(a.request, view),
                    "POST": lambda a: self._configuring.create(a.request, a.who),
                },
            ),
            Route(
                one,
                {
                    "GET": lambda a: connect.info(view, a.names[0]),
                    "DELETE": lambda a: self._configuring.delete(a.names[0], a.who),
                },
            ),
            Route(
                (*one, "config"),
                {
                    "GET": lambda a: connect.config(view, a.names[0]),
                    "PUT": lambda a: self._configuring.put(
                        a.request, a.names[0], a.who
                    ),
                    "PATCH": lambda a: self._configuring.patch(
                        a.request, a.names[0], a.who
                    ),
                },
            ),
            Route(
                (*one, "status"), {"GET": lambda a: connect.status(view, a.names[0])}
            ),
            Route(
                (*one, "tasks"),
                {
                    "GET": lambda a: connect.tasks(view, a.names[0]),
                    "POST": _between_workers,
                },
            ),
            Route((*one, "fence"), {"PUT": _between_workers}),
            Route(
                (*one, "tasks", "#", "status"),
                {
                    "GET": lambda a: connect.task_status(
                        view, a.names[0], int(a.names[1])
                    )
                },
            ),
            Route(
                (*one, "tasks", "#", "restart"),
                {
                    "POST": lambda a: control.restart_task(
                        a.names[0], int(a.names[1]), a.who
                    )
                },
            ),
            Route((*one, "pause"), {"PUT": lambda a: control.pause(a.names[0], a.who)}),
            Route(
                (*one, "resume"), {"PUT": lambda a: control.resume(a.names[0], a.who)}
            ),
            Route((*one, "stop"), {"PUT": lambda a: control.stop(a.names[0], a.who)}),
            Route(
                (*one, "restart"),
                {"POST": lambda a: control.restart(a.request, a.names[0], a.who)},
            ),
            Route(
                (*one, "topics"), {"GET": lambda a: connect.topics(view, a.names[0])}
            ),
            Route((*one, "topics", "reset"), {"PUT": self._forget_topics}),
            Route(
                (*one, "offsets"),
                {
                    "GET": lambda a: self._positions.every(a.names[0]),
                    "PATCH": lambda a: self._positions.alter(
                        a.request, a.names[0], a.who
                    ),
                    "DELETE": lambda a: self._positions.reset(a.names[0], a.who),
                },
            ),
            Route(
                ("connector-plugins",),
                {"GET": lambda a: plugins.every(a.request, view)},
            ),
            Route(
                ("connector-plugins", "*", "config"),
                {"GET": lambda a: definitions.every(a.request, view, a.names[0])},
            ),
            Route(
                ("connector-plugins", "*", "config", "validate"),
                {
                    "PUT": lambda a: definitions.validate(
                        a.request, self._served, a.names[0]
                    )
                },
            ),
            Route(("admin", "loggers"), {"GET": lambda a: loggers.every(view)}),
            Route(
                ("admin", "loggers", "*"),
                {
                    "GET": lambda a: loggers.one(view, a.names[0]),
                    "PUT": lambda a: loggers.change(
                        a.request, view, a.names[0], most=self._bounds.loggers
                    ),
                },
            ),
        )

    def _forget_topics(self, asked: RoutedRequest) -> AdminResponse:
        self._view.forget_topics(asked.names[0])
        return AdminResponse(202, content_type="")

    def _health(self, asked: RoutedRequest) -> AdminResponse:
        picture = self._watch.look()
        return health.answer(asked.request, picture, began=self._watch.began)

    def _metrics(self, asked: RoutedRequest) -> AdminResponse:
        return prometheus.answer(
            asked.request,
            self._watch.look(),
            self._view,
            families=self._families,
            measure=self._measure,
            began=self._watch.began,
        )

    def _jolokia(self, asked: RoutedRequest) -> AdminResponse:
        picture = self._watch.look()
        cards = [card for card in picture.cards if card.jmx]
        if not cards:
            return refusal(404, "jmx.enabled is false in every connector")
        every = chain(beans.http(picture), beans.connect(picture, self._view, cards))
        seconds = picture.wall_ms // 1000
        return jolokia.answer(
            asked.request, every, seconds=seconds, bounds=self._bounds
        )


def _by_a_browser(request: AdminRequest) -> bool:
    return request.method in READING and wants_page(request.headers.get("accept", ""))


def segments(path: str) -> list[str] | None:
    """
    The parts of a path; a slash at its end is ignored, as Connect does.

    Returns: None for a path that no row can have.
    """
    if path in ("", "/"):
        return []
    if not path.startswith("/") or "//" in path:
        return None
    return path.removeprefix("/").removesuffix("/").split("/")


def _answered(row: Route, asked: RoutedRequest) -> AdminResponse:
    request = asked.request
    if request.method == "OPTIONS":
        allow = (("Allow", row.allowed),)
        return AdminResponse(200, row.allowed.encode(), "text/plain", allow)
    method = "GET" if request.method == "HEAD" else request.method
    handler = row.methods.get(method)
    if handler is None:
        return connect.not_allowed(row.allowed)
    if row.connect:
        if not takes_json(request.headers.get("accept", "")):
            return refusal(406, "HTTP 406 Not Acceptable")
        if method != "GET" and not _is_json(request.headers.get("content-type", "")):
            return refusal(415, "HTTP 415 Unsupported Media Type")
    try:
        return handler(asked)
    except Malformed as problem:
        return refusal(400, f"Bad request: {problem}")


def takes_json(accept: str) -> bool:
    """True if `Accept` (RFC 9110, 12.5.1) leaves room for JSON."""
    if not accept.strip():
        return True
    best: dict[str, float] = {}
    for item in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        if not kind:
            continue
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        best[kind] = max(quality, best.get(kind, 0.0))
    if not best:
        return True
    # The most specific range decides.
    for kind in (JSON, "application/*", "*/*", "*"):
        if kind in best:
            return best[kind] > 0.0
    return False


def _is_json(content_type: str) -> bool:
    """
    True for JSON and for what does not say what it is.

    A page of another origin can send a form or text without asking first, and
    neither is taken.
    """
    kind = content_type.partition(";")[0].strip().lower()
    return kind in ("", JSON)


def _between_workers(asked: RoutedRequest) -> AdminResponse:
    """Connect's workers sign what they send each other; there are none here."""
    return refusal(400, "Internal request missing required signature")
