"""
Outlet: a shard's way into Kafka, and its state behind what is acknowledged.

Owns the order of things in one shard: which page is in which batch, how far the
mark is, what may be saved, and what becomes of records that the broker refuses.
Pages come on the thread of their shard; answers come on the sender's thread, which
moves the mark and starts to save, so that state does not wait for the next page.

Path: the task hands parcels to an `AtLeastOnce` outlet of a `sink.delivery.Delivery`,
or to an `ExactlyOnce` one -> here -> `sink.filling`, `sink.commit`
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from engine.errors import Refused, SinkError
from engine.records import DeadLetter, Offset, Parcel
from engine.sink import refusals
from engine.sink.columns import Column
from engine.sink.commit import SharedDelivery
from engine.sink.deal import by_topic
from engine.sink.filling import Open, ShardBatches
from engine.sink.produce.queue import RefusedRecord
from engine.sink.seams import LOOK, NEVER, Failure, Saver
from engine.sink.window import HandOver, Window

#: Seconds within which the moves of a mark are saved together, while more pages
#: of its shard are on their way.
TOGETHER = 0.01

#: The same for a shard's own position while its poll goes on, also if nothing is on its
#: way just now: a task with a page each 11 ms stored one for each page.  A kill repeats
#: what was delivered in this time; the end of a poll and a stop wait for nothing.
LAG = 0.05


class AtLeastOnce:
    """
    A shard's outlet without transactions: its state follows the acknowledgement.

    What was acknowledged and not yet saved is sent again after a crash.
    """

    def __init__(
        self,
        delivery: SharedDelivery,
        partition: Mapping[str, str],
        saver: Saver,
        pause: float,
        bad: Callable[[Parcel], None] | None = None,
        lag: float = 0.0,
    ) -> None:
        self.delivery = delivery
        self._bad = bad
        #: Why nothing more of this shard is delivered, or None.
        self.failure: SinkError | None = None
        #: Bytes of the budget, and the topics written to.
        self.held = 0
        self.topics: set[str] = set()
        # Pages and bytes marked since the write of state that is under way began.
        self._unsaved_pages = self._unsaved_bytes = 0
        self._partition = partition
        self._api = partition["api"]
        self._saver = saver
        self._pause = pause
        self._lag = lag
        # True while a move of the mark is kept back for the next ones.
        self._lagging = False
        self._window = Window()
        self._unsaved: Offset | None = None
        self._saving = False
        self._next = 0.0
        self._together = 0.0
        # Pages that are delivered; their own thread calls them.
        self._told: deque[Callable[[], None]] = deque()
        self._batches = ShardBatches(delivery, self)

    @property
    def group(self) -> int:
        """The transaction that its batches belong to, 0 without."""
        return self._batches.group

    def begin(self) -> None:
        """
        Begin a poll: what is handed over from now on belongs to it.

        Raises: what the delivery failed with, before anything is asked of the API.
        """
        self.settle()

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        """
        As `seams.Outlet`.

        A page without records takes its place in the order too: what was left
        out or dead-lettered moves the mark like what was produced.
        """
        delivery = self.delivery
        self.settle()
        if delivery.held:
            self._wait_for_state()
        entry, columns = self._entry(parcel, offset)
        self._make_way()
        # From here on the mark waits for this page, also if it is refused.
        with delivery.lock:
            self._window.add(entry)
        for topic, column in columns:
            delivery.check(topic, column)
        if columns:
            self._batches.next_page()
        for topic, column in columns:
            self.topics.add(topic)
            self._batches.add(topic, column, entry)
        with delivery.lock:
            self.delivered(entry)
            self.save(delivery.now())

    def _entry(
        self, parcel: Parcel, offset: Offset
    ) -> tuple[HandOver, list[tuple[str, Column]]]:
        """A page's place in the order, and what goes to which topic of it."""
        columns = by_topic(parcel)
        letters = self.delivery.letters
        if parcel.letters and letters is not None:
            columns.append((letters.topic, letters.column(parcel, self._api)))
        entry = HandOver(
            offset,
            acknowledged=parcel.acknowledged,
            delivered=list(parcel.delivered),
            size=sum(column.weight(0, len(column)) for _, column in columns),
            index=parcel.page.index,
            indexes=parcel.indexes,
            # Kept only where a record may be asked back for its dead letter.
            page=parcel.page if self._bad is not None else None,
        )
        return entry, columns

    def _make_way(self) -> None:
        """
        Wait while too much is past the mark, or past what could be saved.

        Nothing bounds what would come twice after a kill else: bytes that are
        acknowledged behind a hole are given back to the budget.
        """
        if not self._far():
            return
        delivery = self.delivery
        began = delivery.now()
        self._wait_for_way()
        delivery.budget.waiting(delivery.now() - began)

    def _wait_for_way(self) -> None:
        delivery = self.delivery
        self.flush()
        while self._far():
            self.settle()
            with delivery.changed:
                now = delivery.now()
                delivery.check_patience(now)
                self._together = 0.0
                self.save(now)
                if self._far():
                    delivery.changed.wait(LOOK)

    def _far(self) -> bool:
        window = self._window
        pages, size = len(window), window.size
        if self._saving or self._lagging:
            pages += self._unsaved_pages
            size += self._unsaved_bytes
        delivery = self.delivery
        return pages >= delivery.most_pages or size > delivery.budget.limit

    def commit(self) -> None:
        """As `seams.Outlet`."""
        delivery = self.delivery
        self.flush()
        while True:
            self.settle()
            with delivery.changed:
                delivery.check_patience(delivery.now())
                self._next = self._together = 0.0
                self.save(delivery.now())
                if not len(self._window) and not self._saving:
                    break
                # Nobody can have changed anything since the look above.
                delivery.changed.wait(LOOK)
        self.settle()

    def _wait_for_state(self) -> None:
        delivery = self.delivery
        with delivery.changed:
            while delivery.held:
                self.check_failure()
                delivery.changed.wait(LOOK)
        self.settle()

    def settle(self) -> None:
        """
        Tell pages that they are acknowledged.

        Raises: what the delivery failed with.
        """
        while self._told:
            self._told.popleft()()
        self.check_failure()

    def check_failure(self) -> None:
        """Raise what the shard or the whole delivery failed with."""
        if self.failure is not None:
            raise self.failure
        self.delivery.check_failure()

    # -- for the delivery --------------------------------------------------------

    def flush(self) -> None:
        """Let open batches go without lingering; for any thread."""
        self._batches.flush()

    def refused(self, opened: Open, records: Sequence[RefusedRecord]) -> None:
        """On the sender's thread: the broker has left out records of a batch."""
        delivery = self.delivery
        with delivery.lock:
            found: dict[int, tuple[HandOver, list[DeadLetter]]] = {}
            for bad in records:
                entry, index = opened.find(bad.index)
                said = refusals.said(bad, opened.topic, index, entry.index)
                if self._bad is None or entry.page is None:
                    # Its page stays open: the mark goes no further.
                    entry.open += 1
                    self.fail(Refused(said))
                    continue
                value = bytes(entry.page.records[index])
                letter = DeadLetter(
                    index=index,
                    value=value,
                    stage="produce",
                    cause="Refused",
                    message=said,
                )
                found.setdefault(id(entry), (entry, []))[1].append(letter)
            for entry, letters in found.values():
                self._bury(entry, opened.topic, letters)

    def _bury(self, entry: HandOver, topic: str, found: list[DeadLetter]) -> None:
        """Dead letters in place of records of a page; under the lock."""
        delivery, bad, page = self.delivery, self._bad, entry.page
        assert bad is not None and page is not None
        parcel = Parcel(page=page, topic=topic, values=(), letters=found)
        entry.delivered.append(lambda _: bad(parcel))
        letters = delivery.letters
        if letters is None:
            return
        entry.open += 1

        def written(why: Failure) -> None:
            if why is not None:
                delivery.fail(why)
                return
            with delivery.lock:
                self.delivered(entry)
                self.save(delivery.now())
            delivery.answer()

        column = letters.column(parcel, self._api)
        delivery.send_column(letters.topic, 0, column, written, entry.group)

    # -- for the delivery, under its lock --------------------------------------

    def fail(self, why: SinkError) -> None:
        """Nothing more of this shard is delivered; the first reason counts."""
        if self.failure is None:
            self.failure = why
        self.delivery.changed.notify_all()
        self.delivery.room.notify_all()

    def delivered(self, entry: HandOver) -> None:
        """A part of a page is delivered."""
        if not self._window.close_one(entry):
            return
        now = self.delivery.now()
        for tell in entry.delivered:
            tell(now)
        if entry.acknowledged is not None:
            self._told.append(entry.acknowledged)

    def save(self, now: float) -> float:
        """
        Save the mark if it has moved and the pause is over; one write at a time.

        Returns: the time at which it wants to be asked again.
        """
        window = self._window
        pages, size = len(window), window.size
        mark = window.mark()
        if mark is not None:
            self._unsaved = mark
            self._unsaved_pages += pages - len(window)
            self._unsaved_bytes += size - window.size
        # One write at a time: of two on their way the older could be the last to arrive, and the
        # state would go back.
        if self._unsaved is None or self._saving:
            return NEVER
        if now < self._next:
            return self._next
        # Hot path: a state for each batch would make half of all batches states.
        # The pages behind this one ask again when they are acknowledged.
        if now < self._together:
            if self._lag:
                # The sender's thread asks again then.
                self._lagging = True
                self.delivery.save_at(self._together)
                return NEVER
            if len(self._window):
                return NEVER
        offset, self._unsaved = self._unsaved, None
        self._saving = True
        self._lagging = False
        self._unsaved_pages = self._unsaved_bytes = 0
        self._next = now + self._pause
        self._together = now + max(TOGETHER, self._lag)
        self._saver.save(self.delivery, self._partition, offset, self._saved)
        return NEVER

    def _saved(self, why: Failure) -> None:
        """On any thread: the write has ended, and what came meanwhile is next."""
        delivery = self.delivery
        if why is not None:
            delivery.fail(why)
            return
        with delivery.lock:
            self._saving = False
            self.save(delivery.now())
        delivery.answer()
