"""`run --once` from the command line: what went in is in the topic, and the code."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.e2e.conftest import Make
from tests.e2e.rig import TYPES, Running, Setup, until
from tests.fakes.api import Api, Asked
from tests.fakes.misbehaving import Misbehaving, Say, then_close

pytestmark = pytest.mark.slow

#: What the summary of a shard and the total have in common.
SUMS = {
    "pages": int,
    "received": int,
    "produced": int,
    "filtered": int,
    "dead_lettered": int,
    "deduplicated": int,
    "bytes": int,
    "seconds": float,
    "records_per_second": float,
}


#: Leaves out the records with keep=0; one without an id is a bad record.
RULES = {
    "transformation.filter.expressions": json.dumps(
        [{"field": "keep", "operator": "EQUALS", "value": 1}]
    ),
    "transformation.validation.rules": json.dumps([{"field": "id", "required": True}]),
}


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(pages=8, records=50, size=120) as found:
        yield found


@pytest.mark.parametrize("kind", TYPES)
def test_records_in_are_records_in_the_topic_in_page_order(
    make: Make, embedded: Broker, kind: str
) -> None:
    with Api(pages=8, records=50, size=120) as api:
        setup = make(f"{api.url}/{kind}/0", {"pagination.type": kind, **TYPES[kind]})
        embedded.create(setup.topic, 3)
        done = setup.once()
        sent = api.all_records()

    assert 0 == done.code, done.err
    assert len(sent) == done.total["received"] == done.total["produced"]
    seen = setup.seen()
    assert sorted(sent) == sorted(each.value or b"" for each in seen)
    place = {value: at for at, value in enumerate(sent)}
    for partition in range(3):
        places = [place[s.value or b""] for s in seen if s.partition == partition]
        assert sorted(places) == places


def test_the_totals_are_one_json_document(make: Make, api: Api) -> None:
    keys = {"pagination.type": "cursor", **TYPES["cursor"]}
    setup = make(f"{api.url}/cursor/0", keys)

    done = setup.once()

    assert 0 == done.code, done.err
    assert {"connectors", "total"} <= done.document.keys()
    [connector] = done.document["connectors"]
    assert setup.name == connector["name"]
    [row] = connector["apis"]
    assert {"api", "shard", "error", *SUMS} <= row.keys()
    assert row["error"] is None
    for found in (row, done.total):
        for name, kind in SUMS.items():
            assert isinstance(found[name], (kind, int)), name
        assert (8, 400, 400) == (found["pages"], found["received"], found["produced"])
        assert found["bytes"] > 400 * 120
        assert found["records_per_second"] > 0


def test_without_json_a_summary_line_for_each_api_and_in_total(
    make: Make, api: Api
) -> None:
    keys = {
        "http.source.url": None,
        "pagination.type": None,
        "apis.num": 2,
        "api1.http.source.url": f"{api.url}/none/0",
        "api2.http.source.url": f"{api.url}/cursor/0",
        "api2.pagination.type": "cursor",
        "api2.pagination.cursor.field": "next",
    }
    setup = make("", keys)

    done = setup.call("run", "--once")

    assert 0 == done.code, done.err
    lines = done.out.splitlines()
    assert 3 == len(lines)
    assert lines[-1].startswith("total: ")
    assert "800 received, 800 produced, 0 filtered" in lines[-1]
    assert 800 == len(setup.values())


def test_a_member_that_stands_twice_is_produced_as_it_came_and_said(
    make: Make,
) -> None:
    twice = '{"id":1,"a":1,"a":2}'
    with Api() as api:
        body = f'{{"items":[{twice},{twice}]}}'.encode()
        api.route("/x", lambda _: (200, [("Content-Type", "application/json")], body))
        setup = make(f"{api.url}/x", {})
        done = setup.once()

    assert 0 == done.code, done.err
    assert [twice.encode()] * 2 == setup.values()
    assert 1 == done.err.count("records have a member twice; the last one counts")


def test_filtered_records_are_counted_and_not_produced(make: Make) -> None:
    items = [{"id": n, "keep": n % 2} for n in range(10)]
    body = json.dumps({"items": items}).encode()
    with Misbehaving(Say(body=body)) as server:
        setup = make(f"{server.url}/x", RULES)
        done = setup.once()

    assert 0 == done.code, done.err
    sums = [done.total[name] for name in ("received", "produced", "filtered")]
    assert [10, 5, 5] == sums
    assert items[1::2] == [json.loads(value) for value in setup.values()]


# -- exit codes ------------------------------------------------------------------


def whole(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + body


GZIPPED = gzip.compress(json.dumps({"items": [{"id": n} for n in range(500)]}).encode())

BAD_ANSWERS = {
    "a page that is no JSON": (Say(body=b'{"items": [1, 2'), 65),
    "a page without its records": (Say(body=b'{"data": []}'), 65),
    "HTML": (
        Say(body=b"<html>hello", headers=[("Content-Type", "text/html")]),
        65,
    ),
    "404": (Say(status=404, body=b'{"error": "gone"}'), 65),
    "401": (Say(status=401, body=b""), 65),
    "403": (Say(status=403, body=b""), 65),
    "gzip cut inside its stream": (
        Say(
            body=GZIPPED[: len(GZIPPED) // 2],
            headers=[("Content-Encoding", "gzip")],
        ),
        69,
    ),
    "a body cut before its length": (
        then_close(whole(b'{"items": []}' + b" " * 100)[:-60]),
        69,
    ),
    "500 for ever": (Say(status=500, body=b""), 69),
    "503 for ever": (Say(status=503, body=b""), 75),
}


@pytest.mark.parametrize("what", BAD_ANSWERS)
def test_a_bad_answer_ends_the_run_with_its_code_and_its_reason(
    make: Make, what: str
) -> None:
    answer, code = BAD_ANSWERS[what]
    with Misbehaving(answer) as server:
        setup = make(
            f"{server.url}/x",
            {
                "max.retries": 1,
                "retry.backoff.ms": 10,
                "circuit.breaker.enabled": "false",
            },
        )
        done = setup.once()

    assert code == done.code, done.err
    [row] = done.document["connectors"][0]["apis"]
    assert row["error"]
    assert 0 == row["produced"]
    assert "Traceback" not in done.err
    offsets = setup.call("offsets", "get", "--json")
    assert [] == offsets.document["offsets"]


@pytest.mark.parametrize("interval", [0, 1])
def test_an_api_that_always_fails_is_asked_no_faster_than_retries_go(
    make: Make, interval: int
) -> None:
    with Misbehaving(Say(404)) as server:
        setup = make(
            f"{server.url}/x",
            {
                "http.source.poll.interval.ms": interval,
                "behavior.on.error": "IGNORE",
                "retry.backoff.ms": 300,
                "retry.backoff.policy": "CONSTANT_VALUE",
            },
        )
        with setup.running() as running:
            until(lambda: len(server.asked) > 3, "asked some times")
            done = running.end()

    assert 0 == done.code, done.err
    moments = [asked.at for asked in server.asked]
    # 300 ms, less what the server may need to read one request later than another.
    assert min(after - at for at, after in itertools.pairwise(moments)) > 0.28


def test_a_file_that_is_not_there_is_66(make: Make, api: Api) -> None:
    setup = make(f"{api.url}/none/0")
    setup.file.unlink()

    for verb in (
        ["run"],
        ["run", "--once"],
        ["check"],
        ["preview"],
        ["offsets", "get"],
    ):
        done = setup.call(*verb)
        assert 66 == done.code, (verb, done.err)
        assert str(setup.file) in done.err


def test_a_mistake_in_the_file_is_78_with_its_line(make: Make, api: Api) -> None:
    setup = make(f"{api.url}/none/0", {"pagination.typ": "cursor"})

    for verb in ("run", "check"):
        done = setup.call(verb)
        assert 78 == done.code
        assert f"{setup.file}:10" in done.err
        assert "pagination.type" in done.err


def test_wrong_words_are_64(make: Make, api: Api) -> None:
    setup = make(f"{api.url}/none/0")

    assert 64 == setup.call("run", "--twice").code
    assert 64 == setup.call("walk").code


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_one_may_not_read_is_77(make: Make, api: Api) -> None:
    setup = make(f"{api.url}/none/0")
    setup.file.chmod(0)

    assert 77 == setup.call("run", "--once").code


def test_a_second_engine_on_the_connector_is_75_and_told_who_has_it(
    make: Make, api: Api
) -> None:
    setup = make(f"{api.url}/none/0")

    with setup.running() as first:
        until(first.tasks, "the first engine has a task")
        second = setup.call("run", "--once")
        ended = first.end()

    assert 75 == second.code
    assert re.search(rf"\b{first.pid}\b", second.err), second.err
    assert 0 == ended.code


def test_a_poll_cut_by_max_pages_is_75_and_the_next_run_goes_on(
    make: Make, api: Api
) -> None:
    keys = {
        "pagination.type": "cursor",
        "pagination.max.pages": 3,
        **TYPES["cursor"],
    }
    setup = make(f"{api.url}/cursor/0", keys)

    ended = [setup.once() for _ in range(3)]

    assert [75, 75, 0] == [done.code for done in ended], ended[-1].err
    assert [150, 150, 100] == [done.total["produced"] for done in ended]
    assert "max.pages" in ended[0].document["connectors"][0]["apis"][0]["error"]
    assert api.all_records() == setup.values()


def test_a_refused_broker_is_named_within_ten_seconds_and_ends_the_run_with_69(
    tmp_path: Path, api: Api
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    setup = Setup(tmp_path, f"{api.url}/none/0", address)

    command = setup.command("run", "--once", "--json")
    with Running(command, tmp_path) as running:
        until(lambda: running.said(re.escape(address)), "the broker is named", 10)
        done = running.done(50)

    assert 69 == done.code, done.err
    assert "Traceback" not in done.err
    assert "FAILED" not in done.err, "no shard has failed"
    assert "was not reached" in done.err
    [row] = done.document["connectors"][0]["apis"]
    assert row["error"].startswith("not reached: "), row
    assert address in row["error"]


def test_a_bad_record_under_tolerance_none_ends_the_run_and_moves_nothing(
    make: Make,
) -> None:
    good = [b'{"id":%d,"keep":1}' % n for n in range(5)]

    def answer(asked: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
        page = int(asked.query.get("page", "1"))
        bad = [b'{"keep":1}'] if page == 2 else []
        return 200, [], b'{"items": [' + b",".join([*good, *bad]) + b"]}"

    with Api() as api:
        api.route("/bad", answer)
        setup = make(
            f"{api.url}/bad",
            {
                "pagination.type": "page",
                **RULES,
            },
        )
        done = setup.once()
        first = setup.values()
        stood = setup.call("offsets", "get", "--json").document["offsets"]
        again = setup.once()

    assert [65, 65] == [done.code, again.code], done.err
    # The page before it stands; of its own page nothing was produced.
    assert good == first
    assert first == setup.values()
    assert [2] == [each["offset"]["page"] for each in stood]


def test_an_empty_list_is_a_good_poll(make: Make) -> None:
    with Misbehaving(Say(body=b'{"items": []}')) as server:
        done = make(f"{server.url}/x").once()

    assert 0 == done.code, done.err
    assert 1 == done.total["pages"]
    assert 0 == done.total["received"]
