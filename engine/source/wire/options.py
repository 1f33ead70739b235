"""
Options: what one api's requests go by, and who is asked on their way.

Owns the plain values of the HTTP keys, and the seams to credentials and tokens.

Path: `task.build.http` -> here -> `source.wire.http1`
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from engine.later import later
from engine.records import Response
from engine.source.wire.origin import (
    AddressRules,
    AllowedOrigins,
)
from engine.source.wire.pieces import SPOOL_ABOVE
from engine.source.wire.tls import TlsOptions

if TYPE_CHECKING:
    from engine.source.wire import dialled
else:
    dialled = later("engine.source.wire.dialled")


class ProxyOptions(Struct, frozen=True):
    """`http.proxy.*`."""

    host: str
    port: int
    user: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"ProxyOptions({self.host}:{self.port})"

    @property
    def login(self) -> str | None:
        """`user:password`, or None."""
        return None if self.user is None else f"{self.user}:{self.password or ''}"

    @property
    def headers(self) -> dict[str, str]:
        """Proxy-Authorization, where there is a user."""
        if self.login is None:
            return {}
        made: dict[str, str] = dialled.make_headers(proxy_basic_auth=self.login)
        return {"Proxy-Authorization": made["proxy-authorization"]}


class HttpOptions(Struct, frozen=True, kw_only=True):
    """
    The HTTP side of one api; seconds and bytes.

    Attributes:
        connect_timeout: DNS, TCP, proxy and TLS together.
        socket_timeout: Longest silence.
        request_timeout: Wall deadline of one try, redirects included.
        max_response: Bytes of a body on the wire, and inflated, each.
        encodings: Asked for, in order; empty asks for the identity.
        idempotent: Whether a request of unknown outcome may be sent again.
        close_delimited: Whether a body may end with its connection.
        redirects: Hops that are followed.
        redirect_body: Whether another host that a 307 or 308 leads to is sent the
            body.
        tls, proxy, addresses, borders: As their types say.
        no_proxy: Hosts that are asked without the proxy: `host[:port]`, `*.` or `.` in
            front for all below, networks of literal addresses.
        spool_above, spool_dir, lenient: As `body.Bounds`.
    """

    connect_timeout: float = 30.0
    socket_timeout: float = 30.0
    request_timeout: float = 60.0
    max_response: int = 10 << 20
    encodings: tuple[str, ...] = ("gzip", "deflate")
    idempotent: bool = True
    close_delimited: bool = True
    redirects: int = 5
    redirect_body: bool = False
    tls: TlsOptions = TlsOptions()
    proxy: ProxyOptions | None = None
    no_proxy: tuple[str, ...] = ()
    addresses: AddressRules = AddressRules()
    borders: AllowedOrigins = AllowedOrigins(())
    spool_above: int = SPOOL_ABOVE
    spool_dir: str | None = None
    lenient: bool = True


class Auth(Protocol):
    """
    Credentials of `auth.type`; also one of requests' auth objects.

    `stamp` changes whenever what was prepared with it is out of date, and is
    None if every try is signed anew.  `query` is appended to each target.
    """

    @property
    def query(self) -> str: ...

    def stamp(self) -> Hashable | None: ...

    def __call__(self, prepared: Any, /) -> Any: ...


class Tokens(Protocol):
    """What is paid before each request that follows within one call."""

    def admit(self, host: str) -> float:
        """Take a token and wait for it; seconds waited."""

    def observe(self, host: str, response: Response) -> None:
        """Listen to what an answer says about the rate."""
