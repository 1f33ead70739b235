"""The floor plan of ARCHITECTURE.md: imports go down only, gates hold."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ENGINE = Path(__file__).parent.parent / "engine"

#: Floor of each room or file; a room imports only rooms on lower floors.
FLOORS = {
    "clock": 0,
    "checksum": 0,
    "errors": 0,
    "later": 0,
    "records": 0,
    "spool": 1,
    "columnfile": 2,
    "policy": 1,
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

#: Floor of each wing of a room, and of each file beside them; as for rooms.
WINGS = {
    "source": {
        "wire": 0,
        "decode": 1,
        "fetch": 2,
        "auth": 3,
        "paging": 2,
        "worth": 2,
        "places": 3,
        "jobstate": 3,
        "prefetch": 4,
        "jobfiles": 4,
        "poll": 5,
        "jobs": 6,
        "children": 6,
    },
}

#: Only these may import an outside library or a delicate part of the stdlib.
GATES = {
    "kafka": {
        "sink/bootstrap.py",
        "sink/connecting.py",
        "sink/library.py",
        "sink/network.py",
    },
    "requests": {
        "source/wire/prepared.py",
        "source/auth/aws.py",
        "source/auth/header.py",
        "source/auth/session.py",
    },
    "urllib3": {"source/wire/dialled.py"},
    "httptools": {"source/wire/body.py"},
    "xxhash": {
        "source/paging/loops.py",
        "task/contents.py",
        "task/snapshot.py",
        "task/unchanged.py",
    },
    "brotli": {"source/wire/inflate.py"},
    "backports": {"source/wire/inflate.py", "sink/compress.py"},
    "pycurl": {"source/wire/http2.py"},
    "diskcache": {"shared/cache/store.py"},
    "fcntl": {"shared/lock.py"},
    "mmap": {
        "shared/board.py",
        "shared/cell.py",
        "source/wire/pieces.py",
        "columnfile.py",
        "observe/meterfiles.py",
        "observe/room.py",
    },
    "prometheus_client": set(),
    "waitress": {"admin/channels.py", "admin/server.py"},
    "xmltodict": {"source/decode/formats.py"},
    "jinja2": {"admin/page/pages.py"},
    "psutil": {"observe/machine.py"},
    "crc32c": {"checksum.py"},
    "lz4": {"sink/compress.py"},
    "zstandard": {"sink/compress.py"},
    "snappy": {"sink/compress.py"},
    "cryptography": {"source/auth/jwt.py"},
    "re2": {"language/regexes.py"},
    "cronsim": {"task/pace.py", "language/cron.py"},
    "fastavro": {"transform/avro.py"},
    "google": {"transform/protobuf.py"},
    "jsonschema_rs": {"transform/jsonschema.py"},
    "ctypes": {"supervisor/child.py"},
    "subprocess": {"supervisor/broker.py", "cli/dev.py", "cli/bench/command.py"},
    "multiprocessing": set(),
    "pickle": set(),
    "rich": {"cli/display.py", "cli/top.py"},
    "time": {"clock.py"},
}


#: Of the modules of `task` those that have a configuration in hand: the entry, and who
#: looks at a part by itself.  All others run what `task.build` has made.
LOOK_AT_PARTS = {"entry", "placing", "probe", "rehearsal", "replay", "sample"}


#: Lines of a module, but for those that are one thing and say so at their top.
MOST_LINES = 500

#: Tables, and walks of which every step depends on the one before.
LONG = {
    "cli/main.py",
    "config/foreign/convert.py",
    "config/foreign/rows.py",
    "observe/names.py",
    "sink/produce/connection.py",
    "source/paging/bookmark.py",
    "source/paging/by_number.py",
    "source/paging/windows.py",
    "source/wire/http1.py",
}


@cache
def modules() -> list[Path]:
    return sorted(ENGINE.rglob("*.py"))


@cache
def imports(path: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert 0 == node.level, f"{path}: imports are absolute"
            names.add(node.module or "")
            # Modules, where the names come out of a package.
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def room_of(dotted: str, level: int = 1) -> str:
    parts = dotted.split(".")
    return parts[level] if len(parts) > level else ""


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
            wings = WINGS.get(room, {})
            if other == room and wings and len(place.parts) > 1:
                wing = place.parts[1].removesuffix(".py")
                inner = room_of(name, 2)
                if inner in wings and wing in wings and inner != wing:
                    assert wings[inner] < wings[wing], f"{place} imports up: {name}"
        if top in GATES:
            assert str(place) in GATES[top], f"{place} is no gate for {top}"


def test_what_runs_knows_no_configuration_and_does_not_build() -> None:
    above = ("engine.config", "engine.task.build")
    found = {
        path.stem
        for path in (ENGINE / "task").glob("*.py")
        if any(name.startswith(above) for name in imports(path))
    }

    assert LOOK_AT_PARTS == found


def test_a_process_of_a_task_is_built_by_its_entry_alone() -> None:
    wiring = "engine.task.build.wiring"
    importers = {
        str(path.relative_to(ENGINE))
        for path in modules()
        if any(name.startswith(wiring) for name in imports(path))
    }

    assert {"task/entry.py"} == importers


def test_every_room_has_its_floor() -> None:
    rooms = {path.parent.name for path in ENGINE.glob("*/__init__.py")}

    assert set() == rooms - set(FLOORS)


@pytest.mark.parametrize("room", WINGS)
def test_every_wing_has_its_floor(room: str) -> None:
    places = {path.stem for path in (ENGINE / room).iterdir() if "__" not in path.name}

    assert set(WINGS[room]) == places


def test_a_public_class_name_has_one_meaning() -> None:
    places: dict[str, set[str]] = {}
    for path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, set()).add(str(path.relative_to(ENGINE)))
    double = {name for name, where in places.items() if len(where) > 1}

    assert set() == double


def test_no_modules_import_each_other() -> None:
    """Not even for their types: whoever reads one would have to read the other first."""
    known = {
        ".".join(path.relative_to(ENGINE.parent).with_suffix("").parts): path
        for path in modules()
    }
    left = {}
    for name, path in known.items():
        left[name] = {other for other in imports(path) if other in known} - {name}

    while free := [name for name, asked in left.items() if not asked]:
        for name in free:
            del left[name]
        for asked in left.values():
            asked.difference_update(free)

    assert {} == left


def test_a_module_is_short_or_says_why_it_is_long() -> None:
    long = {
        str(path.relative_to(ENGINE)): ast.get_docstring(ast.parse(path.read_text()))
        for path in modules()
        if len(path.read_text().splitlines()) > MOST_LINES
    }

    assert set() == set(long) - LONG
    silent = {name for name, text in long.items() if " long" not in (text or "")}
    assert set() == silent
