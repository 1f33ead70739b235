"""
Sender: the thread that brings batches to their brokers.

Owns the loop: what is ready, one request for all that a broker is to get, at most so
many of them in flight.  This thread alone touches connections, metadata and numbers, by
`questions` and `outcomes`, too; `sink.produce.producer` shares the queues with it under one
lock.

Path: `sink.produce.producer` puts batches and wakes it; it tells the receipts.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

from engine.clock import SYSTEM, Clock
from engine.errors import Doubtful, Misconfigured, SinkError, Unavailable
from engine.sink.produce import wire
from engine.sink.produce.aside import ThreadedCalls
from engine.sink.produce.connection import Connection, InFlightRequest, Options
from engine.sink.produce.identity import Anonymous, Identity, numbered
from engine.sink.produce.nodes import Node, Nodes
from engine.sink.produce.outcomes import Outcomes, Sent
from engine.sink.produce.questions import BrokerQuestions
from engine.sink.produce.queue import Partition, Queued
from engine.sink.produce.tuning import Tuning
from engine.sink.produce.view import NOBODY, ClusterView
from engine.sink.produce.watching import Watcher

log = logging.getLogger("kafka")

#: Part of the request time-out that the broker may wait for its replicas: it
#: answers before the connection is given up for silent.
REPLICAS_SHARE = 0.8

#: Seconds of a linger below which it is not looked after while others are awaited.
LEAST_LINGER = 0.001

#: Seconds without a batch after which a broker may have forgotten the producer
#: (`producer.id.expiration.ms`, or its records have been deleted).
FORGOTTEN_AFTER = 60.0


class Sender(threading.Thread):
    """
    Attributes:
        lock: Guards the queues' waiting batches and who is asleep.  A shard appends records
            under it to a batch that waits: batches are taken out under it, sent without it.
        chore: As `producer.Producer.on_turn`.
        failure: Why nothing can be sent any more, or None.
        changed: Notified when metadata came, and when it has failed.  A lock of its own:
            who waits for metadata keeps no shard from putting a batch.
    """

    def __init__(
        self,
        bootstrap: tuple[str, ...],
        options: Options,
        tuning: Tuning,
        identity: Identity,
        *,
        backoff: tuple[float, float],
        clock: Clock = SYSTEM,
    ) -> None:
        super().__init__(name="kafka-sender", daemon=True)
        self.lock = threading.Lock()
        self.changed = threading.Condition()
        self.failure: SinkError | None = None
        self.partitions: dict[tuple[str, int], Partition] = {}
        self.view = ClusterView()
        self.requests = 0
        self.chore: Callable[[float], float] = lambda _: math.inf
        self._active: dict[tuple[str, int], Partition] = {}
        self._options = options
        self._tuning = tuning
        self._identity = identity
        self._numbers = not isinstance(identity, Anonymous)
        self._clock = clock
        self._client_id = options.manners.client_id.encode()
        self._timeout_ms = max(int(options.request_timeout * REPLICAS_SHARE * 1e3), 1)
        self._watcher = Watcher()
        self._aside = ThreadedCalls(self.kick)
        self.nodes = Nodes(
            bootstrap, self.view, self._connection, backoff=backoff, clock=clock
        )
        self._closing = False
        # Monotonic seconds until which it sleeps, 0.0 while it is awake.
        self._asleep_until = 0.0
        self._kicked = False
        # While it is awake: when it is to look again for what was put meanwhile.
        self._again = math.inf
        self._fed = False  # Something was put since it went to sleep.
        self._questions = BrokerQuestions(
            self.nodes,
            self.view,
            identity,
            tuning,
            active=lambda: list(self._active),
            fail=self._fail,
            told=self._told,
            clock=clock,
        )
        self._outcomes = Outcomes(
            self.nodes,
            self.view,
            tuning,
            stale=self._questions.stale,
            fail=self._fail,
            clock=clock,
        )

    # -- for the producer ------------------------------------------------------------

    def add(self, partition: Partition, queued: Queued) -> None:
        """Queue a batch; under the lock."""
        partition.put(queued)
        self._active[partition.topic, partition.index] = partition

    def nudge(self, at: float) -> None:
        """Have it look at this time, unless it is about to; under the lock."""
        self._fed = True
        if not self._asleep_until:
            self._again = min(self._again, at)
        # Hot path: one system call at most until it has looked.
        elif at < self._asleep_until and not self._kicked:
            self._kicked = True
            self._watcher.wake()

    def kick(self) -> None:
        """Have it look now; for any thread."""
        with self.lock:
            self.nudge(0.0)

    def refresh(self) -> None:
        """Have metadata asked for soon; for any thread."""
        with self.lock:
            self._questions.stale()
            self.nudge(0.0)

    def news(self) -> None:
        """Have topics asked for that nobody has asked for yet; for any thread."""
        with self.lock:
            self._questions.news()
            self.nudge(0.0)

    def stop(self) -> None:
        """Have it end; for any thread, never blocks."""
        self._closing = True
        self.kick()

    # -- the loop ----------------------------------------------------------------------

    def run(self) -> None:
        """Send until `stop`; what is left then fails."""
        why: SinkError = Unavailable("the producer is closed")
        try:
            while not self._closing:
                self._sleep(self._turn())
        # The wall of this thread: whoever waits must hear of it.
        except Exception as error:
            log.error("The sender ends: %s: %s", type(error).__name__, error)
            log.debug("", exc_info=True)
            why = Doubtful(f"the sender has failed: {type(error).__name__}: {error}")
        finally:
            self._end(why)

    def _sleep(self, until: float) -> None:
        with self.lock:
            if self._closing:
                return
            self._kicked = False
            # 0.0 means awake, so a time that is over is any other.
            until = min(until, self._again) or -1.0
            now, linger = self._clock.monotonic(), self._tuning.linger
            # Hot path: while something is on its way it looks once in a linger, so that a
            # batch which begins to linger meanwhile need not wake it; where none did, it
            # looks no more: a broker may take long to answer.
            fed, self._fed = self._fed and linger >= LEAST_LINGER, False
            if fed and until > now + linger and self.nodes.awaited:
                until = now + linger
            self._asleep_until = until
        happened = self._watcher.wait(until - now)
        # Hot path: without the lock, which who has just woken it still holds.  In
        # this order: who finds it awake may rely on what is asked of it then.
        self._again = math.inf
        self._asleep_until = 0.0
        self._watcher.handle(happened)

    def _turn(self) -> float:
        """Do all that is due; monotonic seconds of the next time."""
        # In this order: what other threads have found (names, tokens) may let a connection go on,
        # metadata says who leads a partition, and a batch is numbered before it is sent.
        self._aside.deliver()
        now = self._clock.monotonic()
        questions = self._questions
        # What the chore puts goes with what is sent anyway.
        due = min(self.chore(now), questions.metadata(now), questions.identity(now))
        # A partition may have used up its epochs just now.
        due = min(due, self._drain(now), questions.identity(now))
        # Last: what was sent just now has a deadline, too.
        return min(due, self.nodes.tick(now))

    # -- connections, as `connection.ConnectionListener` -------------------------------------------

    def _connection(self, host: str, port: int) -> Connection:
        return Connection(
            host, port, self._options, self, self._aside, clock=self._clock
        )

    def watch(self, connection: Connection, events: int) -> None:
        """As `connection.ConnectionListener`."""
        self._watcher.watch(connection, events)

    def ready(self, connection: Connection) -> None:
        """As `connection.ConnectionListener`."""
        self.nodes.ready(connection)

    def closed(self, connection: Connection, why: Exception) -> None:
        """As `connection.ConnectionListener`."""
        now = self._clock.monotonic()
        self._questions.closed(connection)
        if self.nodes.owner(connection) is None:
            return
        self.nodes.closed(connection, why, now)
        log.debug("%s: %s", connection.place, why)
        # Its partitions may be led by others by now.
        self._questions.stale()
        self._told()

    def _told(self) -> None:
        """Wake those who wait for metadata, or for its failure."""
        with self.changed:
            self.changed.notify_all()

    # -- batches to brokers ------------------------------------------------------------------

    def _drain(self, now: float) -> float:
        """Send what is ready; monotonic seconds of the next time something may be."""
        due = math.inf
        with self.lock:
            active = list(self._active.values())
        view = self.view
        led: dict[int, list[Partition]] = {}
        lost = False
        for partition in active:
            if now < partition.retry_at:
                due = min(due, partition.retry_at)
                continue
            if partition.bound != view.version:
                partition.leader = view.leader(partition.topic, partition.index)
                partition.bound = view.version
            if partition.leader == NOBODY:
                self._leaderless(partition)
                lost = True
            else:
                led.setdefault(partition.leader, []).append(partition)
        for leader, partitions in led.items():
            if (node := self.nodes.node(leader)) is not None:
                due = min(due, self._feed(node, partitions, now))
                continue
            lost = True
            for partition in partitions:
                partition.reason = f"its leader, broker {leader}, is not in the cluster"
        if lost:
            self._questions.stale()
            due = min(due, self._questions.metadata(now))
        return due

    def _leaderless(self, partition: Partition) -> None:
        topic, view = partition.topic, self.view
        gone = topic in view.missing
        partition.reason = "there is no such topic" if gone else "it has no leader"
        count = view.count(topic)
        if count is not None and partition.index >= count and not partition.flying:
            # Made anew with fewer partitions: the records belong elsewhere now.
            why = f"topic {topic} has no partition {partition.index} any more"
            self._abandon(partition, Doubtful(why))
            return
        with self.lock:
            unwanted = self._unwanted(partition)
        for queued in unwanted:
            queued.receipt.answered(Unavailable("nobody waits for it"))

    def _unwanted(self, partition: Partition) -> list[Queued]:
        """Take out what nobody waits for any more; under the lock."""
        found = partition.take_unwanted()
        if partition.empty:
            self._active.pop((partition.topic, partition.index), None)
        return found

    def _abandon(self, partition: Partition, why: SinkError) -> None:
        """All of a partition never will be written."""
        with self.lock:
            left = partition.take_all()
            self._active.pop((partition.topic, partition.index), None)
        for queued in left:
            queued.settle(why)

    def _feed(self, node: Node, partitions: list[Partition], now: float) -> float:
        """Send one broker what is ready for it."""
        if not self.nodes.connect(node, now):
            if node.reason:
                for partition in partitions:
                    partition.reason = node.away
            return math.inf if node.connection is not None else node.retry_at
        if now < node.muted_until:
            for partition in partitions:
                partition.reason = node.throttled(now)
            return node.muted_until
        connection = node.connection
        assert connection is not None
        tuning = self._tuning
        if connection.draining(now):
            return math.inf
        if node.produce_version < wire.OLDEST:
            self._fail(Misconfigured(f"asking {node.place}: {node.unspoken}"))
            return math.inf
        due = math.inf
        while len(connection.flights) < tuning.in_flight:
            # What has to wait for a slow reader grows meanwhile, and has its whole time then.
            if connection.backlog > tuning.backlog:
                break
            sent: list[Sent] = []
            size = 0
            for partition in partitions:
                queued, at = self._next(partition, connection, now, tuning.most - size)
                due = min(due, at)
                if queued is not None:
                    assert queued.sealed is not None
                    size += queued.sealed.size
                    sent.append((partition, queued))
            if not sent:
                break
            self._send(node, connection, sent, now)
            if connection.error is not None:
                # It broke under the request: when to try again is known now.
                return now
        return due

    def _next(
        self, partition: Partition, connection: Connection, now: float, room: int
    ) -> tuple[Queued | None, float]:
        """
        The batch of a partition that is to be sent now, or when there may be one.

        Args:
            room: Bytes left in the request.
        """
        # Read once: the committer's thread opens the next transaction at any moment,
        # and a batch of it must not get the numbers of the one before.
        group = self._identity.group
        if partition.joined != group and not self._join(partition, group):
            return None, math.inf
        if partition.flying:
            if partition.on is not connection:
                # Its answers come over another connection: the order would be lost.
                return None, math.inf
            if partition.unproved and self._numbers:
                return None, math.inf
        elif now - partition.written_at > FORGOTTEN_AFTER:
            partition.unproved = True
        if (partition.renumber or partition.numbers is None) and (
            partition.flying or not self._numbered(partition)
        ):
            return None, math.inf
        queued = partition.next_sent()
        if queued is not None:
            assert queued.sealed is not None
            fits = room >= queued.sealed.size or room == self._tuning.most
            return (queued if fits else None), math.inf
        if partition.repeating:
            return None, math.inf
        queued = None
        due = math.inf
        with self.lock:
            unwanted = self._unwanted(partition)
            waiting = partition.waiting
            if waiting:
                first = waiting[0]
                at = first.created + self._tuning.linger
                ready = first.full or len(waiting) > 1 or at <= now
                fits = room >= first.batch.size or room == self._tuning.most
                if first.group > group:
                    # Of the next transaction: it waits for the end of this one.
                    pass
                elif ready and fits:
                    queued = waiting.popleft()
                    queued.growing = False
                elif not ready:
                    due = at
        for each in unwanted:
            each.receipt.answered(Unavailable("nobody waits for it"))
        if queued is not None:
            queued.sealed = queued.batch.seal(queued.packing)
            partition.stamp(queued)
            partition.sent.append(queued)
        return queued, due

    def _join(self, partition: Partition, group: int) -> bool:
        """Have the open transaction know of a partition that has batches for it."""
        with self.lock:
            waiting = partition.waiting
            mine = bool(waiting) and waiting[0].group <= group
        return mine and self._identity.join(partition)

    def _numbered(self, partition: Partition) -> bool:
        """Give a partition its first or its next numbers; False if they wait."""
        found = numbered(self._identity, partition)
        if isinstance(found, SinkError):
            self._fail(found)
            return False
        return found

    def _send(
        self, node: Node, connection: Connection, sent: list[Sent], now: float
    ) -> None:
        version = self._identity.produce_version(node.produce_version)
        view = self.view
        parts = []
        for partition, queued in sent:
            sealed = queued.sealed
            assert sealed is not None
            queued.flying = True
            queued.tries += 1
            partition.flying += 1
            partition.on = connection
            parts.append(
                wire.PartitionBatch(
                    partition.topic,
                    view.topic_id(partition.topic),
                    partition.index,
                    queued.header,
                    sealed.blocks,
                    sealed.size,
                )
            )
        if version >= wire.BY_ID and any(part.topic_id == wire.NO_ID for part in parts):
            version = wire.BY_ID - 1
        correlation = connection.next_correlation()
        pieces = wire.encode(
            version,
            correlation,
            self._client_id,
            self._tuning.acks,
            self._timeout_ms,
            parts,
            self._identity.transactional_id,
        )
        silent = self._tuning.acks == 0

        def answered(frame: bytes) -> None:
            if silent:
                found = wire.ProduceResponse([])
            else:
                found = wire.decode(version, memoryview(frame)[4:])
            self._outcomes.answered(node, version, sent, found)
            self._tidy(sent)

        def lost(why: Exception) -> None:
            self._outcomes.lost(sent, why)

        deadline = now + self._options.request_timeout
        flight = InFlightRequest(correlation, deadline, answered, lost)
        self.requests += 1
        connection.send(pieces, flight, silent=silent)

    def _tidy(self, sent: list[Sent]) -> None:
        with self.lock:
            for partition, _ in sent:
                if partition.empty:
                    self._active.pop((partition.topic, partition.index), None)

    # -- the end ---------------------------------------------------------------------------------

    def _fail(self, why: SinkError) -> None:
        """Nothing can be sent any more."""
        self.failure = self.failure or why
        self._identity.failed(why)
        with self.lock:
            partitions = list(self._active.values())
            self._active.clear()
            left = [queued for each in partitions for queued in each.take_all()]
        for queued in left:
            queued.settle(why)
        self._told()

    def _end(self, why: SinkError) -> None:
        self.failure = self.failure or why
        for node in self.nodes.all():
            if node.connection is not None:
                node.connection.close(ConnectionError(str(why)))
        self._fail(why)
        with self.lock:
            self._asleep_until = 0.0
            self._closing = True
            self._watcher.close()
