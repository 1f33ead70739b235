"""Which files begin first where several processes share the tests."""

from __future__ import annotations

from tests.order import SECONDS, TESTS, ordered, spread


def test_the_longest_comes_first_and_the_rest_between() -> None:
    long = sorted(SECONDS, key=SECONDS.__getitem__)
    rest = [f"none/test_{number}.py" for number in range(200)]

    found = spread([*rest[:100], *long, *rest[100:]])

    assert sorted([*rest, *long]) == sorted(found)
    assert long[-1] == found[0]
    seconds = [SECONDS[name] for name in found if name in SECONDS]
    assert sorted(seconds, reverse=True) == seconds
    assert rest == [name for name in found if name not in SECONDS]
    # Neither is left to the end.
    behind = found[len(found) * 9 // 10 :]
    assert {True, False} == {name in SECONDS for name in behind}


def test_without_long_ones_and_with_nothing_else_it_is_the_same_order() -> None:
    assert ["b", "a"] == spread(["b", "a"])
    assert list(SECONDS) == spread(list(SECONDS))
    assert [] == spread([])


def test_each_file_s_tests_stay_together_and_in_order(request) -> None:
    items = [each for each in request.session.items if each.path == request.node.path]

    assert items == ordered(items)


def test_each_file_that_is_named_is_there() -> None:
    assert [] == [name for name in SECONDS if not (TESTS / name).is_file()]
