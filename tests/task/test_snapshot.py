"""Snapshot: the table of keys, and its segments over restarts, held to a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import SpoolError, StateError
from engine.records import Primitive
from engine.task import snapshot
from engine.task.contents import content_of
from engine.task.segments import keys_known
from engine.task.snapshot import UNKNOWN, KeyTable
from tests.disks import disk_of
from tests.examples import examples

MOST = 1000
Stored = dict[int, Mapping[str, Primitive]]


def changed(rows: KeyTable, pairs: dict[bytes, bytes]) -> list[bytes]:
    """Keys of a page that are to be produced, written as the next segment."""
    keys = list(pairs)
    places, _, _ = rows.changed("t", keys, content_of(list(pairs.values())), MOST)
    return [keys[place] for place in places]


def test_only_new_and_changed_records_are_to_be_produced() -> None:
    rows = KeyTable()
    rows.begin()
    assert changed(rows, {b"a": b"1", b"b": b"1"}) == [b"a", b"b"]
    rows.begin()
    assert changed(rows, {b"a": b"1", b"b": b"2", b"c": b"1"}) == [b"b", b"c"]
    assert rows.known == 2
    assert rows.found == 3
    assert rows.gone() == []


def test_keys_not_seen_are_gone_and_their_bytes_are_at_hand() -> None:
    rows = KeyTable()
    rows.begin()
    changed(rows, {b"a": b"1", b"": b"1", b"\x00\xff": b"1"})
    rows.begin()
    changed(rows, {b"a": b"1"})
    gone = rows.gone()
    assert sorted(rows.key(row) for row in gone) == [("t", b""), ("t", b"\x00\xff")]
    rows.drop(gone)
    assert len(rows) == 1
    assert changed(rows, {b"": b"1"}) == [b""]


def test_one_key_in_two_topics_is_two() -> None:
    rows = KeyTable()
    rows.begin()
    places, _, _ = rows.changed(["t", "u"], [b"a", b"a"], [5, 5], MOST)
    assert places == [0, 1]
    rows.begin()
    rows.changed("u", [b"a"], [5], MOST)
    assert [rows.key(row) for row in rows.gone()] == [("t", b"a")]


def test_a_key_with_two_contents_in_a_poll_is_told() -> None:
    rows = KeyTable()
    rows.begin()
    assert rows.changed("t", [b"a", b"a"], [5, 6], MOST)[2] == 1


def test_more_keys_than_allowed_are_refused() -> None:
    rows = KeyTable()
    rows.begin()
    with pytest.raises(OverflowError):
        rows.changed("t", [b"a", b"b", b"c"], [5, 5, 5], 2)

    assert len(rows) == 0
    assert changed(rows, {b"a": b"1"}) == [b"a"]


def test_a_page_whose_keys_find_no_room_is_not_taken_in(tmp_path: Path) -> None:
    with disk_of(tmp_path / "small", 16) as place:
        rows = KeyTable(str(place))
        rows.begin()
        assert changed(rows, {b"a": b"1", b"b": b"1"}) == [b"a", b"b"]
        # Twice the same key, a new one and one that has changed, before the one too many.
        keys = [b"a", b"c", b"c", b"d" * 20_000, b"a"]
        contents = content_of([b"2", b"1", b"2", b"1", b"3"])
        rows.begin()
        with pytest.raises(
            SpoolError, match="keys of a snapshot cannot be kept in"
        ) as told:
            rows.changed("t", keys, contents, MOST)
        assert str(place) in str(told.value)
        assert "http.snapshot.max.keys" in str(told.value)
        assert len(rows) == 2
        # What the page had is as new as it was, and nothing else is.
        rows.begin()
        assert changed(rows, {b"a": b"3", b"b": b"1", b"c": b"2"}) == [b"a", b"c"]
        assert [rows.key(row) for row in rows.gone()] == []
        rows.begin()
        changed(rows, {b"a": b"3"})
        assert sorted(rows.key(row)[1] for row in rows.gone()) == [b"b", b"c"]


def test_without_room_to_pack_the_keys_they_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SLACK", 0)
    with disk_of(tmp_path / "small", 16) as place:
        rows = KeyTable(str(place))
        rows.begin()
        changed(rows, {bytes([n]) * 400: b"1" for n in range(38)})
        rows.begin()
        changed(rows, {bytes([n]) * 400: b"1" for n in range(12)})
        rows.drop(rows.gone())
        rows.begin()
        kept = {bytes([n]) * 400: b"1" for n in range(12)}
        assert changed(rows, kept) == []
        rows.begin()
        assert {rows.key(row)[1] for row in rows.gone()} == set(kept)


def test_what_was_not_confirmed_is_unknown() -> None:
    rows = KeyTable()
    rows.begin()
    _, these, _ = rows.changed("t", [b"a", b"b"], [5, 6], MOST)
    one = rows.segment(1, these, sure=False)
    _, these, _ = rows.changed("t", [b"b"], [7], MOST)
    two = rows.segment(2, these, sure=False)

    after = KeyTable()
    assert after.load(1, one, 1) == []
    (unsure,) = after.load(2, two, 1)
    assert after.key(unsure) == ("t", b"b")
    after.begin()
    # 7 may be there and may not: it is produced, and so would be 6.
    places, _, _ = after.changed("t", [b"a", b"b"], [5, 7], MOST)
    assert places == [1]


def test_a_key_whose_end_is_not_confirmed_is_still_known() -> None:
    rows = KeyTable()
    rows.begin()
    _, these, _ = rows.changed("t", [b"a"], [5], MOST)
    one = rows.segment(1, these, sure=False)
    two = rows.segment(2, these, sure=False, gone=True)
    kept, dropped = KeyTable(), KeyTable()
    for number, each in ((1, one), (2, two)):
        kept.load(number, each, 1)
        dropped.load(number, each, 2)
    assert (len(kept), len(dropped)) == (1, 0)
    kept.begin()
    assert len(kept.gone()) == 1


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"keys": "x", "topics": "t"},
        {"keys": "AAAA", "topics": "t"},
        {"keys": "AQAAAAAAAQAAAA==", "topics": "t"},
        {"keys": "AQAAAAUAAAAAAAAAAAAAAAAA", "topics": "t"},
    ],
)
def test_a_segment_that_cannot_be_read_is_an_error(broken: dict[str, str]) -> None:
    with pytest.raises(StateError, match="offsets reset"):
        KeyTable().load(1, broken, 1)
    assert keys_known(broken) == 0


KEYS = st.integers(0, 40).map(lambda n: f"key-{n}".encode() * (1 + n % 3))
POLL = st.dictionaries(KEYS, st.sampled_from([b"1", b"2", b"3"]), max_size=30)


@settings(max_examples=examples(150), deadline=None)
@given(
    polls=st.lists(st.tuples(POLL, st.booleans()), max_size=12),
    entries=st.integers(1, 5),
)
def test_the_table_is_a_dictionary_over_restarts(
    polls: list[tuple[dict[bytes, bytes], bool]], entries: int
) -> None:
    before = snapshot.ENTRIES, snapshot.FEW
    snapshot.ENTRIES, snapshot.FEW = entries, 3  # type: ignore[misc]
    try:
        _held_to_a_dictionary(polls)
    finally:
        snapshot.ENTRIES, snapshot.FEW = before  # type: ignore[misc]


def _held_to_a_dictionary(polls: list[tuple[dict[bytes, bytes], bool]]) -> None:
    rows, stored, confirmed = KeyTable(), Stored(), 0
    model: dict[bytes, bytes] = {}
    for poll, restart in polls:
        rows.begin()
        expected = {key for key, value in poll.items() if model.get(key) != value}
        keys = list(poll)
        places, these, _ = rows.changed(
            "t", keys, content_of(list(poll.values())), MOST
        )
        assert {keys[place] for place in places} == expected
        for piece in rows.parcels(these):
            number = rows.last + 1
            stored[number] = rows.segment(number, piece, sure=False)
        gone = rows.gone()
        assert {rows.key(row)[1] for row in gone} == model.keys() - poll.keys()
        for piece in rows.parcels(gone):
            number = rows.last + 1
            stored[number] = rows.segment(number, piece, sure=False, gone=True)
        rows.drop(gone)
        model = dict(poll)
        confirmed = rows.last
        victims, moved = rows.outworn()
        for piece in rows.parcels(moved):
            number = rows.last + 1
            stored[number] = rows.segment(number, piece, sure=True)
        for number in victims:
            del stored[number]
        rows.forgotten(victims)
        assert len(rows) == len(model)
        if restart:
            rows = KeyTable()
            for number in sorted(stored):
                assert rows.load(number, stored[number], confirmed) == []
            assert len(rows) == len(model)


def test_a_million_changes_of_few_keys_keep_few_segments() -> None:
    rows, stored = KeyTable(), 0
    for poll in range(400):
        rows.begin()
        keys = [b"%d" % n for n in range(50)]
        contents = [2 + (poll if n == poll % 50 else n) for n in range(50)]
        _, these, _ = rows.changed("t", keys, contents, MOST)
        rows.segment(rows.last + 1, these, sure=False)
        victims, moved = rows.outworn()
        for piece in rows.parcels(moved):
            rows.segment(rows.last + 1, piece, sure=True)
        rows.forgotten(victims)
        stored = max(stored, len(rows._entries))
    assert stored <= snapshot.FEW + 2


def test_an_unknown_content_is_no_values() -> None:
    assert UNKNOWN not in content_of([b"", None, b"null"])
