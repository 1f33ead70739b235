"""What happens to the cache happens to no record: the topic is as without it."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sqlite3
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.shared.cache.store import Store
from tests.disks import disk_of, mount
from tests.e2e.conftest import Make
from tests.e2e.rig import Running, Setup, until
from tests.e2e.test_cache import Shelf, etag
from tests.fakes.api import Api, Asked

pytestmark = pytest.mark.slow

#: What stands in front of a stored answer: both clocks and the start of the machine.
MOMENT = struct.Struct("<dd4s")

DOCUMENTS = [f"d{n}" for n in range(6)]

#: Every lookup goes to the shared tiers, and L2 is too small for all of it.
KEYS = {
    "entity.names": ",".join(DOCUMENTS),
    "tasks.max": 2,
    "http.source.poll.interval.ms": 150,
    "cache.l1.max.size": 0,
    "cache.l2.max.size": 4,
    "task.restart.backoff.ms": 10,
    "task.restart.backoff.max.ms": 50,
    "task.restart.limit": 1000,
}


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as found:
        yield found


class Versions:
    """Documents that change together, and what of them must have arrived."""

    def __init__(self, api: Api, setup: Setup, says=etag) -> None:
        self.shelf = Shelf(api, says)
        self.setup = setup
        self.expected: list[bytes] = []
        self.change()

    def change(self) -> None:
        for name in DOCUMENTS:
            self.shelf.put(f"/{name}")
            self.expected += self.shelf.records(f"/{name}")

    def arrive(self) -> None:
        def there() -> bool:
            arrived = self.setup.values() if self.setup.arrived() else []
            return set(self.expected) <= set(arrived)

        until(there, "every record")

    def once_each(self) -> bool:
        return Counter(self.expected) == Counter(self.setup.values())


def databases(setup: Setup) -> list[Path]:
    """The files of L2 and of L3."""
    found = [*setup.folder.glob("run/*/cache/*/l2/cache.db")]
    return [*found, *setup.folder.glob("cache/*/l3/cache.db")]


def garbage(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(100))


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def pages(path: Path) -> None:
    with path.open("r+b") as file:
        for at in range(4096, path.stat().st_size, 8192):
            file.seek(at)
            file.write(os.urandom(4096))


def empty(path: Path) -> None:
    os.truncate(path, 0)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def flipped(path: Path) -> None:
    """A bit in every value, by the hand of a good database."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(
            sqlite3.connect(path, timeout=1, isolation_level=None)
        ) as one,
    ):
        for row, value in one.execute("SELECT rowid, value FROM Cache").fetchall():
            broken = bytearray(value)
            broken[len(broken) // 2] ^= 1
            one.execute(
                "UPDATE Cache SET value = ? WHERE rowid = ?", (bytes(broken), row)
            )


DAMAGES: list[Callable[[Path], None]] = [
    garbage,
    half,
    pages,
    empty,
    directory,
    flipped,
]


def test_damaged_files_change_no_record(make: Make, api: Api) -> None:
    setup = make(f"{api.url}/${{entityName}}", KEYS)
    with setup.running() as running:
        versions = Versions(api, setup)
        versions.arrive()
        for damage in DAMAGES:
            for path in databases(setup):
                damage(path)
            polls = len(api.log)
            until(lambda: len(api.log) > polls + 18, "polls")  # noqa: B023
            versions.change()
            versions.arrive()
        ended = running.end()

    assert 0 == ended.code
    assert versions.once_each()
    assert "Traceback" not in ended.err
    for tier in ("run/*/cache/*/l2.bad-*", "cache/*/l3.bad-*"):
        assert len(list(setup.folder.glob(tier))) <= 1


def test_a_mapped_file_cut_under_its_users_is_put_aside(make: Make, api: Api) -> None:
    setup = make(f"{api.url}/${{entityName}}", {**KEYS, "tasks.max": 1})

    def crashes(running: Running) -> int:
        return running.err.count("crashed (SIGBUS")

    with setup.running() as running:
        versions = Versions(api, setup)
        versions.arrive()
        for number in (1, 2):
            for path in databases(setup):
                for name in ("cache.db-shm", "cache.db-wal"):
                    with contextlib.suppress(FileNotFoundError):
                        os.truncate(path.with_name(name), 0)
            versions.change()
            versions.arrive()
            until(lambda: crashes(running) >= number, "a crash")  # noqa: B023
        until(lambda: running.said("was damaged; put aside|crashed before"), "aside")
        versions.change()
        versions.arrive()
        ended = running.end()

    assert 0 == ended.code
    assert set(versions.expected) == set(setup.values())


def test_killed_tasks_leave_a_cache_that_is_whole(make: Make, api: Api) -> None:
    setup = make(f"{api.url}/${{entityName}}", KEYS)
    with setup.running() as running:
        versions = Versions(api, setup)
        versions.arrive()
        for _ in range(12):
            versions.change()
            for pid in running.tasks().values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            versions.arrive()
        ended = running.end()

    assert 0 == ended.code
    assert set(versions.expected) == set(setup.values())
    for path in databases(setup):
        with contextlib.closing(sqlite3.connect(path)) as one:
            assert [("ok",)] == one.execute("PRAGMA integrity_check").fetchall()
        assert {"cache.db", "cache.db-wal", "cache.db-shm", "packs"} >= {
            each.name for each in path.parent.iterdir()
        }


def test_a_lock_that_is_held_for_ever_holds_up_nothing(make: Make, api: Api) -> None:
    keys = {**KEYS, "cache.l2.max.size": 0, "http.source.poll.interval.ms": 60000}
    setup = make(f"{api.url}/${{entityName}}", keys)
    versions = Versions(api, setup)
    began = time.monotonic()
    assert 0 == setup.once().code
    usual = time.monotonic() - began
    [path] = databases(setup)

    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        versions.change()
        began = time.monotonic()
        done = setup.once()
        took = time.monotonic() - began

    assert 0 == done.code, done.err
    assert versions.once_each()
    assert took < usual + 10


def test_planted_rows_are_neither_run_nor_read_nor_removed(
    make: Make, api: Api, tmp_path: Path
) -> None:
    keys = {**KEYS, "cache.l2.max.size": 0, "http.source.poll.interval.ms": 60000}
    setup = make(f"{api.url}/${{entityName}}", keys)
    versions = Versions(api, setup)
    assert 0 == setup.once().code
    ran, outside = tmp_path / "ran", tmp_path / "outside"
    outside.write_text("untouched")

    class Planted:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (ran,)

    [path] = databases(setup)
    relative = os.path.relpath(outside, path.parent)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as one:
        rows = [row for (row,) in one.execute("SELECT rowid FROM Cache").fetchall()]
        plants = (
            ("mode = 4, value = ?", pickle.dumps(Planted())),
            ("mode = 2, value = NULL, filename = ?", relative),
            ("mode = 4, value = NULL, filename = ?", str(outside)),
            ("raw = 0, key = ?", pickle.dumps(Planted())),
        )
        for row, (change, value) in zip(rows, plants, strict=False):
            one.execute(f"UPDATE Cache SET {change} WHERE rowid = ?", (value, row))

    versions.change()
    assert 0 == setup.once().code
    assert 0 == setup.call("cache", "list").code
    assert 0 == setup.call("cache", "clear").code

    assert versions.once_each()
    assert not ran.exists()
    assert "untouched" == outside.read_text()


@pytest.mark.parametrize("days", [-1, 1])
def test_an_answer_of_another_day_is_asked_for_again(
    make: Make, api: Api, days: int
) -> None:
    """
    As after a start of the machine with a clock that is a day off: nobody knows
    how old the answer is, and it is not used.
    """

    def fresh(version: int) -> list[tuple[str, str]]:
        return [("Cache-Control", "max-age=3600"), ("ETag", f'"{version}"')]

    keys = {**KEYS, "cache.l2.max.size": 0, "http.source.poll.interval.ms": 60000}
    setup = make(f"{api.url}/${{entityName}}", keys)
    versions = Versions(api, setup, fresh)
    assert 0 == setup.once().code
    [path] = databases(setup)
    store = Store(path.parent, durable=True)
    with contextlib.closing(sqlite3.connect(path)) as one:
        names = [name for (name,) in one.execute("SELECT key FROM Cache").fetchall()]
    for name in names:
        raw = store.get(name)
        assert raw is not None
        monotonic, wall, _ = MOMENT.unpack_from(raw)
        moved = MOMENT.pack(monotonic, wall + days * 86400, b"else")
        assert store.set(name, moved + raw[MOMENT.size :], 3600)
    store.close()

    versions.change()
    assert 0 == setup.once().code

    assert versions.once_each()


def test_a_disk_for_reading_only_means_uncached(
    make: Make, api: Api, small_disk: Path
) -> None:
    keys = {**KEYS, "cache.dir": small_disk, "cache.l2.max.size": 0}
    setup = make(f"{api.url}/${{entityName}}", keys)
    setup.write(**{"http.source.poll.interval.ms": 60000})
    versions = Versions(api, setup)
    assert 0 == setup.once().code
    assert not mount("-o", "remount,ro", small_disk)

    versions.change()
    done = setup.once()

    assert 0 == done.code, done.err
    assert "Traceback" not in done.err
    assert versions.once_each()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    with disk_of(tmp_path / "small", 2048) as place:
        yield place


def test_a_full_disk_means_uncached(make: Make, api: Api, small_disk: Path) -> None:
    class Large(Shelf):
        def records(self, path: str) -> list[bytes]:
            return [
                each[:-1] + b',"x":"%s"}' % (b"x" * 400_000)
                for each in super().records(path)
            ]

    setup = make(
        f"{api.url}/${{entityName}}",
        {**KEYS, "cache.l2.max.size": 0, "cache.dir": small_disk},
    )
    versions = Versions(api, setup)
    versions.shelf = Large(api, etag)
    versions.expected.clear()
    versions.change()

    with setup.running() as running:
        versions.arrive()
        versions.change()
        versions.arrive()
        assert 0 == running.end().code

    assert versions.once_each()


def test_two_credentials_never_share_an_answer(make: Make, api: Api) -> None:
    def answer(asked: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
        who = asked.headers["authorization"].split()[1]
        headers = [("Cache-Control", "max-age=3600, private"), ("ETag", '"same"')]
        return 200, headers, b'{"items":[{"who":"%s"}]}' % who.encode()

    api.route("/doc", answer)
    keys = {"http.source.url": None, "kafka.topic": None, "apis.num": 2}
    setup = make("", keys)
    for number in (1, 2):
        prefix = f"api{number}"
        setup.write(
            **{
                f"{prefix}.http.source.url": f"{api.url}/doc",
                f"{prefix}.kafka.topic": setup.topic,
                f"{prefix}.auth.type": "BEARER",
                f"{prefix}.bearer.token": f"token-{number}",
            }
        )

    for _ in range(2):
        assert 0 == setup.once().code

    assert [b'{"who":"token-1"}', b'{"who":"token-2"}'] == sorted(setup.values())
    assert 2 == len(api.log)
    kept = b"".join(
        path.read_bytes() for path in setup.folder.glob("cache/**/*") if path.is_file()
    )
    assert b"Bearer" not in kept
