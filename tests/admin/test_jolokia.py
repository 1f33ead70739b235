"""Jolokia: what a JMX client reads, searches and lists, and how it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.admin.jolokia import object_name, split
from engine.admin.view import ApiCard
from engine.observe import names
from engine.observe.names import ATTRIBUTES
from tests.admin.conftest import Stage
from tests.fakes.view import card

MAIN = "kafka.connect.http:type=HttpSourceConnector"


@pytest.fixture
def stage(staged: Callable[..., Stage]) -> Stage:
    made = staged(card(jmx=True))
    made.clock.pass_by(60)
    made.deliver(600)
    return made


def get(stage: Stage, path: str, **query: str) -> Any:
    answer = stage.ask(
        f"/jolokia{path}", query={name: [value] for name, value in query.items()}
    )
    assert 200 == answer.status
    return json.loads(answer.body)


def post(stage: Stage, asked: Any) -> Any:
    body = json.dumps(asked).encode()
    return json.loads(stage.ask("/jolokia/", method="POST", body=body).body)


def test_one_attribute_is_answered_with_the_request_and_epoch_seconds(
    stage: Stage,
) -> None:
    answer = get(stage, f"/read/{MAIN}/MessagesPerSecond")

    assert {
        "request": {"type": "read", "mbean": MAIN, "attribute": "MessagesPerSecond"},
        "value": 10,
        "status": 200,
        "timestamp": stage.clock.wall_ms() // 1000,
    } == answer


def test_whole_numbers_and_decimals_keep_their_type(stage: Stage) -> None:
    raw = stage.ask(f"/jolokia/read/{MAIN}").body.decode()

    assert '"MessagesPerSecond":10,' in raw
    assert '"CacheHitRatio":1.0,' in raw


def test_a_page_is_handed_on_in_pieces_of_the_batch_size(
    staged: Callable[..., Stage],
) -> None:
    bean = "kafka.connect:type=connector-task-metrics,connector=orders,task=0"
    stage = staged(card(jmx=True, batch_size=100))
    get(stage, f"/read/{bean}/batch-size-max")
    stage.deliver(1000)
    stage.clock.pass_by(5)
    assert 100 == get(stage, f"/read/{bean}/batch-size-max")["value"]


def test_several_attributes_and_all_of_them_are_a_map(stage: Stage) -> None:
    some = get(stage, f"/read/{MAIN}/ErrorRate,CacheHitRatio")
    every = get(stage, f"/read/{MAIN}")

    assert every["value"] == get(stage, f"/read/{MAIN}/*")["value"]
    assert {"ErrorRate": 0, "CacheHitRatio": 1} == some["value"]
    assert {
        "MessagesPerSecond",
        "AverageResponseTime",
        "CacheHitRatio",
        "ConnectionPoolUtilization",
        "ErrorRate",
    } <= every["value"].keys()


def test_with_several_connectors_the_bare_name_sums(
    staged: Callable[..., Stage],
) -> None:
    stage = staged(card(jmx=True), card("users", jmx=True))
    stage.clock.pass_by(60)
    stage.deliver(600)

    both = get(stage, f"/read/{MAIN}/MessagesPerSecond")["value"]
    users = get(stage, f"/read/{MAIN},connector=users/MessagesPerSecond")["value"]

    assert (10, 0) == (both, users)


def test_keys_of_a_name_may_stand_in_any_order(stage: Stage) -> None:
    name = "kafka.connect:task=0,connector=orders,type=source-task-metrics"

    value = get(stage, f"/read/{name}/source-record-write-total")["value"]

    assert 600 == value


@pytest.mark.parametrize(
    ("name", "beans"),
    [
        ("kafka.connect.http:*", 2),
        ("kafka.connect.http:type=*", 1),
        ("kafka.connect.http:type=*,connector=*", 1),
        ("kafka.connect:type=*-task-metrics,*", 2),
        ("*:type=HttpSource?onnector,*", 2),
        ("kafka.*:connector=ord*,*", 6),
    ],
)
def test_a_pattern_reads_every_bean_that_matches(
    stage: Stage, name: str, beans: int
) -> None:
    found = get(stage, f"/search/{name}")["value"]
    values = get(stage, f"/read/{name}")["value"]

    assert beans == len(found) == len(values)
    assert set(found) == set(values)


def test_a_pattern_with_an_attribute_leaves_out_beans_without_it(stage: Stage) -> None:
    values = get(stage, "/read/kafka.connect:*/total-retries")["value"]

    name = "kafka.connect:connector=orders,task=0,type=task-error-metrics"
    assert {name: {"total-retries": 0}} == values


def test_names_are_canonical_unless_the_caller_wants_them_as_built(
    stage: Stage,
) -> None:
    canonical = get(stage, "/search/kafka.connect.http:connector=*,*")["value"]
    built = get(
        stage, "/search/kafka.connect.http:connector=*,*", canonicalNaming="false"
    )["value"]

    assert ["kafka.connect.http:connector=orders,type=HttpSourceConnector"] == canonical
    assert ["kafka.connect.http:type=HttpSourceConnector,connector=orders"] == built


def test_list_describes_every_attribute(stage: Stage) -> None:
    tree = get(stage, "/list")["value"]
    one = get(
        stage,
        "/list/kafka.connect.http/type=HttpSourceConnector/attr/MessagesPerSecond",
    )["value"]

    described = {
        "type": "long",
        "desc": "Records acknowledged a second, mean of the last 60 s.",
        "rw": False,
        "r": True,
        "w": False,
        "is": False,
    }
    assert described == one
    assert (
        described
        == tree["kafka.connect.http"]["type=HttpSourceConnector"]["attr"][
            "MessagesPerSecond"
        ]
    )


def test_list_is_cut_at_the_depth_asked_for(stage: Stage) -> None:
    cut = get(stage, "/list", maxDepth="1")["value"]

    assert {"kafka.connect.http": 1, "kafka.connect": 1} == cut


def test_list_finds_keys_in_any_order(stage: Stage) -> None:
    found = get(
        stage, "/list/kafka.connect.http/type=HttpSourceConnector,connector=orders"
    )

    assert "attr" in found["value"]


@pytest.mark.parametrize("path", ["", "/", "/version"])
def test_version_names_the_protocol(stage: Stage, path: str) -> None:
    value = get(stage, path)["value"]

    assert ("2.5.0", "8.2") == (value["agent"], value["protocol"])
    assert {} == value["config"] == value["details"]


def test_a_bulk_is_answered_one_by_one_and_failures_stay_their_own(
    stage: Stage,
) -> None:
    answers = post(
        stage,
        [
            {"type": "read", "mbean": MAIN, "attribute": "TotalMessages"},
            {"type": "read", "mbean": "no:type=such"},
            {"type": "read", "mbean": MAIN, "attribute": ["TotalMessages"]},
            7,
        ],
    )

    assert [200, 404, 200, 400] == [answer["status"] for answer in answers]
    assert [600, {"TotalMessages": 600}] == [answers[0]["value"], answers[2]["value"]]


def test_a_path_walks_into_the_value(stage: Stage) -> None:
    asked = {"type": "read", "mbean": MAIN, "path": "TotalMessages"}
    spread = {
        "type": "read",
        "mbean": "kafka.connect.http:*",
        "attribute": ["TotalMessages"],
        "path": "*/TotalMessages",
    }

    assert 600 == post(stage, asked)["value"]
    assert {600} == set(post(stage, spread)["value"].values())
    assert 404 == post(stage, {**asked, "path": "TotalMessages/x"})["status"]


@pytest.mark.parametrize(
    ("asked", "kind", "status"),
    [
        (
            {"type": "read", "mbean": "no.such:type=Bean"},
            "javax.management.InstanceNotFoundException",
            404,
        ),
        (
            {"type": "read", "mbean": MAIN, "attribute": "Nope"},
            "javax.management.AttributeNotFoundException",
            404,
        ),
        (
            {"type": "read", "mbean": "nocolon"},
            "javax.management.MalformedObjectNameException",
            400,
        ),
        (
            {"type": "read", "mbean": "a:b=1,b=2"},
            "javax.management.MalformedObjectNameException",
            400,
        ),
        ({"type": "read"}, "java.lang.IllegalArgumentException", 400),
        ({"type": "dance"}, "java.lang.IllegalArgumentException", 400),
        (
            {"type": "exec", "mbean": MAIN, "operation": "gc"},
            "java.lang.SecurityException",
            403,
        ),
        (
            {"type": "write", "mbean": MAIN, "attribute": "X", "value": 1},
            "java.lang.SecurityException",
            403,
        ),
    ],
)
def test_a_failure_of_jmx_is_http_200_with_its_own_status(
    stage: Stage, asked: dict[str, str], kind: str, status: int
) -> None:
    answer = post(stage, asked)

    assert (kind, status, asked) == (
        answer["error_type"],
        answer["status"],
        answer["request"],
    )
    assert answer["error"] and "value" not in answer


def test_a_missing_attribute_is_a_text_where_errors_are_ignored(stage: Stage) -> None:
    value = get(stage, f"/read/{MAIN}/Nope,TotalMessages", ignoreErrors="true")["value"]

    assert 600 == value["TotalMessages"]
    assert value["Nope"].startswith("ERROR: javax.management.AttributeNotFound")


def test_the_request_is_left_out_on_demand(stage: Stage) -> None:
    by_query = get(stage, f"/read/{MAIN}/TotalMessages", includeRequest="false")
    by_body = post(stage, {"type": "version", "config": {"includeRequest": "false"}})

    assert "request" not in by_query
    assert "request" not in by_body


def test_a_body_that_is_no_json_is_http_400(stage: Stage) -> None:
    answer = stage.ask("/jolokia/", method="POST", body=b"{nope")

    assert 400 == answer.status == json.loads(answer.body)["status"]


def test_text_is_given_on_demand(stage: Stage) -> None:
    answer = stage.ask("/jolokia/version", query={"mimeType": ["text/plain"]})

    assert "text/plain; charset=utf-8" == answer.content_type


def test_without_jmx_enabled_nothing_is_there(staged: Callable[..., Stage]) -> None:
    assert 404 == staged(card()).ask("/jolokia/version").status


def test_only_connectors_that_want_it_are_shown(staged: Callable[..., Stage]) -> None:
    stage = staged(card(jmx=True), card("hidden"))

    found = get(stage, "/search/*:connector=*,*")["value"]

    assert found
    assert not [name for name in found if "hidden" in name]


def test_details_are_shown_on_demand_with_quoted_hosts(
    staged: Callable[..., Stage],
) -> None:
    apis = (ApiCard("api1", 10.0), ApiCard("api2", 10.0))
    stage = staged(card(jmx=True, jmx_detailed=True, apis=apis))
    stage.deliver(5)
    stage.meters.count(names.REQUESTS, ("api.example:443", "failed", "5xx"), 3)
    stage.meters.state(names.BREAKER_STATE, ("api.example:443",), 2)

    found = get(stage, "/search/kafka.connect.http:*")["value"]
    quoted = 'kafka.connect.http:type=Host,connector=orders,host="api.example:443"'
    value = get(stage, f"/read/{quoted}")["value"]

    assert {"Requests": 3, "FailedRequests": 3} == value
    assert 2 + 2 + 1 + 3 + 1 + 1 + 1 == len(found)


def test_transactions_are_shown_as_connect_has_them(
    staged: Callable[..., Stage],
) -> None:
    stage = staged(card(jmx=True, jmx_detailed=True))
    stage.deliver(5)
    for result, n in (("committed", 4), ("aborted", 1), ("doubtful", 2)):
        stage.meters.count(names.TRANSACTIONS, (result,), n)
    stage.meters.count(names.TRANSACTION_RECORDS, (), 2000)
    stage.meters.state(names.TRANSACTION_RECORDS_MIN, (), 0)
    stage.meters.state(names.TRANSACTION_RECORDS_MAX, (), 1500)
    took = stage.meters.timer(names.TRANSACTION_SECONDS)
    for seconds in (0.1, 0.3):
        took(seconds)

    of_task = "kafka.connect:type=source-task-metrics,connector=orders,task=0"
    sizes = get(stage, f"/read/{of_task}")["value"]
    assert {"min": 0, "max": 1500, "avg": 500} == {
        name: sizes[f"transaction-size-{name}"] for name in ("min", "max", "avg")
    }
    ours = "kafka.connect.http:type=Transactions,connector=orders"
    assert {
        "Committed": 4,
        "Aborted": 1,
        "Doubtful": 2,
        "AverageMilliseconds": pytest.approx(200),
    } == get(stage, f"/read/{ours}")["value"]


def test_every_attribute_of_the_table_is_served(staged: Callable[..., Stage]) -> None:
    stage = staged(card(jmx=True, jmx_detailed=True))
    stage.meters.count(names.REQUESTS, ("h", "ok", "2xx"))
    stage.meters.state(names.BREAKER_STATE, ("h",), 0)

    shown: set[tuple[str, str, str]] = set()
    for name, values in get(stage, "/read/*:*")["value"].items():
        read = object_name(name)
        shown |= {(read.domain, read.properties["type"], one) for one in values}

    assert {(row.domain, row.group, row.name) for row in ATTRIBUTES} == shown


@given(parts=st.lists(st.text(alphabet='ab/!",:=*', min_size=1), min_size=1))
def test_escaped_parts_come_back_as_they_were(parts: list[str]) -> None:
    escaped = [
        part.replace("!", "!!").replace("/", "!/").replace('"', '!"') for part in parts
    ]

    assert parts == split("/".join(escaped))
