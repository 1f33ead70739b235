"""A page too large for memory is read, known again, changed and sent as any other."""

from __future__ import annotations

import gc
import json
import tracemalloc
from array import array
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace
from xxhash import xxh3_64, xxh3_64_intdigest

from engine.records import CutSequence, Parcel
from engine.sink.deal import by_topic
from engine.source.decode.decoder import Decoded, compile_decoder
from engine.source.paging import loops
from engine.task import unchanged
from tests.fakes.broker.cluster import cluster
from tests.sink.rig import Memory, delivering, outlet, parcel, topic_name
from tests.task import courses
from tests.task import test_configurations as every
from tests.task import test_window_configurations as spans
from tests.task.configurations import CONFIGURATIONS, WINDOWS


def cut(items: Any, window: int = 2) -> Any:
    """The same as of a page too large for memory: each look makes them anew."""
    return CutSequence(
        array("I", (0 if item is None else len(item) for item in items)),
        range(0, len(items), window),
        lambda number: list(items[number * window : (number + 1) * window]),
    )


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20, 35])
def test_a_page_hashed_piece_by_piece_has_the_hash_of_all_of_it(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [Raw(b'{"id":%d}' % number) for number in range(count)]
    whole = xxh3_64()
    unchanged._add(whole, records)
    monkeypatch.setattr(loops, "PIECE", 10)
    monkeypatch.setattr(unchanged, "PIECE", 10)

    for each in [records, cut(records, 3)] if records else [records]:
        assert loops.fingerprint(each) == xxh3_64_intdigest(b",".join(records))
        pieces = xxh3_64()
        unchanged._add(pieces, each)
        assert pieces.digest() == whole.digest()


@pytest.mark.parametrize("lost", [[0], [3, 4], [34], list(range(35))])
def test_tombstones_count_whatever_the_page_s_size(lost: list[int]) -> None:
    values = [None if at in lost else b"%d" % at for at in range(35)]
    whole, pieces = xxh3_64(), xxh3_64()
    unchanged._add(whole, values)
    unchanged._add(pieces, cut(values, 3))

    assert pieces.digest() == whole.digest()


def large_pages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each page of these tests is read as one that is too large for memory."""
    seen: list[int] = []

    def compiled(**keys: Any) -> Any:
        decode = compile_decoder(**keys)

        def read(response: Any) -> Decoded:
            decoded = decode(response)
            if decoded.records:
                seen.append(len(decoded.records))
                decoded = replace(decoded, records=cut(decoded.records))
            return decoded

        return read

    monkeypatch.setattr(courses, "compile_decoder", compiled)
    return seen


#: Each mode with each pagination type and order: how a value is written, and where it
#: is asked for, has nothing to do with where records lie.
TYPES = [
    name
    for name in CONFIGURATIONS
    if name.endswith(("-iso-query-ASC", "-iso-query-DESC", "-iso-query-NONE"))
    or name == "incremental-keyset-string-query-ASC"
]
SPANS = [name for name in WINDOWS if name.endswith(("-iso", "-cuts", "-overlap"))]


@pytest.mark.parametrize("name", TYPES)
def test_every_configuration_reads_large_pages(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = large_pages(monkeypatch)
    every.test_nothing_is_lost_and_nothing_comes_twice(name, tmp_path)
    assert seen


@pytest.mark.parametrize("name", SPANS)
def test_every_window_reads_large_pages(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = large_pages(monkeypatch)
    spans.test_each_window_is_walked_once_from_every_state_on(name, tmp_path)
    assert seen


COLUMNS: list[dict[str, Any]] = [
    {},
    {"keys": [b"k%d" % (at % 90) for at in range(25_000)]},
    {"keys": [b"k%d" % at if at % 3 else None for at in range(25_000)]},
    {"timestamps": [1_700_000_000_000 + at for at in range(25_000)]},
    {"headers": (("a", b"b"),)},
    {"headers": [(("a", b"%d" % at),) for at in range(25_000)]},
    {"topic": ["t" if at % 2 else "u" for at in range(25_000)]},
]


@pytest.mark.parametrize("more", COLUMNS)
@pytest.mark.parametrize("missing", [False, True])
def test_the_sink_cuts_a_large_page_into_the_same_columns(
    more: dict[str, Any], missing: bool
) -> None:
    values = [
        None if missing and at % 1000 == 7 else b'{"id":%d}' % at
        for at in range(25_000)
    ]
    if missing:
        more = {"keys": COLUMNS[1]["keys"], **more}
    small = parcel(0, values, **more)
    keys = small.keys
    made = replace(
        small,
        values=cut(values, 700),
        keys=None if keys is None else cut(keys, 900),
    )

    assert spread(small) == spread(made)


def spread(parcel: Parcel) -> Any:
    """What goes to each topic, record by record."""
    found = []
    for topic, column in by_topic(parcel):
        for piece in column.slices():
            stamps, headers = piece.timestamps, piece.headers
            for at in range(len(piece)):
                found.append(
                    (
                        topic,
                        piece.values[at],
                        None if piece.keys is None else piece.keys[at],
                        stamps if isinstance(stamps, int) else stamps[at],
                        headers if isinstance(headers, bytes) else headers[at],
                        piece.weight(at, at + 1),
                        piece.origin(at),
                    )
                )
    return found


def test_what_is_written_is_let_go_before_the_page_s_end() -> None:
    """Nothing is collected within a page: what was sent of it must go by itself."""
    values = [json.dumps({"id": at, "x": "y" * 400}).encode() for at in range(40_000)]
    topic = topic_name()
    with (
        cluster() as broker,
        delivering(broker.bootstrap[0], budget=1 << 20) as delivery,
    ):
        way = outlet(delivery, Memory())
        way.begin()
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            way.hand_over(parcel(0, values, topic), {"page": 1})
            way.commit()
            found = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
            gc.enable()
    kept = sum(
        line.size
        for line in found.statistics("filename")
        if line.traceback[0].filename.endswith("sink/batch.py")
    )

    # 17 MB have been written.
    assert kept < 1 << 20
