"""Which dead letters have gone through, as a group's offset and note say it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import StateError
from engine.sink.deadletter import NOTE, NOTE_LIMIT, Progress


@given(st.lists(st.sets(st.integers(0, 60)), max_size=4))
def test_every_pass_takes_up_where_the_notes_of_the_last_one_stopped(
    passes: list[set[int]],
) -> None:
    gone: set[int] = set()
    progress = Progress()
    for each in passes:
        progress = Progress(progress.first, progress.note)
        for offset in sorted(each - gone):
            assert progress.waits(offset)
            progress.went(offset, offset + 1)
        gone |= each

    assert gone == {at for at in range(61) if not progress.waits(at)}
    assert progress.first == next(at for at in range(62) if at not in gone)


def test_every_other_one_of_a_thousand_can_be_noted() -> None:
    progress = Progress()
    for offset in range(1, 1000, 2):
        progress.went(offset, offset + 1)

    assert len(progress.note) < NOTE_LIMIT
    assert 0 == progress.first


def test_somebody_elses_note_is_none_and_a_broken_one_of_ours_is_an_error() -> None:
    assert Progress(5, "hello").waits(5)
    with pytest.raises(StateError):
        Progress(5, NOTE + "0000")
