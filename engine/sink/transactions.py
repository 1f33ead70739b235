"""
Transactions: pages, dead letters and positions of a task, committed together.

Owns which page is in which transaction and when one ends: pages that come within a
short while are one group, a page is never in two, and the positions of their shards
are the last records of it.  Nothing is committed unless every batch of the group is
acknowledged; every wait has a deadline; whatever leaves a doubt ends the delivery,
and the next one reads what became of it.

While a group is committed the next one is fetched, transformed and encoded: its
batches wait in their queues.  No transaction is open while an API is waited for,
but for the moments in which a group is collected.

Path: `sink.exactly` puts pages into the current group -> here, a thread of its own
-> `sink.produce.producer` ends the transaction
Source: KIP-98, KIP-618 (what a boundary is).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct

from engine.errors import Aborted, Doubtful, SinkError, StateError, Unavailable
from engine.sink.commit import SharedDelivery
from engine.sink.group import Boundary, End, TransactionGroup
from engine.sink.produce.producer import Producer
from engine.sink.seams import Failure

#: Seconds the coordinator may take to answer an end.
ENDING = 20.0

#: Seconds for which an abort is waited for; the next start aborts what is left.
ABORTING = 1.0

#: Longest sleep of the thread.
LOOK = 1.0


class Bound(Struct, frozen=True):
    """The way of a position into one transaction; `seams.Sending`."""

    delivery: SharedDelivery
    group: TransactionGroup

    def send(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes | None,
        done: Callable[[Failure], None],
    ) -> None:
        """As `Delivery.send`; `done` is called when it is committed or given up."""
        saving = self.group.saving

        def answered(why: Failure) -> None:
            if why is None:
                # An acknowledged position is none before its transaction has ended.
                saving.append(done)
            else:
                done(why)

        self.delivery.send_in(self.group, topic, partition, key, value, answered)

    def hold(self, why: str, seconds: float) -> bool:
        """As `Delivery.hold`."""
        return self.delivery.hold(why, seconds)

    def free(self) -> None:
        """As `Delivery.free`."""
        self.delivery.free()


class Transactions:
    """
    The transactions of one delivery.

    Attributes:
        told: Called as each ends: how, the records of its pages, and the seconds from
            its first page on.
    """

    def __init__(
        self, delivery: SharedDelivery, producer: Producer, boundary: Boundary
    ) -> None:
        self.told: Callable[[End, int, float], None] = lambda *_: None
        self._delivery = delivery
        self._producer = producer
        self._boundary = boundary
        # Of its own, so that an acknowledgement wakes nobody but for the last one.
        self._due = threading.Condition(delivery.lock)
        self._current = TransactionGroup(1)
        # The one whose batches are sent, None while there is none.
        self._sending: TransactionGroup | None = None
        # The one whose commit was asked for last.
        self._ending: TransactionGroup | None = None
        self._closed = False
        self._thread = threading.Thread(
            target=self._run, name="kafka-committer", daemon=True
        )
        if not boundary.gated:
            self._open(self._current)
        self._thread.start()

    # -- for the outlets -------------------------------------------------------------

    @contextmanager
    def entered(self) -> Iterator[TransactionGroup]:
        """The current group, which does not end while a page is put into it."""
        with self._delivery.lock:
            group = self._current
            group.active += 1
            self._begun(group)
        try:
            yield group
        except (SinkError, StateError) as why:
            # A part of a page may be in it.
            self.spoil(group, why)
            raise
        finally:
            with self._delivery.lock:
                group.active -= 1
                if group is not self._current:
                    self._due.notify_all()

    def _begun(self, group: TransactionGroup) -> None:
        if group.since is None:
            group.since = self._delivery.now()
            self._due.notify_all()

    def demand(self) -> None:
        """Have the current group end now; for any thread."""
        with self._delivery.lock:
            group = self._current
            if group.since is not None and not group.demanded:
                group.demanded = True
                self._due.notify_all()

    def stuck(self, number: int) -> bool:
        """
        Under the delivery's lock: a group waits for pages, and for nothing on its way.

        The pages are those that are being handed over to it.  What else is held is of the
        group behind it, and is sent once this one has ended.
        """
        group = self._sending
        return (
            group is not None
            and group is not self._current
            and group.number == number
            and group.left <= group.active
        )

    def answered(self, group: TransactionGroup) -> None:
        """Under the delivery's lock: a page or a record of it is acknowledged."""
        group.left -= 1
        if group is not self._current:
            if not group.left:
                self._due.notify_all()
            if group.left <= group.active:
                self._delivery.room.notify_all()

    def spoil(self, group: TransactionGroup, why: SinkError | StateError) -> None:
        """Have a group given up: it must not be committed. The first reason counts."""
        with self._delivery.lock:
            if group.failure is None:
                group.failure = why
            self._due.notify_all()

    def spoil_sent(self, why: SinkError | StateError) -> None:
        """As `spoil`, of the one whose batches are sent."""
        sending = self._sending
        self.spoil(self._current if sending is None else sending, why)

    def failed(self) -> None:
        """The delivery has failed; under its lock."""
        self._due.notify_all()

    @property
    def waiting(self) -> bool:
        """True while nothing is sent because a group is being collected."""
        return self._sending is None

    def close(self) -> None:
        """
        Give up what is not committed.

        Blocks: at most `ABORTING` seconds, for readers to go on at once.
        """
        with self._delivery.lock:
            self._closed = True
            self._due.notify_all()
        self._thread.join(ABORTING + 0.5)

    # -- the thread ------------------------------------------------------------------

    def _run(self) -> None:
        why: SinkError | StateError = Aborted("the delivery has ended")
        try:
            while (group := self._next()) is not None:
                self._commit(group)
        except (SinkError, StateError) as failure:
            why = failure
            # First: what an abort makes of batches on their way is not the reason.
            self._delivery.fail(why)
        # The wall of this thread: whoever waits must hear of it.
        except Exception as error:  # noqa: BLE001
            why = Doubtful(f"committing failed: {type(error).__name__}: {error}")
            self._delivery.fail(why)
        self._give_up(why)
        self._abort()

    def _next(self) -> TransactionGroup | None:
        """
        Wait for a group that is due, and begin the one behind it.

        Returns: None once it is closed, or the delivery has failed.
        """
        delivery = self._delivery
        with delivery.lock:
            while not self._over:
                group = self._current
                if group.failure is not None:
                    raise _given_up(group.failure)
                wait = LOOK
                if group.since is not None:
                    # Hot path: nothing is sent while one is committed, so that the
                    # next one is sent for a while before it is committed in turn.
                    begun = max(group.since, group.opened)
                    wait = begun + self._boundary.collect - delivery.now()
                    if group.demanded or wait <= 0:
                        self._current = TransactionGroup(group.number + 1)
                        return group
                self._due.wait(min(wait, LOOK))
            return None

    @property
    def _over(self) -> bool:
        return self._closed or self._delivery.failed

    def _open(self, group: TransactionGroup) -> None:
        self._sending = group
        group.opened = self._delivery.now()
        self._producer.open(group.number)

    def _commit(self, group: TransactionGroup) -> None:
        """End a group: all of it is acknowledged, then it is committed."""
        delivery = self._delivery
        began = delivery.now()
        deadline = began + self._boundary.flush
        if self._sending is not group:
            self._open(group)
        with delivery.lock:
            # From here on it may be `stuck`.
            delivery.room.notify_all()
        self._wait(group, deadline, lambda: not group.active, "being handed over")
        with delivery.lock:
            outlets = delivery.outlets()
        for outlet in outlets:
            # One that is at the next group has finished its batches of this one.
            if outlet.group == group.number:
                outlet.flush()
        # Positions go out behind the batches and are waited for with them: what is committed has
        # both, or neither.
        self._save(group)
        self._wait(group, deadline, lambda: not group.left, "acknowledged")
        # From here on a failure leaves open whether it was committed.
        self._ending = group
        self._end(group)
        with delivery.lock:
            self._sending = None
            following = self._current
        if not self._boundary.gated:
            self._open(following)
        now = delivery.now()
        with delivery.lock:
            for entry in group.entries:
                entry.outlet.committed(entry, now)
            for shard in group.offsets:
                shard.settled()
            delivery.changed.notify_all()
        if group.since is not None:
            self.told(End.COMMITTED, group.records, now - group.since)
        # Without the lock: whoever is told may put the next record, or wait.
        for tell in (*group.saving, *group.after):
            tell(None)

    def _save(self, group: TransactionGroup) -> None:
        """The positions behind its pages, in the same transaction."""
        bound = Bound(self._delivery, group)

        def done(why: Failure) -> None:
            if why is not None:
                self.spoil(group, why)

        for shard, offset in group.offsets.items():
            shard.save_in(bound, offset, done)

    def _wait(
        self,
        group: TransactionGroup,
        deadline: float,
        ready: Callable[[], bool],
        what: str,
    ) -> None:
        delivery = self._delivery
        with delivery.lock:
            while not ready():
                if group.failure is not None:
                    raise _given_up(group.failure)
                delivery.check_failure()
                left = deadline - delivery.now()
                if self._closed or left <= 0:
                    raise Unavailable(self._late(what))
                self._due.wait(min(left, LOOK))
            if group.failure is not None:
                raise _given_up(group.failure)

    def _late(self, what: str) -> str:
        delivery = self._delivery
        waits = delivery.waits(delivery.now(), 1.0)
        why = "no broker answers"
        if waits:
            first = waits[0]
            why = f"{first.topic}-{first.partition}: {first.why}"
        return (
            f"a transaction was given up: not all of it was {what} within "
            f"{self._boundary.flush:.0f} s ({why})"
        )

    def _end(self, group: TransactionGroup) -> None:
        delivery = self._delivery
        told: list[SinkError | None] = []

        def ended(why: SinkError | None) -> None:
            with delivery.lock:
                told.append(why)
                self._due.notify_all()

        deadline = delivery.now() + ENDING
        self._producer.end(True, ended)
        with delivery.lock:
            while not told:
                left = deadline - delivery.now()
                if left <= 0:
                    raise Doubtful(
                        "whether a transaction was committed is not known: its "
                        f"coordinator did not answer within {ENDING:.0f} s"
                    )
                self._due.wait(left)
        if told[0] is not None:
            raise told[0]

    def _give_up(self, why: SinkError | StateError) -> None:
        """Tell what became of the one that was open."""
        delivery = self._delivery
        with delivery.lock:
            group = self._sending
        if group is None or group.since is None:
            return
        doubtful = group is self._ending and isinstance(why, Doubtful)
        end = End.DOUBTFUL if doubtful else End.ABORTED
        self.told(end, group.records, delivery.now() - group.since)
        for tell in group.saving:
            tell(why)

    def _abort(self) -> None:
        """Tell the coordinator, so that readers of committed records go on at once."""
        if self._sending is None:
            return
        # Set on the sender's thread. A coordinator that does not answer is not waited for: it
        # gives the transaction up itself after `transaction.timeout.ms`.
        over = threading.Event()
        self._producer.end(False, lambda why: over.set())
        over.wait(ABORTING)


def _given_up(why: SinkError | StateError) -> SinkError | StateError:
    """What a spoiled group is to the shards that are not to blame for it."""
    return Aborted(f"a transaction was given up, and all in it begins anew: {why}")
