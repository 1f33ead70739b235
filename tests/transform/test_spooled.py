"""What a page too large for memory has become lies in files, and is the same."""

from __future__ import annotations

import os
from typing import Any

import pytest
from msgspec import Raw

from engine import columnfile
from engine.columnfile import ColumnFile
from engine.errors import RecordError
from engine.records import CutSequence
from engine.transform import simple_converter
from tests.transform.pages import columns, large, page_of, transform

ROWS: list[Any] = [
    {"id": at, "k": f"k{at % 7}" if at % 5 else None, "t": "ab"[at % 2], "n": "é" * at}
    for at in range(60)
]
ID = '[{"source": "id", "target": "id", "type": "LONG"}]'


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnfile, "WINDOW", 100)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"key": "${k}"},
        {"key": "${k}", "topic": "orders-${t}"},
        {"timestamp": "${id}"},
        {"headers": [("a", "${k}"), ("b", "x")]},
        {"provenance": True},
        {"provenance": True, "key": "${k}", "headers": [("a", "${k}")]},
        {"mappings": ID},
        {"mappings": ID, "key": "${id}"},
        {"filters": '[{"field":"id","operator":"GREATER_THAN","value":11}]'},
        {"filters": '[{"field":"id","operator":"GREATER_THAN","value":99}]'},
        {"deduplication": True, "deduplication_fields": ["t"]},
        {"deduplication": True, "key": "${id}"},
        {"value_converter": simple_converter("String")},
    ],
)
@pytest.mark.parametrize("batch_size", [1, 7, 60, 500])
def test_each_column_is_that_of_a_page_in_memory(
    keys: dict[str, Any], batch_size: int
) -> None:
    rows = [*ROWS[:30], b'{"id": "x", "k": 1', *ROWS[30:]]
    page = page_of(rows)
    more = {"tolerance": "all", "batch_size": batch_size, **keys}
    small = transform(**more)(page)
    made = transform(**more)(large(page))

    assert columns(small) == columns(made)
    assert list(small.indexes or ()) == list(made.indexes or ())
    for lengths, column in (
        (made.lengths, small.values),
        (made.key_lengths, small.keys or ()),
    ):
        if lengths is not None:
            assert list(lengths) == [len(item or b"") for item in column]
    if len(made.values):
        assert isinstance(made.values, CutSequence)


def test_nothing_of_a_large_page_is_left_when_one_record_is_bad() -> None:
    page = page_of([*ROWS, {"id": "x"}])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RecordError, match="record 60"):
        transform(mappings=ID, batch_size=7)(large(page))

    assert before == len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    "items",
    [
        [],
        [None],
        [b""],
        [None, b"", None],
        [b"a", None, b"bc" * 80, b"", Raw(b"{}"), None],
        [b"x" * 99, b"y", b"z" * 250, b"w"] * 5,
    ],
)
@pytest.mark.parametrize("step", [1, 2, 100])
def test_a_column_comes_back_as_it_went(items: list[Any], step: int) -> None:
    with ColumnFile() as file:
        for at in range(0, len(items), step):
            file.extend(items[at : at + step])
        found, lengths = file.column()

    wanted = [None if item is None else bytes(item) for item in items]
    assert wanted == list(found)
    if None in items:
        assert lengths is None
    else:
        assert list(map(len, items)) == list(lengths or ())
