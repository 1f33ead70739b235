"""Which record of a parcel goes where, and that each goes once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sink.batch import Batch, HeadStore
from engine.sink.columns import SLICE, column_of
from engine.sink.deal import by_partition
from engine.sink.murmur2 import Partitions, partition_of
from tests.sink.test_batch import Record, read

#: Keys as APIs have them, and as no two of them agree on.
KEYS: dict[str, list[bytes | None]] = {
    "of one length": [b"customer-%06d" % (at * 7 % 20) for at in range(60)],
    "all the same": [b"k"] * 60,
    "numbers": [b"%d" % (at * 37) for at in range(60)],
    "empty": [b""] * 60,
    "some missing": [None if at % 3 else b"%d" % at for at in range(60)],
    "all missing": [None] * 60,
    "one record": [b"k"],
    "one record without": [None],
    "one of them long": [b"x" * 9000 if at == 5 else b"k" for at in range(60)],
    "all of them long": [b"%09000d" % at for at in range(10)],
}


def dealt(
    keys: list[bytes | None], known: Partitions, **more: Any
) -> dict[int | None, list[Record]]:
    """What the batches of each partition hold; values are places in the page."""
    values = [b"%d" % at for at in range(len(keys))]
    column = column_of(values, keys, **more)
    found: dict[int | None, list[Record]] = {}
    for partition, part, start, stop in by_partition(column, known):
        assert [b"%d" % part.origin(at) for at in range(start, stop)] == (
            list(part.values[start:stop])
        )
        batch = Batch(HeadStore())
        taken, size = batch.fitting(part, start, stop, 1 << 20)
        assert stop - start == taken
        records = batch.encode(part, start, stop)
        assert len(records.block) <= size
        batch.commit(records)
        found.setdefault(partition, []).extend(read(batch.seal()))
    return found


@pytest.mark.parametrize("count", [1, 2, 6, 50])
@pytest.mark.parametrize("kind", KEYS)
def test_each_record_goes_where_its_key_belongs_in_its_order(
    kind: str, count: int
) -> None:
    keys = KEYS[kind]
    known = Partitions(count)
    for _ in range(2):
        found = dealt(keys, known)

        expected: dict[int | None, list[tuple[bytes | None, bytes]]] = {}
        for at, key in enumerate(keys):
            part = None if key is None else partition_of(key, count)
            expected.setdefault(part, []).append((key, b"%d" % at))
        assert expected == {
            part: [(record[2], record[3]) for record in records]
            for part, records in found.items()
        }


@given(
    st.lists(st.one_of(st.none(), st.binary(max_size=4)), min_size=1, max_size=40),
    st.data(),
)
def test_times_and_headers_go_with_their_records(
    keys: list[bytes | None], data: st.DataObject
) -> None:
    each = {"min_size": len(keys), "max_size": len(keys)}
    stamps = data.draw(st.one_of(st.just(7), st.lists(st.integers(0, 2**40), **each)))
    sets = data.draw(
        st.one_of(st.just(()), st.lists(st.just((("h", b"1"),)) | st.just(()), **each))
    )

    found = dealt(keys, Partitions(3), timestamps=stamps, headers=sets)

    for record in (record for records in found.values() for record in records):
        at = int(record[3] or b"")
        assert record[1] == (stamps if isinstance(stamps, int) else stamps[at])
        assert record[2] == keys[at]
        assert record[4] == list(sets[at] if isinstance(sets, list) else sets)
    assert len(keys) == sum(map(len, found.values()))


@pytest.mark.parametrize("kind", ["some missing", "all missing"])
def test_records_without_a_key_leave_the_others_written_from_tables(kind: str) -> None:
    keys = KEYS[kind]
    column = column_of([b"v"] * len(keys), keys)

    parts = [part for _, part, _, _ in by_partition(column, Partitions(3))]

    assert not column.short
    assert parts
    assert all(part.short for part in parts)


def test_slices_of_a_large_page_know_where_their_records_stood() -> None:
    count = 2 * SLICE + 123
    keys = [None if at % 7 == 0 else b"k%d" % at for at in range(count)]
    values = [b"%d" % at for at in range(count)]
    known = Partitions(6)

    found: list[int] = []
    for piece in column_of(values, keys).slices():
        for partition, part, start, stop in by_partition(piece, known):
            for at in range(start, stop):
                key = keys[part.origin(at)]
                assert values[part.origin(at)] == part.values[at]
                assert partition == (None if key is None else partition_of(key, 6))
                found.append(part.origin(at))

    assert sorted(found) == list(range(count))
