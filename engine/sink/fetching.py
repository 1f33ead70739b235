"""
Fetching: a topic's record batches as they lie with the brokers, undecoded.

A consumer makes an object of each record, 10 us each, where `sink.scan` looks at a
key for half of one.

Path: `sink.reading` asks -> here -> `sink.caller`
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from engine.errors import SinkError, Unavailable
from engine.later import later
from engine.sink import codes, protocol
from engine.sink.caller import BrokerClient
from engine.sink.codes import BrokerError
from engine.sink.ends import offsets
from engine.sink.kafka import (
    EARLIEST,
    LATEST,
    Cluster,
    admin,
    asking,
    metadata,
    naming,
    topic_id,
)
from engine.sink.produce.messages import Metadata
from engine.sink.scan import FetchedRecords

library = later("engine.sink.library")

#: Bytes of an answer, and of it for one partition: what a reading holds in
#: memory is a few times this.
ANSWER = 8 << 20

#: Milliseconds a broker may hold an answer back for which it has nothing.
WAIT_MS = 250

#: Seconds between two attempts after an error that passes.
PAUSE = 0.2


class Span(Struct, frozen=True):
    """
    What there is of a topic.

    Attributes:
        identity: Changes when the topic is made anew; "" where a broker says none.
        starts, ends: Partition -> its first offset, and the one behind its last:
            the high watermark, also of open transactions.
    """

    identity: str
    starts: Mapping[int, int]
    ends: Mapping[int, int]


class TopicReader:
    """
    Reads the batches of one topic, from offsets that its caller keeps.

    Every verb raises what a broker refuses as a BrokerError; see `reading` for what
    passes.  Used by one thread.
    """

    def __init__(self, client: BrokerClient, name: str) -> None:
        self._client = client
        self._name = name
        self._known: Metadata | None = None

    def span(self) -> Span:
        """How far it reaches now; blocks for three requests."""
        self._known, (first, last) = offsets(self._client, self._name, EARLIEST, LATEST)
        return Span(topic_id(self._known.topics[self._name]), first, last)

    def fetch(
        self,
        positions: Mapping[int, int],
        wait_ms: int = WAIT_MS,
        *,
        committed: bool = True,
    ) -> Iterator[tuple[FetchedRecords, int]]:
        """
        One round: what the leaders have from these offsets on.

        Args:
            wait_ms: Within which a broker that has nothing answers.
            committed: Up to the last stable offset, with a list of the aborted
                transactions; else up to the high watermark, and everything.

        Yields: a piece of a partition, and the partition's log start: where to
        go on if that is beyond what was asked for.
        Blocks: at most a request's time.
        """
        led: dict[int, list[int]] = {}
        for partition in positions:
            led.setdefault(self._leader(partition), []).append(partition)
        if -1 in led:
            place = f"{self._name}-{led[-1][0]}"
            raise BrokerError(codes.LEADER_NOT_AVAILABLE, place)
        answers = self._client.ask_all(
            [
                (
                    node,
                    self._request(
                        {each: positions[each] for each in members},
                        wait_ms,
                        committed,
                    ),
                )
                for node, members in led.items()
            ]
        )
        for answer in answers:
            codes.require(getattr(answer, "error_code", 0), self._name)
            for topic in answer.responses or ():
                for part in topic.partitions or ():
                    yield from self._piece(part, positions)

    def look_again(self) -> None:
        """Ask anew who leads; blocks for a request."""
        found = metadata(self._client, [self._name])
        if not found.topics[self._name].code:
            self._known = found

    def late(self, limit: float) -> SinkError:
        """Why a reading is given up that did not get on for `limit` seconds."""
        return Unavailable(
            f"reading topic {self._name}: its end was not reached in {limit:.0f} s"
        )

    def _leader(self, partition: int) -> int:
        assert self._known is not None
        told = self._known.topics[self._name].partitions.get(partition)
        return -1 if told is None else told.leader

    def _request(
        self, positions: Mapping[int, int], wait_ms: int, committed: bool
    ) -> protocol.Asking:
        return asking(
            protocol.FETCH,
            replica_id=-1,
            max_wait_ms=wait_ms,
            min_bytes=1,
            max_bytes=ANSWER,
            isolation_level=1 if committed else 0,
            # No session: each request says all.
            session_id=0,
            session_epoch=-1,
            topics=[
                {
                    "topic": self._name,
                    "partitions": [
                        {
                            "partition": partition,
                            "current_leader_epoch": -1,
                            "fetch_offset": offset,
                            "last_fetched_epoch": -1,
                            "log_start_offset": -1,
                            "partition_max_bytes": ANSWER,
                        }
                        for partition, offset in positions.items()
                    ],
                }
            ],
        )

    def _piece(
        self, part: Any, positions: Mapping[int, int]
    ) -> Iterator[tuple[FetchedRecords, int]]:
        partition = part.partition_index
        if part.error_code == codes.OFFSET_OUT_OF_RANGE:
            _, [starts] = offsets(
                self._client, self._name, EARLIEST, partitions=[partition]
            )
            first = starts[partition]
            if first <= positions[partition]:
                raise BrokerError(part.error_code, f"{self._name}-{partition}")
            yield FetchedRecords(partition, b""), first
            return
        codes.require(part.error_code, f"{self._name}-{partition}")
        aborted = [
            (each.producer_id, each.first_offset)
            for each in part.aborted_transactions or ()
        ]
        yield FetchedRecords(partition, part.records or b"", aborted), 0


@contextmanager
def opened(cluster: Cluster, name: str) -> Iterator[TopicReader]:
    """A topic for a few rounds; what a broker refuses inside is renamed."""
    with admin(cluster) as client, naming(f"reading topic {name}"):
        yield TopicReader(client, name)


def of_old_format(
    batch: bytes,
) -> Iterable[tuple[int, int, bytes | None, bytes | None]]:
    """
    The records of a batch before magic 2: offset, time stamp, key, value.

    A broker keeps them as they were written, however long ago.
    """
    found: Iterable[tuple[int, int, bytes | None, bytes | None]]
    found = library.of_old_format(batch)
    return found
