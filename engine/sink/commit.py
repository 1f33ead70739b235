"""
Commit: pages into Kafka, and after their acknowledgement their offsets into state.

Owns the order of things: what is batched with what, what is acknowledged, what
may be saved.  All of it runs in the task's own thread; the sender's thread only
leaves notes.  A failed write ends the delivery: nothing after it moves a mark,
and the task builds a new one or ends.

Path: the task hands parcels to an `AtLeastOnce` outlet; a transaction would be
another outlet over the same `Delivery`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from threading import Event
from typing import Protocol

from msgspec import Struct, field

from engine.clock import SYSTEM, Clock
from engine.errors import Refused, SinkError, StateError, Unavailable
from engine.records import Offset, Parcel
from engine.seams import Stopping
from engine.sink.accumulator import Accumulator
from engine.sink.batch import HEADER, Batch, Column, HeadStore, column_of
from engine.sink.compress import codec
from engine.sink.deadletter import DeadLetters
from engine.sink.murmur2 import partitions_of
from engine.sink.window import Budget, Entry, Window

#: Longest sleep while waiting for answers, so that the process beats.
LOOK = 0.2

#: Longest pause `tick` asks for.
IDLE = 1.0

#: What `done` of a write is called with.
Failure = SinkError | StateError | None


class Saver(Protocol):
    """Where one connector's offsets are saved; see `sink.state`."""

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
            done: Called in the task's thread, out of `Delivery`'s verbs.
        """


class _Open(Struct, eq=False):
    """A batch being filled, and whose pages are in it."""

    topic: str
    key: int | None
    partition: int
    batch: Batch
    due: float
    held: int = 0
    pages: list[tuple[Entry, AtLeastOnce]] = field(default_factory=list)


class Delivery:
    """
    A task's way to the broker, shared by its shards.

    Everything but `wake` is for one thread.  After any verb has raised, only
    `close` is left to call.

    Attributes:
        budget: The bytes in flight; also for queues of pages in other rooms.
        letters: Makes records of dead letters; None without a topic for them.
    """

    def __init__(
        self,
        accumulator: Accumulator,
        *,
        stopping: Stopping,
        budget: Budget,
        batch_size: int = 262144,
        linger: float = 0.005,
        compression: str = "none",
        limits: Callable[[str], int],
        letters: DeadLetters | None = None,
        woken: Callable[[], None] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        """
        Args:
            batch_size: Bytes before compression at which a batch is closed.
            linger: Seconds an open batch waits for further pages.
            limits: Topic to the bytes a batch of it may have
                (`preflight.Topics.limit`).
            woken: Called by the sender's thread when answers have come, so that
                a task asleep can call `tick`; must not block.
        """
        self.budget = budget
        self._accumulator = accumulator
        self._stopping = stopping
        self._batch_size = batch_size
        self._linger = linger
        self._kind = compression
        self._codec = codec(compression)
        self._limits = limits
        self.letters = letters
        self._woken = woken
        self._clock = clock
        self._heads = HeadStore()
        self._opened: dict[tuple[str, int | None], _Open] = {}
        self._turns: dict[str, int] = {}
        self._notes: deque[Callable[[], None]] = deque()
        self._noted = Event()
        self._failure: SinkError | StateError | None = None
        self._outlets: list[AtLeastOnce] = []

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
        self._outlets.append(made)
        return made

    def forget(self, outlet: AtLeastOnce) -> None:
        """The shard leaves the task; its outlet has been committed."""
        self._outlets.remove(outlet)

    def tick(self, now: float) -> float:
        """
        Send what lingered long enough, save what is due.

        Returns: seconds until it wants to be called again, at most `IDLE`.
        Raises: a SinkError or StateError.  Never blocks.
        """
        self.settle()
        due = now + IDLE
        for opened in list(self._opened.values()):
            if opened.due <= now:
                self._send(opened)
            else:
                due = min(due, opened.due)
        for outlet in self._outlets:
            due = min(due, outlet.save(now))
        return max(due - now, 0.0)

    def close(self, timeout: float) -> bool:
        """
        End it; what is not acknowledged is given up.

        Returns: True if the sender's thread has ended.
        Blocks: at most `timeout` seconds, whatever the broker does.
        """
        self._failure = self._failure or Unavailable("the producer is closed")
        for opened in self._opened.values():
            self.budget.give(opened.held)
        self._opened.clear()
        ended = self._accumulator.close(timeout)
        while self._notes:
            self._notes.popleft()()
        return ended

    # -- for outlets and savers ------------------------------------------------

    def note(self, call: Callable[[], None]) -> None:
        """Have `call` called by the task's thread; for any thread, never blocks."""
        self._notes.append(call)
        self._noted.set()
        if self._woken is not None:
            self._woken()

    def settle(self) -> None:
        """
        Take note of what was answered, and save where a mark has moved.

        Raises: the first failure, for ever.
        """
        if self._notes:
            while self._notes:
                self._notes.popleft()()
            if self._failure is None:
                now = self._clock.monotonic()
                for outlet in self._outlets:
                    outlet.save(now)
        if self._failure is not None:
            raise self._failure

    def handed(self, outlet: AtLeastOnce) -> None:
        """A page has been handed over whole."""
        if not self._linger:
            self.flush(outlet)
        outlet.save(self._clock.monotonic())

    def wait(self) -> None:
        """
        Wait for answers and take note of them.

        Raises: as `settle`.  Blocks: at most `LOOK` seconds; beats.
        """
        self._noted.clear()
        if not self._notes:
            self._noted.wait(LOOK)
        self._stopping.wait(0.0)
        self.settle()

    def partitions(self, topic: str) -> int:
        """As `Accumulator.partitions`."""
        return self._accumulator.partitions(topic)

    def send(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes | None,
        done: Callable[[Failure], None],
    ) -> None:
        """
        Send one record at once, in a batch of its own.

        Args:
            done: Called in the task's thread.

        Raises: a SinkError.  Never blocks.
        """
        batch = Batch(self._heads)
        batch.append(column_of([value], [key], self._clock.wall_ms()))
        self._accumulator.put(
            topic, partition, batch.seal(), lambda why: self.note(lambda: done(why))
        )

    def check(self, topic: str, column: Column) -> None:
        """
        Refuse what the broker would.

        A producer is of no more use once the broker has refused a batch of its,
        so a record that is too large must not be sent at all.

        Raises: Refused.  Blocks: at a topic's first record, to ask for its limit.
        """
        limit = self._limits(topic) - HEADER.size
        sizes, framing = column.sizes()
        if sizes and max(sizes) + framing > limit:
            at = max(range(len(sizes)), key=sizes.__getitem__)
            raise Refused(
                f"record {at} for topic {topic} has {sizes[at]} bytes, "
                f"more than the {limit - framing} it may have"
            )

    def add(
        self, topic: str, column: Column, entry: Entry, outlet: AtLeastOnce
    ) -> None:
        """
        Put records on their way.

        Raises: a SinkError.
        Blocks: while the bytes in flight are at the budget's limit.
        """
        if column.keys is None:
            self._add_to(topic, None, column, entry, outlet)
            return
        for partition, part in self._split(topic, column):
            if partition is None:
                part.keys = None
            self._add_to(topic, partition, part, entry, outlet)

    def flush(self, outlet: AtLeastOnce | None = None) -> None:
        """Send open batches: all, or those with pages of one outlet."""
        for opened in list(self._opened.values()):
            if outlet is None or any(each is outlet for _, each in opened.pages):
                self._send(opened)

    # -- inside ----------------------------------------------------------------

    def _split(self, topic: str, column: Column) -> list[tuple[int | None, Column]]:
        """The records by partition, their order kept; None for those without key."""
        assert column.keys is not None
        count = self.partitions(topic)
        keys = column.keys
        groups: dict[int | None, list[int]] = {}
        if None in keys:
            keyed = [at for at, key in enumerate(keys) if key is not None]
            found = partitions_of([key for key in keys if key is not None], count)
            groups[None] = [at for at, key in enumerate(keys) if key is None]
        else:
            keyed = list(range(len(keys)))
            found = partitions_of(keys, count)  # type: ignore[arg-type]
        for at, partition in zip(keyed, found, strict=True):
            members = groups.get(partition)
            if members is None:
                groups[partition] = [at]
            else:
                members.append(at)
        return [
            (partition, _picked(column, members))
            for partition, members in groups.items()
        ]

    def _add_to(
        self,
        topic: str,
        partition: int | None,
        column: Column,
        entry: Entry,
        outlet: AtLeastOnce,
    ) -> None:
        """Fill batches of one partition; without one, of the next in turn."""
        limit = min(self._batch_size, self._limits(topic))
        while len(column):
            opened = self._opened.get((topic, partition))
            if opened is None:
                opened = self._open(topic, partition)
            taken, size = opened.batch.fitting(column, limit)
            if not taken:
                self._send(opened)
                continue
            if not self.budget.take(size):
                self._make_room(size)
                continue
            rest = len(column) - taken
            opened.batch.append(column.part(0, taken) if rest else column)
            opened.held += size
            if not opened.pages or opened.pages[-1][0] is not entry:
                entry.open += 1
                opened.pages.append((entry, outlet))
            if not rest:
                return
            self._send(opened)
            column = column.part(taken, taken + rest)

    def _open(self, topic: str, partition: int | None) -> _Open:
        place = partition
        if place is None:
            # Keyless records go to the partitions in turn, a batch to each.
            turn = self._turns.get(topic, -1) + 1
            self._turns[topic] = turn
            place = turn % self.partitions(topic)
        due = self._clock.monotonic() + self._linger
        opened = _Open(topic, partition, place, Batch(self._heads), due)
        self._opened[topic, partition] = opened
        return opened

    def _make_room(self, size: int) -> None:
        """Wait until there may be room; the wait is counted by the budget."""
        began = self._clock.monotonic()
        # What lingers holds room that only an acknowledgement gives back.
        self.flush()
        try:
            while not self.budget.take(size):
                self.wait()
            self.budget.give(size)
        finally:
            self.budget.waiting(self._clock.monotonic() - began)

    def _send(self, opened: _Open) -> None:
        del self._opened[opened.topic, opened.key]
        if not opened.batch.count:
            # Opened when there was no room for its first record.
            return
        self._accumulator.put(
            opened.topic,
            opened.partition,
            opened.batch.seal(self._kind, self._codec),
            lambda why: self.note(lambda: self._answered(opened, why)),
        )

    def _answered(self, opened: _Open, why: SinkError | None) -> None:
        self.budget.give(opened.held)
        if why is not None:
            self.fail(why)
            return
        for entry, outlet in opened.pages:
            outlet.delivered(entry)

    def fail(self, why: SinkError | StateError) -> None:
        """Nothing is delivered from here on; the first reason counts."""
        if self._failure is None:
            self._failure = why


def _picked(column: Column, members: Sequence[int]) -> Column:
    if len(members) == len(column):
        return column
    if len(members) == 1:
        return column.part(members[0], members[0] + 1)
    return column.picked(itemgetter(*members))


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

    def begin(self) -> None:
        """
        A poll starts.

        Raises: what the delivery failed with, before anything is asked of the API.
        """
        self._delivery.settle()

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        """
        As `seams.Outlet`.

        A page without records takes its place in the order too: what was left
        out or dead-lettered moves the mark like what was produced.
        """
        delivery = self._delivery
        delivery.settle()
        columns = _columns(parcel)
        letters = delivery.letters
        if parcel.letters and letters is not None:
            columns.append((letters.topic, letters.column(parcel, self._api)))
        entry = Entry(offset, acknowledged=parcel.acknowledged)
        # From here on the mark waits for this page, also if it is refused.
        self._window.add(entry)
        for topic, column in columns:
            delivery.check(topic, column)
        for topic, column in columns:
            delivery.add(topic, column, entry, self)
        self._window.close_one(entry)
        delivery.handed(self)

    def commit(self) -> None:
        """As `seams.Outlet`."""
        self._delivery.flush(self)
        self._delivery.settle()
        while True:
            self._next = 0.0
            self.save(0.0)
            if not self._window and not self._saving and self._unsaved is None:
                return
            self._delivery.wait()

    # -- for the delivery ------------------------------------------------------

    def delivered(self, entry: Entry) -> None:
        """A batch with records of the page is acknowledged."""
        self._window.close_one(entry)

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
        offset, self._unsaved = self._unsaved, None
        self._saving = True
        self._next = now + self._pause
        self._saver.save(self._delivery, self._partition, offset, self._saved)
        return float("inf")

    def _saved(self, why: Failure) -> None:
        self._saving = False
        if why is not None:
            self._delivery.fail(why)


def _columns(parcel: Parcel) -> list[tuple[str, Column]]:
    """The records by topic, their order kept."""
    column = column_of(parcel.values, parcel.keys, parcel.timestamps, parcel.headers)
    topic = parcel.topic
    if isinstance(topic, str):
        return [(topic, column)] if len(column) else []
    groups: dict[str, list[int]] = {}
    for at, name in enumerate(topic):
        groups.setdefault(name, []).append(at)
    return [(name, _picked(column, members)) for name, members in groups.items()]
