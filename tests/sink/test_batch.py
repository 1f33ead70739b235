"""What is encoded is what another reader of the format finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.memory_records import MemoryRecords

from engine.records import KafkaHeaders
from engine.sink import columns
from engine.sink.batch import HEADER, Batch, HeadStore, Sealed
from engine.sink.columns import column_of, varint
from engine.sink.compress import packing
from tests.examples import examples

Record = tuple[int, int, bytes | None, bytes | None, list[Any]]


def read(sealed: Sealed) -> list[Record]:
    """The records as kafka-python's own reader sees them."""
    [batch] = list(MemoryRecords(sealed.whole(-1, -1, -1, txn=False)))
    assert batch.validate_crc()
    return [
        (each.offset, each.timestamp, each.key, each.value, each.headers)
        for each in batch
    ]


def packed(pages: Sequence[tuple[Any, ...]], limit: int, heads: HeadStore) -> list[Any]:
    """Batches as a delivery fills them: one after the other, cut at the limit."""
    batches = [Batch(heads)]
    for page in pages:
        column = column_of(*page)
        start = 0
        while start < len(column):
            last = batches[-1]
            taken, size = last.fitting(column, start, len(column), limit)
            if not taken:
                batches.append(Batch(heads))
                continue
            before = last.size
            last.commit(last.encode(column, start, start + taken))
            assert last.size - before <= size
            start += taken
    return batches


values = st.lists(st.binary(max_size=300), min_size=1, max_size=40)
headers = st.lists(
    st.tuples(st.text(max_size=10), st.one_of(st.none(), st.binary(max_size=10))),
    max_size=3,
).map(tuple)
stamps = st.integers(0, 2**45)


@st.composite
def parcels(draw: st.DrawFn) -> tuple[Any, ...]:
    """A page's columns in every shape a parcel allows."""
    count = draw(st.integers(1, 30))

    def each(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        return st.lists(strategy, min_size=count, max_size=count)

    value = st.binary(max_size=200)
    return (
        draw(st.one_of(each(value), each(st.one_of(st.none(), value)))),
        draw(
            st.one_of(
                st.none(),
                each(st.one_of(st.none(), st.binary(max_size=20))),
                each(st.binary(max_size=100)),
                st.integers(0, 100).flatmap(
                    lambda size: each(st.binary(min_size=size, max_size=size))
                ),
            )
        ),
        draw(st.one_of(stamps, each(stamps))),
        draw(st.one_of(headers, each(headers))),
    )


def expected_of(page: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    found, keys, times, sets = page
    return [
        (
            times if isinstance(times, int) else times[at],
            keys[at] if keys is not None else None,
            value,
            list(sets if isinstance(sets, tuple) else sets[at]),
        )
        for at, value in enumerate(found)
    ]


@settings(max_examples=examples(200))
@given(st.lists(parcels(), min_size=1, max_size=4), st.integers(61, 4000))
def test_every_record_comes_back_in_order_and_no_batch_is_too_large(
    pages: list[tuple[Any, ...]], limit: int
) -> None:
    batches = packed(pages, limit, HeadStore())

    found = []
    for batch in batches:
        sealed = batch.seal()
        assert sealed.size == batch.size
        assert batch.size <= limit or batch.count == 1
        records = read(sealed)
        assert list(range(len(records))) == [record[0] for record in records]
        found += [record[1:] for record in records]
    assert [record for page in pages for record in expected_of(page)] == found


@pytest.mark.parametrize("kind", ["none", "gzip", "snappy", "lz4", "zstd"])
@given(found=values, repeat=st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_every_compression_gives_the_same_records(
    kind: str, found: list[bytes], repeat: int
) -> None:
    found = found * repeat
    batch = Batch(HeadStore())
    batch.append(column_of(found, None, 5))

    sealed = batch.seal(packing(kind))

    assert found == [record[3] for record in read(sealed)]
    assert sealed.size <= sealed.raw


def test_compression_that_would_enlarge_is_left_out() -> None:
    batch = Batch(HeadStore())
    batch.append(column_of([b"x"], None, 5))

    sealed = batch.seal(packing("gzip"))

    assert sealed.raw == sealed.size
    assert [(0, 5, None, b"x", [])] == read(sealed)


def test_raw_json_is_taken_as_it_lies_in_the_page() -> None:
    body = b'[{"a": 1},  "x" , [2 ] ]'
    batch = Batch(HeadStore())
    batch.append(column_of(msgspec.json.decode(body, type=list[msgspec.Raw])))

    assert [b'{"a": 1}', b'"x"', b"[2 ]"] == [each[3] for each in read(batch.seal())]


def test_heads_are_kept_up_to_a_bound_and_stay_right_beyond_it() -> None:
    heads = HeadStore(limit=100)

    for size in range(50):
        found = [bytes(size + at) for at in range(20)]
        batch = Batch(heads)
        batch.append(column_of(found, None, 7))
        batch.append(column_of(found, None, 7 + size))
        assert found * 2 == [each[3] for each in read(batch.seal())]
        assert len(heads) <= 100 + 20


@pytest.mark.parametrize("size", [0, 63, 64, 65, 8191, 8192])
def test_keys_of_one_length_are_written_whatever_it_is(size: int) -> None:
    keys = [bytes(bytearray(number for _ in range(size))) for number in range(3)]
    batch = Batch(HeadStore())
    batch.append(column_of([b"v"] * 3, keys, 5))

    assert keys == [each[2] for each in read(batch.seal())]


def test_a_batch_of_more_records_than_there_are_numbers_in_tables() -> None:
    keys, values = [b"key"] * 300, [b"%d" % at for at in range(300)]
    batch = Batch(HeadStore())
    for number in range(2 * columns.SHORT // 300):
        # Keys of other lengths than these, more than there are tables for.
        batch.append(column_of([b"x"], [b"k" * (number % 20)], 5))
        batch.append(column_of(values, keys, 5))

    found = read(batch.seal())

    assert 2 * columns.SHORT - 600 < len(found)
    assert list(range(len(found))) == [each[0] for each in found]
    assert keys * (len(found) // 301) == [e[2] for e in found if e[3] != b"x"]
    assert values * (len(found) // 301) == [e[3] for e in found if e[3] != b"x"]
    assert len(columns._numbered) <= columns.MOST_NUMBERED


def test_the_producers_numbers_are_stamped_and_covered_by_the_checksum() -> None:
    batch = Batch(HeadStore())
    batch.append(column_of([b"x", b"y"], None, 5))
    sealed = batch.seal()

    whole = sealed.whole(77, 3, 1234, txn=True)

    [found] = list(MemoryRecords(whole))
    assert found.validate_crc()
    fields = HEADER.unpack_from(whole)
    assert (2, 0x10, 1, 5, 5, 77, 3, 1234, 2) == fields[3:4] + fields[5:]


@given(st.integers(-(2**62), 2**62))
def test_a_varint_is_read_back(number: int) -> None:
    from kafka.record.util import decode_varint

    encoded = varint(number)

    assert (number, len(encoded)) == decode_varint(bytearray(encoded))


def test_header_sets_keep_order_and_repeats() -> None:
    sets: KafkaHeaders = (("a", b"1"), ("a", None), ("b", b""))
    batch = Batch(HeadStore())
    batch.append(column_of([b"x"], None, 0, sets))

    assert list(sets) == read(batch.seal())[0][4]


@pytest.mark.parametrize("keys", [None, [b"k%d" % (at % 3) for at in range(35)]])
@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20, 35])
def test_a_large_column_is_the_same_in_slices(
    count: int, keys: list[bytes] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [b"%d" % (number * 37) for number in range(count)]
    keys = keys and keys[:count]
    weight = column_of(values, keys, 7).weight(0, count)
    monkeypatch.setattr(columns, "SLICE", 10)
    pieces = list(column_of(values, keys, 7).slices())

    assert max(map(len, pieces)) <= 10
    assert [value for piece in pieces for value in piece.values] == values
    assert sum(piece.weight(0, len(piece)) for piece in pieces) == weight
    assert column_of(values, keys, 7).weight(0, count) == weight
    origins = [piece.origin(at) for piece in pieces for at in range(len(piece))]
    assert origins == list(range(count))
