"""
What does a record cost in the transform, against the loop written by hand?

    python -m perf.bench_transform [--pages 4] [--runs 40] [--quick]

Pages of 500 records of about 300 bytes, in memory, nothing fetched, nothing
sent: the part of a task between the split page and the encoded columns.  The
hand loop decodes the page with msgspec to dicts, applies the same rules in
Python and encodes each record with msgspec (or fastavro); the plain loop does
it with json.  Each contestant runs in turn, several times; the figure is the
median CPU of one process.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import fastavro
import msgspec
from msgspec import Raw, Struct

from engine.records import Page, Request, Response, Shard
from engine.transform import compile_transform
from engine.transform.avro import avro_converter
from engine.transform.registry import Known, Reference, Schema
from perf.rig import ROOT, machine

RECORDS = 500


def record(number: int) -> dict[str, Any]:
    return {
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


class Envelope(Struct):
    records: list[Raw]


def page(number: int) -> Page:
    rows = [record(number * RECORDS + at) for at in range(RECORDS)]
    body = json.dumps({"records": rows}, separators=(",", ":")).encode()
    raws = msgspec.json.decode(body, type=Envelope).records
    request = Request("GET", "http://127.0.0.1/orders")
    response = Response(request, request.url, 200, [], body, 0.0, 1_767_225_600_000)
    return Page(response, number, raws, {"page": number}, last=False)


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

DECODE = msgspec.json.Decoder().decode
ENCODE = msgspec.json.Encoder().encode


def hand_three(body: bytes) -> list[bytes]:
    """Three fields, as a good engineer writes it."""
    return [
        ENCODE(
            {
                "record_id": str(row["id"]),
                "customer": row["name"],
                "amount": row["amount"],
            }
        )
        for row in DECODE(body)["records"]
    ]


def plain_three(body: bytes) -> list[bytes]:
    """The same with the standard library."""
    return [
        json.dumps(
            {
                "record_id": str(row["id"]),
                "customer": row["name"],
                "amount": row["amount"],
            }
        ).encode()
        for row in json.loads(body)["records"]
    ]


def epoch_ms(text: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(text).timestamp() * 1000)


def hand_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Twelve fields with their types, one filter, one enrichment."""
    out = []
    for row in rows:
        if not row["score"] >= 10:
            continue
        address = row["address"]
        out.append(
            {
                "id": int(row["id"]),
                "name": str(row["name"]),
                "email": str(row["email"]),
                "active": bool(row["active"]),
                "amount": float(row["amount"]),
                "currency": str(row["currency"]),
                "created_ms": epoch_ms(row["created"]),
                "country": str(row["country"]),
                "score": int(row["score"]),
                "city": str(address["city"]),
                "zip": str(address["zip"]),
                "note": str(row["note"]),
                "label": f"{row['country'].upper()}-{row['currency']}",
            }
        )
    return out


def hand_twelve(body: bytes) -> list[bytes]:
    return [ENCODE(row) for row in hand_rows(DECODE(body)["records"])]


def plain_twelve(body: bytes) -> list[bytes]:
    rows = hand_rows(json.loads(body)["records"])
    return [json.dumps(row).encode() for row in rows]


class OneSchema:
    """A registry in which every schema has the id 1."""

    def id_of(self, subject: str, schema: Schema) -> int:
        return 1

    def latest(self, subject: str) -> Known | None:
        return None

    def referred(self, name: str, schema: Schema) -> Reference:
        return Reference(name, name, 1)


PARSED = fastavro.parse_schema(SCHEMA)


def hand_avro(body: bytes) -> list[bytes]:
    out = []
    for row in hand_rows(DECODE(body)["records"]):
        buffer = io.BytesIO()
        buffer.write(b"\0\0\0\0\1")
        fastavro.schemaless_writer(buffer, PARSED, row)
        out.append(buffer.getvalue())
    return out


def hand_keyless(body: bytes) -> list[Raw]:
    return msgspec.json.decode(body, type=Envelope).records


def hand_keyed(body: bytes) -> list[tuple[bytes, bytes]]:
    """Key and value as `produce()` wants them."""
    return [
        (str(DECODE(raw)["id"]).encode(), bytes(raw))
        for raw in msgspec.json.decode(body, type=Envelope).records
    ]


SPLIT = msgspec.json.Decoder(Envelope).decode


def ours(**keys: Any) -> Callable[[Page], Any]:
    """The split of the page belongs to the figure: the hand loop decodes it."""
    compiled = compile_transform(shard=Shard("bench", "orders"), topic="t", **keys)

    def work(given: Page) -> Any:
        given.records = SPLIT(given.response.body).records
        return compiled(given)

    return work


def by_hand(loop: Callable[[bytes], Any]) -> Callable[[Page], Any]:
    return lambda given: loop(bytes(given.response.body))


def contestants() -> dict[str, dict[str, Callable[[Page], Any]]]:
    twelve: dict[str, Any] = {
        "mappings": TWELVE,
        "filters": FILTERS,
        "enrichment": ENRICHMENT,
    }
    avro = avro_converter(OneSchema(), side="value", given=json.dumps(SCHEMA))
    return {
        "3 fields": {
            "ours": ours(mappings=THREE),
            "hand": by_hand(hand_three),
            "json": by_hand(plain_three),
        },
        "12 fields, filter, enrichment": {
            "ours": ours(**twelve),
            "hand": by_hand(hand_twelve),
            "json": by_hand(plain_twelve),
        },
        "the same to Avro": {
            "ours": ours(**twelve, value_converter=avro),
            "hand": by_hand(hand_avro),
        },
        "pass-through": {"ours": ours(), "hand": by_hand(hand_keyless)},
        "pass-through with a key": {
            "ours": ours(key="${id}"),
            "hand": by_hand(hand_keyed),
        },
    }


def measure(pages: list[Page], runs: int) -> dict[str, dict[str, list[float]]]:
    """CPU us a record of each contestant, run by run, in turn."""
    records = len(pages) * RECORDS
    found: dict[str, dict[str, list[float]]] = {}
    for name, loops in contestants().items():
        times: dict[str, list[float]] = {who: [] for who in loops}
        for loop in loops.values():
            loop(pages[0])
        for _ in range(runs):
            for who, loop in loops.items():
                gc.collect()
                gc.disable()
                begin = time.process_time()
                for each in pages:
                    loop(each)
                times[who].append((time.process_time() - begin) / records * 1e6)
                gc.enable()
        found[name] = times
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=4)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="one page, two runs")
    options = parser.parse_args()
    if options.quick:
        options.pages, options.runs = 1, 2
    found = measure([page(number) for number in range(options.pages)], options.runs)
    print(f"{'':32} {'ours':>10} {'hand':>10} {'json':>10} {'ours / hand':>12}")
    for name, times in found.items():
        middle = {who: statistics.median(each) for who, each in times.items()}
        cells = [
            f"{middle[who]:10.3f}" if who in middle else " " * 10
            for who in ("ours", "hand", "json")
        ]
        print(f"{name:32} {' '.join(cells)} {middle['ours'] / middle['hand']:12.2f}")
    print("CPU us a record, median; the split of the page is in every figure")
    if not options.quick:
        document = {"machine": machine(), "cpu_us_per_record": found}
        path = ROOT / "perf" / "results" / "transform.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
