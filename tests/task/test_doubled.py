"""Members that stand twice: the page is judged by its first record."""

from __future__ import annotations

import pytest
from msgspec import Raw

from engine.task.doubled import LARGEST, doubled

TWICE = '{"a":1,"a":2}'


@pytest.mark.parametrize(
    ("records", "count"),
    [
        ([], 0),
        (['{"a":1}', TWICE], 0),
        ([TWICE, '{"a":1}', TWICE], 2),
        (['{"b":{"x":1,"x":1}}'], 1),
        (['[{"x":1,"x":1}]'], 1),
        (['{"b":{"a":1},"a":1,"c":[{"a":1},{"a":2}]}'], 0),
        (['{"\\u0061":1,"a":2}'], 1),
        (['{"text":"\\"a\\":1,\\"a\\":2"}'], 0),
        (["3"], 0),
        (['{"a":' + "9" * 6000 + ',"a":1e999}'], 1),
        (['{"a":'], 0),
        (["[" * 30000 + "]" * 30000], 0),
        ([TWICE[:-1] + ',"b":"' + "x" * LARGEST + '"}'], 0),
    ],
)
def test_records_with_a_member_twice_are_counted(
    records: list[str], count: int
) -> None:
    assert count == doubled([Raw(each.encode()) for each in records])
