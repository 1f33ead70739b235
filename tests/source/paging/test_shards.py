"""Several shards read one api: each page once, through kills and changes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Unexpected
from engine.records import Offset, Page
from engine.source.paging.position import done_once, told
from engine.source.poll import Poll
from tests.examples import examples
from tests.fakes.coordination import Wall
from tests.fakes.walks import poll_of
from tests.source.paging.test_paginator import URL, Answers, Told, bytes_of, page


def serve(kind: str, count: int, cap: int = 1000, **envelope: bool) -> Answers:
    """`count` records, each its own number; pages from 1."""

    def answer(query: dict[str, str]) -> Told:
        width = min(int(query["limit"]), cap)
        if kind == "page":
            at = (int(query["page"]) - 1) * width
        else:
            at = int(query["offset"])
        told: dict[str, object] = {}
        if envelope.get("total"):
            told["total"] = count
        if envelope.get("pages"):
            told["pages"] = -(-count // width)
        if envelope.get("more"):
            told["more"] = at + width < count
        return page(*range(at, min(at + width, count)), **told)

    return Answers(answer)


class Parked(Exception):
    """A shard waits for the others."""


class Impatient:
    """A stopping flag: a shard that would wait is parked instead."""

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        raise Parked


class Fleet:
    """All shards of an api, run in turns in one thread, killed at will."""

    def __init__(self, kind: str, fetch: Answers, count: int, **keys: Any):
        self.kind = kind
        self.fetch = fetch
        self.count = count
        self.keys = keys
        self.stored: dict[tuple[int, int], Offset] = {}
        self.pages: list[Page] = []
        self.wall = Wall(count)
        self.start()

    def resize(self, count: int) -> None:
        """Another number of tasks; the notices of the old are gone."""
        self.count = count
        self.wall = Wall(count)
        self.start()

    def start(self) -> None:
        """A new process for each shard."""
        for index in range(self.count):
            known = told(self.stored.get((index, self.count)))
            stored = self.stored.get((index, self.count))
            self.wall.board.claims(index).keep(stored and int(stored["poll"]))
            if known is not None:
                self.wall.notices[index] = *known, None
        self.polls = [self._poll(index) for index in range(self.count)]

    def _poll(self, index: int) -> Poll:
        others = [
            (i, of, offset)
            for (i, of), offset in self.stored.items()
            if of != self.count
        ]
        return poll_of(
            URL,
            self.kind,
            fetch=self.fetch,
            index=index,
            count=self.count,
            others=others,
            coordination=self.wall.member(index),
            stopping=Impatient(),
            **self.keys,
        )

    def shard(self, index: int) -> Generator[Page]:
        return self.polls[index].pages(self.stored.get((index, self.count)))

    def unfinished(self) -> list[int]:
        """The shards that have not had their part of poll 1."""
        return [
            index
            for index in range(self.count)
            if not done_once(self.stored.get((index, self.count)), [{"poll": 1}], 1)
        ]

    def run(
        self,
        order: random.Random,
        stop_after: int | None = None,
        shards: Sequence[int] | None = None,
    ) -> None:
        """
        One poll of each shard in random turns; or stop, killed in the middle.
        """
        if shards is None:
            shards = range(self.count)
        polls = {index: self.shard(index) for index in shards}
        had: set[int] = set()
        parked: set[int] = set()
        for _ in range(2_000):
            if not polls.keys() - parked:
                # Nobody is left whom the others could wait for in this round.
                return
            if stop_after is not None:
                if stop_after == 0:
                    return
                stop_after -= 1
            index = order.choice(sorted(polls.keys() - parked))
            try:
                got = next(polls[index])
            except StopIteration:
                del polls[index]
                parked.clear()
                idle = self.polls[index].idle
                if index not in had and idle is not None:
                    self.stored[index, self.count] = idle
            except Parked:
                # An ended generator cannot go on: it starts where it stood.
                polls[index] = self.shard(index)
                parked.add(index)
            else:
                parked.clear()
                had.add(index)
                self.pages.append(got)
                self.stored[index, self.count] = got.offset
                if got.last:
                    del polls[index]
        raise AssertionError(f"shards {sorted(polls)} wait for ever")

    def numbers(self) -> list[int]:
        return sorted(int(record) for record in bytes_of(self.pages))


KINDS = ("offset", "page")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shards", range(1, 9))
def test_each_page_is_asked_once_over_all_shards(kind: str, shards: int) -> None:
    fetch = serve(kind, 230)
    fleet = Fleet(kind, fetch, shards, limit=10)

    fleet.run(random.Random(shards))

    assert list(range(230)) == fleet.numbers()
    assert {1} == set(Counter(fetch.asked).values())
    # Beyond the last page each shard asks at most one.
    assert len(fetch.asked) <= 23 + shards


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", ["total", "pages", "more"])
def test_an_end_that_is_told_is_not_asked_beyond(kind: str, field: str) -> None:
    names = {
        "total": "total_field",
        "pages": "total_pages_field",
        "more": "has_more_field",
    }
    fetch = serve(kind, 200, **{field: True})
    fleet = Fleet(kind, fetch, 4, limit=10, **{names[field]: field})

    fleet.run(random.Random(4))

    assert list(range(200)) == fleet.numbers()
    # The last page is full, which a total does not explain: each asks once more.
    assert len(fetch.asked) <= 24
    assert all(offset["done"] for offset in fleet.stored.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 35])
def test_fewer_pages_than_shards(kind: str, count: int) -> None:
    fleet = Fleet(kind, serve(kind, count), 8, limit=10)

    for expected in (1, 2, 3):
        fleet.run(random.Random(count))

        assert sorted(list(range(count)) * expected) == fleet.numbers()


@pytest.mark.parametrize("kind", KINDS)
def test_a_capping_server_loses_nothing_over_shards(kind: str) -> None:
    fleet = Fleet(kind, serve(kind, 95, cap=10), 3, limit=100)

    fleet.run(random.Random(3))

    assert list(range(95)) == fleet.numbers()


def test_a_server_that_gives_more_than_asked_repeats_nothing_over_shards() -> None:
    def answer(query: dict[str, str]) -> Told:
        at = int(query["offset"])
        # A first page of 5, then pages of up to 8.
        width = 5 if at == 0 else 8
        return page(*range(at, min(at + width, 60)))

    fleet = Fleet("offset", Answers(answer), 3, limit=10)

    fleet.run(random.Random(3))

    assert list(range(60)) == fleet.numbers()


@settings(max_examples=examples(150), deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    count=st.integers(0, 120),
    cap=st.sampled_from([3, 10, 1000]),
    told=st.sampled_from(["", "total", "pages", "more"]),
    shards=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    stops=st.lists(st.integers(0, 30), min_size=4, max_size=4),
    max_pages=st.sampled_from([1, 2, 1000]),
    seed=st.integers(0, 1000),
)
def test_kills_and_changes_of_the_number_of_shards_lose_and_repeat_nothing(
    kind: str,
    count: int,
    cap: int,
    told: str,
    shards: list[int],
    stops: list[int],
    max_pages: int,
    seed: int,
) -> None:
    fields = {
        "": {},
        "total": {"total_field": "total"},
        "pages": {"total_pages_field": "pages"},
        "more": {"has_more_field": "more"},
    }
    fetch = serve(kind, count, cap, **({told: True} if told else {}))
    order = random.Random(seed)
    fleet = Fleet(kind, fetch, shards[0], limit=10, max_pages=max_pages, **fields[told])

    for size, stop in zip(shards, stops, strict=False):
        fleet.resize(size)
        fleet.run(order, stop, fleet.unfinished())
        if not fleet.unfinished():
            break
    for _ in range(130):
        if not fleet.unfinished():
            break
        fleet.run(order, shards=fleet.unfinished())

    assert list(range(count)) == fleet.numbers()
    assert not fleet.unfinished()


def test_a_first_page_that_cannot_be_read_ends_the_poll_of_all() -> None:
    fetch = Answers(lambda query: 500 if query["page"] == "1" else page(1))
    fleet = Fleet("page", fetch, 3, limit=1)

    with pytest.raises(Unexpected):
        next(fleet.shard(0))

    assert [] == list(fleet.shard(1))
    assert [] == list(fleet.shard(2))
    assert 1 == len(fetch.asked)


def test_once_a_shard_waits_for_no_poll_that_is_not_to_come() -> None:
    done = {"poll": 2, "done": True}

    assert done_once(done, [done, {"poll": 2, "done": False}], 2)
    assert done_once(done, [done], 2), "the other has not begun"
    assert not done_once(done, [done, done], 2)
    assert not done_once({"poll": 2, "done": False}, [done], 1)
    assert not done_once(None, [done], 2)


def lying(kind: str, count: int, how: str) -> Answers:
    """`count` records, and a total that is not what it should be."""

    def answer(query: dict[str, str]) -> Told | int:
        width = int(query["limit"])
        at = int(query["offset"]) if kind == "offset" else 0
        if kind == "page":
            at = (int(query["page"]) - 1) * width
        if at >= count and how == "refused":
            return 404
        found = range(at, min(at + width, count))
        total = {
            "here": len(found),
            "capped": count // 2,
            "first": count if at == 0 else 0,
            "minus": -1,
            "estimated": count - 7,
            "refused": count,
        }[how]
        return page(*found, total=total)

    return Answers(answer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "how", ["here", "capped", "first", "minus", "estimated", "refused"]
)
@pytest.mark.parametrize("count", [60, 65, 90])
def test_a_total_that_is_wrong_loses_nothing_over_shards(
    kind: str, how: str, count: int
) -> None:
    fetch = lying(kind, count, how)
    fleet = Fleet(kind, fetch, 3, limit=10, total_field="total")

    fleet.run(random.Random(count))

    assert list(range(count)) == fleet.numbers()
    assert len(fetch.asked) <= -(-count // 10) + 3
    assert all(offset["done"] for offset in fleet.stored.values())


def deaf(kind: str, pages: int, how: str, total: str = "") -> Answers:
    """Pages of 3 records each, whatever number is asked for; see `how`."""

    def answer(query: dict[str, str]) -> Told:
        if kind == "page":
            number = int(query["page"]) - 1
        else:
            number = int(query["offset"]) // 3
        shown = {
            "ignored": 0,
            "clamped": min(number, pages - 1),
            "wrapped": number % pages,
        }[how]
        told = {total: pages * 3} if total else {}
        return page(*range(shown * 3, shown * 3 + 3), **told)

    return Answers(answer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["ignored", "clamped", "wrapped"])
@pytest.mark.parametrize("pages", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("shards", [1, 2, 3, 5, 8])
def test_a_number_that_is_not_honoured_repeats_nothing_over_shards(
    kind: str, how: str, pages: int, shards: int
) -> None:
    real = 1 if how == "ignored" else pages
    for seed in range(10):
        fetch = deaf(kind, pages, how)
        notes: list[str] = []
        fleet = Fleet(kind, fetch, shards, limit=3, notes=notes)

        fleet.run(random.Random(seed))

        assert list(range(real * 3)) == fleet.numbers()
        assert "polls_repeating_total" in notes
        assert not any(each.unread for each in fleet.pages)
        assert not fleet.unfinished()
        if how != "wrapped":
            # Behind the last page each shard asks for one of its own at most.
            assert len(fetch.asked) <= real + shards


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["clamped", "wrapped"])
@pytest.mark.parametrize("shards", [2, 3, 8])
def test_repeats_behind_all_that_was_promised_are_no_warning(
    kind: str, how: str, shards: int
) -> None:
    for seed in range(5):
        notes: list[str] = []
        fetch = deaf(kind, 5, how, "total")
        fleet = Fleet(kind, fetch, shards, limit=3, notes=notes, total_field="total")

        fleet.run(random.Random(seed))

        assert list(range(15)) == fleet.numbers()
        assert "polls_repeating_total" not in notes
        assert not any(each.unread for each in fleet.pages)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shards", [2, 3, 8])
def test_repeats_in_the_place_of_what_was_promised_are_unread(
    kind: str, shards: int
) -> None:
    fetch = deaf(kind, 20, "ignored", "total")
    fleet = Fleet(kind, fetch, shards, limit=3, total_field="total")

    fleet.run(random.Random(shards))

    assert [0, 1, 2] == fleet.numbers()
    assert any("promised 60 records" in each.unread for each in fleet.pages)


@pytest.mark.parametrize("kind", KINDS)
def test_repeats_that_are_allowed_are_all_taken_over_shards(kind: str) -> None:
    fetch = deaf(kind, 1, "ignored")
    fleet = Fleet(kind, fetch, 3, limit=3, repeats=True, max_pages=4)

    fleet.run(random.Random(3))

    assert sorted([0, 1, 2] * 12) == fleet.numbers()


@settings(max_examples=examples(150), deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    how=st.sampled_from(["ignored", "clamped", "wrapped"]),
    pages=st.integers(1, 12),
    shards=st.integers(1, 8),
    stops=st.lists(st.integers(0, 12), max_size=4),
    seed=st.integers(0, 1000),
)
def test_kills_of_shards_that_are_not_heard_lose_and_repeat_nothing(
    kind: str, how: str, pages: int, shards: int, stops: list[int], seed: int
) -> None:
    fetch = deaf(kind, pages, how)
    order = random.Random(seed)
    fleet = Fleet(kind, fetch, shards, limit=3)

    for stop in stops:
        fleet.run(order, stop, fleet.unfinished())
        fleet.start()
    for _ in range(30):
        if not fleet.unfinished():
            break
        fleet.run(order, shards=fleet.unfinished())

    real = 1 if how == "ignored" else pages
    assert list(range(real * 3)) == fleet.numbers()
    assert not fleet.unfinished()
