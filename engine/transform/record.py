"""
Record: one record through every rule, by the general path.

Owns the order of what is done with a record that no generated loop takes: read, shaped,
handed to the user's function, filtered, validated, routed, and put into the columns of
its page.

Path: `transform.page` -> here -> `general`, `function`, `route`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from msgspec import Raw

from engine.errors import RecordError
from engine.language import MISSING, EvaluationError, Path
from engine.language.values import encode, opened
from engine.records import KafkaHeaders, Page
from engine.transform import general
from engine.transform.columns import Columns
from engine.transform.convert import JsonKey, TextKey
from engine.transform.dedup import digest
from engine.transform.function import (
    call_page,
    call_record,
    for_function,
    from_function,
)
from engine.transform.general import Scope
from engine.transform.route import RecordRouter
from engine.transform.rules import Rules
from engine.transform.scope import PageScope


class GeneralPath:
    """
    The general path of an api.

    Args:
        function: The user's own, or None.
        keys: Makes keys.
        decode: A record's text as the value converter wants it; None: as it is.
        seen_fields: What makes two records the same; None: the whole record.

    Attributes:
        whole: True if the function takes a page's records at once.
    """

    def __init__(
        self,
        rules: Rules,
        routes: RecordRouter,
        scope: PageScope,
        *,
        function: Callable[..., Any] | None,
        whole: bool,
        keys: TextKey | JsonKey,
        decode: Callable[[bytes], Any] | None,
        seen_fields: Sequence[Path] | None,
    ):
        self._rules = rules
        self._routes = routes
        self._scope = scope
        self._function = function
        self.whole = whole and function is not None
        self._key_converter = keys
        self._decode = decode
        self._seen_fields = seen_fields

    def undecoded(self) -> GeneralPath:
        """The same, with values that stay JSON."""
        found = copy(self)
        found._decode = None
        return found

    def all(
        self,
        records: Sequence[Raw],
        start: int,
        page: Page,
        scope: Scope,
        made: Columns,
    ) -> None:
        """Records that stand together in a page, from a place on."""
        if self.whole:
            self._whole_page(records, start, page, scope, made)
            return
        for index, raw in enumerate(records, start):
            self.one(raw, index, page, scope, made)

    def one(
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
                self._scope.context(page),
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
        records: Sequence[Raw],
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
            outputs = call_page(self._function, given, self._scope.context(page))
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
        if self._decode is not None:
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
