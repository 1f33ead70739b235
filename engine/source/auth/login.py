"""
Login: a request that brings a token or cookies, shared by all processes.

Owns what the login says, where its answer has the token, and how requests carry it;
that one process asks for all is `source.auth.shared`'s.  Opens no socket.

Path: `source.wire.http1` (`stamp` before each try) -> here -> `source.auth.shared`,
a fetch
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Hashable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Denied, Unexpected, Unreachable
from engine.language import BodyTemplate, compile_body, compile_path
from engine.language.faults import EvaluationError
from engine.language.values import MISSING, decode, plain, text_of
from engine.observe.redact import REDACTOR
from engine.records import Request, Response
from engine.seams import Fetch
from engine.source.auth.oauth import error_of, require_answer, unsendable
from engine.source.auth.shared import (
    KeptToken,
    SharedLock,
    SharedToken,
    hashed,
    renewal,
)
from engine.source.wire.cookies import CookieJar, joined
from engine.source.wire.origin import shown

log = logging.getLogger("http")

#: What the texts of a login may name: `connection.user` and `connection.password`.
NAMES = frozenset({"user", "password"})

#: What stands for the token in the template of how it is sent.
TOKEN = "${token}"

#: Characters of a token.
LONGEST = 16_384


class LoginOptions(Struct, frozen=True, kw_only=True):
    """
    `auth.login.*`.

    Attributes:
        body: Template over `user` and `password`, or None.
        user, password: `connection.*`.
        path, header, cookie: Where the token stands in the answer; at most one is set.
            None: the cookies of the answer are what is sent.  A path of "$" is a body
            that is nothing but the token.
        expires: Path of its life or its end in the answer, or None.
        after: Seconds after which a login is done anew, or None.
        place: Where requests carry it: "HEADER", "QUERY" or "COOKIE".
        name: Of that header, parameter or cookie.
        template: With `${token}` in it.
        buffer: Seconds before its end at which it is renewed.
    """

    url: str
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    user: str = ""
    password: str = ""
    path: str | None = None
    header: str | None = None
    cookie: str | None = None
    expires: str | None = None
    after: float | None = None
    place: str = "HEADER"
    name: str = "Authorization"
    template: str = "Bearer ${token}"
    buffer: float = 60.0

    def __repr__(self) -> str:
        return f"LoginOptions({shown(self.url)})"

    @property
    def by_cookies(self) -> bool:
        """Whether all that the login sets is sent, and nothing is looked for."""
        return self.path is None and self.header is None and self.cookie is None


class LoginAuth:
    """
    `auth.type=LOGIN`: credentials for `source.wire.http1`.  Thread-safe by its lock.

    Args:
        fetch: Sends the login: limited, without credentials, following no redirect.
        path: The token file; its directory is ours alone.
        lock: Shared by all processes that know the path.
    """

    def __init__(
        self,
        options: LoginOptions,
        *,
        fetch: Fetch,
        path: Path,
        lock: SharedLock,
        clock: Clock = SYSTEM,
    ):
        self._options = options
        self._fetch = fetch
        self._clock = clock
        self._body, self._kind = _compiled(options)
        self._path = None
        if options.path is not None and options.path != "$":
            self._path = compile_path(options.path)
        self._expires = (
            None if options.expires is None else compile_path(options.expires)
        )
        self._fits = hashed(repr([getattr(options, f) for f in _ASKED]))
        self._shared = SharedToken(
            self._ask, fits=self._fits, path=path, lock=lock, clock=clock
        )
        if options.password:
            REDACTOR.learn(options.password)

    @property
    def query(self) -> str:
        """What is added to the target."""
        token = self._shared.current
        if self._options.place != "QUERY" or token is None or self._options.by_cookies:
            return ""
        return (
            f"{quote(self._options.name, safe='')}={quote(self._sent(token), safe='')}"
        )

    def stamp(self) -> Hashable | None:
        """
        What the login of now has brought; logs in where there is none or it is old.

        None where cookies are for some paths only: what a try carries hangs on it.

        Raises: Denied, Unreachable, Unexpected.
        Blocks: for the login, of whichever process does it.
        """
        token = self._shared.token()
        if not self._options.by_cookies:
            return token.access
        if any(cookie.path != "/" for cookie in token.cookies):
            return None
        now = self._clock.wall_ms()
        return token.cookies, sum(0 < each.ends_ms <= now for each in token.cookies)

    def __call__(self, prepared: Any) -> Any:
        token, options = self._shared.current, self._options
        if token is None or (options.place == "QUERY" and not options.by_cookies):
            return prepared
        headers = prepared.headers
        if options.by_cookies or options.place == "COOKIE":
            # What a server has set since, in this poll, stands in the header already.
            if options.by_cookies:
                jar = CookieJar(token.cookies, across=True, clock=self._clock)
                mine = jar.header(prepared.url)
            else:
                mine = f"{options.name}={self._sent(token)}"
            known = headers.get("Cookie", "")
            pairs = [
                (name, value)
                for name, _, value in (
                    each.strip().partition("=") for each in known.split(";")
                )
                if name
            ]
            if text := joined(pairs, mine):
                headers["Cookie"] = text
        else:
            headers[options.name] = self._sent(token)
        return prepared

    def _sent(self, token: KeptToken) -> str:
        return self._options.template.replace(TOKEN, token.access)

    def refresh(self, response: Response, stale: bool = False) -> bool:
        """
        After a refusal: another login, unless somebody has done it already.

        Args:
            stale: The answer says by other means than its status that it has ended.

        Returns: True if there is another one now.
        Raises, blocks: as `stamp`.
        """
        if response.status != 401 and not stale:
            return False
        renewed = self._shared.renew(response)
        jar = response.request.jar
        if renewed and jar is not None:
            # They belong to the session that has ended.
            jar.forget()
        return renewed

    # -- the login -------------------------------------------------------------

    def _ask(self, kept: KeptToken | None) -> KeptToken:
        options = self._options
        asked_ms = self._clock.wall_ms()
        scope = {"user": options.user, "password": options.password}
        try:
            body = None if self._body is None else self._body.render(scope)
        except EvaluationError as error:
            raise Denied(f"auth.login.body: {error}") from error
        named = {name.lower() for name, _ in options.headers}
        headers = list(options.headers)
        if body is not None and "content-type" not in named:
            headers.append(("Content-Type", self._kind))
        if "accept" not in named and self._path is not None:
            headers.append(("Accept", "application/json"))
        jar = CookieJar(across=True, clock=self._clock)
        response = self._fetch(
            Request(options.method, options.url, tuple(headers), body, jar=jar)
        )
        return self._taken(response, jar, asked_ms)

    def _taken(self, response: Response, jar: CookieJar, asked_ms: int) -> KeptToken:
        url, status, options = shown(self._options.url), response.status, self._options
        who = f"the login at {url}"
        moved = 300 <= status < 400 and options.path is None
        if status == 429 or status >= 500:
            raise Unreachable(f"{who} answers {status}", sent=False, status=status)
        if not moved:
            # A form's login answers with a redirect: what it sets is what is wanted.
            require_answer(response, who)
        document: Any = MISSING
        if options.expires is not None or options.path is not None:
            try:
                document = decode(response.body)
            except EvaluationError:
                document = MISSING
        cookies = tuple(jar)
        if options.by_cookies:
            if not cookies:
                raise _refused(document, f"{who} sets no cookie", status, url)
            for cookie in cookies:
                REDACTOR.learn(cookie.value)
            access = ""
        else:
            access = self._found(response, document, cookies, who, url)
            cookies = ()
        log.info("logged in at %s", url)
        return KeptToken(
            fits=self._fits,
            # Never empty: that would be none.
            access=access or "cookies",
            renew_ms=self._renewal(document, access, asked_ms),
            cookies=cookies,
        )

    def _found(
        self, response: Response, document: Any, cookies: Any, who: str, url: str
    ) -> str:
        options, status = self._options, response.status
        value: Any = None
        if options.header is not None:
            where = f"header {options.header}"
            value = response.header(options.header.lower())
        elif options.cookie is not None:
            where = f"cookie {options.cookie}"
            value = next((c.value for c in cookies if c.name == options.cookie), None)
        elif options.path == "$":
            where = "body"
            value = _whole(response, document)
        else:
            where = f"field {options.path!r}"
            if document is MISSING:
                raise Unexpected(f"{who} answers no JSON", status=status, url=url)
            assert self._path is not None
            try:
                found = self._path.get(document)
            except EvaluationError:
                found = MISSING
            value = None if found is MISSING else _scalar(found)
        if not isinstance(value, str) or not value:
            raise _refused(document, f"{who} has no token in its {where}", status, url)
        if unsendable(value) or len(value) > LONGEST:
            raise Unexpected(
                f"{who} has no token that can be sent in its {where}",
                status=status,
                url=url,
            )
        REDACTOR.learn(value)
        return value

    def _renewal(self, document: Any, access: str, asked_ms: int) -> int:
        options = self._options
        ends = [0] if options.after is None else [asked_ms + int(options.after * 1000)]
        if self._expires is not None and document is not MISSING:
            try:
                said = self._expires.get(document)
            except EvaluationError:
                said = MISSING
            if said is not MISSING:
                ends.append(renewal(said, asked_ms, options.buffer))
        elif options.after is None:
            ends.append(renewal(_exp(access), asked_ms, options.buffer))
        return min((end for end in ends if end), default=0)


#: The options that tell one login from another.
_ASKED = (
    "url", "method", "headers", "body", "user", "password", "path", "header", "cookie",
)  # fmt: skip


def _compiled(options: LoginOptions) -> tuple[BodyTemplate | None, str]:
    """The body, and its type where no header says it."""
    if options.body is None:
        return None, ""
    kind = next(
        (value for name, value in options.headers if name.lower() == "content-type"),
        {"{": "application/json", "[": "application/json", "<": "text/xml"}.get(
            options.body.lstrip()[:1], "application/x-www-form-urlencoded"
        ),
    )
    return compile_body(options.body, NAMES, kind), kind


def _scalar(value: Any) -> Any:
    """A token as text, also one that is a number; None for what is none."""
    value = plain(value)
    if value is None or isinstance(value, bool | list | dict):
        return None
    try:
        return text_of(value)
    except EvaluationError:
        return None


def _whole(response: Response, document: Any) -> str | None:
    """A body that is the token: a JSON text, or text as it is."""
    if isinstance(document, str):
        return document
    text = bytes(response.body)
    if len(text) > LONGEST:
        return None
    return text.decode("latin-1").strip()


def _refused(document: Any, text: str, status: int, url: str) -> Denied:
    """Some refuse a login with a 200."""
    reason = error_of(document)
    if reason:
        text = f"{text}: {reason}"
    return Denied(f"{text} (status {status})", status=403, url=url)


def _exp(token: str) -> Any:
    """When a JWT says that it ends, in seconds since 1970, or None; not verified."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        claims = json.loads(base64.urlsafe_b64decode(padded))
    except ValueError:
        return None
    return claims.get("exp") if isinstance(claims, dict) else None
