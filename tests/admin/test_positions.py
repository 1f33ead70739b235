"""The calls for offsets, over real files: what may be written, and that all of it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine import config
from engine.admin.positions import ALTERED, NEEDED, RESET, Place
from engine.shared.link import AskOutcome
from engine.sink.statefile import FileState
from tests.admin.conftest import Stage

PATH = "/connectors/orders/offsets"
HERE = {"api": "api1"}


@pytest.fixture
def state(stage: Stage, tmp_path: Path) -> FileState:
    """Where `orders` keeps its offsets; it pages by offset, in two shards."""
    file = tmp_path / "orders.properties"
    file.write_text(
        "name=orders\nhttp.source.url=http://127.0.0.1:9/x\nkafka.topic=t\n"
        "bootstrap.servers=127.0.0.1:9\npagination.type=offset\n"
        "pagination.limit.value=50\n"
    )
    kept = FileState(tmp_path / "offsets", "orders")
    connector = config.load([file]).connectors[0]
    stage.places = lambda name: (
        Place(connector, kept, "UTC") if name == "orders" else None
    )
    kept.put([(HERE, {"poll": 3, "done": True})])
    return kept


def ask(
    stage: Stage, method: str, sent: object = None, path: str = PATH
) -> tuple[int, Any]:
    body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    answer = stage.ask(path, method=method, body=b"" if sent is None else body)
    return answer.status, json.loads(answer.body)


def patch(stage: Stage, *entries: object) -> tuple[int, Any]:
    return ask(stage, "PATCH", {"offsets": list(entries)})


def told(stage: Stage) -> list[tuple[dict[str, str], dict[str, Any]]]:
    status, found = ask(stage, "GET")
    assert 200 == status
    return [(each["partition"], each["offset"]) for each in found["offsets"]]


def test_offsets_are_told_altered_and_forgotten(stage: Stage, state: FileState) -> None:
    assert [(HERE, {"poll": 3, "done": True})] == told(stage)

    shard = {"shard": "1/2", "api": "api1"}
    altered = patch(
        stage,
        {"partition": HERE, "offset": {"poll": 8, "done": True}},
        {"partition": shard, "offset": {"poll": 1, "done": True}},
        # The same partition twice, its fields in another order: the last holds.
        {
            "partition": dict(reversed(shard.items())),
            "offset": {"poll": 2, "done": True},
        },
    )
    assert (200, {"message": ALTERED}) == altered
    assert [
        (HERE, {"poll": 8, "done": True}),
        (shard, {"poll": 2, "done": True}),
    ] == told(stage)
    # Held before, free again after it; each write is one more.
    assert ["hold", "free"] == [verb for verb, *_ in stage.commands.asked]
    assert 2 == state.read()['{"api":"api1"}'].seq

    assert (200, {"message": ALTERED}) == patch(stage, {"partition": shard})
    assert [(HERE, {"poll": 8, "done": True})] == told(stage)
    assert (200, {"message": RESET}) == ask(stage, "DELETE")
    assert [] == told(stage)
    assert (200, {"message": RESET}) == ask(stage, "DELETE")


def test_what_is_remembered_beside_a_position_goes_with_it(
    stage: Stage, state: FileState
) -> None:
    """Else records that are read again would be taken for known."""
    entity = {"api": "api1", "entity": "x", "part": "pages"}
    state.put([({**HERE, "part": "seen", "chunk": "0"}, {"a": 1}), (entity, {"a": 1})])

    assert (
        200 == patch(stage, {"partition": HERE, "offset": {"poll": 1, "done": True}})[0]
    )

    assert [HERE, entity] == sorted(state.known(), key=len)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "Partition objects cannot be null"),
        ({"partition": None, "offset": {}}, "Partition objects cannot be null"),
        ({"partition": {}, "offset": None}, "should contain the key 'api'"),
        ({"partition": {"api": 1}, "offset": None}, "are texts"),
        ({"partition": {"api": "no"}, "offset": None}, "no api is named 'no'"),
        ({"partition": {**HERE, "x": "y"}, "offset": None}, "no 'x'"),
        ({"partition": {**HERE, "shard": "2/2"}, "offset": None}, "no index/count"),
        ({"partition": {**HERE, "shard": "0/1"}, "offset": None}, "no index/count"),
        ({"partition": HERE, "offset": {}}, "hold a position"),
        ({"partition": HERE, "offset": {"poll": 0}}, "a number from 1"),
        ({"partition": HERE, "offset": {"poll": True}}, "a number from 1"),
        ({"partition": HERE, "offset": {"poll": "1"}}, "a number from 1"),
        ({"partition": HERE, "offset": {"done": "no"}}, "true or false"),
        ({"partition": HERE, "offset": {"poll": [1]}}, "is no position"),
        ({"partition": HERE, "offset": {"cursor": "x"}}, "does not know"),
        ("x", "an object of partition and offset"),
        ({"partition": HERE, "offset": "x"}, "an object, or null"),
        ({"partition": HERE, "offset": None, "more": 1}, '"more"'),
    ],
)
def test_one_odd_entry_changes_nothing(
    stage: Stage, state: FileState, entry: object, message: str
) -> None:
    good = {"partition": HERE, "offset": {"poll": 9, "done": True}}

    status, found = patch(stage, good, entry)

    assert (400, 400) == (status, found["error_code"])
    assert message in found["message"]
    assert [(HERE, {"poll": 3, "done": True})] == told(stage)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({}, NEEDED),
        ({"offsets": None}, NEEDED),
        ({"offsets": []}, NEEDED),
        ({"offsets": {}}, "a list"),
        ({"offsets": "x"}, "a list"),
        ({"offsets": [], "more": 1}, '"more"'),
        ([], "a list"),
        (b"{", "Invalid JSON"),
        (None, "nothing"),
    ],
)
def test_what_is_no_offsets_is_refused_in_any_state(
    stage: Stage, state: FileState, sent: object, message: str
) -> None:
    status, found = ask(stage, "PATCH", sent)

    assert 400 == status
    assert message in found["message"]
    assert [] == stage.commands.asked


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_only_a_stopped_connector_is_changed(
    stage: Stage, state: FileState, method: str
) -> None:
    sent = {"offsets": [{"partition": HERE, "offset": None}]}
    stage.commands.told = AskOutcome(1, "running", "not STOPPED")

    status, found = ask(stage, method, sent)

    assert 400 == status
    assert "a 'PUT' request to the '/connectors/orders/stop'" in found["message"]
    assert [(HERE, {"poll": 3, "done": True})] == told(stage)


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_offsets_of_nobody_are_not_found(
    stage: Stage, state: FileState, method: str
) -> None:
    sent = {"offsets": [{"partition": HERE, "offset": None}]}
    status, found = ask(stage, method, sent, "/connectors/gone/offsets")

    assert (404, "Connector gone not found") == (status, found["message"])
