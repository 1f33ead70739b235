"""Writes and reads under a clock: what is waited for, and for how long at most."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from engine.errors import Unreachable
from engine.source.wire.exchange import Silent, Wire, write


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        mine = socket.create_connection(server.getsockname(), 5.0)
        other, _ = server.accept()
    with mine, other:
        yield mine, other


def far() -> float:
    return time.monotonic() + 30.0


def test_what_is_going_to_come_is_read_in_one_call(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    mine, other = ends
    room = memoryview(bytearray(100_000))

    def drip() -> None:
        for _ in range(10):
            other.sendall(b"x" * 10_000)
            time.sleep(0.01)

    sending = threading.Thread(target=drip)
    sending.start()
    wire = Wire(mine, 5.0, far())
    assert 100_000 == wire.read(room, full=True)
    sending.join()
    assert not wire.more()


def test_a_part_comes_at_once_where_nothing_else_is_promised(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    mine, other = ends
    other.sendall(b"abc")
    assert 3 == Wire(mine, 5.0, far()).read(memoryview(bytearray(10)))


def test_the_end_of_the_connection_ends_what_was_promised(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    mine, other = ends
    other.sendall(b"abc")
    other.shutdown(socket.SHUT_WR)
    wire = Wire(mine, 5.0, far())
    room = memoryview(bytearray(10))
    assert 3 == wire.read(room, full=True)
    assert 0 == wire.read(room, full=True)


@pytest.mark.parametrize("full", [False, True])
def test_silence_is_noticed(
    ends: tuple[socket.socket, socket.socket], full: bool
) -> None:
    mine, _ = ends
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"silence for 0\.2 s"):
        Wire(mine, 0.2, far()).read(memoryview(bytearray(10)), full=full)
    assert 0.2 <= time.monotonic() - began < 5.0


@pytest.mark.parametrize("seconds", [0.15, 1.25])
def test_the_deadline_holds_while_bytes_drip(
    ends: tuple[socket.socket, socket.socket], seconds: float
) -> None:
    mine, other = ends
    over = threading.Event()

    def drip() -> None:
        while not over.wait(0.02):
            other.sendall(b"x")

    sending = threading.Thread(target=drip)
    sending.start()
    wire = Wire(mine, 5.0, time.monotonic() + seconds)
    began = time.monotonic()
    try:
        with pytest.raises(Unreachable, match="time is up"):
            while True:
                wire.read(memoryview(bytearray(1_000_000)), full=True)
    finally:
        over.set()
        sending.join()
    assert seconds - 0.01 <= time.monotonic() - began < seconds + 5.0


def test_an_end_before_the_first_byte_is_no_answer(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    mine, other = ends
    other.close()
    with pytest.raises(Silent):
        Wire(mine, 5.0, far()).read(memoryview(bytearray(10)))


def test_a_request_that_does_not_fit_the_socket_is_sent_whole(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    mine, other = ends
    message = b"m" * 20_000_000
    got: list[int] = []

    def take() -> None:
        room = bytearray(1 << 16)
        while sum(got) < len(message) and (count := other.recv_into(room)):
            got.append(count)

    taking = threading.Thread(target=take)
    taking.start()
    write(mine, message, far())
    taking.join(20.0)
    assert len(message) == sum(got)


def test_a_peer_that_takes_nothing_is_given_up(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    mine, _ = ends
    with pytest.raises(Unreachable, match="time is up while sending"):
        write(mine, b"m" * 20_000_000, time.monotonic() + 0.3)


def test_nothing_is_sent_past_the_deadline(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    mine, _ = ends
    with pytest.raises(Unreachable, match="before it was sent"):
        write(mine, b"m", time.monotonic() - 1.0)
