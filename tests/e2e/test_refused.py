"""Records that their topic does not take: one bad record each, from end to end."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.brokers import Apache
from tests.e2e.rig import Setup
from tests.fakes.misbehaving import Misbehaving, Say

pytestmark = [pytest.mark.slow, pytest.mark.kafka]


def items(*hours: float) -> Say:
    """Records of so many hours from now."""
    now = time.time()
    found = [
        {"id": at, "ts": int((now + shift * 3600) * 1000)}
        for at, shift in enumerate(hours)
    ]
    return Say(body=json.dumps({"items": found}).encode())


def ids(setup: Setup) -> list[int]:
    return [json.loads(each.value or b"")["id"] for each in setup.seen()]


def made(folder: Path, url: str, apache: Apache, **keys: object) -> Setup:
    named = {key.replace("_", "."): value for key, value in keys.items()}
    setup = Setup(folder, url, apache, {"kafka.timestamp": "${record.ts}", **named})
    apache.create(setup.topic, message_timestamp_after_max_ms="3600000")
    return setup


def test_without_tolerance_it_ends_with_65_and_names_record_field_and_setting(
    tmp_path: Path, apache: Apache
) -> None:
    with Misbehaving(items(0, -1, 2, 0)) as api:
        setup = made(tmp_path, f"{api.url}/x", apache)
        done = setup.once()

    assert 65 == done.code, done.err
    [told] = done.document["connectors"][0]["apis"]
    for word in ("kafka.timestamp", "message.timestamp.after.max.ms", setup.topic):
        assert word in told["error"]
    assert [] == ids(setup)


def test_with_tolerance_it_is_a_letter_and_all_others_arrive(
    tmp_path: Path, apache: Apache
) -> None:
    dead = {
        "errors_tolerance": "all",
        "errors_deadletterqueue_topic_name": "${connector}-dead",
    }
    with Misbehaving(items(0, 2, 0, 3, 0)) as api:
        setup = made(tmp_path, f"{api.url}/x", apache, **dead)
        done = setup.once()

    assert 0 == done.code, done.err
    assert [0, 2, 4] == ids(setup)
    assert (5, 3, 2) == tuple(
        done.total[name] for name in ("received", "produced", "dead_lettered")
    )
    letters = apache.read(f"{setup.name}-dead")
    assert [1, 3] == [json.loads(each.value or b"")["id"] for each in letters]
    said = dict(letters[0].headers)["__connect.errors.exception.message"] or b""
    assert b"kafka.timestamp" in said


def test_an_internal_topic_and_one_topic_too_many_are_bad_records(
    tmp_path: Path, apache: Apache
) -> None:
    names = ["a", "__consumer_offsets", "b", "c", "a"]
    with Misbehaving(Say(body=b"")) as api:
        setup = Setup(tmp_path, f"{api.url}/x", apache)
        found = [
            {"t": name if name.startswith("__") else f"{setup.topic}-{name}"}
            for name in names
        ]
    with Misbehaving(Say(body=json.dumps({"items": found}).encode())) as api:
        setup.write(
            **{
                "http.source.url": f"{api.url}/x",
                "kafka.topic": "${record.t}",
                "kafka.topic.creation.max": 2,
                "errors.tolerance": "all",
            }
        )
        done = setup.once()

    assert 0 == done.code, done.err
    assert (5, 3, 2) == tuple(
        done.total[name] for name in ("received", "produced", "dead_lettered")
    )
    assert 2 == len(apache.read(f"{setup.topic}-a"))
    assert 0 == apache.partitions(f"{setup.topic}-c")
