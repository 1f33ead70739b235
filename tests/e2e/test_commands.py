"""The commands beside `run`: they look, and what they must not touch stays."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.e2e.conftest import Make
from tests.e2e.rig import TYPES, Setup, until
from tests.fakes.api import Api
from tests.fakes.misbehaving import Misbehaving, Say

pytestmark = pytest.mark.slow


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(pages=4, records=50, size=120) as found:
        yield found


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_offsets_get_says_what_is_asked_next(make: Make, api: Api) -> None:
    keys = {"pagination.type": "cursor", "pagination.max.pages": 2, **TYPES["cursor"]}
    setup = make(f"{api.url}/cursor/0", keys)
    assert 75 == setup.once().code

    [found] = setup.call("offsets", "get", "--json").document["offsets"]
    shown = setup.call("offsets", "get")
    api.forget()
    assert 0 == setup.once().code

    assert {"api": "api1"} == found["partition"]
    assert found["next"] == f"GET {api.url}{api.targets()[0]}"
    assert 0 == shown.code
    assert found["next"] in shown.out


def test_offsets_reset_is_refused_while_the_engine_runs(make: Make, api: Api) -> None:
    setup = make(
        f"{api.url}/cursor/0", {"pagination.type": "cursor", **TYPES["cursor"]}
    )

    with setup.running() as running:
        until(lambda: len(api.targets()) >= 4, "the poll is done")
        refused = setup.call("offsets", "reset", "--yes")
        assert 0 == running.end().code
    kept = setup.call("offsets", "get", "--json").document["offsets"]

    assert 75 == refused.code
    assert str(running.pid) in refused.err
    assert 1 == len(kept)


def test_offsets_reset_starts_over(make: Make, api: Api) -> None:
    keys = {
        "http.offset.mode": "SIMPLE_INCREMENTING",
        "pagination.type": "offset",
        "pagination.limit.value": 50,
    }
    setup = make(f"{api.url}/offset/0", keys)
    assert [0, 0] == [setup.once().code for _ in range(2)]
    assert 200 == setup.arrived()

    unsure = setup.call("offsets", "reset")
    sure = setup.call("offsets", "reset", "--yes")
    left = setup.call("offsets", "get", "--json").document["offsets"]
    assert 0 == setup.once().code

    assert 0 != unsure.code
    assert 0 == sure.code, sure.err
    assert [] == left
    assert 2 * api.all_records() == setup.values()


def test_preview_shows_what_run_produces_and_touches_nothing(
    make: Make, api: Api, embedded: Broker
) -> None:
    keys = {
        "pagination.type": "cursor",
        "kafka.key": "${record.id}",
        **TYPES["cursor"],
    }
    setup = make(f"{api.url}/cursor/0", keys)

    done = setup.call("preview", "--records", "60")
    asked = len(api.targets())
    offsets = setup.call("offsets", "get", "--json")
    topic = embedded.partitions(setup.topic)
    assert 0 == setup.once().code

    assert 0 == done.code, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert 60 == len(lines)
    assert 2 == asked
    assert 0 == topic
    assert [] == offsets.document["offsets"]
    seen = {each.value: each for each in setup.seen()}
    texts = done.out.splitlines()
    for record, line, text in zip(api.all_records(), lines, texts, strict=False):
        assert {"topic", "key", "value", "headers"} <= line.keys()
        assert setup.topic == line["topic"]
        # Byte for byte: what is shown is what is produced.
        assert record.decode() in text
        assert seen[record].key == line["key"].encode()
        told = [(name, value.encode()) for name, value in line["headers"]]
        assert sorted(name for name, _ in told) == sorted(
            name for name, _ in seen[record].headers
        )


RULES = {
    "errors.tolerance": "all",
    "errors.deadletterqueue.topic.name": "${connector}-dead",
    "transformation.field.mappings": json.dumps(
        [{"source": "id", "target": "n", "type": "INTEGER"}]
    ),
    "transformation.filter.expressions": json.dumps(
        [{"field": "id", "operator": "NOT_EQUALS", "value": 1}]
    ),
}


def test_preview_says_which_rule_left_a_record_out_or_failed_it(make: Make) -> None:
    rows = [{"id": 0}, {"id": 1}, {"id": "x"}, *({"id": n} for n in range(3, 9))]
    with Misbehaving(Say(body=json.dumps({"items": rows}).encode())) as api:
        setup = make(f"{api.url}/x", RULES)
        plain = setup.call("preview", "--records", "4")
        diff = setup.call("preview", "--records", "4", "--diff")

    assert 65 == plain.code, plain.err
    shown = [json.loads(line) for line in plain.out.splitlines()]
    assert [{"n": 0}, {"n": 3}, {"n": 4}] == [line["value"] for line in shown[:3]]
    assert ('{"id": "x"}', "map") == (shown[3]["dead_letter"], shown[3]["stage"])

    assert 65 == diff.code, diff.err
    steps = [json.loads(line) for line in diff.out.splitlines()]
    assert rows[:4] == [step["before"] for step in steps]
    assert [{"n": 0}, None, None, {"n": 3}] == [step["after"] for step in steps]
    assert ["produced", "filtered", "failed", "produced"] == [
        step["outcome"] for step in steps
    ]
    assert "transformation.filter.expressions[0]" == steps[1]["rule"]
    assert "transformation.field.mappings[0]" == steps[2]["rule"]
    assert "no whole number" in steps[2]["message"]


def test_check_connect_names_the_broker_that_is_not_there(
    tmp_path: Path, api: Api, nobody: str
) -> None:
    setup = Setup(tmp_path, f"{api.url}/none/0", nobody)

    assert 0 == setup.call("check").code
    done = setup.call("check", "--connect", "--json")

    assert 69 == done.code, done.out + done.err
    [found] = [f for f in done.document["findings"] if f["severity"] == "error"]
    assert "bootstrap.servers" == found["key"]
    assert nobody in found["message"]
    assert str(setup.file) == found["file"]


def test_check_connect_names_the_api_that_is_not_there(make: Make, nobody: str) -> None:
    setup = make(f"http://{nobody}/x", {"max.retries": 0})

    done = setup.call("check", "--connect", "--json")

    assert 69 == done.code, done.out + done.err
    found = [f["key"] for f in done.document["findings"] if f["severity"] == "error"]
    assert ["http.source.url"] == found


def test_check_connect_asks_an_api_that_fails_once(make: Make, api: Api) -> None:
    api.route("/x", lambda _: (503, [], b"away"))
    setup = make(f"{api.url}/x")

    done = setup.call("check", "--connect", "--json")

    assert 69 == done.code, done.out + done.err
    assert ["/x"] == api.targets()


def test_check_connect_is_0_where_both_answer(make: Make, api: Api) -> None:
    setup = make(f"{api.url}/none/0")

    done = setup.call("check", "--connect")

    assert 0 == done.code, done.out + done.err
    assert 1 == len(api.targets())


def test_set_lies_over_the_files_and_files_over_each_other(
    make: Make, api: Api, tmp_path: Path
) -> None:
    setup = make(f"{api.url}/none/0")
    over = tmp_path / "over.properties"
    over.write_text(f"http.source.url={api.url}/offset/0\npagination.type=offset\n")

    command = ["run", "--once", "--json", "--set", "pagination.limit.value=100"]
    setup.file.rename(base := tmp_path / "base.properties")
    setup.file = over
    done = setup.call(*command, str(base))

    assert 0 == done.code, done.err
    assert any("limit=100" in target for target in api.targets())
    assert api.all_records() == setup.values()
