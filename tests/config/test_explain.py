"""What a key means, where a value comes from, and the reference."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from engine.config import explain, show
from engine.config.keys import TABLE
from engine.config.reference import reference
from tests.config.conftest import Files


@pytest.mark.parametrize("name", list(TABLE))
def test_every_key_is_explained(name: str) -> None:
    key = TABLE[name]

    text = explain(name)
    for part in (name, key.meaning, key.kind.allowed, f"{name}={key.example}"):
        assert part in text


def test_a_prefix_is_kept_in_the_example() -> None:
    assert "api2.kafka.key=" in explain("api2.kafka.key")


def test_a_member_of_a_family_is_explained() -> None:
    assert "wins over the list" in explain("http.source.header.X-Tenant")
    assert "topic settings" in explain("topic.creation.default.retention.ms")


def test_an_unknown_key_gets_the_nearest() -> None:
    assert "did you mean tasks.max?" in explain("task.max")
    assert "unknown key" in explain("zzzzzzzz")


def test_a_foreign_key_says_what_is_ours() -> None:
    text = explain("http.request.headers")
    assert "http.source.headers" in text and "separator" in text

    assert "without effect" in explain("plugin.path")
    assert "refused" in explain("transforms.x.type")


def test_show_names_file_and_line(files: Files) -> None:
    loaded = files.load("name=a\n\ntasks.max=3\napi1.kafka.key=k\napi2.kafka.key=l\n")
    text = show(loaded)

    assert f"tasks.max=3  # {files.directory}/file2.properties:3" in text
    assert "api1.kafka.key=k  # " in text and "api2.kafka.key=l  # " in text
    assert "producer.acks" not in text


def test_show_resolved_has_every_key(files: Files) -> None:
    text = show(files.load("name=a\n"), resolved=True)

    shown = {line.partition("=")[0] for line in text.splitlines() if "=" in line}
    missing = {name for name in TABLE if "<" not in name} - shown
    assert {
        name for name in missing if not name.startswith("producer.override")
    } == set()
    assert "producer.acks=all  # default" in text
    assert "cache.eviction.threshold=0.8  # default" in text
    assert "listeners=http://127.0.0.1:8080,http://[::1]:8080  # default" in text


@pytest.mark.parametrize("resolved", [False, True])
def test_show_never_shows_a_secret(files: Files, resolved: bool) -> None:
    loaded = files.load(
        "auth.type=API_KEY\napi.key.value=canary-1\n"
        "http.source.query.params=api_key=canary-2&a=b\n"
        "http.source.url=https://h.example.com/x?token=canary-3&c=d\n"
        "http.source.headers=Authorization:canary-4;B:c\n"
        "http.source.header.X-Secret=canary-5\n"
        "http.request.sensitive.headers=Plain: canary-6\n"
        "value.converter.basic.auth.user.info=u:canary-7\n"
        "admin.token=canary-8\n"
    )
    text = show(loaded, resolved)

    assert "canary" not in text
    for kept in ("a=b", "c=d", "B:c", "****"):
        assert kept in text


def test_the_reference_holds_every_key() -> None:
    text = reference()

    for key in TABLE.values():
        assert key.folds or f"| `{key.name}` |" in text


def test_loading_is_quick_to_import() -> None:
    """`check`, `explain` and `--help` wait for no Kafka and no HTTP library."""
    code = (
        "import sys, json, engine.config, engine.config.reference;"
        "print(json.dumps([m for m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    heavy = {
        "kafka",
        "requests",
        "urllib3",
        "httptools",
        "diskcache",
        "prometheus_client",
    }
    assert not loaded & heavy
