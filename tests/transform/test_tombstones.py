"""Records by which an API says that something is gone: null values in their places."""

from __future__ import annotations

from typing import Any

import pytest

from engine.config.sections.response import REMOVED
from engine.errors import RecordError
from engine.records import Parcel
from engine.transform.conditions import compile_condition
from engine.transform.tombstones import TombstoneTransform
from tests.transform.pages import page_of, transform

GRAPH = {"id": "b", "@removed": {"reason": "changed"}}
DATAVERSE = {
    "@odata.context": "https://o.crm.dynamics.com/$metadata#accounts/$deletedEntity",
    "id": "c",
    "reason": "deleted",
}
VERSION_401 = {"@context": "#Customers/$deletedEntity", "id": "d", "reason": "deleted"}


def buried(
    records: list[Any],
    condition: Any = REMOVED,
    *,
    markers: tuple[bytes, ...] = (b"@removed", b"$deletedEntity"),
    tolerant: bool = False,
    **keys: Any,
) -> Parcel:
    keys.setdefault("key", "${record.id}")
    plain = {name: keys[name] for name in ("key", "topic", "headers") if name in keys}
    tolerance = "all" if tolerant else "none"
    made = TombstoneTransform(
        transform(tolerance=tolerance, **keys),
        transform(enabled=False, tolerance=tolerance, **plain),
        compile_condition(condition),
        markers=markers,
        tolerant=tolerant,
    )
    parcel = made(page_of(records))
    assert parcel.balanced
    return parcel


def pairs(parcel: Parcel) -> list[tuple[bytes | None, bytes | None]]:
    return [
        (key, None if value is None else bytes(value))
        for key, value in zip(parcel.keys or (), parcel.values, strict=True)
    ]


@pytest.mark.parametrize("gone", [GRAPH, DATAVERSE, VERSION_401])
def test_what_odata_says_is_gone_is_a_tombstone_in_its_place(gone: Any) -> None:
    parcel = buried([{"id": "a"}, gone, {"id": "z"}])
    key = gone["id"].encode()
    assert pairs(parcel) == [
        (b"a", b'{"id":"a"}'),
        (key, None),
        (b"z", b'{"id":"z"}'),
    ]
    assert parcel.indexes == [0, 1, 2]


@pytest.mark.parametrize(
    "kept",
    [
        {"id": "a", "text": "@removed"},
        {"id": "a", "nested": {"@removed": {}}},
        {"id": "a", "@odata.context": "https://x/$metadata#accounts/$entity"},
    ],
)
def test_what_only_looks_like_it_is_a_record(kept: Any) -> None:
    assert None not in buried([kept]).values


def test_rules_do_not_see_it_and_the_others_are_as_before() -> None:
    validation = [{"field": "name", "required": True}]
    mapping = [{"source": "name", "target": "n"}]
    parcel = buried(
        [{"id": "a", "name": "A"}, GRAPH],
        validation=validation,
        mappings=mapping,
        key="${record.id}",
    )
    assert pairs(parcel) == [(b"a", b'{"n":"A"}'), (b"b", None)]


def test_any_condition_over_the_record() -> None:
    rule = {"field": "status", "operator": "EQUALS", "value": "cancelled"}
    records = [{"id": 1, "status": "cancelled"}, {"id": 2, "status": "on"}, {"id": 3}]
    parcel = buried(records, rule, markers=())
    assert [value is None for value in parcel.values] == [True, False, False]
    assert parcel.keys == [b"1", b"2", b"3"]


def test_topics_and_headers_stay_with_their_records() -> None:
    gone = {**GRAPH, "kind": "users"}
    parcel = buried(
        [{"id": "a", "kind": "groups"}, gone, {"id": "c", "kind": "users"}],
        topic="t-${record.kind}",
        headers=(("kind", "${record.kind}"),),
    )
    assert parcel.topic == ["t-groups", "t-users", "t-users"]
    assert [dict(each)["kind"] for each in parcel.headers] == [  # type: ignore[arg-type]
        b"groups",
        b"users",
        b"users",
    ]


def test_without_a_key_it_is_a_bad_record() -> None:
    gone = {"@removed": {"reason": "deleted"}, "name": "x"}
    with pytest.raises(RecordError, match=r"kafka\.key"):
        buried([gone])
    parcel = buried([{"id": "a"}, gone, GRAPH], tolerant=True)
    assert pairs(parcel) == [(b"a", b'{"id":"a"}'), (b"b", None)]
    assert [letter.index for letter in parcel.letters] == [1]


def test_a_page_of_tombstones_only() -> None:
    assert pairs(buried([GRAPH, DATAVERSE])) == [(b"b", None), (b"c", None)]
