"""What is read of a cell's file, and when: only what another has changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.clock import SYSTEM
from engine.shared import cell as cells
from engine.shared.cell import RENEWAL, Cell, Change, Numbers
from engine.shared.limiter import RateLimiter, RateLimits
from tests.fakes.hands import Hands


def put(
    _: Numbers, _now: float, _fd: int, given: tuple[float, ...]
) -> Change[tuple[float, ...]]:
    return given, None, given


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    pread = os.pread

    def noted(fd: int, length: int, at: int) -> bytes:
        seen.append(length)
        return pread(fd, length, at)

    monkeypatch.setattr(cells, "pread", noted)
    return seen


def made(folder: Path, clock: Hands) -> Cell:
    return Cell("c", [folder], kind=b"tst1", count=2, clock=clock)


def in_a_child(work: Callable[[], None]) -> None:
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def test_a_look_reads_the_file_only_where_something_has_changed(
    tmp_path: Path, reads: list[int]
) -> None:
    one, other = made(tmp_path, Hands()), made(tmp_path, Hands())
    one.update(put, (1.0, 2.0))
    assert (1.0, 2.0) == tuple(other.peek() or ())
    before = len(reads)
    for _ in range(5):
        assert (1.0, 2.0) == tuple(other.peek() or ())
    assert before == len(reads)
    one.update(put, (3.0, 4.0))
    assert (3.0, 4.0) == tuple(other.peek() or ())


def test_the_change_of_a_process_is_seen_by_another_at_once(tmp_path: Path) -> None:
    mine = made(tmp_path, Hands())
    mine.update(put, (1.0, 1.0))
    mine.peek()
    in_a_child(lambda: void(made(tmp_path, Hands()).update(put, (2.0, 2.0))))
    assert (2.0, 2.0) == tuple(mine.peek() or ())


def test_who_does_not_share_the_memory_is_seen_at_the_next_renewal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Hands()
    mine = made(tmp_path, clock)
    mine.update(put, (1.0, 1.0))
    mine.peek()

    def stranger() -> None:
        monkeypatch.setattr(cells, "_CHANGES", memoryview(bytearray(8 * 512)).cast("Q"))
        made(tmp_path, Hands()).update(put, (2.0, 2.0))

    in_a_child(stranger)
    assert (1.0, 1.0) == tuple(mine.peek() or ())
    clock.turn(RENEWAL)
    assert (2.0, 2.0) == tuple(mine.peek() or ())


def test_a_page_without_limits_makes_no_call_to_the_system(
    tmp_path: Path, reads: list[int]
) -> None:
    limiter = RateLimiter([tmp_path], "c", RateLimits())
    until = SYSTEM.monotonic() + 2 * RENEWAL
    for _ in range(2):
        limiter.reserve("h", "a")
        limiter.observe("h", "a", 200, [])
    before, pages = len(reads), 0
    while SYSTEM.monotonic() < until:
        assert 0.0 == limiter.reserve("h", "a")
        limiter.observe("h", "a", 200, [])
        pages += 1
    # The renewals, and nothing else.
    assert len(reads) - before <= 4 < pages


def void(_: object) -> None:
    """Nothing comes of it."""
