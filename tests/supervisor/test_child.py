"""A child's way to wait, seen from inside."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.seams import Stopping
from engine.shared import link
from engine.shared.board import Board, Layout
from engine.supervisor.child import ChildContext, ChildSpec


@pytest.fixture
def pair() -> Iterator[tuple[ChildContext, link.Link]]:
    """A context in this process, and the supervisor's end of its link."""
    ours, theirs = link.Link.pair()
    context = ChildContext(
        ChildSpec(key="c/0", fingerprint="", entry=lambda _: 0),
        board=Board(Layout(children=1, shards=1)),
        index=0,
        link=theirs,
        runtime=Path("/nowhere"),
        parent=os.getpid(),
    )
    yield context, ours
    ours.close()
    theirs.close()
    for fd in context.stopping.keeps():
        os.close(fd)


Pair = tuple[ChildContext, link.Link]


def test_it_is_the_engines_way_to_wait(pair: Pair) -> None:
    stopping: Stopping = pair[0].stopping

    assert not stopping.is_set()
    began = time.monotonic()
    assert not stopping.wait(0.05)
    assert 0.05 <= time.monotonic() - began < 1


def test_waiting_beats(pair: Pair) -> None:
    context, _ = pair
    assert context.slot.silence() is None

    context.stopping.wait(0)

    assert (context.slot.silence() or 9) < 1


def test_waiting_does_not_hide_a_loop_that_hangs(pair: Pair) -> None:
    context, _ = pair
    context.stopping.alive = lambda: False

    context.stopping.wait(0)

    assert context.slot.silence() is None


def test_a_stop_wakes_every_thread_at_once_and_for_good(pair: Pair) -> None:
    context, _ = pair
    woken = []
    threads = [
        threading.Thread(target=lambda: woken.append(context.stopping.wait(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    context.stopping.tell()
    for thread in threads:
        thread.join(5)

    assert [True] * 4 == woken
    assert context.stopping.wait(20)
    assert time.monotonic() - began < 5
    assert not context.stopping.hurried


def test_asked_twice_it_hurries(pair: Pair) -> None:
    stopping = pair[0].stopping
    stopping.tell()
    stopping.tell()

    assert stopping.hurried


def test_orders_come_over_the_link(pair: Pair) -> None:
    context, supervisor = pair
    supervisor.send(link.SetPaused(True))
    supervisor.send(link.SetLevel("engine.nobody", "ERROR"))

    context.stopping.wait(0)

    assert [link.SetPaused(True)] == context.orders()
    assert [] == context.orders()


@pytest.mark.parametrize("hurry", [False, True])
def test_a_stop_comes_over_the_link_too(pair: Pair, hurry: bool) -> None:
    context, supervisor = pair
    supervisor.send(link.Stop(hurry=hurry))

    assert context.stopping.wait(20)
    assert hurry == context.stopping.hurried


def test_a_supervisor_that_is_gone_is_a_stop(pair: Pair) -> None:
    context, supervisor = pair
    supervisor.close()

    assert context.stopping.wait(20)
    assert context.stopping.hurried


def test_other_threads_neither_beat_nor_take_orders(pair: Pair) -> None:
    context, supervisor = pair
    supervisor.send(link.Stop())
    thread = threading.Thread(target=context.stopping.wait, args=(0.05,))
    thread.start()
    thread.join(5)

    assert not context.stopping.is_set()
    assert context.slot.silence() is None
