from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from engine.shared.cache import known
from engine.shared.cache.known import KnownKeys
from engine.shared.cache.own import OwnAnswers
from tests.fakes.hands import Hands
from tests.shared.cache.test_tiers import key, make


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.mark.parametrize("level", [2, 3])
@pytest.mark.parametrize("few", [0, 10, 500])
def test_what_an_earlier_run_kept_is_found(
    tmp_path, clock, monkeypatch, level: int, few: int
) -> None:
    monkeypatch.setattr(known, "FEW", few)
    earlier = make(tmp_path, clock)
    for number in range(20):
        earlier.keep(key(number), b"v%d" % number)
    if level == 3:
        earlier.settle(5.0)
    own = OwnAnswers(make(tmp_path, clock))

    assert own.find(key(99)) is None
    found = [own.find(key(number)) for number in range(20)]
    assert [(level, b"v%d" % number) for number in range(20)] == [
        (each.level, each.value) for each in found
    ]


def test_what_this_process_kept_is_found_wherever_it_went(tmp_path, clock) -> None:
    own = OwnAnswers(make(tmp_path, clock, sizes=(5, 10, 100)))
    for number in range(50):
        assert own.find(key(number)) is None
        own.keep(key(number), b"v%d" % number)

    assert [b"v%d" % n for n in range(50)] == [
        own.find(key(n)).value for n in range(50)
    ]


@pytest.mark.parametrize("before", [False, True])
def test_a_page_that_nobody_kept_is_asked_of_no_file(
    tmp_path, clock, monkeypatch, before: bool
) -> None:
    if before:
        make(tmp_path, clock).keep(key(1), b"v")
    tiers = make(tmp_path, clock)
    own = OwnAnswers(tiers)
    # Where there is something it is listed once that pays.
    for _ in range(known.FEW if before else 1):
        assert own.find(key(2)) is None
    for tier in tiers._shared:
        monkeypatch.setattr(tier, "get", None)

    assert own.find(key(3)) is None
    # Others' answers are looked for each time.
    with pytest.raises(TypeError):
        tiers.find(key(3))


def lost(path: Path) -> None:
    (path / "run" / "l2.ledger").unlink()


def no_file(path: Path) -> None:
    lost(path)
    (path / "run" / "l2.ledger").mkdir()


def damaged(path: Path) -> None:
    (path / "run" / "l2.ledger").write_bytes(os.urandom(5000))


@pytest.mark.parametrize("damage", [lost, no_file, damaged])
def test_without_a_ledger_it_is_a_miss_and_no_failure(tmp_path, clock, damage) -> None:
    make(tmp_path, clock).keep(key(1), b"v")
    damage(tmp_path)
    own = OwnAnswers(make(tmp_path, clock))

    assert own.find(key(1)) is None
    own.keep(key(1), b"w")
    assert b"w" == own.find(key(1)).value


@pytest.mark.parametrize("before", [0, 5, 11])
def test_beyond_so_many_keys_all_are_looked_for(
    tmp_path, clock, monkeypatch, before: int
) -> None:
    monkeypatch.setattr(known, "MOST", 10)
    monkeypatch.setattr(known, "FEW", 0)
    size = 20 if before > 10 else 10
    tiers = make(tmp_path, clock, sizes=(size, size, size))
    for number in range(before):
        tiers.keep(key(100 + number), b"v")
    keys = KnownKeys(tiers._shared)
    assert keys.may_have(key(1)) == (before > 10)
    for number in range(10):
        keys.add(key(number))
    assert keys.may_have(key(9))
    keys.add(key(10))
    keys.add(key(11))

    assert keys.may_have(key(200))
    assert not keys._keys


def test_threads_that_look_first_lose_nothing(tmp_path, clock, monkeypatch) -> None:
    monkeypatch.setattr(known, "FEW", 20)
    tiers = make(tmp_path, clock)
    for number in range(200):
        tiers.keep(key(1000 + number), b"v")
    keys = KnownKeys(tiers._shared)
    wrong = []

    def work(thread: int) -> None:
        for number in range(50):
            mine = key(thread * 50 + number)
            keys.add(mine)
            if not keys.may_have(mine) or not keys.may_have(key(1000 + number)):
                wrong.append(mine)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert [] == wrong
