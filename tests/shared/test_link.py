from __future__ import annotations

import os
import signal

import pytest

from engine.errors import SharedError
from engine.records import Shard
from engine.shared.link import (
    LARGEST,
    Ask,
    AskOutcome,
    BrokerWaiting,
    Link,
    Ready,
    SetLevel,
    SetPaused,
    ShardFailed,
    ShardFinished,
    Stop,
)
from tests.shared.children import Child

SHARD = Shard("orders", "api1", "users", 2, 8)

EVERY = [
    Stop(hurry=True),
    SetLevel("engine.source", "DEBUG"),
    Ready(),
    ShardFinished(SHARD, 7),
    ShardFailed(SHARD, 7, "Denied: 403", 65),
    BrokerWaiting(12.5, "no broker"),
    BrokerWaiting(None),
    SetPaused(True),
    Ask(7, "restart-task", "orders", task=1, who="127.0.0.1"),
    AskOutcome(7, "unknown", "Unknown connector orders", restarted=(1, 2)),
]


def test_every_message_arrives_as_it_was_sent_and_in_order() -> None:
    one, other = Link.pair()
    for message in EVERY:
        assert one.send(message)

    assert EVERY == other.receive()
    assert [] == other.receive()


def test_death_of_a_child_is_an_end_of_file_after_its_last_report() -> None:
    mine, theirs = Link.pair()

    def report(say):
        mine.close()
        theirs.send(ShardFinished(SHARD, 7))
        os.kill(os.getpid(), signal.SIGKILL)

    with Child(report) as child:
        theirs.close()
        child.wait()

        assert [ShardFinished(SHARD, 7)] == mine.receive()
    assert mine.closed
    assert not mine.send(Stop())


def test_a_full_buffer_is_told_and_nothing_is_torn() -> None:
    one, other = Link.pair()
    sent = 0
    while one.send(ShardFailed(SHARD, sent, "x" * 2000, 65)):
        sent += 1
        assert sent < 100_000

    received = other.receive()

    assert list(range(sent)) == [message.slot for message in received]
    assert one.send(Stop())


def test_sending_to_a_dead_end_neither_raises_nor_signals() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        one, other = Link.pair()
        other.close()

        assert not one.send(Stop())
        assert [] == one.receive()
        assert one.closed
    finally:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def test_a_long_reason_is_cut_and_still_told() -> None:
    one, other = Link.pair()
    one.send(ShardFailed(SHARD, 1, "x" * 100_000, 65))

    (report,) = other.receive()

    assert 2000 == len(report.reason)
    assert report.reason.endswith("...")


def test_a_message_too_large_is_refused_by_name() -> None:
    one, _ = Link.pair()

    with pytest.raises(SharedError, match="SetLevel of .* bytes"):
        one.send(SetLevel("x" * LARGEST, "INFO"))


def test_bytes_that_are_no_message_are_an_error() -> None:
    one, other = Link.pair()
    one._end.send(b'{"type":"nonsense"}')

    with pytest.raises(SharedError):
        other.receive()
