"""
Dns: names to addresses, and addresses to connected sockets.

Owns the cache of answers (`http.client.dns.cache.ttl.seconds`), the order in
which addresses are tried, and the budget each of them gets.  Knows nothing of
HTTP; urllib3's connections (`source.wire.dialled`) dial through it, too.

Path: `source.wire.http1` (a connection is needed) -> here -> a socket
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from engine.clock import SYSTEM, Clock
from engine.errors import Unreachable
from engine.observe.meters import Stage
from engine.source.wire.origin import AddressGuard

#: One answer of `socket.getaddrinfo`.
Found: TypeAlias = tuple[Any, Any, Any, str, tuple[Any, ...]]
Lookup: TypeAlias = Callable[[str, int], Sequence[Found]]


def system_lookup(host: str, port: int) -> Sequence[Found]:
    """All stream addresses of a host, in the system's order."""
    # A host in ASCII needs none of the tables of international names.
    name = host.encode() if host.isascii() else host
    return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)


class Resolver:
    """
    Answers of the system's resolver, kept for a while; one for a task.

    Thread-safe.  Failures are not kept.
    """

    def __init__(
        self, ttl: float, *, lookup: Lookup = system_lookup, clock: Clock = SYSTEM
    ):
        self._ttl = ttl
        self._lookup = lookup
        self._clock = clock
        self._kept: dict[tuple[str, int], tuple[float, Sequence[Found]]] = {}

    def resolve(self, host: str, port: int, deadline: float) -> Sequence[Found]:
        """
        The addresses of a host.

        Raises: Unreachable.  Blocks: until the deadline at most.
        """
        key = host, port
        kept = self._kept.get(key)
        if kept is not None and self._clock.monotonic() < kept[0]:
            return kept[1]
        found = self._ask(host, port, deadline)
        if self._ttl > 0:
            self._kept[key] = self._clock.monotonic() + self._ttl, found
        return found

    def forget(self, host: str, port: int) -> None:
        """Drop the answer for a host: a connection to it failed."""
        self._kept.pop((host, port), None)

    def _ask(self, host: str, port: int, deadline: float) -> Sequence[Found]:
        # The C library's resolver knows no time limit: it runs in a thread of
        # its own, which is left behind where it outlasts ours.
        answer: list[Sequence[Found] | Exception] = []
        done = threading.Event()

        def ask() -> None:
            try:
                answer.append(self._lookup(host, port))
            except (OSError, UnicodeError) as error:
                answer.append(error)
            done.set()

        threading.Thread(target=ask, name="resolve", daemon=True).start()
        if not done.wait(max(0.0, deadline - SYSTEM.monotonic())):
            raise Unreachable(f"no address for {host} in time", sent=False)
        found = answer[0]
        if isinstance(found, Exception):
            raise Unreachable(f"no address for {host}: {found}", sent=False) from found
        if not found:
            raise Unreachable(f"no address for {host}", sent=False)
        return found


class Dialer:
    """
    Connects to the first address of a host that answers.

    Args:
        stage: Told how long "dns" and "connect" took, or None.
    """

    def __init__(
        self,
        resolver: Resolver,
        guard: AddressGuard | None,
        stage: Stage | None = None,
    ):
        self._resolver = resolver
        self._guard = guard
        self._stage = stage

    def dial(self, host: str, port: int, deadline: float) -> socket.socket:
        """
        A connected socket, with the time left as its time-out.

        Every address is tried; one gets at most half of the time left, the last
        all of it.

        Raises:
            Forbidden: An address is out of bounds; none is connected to.
            Unreachable: No address answered in time.
        Blocks: until the deadline at most.
        """
        began = SYSTEM.monotonic()
        found = self._resolver.resolve(host, port, deadline)
        resolved = SYSTEM.monotonic()
        if self._guard is not None:
            self._guard.check(host, [str(entry[4][0]) for entry in found])
        failure: OSError | None = None
        for index, (family, kind, protocol, _, address) in enumerate(found):
            left = deadline - SYSTEM.monotonic()
            if left <= 0:
                break
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(left if index == len(found) - 1 else left / 2)
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(max(0.001, deadline - SYSTEM.monotonic()))
            except OSError as error:
                sock.close()
                failure = error
                continue
            if self._stage is not None:
                self._stage("dns", resolved - began)
                self._stage("connect", SYSTEM.monotonic() - resolved)
            return sock
        self._resolver.forget(host, port)
        reason = "no time left" if failure is None else str(failure)
        raise Unreachable(
            f"no connection to {host} port {port}: {reason}", sent=False
        ) from failure


class DirectConnection:
    """
    A connection to a plain http origin, with nobody in between: its socket is all of it.

    Has what `source.wire.pool` and `source.wire.http1` ask of urllib3's.
    """

    def __init__(self, host: str, port: int, dialer: Dialer):
        self._host, self._port, self._dialer = host, port, dialer
        self.sock: socket.socket | None = None
        self.deadline = 0.0

    def connect(self) -> None:
        """Raises: as `Dialer.dial`.  Blocks: until the deadline at most."""
        self.sock = self._dialer.dial(self._host, self._port, self.deadline)

    def close(self) -> None:
        """Close the socket; never waits for the peer."""
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()
