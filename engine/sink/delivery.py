"""
Delivery: a task's way to the broker, as the task has it.

Owns which kind of outlet a shard gets, and what is due beside the pages: states that
waited for their pause, topics that have gone, the end.

Path: `task.build.kafka` makes it, the task hands parcels to its outlets
-> `sink.commit`, `outlet`, `exactly`, `transactions`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.clock import SYSTEM, Clock
from engine.errors import Misconfigured, Unavailable
from engine.records import Parcel
from engine.sink.commit import DeliveryOptions, SharedDelivery
from engine.sink.exactly import ExactlyOnce
from engine.sink.group import Boundary
from engine.sink.outlet import AtLeastOnce
from engine.sink.produce.producer import NoTopic, Producer
from engine.sink.seams import NEVER, Saver
from engine.sink.transactions import Transactions
from engine.sink.window import Budget

#: Longest pause `tick` asks for.
IDLE = 1.0

#: Seconds between two tries to make a topic that has gone.
REVIVE_EACH = 5.0


class Delivery(SharedDelivery):
    """
    A task's way to the broker, shared by its shards.

    Each outlet is used by the one thread that walks its shard; `tick` and `close`
    are for the task's main thread.  After any verb has raised a failure of the
    sink, only `close` is left to call.

    Attributes:
        transactions: None where delivery is at least once.
    """

    transactions: Transactions | None

    def __init__(
        self,
        producer: Producer,
        *,
        budget: Budget,
        options: DeliveryOptions,
        boundary: Boundary | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        """
        Args: as `SharedDelivery`, and
            boundary: All that is delivered goes in transactions, of a producer that
                is initialised for them; None: at least once.
        """
        super().__init__(producer, budget=budget, options=options, clock=clock)
        self._revive_at = 0.0
        producer.on_turn(self._save_due)
        if boundary is not None:
            self.transactions = Transactions(self, producer, boundary)

    def outlet(
        self,
        partition: Mapping[str, str],
        saver: Saver,
        *,
        pause: float = 0.0,
        bad: Callable[[Parcel], None] | None = None,
        lag: float = 0.0,
    ) -> AtLeastOnce:
        """
        A shard's way in.

        Args:
            partition: The source partition its state is kept under.
            pause: Least seconds between two writes of its state
                (`offset.flush.interval.ms`).
            bad: Told of records that the broker has refused and that were
                left out, once their page is delivered (`errors.tolerance=all`);
                None: the first of them fails the shard.
            lag: Seconds that its state may be behind what is acknowledged, so that
                several pages are saved together (`outlet.LAG`); 0.0: it follows at
                once, unless more pages are on their way.
        """
        made: AtLeastOnce
        if self.transactions is None:
            made = AtLeastOnce(self, partition, saver, pause, bad, lag)
        else:
            made = ExactlyOnce(self, partition, saver, self.transactions, bad)
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
        Raises: what the delivery failed with; Unavailable past its patience.
        Blocks: only for a topic that has gone, while it is made.
        """
        self.check_failure()
        self.check_patience(now)
        if self._producer.gone(now) and now >= self._revive_at:
            self._revive_gone(now)
        with self.lock:
            due = min(
                (outlet.save(now) for outlet in self._outlets), default=now + IDLE
            )
        return min(max(due - now, 0.0), IDLE)

    def _save_due(self, now: float) -> float:
        """On the sender's thread: save what was kept back; when it is due next."""
        # Hot path: each time that the sender looks at its queues.
        if now < self._save_at:
            return self._save_at
        with self.lock:
            self._save_at = NEVER
            if self._failure is None:
                for outlet in self._outlets:
                    if outlet.failure is None:
                        outlet.save(now)
            return self._save_at

    def close(self, timeout: float) -> bool:
        """
        End it; what is not acknowledged is given up.

        Returns: True if the sender's thread has ended.
        Blocks: at most `timeout` seconds, whatever the broker does.
        """
        if self.transactions is not None:
            self.transactions.close()
        self.fail(Unavailable("the producer is closed"))
        return self._producer.close(timeout)

    def _revive_gone(self, now: float) -> None:
        """Make the topics anew that have gone while batches wait for them."""
        self._revive_at = now + REVIVE_EACH
        for topic in self._producer.gone(now):
            try:
                if self._revive is None:
                    raise NoTopic(f"topic {topic} is gone")
                self._revive(topic)
            except Unavailable:
                continue
            except Misconfigured as why:
                with self.lock:
                    mine = [each for each in self._outlets if topic in each.topics]
                    for outlet in mine:
                        outlet.fail(why)
                if not mine:
                    # The positions': nothing can be saved.
                    self.fail(why)
                    raise
            else:
                self._producer.refresh()
