"""Kafka Connect's JSON form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.config import ConfigError, Loaded, load
from tests.config.conftest import Files

CONFIG = {
    "http.source.url": "https://api.example.com/x",
    "kafka.topic": "t",
    "bootstrap.servers": "127.0.0.1:9092",
}


def from_json(files: Files, document: Any, name: str = "some.json") -> Loaded:
    text = document if isinstance(document, str) else json.dumps(document, indent=1)
    return load([files.write(text, name)])


def test_name_and_config(files: Files) -> None:
    loaded = from_json(
        files,
        {"name": "a", "config": CONFIG | {"tasks.max": "3"}, "initial_state": "PAUSED"},
    )

    (connector,) = loaded.connectors
    assert ("a", 3, "PAUSED") == (
        connector.name,
        connector.values["tasks.max"],
        connector.initial_state,
    )


def test_the_bare_map_is_named_after_its_file(files: Files) -> None:
    assert "some" == from_json(files, CONFIG).connectors[0].name


def test_a_list_of_either(files: Files) -> None:
    document = [{"name": "a", "config": CONFIG}, CONFIG | {"name": "b"}]

    loaded = from_json(files, document)
    assert ["a", "b"] == [connector.name for connector in loaded.connectors]


def test_it_is_known_by_its_first_character(files: Files) -> None:
    loaded = from_json(files, " \n" + json.dumps(CONFIG), "some.properties")

    assert "t" == loaded.connectors[0].apis[0].values["kafka.topic"]


def test_values_may_be_of_jsons_own_types(files: Files) -> None:
    document = CONFIG | {
        "tasks.max": 4,
        "cache.enabled": False,
        "rate.limit.requests.per.second": 2.5,
        "entity.names": ["a", "b"],
        "transformation.field.mappings": [{"source": "id", "target": "n"}],
        "cache.warming.patterns": '["a/*"]',
        "kafka.key": None,
    }
    (connector,) = from_json(files, document).connectors

    values = connector.apis[0].values
    assert 4 == connector.values["tasks.max"]
    assert values["cache.enabled"] is False
    assert 2.5 == values["rate.limit.requests.per.second"]
    assert ("a", "b") == values["entity.names"]
    assert [{"source": "id", "target": "n"}] == values["transformation.field.mappings"]
    assert ["a/*"] == connector.values["cache.warming.patterns"]
    assert values["kafka.key"] is None


def test_null_removes_what_lies_below(files: Files) -> None:
    below = files.write("tasks.max=8\n")
    above = files.write(json.dumps(CONFIG | {"tasks.max": None}), "a.json")

    assert 1 == load([below, above]).connectors[0].values["tasks.max"]


@pytest.mark.parametrize(
    ("document", "said", "line"),
    [
        ('{"a": 1, "a": 2}', "stands here twice", 1),
        ('{"tasks.max": 1e3}', "digits only", 1),
        ('{"tasks.max": true}', "digits only", 1),
        ('{"tasks.max": [1]}', "array or object where text", 1),
        ('{\n"tasks.max": "5 # five"}', "digits only", 2),
        ('{\n\n"no.such": 1}', "unknown key", 3),
        ('{"entity.names": [1]}', "array of strings", 1),
        ('{"tasks.max": NaN}', "JSON value is expected", 1),
        ('{"a": 1} x', "behind the end", 1),
        ('{"a": 1,}', "member's name", 1),
        ("[]", "no connector", 1),
        ("[1]", "an object", 1),
        ('{"name": "a", "config": {"name": "b"}}', "differs", 1),
        ('{"name": "a", "config": {}, "state": "x"}', "allowed beside config", 1),
        ('{"name": "a", "config": {}, "initial_state": "x"}', "RUNNING", 1),
        ('{"kafka.key": "\\ud800"}', "surrogate", 1),
        ("[" * 200 + "]" * 200, "nested deeper", 1),
        ('{"connection.user": "a\nb"}', "not JSON", 1),
    ],
)
def test_what_is_wrong_has_its_line(
    files: Files, document: str, said: str, line: int
) -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(files, document)

    found = [f for f in caught.value.findings if said in f.message]
    assert found, caught.value
    assert line == found[0].line


def test_no_inline_comments_and_no_java_escapes(files: Files) -> None:
    loaded = from_json(files, CONFIG | {"kafka.key": "a # b\\\\d"})

    assert "a # b\\\\d" == loaded.connectors[0].apis[0].values["kafka.key"]
