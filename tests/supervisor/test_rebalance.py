"""When shards change hands, and how long it takes."""

from __future__ import annotations

from engine.records import Shard
from engine.shared.link import Assigned
from engine.supervisor.child import ChildSpec
from engine.supervisor.rebalance import Hands, Rebalancing, hands
from engine.supervisor.status import Rebalances


def dealt(**tasks: str) -> Hands:
    """Task by number -> the apis it holds."""
    return hands(
        ChildSpec(
            key=f"c/{number}",
            fingerprint="",
            entry=lambda _: 0,
            connector="c",
            number=int(number[1:]),
            shards=tuple(
                Assigned(Shard("c", api, None), slot, (slot,), ())
                for slot, api in enumerate(apis)
            ),
        )
        for number, apis in tasks.items()
    )


def test_it_lasts_from_the_wish_until_everything_is_in_place() -> None:
    tale = Rebalancing()
    assert Rebalances() == tale.tally

    tale.want(dealt(t0="ab"), 10.0)
    assert Rebalances(running=True) == tale.tally
    tale.settle(12.0, 5_000)
    assert Rebalances(completed=1, last_ms=5_000, seconds=2, longest=2) == tale.tally


def test_the_same_hands_are_no_rebalance() -> None:
    tale = Rebalancing()
    tale.want(dealt(t0="a", t1="b"), 0.0)
    tale.settle(1.0, 1_000)
    before = tale.tally

    tale.want(dealt(t1="b", t0="a"), 5.0)
    tale.settle(6.0, 6_000)

    assert before == tale.tally


def test_one_within_another_makes_that_one_longer() -> None:
    tale = Rebalancing()
    tale.want(dealt(t0="ab"), 0.0)
    tale.want(dealt(t0="a", t1="b"), 3.0)
    tale.settle(4.0, 4_000)
    tale.want(dealt(t0="ab"), 5.0)
    tale.settle(6.0, 6_000)

    assert Rebalances(completed=2, last_ms=6_000, seconds=5, longest=4) == tale.tally


def test_another_task_for_a_shard_and_another_shard_are_other_hands() -> None:
    assert dealt(t0="a", t1="b") != dealt(t0="b", t1="a")
    assert dealt(t0="a") != dealt(t0="ab")
