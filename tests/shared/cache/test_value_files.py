from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.clock import SYSTEM
from engine.shared.cache import value_files
from engine.shared.cache.packs import LARGEST
from engine.shared.cache.settings import CacheSettings, TierSettings
from engine.shared.cache.tiers import Tiers
from engine.shared.cache.value_files import APART, ValueFiles, taken
from tests.fakes.hands import Hands
from tests.shared.children import Child

MIB = 1 << 20
LARGE = 20_000


@pytest.fixture
def clock() -> Hands:
    return Hands(wall_ms=SYSTEM.wall_ms())


def key(number: int) -> str:
    return f"{(number + 1) * 2654435761 % 2**64:016x}{number:016x}"


def make(path: Path, clock: Hands, sizes=(0, 1000, 0), **more) -> Tiers[bytes]:
    volume, guest = more.pop("volume", 64 * MIB), more.pop("guest", False)
    ttls = more.pop("ttls", (300.0, 3600.0, 14400.0))
    return Tiers(
        path / "run",
        path / "disk",
        levels=tuple(
            TierSettings(entries=size, ttl=ttl, volume=volume)
            for size, ttl in zip(sizes, ttls, strict=True)
        ),
        settings=CacheSettings(**more),
        encode=lambda value: value if isinstance(value, tuple) else bytes(value),
        decode=bytes,
        patience=5.0,
        guest=guest,
        clock=clock,
    )


def values(path: Path) -> dict[str, int]:
    """The files' names and what they take of memory."""
    return {
        each.name: each.stat().st_blocks * 512
        for each in (path / "run" / "l2.values").glob("*")
    }


def spoken_of(tiers: Tiers[bytes]) -> set[str]:
    """The keys whose values should lie in files."""
    [tier] = [each for each in tiers._shared if each.level == 2]
    return {line.digest.hex() for line in tier.ledger.lines() if line.size >= APART}


@pytest.mark.parametrize(
    "size", [0, 1, APART - 21, APART - 20, APART, 4068, 4069, 145_000, LARGEST - 20]
)
def test_what_one_process_keeps_another_finds(tmp_path, clock, size: int) -> None:
    given = os.urandom(size)
    make(tmp_path, clock).keep(key(1), given)

    assert given == make(tmp_path, clock).find(key(1)).value
    # Small ones share a page of memory in the database, large ones need none.
    apart = size + 20 >= APART
    assert apart == bool(values(tmp_path))
    assert apart != (tmp_path / "run" / "l2" / "cache.db").exists()


def test_parts_are_written_from_where_they_lie(tmp_path, clock) -> None:
    parts = (b"head", bytearray(LARGE), memoryview(b"end"))
    make(tmp_path, clock).keep(key(1), parts)

    assert b"".join(parts) == make(tmp_path, clock).find(key(1)).value


def turned(file: Path) -> None:
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)


def led_elsewhere(file: Path) -> None:
    file.rename(file.with_name("x"))
    file.symlink_to(file.with_name("x"))


def made_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def grown(file: Path) -> None:
    os.truncate(file, 1 << 40)


def another(file: Path) -> None:
    os.replace(file.with_name(key(2)), file)


@pytest.mark.parametrize(
    "damage",
    [
        turned,
        led_elsewhere,
        made_a_pipe,
        grown,
        another,
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: os.truncate(file, 10_000),
        lambda file: (file.unlink(), file.mkdir(), (file / "in").write_text("")),
        lambda file: (file.unlink(), file.symlink_to("/dev/zero")),
        lambda file: file.write_bytes(os.urandom(LARGE)),
    ],
    ids=[
        "turned",
        "link",
        "pipe",
        "grown",
        "another",
        "gone",
        "empty",
        "cut",
        "folder",
        "zero",
        "random",
    ],
)
def test_a_damaged_or_planted_file_is_a_miss(
    tmp_path, clock, damage: Callable[[Path], None]
) -> None:
    tiers = make(tmp_path, clock)
    for number in range(1, 4):
        tiers.keep(key(number), bytes([number]) * LARGE)

    damage(tmp_path / "run" / "l2.values" / key(1))

    for process in (make(tmp_path, clock), tiers):
        assert process.find(key(1)) is None
    assert bytes([3]) * LARGE == tiers.find(key(3)).value
    tiers.keep(key(1), b"y" * LARGE)
    assert b"y" * LARGE == make(tmp_path, clock).find(key(1)).value
    # What stands behind a link is nobody's to remove.
    assert {"x"} >= {each for each in values(tmp_path) if len(each) != 32}


@pytest.mark.parametrize("what", ["gone", "file", "link", "pipe"])
def test_a_folder_that_is_none_is_made_anew(tmp_path, clock, what: str) -> None:
    folder = tmp_path / "run" / "l2.values"
    make(tmp_path, clock).keep(key(1), bytes(LARGE))
    (folder / key(1)).unlink()
    folder.rmdir()
    (tmp_path / "theirs").mkdir()
    if what == "file":
        folder.write_text("")
    elif what == "link":
        folder.symlink_to(tmp_path / "theirs")
    elif what == "pipe":
        os.mkfifo(folder)

    tiers = make(tmp_path, clock)
    assert tiers.find(key(1)) is None
    tiers.keep(key(1), b"n" * LARGE)

    assert b"n" * LARGE == make(tmp_path, clock).find(key(1)).value
    assert [] == list((tmp_path / "theirs").iterdir())
    assert 0o700 == folder.stat().st_mode & 0o777


def test_a_folder_that_goes_under_a_process_costs_an_answer_or_none(
    tmp_path, clock
) -> None:
    tiers = make(tmp_path, clock)
    tiers.keep(key(1), bytes(LARGE))
    (tmp_path / "run" / "l2.values" / key(1)).unlink()
    (tmp_path / "run" / "l2.values").rmdir()

    tiers.keep(key(2), bytes(LARGE))

    assert tiers.find(key(1)) is None
    assert tiers.find(key(2)) is not None


def replaced(tiers: Tiers[bytes], clock: Hands) -> None:
    tiers.keep(key(0), b"n" * LARGE)


def shrunk(tiers: Tiers[bytes], clock: Hands) -> None:
    tiers.keep(key(0), b"small")


def too_large(tiers: Tiers[bytes], clock: Hands) -> None:
    tiers.keep(key(0), bytes(9 * MIB))


def struck(tiers: Tiers[bytes], clock: Hands) -> None:
    tiers.drop(key(0))


def crowded_out(tiers: Tiers[bytes], clock: Hands) -> None:
    for number in range(100, 1000):
        tiers.keep(key(number), bytes(LARGE))


def grown_old(tiers: Tiers[bytes], clock: Hands) -> None:
    clock.turn(3700)
    tiers.sweep()


def found_too_old(tiers: Tiers[bytes], clock: Hands) -> None:
    clock.turn(3700)
    assert tiers.find(key(0)) is None


def put_aside(tiers: Tiers[bytes], clock: Hands) -> None:
    tiers.put_aside()


def cleared(tiers: Tiers[bytes], clock: Hands) -> None:
    tiers.clear()


def settled(tiers: Tiers[bytes], clock: Hands) -> None:
    tiers.settle(10.0)


@pytest.mark.parametrize(
    "end",
    [
        replaced, shrunk, too_large, struck, crowded_out, grown_old, found_too_old,
        put_aside, cleared, settled,
    ],
)  # fmt: skip
@pytest.mark.parametrize("third", [0, 1000])
def test_a_file_goes_with_its_entry(tmp_path, clock, end, third: int) -> None:
    if end is settled and not third:
        return
    ttls = (300.0, 3600.0, 3600.0)
    tiers = make(tmp_path, clock, (0, 200, third), volume=16 * MIB, ttls=ttls)
    for number in range(20):
        tiers.keep(key(number), b"o" * LARGE)
    before = (tmp_path / "run" / "l2.values" / key(0)).stat().st_ino

    end(tiers, clock)

    assert set(values(tmp_path)) == spoken_of(tiers)
    here = tmp_path / "run" / "l2.values" / key(0)
    assert not here.exists() or end is replaced
    assert end is not replaced or here.stat().st_ino != before
    if end in (put_aside, cleared, settled):
        assert {} == values(tmp_path)
    for reading in tiers.readings():
        assert reading.level != 2 or sum(values(tmp_path).values()) <= reading.bytes


@pytest.mark.parametrize("sizes", [(10, LARGE, 10), (LARGE, 10, LARGE, LARGE)])
def test_a_value_that_grows_or_shrinks_stands_in_one_place(
    tmp_path, clock, sizes
) -> None:
    tiers = make(tmp_path, clock)
    for number, size in enumerate(sizes):
        tiers.keep(key(1), bytes([number]) * size)

        assert bytes([number]) * size == make(tmp_path, clock).find(key(1)).value
        large = size >= APART
        assert large == bool(values(tmp_path))
        [tier] = tiers._shared
        assert tier.store.count() == (0 if large else 1)


def test_a_limit_is_one_of_the_memory_that_is_taken(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock, (0, 5000, 0), volume=MIB, evict=False)
    for number in range(600):
        tiers.keep(key(number), bytes(1100))

    # A page of memory each, whatever of it is used.
    assert MIB // taken(1100) == len(values(tmp_path)) == 256
    assert MIB == sum(values(tmp_path).values()) == tiers.readings()[0].bytes


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_what_cannot_be_written_leaves_nothing_and_no_older_one(
    tmp_path, clock, monkeypatch, error: int
) -> None:
    tiers = make(tmp_path, clock)
    tiers.keep(key(1), bytes(LARGE))

    def full(fd: int, parts: object) -> int:
        os.write(fd, b"some")
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patched:
        patched.setattr(os, "writev", full)
        tiers.keep(key(1), b"n" * LARGE)

    assert {} == values(tmp_path)
    assert make(tmp_path, clock).find(key(1)) is None
    clock.turn(2)
    tiers.keep(key(1), b"n" * LARGE)
    assert tiers.find(key(1)) is not None


def test_what_dead_writers_left_goes_with_the_next_process(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock)
    tiers.keep(key(1), bytes(LARGE))
    with Child(lambda say: say(f"{os.getpid()}")) as child:
        dead = int(child.hear())
    folder = tmp_path / "run" / "l2.values"
    (folder / f"{key(2)}.{dead:x}-1-1").write_bytes(bytes(LARGE))
    (folder / f"{key(3)}.{os.getpid():x}-1-1").write_bytes(bytes(LARGE))
    (folder / "readme").write_text("")

    make(tmp_path, clock).keep(key(4), bytes(LARGE))

    left = {key(1), key(4), "readme"}
    assert {*left, f"{key(3)}.{os.getpid():x}-1-1"} == set(values(tmp_path))
    clock.turn(100)
    tiers.sweep()
    assert left == set(values(tmp_path))


def test_a_file_that_no_entry_speaks_of_goes_once_it_is_old(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock)
    tiers.keep(key(1), bytes(LARGE))
    (tmp_path / "run" / "l2.values" / key(2)).write_bytes(bytes(LARGE))
    tiers.sweep()
    assert {key(1), key(2)} == set(values(tmp_path))
    assert tiers.find(key(2)) is None

    clock.turn(100)
    tiers.sweep()

    assert {key(1)} == set(values(tmp_path))


def test_a_ledger_that_is_lost_takes_the_files_along(tmp_path, clock) -> None:
    tiers = make(tmp_path, clock)
    for number in range(150):
        tiers.keep(key(number), bytes(2000))
    (tmp_path / "run" / "l2.ledger").unlink()

    again = make(tmp_path, clock)
    again.keep(key(1000), bytes(LARGE))

    assert {key(1000)} == set(values(tmp_path))


@pytest.mark.parametrize(
    "at", ["open", "writev", "rename", "pwrite", "unlink", "close"]
)
@pytest.mark.parametrize("call", range(1, 5))
def test_a_process_killed_at_any_call_leaves_a_whole_cache(
    tmp_path, at: str, call: int
) -> None:
    """Killed at the n-th of such a call, before it is made."""
    old, new = b"o" * LARGE, b"n" * (LARGE + 5000)
    make(tmp_path, SYSTEM).keep(key(1), old)

    def work(say) -> None:
        tiers = make(tmp_path, SYSTEM)
        real, count = getattr(os, at), 0

        def counted(*given, **more):
            nonlocal count
            count += 1
            if count == call:
                os.kill(os.getpid(), 9)
            return real(*given, **more)

        setattr(os, at, counted)
        if at == "pwrite":
            from engine.shared.cache import ledger

            ledger.pwrite = counted
        tiers.keep(key(1), new)
        tiers.keep(key(2), new)
        tiers.drop(key(1))
        say("done")

    child = Child(work)
    child.rest()
    child.wait()

    tiers = make(tmp_path, SYSTEM)
    for number in (1, 2):
        found = tiers.find(key(number))
        assert found is None or found.value in (old, new)
    tiers.keep(key(3), new)
    tiers.sweep()
    # No half of a file, and each that is there is spoken of.
    assert set(values(tmp_path)) <= spoken_of(tiers)
    reading = tiers.readings()[0]
    assert sum(values(tmp_path).values()) <= reading.bytes
    assert new == make(tmp_path, SYSTEM).find(key(3)).value


def test_readers_and_writers_of_one_key_see_whole_values(tmp_path) -> None:
    files = ValueFiles(tmp_path / "v")
    stop, seen = threading.Event(), set()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            files.land(key(1), files.write(key(1), (b"%d" % (number % 10)) * LARGE))

    writers = [threading.Thread(target=write) for _ in range(2)]
    for each in writers:
        each.start()
    while len(seen) < 5 and not (seen and files.damaged):
        found = files.read(key(1))
        if found is not None:
            seen.add(bytes(found[:1]))
            assert bytes(found[:1]) * LARGE == found
    stop.set()
    for each in writers:
        each.join()

    assert 0 == files.damaged
    assert 1 == files.count()


def test_a_key_that_is_no_digest_names_no_file(tmp_path) -> None:
    files = ValueFiles(tmp_path / "v")
    files.land(key(1), files.write(key(1), bytes(LARGE)))
    for name in ("..", "x" * 32, key(2).upper(), f"{key(2)}.", f"{key(2)}0"):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(value_files, "ORPHANED_AFTER", -1e9)
            if name != "..":
                (tmp_path / "v" / name).write_text("")
            files.sweep(lambda found: found == key(1))

    left = {each.name for each in (tmp_path / "v").iterdir()}
    assert {key(1), "x" * 32, key(2).upper(), f"{key(2)}0"} <= left


def test_an_eviction_does_not_take_what_is_newer(tmp_path, clock, monkeypatch) -> None:
    """Between the look at an old value and its end a new one is kept."""
    tiers, other = (make(tmp_path, clock, (0, 100, 100)) for _ in range(2))
    tiers.keep(key(1), b"o" * LARGE)
    upper, lower = tiers._shared
    lines = list(upper.ledger.lines())
    real = lower.put_all

    def put_all(entries, patience=0.0) -> int:
        done = real(entries, patience)
        clock.turn(1)
        other.keep(key(1), b"n" * LARGE)
        return done

    monkeypatch.setattr(lower, "put_all", put_all)
    tiers._eviction.lower_all(upper, lines)

    assert b"n" * LARGE == tiers.find(key(1)).value
    assert [1, 0] == [each.totals()[0] for each in tiers._shared]


def test_a_guest_sees_and_clears_them_and_makes_nothing(tmp_path, clock) -> None:
    make(tmp_path / "none", clock, guest=True).clear()
    assert not (tmp_path / "none").exists()
    tiers = make(tmp_path, clock)
    for number in range(3):
        tiers.keep(key(number), bytes(LARGE))

    guest = make(tmp_path, clock, guest=True)
    assert {(2, key(n)) for n in range(3)} == {each[:2] for each in guest.values()}
    guest.clear()

    assert {} == values(tmp_path)
    assert tiers.find(key(1)) is None
    assert 0 == tiers.readings()[0].entries


def test_a_ledger_whose_holder_does_not_move_is_waited_for_once(
    tmp_path, clock, monkeypatch
) -> None:
    tiers = make(tmp_path, clock)
    tiers.keep(key(1), b"o" * LARGE)
    waits: list[float] = []
    with monkeypatch.context() as patched:
        patched.setattr(
            "engine.shared.cache.ledger.lock_within",
            lambda fd, patience, clock: bool(waits.append(patience)),
        )
        tiers.keep(key(1), b"n" * LARGE)

    # The older one is a miss, and nothing of the new one is left.
    assert [5.0] == waits
    assert {} == values(tmp_path)
    assert make(tmp_path, clock).find(key(1)) is None
    assert 1 == tiers.readings()[0].errors
