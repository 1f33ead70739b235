"""
Sender: the thread that brings batches to their brokers.

Owns the loop: what is ready, who leads it, one request for all that a broker is
to get, at most so many of them in flight, and what follows from each answer.
It alone touches connections, metadata and numbers; `sink.produce.producer` shares
the queues with it under one lock.

Path: `sink.produce.producer` puts batches and wakes it; it tells the receipts.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Doubtful, Misconfigured, SinkError, Unavailable
from engine.sink.codes import BrokerError
from engine.sink.naming import renamed
from engine.sink.produce import messages, split, verdicts, wire
from engine.sink.produce.aside import Aside
from engine.sink.produce.connection import Connection, Flight, Options
from engine.sink.produce.identity import Anonymous, Identity
from engine.sink.produce.nodes import Node, Nodes
from engine.sink.produce.queue import SEQUENCE_MASK, Bad, Partition, Queued
from engine.sink.produce.transaction import SOON
from engine.sink.produce.verdicts import Verdict
from engine.sink.produce.view import NOBODY, View
from engine.sink.produce.watching import Watcher

log = logging.getLogger("kafka")

#: Longest pause between two tries of a batch.
LONGEST_PAUSE = 1.0

#: Part of the request time-out that the broker may wait for its replicas: it
#: answers before the connection is given up for silent.
REPLICAS_SHARE = 0.8

#: Seconds after which metadata is asked for on another connection as well.
METADATA_SLOW = 2.0

#: Seconds a topic may be unknown to the cluster before it counts as gone: the
#: brokers learn of a new one one after the other.
GONE_AFTER = 5.0


#: Seconds of a linger below which it is not looked after while others are awaited.
LEAST_LINGER = 0.001

#: Seconds without a batch after which a broker may have forgotten the producer
#: (`producer.id.expiration.ms`, or its records have been deleted).
FORGOTTEN_AFTER = 60.0


class Tuning(Struct, frozen=True):
    """
    How batches are sent; seconds and bytes.

    Attributes:
        acks: 0, 1 or -1 for all.
        in_flight: Requests to one broker that are not answered.
        linger: How long a batch may wait for more.
        most: Bytes of a request.
    """

    acks: int
    in_flight: int
    linger: float
    most: int
    retry_backoff: float
    metadata_max_age: float


#: A batch in a request, and whose it is.
Sent = tuple[Partition, Queued]


class Sender(threading.Thread):
    """
    Attributes:
        lock: Guards the queues' waiting batches and who is asleep.
        failure: Why nothing can be sent any more, or None.
        changed: Notified when metadata came, and when it has failed.
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
        self.view = View()
        self.requests = 0
        self._active: dict[tuple[str, int], Partition] = {}
        self._options = options
        self._tuning = tuning
        self._identity = identity
        self._numbers = not isinstance(identity, Anonymous)
        self._clock = clock
        self._client_id = options.manners.client_id.encode()
        self._timeout_ms = max(int(options.request_timeout * REPLICAS_SHARE * 1e3), 1)
        self._watcher = Watcher()
        self._aside = Aside(self.kick)
        self.nodes = Nodes(
            bootstrap, self.view, self._connection, backoff=backoff, clock=clock
        )
        self._closing = False
        # Monotonic seconds until which it sleeps, 0.0 while it is awake.
        self._asleep_until = 0.0
        self._kicked = False
        # While it is awake: when it is to look again for what was put meanwhile.
        self._again = math.inf
        self._asking: dict[Connection, float] = {}
        self._refresh_at = 0.0
        self._fresh_until = 0.0
        self._identity_asked = False
        self._identity_at = 0.0

    # -- for the producer ------------------------------------------------------------

    def add(self, partition: Partition, queued: Queued) -> None:
        """Queue a batch; under the lock."""
        if partition.empty:
            partition.progress_at = queued.created
        # A page that is still put into the transaction that is being ended comes after
        # pages of the next one, and must not wait behind them: its end waits for it.
        waiting = partition.waiting
        at = len(waiting)
        while at and waiting[at - 1].group > queued.group:
            at -= 1
        waiting.insert(at, queued)
        self._active[partition.topic, partition.index] = partition

    def nudge(self, at: float) -> None:
        """Have it look at this time, unless it is about to; under the lock."""
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
            self._fresh_until = 0.0
            self.nudge(0.0)

    def news(self) -> None:
        """Have topics asked for that nobody has asked for yet; for any thread."""
        with self.lock:
            # The pause is for asking again what was not known.
            self._fresh_until = self._refresh_at = 0.0
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
            now = self._clock.monotonic()
            linger = self._tuning.linger
            # Hot path: while something is on its way it looks once in a linger, so
            # that a batch which begins to linger meanwhile need not wake it.
            if linger >= LEAST_LINGER and until > now + linger and self._awaits():
                until = now + linger
            self._asleep_until = until
        happened = self._watcher.wait(until - now)
        # Hot path: without the lock, which who has just woken it still holds.  In
        # this order: who finds it awake may rely on what is asked of it then.
        self._again = math.inf
        self._asleep_until = 0.0
        self._watcher.handle(happened)

    def _awaits(self) -> bool:
        """True while a broker is to answer."""
        return any(
            node.connection is not None and node.connection.flights
            for node in self.nodes.all()
        )

    def _turn(self) -> float:
        """Do all that is due; monotonic seconds of the next time."""
        self._aside.deliver()
        now = self._clock.monotonic()
        due = min(self._ask(now), self._identify(now), self._drain(now))
        # A partition may have used up its epochs just now.
        due = min(due, self._identify(now))
        # Last: what was sent just now has a deadline, too.
        return min(due, self._tick(now))

    def _tick(self, now: float) -> float:
        due = math.inf
        for node in self.nodes.all():
            if node.connection is not None:
                due = min(due, node.connection.tick(now))
        return due

    # -- who leads what ------------------------------------------------------------------

    def _ask(self, now: float) -> float:
        """Ask for metadata if it is due, and for somebody to ask."""
        view = self.view
        if view.brokers and not view.wanted:
            return math.inf
        at = max(self._fresh_until, self._refresh_at)
        if now < at:
            return at
        slow = max(self._asking.values(), default=-math.inf) + METADATA_SLOW
        if now < slow:
            return slow
        node = self.nodes.for_metadata(now)
        if node is None:
            return self.nodes.search(now)
        connection = node.connection
        assert connection is not None
        if connection in self._asking:
            # It does not answer: somebody else may.
            return min(self.nodes.search(now), now + METADATA_SLOW)
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
            self._learn(found, topics)

        def lost(_: Exception) -> None:
            self._asking.pop(connection, None)

        connection.call(message, told, lost)
        return now + METADATA_SLOW if connection.error is None else now

    def _learn(self, found: messages.Metadata, topics: Sequence[str]) -> None:
        now = self._clock.monotonic()
        view = self.view
        # One that is asked for since is asked for at once, and the first one, too.
        news = len(view.wanted) > len(topics)
        view.learn(found, topics, now)
        news = news or bool(view.brokers and not topics)
        self.nodes.found()
        self._refresh_at = now + (0.0 if news else self._tuning.retry_backoff)
        self._fresh_until = now if news else now + self._tuning.metadata_max_age
        if view.missing or any(
            view.leader(*place) == NOBODY for place in list(self._active)
        ):
            self._stale()
        with self.changed:
            self.changed.notify_all()

    def _stale(self) -> None:
        """What is known of the leaders is out of date."""
        self._fresh_until = 0.0

    def _identify(self, now: float) -> float:
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
            failure, pause = question.answered(answer)
            wait = self._tuning.retry_backoff if pause is None else pause
            self._identity_at = self._clock.monotonic() + wait
            if failure is not None:
                self._fail(failure)
            with self.changed:
                self.changed.notify_all()

        def lost(why: Exception) -> None:
            self._identity_asked = False
            failure = question.lost(why)
            if failure is not None:
                self._fail(failure)

        found.call(message, told, lost)
        return math.inf if found.error is None else now

    def _to_ask(self, endpoint: wire.Endpoint | None, now: float) -> Connection | float:
        """The connection a question goes to, or when there may be one."""
        if endpoint is None:
            node = self.nodes.for_metadata(now)
            if node is None:
                return self.nodes.search(now) if self.view.brokers else math.inf
        else:
            self.nodes.add(endpoint.node, endpoint)
            node = self.nodes.node(endpoint.node)
            assert node is not None
            if not self.nodes.connect(node, now):
                if node.connection is not None:
                    return math.inf
                # It went away: another one may be the coordinator by now.
                self._identity.moved()
                self._identity_at = now + self._tuning.retry_backoff
                return self._identity_at
        assert node.connection is not None
        return node.connection

    # -- connections, as `connection.Owner` ------------------------------------------------

    def _connection(self, host: str, port: int) -> Connection:
        return Connection(
            host, port, self._options, self, self._aside, clock=self._clock
        )

    def watch(self, connection: Connection, events: int) -> None:
        """As `connection.Owner`."""
        self._watcher.watch(connection, events)

    def ready(self, connection: Connection) -> None:
        """As `connection.Owner`."""
        self.nodes.ready(connection)

    def closed(self, connection: Connection, why: Exception) -> None:
        """As `connection.Owner`."""
        now = self._clock.monotonic()
        self._asking.pop(connection, None)
        if self.nodes.owner(connection) is None:
            return
        self.nodes.closed(connection, why, now)
        log.debug("%s: %s", connection.place, why)
        # Its partitions may be led by others by now.
        self._stale()
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
        for partition in active:
            if now < partition.retry_at:
                due = min(due, partition.retry_at)
                continue
            if partition.bound != view.version:
                partition.leader = view.leader(partition.topic, partition.index)
                partition.bound = view.version
            if partition.leader == NOBODY:
                self._leaderless(partition)
            else:
                led.setdefault(partition.leader, []).append(partition)
        for leader, partitions in led.items():
            node = self.nodes.node(leader)
            if node is not None:
                due = min(due, self._feed(node, partitions, now))
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
        found: list[Queued] = []
        waiting = partition.waiting
        while waiting and not waiting[0].receipt.wanted:
            waiting[0].growing = False
            found.append(waiting.popleft())
        if partition.empty:
            self._active.pop((partition.topic, partition.index), None)
        return found

    def _abandon(self, partition: Partition, why: SinkError) -> None:
        """All of a partition never will be written."""
        with self.lock:
            left = [*partition.sent, *partition.waiting]
            for queued in left:
                queued.growing = False
            partition.sent.clear()
            partition.waiting.clear()
            self._active.pop((partition.topic, partition.index), None)
        for queued in left:
            self._settle(queued, why)

    def _feed(self, node: Node, partitions: list[Partition], now: float) -> float:
        """Send one broker what is ready for it."""
        if not self.nodes.connect(node, now):
            if node.reason:
                for partition in partitions:
                    partition.reason = f"{node.place}: {node.reason}"
            return math.inf if node.connection is not None else node.retry_at
        if now < node.muted_until:
            for partition in partitions:
                partition.reason = "the broker throttles it (a quota)"
            return node.muted_until
        connection = node.connection
        assert connection is not None
        tuning = self._tuning
        silent = tuning.acks == 0
        if connection.draining(now):
            return math.inf
        if node.produce_version < wire.OLDEST:
            why = f"{node.place} speaks no version of Produce that is known here"
            self._fail(Misconfigured(why))
            return math.inf
        due = math.inf
        while len(connection.flights) < tuning.in_flight:
            if silent and connection.backlog > tuning.most:
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
        if partition.numbers is not None and not partition.begin_epoch():
            failure = self._identity.exhausted(partition)
            if failure is not None:
                self._fail(failure)
                return False
        if partition.numbers is None:
            if not self._identity.admit(partition):
                if not partition.reason:
                    partition.reason = "no producer id yet"
                return False
            for queued in partition.sent:
                partition.stamp(queued)
            partition.renumber = False
        return True

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
                wire.Part(
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
                found = wire.Answer([])
            else:
                found = wire.decode(version, memoryview(frame)[4:])
            self._answered(node, connection, version, sent, found)

        def lost(why: Exception) -> None:
            self._lost(sent, why)

        deadline = now + self._options.request_timeout
        flight = Flight(correlation, deadline, answered, lost)
        self.requests += 1
        connection.send(pieces, flight, silent=silent)

    # -- what comes back -----------------------------------------------------------------------

    def _answered(
        self,
        node: Node,
        connection: Connection,
        version: int,
        sent: list[Sent],
        answer: wire.Answer,
    ) -> None:
        now = self._clock.monotonic()
        if answer.throttle and version >= 6:
            node.muted_until = max(node.muted_until, now + answer.throttle)
        for endpoint in answer.endpoints:
            self.nodes.add(endpoint.node, endpoint)
        view = self.view
        results = {}
        for result in answer.results:
            name = result.topic or view.name(result.topic_id)
            results[name, result.partition] = result
        for partition, queued in sent:
            partition.landed(queued)
            place = partition.topic, partition.index
            if self._tuning.acks == 0:
                self._written(partition, queued, now)
                continue
            found = results.get(place)
            if found is None:
                # Its topic was made anew meanwhile, and has another id.
                self._again_later(partition, "the broker does not answer for it", now)
                self._stale()
                continue
            if found.hint is not None:
                view.hint(partition.topic, partition.index, found.hint)
            self._judge(partition, queued, found, now)
        self._tidy(sent)

    def _judge(
        self, partition: Partition, queued: Queued, result: wire.Result, now: float
    ) -> None:
        code = result.code
        found = verdicts.verdict(code, queued.tries)
        if found is Verdict.WRITTEN:
            self._written(partition, queued, now)
            return
        partition.code = code
        said = (
            f"{verdicts.name(code)}{f' ({result.message})' if result.message else ''}"
        )
        # A batch is judged when all before it are written: only then is it known
        # that what is wrong is wrong with it.
        first = partition.sent[0] is queued
        # One that was left out before it is missing: it gets new numbers.
        numbers = partition.numbers
        numbered = numbers is not None and numbers.producer >= 0
        transactional = numbers is not None and numbers.transactional
        if found in (Verdict.AGAIN, Verdict.MOVED):
            if found is Verdict.MOVED and result.hint is None:
                self._stale()
            pause = result.hint is None
            self._again_later(partition, said, now, pause=pause)
            if transactional and code == verdicts.CONCURRENT_TRANSACTIONS:
                # The former one is being ended, which takes milliseconds.
                partition.retry_at = now + SOON
        elif numbered and (partition.renumber or not first):
            self._again_later(partition, said, now, pause=False)
        elif found is Verdict.FORGOTTEN and transactional:
            why = "the broker does not know the transaction any more"
            self._fail(Doubtful(f"{_writing(partition)}: {said}: {why}"))
        elif found is Verdict.FORGOTTEN:
            partition.renumber = True
            self._again_later(partition, said, now)
        elif found in (Verdict.RECORDS, Verdict.TOO_LARGE):
            self._refused(partition, queued, result)
        elif found is Verdict.ORDER:
            why = "a batch that was acknowledged is missing at the broker"
            self._fail(Doubtful(f"{_writing(partition)}: {why}"))
        else:
            failure = verdicts.failure(code, result.message, _writing(partition))
            if isinstance(failure, Misconfigured):
                self._drop(partition, queued, failure)
            else:
                # What is on its way behind it may be written or not.
                self._fail(failure)

    def _written(self, partition: Partition, queued: Queued, now: float) -> None:
        if partition.sent[0] is queued:
            partition.sent.popleft()
        else:
            partition.sent.remove(queued)
        numbers = partition.numbers
        if numbers is not None and numbers.transactional:
            assert queued.sealed is not None
            numbers.taken = (numbers.taken + queued.sealed.count) & SEQUENCE_MASK
        partition.progress_at = partition.written_at = now
        partition.unproved = False
        partition.failures = 0
        partition.reason = ""
        self._settle(queued, None)

    def _settle(self, queued: Queued, why: SinkError | None) -> None:
        """A batch is done with; its receipt hears of the last part of it."""
        queued.parts[0] -= 1
        if why is not None:
            if queued.parts[0] >= 0:
                queued.parts[0] = -1
                queued.receipt.answered(why)
        elif not queued.parts[0]:
            queued.receipt.answered(None)

    def _again_later(
        self, partition: Partition, why: str, now: float, *, pause: bool = True
    ) -> None:
        """A batch stays where it is and is sent again."""
        partition.reason = why
        if not pause:
            return
        wait = min(
            self._tuning.retry_backoff * 2**partition.failures,
            max(LONGEST_PAUSE, self._tuning.retry_backoff),
        )
        partition.failures = min(partition.failures + 1, 16)
        partition.retry_at = now + wait

    def _lost(self, sent: list[Sent], why: Exception) -> None:
        """Nobody knows whether these were written: they are sent again as they are."""
        now = self._clock.monotonic()
        if self._tuning.acks == 0:
            # Nobody was to tell us either way.
            for partition, queued in sent:
                partition.landed(queued)
                self._written(partition, queued, now)
            return
        for partition, queued in sent:
            partition.landed(queued)
            if partition.numbers is not None:
                partition.numbers.doubtful = True
            self._again_later(partition, str(why), now, pause=False)

    def _drop(self, partition: Partition, queued: Queued, why: SinkError) -> None:
        """A batch never will be written; those behind it are numbered anew."""
        partition.sent.remove(queued)
        partition.renumber = True
        self._settle(queued, why)

    def _refused(
        self, partition: Partition, queued: Queued, result: wire.Result
    ) -> None:
        """The broker does not take some of a batch's records: send the others."""
        sealed = queued.sealed
        assert sealed is not None
        bad = {at: text for at, text in result.errors if 0 <= at < sealed.count}
        if not bad and sealed.count == 1:
            bad = {0: result.message}
        if bad:
            rest = split.without(queued, bad)
            queued.receipt.refused(
                [
                    Bad(split.original(queued, at), result.code, text)
                    for at, text in sorted(bad.items())
                ]
            )
        else:
            rest = split.halves(queued)
        at = partition.sent.index(queued)
        left = list(partition.sent)
        left[at : at + 1] = rest
        partition.sent = deque(left)
        partition.renumber = True
        queued.parts[0] += len(rest)
        self._settle(queued, None)

    def _tidy(self, sent: list[Sent]) -> None:
        with self.lock:
            for partition, _ in sent:
                if partition.empty:
                    self._active.pop((partition.topic, partition.index), None)

    # -- the end ---------------------------------------------------------------------------------

    def _fail(self, why: SinkError) -> None:
        """Nothing can be sent any more."""
        if self.failure is None:
            self.failure = why
        self._identity.failed(why)
        with self.lock:
            partitions = list(self._active.values())
            self._active.clear()
            left: list[Queued] = []
            for partition in partitions:
                for queued in partition.waiting:
                    queued.growing = False
                left += partition.sent
                left += partition.waiting
                partition.waiting.clear()
        for partition in partitions:
            partition.sent.clear()
        for queued in left:
            self._settle(queued, why)
        with self.changed:
            self.changed.notify_all()

    def _end(self, why: SinkError) -> None:
        if self.failure is None:
            self.failure = why
        for node in self.nodes.all():
            if node.connection is not None:
                node.connection.close(ConnectionError(str(why)))
        self._fail(why)
        with self.lock:
            self._asleep_until = 0.0
            self._closing = True
            self._watcher.close()


def _writing(partition: Partition) -> str:
    return f"writing to {partition.topic}-{partition.index}"
