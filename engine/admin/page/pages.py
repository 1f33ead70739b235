"""
Pages: what a browser gets at `/`, and what its buttons do.

Owns the paths `/` (for browsers) and `/ui/...`, and the headers that keep a page
from running anything but its own few lines (GATE jinja2).  What a button asks for
is done by whoever is passed in; nothing is started or stopped here.

Path: `admin.routes` -> here -> `page.content`, `page.sessions`, `status.html`
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, quote

from engine.admin.answers import AdminRequest, AdminResponse
from engine.admin.guard import READING, ConnectionEnds
from engine.admin.page.content import content
from engine.admin.page.plots import HEIGHT, WIDTH
from engine.admin.page.sessions import Sessions, Visitor
from engine.admin.view import EngineView
from engine.admin.watch import Picture
from engine.observe.printable import printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

HTML = "text/html; charset=utf-8"

#: What a button asks for -> what is said once it is done.
ACTIONS = {
    "pause": "is paused",
    "resume": "runs again",
    "restart": "is restarted",
    "stop": "is stopped",
}

#: Seconds between two looks of an open page.
REFRESH = 2

#: The same without script, where each look is a whole new page.
RELOAD = 5


class Act(Protocol):
    """Does what a button asks for."""

    def __call__(self, connector: str, action: str, caller: ConnectionEnds) -> str:
        """
        Args:
            action: One of `ACTIONS`.

        Returns: "" once it has been done, else why not, in a sentence.
        Blocks: until the supervisor has answered, a few seconds at most.
        """


class StatusPages:
    """
    Args:
        view: What is running.
        look: A fresh picture of it.
        began: Monotonic seconds of the supervisor's start.
        sessions: Who is trusted.
        act: Does what a button asks for; None: the page only shows.
    """

    def __init__(
        self,
        view: EngineView,
        look: Callable[[], Picture],
        *,
        began: float,
        sessions: Sessions,
        act: Act | None = None,
    ) -> None:
        self._view = view
        self._look = look
        self._began = began
        self._sessions = sessions
        self._act = act

    def status(self, request: AdminRequest, caller: ConnectionEnds) -> AdminResponse:
        """`GET /`, for a browser."""
        visitor = self._sessions.visitor(request, caller)
        return self._status(visitor, said=_said(request, self._view))

    def answer(self, request: AdminRequest, caller: ConnectionEnds) -> AdminResponse:
        """`/ui/login`, `/ui/logout` and `/ui/connectors/NAME/ACTION`."""
        match request.path.split("/")[2:]:
            case ["login"] if request.method in READING:
                return self._login(request, caller, problem="")
            case ["login"] if request.method == "POST":
                return self._logged_in(request, caller)
            case ["logout"] if request.method == "POST":
                if not self._genuine(request):
                    return self._stale(request, caller)
                return _go("/", self._sessions.log_out(request))
            case ["connectors", name, action] if action in ACTIONS:
                if request.method != "POST":
                    return _go("/")
                return self._acted(request, caller, name, action)
            case ["login" | "logout"]:
                return _go("/")
        return self._failed(404, request, caller, "There is no such page.")

    def _acted(
        self, request: AdminRequest, caller: ConnectionEnds, name: str, action: str
    ) -> AdminResponse:
        if not self._sessions.visitor(request, caller).trusted:
            return self._failed(
                403, request, caller, "Log in first: nothing has been changed."
            )
        if not self._genuine(request):
            return self._stale(request, caller)
        if all(card.name != name for card in self._view.connectors()):
            return self._failed(404, request, caller, f"There is no connector {name}.")
        if self._act is None:
            return self._failed(503, request, caller, "This page only shows.")
        why = self._act(name, action, caller)
        if why:
            return self._failed(409, request, caller, why)
        return _go(f"/?done={action}&connector={quote(name, safe='')}")

    def _logged_in(
        self, request: AdminRequest, caller: ConnectionEnds
    ) -> AdminResponse:
        if not self._genuine(request):
            return self._login(
                request, caller, problem="The form was too old; please try again."
            )
        cookie = self._sessions.log_in(request, _form(request, "token"))
        if not cookie:
            return self._login(
                request, caller, problem="That is not the token in admin.token."
            )
        return _go("/", cookie)

    def _genuine(self, request: AdminRequest) -> bool:
        return self._sessions.genuine(request, _form(request, "proof"))

    def _stale(self, request: AdminRequest, caller: ConnectionEnds) -> AdminResponse:
        return self._failed(
            403,
            request,
            caller,
            "The form was not of a page this browser was given, or the engine was "
            "started anew since: nothing has been changed, please try again.",
        )

    def _failed(
        self, status: int, request: AdminRequest, caller: ConnectionEnds, problem: str
    ) -> AdminResponse:
        visitor = self._sessions.visitor(request, caller)
        return self._status(visitor, status=status, problem=problem)

    def _status(
        self, visitor: Visitor, *, status: int = 200, said: str = "", problem: str = ""
    ) -> AdminResponse:
        picture = self._look()
        shown = content(self._view, picture, began=self._began, trusted=visitor.trusted)
        buttons = visitor.trusted and self._act is not None
        return _rendered(
            "status.html",
            status,
            visitor,
            page=shown,
            buttons=buttons,
            said=said,
            problem=problem,
            refresh=REFRESH,
            # A page without script is loaded anew, but not while it says why not.
            reload=0 if problem else RELOAD,
            width=WIDTH,
            height=HEIGHT,
        )

    def _login(
        self, request: AdminRequest, caller: ConnectionEnds, *, problem: str
    ) -> AdminResponse:
        visitor = self._sessions.visitor(request, caller)
        if not visitor.may_log_in:
            return _go("/")
        status = 403 if problem else 200
        return _rendered("login.html", status, visitor, problem=problem)


def wants_page(accept: str) -> bool:
    """
    True if an `Accept` header prefers HTML to JSON (RFC 9110, 12.5.1).

    Only who names HTML gets it: `*/*`, and no header at all, are programs.
    """
    html = json = 0.0
    for one in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in one.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    weight = min(1.0, max(0.0, float(value)))
                except ValueError:
                    weight = 0.0
        if kind in ("text/html", "application/xhtml+xml"):
            html = max(html, weight)
        elif kind == "application/json":
            json = max(json, weight)
    return html > 0 and html >= json


def _said(request: AdminRequest, view: EngineView) -> str:
    """What was done, out of the address it led to: nobody else's words."""
    action = request.flag("done") or ""
    name = request.flag("connector") or ""
    known = any(card.name == name for card in view.connectors())
    return f"{name} {ACTIONS[action]}." if action in ACTIONS and known else ""


def _form(request: AdminRequest, name: str) -> str:
    if (
        not request.headers.get("content-type", "")
        .lower()
        .startswith("application/x-www-form-urlencoded")
    ):
        return ""
    try:
        fields = parse_qs(request.body.decode("ascii"), max_num_fields=20)
    except ValueError:
        return ""
    return fields.get(name, [""])[-1]


def _go(where: str, cookie: str = "") -> AdminResponse:
    """See Other: what was sent is not sent again with the next look."""
    headers = [("Location", where)]
    if cookie:
        headers.append(("Set-Cookie", cookie))
    return AdminResponse(303, b"", HTML, tuple(headers))


def _rendered(name: str, status: int, visitor: Visitor, **values: Any) -> AdminResponse:
    nonce = secrets.token_urlsafe(16)
    text = (
        _templates().get_template(name).render(visitor=visitor, nonce=nonce, **values)
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    headers = [
        ("Content-Security-Policy", policy),
        # Without a referrer a form has no Origin either, and `admin.guard` wants it.
        ("Referrer-Policy", "same-origin"),
        ("X-Frame-Options", "DENY"),
        ("Vary", "Accept, Cookie"),
    ]
    if visitor.cookie:
        headers.append(("Set-Cookie", visitor.cookie))
    return AdminResponse(status, printable(text).encode(), HTML, tuple(headers))


@cache
def _templates() -> Environment:
    # Only a browser needs it: a start does without.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("engine.admin.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters["code"] = _code
    return found


def _code(text: str) -> Markup:
    """What stands between backticks as `<code>`; all of it escaped."""
    from markupsafe import Markup, escape

    parts = [
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)
