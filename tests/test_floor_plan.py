"""The floor plan of ARCHITECTURE.md: imports go down only, gates hold."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ENGINE = Path(__file__).parent.parent / "engine"

#: Floor of each room or file; a room imports only rooms on lower floors.
FLOORS = {
    "clock": 0,
    "errors": 0,
    "records": 0,
    "seams": 1,
    "language": 2,
    "observe": 2,
    "config": 3,
    "shared": 4,
    "source": 4,
    "transform": 4,
    "sink": 4,
    "task": 5,
    "cluster": 5,
    "supervisor": 6,
    "admin": 7,
    "cli": 8,
}

#: Only these may import an outside library or a delicate part of the stdlib.
GATES = {
    "kafka": {
        "sink/kafka.py",
        "sink/network.py",
        "sink/bootstrap.py",
        "sink/connecting.py",
        "sink/tokens.py",
        "sink/fetching.py",
        "sink/produce/handshake.py",
        "sink/produce/messages.py",
        "sink/produce/sender.py",
        "sink/produce/verdicts.py",
    },
    "requests": {"source/http.py", "source/auth.py"},
    "urllib3": {"source/http.py", "source/dns.py"},
    "httptools": {"source/http.py", "source/body.py"},
    "brotli": {"source/body.py"},
    "backports": {"source/body.py", "sink/compress.py"},
    "pycurl": {"source/curl.py"},
    "diskcache": {"shared/store.py"},
    "fcntl": {"shared/lock.py"},
    "mmap": {"shared/board.py", "source/body.py", "observe/room.py"},
    "prometheus_client": {"observe/meters.py", "observe/room.py", "admin/store.py"},
    "waitress": {"admin/server.py"},
    "psutil": {"observe/machine.py"},
    "crc32c": {"shared/store.py", "sink/batch.py"},
    "lz4": {"sink/compress.py"},
    "zstandard": {"sink/compress.py"},
    "snappy": {"sink/compress.py"},
    "re2": {"language/regexes.py"},
    "cronsim": {"source/pace.py", "language/cron.py"},
    "setproctitle": {"supervisor/child.py"},
    "fastavro": {"transform/avro.py"},
    "google": {"transform/protobuf.py"},
    "jsonschema_rs": {"transform/jsonschema.py"},
    "ctypes": {"supervisor/child.py"},
    "subprocess": {"supervisor/broker.py", "cli/dev.py", "cli/bench.py"},
    "multiprocessing": set(),
    "pickle": set(),
    "rich": {"cli/display.py", "cli/top.py"},
    "time": {"clock.py"},
}


def modules() -> list[Path]:
    return sorted(ENGINE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert 0 == node.level, f"{path}: imports are absolute"
            names.add(node.module or "")
            if node.module == "engine":
                names.update(f"engine.{alias.name}" for alias in node.names)
    return names


def room_of(dotted: str) -> str:
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ENGINE)))
def test_imports_go_down_and_gates_hold(path: Path) -> None:
    place = path.relative_to(ENGINE)
    room = place.parts[0].removesuffix(".py")

    for name in imports(path):
        top = name.split(".")[0]
        if top == "engine":
            other = room_of(name)
            if other in FLOORS and room in FLOORS and other != room:
                assert FLOORS[other] < FLOORS[room], f"{place} imports up: {name}"
        if top in GATES:
            assert str(place) in GATES[top], f"{place} is no gate for {top}"


def test_every_room_has_its_floor() -> None:
    rooms = {path.parent.name for path in ENGINE.glob("*/__init__.py")}

    assert set() == rooms - set(FLOORS)
