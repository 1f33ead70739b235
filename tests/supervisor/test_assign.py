"""Shards and tasks: nothing twice, nothing missing, few moves."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from engine.records import Shard
from engine.supervisor.assign import (
    AssignableApi,
    assign,
    most_tasks,
    overlap,
    part,
    shards,
)


@st.composite
def some_apis(draw: st.DrawFn) -> list[AssignableApi]:
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=4))
    return [
        AssignableApi(
            name,
            "",
            tuple(draw(st.lists(st.sampled_from("xyz"), unique=True, max_size=3))),
            draw(st.booleans()),
        )
        for name in names
    ]


COUNTS = st.integers(1, 12)


def test_every_api_is_one_shard_and_spare_tasks_split_in_order() -> None:
    apis = [
        AssignableApi("a", splittable=True),
        AssignableApi("b"),
        AssignableApi("c", splittable=True),
    ]

    assert ["a", "b", "c"] == [s.label for s in shards("n", apis, 2)]
    assert ["a[0/2]", "a[1/2]", "b", "c"] == [s.label for s in shards("n", apis, 4)]
    assert ["a[0/2]", "a[1/2]", "b", "c[0/2]", "c[1/2]"] == [
        s.label for s in shards("n", apis, 5)
    ]
    assert 3 == sum(s.api == "a" for s in shards("n", apis, 6))


def test_every_entity_is_a_shard_of_its_own() -> None:
    apis = [
        AssignableApi("a", entities=("x", "y")),
        AssignableApi("b", entities=("z",), splittable=True),
    ]

    assert ["a/x", "a/y", "b/z[0/2]", "b/z[1/2]"] == [
        s.label for s in shards("n", apis, 4)
    ]


def test_what_cannot_be_split_bounds_the_tasks() -> None:
    assert 3 == most_tasks(
        [AssignableApi("a", entities=("x", "y")), AssignableApi("b")]
    )
    assert most_tasks([AssignableApi("a"), AssignableApi("b", splittable=True)]) is None
    assert [(Shard("n", "a"),)] == assign(shards("n", [AssignableApi("a")], 8), 8, {})


@given(some_apis(), COUNTS)
def test_every_page_is_in_exactly_one_shard(
    apis: list[AssignableApi], tasks: int
) -> None:
    cut = shards("n", apis, tasks)

    assert len(cut) == len(set(cut))
    wholes = {(api.name, e) for api in apis for e in api.entities or (None,)}
    assert wholes == {(s.api, s.entity) for s in cut}
    for whole in wholes:
        mine = [s for s in cut if (s.api, s.entity) == whole]
        for page in range(50):
            assert 1 == sum(page % s.count == s.index for s in mine)
    for one, other in permutations(cut, 2):
        assert not overlap(one, other)


@given(some_apis(), COUNTS)
def test_every_task_that_starts_has_work_and_an_even_share(
    apis: list[AssignableApi], tasks: int
) -> None:
    cut = shards("n", apis, tasks)
    dealt = assign(cut, tasks, {})

    assert sorted(cut) == sorted(s for mine in dealt for s in mine)
    assert len(dealt) == min(tasks, len(cut))
    sizes = [len(mine) for mine in dealt]
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert 0 not in sizes


@given(some_apis(), COUNTS)
def test_the_same_again_moves_nothing(apis: list[AssignableApi], tasks: int) -> None:
    cut = shards("n", apis, tasks)
    dealt = assign(cut, tasks, {})
    before = {part(s): n for n, mine in enumerate(dealt) for s in mine}

    assert dealt == assign(cut, tasks, before)


@given(st.data())
def test_as_few_shards_move_as_an_even_share_allows(data: st.DataObject) -> None:
    """Against every possible choice of who gets the larger portions."""
    size = data.draw(st.integers(1, 9))
    tasks = data.draw(st.integers(1, 4))
    cut = [Shard("n", f"a{i}") for i in range(size)]
    before = {
        part(s): data.draw(st.integers(0, 5)) for s in cut if data.draw(st.booleans())
    }

    dealt = assign(cut, tasks, before)

    kept = sum(before.get(part(s)) == n for n, mine in enumerate(dealt) for s in mine)
    count = min(tasks, size)
    portion, larger = divmod(size, count)
    held = [sum(before.get(part(s)) == n for s in cut) for n in range(count)]
    best = max(
        sum(min(h, r) for h, r in zip(held, rooms, strict=True))
        for rooms in permutations([portion + 1] * larger + [portion] * (count - larger))
    )
    assert best == kept


def test_a_split_api_keeps_its_parts_where_they_were() -> None:
    apis = [AssignableApi("a", splittable=True)]
    three = assign(shards("n", apis, 3), 3, {})
    before = {part(s): n for n, mine in enumerate(three) for s in mine}

    four = assign(shards("n", apis, 4), 4, before)

    assert [0, 1, 2, 3] == [mine[0].index for mine in four]


def test_parts_of_different_cuts_overlap() -> None:
    whole, half, other = Shard("n", "a"), Shard("n", "a", None, 0, 2), Shard("n", "b")

    assert overlap(whole, half)
    assert overlap(half, Shard("n", "a", None, 1, 3))
    assert not overlap(half, Shard("n", "a", None, 1, 2))
    assert not overlap(whole, other)
    assert not overlap(whole, Shard("m", "a"))
    assert not overlap(Shard("n", "a", "x"), Shard("n", "a", "y"))


def test_an_api_has_no_more_parts_than_pages_in_a_poll() -> None:
    apis = [
        AssignableApi("a", splittable=True, most=2),
        AssignableApi("b", splittable=True),
    ]

    cut = shards("n", apis, 7)

    assert 2 == sum(each.api == "a" for each in cut)
    assert 5 == sum(each.api == "b" for each in cut)
    assert 1 == len(shards("n", [AssignableApi("a", splittable=True, most=1)], 7))
