"""
State topic: a connector's offsets in a compacted topic, as Kafka Connect's.

Owns the topic: how it is made so that it stays small, what it lacks, which of
its records are ours and which of them counts.  Many engines and other tools
write there too; what is theirs is passed over.

Path: `sink.state` says what is kept -> here -> `sink.reading`
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Doubtful, Misconfigured, StateError
from engine.records import Offset
from engine.sink import reading as readings
from engine.sink.fencing import TaskCountRecord, fence_key, owner_of
from engine.sink.fetching import TopicReader, opened
from engine.sink.kafka import Cluster, admin, create, describe, topic_settings
from engine.sink.murmur2 import partition_of
from engine.sink.produce.producer import Producer
from engine.sink.produce.writing import put_records, write_records
from engine.sink.reading import Progress, Reading
from engine.sink.rivals import Rivals
from engine.sink.scan import Record
from engine.sink.seams import Failure, Sending
from engine.sink.shelving import SharedReading, UnsharedReading
from engine.sink.state import COUNT_KEY, Counter, Saved, canonical, key_of, parse
from engine.sink.statesettings import SETTINGS, exceeds

#: Records above which it is said that the topic is large.
MANY = 500_000


class StateRecord(Struct, frozen=True):
    """
    A record of ours.

    Attributes:
        partition: The source partition.
        key: As it was written.
        record: The newest of that key.
    """

    partition: dict[str, str]
    key: bytes
    record: Record


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
        settings: Mapping[str, str] = SETTINGS,
        stated: bool = False,
        once: bool = False,
        siblings: Sequence[str] = (),
        shared_reading: SharedReading | None = None,
        say: Callable[[str], None] = lambda text: None,
        producer: Producer | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        """
        Args:
            partitions, replication, settings: For creation (`offset.storage.*`).
            stated: The settings are the user's own: a broker that refuses them is
                not asked again without them.
            once: What is saved says that `run --once` did it.
            siblings: The other connectors of this engine that use the topic.
            shared_reading: Where their tasks keep one reading for all.
            say: Takes a warning.
            producer: Writes what `load` has to, None for one of its own.
        """
        self._cluster = cluster
        self._connector = connector
        self._topic = topic
        self._producer = producer
        self._partitions = partitions
        self._replication = replication
        self._settings = settings
        self._stated = stated
        self._names = (connector, *siblings)
        self._shared_reading = (
            UnsharedReading() if shared_reading is None else shared_reading
        )
        self._say = say
        self._counter = Counter(clock, once)
        self._count: int | None = None
        self._reading: Reading | None = None
        self._clock = clock
        self._rivals: Rivals | None = None

    def load(self, progress: Progress = lambda done, total: None) -> dict[str, Saved]:
        """
        As `State`; creates the topic where it is missing.

        Raises: Misconfigured if the topic is not compacted or its partitions are
        not as many as when it was first used.
        """
        with self._shared_reading.holding(progress):
            if not self._looked_up():
                self._make()
            self._read(progress)
            self._require_count()
            assert self._reading is not None
            self._shared_reading.keep(readings.kept(self._reading))
        found = self._parsed()
        self._counter.loaded(found)
        self._rivals = Rivals(
            self._cluster,
            self._connector,
            self._topic,
            self._reading.positions,
            self._clock.wall_ms(),
            clock=self._clock,
        )
        return found

    @property
    def owner(self) -> TaskCountRecord:
        """
        Whose the connector is, by what was loaded.

        Raises: StateError.
        """
        assert self._reading is not None
        record = self._reading.records.get(fence_key(self._connector))
        return owner_of(record, self._topic)

    @contextmanager
    def log(self) -> Iterator[tuple[TopicReader, tuple[str, int]]]:
        """
        The topic, and where in it the connector's task-count record has its place.

        Raises: as `load`; creates the topic where it is missing.
        """
        if not self._looked_up():
            self._make()
        assert self._count is not None
        at = partition_of(fence_key(self._connector), self._count)
        with opened(self._cluster, self._topic) as topic:
            yield topic, (self._topic, at)

    def able(self) -> str:
        """As `State`; the broker is waited for elsewhere."""
        return ""

    def own(
        self,
        partitions: Iterable[Mapping[str, str]],
        generation: int | None = None,
    ) -> None:
        """As `State`."""
        assert self._rivals is not None and self._count is not None
        if generation is not None:
            place = partition_of(fence_key(self._connector), self._count)
            self._rivals.owned(generation, place)
        keys = [key_of(self._connector, each) for each in partitions]
        self._rivals.own((key, partition_of(key, self._count)) for key in keys)

    def rival(self) -> str:
        """As `State`: what stands under our keys that we did not write."""
        return "" if self._rivals is None else self._rivals.look()

    def read(self) -> dict[str, Saved]:
        """As `State`; a topic that is not there holds nothing."""
        if not self._looked_up():
            return {}
        self._read()
        self._require_count(writing=False)
        return self._parsed()

    def known(self) -> list[dict[str, str]]:
        """As `State`."""
        if not self._looked_up():
            return []
        self._read()
        self._require_count(writing=False)
        return [
            each.partition
            for each in self._newest().values()
            if each.record.value is not None
        ]

    def reset(self, partitions: Sequence[Mapping[str, str]]) -> None:
        """
        As `State`.

        Every spelling of a key is forgotten, since one left would come to life
        again once compaction has removed our tombstone.
        """
        if not self._looked_up():
            self._make()
        self._read()
        self._require_count()
        names = {canonical(partition) for partition in partitions}
        spellings = sorted(
            (each.record.partition, each.key)
            for each in self._ours()
            if canonical(each.partition) in names
        )
        write_records(
            self._cluster,
            self._topic,
            [(place, key, None) for place, key in spellings],
        )

    def put(self, entries: Sequence[tuple[Mapping[str, str], Offset | None]]) -> None:
        """
        As `State`.

        Written under the one spelling of the key that we use; others, as other
        tools write them, are forgotten, so that no second one counts.
        """
        if not self._looked_up():
            self._make()
        self._read()
        self._require_count()
        assert self._count is not None
        spellings: dict[str, list[StateRecord]] = {}
        for found in self._ours():
            spellings.setdefault(canonical(found.partition), []).append(found)
        newest = self._newest()
        records: list[tuple[int, bytes, bytes | None]] = []
        for partition, offset in entries:
            name, key = canonical(partition), key_of(self._connector, partition)
            place = partition_of(key, self._count)
            for found in spellings.get(name, ()):
                if offset is None or (found.record.partition, found.key) != (
                    place,
                    key,
                ):
                    records.append((found.record.partition, found.key, None))
            if offset is not None:
                seq = _seq(newest.get(name))
                records.append((place, key, self._counter.set_value(seq, offset)))
        write_records(self._cluster, self._topic, records)

    def save(
        self,
        delivery: Sending,
        partition: Mapping[str, str],
        offset: Offset,
        done: Callable[[Failure], None],
    ) -> None:
        """As `seams.Saver`: one record, sent at once; only after `load`."""
        self._send(
            delivery, partition, self._counter.next_value(partition, offset), done
        )

    def forget(
        self,
        delivery: Sending,
        partition: Mapping[str, str],
        done: Callable[[Failure], None],
    ) -> None:
        """As `seams.Saver`: a tombstone."""
        self._counter.forgotten(partition)
        self._send(delivery, partition, None, done)

    def _send(
        self,
        delivery: Sending,
        partition: Mapping[str, str],
        value: bytes | None,
        done: Callable[[Failure], None],
    ) -> None:
        assert self._count is not None
        key = key_of(self._connector, partition)
        place = partition_of(key, self._count)
        if self._rivals is not None:
            # Before it is sent: it may be looked at before this goes on.
            self._rivals.mine(key, place, value)
        delivery.send(self._topic, place, key, value, done)

    # -- the topic ---------------------------------------------------------------

    def _make(self) -> None:
        """Create it; a broker that does not take our settings makes it without."""
        wanted = {"cleanup.policy": "compact", **self._settings}
        with admin(self._cluster) as client:
            try:
                create(client, self._topic, self._partitions, self._replication, wanted)
            except Misconfigured as error:
                if self._stated:
                    raise
                only = {"cleanup.policy": "compact"}
                create(client, self._topic, self._partitions, self._replication, only)
                self._say(
                    f"The state topic {self._topic} was created without the settings "
                    f"that keep it small, which the broker refuses: {error}. State "
                    "offset.storage.<setting> with values that it takes."
                )
        if not self._looked_up():
            raise Doubtful(f"the state topic {self._topic} was created and is missing")

    def lacks(self) -> dict[str, tuple[str, str]]:
        """
        Settings with which an existing topic grows: name -> (found, wanted).

        Empty if there is no such topic, or no right to see its settings.

        Raises: Misconfigured if it is not compacted; Unavailable.
        """
        if not self._looked_up():
            return {}
        with admin(self._cluster) as client:
            found = topic_settings(client, self._topic)
        return {
            name: (found[name], self._settings[name])
            for name in SETTINGS
            if name in found and exceeds(found[name], self._settings[name])
        }

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

    def _require_count(self, *, writing: bool = True) -> None:
        """
        Hold the topic to the count of partitions that it was first used with.

        Args:
            writing: Write the count where it is not written yet.

        Raises: Misconfigured if it has another.
        """
        assert self._count is not None and self._reading is not None
        expected = str(self._count).encode()
        counted = self._reading.records.get(COUNT_KEY)
        if counted is None or counted.value is None:
            if writing:
                where = partition_of(COUNT_KEY, self._count)
                record = where, COUNT_KEY, expected
                if self._producer is not None:
                    put_records(self._producer, self._topic, [record])
                else:
                    write_records(self._cluster, self._topic, [record])
        elif counted.value != expected:
            raise Misconfigured(
                f"the state topic {self._topic} has {self._count} partitions, but was "
                f"first used with {counted.value.decode(errors='replace')}: offsets "
                "would be looked for in the wrong one"
            )

    # -- its records -------------------------------------------------------------

    def _read(self, progress: Progress = lambda done, total: None) -> None:
        """Read on from what this process, or another of the engine, has read."""
        shared_reading = self._shared_reading
        if self._reading is None:
            self._reading = readings.unkept(
                shared_reading.taken(), self._topic, self._names
            )
        reading = self._reading
        known = reading.strange
        most = 0

        def told(done: int, total: int) -> None:
            nonlocal most
            most = total
            shared_reading.told(done, total)
            progress(done, total)

        with opened(self._cluster, self._topic) as topic:
            readings.read_on(
                topic,
                reading,
                (COUNT_KEY, *map(fence_key, self._names)),
                progress=told,
                keep=lambda partial: shared_reading.keep(readings.kept(partial)),
            )
        self._say_many(most)
        strange = reading.strange
        if strange is not None and known is None:
            self._say(
                f"The state topic {self._topic} holds keys that are no JSON "
                f"({self._topic}-{strange.partition} offset {strange.offset}): another "
                "tool writes there. They are passed over."
            )

    def _ours(self) -> Iterator[StateRecord]:
        """
        The newest record of each spelling of a key of this connector.

        Raises: StateError for a key that begins as ours and is none.
        """
        assert self._reading is not None
        for key, record in self._reading.records.items():
            partition = self._partition(key, record)
            if partition is not None:
                yield StateRecord(partition, key, record)

    def _partition(self, key: bytes, record: Record) -> dict[str, str] | None:
        """The source partition of a key of this connector, else None."""
        try:
            parsed = msgspec.json.decode(key)
            # Connect's readers skip what is no pair of name and map, and so do we.
            if not isinstance(parsed, list) or len(parsed) != 2:
                return None
            if parsed[0] != self._connector or not isinstance(parsed[1], dict):
                return None
            return msgspec.convert(parsed[1], dict[str, str])
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            if record.value is None or not self._begins_ours(key):
                return None
            raise StateError(
                f"the key at {self._place(record)} cannot be read: {error}; a record "
                "with the same key and no value removes it"
            ) from error

    def _begins_ours(self, key: bytes) -> bool:
        """A sibling's broken key is the sibling's affair."""
        name = msgspec.json.encode(self._connector)
        return key.lstrip(b"[ \t\r\n").startswith(name)

    def _newest(self) -> dict[str, StateRecord]:
        """The record that counts, of all spellings of a key."""
        newest: dict[str, StateRecord] = {}
        for found in self._ours():
            name = canonical(found.partition)
            known = newest.get(name)
            if known is None or readings.newer(found.record, known.record):
                newest[name] = found
        return newest

    def _parsed(self) -> dict[str, Saved]:
        """Raises: StateError for a value that cannot be read."""
        return {
            name: parse(found.partition, value, self._place(found.record))
            for name, found in self._newest().items()
            if (value := found.record.value) is not None
        }

    def _say_many(self, total: int) -> None:
        if total >= MANY:
            self._say(
                f"The state topic {self._topic} held {total:,} records to read: it is "
                "compacted late. `check --connect` says whether it lacks a setting."
            )

    def _place(self, record: Record) -> str:
        return f"{self._topic}-{record.partition} offset {record.offset}"


def _seq(found: StateRecord | None) -> int:
    """How often what is there was written; 0 for what cannot be read."""
    if found is None or found.record.value is None:
        return 0
    try:
        return parse(found.partition, found.record.value, "").seq
    except StateError:
        return 0
