"""
JSON Schema: JSON text, judged by a schema before it is framed.

GATE jsonschema_rs.  The text goes out as it is; only whether it may is asked
of the library.

Path: `registered` -> here -> jsonschema_rs
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import jsonschema_rs

from engine.clock import SYSTEM, Clock
from engine.language import EvaluationError, decode
from engine.transform.registered import Registered, RegisteredWriter, Write
from engine.transform.registry import Schema, Schemas
from engine.transform.schemas import SchemaMismatch, Type, json_schema


class JsonSchemaWriter:
    """Lets through what one schema allows."""

    prefix = b""

    def __init__(self, text: str):
        try:
            schema = json.loads(text)
            # Patterns in linear time, which a schema out of a registry could else
            # spend for ever; and nothing is fetched that it refers to.
            self._validator = jsonschema_rs.validator_for(
                schema,
                pattern_options=jsonschema_rs.RegexOptions(),
                retriever=_outside,
            )
        except (ValueError, TypeError, jsonschema_rs.ValidationError) as e:
            raise SchemaMismatch(f"no JSON Schema: {e}") from e
        title = schema.get("title") if isinstance(schema, dict) else None
        self.name = title if isinstance(title, str) else "record"

    def like(self, item: dict[str, Any]) -> Write:
        return self.write

    def write(self, item: Any) -> bytes:
        data = bytes(item)
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as e:
            raise SchemaMismatch("not JSON") from e
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as e:
            place = "/".join(str(step) for step in e.instance_path)
            raise SchemaMismatch(f"{place or 'the record'} is not of the schema") from e
        except ValueError as e:
            raise SchemaMismatch("a number out of the validator's range") from e
        return data


def _outside(uri: str) -> NoReturn:
    raise ValueError(f"a reference out of the schema: {uri[:200]}")


class JsonSchema:
    """JSON Schema, as a schema language of the registry."""

    kind = "JSON"
    values = False
    exact = False

    def spell(self, seen: Type, name: str) -> str:
        return json.dumps(json_schema(seen, name), separators=(",", ":"))

    def writer(self, text: str, *, inferred: bool = False) -> RegisteredWriter:
        return JsonSchemaWriter(text)

    def decoded(self, item: Any) -> Any:
        try:
            return decode(bytes(item))
        except EvaluationError as e:
            raise SchemaMismatch(str(e)) from e

    def schema(self, text: str, schemas: Schemas) -> Schema:
        return Schema(self.kind, text)


def json_schema_converter(
    registry: Schemas,
    *,
    side: str,
    strategy: str = "TopicName",
    given: str | None = None,
    latest: bool = False,
    clock: Clock = SYSTEM,
) -> Registered:
    """
    JsonSchemaConverter.

    Raises: Unfit: no JSON Schema.
    """
    return Registered(
        JsonSchema(),
        registry,
        side=side,
        strategy=strategy,
        given=given,
        latest=latest,
        clock=clock,
    )
