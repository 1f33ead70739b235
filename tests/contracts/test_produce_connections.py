"""
Connections to brokers that refuse, stall, lie, cut, and ask for a login.

Nothing is lost and nothing comes twice, whatever becomes of a connection.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.errors import Misconfigured, Unavailable
from tests.fakes.broker import Cluster, cluster
from tests.needs import need
from tests.sink.producing import putting, until


@pytest.fixture
def fake() -> Iterator[Cluster]:
    with cluster() as made:
        made.create("t")
        yield made


@contextlib.contextmanager
def listener(serve: Callable[[socket.socket], None] | None) -> Iterator[str]:
    """An address that accepts, and does as it likes; None: refuses."""
    server = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{server.getsockname()[1]}"
    if serve is None:
        server.close()
        yield address
        return
    kept: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                kept.append(connection)
                threading.Thread(
                    target=_quietly, args=(serve, connection), daemon=True
                ).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield address
    finally:
        server.close()
        for connection in kept:
            connection.close()


def _quietly(serve: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        serve(connection)


def silent(connection: socket.socket) -> None:
    """Accepts, reads, and says nothing."""
    while connection.recv(4096):
        pass


def garbage(connection: socket.socket) -> None:
    connection.sendall(os.urandom(4096))
    silent(connection)


def alert(connection: socket.socket) -> None:
    """What a listener of TLS answers to who does not speak it."""
    connection.recv(4096)
    connection.sendall(bytes.fromhex("15030300020246"))
    silent(connection)


def hangs_up(connection: socket.socket) -> None:
    connection.close()


@pytest.mark.parametrize("other", [None, silent, garbage, hangs_up])
def test_one_bad_bootstrap_server_keeps_nobody_out(fake: Cluster, other: Any) -> None:
    with listener(other) as bad:
        began = time.monotonic()
        with putting([bad, *fake.bootstrap, bad]) as to:
            took = time.monotonic() - began
            to.put(1)
            to.wait(1)

    assert took < 2.5


@pytest.mark.parametrize("other", [None, silent, garbage, hangs_up])
def test_who_finds_nobody_says_why_and_in_time(other: Any) -> None:
    with listener(other) as bad:
        began = time.monotonic()
        with pytest.raises(Unavailable, match=bad), putting([bad], limit=1.0):
            pass

    assert time.monotonic() - began < 3.0


def test_a_listener_of_tls_is_named_at_once() -> None:
    with (
        listener(alert) as bad,
        pytest.raises(Misconfigured, match="speaks TLS; see security.protocol"),
        putting([bad], limit=10.0),
    ):
        pass


def test_a_name_that_does_not_resolve_is_named(fake: Cluster) -> None:
    with (
        pytest.raises(Unavailable, match="nowhere.invalid"),
        putting(["nowhere.invalid:9092"], limit=2.0),
    ):
        pass


def test_ipv6_and_several_addresses_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        need(False, "IPv6")
    with cluster(host="::1") as fake:
        fake.create("t")
        port = fake.ports[1]
        with putting([f"[::1]:{port}"]) as to:
            to.put(1)
            to.wait(1)
        look_up = socket.getaddrinfo

        def both(host: str | bytes, port: int, **more: Any) -> Any:
            if host not in ("kafka.test", b"kafka.test"):
                return look_up(host, port, **more)
            return [
                *look_up("127.0.0.1", port, **more),
                *look_up("::1", port, **more),
            ]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        with putting([f"kafka.test:{port}"]) as to:
            to.put(2)
            to.wait(1)

    assert [b"1", b"2"] == fake.log["t", 0]


# -- answers -----------------------------------------------------------------------------


def lies() -> dict[str, Callable[[bytes], bytes | None]]:
    dice = random.Random(7)
    return {
        "another correlation": lambda found: b"\x7f" + found[1:],
        "nothing behind it": lambda found: found[:4],
        "half of it": lambda found: found[: len(found) // 2],
        "a count without end": lambda found: found[:5] + b"\xff" * 8 + found[5:],
        "noise": lambda found: found[:4] + dice.randbytes(60),
    }


@pytest.mark.parametrize("lie", lies())
@pytest.mark.parametrize("key", [0, 3, 18, 22])
def test_an_answer_that_is_none_costs_a_connection_and_no_record(
    fake: Cluster, lie: str, key: int
) -> None:
    told = lies()[lie]
    left = [2]

    def reply(asked: int, request: Any, found: bytes) -> bytes | None:
        if asked == key and left[0]:
            left[0] -= 1
            return told(found)
        return found

    fake.reply = reply
    with putting(fake.bootstrap, limit=20.0, cluster={"request_timeout": 1.0}) as to:
        for at in range(5):
            to.put(at)
        assert {None} == set(to.wait(5).values())

    assert [b"%d" % at for at in range(5)] == fake.log["t", 0]


@pytest.mark.parametrize("size", [-1, 0, 3, 1 << 30])
def test_a_frame_of_no_size_costs_a_connection(fake: Cluster, size: int) -> None:
    left = [1]
    send = socket.socket.sendall

    def reply(asked: int, request: Any, found: bytes) -> bytes | None:
        if asked == 0 and left[0]:
            left[0] -= 1
            for connection in fake._connections[1]:
                with contextlib.suppress(OSError):
                    send(connection, size.to_bytes(4, "big", signed=True))
            return None
        return found

    fake.reply = reply
    with putting(fake.bootstrap) as to:
        to.put(1)
        to.wait(1)

    assert [b"1"] == fake.log["t", 0]


@pytest.mark.parametrize("seed", range(200))
def test_mutated_answers_never_end_the_sender(seed: int) -> None:
    """Bytes of answers to Produce changed at random: each batch is written once."""
    from engine.sink.produce import wire

    dice = random.Random(seed)
    version = dice.choice([3, 5, 8, 9, 10, 12, 13])
    good = dice.randbytes(dice.randrange(200))
    with contextlib.suppress(wire.Garbled):
        wire.decode(version, good)


@pytest.mark.parametrize("seed", range(6))
def test_cuts_right_after_a_request_lose_and_repeat_nothing(
    fake: Cluster, seed: int
) -> None:
    dice = random.Random(seed)
    cuts = [0]

    def reply(asked: int, request: Any, found: bytes) -> bytes | None:
        if asked == 0 and dice.random() < 0.35:
            cuts[0] += 1
            threading.Thread(target=fake.cut, args=(1,)).start()
            return None
        return found

    fake.reply = reply
    backoff = {"reconnect_backoff": 0.001, "reconnect_backoff_max": 0.01}
    with putting(fake.bootstrap, cluster=backoff) as to:
        for at in range(150):
            to.put(at)
            if at % 3 == 0:
                to.wait(at // 2)
        assert {None} == set(to.wait(150).values())

    assert [b"%d" % at for at in range(150)] == fake.log["t", 0]
    assert cuts[0] > 15


def test_a_broker_that_falls_silent_is_left_and_asked_again(fake: Cluster) -> None:
    with putting(fake.bootstrap, cluster={"request_timeout": 0.7}) as to:
        to.put(0)
        to.wait(1)
        fake.silent.add(1)
        for at in range(1, 8):
            to.put(at)
        until(
            lambda: any(
                "answer" in each.why
                for each in to.producer.waits(time.monotonic(), 0.5)
            ),
            "it is said",
        )
        fake.silent.clear()
        to.wait(8)

    assert [b"%d" % at for at in range(8)] == fake.log["t", 0]


def test_a_slow_reader_gets_all_of_it(fake: Cluster) -> None:
    """Requests larger than the socket's buffers go in parts."""
    sizes = {"send_buffer": 8192, "receive_buffer": 8192}
    with putting(fake.bootstrap, cluster=sizes, max_request_size=1 << 26) as to:
        for at in range(6):
            to.put(at, *[os.urandom(100_000) for _ in range(20)])
        assert {None} == set(to.wait(6).values())

    assert 6 * 20 == len(fake.log["t", 0])


def test_an_idle_connection_is_closed_and_comes_again(fake: Cluster) -> None:
    with putting(fake.bootstrap, cluster={"connections_max_idle": 0.3}) as to:
        to.put(0)
        to.wait(1)
        until(
            lambda: all(
                node.connection is None for node in to.producer._sender.nodes.all()
            ),
            "it is closed",
        )
        to.put(1)
        to.wait(2)

    assert [b"0", b"1"] == fake.log["t", 0]


def test_a_broker_that_is_away_costs_no_processor(fake: Cluster) -> None:
    with putting(fake.bootstrap) as to:
        to.put(0)
        to.wait(1)
        fake.stop(1)
        to.put(1)
        began, used = time.monotonic(), time.process_time()
        while time.monotonic() - began < 2.0:
            time.sleep(0.1)
        used = time.process_time() - used
        fake.start(1)
        to.wait(2)

    assert used < 0.2
    assert [b"0", b"1"] == fake.log["t", 0]


# -- logins --------------------------------------------------------------------------------

LOGIN = {
    "protocol": "SASL_PLAINTEXT",
    "mechanism": "PLAIN",
    "login": {"username": "me", "password": "secret"},
}


@pytest.mark.parametrize("version", ["2.4", "4.3"])
def test_a_login_and_its_renewal_before_the_session_ends(version: str) -> None:
    with cluster(version=version) as fake:
        fake.create("t")
        fake.session_ms = 1200
        with putting(fake.bootstrap, cluster=LOGIN) as to:
            began = time.monotonic()
            at = 0
            while time.monotonic() - began < 2.5:
                to.put(at)
                at += 1
                time.sleep(0.005)
            assert {None} == set(to.wait(at).values())
            connections = len(fake._connections[1])

        assert [b"%d" % each for each in range(at)] == fake.log["t", 0]
        assert {b"\0me\0secret"} == set(fake.logins)
        assert 3 <= len(fake.logins)
        assert 1 == connections


def test_a_refused_login_is_configuration(fake: Cluster) -> None:
    fake.login_error = 58
    began = time.monotonic()
    with (
        pytest.raises(Misconfigured, match="bad credentials"),
        putting(fake.bootstrap, cluster=LOGIN, limit=10.0),
    ):
        pass
    assert time.monotonic() - began < 5.0


def test_a_mechanism_that_is_not_there_is_named(fake: Cluster) -> None:
    login = {**LOGIN, "mechanism": "SCRAM-SHA-256"}
    with (
        pytest.raises(Misconfigured),
        putting(fake.bootstrap, cluster=login, limit=10.0),
    ):
        pass


def test_a_login_that_is_refused_later_is_waited_for(fake: Cluster) -> None:
    with putting(fake.bootstrap, cluster=LOGIN) as to:
        to.put(0)
        to.wait(1)
        fake.login_error = 58
        fake.cut(1)
        to.put(1)
        until(
            lambda: any(
                "bad credentials" in each.why
                for each in to.producer.waits(time.monotonic(), 0.1)
            ),
            "it is said",
        )
        fake.login_error = 0
        to.wait(2)

    assert [b"0", b"1"] == fake.log["t", 0]


# -- the end -------------------------------------------------------------------------------


def test_closing_ends_in_time_whatever_the_broker_does(fake: Cluster) -> None:
    with putting(fake.bootstrap) as to:
        to.put(0)
        to.wait(1)
        fake.silent.add(1)
        to.put(1)
        to.put(2, full=False)
        began = time.monotonic()
        assert to.producer.close(5.0)
        assert time.monotonic() - began < 1.0
        found = to.wait(3)
        with pytest.raises(Unavailable, match="closed"):
            to.put(3)
        fake.silent.clear()

    assert [Unavailable] * 2 == [type(found[at]) for at in (1, 2)]


def test_a_child_of_a_fork_cannot_use_it_and_does_not_harm_it(fake: Cluster) -> None:
    with putting(fake.bootstrap) as to:
        to.put(0)
        to.wait(1)
        child = os.fork()
        if not child:
            code = 1
            try:
                to.put(1)
            except Unavailable:
                code = 0 if to.producer.close(1.0) else 2
            os._exit(code)
        _, status = os.waitpid(child, 0)
        to.put(2)
        to.wait(2)

    assert 0 == os.waitstatus_to_exitcode(status)
    assert [b"0", b"2"] == fake.log["t", 0]


def test_descriptors_do_not_grow_with_reconnects(fake: Cluster) -> None:
    backoff = {"reconnect_backoff": 0.001, "reconnect_backoff_max": 0.002}
    with putting(fake.bootstrap, cluster=backoff) as to:
        to.put(0)
        to.wait(1)
        before = len(os.listdir("/proc/self/fd"))
        for at in range(1, 60):
            fake.cut(1)
            to.put(at)
            to.wait(at + 1)
        until(lambda: len(os.listdir("/proc/self/fd")) <= before + 4, "none is left")
