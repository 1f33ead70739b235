"""
Codec: messages to and from a broker as bytes, by the forms of Kafka's schemas.

Owns how a form is read, and the coding of a message in one of its versions: requests
from plain values, answers to plain objects.  Hostile bytes raise Garbled and nothing
else.

Path: `sink.protocol` has the forms; `sink.produce`, `sink.caller` -> here
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from functools import cached_property
from types import SimpleNamespace
from typing import Any, TypeAlias

from msgspec import Struct

from engine.later import pattern
from engine.sink.produce.wire import Garbled

#: Highest version there may be.
ENDLESS = 1 << 15

_NOTHING: Mapping[str, Any] = {"string": "", "bytes": b"", "uuid": bytes(16)}

#: The api key of ApiVersions: its answer comes before both sides know their versions, so
#: that its head is never a flexible one.
GREETING = 18

_NUMBERS = {
    "int8": struct.Struct(">b"),
    "int16": struct.Struct(">h"),
    "int32": struct.Struct(">i"),
    "int64": struct.Struct(">q"),
    "bool": struct.Struct(">?"),
}

_HEAD = struct.Struct(">hhih")

#: A field: its name, kind, form of what is within, and its versions.
_Form: TypeAlias = "tuple[_Field, ...]"


class _Field(Struct, frozen=True):
    name: str
    kind: str
    array: bool
    form: _Form
    null_from: int
    first: int
    last: int
    tag: int


_TOKEN = pattern(r"\[\](?=\w)|[\[\]]|[^\s\[\]]+")
_ENDING = pattern(r"(?:\?(\d+))?(?:@(\d+)(?:\+|-(\d+)))?(?:#(\d+))?")


def _read_form(text: str) -> _Form:
    tokens = _TOKEN.findall(text)
    tokens.reverse()
    return _fields(tokens)


def _fields(tokens: list[str]) -> _Form:
    found = []
    while tokens and tokens[-1] != "]":
        name, _, rest = tokens.pop().partition(":")
        array = False
        form: _Form = ()
        if not rest and tokens[-1] == "[":
            tokens.pop()
            array, form = True, _fields(tokens)
            tokens.pop()
            # What stands right behind the bracket, if it is no name.
            rest = tokens.pop() if tokens and tokens[-1][0] in "?@#" else ""
        elif not rest:
            tokens.pop()
            array, rest = True, tokens.pop()
        kind = re.match(r"\w*", rest)
        assert kind is not None
        ending = _ENDING.fullmatch(rest, kind.end())
        assert ending is not None, f"{name}:{rest}"
        null, first, last, tag = ending.groups()
        found.append(
            _Field(
                name,
                kind[0],
                array,
                form,
                ENDLESS if null is None else int(null),
                int(first or 0),
                ENDLESS if last is None else int(last),
                -1 if tag is None else int(tag),
            )
        )
    return tuple(found)


class MessageType:
    """
    A message and its answer.

    Args:
        key: Its api key.
        oldest, newest: Versions that are spoken here.
        flexible: The first with compact forms and tagged fields.
        request, answer: Forms.
    """

    def __init__(
        self,
        name: str,
        key: int,
        versions: tuple[int, int],
        flexible: int,
        request: str,
        answer: str,
    ) -> None:
        self.name = name
        self.key = key
        self.oldest, self.newest = versions
        self.flexible = flexible
        self._request = request
        self._answer = answer

    @cached_property
    def request(self) -> _Form:
        return _read_form(self._request)

    @cached_property
    def answer(self) -> _Form:
        return _read_form(self._answer)


class Message(Struct, frozen=True):
    """
    A request, and the version it is sent in.

    Attributes:
        values: By the names of its fields; what a version does not have is left
            out, what is missing is null, nothing, 0 or false.
    """

    kind: MessageType
    version: int
    values: Mapping[str, Any]

    def encode(self, correlation: int, client_id: str) -> bytes:
        """The frame, its length in front."""
        kind = self.kind
        compact = self.version >= kind.flexible
        client = client_id.encode()
        out = bytearray(4)
        out += _HEAD.pack(kind.key, self.version, correlation, len(client)) + client
        if compact:
            out += b"\0"
        _encode(out, kind.request, self.values, self.version, compact)
        out[:4] = (len(out) - 4).to_bytes(4, "big")
        return bytes(out)

    def decode(self, frame: bytes) -> Any:
        """
        The answer in a frame, its correlation id included.

        Raises: Garbled.
        """
        kind, version = self.kind, self.version
        if kind.key == GREETING and frame[4:6] == b"\0\x23":
            # A broker that does not know the version answers in that of 0 (KIP-511).
            version = 0
        compact = version >= kind.flexible
        reader = _Reader(frame, compact)
        try:
            reader.at = 4
            if compact and kind.key != GREETING:
                reader.skip_tags()
            return reader.read(kind.answer, version)
        except (struct.error, UnicodeDecodeError, IndexError, ValueError) as error:
            raise Garbled(
                f"the answer to {kind.name} cannot be read: {error}"
            ) from error


# -- from values to bytes -----------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _encode(
    out: bytearray, form: _Form, values: Mapping[str, Any], version: int, compact: bool
) -> None:
    for field in form:
        if field.first <= version <= field.last and field.tag < 0:
            _encode_field(out, field, values.get(field.name), version, compact)
    if compact:
        # None of our requests has a tagged field.
        out += b"\0"


def _encode_field(
    out: bytearray, field: _Field, value: Any, version: int, compact: bool
) -> None:
    if field.array:
        if value is None and version < field.null_from:
            value = ()
        count = -1 if value is None else len(value)
        out += _varint(count + 1) if compact else count.to_bytes(4, "big", signed=True)
        for each in value or ():
            if field.form:
                _encode(out, field.form, each, version, compact)
            else:
                _encode_value(out, field.kind, each, compact)
        return
    if value is None and version < field.null_from:
        value = _NOTHING.get(field.kind, 0)
    _encode_value(out, field.kind, value, compact)


def _encode_value(out: bytearray, kind: str, value: Any, compact: bool) -> None:
    if kind == "string" or kind == "bytes":
        data = value.encode() if isinstance(value, str) else value
        size = -1 if data is None else len(data)
        if compact:
            out += _varint(size + 1)
        else:
            out += size.to_bytes(2 if kind == "string" else 4, "big", signed=True)
        out += data or b""
    elif kind == "uuid":
        out += value
    else:
        out += _NUMBERS[kind].pack(value)


# -- from bytes to values -----------------------------------------------------------


class _Reader:
    def __init__(self, data: bytes, compact: bool) -> None:
        self.data = data
        self.compact = compact
        self.at = 0

    def read(self, form: _Form, version: int) -> SimpleNamespace:
        found: dict[str, Any] = {}
        tagged = {}
        for field in form:
            if not field.first <= version <= field.last:
                continue
            if field.tag >= 0:
                tagged[field.tag] = field
                found[field.name] = () if field.array else None
                continue
            found[field.name] = self._field(field, version)
        if self.compact:
            for _ in range(self._uvarint()):
                tag, size = self._uvarint(), self._uvarint()
                end = self._within(size)
                if tag in tagged:
                    found[tagged[tag].name] = self._field(tagged[tag], version)
                self.at = end
        return SimpleNamespace(**found)

    def skip_tags(self) -> None:
        for _ in range(self._uvarint()):
            self._uvarint()
            self.at = self._within(self._uvarint())

    def _field(self, field: _Field, version: int) -> Any:
        if not field.array:
            return self._value(field.kind)
        count = self._uvarint() - 1 if self.compact else self._number("int32")
        if count < 0:
            return None
        # An element has a byte at least.
        self._within(count)
        if field.form:
            return [self.read(field.form, version) for _ in range(count)]
        return [self._value(field.kind) for _ in range(count)]

    def _value(self, kind: str) -> Any:
        if kind in _NUMBERS:
            return self._number(kind)
        if kind == "uuid":
            size = 16
        elif self.compact:
            size = self._uvarint() - 1
        else:
            size = self._number("int16" if kind == "string" else "int32")
        if size < 0:
            return None
        end = self._within(size)
        data = self.data[self.at : end]
        self.at = end
        return data.decode() if kind == "string" else data

    def _number(self, kind: str) -> Any:
        form = _NUMBERS[kind]
        [value] = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value

    def _uvarint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 28:
                raise ValueError("a number is too long")

    def _within(self, size: int) -> int:
        end = self.at + size
        if end > len(self.data):
            raise ValueError(f"{size} bytes of {len(self.data) - self.at}")
        return end
