"""Claims: of the pages with the same records one is taken, in any order, by any process."""

from __future__ import annotations

import json
import time

import pytest

from engine.errors import SharedError
from engine.shared import claims as module
from engine.shared.board import Board, Layout
from engine.shared.claims import PAGES, Claims, claim
from tests.shared.children import Child

HASH = 0xFEED_0000_0000_0001


def coordination(board: Board, index: int) -> tuple[Claims, list[Claims]]:
    all_of_them = [board.claims(each) for each in range(board.layout.shards)]
    return all_of_them.pop(index), all_of_them


def board(shards: int = 2) -> Board:
    return Board(Layout(children=1, shards=shards))


def test_whoever_comes_first_takes_the_records() -> None:
    made = board()

    assert claim(*coordination(made, 1), 1, 7, HASH) is None
    assert 7 == claim(*coordination(made, 0), 1, 4, HASH)
    assert 7 == claim(*coordination(made, 0), 1, 8, HASH)
    assert claim(*coordination(made, 0), 1, 4, HASH + 1) is None


def test_a_page_that_is_read_again_is_still_its_own() -> None:
    made = board()

    for _ in range(100):
        assert claim(*coordination(made, 1), 1, 3, HASH) is None
    assert 3 == claim(*coordination(made, 0), 1, 2, HASH)


def test_a_process_started_again_knows_what_the_one_before_took() -> None:
    made = board()
    assert claim(*coordination(made, 1), 5, 3, HASH) is None

    made.claims(1).keep(5)
    assert 3 == claim(*coordination(made, 1), 5, 9, HASH)

    made.claims(1).keep(6)
    assert claim(*coordination(made, 0), 5, 9, HASH) is None


def test_a_reset_forgets_everything() -> None:
    made = board()
    assert claim(*coordination(made, 1), 1, 3, HASH) is None

    made.claims(1).keep(None)

    assert claim(*coordination(made, 0), 1, 9, HASH) is None


@pytest.mark.parametrize(
    ("theirs", "ours", "place", "met"),
    [(1, 1, 5, True), (1, 2, 5, False), (2, 1, 5, True), (2, 1, 2, False)],
)
def test_only_a_first_page_of_a_later_poll_counts(
    theirs: int, ours: int, place: int, met: bool
) -> None:
    made = board()
    assert claim(*coordination(made, 0), theirs, 3, HASH) is None

    assert (3 if met else None) == claim(*coordination(made, 1), ours, place, HASH)


def test_the_first_page_is_known_however_many_come_behind() -> None:
    made = board()
    for place in range(10 * PAGES):
        assert claim(*coordination(made, 0), 1, place, HASH + place) is None

    assert 0 == claim(*coordination(made, 1), 1, 5000, HASH)
    assert 10 * PAGES - 1 == claim(
        *coordination(made, 1), 1, 5000, HASH + 10 * PAGES - 1
    )
    # The bound: neither the first nor one of the newest.
    assert claim(*coordination(made, 1), 1, 5000, HASH + 100) is None


def test_who_was_killed_before_it_decided_holds_nobody_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    made = board()
    made.claims(1).propose(1, 9, HASH)
    began = time.monotonic()

    assert claim(*coordination(made, 0), 1, 2, HASH) is None
    assert 0.05 <= time.monotonic() - began < 5
    assert 2 == claim(*coordination(made, 1), 1, 9, HASH)


def test_processes_that_meet_take_one_copy() -> None:
    count, rounds = 3, 300
    made = board(count + 1)

    def take(index: int):
        def run(say):
            own, others = coordination(made, index)
            taken = []
            for turn in range(1, rounds):
                # All meet in each round: its number is on the others' claims.
                own.propose(turn, -turn - index, turn * 8 + index + 1)
                for other, number in zip(
                    others,
                    [each for each in range(count + 1) if each != index],
                    strict=True,
                ):
                    deadline = time.monotonic() + 20
                    while number < count and not any(
                        other.find(ahead, 0, ahead * 8 + number + 1)
                        for ahead in (turn, turn + 1)
                    ):
                        assert time.monotonic() < deadline
                place = index if turn % 2 else count - index
                if claim(own, others, turn, place, -turn) is None:
                    taken.append(turn)
            say(json.dumps(taken))

        return run

    children = [Child(take(index)) for index in range(count)]
    try:
        taken = [turn for child in children for turn in json.loads(child.hear())]
    finally:
        for child in children:
            child.kill()

    assert list(range(1, rounds)) == sorted(taken)


def test_a_slot_beyond_the_capacity_is_refused() -> None:
    with pytest.raises(SharedError):
        board().claims(2)
