"""A start loads what it uses, and comes to its broker over few connections."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Broker
from tests.fakes.api import Api
from tests.sink.rig import topic_name

#: Libraries and rooms that a command has no use for, by what they are for.
HEAVY = {
    "kafka",  # whole records and groups
    "rich",  # a terminal
    "prometheus_client",
    "waitress",  # the admin process
    "psutil",
    "pycurl",  # HTTP/2
    "fastavro",
    "jsonschema_rs",
    "google.protobuf",
    "zstandard",
    "snappy",
    # Until a request has credentials, TLS, a proxy, or a URL of two spellings.
    "requests",
    "urllib3",
    "charset_normalizer",
    "http.client",
    # What libraries bring along and nobody uses: `crc32c` its own version, msgspec the
    # names of `typing_extensions`.
    "importlib.metadata",
    "email",
    "inspect",
    "zipfile",
    # The embedded broker's process, and what is packed or awaited seldom.
    "subprocess",
    "lz4",
    "concurrent",
    "difflib",
    "tempfile",
    "encodings.idna",
}
ROOMS = {
    "engine.admin",
    "engine.sink.library",
    "engine.config.explain",
    "engine.config.reference",
}

#: What runs, and what it must not have loaded beside `HEAVY` and `ROOMS`.
COMMANDS = {
    "--version": ("engine.cli.main:parsed", {"engine.config", "engine.source"}),
    "check": ("engine.cli.check", {"engine.supervisor", "engine.task"}),
    "run": ("engine.cli.run", set[str]()),
    "a rehearsal": ("engine.task.rehearsal", {"engine.supervisor", "engine.cli"}),
}


def loaded(code: str, *arguments: str) -> set[str]:
    """The modules of a Python that has run this."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import engine.__main__ as program, sys, json\nprogram.lean()\n"
            + f"{code}\nprint(json.dumps([*sys.modules]))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return set(found)


def among(found: set[str], names: set[str]) -> set[str]:
    """Those of the names that are loaded, or something below them."""
    return {
        name
        for name in names
        if any(each == name or each.startswith(f"{name}.") for each in found)
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_loads_what_it_uses(command: str) -> None:
    target, more = COMMANDS[command]
    module, _, function = target.partition(":")
    code = f"import {module}"
    if function:
        code += f"\n{module}.{function}(['{command}'])"

    assert set() == among(loaded(code), HEAVY | ROOMS | more)


#: Runs a configuration, and writes what its task has loaded and connected.
WATCHED = """
import json, socket, sys
import engine.__main__
engine.__main__.lean()
from engine.cli import run as command
from engine.task import entry

told, config, port = sys.argv[1:]
real, connections = entry.run, []

class Counting(socket.socket):
    def connect_ex(self, address):
        if str(address[1]) == port:
            connections.append(address)
        return super().connect_ex(address)

def run(*words, **named):
    socket.socket = Counting
    try:
        return real(*words, **named)
    finally:
        with open(told, "w") as file:
            json.dump([[*sys.modules], len(connections)], file)

entry.run = run
from engine.cli.main import main
sys.exit(main(["run", "--once", "--quiet", config]))
"""


def start(
    tmp_path: Path, embedded: Broker, topic: str, support: str
) -> tuple[set[str], int]:
    """One `run --once`: what its task has loaded, and its connections to the broker."""
    told = tmp_path / "told.json"
    with Api() as api:
        config = tmp_path / "c.properties"
        keys: dict[str, Any] = {
            "name": "c",
            "http.source.url": f"{api.url}/none/0",
            "http.response.data.json.pointer": "items",
            "kafka.topic": topic,
            "bootstrap.servers": embedded.address,
            "offsets.storage.topic": f"{topic}-offsets",
            "state.dir": tmp_path / "state",
            "runtime.dir": tmp_path / "run",
            "exactly.once.support": support,
        }
        config.write_text("".join(f"{key}={value}\n" for key, value in keys.items()))
        port = embedded.address.rpartition(":")[2]
        subprocess.run(
            [sys.executable, "-c", WATCHED, str(told), str(config), port], check=True
        )
    modules, connections = json.loads(told.read_text())
    return set(modules), connections


@pytest.mark.parametrize(
    ("support", "first", "later"),
    [
        # One for questions, one for records, and for how many partitions a new state
        # topic has.
        ("disabled", 2, 2),
        # Each transactional id that is fenced has one, and so has that number.
        ("requested", 6, 4),
    ],
)
def test_a_task_loads_what_it_uses_and_connects_seldom(
    tmp_path: Path, embedded: Broker, support: str, first: int, later: int
) -> None:
    topic = topic_name()
    modules, first_ever = start(tmp_path, embedded, topic, support)
    others, afterwards = start(tmp_path, embedded, topic, support)

    assert set() == among(modules | others, HEAVY | ROOMS)
    assert (first_ever, afterwards) == (first, later)


@pytest.mark.parametrize(
    ("tasks", "url", "auth", "more", "shared"),
    [
        (1, "https://a.example/x", "BEARER", "pagination.type=page", set[str]()),
        (2, "http://a.example/x", "NONE", "", set[str]()),
        (2, "https://a.example/x", "NONE", "", {"urllib3"}),
        (2, "http://a.example/x", "BEARER", "", {"requests", "urllib3"}),
        (2, "http://a.example/x", "NONE", "pagination.type=page", {"diskcache"}),
        (
            2,
            "http://a.example/x",
            "NONE",
            "pagination.type=page\ncache.enabled=false",
            set[str](),
        ),
    ],
)
def test_several_tasks_share_what_each_would_load(
    tmp_path: Path, tasks: int, url: str, auth: str, more: str, shared: set[str]
) -> None:
    config = tmp_path / "c.properties"
    config.write_text(
        f"name=c\nhttp.source.url={url}\nkafka.topic=t\nbootstrap.servers=b:9092\n"
        f"tasks.max={tasks}\nauth.type={auth}\n"
        + ("bearer.token=secret\n" if auth == "BEARER" else "")
        + more
    )
    code = f"""
from engine import config
from engine.cli.wanted import load_shared
load_shared(config.load([{str(config)!r}], []).connectors[0])"""

    assert shared == among(loaded(code), {"requests", "urllib3", "diskcache"})
