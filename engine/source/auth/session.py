"""
Session: any auth object of requests, carried through our own verb.

Path: `task.build.wires` puts it between the retrying layer and one try
"""

from __future__ import annotations

import importlib
import io
import re
import sys
import threading
from pathlib import Path
from typing import Any, cast

import requests
from msgspec.structs import replace
from requests.adapters import BaseAdapter
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict

from engine.errors import ConfigError, Forbidden, Unreachable
from engine.observe.redact import REDACTOR
from engine.records import Request, Response
from engine.seams import Fetch
from engine.source.auth.header import header_text
from engine.source.wire.origin import shown

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
            (name, header_text(value))
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
                jar=self.request.jar,
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
        return replace(carried.answer, request=request)

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
