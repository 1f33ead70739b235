"""What travels from the API to Kafka is never changed by who has it in hand."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from msgspec import Struct

from engine.records import (
    CutSequence,
    DeadLetter,
    Page,
    Parcel,
    Request,
    Response,
    Shard,
    in_pieces,
    picked,
)

RESPONSE: dict[str, Any] = {
    "request": Request("GET", "http://a/x"),
    "url": "http://a/x",
    "status": 200,
    "headers": (),
    "body": b"",
    "sent_at": 0.0,
    "received_ms": 0,
}
PAGE: dict[str, Any] = {
    "response": Response(**RESPONSE),
    "index": 0,
    "records": [],
    "offset": {},
    "last": True,
}
PARCEL: dict[str, Any] = {"page": Page(**PAGE), "topic": "t", "values": ()}
LETTER: dict[str, Any] = {
    "index": 0,
    "value": b"",
    "stage": "map",
    "cause": "RecordError",
    "message": "",
}
TRAVEL: list[tuple[type[Struct], dict[str, Any]]] = [
    (Response, RESPONSE),
    (Page, PAGE),
    (Parcel, PARCEL),
    (DeadLetter, LETTER),
]


@pytest.mark.parametrize(("kind", "fields"), TRAVEL)
def test_it_is_built_by_keyword_and_frozen(
    kind: type[Struct], fields: dict[str, Any]
) -> None:
    made = kind(**fields)

    with pytest.raises(TypeError):
        kind(*fields.values())
    for name in kind.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(made, name, None)


@pytest.mark.parametrize("kind", [Request, Shard])
def test_what_is_asked_and_for_whom_is_frozen(kind: type[Struct]) -> None:
    assert kind.__struct_config__.frozen


def test_one_more_is_told_of_a_delivery_and_the_first_parcel_knows_nothing() -> None:
    told: list[float] = []
    parcel = Parcel(**PARCEL)

    twice = parcel.telling(told.append).telling(lambda now: told.append(-now))
    for tell in twice.delivered:
        tell(1.0)

    assert [1.0, -1.0] == told
    assert () == parcel.delivered


# -- columns that are too large for memory

ITEMS = [b"%d" % 7**number for number in range(23)]


class Cuts:
    """Windows of some sizes, and which were made."""

    def __init__(self, sizes: Sequence[int]):
        self.made: list[int] = []
        firsts = [sum(sizes[:at]) for at in range(len(sizes))]
        self._windows = [ITEMS[at : at + n] for at, n in zip(firsts, sizes)]
        count = sum(sizes)
        lengths = array("I", map(len, ITEMS[:count]))
        self.column = CutSequence(lengths, firsts, self.cut)
        self.whole = ITEMS[:count]

    def cut(self, number: int) -> Sequence[bytes]:
        self.made.append(number)
        return self._windows[number]


SIZES = [(1,), (5,), (1, 1, 1), (5, 5, 5, 5, 3), (1, 9, 2, 11), (22, 1)]


@pytest.mark.parametrize("sizes", SIZES)
def test_a_cut_column_is_the_list_of_its_items(sizes: Sequence[int]) -> None:
    cuts = Cuts(sizes)
    column, whole = cuts.column, cuts.whole

    assert whole == list(column)
    assert list(range(len(sizes))) == cuts.made
    assert (len(whole), True) == (len(column), bool(column))
    assert list(map(len, whole)) == list(column.lengths)
    for at in range(-len(whole), len(whole)):
        assert whole[at] == column[at]
    for at in (len(whole), -len(whole) - 1):
        with pytest.raises(IndexError):
            column[at]
    for start in (None, 0, 1, 4, 5, 6, -1, 30):
        for stop in (None, 0, 1, 5, 7, -1, 30):
            for step in (None, 1, 2, -1):
                at = slice(start, stop, step)
                assert whole[at] == column[at]
    assert whole[-1] in column
    assert b"none" not in column
    assert whole == [item for piece in in_pieces(column, 3) for item in piece]
    assert whole == [item for piece in in_pieces(whole, 3) for item in piece]
    assert b",".join(whole) == b",".join(column)


@pytest.mark.parametrize("sizes", SIZES)
def test_what_is_picked_of_a_cut_column_stays_where_it_lies(
    sizes: Sequence[int],
) -> None:
    whole = Cuts(sizes).whole
    count = len(whole)
    for places in (
        range(count),
        range(count - 1),
        range(1, count),
        [0, count - 1] if count > 1 else [0],
        list(range(0, count, 3)),
        [],
    ):
        cuts = Cuts(sizes)
        found = picked(cuts.column, places)

        assert not cuts.made
        assert [whole[at] for at in places] == list(found) == picked(whole, places)
        again = picked(found, range(0, len(places), 2))
        assert [whole[at] for at in list(places)[::2]] == list(again)


def test_a_cut_column_may_be_read_by_threads_at_once() -> None:
    cuts = Cuts([1] * 23)

    def read(seed: int) -> bool:
        places = [(seed * 7 + at * 5) % 23 for at in range(2000)]
        return all(cuts.column[at] == cuts.whole[at] for at in places)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))
