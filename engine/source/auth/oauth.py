"""
OAuth: an access token by one of the grants, shared by all processes.

Owns what a token request says and what its answer means; that one process asks for all
is `source.auth.shared`'s.  The token call is a fetch like any other; this file opens no
socket.

Path: `source.wire.http1` (`stamp` before each try) -> here -> `source.auth.shared`,
a fetch
Source: RFC 6749, RFC 7523.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Denied, SourceError, Unexpected, Unreachable
from engine.language.faults import EvaluationError
from engine.language.paths import compile_path
from engine.language.values import MISSING, decode
from engine.observe.redact import REDACTOR
from engine.records import Request, Response
from engine.seams import Fetch
from engine.source.auth.jwt import Assertions, JwtOptions
from engine.source.auth.shared import (
    KeptToken,
    SharedLock,
    SharedToken,
    hashed,
    renewal,
)
from engine.source.wire.origin import AllowedOrigins, origin_of, shown

log = logging.getLogger("http")

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLIENT_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class OAuthOptions(Struct, frozen=True, kw_only=True):
    """
    `oauth2.*`.

    Attributes:
        grant: "client_credentials", "refresh_token", "password" or "jwt_bearer".
        refresh_token: Set for grant refresh_token only.
        user, password: Set for grant password only.
        jwt: Of the grant jwt_bearer, and of a client that proves itself by it.
        client_mode: How the client proves itself: "HEADER", "URL" (fields of the
            request), "JWT" (a signed assertion) or "NONE".
        headers, params: Extra ones of the token request; a parameter takes the place
            of one of ours of the same name.
        as_json: The request is JSON and no form.
        property, expires: Paths of the token and its life in the answer.
        base: Path of the URL that requests go to, or None.
        borders: Where that URL may lead.
        header, kind: Header that carries the token, and the word before it; "": none,
            "RESPONSE": what the answer calls the token's type.
        buffer: Seconds before the end at which it is renewed.
    """

    token_url: str
    client_id: str = ""
    client_secret: str = ""
    grant: str = "client_credentials"
    refresh_token: str | None = None
    user: str = ""
    password: str = ""
    jwt: JwtOptions | None = None
    scope: str | None = None
    client_mode: str = "HEADER"
    headers: tuple[tuple[str, str], ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    as_json: bool = False
    property: str = "access_token"
    expires: str = "expires_in"
    base: str | None = None
    borders: AllowedOrigins = AllowedOrigins(())
    header: str = "Authorization"
    kind: str = "Bearer"
    buffer: float = 60.0

    def __repr__(self) -> str:
        return f"OAuthOptions({shown(self.token_url)})"


class OAuth2:
    """
    `auth.type=OAUTH2`: credentials for `source.wire.http1`.  Thread-safe by its lock.

    Args:
        fetch: Sends the token request: limited, without credentials.
        path: The token file; its directory is ours alone.
        lock: Shared by all processes that know the path.

    Raises: ConfigError: a key of `oauth2.jwt.*` that cannot be read.
    """

    query = ""

    def __init__(
        self,
        options: OAuthOptions,
        *,
        fetch: Fetch,
        path: Path,
        lock: SharedLock,
        clock: Clock = SYSTEM,
    ):
        self._options = options
        self._fetch = fetch
        self._clock = clock
        self._property = compile_path(options.property)
        self._expires = compile_path(options.expires)
        self._base = None if options.base is None else compile_path(options.base)
        self._given = hashed(options.refresh_token or "")
        self._assertions = None if options.jwt is None else Assertions(options.jwt)
        jwt = options.jwt
        self._fits = hashed(
            options.token_url,
            options.client_id,
            options.client_secret,
            options.scope or "",
            repr(options.params),
            options.grant,
            options.user,
            options.password,
            options.base or "",
            *(() if jwt is None else (jwt.key, jwt.issuer, jwt.subject, jwt.audience,
                                      json.dumps(jwt.claims, sort_keys=True))),
        )  # fmt: skip
        self._shared = SharedToken(
            self._ask,
            fits=self._fits,
            given=self._given,
            path=path,
            lock=lock,
            clock=clock,
        )
        for secret in (options.client_secret, options.refresh_token, options.password):
            if secret:
                REDACTOR.learn(secret)

    def stamp(self) -> Hashable:
        """
        The token to use now; asks for one where there is none or it is old.

        Raises: Denied, Unreachable, Unexpected.
        Blocks: for the token request, of whichever process makes it.
        """
        return self._shared.token().access

    def __call__(self, prepared: Any) -> Any:
        token = self._shared.current
        if token is not None:
            kind = self._options.kind
            if kind == "RESPONSE":
                # Many say `bearer` and take only `Bearer` (RFC 6750, 2.1).
                kind = "Bearer" if token.kind.lower() in ("", "bearer") else token.kind
            prepared.headers[self._options.header] = f"{kind} {token.access}".lstrip()
        return prepared

    def base(self) -> str:
        """
        Where requests go with the token of now, or "": where they are written to.

        Raises, blocks: as `stamp`.
        """
        return self._shared.token().base

    def refresh(self, response: Response, stale: bool = False) -> bool:
        """
        After a refusal: another token, unless somebody has renewed it already.

        Args:
            stale: The answer says by other means than its status that the token
                has ended.

        Returns: True if there is another one now.
        Raises, blocks: as `stamp`.
        """
        if response.status != 401 and not stale:
            return False
        return self._shared.renew(response)

    # -- the request ----------------------------------------------------------

    def _ask(self, kept: KeptToken | None) -> KeptToken:
        options = self._options
        refresh = options.refresh_token
        if refresh is not None and kept is not None:
            refresh = kept.refresh or refresh
        asked_ms = self._clock.wall_ms()
        fields, headers = self._fields(refresh, asked_ms / 1000)
        if options.as_json:
            kind, body = "application/json", json.dumps(_members(fields)).encode()
        else:
            kind, body = "application/x-www-form-urlencoded", form(fields)
        named = {name.lower() for name, _ in options.headers}
        ours = [("Content-Type", kind), ("Accept", "application/json"), *headers]
        response = self._fetch(
            Request(
                "POST",
                options.token_url,
                (
                    *((n, v) for n, v in ours if n.lower() not in named),
                    *options.headers,
                ),
                body,
            )
        )
        return self._taken(response, asked_ms, refresh)

    def _fields(
        self, refresh: str | None, now: float
    ) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """The parameters of the request, and the header that proves the client."""
        options = self._options
        fields: list[tuple[str, str]] = []
        if options.grant == "refresh_token":
            fields += [
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh or ""),
            ]
        elif options.grant == "password":
            fields += [
                ("grant_type", "password"),
                ("username", options.user),
                ("password", options.password),
            ]
        elif options.grant == "jwt_bearer":
            fields += [("grant_type", JWT_BEARER), ("assertion", self._assertion(now))]
        else:
            fields.append(("grant_type", "client_credentials"))
        if options.scope is not None:
            fields.append(("scope", options.scope))
        headers: list[tuple[str, str]] = []
        if options.client_mode == "JWT":
            fields += [
                ("client_id", options.client_id),
                ("client_assertion_type", CLIENT_ASSERTION),
                ("client_assertion", self._assertion(now)),
            ]
        elif options.client_mode == "NONE" or not options.client_secret:
            # A public client only says who it is; a service account not even that.
            fields += [("client_id", options.client_id)] if options.client_id else []
        elif options.client_mode == "URL":
            fields += [
                ("client_id", options.client_id),
                ("client_secret", options.client_secret),
            ]
        else:
            pair = (
                f"{quote_plus(options.client_id)}:{quote_plus(options.client_secret)}"
            )
            encoded = base64.b64encode(pair.encode()).decode("ascii")
            REDACTOR.learn(encoded)
            headers.append(("Authorization", f"Basic {encoded}"))
        stated = {name for name, _ in options.params}
        kept = [(name, value) for name, value in fields if name not in stated]
        return [*kept, *options.params], headers

    def _assertion(self, now: float) -> str:
        assert self._assertions is not None
        return self._assertions.make(now, self._options.token_url)

    # -- the answer -----------------------------------------------------------

    def _taken(
        self, response: Response, asked_ms: int, refresh: str | None
    ) -> KeptToken:
        url = shown(self._options.token_url)
        require_answer(response, f"the token endpoint {url}")
        status = response.status
        try:
            document = decode(response.body)
        except EvaluationError as error:
            raise Unexpected(
                f"the token endpoint {url} answers no JSON", status=status, url=url
            ) from error
        access = self._at(self._property, document)
        if type(access) is not str or not access:
            if reason := error_of(document):
                # Some say so with a 200.
                raise Denied(
                    f"the token endpoint {url} answers {status}: {reason}",
                    status=403,
                    url=url,
                )
            raise Unexpected(
                f"no token at {self._options.property!r} in the answer of {url}",
                status=status,
                url=url,
            )
        if unsendable(access):
            raise Unexpected(
                f"a token that fits no header in the answer of {url}", status=status
            )
        REDACTOR.learn(access)
        members: Mapping[str, Any] = document if type(document) is dict else {}
        rotated = members.get("refresh_token")
        if type(rotated) is str and rotated:
            REDACTOR.learn(rotated)
            refresh = rotated if refresh is not None else None
        kind = members.get("token_type")
        log.info("a new access token from %s", url)
        return KeptToken(
            fits=self._fits,
            access=access,
            renew_ms=renewal(
                self._at(self._expires, document), asked_ms, self._options.buffer
            ),
            refresh=refresh,
            given=self._given,
            kind=kind if type(kind) is str and not unsendable(kind) else "",
            base=self._based(document, url, status),
        )

    def _at(self, path: Any, document: Any) -> Any:
        try:
            found = path.get(document)
        except EvaluationError:
            return None
        return None if found is MISSING else found

    def _based(self, document: Any, url: str, status: int) -> str:
        if self._base is None:
            return ""
        found = self._at(self._base, document)
        if type(found) is not str or not found:
            raise Unexpected(
                f"no URL at {self._options.base!r} in the answer of {url}",
                status=status,
            )
        return require_base(found, self._options)


def require_base(text: str, options: OAuthOptions) -> str:
    """
    The URL that requests are to go to, without a slash at its end.

    Credentials go there, so it is an origin of the api's own or one that
    `oauth2.base.url.hosts` lists, and never less protected than the api's own URL.

    Raises: Forbidden, Unexpected.
    """
    place = "oauth2.base.url.property"
    if "?" in text or "#" in text:
        raise Unexpected(f"{place}: {shown(text)!r} is no base of URLs")
    try:
        origin = origin_of(text)
    except SourceError as error:
        error.args = (f"{place}: {error}",)
        raise
    if not options.borders.may_base(origin):
        raise Unexpected(
            f"{place}: {origin} is not among oauth2.base.url.hosts, or no https"
        )
    return f"{origin}{urlsplit(text).path.rstrip('/')}"


def require_answer(response: Response, who: str) -> None:
    """
    Refuse an answer of other than 2xx.

    Raises: Unreachable for what may pass, Denied with the reason that is told.
    """
    status = response.status
    if status in (408, 425, 429) or status >= 500:
        raise Unreachable(f"{who} answers {status}", sent=False, status=status)
    if not 200 <= status < 300:
        reason = _reason(response)
        location = response.header("location")
        if 300 <= status < 400 and location is not None:
            reason = f"it leads to {shown(location)}, which is not followed"
        raise Denied(
            f"{who} answers {status}: {reason}", status=403, url=shown(response.url)
        )


def _members(pairs: Sequence[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Parameters as members of JSON; what is said more than once is a list."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: each if len(each) > 1 else each[0] for name, each in found.items()}


def form(pairs: Sequence[tuple[str, str]]) -> bytes:
    """`application/x-www-form-urlencoded`."""
    return "&".join(f"{quote_plus(k)}={quote_plus(v)}" for k, v in pairs).encode()


def unsendable(text: str) -> bool:
    """True for what stands in no header: a line break, a control, beyond Latin-1."""
    return any(c < " " or c == "\x7f" or c > "\xff" for c in text)


def _reason(response: Response) -> str:
    """`error` of RFC 6749, 5.2; the rest of the answer may hold secrets."""
    try:
        document = decode(response.body)
    except EvaluationError:
        return "no reason given"
    return error_of(document) or "no reason given"


def error_of(document: Any) -> str:
    """The short reason an answer gives, or ""."""
    reason = document.get("error") if type(document) is dict else None
    if isinstance(reason, dict):
        # Google's and Meta's.
        reason = reason.get("status") or reason.get("type")
    if not isinstance(reason, str) or not reason:
        return ""
    return " ".join(REDACTOR.redact(reason).split())[:80]
