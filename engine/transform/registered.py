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
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from engine.clock import SYSTEM, Clock
from engine.errors import RecordError
from engine.language import EvaluationError
from engine.transform.convert import Converted
from engine.transform.registry import Schema, Schemas
from engine.transform.schemas import (
    NOTHING,
    Type,
    Unfit,
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


#: An item to its bytes; raises Unfit.
Write = Callable[[Any], bytes | bytearray]


class Writer(Protocol):
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
    One schema language.

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

    def writer(self, text: str) -> Writer:
        """
        The writer for a schema.

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
        self._writers: dict[str, Writer] = {}

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
        writer: Writer,
        text: str,
        items: Sequence[Any],
        alike: bool,
    ) -> list[Converted]:
        subject = subject_of(self._strategy, topic, self._side, writer.name)
        schema = self._form.schema(text, self._registry)
        number = self._registry.id_of(subject, schema)
        return _written(writer, number, items, alike)

    def _with_latest(
        self, topic: str, items: Sequence[Any], alike: bool
    ) -> Sequence[Converted] | None:
        """With the registry's schema; None if the subject has none yet."""
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
        return _written(self._writer(known.schema.text), known.id, items, alike)

    def _inferred(
        self, topic: str, items: Sequence[Any], alike: bool
    ) -> list[Converted]:
        """
        With the topic's schema as the records so far made it.

        A page that needs more widens it; the last one stays in use as long as
        it is enough, so that a version is made only where one is needed.
        """
        last = self._seen.get(topic)
        if last is not None:
            text = self._form.spell(last, record_name(topic))
            found = self._framed(topic, self._writer(text), text, items, alike)
            if not any(isinstance(each, RecordError) for each in found):
                return found
        types: list[Type | RecordError] = [
            NOTHING if item is None else self._infer(item) for item in items
        ]
        joined = NOTHING if last is None else last
        for each in types:
            if isinstance(each, Type):
                joined = join(joined, each)
        bad = {at: each for at, each in enumerate(types) if not isinstance(each, Type)}
        if joined != last:
            if self._may_change(topic, last is None):
                self._seen[topic] = joined
            else:
                assert last is not None
                joined = last
                for at, each in enumerate(types):
                    if isinstance(each, Type) and join(last, each) != last:
                        bad[at] = RecordError(
                            f"more than {VERSIONS} new schemas for {topic} in an hour",
                            stage="convert",
                        )
        try:
            text = self._form.spell(joined, record_name(topic))
        except Unfit as e:
            self._forget(topic, last)
            raise RecordError(f"schema: {e}", stage="convert") from e
        fine = [None if at in bad else item for at, item in enumerate(items)]
        try:
            found = self._framed(topic, self._writer(text), text, fine, alike)
        except RecordError:
            # Refused by the registry: the next page is judged anew.
            self._forget(topic, last)
            raise
        return [bad.get(at, each) for at, each in enumerate(found)]

    def _infer(self, item: Any) -> Type | RecordError:
        try:
            return infer(self._form.decoded(item))
        except (Unfit, EvaluationError) as e:
            return RecordError(f"schema: {e}", stage="convert")

    def _may_change(self, topic: str, first: bool) -> bool:
        if len(self._seen) >= _TOPICS and first:
            self._seen.pop(next(iter(self._seen)))
        now = self._clock.monotonic()
        changes = self._changes.setdefault(topic, deque())
        while changes and now - changes[0] >= _HOUR:
            changes.popleft()
        if len(changes) >= VERSIONS:
            return False
        if not first:
            changes.append(now)
        return True

    def _forget(self, topic: str, last: Type | None) -> None:
        if last is None:
            self._seen.pop(topic, None)
        else:
            self._seen[topic] = last

    def _writer(self, text: str) -> Writer:
        writer = self._writers.get(text)
        if writer is None:
            try:
                writer = self._form.writer(text)
            except Unfit as e:
                raise RecordError(f"schema: {e}", stage="convert") from e
            if len(self._writers) >= VERSIONS * VERSIONS:
                self._writers.pop(next(iter(self._writers)))
            self._writers[text] = writer
        return writer


def _written(
    writer: Writer, number: int, items: Sequence[Any], alike: bool
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
        except Unfit as e:
            found.append(RecordError(f"{writer.name}: {e}", stage="convert"))
    return found
