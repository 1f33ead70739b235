"""
Ends: where the partitions of a topic begin and end, and which topic it is.

Owns the questions about offsets, asked of each partition's leader, and asked again while
leaders move.

Path: `sink.fetching`, `sink.identity`, `sink.statetopic` -> here -> `sink.caller`
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.sink import codes, protocol
from engine.sink.caller import BrokerClient
from engine.sink.cluster import Cluster
from engine.sink.codes import BrokerError
from engine.sink.kafka import (
    EARLIEST,
    LATER,
    LATEST,
    SOON,
    admin,
    asking,
    describe,
    described_in,
    metadata,
    topic_id,
)
from engine.sink.naming import passes
from engine.sink.produce import messages


def offsets(
    client: BrokerClient,
    topic: str,
    *ats: int,
    partitions: Iterable[int] | None = None,
    known: messages.Metadata | None = None,
    limit: float = 10.0,
    clock: Clock = SYSTEM,
) -> tuple[messages.Metadata, list[dict[int, int]]]:
    """
    Where a topic's partitions begin or end, asked of their leaders.

    A topic that was made a moment ago, or whose leaders move, is asked again.

    Args:
        ats: EARLIEST or LATEST, which is the high watermark.
        partitions: Those that are asked for; all of them if None.
        known: What a broker has just said of it.

    Returns: who leads what, and for each of `ats` the offsets by partition.
    Raises: BrokerError, for one without a leader, too.
    Blocks: for two requests; at most `limit` seconds more where leaders move.
    """
    deadline = clock.monotonic() + limit
    pause = SOON
    while True:
        known = known or metadata(client, [topic])
        try:
            return known, _offsets(client, topic, known, ats, partitions)
        except BrokerError as error:
            if not passes(error) or clock.monotonic() > deadline:
                raise
        known = None
        client.pause(pause)
        pause = min(2 * pause, LATER)


def _offsets(
    client: BrokerClient,
    topic: str,
    known: messages.Metadata,
    ats: Sequence[int],
    partitions: Iterable[int] | None,
) -> list[dict[int, int]]:
    told = known.topics[topic]
    codes.require(told.code, topic)
    led: dict[int, list[int]] = {}
    for index in told.partitions if partitions is None else partitions:
        leader = told.partitions[index].leader
        if leader < 0:
            raise BrokerError(codes.LEADER_NOT_AVAILABLE, f"{topic}-{index}")
        led.setdefault(leader, []).append(index)
    answers = client.ask_all(
        [
            (
                leader,
                asking(
                    protocol.LIST_OFFSETS,
                    replica_id=-1,
                    topics=[
                        {
                            "name": topic,
                            "partitions": [
                                {
                                    "partition_index": index,
                                    "current_leader_epoch": -1,
                                    "timestamp": at,
                                }
                                for index in members
                            ],
                        }
                    ],
                ),
            )
            for at in ats
            for leader, members in led.items()
        ]
    )
    found: list[dict[int, int]] = [{} for _ in ats]
    for number, answer in enumerate(answers):
        for part in answer.topics[0].partitions:
            codes.require(part.error_code, f"{topic}-{part.partition_index}")
            # A topic's answers stand one behind the other.
            at = number // len(led)
            found[at][part.partition_index] = max(part.offset, 0)
    return found


def topic_ends(cluster: Cluster, topic: str) -> dict[int, int]:
    """
    The high watermark of each partition that holds anything at all; empty if there
    is no such topic.

    Raises: a SinkError.
    """
    with admin(cluster) as client:
        if topic not in describe(client, [topic]):
            return {}
        _, [ends] = offsets(client, topic, LATEST)
        return {index: end for index, end in ends.items() if end}


class Identified(Struct, frozen=True):
    """
    Which topic it is.

    Attributes:
        id: Of its cluster, and its own where the broker has ids for topics.
        retention: As `TopicDescription`.
        empty: True if it holds nothing.
    """

    id: str
    retention: float | None
    empty: bool


def identify(cluster: Cluster, topic: str) -> Identified | None:
    """
    Which topic stands behind a name; None: there is no such one.

    Raises: a SinkError.  Blocks: for two rounds of requests.
    """
    with admin(cluster) as client:
        known, described_all = described_in(client, [topic])
        described = described_all.get(topic)
        if described is None:
            return None
        found, (first, last) = offsets(client, topic, EARLIEST, LATEST, known=known)
        return Identified(
            f"{found.cluster}/{topic_id(found.topics[topic])}",
            described.retention,
            first == last,
        )
