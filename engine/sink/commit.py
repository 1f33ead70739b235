"""
Commit: what the shards of a task share on their way to the broker.

Owns what the shards share: the producer, the bytes in flight, how long a write may
wait, topics that have gone, and the first failure.  A doubtful write ends the
delivery: nothing behind it moves a mark, and the task builds a new one or ends.  A
write that only waits is no failure.

Path: `sink.delivery`, `sink.outlet`, `sink.transactions` -> here -> `sink.produce.producer`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Condition, RLock
from typing import TypeVar

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Misconfigured, Refused, SinkError, StateError, Unavailable
from engine.sink import refusals
from engine.sink.batch import HEADER, Batch, HeadStore
from engine.sink.columns import Column, column_of
from engine.sink.compress import PLAIN, Packing
from engine.sink.deadletter import DeadLetters
from engine.sink.group import Committing, TransactionGroup
from engine.sink.produce.producer import NoTopic, OpenBatch, Producer, Wait
from engine.sink.produce.queue import Receipt, RefusedRecord
from engine.sink.seams import LOOK, NEVER, Failure, ShardOutlet
from engine.sink.window import EASED, Budget, HandOver

#: Pages of a shard past its mark, where nothing else is said.
MOST_PAGES = 1000

_Found = TypeVar("_Found")


class RecordReceipt(Struct, eq=False):
    """The receipt of a batch that belongs to no page (`produce.queue.Receipt`)."""

    delivery: SharedDelivery
    done: Callable[[Failure], None]
    topic: str
    group: TransactionGroup | None = None
    bad: Sequence[RefusedRecord] = ()

    @property
    def wanted(self) -> bool:
        return True

    def answered(self, why: SinkError | None) -> None:
        self.delivery.heard()
        if why is None and self.bad:
            why = Refused(refusals.said(self.bad[0], self.topic, 0, 0))
        self.done(why)
        if self.group is not None:
            self.delivery.answered_single(self.group)

    def refused(self, records: Sequence[RefusedRecord]) -> None:
        self.bad = records


class DeliveryOptions(Struct, frozen=True, kw_only=True):
    """
    How a task's records go to the broker.

    Attributes:
        limits: Topic to the bytes a batch of it may have (`preflight.Topics.limit`).
        batch_size: Bytes before compression at which a batch is closed.
        letters: Makes records of dead letters; None without a topic for them.
        revive: Makes a topic that has gone, or raises Misconfigured
            (`preflight.Topics.revive`); None: that is what a gone topic is.
        most_pages: Pages of a shard past its mark, and at most the budget's bytes of
            them: then `hand_over` waits.
        patience: Seconds a write may wait; None: as long as it takes.
    """

    limits: Callable[[str], int]
    batch_size: int = 262144
    packing: Packing = PLAIN
    letters: DeadLetters | None = None
    revive: Callable[[str], None] | None = None
    most_pages: int = MOST_PAGES
    patience: float | None = None


class SharedDelivery:
    """
    A task's way to the broker, as its outlets and savers know it.

    Attributes:
        budget: The bytes in flight; also for queues of pages in other rooms.
        letters: Makes records of dead letters; None without a topic for them.
        batches: Batches of records acknowledged so far.
        held: Why the state cannot be saved, so that nothing more is handed over;
            "" while it can.
    """

    def __init__(
        self,
        producer: Producer,
        *,
        budget: Budget,
        options: DeliveryOptions,
        clock: Clock = SYSTEM,
    ) -> None:
        self.budget = budget
        self.letters = options.letters
        self.batches = 0
        self.held = ""
        self._producer = producer
        self.linger = producer.linger
        self.batch_size = options.batch_size
        self._packing = options.packing
        self._limits = options.limits
        self._revive = options.revive
        self.most_pages = options.most_pages
        self._patience = options.patience
        self._patient_from = clock.monotonic()
        # Since when a shard waits for an answer about a topic.
        self._asking: dict[object, float] = {}
        self._clock = clock
        self._outlets: list[ShardOutlet] = []
        # Windows, outlets and the failure are changed under the lock, by the
        # shards' threads, the sender's and a state writer's.  Without it a mark could be
        # read between two acknowledgements of a page, and the state would pass a record
        # that is not yet in Kafka.  No page is encoded under it.  Reentrant, since
        # an acknowledgement saves the state under it, whose record is put under it, too.
        self.lock = RLock()
        # Two causes, so that nobody is woken for what it does not wait for:
        # room in the budget, and windows and states that have moved.
        self.room = Condition(self.lock)
        self.changed = Condition(self.lock)
        # For single records, which are sent under the lock.
        self._heads = HeadStore()
        self._failure: SinkError | StateError | None = None
        # When a state is to be saved that was kept back for others to join it.
        self._save_at = NEVER
        # Batches and states on their way, and since when nothing was answered.
        self._unanswered = 0
        self._silent_since = 0.0
        #: None where delivery is at least once.
        self.transactions: Committing | None = None

    # -- for the task ----------------------------------------------------------

    def silent(self, now: float) -> float:
        """
        How long the broker has left what was sent to it unanswered.

        Returns: seconds since its last answer, or since something was sent to it
        where nothing was on its way before; 0.0 if nothing is.
        """
        with self.lock:
            since = min(self._asking.values(), default=now)
            collecting = self.transactions is not None and self.transactions.waiting
            if self._unanswered and not collecting:
                since = min(since, self._silent_since)
            return now - since

    def waits(self, now: float, least: float) -> list[Wait]:
        """The partitions of which nothing was written for so many seconds."""
        return self._producer.waits(now, least)

    def hurry(self, seconds: float) -> None:
        """From now on a write may wait no longer than this."""
        if self._patience is None or seconds < self._patience:
            self._patience = seconds
            self._patient_from = self._clock.monotonic()

    @property
    def cluster(self) -> str:
        """The cluster's id, "" until the broker has said it."""
        return self._producer.cluster

    # -- for outlets and savers ------------------------------------------------

    @property
    def transactional(self) -> bool:
        """True if what is handed over is committed in the order of its handing over."""
        return self.transactions is not None

    @property
    def failed(self) -> bool:
        """True once nothing is delivered any more."""
        return self._failure is not None

    def outlets(self) -> list[ShardOutlet]:
        """Those of its shards; under the lock."""
        return list(self._outlets)

    def check_failure(self) -> None:
        """Raise what the delivery failed with, for ever."""
        if self._failure is not None:
            raise self._failure

    def check_patience(self, now: float) -> None:
        """
        Raise Unavailable where a write has waited too long.

        Nothing is taken back: what is on its way may still be written.
        """
        if self._patience is None or now - self._patient_from < self._patience:
            return
        if self.silent(now) < self._patience:
            found = self.waits(now, self._patience)
            if not found:
                return
            first = found[0]
            more = f", and {len(found) - 1} more partitions" if found[1:] else ""
            why = f"{first.topic}-{first.partition}: {first.why}{more}"
        else:
            why = "no broker answers"
        raise Unavailable(f"nothing was written for {self._patience:.0f} s ({why})")

    def fail(self, why: SinkError | StateError) -> None:
        """Nothing is delivered from here on; the first reason counts."""
        with self.lock:
            if self._failure is None:
                self._failure = why
            if self.transactions is not None:
                self.transactions.failed()
            self.changed.notify_all()
            self.room.notify_all()

    def hold(self, why: str, seconds: float) -> bool:
        """
        Nothing more is handed over: the state cannot be saved.

        Returns: False if the delivery is over, and the state is given up.
        Blocks: at most `seconds`; for a thread of the saver's.
        """
        with self.changed:
            self.held = why
            self.changed.wait_for(lambda: self._failure is not None, seconds)
            return self._failure is None

    def free(self) -> None:
        """The state can be saved again."""
        with self.changed:
            self.held = ""
            self.changed.notify_all()

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock.monotonic()

    def answer(self) -> None:
        """Something has changed that somebody may be waiting for."""
        with self.changed:
            self.changed.notify_all()

    def send(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes | None,
        done: Callable[[Failure], None],
    ) -> None:
        """
        Send one record at once, in a batch of its own; for any thread.

        In transactions it is in the current one, which ends at once, and `done` is
        called once that is committed.

        Raises: a SinkError.  Never blocks.
        """
        column = column_of([value], [key], self._clock.wall_ms())
        if self.transactions is None:
            self.send_column(topic, partition, column, done)
            return
        with self.transactions.entered() as group:
            group.after.append(done)

            def spoilt(why: Failure) -> None:
                if why is not None:
                    done(why)
                    self.fail(why)

            self.send_column(topic, partition, column, spoilt, group)
        self.transactions.demand()

    def send_in(
        self,
        group: TransactionGroup,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes | None,
        done: Callable[[Failure], None],
    ) -> None:
        """Send one record in a transaction; `done` hears of its acknowledgement."""
        column = column_of([value], [key], self._clock.wall_ms())
        self.send_column(topic, partition, column, done, group)

    def send_column(
        self,
        topic: str,
        partition: int,
        column: Column,
        done: Callable[[Failure], None],
        group: TransactionGroup | None = None,
    ) -> None:
        """
        Send a few records at once.

        Args:
            group: The transaction they are in, None without.
        """
        receipt = RecordReceipt(self, done, topic, group)
        number = 0
        with self.lock:
            if group is not None:
                group.left += 1
                number = group.number
            batch = Batch(self._heads)
            batch.append(column)
            self._producer.put(
                topic, partition, batch, PLAIN, receipt, full=True, group=number
            )
            self._sending()

    def check(self, topic: str, column: Column) -> None:
        """
        Refuse what the broker would for its size.

        Raises: Refused.  Blocks: at a topic's first record, to ask for its limit.
        """
        limit = self.patiently(lambda: self._limits(topic))
        limit -= HEADER.size + column.framing
        if len(column) and max(column.weights) > limit:
            at = max(range(len(column)), key=column.weights.__getitem__)
            size, limit = column.weights[at] + column.fixed, limit + column.fixed
            raise Refused(
                f"record {at} for topic {topic} has {size} bytes, "
                f"more than the {limit} it may have: see max.message.bytes of the "
                "topic and producer.max.request.size"
            )

    def patiently(self, ask: Callable[[], _Found]) -> _Found:
        """
        Ask the broker until it answers.

        Raises: what asking raises but for Unavailable; that past the patience.
        """
        mine = object()
        try:
            while True:
                try:
                    return ask()
                except Unavailable:
                    now = self._clock.monotonic()
                    with self.changed:
                        self._asking.setdefault(mine, now)
                        self.check_failure()
                        self.check_patience(now)
                        self.changed.wait(LOOK)
        finally:
            if mine in self._asking:
                with self.lock:
                    del self._asking[mine]

    def count(self, topic: str) -> int:
        """How many partitions a topic has; one that has gone is made anew."""
        try:
            return self._producer.partitions(topic)
        except NoTopic:
            if self._revive is None:
                raise
            self._revive(topic)
            self._producer.refresh()
            return self._producer.partitions(topic)

    def flush(self) -> None:
        """Let all open batches go without lingering; for any thread."""
        with self.lock:
            outlets = list(self._outlets)
        for outlet in outlets:
            outlet.flush()
        if self.transactions is not None:
            self.transactions.demand()

    def answered_single(self, group: TransactionGroup) -> None:
        """On the sender's thread: a record of a transaction is answered for."""
        with self.lock:
            assert self.transactions is not None
            self.transactions.answered(group)

    # -- inside ----------------------------------------------------------------

    def limit(self, topic: str) -> int:
        """Bytes that a batch of a topic may have; asked for by `check` before."""
        return min(self.batch_size, self._limits(topic))

    def put(
        self,
        topic: str,
        partition: int,
        batch: Batch,
        receipt: Receipt,
        group: int,
    ) -> OpenBatch:
        """Put a batch that may still grow on its way; under the lock."""
        made = self._producer.put(
            topic, partition, batch, self._packing, receipt, group=group, quiet=True
        )
        self._sending()
        return made

    def spread(self, topic: str, turn: int, count: int) -> int:
        """The partition for a batch of records without a key; as the producer has it."""
        return self._producer.spread(topic, turn, count)

    def look(self, at: float) -> None:
        """Have the sender look at what was put quietly; monotonic seconds."""
        self._producer.look(at)

    def save_at(self, at: float) -> None:
        """Under the lock: a state that is kept back is to be saved by then."""
        if at < self._save_at:
            self._save_at = at
            self._producer.look(at)

    def _sending(self) -> None:
        """Under the lock: one more is on its way."""
        if not self._unanswered:
            self._silent_since = self._clock.monotonic()
        self._unanswered += 1

    def heard(self) -> None:
        """On the sender's thread: one of them is answered."""
        with self.lock:
            self._unanswered -= 1
            self._silent_since = self._clock.monotonic()

    def take(self, size: int, outlet: ShardOutlet, spare: int = 0) -> bool:
        """Take bytes of the budget, if there are so many and `spare` more."""
        alone = len(self._outlets) < 2
        return self.budget.take(size, spare, others=-1 if alone else outlet.held)

    def make_room(self, size: int, outlet: ShardOutlet) -> None:
        """
        Wait for room and take it; the wait is counted by the budget.

        Who holds up the end of a transaction while all room is the next one's takes it
        beyond the limit: that room is given back only behind this end.
        """
        began = self._clock.monotonic()
        # What lingers holds room that only an acknowledgement gives back.
        self.flush()
        spare = self.budget.limit // EASED
        try:
            with self.room:
                while not self.take(size, outlet, spare):
                    if not outlet.held and self._holds_up(outlet):
                        self.budget.overdraw(size)
                        break
                    outlet.check_failure()
                    self.check_patience(self._clock.monotonic())
                    # Room is given before the lock is taken to tell of it.
                    self.room.wait(LOOK)
        finally:
            self.budget.waiting(self._clock.monotonic() - began)

    def _holds_up(self, outlet: ShardOutlet) -> bool:
        """Under the lock: the end of a transaction waits for this shard alone."""
        return self.transactions is not None and self.transactions.stuck(outlet.group)

    def answered(
        self,
        outlet: ShardOutlet,
        held: int,
        pages: Sequence[HandOver],
        why: SinkError | None,
    ) -> None:
        """On the sender's thread: a batch is acknowledged, or never will be."""
        self.heard()
        self.budget.give(held)
        with self.lock:
            outlet.held -= held
            if why is None:
                self.batches += 1
                for entry in pages:
                    outlet.delivered(entry)
                if self._failure is None and outlet.failure is None:
                    outlet.save(self._clock.monotonic())
            elif isinstance(why, Misconfigured):
                # What is wrong is wrong with its topic: others may be written to.
                outlet.fail(why)
            elif outlet.failure is None:
                self.fail(why)
            # Nothing more of its own on its way: it may hold up a transaction.
            if self.budget.eased or (self.transactions is not None and not outlet.held):
                self.room.notify_all()
            self.changed.notify_all()
