"""
Convert: JSON into the bytes of Kafka's keys and values.

Owns the converters by the names of Connect's classes that need no registry:
String, ByteArray, Json with and without its envelope.  A converter takes a
page at a time; it gives for each value its bytes, or the RecordError that
says why there are none.

Path: `compile` -> here -> `schemas`, `engine.language`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from engine.errors import RecordError
from engine.language import EvaluationError, decode, text_of
from engine.language.values import encode
from engine.records import Encoded
from engine.transform import schemas

#: One value's bytes, None for a tombstone or a null key, or what is wrong.
Converted = Encoded | None | RecordError


class Converter(Protocol):
    """
    What encodes the values, or the keys, of records.

    Attributes:
        plain: True if JSON text goes through untouched.
        values: True if it wants decoded values, False: JSON text.
        exact: With `values`: numbers with a fraction stay `Raw`.
    """

    plain: bool
    values: bool
    exact: bool

    def convert(
        self, topic: str, items: Sequence[Any], *, alike: bool = False
    ) -> Sequence[Converted]:
        """
        Encode a page's values for one topic.

        Args:
            items: JSON text each, or values each, as `values` says; None
                stays None.
            alike: They are dicts with the same names in the same order and
                the same types under these, which need not be looked at again.

        Raises: an EngineError where not the record is to blame: a registry
        that does not answer or refuses us.
        """


class JsonText:
    """JsonConverter without envelope, and ByteArrayConverter: the JSON text."""

    plain = True
    values = False
    exact = False

    def convert(
        self, topic: str, items: Sequence[Any], *, alike: bool = False
    ) -> Sequence[Converted]:
        return items


class PlainString:
    """StringConverter: a JSON string as its characters, all else as JSON."""

    plain = False
    values = False
    exact = False

    def convert(
        self, topic: str, items: Sequence[Any], *, alike: bool = False
    ) -> Sequence[Converted]:
        return [None if item is None else _unquoted(bytes(item)) for item in items]


def _unquoted(text: bytes) -> Converted:
    if not text.startswith(b'"'):
        return text
    try:
        return str(decode(text)).encode()
    except EvaluationError as e:
        return RecordError(f"StringConverter: {e}", stage="convert")


class Envelope:
    """JsonConverter with `schemas.enable`: `{"schema":...,"payload":...}`."""

    plain = False
    values = False
    exact = False

    def convert(
        self, topic: str, items: Sequence[Any], *, alike: bool = False
    ) -> Sequence[Converted]:
        return [None if item is None else self._wrapped(bytes(item)) for item in items]

    def _wrapped(self, payload: bytes) -> Converted:
        try:
            value = decode(payload)
            schemas.check_connect(value)
            schema = schemas.connect_schema(schemas.infer(value))
        except (EvaluationError, schemas.SchemaMismatch) as e:
            return RecordError(f"JsonConverter: {e}", stage="convert")
        return b'{"schema":%b,"payload":%b}' % (schema, payload)


def simple_converter(name: str, schemas_enable: bool = False) -> Converter:
    """
    The value converter `String`, `ByteArray` or `Json`, which need no more than that.

    Raises: KeyError: a name that is not simple.
    """
    if name == "Json":
        return Envelope() if schemas_enable else JsonText()
    known: dict[str, Converter] = {"String": PlainString(), "ByteArray": JsonText()}
    return known[name]


class TextKey:
    """StringConverter and ByteArrayConverter for keys: text, others as JSON."""

    def convert(self, topic: str, items: Sequence[Any]) -> Sequence[Converted]:
        return [self.one(item) for item in items]

    def one(self, item: Any) -> bytes | None:
        """
        Raises: RecordError.
        """
        try:
            text = text_of(item)
            return None if text is None else text.encode()
        except (EvaluationError, UnicodeEncodeError) as e:
            raise RecordError(f"kafka.key: {e}", stage="convert") from e


class JsonKey:
    """A converter of values put to use for keys: it is given their JSON."""

    def __init__(self, converter: Converter):
        self._converter = converter

    def convert(self, topic: str, items: Sequence[Any]) -> Sequence[Converted]:
        if self._converter.values:
            return self._converter.convert(topic, [_python(item) for item in items])
        return self._converter.convert(
            topic,
            [
                None
                if item is None
                else bytes(item)
                if type(item) is Raw
                else encode(item)
                for item in items
            ],
        )


def _python(item: Any) -> Any:
    return schemas.python(decode(encode(item))) if isinstance(item, Raw) else item


_PLAIN: Final = msgspec.json.Decoder()


def decoder_of(converter: Converter) -> Callable[[bytes], Any]:
    """A record's JSON text to what a converter of values wants."""

    def decoded(data: bytes) -> Any:
        try:
            return decode(data) if converter.exact else _PLAIN.decode(data)
        except (EvaluationError, msgspec.MsgspecError, ValueError) as e:
            raise RecordError(f"not decodable: {e}", stage="convert") from e

    return decoded
