"""
The same rules in Python, as a good engineer writes them, and the records.

Owns the records of the benchmarks of rules, those rules as configuration
(`RULES`) and as loops: `HAND` with msgspec and fastavro, `PLAIN` with json.
Each loop takes the records of a page as dicts and gives their values.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import fastavro
import msgspec

PER_PAGE = 500

#: Records of a page that the filter of `twelve` and `avro` keeps.
KEPT = {"three": PER_PAGE, "twelve": PER_PAGE * 9 // 10, "avro": PER_PAGE * 9 // 10}


def record(number: int, size: int = 0) -> bytes:
    """A record of about 300 bytes."""
    row = {
        "id": number,
        "name": f"customer {number % 5000}",
        "email": f"user{number % 5000}@example.com",
        "active": number % 3 != 0,
        "amount": (number * 37 % 100_000) / 100,
        "currency": "EUR",
        "created": "2026-01-01T00:00:00Z",
        "country": "FR",
        "score": number % 100,
        "address": {"city": "Lyon", "zip": f"{number % 100_000:05d}"},
        "tags": "a,b",
        "note": "x" * 40,
    }
    return json.dumps(row, separators=(",", ":")).encode()


THREE = [
    {"source": "id", "target": "record_id", "type": "STRING"},
    {"source": "name", "target": "customer"},
    {"source": "amount", "target": "amount"},
]
TWELVE = [
    {"source": "id", "target": "id", "type": "LONG"},
    {"source": "name", "target": "name", "type": "STRING"},
    {"source": "email", "target": "email", "type": "STRING"},
    {"source": "active", "target": "active", "type": "BOOLEAN"},
    {"source": "amount", "target": "amount", "type": "DOUBLE"},
    {"source": "currency", "target": "currency", "type": "STRING"},
    {"source": "created", "target": "created_ms", "type": "TIMESTAMP"},
    {"source": "country", "target": "country", "type": "STRING"},
    {"source": "score", "target": "score", "type": "INTEGER"},
    {"source": "address.city", "target": "city", "type": "STRING"},
    {"source": "address.zip", "target": "zip", "type": "STRING"},
    {"source": "note", "target": "note", "type": "STRING"},
]
FILTERS = [{"field": "score", "operator": "GREATER_EQUAL", "value": 10}]
ENRICHMENT = [{"field": "label", "expression": "${upper(country)}-${currency}"}]

#: Contestant -> `compile_transform`'s words for its rules.
RULES: dict[str, dict[str, Any]] = {
    "three": {"mappings": THREE},
    "twelve": {"mappings": TWELVE, "filters": FILTERS, "enrichment": ENRICHMENT},
    "avro": {"mappings": TWELVE, "filters": FILTERS, "enrichment": ENRICHMENT},
}

SCHEMA = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": "string"},
        {"name": "email", "type": "string"},
        {"name": "active", "type": "boolean"},
        {"name": "amount", "type": "double"},
        {"name": "currency", "type": "string"},
        {"name": "created_ms", "type": "long"},
        {"name": "country", "type": "string"},
        {"name": "score", "type": "int"},
        {"name": "city", "type": "string"},
        {"name": "zip", "type": "string"},
        {"name": "note", "type": "string"},
        {"name": "label", "type": "string"},
    ],
}
PARSED = fastavro.parse_schema(SCHEMA)

Row = dict[str, Any]

_encode = msgspec.json.Encoder().encode


def three(row: Row) -> Row:
    """Three fields."""
    return {
        "record_id": str(row["id"]),
        "customer": row["name"],
        "amount": row["amount"],
    }


def twelve(row: Row) -> Row | None:
    """Twelve fields with their types, one filter, one enrichment."""
    if not row["score"] >= 10:
        return None
    address = row["address"]
    created = datetime.fromisoformat(row["created"])
    return {
        "id": int(row["id"]),
        "name": str(row["name"]),
        "email": str(row["email"]),
        "active": bool(row["active"]),
        "amount": float(row["amount"]),
        "currency": str(row["currency"]),
        "created_ms": int(created.timestamp() * 1000),
        "country": str(row["country"]),
        "score": int(row["score"]),
        "city": str(address["city"]),
        "zip": str(address["zip"]),
        "note": str(row["note"]),
        "label": f"{row['country'].upper()}-{row['currency']}",
    }


def hand_three(rows: list[Row]) -> list[bytes]:
    return [_encode(three(row)) for row in rows]


def hand_twelve(rows: list[Row]) -> list[bytes]:
    return [_encode(out) for row in rows if (out := twelve(row)) is not None]


def hand_avro(rows: list[Row]) -> list[bytes]:
    """In the registry's wire format; the schema's id is known to be 1."""
    values = []
    for row in rows:
        if (out := twelve(row)) is not None:
            buffer = io.BytesIO()
            buffer.write(b"\0\0\0\0\1")
            fastavro.schemaless_writer(buffer, PARSED, out)
            values.append(buffer.getvalue())
    return values


def plain_three(rows: list[Row]) -> list[bytes]:
    return [json.dumps(three(row)).encode() for row in rows]


def plain_twelve(rows: list[Row]) -> list[bytes]:
    made = (twelve(row) for row in rows)
    return [json.dumps(out).encode() for out in made if out is not None]


Loop = Callable[[list[Row]], list[bytes]]

HAND: dict[str, Loop] = {
    "three": hand_three,
    "twelve": hand_twelve,
    "avro": hand_avro,
}
PLAIN: dict[str, Loop] = {"three": plain_three, "twelve": plain_twelve}
