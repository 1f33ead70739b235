"""Signals that are blocked and waited for."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from engine.supervisor import signals


def in_a_process(body: Callable[[], bool], meanwhile: Callable[[int], None]) -> bool:
    """Run `body` in a process of its own, with signals of its own."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signals.block()
            code = 0 if body() else 1
        finally:
            os._exit(code)
    meanwhile(pid)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def nothing(_: int) -> None:
    pass


def test_signals_that_came_before_are_all_taken_once() -> None:
    def body() -> bool:
        for number in (signal.SIGHUP, signal.SIGCHLD, signal.SIGCHLD, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        came = signals.wait(5)
        return (
            came == {signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1}
            and signals.wait(0) == frozenset()
        )

    assert in_a_process(body, nothing)


def test_a_wait_ends_after_its_time() -> None:
    def body() -> bool:
        began = time.monotonic()
        came = signals.wait(0.05)
        return not came and 0.04 < time.monotonic() - began < 2

    assert in_a_process(body, nothing)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_wait_is_cut_short_by_a_signal(number: signal.Signals) -> None:
    def body() -> bool:
        began = time.monotonic()
        return signals.wait(20) == {number} and time.monotonic() - began < 5

    def meanwhile(pid: int) -> None:
        time.sleep(0.1)
        os.kill(pid, number)

    assert in_a_process(body, meanwhile)


def test_the_end_of_a_child_wakes_even_where_it_was_ignored_before() -> None:
    def body() -> bool:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signals.block()
        if os.fork() == 0:
            os._exit(3)
        came = signals.wait(5)
        return came == {signal.SIGCHLD} and os.wait()[1] >> 8 == 3

    assert in_a_process(body, nothing)


@pytest.mark.parametrize("stopped", [0.05, 0.4])
def test_being_stopped_during_a_wait_is_no_signal(stopped: float) -> None:
    """A wait that is over before its process goes on brings nothing up."""

    def body() -> bool:
        return all(signals.wait(0.2) == frozenset() for _ in range(3))

    def meanwhile(pid: int) -> None:
        time.sleep(0.1)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(stopped)
        os.kill(pid, signal.SIGCONT)

    assert in_a_process(body, meanwhile)


def test_a_stop_that_waits_to_be_taken_is_seen() -> None:
    def body() -> bool:
        before = signals.stop_is_pending()
        os.kill(os.getpid(), signal.SIGTERM)
        return not before and signals.stop_is_pending()

    assert in_a_process(body, nothing)
