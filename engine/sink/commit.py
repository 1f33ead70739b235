"""
Commit: pages into Kafka, and behind their acknowledgement their offsets into state.

Owns the order of things: what shares a batch, what is acknowledged, what may be
saved.  Pages come from the thread of their shard; answers come on the sender's
thread, which moves the mark and starts to save, so that state does not wait for
the next page.  A failed write ends the delivery: nothing behind it moves a mark,
and the task builds a new one or ends.

Path: the task hands parcels to an `AtLeastOnce` outlet; a transaction would be
another outlet over the same `Delivery`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import chain
from threading import Condition, RLock
from typing import Protocol, TypeAlias

from msgspec import Struct, field

from engine.clock import SYSTEM, Clock
from engine.errors import Refused, SinkError, StateError, Unavailable
from engine.records import Offset, Parcel
from engine.sink.accumulator import Accumulator, Slot
from engine.sink.batch import HEADER, Batch, Column, HeadStore, column_of
from engine.sink.compress import PLAIN, Packing
from engine.sink.deadletter import DeadLetters
from engine.sink.murmur2 import partitions_of
from engine.sink.window import EASED, Budget, Entry, Window

#: Longest sleep while waiting for answers, so that the process beats.
LOOK = 0.2

#: Seconds within which the moves of a mark are saved together, while more pages
#: of its shard are on their way.
TOGETHER = 0.01

#: Longest pause `tick` asks for.
IDLE = 1.0

#: What a write ended with: None for well.
Failure: TypeAlias = SinkError | StateError | None


#: A partition, or None for any, and the records for it: column, start, stop.
Part: TypeAlias = tuple[int | None, Column, int, int]


class Saver(Protocol):
    """Where a connector's offsets are saved; see `sink.state`."""

    def save(
        self,
        delivery: Delivery,
        partition: Mapping[str, str],
        offset: Offset,
        done: Callable[[Failure], None],
    ) -> None:
        """
        Start to save; never blocks.

        Args:
            done: Called once, on any thread.
        """

    def forget(
        self,
        delivery: Delivery,
        partition: Mapping[str, str],
        done: Callable[[Failure], None],
    ) -> None:
        """Start to remove what is saved; as `save`."""


class _Open(Struct, eq=False):
    """The newest batch of a partition, and whose pages are in it."""

    batch: Batch
    slot: Slot | None = None
    held: int = 0
    pages: list[tuple[Entry, AtLeastOnce]] = field(default_factory=list)


class Delivery:
    """
    A task's way to the broker, shared by its shards.

    Each outlet is used by the one thread that walks its shard; `tick` and `close`
    are for the task's main thread.  After any verb has raised a failure of the
    sink, only `close` is left to call.

    Attributes:
        budget: The bytes in flight; also for queues of pages in other rooms.
        letters: Makes records of dead letters; None without a topic for them.
        batches: Batches of records acknowledged so far.
        held: Why the state cannot be saved, so that nothing more is handed over;
            "" while it can.
    """

    def __init__(
        self,
        accumulator: Accumulator,
        *,
        budget: Budget,
        batch_size: int = 262144,
        packing: Packing = PLAIN,
        limits: Callable[[str], int],
        letters: DeadLetters | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        """
        Args:
            batch_size: Bytes before compression at which a batch is closed.
            limits: Topic to the bytes a batch of it may have
                (`preflight.Topics.limit`).
        """
        self.budget = budget
        self.letters = letters
        self.batches = 0
        self.held = ""
        self._accumulator = accumulator
        self._batch_size = batch_size
        self._packing = packing
        self._limits = limits
        self._clock = clock
        self._outlets: list[AtLeastOnce] = []
        # Windows, outlets and the failure are changed under the lock, by the
        # shards' threads, the sender's and a state writer's.
        self.lock = RLock()
        # Two causes, so that nobody is woken for what it does not wait for:
        # room in the budget, and windows and states that have moved.
        self.room = Condition(self.lock)
        self.changed = Condition(self.lock)
        # For single records, which are sent under the lock.
        self._heads = HeadStore()
        self._failure: SinkError | StateError | None = None
        # Batches and states on their way, and since when nothing was answered.
        self._unanswered = 0
        self._silent_since = 0.0

    # -- for the task ----------------------------------------------------------

    def outlet(
        self, partition: Mapping[str, str], saver: Saver, *, pause: float = 0.0
    ) -> AtLeastOnce:
        """
        A shard's way in.

        Args:
            partition: The source partition its state is kept under.
            pause: Least seconds between two writes of its state
                (`offset.flush.interval.ms`).
        """
        made = AtLeastOnce(self, partition, saver, pause)
        with self.lock:
            self._outlets.append(made)
        return made

    def forget(self, outlet: AtLeastOnce) -> None:
        """The shard leaves the task; its outlet has been committed."""
        with self.lock:
            self._outlets.remove(outlet)

    def tick(self, now: float) -> float:
        """
        Save what waited for its pause.

        Batches linger and state follows acknowledgements without it.

        Returns: seconds until it wants to be called again, at most `IDLE`.
        Raises: what the delivery failed with.  Never blocks.
        """
        self.check_failure()
        with self.lock:
            due = min(
                (outlet.save(now) for outlet in self._outlets), default=now + IDLE
            )
        return min(max(due - now, 0.0), IDLE)

    def close(self, timeout: float) -> bool:
        """
        End it; what is not acknowledged is given up.

        Returns: True if the sender's thread has ended.
        Blocks: at most `timeout` seconds, whatever the broker does.
        """
        self.fail(Unavailable("the producer is closed"))
        return self._accumulator.close(timeout)

    def silent(self, now: float) -> float:
        """
        How long the broker has left what was sent to it unanswered.

        Returns: seconds since its last answer, or since something was sent to it
        where nothing was on its way before; 0.0 if nothing is.
        """
        with self.lock:
            return now - self._silent_since if self._unanswered else 0.0

    @property
    def cluster(self) -> str:
        """The cluster's id, "" until the broker has said it."""
        return self._accumulator.cluster

    # -- for outlets and savers ------------------------------------------------

    def check_failure(self) -> None:
        """Raise what the delivery failed with, for ever."""
        if self._failure is not None:
            raise self._failure

    def fail(self, why: SinkError | StateError) -> None:
        """Nothing is delivered from here on; the first reason counts."""
        with self.lock:
            if self._failure is None:
                self._failure = why
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

        Raises: a SinkError.  Never blocks.
        """
        with self.lock:
            batch = Batch(self._heads)
            batch.append(column_of([value], [key], self._clock.wall_ms()))
            self._sending()

            def answered(why: SinkError | None) -> None:
                self._heard()
                done(why)

            self._accumulator.put(topic, partition, batch, PLAIN, answered, full=True)

    def check(self, topic: str, column: Column) -> None:
        """
        Refuse what the broker would.

        A producer is of no more use once the broker has refused a batch of its,
        so a record that is too large must not be sent at all.

        Raises: Refused.  Blocks: at a topic's first record, to ask for its limit.
        """
        limit = self._limits(topic) - HEADER.size - column.framing
        if len(column) and max(column.weights) > limit:
            at = max(range(len(column)), key=column.weights.__getitem__)
            raise Refused(
                f"record {at} for topic {topic} has {column.weights[at]} bytes, "
                f"more than the {limit} it may have"
            )

    def add(
        self, topic: str, column: Column, entry: Entry, outlet: AtLeastOnce
    ) -> None:
        """
        Put records on their way.

        Raises: a SinkError.
        Blocks: while the bytes in flight are at the budget's limit.
        """
        left = column.weight(0, len(column))
        if not self.budget.take(left):
            self._make_room(left)
        limit = min(self._batch_size, self._limits(topic))
        page = entry, outlet
        try:
            # Asked for outside the lock: the sender's thread brings the answer.
            count = self._accumulator.partitions(topic)
            if column.keys is None:
                parts: list[Part] = [(None, column, 0, len(column))]
            else:
                parts = _split(column, count)
            for part in parts:
                left -= self._add_to(topic, part, limit, page, count)
        finally:
            # Not 0 only if something failed in between.
            self.budget.give(left)

    def flush(self) -> None:
        """Let all open batches go without lingering; for any thread."""
        with self.lock:
            outlets = list(self._outlets)
        for outlet in outlets:
            outlet.flush()

    # -- inside ----------------------------------------------------------------

    def _add_to(
        self,
        topic: str,
        part: Part,
        limit: int,
        page: tuple[Entry, AtLeastOnce],
        count: int,
    ) -> int:
        """
        Fill batches of one partition; without one, of the next in turn.

        Returns: the bytes that the batches hold now of the budget.
        """
        partition, column, start, stop = part
        key = topic, partition
        outlet = page[1]
        held = 0
        while True:
            opened = outlet.opened.get(key)
            if opened is None:
                opened = outlet.opened[key] = _Open(Batch(outlet.heads))
            batch = opened.batch
            taken, size = batch.fitting(column, start, stop, limit)
            if not taken:
                outlet.finish(key)
                continue
            records = batch.encode(column, start, start + taken)
            with self.lock:
                slot = opened.slot
                if slot is None:
                    batch.commit(records)
                elif not slot.commit(records):
                    # The sender took it while we encoded: once more, for a new one.
                    del outlet.opened[key]
                    continue
                opened.held += size
                if not opened.pages or opened.pages[-1][0] is not page[0]:
                    page[0].open += 1
                    opened.pages.append(page)
                if slot is None:
                    opened.slot = self._put(topic, partition, opened, count, outlet)
            held += size
            start += taken
            if start == stop:
                return held
            outlet.finish(key)

    def _put(
        self,
        topic: str,
        partition: int | None,
        opened: _Open,
        count: int,
        outlet: AtLeastOnce,
    ) -> Slot:
        if partition is None:
            # Records without a key go to the partitions in turn, a batch to each.
            turn = outlet.turns.get(topic, -1) + 1
            outlet.turns[topic] = turn
            partition = turn % count
        self._sending()
        return self._accumulator.put(
            topic,
            partition,
            opened.batch,
            self._packing,
            lambda why: self._answered(opened, why),
        )

    def _sending(self) -> None:
        """Under the lock: one more is on its way."""
        if not self._unanswered:
            self._silent_since = self._clock.monotonic()
        self._unanswered += 1

    def _heard(self) -> None:
        """On the sender's thread: one of them is answered."""
        with self.lock:
            self._unanswered -= 1
            self._silent_since = self._clock.monotonic()

    def _make_room(self, size: int) -> None:
        """Wait for room and take it; the wait is counted by the budget."""
        began = self._clock.monotonic()
        # What lingers holds room that only an acknowledgement gives back.
        self.flush()
        spare = self.budget.limit // EASED
        try:
            with self.room:
                while not self.budget.take(size, spare):
                    self.check_failure()
                    # Room is given before the lock is taken to tell of it.
                    self.room.wait(LOOK)
        finally:
            self.budget.waiting(self._clock.monotonic() - began)

    def _answered(self, opened: _Open, why: SinkError | None) -> None:
        """On the sender's thread: a batch is acknowledged, or never will be."""
        self._heard()
        self.budget.give(opened.held)
        if why is not None:
            self.fail(why)
            return
        with self.lock:
            self.batches += 1
            for entry, outlet in opened.pages:
                outlet.delivered(entry)
            if self._failure is None:
                now = self._clock.monotonic()
                for outlet in {id(each): each for _, each in opened.pages}.values():
                    outlet.save(now)
            if self.budget.eased:
                self.room.notify_all()
            self.changed.notify_all()


def _split(column: Column, count: int) -> list[Part]:
    """The records by partition, their order kept; None for those without key."""
    assert column.keys is not None
    parts: list[Part] = []
    if not column.short and None in column.keys:
        keyless = [at for at, key in enumerate(column.keys) if key is None]
        rest = column.picked(keyless).without_keys()
        parts.append((None, rest, 0, len(rest)))
        keyed = [at for at, key in enumerate(column.keys) if key is not None]
        if not keyed:
            return parts
        column = column.picked(keyed)
    keys, lengths = column.keys, column.key_lengths
    members: list[list[int]] = [[] for _ in range(count)]
    # Hot path: the one loop over keyed records, 60 ns each.
    for at, partition in enumerate(partitions_of(keys, lengths, count)):  # type: ignore[arg-type]
        members[partition].append(at)
    # The page is put in order once and cut without copies.
    ordered = column.picked(list(chain.from_iterable(members)))
    start = 0
    for partition, found in enumerate(members):
        if found:
            parts.append((partition, ordered, start, start + len(found)))
            start += len(found)
    return parts


class AtLeastOnce:
    """
    A shard's outlet without transactions: its state follows the acknowledgement.

    What was acknowledged and not yet saved is sent again after a crash.
    """

    def __init__(
        self,
        delivery: Delivery,
        partition: Mapping[str, str],
        saver: Saver,
        pause: float,
    ) -> None:
        self._delivery = delivery
        self._partition = partition
        self._api = partition["api"]
        self._saver = saver
        self._pause = pause
        self._window = Window()
        self._unsaved: Offset | None = None
        self._saving = False
        self._next = 0.0
        self._together = 0.0
        # The newest batch of a partition; under None the one for records
        # without a key.  Of this outlet's thread, as are heads and turns: no
        # batch is shared between shards, and no lock is held while encoding.
        self.opened: dict[tuple[str, int | None], _Open] = {}
        # Pages that are delivered; their own thread calls them.
        self._told: deque[Callable[[], None]] = deque()
        self.heads = HeadStore()
        self.turns: dict[str, int] = {}

    def begin(self) -> None:
        """
        A poll starts.

        Raises: what the delivery failed with, before anything is asked of the API.
        """
        self.settle()

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        """
        As `seams.Outlet`.

        A page without records takes its place in the order too: what was left
        out or dead-lettered moves the mark like what was produced.
        """
        delivery = self._delivery
        self.settle()
        if delivery.held:
            self._wait_for_state()
        columns = _columns(parcel)
        letters = delivery.letters
        if parcel.letters and letters is not None:
            columns.append((letters.topic, letters.column(parcel, self._api)))
        entry = Entry(
            offset, acknowledged=parcel.acknowledged, delivered=parcel.delivered
        )
        # From here on the mark waits for this page, also if it is refused.
        with delivery.lock:
            self._window.add(entry)
        for topic, column in columns:
            delivery.check(topic, column)
        for topic, column in columns:
            delivery.add(topic, column, entry, self)
        with delivery.lock:
            self.delivered(entry)
            self.save(delivery.now())

    def commit(self) -> None:
        """As `seams.Outlet`."""
        delivery = self._delivery
        self.flush()
        while True:
            self.settle()
            with delivery.changed:
                self._next = self._together = 0.0
                self.save(delivery.now())
                if not len(self._window) and not self._saving:
                    break
                # Nobody can have changed anything since the look above.
                delivery.changed.wait(LOOK)
        self.settle()

    def _wait_for_state(self) -> None:
        delivery = self._delivery
        with delivery.changed:
            while delivery.held:
                delivery.check_failure()
                delivery.changed.wait(LOOK)
        self.settle()

    def settle(self) -> None:
        """
        Tell pages that they are acknowledged.

        Raises: what the delivery failed with.
        """
        while self._told:
            self._told.popleft()()
        self._delivery.check_failure()

    # -- for the delivery --------------------------------------------------------

    def flush(self) -> None:
        """Let open batches go without lingering; for any thread."""
        for opened in list(self.opened.values()):
            if opened.slot is not None:
                opened.slot.finish()

    def finish(self, key: tuple[str, int | None]) -> None:
        """The newest batch of a partition is full."""
        opened = self.opened.pop(key)
        if opened.slot is not None:
            opened.slot.finish()

    # -- for the delivery, under its lock --------------------------------------

    def delivered(self, entry: Entry) -> None:
        """A part of a page is delivered."""
        if not self._window.close_one(entry):
            return
        now = self._delivery.now()
        for tell in entry.delivered:
            tell(now)
        if entry.acknowledged is not None:
            self._told.append(entry.acknowledged)

    def save(self, now: float) -> float:
        """
        Save the mark if it has moved and the pause is over; one write at a time.

        Returns: the time at which it wants to be asked again.
        """
        mark = self._window.mark()
        if mark is not None:
            self._unsaved = mark
        if self._unsaved is None or self._saving:
            return float("inf")
        if now < self._next:
            return self._next
        # Hot path: a state for each batch would make half of all batches states.
        # The pages behind this one ask again when they are acknowledged.
        if now < self._together and len(self._window):
            return float("inf")
        offset, self._unsaved = self._unsaved, None
        self._saving = True
        self._next = now + self._pause
        self._together = now + TOGETHER
        self._saver.save(self._delivery, self._partition, offset, self._saved)
        return float("inf")

    def _saved(self, why: Failure) -> None:
        """On any thread: the write has ended, and what came meanwhile is next."""
        delivery = self._delivery
        if why is not None:
            delivery.fail(why)
            return
        with delivery.lock:
            self._saving = False
            self.save(delivery.now())
        delivery.answer()


def _columns(parcel: Parcel) -> list[tuple[str, Column]]:
    """The records by topic, their order kept."""
    column = column_of(
        parcel.values,
        parcel.keys,
        parcel.timestamps,
        parcel.headers,
        parcel.lengths,
    )
    topic = parcel.topic
    if isinstance(topic, str):
        return [(topic, column)] if len(column) else []
    groups: dict[str, list[int]] = {}
    for at, name in enumerate(topic):
        groups.setdefault(name, []).append(at)
    return [(name, column.picked(members)) for name, members in groups.items()]
