from __future__ import annotations

import logging
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from engine.clock import SYSTEM
from engine.shared.cache.ages import ReceivedAt
from engine.shared.cache.clearing import ClearingMark
from engine.shared.cache.ledger import Ledger
from engine.shared.cache.owed import ENOUGH
from engine.shared.cache.own import OwnAnswers
from engine.shared.cache.ratio import Ratio
from engine.shared.cache.settings import CacheSettings, TierSettings
from engine.shared.cache.shared_tier import SharedTier
from engine.shared.cache.tiers import Tiers
from tests.fakes.hands import Hands
from tests.shared.children import Child

MIB = 1 << 20


@pytest.fixture
def clock() -> Hands:
    return Hands()


def key(number: int) -> str:
    return f"{(number + 1) * 2654435761 % 2**64:016x}{number:016x}"


def make(path: Path, clock: Hands, sizes=(1000, 1000, 1000), **more) -> Tiers[bytes]:
    ttls = more.pop("ttls", (300.0, 3600.0, 14400.0))
    background = more.pop("background", False)
    alone = more.pop("alone", False)
    policies = more.pop("policies", ("LRU", "LRU", "LRU"))
    volumes = more.pop("volumes", (64 * MIB, 64 * MIB, 1024 * MIB))
    levels = tuple(
        TierSettings(entries=size, ttl=ttl, policy=policy, volume=volume)
        for size, ttl, policy, volume in zip(
            sizes, ttls, policies, volumes, strict=True
        )
    )
    return Tiers(
        path / "run",
        path / "disk",
        levels=levels,
        settings=CacheSettings(**more),
        encode=bytes,
        decode=bytes,
        patience=5.0,
        background=background,
        alone=alone,
        clock=clock,
    )


def entries(tiers: Tiers[bytes]) -> dict[int, int]:
    return {reading.level: reading.entries for reading in tiers.readings()}


def level_of(tiers: Tiers[bytes], number: int) -> int | None:
    found = tiers.find(key(number))
    return found.level if found is not None else None


def test_a_new_entry_goes_to_l1_and_l2(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock)
    tiers.keep(key(1), b"v")

    assert {1: 1, 2: 1, 3: 0} == entries(tiers)
    assert 1 == level_of(tiers, 1)
    assert b"v" == make(tmp_path, clock).find(key(1)).value
    assert 2 == level_of(make(tmp_path, clock), 1)


def test_a_hit_below_is_copied_to_l1(tmp_path, clock) -> None:
    make(tmp_path, clock).keep(key(1), b"v")
    other = make(tmp_path, clock)

    assert [2, 1, 1] == [level_of(other, 1) for _ in range(3)]


def test_an_l1_of_size_0_is_off(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(0, 10, 10))
    tiers.keep(key(1), b"v")

    assert [2, 2] == [level_of(tiers, 1) for _ in range(2)]


def test_without_l2_an_entry_goes_to_l3(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(0, 0, 10))
    tiers.keep(key(1), b"v")

    assert 3 == level_of(tiers, 1)


def test_only_l1_is_possible(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(10, 0, 0))
    tiers.keep(key(1), b"v")

    assert 1 == level_of(tiers, 1)
    assert not (tmp_path / "run" / "l2").exists()


def test_what_leaves_l2_moves_to_l3_and_comes_back(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(0, 100, 1000))
    for n in range(100):
        tiers.keep(key(n), b"v%d" % n)

    found = entries(tiers)
    assert 100 == found[2] + found[3]
    assert found[2] < 80
    assert 3 == level_of(tiers, 0)
    assert 2 == level_of(tiers, 0)
    assert b"v0" == tiers.find(key(0)).value
    assert 100 == sum(entries(tiers).values())


def test_a_thread_of_its_own_moves_what_leaves(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(0, 100, 1000), background=True)
    for n in range(300):
        tiers.keep(key(n), b"v")
        assert entries(tiers)[2] <= 100

    deadline = time.monotonic() + 10
    while entries(tiers)[2] >= 80 and time.monotonic() < deadline:
        time.sleep(0.01)
    found = entries(tiers)
    assert found[2] < 80
    assert found[3] > 100


def test_six_thousand_answers_leave_a_thousand_or_more_in_l3(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(0, 500, 10_000))
    for n in range(600):
        tiers.keep(key(n), b"v")

    assert entries(tiers)[3] >= 100


@pytest.mark.parametrize(
    ("allowed", "threshold", "batch", "stores", "left"),
    [(100, 0.8, 100, 79, 79), (100, 0.8, 100, 80, 55), (1000, 0.8, 50, 800, 750)],
)
def test_a_pass_begins_at_the_threshold_and_drops_a_batch(
    tmp_path, clock, allowed, threshold, batch, stores, left
) -> None:
    tiers = make(
        tmp_path, clock, sizes=(allowed, 0, 0), threshold=threshold, batch=batch
    )
    shared = make(
        tmp_path, clock, sizes=(0, allowed, 0), threshold=threshold, batch=batch
    )
    for n in range(stores):
        tiers.keep(key(n), b"v")
        shared.keep(key(n), b"v")

    assert {1: left} == entries(tiers)
    assert {2: left} == entries(shared)


#: a b c d e f g are stored, some are asked, then h begins a pass of two.
SCRIPT = {"LRU": {"c", "d"}, "LFU": {"d", "h"}, "FIFO": {"a", "b"}}


@pytest.mark.parametrize("policy", ["LRU", "LFU", "FIFO"])
@pytest.mark.parametrize("tier", [1, 2, 3])
def test_each_policy_names_who_leaves(tmp_path, clock, policy, tier) -> None:
    sizes = [0, 0, 0]
    sizes[tier - 1] = 10
    tiers = make(tmp_path, clock, sizes=tuple(sizes), policies=(policy,) * 3)
    names = "abcdefgh"
    for name in names[:-1]:
        tiers.keep(key(ord(name)), b"v")
    for name in "cccabefgab":
        tiers.find(key(ord(name)))

    tiers.keep(key(ord("h")), b"v")

    gone = {name for name in names if tiers.find(key(ord(name))) is None}
    assert SCRIPT[policy] == gone


def test_uses_of_before_the_window_do_not_count_for_lfu(tmp_path, clock) -> None:
    for tier in (1, 2):
        sizes = (10, 0, 0) if tier == 1 else (0, 10, 0)
        tiers = make(tmp_path, clock, sizes=sizes, policies=("LFU",) * 3, window=60.0)
        for n in range(7):
            tiers.keep(key(n), b"v")
        for _ in range(5):
            tiers.find(key(0))
            tiers.find(key(1))
        clock.turn(120)
        for n in range(2, 7):
            tiers.find(key(n))
        tiers.keep(key(7), b"v")

        assert tiers.find(key(0)) is None
        assert tiers.find(key(2)) is not None
        tiers.clear()


def test_without_eviction_a_full_tier_refuses(tmp_path, clock) -> None:
    for sizes in ((10, 0, 0), (0, 10, 0), (0, 10, 100), (0, 0, 10)):
        tiers = make(tmp_path, clock, sizes=sizes, evict=False)
        for n in range(11):
            tiers.keep(key(n), b"v")

        assert [level_of(tiers, n) is not None for n in range(11)] == [True] * 10 + [
            False
        ]
        tiers.keep(key(3), b"new")
        assert b"new" == tiers.find(key(3)).value
        tiers.clear()


def test_a_total_over_l2_and_l3_holds(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(0, 10, 10), total=10)
    for n in range(30):
        tiers.keep(key(n), b"v")
        assert sum(entries(tiers).values()) <= 10

    assert 10 == sum(entries(tiers).values())


def test_a_total_of_0_stores_nothing(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, total=0)
    tiers.keep(key(1), b"v")

    assert level_of(tiers, 1) is None


def test_bytes_are_bound_and_large_values_stay_outside(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, volumes=(MIB, MIB, MIB))
    for n in range(200):
        tiers.keep(key(n), os.urandom(30_000))
        assert all(reading.bytes <= MIB for reading in tiers.readings())
    tiers.keep(key(1000), bytes(MIB // 8 + 1))

    assert level_of(tiers, 1000) is None
    assert sum(reading.bytes for reading in tiers.readings()) > MIB


def test_no_tier_holds_longer_than_the_one_below(tmp_path, clock, caplog) -> None:
    tiers = make(tmp_path, clock, ttls=(100.0, 50.0, 10.0))
    tiers.keep(key(1), b"v")
    clock.turn(11)

    assert level_of(tiers, 1) is None
    assert 2 == caplog.text.count("as the one below it")
    make(tmp_path / "b", clock, sizes=(10, 0, 0), ttls=(100.0, 50.0, 10.0))
    assert 2 == caplog.text.count("as the one below it")


def test_each_tier_holds_for_its_own_time(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, ttls=(1.0, 2.0, 4.0))
    levels = []
    tiers.keep(key(1), b"v")
    for _ in range(5):
        levels.append(level_of(tiers, 1))
        clock.turn(1.0)
        tiers.sweep()

    assert [1, 2, 3, 3, None] == levels
    assert 0 == sum(entries(tiers).values())


def test_age_runs_from_receipt_whatever_tier_it_is_in(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, ttls=(10.0, 20.0, 100.0))
    tiers.keep(key(1), b"v")
    ages = []
    for _ in range(4):
        clock.turn(8.0)
        tiers.sweep()
        found = tiers.find(key(1))
        ages.append((found.level, round(found.age)))

    assert [(1, 8), (2, 16), (3, 24), (3, 32)] == ages


def test_a_sweep_comes_when_it_is_due_and_without_any_access(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, ttls=(3.0, 3.0, 3.0), cleanup=1.0)
    tiers.keep(key(1), b"v")
    clock.turn(2.5)
    tiers.tick()
    assert {1: 1, 2: 1, 3: 0} == entries(tiers)

    clock.turn(1.0)
    tiers.tick()

    assert {1: 0, 2: 0, 3: 0} == entries(tiers)


@pytest.mark.parametrize("jump", [-86_400_000, 86_400_000])
def test_a_jump_of_the_wall_clock_never_makes_it_younger(tmp_path, clock, jump) -> None:
    tiers = make(tmp_path, clock, ttls=(1e6, 1e6, 1e6))
    tiers.keep(key(1), b"v")
    clock.turn(10)
    clock.wall += jump

    for one in (tiers, make(tmp_path, clock, ttls=(1e6, 1e6, 1e6))):
        found = one.find(key(1))
        assert found is None or found.age >= 10


def test_after_a_restart_of_the_machine_the_wall_tells_the_age(
    tmp_path, clock, monkeypatch
) -> None:
    tiers = make(tmp_path, clock, sizes=(0, 0, 10))
    tiers.keep(key(1), b"v")
    (boot := tmp_path / "boot").write_text("another")
    monkeypatch.setattr("engine.shared.cell._BOOT_ID", boot)
    clock.seconds = 3.0
    clock.wall += 60_000

    assert 60 == round(make(tmp_path, clock, sizes=(0, 0, 10)).find(key(1)).age)

    clock.wall -= 120_000
    assert make(tmp_path, clock, sizes=(0, 0, 10)).find(key(1)) is None


def test_l3_survives_a_new_engine_and_l2_does_not_need_to(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(0, 4, 100))
    for n in range(10):
        tiers.keep(key(n), b"v")
    kept = entries(tiers)[3]
    os.rename(tmp_path / "run", tmp_path / "gone")

    again = make(tmp_path, clock, sizes=(0, 4, 100))

    assert kept == sum(again.find(key(n)) is not None for n in range(10)) > 0


def test_a_newer_answer_replaces_the_older_one_everywhere(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(0, 10, 100))
    for n in range(20):
        tiers.keep(key(n), b"old")
    for n in range(20):
        tiers.keep(key(n), b"new")

    assert {b"new"} == {tiers.find(key(n)).value for n in range(20)}
    assert 20 == sum(entries(tiers).values())


@pytest.mark.parametrize("l1", [0, 10])
@pytest.mark.parametrize(
    ("volumes", "size"),
    [
        # Too large for L2 and not for L3; for both; L1 holds it or not.
        ((MIB, MIB, 16 * MIB), MIB // 4),
        ((MIB, MIB, MIB), MIB // 4),
        ((16 * MIB, MIB, MIB), MIB // 4),
    ],
)
def test_a_newer_answer_that_does_not_fit_leaves_no_older_one(
    tmp_path, clock, l1, volumes, size
) -> None:
    tiers = make(tmp_path, clock, sizes=(l1, 10, 100), volumes=volumes)
    tiers.keep(key(1), b"old")
    tiers.keep(key(1), bytes(size))

    found = tiers.find(key(1))
    assert found is None or found.value == bytes(size)


def test_a_newer_answer_leaves_no_older_one_where_nothing_is_evicted(
    tmp_path, clock
) -> None:
    tiers = make(
        tmp_path,
        clock,
        sizes=(0, 10, 0),
        volumes=(MIB, MIB, MIB),
        evict=False,
    )
    for n in range(10):
        tiers.keep(key(n), bytes(100_000))
    tiers.keep(key(3), bytes(110_000))
    tiers.keep(key(3), b"new" * 40_000)

    found = tiers.find(key(3))
    assert found is None or found.value == b"new" * 40_000


def test_what_is_dropped_is_gone_from_every_tier(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock)
    tiers.keep(key(1), b"v")
    tiers.drop(key(1))

    assert level_of(tiers, 1) is None
    assert {1: 0, 2: 0, 3: 0} == entries(tiers)


def test_a_ledger_that_is_lost_leaves_nothing_behind(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(0, 1000, 0))
    for n in range(200):
        tiers.keep(key(n), b"v")
    (tmp_path / "run" / "l2.ledger").unlink()

    again = make(tmp_path, clock, sizes=(0, 1000, 0))
    again.keep(key(500), b"v")

    assert {2: 1} == entries(again)
    assert level_of(again, 3) is None


@pytest.mark.parametrize("garbage", [b"", b"x" * 50, os.urandom(5000)])
def test_a_damaged_ledger_is_a_new_one(tmp_path, clock, garbage) -> None:
    tiers = make(tmp_path, clock, sizes=(0, 100, 0))
    tiers.keep(key(1), b"v")
    (tmp_path / "run" / "l2.ledger").write_bytes(garbage)

    again = make(tmp_path, clock, sizes=(0, 100, 0))
    again.keep(key(2), b"w")

    assert b"w" == again.find(key(2)).value


def test_bytes_that_do_not_decode_are_a_miss(tmp_path, clock) -> None:
    def refuse(raw: bytes) -> bytes:
        raise ValueError("other version")

    make(tmp_path, clock, sizes=(0, 10, 0)).keep(key(1), b"v")
    other = make(tmp_path, clock, sizes=(0, 10, 0))
    other._decode = refuse

    assert other.find(key(1)) is None
    assert {2: 0} == entries(other)


def test_without_any_directory_only_l1_works(tmp_path, clock) -> None:
    (tmp_path / "run").write_text("")
    (tmp_path / "disk").write_text("")
    tiers = make(tmp_path, clock)
    for n in range(20):
        tiers.keep(key(n), b"v")

    assert 20 == sum(level_of(tiers, n) == 1 for n in range(20))
    assert tiers.lead(key(1)) is not None
    assert 32 == len(tiers.fingerprint("me"))
    tiers.sweep()


def test_the_ratio_slides_over_its_window(clock) -> None:
    ratio = Ratio(60.0, clock=clock)
    assert (0, 1.0) == ratio.read()
    for _ in range(10):
        ratio.count(hit=False)
    assert (10, 0.0) == ratio.read()
    clock.turn(30)
    for _ in range(30):
        ratio.count(hit=True)
    assert (40, 0.75) == ratio.read()

    clock.turn(31)
    assert (30, 1.0) == ratio.read()
    clock.turn(31)
    assert (0, 1.0) == ratio.read()


def test_a_low_ratio_is_said_once_a_change(tmp_path, clock, caplog) -> None:
    tiers = make(tmp_path, clock, ratio=0.8)
    for _ in range(99):
        tiers.count(None, "miss")
    assert not tiers.judge()
    tiers.count(None, "miss")
    with caplog.at_level(logging.WARNING):
        assert tiers.judge()
        assert tiers.judge()
    assert 1 == caplog.text.count("hit ratio")
    for _ in range(900):
        tiers.count(1, "hit")

    assert not tiers.judge()
    assert {("none", "miss"): 100, ("1", "hit"): 900} == tiers.lookups


def test_without_statistics_nothing_is_counted(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, statistics=False)
    for _ in range(200):
        tiers.count(None, "miss")

    assert {} == tiers.lookups
    assert (0, 1.0) == tiers.ratio.read()


@pytest.mark.parametrize("sizes", [(100, 0, 0), (0, 100, 0)])
def test_a_thrashing_tier_grows_on_the_interval_and_within_bounds(
    tmp_path, clock, caplog, sizes
) -> None:
    caplog.set_level("INFO")
    tiers = make(tmp_path, clock, sizes=sizes, tuning=60.0)
    allowed = []
    number = 0
    for _ in range(9):
        for _ in range(120):
            number += 1
            tiers.keep(key(number), b"v")
            tiers.count(None, "miss")
        tiers.tick()
        allowed.append(tiers.readings()[0].allowed)
        clock.turn(60.0)
    # The first tick is not due yet.
    assert [100, 125, 156, 195, 244, 305, 381, 400, 400] == allowed

    for _ in range(3):
        tiers.tick()
    assert 400 == tiers.readings()[0].allowed
    assert "hit ratio 0.00, 95 evicted" in caplog.text


def test_an_empty_tier_that_hits_shrinks_to_a_quarter(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(100, 0, 0), tuning=60.0)
    for _ in range(30):
        for _ in range(10):
            tiers.count(1, "hit")
        clock.turn(60.0)
        tiers.tick()

    assert 25 == tiers.readings()[0].allowed


def test_in_between_nothing_is_tuned(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(100, 0, 0), tuning=60.0, ttls=(1e6,) * 3)
    for n in range(70):
        tiers.keep(key(n), b"v")
        tiers.count(1, "hit")
    for _ in range(10):
        clock.turn(60.0)
        tiers.tick()

    assert 100 == tiers.readings()[0].allowed


def test_two_processes_make_one_step_of_tuning(tmp_path, clock) -> None:
    pair = [make(tmp_path, clock, sizes=(0, 100, 0), tuning=60.0) for _ in range(2)]
    for n in range(300):
        for tiers in pair:
            tiers.keep(key(n), b"v")
            tiers.count(None, "miss")
    clock.turn(61.0)
    for tiers in pair:
        tiers.tick()

    assert [125, 125] == [tiers.readings()[0].allowed for tiers in pair]


def test_a_credential_is_hashed_with_a_secret_that_stays(tmp_path, clock) -> None:
    one, other = make(tmp_path, clock), make(tmp_path, clock)

    assert one.fingerprint("me") == other.fingerprint("me")
    assert one.fingerprint("me") != one.fingerprint("you")
    assert make(tmp_path / "x", clock).fingerprint("me") != one.fingerprint("me")
    secret = tmp_path / "disk" / "secret"
    assert 0o600 == stat.S_IMODE(secret.stat().st_mode)


def test_one_of_all_leads_a_key(tmp_path, clock) -> None:
    one, other = make(tmp_path, clock), make(tmp_path, clock)
    flight = one.lead(key(1))
    assert flight is not None
    assert other.lead(key(1)) is None
    assert one.lead(key(1)) is None
    assert other.lead(key(2)) is not None

    flight.land()
    flight.land()

    again = other.lead(key(1))
    assert again is not None
    again.land()


def test_the_newest_keys_are_known_to_all(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock)
    for n in range(5):
        tiers.keep(key(n), b"v")
        clock.turn(1)
    tiers.find(key(2))

    assert key(2) == tiers.recent(3)[0]
    assert {key(4), key(3)} <= set(make(tmp_path, clock).recent(10))
    assert {(2, b"v")} == {(level, value) for level, _, value, _ in tiers.values()}


def test_a_ledger_finds_every_digest_again(tmp_path, clock) -> None:
    ledger = Ledger(tmp_path / "l", entries=300, clock=clock)
    moment = ReceivedAt(1.0, 2.0, b"boot")
    held: dict[bytes, int] = {}
    for n in range(3000):
        digest = bytes.fromhex(key(n % 700))
        if n % 3 == 2 and digest in held:
            assert ledger.drop(digest)
            del held[digest]
        elif len(held) < 300 or digest in held:
            assert ledger.put(digest, n, moment, most=1 << 40)
            held[digest] = n
        if n % 500 == 0:
            assert (len(held), sum(held.values())) == ledger.recount()

    assert held == {line.digest: line.size for line in ledger.lines()}
    assert sorted(held) == sorted(ledger.digests())
    assert (len(held), sum(held.values())) == ledger.totals()[:2]
    assert all(ledger.has(digest) for digest in held)


@pytest.mark.parametrize(
    "sizes", [[], [1], [7, 7, 7, 7], [90, 20, 5, 1], [50, 0, 50, 1], [101]]
)
def test_many_lines_are_entered_as_one_by_one(tmp_path, clock, sizes) -> None:
    """Also where one of them is twice among them, or what was there is replaced."""
    moment = ReceivedAt(1.0, 2.0, b"boot")
    lines = [(bytes.fromhex(key(n % 3)), size, moment) for n, size in enumerate(sizes)]
    one, many = (Ledger(tmp_path / name, entries=4, clock=clock) for name in "om")
    for each in (one, many):
        each.put(bytes.fromhex(key(1)), 30, moment, most=100)
        each.put(bytes.fromhex(key(9)), 1, moment, most=100)

    done = [one.put(*line, most=100) is not None for line in lines]

    assert (done, one.totals()) == many.put_all(lines, most=100)
    assert many.totals()[:2] == many.recount() == one.recount()
    assert {(each.digest, each.size) for each in many.lines()} == {
        (each.digest, each.size) for each in one.lines()
    }


def test_of_many_processes_with_room_for_few_few_find_it(tmp_path, clock) -> None:
    moment = ReceivedAt(1.0, 2.0, b"boot")
    bounds = {"most": 50_000}

    def work(say) -> None:
        mine = Ledger(tmp_path / "l", entries=64, patience=5.0, clock=clock)
        entered = 0
        for n in range(200):
            digest = bytes.fromhex(key(os.getpid() * 1_000 + n))
            entered += mine.put(digest, 1_000, moment, **bounds) is not None
        say(f"{entered}")

    children = [Child(work) for _ in range(6)]
    entered = sum(int(line) for child in children for line in child.rest())
    for child in children:
        assert 0 == child.wait()

    ledger = Ledger(tmp_path / "l", entries=64, clock=clock)
    assert (50, 50_000, 64) == ledger.totals() == (*ledger.recount(), 64)
    assert 50 == entered
    # A smaller value in the place of a larger one makes room for another.
    line = next(iter(ledger.lines()))
    assert ledger.put(bytes.fromhex(key(1)), 400, moment, **bounds) is None
    assert (50, 49_500, 64) == ledger.put(line.digest, 500, moment, **bounds)
    assert (51, 49_900, 64) == ledger.put(bytes.fromhex(key(1)), 400, moment, **bounds)


@pytest.mark.parametrize("swept", [True, False])
def test_what_is_too_old_for_shared_memory_is_on_the_disk(tmp_path, swept) -> None:
    """By the clock on the wall: the database below has a time of its own."""
    tiers = make(tmp_path, SYSTEM, ttls=(1.0, 1.0, 600.0))
    tiers.keep(key(1), b"v")
    assert 1 == level_of(tiers, 1)
    born = time.monotonic()
    while time.monotonic() < born + 1.2:
        time.sleep(0.05)

    if swept:
        tiers.sweep()
        assert {1: 0, 2: 0, 3: 1} == entries(tiers)

    assert 3 == level_of(tiers, 1)
    assert (0, 1) == (entries(tiers)[2], entries(tiers)[3])


@pytest.mark.parametrize("sizes", [(1000, 1000, 1000), (1000, 0, 0), (1000, 4, 0)])
def test_most_responses_are_the_most_in_memory_too(tmp_path, clock, sizes) -> None:
    tiers = make(tmp_path, clock, sizes=sizes, total=10, threshold=1.0)
    for number in range(30):
        tiers.keep(key(number), b"v")

    held = entries(tiers)
    assert held[1] <= 10
    assert held.get(2, 0) + held.get(3, 0) <= 10
    assert sum(tiers.find(key(number)) is not None for number in range(30)) <= 10


def test_the_ratio_is_that_of_what_could_have_been_a_hit(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock)
    for result in ("first", "news", "uncacheable"):
        for _ in range(200):
            tiers.count(None, result)

    assert (0, 1.0) == tiers.ratio.read()
    assert not tiers.judge()
    for result, level in (("hit", 1), ("revalidated", 2), ("stale", 1), ("miss", None)):
        tiers.count(level, result)
    assert (4, 0.75) == tiers.ratio.read()


# -- one process, for a while ---------------------------------------------------------


def test_alone_an_entry_stands_below_once_it_leaves(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, alone=True)
    tiers.keep(key(1), b"v")

    assert {1: 1, 2: 0, 3: 0} == entries(tiers)
    assert 1 == tiers.find(key(1), anew=True).level
    assert 1 == tiers.settle(5.0)
    assert {1: 1, 2: 0, 3: 1} == entries(tiers)
    assert 0 == tiers.settle(5.0)
    assert b"v" == make(tmp_path, clock).find(key(1)).value


def test_alone_what_is_below_is_found_whoever_put_it_there(tmp_path, clock) -> None:
    make(tmp_path, clock, sizes=(1, 10, 10)).keep(key(1), b"v")
    for place in (tmp_path, tmp_path / "new"):
        tiers = make(place, clock, sizes=(1, 10, 10), alone=True)
        assert (b"v" if place == tmp_path else None) == getattr(
            tiers.find(key(1)), "value", None
        )
        # What L1 has no room for moves below.
        for n in range(3):
            assert tiers.find(key(100 + n)) is None
            tiers.keep(key(100 + n), b"v%d" % n)
        assert [b"v0", b"v1", b"v2"] == [
            tiers.find(key(100 + n)).value for n in range(3)
        ]


def test_alone_what_is_large_leaves_memory_once_enough_has_gathered(
    tmp_path, clock
) -> None:
    tiers = make(tmp_path, clock, alone=True)
    page, pages = os.urandom(1 << 20), 2 * ENOUGH >> 20
    for n in range(pages):
        tiers.keep(key(n), page + b"%d" % n)
        tiers.keep(key(1000 + n), b"small")
        # Another process finds them while this one still runs.
    first, other = tiers.readings()[0], make(tmp_path, clock)

    assert first.bytes < 1.2 * ENOUGH
    assert pages == sum(tiers.find(key(1000 + n)).level == 1 for n in range(pages))
    assert page + b"0" == other.find(key(0)).value
    assert [page + b"%d" % n for n in range(pages)] == [
        tiers.find(key(n)).value for n in range(pages)
    ]
    tiers.settle(5.0)
    assert all(
        make(tmp_path, clock).find(key(n + at)) is not None
        for n in range(pages)
        for at in (0, 1000)
    )


@pytest.mark.parametrize("how", ["drop", "keep a small one", "keep a large one"])
def test_alone_what_follows_while_it_is_stored_has_the_last_word(
    tmp_path, clock, monkeypatch, how: str
) -> None:
    tiers = make(tmp_path, clock, alone=True, background=True)
    begun, go_on = threading.Event(), threading.Event()
    real = SharedTier.put_all

    def slowly(tier, entries, patience=0.0) -> int:
        begun.set()
        assert go_on.wait(10)
        return real(tier, entries, patience)

    monkeypatch.setattr(SharedTier, "put_all", slowly)
    for n in range(9):
        tiers.keep(key(n), bytes(1 << 20))
    assert begun.wait(10)
    threading.Timer(0.1, go_on.set).start()
    new = {"drop": None, "keep a small one": b"new", "keep a large one": bytes(9 << 20)}
    if how == "drop":
        tiers.drop(key(3))
    else:
        tiers.keep(key(3), new[how])
    go_on.wait(10)
    tiers.settle(10.0)

    found = make(tmp_path, clock).find(key(3))
    if how == "keep a large one":
        # Larger than what any tier takes: nothing is better than what is old.
        assert found is None or found.value != bytes(1 << 20)
    else:
        assert new[how] == (None if found is None else found.value)
    assert make(tmp_path, clock).find(key(4)) is not None


def test_alone_without_a_disk_it_is_stored_when_it_leaves(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(2, 10, 0), alone=True)
    for n in range(3):
        tiers.keep(key(n), b"v")

    assert 0 == tiers.settle(5.0)
    assert {1: 1, 2: 2, 3: 0} == {1: 1, 2: 2, 3: 0, **entries(tiers)}


def test_alone_with_a_disk_only_it_is_settled(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(10, 0, 10), alone=True)
    tiers.keep(key(1), b"v")

    assert 1 == tiers.settle(5.0)
    assert b"v" == make(tmp_path, clock, sizes=(10, 0, 10)).find(key(1)).value


def test_alone_nothing_is_lost_for_others(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, sizes=(20, 1000, 1000), alone=True)
    for n in range(100):
        tiers.keep(key(n), b"v%d" % n)
    tiers.settle(5.0)

    other = make(tmp_path, clock)
    assert [b"v%d" % n for n in range(100)] == [
        other.find(key(n)).value for n in range(100)
    ]


def test_alone_what_is_too_old_for_l1_is_found_below(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, alone=True)
    tiers.keep(key(1), b"v")
    clock.turn(301.0)

    assert 2 == level_of(tiers, 1)


@pytest.mark.parametrize("how", ["drop", "clear", "clear elsewhere"])
def test_alone_what_is_forgotten_is_not_settled(tmp_path, clock, how: str) -> None:
    tiers = make(tmp_path, clock, alone=True)
    tiers.keep(key(1), b"v")
    if how == "drop":
        tiers.drop(key(1))
    else:
        # The mark of a clearing stands beside the tiers' files.
        (tmp_path / "run").mkdir(exist_ok=True)
        (tiers if how == "clear" else make(tmp_path, clock)).clear()

    assert tiers.find(key(1)) is None
    assert 0 == tiers.settle(5.0)
    assert make(tmp_path, clock).find(key(1)) is None


def test_a_clearing_is_heard_of_once_and_soon(tmp_path) -> None:
    mine, other = ClearingMark(tmp_path / "c"), ClearingMark(tmp_path / "c")
    assert not mine.news()

    other.put()

    assert not mine.news(lately=True)
    assert mine.news()
    assert not mine.news()
    os.utime(tmp_path / "c", (1, 1))
    end = time.monotonic() + 10
    while not mine.news(lately=True):
        assert time.monotonic() < end


def test_alone_a_new_answer_takes_the_place_of_an_old_one_below(
    tmp_path, clock
) -> None:
    make(tmp_path, clock, sizes=(0, 0, 10)).keep(key(1), b"old")
    tiers = make(tmp_path, clock, alone=True)
    tiers.keep(key(1), b"new")

    assert b"new" == tiers.find(key(1), anew=True).value
    tiers.settle(5.0)
    assert b"new" == make(tmp_path, clock).find(key(1)).value


def test_alone_one_thread_leads_and_no_file_is_made(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, alone=True)
    first = tiers.lead(key(1))

    assert first is not None
    assert tiers.lead(key(1)) is None
    first.land()
    first.land()
    assert tiers.lead(key(1)) is not None
    assert not (tmp_path / "run" / "flights").exists()


# -- several processes, each with answers of its own ------------------------------------


def test_an_own_answer_stands_below_once_its_process_ends(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock)
    own = OwnAnswers(tiers)
    own.keep(key(1), b"v")
    tiers.keep(key(2), b"w")

    assert {1: 2, 2: 1, 3: 0} == entries(tiers)
    assert 1 == own.find(key(1), anew=True).level
    tiers.settle(5.0)
    assert {1: 2, 2: 0, 3: 2} == entries(tiers)
    assert b"v" == make(tmp_path, clock).find(key(1)).value


def test_of_two_that_end_at_once_each_moves_its_own(tmp_path, clock) -> None:
    both = [make(tmp_path, clock) for _ in range(2)]
    for number, tiers in enumerate(both):
        OwnAnswers(tiers).keep(key(number), b"v%d" % number)
    moving = both[0]._eviction.lead()

    assert [1, 1] == [tiers.settle(5.0) for tiers in both]

    moving.land()
    assert {1: 0, 2: 0, 3: 2} == entries(make(tmp_path, clock))


def test_what_two_move_at_their_ends_keeps_to_the_total(tmp_path, clock) -> None:
    both = [make(tmp_path, clock, total=5, threshold=1.0) for _ in range(2)]
    for number in range(8):
        OwnAnswers(both[number % 2]).keep(key(number), b"v")
    for tiers in both:
        tiers.settle(5.0)

    assert {1: 0, 2: 0, 3: 5} == entries(make(tmp_path, clock))


def test_one_thread_leads_for_an_own_answer_and_no_file_is_made(
    tmp_path, clock
) -> None:
    own = OwnAnswers(make(tmp_path, clock))
    flight = own.lead(key(1))

    assert flight is not None
    assert own.lead(key(1)) is None
    assert [] == list(tmp_path.glob("run/flights/*"))
    flight.land()
    assert own.lead(key(1)) is not None
