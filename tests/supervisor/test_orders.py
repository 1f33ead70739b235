"""The wanted state as one value, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import ConfigError, SharedError
from engine.shared.board import Board, Layout
from engine.supervisor.assign import AssignableApi
from engine.supervisor.child import ChildSpec
from engine.supervisor.orders import (
    DesiredState,
    Orders,
    SlotTable,
    SupervisedConnector,
    specs,
    starting_tasks,
)
from engine.supervisor.scale import Scaling


def nothing(_: object) -> int:
    return 0


def connector(
    name: str = "c", *, tasks: int = 1, **more: object
) -> SupervisedConnector:
    more.setdefault("apis", (AssignableApi("a", splittable=True),))
    return SupervisedConnector(
        name=name,
        entry=nothing,
        claims=Path("/"),
        tasks=tasks,
        **more,  # type: ignore[arg-type]
    )


def wanted(*connectors: SupervisedConnector, **more: object) -> DesiredState:
    return DesiredState(connectors=connectors, **more)  # type: ignore[arg-type]


@pytest.fixture
def places() -> SlotTable:
    return SlotTable(Board(Layout(children=8, shards=6)))


def prints(orders: Orders, places: SlotTable) -> dict[str, str]:
    """The fingerprints of what would run, which then counts as running."""
    children = specs(orders, places)
    places.remember(children.values())
    return {key: spec.fingerprint for key, spec in children.items()}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {key for key in before | after if before.get(key) != after.get(key)}


def test_a_changed_api_concerns_only_the_tasks_that_poll_it(places: SlotTable) -> None:
    def with_b(fingerprint: str) -> DesiredState:
        apis = (
            AssignableApi("a", "1"),
            AssignableApi("b", fingerprint),
            AssignableApi("c", "1"),
            AssignableApi("d", "1"),
        )
        return wanted(connector(tasks=2, apis=apis))

    orders = Orders.first(with_b("1"))
    before = prints(orders, places)
    after = prints(orders.reloaded(with_b("2")), places)

    assert {"c/0"} == changed(before, after)


def test_what_all_tasks_depend_on_concerns_all_of_them(places: SlotTable) -> None:
    orders = Orders.first(wanted(connector(tasks=3), connector("d")))
    before = prints(orders, places)
    other = wanted(connector(tasks=3, fingerprint="new broker"), connector("d"))

    assert {"c/0", "c/1", "c/2"} == changed(
        before, prints(orders.reloaded(other), places)
    )


def test_another_number_of_tasks_concerns_all_parts_of_a_split_api(
    places: SlotTable,
) -> None:
    orders = Orders.first(wanted(connector(tasks=2), connector("d")))
    before = prints(orders, places)

    after = prints(orders.scaled("c", 3), places)

    assert {"c/0", "c/1", "c/2"} == changed(before, after)


def test_another_number_of_tasks_moves_only_some_shards_of_many_apis(
    places: SlotTable,
) -> None:
    apis = tuple(AssignableApi(name) for name in "abcdef")
    orders = Orders.first(wanted(connector(tasks=3, apis=apis)))
    prints(orders, places)
    before = {
        k: {a.shard.api for a in s.shards} for k, s in specs(orders, places).items()
    }

    two = specs(orders.scaled("c", 2), places)

    after = {key: {a.shard.api for a in spec.shards} for key, spec in two.items()}
    assert before["c/0"] < after["c/0"]
    assert before["c/1"] < after["c/1"]


def test_asking_changes_nothing(places: SlotTable) -> None:
    apis = tuple(AssignableApi(name) for name in "abcdef")
    orders = Orders.first(wanted(connector(tasks=3, apis=apis)))
    before = prints(orders, places)

    specs(orders.scaled("c", 2), places)

    assert before == prints(orders, places)


def test_a_shard_keeps_its_place_on_the_board_through_every_cut(
    places: SlotTable,
) -> None:
    orders = Orders.first(wanted(connector(tasks=2)))

    def slots(count: int) -> list[int]:
        children = specs(orders.scaled("c", count), places)
        return [a.slot for spec in children.values() for a in spec.shards]

    assert [0, 1] == slots(2)
    assert [0, 1, 2, 3, 4] == slots(5)
    assert [0] == slots(1)
    assert [0, 1, 2] == slots(3)
    assert 5 == len(places.slots("c"))


def test_siblings_are_all_parts_of_an_api_in_order(places: SlotTable) -> None:
    apis = (AssignableApi("a", splittable=True), AssignableApi("b"))
    children = specs(Orders.first(wanted(connector(tasks=4, apis=apis))), places)

    found = {a.shard.label: a.siblings for s in children.values() for a in s.shards}
    assert found["a[0/3]"] == found["a[2/3]"] == (0, 1, 2)
    assert (3,) == found["b"]


def test_what_a_former_cut_knew_of_the_end_is_forgotten(places: SlotTable) -> None:
    board = places._board
    orders = Orders.first(wanted(connector(tasks=2)))
    two = specs(orders, places)["c/0"].shards[0]
    places.publish(two.shard)
    board.notice(two.slot).publish(poll=7, size=100, end=12)
    places.publish(two.shard)
    assert (7, 100, 12) == board.notice(two.slot).read()
    assert b"c/a[0/2]" == board.label(two.slot)

    three = specs(orders.scaled("c", 3), places)["c/0"].shards[0]
    places.publish(three.shard)

    assert (-1, 0, -1) == board.notice(three.slot).read()
    assert b"c/a[0/3]" == board.label(three.slot)


def test_more_shards_than_places_are_refused(places: SlotTable) -> None:
    with pytest.raises(SharedError, match="6 shards"):
        specs(Orders.first(wanted(connector(tasks=7))), places)


def test_two_connectors_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="'c'"):
        Orders.first(wanted(connector(), connector()))


@pytest.mark.parametrize(
    ("tasks", "scaling", "splittable", "expected"),
    [
        (4, None, True, 4),
        (4, Scaling(least=1, most=2), True, 2),
        (1, Scaling(least=3, most=8), True, 3),
        (4, Scaling(least=2, most=8), False, 1),
    ],
)
def test_the_starting_number_lies_within_the_bounds(
    tasks: int, scaling: Scaling | None, splittable: bool, expected: int
) -> None:
    made = connector(
        tasks=tasks, scaling=scaling, apis=(AssignableApi("a", splittable=splittable),)
    )

    assert expected == starting_tasks(made)


def test_a_reload_keeps_what_scaling_arrived_at() -> None:
    scaling = Scaling(least=1, most=8)
    orders = Orders.first(wanted(connector(scaling=scaling))).scaled("c", 5)

    same = orders.reloaded(wanted(connector(scaling=scaling, fingerprint="x")))
    other = orders.reloaded(wanted(connector(scaling=Scaling(least=2, most=8))))

    assert 5 == same.tasks["c"]
    assert 2 == other.tasks["c"]


def test_run_states_survive_a_reload_and_unknown_ones_change_nothing() -> None:
    orders = Orders.first(wanted(connector(), connector("d")))

    paused = orders.told("c", "PAUSED").told("d", "HUNGRY").told("e", "PAUSED")

    assert ["PAUSED", "RUNNING"] == [paused.state(name) for name in "cd"]
    assert "PAUSED" == paused.reloaded(wanted(connector())).state("c")


def test_a_renewed_child_has_another_fingerprint(places: SlotTable) -> None:
    admin = ChildSpec(key="admin", fingerprint="1", entry=nothing, auxiliary=True)
    orders = Orders.first(wanted(connector(tasks=2), others=(admin,)))
    before = prints(orders, places)

    once = prints(orders.renewed({"c/1", "admin"}), places)
    twice = prints(orders.renewed({"c/1"}).renewed({"c/1"}), places)

    assert {"c/1", "admin"} == changed(before, once)
    assert once["c/1"] != twice["c/1"]
