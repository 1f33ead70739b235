"""
Questions: what the sender asks the brokers beside sending batches.

Owns when metadata is asked for and of whom, and who puts the questions of the
producer's identity: its id, its transaction.  All of it is on the sender's thread, but
for `stale` and `news`, which others call under the sender's lock.

Path: `sink.produce.sender` -> here -> `nodes`, `view`, `identity`
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from engine.clock import Clock
from engine.errors import SinkError
from engine.policy import doubled
from engine.sink.codes import BrokerError
from engine.sink.naming import renamed
from engine.sink.produce import messages, wire
from engine.sink.produce.connection import Connection
from engine.sink.produce.identity import Identity
from engine.sink.produce.nodes import Nodes
from engine.sink.produce.tuning import Tuning
from engine.sink.produce.view import ClusterView

#: Seconds after which metadata is asked for on another connection as well.
METADATA_SLOW = 2.0

#: Longest pause between two questions while the answer is not what is needed.
LONGEST_PAUSE = 1.0


class BrokerQuestions:
    """
    Args:
        active: The partitions that have something to send.
        fail: Told why nothing can be sent any more.
        told: Called when metadata or an answer about the identity has come.
    """

    def __init__(
        self,
        nodes: Nodes,
        view: ClusterView,
        identity: Identity,
        tuning: Tuning,
        *,
        active: Callable[[], Sequence[tuple[str, int]]],
        fail: Callable[[SinkError], None],
        told: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._nodes = nodes
        self._view = view
        self._identity = identity
        self._tuning = tuning
        self._active = active
        self._fail = fail
        self._told = told
        self._clock = clock
        #: Connections that metadata is awaited on, and since when.
        self._asking: dict[Connection, float] = {}
        self._refresh_at = 0.0
        self._fresh_until = 0.0
        # Answers in a row that lacked something.
        self._lacking = 0
        self._identity_asked = False
        self._identity_at = 0.0

    def stale(self) -> None:
        """What is known of the leaders is out of date."""
        self._fresh_until = 0.0

    def news(self) -> None:
        """Ask for topics soon that nobody has asked for yet."""
        # The pause is for asking again what was not known.
        self._fresh_until = self._refresh_at = 0.0

    def closed(self, connection: Connection) -> None:
        """Nothing will be answered on it."""
        self._asking.pop(connection, None)

    def metadata(self, now: float) -> float:
        """Ask who leads what, if that is due; when to be asked again."""
        view = self._view
        if view.brokers and not view.wanted:
            return math.inf
        at = max(self._fresh_until, self._refresh_at)
        if now < at:
            return at
        slow = max(self._asking.values(), default=-math.inf) + METADATA_SLOW
        if now < slow:
            return slow
        node = self._nodes.for_metadata(now)
        if node is None:
            muted = self._nodes.muted(now)
            return muted if muted > now else self._nodes.search(now)
        connection = node.connection
        assert connection is not None
        if connection in self._asking:
            # It does not answer: somebody else may.
            return min(self._nodes.search(now), now + METADATA_SLOW)
        topics = sorted(view.wanted)
        try:
            message = messages.metadata(topics, connection.session.versions)
        except BrokerError as error:
            self._fail(renamed(error, f"asking {node.place}"))
            return math.inf
        self._asking[connection] = now

        def told(answer: Any) -> None:
            found = messages.told(answer)
            self._asking.pop(connection, None)
            self._throttled(connection, answer)
            self._learn(found, topics)

        def lost(_: Exception) -> None:
            self._asking.pop(connection, None)

        connection.call(message, told, lost)
        return now + METADATA_SLOW if connection.error is None else now

    def _learn(self, found: messages.Metadata, topics: Sequence[str]) -> None:
        now = self._clock.monotonic()
        view = self._view
        # One that is asked for since is asked for at once, and the first one, too.
        news = len(view.wanted) > len(topics)
        view.learn(found, topics, now)
        news = news or bool(view.brokers and not topics)
        self._nodes.found()
        # A broker that has just started knows of nobody; and a leader may not be among the
        # brokers that are named.
        lacks = (
            not view.brokers
            or bool(view.missing)
            or any(
                self._nodes.node(view.leader(*place)) is None
                for place in self._active()
            )
        )
        self._lacking = self._lacking + 1 if lacks else 0
        first = self._tuning.retry_backoff
        pause = doubled(first, max(LONGEST_PAUSE, first), max(self._lacking, 1))
        self._refresh_at = now + (0.0 if news else pause)
        self._fresh_until = now if news else now + self._tuning.metadata_max_age
        if lacks:
            self.stale()
        self._told()

    def _throttled(self, connection: Connection, answer: Any) -> None:
        """A broker may want to be left alone, whatever it was asked (KIP-219)."""
        pause = getattr(answer, "throttle_time_ms", 0) or 0
        node = self._nodes.owner(connection) if pause > 0 else None
        if node is not None:
            node.throttle(pause / 1e3, self._clock.monotonic())

    def identity(self, now: float) -> float:
        """Ask what the identity needs to know; when to be asked again."""
        if self._identity_asked:
            return math.inf
        question = self._identity.question()
        if question is None:
            return math.inf
        if now < self._identity_at:
            return self._identity_at
        found = self._to_ask(question.endpoint, now)
        if not isinstance(found, Connection):
            return found
        try:
            message = question.message(found.session)
        except BrokerError as error:
            self._fail(renamed(error, f"asking {found.place}"))
            return math.inf
        self._identity_asked = True

        def told(answer: Any) -> None:
            self._identity_asked = False
            self._throttled(found, answer)
            failure, pause = question.answered(answer)
            wait = self._tuning.retry_backoff if pause is None else pause
            self._identity_at = self._clock.monotonic() + wait
            if failure is not None:
                self._fail(failure)
            self._told()

        def lost(why: Exception) -> None:
            self._identity_asked = False
            failure = question.lost(why)
            if failure is not None:
                self._fail(failure)

        found.call(message, told, lost)
        return math.inf if found.error is None else now

    def _to_ask(
        self, endpoint: wire.BrokerAddress | None, now: float
    ) -> Connection | float:
        """The connection a question goes to, or when there may be one."""
        if endpoint is None:
            node = self._nodes.for_metadata(now)
            if node is None:
                muted = self._nodes.muted(now)
                if muted > now:
                    return muted
                return self._nodes.search(now) if self._view.brokers else math.inf
        else:
            self._nodes.add(endpoint.node, endpoint)
            node = self._nodes.node(endpoint.node)
            assert node is not None
            if not self._nodes.connect(node, now):
                if node.connection is not None:
                    return math.inf
                # It went away: another one may be the coordinator by now.
                self._identity.moved()
                self._identity_at = now + self._tuning.retry_backoff
                return self._identity_at
            if now < node.muted_until:
                return node.muted_until
        assert node.connection is not None
        return node.connection
