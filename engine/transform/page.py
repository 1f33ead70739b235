"""
Page: what the transformation of a shard does with one page.

A page without rules costs two C calls; a page with rules goes through the typed path
where it was compiled, record by record through the general one where that gives up.
Nothing of a page is handed on before all of it is done.

Owns the order in which the records of a page are judged, converted, measured and told
apart from others, and which path takes them; a page that passes unchanged leaves after
the first few lines.

Path: `compile` made it -> ``task.path`` calls -> here -> `loops`, `general`, `convert`,
`route`, `dedup`
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import tzinfo
from functools import partial
from typing import Any

from msgspec import Raw, Struct
from msgspec.structs import replace

from engine.errors import RecordError
from engine.language import Path
from engine.records import CutSequence, DeadLetter, Page, Parcel, Shard
from engine.transform.columns import Columns
from engine.transform.convert import Converter, JsonKey, JsonText, TextKey, decoder_of
from engine.transform.dedup import Seen
from engine.transform.general import Scope
from engine.transform.loops import Typed
from engine.transform.record import GeneralPath
from engine.transform.route import Provenance, RecordRouter, varies
from engine.transform.rules import NULL, Rules
from engine.transform.scope import Constant, PageScope, size_of
from engine.transform.spooled import LargeColumns
from engine.transform.steps import Step, steps_of, tell


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
        self._api = parts.shard.api
        self._routes = parts.routes
        self._value_converter = parts.value_converter
        self._key_converter = parts.key_converter
        self._provenance = Provenance(parts.shard.label) if parts.provenance else None
        self._batch_size = parts.batch_size
        self._tolerant = parts.tolerant
        self._log = logging.getLogger("transform") if parts.debug else None
        if self._log is not None:
            self._log.setLevel(logging.DEBUG)
        self._mask = parts.mask
        self._seen = parts.seen
        #: Index of the newest page that was looked at for repeats.
        self._newest = -1
        #: What de-duplication knows, or None.
        self.seen = parts.seen
        self._topic_varies = varies(parts.routes.topic)
        self._stamp_varies = varies(parts.routes.timestamp)
        self._headers_vary = any(varies(t) for _, t in parts.routes.headers)
        self._scope = PageScope(
            parts.rules,
            parts.routes,
            shard=parts.shard,
            connector=parts.connector or parts.shard.connector,
            window=parts.window,
        )
        values = parts.value_converter
        self._records = GeneralPath(
            parts.rules,
            parts.routes,
            self._scope,
            function=parts.function,
            whole=parts.function_unit == "page",
            keys=parts.key_converter,
            decode=decoder_of(values) if values.values else None,
            seen_fields=parts.seen_fields,
        )
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
        return self._scope.names

    def __call__(self, page: Page) -> Parcel:
        """
        Make a parcel of a page.

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
        scope = self._scope.scope(page)
        constant = self._scope.constant(page, scope)
        self.largest_batch = max(
            self.largest_batch, min(len(records), self._batch_size)
        )
        if self._untouched and type(constant) is Constant:
            # Hot path: one C loop over the page; a null has four bytes.
            lengths: Sequence[int]
            if type(records) is CutSequence:
                lengths = records.lengths
            else:
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
        if isinstance(constant, RecordError):
            if not self._tolerant:
                raise constant
            columns = self._columns()
            columns.bad = [(index, constant) for index in range(len(page.records))]
            return self._parcel(page, columns, None)
        slices = self._slices(page, scope, constant)
        columns = next(slices)
        if type(page.records) is not CutSequence:
            for made in slices:
                columns.extend(made)
            return self._parcel(page, columns, constant)
        # Read out of a file, it is changed into files: all of it before any is sent.
        with LargeColumns(columns) as columns:
            for made in slices:
                columns.extend(made)
        return self._parcel(page, columns, constant)

    def _slices(
        self, page: Page, scope: Scope, constant: Constant
    ) -> Iterator[Columns]:
        """
        A page's records slice by slice, keys and values as bytes.

        Raises: RecordError: the first bad record of a slice, where none is tolerated.
        """
        records = page.records
        step = len(records) if self._records.whole else self._batch_size
        for start in range(0, len(records), step):
            made = self._columns()
            self._slice(records[start : start + step], start, page, scope, made)
            if self._provenance is not None:
                of = self._provenance.of(page)
                first = made.headers or [constant.headers] * len(made.values)
                made.headers = [
                    each + of(index) for each, index in zip(first, made.indexes)
                ]
            self._convert(made, constant, self._value_converter)
            if made.bad and not self._tolerant:
                index, error = min(made.bad, key=lambda each: each[0])
                raise RecordError(
                    f"page {page.index}, record {index}: {error}",
                    stage=error.stage,
                    rule=error.rule,
                ) from error
            yield made

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
        records: Sequence[Raw],
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
                    self._records.one(records[place], start + place, page, scope, made)
                made.sort()
            return
        self._records.all(records, start, page, scope, made)

    def _convert(self, made: Columns, constant: Constant, converter: Converter) -> None:
        """Keys and values to bytes, then the size check; bad ones leave."""
        if not made.values:
            return
        convert = partial(converter.convert, alike=made.alike)
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
            lengths = list(map(len, made.values))
            largest = max(lengths)
            key_lengths = None
            if made.keys is not None:
                try:
                    key_lengths = list(map(len, made.keys))
                except TypeError:
                    largest += max(map(len, filter(None, made.keys)), default=0)
                else:
                    # Hot path: most keys have one length, which is told in 1 us a page.
                    first = key_lengths[0]
                    alike = key_lengths.count(first) == len(key_lengths)
                    largest += first if alike else max(key_lengths)
            if largest + fixed <= limit:
                # Who puts them into batches need not ask each once more.
                made.lengths, made.key_lengths = lengths, key_lengths
                return
        for at, value in enumerate(made.values):
            if at in bad:
                continue
            size = fixed + (0 if value is None else len(value))
            if made.keys is not None and made.keys[at] is not None:
                size += len(made.keys[at])
            if made.headers is not None:
                size += size_of(made.headers[at])
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
            tell(self._log, self._api, page, columns, repeated, self._mask)
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
            lengths=columns.lengths,
            key_lengths=columns.key_lengths,
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

    def inspect(self, page: Page) -> list[Step]:
        """
        What becomes of each record, before the converters; changes nothing.

        De-duplication is not asked: its answer depends on what came before.
        """
        scope = self._scope.scope(page)
        made = self._columns()
        made.marks = None
        constant = self._scope.constant(page, scope)
        if isinstance(constant, RecordError):
            made.bad = [(index, constant) for index in range(len(page.records))]
        else:
            self._records.undecoded().all(page.records, 0, page, scope, made)
            # The text before the converter rides along where de-duplication's
            # column would, through what the converters and the limit refuse.
            made.marks = [bytes(value) for value in made.values]
            values = self._value_converter
            self._convert(made, constant, JsonText() if values.values else values)
            made.values = made.marks
        return steps_of(page, made, self._mask)


def _first(each: tuple[int, RecordError]) -> int:
    return each[0]
