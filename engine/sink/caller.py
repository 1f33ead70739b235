"""
Caller: questions to a cluster, asked and answered one after the other.

Owns the way in (all bootstrap servers are raced, then a broker has to be reached by
the name that it advertises), the connection that is kept for the next questions, and
what keeps a broker away in words.  It has no thread: whoever asks drives the
connections, which are `sink.produce`'s.

Path: `sink.kafka`, `sink.fetching` -> here -> `sink.produce.nodes`
"""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Misconfigured, SinkError, Unavailable
from engine.sink.cluster import Cluster, options_of
from engine.sink.codes import BrokerError
from engine.sink.naming import naming
from engine.sink.produce import messages
from engine.sink.produce.aside import ThreadedCalls
from engine.sink.produce.connection import Connection
from engine.sink.produce.nodes import STAGGER, Node, Nodes
from engine.sink.produce.view import ClusterView
from engine.sink.produce.watching import Watcher
from engine.sink.produce.wire import Garbled
from engine.sink.protocol import Asking

log = logging.getLogger("sink")

#: Seconds until a broker that does not answer is given up for one try.
PROBE_LIMIT = 5.0

#: Seconds between two lines about the same broker that cannot be reached.
AGAIN = 60.0


class BrokerWarnings:
    """
    What this process has said of brokers that it cannot reach.

    Several clients of a process meet the same closed door; people hear of it once,
    and once a minute while it stays closed.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        # Clients on several threads meet the same broker at once: under the lock one of them says
        # so, and the line is written outside of it.
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}

    def say(self, text: str) -> None:
        """Warn, unless the same was said within `AGAIN` seconds."""
        now = self._clock.monotonic()
        with self._lock:
            if now - self._said.get(text, float("-inf")) < AGAIN:
                return
            self._said = {t: at for t, at in self._said.items() if now - at < AGAIN}
            self._said[text] = now
        log.warning("%s", text)


SAYINGS = BrokerWarnings()


class BrokerQuestion(Struct, eq=False):
    """
    A question on its way.

    Attributes:
        node: The broker that is asked, None for any.
        asking: Makes the message for what the broker speaks.
        sent: It waits for its answer.
        answer: What came, once it has come.
    """

    node: int | None
    asking: Asking
    sent: bool = False
    answered: bool = False
    answer: Any = None
    failure: Exception | None = None


class BrokerClient:
    """
    Asks brokers.  For one thread at a time, in the process that made it.

    Raises: Misconfigured for keys that make no login and no TLS context.
    Blocks: for a token, with OAUTHBEARER.
    """

    def __init__(self, cluster: Cluster, *, clock: Clock = SYSTEM) -> None:
        self._cluster = cluster.address
        self._timeout = cluster.request_timeout
        self._clock = clock
        self._options = options_of(cluster)
        self.view = ClusterView()
        #: Brokers and bootstrap servers that failed since `reach` began.
        self._failed: set[Node] = set()
        self._reached: set[tuple[str, int]] = set()
        self._through = ""
        self._asking = False
        self._next = 0.0
        self._watcher = Watcher()
        self._aside = ThreadedCalls(self._wake)
        self._closed = False
        self.nodes = Nodes(
            cluster.bootstrap,
            self.view,
            self._connection,
            backoff=(cluster.reconnect_backoff, cluster.reconnect_backoff_max),
            clock=clock,
        )

    # -- the way in -------------------------------------------------------------------

    def reach(self, limit: float = PROBE_LIMIT, *, patient: bool = True) -> None:
        """
        Learn the brokers and reach one.

        Args:
            patient: False to end as soon as each server has failed once.

        Raises: Unavailable, saying what each server or broker did; Misconfigured for
        what only other keys mend.
        Blocks: at most `limit` seconds.
        """
        began = self._clock.monotonic()
        deadline = began + limit
        self._failed.clear()
        self.nodes.hasten()
        # One that was closed while nobody looked is noticed here.
        self._turn(0.0)
        while True:
            now = self._clock.monotonic()
            if self._usable():
                return
            due = self._search(now)
            self._give_up_if_final()
            over = not patient and self._all_failed()
            if over or now >= deadline:
                raise self._unreached()
            self._turn(min(due, deadline) - self._clock.monotonic())

    def _usable(self) -> bool:
        return any(node.usable for node in self._brokers())

    def _brokers(self) -> list[Node]:
        found = (self.nodes.node(id_) for id_ in self.view.brokers)
        return [node for node in found if node is not None]

    def _search(self, now: float) -> float:
        """Get on with finding somebody; when it wants to be called again."""
        due = math.inf
        if not self._asking:
            node = self.nodes.for_metadata(now)
            if node is not None and now >= self._next:
                self._ask_metadata(node)
        if self._usable():
            return now
        known = self._brokers()
        if known:
            # The one that we came in by answers, if it is one of them.
            for node in known:
                if node.connection is None:
                    self.nodes.connect(node, now)
                if node.connection is None:
                    due = min(due, node.retry_at)
            if any(node.connection is not None for node in known):
                return min(due, now + STAGGER)
        return min(due, self.nodes.search(now))

    def _ask_metadata(self, node: Node) -> None:
        connection = node.connection
        assert connection is not None
        place = node.place

        def told(answer: Any) -> None:
            self._asking = False
            found = messages.told(answer)
            if not found.brokers:
                node.reason = "it knows of no broker yet"
                self._failed.add(node)
                self._next = self._clock.monotonic() + STAGGER
                return
            self._next = self._clock.monotonic() + 1.0
            self._through = place
            self.view.learn(found, (), self._clock.monotonic())
            self.nodes.found()

        def lost(_: Exception) -> None:
            self._asking = False

        try:
            message = messages.metadata((), connection.session.versions)
        except BrokerError as error:
            connection.close(error)
            return
        self._asking = True
        connection.call(message, told, lost)

    # -- questions ----------------------------------------------------------------------

    def ask(self, asking: Asking, node: int | None = None) -> Any:
        """
        Ask a broker.

        Args:
            node: Which one; None for any.

        Returns: the answer, as `sink.protocol` reads it.
        Raises: a SinkError, BrokerError for a version that is not spoken, Garbled.
        Blocks: at most `request_timeout` seconds.
        """
        return self.ask_all([(node, asking)])[0]

    def ask_all(self, questions: Sequence[tuple[int | None, Asking]]) -> list[Any]:
        """Ask several at once; the answers in the same order, else as `ask`."""
        asked = [BrokerQuestion(node, asking) for node, asking in questions]
        deadline = self._clock.monotonic() + self._timeout
        while not all(each.answered for each in asked):
            now = self._clock.monotonic()
            due = deadline
            for each in asked:
                if not each.sent and not each.answered:
                    due = min(due, self._send(each, now))
                if each.failure is not None:
                    raise each.failure
            if now >= deadline:
                why = self.why()
                said = f" ({why})" if why else ""
                raise Unavailable(
                    f"Kafka at {self._cluster} did not answer within "
                    f"{self._timeout:.0f} s{said}"
                )
            self._turn(due - self._clock.monotonic())
        return [each.answer for each in asked]

    def _send(self, question: BrokerQuestion, now: float) -> float:
        """Send it if it can be; when to try again."""
        if question.node is None:
            node = self.nodes.for_metadata(now)
            if node is None:
                return self._search(now)
        else:
            node = self.nodes.node(question.node)
            if node is None:
                # It has left the cluster, or is not known yet.
                raise BrokerError(8, f"broker {question.node}")
            if not self.nodes.connect(node, now):
                return node.retry_at if node.connection is None else math.inf
        connection = node.connection
        assert connection is not None
        message = question.asking(connection.session.versions)
        question.sent = True

        def told(answer: Any) -> None:
            question.answer, question.answered = answer, True

        def lost(why: Exception) -> None:
            # It is asked again on the next connection: none of ours does harm twice.
            question.sent = False
            if isinstance(why, Garbled):
                question.failure = why

        connection.call(message, told, lost)
        return now if connection.error is not None else math.inf

    def pause(self, seconds: float) -> None:
        """Wait so long, and look after the connections meanwhile."""
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            self._turn(left)

    # -- the loop -----------------------------------------------------------------------

    def _turn(self, seconds: float) -> None:
        """Wait for the brokers, at most so long, and do what is due."""
        self._aside.deliver()
        now = self._clock.monotonic()
        until = now + seconds
        for node in self.nodes.all():
            if node.connection is not None:
                until = min(until, node.connection.tick(now))
        self._watcher.handle(self._watcher.wait(until - now))
        self._aside.deliver()

    def _wake(self) -> None:
        try:
            self._watcher.wake()
        except (OSError, ValueError):
            # Closed while a name was being looked up.
            return

    # -- connections, as `connection.ConnectionListener` -----------------------------------------------

    def _connection(self, host: str, port: int) -> Connection:
        return Connection(
            host, port, self._options, self, self._aside, clock=self._clock
        )

    def watch(self, connection: Connection, events: int) -> None:
        """As `connection.ConnectionListener`."""
        self._watcher.watch(connection, events)

    def ready(self, connection: Connection) -> None:
        """As `connection.ConnectionListener`."""
        node = self.nodes.owner(connection)
        if node is not None:
            self._reached.add((node.host, node.port))
        self.nodes.ready(connection)

    def closed(self, connection: Connection, why: Exception) -> None:
        """As `connection.ConnectionListener`."""
        node = self.nodes.owner(connection)
        if node is None or self._closed:
            return
        self._failed.add(node)
        self.nodes.closed(connection, why, self._clock.monotonic())
        log.debug("%s: %s", connection.place, why)
        if node.id in self.view.brokers:
            self._say(node, node.reason)

    # -- what is said -----------------------------------------------------------------------

    def _say(self, node: Node, why: str) -> None:
        # One that was reached before is away, which others tell of.
        if why and (node.host, node.port) not in self._reached:
            text = self._unreachable(node, why)
            SAYINGS.say(f"{text}. See advertised.listeners of the broker.")

    def _unreachable(self, node: Node, why: str) -> str:
        through = self._through or "bootstrap.servers"
        return (
            f"Kafka broker {node.id} cannot be reached at {node.place}, the name it "
            f"advertises, though bootstrap at {through} worked: {why}"
        )

    def _all_failed(self) -> bool:
        nodes = self._brokers() or list(self.nodes.servers)
        return all(node in self._failed and node.connection is None for node in nodes)

    def _give_up_if_final(self) -> None:
        nodes = self._brokers() or list(self.nodes.servers)
        if all(node in self._failed and node.refused for node in nodes):
            raise Misconfigured(f"{self._doing}: {self._reasons(nodes)}")

    def _unreached(self) -> SinkError:
        why = self.why()
        said = f" ({why})" if why else ""
        return Unavailable(f"{self._doing}: no broker answers{said}")

    @property
    def _doing(self) -> str:
        return f"reaching Kafka at {self._cluster}"

    def why(self) -> str:
        """What keeps the brokers away, for people; "" for nothing."""
        known = self._brokers()
        if not known:
            return self._reasons(list(self.nodes.servers))
        found = []
        for node in known:
            if why := self._reason(node):
                self._say(node, why)
                found.append(self._unreachable(node, why))
        return "; ".join(found)

    def _reasons(self, nodes: list[Node]) -> str:
        found = {node.place: why for node in nodes if (why := self._reason(node))}
        if len(nodes) == 1:
            return "".join(found.values())
        return "; ".join(f"{place}: {why}" for place, why in found.items())

    @staticmethod
    def _reason(node: Node) -> str:
        if node.connection is not None and not node.usable:
            return node.connection.waiting_for
        return node.reason

    # -- the end ----------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """True if it can be asked something else."""
        return not self._closed and not any(
            node.connection is not None and node.connection.flights
            for node in self.nodes.all()
        )

    def close(self) -> None:
        """Let go of the connections; may be called twice."""
        if self._closed:
            return
        self._closed = True
        for node in self.nodes.all():
            if node.connection is not None:
                node.connection.close(ConnectionError("closed"))
        self._watcher.close()


# -- one that is kept -----------------------------------------------------------------------

#: Cluster -> the caller that waits for the next question, and whose process it is.
_KEPT: dict[int, tuple[int, BrokerClient]] = {}
# A client is for one thread at a time, so whoever asks takes it out of `_KEPT` and puts it back
# afterwards; a second thread meanwhile makes its own. The pid tells a client that came through a
# fork, whose connection belongs to the parent.
_KEEPING = threading.Lock()


def _forget(number: int) -> None:
    with _KEEPING:
        kept = _KEPT.pop(number, None)
    # The descriptors of another process are its own.
    if kept is not None and kept[0] == os.getpid():
        kept[1].close()


@contextmanager
def calling(
    cluster: Cluster, limit: float = PROBE_LIMIT, *, patient: bool = True
) -> Iterator[BrokerClient]:
    """
    A caller that has reached the cluster, for a few questions.

    Its connection is kept for whoever asks next, as long as this `Cluster` lives.

    Args:
        limit, patient: As `BrokerClient.reach`.

    Raises: what `BrokerClient.reach` does; what a broker refuses inside is renamed.
    Blocks: at most `limit` seconds to connect, `request_timeout` for each question.
    """
    number = id(cluster)
    with _KEEPING:
        pid, caller = _KEPT.pop(number, (0, None))
    if caller is None or pid != os.getpid():
        caller = BrokerClient(cluster)
        weakref.finalize(cluster, _forget, number)
    try:
        caller.reach(limit, patient=patient)
        with naming(f"asking Kafka at {cluster.address}"):
            yield caller
    except BaseException:
        if not caller.idle:
            caller.close()
        raise
    finally:
        with _KEEPING:
            keep = caller.idle and number not in _KEPT
            if keep:
                _KEPT[number] = os.getpid(), caller
        if not keep:
            caller.close()
