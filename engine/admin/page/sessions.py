"""
Sessions: who sits before the browser, and whether a form is from our own page.

Owns the two cookies of the status page and what stands in its forms.  Nothing is
kept: a session is a signed moment at which it ends, so it is known to every thread
and gone with the process.

A browser sends its cookies with a form of any site.  So a form brings a proof made
of its cookie, which only a page of ours can have written, and the cookie stays at
home (SameSite=Strict) where the browser knows how; `admin.guard` has looked at Host
and Origin before.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie

from msgspec import Struct

from engine.admin.answers import AdminRequest
from engine.admin.guard import ConnectionEnds
from engine.clock import SYSTEM, Clock

#: Seconds after which the token must be given again.
LONGEST = 12 * 3600

#: Characters of a cookie that are looked at.
MOST = 200


class Visitor(Struct, frozen=True):
    """
    What is known of the browser that asks.

    Attributes:
        trusted: May change things, and sees positions.
        may_log_in: A token would make it so.
        logged_in: A token has made it so.
        proof: What a form of the page has to bring; "" where none may be sent.
        cookie: A `Set-Cookie` for the answer, or "".
    """

    trusted: bool
    may_log_in: bool
    logged_in: bool
    proof: str
    cookie: str = ""


class Sessions:
    """
    Args:
        token: `admin.token`; "": whoever asks over loopback is trusted.
    """

    def __init__(self, token: str, *, clock: Clock = SYSTEM) -> None:
        self._token = token
        self._clock = clock
        self._key = secrets.token_bytes(32)

    def visitor(self, request: AdminRequest, caller: ConnectionEnds) -> Visitor:
        """
        The visitor that a request comes from, and the cookie to give where there is none yet.
        """
        given = _cookies(request)
        session = given.get(_named(request, "session"), "")
        logged_in = bool(self._token) and self._holds(session)
        trusted = logged_in or (not self._token and caller.local)
        may_log_in = bool(self._token) and not logged_in
        if not (trusted or may_log_in):
            return Visitor(False, False, False, "")
        browser = given.get(_named(request, "browser"), "")
        cookie = ""
        if len(browser) < 20:
            browser = secrets.token_urlsafe(18)
            cookie = _cookie(_named(request, "browser"), browser, LONGEST)
        return Visitor(
            trusted, may_log_in, logged_in, self._sign("form", browser), cookie
        )

    def genuine(self, request: AdminRequest, proof: str) -> bool:
        """True if a form comes from a page that this browser was given."""
        browser = _cookies(request).get(_named(request, "browser"), "")
        return len(browser) >= 20 and _same(self._sign("form", browser), proof)

    def log_in(self, request: AdminRequest, token: str) -> str:
        """The `Set-Cookie` of a new session, or "" for a wrong token."""
        if not self._token or not _same(token.strip(), self._token):
            return ""
        ends = str(self._clock.wall_ms() // 1000 + LONGEST)
        session = f"{ends}.{self._sign('session', ends)}"
        return _cookie(_named(request, "session"), session, LONGEST)

    def log_out(self, request: AdminRequest) -> str:
        """The `Set-Cookie` that ends it in the browser."""
        return _cookie(_named(request, "session"), "", 0)

    def _holds(self, session: str) -> bool:
        ends, _, signed = session.partition(".")
        if not _same(self._sign("session", ends), signed):
            return False
        return self._clock.wall_ms() // 1000 < int(ends)

    def _sign(self, purpose: str, text: str) -> str:
        content = f"{purpose}\n{text}".encode()
        return hmac.new(self._key, content, sha256).hexdigest()


def _named(request: AdminRequest, what: str) -> str:
    """
    A cookie's name: with our port, as cookies do not know ports and two engines
    of one machine would take each other's.
    """
    port = request.headers.get("host", "").rpartition(":")[2]
    return f"khs_{what}_{port if port.isdigit() else '80'}"


def _cookie(name: str, value: str, seconds: int) -> str:
    return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"


def _cookies(request: AdminRequest) -> dict[str, str]:
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(request.headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: one.value[:MOST] for name, one in jar.items()}


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode("utf-8", "replace"))
