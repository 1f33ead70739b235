"""A batch gives the newest record of each key of ours, and nothing of others."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatchBuilder

from engine.errors import Misconfigured
from engine.sink.compress import NUMBERS, XERIAL
from engine.sink.scan import FetchedRecords, KeyFilter, Scanned, scan
from tests.examples import examples

OURS = b'["my-conn",{"api":"a"}]'
OTHER = b'["my-conn",{"api":"b"}]'
WANTED = KeyFilter(["my-conn"], [b'"count"'])

#: (key, value, time stamp)
Row = tuple[bytes | None, bytes | None, int]


def batch(
    rows: Sequence[Row],
    *,
    base: int = 0,
    codec: int = 0,
    producer: int = -1,
    transactional: bool = False,
) -> bytes:
    """As another client writes it."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=transactional,
        producer_id=producer,
        producer_epoch=0 if producer >= 0 else -1,
        base_sequence=0 if producer >= 0 else -1,
        batch_size=1 << 24,
    )
    for at, (key, value, stamp) in enumerate(rows):
        builder.append(at, stamp, key, value, [("h", b"x")])
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, base)
    return bytes(built)


def control(*, base: int, producer: int, commit: bool) -> bytes:
    """The marker at a transaction's end."""
    key = struct.pack(">hh", 0, int(commit))
    made = bytearray(
        batch([(key, b"\0" * 6, 5)], base=base, producer=producer, transactional=True)
    )
    (attributes,) = struct.unpack_from(">h", made, 21)
    struct.pack_into(">h", made, 21, attributes | 0x20)
    return bytes(made)


def scanned(*batches: bytes, wanted: KeyFilter = WANTED, **more: Any) -> Scanned:
    return scan(FetchedRecords(3, b"".join(batches)), wanted, **more)


def test_the_newest_record_of_each_key_is_cut_out() -> None:
    found = scanned(
        batch([(OURS, b"1", 10), (OTHER, b"2", 11), (OURS, b"3", 12)], base=100),
        batch([(OTHER, None, 20)], base=200),
    )

    assert {OURS: (3, 102, 12, b"3"), OTHER: (3, 200, 20, None)} == {
        key: (each.partition, each.offset, each.timestamp, each.value)
        for key, each in found.found.items()
    }
    assert 201 == found.end
    assert found.strange is None


@pytest.mark.parametrize("thorough", [True, False])
@pytest.mark.parametrize(
    "key",
    [
        b'["my-conn2",{"api":"a"}]',
        b'["my-con",{"api":"a"}]',
        b'["other",{"api":"my-conn"}]',
        b'["my-conn"]',
        b'"my-conn"',
        b'"tasks-fencing-my-conn"',
        b'{"my-conn":1}',
        b'["other",{"api":"[\\"my-conn\\",{}]"}]',
        b"17",
        b" null ",
    ],
)
def test_what_is_anothers_is_passed_over(key: bytes, thorough: bool) -> None:
    found = scanned(batch([(key, b'["my-conn",{"a":"b"}]', 1)]), thorough=thorough)

    assert {} == found.found
    assert found.strange is None


@pytest.mark.parametrize("thorough", [True, False])
@pytest.mark.parametrize(
    "key",
    [
        b'[ "my-conn", {"api": "a"} ]',
        b'\n[\t"my-conn" ,{"api":"a"}]',
        b'["my-conn",{"api":"\xc3\xa4"}]',
        b'["my-conn",' + b"x" * 5000,
        b'"count"',
    ],
)
def test_every_spelling_of_a_key_of_ours_is_found(key: bytes, thorough: bool) -> None:
    found = scanned(batch([(key, b"v", 1)]), thorough=thorough)

    assert [key] == list(found.found)


@pytest.mark.parametrize("key", [None, b"", b"\xff\xfe", b"orders-7", b"[nonsense"])
@pytest.mark.parametrize("thorough", [True, False])
def test_a_key_that_is_no_json_is_told_once(key: bytes | None, thorough: bool) -> None:
    found = scanned(
        batch([(key, b"{}", 1), (b"\0", b"{}", 1)], base=7),
        batch([(OURS, b"1", 1)], base=9),
        thorough=thorough,
    )

    assert found.strange is not None
    assert (3, 7) == (found.strange.partition, found.strange.offset)
    assert [OURS] == list(found.found)


def test_a_look_at_the_first_key_only_misses_none_of_ours() -> None:
    rows: list[Row] = [(b'["other",{}]', b"x", 1) for _ in range(50)]

    found = scanned(
        batch(rows),
        batch([*rows, (OURS, b"1", 2), *rows], base=50),
        batch(rows, base=200),
        thorough=False,
    )

    assert 100 == found.found[OURS].offset
    assert 250 == found.end


@pytest.mark.parametrize("codec", ["gzip", "lz4"])
@pytest.mark.parametrize("thorough", [True, False])
def test_compressed_batches_are_read(codec: str, thorough: bool) -> None:
    rows: list[Row] = [(b'["other",{}]', b"x" * 100, 1)] * 20
    rows += [(OURS, b'{"page":1}', 3), (OURS, b'{"page":2}', 4)]

    found = scanned(batch(rows, base=10, codec=NUMBERS[codec]), thorough=thorough)

    assert (31, b'{"page":2}') == (found.found[OURS].offset, found.found[OURS].value)


def recoded(block: bytes, number: int) -> bytes:
    """A batch whose records are this block."""
    plain = batch([(OURS, b'{"page":2}', 4)])
    made = bytearray(plain[:61] + block)
    struct.pack_into(">i", made, 8, len(made) - 12)
    struct.pack_into(">h", made, 21, number)
    return bytes(made)


def test_zstd_and_snappy_are_read_as_java_writes_them() -> None:
    records = batch([(OURS, b'{"page":2}', 4)])[61:]
    cramjam = pytest.importorskip("cramjam")
    block = bytes(cramjam.snappy.compress_raw(records))
    java = XERIAL + struct.pack(">i", len(block)) + block

    for made in (
        recoded(bytes(cramjam.zstd.compress(records)), NUMBERS["zstd"]),
        recoded(block, NUMBERS["snappy"]),
        recoded(java, NUMBERS["snappy"]),
    ):
        assert b'{"page":2}' == scanned(made).found[OURS].value


def test_a_damaged_block_and_an_unknown_codec_are_no_answer() -> None:
    with pytest.raises(ValueError, match="damaged"):
        scanned(recoded(gzip.compress(b"x")[:8], NUMBERS["gzip"]))
    with pytest.raises(Misconfigured, match="unknown codec 6"):
        scanned(recoded(b"x", 6))


def test_what_was_aborted_does_not_count_and_markers_are_no_records() -> None:
    piece = FetchedRecords(
        0,
        b"".join(
            [
                batch([(OURS, b"kept", 1)], base=0, producer=7, transactional=True),
                control(base=1, producer=7, commit=True),
                batch([(OURS, b"gone", 2)], base=2, producer=7, transactional=True),
                batch([(OTHER, b"other", 2)], base=3, producer=8, transactional=True),
                control(base=4, producer=7, commit=False),
                control(base=5, producer=8, commit=True),
                batch([(OTHER, b"after", 3)], base=6, producer=7, transactional=True),
                control(base=7, producer=7, commit=True),
            ]
        ),
        aborted=[(7, 2)],
    )

    found = scan(piece, WANTED)

    assert {OURS: b"kept", OTHER: b"after"} == {
        key: each.value for key, each in found.found.items()
    }
    assert 8 == found.end
    assert found.strange is None


def test_a_part_of_a_batch_is_left_for_the_next_answer() -> None:
    whole, cut = batch([(OURS, b"1", 1)], base=0), batch([(OURS, b"2", 1)], base=1)

    for at in range(len(cut)):
        found = scanned(whole, cut[:at])
        assert (1, b"1") == (found.end, found.found[OURS].value)
    assert scanned(cut[:30]).end is None
    assert scanned(b"").end is None


def test_a_batch_of_which_compaction_left_nothing_moves_the_end() -> None:
    empty = bytearray(batch([(OURS, b"1", 1), (OURS, b"2", 1)], base=4)[:61])
    struct.pack_into(">i", empty, 8, 49)
    struct.pack_into(">i", empty, 57, 0)

    found = scanned(bytes(empty))

    assert ({}, 6) == (found.found, found.end)


def test_the_time_of_a_log_that_appends_is_the_batchs() -> None:
    made = bytearray(batch([(OURS, b"1", 10), (OTHER, b"2", 90)]))
    struct.pack_into(">h", made, 21, 0x08)

    found = scanned(bytes(made)).found

    assert [90, 90] == [found[OURS].timestamp, found[OTHER].timestamp]


keys = st.one_of(
    st.sampled_from([OURS, OTHER, b'[ "my-conn", {}]', b'"count"', b"\0", b""]),
    st.text(max_size=200).map(lambda text: json.dumps([text, {"a": text}]).encode()),
    st.binary(max_size=40),
    st.none(),
)
rows = st.tuples(
    keys,
    st.one_of(st.none(), st.binary(max_size=300)),
    st.integers(0, 2**41),
)


@given(
    st.lists(st.lists(rows, min_size=1, max_size=6), max_size=8),
    st.sampled_from([0, 1, 3]),
    st.integers(0, 2**40),
    st.booleans(),
)
@settings(max_examples=examples(200), deadline=None)
def test_a_scan_finds_what_a_reader_of_every_record_finds(
    batches: list[list[Row]], codec: int, base: int, thorough: bool
) -> None:
    expected, data, offset = {}, b"", base
    for each in batches:
        data += batch(each, base=offset, codec=codec)
        for at, (key, value, stamp) in enumerate(each):
            if key is not None and WANTED.has(key):
                expected[key] = (0, offset + at, stamp, value)
        offset += len(each)

    found = scan(FetchedRecords(0, data), WANTED, thorough=thorough)

    assert expected == {
        key: (each.partition, each.offset, each.timestamp, each.value)
        for key, each in found.found.items()
    }
    assert (offset if batches else None) == found.end
