"""Values of a page that compare as they lie there: what is told of them, in any order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.source.paging.rows import row_of
from engine.source.paging.values import Scale

START = datetime(2026, 1, 1, tzinfo=UTC)

#: What a number becomes in a record, and the scale that is declared for it.
FORMS: dict[str, tuple[str, Any]] = {
    "numbers": ("auto", int),
    "seconds since 1970": ("timestamp", lambda at: 1_700_000_000 + at),
    "milliseconds since 1970": ("timestamp", lambda at: 1_700_000_000_000 + at),
    "times": (
        "auto",
        lambda at: (START + timedelta(seconds=at)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    ),
    "times with milliseconds": (
        "auto",
        lambda at: (
            (START + timedelta(milliseconds=at)).strftime("%Y-%m-%d %H:%M:%S.")
            + f"{at % 1000:03d}"
        ),
    ),
    "texts": ("string", lambda at: f"v{at:05d}"),
}


def in_order(numbers: list[int], order: str) -> list[int]:
    if order == "as they come":
        return numbers
    return sorted(numbers, reverse=order == "falling")


@pytest.mark.parametrize("order", ["as they come", "rising", "falling"])
@pytest.mark.parametrize("form", FORMS)
@given(numbers=st.lists(st.integers(0, 20), min_size=1, max_size=12), data=st.data())
def test_a_row_tells_what_one_by_one_tells(
    form: str, order: str, numbers: list[int], data: st.DataObject
) -> None:
    declared, made = FORMS[form]
    values = [made(number) for number in in_order(numbers, order)]
    scale = Scale(declared)

    row = row_of(scale, values)

    assert row is not None
    keys: list[Any] = [scale.key(value) for value in values]
    assert (min(keys), max(keys)) == (row.low, row.high)
    assert (max(values), values.index(max(values))) == (row.largest, row.place)
    assert (keys == sorted(keys)) is row.holds(down=False)
    assert (keys == sorted(keys, reverse=True)) is row.holds(down=True)
    threshold = data.draw(st.sampled_from(sorted(set(keys))))
    behind = [at for at, key in enumerate(keys) if key >= threshold]
    assert behind == list(row.behind(threshold))
    assert [keys[at] for at in behind] == [row.key(at) for at in behind]


@pytest.mark.parametrize(
    "values",
    [
        ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z"],
        ["2026-01-01T00:00:00Z", 5],
        [1, 2.5],
        [1, True],
        [None, 1],
        ["", "a"],
    ],
)
def test_values_of_other_kinds_are_read_one_by_one(values: list[object]) -> None:
    assert row_of(Scale("string" if values[0] == "" else "auto"), values) is None
