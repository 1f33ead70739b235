"""
Protobuf: JSON into messages of a compiled descriptor set.

GATE google.protobuf.  The descriptor set is given (`protoc
--descriptor_set_out --include_imports`); nothing is inferred, since field
numbers cannot be.

Path: `registered` -> here -> google.protobuf
"""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import DecodeError, EncodeError
from google.protobuf.message_factory import GetMessageClass

from engine.language.comparing import kind_of
from engine.transform.registered import Registered, RegisteredWriter, Write
from engine.transform.registry import Schema, Schemas
from engine.transform.schemas import SchemaMismatch, Type

#: Files every Protobuf library has; registries know them too.
_KNOWN = ("google/protobuf/", "google/type/", "confluent/")


def _varint(number: int) -> bytes:
    """Zig-zag and seven bits a byte, as the wire format has it."""
    value = (number << 1) ^ (number >> 63)
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def message_index(descriptor: Descriptor) -> bytes:
    """
    Which message of its file this is: its place and those around it.

    The first of the file is one zero byte.
    """
    places: list[int] = []
    inner = descriptor
    while (outer := inner.containing_type) is not None:
        places.append([each.name for each in outer.nested_types].index(inner.name))
        inner = outer
    file = descriptor_pb2.FileDescriptorProto()
    inner.file.CopyToProto(file)
    places.append([each.name for each in file.message_type].index(inner.name))
    places.reverse()
    if places == [0]:
        return b"\0"
    return _varint(len(places)) + b"".join(map(_varint, places))


class ProtobufWriter:
    """Encodes one message type."""

    def __init__(self, descriptor: Descriptor):
        self._message = GetMessageClass(descriptor)
        self._descriptor = descriptor
        self._deep = any(_message_of(field) for field in descriptor.fields)
        self.name = descriptor.full_name
        self.prefix = message_index(descriptor)

    def like(self, item: dict[str, Any]) -> Write:
        return self.write

    def write(self, item: Any) -> bytes:
        message = self._message()
        data = bytes(item)
        try:
            _look(json.loads(data) if self._deep else data, self._descriptor)
            json_format.Parse(data, message)
            return bytes(message.SerializeToString(deterministic=True))
        except json_format.ParseError as e:
            raise SchemaMismatch(str(e)) from e
        except (
            EncodeError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
        ) as e:
            raise SchemaMismatch(f"not encodable: {e}") from e


def _message_of(field: FieldDescriptor) -> Descriptor | None:
    """The message a field holds, None: another type, or one with JSON of its own."""
    descriptor = field.message_type
    if descriptor is None or descriptor.full_name.startswith("google.protobuf."):
        return None
    if descriptor.GetOptions().map_entry:
        return _message_of(descriptor.fields_by_name["value"])
    return descriptor


def _look(value: Any, descriptor: Descriptor) -> None:
    """
    The library takes whatever can be gone through for a message: of an empty
    array or text it makes an empty one.

    Args:
        value: Decoded, or the JSON text where no field is a message.

    Raises: Unfit: something else where a message belongs.
    """
    rest: list[tuple[Any, Descriptor]] = [(value, descriptor)]
    while rest:
        found, of = rest.pop()
        if isinstance(found, bytes):
            if found.lstrip()[:1] != b"{":
                raise SchemaMismatch(f"no object where {of.full_name} belongs")
            return
        if not isinstance(found, dict):
            raise SchemaMismatch(f"{kind_of(found)} where {of.full_name} belongs")
        by_name = {field.json_name: field for field in of.fields}
        for name, each in found.items():
            field = by_name.get(name) or of.fields_by_name.get(name)
            inner = None if field is None or each is None else _message_of(field)
            if field is None or inner is None:
                continue
            if field.message_type.GetOptions().map_entry:
                items = list(each.values()) if isinstance(each, dict) else []
            elif field.is_repeated:
                items = each if isinstance(each, list) else []
            else:
                items = [each]
            rest.extend((item, inner) for item in items if item is not None)


class Protobuf:
    """
    The schema language, with one message of a descriptor set.

    Args:
        data: The serialised FileDescriptorSet.
        message: Full name of the message.

    Raises: Unfit.
    """

    kind = "PROTOBUF"
    values = False
    exact = False

    def __init__(self, data: bytes, message: str):
        try:
            files = descriptor_pb2.FileDescriptorSet.FromString(data)
        except DecodeError as e:
            raise SchemaMismatch("no compiled descriptor set") from e
        pool = descriptor_pool.DescriptorPool()
        try:
            for file in files.file:
                pool.Add(file)
            self.descriptor: Descriptor = pool.FindMessageTypeByName(message)
        except KeyError as e:
            raise SchemaMismatch(f"no message {message} in the descriptor set") from e
        except TypeError as e:
            raise SchemaMismatch(
                "a descriptor set without its imports (protoc --include_imports)"
            ) from e

    def spell(self, seen: Type, name: str) -> str:
        raise SchemaMismatch("Protobuf needs value.schema.file")

    def writer(self, text: str, *, inferred: bool = False) -> RegisteredWriter:
        return ProtobufWriter(self.descriptor)

    def decoded(self, item: Any) -> Any:
        raise SchemaMismatch("Protobuf needs value.schema.file")

    def schema(self, text: str, schemas: Schemas) -> Schema:
        return _schema(self.descriptor.file, schemas)


def _schema(file: FileDescriptor, schemas: Schemas) -> Schema:
    """A file as the registry takes it, what it imports registered first."""
    references = tuple(
        schemas.referred(each.name, _schema(each, schemas))
        for each in file.dependencies
        if not each.name.startswith(_KNOWN)
    )
    text = base64.b64encode(file.serialized_pb).decode()
    return Schema(Protobuf.kind, text, references)


def protobuf_converter(
    registry: Schemas,
    *,
    side: str,
    data: bytes,
    message: str,
    strategy: str = "TopicName",
    latest: bool = False,
) -> Registered:
    """
    ProtobufConverter.

    Args:
        data: The content of `value.schema.file`.
        message: `value.schema.message`.

    Raises: Unfit.
    """
    return Registered(
        Protobuf(data, message),
        registry,
        side=side,
        strategy=strategy,
        given=message,
        latest=latest,
    )
