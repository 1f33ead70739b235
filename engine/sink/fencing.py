"""
Fencing: which engine owns a connector's transactions, kept in the state topic.

Owns the task-count record of a connector: how many transactional ids its tasks may
have used, and a generation that each start of an engine raises.  A start fences all
ids of the owner before it, so that none of its tasks commits any more, and only then
are positions read: a shard may have been any of them's.  The record is written in a
transaction of an id of its own, so that of two starts at once one is fenced.

Path: `task.owning` at the start of an engine -> here -> `sink.produce`
Source: KIP-618 (`tasks-fencing-<connector>`, `task-count`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Misconfigured, SinkError, StateError, TakenOver, Unavailable
from engine.sink.batch import Batch, HeadStore
from engine.sink.columns import column_of
from engine.sink.compress import PLAIN
from engine.sink.fetching import TopicReader
from engine.sink.produce.producer import Producer
from engine.sink.produce.writing import BlockingReceipt
from engine.sink.scan import KeyFilter, Record, every
from engine.sink.undecided import beyond

#: Seconds a step may take: an id is initialised, a record written or read.
STEP = 15.0

#: Seconds between two looks at a topic that has nothing new.
LOOK = 0.02

#: Seconds for which what was committed may not be readable yet.
READABLE = 10.0

#: Makes a producer of a transactional id, and initialises it: whoever had it before
#: is fenced.
Make = Callable[[str], Producer]


def fence_key(connector: str) -> bytes:
    """
    The key of a connector's task-count record.

    Connect's own name of it, as a JSON text: Connect's readers of offsets skip
    whatever is no list of name and map.
    """
    return msgspec.json.encode(f"tasks-fencing-{connector}")


class TaskCountRecord(Struct, frozen=True, rename={"tasks": "task-count"}):
    """
    Who owns a connector's transactions, as the state topic keeps it.

    Attributes:
        tasks: Ids from 0 up to this may have been used; 0: none since the last
            start, which is at least once.
        gen: Counts the starts of engines.
        at: When it was written, epoch milliseconds.
        probed: The cluster whose transactions have proved to isolate, "" for none.
    """

    tasks: int = 0
    gen: int = 0
    at: int = 0
    probed: str = ""


def owner_of(record: Record | None, topic: str) -> TaskCountRecord:
    """
    What a task-count record says; nobody's without one.

    Raises: StateError for one that cannot be read.
    """
    if record is None or record.value is None:
        return TaskCountRecord()
    try:
        return msgspec.json.decode(record.value, type=TaskCountRecord)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StateError(
            f"the task-count record at {topic}-{record.partition} offset "
            f"{record.offset} cannot be read: {error}"
        ) from error


def taken_over(connector: str, mine: int, owner: TaskCountRecord) -> TakenOver:
    """The words for an engine that another one has fenced."""
    return TakenOver(
        f"another engine has taken connector {connector!r} over (generation "
        f"{owner.gen}, ours is {mine}): it goes on from what this one has committed, "
        "and nothing more of this one is. Only one engine may run a connector"
    )


class Log:
    """
    One partition of the state topic, as a reader of committed records has it.

    Args:
        topic: Used by one thread.
        key: The key that is looked for.
    """

    def __init__(self, topic: TopicReader, partition: int, key: bytes) -> None:
        self._topic = topic
        self._partition = partition
        self._wanted = KeyFilter([], [key])
        self.position = 0
        #: What is before has been told, also behind others' open transactions.
        self._told = 0

    def end(self) -> int:
        """The offset behind its newest record, also of open transactions."""
        span = self._topic.span()
        self.position = max(self.position, span.starts.get(self._partition, 0))
        return int(span.ends.get(self._partition, 0))

    def readable(self) -> list[Record]:
        """What has become readable under the key since the last call."""
        found: list[Record] = []
        moved = True
        while moved:
            moved = False
            # Whoever is at its end looks again by himself: nobody waits for news here.
            places = {self._partition: self.position}
            for piece, start in self._topic.fetch(places, wait_ms=0):
                end, records = every(piece, self._wanted)
                at = max(start, self.position, end or 0)
                known = max(self.position, self._told)
                found += [r for _, r in records if r.offset >= known]
                moved = moved or at > self.position
                self.position = at
        return found

    def passed(self, end: int) -> list[Record] | None:
        """
        What is committed up to an offset behind others' open transactions.

        None while an open one has records under the key.
        """
        if self.position >= end:
            return []
        piece = beyond(self._topic, self._partition, self.position, end, self._wanted)
        if piece is None:
            return None
        _, records = every(piece, self._wanted)
        found = [r for _, r in records if self._told <= r.offset < end]
        self._told = end
        return found

    def up_to(self, end: int, clock: Clock = SYSTEM) -> list[Record]:
        """
        All up to an offset, also behind others' open transactions.

        Raises: Unavailable if an open transaction has records under the key for long.
        """
        found = self.readable()
        deadline = clock.monotonic() + READABLE
        while self.position < end:
            passed = self.passed(end)
            if passed is not None:
                return found + passed
            if clock.monotonic() > deadline:
                raise Unavailable(
                    f"committed records end at {self.position} of {end} offsets of "
                    "the state topic: somebody's transaction is open"
                )
            threading.Event().wait(LOOK)
            found += self.readable()
        return found


class Writer:
    """Writes single records in transactions of a producer, one after the other."""

    def __init__(self, producer: Producer, topic: str, partition: int) -> None:
        self._producer = producer
        self._place = topic, partition
        self._heads = HeadStore()
        self._group = 0

    def write(self, key: bytes, value: bytes | None) -> None:
        """
        A record in the next transaction, and wait for its acknowledgement.

        Raises: a SinkError.  Blocks: at most `STEP` seconds.
        """
        self._group += 1
        self._producer.open(self._group)
        batch = Batch(self._heads)
        batch.append(column_of([value], [key], SYSTEM.wall_ms()))
        told = BlockingReceipt()
        topic, partition = self._place
        self._producer.put(
            topic, partition, batch, PLAIN, told, full=True, group=self._group
        )
        told.wait(STEP, f"writing to {topic}")

    def end(self, commit: bool) -> None:
        """
        End the transaction.

        Raises: a SinkError.  Blocks: at most `STEP` seconds.
        """
        over = threading.Event()
        why: list[SinkError | None] = []

        def ended(failure: SinkError | None) -> None:
            why.append(failure)
            over.set()

        self._producer.end(commit, ended)
        if not over.wait(STEP):
            raise Unavailable("the end of a transaction is not answered")
        if why[0] is not None:
            raise why[0]


@contextmanager
def made(make: Make, name: str) -> Iterator[Producer]:
    """A producer for a few records."""
    producer = make(name)
    try:
        yield producer
    finally:
        producer.close(1.0)


def take_over(
    make: Make,
    topic: TopicReader,
    place: tuple[str, int],
    connector: str,
    *,
    tasks: int,
    name: Callable[[int | str], str],
    clock: Clock = SYSTEM,
) -> TaskCountRecord:
    """
    Make this engine the owner of a connector's transactions.

    Fences all ids that an owner before may have used, and aborts what they left
    open; then writes that it is the next one.

    Args:
        place: Name of the state topic and the partition of the connector's
            task-count record.
        tasks: As many ids will be used; 0 to go on at least once.
        name: A task's number, or a word, to its transactional id.

    Returns: what was written.
    Raises: Misconfigured without the rights, and where the broker's transactions do
        not isolate; TakenOver if another start was faster; Unavailable, Doubtful.
    Blocks: some round trips, and 5 ms for each id that was used before.
    """
    log = Log(topic, place[1], fence_key(connector))
    with made(make, name("fence")) as producer:
        log.end()
        found = [
            TaskCountRecord(),
            *(owner_of(each, place[0]) for each in log.readable()),
        ]
        fenced = 0
        while True:
            for task in range(fenced, found[-1].tasks):
                with made(make, name(task)):
                    pass
            fenced = max(fenced, found[-1].tasks)
            # What was open is aborted now: all up to the end can be read.
            more = log.up_to(log.end(), clock)
            found += [owner_of(each, place[0]) for each in more]
            if found[-1].tasks <= fenced:
                break
        before = found[-1]
        probed = before.probed
        if tasks and (not probed or probed != producer.cluster):
            probe(make, topic, place, name("probe"), clock)
            probed = producer.cluster
        owner = TaskCountRecord(tasks, before.gen + 1, clock.wall_ms(), probed)
        writer = Writer(producer, *place)
        writer.write(fence_key(connector), msgspec.json.encode(owner))
        writer.end(True)
    return owner


def grow(
    make: Make,
    place: tuple[str, int],
    connector: str,
    owner: TaskCountRecord,
    name: str,
) -> TaskCountRecord:
    """
    More ids will be used by the same owner.

    Raises: as `take_over`.
    """
    with made(make, name) as producer:
        writer = Writer(producer, *place)
        writer.write(fence_key(connector), msgspec.json.encode(owner))
        writer.end(True)
    return owner


def current(
    topic: TopicReader, place: tuple[str, int], connector: str
) -> TaskCountRecord:
    """
    Who owns the connector, as far as records are committed just now.

    Raises: a SinkError, StateError.  Blocks: for a few requests.
    """
    log = Log(topic, place[1], fence_key(connector))
    end = log.end()
    records = log.readable()
    records += log.passed(end) or []
    return owner_of(records[-1] if records else None, place[0])


def probe(
    make: Make,
    topic: TopicReader,
    place: tuple[str, int],
    name: str,
    clock: Clock = SYSTEM,
) -> None:
    """
    Have the broker show that its transactions isolate, on the state topic.

    Its records have the id's name for their key; a tombstone is left behind.

    An aborted record must not be readable, a committed one must be, one of an open
    transaction must not; and who is fenced must not commit.  Where the first fails a
    task would believe a position that was aborted, and skip a page.

    Raises: Misconfigured, saying what it does not do; Unavailable.
    Blocks: for some round trips.
    """
    # Of its own: others may probe at the same time, in the same partition.
    key = msgspec.json.encode(name)
    log = Log(topic, place[1], key)
    log.position = log.end()
    with made(make, name) as first:
        writer = Writer(first, *place)
        writer.write(key, b'"aborted"')
        writer.end(False)
        writer.write(key, b'"committed"')
        writer.end(True)
        _require(
            [each.value for each in log.up_to(log.end(), clock)] == [b'"committed"'],
            "a record of an aborted transaction is readable, or one of a committed "
            "one is not",
        )
        writer.write(key, b'"fenced"')
        _require(not log.readable(), "a record of an open transaction is readable")
        with made(make, name) as second:
            try:
                writer.end(True)
            except SinkError:
                pass
            else:
                _require(False, "a producer that was fenced has committed")
            other = Writer(second, *place)
            other.write(key, None)
            other.end(True)
    values = [each.value for each in log.up_to(log.end(), clock)]
    _require(values == [None], "a record of a fenced producer is readable")


def _require(held: bool, what: str) -> None:
    if not held:
        raise Misconfigured(
            f"the broker's transactions do not isolate: {what}. Exactly once is not "
            "possible with it"
        )
