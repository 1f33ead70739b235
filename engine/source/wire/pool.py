"""
Pool: which connection a request gets, and when a connection ends.

Owns the limits over all routes of a task, the ages and counts after which a
connection is not used again, and the waiting for a free place.  Opens nothing:
the connections are urllib3's, made by the route's own opener.  The queue is ours
because urllib3's knows one route at a time and no ages.

Path: `source.wire.http1` (route, deadline) -> here -> a connection, and back
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Unreachable


class PoolOptions(Struct, frozen=True, kw_only=True):
    """
    `http.client.*` of a task's connections; seconds and bytes.

    Attributes:
        enabled: `connection.pool.enabled`.
        max_connections, max_per_route: Open sockets, busy and idle.
        keep_alive: `connection.keep.alive.enabled`.
        keep_alive_duration: Idle seconds after which none is reused.
        keep_alive_requests: Requests after which one is retired.
        validate_after: Idle seconds after which one is tested first.
        cleanup: Whether a sweep closes idle ones.
        cleanup_interval: Seconds from one sweep to the next.
        max_idle: Idle seconds after which a sweep closes.
        buffer_size: Largest read from a socket.
        dns_ttl: Seconds an address is kept.
    """

    enabled: bool = True
    max_connections: int = 20
    max_per_route: int = 10
    keep_alive: bool = True
    keep_alive_duration: float = 300.0
    keep_alive_requests: int = 1000
    validate_after: float = 30.0
    cleanup: bool = True
    cleanup_interval: float = 60.0
    max_idle: float = 300.0
    buffer_size: int = 65536
    dns_ttl: float = 60.0

    @property
    def reuse(self) -> bool:
        """Whether a connection serves a second request."""
        return self.enabled and self.keep_alive

    @property
    def longest_idle(self) -> float:
        """Idle seconds after which a connection is of no use; the smaller wins."""
        return min(self.keep_alive_duration, self.max_idle)


class HttpCounters:
    """
    What the HTTP side of a task counts; totals that never fall.

    Plain attributes: in CPython 3.11 `+= 1` on one is not interrupted.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.retries = 0
        self.redirects = 0
        self.stale_connections = 0
        self.resends = 0
        self.connections_opened = 0
        self.connections_closed = 0
        self.pool_wait_seconds = 0.0
        self.wire_bytes = 0
        self.body_bytes = 0
        self.token_calls = 0
        self.probes = 0
        self.endpoints_out = 0
        #: Failed tries by the class name of the error.
        self.failures: dict[str, int] = {}
        #: Repeats by their reason: `source.fetch.policy.reason`.
        self.repeats: dict[str, int] = {}
        #: Complete answers by status.
        self.statuses: dict[int, int] = {}

    def failed(self, cause: str) -> None:
        """Count a failed try."""
        self.failures[cause] = self.failures.get(cause, 0) + 1

    def repeated(self, reason: str) -> None:
        """Count a request that is sent once more."""
        self.retries += 1
        self.repeats[reason] = self.repeats.get(reason, 0) + 1


class PooledConnection:
    """
    One of urllib3's connections and what the pool remembers of it.

    Attributes:
        raw: urllib3's connection; not connected as long as `sock` is None.
        sock: Its socket, or None.
        route_pool: The route it belongs to.
        requests: Requests sent on it.
    """

    __slots__ = (
        "expires",
        "idle_since",
        "poller",
        "raw",
        "requests",
        "route_pool",
        "sock",
    )

    def __init__(self, raw: Any, route_pool: RouteConnections):
        self.raw = raw
        self.route_pool = route_pool
        self.sock: Any = None
        self.poller = select.poll()
        self.requests = 0
        self.idle_since = 0.0
        self.expires = 0.0

    def connected(self, sock: Any) -> None:
        """The connection is established."""
        self.sock = sock
        self.poller.register(sock, select.POLLIN)

    def close(self) -> None:
        """Close the socket at once; never waits for the peer."""
        self.sock = None
        with contextlib.suppress(OSError):
            self.raw.close()


class RouteConnections:
    """
    The connections of one route.

    Attributes:
        opener: Makes an unconnected connection.
        idle: Those not in use, longest idle first.
        open: Places taken, by busy and by idle ones.
    """

    __slots__ = ("idle", "open", "opener")

    def __init__(self, opener: Callable[[], Any]):
        self.opener = opener
        self.idle: deque[PooledConnection] = deque()
        self.open = 0


class Pool:
    """
    The connections of one task, over all routes.  Thread-safe.

    Attributes:
        options: As given.
        counters: Where stale connections and waiting are counted.
    """

    def __init__(
        self,
        options: PoolOptions,
        *,
        counters: HttpCounters | None = None,
        clock: Clock = SYSTEM,
    ):
        self.options = options
        self.counters = counters if counters is not None else HttpCounters()
        self._clock = clock
        # Guards the counts of open places, the idle connections and the queue of those who wait,
        # between the shards' threads and those that fetch ahead. It is never held while a
        # connection is opened, tested or read: a place is counted first and opened after, and is
        # given back if that fails. Notified for all, since each of those who wait may be waiting
        # for another route.
        self._changed = threading.Condition(threading.Lock())
        #: Who waits for a place, first come first served.
        self._queue: deque[tuple[object, RouteConnections]] = deque()
        self._route_pools: dict[Hashable, RouteConnections] = {}
        self._open = 0
        self._taken: set[PooledConnection] = set()
        self._buffers: deque[memoryview] = deque()
        self._reuse = options.reuse
        self._swept = clock.monotonic()
        self._per_route = min(options.max_per_route, options.max_connections)

    @property
    def open(self) -> int:
        """Places taken now, busy and idle."""
        return self._open

    @property
    def busy(self) -> int:
        """Connections in use now."""
        return self._open - sum(
            len(route_pool.idle) for route_pool in self._route_pools.values()
        )

    def route_pool(
        self, route: Hashable, opener: Callable[[], Any]
    ) -> RouteConnections:
        """The place of a route's connections; the first opener given stays."""
        with self._changed:
            route_pool = self._route_pools.get(route)
            if route_pool is None:
                route_pool = self._route_pools[route] = RouteConnections(opener)
            return route_pool

    def take(
        self,
        route_pool: RouteConnections,
        deadline: float,
        *,
        repeatable: bool = True,
        fresh: bool = False,
    ) -> PooledConnection:
        """
        A connection for one request: an idle one, or a place for a new one.

        Args:
            route_pool: Its route.
            deadline: Monotonic seconds until which to wait for a place.
            repeatable: False if the request must not be sent twice: an idle
                connection is then always tested.
            fresh: Do not reuse: an idle one has just turned out dead.

        Raises: Unreachable.  Blocks: until the deadline at most.
        """
        while True:
            connection = self._place(route_pool, deadline, fresh)
            if connection.sock is None or self._usable(connection, repeatable):
                self._taken.add(connection)
                return connection
            self.drop(connection)

    def _place(
        self, route_pool: RouteConnections, deadline: float, fresh: bool
    ) -> PooledConnection:
        options = self.options
        started = 0.0
        me = object()
        with self._changed:
            while True:
                now = self._clock.monotonic()
                while route_pool.idle and self._is_next(me, route_pool):
                    # The youngest: the others grow old together and go.
                    connection = route_pool.idle.pop()
                    if now < connection.expires and not fresh:
                        self._leave(me)
                        self._waited(started, now)
                        return connection
                    self._end(connection)
                if route_pool.open < self._per_route and self._is_next(me, route_pool):
                    if self._open >= options.max_connections:
                        self._evict()
                    if self._open < options.max_connections:
                        self._open += 1
                        route_pool.open += 1
                        self._leave(me)
                        self._waited(started, now)
                        break
                if not started:
                    started = now
                    self._queue.append((me, route_pool))
                # Real time, since a condition waits by no other clock.
                left = deadline - SYSTEM.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    self._leave(me)
                    self._waited(started, self._clock.monotonic())
                    raise Unreachable("no free connection in time", sent=False)
        try:
            return PooledConnection(route_pool.opener(), route_pool)
        except BaseException:
            self._free(route_pool)
            raise

    def _is_next(self, me: object, route_pool: RouteConnections) -> bool:
        """True if nobody has waited longer for this route; the lock is held."""
        for waiting, wanted in self._queue:
            if waiting is me:
                return True
            if wanted is route_pool:
                return False
        return True

    def _leave(self, me: object) -> None:
        """Wait no more; whoever is next looks again."""
        left = [each for each in self._queue if each[0] is not me]
        if len(left) < len(self._queue):
            self._queue = deque(left)
            self._changed.notify_all()

    def _waited(self, started: float, now: float) -> None:
        if started:
            self.counters.pool_wait_seconds += now - started

    def _evict(self) -> None:
        """Close the longest idle connection of any route."""
        route_pools = [
            route_pool for route_pool in self._route_pools.values() if route_pool.idle
        ]
        if route_pools:
            oldest = min(
                route_pools, key=lambda route_pool: route_pool.idle[0].idle_since
            )
            self._end(oldest.idle.popleft())

    def _end(self, connection: PooledConnection) -> None:
        """Close an idle connection; the lock is held."""
        connection.close()
        connection.route_pool.open -= 1
        self._open -= 1
        self.counters.connections_closed += 1

    def _free(self, route_pool: RouteConnections) -> None:
        with self._changed:
            route_pool.open -= 1
            self._open -= 1
            self._changed.notify_all()

    def _usable(self, connection: PooledConnection, repeatable: bool) -> bool:
        idle = self._clock.monotonic() - connection.idle_since
        if idle >= self.options.validate_after or not repeatable:
            alive = _quiet(connection.sock, connection.poller)
        else:
            # Not tested yet: an ended one costs a resend.  But bytes that nobody
            # asked for would be taken for the answer to the next request.
            alive = not _talking(connection.sock, connection.poller)
        if not alive:
            self.counters.stale_connections += 1
        return alive

    def give(
        self, connection: PooledConnection, headers: list[tuple[str, str]], keep: bool
    ) -> None:
        """
        Take a connection back after a complete answer.

        Args:
            connection: As taken.
            headers: Of the answer; its Keep-Alive is listened to.
            keep: Whether the server keeps it open.
        """
        longest, most = self.options.longest_idle, self.options.keep_alive_requests
        self._taken.discard(connection)
        if keep and self._reuse:
            for name, value in headers:
                if name == "keep-alive":
                    longest, most = _promised(value, longest, most)
            if longest > 0 and connection.requests < most:
                now = self._clock.monotonic()
                connection.idle_since = now
                connection.expires = now + longest
                with self._changed:
                    connection.route_pool.idle.append(connection)
                    # All: one that waits for another route must see it, too.
                    self._changed.notify_all()
                return
        self.drop(connection)

    def drop(self, connection: PooledConnection) -> None:
        """Close a connection that is in use, and free its place."""
        self._taken.discard(connection)
        if connection.sock is not None:
            self.counters.connections_closed += 1
        connection.close()
        self._free(connection.route_pool)

    def tick(self, now: float) -> float:
        """
        Sweep where it is due; seconds until the next time, inf without cleanup.

        Never blocks.  Source: `http.client.connection.cleanup.*`.
        """
        options = self.options
        if not options.cleanup:
            return math.inf
        if now - self._swept >= options.cleanup_interval:
            self._swept = now
            self._sweep(now)
        return self._swept + options.cleanup_interval - now

    def _sweep(self, now: float) -> None:
        """Close idle connections past their time."""
        closed = 0
        with self._changed:
            for route_pool in self._route_pools.values():
                for connection in [c for c in route_pool.idle if now >= c.expires]:
                    route_pool.idle.remove(connection)
                    self._end(connection)
                    closed += 1
            if closed:
                self._changed.notify_all()

    def cut(self) -> None:
        """
        End what is under way: whoever waits for an answer sees its connection end.

        For a stop that waits no longer; callable from any thread.
        """
        for connection in tuple(self._taken):
            sock = connection.sock
            if sock is not None:
                with contextlib.suppress(OSError):
                    # Not the method of a TLS socket: that takes its state from
                    # under the thread that reads.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close every idle connection; those in use end with their request."""
        self._reuse = False
        with self._changed:
            for route_pool in self._route_pools.values():
                while route_pool.idle:
                    self._end(route_pool.idle.pop())

    def buffer(self) -> memoryview:
        """A read buffer of our own until `keep_buffer`."""
        try:
            return self._buffers.pop()
        except IndexError:
            return memoryview(bytearray(self.options.buffer_size))

    def keep_buffer(self, buffer: memoryview) -> None:
        """Hand a buffer back for the next request."""
        self._buffers.append(buffer)


def _promised(value: str, longest: float, most: int) -> tuple[float, int]:
    """The server's `Keep-Alive: timeout=n, max=m`, where it is the smaller."""
    for part in value.lower().split(","):
        name, _, number = part.strip().partition("=")
        if not number.isdigit() or len(number) > 9:
            continue
        if name == "timeout":
            longest = min(longest, max(0.0, int(number) - 1.0))
        elif name == "max":
            most = min(most, int(number))
    return longest, most


def _talking(sock: Any, poller: select.poll) -> bool:
    """True if bytes lie in an idle socket."""
    if not poller.poll(0):
        return False
    if isinstance(sock, ssl.SSLSocket):
        return not _quiet(sock, poller, ended=True)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False


def _quiet(sock: Any, poller: select.poll, *, ended: bool = False) -> bool:
    """
    True if an idle socket is open and says nothing.

    Args:
        ended: What to answer for one that was closed by its peer.
    """
    if not poller.poll(0):
        return True
    sock.settimeout(0.0)
    try:
        return ended if not sock.recv(1) else False
    except (BlockingIOError, ssl.SSLWantReadError):
        return True  # a TLS record without data: a session ticket
    except OSError:
        return ended
