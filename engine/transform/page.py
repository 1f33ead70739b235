"""
Page: what the transformation of a shard does with one page.

A page without rules costs two C calls; a page with rules goes through the typed path
where it was compiled, record by record through the general one where that gives up.
Nothing of a page is handed on before all of it is done.

Owns the order in which the records of a page are judged, routed, converted, measured
and told apart from others, the fast path beside the general one, and what holds for
all records of a page.  It is one class, and long: each of its steps shares the columns
of the page, and a page that passes unchanged leaves it after the first few lines.

Path: `compile` made it -> ``task.path`` calls -> here -> `loops`, `general`, `convert`,
`route`, `dedup`
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from copy import copy
from datetime import tzinfo
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from engine.errors import RecordError
from engine.language import (
    MISSING,
    EvaluationError,
    Path,
    decode,
)
from engine.language.values import encode, opened
from engine.records import DeadLetter, KafkaHeaders, Page, Parcel, Shard
from engine.transform import general
from engine.transform.columns import Columns
from engine.transform.convert import (
    Converter,
    JsonKey,
    JsonText,
    TextKey,
)
from engine.transform.dedup import Seen, digest
from engine.transform.function import (
    Context,
    call_page,
    call_record,
    for_function,
    from_function,
)
from engine.transform.general import Scope
from engine.transform.loops import Typed
from engine.transform.route import Provenance, RecordRouter, varies
from engine.transform.rules import NULL, Rules

#: Characters of a value in a line of `transformation.debug.enabled`.
_SHOWN: Final = 1000


#: Records of a page that get such a line.
_LINES: Final = 10


_PLAIN: Final = msgspec.json.Decoder()


class Step(Struct, frozen=True):
    """
    What became of one record, for people.

    Attributes:
        index: Its place in the page, from 0.
        before: As received.
        after: JSON before the converter, None: it was not produced.
        outcome: produced, filtered, failed or deduplicated.
        stage: Where it failed, or "".
        rule: The rule that left it out or failed it, or "".
        message: What was wrong, or "".
    """

    index: int
    before: bytes
    after: bytes | None
    outcome: str
    stage: str = ""
    rule: str = ""
    message: str = ""


class Constant(Struct):
    """What is the same for every record of a page; `size` is the headers'."""

    topic: str
    stamp: int
    headers: KafkaHeaders
    size: int


class TransformParts(Struct, frozen=True, kw_only=True):
    """
    What compiling has made of a shard's options.

    Attributes:
        connector: Its name for people, where it is not the shard's.
        function: The user's own, called for each `function_unit`.
        record_limit: As `PageTransform.record_limit`.
        window: Writes the bounds of a window.
        seen, seen_fields: What de-duplication knows, and what makes two records the
            same; None: it is off, the whole record.
        loops: The fast path, None: these rules have none.
    """

    shard: Shard
    connector: str
    rules: Rules
    routes: RecordRouter
    value_converter: Converter
    key_converter: TextKey | JsonKey
    function: Callable[..., Any] | None
    function_unit: str
    provenance: bool
    batch_size: int
    record_limit: int
    tolerant: bool
    debug: bool
    mask: Callable[[str], str]
    zone: tzinfo
    window: Callable[[int], Any]
    seen: Seen | None
    seen_fields: Sequence[Path] | None
    loops: Typed | None


class PageTransform:
    """
    An api's transformation for one shard: `engine.seams.Transform`.

    Attributes:
        record_limit: Most bytes of key, value and headers; may be lowered
            while running (a topic's `max.message.bytes`).
        largest_batch: Most records that were decoded at once.
        loops: The fast path, None: these rules have none.
        fallbacks: Records that went through the general path although the
            fast one was compiled.
    """

    def __init__(self, parts: TransformParts):
        self.record_limit = parts.record_limit
        self.largest_batch = 0
        self.fallbacks = 0
        self.loops = parts.loops
        self._shard = parts.shard
        self._connector = parts.connector or parts.shard.connector
        self._rules = parts.rules
        self._routes = parts.routes
        self._value_converter = parts.value_converter
        self._key_converter = parts.key_converter
        self._decode = decoder_of(parts.value_converter)
        self._function = parts.function
        self._function_unit = parts.function_unit
        self._provenance = Provenance(parts.shard.label) if parts.provenance else None
        self._batch_size = parts.batch_size
        self._tolerant = parts.tolerant
        self._log = logging.getLogger("transform") if parts.debug else None
        if self._log is not None:
            self._log.setLevel(logging.DEBUG)
        self._mask = parts.mask
        self._zone = parts.zone
        self._window = parts.window
        self._seen = parts.seen
        #: Index of the newest page that was looked at for repeats.
        self._newest = -1
        #: What de-duplication knows, or None.
        self.seen = parts.seen
        self._seen_fields = parts.seen_fields
        self._topic_varies = varies(parts.routes.topic)
        self._stamp_varies = varies(parts.routes.timestamp)
        self._headers_vary = any(varies(t) for _, t in parts.routes.headers)
        names: set[str] = set()
        for template in parts.routes.templates:
            names |= template.names
        for rule in parts.rules.enrichment:
            if rule.template is not None:
                names |= rule.template.names
        self._names = names
        #: What no page changes but for its time of receipt.
        self._fixed = not names and not (
            self._topic_varies or self._stamp_varies or self._headers_vary
        )
        self._constants: Constant | None = None
        #: Records leave as they came, and nothing is asked of one by one.
        self._untouched = (
            not parts.rules
            and parts.function is None
            and parts.value_converter.plain
            and parts.seen is None
            and not parts.debug
            and not (
                self._topic_varies
                or parts.routes.key is not None
                or self._stamp_varies
                or self._headers_vary
                or parts.provenance
            )
        )

    @property
    def needs(self) -> frozenset[str]:
        """What the templates ask for beside the record: roots of the scope."""
        return frozenset(self._names)

    def __call__(self, page: Page) -> Parcel:
        """
        Page to parcel.

        Raises: RecordError under `errors.tolerance=none`; an EngineError from
        the schema registry.
        """
        records = page.records
        if page.saved:
            return Parcel(page=page, topic="", values=[], deduplicated=page.received)
        if not records:
            return Parcel(
                page=page, topic="", values=[], deduplicated=page.deduplicated
            )
        scope = self._scope(page)
        constant = self._constant(page, scope)
        self.largest_batch = max(
            self.largest_batch, min(len(records), self._batch_size)
        )
        if self._untouched and type(constant) is Constant:
            # Hot path: one C loop over the page; a null has four bytes.
            lengths = list(map(len, records))
            if max(lengths) + constant.size <= self.record_limit and (
                4 not in lengths or NULL not in records
            ):
                return Parcel(
                    page=page,
                    topic=constant.topic,
                    values=records,
                    timestamps=constant.stamp,
                    headers=constant.headers,
                    deduplicated=page.deduplicated,
                    lengths=lengths,
                )
        return self._judged(page, scope, constant)

    def _judged(
        self, page: Page, scope: Scope, constant: Constant | RecordError
    ) -> Parcel:
        """Every record on its own; slices bound what is decoded at once."""
        records = page.records
        columns = self._columns()
        if isinstance(constant, RecordError):
            if not self._tolerant:
                raise constant
            columns.bad = [(index, constant) for index in range(len(records))]
            return self._parcel(page, columns, None)
        step = self._batch_size
        if self._function is not None and self._function_unit == "page":
            step = len(records)
        for start in range(0, len(records), step):
            made = self._columns()
            self._slice(records[start : start + step], start, page, scope, made)
            if self._provenance is not None:
                of = self._provenance.of(page)
                first = made.headers or [constant.headers] * len(made.values)
                made.headers = [
                    each + of(index) for each, index in zip(first, made.indexes)
                ]
            self._convert(made, constant)
            if made.bad and not self._tolerant:
                index, error = min(made.bad, key=lambda each: each[0])
                raise RecordError(
                    f"page {page.index}, record {index}: {error}",
                    stage=error.stage,
                    rule=error.rule,
                ) from error
            if start == 0:
                columns = made
            else:
                columns.extend(made)
        return self._parcel(page, columns, constant)

    def _columns(self) -> Columns:
        return Columns(
            self._topic_varies,
            self._routes.key is not None,
            self._stamp_varies,
            self._headers_vary,
            self._seen is not None,
        )

    def _slice(
        self,
        records: list[Raw],
        start: int,
        page: Page,
        scope: Scope,
        made: Columns,
    ) -> None:
        if self.loops is not None:
            rest = self.loops.run(records, start, scope, made)
            if rest:
                self.fallbacks += len(rest)
                for place in rest:
                    self._one(records[place], start + place, page, scope, made)
                made.sort()
            return
        if self._function is not None and self._function_unit == "page":
            self._whole_page(records, start, page, scope, made)
            return
        for index, raw in enumerate(records, start):
            self._one(raw, index, page, scope, made)

    def _one(
        self, raw: Raw, index: int, page: Page, scope: Scope, made: Columns
    ) -> None:
        """One record through every rule, by the general path."""
        try:
            scope["received"] = received = general.receive(raw)
            general.shape(self._rules, scope)
            if self._function is None:
                self._rest(scope, index, page, raw, made)
                return
            outputs = call_record(
                self._function,
                for_function(general.write(scope["record"])),
                self._context(page),
            )
        except RecordError as error:
            made.bad.append((index, error))
            return
        if not outputs:
            made.filtered.append((index, "transformation.function"))
            return
        made.added += len(outputs) - 1
        for output in outputs:
            scope["received"] = received
            try:
                scope["record"] = opened(from_function(output))
                self._rest(scope, index, page, raw, made)
            except RecordError as error:
                made.bad.append((index, error))

    def _whole_page(
        self,
        records: list[Raw],
        start: int,
        page: Page,
        scope: Scope,
        made: Columns,
    ) -> None:
        """A page's records through a function of pages."""
        assert self._function is not None
        inputs: list[Any] = []
        origins: list[tuple[int, Any]] = []
        for index, raw in enumerate(records, start):
            try:
                scope["received"] = received = general.receive(raw)
                general.shape(self._rules, scope)
                inputs.append(for_function(general.write(scope["record"])))
                origins.append((index, received))
            except RecordError as error:
                made.bad.append((index, error))
        if not inputs:
            return
        places = {id(each): origin for each, origin in zip(inputs, origins)}
        given = list(inputs)
        try:
            outputs = call_page(self._function, given, self._context(page))
        except RecordError as error:
            made.bad.extend((index, error) for index, _ in origins)
            return
        if len(outputs) > len(inputs):
            made.added += len(outputs) - len(inputs)
        back = {id(each) for each in outputs}
        gone = [places[id(each)][0] for each in inputs if id(each) not in back]
        lost = max(0, len(inputs) - len(outputs))
        made.filtered.extend(
            (index, "transformation.function") for index in gone[len(gone) - lost :]
        )
        for at, output in enumerate(outputs):
            # A record handed back is itself; a new one stands where it stands.
            origin = places.get(id(output), origins[min(at, len(origins) - 1)])
            scope["received"] = origin[1]
            try:
                scope["record"] = opened(from_function(output))
                self._rest(scope, origin[0], page, None, made)
            except RecordError as error:
                made.bad.append((origin[0], error))

    def _rest(
        self, scope: Scope, index: int, page: Page, raw: Raw | None, made: Columns
    ) -> None:
        """Filter, validate, route; a row more in the columns, or filtered."""
        rules, routes = self._rules, self._routes
        left_out = general.passes(rules, scope)
        if left_out is not None:
            made.filtered.append((index, left_out))
            return
        general.validate(rules, scope)
        topic = routes.topic_of(scope) if made.topics is not None else ""
        key = routes.key_value(scope) if made.keys is not None else None
        if isinstance(self._key_converter, TextKey):
            key = self._key_converter.one(key)
        stamp = page.response.received_ms
        if made.stamps is not None:
            stamp = routes.timestamp_of(scope, stamp)
        headers: KafkaHeaders = ()
        if made.headers is not None:
            headers = routes.headers_of(scope)
        record = scope["record"]
        value: Any
        if raw is not None and record is scope["received"]:
            value = raw
        else:
            value = general.write(record)
        mark = b""
        if made.marks is not None:
            mark = self._mark(scope, bytes(value))
        if self._value_converter.values:
            value = self._decode(bytes(value))
        if type(made.indexes) is not list:
            made.indexes = list(made.indexes)
        made.alike = False
        made.indexes.append(index)
        made.values.append(value)
        if made.topics is not None:
            made.topics.append(topic)
        if made.keys is not None:
            made.keys.append(key)
        if made.stamps is not None:
            made.stamps.append(stamp)
        if made.headers is not None:
            made.headers.append(headers)
        if made.marks is not None:
            made.marks.append(mark)

    def _mark(self, scope: Scope, value: bytes) -> bytes:
        """What makes two records equal to de-duplication."""
        if self._seen_fields is None:
            return digest(value)
        lookup = general.look(scope)
        try:
            found = [lookup(path) for path in self._seen_fields]
            return digest(encode([None if f is MISSING else f for f in found]))
        except EvaluationError as e:
            raise RecordError(f"deduplication: {e}", stage="route") from e

    def _scope(self, page: Page) -> Scope:
        """The page's own names, only those that a template asks for."""
        names = self._names
        scope: Scope = {"record": MISSING, "received": MISSING}
        if not names:
            return scope
        response = page.response
        scope["now"] = response.received_ms
        scope["api"] = self._shard.api
        scope["connector"] = self._connector
        scope["task"] = page.task
        scope["entityName"] = page.entity
        if "parent" in names or "parent_value" in names:
            scope["parent"] = MISSING if page.parent is None else opened(page.parent)
            scope["parent_value"] = page.parent_value
        if page.window is not None:
            for name, ms in zip(("window.start", "window.end"), page.window):
                scope[name] = self._window(ms)
        if "response" in names:
            try:
                scope["response"] = opened(Raw(bytes(response.body)))
            except EvaluationError:
                # The body is no JSON (csv, text): it has no fields.
                scope["response"] = MISSING
        if "response.header" in names:
            scope["response.header"] = {
                name: response.header(name) for name, _ in response.headers
            }
        return scope

    def _constant(self, page: Page, scope: Scope) -> Constant | RecordError:
        """What holds for all of the page, or why none of it can be routed."""
        if self._constants is not None and self._routes.timestamp is None:
            self._constants.stamp = page.response.received_ms
            return self._constants
        routes = self._routes
        try:
            headers: KafkaHeaders = ()
            if routes.headers and not self._headers_vary:
                headers = routes.headers_of(scope)
            stamp = page.response.received_ms
            if routes.timestamp is not None and not self._stamp_varies:
                stamp = routes.timestamp_of(scope, stamp)
            topic = "" if self._topic_varies else routes.topic_of(scope)
        except RecordError as error:
            return error
        constant = Constant(topic, stamp, headers, _size(headers))
        if self._fixed:
            self._constants = constant
        return constant

    def _context(self, page: Page) -> Context:
        return Context(
            self._connector,
            self._shard.api,
            page.task,
            page.entity,
            page.index,
            page.response.url.partition("?")[0],
            page.response.status,
            page.response.received_ms,
        )

    def _convert(self, made: Columns, constant: Constant) -> None:
        """Keys and values to bytes, then the size check; bad ones leave."""
        if not made.values:
            return
        convert = partial(self._value_converter.convert, alike=made.alike)
        values = self._by_topic(convert, made.values, made, constant)
        bad: dict[int, RecordError] = {}
        if values is not made.values:
            bad = {
                at: value
                for at, value in enumerate(values)
                if type(value) is RecordError
            }
            made.values = list(values)
        if made.keys is not None and not isinstance(self._key_converter, TextKey):
            keys = self._by_topic(
                self._key_converter.convert, made.keys, made, constant
            )
            for at, key in enumerate(keys):
                if type(key) is RecordError:
                    bad.setdefault(at, key)
            made.keys = list(keys)
        self._measure(made, constant, bad)
        if bad:
            made.bad.extend((made.indexes[at], bad[at]) for at in sorted(bad))
            made.keep([at for at in range(len(made.values)) if at not in bad])

    def _by_topic(
        self,
        convert: Callable[[str, Sequence[Any]], Sequence[Any]],
        items: list[Any],
        made: Columns,
        constant: Constant,
    ) -> Sequence[Any]:
        if made.topics is None:
            return convert(constant.topic, items)
        groups: dict[str, list[int]] = {}
        for at, topic in enumerate(made.topics):
            groups.setdefault(topic, []).append(at)
        result: list[Any] = [None] * len(items)
        for topic, places in groups.items():
            found = convert(topic, [items[at] for at in places])
            for at, each in zip(places, found):
                result[at] = each
        return result

    def _measure(
        self, made: Columns, constant: Constant, bad: dict[int, RecordError]
    ) -> None:
        limit = self.record_limit
        fixed = constant.size if made.headers is None else 0
        if not bad and made.headers is None:
            # Hot path: no record is near the limit on nearly every page.
            largest = max(map(len, made.values))
            if made.keys is not None:
                largest += max(map(len, filter(None, made.keys)), default=0)
            if largest + fixed <= limit:
                return
        for at, value in enumerate(made.values):
            if at in bad:
                continue
            size = fixed + (0 if value is None else len(value))
            if made.keys is not None and made.keys[at] is not None:
                size += len(made.keys[at])
            if made.headers is not None:
                size += _size(made.headers[at])
            if size > limit:
                bad[at] = RecordError(
                    f"{size} bytes, more than {limit}"
                    " (transformation.max.record.size.bytes)",
                    stage="size",
                )

    def _parcel(
        self,
        page: Page,
        columns: Columns,
        constant: Constant | None,
    ) -> Parcel:
        deduplicated = page.deduplicated
        acknowledged = None
        repeated: set[int] = set()
        content = None
        if self._seen is not None and columns.marks:
            if page.index <= self._newest:
                self._seen.begin()
            self._newest = page.index
            fresh, acknowledged = self._seen.fresh(columns.marks)
            deduplicated += len(columns.values) - len(fresh)
            if self._log is not None:
                kept = set(fresh)
                repeated = {
                    index for at, index in enumerate(columns.indexes) if at not in kept
                }
            if len(fresh) < len(columns.values):
                content = self._made(page, columns, constant, 0)
                columns.keep(fresh)
        if self._log is not None:
            self._tell(self._log, page, columns, repeated)
        made = self._made(page, columns, constant, deduplicated)
        return replace(made, acknowledged=acknowledged, content=content)

    def _made(
        self,
        page: Page,
        columns: Columns,
        constant: Constant | None,
        deduplicated: int,
    ) -> Parcel:
        """The columns as they stand."""
        return Parcel(
            page=page,
            topic=columns.topics
            if columns.topics is not None
            else (constant.topic if constant is not None else ""),
            values=columns.values,
            keys=columns.keys,
            timestamps=columns.stamps
            if columns.stamps is not None
            else (constant.stamp if constant is not None else 0),
            headers=columns.headers
            if columns.headers is not None
            else (constant.headers if constant is not None else ()),
            filtered=len(columns.filtered),
            deduplicated=deduplicated,
            letters=[
                self._letter(page, *each) for each in sorted(columns.bad, key=_first)
            ],
            added=columns.added,
            indexes=columns.indexes,
        )

    def _letter(self, page: Page, index: int, error: RecordError) -> DeadLetter:
        value = bytes(page.records[index])
        cut = len(value) > self.record_limit
        return DeadLetter(
            index=index,
            value=value[: self.record_limit] if cut else value,
            stage=error.stage,
            cause=type(error.__cause__ or error).__name__,
            message=self._mask(str(error)),
            cut=cut,
            size=len(value),
        )

    def _tell(
        self, log: logging.Logger, page: Page, columns: Columns, repeated: set[int]
    ) -> None:
        """`transformation.debug.enabled`: a line for each of the first records."""
        outcomes: dict[int, tuple[str, Any]] = {}
        for index, rule in columns.filtered:
            outcomes[index] = (f"filtered by {rule}", None)
        for index, error in columns.bad:
            outcomes[index] = (f"failed: {error}", None)
        for index in repeated:
            outcomes[index] = ("deduplicated", None)
        for index, value in zip(columns.indexes, columns.values):
            outcomes[index] = ("produced", value)
        for index, raw in enumerate(page.records[:_LINES]):
            outcome, value = outcomes.get(index, ("filtered", None))
            log.debug(
                "%s page %d record %d %s: %s -> %s",
                self._shard.api,
                page.index,
                index,
                self._mask(outcome),
                self._shown(raw),
                "nothing" if value is None else self._shown(value),
            )

    def _shown(self, data: Any) -> str:
        text = bytes(data).decode("utf-8", "backslashreplace")
        return self._mask(text)[:_SHOWN]

    def inspect(self, page: Page) -> list[Step]:
        """
        What becomes of each record, before the converters; changes nothing.

        De-duplication is not asked: its answer depends on what came before.
        """
        scope = self._scope(page)
        made = self._columns()
        made.marks = None
        constant = self._constant(page, scope)
        if isinstance(constant, RecordError):
            made.bad = [(index, constant) for index in range(len(page.records))]
        else:
            quiet = copy(self)
            quiet.loops, quiet._value_converter = None, JsonText()
            quiet._slice(page.records, 0, page, scope, made)
            # The text before the converter rides along where de-duplication's
            # column would, through what the converters and the limit refuse.
            made.marks = [bytes(value) for value in made.values]
            if not self._value_converter.values:
                quiet._value_converter = self._value_converter
            quiet._convert(made, constant)
            made.values = made.marks
        steps = [
            Step(index, bytes(page.records[index]), bytes(value), "produced")
            for index, value in zip(made.indexes, made.values)
        ]
        steps += [
            Step(index, bytes(page.records[index]), None, "filtered", rule=rule)
            for index, rule in made.filtered
        ]
        steps += [
            Step(
                index,
                bytes(page.records[index]),
                None,
                "failed",
                error.stage,
                error.rule,
                self._mask(str(error)),
            )
            for index, error in made.bad
        ]
        return sorted(steps, key=lambda step: step.index)


def _size(headers: KafkaHeaders) -> int:
    return sum(len(name.encode()) + len(value or b"") for name, value in headers)


def _first(each: tuple[int, RecordError]) -> int:
    return each[0]


def decoder_of(converter: Converter) -> Callable[[bytes], Any]:
    """A record's JSON text to what a converter of values wants."""

    def decoded(data: bytes) -> Any:
        try:
            return decode(data) if converter.exact else _PLAIN.decode(data)
        except (EvaluationError, msgspec.MsgspecError, ValueError) as e:
            raise RecordError(f"not decodable: {e}", stage="convert") from e

    return decoded
