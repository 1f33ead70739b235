"""Avro, JSON Schema and Protobuf, read back by Confluent's own deserializers."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Misconfigured, RecordError, Unavailable
from engine.transform import JsonKey
from engine.transform.registry import Registry, SchemaCache
from engine.transform.schemas import SchemaMismatch
from tests.transform.pages import columns, dumped, page_of, run, transform
from tests.transform.registry_server import RegistryServer, fetch, registry_server


def needed(name: str) -> Any:
    """A library of an extra: skipped at home, failed in CI."""
    if os.environ.get("CI"):
        return __import__(name, fromlist=["x"])
    return pytest.importorskip(name)


avro = needed("engine.transform.avro")
jsonschema = needed("engine.transform.jsonschema")
protobuf = needed("engine.transform.protobuf")
confluent = needed("confluent_kafka.schema_registry")
SerializationContext = needed("confluent_kafka.serialization").SerializationContext


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as running:
        yield running


def registry(server: RegistryServer, **more: Any) -> Registry:
    return Registry([server.url], fetch, **more)


@cache
def client(server: RegistryServer) -> Any:
    """One for each server: making it reads every certificate there is."""
    return confluent.SchemaRegistryClient({"url": server.url})


def value_context(topic: str = "orders") -> Any:
    return SerializationContext(topic, "value")


def read_avro(server: RegistryServer, data: Any) -> Any:
    module = needed("confluent_kafka.schema_registry.avro")
    return module.AvroDeserializer(client(server))(bytes(data), value_context())


def read_json(server: RegistryServer, data: Any) -> Any:
    module = needed("confluent_kafka.schema_registry.json_schema")
    reader = module.JSONDeserializer(None, schema_registry_client=client(server))
    return reader(bytes(data), value_context())


ORDER = json.dumps(
    {
        "type": "record",
        "name": "Order",
        "namespace": "shop",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "count", "type": "int", "default": 1},
            {"name": "amount", "type": ["null", "double"], "default": None},
            {"name": "paid", "type": "boolean"},
            {"name": "tags", "type": {"type": "array", "items": "string"}},
            {
                "name": "state",
                "type": {"type": "enum", "name": "S", "symbols": ["NEW", "DONE"]},
            },
            {
                "name": "more",
                "type": ["null", {"type": "map", "values": ["long", "string"]}],
                "default": None,
            },
        ],
    }
)
GOOD = {"id": 7, "paid": True, "tags": ["a"], "state": "NEW"}


def test_avro_with_a_given_schema_is_read_by_confluent(server: RegistryServer) -> None:
    converter = avro.avro_converter(registry(server), side="value", given=ORDER)
    rows = [
        GOOD,
        {**GOOD, "amount": 1.5, "count": 2, "more": {"x": 1, "y": "z"}},
        {**GOOD, "amount": 3, "id": 12.0},
    ]

    parcel = run(rows, value_converter=converter)

    defaults = {"amount": None, "count": 1, "more": None}
    read = [read_avro(server, value) for value in parcel.values]
    assert [{**defaults, **row} for row in rows] == read
    assert ["orders-value"] == list(server.subjects)


@pytest.mark.parametrize(
    "change",
    [
        {"id": 1.5},
        {"id": True},
        {"id": "7"},
        {"id": 2**63},
        {"count": 2**31},
        {"paid": 1},
        {"paid": None},
        {"tags": "a"},
        {"tags": [1]},
        {"state": "OLD"},
        {"amount": "1"},
        {"more": {"x": [1]}},
        {"other": 1},
    ],
)
def test_what_does_not_fit_the_avro_schema_exactly_is_a_bad_record(
    server: RegistryServer, change: dict[str, Any]
) -> None:
    converter = avro.avro_converter(registry(server), side="value", given=ORDER)

    parcel = run(
        [GOOD, {**GOOD, **change}, GOOD], value_converter=converter, tolerance="all"
    )

    assert 2 == len(parcel.values)
    assert [(1, "convert")] == [(each.index, each.stage) for each in parcel.letters]


def test_a_missing_field_without_default_is_a_bad_record(
    server: RegistryServer,
) -> None:
    converter = avro.avro_converter(registry(server), side="value", given=ORDER)

    with pytest.raises(RecordError, match="paid is missing"):
        run([{"id": 7, "tags": [], "state": "NEW"}], value_converter=converter)


def test_decimals_stay_exact(server: RegistryServer) -> None:
    money = {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 2}
    schema = {
        "type": "record",
        "name": "M",
        "fields": [{"name": "price", "type": money}],
    }
    converter = avro.avro_converter(
        registry(server), side="value", given=json.dumps(schema)
    )

    parcel = run(
        [b'{"price": 1234567890123456789012345.67}', b'{"price": 1.505}'],
        value_converter=converter,
        tolerance="all",
    )

    assert {"price": Decimal("1234567890123456789012345.67")} == read_avro(
        server, parcel.values[0]
    )
    assert [1] == [each.index for each in parcel.letters]


def test_confluent_writes_what_ours_writes(server: RegistryServer) -> None:
    """The frame and the encoding are the same, to the byte."""
    module = needed("confluent_kafka.schema_registry.avro")
    writer = module.AvroSerializer(client(server), ORDER, conf={})
    row = {**GOOD, "amount": 1.5, "count": 2, "more": {"x": 1}}
    theirs = writer(row, value_context())
    # Theirs registers the schema as it normalised it; ours looks that up.
    text = server.schemas[0]["schema"]

    ours = avro.avro_converter(registry(server), side="value", given=text)

    assert theirs == bytes(run([row], value_converter=ours).values[0] or b"")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(blacklist_categories=["Cs"]), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
    ),
    max_leaves=8,
)
rows_of = st.lists(
    # Confluent's reader takes a record of no bytes at all for no record.
    st.dictionaries(st.sampled_from("abcd"), json_values, max_size=4).map(
        lambda row: {**row, "z": 0}
    ),
    min_size=1,
    max_size=4,
)


def without_nulls(value: Any) -> Any:
    """A schema makes a field that is not there and one that is null the same."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    return value


@pytest.fixture(scope="module")
def shared() -> Iterator[RegistryServer]:
    """One server for many generated topics."""
    with registry_server() as running:
        yield running


@settings(max_examples=20, deadline=None)
@given(pages=st.lists(rows_of, min_size=1, max_size=3))
def test_any_records_survive_an_inferred_avro_schema(
    shared: RegistryServer, pages: list[Any]
) -> None:
    compiled = transform(
        topic=f"avro{len(shared.asked)}",
        value_converter=avro.avro_converter(registry(shared), side="value"),
        tolerance="all",
    )
    for rows in pages:
        parcel = compiled(page_of(rows))
        assert [] == list(parcel.letters)
        read = [read_avro(shared, value) for value in parcel.values]
        assert without_nulls(rows) == without_nulls(read)


@settings(max_examples=20, deadline=None)
@given(pages=st.lists(rows_of, min_size=1, max_size=3))
def test_any_records_survive_an_inferred_json_schema(
    shared: RegistryServer, pages: list[Any]
) -> None:
    compiled = transform(
        topic=f"json{len(shared.asked)}",
        value_converter=jsonschema.json_schema_converter(
            registry(shared), side="value"
        ),
        tolerance="all",
    )
    for rows in pages:
        parcel = compiled(page_of(rows))
        assert [] == list(parcel.letters)
        assert rows == [read_json(shared, value) for value in parcel.values]


def test_a_page_widens_the_topics_schema_and_only_where_it_must(
    server: RegistryServer,
) -> None:
    compiled = transform(
        value_converter=avro.avro_converter(registry(server), side="value")
    )
    for rows in ([{"a": 1}], [{"a": 2}], [{"a": 1.5, "b": "x"}], [{"a": 3}, {}]):
        parcel = compiled(page_of(rows))

    assert 2 == len(server.subjects["orders-value"])
    assert {"a": 3.0, "b": None} == read_avro(server, parcel.values[0])
    last = json.loads(server.schemas[-1]["schema"])
    assert [["null", "double"], ["null", "string"]] == [
        field["type"] for field in last["fields"]
    ]


class Hands:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return int(self.now * 1000)


def test_the_eleventh_new_schema_in_an_hour_is_a_bad_record(
    server: RegistryServer,
) -> None:
    clock = Hands()
    compiled = transform(
        value_converter=avro.avro_converter(
            registry(server), side="value", clock=clock
        ),
        tolerance="all",
    )
    for number in range(11):
        assert not compiled(page_of([{f"f{number}": 1}])).letters

    parcel = compiled(page_of([{"f0": 1}, {"f11": 1}]))

    assert [1] == [each.index for each in parcel.letters]
    assert "10 new schemas" in parcel.letters[0].message
    clock.now = 3601.0
    assert not compiled(page_of([{"f11": 1}])).letters


def test_json_schema_keeps_the_text_and_judges_it(server: RegistryServer) -> None:
    schema = {
        "type": "object",
        "title": "order",
        "properties": {"id": {"type": "integer"}},
    }
    converter = jsonschema.json_schema_converter(
        registry(server), side="value", given=json.dumps(schema)
    )

    parcel = run(
        [b'{"id": 7, "x": 1.50}', {"id": "7"}],
        value_converter=converter,
        tolerance="all",
    )

    assert b'{"id": 7, "x": 1.50}' == bytes(parcel.values[0] or b"")[5:]
    assert {"id": 7, "x": 1.5} == read_json(server, parcel.values[0])
    assert [(1, "convert")] == [(each.index, each.stage) for each in parcel.letters]
    assert "id" in parcel.letters[0].message


def test_a_schema_of_the_registry_s_neither_backtracks_nor_fetches() -> None:
    def writer(**property: str) -> jsonschema.JsonSchemaWriter:
        schema = {"type": "object", "properties": {"a": property}}
        return jsonschema.JsonSchemaWriter(json.dumps(schema))

    began = time.thread_time()
    for text in ("_" * 40_000, "a" * 40_000):
        for pattern in ("^(_+)+!$", "^(a|aa)+$", r"^(\w+\s?)*!$"):
            with contextlib.suppress(SchemaMismatch):
                writer(pattern=pattern).write(dumped({"a": text}))
    assert time.thread_time() - began < 5
    for pattern in (r"(a)\1", "(?<!a)b"):
        with pytest.raises(SchemaMismatch):
            writer(pattern=pattern)
    with pytest.raises(SchemaMismatch, match="reference"):
        writer(**{"$ref": "http://127.0.0.1:9/schema.json"})


def descriptors() -> tuple[bytes, Any]:
    """common.Money in one file; shop.Order with an inner message in another."""
    pb2 = needed("google.protobuf.descriptor_pb2")
    field = pb2.FieldDescriptorProto
    common = pb2.FileDescriptorProto(
        name="common.proto", package="common", syntax="proto3"
    )
    money = common.message_type.add(name="Money")
    money.field.add(
        name="cents", number=1, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL
    )
    shop = pb2.FileDescriptorProto(
        name="shop.proto",
        package="shop",
        syntax="proto3",
        dependency=["common.proto"],
    )
    shop.message_type.add(name="Unused")
    order = shop.message_type.add(name="Order")
    order.field.add(
        name="id", number=1, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL
    )
    order.field.add(
        name="price",
        number=2,
        type=field.TYPE_MESSAGE,
        type_name=".common.Money",
        label=field.LABEL_OPTIONAL,
    )
    line = order.nested_type.add(name="Line")
    line.field.add(
        name="sku", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL
    )
    order.field.add(
        name="lines",
        number=3,
        type=field.TYPE_MESSAGE,
        type_name=".shop.Order.Line",
        label=field.LABEL_REPEATED,
    )
    files = pb2.FileDescriptorSet(file=[common, shop])
    return files.SerializeToString(), protobuf.Protobuf(
        files.SerializeToString(), "shop.Order"
    ).descriptor


def test_protobuf_is_read_by_confluent(server: RegistryServer) -> None:
    module = needed("confluent_kafka.schema_registry.protobuf")
    factory = needed("google.protobuf.message_factory")
    data, descriptor = descriptors()
    converter = protobuf.protobuf_converter(
        registry(server), side="value", data=data, message="shop.Order"
    )

    parcel = run(
        [
            {"id": 7, "price": {"cents": 150}, "lines": [{"sku": "a"}]},
            {"id": "no number"},
            {"other": 1},
        ],
        value_converter=converter,
        tolerance="all",
    )

    order = factory.GetMessageClass(descriptor)
    reader = module.ProtobufDeserializer(
        order, {"use.deprecated.format": False}, client(server)
    )
    read = reader(bytes(parcel.values[0] or b""), value_context())
    assert (7, 150, "a") == (read.id, read.price.cents, read.lines[0].sku)
    assert [1, 2] == [each.index for each in parcel.letters]
    assert {"common.proto", "orders-value"} == set(server.subjects)
    assert b"\x02\x02" == bytes(parcel.values[0] or b"")[5:7]


def test_the_message_index_of_first_nested_and_later_messages() -> None:
    data, descriptor = descriptors()
    inner = protobuf.Protobuf(data, "shop.Order.Line").descriptor
    first = protobuf.Protobuf(data, "common.Money").descriptor

    assert b"\x00" == protobuf.message_index(first)
    assert b"\x02\x02" == protobuf.message_index(descriptor)
    assert b"\x04\x02\x00" == protobuf.message_index(inner)


def test_a_message_that_is_not_there_is_refused_at_load() -> None:
    data, _ = descriptors()

    with pytest.raises(SchemaMismatch, match=r"shop\.None"):
        protobuf.Protobuf(data, "shop.None")
    with pytest.raises(SchemaMismatch, match="descriptor set"):
        protobuf.Protobuf(b"\xff\xff", "shop.Order")


@pytest.mark.parametrize(
    ("strategy", "subject"),
    [
        ("TopicName", "orders-value"),
        ("RecordName", "shop.Order"),
        ("TopicRecordName", "orders-shop.Order"),
    ],
)
def test_the_strategy_names_the_subject(
    server: RegistryServer, strategy: str, subject: str
) -> None:
    converter = avro.avro_converter(
        registry(server), side="value", given=ORDER, strategy=strategy
    )
    run([GOOD], value_converter=converter)

    assert [subject] == list(server.subjects)


def test_keys_have_a_subject_of_their_own(server: RegistryServer) -> None:
    keys = JsonKey(avro.avro_converter(registry(server), side="key", given='"long"'))

    parcel = run(
        [{"id": 7}, {"id": "x"}], key="${id}", key_converter=keys, tolerance="all"
    )

    assert parcel.keys is not None
    assert 7 == read_avro(server, parcel.keys[0])
    assert ["orders-key"] == list(server.subjects)
    assert [(1, "convert")] == [(each.index, each.stage) for each in parcel.letters]


def test_without_registration_an_unknown_schema_is_a_bad_record(
    server: RegistryServer,
) -> None:
    converter = avro.avro_converter(
        registry(server, register=False), side="value", given=ORDER
    )

    with pytest.raises(RecordError, match=r"auto\.register\.schemas is false"):
        run([GOOD], value_converter=converter)
    assert {} == server.subjects

    client(server).register_schema("orders-value", confluent.Schema(ORDER, "AVRO"))
    known = avro.avro_converter(
        registry(server, register=False), side="value", given=ORDER
    )
    assert 1 == len(run([GOOD], value_converter=known).values)


def test_the_latest_version_is_what_is_written_with(server: RegistryServer) -> None:
    wide = json.loads(ORDER)
    wide["fields"].append({"name": "extra", "type": "string", "default": "none"})
    client(server).register_schema(
        "orders-value", confluent.Schema(json.dumps(wide), "AVRO")
    )
    converter = avro.avro_converter(
        registry(server), side="value", given=ORDER, latest=True
    )

    parcel = run([{**GOOD, "amount": 1.5}], value_converter=converter)

    assert "none" == read_avro(server, parcel.values[0])["extra"]
    assert 1 == len(server.schemas)


def test_an_incompatible_schema_is_said_clearly(server: RegistryServer) -> None:
    server.refuse["orders-value"] = (409, "READER_FIELD_MISSING_DEFAULT_VALUE: paid")
    converter = avro.avro_converter(registry(server), side="value", given=ORDER)

    parcel = run([GOOD, GOOD], value_converter=converter, tolerance="all")

    assert [0, 1] == [each.index for each in parcel.letters]
    assert "not compatible" in parcel.letters[0].message
    assert "orders-value" in parcel.letters[0].message
    assert "READER_FIELD_MISSING_DEFAULT_VALUE" in parcel.letters[0].message


def test_a_registry_that_is_away_is_nobodys_bad_record(server: RegistryServer) -> None:
    converter = avro.avro_converter(registry(server), side="value", given=ORDER)
    server.down = True
    with pytest.raises(Unavailable):
        transform(value_converter=converter, tolerance="all")(page_of([GOOD]))

    nowhere = Registry(["http://127.0.0.1:9"], fetch)
    lost = avro.avro_converter(nowhere, side="value", given=ORDER)
    with pytest.raises(Unavailable):
        transform(value_converter=lost)(page_of([GOOD]))

    both = Registry(["http://127.0.0.1:9", server.url], fetch)
    server.down = False
    found = avro.avro_converter(both, side="value", given=ORDER)
    assert 1 == len(run([GOOD], value_converter=found).values)


def test_a_wrong_login_is_the_configurations_fault(server: RegistryServer) -> None:
    server.login = "Basic dXNlcjpwYXNz"
    converter = avro.avro_converter(
        registry(server, login="user:wrong"), side="value", given=ORDER
    )
    with pytest.raises(Misconfigured) as caught:
        transform(value_converter=converter)(page_of([GOOD]))
    assert "wrong" not in str(caught.value)

    right = avro.avro_converter(
        registry(server, login="user:pass"), side="value", given=ORDER
    )
    assert 1 == len(run([GOOD], value_converter=right).values)


def pages_through(server: RegistryServer, cache: SchemaCache, topics: list[str]) -> int:
    converter = avro.avro_converter(
        registry(server, cache=cache), side="value", given=ORDER
    )
    compiled = transform(topic="${api}-${t}", value_converter=converter)
    wide = json.loads(ORDER)
    wide["fields"].append({"name": "t", "type": "string"})
    converter = avro.avro_converter(
        registry(server, cache=cache), side="value", given=json.dumps(wide)
    )
    compiled = transform(topic="${t}", value_converter=converter)
    before = len(server.asked)
    for topic in topics:
        compiled(page_of([{**GOOD, "t": topic}]))
    return len(server.asked) - before


def test_the_schema_cache_spares_the_registry(server: RegistryServer) -> None:
    assert 1 == pages_through(server, SchemaCache(), ["a"] * 20)
    assert 20 == pages_through(server, SchemaCache(enabled=False), ["a"] * 20)
    assert 2 == pages_through(server, SchemaCache(), ["a", "b"] * 5)
    assert 10 == pages_through(server, SchemaCache(size=1), ["a", "b"] * 5)


def test_what_the_cache_knows_grows_old(server: RegistryServer) -> None:
    clock = Hands()
    cache = SchemaCache(ttl=2.0, clock=clock)
    asked = []
    for now in (0.0, 1.0, 2.5, 3.0, 5.0):
        clock.now = now
        asked.append(pages_through(server, cache, ["a"]))

    assert [1, 0, 1, 0, 1] == asked


def test_both_paths_write_the_same_avro(server: RegistryServer) -> None:
    schema = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "id", "type": ["null", "long", "string"], "default": None},
            {"name": "n", "type": ["null", "double"], "default": None},
            {
                "name": "in",
                "type": [
                    "null",
                    {
                        "type": "record",
                        "name": "I",
                        "fields": [
                            {"name": "t", "type": ["null", "string"], "default": None}
                        ],
                    },
                ],
                "default": None,
            },
            {"name": "l", "type": {"type": "array", "items": "double"}, "default": []},
            {"name": "e", "type": ["null", "string", "double"], "default": None},
        ],
    }
    given_schema = json.dumps(schema)

    def converter() -> Any:
        return avro.avro_converter(registry(server), side="value", given=given_schema)

    keys = SimpleNamespace(
        mappings=json.dumps(
            [
                {"source": "id", "target": "id"},
                {"source": "n", "target": "n", "type": "DOUBLE"},
                {"source": "t", "target": "in.t", "type": "STRING"},
                {"source": "l", "target": "l"},
            ]
        ),
        enrichment='[{"field": "e", "expression": "${n + 1}"}]',
        filters='[{"field": "n", "operator": "LESS_THAN", "value": 100}]',
    )
    rows = [
        {"id": 1, "n": 1.5, "t": "x", "l": [1, 2.5]},
        {"id": "a", "n": "2"},
        {"id": None, "n": 3, "t": None, "l": []},
        {"id": 2**70, "n": 1},
        {"id": 1.5, "n": 1},
        {"n": 1000},
        {"id": {"x": 1}, "n": 1},
    ]
    results = [
        columns(
            transform(
                fast=fast,
                value_converter=converter(),
                tolerance="all",
                **vars(keys),
            )(page_of(rows))
        )
        for fast in (True, False)
    ]

    assert results[0] == results[1]
    assert transform(value_converter=converter(), **vars(keys)).loops
    assert {
        "id": 1,
        "n": 1.5,
        "in": {"t": "x"},
        "l": [1.0, 2.5],
        "e": 2.5,
    } == read_avro(server, results[0]["values"][0])
    assert [3, 4, 6] == [index for index, _ in results[0]["letters"]]
    assert 1 == results[0]["filtered"]
