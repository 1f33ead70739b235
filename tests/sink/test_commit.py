"""What is acknowledged, what is saved, and when; the broker is the test's hand."""

from __future__ import annotations

import threading
from itertools import permutations
from typing import Any

import pytest
from msgspec.structs import replace

from engine.errors import Doubtful, Refused, Unavailable
from engine.records import DeadLetter
from engine.sink import columns
from engine.sink.batch import Batch
from engine.sink.commit import DeliveryOptions
from engine.sink.deadletter import DeadLetters
from engine.sink.delivery import Delivery
from engine.sink.filling import LONE, TELL_EACH
from engine.sink.outlet import LAG, TOGETHER
from engine.sink.seams import NEVER
from engine.sink.window import Budget
from tests.fakes.hands import Hands
from tests.sink.rig import LINGER, SHARD, Hand, Memory, outlet, parcel


def delivery(
    hand: Hand, clock: Hands | None = None, budget: int = 1 << 20, **settings: object
) -> Delivery:
    return Delivery(
        hand,  # type: ignore[arg-type]
        budget=Budget(budget),
        options=DeliveryOptions(
            limits=settings.pop("limits", lambda topic: 1 << 20),  # type: ignore[arg-type]
            **settings,  # type: ignore[arg-type]
        ),
        clock=clock or Hands(),
    )


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_state_is_saved_for_the_acknowledged_prefix_only(
    order: tuple[int, ...],
) -> None:
    hand, saver, clock = Hand(), Memory(), Hands()
    made = delivery(hand, clock, batch_size=100)
    out = outlet(made, saver)
    for at in range(3):
        out.hand_over(parcel(at, [b"x" * 60]), {"page": at})
    queued = list(hand.queued)

    answered: set[int] = set()
    for at in order:
        clock.turn(TOGETHER)
        queued[at][3].answered(None)
        answered.add(at)
        prefix = next((n for n in range(3) if n not in answered), 3)
        assert ([{"page": prefix - 1}] if prefix else []) == saver.saved[-1:]


def test_moves_of_the_mark_in_quick_succession_are_saved_together() -> None:
    hand, saver, clock = Hand(), Memory(), Hands()
    out = outlet(delivery(hand, clock, batch_size=100), saver)
    for at in range(5):
        out.hand_over(parcel(at, [b"x" * 60]), {"page": at})

    hand.answer()
    hand.answer()
    assert [{"page": 0}] == saver.saved
    clock.turn(TOGETHER)
    hand.answer()
    hand.answer()
    assert [{"page": 0}, {"page": 2}] == saver.saved
    hand.answer()

    # Nothing is on its way that would ask again.
    assert [{"page": 0}, {"page": 2}, {"page": 4}] == saver.saved


def test_a_shards_own_position_may_lag_while_its_poll_goes_on() -> None:
    hand, saver, clock = Hand(), Memory(), Hands()
    made = delivery(hand, clock, batch_size=100)
    out = outlet(made, saver, lag=LAG)

    def page(at: int) -> None:
        out.hand_over(parcel(at, [b"x" * 60]), {"page": at})
        hand.answer()

    page(0)
    assert [{"page": 0}] == saver.saved
    # Nothing else is on its way, and still they wait for each other.
    page(1)
    due = clock.monotonic() + LAG
    assert due == pytest.approx(hand.looks[-1])
    clock.turn(LAG / 2)
    page(2)
    assert hand.chore(clock.monotonic()) == pytest.approx(due)
    assert [{"page": 0}] == saver.saved
    # On the sender's thread, whatever the shard does meanwhile.
    clock.turn(LAG / 2)
    assert hand.chore(clock.monotonic()) == NEVER
    assert [{"page": 0}, {"page": 2}] == saver.saved
    # The end of a poll waits for nothing.
    page(3)
    assert {"page": 2} == saver.saved[-1]
    out.commit()
    assert {"page": 3} == saver.saved[-1]
    assert hand.chore(clock.monotonic() + 2 * LAG) == NEVER
    assert 3 == len(saver.saved)


def test_a_state_that_lags_counts_as_past_the_mark() -> None:
    hand, saver, clock = Hand(), Memory(), Hands()
    out = outlet(delivery(hand, clock, batch_size=100, most_pages=2), saver, lag=LAG)
    for at in range(4):
        out.hand_over(parcel(at, [b"x" * 60]), {"page": at})
        hand.answer()
    # Two pages of it, and the third would be one too many: it is saved first.
    assert [{"page": 0}, {"page": 2}] == saver.saved


def test_a_page_waits_for_company_only_where_it_may_come() -> None:
    hand, saver, clock = Hand(), Memory(), Hands()
    made = delivery(hand, clock)
    out = outlet(made, saver)

    def looked(at: int, after: float) -> float:
        clock.turn(after)
        out.hand_over(parcel(at, [b"x"]), {"page": at})
        due = hand.looks.pop()
        for each in list(out._batches._opened.values()):
            assert each.slot is not None
            each.slot.finish()
        while hand.queued:
            hand.answer()
        return due

    # Two pages in a row that came alone are a chance, as many as `LONE` a habit.
    assert [LINGER] * (LONE - 1) == [looked(n, 2 * LINGER) for n in range(LONE - 1)]
    assert 0.0 == looked(10, LINGER)
    assert 0.0 == looked(11, 3 * LINGER)
    # One that comes within a linger is company again.
    assert LINGER == looked(12, LINGER / 2)
    # Another shard's page may be.
    for n in range(LONE):
        looked(20 + n, 2 * LINGER)
    assert 0.0 == looked(30, 2 * LINGER)
    other = outlet(made, saver)
    assert LINGER == looked(31, 2 * LINGER)
    made.forget(other)
    assert 0.0 == looked(32, 2 * LINGER)


def test_the_sender_is_told_once_of_a_page_of_many_batches() -> None:
    hand, saver = Hand(), Memory()
    out = outlet(delivery(hand, batch_size=200), saver)
    out.hand_over(parcel(0, [b"x" * 100] * 6), {"page": 1})
    assert 6 == len(hand.queued)
    assert [0.0] == hand.looks


def test_the_sender_is_told_when_a_batch_has_lingered() -> None:
    hand, saver = Hand(), Memory()
    out = outlet(delivery(hand), saver)
    out.hand_over(parcel(0, [b"x"]), {"page": 1})
    out.hand_over(parcel(1, [b"y"]), {"page": 2})
    assert 1 == len(hand.queued)
    assert [LINGER] == hand.looks


def test_much_of_a_page_is_on_its_way_before_the_rest_is_encoded() -> None:
    hand, saver = Hand(), Memory()
    made = delivery(hand, budget=1 << 24, batch_size=1 << 18)
    outlet(made, saver).hand_over(
        parcel(0, [b"x" * 100_000] * (4 * TELL_EACH // 100_000)), {"page": 1}
    )
    assert 2 < len(hand.looks) < len(hand.queued)


def test_an_empty_page_moves_the_mark_behind_the_one_before_it() -> None:
    hand, saver = Hand(), Memory()
    out = outlet(delivery(hand), saver)

    out.hand_over(parcel(0, [b"x"]), {"page": 1})
    out.hand_over(parcel(1, []), {"page": 2})
    assert [] == saver.saved
    hand.answer()

    assert [{"page": 2}] == saver.saved


def test_an_empty_page_alone_is_saved_at_once() -> None:
    saver = Memory()

    outlet(delivery(Hand()), saver).hand_over(parcel(0, []), {"page": 1})

    assert [{"page": 1}] == saver.saved


def test_one_write_of_state_at_a_time_and_the_newest_next() -> None:
    hand, saver = Hand(), Memory()
    saver.held = []
    out = outlet(delivery(hand), saver)

    for at in range(5):
        out.hand_over(parcel(at, []), {"page": at})
    assert [{"page": 0}] == saver.saved
    saver.held[0](None)

    assert [{"page": 0}, {"page": 4}] == saver.saved


def test_the_pause_between_writes_of_state_is_kept() -> None:
    clock, saver = Hands(), Memory()
    made = delivery(Hand(), clock)
    out = outlet(made, saver, pause=60.0)

    out.hand_over(parcel(0, []), {"page": 0})
    clock.turn(59.0)
    out.hand_over(parcel(1, []), {"page": 1})
    assert pytest.approx(1.0) == made.tick(clock.monotonic())
    assert [{"page": 0}] == saver.saved
    clock.turn(1.0)
    made.tick(clock.monotonic())

    assert [{"page": 0}, {"page": 1}] == saver.saved


def test_the_end_of_a_poll_does_not_wait_for_the_pause() -> None:
    clock, saver = Hands(), Memory()
    out = outlet(delivery(Hand(), clock), saver, pause=60.0)

    out.hand_over(parcel(0, []), {"page": 0})
    out.hand_over(parcel(1, []), {"page": 1})
    out.commit()

    assert {"page": 1} == saver.saved[-1]


def test_a_failed_write_holds_the_mark_and_ends_the_delivery() -> None:
    hand, saver = Hand(), Memory()
    made = delivery(hand, batch_size=100)
    out = outlet(made, saver)
    for at in range(3):
        out.hand_over(parcel(at, [b"x" * 60]), {"page": at})

    hand.answer(0, None)
    hand.answer(0, Doubtful("writing to t-1"))
    hand.answer(0, None)

    assert [{"page": 0}] == saver.saved
    for verb in (out.begin, out.commit, lambda: out.hand_over(parcel(3, []), {})):
        with pytest.raises(Doubtful, match="writing to t-1"):
            verb()


def test_a_failed_write_of_state_ends_the_delivery() -> None:
    saver = Memory()
    saver.held = []
    out = outlet(delivery(Hand()), saver)
    out.hand_over(parcel(0, []), {"page": 0})

    saver.held[0](Unavailable("writing to offsets-3"))

    with pytest.raises(Unavailable, match="offsets-3"):
        out.commit()


def test_a_page_hears_of_its_acknowledgement_on_its_own_thread() -> None:
    hand = Hand()
    made = delivery(hand)
    out = outlet(made, Memory())
    told: list[int] = []
    page = replace(
        parcel(0, [b"x"]), acknowledged=lambda: told.append(threading.get_ident())
    )
    out.hand_over(page, {"page": 0})

    sender = threading.Thread(target=hand.answer)
    sender.start()
    sender.join()
    assert [] == told
    out.commit()

    assert [threading.get_ident()] == told


def test_a_page_is_told_when_it_was_acknowledged_and_before_it_is_saved() -> None:
    hand, saver, clock = Hand(), Memory(), Hands()
    out = outlet(delivery(hand, clock), saver)
    told: list[tuple[float, int]] = []
    page = parcel(0, [b"x"]).telling(lambda at: told.append((at, len(saver.saved))))
    out.hand_over(page, {"page": 0})

    clock.turn(3.0)
    acknowledged_at = clock.monotonic()
    sender = threading.Thread(target=hand.answer)
    sender.start()
    sender.join()
    clock.turn(5.0)
    out.commit()

    assert [(acknowledged_at, 0)] == told
    assert [{"page": 0}] == saver.saved


def test_what_is_never_acknowledged_is_told_to_nobody() -> None:
    hand = Hand()
    out = outlet(delivery(hand), Memory())
    told: list[float] = []
    page = parcel(0, [b"x"]).telling(told.append)
    out.hand_over(page, {"page": 0})

    hand.queued[0][3].answered(Unavailable("gone"))

    with pytest.raises(Unavailable):
        out.commit()
    assert [] == told


def test_a_refused_page_sends_nothing_and_holds_the_mark() -> None:
    hand, saver = Hand(), Memory()
    made = delivery(hand, limits=lambda topic: 1000)
    out = outlet(made, saver)

    with pytest.raises(Refused, match="record 1 for topic t has 2002 bytes"):
        out.hand_over(parcel(0, [b"x", b"x" * 2000]), {"page": 0})
    out.hand_over(parcel(1, []), {"page": 1})

    assert [] == hand.queued
    assert [] == saver.saved
    assert 0 == made.budget.used


def test_shards_have_batches_and_marks_of_their_own() -> None:
    hand, first, second = Hand(), Memory(), Memory()
    made = delivery(hand)
    one, two = outlet(made, first), outlet(made, second)

    one.hand_over(parcel(0, [b"a"]), {"page": 10})
    two.hand_over(parcel(0, [b"b"]), {"page": 20})
    assert [1, 1] == [batch.count for _, _, batch, _ in hand.queued]
    hand.answer(1)
    assert ([], [{"page": 20}]) == (first.saved, second.saved)
    hand.answer()

    assert ([{"page": 10}], [{"page": 20}]) == (first.saved, second.saved)


def test_a_full_batch_makes_room_for_the_next_partition() -> None:
    hand = Hand()
    out = outlet(delivery(hand, batch_size=210), Memory())

    out.hand_over(parcel(0, [b"x" * 50] * 6), {"page": 0})

    assert [0, 1, 2] == [partition for _, partition, _, _ in hand.queued]
    assert [2, 2, 2] == [batch.count for _, _, batch, _ in hand.queued]


def test_what_the_sender_has_taken_does_not_grow() -> None:
    hand = Hand()
    made = delivery(hand)
    out = outlet(made, Memory())

    out.hand_over(parcel(0, [b"x"]), {"page": 0})
    out.flush()
    out.hand_over(parcel(1, [b"y"]), {"page": 1})

    assert [1, 1] == [batch.count for _, _, batch, _ in hand.queued]


def test_bytes_in_flight_hold_a_page_back_until_they_are_answered() -> None:
    hand = Hand()
    made = delivery(hand, budget=1000, batch_size=400)
    out = outlet(made, Memory())
    out.hand_over(parcel(0, [b"x" * 300] * 3), {"page": 0})
    done = threading.Event()

    def more() -> None:
        out.hand_over(parcel(1, [b"y" * 300]), {"page": 1})
        done.set()

    task = threading.Thread(target=more, daemon=True)
    task.start()
    assert not done.wait(0.3)
    assert made.budget.used <= 1000
    hand.answer()
    # A quarter of the budget stays free behind who waited.
    assert not done.wait(0.3)
    assert made.budget.used <= 1000
    hand.answer()

    assert done.wait(5.0)
    task.join()


def test_close_always_ends_and_names_what_was_lost() -> None:
    hand = Hand()
    made = delivery(hand)
    out = outlet(made, Memory())
    out.hand_over(parcel(0, [b"x"]), {"page": 0})

    assert made.close(1.0)

    assert hand.closed
    with pytest.raises(Unavailable, match="closed"):
        out.commit()


def test_dead_letters_go_with_their_page_and_hold_its_mark() -> None:
    hand, saver = Hand(), Memory()
    letters = DeadLetters(
        "dead", connector="c", task=1, headers=True, limit=1 << 20, redacted=str
    )
    out = outlet(delivery(hand, letters=letters), saver)
    letter = DeadLetter(
        index=3,
        value=b"{bad",
        stage="decode",
        cause="ValidationError",
        message="no number",
    )

    out.hand_over(parcel(0, [b"good"], letters=[letter]), {"page": 0})
    assert ["t", "dead"] == [topic for topic, _, _, _ in hand.queued]
    hand.answer(0)
    assert [] == saver.saved
    hand.answer(0)

    assert [{"page": 0}] == saver.saved


def test_the_source_partition_is_the_shards() -> None:
    seen: list[object] = []

    class Saver(Memory):
        def save(self, delivery, partition, offset, done):  # type: ignore[no-untyped-def]
            seen.append(partition)
            done(None)

    outlet(delivery(Hand()), Saver()).hand_over(parcel(0, []), {"page": 0})

    assert [SHARD.partition] == seen


def test_for_a_batch_that_the_sender_has_nothing_is_encoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded = []
    real = Batch.encode

    def counting(self: Batch, *words: Any) -> Any:
        encoded.append(self)
        return real(self, *words)

    monkeypatch.setattr(Batch, "encode", counting)
    hand = Hand()
    made = delivery(hand)
    out = outlet(made, Memory())
    for at in range(4):
        out.hand_over(parcel(at, [b"x" * 60]), {"page": at})
        made.flush()

    assert 4 == len(encoded) == len(hand.queued)


def test_a_page_larger_than_the_budget_takes_room_as_its_records_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(columns, "SLICE", 2)
    hand, saver = Hand(), Memory()
    made = delivery(hand, budget=1000, batch_size=400)
    out = outlet(made, saver)
    done = threading.Event()

    def page() -> None:
        out.hand_over(parcel(0, [b"x" * 300] * 9), {"page": 0})
        done.set()

    task = threading.Thread(target=page, daemon=True)
    task.start()
    assert not done.wait(0.3)
    answered = 0
    while not done.wait(0.01):
        assert made.budget.used <= 1000
        while hand.queued:
            answered += hand.queued[0][2].count
            hand.answer()
    task.join()
    assert [] == saver.saved
    while hand.queued:
        answered += hand.queued[0][2].count
        hand.answer()

    assert 9 == answered
    assert [{"page": 0}] == saver.saved
    assert 0 == made.budget.used
