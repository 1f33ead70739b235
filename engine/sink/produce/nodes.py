"""
Nodes: the brokers of a cluster and a connection to each that is needed.

Owns when a broker is connected, the pause after it failed, the race of the
bootstrap servers, and what keeps a broker away in words.

Path: `sink.produce.sender` asks for the connection of a leader, or for any.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence

from engine.clock import SYSTEM, Clock
from engine.policy import doubled
from engine.sink.produce import wire
from engine.sink.produce.connection import Connection, Idle
from engine.sink.produce.messages import unspoken
from engine.sink.produce.view import ClusterView
from engine.sink.produce.wire import BrokerAddress
from engine.sink.reasons import reason_of

#: Seconds after which the next bootstrap server is tried beside those before it.
STAGGER = 0.25

#: Seconds of a quota beyond which a broker is not believed: its windows are seconds.
LONGEST_THROTTLE = 300.0

#: Makes a connection that is not opened yet.
Make = Callable[[str, int], Connection]


class Node:
    """
    A broker, or a bootstrap server while it is not known which broker it is.

    Attributes:
        connection: None while there is none.
        retry_at: Not to be connected before this.
        muted_until: The broker wants to be left alone until then.
        reason: What kept it away, "" while it is there.
        since: When it went away; None while it is there.
        refused: True if only other settings let us in.
    """

    def __init__(self, id_: int, host: str, port: int) -> None:
        self.id = id_
        self.host = host
        self.port = port
        self.connection: Connection | None = None
        self.retry_at = 0.0
        self.failures = 0
        self.muted_until = 0.0
        self.reason = ""
        self.since: float | None = None
        self.refused = False

    @property
    def place(self) -> str:
        """For people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def throttle(self, seconds: float, now: float) -> None:
        """
        The broker wants to be left alone for so long (KIP-219).

        It answers nothing meanwhile: what is on its way has so much longer.
        """
        seconds = min(seconds, LONGEST_THROTTLE)
        self.muted_until = max(self.muted_until, now + seconds)
        if self.connection is not None:
            for flight in self.connection.flights:
                flight.deadline += seconds

    def throttled(self, now: float) -> str:
        """That it is left alone, and for how long, for people."""
        left = self.muted_until - now
        return f"the broker throttles it (a quota), for {left:.0f} s"

    @property
    def awaited(self) -> bool:
        """True while it is to answer."""
        return self.connection is not None and bool(self.connection.flights)

    @property
    def away(self) -> str:
        """What kept it away, with its place, for people; "" for nothing."""
        if not self.reason or self.place in self.reason:
            return self.reason
        return f"{self.place}: {self.reason}"

    @property
    def usable(self) -> bool:
        return self.connection is not None and self.connection.usable

    @property
    def produce_version(self) -> int:
        """The version of Produce that both sides speak; below 3 for none."""
        assert self.connection is not None
        lowest, highest = self.connection.session.versions.get(wire.PRODUCE, (0, -1))
        version = min(highest, wire.NEWEST)
        return version if version >= lowest else -1

    @property
    def unspoken(self) -> str:
        """Why no version of Produce is spoken, for people."""
        assert self.connection is not None
        spoken = self.connection.session.versions.get(wire.PRODUCE)
        return unspoken("Produce", spoken, (wire.OLDEST, wire.NEWEST))


class Nodes:
    """
    Args:
        bootstrap: `host:port`, at least one.
        backoff: Seconds of the first and of the longest pause after a failure.
    """

    def __init__(
        self,
        bootstrap: tuple[str, ...],
        view: ClusterView,
        make: Make,
        *,
        backoff: tuple[float, float],
        clock: Clock = SYSTEM,
    ) -> None:
        self._view = view
        self._make = make
        self._backoff = backoff
        self._clock = clock
        self._known: dict[int, Node] = {}
        self._first = []
        for at, server in enumerate(bootstrap):
            host, _, port = server.rpartition(":")
            self._first.append(Node(-1 - at, host.strip("[]"), int(port)))
        random.shuffle(self._first)
        self._next_first = 0.0

    @property
    def servers(self) -> Sequence[Node]:
        """The bootstrap servers."""
        return self._first

    def hasten(self) -> None:
        """Try brokers at once that failed before, since somebody waits for them."""
        self._next_first = 0.0
        for node in self.all():
            node.retry_at = 0.0

    def all(self) -> Iterator[Node]:
        """Known brokers, then bootstrap servers."""
        yield from list(self._known.values())
        yield from self._first

    @property
    def awaited(self) -> bool:
        """True while a broker is to answer."""
        return any(node.awaited for node in self.all())

    def tick(self, now: float) -> float:
        """Give up what is late on each connection; when to look again."""
        due = math.inf
        for node in self.all():
            if node.connection is not None:
                due = min(due, node.connection.tick(now))
        return due

    def node(self, id_: int) -> Node | None:
        """A known broker."""
        return self._known.get(id_)

    def owner(self, connection: Connection) -> Node | None:
        """Whose connection it is; None if it is nobody's any more."""
        for node in self.all():
            if node.connection is connection:
                return node
        return None

    def connect(self, node: Node, now: float) -> bool:
        """Open a connection unless there is one; True if there is a usable one."""
        if node.connection is None:
            if now < node.retry_at:
                return False
            node.connection = self._make(node.host, node.port)
            node.connection.open()
        return node.connection is not None and node.connection.usable

    def search(self, now: float) -> float:
        """
        Get somebody to ask about the cluster, when nobody is connected.

        Brokers that are known, and one bootstrap server after the other beside
        them: one that accepts and never answers keeps nobody out.

        Returns: when it wants to be asked again.
        """
        for node in self._known.values():
            self.connect(node, now)
        if now < self._next_first:
            return self._next_first
        free = [
            node
            for node in self._first
            if node.connection is None and now >= node.retry_at
        ]
        if free:
            # One that fails at once must not take the turn of the others.
            self.connect(min(free, key=lambda node: node.failures), now)
            self._next_first = now + STAGGER
            return self._next_first
        waits = [node.retry_at for node in self.all() if node.connection is None]
        return min((at for at in waits if at > now), default=float("inf"))

    def found(self) -> None:
        """
        The brokers are known, or known anew.

        A connection to a bootstrap server is a broker's from then on, if it is
        advertised the same; the others are closed.
        """
        for id_, endpoint in self._view.brokers.items():
            self.add(id_, endpoint)
        for id_ in set(self._known) - set(self._view.brokers):
            # One that still has to answer may only be unknown to a broker that lags: what the
            # end of a transaction became would be a doubt.
            if not self._known[id_].awaited:
                self._drop(self._known.pop(id_))
        for node in self._first:
            if node.connection is not None and not node.connection.flights:
                self._drop(node)

    def add(self, id_: int, endpoint: BrokerAddress) -> None:
        """A broker is known."""
        known = self._known.get(id_)
        if known is not None:
            if (known.host, known.port) == (endpoint.host, endpoint.port):
                return
            self._drop(known)
        made = self._known[id_] = Node(id_, endpoint.host, endpoint.port)
        for first in self._first:
            same = (first.host, first.port) == (made.host, made.port)
            if same and first.connection is not None:
                made.connection, first.connection = first.connection, None
                made.muted_until = first.muted_until

    def _drop(self, node: Node) -> None:
        connection, node.connection = node.connection, None
        if connection is not None:
            connection.close(ConnectionClosed(f"{node.place} is not used any more"))

    def ready(self, connection: Connection) -> None:
        """A connection can be used."""
        node = self.owner(connection)
        if node is not None:
            node.failures = 0
            node.reason = ""
            node.since = None
            node.refused = False

    def closed(self, connection: Connection, why: Exception, now: float) -> None:
        """A connection has ended."""
        node = self.owner(connection)
        if node is None:
            return
        node.connection = None
        if isinstance(why, Idle):
            return
        node.failures += 1
        pause = doubled(*self._backoff, node.failures)
        # Spread, so that the tasks of an engine do not come all at once.
        node.retry_at = now + pause * random.uniform(0.8, 1.2)
        node.reason, node.refused = reason_of(why)
        # It is the next one's turn.
        self._next_first = min(self._next_first, now)
        if node.since is None:
            node.since = now

    def refusal(self) -> Exception | None:
        """Why no bootstrap server will ever let us in, if that is so."""
        if self._known or not all(node.refused for node in self._first):
            return None
        return RefusedError(self._first[0].reason)

    def muted(self, now: float) -> float:
        """
        Until when those who could be asked want to be left alone.

        Returns: monotonic seconds; 0.0 if it is not that which keeps us waiting.
        """
        return min(
            (node.muted_until for node in self.all() if node.usable), default=0.0
        )

    def why(self) -> str:
        """What kept the servers away, for people; "" for nothing."""
        found = [node.away for node in self.all() if node.reason]
        return "; ".join(dict.fromkeys(found))

    def for_metadata(self, now: float) -> Node | None:
        """The node to ask about the cluster: the one with the least to do."""
        usable = [
            node for node in self.all() if node.usable and now >= node.muted_until
        ]
        return min(
            usable,
            key=lambda node: len(node.connection.flights),  # type: ignore[union-attr]
            default=None,
        )


class ConnectionClosed(Exception):
    """A connection that we have closed ourselves."""


class RefusedError(Exception):
    """Only other settings let us in."""
