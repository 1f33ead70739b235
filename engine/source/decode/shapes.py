"""
Shapes: records that stand in an answer in another way than as an array of objects.

Owns how rows of values become objects, how the values of an object become records, and
how the items of an array inside a record do.  Pieces of JSON are moved and never read:
numbers and texts keep their spelling.

Path: `decode.decoder` (records as they stand) -> here -> `paging`; `Exploding` is called
by `source.poll` behind the paging, which counts what the API counts
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw, Struct

from engine.errors import BadPage, ConfigError
from engine.language.paths import compile_path
from engine.language.values import MISSING, opened, text_of

_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_ITEMS = msgspec.json.Decoder(list[Raw])
_ENCODER = msgspec.json.Encoder()

#: Records as they stand, and what was found beside them -> records.
Reshape: TypeAlias = Callable[[Sequence[Raw], Mapping[str, Any]], list[Raw]]


class Rows(Struct, frozen=True):
    """
    How rows of values become objects.

    Attributes:
        how: OBJECTS, HEADER, NAMED or COLUMNS (`http.response.rows`).
        names: Names of the fields, for NAMED.
        place: Path in the response where the names stand instead, or "".
    """

    how: str = "OBJECTS"
    names: tuple[str, ...] = ()
    place: str = ""


def members_of(text: str) -> tuple[str, bool]:
    """
    A data path without a last `.*`, and whether it had one.

    `a.*` asks for the values of the members of the object at `a`.
    """
    if text == "*":
        return "", True
    if text.endswith(".*") and not text.startswith("/"):
        return text[:-2], True
    return text, False


def by_member(name: str) -> Reshape:
    """
    The values of an object's members as records; an array gives its items.

    Args:
        name: Field that tells a record its member's name, in front of its own
            fields; "": none does.
    """

    def reshape(records: Sequence[Raw], found: Mapping[str, Any]) -> list[Raw]:
        return [each for record in records for each in _values(record, name)]

    return reshape


def _values(record: Raw, name: str) -> Iterator[Raw]:
    try:
        values = _OBJECT.decode(record)
    except msgspec.ValidationError:
        raise BadPage(
            "no object stands where the members with the records should"
        ) from None
    for member, value in values.items():
        head = bytes(memoryview(value)[:64]).lstrip()[:4]
        if head == b"null":
            continue
        items = _ITEMS.decode(value) if head[:1] == b"[" else [value]
        for item in items:
            yield _told(item, name, member) if name else item


def _told(item: Raw, name: str, member: str) -> Raw:
    """The object with a field in front; what is no object stays as it is."""
    text = bytes(item).strip()
    if text[:1] != b"{":
        return item
    rest = text[1:].lstrip()
    comma = b"" if rest[:1] == b"}" else b","
    pair = _ENCODER.encode(name) + b":" + _ENCODER.encode(member)
    return Raw(b"{" + pair + comma + rest)


def by_row(shape: Rows) -> Reshape:
    """
    Rows of values as objects.

    Raises: ConfigError: names are wanted and none are given.
    """
    if shape.how == "HEADER":
        return _below_header
    if shape.how == "COLUMNS":
        return lambda records, found: [
            each for record in records for each in _turned(record)
        ]
    if not shape.names and not shape.place:
        raise ConfigError("http.response.rows=NAMED needs http.response.rows.names")
    place = shape.place

    def named(records: Sequence[Raw], found: Mapping[str, Any]) -> list[Raw]:
        names = _names_at(found.get(place, MISSING), place) if place else shape.names
        return _zipped(names, records, 0)

    return named


def _below_header(records: Sequence[Raw], found: Mapping[str, Any]) -> list[Raw]:
    if not records:
        return []
    return _zipped(_strings(records[0], "the first row"), records[1:], 1)


def _names_at(value: Any, place: str) -> tuple[str, ...]:
    """Names in the response: texts, or objects with a member `name`."""
    if value is MISSING or value is None:
        raise BadPage(
            f"nothing stands at {place!r}, where the names of the rows should"
        )
    if isinstance(value, list):
        # A path that asks for many has found plain values.
        return _distinct(
            [_name(each, f"at {place!r}") for each in value], f"at {place!r}"
        )
    return _strings(value, f"at {place!r}")


def _strings(value: Any, where: str) -> tuple[str, ...]:
    try:
        items = _ITEMS.decode(value)
    except (msgspec.DecodeError, TypeError):
        raise BadPage(f"no array of names stands {where}") from None
    found = []
    for item in items:
        each = opened(item)
        if isinstance(each, dict):
            each = opened(each.get("name", MISSING))
        found.append(_name(each, where))
    return _distinct(found, where)


def _name(value: Any, where: str) -> str:
    name = None if isinstance(value, dict | list) else text_of(value)
    if name is None:
        raise BadPage(f"a name {where} is no text")
    return name


def _distinct(names: Sequence[str], where: str) -> tuple[str, ...]:
    if len(set(names)) != len(names) or not names:
        raise BadPage(f"the names {where} are not distinct")
    return tuple(names)


def _zipped(names: Sequence[str], lines: Sequence[Raw], first: int) -> list[Raw]:
    """
    Each row with its names.

    A row that is shorter lacks its last fields (spreadsheets leave empty cells at the
    end out); a longer one makes a bad page.
    """
    heads = [_ENCODER.encode(name) + b":" for name in names]
    made = []
    for place, line in enumerate(lines, first):
        try:
            values = _ITEMS.decode(line)
        except msgspec.ValidationError:
            raise BadPage(f"row {place} is no array") from None
        if len(values) > len(heads):
            raise BadPage(
                f"row {place} has {len(values)} values for {len(heads)} names"
            )
        pairs = [head + bytes(value) for head, value in zip(heads, values)]
        made.append(Raw(b"{" + b",".join(pairs) + b"}"))
    return made


def _turned(record: Raw) -> Iterator[Raw]:
    """An object of columns as its rows; members that are no arrays are left out."""
    try:
        columns = _OBJECT.decode(record)
    except msgspec.ValidationError:
        raise BadPage("no object of columns stands where the records should") from None
    names: list[bytes] = []
    lists: list[list[Raw]] = []
    for name, value in columns.items():
        if bytes(memoryview(value)[:64]).lstrip()[:1] == b"[":
            names.append(_ENCODER.encode(name) + b":")
            lists.append(_ITEMS.decode(value))
    lengths = {len(each) for each in lists}
    if len(lengths) > 1:
        raise BadPage(f"the columns have different lengths: {sorted(lengths)}")
    if not lists:
        raise BadPage("none of the members is a column")
    for values in zip(*lists, strict=True):
        pairs = [head + bytes(value) for head, value in zip(names, values)]
        yield Raw(b"{" + b",".join(pairs) + b"}")


class Exploding:
    """
    A record for each item of an array inside of a record.

    Each has all of its record's fields, with the item in the array's place.

    Args:
        place: Where the array stands in a record, plain names (`http.response.explode`).
        drop: True if a record without items is none (`http.response.explode.empty`);
            else it stays, with null in the place of an empty array.

    Raises: ConfigError: a path that is more than names.
    """

    def __init__(self, place: str, *, drop: bool = False):
        names = compile_path(place).names
        if not names:
            raise ConfigError(
                f"http.response.explode={place!r}: a path of names, as `items` or "
                "`order.lines`"
            )
        self._names = names
        self._drop = drop

    def __call__(self, records: Sequence[Raw]) -> list[Raw]:
        """
        The records of a page, in order.

        A record that is no object, or has no array in that place, is none too few:
        it stays as it is, or is dropped with `drop`.
        """
        made: list[Raw] = []
        for record in records:
            made += self._exploded(record)
        return made

    def _exploded(self, record: Raw) -> list[Raw]:
        levels: list[dict[str, Raw]] = []
        value: Raw = record
        try:
            for name in self._names:
                levels.append(_OBJECT.decode(value))
                if name not in levels[-1]:
                    raise msgspec.ValidationError("missing")
                value = levels[-1][name]
            items = _ITEMS.decode(value)
        except msgspec.ValidationError:
            null = len(levels) == len(self._names) and bytes(value).strip() == b"null"
            lone = not null and len(levels) == len(self._names)
            # One that is no list, as XML has it, is its own only item.
            keep = lone and self._names[-1] in levels[-1]
            return [record] if keep or not self._drop else []
        if not items:
            return [] if self._drop else [self._with(levels, Raw(b"null"))]
        return [self._with(levels, item) for item in items]

    def _with(self, levels: Sequence[dict[str, Raw]], item: Raw) -> Raw:
        inner = item
        for level, name in zip(reversed(levels), reversed(self._names)):
            inner = Raw(_ENCODER.encode({**level, name: inner}))
        return inner
