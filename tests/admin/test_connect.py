"""Connect's REST: its shapes, its words, and who may change a level."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.admin.guard import ConnectionEnds
from engine.admin.view import TaskState
from tests.admin.conftest import LOCAL, Stage

OUTSIDE = ConnectionEnds("192.0.2.1", "192.0.2.9")


def get(stage: Stage, path: str, **query: list[str]) -> tuple[int, Any]:
    answer = stage.ask(path, query=query)
    return answer.status, json.loads(answer.body)


def put(
    stage: Stage, path: str, body: bytes, caller: ConnectionEnds = LOCAL, **headers: str
) -> tuple[int, Any]:
    answer = stage.ask(path, method="PUT", body=body, caller=caller, **headers)
    return answer.status, json.loads(answer.body) if answer.body else None


STATUS: dict[str, Any] = {
    "name": "orders",
    "connector": {
        "state": "RUNNING",
        "worker_id": "localhost:8080",
        "version": "0.1.0",
    },
    "tasks": [
        {
            "id": 0,
            "state": "RUNNING",
            "worker_id": "localhost:8080",
            "version": "0.1.0",
        },
        {
            "id": 1,
            "state": "FAILED",
            "worker_id": "localhost:8080",
            "version": "0.1.0",
            "trace": "Denied: 401",
        },
    ],
    "type": "source",
}

INFO: dict[str, Any] = {
    "name": "orders",
    "config": {"name": "orders", "http.auth.password": "${env:SECRET}"},
    "tasks": [{"connector": "orders", "task": 0}, {"connector": "orders", "task": 1}],
    "type": "source",
}


@pytest.fixture
def two(stage: Stage) -> Stage:
    stage.view.task_states = [
        TaskState("orders", 1, "FAILED", trace="Denied: 401"),
        TaskState("orders", 0, "RUNNING"),
    ]
    return stage


def test_the_root_names_version_commit_and_cluster(stage: Stage) -> None:
    assert (
        200,
        {
            "version": "4.3.1",
            "kafka_http_source_version": "0.1.0",
            "commit": "abcdef0",
            "kafka_cluster_id": "kraft-1",
        },
    ) == get(stage, "/")


def test_connectors_are_names_until_they_are_expanded(two: Stage) -> None:
    assert (200, ["orders"]) == get(two, "/connectors")
    assert (200, ["orders"]) == get(two, "/connectors/")
    assert (200, {"orders": {"status": STATUS, "info": INFO}}) == get(
        two, "/connectors", expand=["status", "info"]
    )
    assert (200, {"orders": {"info": INFO}}) == get(two, "/connectors", expand=["info"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/connectors/orders", INFO),
        ("/connectors/orders/config", INFO["config"]),
        ("/connectors/orders/status", STATUS),
        ("/connectors/orders/topics", {"orders": {"topics": ["orders-topic"]}}),
        (
            "/connectors/orders/tasks/0/status",
            STATUS["tasks"][0],
        ),
        ("/connectors/orders/status/", STATUS),
        ("/connectors/nope/topics", {"nope": {"topics": []}}),
    ],
)
def test_a_connector_is_told_in_connects_shape(
    two: Stage, path: str, value: object
) -> None:
    assert (200, value) == get(two, path)


def test_tasks_come_with_their_configuration(two: Stage) -> None:
    status, tasks = get(two, "/connectors/orders/tasks")

    assert 200 == status
    assert [0, 1] == [task["id"]["task"] for task in tasks]
    task = "io.confluent.connect.http.HttpSourceTask"
    assert {**INFO["config"], "task.class": task} == tasks[0]["config"]


def test_plugins_are_the_classes_a_file_may_name(stage: Stage) -> None:
    _, plugins = get(stage, "/connector-plugins")
    _, all_of_them = get(stage, "/connector-plugins", connectorsOnly=["false"])

    assert [
        {
            "class": "com.github.castorm.kafka.connect.http.HttpSourceConnector",
            "type": "source",
            "version": "0.1.0",
        },
        {
            "class": "io.confluent.connect.http.HttpSourceConnector",
            "type": "source",
            "version": "0.1.0",
        },
        {
            "class": "io.confluent.connect.http.source.GenericHttpSourceConnector",
            "type": "source",
            "version": "0.1.0",
        },
    ] == plugins
    assert plugins == all_of_them[:3]
    assert {"source", "converter", "header_converter"} == {
        plugin["type"] for plugin in all_of_them
    }


def test_a_failed_shard_stands_in_the_connectors_trace(stage: Stage) -> None:
    stage.shard(failed="Unexpected: 404")

    _, status = get(stage, "/connectors/orders/status")

    assert "api1: Unexpected: 404" == status["connector"]["trace"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/connectors/nope", "Connector nope not found"),
        ("/connectors/nope/config", "Connector nope not found"),
        ("/connectors/nope/tasks", "Connector nope not found"),
        ("/connectors/nope/status", "No status found for connector nope"),
        ("/connectors/orders/tasks/7/status", "No status found for task orders-7"),
        ("/connectors/orders/tasks/x/status", "HTTP 404 Not Found"),
        ("/connectors/orders/tasks/-1/status", "No status found for task orders--1"),
        ("//connectors", "HTTP 404 Not Found"),
        ("/connectors/orders/nope", "HTTP 404 Not Found"),
        ("/nope", "HTTP 404 Not Found"),
        ("/admin", "HTTP 404 Not Found"),
        ("/health/nope", "HTTP 404 Not Found"),
        ("/admin/loggers/nope", "Logger nope not found."),
        ("/admin/loggers/a/b", "HTTP 404 Not Found"),
    ],
)
def test_what_is_not_there_is_refused_in_connects_words(
    stage: Stage, path: str, message: str
) -> None:
    assert (404, {"error_code": 404, "message": message}) == get(stage, path)


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/", "POST", "GET, HEAD, OPTIONS"),
        ("/health", "POST", "GET, HEAD, OPTIONS"),
        ("/metrics", "DELETE", "GET, HEAD, OPTIONS"),
        ("/connectors/orders/status", "DELETE", "GET, HEAD, OPTIONS"),
        ("/connectors/orders/pause", "GET", "PUT, OPTIONS"),
        ("/connectors/orders/pause", "POST", "PUT, OPTIONS"),
        ("/connectors/orders/restart", "PUT", "POST, OPTIONS"),
        ("/connectors/orders/topics/reset", "GET", "PUT, OPTIONS"),
        ("/connectors/orders/status", "TRACE", "GET, HEAD, OPTIONS"),
        ("/connectors/orders/status", "BREW", "GET, HEAD, OPTIONS"),
        ("/jolokia", "PUT", "GET, HEAD, POST, OPTIONS"),
        ("/admin/loggers", "PUT", "GET, HEAD, OPTIONS"),
        ("/admin/loggers/root", "DELETE", "GET, HEAD, PUT, OPTIONS"),
    ],
)
def test_other_methods_are_refused(
    stage: Stage, path: str, method: str, allowed: str
) -> None:
    answer = stage.ask(path, method=method)

    assert 405 == answer.status
    assert ("Allow", allowed) in answer.headers
    assert "HTTP 405 Method Not Allowed" == json.loads(answer.body)["message"]


def test_options_tell_the_methods_of_a_path(stage: Stage) -> None:
    answer = stage.ask("/connectors/orders/pause", method="OPTIONS")

    assert (200, "text/plain") == (answer.status, answer.content_type)
    assert b"PUT, OPTIONS" == answer.body
    assert ("Allow", "PUT, OPTIONS") in answer.headers
    assert 404 == stage.ask("/nope", method="OPTIONS").status


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("", 200),
        ("*/*", 200),
        ("application/json", 200),
        ("APPLICATION/*", 200),
        ("text/html,application/xhtml+xml,*/*;q=0.8", 200),
        ("application/json;q=0.5,text/html", 200),
        ("text/html", 406),
        ("application/xml", 406),
        ("application/json;q=0", 406),
        ("*/*, application/json;q=0", 406),
    ],
)
def test_who_takes_no_json_is_told_so(stage: Stage, accept: str, status: int) -> None:
    assert status == stage.ask("/connectors/orders", accept=accept).status
    # What is no call of Connect's speaks otherwise.
    assert 200 == stage.ask("/metrics", accept=accept).status


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("", 202),
        ("application/json", 202),
        ("Application/JSON; charset=utf-8", 202),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/merge-patch+json", 415),
    ],
)
def test_a_body_that_is_no_json_is_not_taken(
    stage: Stage, content_type: str, status: int
) -> None:
    """A form is what a page of another origin can send unasked."""
    answer = stage.ask(
        "/connectors/orders/pause", method="PUT", content_type=content_type
    )

    assert status == answer.status
    assert (status == 202) == bool(stage.commands.asked)


def test_topics_are_forgotten_until_the_next_record(stage: Stage) -> None:
    for name in ("orders", "nope"):
        answer = stage.ask(f"/connectors/{name}/topics/reset", method="PUT")
        assert (202, b"") == (answer.status, answer.body)

    assert (200, {"orders": {"topics": []}}) == get(stage, "/connectors/orders/topics")


def test_levels_are_listed_and_changed(stage: Stage) -> None:
    assert (200, {"root": {"level": "INFO", "last_modified": None}}) == get(
        stage, "/admin/loggers"
    )

    changed = put(stage, "/admin/loggers/engine.source", b'{"level": "debug"}')

    assert (200, ["engine.source"]) == changed
    assert (
        200,
        {"level": "DEBUG", "last_modified": 1_800_000_000_123},
    ) == get(stage, "/admin/loggers/engine.source")


def test_only_the_levels_that_change_are_told(stage: Stage) -> None:
    path = "/admin/loggers/"
    for name, level in (("a", "FATAL"), ("a.b", "INFO"), ("ab", "ALL")):
        put(stage, f"{path}{name}", b'{"level":"%s"}' % level.encode())

    assert (200, ["a"]) == put(stage, f"{path}a", b'{"level":"INFO"}')
    assert (200, []) == put(stage, f"{path}a", b'{"level":"INFO"}')
    assert (200, ["a", "a.b"]) == put(stage, f"{path}a", b'{"level":"OFF"}')
    assert (200, ["a", "a.b", "ab"]) == put(stage, f"{path}root", b'{"level":"INFO"}')


def test_a_change_in_the_whole_cluster_has_no_content(stage: Stage) -> None:
    answer = stage.ask(
        "/admin/loggers/root",
        method="PUT",
        body=b'{"level":"WARN"}',
        query={"scope": ["CLUSTER"]},
    )

    assert (204, b"", "WARN") == (
        answer.status,
        answer.body,
        stage.view.levels["root"].level,
    )


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{}", 400, "Desired 'level' parameter was not specified in request."),
        (
            b'{"level":null}',
            400,
            "Desired 'level' parameter was not specified in request.",
        ),
        (b"", 400, "Bad request: a JSON object is needed, not nothing"),
        (b'["DEBUG"]', 400, "Bad request: a JSON object is needed, not a list"),
        (b'{"level":5}', 404, "invalid log level '5'."),
        (b'{"level":"LOUD"}', 404, "invalid log level 'LOUD'."),
    ],
)
def test_a_level_that_is_none_is_refused(
    stage: Stage, body: bytes, status: int, message: str
) -> None:
    told = put(stage, "/admin/loggers/root", body)

    assert (status, {"error_code": status, "message": message}) == told
    assert "INFO" == stage.view.levels["root"].level


def test_a_level_that_is_no_json_is_refused(stage: Stage) -> None:
    assert 400 == put(stage, "/admin/loggers/root", b"{")[0]


# --- who may ask -------------------------------------------------------------

LEVEL = b'{"level":"DEBUG"}'


def test_off_loopback_without_a_token_nothing_can_be_written(stage: Stage) -> None:
    outside = put(stage, "/admin/loggers/root", LEVEL, OUTSIDE, host="connect.example")
    from_here = put(
        stage,
        "/admin/loggers/root",
        LEVEL,
        ConnectionEnds("0.0.0.0", "127.0.0.1"),
        host="connect.example",
    )

    assert 403 == outside[0] == from_here[0]
    assert "INFO" == stage.view.levels["root"].level


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic s3cret"}, 401),
        # As consoles log in to Connect: user:password, and the password counts.
        ({"authorization": "Basic YW55Ym9keTpzM2NyZXQ="}, 200),
        ({"authorization": "basic OnMzY3JldA=="}, 200),
        ({"authorization": "Basic czNjcmV0Og=="}, 401),
        ({"authorization": "Basic YW55Ym9keTp3cm9uZw=="}, 401),
        ({"authorization": "Basic /w=="}, 401),
        ({"authorization": "Basic"}, 401),
        ({"authorization": "Digest s3cret"}, 401),
        ({"authorization": "Bearer s3cret"}, 200),
        ({"authorization": "bearer s3cret"}, 200),
    ],
)
@pytest.mark.parametrize("caller", [LOCAL, OUTSIDE])
def test_with_a_token_it_is_needed_for_writing_from_everywhere(
    stage: Stage, caller: ConnectionEnds, given: dict[str, str], status: int
) -> None:
    stage.token = "s3cret"

    assert status == put(stage, "/admin/loggers/root", LEVEL, caller, **given)[0]


def test_reading_needs_no_token(stage: Stage) -> None:
    stage.token = "s3cret"

    assert 200 == stage.ask("/metrics", caller=OUTSIDE, host="connect.example").status


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "127.8.0.1"],
)
def test_names_of_this_machine_are_served_on_loopback(stage: Stage, host: str) -> None:
    assert 200 == stage.ask("/metrics", host=host).status


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8080", "", "192.0.2.1", "[", "a:b"]
)
def test_a_foreign_name_on_loopback_is_refused(stage: Stage, host: str) -> None:
    assert 403 == stage.ask("/metrics", host=host).status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8080", 200),
        ("http://localhost:9090", 403),
        ("http://evil.example", 403),
        ("null", 403),
    ],
)
def test_a_foreign_origin_is_refused(stage: Stage, origin: str, status: int) -> None:
    assert status == stage.ask("/health/live", origin=origin).status
