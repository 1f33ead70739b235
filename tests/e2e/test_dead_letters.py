"""Dead letters from the command line: kept, looked at, put through after a fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.brokers import Broker
from tests.e2e.conftest import Make
from tests.e2e.rig import Setup
from tests.fakes.misbehaving import Misbehaving, Say

pytestmark = pytest.mark.slow

DEAD = {
    "errors.tolerance": "all",
    "errors.deadletterqueue.topic.name": "${connector}-dead",
}


def rule(most: int) -> dict[str, object]:
    """Every id is at most this."""
    return {
        "transformation.validation.rules": json.dumps([{"field": "id", "max": most}])
    }


def page(*ids: object) -> Say:
    # Bytes that no decoder and encoder would give back as they are.
    return Say(body=b'{"items": [%b]}' % b",".join(map(value, ids)))


def value(each: object) -> bytes:
    return b'{"id" : %b, "x":1.50}' % json.dumps(each).encode()


def letters(setup: Setup) -> list[bytes]:
    assert isinstance(setup.broker, Broker)
    return [each.value or b"" for each in setup.broker.read(f"{setup.name}-dead")]


def test_999_good_and_one_bad_are_999_and_a_letter_and_after_the_fix_1000(
    make: Make,
) -> None:
    ids = [*range(500), 5000, *range(500, 999)]
    with Misbehaving(page(*ids)) as api:
        setup = make(f"{api.url}/x", {**DEAD, **rule(4000)})
        done = setup.once()

    assert 0 == done.code, done.err
    assert (1000, 999, 1) == tuple(
        done.total[name] for name in ("received", "produced", "dead_lettered")
    )
    assert [value(n) for n in range(999)] == setup.values()
    assert [value(5000)] == letters(setup)

    listed = setup.call("dlq", "list", "--json")
    assert 0 == listed.code, listed.err
    [letter] = listed.document["letters"]
    assert ("api1", 0, 500, "validate") == tuple(
        letter[name] for name in ("api", "page", "index", "stage")
    )
    shown = setup.call("dlq", "show", "--letter", f"{letter['partition']}:0")
    assert 0 == shown.code, shown.err
    assert "http.status: 200" in shown.out
    assert '{"id" : 5000, "x":1.50}' in shown.out

    # Before the fix it fails again, stays, and is named.
    again = setup.call("dlq", "replay")
    assert 65 == again.code, again.err
    assert f"{letter['partition']}:0 api1: " in again.out
    assert 999 == len(setup.values())
    assert [value(5000)] == letters(setup)

    setup.write(**rule(6000))
    fixed = setup.call("dlq", "replay")
    assert 0 == fixed.code, fixed.err
    assert "1 letter went through, 0 left" in fixed.out
    assert [*map(value, range(999)), value(5000)] == setup.values()

    # What has gone through does not go again, and is no longer listed.
    once_more = setup.call("dlq", "replay", "--json")
    assert 0 == once_more.code, once_more.err
    assert {"replayed": 0, "left": 0, "failed": []} == once_more.document
    assert 1000 == len(setup.values())
    assert [] == setup.call("dlq", "list", "--json").document["letters"]
    every = setup.call("dlq", "list", "--all", "--json").document["letters"]
    assert 1 == len(every)


def test_letters_behind_one_that_stays_go_through_once(make: Make) -> None:
    ids = [1000, 10, 3000, 20, 2000, 4000]
    with Misbehaving(page(*ids)) as api:
        setup = make(f"{api.url}/x", {**DEAD, **rule(0)})
        setup.once()
    setup.write(**rule(2500))

    first = setup.call("dlq", "replay", "--json")

    assert 65 == first.code, first.err
    assert (4, 2) == (first.document["replayed"], first.document["left"])
    assert ["0:2", "0:5"] == [each["letter"] for each in first.document["failed"]]
    assert [value(n) for n in (1000, 10, 20, 2000)] == setup.values()
    waiting = setup.call("dlq", "list", "--json").document["letters"]
    assert [2, 5] == [each["offset"] for each in waiting]

    setup.write(**rule(3500))
    assert 65 == setup.call("dlq", "replay").code
    setup.write(**rule(4500))
    assert 0 == setup.call("dlq", "replay").code
    assert [1000, 10, 20, 2000, 3000, 4000] == [
        json.loads(each)["id"] for each in setup.values()
    ]


def test_a_letter_that_needs_its_page_is_refused_by_name(make: Make) -> None:
    template = json.dumps([{"field": "t", "expression": "${response.total}"}])
    body = b'{"total": 1, "items": [{"id": 1}, {"id": 9}]}'
    with Misbehaving(Say(body=body)) as api:
        more = {"transformation.enrichment.rules": template}
        setup = make(f"{api.url}/x", {**DEAD, **rule(5), **more})
        done = setup.once()
    assert 1 == done.total["dead_lettered"], done.err
    setup.write(**rule(10))

    again = setup.call("dlq", "replay")

    assert 65 == again.code, again.err
    assert "0:0" in again.out
    assert "${response}" in again.out
    assert 1 == len(setup.values())


def test_a_letter_that_was_cut_is_refused_by_name(make: Make) -> None:
    limit = "transformation.max.record.size.bytes"
    with Misbehaving(page(1, "x" * 3000)) as api:
        setup = make(f"{api.url}/x", {**DEAD, limit: 1024})
        done = setup.once()
    assert 1 == done.total["dead_lettered"], done.err
    setup.write(**{limit: 1 << 20})

    [letter] = setup.call("dlq", "list", "--json").document["letters"]
    again = setup.call("dlq", "replay")

    assert letter["cut"]
    assert 65 == again.code, again.err
    assert f"only 1024 of its {len(value('x' * 3000))} bytes were kept" in again.out


def test_without_a_topic_for_letters_there_is_nothing_to_look_at(make: Make) -> None:
    setup = make("http://127.0.0.1:1/x")

    for verb in ("list", "show", "replay"):
        done = setup.call("dlq", verb)
        assert 78 == done.code, done.err
        assert "errors.deadletterqueue.topic.name is not set" in done.err


def test_a_topic_that_is_not_there_yet_has_no_letters(make: Make) -> None:
    setup = make("http://127.0.0.1:1/x", DEAD)

    assert "no dead letters\n" == setup.call("dlq", "list").out
    assert 0 == setup.call("dlq", "replay").code


def test_one_topic_may_hold_the_letters_of_several_connectors(
    make: Make, tmp_path: Path
) -> None:
    name = f"shared-{tmp_path.name}".replace("_", "-")
    shared = {**DEAD, "errors.deadletterqueue.topic.name": name}
    setups = []
    for most in (100, 200):
        with Misbehaving(page(most)) as api:
            setup = make(f"{api.url}/x", {**shared, **rule(1)})
            assert 1 == setup.once().total["dead_lettered"]
            setup.write(**rule(1000))
            setups.append(setup)

    for setup, most in zip(setups, (100, 200)):
        done = setup.call("dlq", "replay")
        assert 0 == done.code, done.err
        assert [value(most)] == setup.values()


MALFORMED: list[tuple[bytes | None, list[tuple[str, bytes | None]]]] = [
    (b"{}", [("http.page", b"9" * 5000), ("http.index", b"1" * 5000)]),
    (b"{}", [("http.value.bytes", b"9" * 5000)]),
    (b"{}", [("http.status", b"-1"), ("http.attempt", "\u0661".encode())]),
    (b'{"id":' + b"[" * 3000 + b"]" * 3000 + b"}", []),
    (b"[" * 100_000, []),
    (b'{"a":' * 3000 + b"1" + b"}" * 3000, []),
    (b'{"id":' + b"9" * 6000 + b"}", []),
    (b"\xff\xfe\x00", [("http.url", b"\xff\xff"), ("http.entity", b"\x80")]),
    (b'"\\ud800"', [("http.entity", b"nobody")]),
    (b"", []),
    (None, []),
    (b"{}", [("http.api", None), ("\u202e", None)]),
    (b"not json", [("http.api", b"a" * 30_000)]),
    (b'{"id":"\x1b[2J\xe2\x80\xae"}', [("http.url", b"\x1b]0;title\x07\xc2\x9b")]),
    (b"7" * 400_000, []),
]


def test_a_malformed_letter_stops_no_other(make: Make) -> None:
    with Misbehaving(page(1, 5000, 5001)) as api:
        setup = make(f"{api.url}/x", {**DEAD, **rule(4000)})
        assert 2 == setup.once().total["dead_lettered"]
        plain = {
            "__connect.errors.connector.name": setup.name.encode(),
            "__connect.errors.exception.message": b"m\x1b[31m\n\xe2\x80\xa8",
            "http.api": b"api1",
        }
        assert isinstance(setup.broker, Broker)
        producer = Producer({"bootstrap.servers": setup.broker.address})
        for content, own in MALFORMED:
            headers = list({**plain, **dict(own)}.items())
            producer.produce(f"{setup.name}-dead", content, headers=headers)
        producer.produce(f"{setup.name}-dead", b"{}", headers=[])
        assert 0 == producer.flush(20)
        with_bad = 2 + len(MALFORMED) + 1

        for words in (["list"], ["show"], ["list", "--json"], ["show", "--json"]):
            done = setup.call("dlq", *words)
            assert 0 == done.code, done.err
            assert "Traceback" not in done.err
            assert not set("\x1b\x07\x9b\u2028\u202e") & set(done.out)
            if "--json" in words:
                assert with_bad == len(done.document["letters"])

        setup.write(**rule(6000))
        replayed = setup.call("dlq", "replay")
        assert 65 == replayed.code, replayed.err
        assert "bug" not in replayed.err and "Traceback" not in replayed.err
        values = setup.values()
        assert {value(5000), value(5001)} <= set(values)
        assert not set("\x1b\x07\x9b\u2028\u202e") & set(replayed.out)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_letter_says_where_it_comes_from_if_that_is_wanted(
    make: Make, apache: Broker, wanted: bool
) -> None:
    with Misbehaving(page(1, 5000)) as api:
        setup = make(
            f"{api.url}/x?api_key=canary-key",
            {
                **DEAD,
                **rule(4000),
                "bootstrap.servers": apache.address,
                "errors.deadletterqueue.context.headers.enable": str(wanted).lower(),
                "errors.deadletterqueue.topic.replication.factor": 1,
            },
        )
        done = setup.once()

    assert 0 == done.code, done.err
    [letter] = apache.read(f"{setup.name}-dead")
    assert value(5000) == letter.value
    found = {name: (held or b"").decode() for name, held in letter.headers}
    connect = {n: v for n, v in found.items() if n.startswith("__connect.errors.")}
    assert wanted == bool(connect)
    if wanted:
        assert setup.name == connect["__connect.errors.connector.name"]
        assert "0" == connect["__connect.errors.task.id"]
        assert "id is above max" in connect["__connect.errors.exception.message"]
    assert "canary-key" not in repr(letter)


def test_more_replicas_than_there_are_brokers_are_named_before_the_api_is_asked(
    make: Make, apache: Broker
) -> None:
    with Misbehaving(page(1)) as api:
        setup = make(
            f"{api.url}/x",
            {
                **DEAD,
                "bootstrap.servers": apache.address,
                "errors.deadletterqueue.topic.replication.factor": 3,
            },
        )
        done = setup.once()

    assert 78 == done.code, done.err
    assert f"{setup.name}-dead" in done.err
    assert "Traceback" not in done.err


def test_without_tolerance_a_bad_record_ends_the_run_and_moves_nothing(
    make: Make,
) -> None:
    with Misbehaving(page(1, 5000), page(1, 5000)) as api:
        setup = make(f"{api.url}/x", rule(4000))
        done = setup.once()
        again = setup.once()

    assert (65, 65) == (done.code, again.code), done.err
    assert "id is above max" in done.err
    assert 0 == setup.arrived()
