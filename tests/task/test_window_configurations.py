"""Every configuration of time windows: each walked once, from every state on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.config.endpoints import splittable
from engine.records import Offset, Page
from tests.fakes.walks import bytes_of
from tests.task.configurations import (
    WINDOWS,
)
from tests.task.courses import File, Files, stored


@pytest.mark.parametrize("name", WINDOWS)
def test_each_window_is_walked_once_from_every_state_on(
    name: str, tmp_path: Path
) -> None:
    case = WINDOWS[name]
    model = case.feed()
    start = 1_699_963_200.0 if "days" not in name else 1_699_570_800.0
    model.now = start + (3 * 3600 if "days" not in name else 86_400 * 6)
    span = model.now - start
    for number in range(32):
        # Thick in places, so that some windows are too large.
        model.put(number, int(start + span * (number / 32) ** 3))
    files = Files(tmp_path, case.keys)
    file = files(3)
    rows: dict[int, Any] = dict(model.rows)

    def numbers(pages: Sequence[Page]) -> list[int]:
        return [json.loads(record)["id"] for record in bytes_of(pages)]

    first = list(file.poll(model).pages(None))
    model.now += 90_000 if "days" in name else 1300
    for number in range(32, 40):
        model.put(number, int(model.now - 700 - (number % 5)))
    rest = list(file.poll(model).pages(stored(first[-1])))
    model.now += 90_000 if "days" in name else 1300
    pages = [*first, *rest, *list(file.poll(model).pages(stored(rest[-1])))]

    assert set(model.rows) == set(numbers(pages)), name
    assert 1 == max(Counter(numbers(pages)).values()), name
    assert rows.items() <= model.rows.items()
    for at, page in enumerate(pages):
        for size in {3, (1, 3, 3, 2, 3, 3, 50, 3)[at % 8]}:
            kept = model.size
            model.size = kept if model.kind == "none" else size
            course: list[int] = numbers(pages[: at + 1])
            again = files(size).poll(model)
            course += numbers(list(again.pages(stored(page))))
            model.size = kept
            assert set(model.rows) == set(course), (name, at, size)
            if size == 3:
                assert 1 == max(Counter(course).values()), (name, at)


@pytest.mark.parametrize("name", [n for n in WINDOWS if "overlap" not in n])
def test_windows_go_on_with_any_number_of_tasks(name: str, tmp_path: Path) -> None:
    case = WINDOWS[name]
    days = "days" in name
    file = File(tmp_path, case.keys, 3)
    assert splittable(file.connector, file.api)
    start = 1_699_570_800.0 if days else 1_699_963_200.0
    for before, after, cut in ((1, 3, 4), (3, 2, 2), (2, 1, 3), (4, 4, 1)):
        model = case.feed()
        model.now = start + (86_400 * 6 if days else 3 * 3600)
        for number in range(60):
            model.put(number, int(start + (model.now - start) * (number / 60) ** 2))
        got: list[int] = []
        family: list[tuple[int, int, Offset]] = []
        for index in range(before):
            poll = file.poll(model, index, before)
            last: Offset | None = None
            for number, page in enumerate(poll.pages(None)):
                got += [json.loads(record)["id"] for record in bytes_of([page])]
                last = stored(page)
                if number + 1 >= cut * (index + 1):
                    break
            last = last or poll.idle
            if last is not None:
                family.append((index, before, last))
        model.now += 90_000 if days else 1300
        for index in range(after):
            own = next((o for i, c, o in family if (i, c) == (index, after)), None)
            others = [each for each in family if each[1] != after]
            poll = file.poll(model, index, after, others)
            got += [
                json.loads(record)["id"] for record in bytes_of(list(poll.pages(own)))
            ]
        assert set(model.rows) == set(got), (name, before, after)
        twice = [n for n, count in Counter(got).items() if count > 1]
        assert not twice, (name, before, after, twice)


def test_all_of_them_are_there() -> None:
    assert 30 <= len(WINDOWS)
