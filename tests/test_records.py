"""What travels from the API to Kafka is never changed by who has it in hand."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Struct

from engine.records import (
    DeadLetter,
    Page,
    Parcel,
    Request,
    Response,
    Shard,
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
