"""
The transaction coordinator: ids, epochs, fencing, commits and aborts.

Both protocols: with version 2 (KIP-890) a Produce request adds its partitions by
itself and each end of a transaction brings a new epoch; with version 1 partitions
are added first.  Commits and aborts are done at once, so that nobody is told to come
again later but who finds a transaction open (CONCURRENT_TRANSACTIONS, as a broker
answers) and who a script tells so.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kafka.protocol.producer import (
    AddOffsetsToTxnResponse,
    AddPartitionsToTxnResponse,
    EndTxnResponse,
    InitProducerIdResponse,
    TxnOffsetCommitResponse,
)

if TYPE_CHECKING:
    from tests.fakes.broker.cluster import Cluster

#: transaction.max.timeout.ms of a broker.
LONGEST = 900_000

#: The last epoch of a producer id; then it gets another id.
LAST_EPOCH = 32_766

Place = tuple[str, int]


@dataclass
class Transaction:
    """What the coordinator knows of a transactional id."""

    producer: int
    epoch: int
    timeout: float
    #: "empty", "ongoing", "committed" or "aborted".
    state: str = "empty"
    places: set[Place] = field(default_factory=set)
    offsets: dict[str, dict[Place, Any]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    groups: set[str] = field(default_factory=set)
    began: float = 0.0

    def join(self) -> None:
        if self.state != "ongoing":
            self.state, self.began = "ongoing", time.monotonic()


class Transactions:
    """
    All transactional ids of a cluster.

    Attributes:
        by_id: Transactions by transactional id.
        ended: (id, "committed" or "aborted", places) of each in turn.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.by_id: dict[str, Transaction] = {}
        self.ended: list[tuple[str, str, frozenset[Place]]] = []
        self._next = 1000

    def expire(self) -> None:
        """Abort what is open for longer than it may be, as the coordinator does."""
        now = time.monotonic()
        for id_, each in self.by_id.items():
            if each.state == "ongoing" and now - each.began > each.timeout:
                self._end(id_, each, False, bumped=True)

    def _judge(self, id_: str, producer: int, epoch: int, fenced: int) -> int:
        found = self.by_id.get(id_)
        if found is None or found.producer != producer:
            return 49
        return 0 if found.epoch == epoch else fenced

    def _end(self, id_: str, each: Transaction, committed: bool, bumped: bool) -> None:
        each.epoch += bumped
        for place in sorted(each.places):
            if place in self._cluster.logs:
                self._cluster.logs[place].mark(each.producer, each.epoch, committed)
        if committed:
            for group, offsets in each.offsets.items():
                self._cluster.groups.offsets[group].update(offsets)
        each.state = "committed" if committed else "aborted"
        self.ended.append((id_, each.state, frozenset(each.places)))
        each.places.clear()
        each.offsets.clear()
        each.groups.clear()
        self._cluster.changed.notify_all()

    # -- InitProducerId -------------------------------------------------------------

    def init(self, node: int, request: Any, version: int) -> Any:
        id_ = request.transactional_id
        if id_ is None:
            self._next += 1
            return self._given(self._next, 0)
        if code := self._cluster.astray(node, id_):
            return self.init_refused(request, version, code)
        if not 0 < request.transaction_timeout_ms <= LONGEST:
            return self.init_refused(request, version, 50)
        found = self.by_id.get(id_)
        if found is None:
            self._next += 1
            found = Transaction(self._next, -1, request.transaction_timeout_ms / 1000)
            self.by_id[id_] = found
        elif version >= 3 and request.producer_id >= 0:
            known = found.producer, found.epoch
            if (request.producer_id, request.producer_epoch) != known:
                return self.init_refused(request, version, 90 if version >= 4 else 47)
        if found.state == "ongoing":
            self._end(id_, found, False, bumped=True)
            return self.init_refused(request, version, 51)
        found.timeout = request.transaction_timeout_ms / 1000
        found.state = "empty"
        found.epoch += 1
        if found.epoch > LAST_EPOCH:
            self._next += 1
            found.producer, found.epoch = self._next, 0
        return self._given(found.producer, found.epoch)

    def _given(self, producer: int, epoch: int) -> Any:
        return InitProducerIdResponse(
            throttle_time_ms=0,
            error_code=0,
            producer_id=producer,
            producer_epoch=epoch,
            ongoing_txn_producer_id=-1,
            ongoing_txn_producer_epoch=-1,
        )

    def init_refused(self, request: Any, version: int, code: int) -> Any:
        answer = self._given(-1, -1)
        answer.error_code = code
        return answer

    # -- partitions -----------------------------------------------------------------

    def add(self, node: int, request: Any, version: int) -> Any:
        assert version <= 3, "what clients send"
        id_ = request.v3_and_below_transactional_id
        code = self._cluster.astray(node, id_) or self._judge(
            id_,
            request.v3_and_below_producer_id,
            request.v3_and_below_producer_epoch,
            90 if version >= 2 else 47,
        )
        if code:
            return self.add_refused(request, version, code)
        asked = [
            (topic.name, at)
            for topic in request.v3_and_below_topics
            for at in topic.partitions
        ]
        unknown = {place for place in asked if place not in self._cluster.logs}
        if not unknown:
            found = self.by_id[id_]
            found.join()
            found.places.update(asked)
        told = {place: (3 if place in unknown else 55) for place in asked}
        return self._added(request, told if unknown else dict.fromkeys(asked, 0))

    def add_refused(self, request: Any, version: int, code: int) -> Any:
        return self._added(
            request,
            {
                (topic.name, at): code
                for topic in request.v3_and_below_topics
                for at in topic.partitions
            },
        )

    def _added(self, request: Any, codes: dict[Place, int]) -> Any:
        Topic = AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult
        Part = Topic.AddPartitionsToTxnPartitionResult
        return AddPartitionsToTxnResponse(
            throttle_time_ms=0,
            results_by_topic_v3_and_below=[
                Topic(
                    name=topic.name,
                    results_by_partition=[
                        Part(
                            partition_index=at,
                            partition_error_code=codes[topic.name, at],
                        )
                        for at in topic.partitions
                    ],
                )
                for topic in request.v3_and_below_topics
            ],
        )

    def written(self, id_: str | None, batch: Any, version: int) -> int:
        """Whether a transactional batch belongs to an open transaction; error code."""
        place = batch.topic, batch.partition
        if id_ is None:
            return 48
        if code := self._judge(id_, batch.producer, batch.epoch, 47):
            return code
        found = self.by_id[id_]
        if version >= 12:
            found.join()
            found.places.add(place)
        elif found.state != "ongoing" or place not in found.places:
            return 48
        return 0

    # -- the end --------------------------------------------------------------------

    def end(self, node: int, request: Any, version: int) -> Any:
        id_ = request.transactional_id
        if code := self._cluster.astray(node, id_):
            return self.end_refused(request, version, code)
        found = self.by_id.get(id_)
        fenced = 90 if version >= 2 else 47
        wanted = "committed" if request.committed else "aborted"
        again = request.producer_id, request.producer_epoch + 1
        if (
            version >= 5
            and found is not None
            and found.state == wanted
            and again == (found.producer, found.epoch)
        ):
            # Sent again after a reply that was lost: told again.
            return self._ended(found, version)
        code = self._judge(id_, request.producer_id, request.producer_epoch, fenced)
        if code:
            return self.end_refused(request, version, code)
        assert found is not None
        if found.state == "ongoing":
            self._end(id_, found, request.committed, bumped=version >= 5)
        elif version >= 5 and not request.committed:
            self._end(id_, found, False, bumped=True)
        elif version >= 5 or found.state != wanted:
            return self.end_refused(request, version, 48)
        return self._ended(found, version)

    def _ended(self, found: Transaction, version: int) -> Any:
        return EndTxnResponse(
            throttle_time_ms=0,
            error_code=0,
            producer_id=found.producer if version >= 5 else -1,
            producer_epoch=found.epoch if version >= 5 else -1,
        )

    def end_refused(self, request: Any, version: int, code: int) -> Any:
        return EndTxnResponse(throttle_time_ms=0, error_code=code)

    # -- offsets of groups ----------------------------------------------------------

    def add_offsets(self, node: int, request: Any, version: int) -> Any:
        id_ = request.transactional_id
        code = self._cluster.astray(node, id_) or self._judge(
            id_,
            request.producer_id,
            request.producer_epoch,
            90 if version >= 2 else 47,
        )
        if not code:
            found = self.by_id[id_]
            found.join()
            found.groups.add(request.group_id)
        return self.add_offsets_refused(request, version, code)

    def add_offsets_refused(self, request: Any, version: int, code: int) -> Any:
        return AddOffsetsToTxnResponse(throttle_time_ms=0, error_code=code)

    def commit_offsets(self, node: int, request: Any, version: int) -> Any:
        code = self._cluster.astray(node, request.group_id) or self._judge(
            request.transactional_id, request.producer_id, request.producer_epoch, 47
        )
        found = self.by_id.get(request.transactional_id)
        if not code:
            assert found is not None
            if version >= 5:
                found.join()
                found.groups.add(request.group_id)
            elif found.state != "ongoing" or request.group_id not in found.groups:
                code = 48
        if not code and version >= 3:
            code = self._cluster.groups.judge(
                request.group_id, request.member_id, request.generation_id
            )
        if not code:
            assert found is not None
            for topic in request.topics:
                for part in topic.partitions:
                    place = topic.name, part.partition_index
                    found.offsets[request.group_id][place] = (
                        part.committed_offset,
                        part.committed_metadata,
                    )
        return self.commit_offsets_refused(request, version, code)

    def commit_offsets_refused(self, request: Any, version: int, code: int) -> Any:
        Topic = TxnOffsetCommitResponse.TxnOffsetCommitResponseTopic
        Part = Topic.TxnOffsetCommitResponsePartition
        return TxnOffsetCommitResponse(
            throttle_time_ms=0,
            topics=[
                Topic(
                    name=topic.name,
                    partitions=[
                        Part(partition_index=part.partition_index, error_code=code)
                        for part in topic.partitions
                    ],
                )
                for topic in request.topics
            ],
        )
