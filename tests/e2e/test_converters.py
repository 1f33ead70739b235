"""Converters over a Schema Registry, from the command line to a foreign reader."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Make
from tests.e2e.rig import Setup
from tests.fakes.api import Api
from tests.fakes.misbehaving import Misbehaving, Say
from tests.needs import need
from tests.transform.registry_server import RegistryServer, registry_server

pytestmark = pytest.mark.slow

ITEMS = [{"id": n, "name": f"n{n}", "price": n + 0.5} for n in range(5)]
PAGE = json.dumps({"items": ITEMS}).encode()

LOGIN = "reader:s3cret-of-registry"


def library(name: str) -> Any:
    """A module of an extra."""
    try:
        return __import__(name, fromlist=["x"])
    except ImportError:
        need(False, name)


confluent = library("confluent_kafka.schema_registry")
contexts = library("confluent_kafka.serialization")


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as running:
        yield running


def keys(server: RegistryServer, kind: str, side: str = "value") -> dict[str, object]:
    return {
        f"{side}.converter": f"{kind}Converter",
        f"{side}.converter.schema.registry.url": server.url,
    }


def client(server: RegistryServer) -> Any:
    settings = {"url": server.url}
    if server.login:
        settings["basic.auth.user.info"] = LOGIN
    return confluent.SchemaRegistryClient(settings)


def read_avro(server: RegistryServer, setup: Setup, side: str = "value") -> list[Any]:
    module = library("confluent_kafka.schema_registry.avro")
    reader = module.AvroDeserializer(client(server))
    context = contexts.SerializationContext(setup.topic, side)
    return [reader(getattr(seen, side), context) for seen in setup.seen()]


def descriptors(folder: Path) -> Path:
    """A descriptor set with one message, as `protoc` would write it."""
    pb = library("google.protobuf.descriptor_pb2")
    file = pb.FileDescriptorProto(name="item.proto", package="shop", syntax="proto3")
    message = file.message_type.add(name="Item")
    kinds = pb.FieldDescriptorProto
    for number, (name, kind) in enumerate(
        {
            "id": kinds.TYPE_INT64,
            "name": kinds.TYPE_STRING,
            "price": kinds.TYPE_DOUBLE,
        }.items(),
        start=1,
    ):
        message.field.add(
            name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL
        )
    path = folder / "item.desc"
    path.write_bytes(pb.FileDescriptorSet(file=[file]).SerializeToString())
    return path


def read_protobuf(setup: Setup, path: Path) -> list[Any]:
    pb = library("google.protobuf.descriptor_pb2")
    pool = library("google.protobuf.descriptor_pool").DescriptorPool()
    for file in pb.FileDescriptorSet.FromString(path.read_bytes()).file:
        pool.Add(file)
    message = library("google.protobuf.message_factory").GetMessageClass(
        pool.FindMessageTypeByName("shop.Item")
    )
    module = library("confluent_kafka.schema_registry.protobuf")
    reader = module.ProtobufDeserializer(message, {"use.deprecated.format": False})
    context = contexts.SerializationContext(setup.topic, "value")
    found = [reader(seen.value, context) for seen in setup.seen()]
    return [{"id": m.id, "name": m.name, "price": m.price} for m in found]


def test_avro_values_and_keys_are_read_back_by_confluents_deserializer(
    make: Make, server: RegistryServer
) -> None:
    with Misbehaving(Say(body=PAGE)) as api:
        setup = make(
            f"{api.url}/x",
            {
                **keys(server, "Avro"),
                **keys(server, "Avro", "key"),
                "kafka.key": "${record.id}",
            },
        )
        done = setup.once()

    assert 0 == done.code, done.err
    by_id = sorted(read_avro(server, setup), key=lambda item: item["id"])
    assert ITEMS == by_id
    assert list(range(5)) == sorted(read_avro(server, setup, "key"))
    wanted = {f"{setup.topic}-value", f"{setup.topic}-key"}
    assert wanted == set(server.subjects)


def test_json_schema_values_are_read_back_by_confluents_deserializer(
    make: Make, server: RegistryServer
) -> None:
    with Misbehaving(Say(body=PAGE)) as api:
        setup = make(f"{api.url}/x", keys(server, "JsonSchema"))
        done = setup.once()

    assert 0 == done.code, done.err
    module = library("confluent_kafka.schema_registry.json_schema")
    reader = module.JSONDeserializer(None, schema_registry_client=client(server))
    context = contexts.SerializationContext(setup.topic, "value")
    assert ITEMS == [reader(seen.value, context) for seen in setup.seen()]


def test_protobuf_values_are_read_back_by_confluents_deserializer(
    make: Make, server: RegistryServer, tmp_path: Path
) -> None:
    path = descriptors(tmp_path)
    with Misbehaving(Say(body=PAGE)) as api:
        setup = make(
            f"{api.url}/x",
            {
                **keys(server, "Protobuf"),
                "value.schema.file": path,
                "value.schema.message": "shop.Item",
                "value.converter.subject.name.strategy": "TopicRecordNameStrategy",
            },
        )
        done = setup.once()

    assert 0 == done.code, done.err
    assert ITEMS == read_protobuf(setup, path)
    assert {f"{setup.topic}-shop.Item"} == set(server.subjects)


def test_the_registrys_login_goes_to_the_registry_and_the_apis_to_the_api(
    make: Make, server: RegistryServer
) -> None:
    word = base64.b64encode(LOGIN.encode()).decode()
    server.login = f"Basic {word}"
    with Misbehaving(Say(body=PAGE)) as api:
        setup = make(
            f"{api.url}/x",
            {
                **keys(server, "Avro"),
                "value.converter.basic.auth.user.info": LOGIN,
                "auth.type": "BEARER",
                "bearer.token": "api-token",
            },
        )
        done = setup.once()
        [asked] = api.asked

    assert 0 == done.code, done.err
    assert "Bearer api-token" in [asked.header("authorization")]
    assert ITEMS == read_avro(server, setup)
    setup.write(**{"value.converter.basic.auth.user.info": None})
    with Misbehaving(Say(body=PAGE)) as api:
        setup.write(**{"http.source.url": f"{api.url}/x"})
        done = setup.once()
    assert 78 == done.code, done.err
    assert "not allowed" in done.err


@pytest.mark.parametrize(("cached", "asked"), [("true", 1), ("false", 8)])
def test_the_schema_cache_asks_once_and_without_it_every_page(
    make: Make, server: RegistryServer, cached: str, asked: int
) -> None:
    with Api(pages=8, records=5, size=60) as api:
        setup = make(
            f"{api.url}/cursor/0",
            {
                **keys(server, "Avro"),
                "cache.schema.enabled": cached,
                "pagination.type": "cursor",
                "pagination.cursor.field": "next",
            },
        )
        done = setup.once()

    assert 0 == done.code, done.err
    assert 40 == done.total["produced"]
    assert asked == len(server.asked)


def test_a_given_schema_decides_and_what_is_not_of_it_is_a_dead_letter(
    make: Make, server: RegistryServer, tmp_path: Path
) -> None:
    schema = {
        "type": "record",
        "name": "Item",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "name", "type": "string"},
            {"name": "price", "type": "double"},
        ],
    }
    path = tmp_path / "item.avsc"
    path.write_text(json.dumps(schema))
    bad = [*ITEMS, {"id": "x", "name": "bad", "price": 1.0}]
    with Misbehaving(Say(body=json.dumps({"items": bad}).encode())) as api:
        setup = make(
            f"{api.url}/x",
            {
                **keys(server, "Avro"),
                "value.schema.file": path,
                "errors.tolerance": "all",
                "errors.deadletterqueue.topic.name": "${connector}-dead",
            },
        )
        done = setup.once()

    assert 0 == done.code, done.err
    assert (5, 1) == (done.total["produced"], done.total["dead_lettered"])
    assert ITEMS == read_avro(server, setup)


def test_a_schema_the_registry_may_not_learn_is_bad_records(
    make: Make, server: RegistryServer
) -> None:
    with Misbehaving(Say(body=PAGE)) as api:
        more = {"value.converter.auto.register.schemas": "false"}
        setup = make(f"{api.url}/x", {**keys(server, "Avro"), **more})
        done = setup.once()

    assert 65 == done.code, done.err
    assert "auto.register.schemas is false" in done.err
    assert 0 == done.total["produced"]


def test_the_latest_registered_schema_is_used_where_it_is_asked_for(
    make: Make, server: RegistryServer
) -> None:
    with Misbehaving(Say(body=PAGE)) as api:
        setup = make(f"{api.url}/x", keys(server, "Avro"))
        text = json.dumps(
            {
                "type": "record",
                "name": "Theirs",
                "fields": [
                    {"name": "price", "type": "double"},
                    {"name": "name", "type": "string"},
                    {"name": "id", "type": "long"},
                    {"name": "more", "type": "string", "default": "theirs"},
                ],
            }
        )
        schema = confluent.Schema(text, "AVRO")
        client(server).register_schema(f"{setup.topic}-value", schema)
        setup.write(**{"value.converter.use.latest.version": "true"})
        done = setup.once()

    assert 0 == done.code, done.err
    wanted = [{**item, "more": "theirs"} for item in ITEMS]
    assert wanted == read_avro(server, setup)
    assert 1 == len(server.schemas)


def test_a_registry_that_is_away_ends_the_run_with_69_and_nothing_is_lost(
    make: Make, server: RegistryServer
) -> None:
    server.down = True
    with Misbehaving(Say(body=PAGE)) as api:
        more = {"max.retries": 2, "retry.backoff.ms": 50}
        setup = make(f"{api.url}/x", {**keys(server, "Avro"), **more})
        done = setup.once()
        assert 69 == done.code, done.err
        assert "schema registry" in done.err
        assert 3 == len(server.asked)
        assert 0 == setup.arrived()

        server.down = False
        done = setup.once()

    assert 0 == done.code, done.err
    assert ITEMS == read_avro(server, setup)


def test_a_schema_file_that_is_none_is_named(
    make: Make, server: RegistryServer, tmp_path: Path
) -> None:
    path = tmp_path / "item.avsc"
    path.write_text("{")
    with Misbehaving(Say(body=PAGE)) as api:
        setup = make(
            f"{api.url}/x", {**keys(server, "Avro"), "value.schema.file": path}
        )
        done = setup.once()
        assert not api.asked

    assert 78 == done.code, done.err
    assert "value.schema.file" in done.err
