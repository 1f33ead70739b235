"""
Values: the offset values of records, read from a page and brought into an order.

Owns what makes two of them comparable (`http.offset.value.type`), the reading of a whole
page's values by one call into C, and the shapes of time whose texts sort as they are.

Path: `source.paging.bookmark` -> here -> `language.instants`
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Raw

from engine.errors import BadPage
from engine.language.datepatterns import Pattern
from engine.language.faults import EvaluationError
from engine.language.instants import Form, form_of, instant
from engine.language.paths import compile_path
from engine.records import Primitive, in_pieces
from engine.source.paging.position import number_of, reader, single

#: What values are compared by: epoch nanoseconds, a number, or the text.
Key: TypeAlias = "int | Decimal | str"

NUMBER: Final = "number"
TIMESTAMP: Final = "timestamp"
STRING: Final = "string"
KINDS: Final = frozenset({NUMBER, TIMESTAMP, STRING})

_value = attrgetter("v")
_DIGITS_TO_ZERO: Final = str.maketrans("0123456789", "0000000000")
#: Shapes of which two texts sort as their instants do: fixed width, one zone.
_SORTED: Final = ("0000-00-00T00:00:00", "0000-00-00 00:00:00")


class Scale:
    """
    How the offset values of one api compare.

    Args:
        declared: `http.offset.value.type`.
        zone: Of times without an offset.
        pattern: Of times that are written in no usual form, or None.

    Attributes:
        kind: "number", "timestamp" or "string"; "" while only `auto` is known.
    """

    def __init__(
        self, declared: str, *, zone: tzinfo = UTC, pattern: Pattern | None = None
    ):
        self.kind = declared if declared in KINDS else ""
        self.zone = zone
        self.pattern = pattern

    def key(self, value: object) -> Key | None:
        """
        What a value is compared by; None where it is no single value.

        Raises: BadPage: it is of another kind than those before it.
        """
        value = single(value)
        if value is None:
            return None
        if not self.kind:
            self.kind = self._kind_of(value)
        if self.kind == TIMESTAMP:
            try:
                return instant(value, self.zone, self.pattern)
            except EvaluationError as e:
                raise _unlike(value, "is no time", self.pattern) from e
        if self.kind == NUMBER:
            return _number(value)
        if isinstance(value, str):
            return value
        return bytes(value).decode() if isinstance(value, Raw) else str(value)

    def _kind_of(self, value: object) -> str:
        if not isinstance(value, str):
            return NUMBER
        if self.pattern is not None:
            return TIMESTAMP
        if value[:4].isdigit() and value[4:5] == "-":
            try:
                instant(value, self.zone)
            except EvaluationError:
                return STRING
            return TIMESTAMP
        return STRING

    def form(self, value: object) -> Form:
        """The form that a time came in."""
        return form_of(value, self.zone, self.pattern)


def _number(value: object) -> int | Decimal:
    if isinstance(value, int):
        return value
    text = bytes(value).decode() if isinstance(value, Raw) else str(value)
    if text.lstrip("-").isdigit() and text.isascii() and len(text) <= 4300:
        return int(text)
    try:
        number = Decimal(text)
    except InvalidOperation as e:
        raise _unlike(value, "is no number", None) from e
    if not number.is_finite():
        raise _unlike(value, "is no number", None)
    return number


def _unlike(value: object, what: str, pattern: Pattern | None) -> BadPage:
    shown = bytes(value).decode() if isinstance(value, Raw) else str(value)
    wanted = "" if pattern is None else f" of the pattern {pattern.text}"
    return BadPage(
        f"the offset value {shown[:60]!r} {what}{wanted}, unlike those before it or what "
        "http.offset.value.type says"
    )


def stored_value(value: object) -> Primitive:
    """A value as the state keeps it: str, int, or the text of another number."""
    if isinstance(value, Raw):
        return bytes(value).decode()
    assert isinstance(value, str | int)
    return value


def restored(value: object, kind: str) -> object:
    """What `stored_value` was made of, or what somebody set in its place."""
    if isinstance(value, float):
        value = repr(value)
    if kind == NUMBER and isinstance(value, str):
        return number_of(value.encode())
    return value


class ValueReader:
    """
    The values at one place of all records of a page.

    Args:
        path: `http.offset.json.pointer`.
    """

    def __init__(self, path: str):
        self._read = reader(path)
        names = compile_path(path).names
        self._first = 0
        self._decoders = [_decoder(names, kind) for kind in (str, int)] if names else []

    def read(self, records: Sequence[Raw], body: object = b"") -> list[object]:
        """
        One value for each record, as `position.reader` gives it.

        Args:
            body: Where they may lie side by side: the answer's.

        Raises: BadPage: a record cannot be read.
        """
        # Hot path: one call for the page, 0.35 us a record of 250 bytes, where reading
        # each by its path takes 1.5, and joining them 0.4.
        if self._decoders:
            if isinstance(body, bytes | bytearray):
                found = self._decoded(_between(body, records))
                if found is not None and len(found) == len(records):
                    return found
            found = []
            # A page too large for memory is not joined whole.
            for piece in in_pieces(records, len(records)):
                some = self._decoded(b"[" + b",".join(piece) + b"]")
                if some is None:
                    break
                found += some
            else:
                return found
        return [self._read(record) for record in records]

    def _decoded(self, page: bytes | memoryview) -> list[object] | None:
        """The values of an array of records, None where it is none or they differ."""
        first, many = self._first, len(self._decoders)
        for at in range(first, first + many if page else first):
            try:
                found: list[object] = self._decoders[at % many](page)
            except msgspec.ValidationError:
                continue
            except msgspec.DecodeError:
                return None
            # The next page will have the same type.
            self._first = at % many
            return found
        return None


def _between(body: bytes | bytearray, records: Sequence[Raw]) -> memoryview:
    """
    The array that stands from the first record to the last one; empty for none.

    Whether it has as many records has to be seen: an answer may hold their like
    somewhere else.
    """
    start = body.find(records[0])
    end = body.rfind(records[-1]) + len(records[-1])
    if start < 0 or end < start:
        return memoryview(b"")
    opens = body.rfind(b"[", 0, start)
    closes = body.find(b"]", end)
    if opens < 0 or closes < 0:
        return memoryview(b"")
    if body[opens + 1 : start].strip() or body[end:closes].strip():
        return memoryview(b"")
    return memoryview(body)[opens : closes + 1]


def _decoder(names: Sequence[str], kind: type) -> Any:
    inner: Any = kind
    for depth, name in enumerate(reversed(names)):
        inner = msgspec.defstruct(
            f"At{depth}", [("v", inner, msgspec.field(name=name))], gc=False
        )
    decode = msgspec.json.Decoder(list[inner]).decode
    if len(names) == 1:
        return lambda page: [each.v for each in decode(page)]

    def deep(page: bytes) -> list[object]:
        found: list[Any] = decode(page)
        for _ in names:
            found = list(map(_value, found))
        return found

    return deep


def sortable(values: Sequence[object]) -> str:
    """
    The one shape of all these texts if they sort as their instants do, else "".

    A shape is a text with its digits made zeros.
    """
    first = values[0]
    if type(first) is not str:
        return ""
    shape = first.translate(_DIGITS_TO_ZERO)
    if shape[:19] not in _SORTED or not _plain_end(shape[19:]):
        return ""
    try:
        whole = "".join(values)  # type: ignore[arg-type]
    except TypeError:
        return ""
    # C only: 40 ns a text.
    return shape if whole.translate(_DIGITS_TO_ZERO) == shape * len(values) else ""


def _plain_end(end: str) -> bool:
    """A fraction of any width, then Z or nothing: one zone for all texts."""
    end = end.removesuffix("Z")
    return not end or (end[0] == "." and not end[1:].strip("0"))
