"""A quick share of the table of faults, and the table itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import has_java
from tests.faults import matrix
from tests.faults.field import Field, field
from tests.faults.matrix import Line, one
from tests.faults.rows import ROWS
from tests.needs import need

#: Whose faults are dear to users and quick to make; all of them run by hand.
QUICK = [
    ("F01", "at least once"),
    ("F01", "exactly once"),
    ("F05", "exactly once"),
    ("K1", "exactly once"),
]


@pytest.fixture(scope="module")
def where() -> Iterator[Field]:
    need(has_java(), "Java or Maven")
    with field() as found:
        yield found


@pytest.mark.kafka
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "mode"), QUICK)
def test_what_a_fault_costs(where: Field, name: str, mode: str) -> None:
    verdict = one(ROWS[name], mode, where)

    assert [] == verdict.wrong
    assert 0 == verdict.lost
    if mode == "exactly once" or name != "F01":
        assert 0 == verdict.duplicated


@pytest.mark.parametrize(
    ("letter", "numbers"),
    [
        ("F", [*range(1, 19), *range(20, 40)]),
        ("K", range(1, 12)),
    ],
)
def test_no_fault_of_the_catalogue_is_missing(letter: str, numbers: list[int]) -> None:
    there = {name.split()[0] for name in ROWS}

    assert {
        f"{letter}{at:02}" if letter == "F" else f"K{at}" for at in numbers
    } <= there


def test_lines_take_the_place_of_their_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "faults.md"
    page.write_text("above\n" + "".join(matrix.MARKS) + "below\n")
    monkeypatch.setattr(matrix, "PAGE", page)
    matrix.write([Line("F10", "ten", "m", 1), Line("F2 b", "two", "m", 1, 2, 3, 4.5)])
    matrix.write([Line("F10", "ten", "m", 5), Line("K1", "one", "", note="not run")])

    found = page.read_text()
    assert "above\n" + matrix.MARKS[0] + matrix.HEAD in found
    assert found.endswith(matrix.MARKS[1] + "below\n")
    rows = [line for line in found.splitlines() if line.startswith(("| F", "| K"))]
    assert [
        "| F2 b | two | m | 1 | 2 | 3 | 4.5 |  |",
        "| F10 | ten | m | 5 | 0 | 0 |  |  |",
        "| K1 | one |  |  |  |  |  | not run |",
    ] == rows
