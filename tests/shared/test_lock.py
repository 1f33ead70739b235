from __future__ import annotations

import os
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from engine.errors import Occupied, SharedError
from engine.shared.lock import Claim, FileLock
from tests.shared.children import Child


def test_one_holder_among_processes(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "l")

    def hold(say):
        assert lock.acquire()
        say("held")
        signal.pause()

    with Child(hold) as other:
        assert "held" == other.hear()

        assert not lock.acquire(0.05)


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "l")

    def hold(say):
        assert lock.acquire()
        say("held")
        signal.pause()

    with Child(hold) as other:
        other.hear()
        other.kill()

        began = time.monotonic()
        assert lock.acquire(60.0)
        assert time.monotonic() - began < 10


def test_a_lock_used_before_the_fork_still_excludes_the_child(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "l")
    assert lock.acquire()

    def try_it(say):
        # The thread lock was copied in its held state: only the file counts.
        say(str(FileLock(tmp_path / "l").acquire(0.05)))

    with Child(try_it) as other:
        assert "False" == other.hear()
    lock.release()


def test_one_holder_among_threads(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "l", patience=5.0)
    inside = 0
    most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with lock:
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == most


def test_waiting_ends_with_the_patience(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "l"), FileLock(tmp_path / "l", patience=0.2)
    with first:
        began = time.monotonic()

        with pytest.raises(SharedError), second:
            pass

        assert 0.15 < time.monotonic() - began < 5


def test_the_file_is_private_and_no_link_is_followed(tmp_path: Path) -> None:
    with FileLock(tmp_path / "l"):
        assert 0o600 == stat.S_IMODE((tmp_path / "l").stat().st_mode)
    (tmp_path / "link").symlink_to(tmp_path / "l")

    with pytest.raises(SharedError):
        FileLock(tmp_path / "link").acquire()


def test_the_descriptor_is_not_inherited_by_programs(tmp_path: Path) -> None:
    with FileLock(tmp_path / "l") as lock:
        assert not os.get_inheritable(lock._fd)


def test_the_second_engine_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    def run(say):
        Claim(tmp_path, "orders").take()
        say("run")
        signal.pause()

    with Child(run) as first:
        first.hear()

        with pytest.raises(Occupied) as refusal:
            Claim(tmp_path, "orders").take()

        assert first.pid == refusal.value.pid
        assert str(first.pid) in str(refusal.value)


def test_two_connectors_live_together(tmp_path: Path) -> None:
    Claim(tmp_path, "orders").take()
    Claim(tmp_path, "users").take()

    with pytest.raises(Occupied):
        Claim(tmp_path, "users").take()


def test_a_killed_engine_leaves_no_claim(tmp_path: Path) -> None:
    def run(say):
        Claim(tmp_path, "orders").take()
        say("run")
        signal.pause()

    with Child(run) as first:
        first.hear()
        first.kill()

    claim = Claim(tmp_path, "orders")
    claim.take()
    claim.release()
    Claim(tmp_path, "orders").take()


def test_a_child_that_forgets_the_claim_neither_frees_nor_keeps_it(tmp_path) -> None:
    claim = Claim(tmp_path, "orders")
    claim.take()

    def forget(say):
        claim.forget()
        say("forgot")
        signal.pause()

    with Child(forget) as child:
        child.hear()
        with pytest.raises(Occupied) as refusal:
            Claim(tmp_path, "orders").take()
        assert os.getpid() == refusal.value.pid

        claim.release()
        Claim(tmp_path, "orders").take()
