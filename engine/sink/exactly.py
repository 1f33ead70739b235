"""
Exactly: a shard's outlet whose pages and position are in one transaction.

Owns what of a shard is in which transaction.  A page counts as delivered once it is
committed; its position is never seen without it.

Path: the task hands parcels over here -> `sink.transactions` commits them
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.errors import SinkError
from engine.records import Offset, Parcel
from engine.sink.commit import SharedDelivery
from engine.sink.outlet import AtLeastOnce
from engine.sink.seams import LOOK, Failure, Saver, Sending
from engine.sink.transactions import Transactions
from engine.sink.window import HandOver


class ExactlyOnce(AtLeastOnce):
    """
    A shard's outlet with transactions.

    For a reader of committed records a page comes once, whatever happens.  An entry
    of the window is held open by its transaction, until that is committed.
    """

    def __init__(
        self,
        delivery: SharedDelivery,
        partition: Mapping[str, str],
        saver: Saver,
        transactions: Transactions,
        bad: Callable[[Parcel], None] | None = None,
    ) -> None:
        super().__init__(delivery, partition, saver, 0.0, bad)
        self._transactions = transactions

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        """As `seams.Outlet`; a page is whole in one transaction."""
        delivery = self.delivery
        self.settle()
        entry, columns = self._entry(parcel, offset)
        self._make_way()
        # Before anything of the page is in a transaction, which else would have to
        # be given up.
        for topic, column in columns:
            delivery.check(topic, column)
        with self._transactions.entered() as group:
            if self.group != group.number:
                self._batches.turn(group.number)
            with delivery.lock:
                self._window.add(entry)
                entry.open += 1
                entry.group = group
                entry.outlet = self
                group.left += 1
                group.records += sum(len(column) for _, column in columns)
                group.entries.append(entry)
                group.offsets[self] = offset
            for topic, column in columns:
                self.topics.add(topic)
                self._batches.add(topic, column, entry)
            with delivery.lock:
                self.delivered(entry)

    def _wait_for_way(self) -> None:
        self._transactions.demand()
        super()._wait_for_way()

    def commit(self) -> None:
        """As `seams.Outlet`."""
        delivery = self.delivery
        while True:
            self.settle()
            with delivery.changed:
                delivery.check_patience(delivery.now())
                if not len(self._window):
                    break
                # What a page was put into since is another transaction.
                self._transactions.demand()
                # Nobody can have changed anything since the look above.
                delivery.changed.wait(LOOK)
        self.settle()

    # -- for the delivery, under its lock ------------------------------------------

    def fail(self, why: SinkError) -> None:
        """As `AtLeastOnce`: a part of a page is in the transaction."""
        super().fail(why)
        self._transactions.spoil_sent(why)

    def delivered(self, entry: HandOver) -> None:
        """A part of a page is acknowledged, which is not committed yet."""
        self._window.close_one(entry)
        if entry.open == 1:
            self._transactions.answered(entry.group)

    def save(self, now: float) -> float:
        """As `AtLeastOnce`: the transaction saves it."""
        return float("inf")

    # -- for the transactions ----------------------------------------------------------

    def save_in(
        self, sending: Sending, offset: Offset, done: Callable[[Failure], None]
    ) -> None:
        """Put the shard's position into a transaction; never blocks."""
        self._saver.save(sending, self._partition, offset, done)

    def committed(self, entry: HandOver, now: float) -> None:
        """Under the lock: a page's transaction is committed."""
        super().delivered(entry)

    def settled(self) -> None:
        """Under the lock: so are all of the shard's pages in it."""
        self._window.mark()
