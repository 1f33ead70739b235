"""A start among the state of many others: it comes up, says how far, and can be stopped."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Apache, Broker
from tests.e2e.admin import LISTENING, Admin, admin_of, listening
from tests.e2e.rig import Setup, until
from tests.fakes.api import Api
from tests.sink.test_statetopic import fill, foreign, producer

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

MANY = 300_000


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(pages=4, records=50, size=120) as found:
        yield found


def crowded(folder: Path, api: Api, broker: Broker, **keys: object) -> Setup:
    """A connector whose state topic holds what many others have left."""
    setup = Setup(
        folder,
        f"{api.url}/page/0",
        broker,
        {"pagination.type": "page", "pagination.limit.value": 50, **keys},
    )
    topic = broker.create(f"{setup.name}-offsets", 8, cleanup_policy="compact")
    fill(producer(broker), topic, foreign(MANY))
    setup.write(**{"offsets.storage.topic": topic})
    return setup


@pytest.mark.timeout(180)
def test_four_tasks_share_one_reading(tmp_path: Path, api: Api, apache: Broker) -> None:
    setup = crowded(
        tmp_path,
        api,
        apache,
        **{
            "tasks.max": 4,
            "apis.num": 4,
            "http.source.url": None,
            **{f"api{at}.http.source.url": f"{api.url}/page/0" for at in range(1, 5)},
            **{f"api{at}.api.name": f"api{at}" for at in range(1, 5)},
        },
    )
    with setup.running() as running:
        until(lambda: setup.arrived() >= 800, "all of four apis")
        text = running.err
        assert 0 == running.end().code

    # One has read all of it, the others what was left, if anything.
    said = re.findall(r"reading state: ([\d,]+) of ([\d,]+)", text)
    read = [int(done.replace(",", "")) for done, total in said if done == total]
    assert 1 == sum(done >= MANY for done in read), text
    assert "no sign of life" not in text


@pytest.mark.timeout(240)
def test_a_start_says_how_far_it_is_and_is_stopped_in_the_middle(
    tmp_path: Path, api: Api, own_apache: Apache
) -> None:
    setup = crowded(
        tmp_path,
        api,
        own_apache,
        **{
            **LISTENING,
            "health.check.enabled": True,
            "task.heartbeat.timeout.ms": 10000,
        },
    )
    with setup.running() as running:
        until(lambda: "reading state: 0 of " in running.err, "the reading")
        with own_apache.frozen():
            admin = admin_of(setup, running)

            def reading() -> bool:
                return bool(re.search(r"reading state: [\d,]+ of 3", said(admin)))

            until(reading, "what /health says of it")
            # Longer than a task may be silent: it beats while it waits.
            threading.Event().wait(12.0)
            assert "no sign of life" not in running.err
            done = running.end(within=15.0)

    assert 0 == done.code, done.err
    assert "Traceback" not in done.err
    assert 0 == len(setup.seen()) if own_apache.partitions(setup.topic) else True


def said(admin: Admin) -> str:
    body = admin.ask("/health").body
    return " ".join(json.loads(body)["reasons"])


@pytest.mark.timeout(180)
def test_a_task_killed_while_reading_begins_again_and_loses_nothing(
    tmp_path: Path, api: Api, apache: Broker
) -> None:
    setup = crowded(tmp_path, api, apache, **{"task.restart.backoff.ms": 100})
    with setup.running() as running:
        for _ in range(2):
            pid = until(lambda: running.tasks().get(0), "a task")
            seen = running.err.count("reading state: 0 of ")
            until(lambda s=seen: running.err.count("reading state: 0 of ") >= s, "it")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            until(lambda p=pid: running.tasks().get(0) != p, "another task")
        until(lambda: setup.arrived() >= 200, "all records")
        assert 0 == running.end().code
    assert 200 == len(set(setup.values()))


@pytest.mark.timeout(120)
def test_an_existing_topic_that_grows_is_named_with_what_mends_it(
    tmp_path: Path, api: Api, apache: Broker
) -> None:
    setup = Setup(tmp_path, f"{api.url}/page/0", apache, {})
    topic = apache.create(
        f"{setup.name}-offsets",
        1,
        cleanup_policy="compact",
        max_compaction_lag_ms="1000",
    )
    setup.write(**{"offsets.storage.topic": topic})

    done = setup.call("check", "--connect")
    strict = setup.call("check", "--connect", "--strict")

    assert (0, 78) == (done.code, strict.code), done.out + done.err
    [warning] = [line for line in done.out.splitlines() if "kafka-configs" in line]
    assert warning.startswith(f"warning: {setup.file}:")
    command = (
        f"kafka-configs.sh --bootstrap-server {apache.address} --alter --entity-type "
        f"topics --entity-name {topic} --add-config "
    )
    assert command in warning
    added = warning.partition("--add-config ")[2]
    assert "segment.bytes=16777216" in added.split(",")
    assert "max.compaction.lag.ms" not in added

    # As the command says it, by the client that is at hand.
    alter(apache, topic, dict(pair.split("=") for pair in added.split(",")))
    mended = setup.call("check", "--connect", "--strict")
    assert (0, "") == (mended.code, mended.err)
    assert "kafka-configs" not in mended.out


def alter(broker: Broker, topic: str, settings: dict[str, str]) -> None:
    from confluent_kafka.admin import (
        AdminClient,
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        ResourceType,
    )

    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": broker.address})
    [done] = admin.incremental_alter_configs([resource]).values()
    done.result(30)


@pytest.mark.timeout(120)
def test_keys_of_the_topic_hold_when_it_is_made(
    tmp_path: Path, api: Api, apache: Broker
) -> None:
    setup = Setup(
        tmp_path,
        f"{api.url}/page/0",
        apache,
        {
            "pagination.type": "page",
            "pagination.limit.value": 50,
            "offset.storage.partitions": 3,
            "offset.storage.segment.bytes": 4194304,
            "offset.storage.segment.ms": 600000,
            "offset.storage.min.compaction.lag.ms": 1000,
            "offset.storage.max.compaction.lag.ms": 120000,
            "offset.storage.min.cleanable.dirty.ratio": 0.25,
            "offset.storage.delete.retention.ms": 60000,
            "offset.storage.min.insync.replicas": 1,
        },
    )
    topic = f"{setup.name}-offsets"
    setup.write(**{"offsets.storage.topic": topic})

    done = setup.once()

    assert 0 == done.code, done.err
    prefix = "offset.storage."
    expected = {
        key.removeprefix(prefix): str(value)
        for key, value in setup.keys.items()
        if key.startswith(prefix) and key != f"{prefix}partitions"
    }
    assert {"cleanup.policy": "compact", **expected}.items() <= (
        apache.settings(topic).items()
    )


@pytest.mark.timeout(180)
def test_two_engines_of_two_machines_notice_each_other(
    tmp_path: Path, api: Api, apache: Broker
) -> None:
    """At least once; exactly once the second one ends the first."""
    keys = {
        "exactly.once.support": "disabled",
        "pagination.type": "page",
        "pagination.limit.value": 50,
        "http.source.poll.interval.ms": 1000,
        **LISTENING,
    }
    setup = Setup(tmp_path, f"{api.url}/page/0", apache, keys)
    setup.write(**{"offsets.storage.topic": f"{setup.name}-offsets"})
    with setup.running() as one:
        until(lambda: setup.arrived() >= 200, "the first engine's records")
        # Another machine: another state directory and other locks.
        other = tmp_path / "other"
        other.mkdir()
        setup.write(**{"state.dir": other / "state", "runtime.dir": other / "run"})
        with setup.running() as two:
            for running, folder in ((one, tmp_path / "run"), (two, other / "run")):
                until(
                    lambda r=running: "Another engine saves the offsets" in r.err,
                    "what both say",
                )
                admin = Admin(listening(folder, running)[0])
                until(
                    lambda a=admin: "Another engine saves" in said(a),
                    "what /health says",
                )
            assert 0 == two.end().code
        assert 0 == one.end().code
