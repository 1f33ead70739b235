"""
OAuth: one access token for all processes, renewed before it ends.

Owns the token file (0600) and when a token is asked for: under a lock that all
processes share, so that one of them asks and the others read.  The token call
is a fetch like any other; this file opens no socket.

Path: `source.wire.http1` (`stamp` before each try) -> here -> a fetch, and the file
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote_plus

import msgspec
from msgspec import Raw, Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Denied, Unexpected, Unreachable
from engine.language.faults import EvaluationError
from engine.language.paths import compile_path
from engine.language.values import decode
from engine.observe.redact import REDACTOR
from engine.records import Request, Response
from engine.seams import Fetch
from engine.source.wire.origin import shown

log = logging.getLogger("http")

#: Of its lifetime a token is used at least so much.
LEAST_USE = 0.8
#: Seconds to wait for another process that is asking.
PATIENCE = 60.0


class Lock(Protocol):
    """A lock that dies with its holder."""

    def acquire(self, patience: float | None = None) -> bool:
        """True once held."""

    def release(self) -> None:
        """Let the next one in."""


class OAuthOptions(Struct, frozen=True, kw_only=True):
    """
    `oauth2.*`.

    Attributes:
        refresh_token: Set for grant refresh_token only.
        in_header: Client credentials as Basic header, else as form fields.
        headers, params: Extra ones of the token request.
        property: Path of the token in the answer.
        buffer: Seconds before the end at which it is renewed.
    """

    token_url: str
    client_id: str
    client_secret: str
    refresh_token: str | None = None
    scope: str | None = None
    in_header: bool = True
    headers: tuple[tuple[str, str], ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    property: str = "access_token"
    buffer: float = 60.0

    def __repr__(self) -> str:
        return f"OAuthOptions({shown(self.token_url)})"


class _Token(Struct):
    """
    A token as it is kept.

    Attributes:
        fits: Hash of the options it was asked for with.
        renew_ms: Wall milliseconds from which a new one is asked for; 0: never.
        refresh: The refresh token that holds now, rotated or given.
        given: Hash of the refresh token in the configuration.
    """

    fits: str
    access: str
    renew_ms: int
    refresh: str | None = None
    given: str = ""


class OAuth2:
    """
    `auth.type=OAUTH2`: credentials for `source.wire.http1`.  Thread-safe by its lock.

    Args:
        fetch: Sends the token request: limited, without credentials.
        path: The token file; its directory is ours alone.
        lock: Shared by all processes that know the path.
    """

    query = ""

    def __init__(
        self,
        options: OAuthOptions,
        *,
        fetch: Fetch,
        path: Path,
        lock: Lock,
        clock: Clock = SYSTEM,
    ):
        self._options = options
        self._fetch = fetch
        self._path = path
        self._lock = lock
        self._clock = clock
        self._property = compile_path(options.property)
        self._given = _hash(options.refresh_token or "")
        self._fits = _hash(
            options.token_url,
            options.client_id,
            options.client_secret,
            options.scope or "",
            repr(options.params),
        )
        self._token: _Token | None = None
        #: Monotonic seconds since which it is the one in use.
        self._since = 0.0
        for secret in (options.client_secret, options.refresh_token):
            if secret:
                REDACTOR.learn(secret)

    def stamp(self) -> Hashable:
        """
        The token to use now; asks for one where there is none or it is old.

        Raises: Denied, Unreachable, Unexpected.
        Blocks: for the token request, of whichever process makes it.
        """
        token = self._token
        if token is None or self._old(token):
            token = self._renewed(None)
        return token.access

    def __call__(self, prepared: Any) -> Any:
        token = self._token
        if token is not None:
            prepared.headers["Authorization"] = f"Bearer {token.access}"
        return prepared

    def refresh(self, response: Response, stale: bool = False) -> bool:
        """
        After a 401: another token, unless somebody has renewed it already.

        Args:
            stale: The answer says by other means than its status that the token
                has ended.

        Returns: True if there is another one now.
        Raises, blocks: as `stamp`.
        """
        if response.status != 401 and not stale:
            return False
        if response.sent_at < self._since:
            # Sent with the one before: another thread was the first to renew.
            return True
        refused = self._token.access if self._token is not None else None
        return self._renewed(refused).access != refused

    def _old(self, token: _Token) -> bool:
        return 0 < token.renew_ms <= self._clock.wall_ms()

    def _renewed(self, refused: str | None) -> _Token:
        if not self._lock.acquire(PATIENCE):
            raise Unreachable("another process is asking for the token", sent=False)
        try:
            kept = self._read()
            if (
                kept is not None
                and (kept.fits, kept.given) == (self._fits, self._given)
                and kept.access != refused
                and not self._old(kept)
            ):
                return self._use(kept)
            token = self._ask(kept)
            self._write(token)
            return self._use(token)
        finally:
            self._lock.release()

    def _use(self, token: _Token) -> _Token:
        self._token, self._since = token, self._clock.monotonic()
        return token

    def _ask(self, kept: _Token | None) -> _Token:
        options = self._options
        refresh = options.refresh_token
        if refresh is not None and kept is not None and kept.given == self._given:
            refresh = kept.refresh or refresh
        form: list[tuple[str, str]] = []
        if refresh is not None:
            form += [("grant_type", "refresh_token"), ("refresh_token", refresh)]
        else:
            form.append(("grant_type", "client_credentials"))
        if options.scope is not None:
            form.append(("scope", options.scope))
        headers = [
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Accept", "application/json"),
            *options.headers,
        ]
        if options.in_header:
            pair = (
                f"{quote_plus(options.client_id)}:{quote_plus(options.client_secret)}"
            )
            encoded = base64.b64encode(pair.encode()).decode("ascii")
            headers.append(("Authorization", f"Basic {encoded}"))
        else:
            form += [
                ("client_id", options.client_id),
                ("client_secret", options.client_secret),
            ]
        form += options.params
        asked_ms = self._clock.wall_ms()
        response = self._fetch(
            Request("POST", options.token_url, tuple(headers), _form(form))
        )
        return self._taken(response, asked_ms, refresh)

    def _taken(self, response: Response, asked_ms: int, refresh: str | None) -> _Token:
        url = shown(self._options.token_url)
        status = response.status
        if status == 429 or status >= 500:
            raise Unreachable(
                f"the token endpoint {url} answers {status}", sent=False, status=status
            )
        if status != 200:
            raise Denied(
                f"the token endpoint {url} answers {status}: {_reason(response)}",
                status=403,
                url=url,
            )
        try:
            document = decode(response.body)
            access = self._property.get(document)
            expires = document.get("expires_in") if type(document) is dict else None
            rotated = document.get("refresh_token") if type(document) is dict else None
        except EvaluationError as error:
            raise Unexpected(
                f"the token endpoint {url} answers no JSON", status=status, url=url
            ) from error
        if type(access) is not str or not access:
            raise Unexpected(
                f"no token at {self._options.property!r} in the answer of {url}",
                status=status,
                url=url,
            )
        REDACTOR.learn(access)
        if type(rotated) is str and rotated:
            REDACTOR.learn(rotated)
            refresh = rotated if refresh is not None else None
        log.info("a new access token from %s", url)
        return _Token(
            fits=self._fits,
            access=access,
            renew_ms=self._renewal(expires, asked_ms),
            refresh=refresh,
            given=self._given,
        )

    def _renewal(self, expires: Any, asked_ms: int) -> int:
        if isinstance(expires, Raw):
            expires = bytes(expires).decode("ascii", "replace")
        try:
            seconds = float(expires)
        except (TypeError, ValueError):
            return 0
        if not 0 < seconds < 1e9:
            return 0
        use = max(seconds - self._options.buffer, seconds * LEAST_USE)
        return asked_ms + max(1, int(use * 1000))

    def _read(self) -> _Token | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Token)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("the kept token cannot be read (%s)", type(error).__name__)
            return None

    def _write(self, token: _Token) -> None:
        """Replace the file as a whole; a token that is not kept is a warning."""
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(token))
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        except OSError as error:
            log.warning("the token cannot be kept for the other tasks: %s", error)


def _form(pairs: Sequence[tuple[str, str]]) -> bytes:
    return "&".join(f"{quote_plus(k)}={quote_plus(v)}" for k, v in pairs).encode()


def _reason(response: Response) -> str:
    """`error` of RFC 6749, 5.2; the rest of the answer may hold secrets."""
    try:
        document = decode(response.body)
    except EvaluationError:
        return "no reason given"
    reason = document.get("error") if type(document) is dict else None
    return reason[:80] if isinstance(reason, str) else "no reason given"


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
