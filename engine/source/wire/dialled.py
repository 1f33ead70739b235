"""
Dialled: urllib3's connections over sockets of ours, for TLS and for proxies.

Owns what urllib3 does for us (GATE urllib3): the handshake and its verification, a
proxy's tunnel, what a proxy is told.  Imported by whoever needs one of these: a plain
http origin that is asked itself has a socket and nothing else.

Path: `source.wire.http1` (a connection is needed) -> here -> `source.wire.dns`
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import Url, make_headers

from engine.clock import SYSTEM
from engine.source.wire.dns import Dialer

__all__ = ["HTTPError", "PlainConnection", "TlsConnection", "Url", "make_headers"]


@contextlib.contextmanager
def cut_at(sock: socket.socket, deadline: float) -> Iterator[None]:
    """
    Shut a socket at a wall deadline while a library reads from it.

    For reads that are bounded one by one only: a proxy that drips its answer.
    """

    def cut() -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - SYSTEM.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class PlainConnection(HTTPConnection):
    """urllib3's connection, dialled by our rules."""

    dialer: Dialer
    deadline: float = 0.0

    def _new_conn(self) -> socket.socket:
        return self.dialer.dial(self._dns_host, int(self.port or 80), self.deadline)

    def _tunnel(self) -> None:
        with cut_at(self.sock, self.deadline):
            super()._tunnel()


class TlsConnection(HTTPSConnection):
    """urllib3's TLS connection (handshake, verification, tunnel), dialled by us."""

    dialer: Dialer
    deadline: float = 0.0
    #: Monotonic seconds at which TCP stood.
    dialled_at: float = 0.0

    def _new_conn(self) -> socket.socket:
        sock = self.dialer.dial(self._dns_host, int(self.port or 443), self.deadline)
        self.dialled_at = SYSTEM.monotonic()
        return sock

    def _tunnel(self) -> None:
        with cut_at(self.sock, self.deadline):
            super()._tunnel()
        self.sock.settimeout(max(0.001, self.deadline - SYSTEM.monotonic()))

    def connect(self) -> None:
        super().connect()
        if isinstance(self.sock, ssl.SSLSocket):
            # An end without close_notify is a cut, not an end.
            self.sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]
