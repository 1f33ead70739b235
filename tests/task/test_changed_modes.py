"""
A position of one mode and type, read by another: refused by name, or nothing is lost.

Each of them polls a list that grows, is cut off at each point, and another one goes on
from what it had stored; one that refuses says that the offset is to be reset.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.errors import StateError
from engine.records import Offset
from tests.task.configurations import FORMS, PAGING, PLACES, URL, WINDOWS, Changing
from tests.task.courses import File, of, stored

BASE = {"http.source.url": f"{URL}/list", "http.response.data.json.pointer": "/items"}
POINTER = {"http.offset.json.pointer": "/updated"}


def _all() -> dict[str, tuple[str, Mapping[str, str]]]:
    """Name -> pagination type, keys."""
    made: dict[str, tuple[str, Mapping[str, str]]] = {}

    def add(mode: str, kind: str, **keys: str) -> None:
        paging = {"pagination.type": kind, **PAGING[kind]}
        if kind == "odata":
            paging["http.response.data.json.pointer"] = "/value"
        elif kind == "keyset":
            keys = {**POINTER, **keys}
        made[f"{mode.lower()}-{kind}"] = (
            kind,
            {**BASE, **paging, "http.offset.mode": mode, **keys},
        )

    for kind in PAGING:
        add("FULL", kind)
        add("SNAPSHOT_PAGINATION", kind, **POINTER)
        since = {} if kind == "keyset" else PLACES["query"].keys(f"{URL}/list")
        add("INCREMENTAL", kind, **POINTER, **since)
    add("SIMPLE_INCREMENTING", "offset")
    add("CHAINING", "keyset")
    for kind in ("cursor", "next_url", "link_header", "odata"):
        add("CURSOR_PAGINATION", kind)
    return made


MODES = _all()
KEYSETS = ("full", "chaining")

#: What a refusal tells people to do.
REFUSED = "reset"

#: A number of records is sent as the value to go on behind: the API knows none of it.
ANSWERED_400 = {("simple_incrementing-offset", f"{mode}-keyset") for mode in KEYSETS}


def feed_of(kind: str) -> Changing:
    feed = Changing(kind, PLACES["query"], FORMS["iso"], "ASC", 0)
    for number in range(11):
        feed.put(number)
        feed.now += 7
    return feed


@pytest.mark.parametrize("before", MODES)
def test_what_one_stored_another_refuses_or_loses_nothing(
    before: str, tmp_path: Path
) -> None:
    refused, read = set(), set()
    for after, pages in itertools.product(MODES, (1, 99)):
        feed = feed_of(MODES[before][0])
        offset: Offset | None = None
        got: list[tuple[int, int]] = []
        walk = FILES(before).poll(feed).pages(None)
        for page in itertools.islice(walk, pages):
            got += of([page])
            offset = stored(page)
        walk.close()
        for number in range(11, 15):
            feed.put(number)
            feed.now += 7
        feed.kind = MODES[after][0]
        feed.size = 100_000 if feed.kind == "none" else 4
        if (before, after) in ANSWERED_400:
            continue
        try:
            for _ in range(2):
                for page in FILES(after).poll(feed).pages(offset):
                    got += of([page])
                    offset = stored(page)
                feed.now += 40
        except StateError as failure:
            assert REFUSED in str(failure), (before, after, pages, failure)
            assert after != before, (pages, failure)
            refused.add(after)
            continue
        read.add(after)
        assert feed.rows() <= set(got), (before, after, pages)
    assert before in read - refused
    # Whatever was stored, a poll that is not cut off can be followed by one of all there is.
    assert f"full-{MODES[before][0]}" in read


class Made:
    """The file of each mode, read once."""

    def __init__(self) -> None:
        self._made: dict[str, File] = {}
        self.folder = Path()

    def __call__(self, name: str) -> File:
        if name not in self._made:
            folder = self.folder / name
            folder.mkdir()
            self._made[name] = File(folder, MODES[name][1])
        return self._made[name]


FILES = Made()


@pytest.fixture(autouse=True, scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    FILES.folder = tmp_path_factory.mktemp("modes")


@pytest.mark.parametrize("name", MODES)
def test_time_windows_and_what_has_none_know_each_other(
    name: str, tmp_path: Path
) -> None:
    case = WINDOWS["windows-cursor-iso"]
    windowed = File(tmp_path, case.keys)
    model = case.feed()
    model.put(1, model.now - 3600)
    model.put(2, model.now - 1800)
    cut = [stored(page) for page in windowed.poll(model).pages(None)]
    feed = feed_of(MODES[name][0])
    for offset in (cut[0], cut[-1]):
        got: list[tuple[int, int]] = []
        try:
            for page in FILES(name).poll(feed).pages(offset):
                got += of([page])
        except StateError as failure:
            assert REFUSED in str(failure)
            continue
        assert feed.rows() <= set(got)
    for page in FILES(name).poll(feed).pages(None):
        with pytest.raises(StateError, match=REFUSED):
            next(windowed.poll(model).pages(stored(page)))
