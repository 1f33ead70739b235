"""Inferred schemas: nothing is lost, and a record pays for itself alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from engine.errors import Unavailable
from engine.records import Parcel
from engine.transform import JsonKey
from tests.transform.pages import page_of, transform
from tests.transform.registry_server import RegistryServer, registry_server
from tests.transform.test_registered import (
    avro,
    descriptors,
    jsonschema,
    protobuf,
    read_avro,
    registry,
)


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as running:
        yield running


def inferred(server: RegistryServer, side: str = "value", **more: Any) -> Any:
    return avro.avro_converter(registry(server), side=side, **more)


def read(server: RegistryServer, parcel: Parcel) -> list[Any]:
    return [read_avro(server, value) for value in parcel.values]


def test_a_long_that_no_double_holds_keeps_itself_beside_doubles(
    server: RegistryServer,
) -> None:
    made = transform(value_converter=inferred(server))
    big = 9007199254740993
    for rows, wanted in (
        ([{"n": 1.5}], [{"n": 1.5}]),
        ([{"n": big}], [{"n": big}]),
        ([{"n": big}, {"n": 0.5}, {"n": 7}], [{"n": big}, {"n": 0.5}, {"n": 7}]),
        ([{"n": [big, 1.5]}], [{"n": [big, 1.5]}]),
        ([{"n": -(2**63)}], [{"n": -(2**63)}]),
    ):
        assert read(server, made(page_of(rows))) == wanted


def test_a_given_schema_may_ask_for_a_double(server: RegistryServer) -> None:
    schema = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "n", "type": "double"}],
    }
    made = transform(value_converter=inferred(server, given=json.dumps(schema)))
    assert read(server, made(page_of([{"n": 2**53 + 1}]))) == [{"n": 2.0**53}]


def test_the_bytes_of_a_key_do_not_depend_on_its_neighbours(
    server: RegistryServer,
) -> None:
    rows: list[Any] = [
        5,
        1.5,
        "x",
        5,
        {"a": 5},
        {"a": 1.5},
        {"a": 5, "b": 1},
        2**53 + 1,
    ]

    def keys(converter: Any, *pages: list[Any]) -> list[Any]:
        made = transform(key="${k}", key_converter=JsonKey(converter))
        found: list[Any] = []
        for page in pages:
            found += made(page_of([{"k": key} for key in page])).keys or []
        return found

    together = keys(inferred(server, "key"), rows)
    assert together == keys(inferred(server, "key"), *[[row] for row in rows])
    backwards = keys(inferred(server, "key"), rows[::-1])
    assert together == backwards[::-1]
    assert together[0] == together[3]


def test_a_name_that_avro_does_not_allow_condemns_its_record_alone(
    server: RegistryServer,
) -> None:
    made = transform(value_converter=inferred(server), tolerance="all")
    rows = [{"a": 1}, {"a": 2, "b-c": 1}, {"a": 3}, {"d": {"1x": 1}}, {"": 1}]
    parcel = made(page_of(rows))
    assert [letter.index for letter in parcel.letters] == [1, 3, 4]
    assert "schema.names.sanitize" in parcel.letters[0].message
    assert [row["a"] for row in read(server, parcel)] == [1, 3]


def test_names_are_sanitised_where_that_is_asked(server: RegistryServer) -> None:
    made = transform(value_converter=inferred(server, sanitize=True), tolerance="all")
    rows = [
        {"a-b": 1, "1x": {"c d": "y"}, "": 2, "l": [{"@type": 1}]},
        {"a-b": 1, "a.b": 2},
        {"ok": 1},
    ]
    parcel = made(page_of(rows))
    assert [letter.index for letter in parcel.letters] == [1]
    assert "once sanitised" in parcel.letters[0].message
    found = [
        {name: each for name, each in row.items() if each is not None}
        for row in read(server, parcel)
    ]
    first = {"a_b": 1, "_1x": {"c_d": "y"}, "_": 2, "l": [{"_type": 1}]}
    assert found == [first, {"ok": 1}]


def test_a_given_schema_takes_sanitised_names_and_leaves_maps_alone(
    server: RegistryServer,
) -> None:
    schema = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "a_b", "type": "long"},
            {"name": "m", "type": {"type": "map", "values": "long"}},
        ],
    }
    made = transform(
        value_converter=inferred(server, given=json.dumps(schema), sanitize=True)
    )
    row = {"a-b": 1, "m": {"x-y": 2}}
    assert read(server, made(page_of([row]))) == [{"a_b": 1, "m": {"x-y": 2}}]


@pytest.mark.parametrize("first", [[], [{"a": 1}]])
def test_a_schema_that_the_registry_refuses_condemns_its_record_alone(
    server: RegistryServer, first: list[Any]
) -> None:
    server.judge = lambda text: "no bad here" if '"bad"' in text else None
    made = transform(value_converter=inferred(server), tolerance="all")
    if first:
        made(page_of(first))
    rows = [{"a": 1}, {"a": 2, "bad": 1}, {"a": 3, "new": "x"}, {"bad": 2}]
    for _ in range(3):
        parcel = made(page_of(rows))
        assert [letter.index for letter in parcel.letters] == [1, 3]
        assert "no bad here" in parcel.letters[0].message
        assert [row["a"] for row in read(server, parcel)] == [1, 3]
    # What was refused is not asked about again with every page.
    asked = len(server.asked)
    made(page_of(rows))
    assert len(server.asked) == asked


def test_a_refused_key_condemns_its_record_alone(server: RegistryServer) -> None:
    server.judge = lambda text: "no text" if "string" in text else None
    made = transform(
        key="${k}", key_converter=JsonKey(inferred(server, "key")), tolerance="all"
    )
    parcel = made(page_of([{"k": 1}, {"k": "x"}, {"k": 2}]))
    assert [letter.index for letter in parcel.letters] == [1]


NO_REGISTRY = [
    (200, b"{}"),
    (200, b"[]"),
    (200, b"null"),
    (200, b""),
    (200, b"<html><body>Welcome</body></html>"),
    (200, b'{"id":"7"}'),
    (200, b'{"id":7.5}'),
    (200, b'{"id":true}'),
    (200, b'{"id":null}'),
    (200, b'{"id":-1}'),
    (200, b'{"id":4294967296}'),
    (200, b"\xff\xfe"),
    (204, b""),
    (302, b""),
    (400, b"<html>Bad Request</html>"),
    (404, b"<html>Not Found</html>"),
    (404, b'{"error_code":404,"message":"HTTP 404 Not Found"}'),
    (405, b"{}"),
    (500, b"{}"),
]


@pytest.mark.parametrize(("status", "body"), NO_REGISTRY)
@pytest.mark.parametrize("latest", [False, True])
def test_what_no_registry_answers_is_not_the_records_fault(
    server: RegistryServer, status: int, body: bytes, latest: bool
) -> None:
    server.instead = (status, body)
    for converter in (
        inferred(server, latest=latest),
        jsonschema.json_schema_converter(registry(server), side="value", latest=latest),
    ):
        with pytest.raises(Unavailable, match="schema registry"):
            transform(value_converter=converter, tolerance="all")(page_of([{"a": 1}]))
    server.instead = None
    assert transform(value_converter=inferred(server))(page_of([{"a": 1}])).values


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":1,"version":1}',
        b'{"id":1,"version":1,"schema":7}',
        b'{"id":1,"schema":"\\"long\\""}',
        b'{"id":1,"version":1,"schema":"\\"long\\"","references":{"x":1}}',
        b'{"id":1,"version":1,"schema":"\\"long\\"","references":[1]}',
    ],
)
def test_a_latest_version_without_its_parts_is_the_registrys_error(
    server: RegistryServer, body: bytes
) -> None:
    server.instead = (200, body)
    with pytest.raises(Unavailable):
        transform(value_converter=inferred(server, latest=True), tolerance="all")(
            page_of([{"a": 1}])
        )


def test_the_next_address_is_asked_where_one_is_no_registry(
    server: RegistryServer,
) -> None:
    with registry_server() as wrong:
        wrong.instead = (200, b"{}")
        both = type(registry(server))([wrong.url, server.url], registry(server)._fetch)
        made = transform(value_converter=avro.avro_converter(both, side="value"))
        assert len(made(page_of([{"a": 1}])).values) == 1


@pytest.mark.parametrize(
    ("record", "fits"),
    [
        ("{}", True),
        ('{"price":{}}', True),
        ('{"price":null}', True),
        ('{"lines":[]}', True),
        ('{"lines":[{}]}', True),
        ("[]", False),
        ('""', False),
        ("0", False),
        ("false", False),
        ('[["id",7]]', False),
        ('{"price":[]}', False),
        ('{"price":""}', False),
        ('{"price":0}', False),
        ('{"price":false}', False),
        ('{"lines":[[]]}', False),
        ('{"lines":[""]}', False),
        ('{"lines":{}}', False),
        ('{"id":1e400}', False),
        ('{"id":[]}', False),
        ('{"id":{}}', False),
    ],
)
def test_only_an_object_is_a_protobuf_message(
    server: RegistryServer, record: str, fits: bool
) -> None:
    data, _ = descriptors()
    made = transform(
        value_converter=protobuf.protobuf_converter(
            registry(server), side="value", data=data, message="shop.Order"
        ),
        tolerance="all",
    )
    parcel = made(page_of([record.encode()]))
    assert (len(parcel.values), len(parcel.letters)) == ((1, 0) if fits else (0, 1))


@pytest.mark.parametrize("number", ["1e30", "0e999", "123456789012345678901234567.5"])
def test_a_decimal_of_any_number_is_a_value_or_a_bad_record(
    server: RegistryServer, number: str
) -> None:
    kind = {"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 9}
    schema = {"type": "record", "name": "R", "fields": [{"name": "n", "type": kind}]}
    made = transform(
        value_converter=inferred(server, given=json.dumps(schema)), tolerance="all"
    )
    parcel = made(page_of([b'{"n":%b}' % number.encode()]))
    assert len(parcel.values) + len(parcel.letters) == 1
