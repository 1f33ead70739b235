"""
Auth: credentials in the form requests prepares a request with.

Owns how `auth.type` becomes headers or a query, the AWS signature, and the way
any requests auth object is carried through our own verb.  Never sends anything
itself, and shows no secret.

Path: `source.http` (a shape, or each try) -> here; `task.build` -> here
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import importlib
import io
import logging
import re
import sys
import threading
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote_to_bytes, urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict

from engine.clock import SYSTEM, Clock
from engine.errors import ConfigError, Forbidden, Unreachable
from engine.observe.redact import REDACTOR
from engine.records import Request, Response
from engine.seams import Fetch
from engine.source.origin import origin_of, shown
from engine.source.retry import epoch_of

log = logging.getLogger("http")

#: Headers that those between us and AWS may change, or that the signature is in.
UNSIGNED = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "expect",
        "proxy-authorization",
        "transfer-encoding",
        "user-agent",
        "x-amzn-trace-id",
    }
)
#: Milliseconds between two clocks that no service minds.
SKEW_ALLOWED_MS = 60_000


class HeaderAuth(AuthBase):
    """
    BASIC, BEARER, and API_KEY in a header: one header that never changes.

    Attributes:
        query: Nothing is added to the target.
    """

    query = ""

    def __init__(self, name: str, value: str):
        self._name = name
        self._value = value
        REDACTOR.learn(value.partition(" ")[2] or value)

    def stamp(self) -> Hashable:
        """What was prepared with it stays good."""
        return True

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        r.headers[self._name] = self._value
        return r


def basic(user: str, password: str) -> HeaderAuth:
    """`auth.type=BASIC` (RFC 7617, UTF-8)."""
    REDACTOR.learn(password)
    pair = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    return HeaderAuth("Authorization", f"Basic {pair}")


def bearer(token: str) -> HeaderAuth:
    """`auth.type=BEARER` (RFC 6750)."""
    return HeaderAuth("Authorization", f"Bearer {token}")


class QueryAuth(AuthBase):
    """API_KEY as a query parameter; it is in no URL that anybody else sees."""

    def __init__(self, name: str, value: str):
        self.query = f"{quote(name, safe='')}={quote(value, safe='')}"
        REDACTOR.learn(value)

    def stamp(self) -> Hashable:
        """What was prepared with it stays good."""
        return True

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        return r


class AwsSigV4(AuthBase):
    """
    `auth.type=AWS_SIGV4`: every try is signed.

    Args:
        service: Of the scope.
        encode_twice: Whether a path is encoded once more for the signature;
            None: as AWS has it, everywhere but for s3.
        clock: The wall clock goes into the signature, corrected by the server's
            once it has refused one.

    Source: "Signature Version 4 signing process", AWS General Reference.
    """

    query = ""

    def __init__(
        self,
        *,
        region: str,
        service: str,
        access_key_id: str,
        secret_access_key: str,
        session_token: str | None = None,
        encode_twice: bool | None = None,
        clock: Clock = SYSTEM,
    ):
        self._encode_twice = service != "s3" if encode_twice is None else encode_twice
        self._scope = f"{region}/{service}/aws4_request"
        self._region = region
        self._service = service
        self._id = access_key_id
        self._secret = secret_access_key
        self._token = session_token
        self._clock = clock
        #: Milliseconds by which the server's clock is ahead of ours.
        self._ahead_ms = 0
        for secret in (secret_access_key, session_token):
            if secret:
                REDACTOR.learn(secret)

    def stamp(self) -> Hashable | None:
        """None: nothing that was signed is good for another request."""
        return None

    def refresh(self, response: Response, stale: bool = False) -> bool:
        """
        After a refusal: learn the server's time, if ours is what it refused.

        Returns: True if the next signature carries another time.
        """
        said = epoch_of(response.header("date"))
        if said is None:
            return False
        ahead_ms = int(said * 1000) - response.received_ms
        if abs(ahead_ms - self._ahead_ms) < SKEW_ALLOWED_MS:
            return False
        log.warning(
            "The clock of %s is %+d s off this machine's: signed by its time.",
            shown(response.url),
            ahead_ms // 1000,
        )
        self._ahead_ms = ahead_ms
        return True

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        now_ms = self._clock.wall_ms() + self._ahead_ms
        at = datetime.datetime.fromtimestamp(now_ms / 1000, datetime.UTC)
        stamp = at.strftime("%Y%m%dT%H%M%SZ")
        body = r.body or b""
        payload = body.encode() if isinstance(body, str) else bytes(body)
        r.headers["X-Amz-Date"] = stamp
        if self._token is not None:
            r.headers["X-Amz-Security-Token"] = self._token
        digest = hashlib.sha256(payload).hexdigest()
        if self._service == "s3":
            r.headers["X-Amz-Content-SHA256"] = digest
        r.headers["Authorization"] = self._sign(
            r.method or "GET", r.url or "", r.headers, digest, stamp
        )
        return r

    def _sign(
        self,
        method: str,
        url: str,
        headers: Mapping[str, Any],
        digest: str,
        stamp: str,
    ) -> str:
        parts = urlsplit(url)
        signed = {
            name.lower(): " ".join(_text(value).split())
            for name, value in headers.items()
            if name.lower() not in UNSIGNED
        }
        signed["host"] = str(origin_of(url)).partition("://")[2]
        names = sorted(signed)
        canonical = "\n".join(
            [
                method,
                self._path(parts.path),
                _canonical_query(parts.query),
                *(f"{name}:{signed[name]}" for name in names),
                "",
                ";".join(names),
                digest,
            ]
        )
        scope = f"{stamp[:8]}/{self._scope}"
        to_sign = "\n".join(
            [
                "AWS4-HMAC-SHA256",
                stamp,
                scope,
                hashlib.sha256(canonical.encode()).hexdigest(),
            ]
        )
        key = f"AWS4{self._secret}".encode()
        for part in (stamp[:8], self._region, self._service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        return (
            f"AWS4-HMAC-SHA256 Credential={self._id}/{scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )

    def _path(self, path: str) -> str:
        if self._service == "s3":
            return path or "/"
        kept: list[str] = []
        for part in path.split("/"):
            if part == "..":
                del kept[-1:]
            elif part not in ("", "."):
                kept.append(part)
        tail = "/" if kept and path.endswith("/") else ""
        plain = f"/{'/'.join(kept)}{tail}"
        return quote(plain, safe="/~") if self._encode_twice else plain


def _canonical_query(query: str) -> str:
    # A plus is a plus here, not a blank; bytes, as they need not be UTF-8.
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    encoded = sorted((_canonical(name), _canonical(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def _canonical(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="-_.~")


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


# -- any requests auth object ----------------------------------------------

_PLACE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*").fullmatch


def load_auth(
    place: str, user: str | None, password: str | None, beside: Path | None = None
) -> AuthBase:
    """
    The object of `http.auth.class=module:Class`, as requests' users know them.

    Args:
        place: `module:Class`.
        user, password: Its two arguments, where `connection.user` is set.
        beside: Directory of the configuration file; searched as well.

    Raises: ConfigError.
    """
    if not _PLACE(place):
        raise ConfigError(f"http.auth.class is module:Class, not {place!r}")
    module_name, _, class_name = place.partition(":")
    if beside is not None and str(beside) not in sys.path:
        sys.path.append(str(beside))
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
        made = kind() if user is None else kind(user, password or "")
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"http.auth.class={place}: {error}") from error
    if not callable(made):
        raise ConfigError(f"http.auth.class={place} is no auth object of requests")
    if password:
        REDACTOR.learn(password)
    auth: AuthBase = made
    return auth


class _Carried(requests.Response):
    """Our answer as requests' auth objects want to see it."""

    def __init__(self, answer: Response):
        super().__init__()
        self.answer = answer
        self.status_code = answer.status
        self.url = answer.url
        self.raw = io.BytesIO()
        joined: dict[str, str] = {}
        for name, value in answer.headers:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        self.headers = CaseInsensitiveDict(joined)

    @property
    def content(self) -> bytes:
        return bytes(self.answer.body)


class _OwnVerb(BaseAdapter):
    """requests' way to the network is our fetch: a token, a deadline, one try."""

    def __init__(self, inner: Fetch):
        super().__init__()
        self._inner = inner
        self.request = Request("GET", "")

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        body = request.body
        headers = tuple(
            (name, _text(value))
            for name, value in request.headers.items()
            if name.lower() != "content-length"
        )
        answer = self._inner(
            Request(
                method=request.method or "GET",
                url=request.url or "",
                headers=headers,
                body=body.encode() if isinstance(body, str) else cast(Any, body),
                page=self.request.page,
                chained=self.request.chained,
            )
        )
        carried = _Carried(answer)
        carried.request = request
        # Auth objects resend through it, as through an adapter of requests.
        carried.connection = cast(Any, self)
        return carried

    def close(self) -> None:
        """Nothing of requests' is open."""


class SessionAuth:
    """
    A fetch through a `requests.Session` with any auth object of requests.

    The session's one adapter is our own verb, so that every resend of the auth
    object is a try with its token and its deadline; redirects, cookies of other
    hosts, proxies and .netrc are not left to requests.  One session a thread.
    """

    def __init__(self, inner: Fetch, auth: AuthBase):
        self._inner = inner
        self._auth = auth
        self._threads = threading.local()

    def __call__(self, request: Request) -> Response:
        session, adapter = self._session()
        adapter.request = request
        try:
            prepared = session.prepare_request(
                requests.Request(
                    request.method,
                    request.url,
                    headers=dict(request.headers),
                    data=request.body,
                    auth=self._auth,
                )
            )
            carried = session.send(prepared, allow_redirects=False)
        except (requests.exceptions.RequestException, UnicodeError) as error:
            raise Forbidden(
                f"http.auth.class cannot prepare {shown(request.url)}: "
                f"{type(error).__name__}"
            ) from error
        if not isinstance(carried, _Carried):
            raise Unreachable("http.auth.class answered by itself")
        response = carried.answer
        response.request = request
        return response

    def _session(self) -> tuple[requests.Session, _OwnVerb]:
        session = getattr(self._threads, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            session.headers.clear()
            adapter = _OwnVerb(self._inner)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            self._threads.session = session
            self._threads.adapter = adapter
        return session, self._threads.adapter
