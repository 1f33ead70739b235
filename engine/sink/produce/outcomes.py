"""
Outcomes: what an answer of a broker, or none, makes of the batches it is about.

Owns what follows from each error code for a batch and for those behind it: written,
sent again, numbered anew, sent without the records that are refused, given up with the
producer.  A batch that may have been written is never given up.

Path: `sink.produce.sender` -> here -> `verdicts`, `queue`, `split`
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from engine.clock import Clock
from engine.errors import Doubtful, Misconfigured, SinkError
from engine.policy import doubled
from engine.sink.produce import split, verdicts, wire
from engine.sink.produce.nodes import Node, Nodes
from engine.sink.produce.queue import SEQUENCE_MASK, Partition, Queued, RefusedRecord
from engine.sink.produce.transaction import SOON
from engine.sink.produce.tuning import Tuning
from engine.sink.produce.verdicts import BatchVerdict
from engine.sink.produce.view import ClusterView

#: Longest pause between two tries of a batch.
LONGEST_PAUSE = 1.0


#: A batch in a request, and whose it is.
Sent = tuple[Partition, Queued]


class Outcomes:
    """
    Args:
        stale: Called when what is known of the leaders is out of date.
        fail: Told why nothing can be sent any more.
    """

    def __init__(
        self,
        nodes: Nodes,
        view: ClusterView,
        tuning: Tuning,
        *,
        stale: Callable[[], None],
        fail: Callable[[SinkError], None],
        clock: Clock,
    ) -> None:
        self._nodes = nodes
        self._view = view
        self._tuning = tuning
        self._stale = stale
        self._fail = fail
        self._clock = clock

    def answered(
        self, node: Node, version: int, sent: list[Sent], answer: wire.ProduceResponse
    ) -> None:
        """A broker has answered a request of so many batches."""
        now = self._clock.monotonic()
        if answer.throttle and version >= 6:
            node.throttle(answer.throttle, now)
        for endpoint in answer.endpoints:
            self._nodes.add(endpoint.node, endpoint)
        view = self._view
        results = {}
        for result in answer.results:
            name = result.topic or view.name(result.topic_id)
            results[name, result.partition] = result
        for partition, queued in sent:
            partition.landed(queued)
            if not partition.sent:
                # The producer has failed meanwhile, and whoever waited was told.
                continue
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
            hint = found.hint
            # One that nobody knows the address of leads nowhere.
            known = hint is not None and self._nodes.node(hint.leader) is not None
            news = known and view.hint(*place, hint)  # type: ignore[arg-type]
            self._judge(node, partition, queued, found, news, now)

    def _judge(
        self,
        node: Node,
        partition: Partition,
        queued: Queued,
        result: wire.Result,
        news: bool,
        now: float,
    ) -> None:
        code = result.code
        found = verdicts.verdict(code, queued.tries)
        if found is BatchVerdict.WRITTEN:
            self._written(partition, queued, now)
            return
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
        if found in (BatchVerdict.AGAIN, BatchVerdict.MOVED):
            pause = True
            if found is BatchVerdict.MOVED:
                pause = self._moved(node, partition, news)
            self._again_later(partition, said, now, pause=pause)
            if transactional and code == verdicts.CONCURRENT_TRANSACTIONS:
                # The former one is being ended, which takes milliseconds.
                partition.retry_at = now + SOON
        elif numbered and (partition.renumber or not first):
            self._again_later(partition, said, now, pause=False)
        elif found is BatchVerdict.FORGOTTEN and transactional:
            why = "the broker does not know the transaction any more"
            self._fail(Doubtful(f"{_writing(partition)}: {said}: {why}"))
        elif found is BatchVerdict.FORGOTTEN:
            partition.renumber = True
            self._again_later(partition, said, now)
        elif found in (BatchVerdict.RECORDS, BatchVerdict.TOO_LARGE):
            self._refused(partition, queued, result)
        elif found is BatchVerdict.ORDER:
            why = "a batch that was acknowledged is missing at the broker"
            self._fail(Doubtful(f"{_writing(partition)}: {why}"))
        else:
            failure = verdicts.failure(code, result.message, _writing(partition))
            if isinstance(failure, Misconfigured):
                self._drop(partition, queued, failure)
            else:
                # What is on its way behind it may be written or not.
                self._fail(failure)

    def _moved(self, node: Node, partition: Partition, news: bool) -> bool:
        """
        A broker does not lead a partition.

        Args:
            news: It has hinted at another leader than was known.

        Returns: True if there is to be a pause before the next try.
        """
        place = partition.topic, partition.index
        if self._view.leader(*place) == node.id:
            # Whatever the metadata says next is better, also with a lower epoch: a topic
            # that was made anew begins at 0.
            self._view.doubt(*place)
            self._stale()
            return True
        if not news:
            # Known since it was sent.
            return False
        # Two that hint at each other are not asked in turn without a pause.
        again = partition.failures > 0
        partition.failures += not again
        return again

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
        queued.settle(None)

    def _again_later(
        self, partition: Partition, why: str, now: float, *, pause: bool = True
    ) -> None:
        """A batch stays where it is and is sent again."""
        partition.reason = why
        if not pause:
            return
        partition.failures += 1
        first = self._tuning.retry_backoff
        wait = doubled(first, max(LONGEST_PAUSE, first), partition.failures)
        partition.retry_at = now + wait

    def lost(self, sent: list[Sent], why: Exception) -> None:
        """
        Send batches again as they are, since nobody knows whether they were written.

        One that nobody acknowledges was not even sent whole, and is none of the broker's.
        """
        now = self._clock.monotonic()
        for partition, queued in sent:
            partition.landed(queued)
            if partition.numbers is not None:
                partition.numbers.doubtful = True
            self._again_later(partition, str(why), now, pause=False)

    def _drop(self, partition: Partition, queued: Queued, why: SinkError) -> None:
        """A batch never will be written; those behind it are numbered anew."""
        partition.sent.remove(queued)
        partition.renumber = True
        queued.settle(why)

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
                    RefusedRecord(split.original(queued, at), result.code, text)
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
        queued.settle(None)


def _writing(partition: Partition) -> str:
    return f"writing to {partition.topic}-{partition.index}"
