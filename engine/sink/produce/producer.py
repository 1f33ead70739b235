"""
Producer: a task's way to put encoded batches into Kafka.

Owns the verbs that other threads call: how many partitions a topic has, put a
batch and let it grow, what waits and why, close.

Path: `sink.commit` puts batches here -> `sink.produce.sender` -> receipts
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Misconfigured, Unavailable
from engine.sink.batch import Batch, EncodedRecords
from engine.sink.cluster import Cluster, options_of
from engine.sink.compress import Packing
from engine.sink.naming import PASSING
from engine.sink.produce.identity import Anonymous, Idempotent, Identity
from engine.sink.produce.queue import Partition, Queued, Receipt
from engine.sink.produce.sender import Sender
from engine.sink.produce.transaction import Ended, Phase, Transactional
from engine.sink.produce.tuning import Tuning
from engine.sink.produce.verdicts import NO_TOPIC, failure

#: Seconds a topic may be unknown to the cluster before it counts as gone: the
#: brokers learn of a new one one after the other.
GONE_AFTER = 5.0

#: Seconds until a broker that does not answer is given up for one try.
PROBE_LIMIT = 5.0


class NoTopic(Misconfigured):
    """A topic that is not there, or not any more."""


class Wait(Struct, frozen=True):
    """
    A partition whose oldest batch is not written.

    Attributes:
        seconds: For how long nothing of it was.
        why: What the broker said, or what keeps it away.
    """

    topic: str
    partition: int
    seconds: float
    why: str


class OpenBatch:
    """A batch that waits in its queue and may still grow."""

    def __init__(self, queued: Queued, sender: Sender, at: float) -> None:
        self._queued = queued
        self._sender = sender
        #: When the sender is to look at it, monotonic seconds.
        self.at = at

    @property
    def batch(self) -> Batch:
        return self._queued.batch

    @property
    def growing(self) -> bool:
        """False if nothing can be added any more; True may be out of date."""
        return self._queued.growing

    def commit(self, part: EncodedRecords) -> bool:
        """
        Let the batch grow.

        Returns: False if the sender has closed it; nothing is added then.
        Blocks: for the moments in which the sender looks at its queues.
        """
        with self._sender.lock:
            if self._queued.growing:
                self._queued.batch.commit(part)
                return True
            return False

    def finish(self, *, quiet: bool = False) -> None:
        """
        Let it go without lingering on.

        Args:
            quiet: As for `put`; the sender is to look now.
        """
        with self._sender.lock:
            if self._queued.growing and not self._queued.full:
                self._queued.full = True
                if not quiet:
                    self._sender.nudge(0.0)


class Producer:
    """
    Takes whole batches, from any thread of the process that made it.

    Made after the fork; of no use in another process.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        acks: str = "all",
        idempotent: bool = True,
        in_flight: int = 5,
        linger: float = 0.005,
        max_block: float = 10.0,
        max_request_size: int = 1048576,
        transactional: Transactional | None = None,
        limit: float = PROBE_LIMIT,
        waiting: bool = True,
        clock: Clock = SYSTEM,
    ) -> None:
        """
        Connect, and start the sender's thread.

        Args:
            acks: "0", "1" or "all".
            in_flight: Requests to one broker that are not answered; with
                idempotence at most 5, of which brokers remember the batches.
            linger: Seconds a batch may wait for more records.
            max_block: Seconds `partitions` waits.
            max_request_size: Bytes of a request.
            transactional: All that is put belongs to transactions of it, which
                `open`, `group` and `end` are for; needs acks "all".
            waiting: False to come back at once; `reach` follows.

        Raises: Unavailable, Misconfigured.  Blocks: at most `limit` seconds.
        """
        self._cluster = cluster
        self._max_block = max_block
        #: Seconds a batch may wait for more records.
        self.linger = linger
        self._clock = clock
        self._pid = os.getpid()
        tuning = Tuning(
            -1 if acks == "all" else int(acks),
            min(in_flight, 5) if idempotent else in_flight,
            linger,
            max_request_size,
            cluster.retry_backoff,
            cluster.metadata_max_age,
        )
        self._transactional = transactional
        identity: Identity = Idempotent() if idempotent else Anonymous()
        if transactional is not None:
            identity = transactional
        self._sender = Sender(
            cluster.bootstrap,
            options_of(cluster),
            tuning,
            identity,
            backoff=(cluster.reconnect_backoff, cluster.reconnect_backoff_max),
            clock=clock,
        )
        self._sender.start()
        if waiting:
            self.reach(limit)

    def reach(self, limit: float = PROBE_LIMIT) -> None:
        """
        Wait for the first word of the cluster; where none comes, it is closed.

        Raises: Unavailable, Misconfigured.  Blocks: at most `limit` seconds.
        """
        try:
            self._reach(limit)
        except BaseException:
            self.close(1.0)
            raise

    def _reach(self, limit: float) -> None:
        sender = self._sender
        doing = f"reaching Kafka at {self._cluster.address}"
        deadline = self._clock.monotonic() + limit
        with sender.changed:
            while not sender.view.brokers:
                if sender.failure is not None:
                    raise sender.failure
                refusal = sender.nodes.refusal()
                if refusal is not None:
                    raise Misconfigured(f"{doing}: {refusal}")
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    why = sender.nodes.why()
                    said = f" ({why})" if why else ""
                    raise Unavailable(f"{doing}: no broker answers{said}")
                sender.changed.wait(left)

    # -- topics --------------------------------------------------------------------------

    def partitions(self, topic: str) -> int:
        """
        How many partitions the topic has.

        Raises: Unavailable; Misconfigured if it may not be written to or is not
        there.
        Blocks: the first time, at most `producer.max.block.ms`.
        """
        view = self._sender.view
        found = view.count(topic)
        return found if found is not None else self._ask(topic)

    def _ask(self, topic: str) -> int:
        sender = self._sender
        view = sender.view
        deadline = self._clock.monotonic() + self._max_block
        if view.want(topic):
            sender.news()
        with sender.changed:
            while True:
                if sender.failure is not None:
                    raise sender.failure
                found = view.count(topic)
                if found is not None:
                    return found
                now = self._clock.monotonic()
                code = view.code(topic)
                gone = now - view.missing.get(topic, now) >= GONE_AFTER
                # Somebody waits, or will ask again: what is known is not good enough.
                sender.refresh()
                passes = not code or code in NO_TOPIC or code in PASSING or code == -1
                if gone or not passes or now >= deadline:
                    doing = f"asking for the partitions of topic {topic}"
                    if code in NO_TOPIC:
                        raise NoTopic(f"{doing}: there is no such topic")
                    if code:
                        raise failure(code, "", doing)
                    why = sender.nodes.why()
                    said = f" ({why})" if why else ""
                    raise Unavailable(f"{doing}: no broker answers{said}")
                sender.changed.wait(min(deadline - now, 0.2))

    def expect(self, topics: Sequence[str]) -> None:
        """Learn who leads these topics before anything is put; never blocks."""
        wanted = [topic for topic in topics if self._sender.view.want(topic)]
        if wanted:
            self._sender.news()

    def spread(self, topic: str, turn: int, count: int) -> int:
        """
        A partition for a batch of records without a key.

        The next in turn, of those that have a leader and are written to: one
        that waits holds up what has no need to go there.

        Args:
            turn: How many batches went before.
            count: Partitions of the topic.
        """
        wanted = turn % count
        sender = self._sender
        for step in range(count):
            index = (wanted + step) % count
            known = sender.partitions.get((topic, index))
            if known is not None and known.reason and not known.empty:
                continue
            if sender.view.leader(topic, index) >= 0:
                return index
        return wanted

    @property
    def cluster(self) -> str:
        """The cluster's id, "" until the broker has said it."""
        return self._sender.view.cluster

    # -- batches ---------------------------------------------------------------------------

    def put(
        self,
        topic: str,
        partition: int,
        batch: Batch,
        pack: Packing,
        receipt: Receipt,
        *,
        full: bool = False,
        group: int = 0,
        quiet: bool = False,
    ) -> OpenBatch:
        """
        Queue a batch for its partition.

        It is sent when it is full, when it has lingered, or when it is finished,
        and grows while those before it are on their way.  It is sent again for
        as long as it takes.

        Args:
            batch: Not empty.
            pack: How it is to be compressed, by the sender's thread.
            receipt: Told on the sender's thread.
            full: True to send it at once.
            group: The transaction it belongs to; it waits while that is a later
                one than the open one.
            quiet: True to leave the sender asleep; `look` at the slot's time follows.

        Raises: what the producer has failed with; Unavailable if it is closed.
        Never blocks for long.
        """
        sender = self._sender
        now = self._clock.monotonic()
        queued = Queued(batch, pack, receipt, now)
        queued.full = full
        queued.group = group
        place = topic, partition
        wanted = sender.view.want(topic)
        with sender.lock:
            self._check()
            found = sender.partitions.get(place)
            if found is None:
                found = sender.partitions[place] = Partition(topic, partition)
            sender.add(found, queued)
            # One that was full before it has room beside it now.
            ready = full or len(found.waiting) > 1
            at = 0.0 if ready else now + self.linger
            if not quiet:
                sender.nudge(at)
        if wanted:
            sender.news()
        return OpenBatch(queued, sender, at)

    def on_turn(self, chore: Callable[[float], float]) -> None:
        """
        Have something done on the sender's thread whenever it looks at its queues.

        Args:
            chore: Told what time it is, monotonic seconds; answers when the next time
                is due.  Never blocks or raises.
        """
        self._sender.chore = chore

    def look(self, at: float) -> None:
        """Have the sender look at what was put quietly; monotonic seconds."""
        sender = self._sender
        with sender.lock:
            sender.nudge(at)

    def _check(self) -> None:
        if self._sender.failure is not None:
            raise self._sender.failure
        if os.getpid() != self._pid:
            raise Unavailable("the producer belongs to another process")

    # -- transactions ------------------------------------------------------------------------

    def initialise(self, limit: float) -> None:
        """
        Fence whoever had the transactional id, and abort what it left open.

        Raises: Misconfigured without the right to the id, or where the broker knows
        no transactions; past the limit Unavailable, NoTransactions where somebody
        answers.
        Blocks: at most `limit` seconds.
        """
        transactional, sender = self._transactional, self._sender
        assert transactional is not None
        deadline = self._clock.monotonic() + limit
        sender.kick()
        with sender.changed:
            while transactional.phase is Phase.NEW:
                if sender.failure is not None:
                    break
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    raise transactional.late(limit, sender.nodes.why())
                sender.changed.wait(min(left, 0.2))
        if sender.failure is not None:
            raise sender.failure

    def open(self, group: int) -> None:
        """Let the batches of a transaction go; the one before it has ended."""
        transactional, sender = self._transactional, self._sender
        assert transactional is not None
        with sender.lock:
            transactional.group = group
            sender.nudge(0.0)

    def end(self, commit: bool, ended: Ended) -> None:
        """
        End the open transaction, of which every batch is acknowledged.

        Args:
            ended: Called on the sender's thread: None if it is as was asked for,
                else why not, or why that is not known; the producer is over then,
                and it may be called twice.

        Never blocks.
        """
        transactional, sender = self._transactional, self._sender
        assert transactional is not None
        with sender.lock:
            transactional.end(commit, ended)
            sender.nudge(0.0)
        if sender.failure is not None:
            # It may have failed before it knew that somebody waits.
            ended(sender.failure)

    @property
    def second(self) -> bool:
        """True where transactions of version 2 are spoken (KIP-890)."""
        return self._transactional is not None and self._transactional.second

    # -- what waits --------------------------------------------------------------------------

    def waits(self, now: float, least: float) -> list[Wait]:
        """Partitions of which nothing was written for `least` seconds or longer."""
        found = []
        for partition in list(self._sender.partitions.values()):
            if partition.empty:
                continue
            seconds = now - partition.progress_at
            if seconds >= least:
                why = partition.reason or self._sender.nodes.why() or "no answer"
                found.append(Wait(partition.topic, partition.index, seconds, why))
        return sorted(found, key=lambda each: (each.topic, each.partition))

    def gone(self, now: float) -> list[str]:
        """Topics that batches wait for and that are not there any more."""
        missing = dict(self._sender.view.missing)
        waiting = {
            each.topic
            for each in list(self._sender.partitions.values())
            if not each.empty
        }
        return sorted(
            topic
            for topic, since in missing.items()
            if topic in waiting and now - since >= GONE_AFTER
        )

    def refresh(self) -> None:
        """Have the brokers asked anew who leads what; never blocks."""
        self._sender.refresh()

    # -- the end -----------------------------------------------------------------------------

    def close(self, timeout: float) -> bool:
        """
        End the sender's thread; batches that are not acknowledged fail.

        Returns: False if the thread is still alive after `timeout` seconds; it
        is a daemon and dies with the process.
        Blocks: at most `timeout` seconds, whatever the broker does.
        """
        if os.getpid() != self._pid:
            # The thread and the connections are another process's.
            return True
        self._sender.stop()
        if threading.current_thread() is not self._sender:
            self._sender.join(timeout)
        return not self._sender.is_alive()
