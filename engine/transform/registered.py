"""
Registered: values with a schema, in the registry's wire format.

Owns the frame (byte 0, the schema's id), which schema a page is written with
(given, inferred and widened, or the registry's latest), and the limit on new
versions.  What a schema language is, is a `Format`'s to know.

Path: `compile` -> here -> `registry`, `schemas`; formats: `avro`,
`jsonschema`, `protobuf`
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from engine.clock import SYSTEM, Clock
from engine.errors import RecordError
from engine.language import EvaluationError
from engine.transform.convert import Converted
from engine.transform.registry import Schema, Schemas
from engine.transform.schemas import (
    NOTHING,
    SchemaMismatch,
    Type,
    infer,
    join,
    record_name,
    subject_of,
)

#: New versions of an inferred schema, a topic and an hour; more are a sign
#: that the data has no schema.
VERSIONS: Final = 10
_HOUR: Final = 3600.0

#: Topics whose inferred schema is remembered.
_TOPICS: Final = 10_000

#: Seconds for which a refused type is not asked about again: long enough that
#: a page does not cost a question, short enough for who changes the registry.
_MEMORY: Final = 60.0


#: An item to its bytes; raises Unfit.
Write = Callable[[Any], bytes | bytearray]


class RegisteredWriter(Protocol):
    """
    Encodes with one schema.

    Attributes:
        name: The record's full name, for subjects.
        prefix: Bytes behind the id (Protobuf's message index).
    """

    name: str
    prefix: bytes

    def write(self, item: Any) -> bytes | bytearray:
        """
        Raises: Unfit: the value is not of the schema.
        """

    def like(self, item: dict[str, Any]) -> Write:
        """`write` for dicts of the same names and types as this one."""


class Format(Protocol):
    """
    One schema language: how its schemas are read, inferred and written by.

    Attributes:
        kind: As the registry calls it.
        values, exact: As `convert.Converter` has them.
    """

    kind: str
    values: bool
    exact: bool

    def spell(self, seen: Type, name: str) -> str:
        """
        A schema for an inferred type.

        Raises: Unfit.
        """

    def writer(self, text: str, *, inferred: bool = False) -> RegisteredWriter:
        """
        The writer for a schema.

        Args:
            inferred: `spell` wrote it; nothing may be lost then, where a given
                schema may ask for a double.

        Raises: Unfit: no such schema.
        """

    def decoded(self, item: Any) -> Any:
        """An item as a value, to infer from."""

    def schema(self, text: str, schemas: Schemas) -> Schema:
        """The schema as the registry wants it, what it imports registered."""


class Registered:
    """
    A converter over a Schema Registry.

    Args:
        form: The schema language.
        registry: Where schemas have their ids.
        side: key or value.
        strategy: TopicName, RecordName or TopicRecordName.
        given: The schema's text, or None: it is inferred.
        latest: `use.latest.version`.
        clock: For the limit on new versions.
    """

    plain = False

    def __init__(
        self,
        form: Format,
        registry: Schemas,
        *,
        side: str,
        strategy: str = "TopicName",
        given: str | None = None,
        latest: bool = False,
        clock: Clock = SYSTEM,
    ):
        self.values = form.values
        self.exact = form.exact
        self._form = form
        self._registry = registry
        self._side = side
        self._strategy = strategy
        self._given = None if given is None else form.writer(given)
        self._given_text = given
        self._latest = latest
        self._clock = clock
        #: What each topic's records were so far, and when it last changed.
        self._seen: dict[str, Type] = {}
        self._changes: dict[str, deque[float]] = {}
        #: The types of each topic's keys, in order of appearance.
        self._own: dict[str, dict[Type, None]] = {}
        #: What the registry would not take, and until when it is not asked.
        self._refused: dict[tuple[str, Type], tuple[RecordError, float]] = {}
        self._writers: dict[str, RegisteredWriter] = {}

    def convert(
        self, topic: str, items: Sequence[Any], *, alike: bool = False
    ) -> Sequence[Converted]:
        try:
            if self._latest:
                found = self._with_latest(topic, items, alike)
                if found is not None:
                    return found
            if self._given is not None:
                assert self._given_text is not None
                text = self._given_text
                return self._framed(topic, self._given, text, items, alike)
            return self._inferred(topic, items, alike)
        except RecordError as error:
            # The schema is at fault, and with it each of the page's records.
            return [None if item is None else error for item in items]

    def _framed(
        self,
        topic: str,
        writer: RegisteredWriter,
        text: str,
        items: Sequence[Any],
        alike: bool,
    ) -> list[Converted]:
        return _written(writer, self._number(topic, writer, text), items, alike)

    def _number(self, topic: str, writer: RegisteredWriter, text: str) -> int:
        """
        The id under which the registry knows the schema.

        Raises: RecordError: the registry refuses it.
        """
        subject = subject_of(self._strategy, topic, self._side, writer.name)
        return self._registry.id_of(subject, self._form.schema(text, self._registry))

    def _with_latest(
        self, topic: str, items: Sequence[Any], alike: bool
    ) -> Sequence[Converted] | None:
        """
        The items, converted by the registry's newest schema; None if the subject has none yet.
        """
        name = record_name(topic) if self._given is None else self._given.name
        subject = subject_of(self._strategy, topic, self._side, name)
        known = self._registry.latest(subject)
        if known is None:
            return None
        if known.schema.kind != self._form.kind:
            raise RecordError(
                f"schema registry: {subject} is {known.schema.kind},"
                f" not {self._form.kind}",
                stage="convert",
            )
        if self._given is not None and self._form.kind == "PROTOBUF":
            return _written(self._given, known.id, items, alike)
        writer = self._writer(known.schema.text, inferred=False)
        return _written(writer, known.id, items, alike)

    def _inferred(
        self, topic: str, items: Sequence[Any], alike: bool
    ) -> list[Converted]:
        """
        The items, converted by the topic's schema as the records so far have made it.

        A page that needs more widens it; the last one stays in use as long as
        it is enough, so that a version is made only where one is needed.  A
        key has the schema of its own type: its bytes decide its partition and
        must not depend on the keys beside it.
        """
        if self._side == "key":
            return self._each_its_own(topic, items)
        last = self._seen.get(topic)
        found: list[Converted] = list(items)
        open_places = [at for at, item in enumerate(items) if item is not None]
        if last is not None:
            found = self._as(topic, last, items, alike)
            open_places = [
                at for at, each in enumerate(found) if isinstance(each, RecordError)
            ]
            if not open_places:
                return found
        elif not open_places:
            return found
        types: dict[int, Type] = {}
        for at in open_places:
            known = self._infer(topic, items[at])
            if isinstance(known, Type):
                types[at] = known
            else:
                found[at] = known
        if not types:
            return found
        refused: dict[Type, RecordError] = {}
        ready = self._widened(topic, last, types.values(), refused)
        for at, known in types.items():
            if known in refused:
                found[at] = refused[known]
        if ready is None:
            return found
        fine = [
            None if isinstance(each, RecordError) and at not in types else item
            for at, (item, each) in enumerate(zip(items, found, strict=True))
        ]
        for at, known in types.items():
            if known in refused:
                fine[at] = None
        written = _written(*ready, fine, alike)
        return [
            found[at] if fine[at] is None else each for at, each in enumerate(written)
        ]

    def _as(
        self, topic: str, seen: Type, items: Sequence[Any], alike: bool
    ) -> list[Converted]:
        """
        The items with the schema of a type.

        Raises: RecordError: the registry refuses it.
        """
        text = self._form.spell(seen, record_name(topic))
        return self._framed(topic, self._writer(text), text, items, alike)

    def _widened(
        self,
        topic: str,
        last: Type | None,
        types: Iterable[Type],
        refused: dict[Type, RecordError],
    ) -> tuple[RegisteredWriter, int] | None:
        """
        Widen the topic's type by as many of these as there may be.

        All together are tried first; where the registry refuses that, one
        after the other, so that a type it does not take costs no other.

        Returns: The writer for it and the schema's id; None if nothing new came
        into it.
        """
        wanted = list(dict.fromkeys(types))
        start = NOTHING if last is None else last
        for each in wanted:
            if (known := self._refused.get((topic, each))) is not None:
                error, until = known
                if self._clock.monotonic() < until:
                    refused[each] = error
        wanted = [each for each in wanted if each not in refused]
        if not wanted:
            return None
        joined = start
        for each in wanted:
            joined = join(joined, each)
        if joined == last:
            return None
        if not self._may_change(topic):
            for each in wanted:
                refused[each] = RecordError(
                    f"more than {VERSIONS} new schemas for {topic} in an hour",
                    stage="convert",
                )
            return None
        reason = self._tried(topic, joined)
        if not isinstance(reason, RecordError):
            self._changed(topic, last is None)
            self._seen[topic] = joined
            return reason
        joined, taken = start, last is not None
        ready: tuple[RegisteredWriter, int] | None = None
        for count, each in enumerate(wanted):
            if count < VERSIONS and len(wanted) > 1:
                candidate = join(joined, each)
                if taken and candidate == joined:
                    continue
                said = self._tried(topic, candidate)
                if not isinstance(said, RecordError):
                    joined, taken, ready = candidate, True, said
                    continue
                reason = said
            refused[each] = reason
            if len(self._refused) >= _TOPICS:
                self._refused.pop(next(iter(self._refused)))
            self._refused[topic, each] = (reason, self._clock.monotonic() + _MEMORY)
        if ready is not None:
            self._changed(topic, last is None)
            self._seen[topic] = joined
        return ready

    def _tried(
        self, topic: str, seen: Type
    ) -> tuple[RegisteredWriter, int] | RecordError:
        """The writer for a type and the schema's id, or why there is none."""
        try:
            text = self._form.spell(seen, record_name(topic))
            writer = self._writer(text)
            return writer, self._number(topic, writer, text)
        except SchemaMismatch as e:
            return RecordError(f"schema: {e}", stage="convert")
        except RecordError as e:
            return e

    def _each_its_own(self, topic: str, items: Sequence[Any]) -> list[Converted]:
        """Every item with the schema of its own type."""
        places: dict[Type, list[int]] = {}
        found: list[Converted] = [None] * len(items)
        for at, item in enumerate(items):
            if item is None:
                continue
            known = self._infer(topic, item)
            if isinstance(known, Type):
                places.setdefault(known, []).append(at)
            else:
                found[at] = known
        own = self._own.setdefault(topic, {})
        for seen, where in places.items():
            try:
                if seen not in own and not self._may_change(topic):
                    raise RecordError(
                        f"more than {VERSIONS} new schemas for the keys of"
                        f" {topic} in an hour",
                        stage="convert",
                    )
                written = self._as(topic, seen, [items[at] for at in where], False)
                if seen not in own:
                    self._changed(topic, not own)
                    own[seen] = None
                for at, each in zip(where, written, strict=True):
                    found[at] = each
            except RecordError as error:
                for at in where:
                    found[at] = error
        while len(self._own) > _TOPICS:
            self._own.pop(next(iter(self._own)))
        return found

    def _infer(self, topic: str, item: Any) -> Type | RecordError:
        """An item's type, if the schema language has words for it."""
        try:
            seen = infer(self._form.decoded(item))
            self._form.spell(seen, record_name(topic))
        except (SchemaMismatch, EvaluationError) as e:
            return RecordError(f"schema: {e}", stage="convert")
        return seen

    def _may_change(self, topic: str) -> bool:
        """Are there versions left in this hour?"""
        now = self._clock.monotonic()
        changes = self._changes.setdefault(topic, deque())
        while changes and now - changes[0] >= _HOUR:
            changes.popleft()
        return len(changes) < VERSIONS

    def _changed(self, topic: str, first: bool) -> None:
        """The registry took a schema; the first of a topic counts as none."""
        if first:
            while len(self._seen) >= _TOPICS:
                self._seen.pop(next(iter(self._seen)))
            return
        self._changes.setdefault(topic, deque()).append(self._clock.monotonic())

    def _writer(self, text: str, inferred: bool = True) -> RegisteredWriter:
        writer = self._writers.get(text)
        if writer is None:
            try:
                writer = self._form.writer(text, inferred=inferred)
            except SchemaMismatch as e:
                raise RecordError(f"schema: {e}", stage="convert") from e
            if len(self._writers) >= VERSIONS * VERSIONS:
                self._writers.pop(next(iter(self._writers)))
            self._writers[text] = writer
        return writer


def _written(
    writer: RegisteredWriter, number: int, items: Sequence[Any], alike: bool
) -> list[Converted]:
    head = b"\0" + number.to_bytes(4, "big") + writer.prefix
    first = next((item for item in items if item is not None), None)
    write = writer.like(first) if alike and first is not None else writer.write
    found: list[Converted] = []
    for item in items:
        if item is None:
            found.append(None)
            continue
        try:
            found.append(head + write(item))
        except SchemaMismatch as e:
            found.append(RecordError(f"{writer.name}: {e}", stage="convert"))
    return found
