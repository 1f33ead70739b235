from __future__ import annotations

import signal
import time

import pytest

from engine.errors import SharedError
from engine.shared.board import LABEL, PHASES, SHARD, Board, Layout
from tests.fakes.hands import Hands
from tests.shared.children import Child

SMALL = Layout(children=4, shards=8)


def test_what_a_killed_writer_wrote_stays_and_its_successor_goes_on() -> None:
    board = Board(SMALL)

    def count(say):
        slot = board.shard(3)
        for _ in range(1000):
            slot.add("received", 5)
        say("counted")
        signal.pause()

    for _ in range(2):
        with Child(count) as child:
            child.hear()
            child.kill()

    assert 10_000 == board.shard(3).get("received")
    assert 0 == board.shard(2).get("received")


def test_every_cell_of_every_slot_is_its_own() -> None:
    board = Board(SMALL)
    number = 0
    for index in range(SMALL.shards):
        for name in SHARD:
            number += 1
            board.shard(index).put(name, number)
    for index in range(SMALL.children):
        board.child(index).put("phase", -1)
        board.watch(index).put("pid", -2)
    for index in range(SMALL.shards):
        board.notice(index).publish(poll=-3, size=-3, end=-3)
        board.label(index, b"x" * LABEL)

    found = [
        board.shard(index).get(name) for index in range(SMALL.shards) for name in SHARD
    ]

    assert list(range(1, number + 1)) == found


def test_counters_hold_64_bits() -> None:
    slot = Board(SMALL).shard(0)
    slot.put("bytes", 2**62)
    slot.add("bytes", 2**61)

    assert 2**62 + 2**61 == slot.get("bytes")


def test_totals_add_up_over_the_slots_asked_for() -> None:
    board = Board(SMALL)
    for index in range(4):
        board.shard(index).add("pages", 10**index)

    assert 1101 == board.totals([0, 2, 3])["pages"]


def test_a_cleared_slot_can_be_given_to_another() -> None:
    board = Board(SMALL)
    board.shard(1).add("pages", 7)
    board.shard(1).clear()

    assert {0} == set(board.shard(1).read().values())


def test_silence_is_counted_from_the_last_beat() -> None:
    clock = Hands()
    child = Board(SMALL, clock=clock).child(0)
    assert child.silence() is None

    child.enter("fetching")
    clock.turn(2.5)

    assert pytest.approx(2.5) == child.silence()
    assert "fetching" == child.phase
    child.become("draining")
    assert ("draining", 0.0) == (child.state, pytest.approx(child.silence()))


def test_phases_fit_what_the_supervisor_judges() -> None:
    child = Board(SMALL).child(1)
    for phase in PHASES:
        child.enter(phase)

        assert phase == child.phase


def test_a_slot_beyond_the_capacity_is_refused() -> None:
    board = Board(SMALL)
    for ask in (board.child, board.watch, board.shard, board.notice, board.label):
        with pytest.raises(SharedError):
            ask(8)


def test_a_notice_is_never_torn() -> None:
    board = Board(SMALL)
    assert board.notice(0).read() is None

    def publish(say):
        notice = board.notice(0)
        say("on")
        number = 0
        while True:
            number += 1
            notice.publish(poll=number, size=number, end=number)

    seen = 0
    with Child(publish) as writer:
        writer.hear()
        notice = board.notice(0)
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            found = notice.read()
            if found is not None:
                seen += 1
                assert 1 == len(set(found)), found
    assert seen > 1000


def test_a_writer_killed_while_it_writes_leaves_the_value_before() -> None:
    board = Board(SMALL)

    def publish(say):
        notice = board.notice(0)
        say("on")
        number = 0
        while True:
            number += 1
            notice.publish(poll=number, size=-number, end=number)

    last = 0
    for turn in range(40):
        with Child(publish) as writer:
            writer.hear()
            time.sleep(0.001 + turn / 20_000)
            writer.kill()
        found = board.notice(0).read()
        if found is not None:
            poll, size, end = found
            assert (poll, -poll, poll) == (poll, size, end)
            last = poll
    assert last > 0


def test_labels_say_whose_a_slot_is() -> None:
    board = Board(SMALL)
    assert board.label(2) is None
    board.label(2, b'{"api":"api1"}')
    assert b'{"api":"api1"}' == board.label(2)
    board.label(2, b"other")

    assert b"other" == board.label(2)
    with pytest.raises(SharedError):
        board.label(2, b"x" * (LABEL + 1))


def test_a_board_for_everything_costs_no_memory_until_used() -> None:
    with open("/proc/self/statm") as statm:
        before = int(statm.read().split()[1])
    board = Board(Layout(children=1000, shards=20_000))
    board.shard(19_999).add("pages")
    with open("/proc/self/statm") as statm:
        after = int(statm.read().split()[1])

    assert after - before < 256


def test_several_counts_at_once_are_as_one_by_one() -> None:
    slot = Board().shard(2)
    slot.add("pages", 3)

    slot.add_all([("pages", 1), ("received", 50)])

    assert (4, 50, 0) == (slot.get("pages"), slot.get("received"), slot.get("saved"))
    with pytest.raises(KeyError):
        slot.add_all([("no such", 1)])


def test_what_is_read_again_and_again_is_what_stands_there() -> None:
    """A reader keeps what it read last, and still hears of everything."""
    board = Board()
    reader, writer = board.notice(3), board.notice(3)
    assert reader.read() is None
    for poll in range(50):
        writer.publish(poll=poll, size=100, end=-1)
        assert reader.read() == (poll, 100, -1)
        assert reader.read() == (poll, 100, -1)
