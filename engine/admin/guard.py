"""
Guard: who may ask what, before anything is looked up.

Owns the rules of hosts, origins and the token.  A browser that was led here by a
DNS answer (rebinding) tells its own name for us in Host, so a name must be one that
we know; an address cannot be re-bound.  Pure: no socket, no state.

Path: `admin.routes` -> here
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from msgspec import Struct

from engine.admin.answers import JSON, AdminRequest, AdminResponse, refusal

READING = ("GET", "HEAD", "OPTIONS")


class ConnectionEnds(Struct, frozen=True):
    """
    Where a request came in.

    Attributes:
        listener: Address of our own end.
        peer: Address of the other end.
    """

    listener: str
    peer: str

    @property
    def local(self) -> bool:
        """True if both ends are on loopback."""
        return is_loopback(self.listener) and is_loopback(self.peer)


class Guard:
    """
    Refuses, or lets through.

    Args:
        token: `admin.token`, or "": from loopback only.
        hosts: `admin.allowed.hosts` and the names in `listeners`: names, `*.name` for
            all below one, `*` for any.
    """

    def __init__(self, *, token: str = "", hosts: Iterable[str] = ()) -> None:
        self._token = token
        self._hosts = frozenset(_name(host) for host in hosts)
        self._own = _name(socket.gethostname())

    def refused(
        self, request: AdminRequest, caller: ConnectionEnds
    ) -> AdminResponse | None:
        """The refusal, or None."""
        host = request.headers.get("host", "")
        if not self._serves(host, caller):
            return refusal(
                403, "This Host is not served here; admin.allowed.hosts names further."
            )
        origin = request.headers.get("origin")
        if origin is not None and not _same_origin(origin, host):
            return refusal(403, "Requests of other origins are refused.")
        if request.path.startswith("/ui/"):
            # A form of the page: `page.sessions` asks for the token in its own way.
            return None
        if _writes(request):
            return self._without_token(request, caller, "read-only")
        if _shows_configuration(request) and not caller.local:
            return self._without_token(
                request, caller, "shut for what shows a configuration"
            )
        return None

    def _serves(self, host: str, caller: ConnectionEnds) -> bool:
        parts = _split(host)
        if parts is None:
            return "*" in self._hosts
        name = _name(parts)
        if "*" in self._hosts or name in self._hosts or _is_loopback_name(name):
            return True
        if any(one[:2] == "*." and name.endswith(one[1:]) for one in self._hosts):
            return True
        # Off loopback people use the machine's addresses and its own name.
        return not is_loopback(caller.listener) and (
            name == self._own or _address(name) is not None
        )

    def _without_token(
        self, request: AdminRequest, caller: ConnectionEnds, closed: str
    ) -> AdminResponse | None:
        if not self._token:
            if caller.local:
                return None
            return refusal(403, f"Without admin.token this listener is {closed}.")
        given = _token(request.headers.get("authorization", ""))
        if hmac.compare_digest(given.encode(), self._token.encode()):
            return None
        answer = refusal(401, "A bearer token is needed: admin.token.")
        challenge = (("WWW-Authenticate", 'Bearer realm="kafka-http-source"'),)
        return AdminResponse(401, answer.body, JSON, challenge)


def _token(authorization: str) -> str:
    """
    The token of an Authorization header, or "" for none.

    Connect's own log-in is Basic, and consoles have fields for nothing else: then the
    token is the password, whoever the user is.  It is never asked for by a challenge,
    so no browser learns to send it by itself.
    """
    kind, _, given = authorization.partition(" ")
    if kind.lower() == "bearer":
        return given.strip()
    if kind.lower() != "basic":
        return ""
    try:
        pair = base64.b64decode(given.strip(), validate=True).decode()
    except ValueError:
        return ""
    return pair.partition(":")[2]


def is_loopback(address: str) -> bool:
    """True for 127.0.0.0/8 and ::1, IPv4 written as IPv6 included."""
    ip = _address(address.partition("%")[0])
    if ip is None:
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def _writes(request: AdminRequest) -> bool:
    if request.method in READING:
        return False
    # Jolokia's reading requests may stand in a body.
    return not (
        request.method == "POST" and request.path.split("/")[1:2] == ["jolokia"]
    )


def _shows_configuration(request: AdminRequest) -> bool:
    """A configuration tells hosts, paths and user names, its secrets masked or not."""
    match [part for part in request.path.split("/") if part]:
        case ["connectors"]:
            return "info" in request.query.get("expand", ())
        case ["connectors", _]:
            return True
        case ["connectors", _, "config" | "tasks" | "offsets"]:
            return True
    return False


def _is_loopback_name(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


def _same_origin(origin: str, host: str) -> bool:
    return _split(host) is not None and origin.lower() == f"http://{host.lower()}"


def _split(host: str) -> str | None:
    """The name or address in a Host header, or None for what is no host."""
    try:
        parts = urlsplit(f"//{host}")
        if parts.netloc != host or parts.username is not None:
            return None
        if parts.port is not None and parts.port <= 0:
            return None
        return parts.hostname or None
    except ValueError:
        return None


def _name(host: str) -> str:
    return host.strip().strip("[]").lower().rstrip(".")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
