"""
Undecided: what stands behind somebody's open transaction, where that is not ours.

A reader of committed records ends at the last stable offset, where the oldest open
transaction of the partition begins.  A state topic has many writers: one that was
killed would hold up everybody's start until its transaction times out.  What lies
behind is read without isolation, and the markers in it say which of it is committed:
brokers compact nothing behind the last stable offset, so that all markers are there.

Path: `sink.reading` and `sink.fencing` ask where they come to a halt -> here ->
`sink.fetching`
"""

from __future__ import annotations

from engine.sink.fetching import TopicReader
from engine.sink.scan import (
    CONTROL,
    SIZE,
    TRANSACTIONAL,
    FetchedRecords,
    KeyFilter,
    batches,
    is_commit,
    scan,
)


def beyond(
    topic: TopicReader, partition: int, position: int, end: int, wanted: KeyFilter
) -> FetchedRecords | None:
    """
    What is committed between a last stable offset and an end.

    Who reads on later begins at the last stable offset again: what is undecided now
    is decided then.

    Args:
        position: Where a reader of committed records has come to a halt.
        end: The high watermark that is to be reached.
        wanted: Keys whose records must all be known.

    Returns: whole batches; None while an open transaction has a record under one of
        the keys, or where the end is not reached.
    Raises: what `TopicReader` raises, as `scan`.
    Blocks: for as many requests as it takes, which are answered at once.
    """
    found: list[tuple[tuple[int, ...], bytes]] = []
    at = position
    while at < end:
        before = at
        for piece, start in topic.fetch({partition: at}, 0, committed=False):
            if start > at:
                return None
            for head, begin, stop in batches(piece.records):
                last = head[0] + head[4] if head[2] == 2 else head[0]
                # A broker answers with the whole batch around a position.
                if last >= at:
                    found.append((head, piece.records[begin:stop]))
                    at = last + 1
        if at == before:
            return None
    committed, open_ = _sorted_out(found)
    if scan(FetchedRecords(partition, open_), wanted).found:
        return None
    return FetchedRecords(partition, committed)


def _sorted_out(found: list[tuple[tuple[int, ...], bytes]]) -> tuple[bytes, bytes]:
    """What is committed or in no transaction, and what is in one that is open."""
    committed: list[bytes] = []
    open_: list[bytes] = []
    #: Producer -> how its next transaction ends; read from behind.
    ends: dict[int, bool] = {}
    for head, batch in reversed(found):
        producer = head[7]
        if head[2] != 2 or not head[3] & (TRANSACTIONAL | CONTROL):
            committed.append(batch)
        elif head[3] & CONTROL:
            ends[producer] = is_commit(batch, SIZE)
        elif producer not in ends:
            open_.append(batch)
        elif ends[producer]:
            committed.append(batch)
    return b"".join(reversed(committed)), b"".join(reversed(open_))
