"""Produce: what becomes of each batch, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafka.protocol.producer import ProduceResponse

from tests.fakes.broker.log import Batch

if TYPE_CHECKING:
    from tests.fakes.broker.cluster import Cluster

Topic = ProduceResponse.TopicProduceResponse
Part = Topic.PartitionProduceResponse

#: What a test says to a batch: an error code, a whole answer, or None for "write it".
Verdict = int | Any | None


def part(
    partition: int,
    code: int,
    errors: tuple[tuple[int, str], ...] = (),
    message: str | None = None,
    base: int = 0,
) -> Any:
    """An answer to a batch."""
    return Part(
        index=partition,
        error_code=code,
        base_offset=-1 if code else base,
        log_append_time_ms=-1,
        log_start_offset=0,
        record_errors=[
            Part.BatchIndexAndErrorMessage(
                batch_index=at, batch_index_error_message=text
            )
            for at, text in errors
        ],
        error_message=message,
    )


class Producing:
    """Writes batches into the logs of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def produce(self, node: int, request: Any, version: int) -> Any:
        arrived: list[Batch] = []

        def written(batch: Batch) -> Any:
            arrived.append(batch)
            return self._written(node, batch, request.transactional_id, version)

        answer = self._each(request, version, written)
        self._cluster.requests.append(arrived)
        self._cluster.changed.notify_all()
        if request.acks == 0:
            return None
        answer.throttle_time_ms = self._cluster.throttle_ms
        return answer

    def produce_refused(self, request: Any, version: int, code: int) -> Any:
        return self._each(request, version, lambda batch: part(batch.partition, code))

    def _each(self, request: Any, version: int, say: Any) -> Any:
        cluster = self._cluster
        names = {each: name for name, each in cluster.ids.items()}
        topics = []
        for topic in request.topic_data:
            name = topic.name if version < 13 else names.get(topic.topic_id, "")
            parts = [
                say(Batch(name, each.index, bytes(each.records)))
                for each in topic.partition_data
            ]
            topics.append(
                Topic(
                    name=topic.name, topic_id=topic.topic_id, partition_responses=parts
                )
            )
        answer = ProduceResponse(responses=topics, throttle_time_ms=0)
        if cluster.hints:
            Endpoint = ProduceResponse.NodeEndpoint
            answer.node_endpoints = [
                Endpoint(node_id=at, host=cluster.host, port=port, rack=None)
                for at, port in cluster.ports.items()
            ]
        return answer

    def _written(self, node: int, batch: Batch, id_: str | None, version: int) -> Any:
        cluster = self._cluster
        cluster.arrived.append(batch)
        place = batch.topic, batch.partition
        verdict: Verdict = cluster.judge(batch)
        base = -1
        if verdict is None:
            leader = cluster.leaders.get(place)
            if leader is None:
                verdict = 3 if version < 13 or batch.topic else 100
            elif leader != node:
                verdict = 6
            elif len(batch.data) > cluster.largest:
                verdict = 10
            else:
                verdict = 0
                if batch.transactional:
                    verdict = cluster.transactions.written(id_, batch, version)
                if not verdict:
                    verdict, base = cluster.logs[place].append(batch)
        if not isinstance(verdict, int):
            return verdict
        answer = part(batch.partition, verdict, base=base)
        if verdict == 6 and place in cluster.hints:
            leader, epoch = cluster.hints[place]
            answer.current_leader = Part.LeaderIdAndEpoch(
                leader_id=leader, leader_epoch=epoch
            )
        return answer
