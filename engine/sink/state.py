"""
State: where each shard's offset is kept, in Kafka Connect's own format.

Owns the format: key `["<connector>",{partition}]`, value a flat map, null for
forgotten; a compacted topic or a directory of files.  Whatever cannot be read
is an error that names its place, never a reason to start over.

Path: loaded by the task before its first poll; saved by `sink.commit` behind
the acknowledgements.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Protocol, TypeAlias

import msgspec
from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Doubtful, Misconfigured, SinkError, StateError
from engine.records import Offset, Primitive
from engine.sink.commit import Delivery, Failure
from engine.sink.kafka import (
    Cluster,
    Stored,
    admin,
    create,
    describe,
    read_topic,
    write_records,
)
from engine.sink.murmur2 import partition_of

#: Version of the values; another one is not ours to read.
VERSION = 1

#: Fields of a value that are about the record and not the position.
OWN_FIELDS = frozenset({"v", "seq", "at", "once"})

#: First element of the key under which the topic's partition count is kept.
#: Connect's readers skip keys that are not a pair of name and map.
COUNT_KEY = b'"kafka-http-source-partitions"'

#: Seconds without a record until a load is given up: a transaction of another
#: task may be open so long, and 10 s more.
LOAD_LIMIT = 70.0

#: What to do about an offset that cannot be read.
REMEDY = "offsets reset forgets it"

encoder = msgspec.json.Encoder(order="sorted")


def canonical(partition: Mapping[str, str]) -> str:
    """A source partition as one text, equal for equal partitions."""
    return encoder.encode(dict(partition)).decode()


def key_of(connector: str, partition: Mapping[str, str]) -> bytes:
    """The record key, canonical: no blanks, names sorted."""
    return encoder.encode([connector, dict(partition)])


class Saved(Struct, frozen=True):
    """
    What is saved for a source partition.

    Attributes:
        partition: The source partition.
        offset: The position.
        seq: Counts the writes.
        at: When it was written, epoch milliseconds.
        place: Where it stands, for people.
        once: True if `run --once` wrote it.
    """

    partition: dict[str, str]
    offset: dict[str, Primitive]
    seq: int = 0
    at: int = 0
    place: str = ""
    once: bool = False


def parse(partition: dict[str, str], value: bytes, place: str) -> Saved:
    """
    Read a value.

    Raises: StateError, naming the place.
    """
    try:
        found = msgspec.json.decode(value, type=dict[str, Primitive])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StateError(
            f"the offset at {place} cannot be read: {error}; {REMEDY}"
        ) from error
    version = found.get("v")
    # A tool that sets offsets the Connect way knows nothing of our version.
    if version is not None and version != VERSION:
        raise StateError(
            f"the offset at {place} has the unknown version {version!r}; {REMEDY}"
        )
    seq, at = found.get("seq", 0), found.get("at", 0)
    if not isinstance(seq, int) or not isinstance(at, int):
        raise StateError(
            f"the offset at {place} has no whole numbers in seq and at; {REMEDY}"
        )
    position = {name: each for name, each in found.items() if name not in OWN_FIELDS}
    return Saved(partition, position, seq, at, place, found.get("once") is True)


def value_of(offset: Offset, seq: int, at: int, *, once: bool = False) -> bytes:
    """The record value of an offset."""
    own: Offset = {"v": VERSION, "seq": seq, "at": at}
    if once:
        own = {**own, "once": True}
    return encoder.encode({**offset, **own})


class State(Protocol):
    """One connector's offsets; also a `commit.Saver`."""

    def load(self) -> dict[str, Saved]:
        """
        All that is saved, by `canonical` partition.

        Raises: StateError, a SinkError.  Blocks: while it reads.
        """

    def read(self) -> dict[str, Saved]:
        """As `load`, by who only looks: makes and writes nothing."""

    def known(self) -> list[dict[str, str]]:
        """
        The partitions of all that is saved, also of what cannot be read.

        Makes and writes nothing.

        Raises, blocks: as `load`.
        """

    def reset(self, partitions: Sequence[Mapping[str, str]]) -> None:
        """
        Forget partitions; only while no task runs.

        Raises: as `load`.  Blocks: until it is written.
        """

    def save(
        self,
        delivery: Delivery,
        partition: Mapping[str, str],
        offset: Offset,
        done: Callable[[Failure], None],
    ) -> None:
        """As `commit.Saver`."""


class _Counter:
    """How often each source partition has been written."""

    def __init__(self, clock: Clock, once: bool) -> None:
        self._clock = clock
        self._once = once
        self._last: dict[str, int] = {}

    def loaded(self, found: Mapping[str, Saved]) -> None:
        """Go on behind what was loaded."""
        self._last.update((name, saved.seq) for name, saved in found.items())

    def next_value(self, partition: Mapping[str, str], offset: Offset) -> bytes:
        """The record value of the next write."""
        name = canonical(partition)
        self._last[name] = seq = self._last.get(name, 0) + 1
        return value_of(offset, seq, self._clock.wall_ms(), once=self._once)


#: A record of ours: its partition as `canonical` and as a mapping, and itself.
_Record: TypeAlias = tuple[str, dict[str, str], Stored]


class TopicState:
    """
    Offsets in a compacted topic, one record for each source partition.

    The partition of a record is Kafka's own choice for its key, since a tool of
    Connect writes there too: then its record replaces ours.
    """

    def __init__(
        self,
        cluster: Cluster,
        connector: str,
        topic: str,
        *,
        partitions: int = 25,
        replication: int = -1,
        once: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        """
        Args:
            partitions, replication: For creation (`offset.storage.*`).
            once: What is saved says that `run --once` did it.
        """
        self._cluster = cluster
        self._connector = connector
        self._topic = topic
        self._partitions = partitions
        self._replication = replication
        self._counter = _Counter(clock, once)
        self._count: int | None = None

    def load(self) -> dict[str, Saved]:
        """
        As `State`; creates the topic where it is missing.

        Raises: Misconfigured if the topic is not compacted or its partitions are
        not as many as when it was first used.
        """
        self._prepare()
        found = self._parsed(self._records(counting=True))
        self._counter.loaded(found)
        return found

    def read(self) -> dict[str, Saved]:
        """As `State`; a topic that is not there holds nothing."""
        return self._parsed(self._records()) if self._looked_up() else {}

    def known(self) -> list[dict[str, str]]:
        """As `State`."""
        latest = self._fold(self._records()) if self._looked_up() else {}
        return [
            partition for partition, each in latest.values() if each.value is not None
        ]

    def reset(self, partitions: Sequence[Mapping[str, str]]) -> None:
        """
        As `State`.

        Every spelling of a key is forgotten, since one left would come to life
        again once compaction has removed our tombstone.
        """
        self._prepare()
        names = {canonical(partition) for partition in partitions}
        spellings = {
            (stored.partition, stored.key)
            for name, _, stored in self._records()
            if name in names and stored.key is not None
        }
        write_records(
            self._cluster,
            self._topic,
            [(place, key, None) for place, key in sorted(spellings)],
        )

    def save(
        self,
        delivery: Delivery,
        partition: Mapping[str, str],
        offset: Offset,
        done: Callable[[Failure], None],
    ) -> None:
        """As `commit.Saver`: one record, sent at once; only after `load`."""
        assert self._count is not None
        key = key_of(self._connector, partition)
        value = self._counter.next_value(partition, offset)
        delivery.send(self._topic, partition_of(key, self._count), key, value, done)

    def _prepare(self) -> None:
        """Look the topic up, and create it where it is missing."""
        if self._looked_up():
            return
        with admin(self._cluster) as client:
            settings = {"cleanup.policy": "compact"}
            create(client, self._topic, self._partitions, self._replication, settings)
        if not self._looked_up():
            raise Doubtful(f"the state topic {self._topic} was created and is missing")

    def _looked_up(self) -> bool:
        """
        Whether the topic is there; then it is fit for offsets.

        Raises: Misconfigured if it is not compacted.
        """
        with admin(self._cluster) as client:
            found = describe(client, [self._topic]).get(self._topic)
        if found is None:
            return False
        # A broker that keeps its settings to itself answers with an empty set.
        if found.cleanup not in ("compact", ""):
            raise Misconfigured(
                f"the state topic {self._topic} has cleanup.policy={found.cleanup}; "
                "it must be compact, or offsets get lost"
            )
        self._count = found.partitions
        return True

    def _records(self, *, counting: bool = False) -> Iterator[_Record]:
        """
        Our records.

        Args:
            counting: Write the count of partitions where it is not written yet.

        Raises: Misconfigured, behind the last, if the topic was first used with
        another count of partitions.
        """
        assert self._count is not None
        counted = None
        for stored in read_topic(self._cluster, self._topic, LOAD_LIMIT):
            if stored.key == COUNT_KEY:
                counted = stored.value
                continue
            place = f"{self._topic}-{stored.partition} offset {stored.offset}"
            partition = self._ours(stored.key, place)
            if partition is not None:
                yield canonical(partition), partition, stored
        expected = str(self._count).encode()
        if counted is None and counting:
            where = partition_of(COUNT_KEY, self._count)
            write_records(self._cluster, self._topic, [(where, COUNT_KEY, expected)])
        elif counted not in (None, expected):
            before, self._count = self._count, int(counted)
            raise self._recounted(before)

    def _ours(self, key: bytes | None, place: str) -> dict[str, str] | None:
        """The source partition of a key of this connector, else None."""
        try:
            parsed = msgspec.json.decode(key or b"")
        except msgspec.DecodeError as error:
            raise StateError(f"the key at {place} cannot be read: {error}") from error
        # Connect's readers skip what is no pair of name and map, and so do we.
        if not isinstance(parsed, list) or len(parsed) != 2:
            return None
        if parsed[0] != self._connector:
            return None
        try:
            return msgspec.convert(parsed[1], dict[str, str])
        except msgspec.ValidationError as error:
            raise StateError(f"the key at {place} cannot be read: {error}") from error

    def _parsed(self, records: Iterable[_Record]) -> dict[str, Saved]:
        found = {}
        for name, (partition, stored) in self._fold(records).items():
            if stored.value is not None:
                place = f"{self._topic}-{stored.partition} offset {stored.offset}"
                found[name] = parse(partition, stored.value, place)
        return found

    def _fold(
        self, records: Iterable[_Record]
    ) -> dict[str, tuple[dict[str, str], Stored]]:
        latest: dict[str, tuple[dict[str, str], Stored]] = {}
        for name, partition, stored in records:
            known = latest.get(name)
            # Another spelling of a key may stand in another partition: there
            # the time of writing tells which is newer.
            if known is None or known[1].timestamp <= stored.timestamp:
                latest[name] = partition, stored
        return latest

    def _recounted(self, count: int) -> Misconfigured:
        return Misconfigured(
            f"the state topic {self._topic} has {count} partitions, but was first "
            f"used with {self._count}: offsets would be looked for in the wrong one"
        )


class FileState:
    """
    Offsets in a directory, one file for each source partition.

    A file is a checksum and a line of JSON, the same key and value as in a
    topic.  It is replaced whole, and the version before stays beside it.
    """

    def __init__(
        self,
        directory: Path,
        connector: str,
        *,
        once: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        """
        Args:
            once: As `TopicState`.
        """
        self._directory = directory
        self._connector = connector
        self._counter = _Counter(clock, once)
        self._writer: ThreadPoolExecutor | None = None

    def load(self) -> dict[str, Saved]:
        """As `State`; makes the directory where it is missing."""
        with self._naming():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.read()
        self._counter.loaded(found)
        return found

    def read(self) -> dict[str, Saved]:
        """As `State`."""
        return {
            canonical(partition): parse(partition, value, str(path))
            for path, partition, value in self._files()
        }

    def known(self) -> list[dict[str, str]]:
        """As `State`, but a file whose checksum is wrong may be anybody's."""
        return [partition for _, partition, _ in self._files()]

    def _files(self) -> Iterator[tuple[Path, dict[str, str], bytes]]:
        """Path, partition and value of each of our files."""
        with self._naming():
            paths = sorted(self._directory.glob("*.offset"))
            texts = [(path, path.read_bytes()) for path in paths]
        for path, text in texts:
            connector, partition, value = _unpacked(path, text)
            if connector == self._connector:
                yield path, partition, value

    def reset(self, partitions: Sequence[Mapping[str, str]]) -> None:
        """As `State`."""
        with self._naming():
            for partition in partitions:
                path = self._path(partition)
                if path.exists():
                    os.replace(path, path.with_suffix(".before"))
            _sync(self._directory)

    def save(
        self,
        delivery: Delivery,
        partition: Mapping[str, str],
        offset: Offset,
        done: Callable[[Failure], None],
    ) -> None:
        """As `commit.Saver`; by a thread of its own, since a disk is slow."""
        if self._writer is None:
            # Made by the process that uses it: a thread does not survive a fork.
            self._writer = ThreadPoolExecutor(1, "state")
        value = self._counter.next_value(partition, offset)
        work = self._writer.submit(self._write, partition, value)
        work.add_done_callback(lambda ended: done(_failure(ended.exception())))

    def _write(self, partition: Mapping[str, str], value: bytes) -> None:
        text = key_of(self._connector, partition)[:-1] + b"," + value + b"]"
        path = self._path(partition)
        fresh, before = path.with_suffix(".new"), path.with_suffix(".before")
        with self._naming():
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(fresh, flags, 0o600), "wb") as file:
                file.write(b"%08x %b\n" % (zlib.crc32(text), text))
                file.flush()
                os.fsync(file.fileno())
            # The version before is linked first, so that at no moment is there none.
            with suppress(FileNotFoundError):
                before.unlink()
            with suppress(FileNotFoundError):
                os.link(path, before)
            os.replace(fresh, path)
            _sync(self._directory)

    def _path(self, partition: Mapping[str, str]) -> Path:
        key = key_of(self._connector, partition)
        return self._directory / f"{sha256(key).hexdigest()[:32]}.offset"

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Doubtful(f"state in {self._directory}: {error}") from error


def _failure(error: BaseException | None) -> Failure:
    if error is None or isinstance(error, (SinkError, StateError)):
        return error
    return Doubtful(f"saving state: {error!r}")


def _unpacked(path: Path, text: bytes) -> tuple[str, dict[str, str], bytes]:
    """Connector, partition and value of a file, its checksum proven."""
    sum_, _, line = text.rstrip(b"\n").partition(b" ")
    try:
        if int(sum_, 16) != zlib.crc32(line):
            raise ValueError("its checksum is wrong")
        connector, partition, value = msgspec.json.decode(
            line, type=tuple[str, dict[str, str], msgspec.Raw]
        )
    except (ValueError, msgspec.MsgspecError) as error:
        before = path.with_suffix(".before")
        remedy = f"put {before}, the version before it, in its place"
        if not before.exists():
            remedy = "remove it to start over"
        raise StateError(
            f"the offset in {path} cannot be read: {error}; {remedy}"
        ) from error
    return connector, partition, bytes(value)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
