"""
Bootstrap: how a client comes into the cluster, past doors that are shut.

kafka-python asks one server of `bootstrap.servers`, chosen at random, and gives it
the whole deadline.  Here all of them are raced, a moment apart: the first that tells
the brokers wins.  Then one of the brokers it tells of has to be reached, since every
later connection goes to the names they advertise: a broker that cannot be reached by
its name is named, with its id, once and then each minute.

Knows the insides of `kafka.net` (kafka-python 3.0.12: manager and cluster);
`tests/sink/test_bootstrap.py` holds what it relies on.

Path: put into every client of `sink.kafka` by `sink.network.Client`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import kafka.errors as foreign

from engine.clock import SYSTEM
from engine.errors import SinkError
from engine.sink import caller
from engine.sink.connecting import LOOKUPS, NAMELESS, STAGGER, race
from engine.sink.reasons import CLOSED, MUTE

log = logging.getLogger("sink")

#: Seconds of one round where the caller set no deadline.
ROUND = 10.0

#: What a try fails with; the last is a token that cannot be had.
FAILURES = (foreign.KafkaError, OSError, SinkError)

#: Reads a failure: what it is, for people, and True if only new keys mend it.
Reading = Callable[[Exception], tuple[str, bool]]


class Bootstrap:
    """
    The way in of one client.

    Args:
        manager: The library's connection manager.
        reading: Names a failure.
        patient: False to end as soon as each server has failed once; a client asks
            again until its deadline.

    Attributes:
        shut: Why each advertised broker that was tried cannot be reached, by its
            id, for people.
    """

    def __init__(self, manager: Any, reading: Reading, *, patient: bool = True) -> None:
        self._manager = manager
        self._cluster = manager.cluster
        self._reading = reading
        self._patient = patient
        #: Why a server failed, for people, and the failures that only keys mend.
        self._reasons: dict[Any, str] = {}
        self._final: dict[Any, Exception] = {}
        #: The nodes of the last race.
        self._tried: list[Any] = []
        self._seen: set[tuple[str, int]] = set()
        self._through = ""
        self.shut: dict[Any, str] = {}

    async def run(self, deadline: float | None) -> bool:
        """
        Learn the brokers and reach one; on the loop of the client.

        Args:
            deadline: Monotonic seconds, or None to try for ever.

        Raises: NoBroker, saying what each server or broker did; the
        library's or our own name for what only other keys mend.
        """
        pause = self._manager.config["reconnect_backoff_ms"] / 1000
        longest = self._manager.config["reconnect_backoff_max_ms"] / 1000
        while not self._manager.closed:
            now = SYSTEM.monotonic()
            if deadline is not None and now >= deadline:
                break
            until = now + ROUND if deadline is None else deadline
            try:
                if not self._cluster.brokers():
                    await self._learn(until)
                await self._reach(until)
            except FAILURES:
                self._give_up_if_final()
                if not self._patient:
                    break
                await self._manager._bootstrap_wakeup(pause * random.uniform(0.8, 1.2))
                pause = min(2 * pause, longest)
            else:
                self._cluster.start_refresh_loop()
                return True
        raise NoBroker(self._told())

    # -- the servers --------------------------------------------------------------

    async def _learn(self, until: float) -> None:
        nodes = [each.node_id for each in self._cluster.bootstrap_brokers()]
        nodes = [node for node in nodes if node not in self._final]
        random.shuffle(nodes)
        self._tried = nodes
        for node in nodes:
            self._manager.reset_backoff(node)
        try:
            node, response = await self._race(self._ask, nodes, until)
        finally:
            # Who lost is let go; each of them sees its connection end.
            for node in nodes:
                conn = self._manager._conns.pop(node, None)
                if conn is not None:
                    self._note_unfinished(node, conn)
                    conn.close()
        self._through = self._address(self._cluster.broker_metadata(node))
        self._reasons.clear()
        self._cluster.update_metadata(response)

    async def _ask(self, node: Any, until: float) -> Any:
        left = max(0.0, until - SYSTEM.monotonic()) * 1000
        try:
            conn = self._manager.get_connection(
                node,
                timeout_ms=left,
                pop_on_close=False,
                refresh_metadata_on_err=False,
                reset_backoff_on_connect=False,
            )
            await conn
            response = await conn.send_request(
                self._cluster.metadata_request(), request_timeout_ms=left
            )
            if not response.brokers:
                raise foreign.KafkaConnectionError("it knows of no broker yet")
        except FAILURES as error:
            self._note(node, error)
            raise
        return node, response

    # -- the brokers that they told of ----------------------------------------------

    async def _reach(self, until: float) -> None:
        brokers = self._cluster.brokers()
        random.shuffle(brokers)
        # The one that we came in by answers, if it is one of them.
        brokers.sort(key=lambda each: self._address(each) != self._through)
        nodes = [each.node_id for each in brokers]
        self._tried = nodes
        for node in nodes:
            self._manager.reset_backoff(node)
        try:
            await self._race(self._open, nodes, until)
        except FAILURES:
            for node in nodes:
                conn = self._manager._conns.get(node)
                if conn is not None and not conn.connected:
                    self._note_unfinished(node, conn)
                    conn.close(foreign.KafkaConnectionError(self._reasons[node]))
            # Other brokers may be told of by now.
            self._cluster._brokers.clear()
            raise

    async def _open(self, node: Any, until: float) -> Any:
        left = max(0.0, until - SYSTEM.monotonic()) * 1000
        try:
            await self._manager.get_connection(node, timeout_ms=left)
        except FAILURES as error:
            self._note(node, error)
            raise
        return node

    def watch(self, node: Any, conn: Any) -> None:
        """Name an advertised broker that this connection does not reach."""
        broker = self._cluster.broker_metadata(node)
        place = (broker.host, broker.port)

        def reached(_: object) -> None:
            self._seen.add(place)
            self.shut.pop(node, None)

        def failed(error: Exception) -> None:
            # A client that is closed ends what it had begun.
            if self._manager.closed or not error.args:
                return
            why, _ = self._reading(error)
            through = self._through or "bootstrap.servers"
            text = (
                f"Kafka broker {node} cannot be reached at {place[0]}:{place[1]}, "
                f"the name it advertises, though bootstrap at {through} worked: {why}"
            )
            self.shut[node] = text
            # One that was reached before is away, which others tell of.
            if place not in self._seen:
                caller.SAYINGS.say(f"{text}. See advertised.listeners of the broker.")

        conn.init_future.add_callback(reached)
        conn.init_future.add_errback(failed)

    # -- what is said -------------------------------------------------------------

    async def _race(self, run: Any, nodes: list[Any], until: float) -> Any:
        left = until - SYSTEM.monotonic()
        stagger = min(STAGGER, left / (2 * max(1, len(nodes))))
        runners = [partial(run, node, until) for node in nodes]
        return await race(self._manager._net, runners, until, stagger=stagger)

    def _note(self, node: Any, error: Exception) -> None:
        why, final = self._reading(error)
        if not error.args and node in self._reasons:
            return
        self._reasons[node] = why
        if final:
            self._final[node] = error

    def _note_unfinished(self, node: Any, conn: Any) -> None:
        if conn.connected or conn.closed:
            return
        broker = self._cluster.broker_metadata(node)
        if LOOKUPS.pending(broker.host, broker.port):
            self._reasons[node] = NAMELESS
        else:
            self._reasons[node] = CLOSED if conn.transport is None else MUTE

    def _give_up_if_final(self) -> None:
        """Raise what only other keys mend, if that is true of every door tried."""
        if not self._tried or any(node not in self._final for node in self._tried):
            return
        error = self._final[self._tried[-1]]
        if isinstance(error, (foreign.BrokerResponseError, SinkError)):
            raise error
        raise WrongListener(self._told())

    def _told(self) -> str:
        if self.shut:
            return "; ".join(self.shut.values())
        nodes = self._cluster.bootstrap_brokers()
        reasons = [
            (self._address(each), self._reasons[each.node_id])
            for each in nodes
            if each.node_id in self._reasons
        ]
        if len(nodes) == 1 or not reasons:
            why = f" ({reasons[0][1]})" if reasons else ""
        else:
            why = f" ({'; '.join(f'{place}: {said}' for place, said in reasons)})"
        return f"no broker answers{why}"

    @staticmethod
    def _address(broker: Any) -> str:
        return f"{broker.host}:{broker.port}"


class NoBroker(foreign.KafkaTimeoutError):  # type: ignore[misc]
    """No server lets us in, or no broker can be reached by its name, in time."""

    def __str__(self) -> str:
        return str(self.args[0])


class WrongListener(foreign.KafkaConfigurationError):  # type: ignore[misc]
    """The listener and the client do not speak the same, or do not trust."""

    def __str__(self) -> str:
        return str(self.args[0])
