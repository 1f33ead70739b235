"""
Filling: the batches of one shard that still grow.

Owns which records of a page go into which batch, when a batch is full, and what of it
the budget holds.  All of it is on the shard's own thread; only a batch that the sender
may close meanwhile is added to under the delivery's lock, and no record is encoded under
it.

Path: `sink.outlet` -> here -> `sink.batch`, `sink.produce.producer`
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct, field

from engine.errors import SinkError
from engine.sink.batch import Batch, HeadStore
from engine.sink.columns import Column
from engine.sink.commit import SharedDelivery
from engine.sink.deal import Part, by_partition
from engine.sink.murmur2 import Partitions
from engine.sink.produce.producer import OpenBatch
from engine.sink.produce.queue import RefusedRecord
from engine.sink.seams import NEVER, ShardOutlet
from engine.sink.window import HandOver

#: Topics whose keys' partitions are remembered: names may come from data.
MOST_PLACES = 8


#: Bytes of full batches of one page after which the sender is told of them.
TELL_EACH = 1 << 20

#: Pages in a row behind which nothing came within a linger, after which the next one
#: does not wait for company.
LONE = 3


class Run(Struct, frozen=True):
    """Records of a page that stand together in a batch, and where they came from."""

    entry: HandOver
    count: int
    start: int
    members: Sequence[int] | None

    def place(self, at: int) -> int:
        """Place among the records that the page has become."""
        at += self.start
        return at if self.members is None else self.members[at]


class BatchOwner(ShardOutlet, Protocol):
    """A shard's outlet, as its batches know it."""

    def refused(self, opened: Open, records: Sequence[RefusedRecord]) -> None:
        """On the sender's thread: the broker has left out records of a batch."""


class Open(Struct, eq=False):
    """
    A batch of a partition and whose pages are in it; `produce.queue.Receipt`.

    No batch is shared between outlets.
    """

    batch: Batch
    outlet: BatchOwner
    delivery: SharedDelivery
    topic: str
    group: int = 0
    slot: OpenBatch | None = None
    held: int = 0
    pages: list[HandOver] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    @property
    def wanted(self) -> bool:
        """As `Receipt`: what a failed shard has not sent would come twice."""
        return self.outlet.failure is None

    def answered(self, why: SinkError | None) -> None:
        self.delivery.answered(self.outlet, self.held, self.pages, why)

    def refused(self, records: Sequence[RefusedRecord]) -> None:
        self.outlet.refused(self, records)

    def find(self, at: int) -> tuple[HandOver, int]:
        """The page of a record of the batch, and its place in it."""
        for run in self.runs:
            if at < run.count:
                place = run.place(at)
                indexes = run.entry.indexes
                return run.entry, place if indexes is None else indexes[place]
            at -= run.count
        raise IndexError(at)


class ShardBatches:
    """
    The batches of one shard that still grow, for its thread alone.

    No batch is shared between shards, and no lock is held while encoding.

    Attributes:
        group: The transaction that they belong to, 0 without.
    """

    def __init__(self, delivery: SharedDelivery, owner: BatchOwner) -> None:
        self.group = 0
        self._delivery = delivery
        self._owner = owner
        # The newest batch of a partition; under None the one for records without a key.
        self._opened: dict[tuple[str, int | None], Open] = {}
        self._heads = HeadStore()
        self._turns: dict[str, int] = {}
        self._places: dict[tuple[str, int], Partitions] = {}
        # When the sender is to look at what was put and finished quietly.
        self._due = NEVER
        # When the page before was put, and how many in a row came later than a linger.
        self._page_at = -NEVER
        self._lone = 0

    def add(self, topic: str, column: Column, entry: HandOver) -> None:
        """
        Put records on their way.

        Raises: a SinkError.
        Blocks: while the bytes in flight are at the budget's limit; of a page that is
            larger than it each slice takes its own room.
        """
        size = column.weight(0, len(column))
        if size <= self._delivery.budget.limit:
            self._add(topic, column.slices(), size, entry)
            return
        for piece in column.slices():
            self._add(topic, (piece,), piece.weight(0, len(piece)), entry)

    def _add(
        self, topic: str, pieces: Iterable[Column], left: int, entry: HandOver
    ) -> None:
        """Columns with `left` bytes in all."""
        delivery, owner = self._delivery, self._owner
        if not delivery.take(left, owner):
            delivery.make_room(left, owner)
        limit = delivery.limit(topic)
        try:
            # Asked for outside the lock: the sender's thread brings the answer.
            count = delivery.patiently(lambda: delivery.count(topic))
            known = self._spread(topic, count)
            for piece in pieces:
                for part in by_partition(piece, known):
                    left -= self._add_to(topic, part, limit, entry, count)
        finally:
            self._tell()
            # Not 0 only if something failed in between.
            delivery.budget.give(left)

    def next_page(self) -> None:
        """What is added from here on is another page's."""
        now = self._delivery.now()
        lone = now - self._page_at >= self._delivery.linger
        self._lone = self._lone + 1 if lone else 0
        self._page_at = now

    def flush(self) -> None:
        """Let open batches go without lingering; for any thread."""
        for opened in list(self._opened.values()):
            if opened.slot is not None:
                opened.slot.finish()

    def turn(self, number: int) -> None:
        """From here on batches are another transaction's."""
        self.flush()
        self._opened.clear()
        self.group = number

    def _tell(self) -> None:
        """Have the sender look at what was put since the last time."""
        # Hot path: once a page and outside of our lock.  Woken in the middle of a
        # page it would take the interpreter, and send a request for each batch.
        due, self._due = self._due, NEVER
        if due != NEVER:
            self._delivery.look(due)

    def _add_to(
        self,
        topic: str,
        part: Part,
        limit: int,
        entry: HandOver,
        count: int,
    ) -> int:
        """
        Fill batches of one partition; without one, of the next in turn.

        Returns: the bytes that the batches hold now of the budget.
        """
        delivery, owner = self._delivery, self._owner
        partition, column, start, stop = part
        key = topic, partition
        held = unsaid = 0
        while True:
            opened = self._opened.get(key)
            # Hot path: most of what is open of several partitions the sender has taken
            # since the last page; to encode for it first was a third of all encoding.
            if opened is None or (opened.slot is not None and not opened.slot.growing):
                opened = Open(Batch(self._heads), owner, delivery, topic, self.group)
                self._opened[key] = opened
            batch = opened.batch
            taken, size = batch.fitting(column, start, stop, limit)
            if not taken:
                self._finish(key)
                continue
            records = batch.encode(column, start, start + taken)
            with delivery.lock:
                slot = opened.slot
                if slot is None:
                    batch.commit(records)
                elif not slot.commit(records):
                    # The sender took it while we encoded: once more, for a new one.
                    del self._opened[key]
                    continue
                opened.held += size
                owner.held += size
                if not opened.pages or opened.pages[-1] is not entry:
                    entry.open += 1
                    opened.pages.append(entry)
                opened.runs.append(Run(entry, taken, start, column.members))
                if slot is None:
                    opened.slot = self._put(topic, partition, opened, count)
            held += size
            start += taken
            if start == stop:
                return held
            self._finish(key)
            unsaid += size
            if unsaid > TELL_EACH:
                self._tell()
                unsaid = 0

    def _put(
        self,
        topic: str,
        partition: int | None,
        opened: Open,
        count: int,
    ) -> OpenBatch:
        if partition is None:
            # Records without a key go to the partitions in turn, a batch to each.
            turn = self._turns.get(topic, -1) + 1
            self._turns[topic] = turn
            partition = self._delivery.spread(topic, turn, count)
        slot = self._delivery.put(topic, partition, opened.batch, opened, opened.group)
        self._due = min(self._due, slot.at)
        if self._lone >= LONE and len(self._delivery.outlets()) < 2:
            # Hot path: where pages come slower than a batch lingers, lingering gathers
            # nothing; it costs each page two wake-ups of the sender, and its time.
            slot.finish(quiet=True)
            self._due = 0.0
        return slot

    def _spread(self, topic: str, count: int) -> Partitions:
        """Which partitions keys belong to."""
        found = self._places.get((topic, count))
        if found is None:
            if len(self._places) >= MOST_PLACES:
                self._places.clear()
            found = self._places[topic, count] = Partitions(count)
        return found

    def _finish(self, key: tuple[str, int | None]) -> None:
        """The newest batch of a partition is full."""
        opened = self._opened.pop(key)
        if opened.slot is not None:
            opened.slot.finish(quiet=True)
            self._due = 0.0
