from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.shared.cache.packs import LARGEST, PACKED, Packs
from engine.shared.cache.store import Store
from tests.fakes.hands import Hands

MOST = 1 << 30


def key(number: int) -> str:
    return f"{number:032x}"


def entries(count: int, size: int = 20_000) -> list[tuple[str, bytes, float]]:
    return [(key(n), os.urandom(size), 1000.0) for n in range(count)]


def packs(place: Path) -> list[Path]:
    return sorted((place / "packs").glob("*"))


@pytest.mark.parametrize(
    "sizes",
    [
        [0, 1, 15, 16, 17, 24],
        [PACKED - 1, PACKED, PACKED + 1],
        [20_000, 0, 145_000, 16],
        [LARGEST],
    ],
)
def test_what_is_written_together_is_read_by_another(tmp_path, sizes) -> None:
    given = [(key(n), os.urandom(size), 1000.0) for n, size in enumerate(sizes)]

    assert Store(tmp_path / "s").set_all(given, MOST)

    other = Store(tmp_path / "s")
    assert [value for _, value, _ in given] == [other.get(each[0]) for each in given]
    assert any(size >= PACKED for size in sizes) == bool(packs(tmp_path / "s"))


def test_a_value_that_is_replaced_or_dropped_is_not_read_from_its_pack(
    tmp_path,
) -> None:
    store = Store(tmp_path / "s")
    store.set_all(entries(3), MOST)

    store.set(key(0), b"new", 1000)
    store.delete(key(1))

    assert b"new" == store.get(key(0))
    assert store.get(key(1)) is None
    assert store.get(key(2)) is not None


def turned(pack: Path) -> None:
    body = bytearray(pack.read_bytes())
    body[len(body) // 2] ^= 1
    pack.write_bytes(body)


def led_elsewhere(pack: Path) -> None:
    pack.rename(pack.with_name("x"))
    pack.symlink_to(pack.with_name("x"))


def made_a_pipe(pack: Path) -> None:
    pack.unlink()
    os.mkfifo(pack)


@pytest.mark.parametrize(
    "damage",
    [
        turned,
        led_elsewhere,
        made_a_pipe,
        lambda pack: pack.unlink(),
        lambda pack: pack.write_bytes(b""),
        lambda pack: os.truncate(pack, 10_000),
        lambda pack: (pack.unlink(), pack.mkdir()),
    ],
    ids=["turned", "link", "pipe", "gone", "empty", "cut", "folder"],
)
def test_a_damaged_pack_is_a_miss(tmp_path, damage: Callable[[Path], None]) -> None:
    store = Store(tmp_path / "s")
    store.set_all(entries(1), MOST)
    store.set(key(7), b"good", 1000)
    [pack] = packs(tmp_path / "s")

    damage(pack)

    assert store.get(key(0)) is None
    assert b"good" == store.get(key(7))
    assert store.set_all(entries(1), MOST)
    assert store.get(key(0)) is not None


@pytest.mark.parametrize("number, at, size", [(0, 0, 5000), (1, 2**63, 2**32 - 1)])
def test_a_row_that_speaks_of_no_pack_is_a_miss(tmp_path, number, at, size) -> None:
    store = Store(tmp_path / "s")
    store.set_all(entries(1), MOST)
    place = (0).to_bytes(4, "little") + size.to_bytes(4, "little")
    place += number.to_bytes(8, "little") + at.to_bytes(8, "little")
    with sqlite3.connect(tmp_path / "s" / "cache.db") as rows:
        rows.execute("UPDATE Cache SET value = ?", (place,))
    rows.close()

    assert store.get(key(0)) is None


def test_a_pack_goes_with_its_last_row_and_not_before(tmp_path) -> None:
    clock = Hands(wall_ms=2**42)
    store = Store(tmp_path / "s", clock=clock)
    store.set_all(entries(2), MOST)
    store.delete(key(0))
    clock.turn(10**9)
    store.expire()
    assert 1 == len(packs(tmp_path / "s"))
    assert store.get(key(1)) is not None

    store.delete(key(1))
    store.expire()

    assert [] == packs(tmp_path / "s")


def test_a_pack_that_is_new_waits_for_its_rows(tmp_path) -> None:
    made = Packs(tmp_path / "packs")
    assert made.write([b"x" * 100], MOST)

    made.sweep(lambda: set())

    assert 1 == len(packs(tmp_path))


def test_what_replaces_all_of_a_pack_is_its_end(tmp_path) -> None:
    clock = Hands(wall_ms=2**42)
    store = Store(tmp_path / "s", clock=clock)
    for _ in range(5):
        store.set_all(entries(4), MOST)
        clock.turn(10**9)

    assert 1 == len(packs(tmp_path / "s"))


def test_the_oldest_goes_where_they_would_take_too_much(tmp_path) -> None:
    clock = Hands()
    store = Store(tmp_path / "s", clock=clock)
    most = 500_000
    for turn in range(10):
        clock.turn(1)
        given = [(key(100 * turn + n), os.urandom(20_000), 1000.0) for n in range(5)]
        assert store.set_all(given, most)

    assert most >= sum(each.stat().st_size for each in packs(tmp_path / "s"))
    assert store.get(key(0)) is None
    assert store.get(key(900)) is not None


def test_without_room_for_a_pack_the_database_has_it(tmp_path) -> None:
    store = Store(tmp_path / "s")

    assert store.set_all(entries(2), 0)

    assert store.get(key(1)) is not None
    assert [] == packs(tmp_path / "s")


def test_clearing_and_strangers_files(tmp_path) -> None:
    store = Store(tmp_path / "s")
    store.set_all(entries(2), MOST)
    (tmp_path / "s" / "packs" / "readme").write_text("")

    store.clear()

    assert ["readme"] == [each.name for each in packs(tmp_path / "s")]
    assert store.get(key(0)) is None


@pytest.mark.parametrize(
    "parts",
    [
        (b"", b""),
        (b"head", bytearray(20_000), memoryview(b"end")),
        (os.urandom(5000),) * 3000,
    ],
)
@pytest.mark.parametrize("most", [MOST, 0])
def test_a_value_in_parts_is_the_same_value(tmp_path, parts, most: int) -> None:
    store = Store(tmp_path / "s")
    whole = b"".join(parts)
    kept = len(whole) <= LARGEST

    assert kept == store.set(key(1), parts, 1000)
    assert store.set_all([(key(2), parts[:9], 1000), (key(3), b"x", 1000)], most)

    assert (whole if kept else None) == store.get(key(1))
    assert b"".join(parts[:9]) == store.get(key(2))
    assert 0 == store.failures == store.corrupt_values


def test_a_pack_is_written_on_where_the_system_takes_a_part(
    tmp_path, monkeypatch
) -> None:
    values = [(os.urandom(7), os.urandom(5000)) for _ in range(700)]
    monkeypatch.setattr(os, "writev", lambda fd, some: os.write(fd, b"".join(some)[:9]))

    number, places = Packs(tmp_path / "packs").write(values, MOST)

    read = Packs(tmp_path / "packs").read
    assert [b"".join(each) for each in values] == [
        read(number, at, 5007) for at in places
    ]


def test_what_is_written_together_replaces_what_was_there(tmp_path) -> None:
    store = Store(tmp_path / "s")
    store.set(key(0), b"old", 1000)
    store.set_all(entries(2), MOST)
    store.set_all([(key(0), b"new", 1000.0), (key(0), b"newer", 1000.0)], MOST)
    store.set_all([(key(1), b"", 0.0)], MOST)

    assert b"newer" == store.get(key(0))
    assert store.get(key(1)) is None
    assert 2 == store.count()
