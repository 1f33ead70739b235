"""Pages for the tests of this room."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from engine.errors import RecordError
from engine.records import CutSequence, Page, Parcel, Request, Response, Shard
from engine.transform.compile import TransformOptions, compile_transform
from engine.transform.loops import WARM
from engine.transform.page import PageTransform

SHARD = Shard("shop", "orders")
RECEIVED_MS = 1_700_000_000_123


def page_of(records: Sequence[Any], *, body: bytes | None = None, **more: Any) -> Page:
    """A page of records: bytes are taken as they are, all else is dumped."""
    raws = [Raw(each if isinstance(each, bytes) else dumped(each)) for each in records]
    request = Request("GET", "https://api.example.com/orders?token=abc&page=1")
    if body is None:
        body = b"[" + b",".join(bytes(raw) for raw in raws) + b"]"
    response = Response(
        request=request,
        url=request.url,
        status=200,
        headers=[("content-type", "application/json"), ("x-total", "7")],
        body=body,
        sent_at=0.0,
        received_ms=RECEIVED_MS,
    )
    more.setdefault("offset", {"page": 1})
    return Page(
        response=response, index=more.pop("index", 3), records=raws, last=False, **more
    )


def dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def transform(**keys: Any) -> PageTransform:
    keys.setdefault("shard", SHARD)
    keys.setdefault("topic", "orders")
    return compile_transform(TransformOptions(**keys))


def texts(parcel: Parcel) -> list[str]:
    assert parcel.balanced
    return [bytes(value or b"").decode() for value in parcel.values]


def run(records: Sequence[Any], **keys: Any) -> Parcel:
    """Both paths, and a page too large for memory; they have to agree to the byte."""
    page = page_of(records)
    slow = outcome(transform(fast=False, **keys), page)
    fast = outcome(transform(**keys), page)
    if isinstance(slow, RecordError) or isinstance(fast, RecordError):
        assert str(slow) == str(fast)
        assert isinstance(fast, RecordError)
        raise fast
    assert columns(slow) == columns(fast)
    assert columns(transform(**keys)(large(page))) == columns(fast)
    return fast


def cut(items: Sequence[Any], window: int = 2) -> CutSequence[Any]:
    """The same as of a page too large for memory: each look makes them anew."""
    return CutSequence(
        array("I", map(len, items)),
        range(0, len(items), window),
        lambda number: list(items[number * window : (number + 1) * window]),
    )


def large(page: Page) -> Page:
    """The same page, as one that is too large for memory."""
    return replace(page, records=cut(page.records)) if page.records else page


def everywhere(records: Sequence[Any], **keys: Any) -> Parcel:
    """
    All paths: general, the loop for any types, the loop made for the types of
    these records after as many as it takes.  They agree to the byte.
    """
    keys.setdefault("tolerance", "all")
    page = page_of(records)
    cold = columns(transform(fast=False, **keys)(page))
    made = transform(**keys)
    first = made(page)
    assert columns(first) == cold
    warm = transform(**keys)
    for _ in range(WARM // len(page.records) + 1):
        warm(page)
    assert columns(warm(page)) == cold
    return first


def outcome(compiled: PageTransform, page: Page) -> Parcel | RecordError:
    try:
        return compiled(page)
    except RecordError as e:
        return e


def columns(parcel: Parcel) -> dict[str, Any]:
    assert parcel.balanced
    # Lengths that are told are those of what is there now.
    if parcel.lengths is not None:
        assert list(map(len, parcel.values)) == list(parcel.lengths)  # type: ignore[arg-type]
    if parcel.key_lengths is not None:
        assert list(map(len, parcel.keys or ())) == list(parcel.key_lengths)  # type: ignore[arg-type]
    return {
        "topic": parcel.topic,
        "values": [None if v is None else bytes(v) for v in parcel.values],
        "keys": None if parcel.keys is None else list(parcel.keys),
        "timestamps": parcel.timestamps,
        "headers": parcel.headers,
        "filtered": parcel.filtered,
        "deduplicated": parcel.deduplicated,
        "letters": [(each.index, each.stage) for each in parcel.letters],
        "added": parcel.added,
    }
