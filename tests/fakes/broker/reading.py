"""Fetch, ListOffsets and OffsetForLeaderEpoch: what a reader is shown."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kafka.protocol.consumer import (
    FetchResponse,
    ListOffsetsResponse,
    OffsetForLeaderEpochResponse,
)

if TYPE_CHECKING:
    from tests.fakes.broker.cluster import Cluster
    from tests.fakes.broker.log import Log

COMMITTED = 1


class Reading:
    """Reads the logs of a cluster; each Fetch is whole, there are no sessions."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def _visible(self, log: Log, isolation: int) -> int:
        """The offset at which a reader's view ends."""
        hides = isolation == COMMITTED and self._cluster.isolates
        return log.stable if hides else log.end

    def fetch(self, node: int, request: Any, version: int) -> Any:
        deadline = time.monotonic() + request.max_wait_ms / 1000
        while True:
            answer, size, told = self._found(node, request, version)
            left = deadline - time.monotonic()
            if told or size >= request.min_bytes or left <= 0:
                return answer
            self._cluster.changed.wait(left)

    def fetch_refused(self, request: Any, version: int, code: int) -> Any:
        answer, _, _ = self._found(0, request, version, code)
        return answer

    def _found(
        self, node: int, request: Any, version: int, refused: int = 0
    ) -> tuple[Any, int, bool]:
        """The answer, its bytes of records, and whether it has an error to tell."""
        cluster = self._cluster
        names = {each: name for name, each in cluster.ids.items()}
        Topic = FetchResponse.FetchableTopicResponse
        topics, size, told = [], 0, False
        for topic in request.topics:
            name = topic.topic if version < 13 else names.get(topic.topic_id, "")
            parts = []
            for asked in topic.partitions:
                limit = min(asked.partition_max_bytes, max(request.max_bytes - size, 0))
                found = self._part(
                    node, name, asked, request.isolation_level, limit, refused
                )
                size += len(found.records or b"")
                told = told or bool(found.error_code)
                parts.append(found)
            topics.append(
                Topic(topic=topic.topic, topic_id=topic.topic_id, partitions=parts)
            )
        answer = FetchResponse(
            throttle_time_ms=0, error_code=0, session_id=0, responses=topics
        )
        return answer, size, told

    def _part(
        self, node: int, name: str, asked: Any, isolation: int, limit: int, code: int
    ) -> Any:
        Data = FetchResponse.FetchableTopicResponse.PartitionData
        place = name, asked.partition
        log = self._cluster.logs.get(place)
        if not code:
            if log is None:
                code = 3 if name else 100
            elif self._cluster.leaders[place] != node:
                code = 6
            elif not log.start <= asked.fetch_offset <= log.end:
                code = 1
        if code or log is None:
            return Data(
                partition_index=asked.partition,
                error_code=code,
                high_watermark=-1,
                last_stable_offset=-1,
                log_start_offset=-1,
                aborted_transactions=None,
                preferred_read_replica=-1,
                records=b"",
            )
        until = self._visible(log, isolation)
        aborted = None
        if isolation == COMMITTED and self._cluster.isolates:
            aborted = [
                Data.AbortedTransaction(
                    producer_id=each.producer, first_offset=each.first
                )
                for each in log.aborted_from(asked.fetch_offset, until)
            ]
        return Data(
            partition_index=asked.partition,
            error_code=0,
            high_watermark=log.end,
            last_stable_offset=log.stable,
            log_start_offset=log.start,
            aborted_transactions=aborted,
            preferred_read_replica=-1,
            records=log.read(asked.fetch_offset, limit, until) if limit else b"",
        )

    def list_offsets(self, node: int, request: Any, version: int) -> Any:
        return self._listed(node, request, version, 0)

    def list_offsets_refused(self, request: Any, version: int, code: int) -> Any:
        return self._listed(0, request, version, code)

    def _listed(self, node: int, request: Any, version: int, refused: int) -> Any:
        Topic = ListOffsetsResponse.ListOffsetsTopicResponse
        Part = Topic.ListOffsetsPartitionResponse
        isolation = request.isolation_level if version >= 2 else 0
        topics = []
        for topic in request.topics:
            parts = []
            for asked in topic.partitions:
                place = topic.name, asked.partition_index
                log = self._cluster.logs.get(place)
                code, offset, timestamp = refused, -1, -1
                if not code and log is None:
                    code = 3
                if not code and self._cluster.leaders[place] != node:
                    code = 6
                if not code and log is not None:
                    if asked.timestamp == -1:
                        offset = self._visible(log, isolation)
                    elif asked.timestamp == -2:
                        offset = log.start
                    else:
                        offset, timestamp = log.since(asked.timestamp)
                parts.append(
                    Part(
                        partition_index=asked.partition_index,
                        error_code=code,
                        old_style_offsets=[offset],
                        timestamp=timestamp,
                        offset=offset,
                        leader_epoch=0 if offset >= 0 else -1,
                    )
                )
            topics.append(Topic(name=topic.name, partitions=parts))
        return ListOffsetsResponse(throttle_time_ms=0, topics=topics)

    def epoch_ends(self, node: int, request: Any, version: int) -> Any:
        """One leader for ever: its epoch ends where the log does."""
        Topic = OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult
        topics = []
        for topic in request.topics:
            parts = []
            for asked in topic.partitions:
                log = self._cluster.logs.get((topic.topic, asked.partition))
                parts.append(
                    Topic.EpochEndOffset(
                        error_code=3 if log is None else 0,
                        partition=asked.partition,
                        leader_epoch=-1 if log is None else 0,
                        end_offset=-1 if log is None else log.end,
                    )
                )
            topics.append(Topic(topic=topic.topic, partitions=parts))
        return OffsetForLeaderEpochResponse(throttle_time_ms=0, topics=topics)

    def epoch_ends_refused(self, request: Any, version: int, code: int) -> Any:
        answer = self.epoch_ends(0, request, version)
        for topic in answer.topics:
            for each in topic.partitions:
                each.error_code = code
        return answer
