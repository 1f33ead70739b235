"""
Every configuration of a mode: nothing lost, nothing twice, from every state on.

Each is a file's keys, made into polls as a run makes them, against a model of an API
whose rows are inserted, changed and deleted between any two requests.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from engine.config.endpoints import splittable
from tests.task.configurations import (
    CONFIGURATIONS,
    Changes,
)
from tests.task.courses import Course, Files


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_nothing_is_lost_and_nothing_comes_twice(name: str, tmp_path: Path) -> None:
    case = CONFIGURATIONS[name]
    feed = case.feed()
    files = Files(tmp_path, case.keys)
    file = files(4)
    # A mode that is no FULL one is one shard, whatever tasks.max says.
    assert not splittable(file.connector, file.api)
    for number in range(11):
        feed.put(number)
        feed.now += number % 3 * 7
    changes = Changes(feed, sum(name.encode()), late=case.late)
    course = Course(file.poll(feed))
    for turn in range(6):
        feed.between = changes if case.within else lambda: None
        # In the middle of a poll, or behind one.
        course((1, 2, 1 << 30, 3, 1 << 30, 1 << 30)[turn])
        if not case.within and (course.offset or {})["done"]:
            # A page by its number is another page when something moved in between.
            changes()
    feed.between = lambda: None
    for _ in range(3):
        feed.now += 40
        course()

    assert feed.rows() <= set(course.got), name
    twice = {each: n for each, n in Counter(course.got).items() if n > 1}
    assert case.repeats or not twice, name

    # From every state on, with pages of each size in turn, to the same end.
    end = course.offset or {}
    for at, (state, delivered) in enumerate(course.states):
        size = (1, 4, 2, 4, 7, 4, 50, 4)[at % 8]
        other = feed.size
        feed.size = other if feed.kind == "none" else size
        again = Course(files(size).poll(feed), dict(state))
        again()
        again()
        feed.size = other
        brought = [*course.got[:delivered], *again.got]
        assert feed.rows() <= set(brought), (name, at, size, state)
        found = again.offset or {}
        for field in ("bookmark", "kind"):
            assert end.get(field) == found.get(field), (name, at, state)


def test_all_of_them_are_there() -> None:
    assert 66 <= len(CONFIGURATIONS)
