"""
Remote: what a running engine says of itself, here or on another machine.

Owns how to ask an admin process: over HTTP and nothing else, so that the same is
shown on this machine as from afar.

Path: ``cli.status``, ``cli.top``, ``cli.connectors`` -> here -> (HTTP) -> ``admin``
"""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Container
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from engine.errors import EngineError, Exit
from engine.supervisor.runtime import NAME, base_of, running

#: Where an engine listens that was told nothing else.
DEFAULT = "http://127.0.0.1:8080"

#: Where the RuntimeDirectory of each of systemd's units is.
SERVICES = Path("/run")

#: File in a runtime directory that lists the bound addresses.
LISTENERS = "listeners"

#: Seconds an answer may take.
PATIENCE = 10.0

#: Seconds a change may take: the supervisor has ten for its answer.
CHANGING = 30.0

#: `/health` says how it stands with a 500 and a 503, too, and is not there where
#: `health.check.enabled` is false.
_HEALTH = (404, 500, 503)

#: No proxy of the environment ever sees these requests.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NoAnswer(EngineError):
    """No engine answers at that address, or it refuses to."""

    code = Exit.UNAVAILABLE


class NoUrl(EngineError):
    """What is given as an address is none."""

    code = Exit.USAGE


class _State(Struct):
    state: str


class _Task(_State):
    id: int
    trace: str = ""


class _Status(Struct):
    connector: _State
    tasks: list[_Task]


class _Connector(Struct):
    status: _Status


def base_url(given: str | None) -> str:
    """
    Where to ask: as given; else the newest engine here that this user may look
    into, his own first, then those of systemd's units; else 8080.

    Raises: NoUrl.
    """
    if given:
        url = (given if "//" in given else f"http://{given}").rstrip("/")
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise NoUrl(f"--url {given}: no address of http:// or https://")
        return url
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    own = base_of(os.environ, configured=None, state=Path(home) / NAME)
    for base in (own, *sorted(SERVICES.glob(f"{NAME}*"))):
        for directory in reversed(running(base)):
            try:
                urls = (directory / LISTENERS).read_text().split()
            except OSError:
                continue
            if urls:
                return urls[0]
    return DEFAULT


class RemoteRefused(Exception):
    """
    Attributes:
        status: Status code.
        message: The engine's words, or those of HTTP.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.message = message


def call(url: str, method: str, path: str, body: Any = None, *, token: str) -> bytes:
    """
    The body of a good answer to a call that may change something.

    Raises: Refused; NoAnswer.  Blocks: for as long as the supervisor takes.
    """
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else msgspec.json.encode(body)
    request = urllib.request.Request(
        f"{url}{path}", data=data, headers=headers, method=method
    )
    try:
        with _OPENER.open(request, timeout=CHANGING) as answer:
            content: bytes = answer.read()
    except urllib.error.HTTPError as refused:
        why = _why(refused.read()) or f"HTTP {refused.code}"
        raise RemoteRefused(refused.code, why) from refused
    except (OSError, ValueError, http.client.HTTPException) as failure:
        raise _unanswered(url, failure) from failure
    return content


def _unanswered(url: str, failure: Exception) -> NoAnswer:
    reason = getattr(failure, "reason", None) or failure or type(failure).__name__
    return NoAnswer(
        f"no engine answers at {url}: {reason}; is it running, and does "
        "`listeners` name this address? --url names another"
    )


def get(url: str, path: str, accepted: Container[int] = ()) -> bytes:
    """
    The body of a good answer, or of one with a status that is accepted.

    Raises: NoAnswer, with the reason an engine gives.
    """
    try:
        with _OPENER.open(f"{url}{path}", timeout=PATIENCE) as answer:
            content: bytes = answer.read()
    except urllib.error.HTTPError as refused:
        content = refused.read()
        if refused.code not in accepted:
            why = _why(content) or f"HTTP {refused.code}"
            raise NoAnswer(f"{url} refuses {path}: {why}") from refused
    except (OSError, ValueError, http.client.HTTPException) as failure:
        raise _unanswered(url, failure) from failure
    return content


def health(url: str, path: str = "/health") -> dict[str, Any]:
    """
    What a path of `/health` says; empty where health checks are off.

    Raises: NoAnswer.
    """
    told = _document(url, get(url, path, _HEALTH), dict[str, Any])
    return {} if "error_code" in told else told


def connectors(url: str, path: str = "/connectors?expand=status") -> dict[str, Any]:
    """
    Every connector with at least its status.

    Raises: NoAnswer.
    """
    content = get(url, path)
    _document(url, content, dict[str, _Connector])
    return _document(url, content, dict[str, Any])


_Shape = TypeVar("_Shape")


def _document(url: str, content: bytes, shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise NoAnswer(f"what answers at {url} is no engine") from failure


def _why(content: bytes) -> str:
    """What an engine says of a refusal, or ""."""
    try:
        return str(msgspec.json.decode(content)["message"])
    except (msgspec.DecodeError, LookupError, TypeError):
        return ""
