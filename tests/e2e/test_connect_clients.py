"""What others have for Kafka Connect, at work on an engine: a client, and our own CLI."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.e2e.rig import Done, Running, until
from tests.e2e.test_connectors import SECRET, Service, news
from tests.fakes.api import Api
from tests.needs import need

pytestmark = pytest.mark.slow


@pytest.fixture
def service(tmp_path: Path, embedded: Broker) -> Iterator[Service]:
    with Api() as api:
        api.route("/x-t", news)
        yield Service(tmp_path, embedded, api)


def test_a_published_client_works_as_it_is(service: Service) -> None:
    """kafka-connect-py, made for Confluent's workers."""
    need(importlib.util.find_spec("kafka_connect"), "kafka-connect-py")
    from kafka_connect import KafkaConnect

    with service.running():
        client = KafkaConnect(url=service.admin.url)
        assert {
            "version",
            "commit",
            "kafka_cluster_id",
        } <= client.get_cluster_info().keys()

        keys = service.keys("x-t")
        made = client.create_connector({"name": "x", "config": keys})
        assert ("x", "source") == (made["name"], made["type"])
        service.polled("x")
        assert {"x"} == set(client.list_connectors(expand="status"))
        assert "x-t" == client.get_connector_config("x")["kafka.topic"]
        changed = client.update_connector("x", {**keys, "tasks.max": "1"})
        assert "1" == changed["config"]["tasks.max"]
        assert {**keys, "name": "x", "tasks.max": "1"} == client.get_connector("x")[
            "config"
        ]

        client.pause_connector("x")
        assert "PAUSED" == client.get_connector_status("x")["connector"]["state"]
        client.resume_connector("x")
        until(
            lambda: (
                [t["state"] for t in client.get_connector_status("x")["tasks"]]
                == ["RUNNING"]
            ),
            "it runs again",
        )
        restarted = client.restart_connector("x", include_tasks=True)
        assert "RESTARTING" == restarted["connector"]["state"]
        assert client.list_connector_plugins()[0]["type"] == "source"
        report = client.validate_connector_config(
            "HttpSource", {**keys, "name": "x", "tasks.max": "many"}
        )
        assert 1 == report["error_count"]
        client.delete_connector("x")
        assert [] == client.list_connectors()


def test_a_shell_does_all_of_it(service: Service) -> None:
    def call(*words: str, url: str = "") -> Done:
        command = [sys.executable, "-m", "engine", "connectors", *words]
        command += ["--url", url or service.admin.url]
        with Running(command, service.folder) as running:
            return running.done()

    file = service.folder / "x.properties"
    keys = service.keys("x-t", auth__type="BEARER", bearer__token=SECRET)
    file.write_text("".join(f"{key}={value}\n" for key, value in keys.items()))
    with service.running():
        assert 0 == call("create", str(file), "--state", "PAUSED").code
        assert 75 == call("create", str(file)).code
        listed = json.loads(call("list", "--json").out)
        assert "PAUSED" == listed["x"]["status"]["connector"]["state"]
        assert 0 == call("resume", "x").code
        service.polled("x")
        shown = call("show", "x")
        assert "kafka.topic=x-t" in shown.out
        assert SECRET not in shown.out
        assert "anew: 0" in call("restart", "x").out
        assert 0 == call("restart", "x", "--task", "0").code
        assert 65 == call("restart", "x", "--task", "7").code
        assert 0 == call("stop", "x").code
        assert "STOPPED" in call("list").out
        assert 0 == call("delete", "x").code
        gone = call("delete", "x")
        assert (65, True) == (gone.code, "Connector x not found" in gone.err)
        (service.folder / "bad.properties").write_text("name=bad\nno.such.key=1\n")
        refused = call("create", str(service.folder / "bad.properties"))
        assert (78, True) == (refused.code, "no.such.key" in refused.err)
        assert "Traceback" not in refused.err
    assert 69 == call("list", url="http://127.0.0.1:9").code
    assert 64 == call("dance").code
