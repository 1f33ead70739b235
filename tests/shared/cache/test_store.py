from __future__ import annotations

import os
import pickle
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.shared.cache.packs import LARGEST
from engine.shared.cache.store import FAILURES, Store
from tests.disks import disk_of
from tests.fakes.hands import Hands

KEY = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"


def rows(path: Path, sql: str, *given: object) -> list[tuple]:
    with sqlite3.connect(path / "cache.db") as connection:
        found = connection.execute(sql, given).fetchall()
    connection.close()
    return found


def test_what_was_written_is_read_by_another_process(tmp_path) -> None:
    Store(tmp_path / "s").set(KEY, b"value", 100)
    code = (
        "import sys; from pathlib import Path; from engine.shared.cache.store import Store; "
        "print(bytes(Store(Path(sys.argv[1])).get(sys.argv[2])))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s"), KEY],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "b'value'\n" == told.stdout


def test_nothing_there_is_none(tmp_path) -> None:
    store = Store(tmp_path / "s")
    assert store.get(KEY) is None
    assert store.delete(KEY)
    assert 0 == store.failures


@pytest.mark.parametrize("size", [0, 1, 20_000, LARGEST])
def test_values_stand_in_the_database_whatever_their_size(tmp_path, size) -> None:
    store = Store(tmp_path / "s")
    value = os.urandom(size)

    assert store.set(KEY, value, 100)
    assert value == store.get(KEY)
    assert {"cache.db", "cache.db-wal", "cache.db-shm"} >= set(
        os.listdir(tmp_path / "s")
    )


def test_a_value_too_large_is_not_kept(tmp_path) -> None:
    assert not Store(tmp_path / "s").set(KEY, bytes(LARGEST + 1), 100)


def test_the_directory_is_for_us_alone(tmp_path) -> None:
    (tmp_path / "s").mkdir(mode=0o755)
    Store(tmp_path / "s").set(KEY, b"v", 100)

    assert 0o700 == stat.S_IMODE((tmp_path / "s").stat().st_mode)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE Cache SET value = substr(value, 1, length(value) - 1)",
        "UPDATE Cache SET value = x'00' || substr(value, 2)",
        "UPDATE Cache SET value = substr(value, 1, 20) || x'ff' || substr(value, 22)",
        "UPDATE Cache SET value = x''",
        "UPDATE Cache SET value = NULL",
        "UPDATE Cache SET value = 17",
        "UPDATE Cache SET mode = 4",
    ],
)
def test_a_damaged_row_is_a_miss(tmp_path, damage) -> None:
    store = Store(tmp_path / "s")
    store.set(KEY, os.urandom(100), 100)
    store.set(OTHER, b"good", 100)
    rows(tmp_path / "s", f"{damage} WHERE key = ?", KEY)

    assert store.get(KEY) is None
    assert 1 == store.corrupt_values
    assert b"good" == store.get(OTHER)


def test_a_value_cannot_stand_in_for_another_one(tmp_path) -> None:
    store = Store(tmp_path / "s")
    store.set(KEY, b"mine", 100)
    rows(tmp_path / "s", "UPDATE Cache SET key = ? WHERE key = ?", OTHER, KEY)

    assert store.get(OTHER) is None


class Bomb:
    def __reduce__(self):
        return (os.mkdir, (os.environ["BOMB"],))


def test_planted_rows_are_neither_run_nor_read_nor_removed(
    tmp_path, monkeypatch
) -> None:
    """A pickle as value and as key, and names of files inside and outside."""
    monkeypatch.setenv("BOMB", str(tmp_path / "boom"))
    (precious := tmp_path / "precious").write_bytes(b"x")
    store = Store(tmp_path / "s")
    insert = (
        "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, mode, "
        "filename, value) VALUES (?, ?, 1, ?, 1, ?, ?, ?)"
    )
    later = time.time() + 1000
    opened: list[str] = []
    finds: list[str] = []

    def audit(event: str, given: tuple) -> None:
        if watching:
            if event == "open" and str(precious) in str(given[0]):
                opened.append(str(given[0]))
            if event == "pickle.find_class":
                finds.append(str(given))

    watching = False
    sys.addaudithook(audit)
    for mode, name, value in [
        (4, None, pickle.dumps(Bomb())),
        (4, str(precious), None),
        (2, str(precious), None),
        (3, "../precious", None),
        (1, str(precious), b"x" * 40),
    ]:
        store.set(OTHER, b"good", 100)
        rows(tmp_path / "s", "DELETE FROM Cache WHERE key = ?", KEY)
        rows(tmp_path / "s", insert, KEY, 1, later, mode, name, value)
        watching = True
        assert store.get(KEY) is None
        assert store.set(KEY, b"new", 100)
        assert b"new" == store.get(KEY)
        rows(tmp_path / "s", "UPDATE Cache SET filename = ?", str(precious))
        store.delete(KEY)
        store.clear()
        watching = False
    rows(tmp_path / "s", insert, pickle.dumps(Bomb()), 0, 5, 4, str(precious), None)
    watching = True
    store.expire()
    store.count()
    watching = False

    assert not (tmp_path / "boom").exists()
    assert precious.exists()
    assert [] == opened
    assert [] == finds


@pytest.mark.parametrize(
    "damage",
    [
        lambda db: db.write_bytes(b"garbage that is no database" * 100),
        lambda db: db.write_bytes(db.read_bytes()[: db.stat().st_size // 2]),
        lambda db: db.write_bytes(b"SQLite format 3\0" + os.urandom(8000)),
        lambda db: (db.unlink(), db.mkdir()),
        lambda db: (db.unlink(), db.symlink_to(db.with_name("elsewhere"))),
        lambda db: db.write_bytes(b""),
    ],
    ids=["garbage", "half", "pages", "directory", "link", "empty"],
)
def test_a_damaged_database_is_put_aside_and_begun_anew(
    tmp_path, damage, caplog
) -> None:
    place = tmp_path / "s"
    first = Store(place)
    for n in range(50):
        first.set(f"{n:032x}", os.urandom(2000), 100)
    first.close()
    for name in ("cache.db-wal", "cache.db-shm"):
        (place / name).unlink(missing_ok=True)
    damage(place / "cache.db")

    store = Store(place)
    for _ in range(4):
        store.get(KEY)
        store.set(KEY, b"value", 100)

    assert b"value" == store.get(KEY)
    assert len(list(tmp_path.glob("s.bad-*"))) <= 1
    assert caplog.text.count("put aside") <= 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_directory_of_somebody_else_is_put_aside(tmp_path) -> None:
    (tmp_path / "s").mkdir()
    os.chown(tmp_path / "s", 65534, 65534)

    store = Store(tmp_path / "s")

    assert store.set(KEY, b"v", 100)
    assert os.geteuid() == (tmp_path / "s").stat().st_uid


def test_a_second_quarantine_keeps_only_the_newest(tmp_path) -> None:
    clock = Hands()
    store = Store(tmp_path / "s", clock=clock)
    for _ in range(3):
        clock.turn(1)
        store.set(KEY, b"v", 100)
        assert store.quarantine()

    assert 1 == len(list(tmp_path.glob("s.bad-*")))


def test_another_process_that_put_it_aside_is_noticed(tmp_path) -> None:
    mine, other = Store(tmp_path / "s"), Store(tmp_path / "s")
    mine.set(KEY, b"v", 100)
    other.quarantine()
    other.set(OTHER, b"new", 100)

    mine.refresh()

    assert b"new" == mine.get(OTHER)


def holder(place: Path) -> subprocess.Popen:
    """A process that holds the write lock until it is killed."""
    code = (
        "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], "
        "isolation_level=None); c.execute('BEGIN EXCLUSIVE'); print('held', "
        "flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(place / "cache.db")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "held\n" == process.stdout.readline()
    return process


def test_a_write_lock_held_for_ever_costs_bounded_time_and_then_none(
    tmp_path,
) -> None:
    store = Store(tmp_path / "s", patience=0.1)
    store.set(KEY, b"v", 100)
    process = holder(tmp_path / "s")
    try:
        began = time.monotonic()
        for n in range(FAILURES):
            assert not store.set(f"{n:032x}", b"v", 100)
        assert time.monotonic() - began < FAILURES * 0.1 + 0.8

        began = time.monotonic()
        for _ in range(1000):
            assert not store.set(KEY, b"v", 100)
        # Each that tried would wait for a tenth of a second.
        assert time.monotonic() - began < 10
        assert not store.available()
    finally:
        process.kill()
        process.wait()


def test_a_lock_held_while_opening_does_not_hold_up_the_start(tmp_path) -> None:
    Store(tmp_path / "s").set(KEY, b"v", 100)
    process = holder(tmp_path / "s")
    try:
        began = time.monotonic()
        store = Store(tmp_path / "s", opening=0.5)
        assert store.get(KEY) is None

        assert time.monotonic() - began < 1.5
        assert not store.available()
    finally:
        process.kill()
        process.wait()


def test_after_its_rest_it_is_tried_again(tmp_path) -> None:
    clock = Hands()
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "s", clock=clock)
    for _ in range(FAILURES):
        assert not store.set(KEY, b"v", 100)
    failures = store.failures
    store.set(KEY, b"v", 100)
    assert failures == store.failures

    (tmp_path / "file").unlink()
    clock.turn(61)

    assert store.set(KEY, b"v", 100)


def test_a_full_disk_means_uncached(tmp_path) -> None:
    with disk_of(tmp_path / "full", 2048) as full:
        store = Store(full / "s")
        kept = [store.set(f"{n:032x}", os.urandom(50_000), 100) for n in range(60)]

        assert any(kept)
        assert not all(kept)
        for n, was_kept in enumerate(kept):
            found = store.get(f"{n:032x}")
            assert found is None or (was_kept and len(found) == 50_000)


def test_threads_share_a_store(tmp_path) -> None:
    store = Store(tmp_path / "s", patience=2.0)
    wrong: list[object] = []

    def work(number: int) -> None:
        for n in range(20):
            key = f"{number:016x}{n:016x}"
            store.set(key, key.encode() * 50, 100)
            if store.get(key) != key.encode() * 50:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == wrong
    assert 80 == store.count()
