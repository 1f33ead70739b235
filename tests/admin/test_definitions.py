"""What can be configured, and what is wrong with a configuration, in Connect's shape."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.config import keys
from tests.admin.conftest import Stage

DEFINITION = {
    "name",
    "type",
    "required",
    "default_value",
    "importance",
    "documentation",
    "group",
    "order_in_group",
    "order",
    "width",
    "display_name",
    "dependents",
}
GOOD = {
    "connector.class": "HttpSource",
    "name": "orders",
    "http.source.url": "http://127.0.0.1:9/x",
    "kafka.topic": "orders",
    "bootstrap.servers": "127.0.0.1:9",
}


#: The class in full.
FULL = "io.confluent.connect.http.HttpSourceConnector"


def validate(
    stage: Stage, sent: object, plugin: str = "HttpSource"
) -> tuple[int, dict[str, Any]]:
    body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    answer = stage.ask(
        f"/connector-plugins/{plugin}/config/validate", method="PUT", body=body
    )
    return answer.status, json.loads(answer.body)


def errors(told: dict[str, Any]) -> dict[str, list[str]]:
    return {
        each["value"]["name"]: each["value"]["errors"]
        for each in told["configs"]
        if each["value"]["errors"]
    }


@pytest.mark.parametrize(
    "plugin",
    [
        "HttpSource",
        "HttpSourceConnector",
        "io.confluent.connect.http.HttpSourceConnector",
    ],
)
def test_every_key_of_a_connector_is_defined(stage: Stage, plugin: str) -> None:
    answer = stage.ask(f"/connector-plugins/{plugin}/config")
    told = json.loads(answer.body)

    assert 200 == answer.status
    assert {name for name, key in keys.TABLE.items() if key.scope != "P"} - {
        name for name in keys.TABLE if "<" in name
    } == {each["name"] for each in told}
    assert all(DEFINITION == each.keys() for each in told)
    assert all(each["documentation"] and each["group"] for each in told)
    # A place in a group is nobody else's.
    assert len(told) == len({(each["group"], each["order"]) for each in told})
    assert {
        "STRING",
        "INT",
        "LONG",
        "BOOLEAN",
        "LIST",
        "CLASS",
        "PASSWORD",
        "DOUBLE",
    } == {each["type"] for each in told}
    named = {each["name"]: each for each in told}
    assert "1" == named["tasks.max"]["default_value"]
    assert named["http.source.url"]["required"]


def test_converters_are_plugins_and_others_are_not(stage: Stage) -> None:
    def told(plugin: str, **query: list[str]) -> tuple[int, Any]:
        answer = stage.ask(f"/connector-plugins/{plugin}/config", query=query)
        return answer.status, json.loads(answer.body)

    assert (200, []) == told("JsonConverter")
    assert (404, "Unknown plugin httpsource.") == (
        told("httpsource")[0],
        told("httpsource")[1]["message"],
    )
    assert 200 == told("HttpSource", version=["0.1.0"])[0]
    status, refused = told("HttpSource", version=["9"])
    assert 400 == status
    assert "version range [9,9], available versions: [0.1.0]" in refused["message"]


def test_a_good_configuration_has_no_error(stage: Stage) -> None:
    status, told = validate(
        stage, {**GOOD, "bearer.token": "s3cret-token", "auth.type": "BEARER"}
    )

    assert (200, "HttpSource", 0) == (status, told["name"], told["error_count"])
    assert {} == errors(told)
    values = {each["value"]["name"]: each["value"] for each in told["configs"]}
    assert "orders" == values["kafka.topic"]["value"]
    assert "1" == values["tasks.max"]["value"]
    assert ["NONE", "BASIC"] == values["auth.type"]["recommended_values"][:2]
    assert "s3cret-token" not in json.dumps(told)
    groups = {each["definition"]["group"] for each in told["configs"]}
    assert groups == set(told["groups"])


def test_each_finding_stands_at_its_key(stage: Stage) -> None:
    wrong = {
        **GOOD,
        "tasks.max": "several",
        "kafka.topic": "",
        "no.such.key": "1",
        "api1.http.source.method": "FETCH",
        "bearer.token": "s3cret-token",
    }
    status, told = validate(stage, wrong)

    found = errors(told)
    assert 200 == status
    assert {
        "tasks.max",
        "kafka.topic",
        "no.such.key",
        "api1.http.source.method",
        "bearer.token",
    } == found.keys()
    assert told["error_count"] == sum(map(len, found.values())) == 5
    assert [
        'Missing required configuration "kafka.topic" which has no default value.'
    ] == found["kafka.topic"]
    assert "Invalid value several for configuration tasks.max" in found["tasks.max"][0]
    values = {each["value"]["name"]: each["value"]["value"] for each in told["configs"]}
    assert values["tasks.max"] is None
    assert "s3cret-token" not in json.dumps(told)


def test_a_name_is_needed(stage: Stage) -> None:
    _, told = validate(stage, {k: v for k, v in GOOD.items() if k != "name"})

    assert {
        "name": ['Missing required configuration "name" which has no default value.']
    } == errors(told)


@pytest.mark.parametrize(
    ("plugin", "sent", "message"),
    [
        ("HttpSource", {**GOOD, "connector.class": "HttpSourceV2"}, "does not match"),
        ("NoSuch", GOOD, "Included connector type HttpSource does not match"),
        (FULL, GOOD, "Included connector type HttpSource does not match"),
        ("NoSuch", {"connector.class": "NoSuch"}, "Failed to find any class"),
        ("HttpSource", {}, "contains no connector type"),
        ("HttpSource", {"name": None}, "Null value"),
        ("HttpSource", [], "a list"),
        ("HttpSource", b"{", "Invalid JSON"),
        ("HttpSource", b"", "nothing"),
        ("HttpSource", {**GOOD, "a": {"b": 1}}, "the value of a"),
    ],
)
def test_what_cannot_be_validated_is_refused(
    stage: Stage, plugin: str, sent: object, message: str
) -> None:
    status, told = validate(stage, sent, plugin)

    assert (400, 400) == (status, told["error_code"])
    assert message in told["message"]


@pytest.mark.parametrize("word", ["HttpSource", "HttpSourceConnector", FULL])
@pytest.mark.parametrize("plugin", ["HttpSource", "HttpSourceConnector", FULL])
def test_a_class_is_compared_as_connect_compares_it(
    stage: Stage, plugin: str, word: str
) -> None:
    status, _ = validate(stage, {**GOOD, "connector.class": word}, plugin)

    # In full in the path and in short in the body is another class to Connect.
    assert (400 if plugin == FULL != word else 200) == status
