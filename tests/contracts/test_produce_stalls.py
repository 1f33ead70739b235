"""
Brokers that stop in the middle: at each step of a connection, of a request, of an answer.

Whatever stalls, crawls, is torn or wants to be left alone: each batch is written once and in
order, a close ends in time, and nobody burns a processor meanwhile.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from kafka.protocol.metadata import (
    ApiVersionsRequest,
    FindCoordinatorRequest,
    MetadataRequest,
)
from kafka.protocol.producer import (
    EndTxnRequest,
    InitProducerIdRequest,
    ProduceRequest,
)
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from engine.errors import Misconfigured, SinkError, Unavailable
from engine.sink.kafka import Cluster as Reached
from engine.sink.produce.producer import Producer
from engine.sink.produce.transaction import Transactional
from engine.sink.sasl import Login
from tests.fakes.broker import Cluster, Late, Lost, Refuse, Torn, cluster
from tests.sink.doors import black_hole, mute
from tests.sink.producing import Putting, putting, until

LOGIN = {
    "protocol": "SASL_PLAINTEXT",
    "mechanism": "PLAIN",
    "login": {"username": "me", "password": "secret"},
}

STEPS = [
    ApiVersionsRequest,
    SaslHandshakeRequest,
    SaslAuthenticateRequest,
    MetadataRequest,
    InitProducerIdRequest,
    ProduceRequest,
]

#: Seconds of processor that nothing may take while it waits, of two.
QUIET = 0.4


@pytest.fixture
def fake() -> Iterator[Cluster]:
    with cluster() as made:
        made.create("t")
        yield made


def values(count: int) -> list[bytes]:
    return [b"%d" % at for at in range(count)]


def heard(fake: Cluster, kind: Any) -> int:
    with fake.lock:
        return sum(name == kind.__name__ for name, _ in fake.heard)


@contextmanager
def quiet(least: float = QUIET) -> Iterator[None]:
    """Nothing here burns a processor."""
    used = time.process_time()
    yield
    assert time.process_time() - used < least


@pytest.mark.parametrize("kind", STEPS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "deed",
    [Lost(cut=False), Lost(cut=False, done=False), Lost(), Torn(0.9), Torn(0.1)],
    ids=repr,
)
def test_a_step_that_is_never_answered_is_done_again(
    fake: Cluster, kind: Any, deed: Any
) -> None:
    fake.script(kind, deed, 2)
    short = {**LOGIN, "request_timeout": 0.4}
    with quiet(2.0), putting(fake.bootstrap, cluster=short, limit=20.0) as to:
        for at in range(8):
            to.put(at)
        assert {None} == set(to.wait(8).values())
    assert values(8) == fake.log["t", 0]


@pytest.mark.parametrize("kind", STEPS, ids=lambda kind: kind.__name__)
def test_a_close_ends_in_time_whatever_is_awaited(fake: Cluster, kind: Any) -> None:
    to = None
    line = fake.script(kind, Lost(cut=False), 99)
    made = Producer(
        Reached(bootstrap=fake.bootstrap, **LOGIN), linger=0.0, waiting=False
    )
    to = Putting(made)
    with suppress(SinkError):
        to.put(0)
    assert line.met.wait(10)
    began = time.monotonic()
    with quiet():
        assert made.close(5.0)
    assert time.monotonic() - began < 1.0
    assert isinstance(to.wait(1)[0], Unavailable)
    assert [] == fake.log["t", 0] or kind is ProduceRequest


# -- the way in ----------------------------------------------------------------------------


def resolving(
    monkeypatch: pytest.MonkeyPatch, name: str, places: list[tuple[str, int]]
) -> None:
    """Have a name resolve to these addresses."""
    look_up = socket.getaddrinfo

    def found(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if host not in (name, name.encode()):
            return look_up(host, port, *more, **named)
        return [
            entry
            for place in places
            for entry in look_up(*place, type=socket.SOCK_STREAM)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", found)


@pytest.mark.parametrize("timeout", [0.9, 5.0])
@pytest.mark.parametrize("dead", [1, 3])
def test_dead_addresses_of_a_name_leave_time_for_the_one_that_lives(
    fake: Cluster, monkeypatch: pytest.MonkeyPatch, timeout: float, dead: int
) -> None:
    with black_hole() as hole:
        host, _, port = hole.rpartition(":")
        places = [(host, int(port))] * dead + [("127.0.0.1", fake.ports[1])]
        # Each once: what is given twice is tried once.
        places = [(f"127.0.0.{at + 1}", port) for at, (_, port) in enumerate(places)]
        places[-1] = ("127.0.0.1", fake.ports[1])
        resolving(monkeypatch, "kafka.test", places)
        settings = {"request_timeout": timeout}
        with (
            quiet(),
            putting([f"kafka.test:{fake.ports[1]}"], cluster=settings, limit=8.0) as to,
        ):
            to.put(0)
            to.wait(1)


def test_a_mute_listener_of_tls_at_a_name_of_two_addresses_burns_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with mute() as first:
        host, _, port = first.rpartition(":")
        places = [(host, int(port)), ("127.0.0.2", int(port))]
        resolving(monkeypatch, "kafka.test", places)
        with (
            quiet(),
            pytest.raises(Unavailable, match="kafka.test") as failure,
            putting(
                [f"kafka.test:{port}"],
                cluster={"protocol": "SSL", "request_timeout": 3.0},
                limit=3.5,
            ),
        ):
            pass
    assert "TLS handshake" in str(failure.value)


# -- logins --------------------------------------------------------------------------------


def logged_in(fake: Cluster, **more: Any) -> Any:
    return putting(fake.bootstrap, cluster={**LOGIN, **more})


def test_a_login_that_is_due_waits_for_what_is_on_its_way_and_burns_nothing(
    fake: Cluster,
) -> None:
    fake.session_ms = 1200
    with logged_in(fake) as to:
        to.put(0)
        to.wait(1)
        fake.script(ProduceRequest, Late(2.5, done=True))
        for at in range(1, 8):
            to.put(at)
        with quiet():
            assert {None} == set(to.wait(8).values())
        assert 1 == len(fake._connections[1])
    assert values(8) == fake.log["t", 0]


@pytest.mark.parametrize(
    ("kind", "deed"),
    [
        (SaslHandshakeRequest, Refuse(33)),
        (SaslHandshakeRequest, Lost()),
        (SaslHandshakeRequest, Lost(cut=False)),
        (SaslHandshakeRequest, Torn()),
        (SaslAuthenticateRequest, Refuse(58)),
        (SaslAuthenticateRequest, Lost()),
        (SaslAuthenticateRequest, Lost(cut=False)),
        (SaslAuthenticateRequest, Torn()),
    ],
    ids=repr,
)
def test_a_renewed_login_that_fails_in_the_midst_of_batches_costs_a_connection(
    fake: Cluster, kind: Any, deed: Any
) -> None:
    fake.session_ms = 1100
    with logged_in(fake, request_timeout=0.5) as to:
        to.put(0)
        to.wait(1)
        line = fake.script(kind, deed)
        at = 1
        while not line.met.is_set():
            to.put(at)
            at += 1
            time.sleep(0.002)
        for _ in range(20):
            to.put(at)
            at += 1
        assert {None} == set(to.wait(at).values())
    assert values(at) == fake.log["t", 0]


@pytest.mark.parametrize("how", ["no token", "late token"])
def test_a_token_that_does_not_come_for_a_renewed_login_costs_a_connection(
    fake: Cluster, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    fake.session_ms = 1100
    asked = [0]

    def token() -> str:
        asked[0] += 1
        if asked[0] in (3, 4):
            if how == "no token":
                raise Unavailable("the token endpoint answers 503")
            time.sleep(0.8)
        return "token"

    login = Login("OAUTHBEARER", token=token)
    monkeypatch.setattr("engine.sink.cluster.login_of", lambda cluster: login)
    with putting(fake.bootstrap, cluster={"request_timeout": 0.5}) as to, quiet(1.5):
        at = 0
        while asked[0] < 6:
            to.put(at)
            at += 1
            time.sleep(0.004)
        assert {None} == set(to.wait(at).values())
    assert values(at) == fake.log["t", 0]


# -- slow readers and torn answers ---------------------------------------------------------


class Pipe:
    """Stands before a broker and passes bytes on at a pace of its own."""

    def __init__(self, port: int) -> None:
        self.up = self.down = 1 << 20
        self.pause = 0.0
        self.held = False
        self.connections = 0
        self._port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.port = self._server.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                self.connections += 1
                far = socket.create_connection(("127.0.0.1", self._port))
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [near, far]
                for ends in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, near: socket.socket, far: socket.socket, up: bool) -> None:
        with suppress(OSError, ValueError):
            while True:
                while self.held:
                    time.sleep(0.005)
                data = near.recv(self.up if up else self.down)
                if not data:
                    break
                far.sendall(data)
                if self.pause:
                    time.sleep(self.pause)
        for each in (near, far):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def cut(self, *, hard: bool = False) -> None:
        taken, self._sockets = self._sockets, []
        for each in taken:
            with suppress(OSError):
                if hard:
                    linger = struct.pack("ii", 1, 0)
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()
        self.held = False
        self.cut()


@contextmanager
def piped(fake: Cluster) -> Iterator[Pipe]:
    """The only broker is advertised behind a pipe."""
    pipe = Pipe(fake.ports[1])

    def alter(node: int, request: Any, answer: Any) -> None:
        if isinstance(request, MetadataRequest):
            for each in answer.brokers:
                each.port = pipe.port

    fake.alter = alter
    try:
        yield pipe
    finally:
        pipe.close()


def test_a_slow_reader_is_not_given_up_while_it_reads(fake: Cluster) -> None:
    """Three times the time-out for one request, on one connection."""
    with piped(fake) as pipe:
        settings = {"request_timeout": 0.7, "send_buffer": 4096}
        with putting([f"127.0.0.1:{pipe.port}"], cluster=settings) as to:
            to.put(0)
            to.wait(1)
            connections = pipe.connections
            pipe.up, pipe.pause = 4000, 0.02
            to.put(1, *[os.urandom(1000) for _ in range(400)])
            for at in range(2, 6):
                to.put(at)
            assert {None} == set(to.wait(6).values())
            assert connections == pipe.connections
    assert 1 == sum(batch.values == [b"5"] for batch in fake.arrived)


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_reader_that_stops_in_the_middle_is_given_up(
    fake: Cluster, idempotent: bool
) -> None:
    with piped(fake) as pipe:
        settings = {"request_timeout": 0.5, "send_buffer": 4096}
        with putting(
            [f"127.0.0.1:{pipe.port}"], cluster=settings, idempotent=idempotent
        ) as to:
            to.put(0)
            to.wait(1)
            pipe.held = True
            to.put(1, *[b"x" * 1000 for _ in range(400)])
            until(
                lambda: any("bytes are left" in each.why for each in waits(to)), "said"
            )
            pipe.held = False
            assert {None} == set(to.wait(2).values())
    assert 401 == len(fake.log["t", 0])


def waits(to: Putting) -> Any:
    return to.producer.waits(time.monotonic(), 0.1)


@pytest.mark.parametrize("hard", [False, True])
def test_what_nobody_acknowledges_is_sent_again_where_it_was_not_sent(
    fake: Cluster, hard: bool
) -> None:
    """A connection that ends under megabytes that the socket had not taken."""
    with piped(fake) as pipe:
        settings = {"request_timeout": 5.0, "send_buffer": 4096}
        with putting(
            [f"127.0.0.1:{pipe.port}"], cluster=settings, acks="0", idempotent=False
        ) as to:
            to.put(0)
            to.wait(1)
            until(lambda: fake.log["t", 0], "it arrives")
            pipe.held = True
            for at in range(1, 31):
                to.put(at, b"%d" % at, b"x" * 300_000)
            time.sleep(0.3)
            told = len(to.answers.found)
            assert told < 28
            pipe.cut(hard=hard)
            pipe.held = False
            assert {None} == set(to.wait(31).values())
            until(lambda: b"30" in fake.log["t", 0], "the last one arrives")
        found = [int(each) for each in fake.log["t", 0] if each[:1] != b"x"]
        # What was said to be sent may be lost, and nothing else.
        assert set(range(told, 31)) <= set(found)
        assert len(set(found)) == len(found)


def test_who_takes_nothing_without_acknowledgements_is_given_up(fake: Cluster) -> None:
    with piped(fake) as pipe:
        settings = {"request_timeout": 0.5, "send_buffer": 4096}
        with putting(
            [f"127.0.0.1:{pipe.port}"], cluster=settings, acks="0", idempotent=False
        ) as to:
            to.put(0)
            to.wait(1)
            connections = pipe.connections
            pipe.held = True
            for at in range(1, 31):
                to.put(at, b"x" * 300_000)
            until(lambda: pipe.connections > connections, "another connection")
            pipe.held = False
            to.wait(31)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_answers_and_requests_in_small_pieces(fake: Cluster, size: int) -> None:
    with piped(fake) as pipe, quiet(5.0):
        pipe.up = pipe.down = size
        with putting([f"127.0.0.1:{pipe.port}"], limit=20.0) as to:
            for at in range(20):
                to.put(at)
            assert {None} == set(to.wait(20).values())
    assert values(20) == fake.log["t", 0]


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.95])
def test_half_an_answer_and_then_an_end_or_silence(
    fake: Cluster, share: float, silent: bool, hard: bool
) -> None:
    left = [3]

    def reply(asked: int, request: Any, found: bytes) -> bytes | None:
        if asked or not left[0]:
            return found
        left[0] -= 1
        part = struct.pack(">i", len(found)) + found
        for connection in fake._connections[1][-1:]:
            with suppress(OSError):
                connection.sendall(part[: int(len(part) * share)])
                if hard:
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                if not silent:
                    connection.shutdown(socket.SHUT_RDWR)
        return None

    fake.reply = reply
    with putting(fake.bootstrap, cluster={"request_timeout": 0.5}) as to:
        for at in range(12):
            to.put(at)
        assert {None} == set(to.wait(12).values())
    assert values(12) == fake.log["t", 0]


# -- answers that say something else ---------------------------------------------------------


def in_produce(change: Callable[[Any], None], times: int) -> Any:
    left = [times]

    def alter(node: int, request: Any, answer: Any) -> None:
        if isinstance(request, ProduceRequest) and left[0]:
            left[0] -= 1
            change(answer)

    return alter


def nothing(answer: Any) -> None:
    answer.responses = []


def no_partitions(answer: Any) -> None:
    for topic in answer.responses:
        topic.partition_responses = []


def others(answer: Any) -> None:
    for topic in answer.responses:
        for part in topic.partition_responses:
            part.index += 7


def twice(answer: Any) -> None:
    answer.responses = [*answer.responses, *answer.responses]


def backwards(answer: Any) -> None:
    answer.responses = list(reversed(answer.responses))
    for topic in answer.responses:
        topic.partition_responses = list(reversed(topic.partition_responses))


@pytest.mark.parametrize("version", ["2.4", "3.7", "4.3"])
@pytest.mark.parametrize("change", [nothing, no_partitions, others, twice, backwards])
def test_answers_about_others_or_nobody(version: str, change: Any) -> None:
    with cluster(version=version) as fake:
        fake.create("t", 3)
        fake.create("u", 2)
        with putting(fake.bootstrap) as to:
            for at in range(5):
                to.put(at, topic="tu"[at > 2], partition=at % 3)
            to.wait(5)
            fake.alter = in_produce(change, 4)
            for at in range(5, 35):
                topic, partition = ("u", at % 2) if at % 3 == 0 else ("t", at % 3)
                to.put(at, topic=topic, partition=partition)
            assert {None} == set(to.wait(35).values())
        found = sorted(int(each) for log in fake.log.values() for each in log)
        for log in fake.log.values():
            assert sorted(log, key=int) == log
    assert list(range(35)) == found


# -- quotas ----------------------------------------------------------------------------------


def throttling(kind: Any, ms: int) -> Any:
    left = [1]

    def alter(node: int, request: Any, answer: Any) -> None:
        if isinstance(request, kind) and left[0]:
            left[0] -= 1
            answer.throttle_time_ms = ms

    return alter


@pytest.mark.parametrize(
    "kind", [MetadataRequest, InitProducerIdRequest, ProduceRequest]
)
def test_whatever_a_broker_throttles_it_is_left_alone_meanwhile(
    fake: Cluster, kind: Any
) -> None:
    fake.alter = throttling(kind, 800)
    began = time.monotonic()
    with putting(fake.bootstrap) as to, quiet():
        to.put(0)
        if kind is ProduceRequest:
            to.wait(1)
            seen = len(fake.seen)
            to.put(1)
            to.producer.refresh()
            time.sleep(0.6)
            # Nor is it asked for metadata, or by another connection.
            assert seen == len(fake.seen)
        to.wait(1 + (kind is ProduceRequest))
        assert time.monotonic() - began > 0.75
        assert len(fake._connections[1]) <= 2


def test_what_is_on_its_way_to_a_broker_that_throttles_has_longer(
    fake: Cluster,
) -> None:
    """It reads nothing meanwhile (KIP-219), longer than a request may take."""
    with putting(fake.bootstrap, cluster={"request_timeout": 0.6}) as to:
        to.put(0)
        to.wait(1)
        connections = len(fake._connections[1])
        fake.alter = throttling(ProduceRequest, 1500)
        fake.script(ProduceRequest, Late(0.2))
        fake.script(ProduceRequest, Late(1.2))
        to.put(1)
        time.sleep(0.1)
        to.put(2)
        to.put(3)
        assert {None} == set(to.wait(4).values())
        assert connections == len(fake._connections[1])
    assert values(4) == fake.log["t", 0]


@pytest.mark.parametrize("version", ["3.7", "4.3"])
@pytest.mark.parametrize(
    "kind", [FindCoordinatorRequest, InitProducerIdRequest, EndTxnRequest]
)
def test_a_coordinator_that_throttles_is_left_alone_and_no_doubt(
    version: str, kind: Any
) -> None:
    with cluster(version=version) as fake:
        fake.create("t")
        fake.alter = throttling(kind, 700)
        producer = Producer(
            Reached(bootstrap=fake.bootstrap, request_timeout=0.5, retry_backoff=0.02),
            linger=0.0,
            transactional=Transactional("mine", 60_000),
        )
        try:
            producer.initialise(10.0)
            for group in (1, 2):
                producer.open(group)
                to = Putting(producer)
                made = to.put(group, full=False)[0]
                made._queued.group = group
                made.finish()
                to.wait(1)
                told: list[Any] = []
                began = time.monotonic()
                producer.end(True, told.append)
                until(lambda told=told: told, "an end")  # type: ignore[misc]
                assert [None] == told
            if kind is EndTxnRequest:
                assert time.monotonic() - began < 1.5
        finally:
            assert producer.close(5.0)
        assert [b"1", b"2"] == fake.committed("t")


# -- what is left behind -----------------------------------------------------------------------


def test_no_step_that_fails_leaves_a_descriptor_or_a_thread(fake: Cluster) -> None:
    settings = {**LOGIN, "request_timeout": 0.15, "reconnect_backoff": 0.001}
    with putting(fake.bootstrap, cluster=settings, limit=10.0) as to:
        to.put(0)
        to.wait(1)
        before = len(os.listdir("/proc/self/fd")), threading.active_count()
        at = 1
        for _ in range(3):
            for kind in STEPS:
                for deed in (Lost(), Lost(cut=False), Torn(0.5)):
                    fake.script(kind, deed)
                fake.cut(1)
                to.put(at)
                at += 1
                to.wait(at)
                fake.unscript()

        def none_left() -> bool:
            return (
                len(os.listdir("/proc/self/fd")) <= before[0] + 6
                and threading.active_count() <= before[1] + 4
            )

        until(none_left, "none is left")
    assert values(at) == fake.log["t", 0]


# -- what nothing mends but another broker or other keys ---------------------------------------


@pytest.mark.parametrize(
    ("key", "name", "range_"),
    [
        (0, "Produce", (14, 15)),
        (0, "Produce", (0, 2)),
        (0, "Produce", None),
        (3, "Metadata", (0, 3)),
        (3, "Metadata", (13, 20)),
        (22, "InitProducerId", (6, 9)),
        (22, "InitProducerId", None),
    ],
)
def test_versions_that_have_nothing_in_common_are_named_with_both_ranges(
    fake: Cluster, key: int, name: str, range_: tuple[int, int] | None
) -> None:
    def alter(node: int, request: Any, answer: Any) -> None:
        if isinstance(request, ApiVersionsRequest):
            kept = [each for each in answer.api_keys if each.api_key != key]
            for each in answer.api_keys:
                if each.api_key == key and range_ is not None:
                    each.min_version, each.max_version = range_
                    kept.append(each)
            answer.api_keys = kept

    fake.alter = alter
    with pytest.raises(Misconfigured) as failure, putting(fake.bootstrap) as to:
        to.put(0)
        [why] = to.wait(1).values()
        assert why is not None
        raise why
    said = str(failure.value)
    assert f"127.0.0.1:{fake.ports[1]}" in said
    assert f"no version of {name} that is known here" in said
    assert ("none" if range_ is None else "{} to {}".format(*range_)) in said


@pytest.mark.parametrize(
    ("kind", "code", "says"),
    [
        (ProduceRequest, 17, "topic's name"),
        (ProduceRequest, 21, "producer.acks"),
        (ProduceRequest, 29, "right to write"),
        (ProduceRequest, 31, "IdempotentWrite"),
        (ProduceRequest, 43, "message.format.version"),
        (ProduceRequest, 76, "producer.compression.type"),
        (InitProducerIdRequest, 31, "producer.enable.idempotence=false"),
        (InitProducerIdRequest, 35, "no version"),
    ],
)
def test_what_is_refused_for_good_says_what_to_change(
    fake: Cluster, kind: Any, code: int, says: str
) -> None:
    fake.script(kind, Refuse(code), 99)
    why: SinkError | None = None
    with putting(fake.bootstrap) as to:
        try:
            to.put(0)
            why = to.wait(1)[0]
        except SinkError as failure:
            # The producer has failed before.
            why = failure
    assert isinstance(why, Misconfigured)
    assert says in str(why)
    assert ("t-0" if kind is ProduceRequest else "producer id") in str(why)


def test_a_broker_that_closes_each_connection_at_once_is_not_met_without_a_pause(
    fake: Cluster,
) -> None:
    with putting(fake.bootstrap, cluster={"reconnect_backoff": 0.1}) as to:
        to.put(0)
        to.wait(1)
        fake.alter = throttling(ProduceRequest, 1500)
        to.put(1)
        to.wait(2)
        before = len(fake._connections[1])
        until_ = time.monotonic() + 1.0
        made = 0
        # While it wants to be left alone there is nothing to be sent, and no connection is used.
        to.put(2)
        while time.monotonic() < until_:
            made += len(fake._connections[1]) > 0
            fake.cut(1)
            time.sleep(0.005)
        assert before
        assert made < 40
        to.wait(3)


# -- bytes that a broker never meant --------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("transactions", [False, True])
def test_answers_with_changed_bytes_never_end_or_stop_the_sender(
    seed: int, transactions: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What they say then may be a failure of the producer, and never one of ours."""
    dice = random.Random(seed)
    version = ["2.4", "2.8", "3.7", "4.0", "4.3"][seed % 5]
    with cluster(2, version) as fake:
        fake.create("t", 2)
        changing = [True]
        only = dice.choice([None, 0, 3, 18, 22, *([10, 24, 26] * transactions)])

        def reply(asked: int, request: Any, found: bytes) -> bytes:
            if not changing[0] or only not in (None, asked) or dice.random() > 0.35:
                return found
            changed = bytearray(found)
            for _ in range(dice.randrange(1, 4) if len(found) > 4 else 0):
                byte = dice.choice([0, 1, 0xFF, 0x7F, 0x80, dice.randrange(256)])
                changed[dice.randrange(4, len(changed))] = byte
            return bytes(changed)

        fake.reply = reply
        producer = Producer(
            Reached(
                bootstrap=fake.bootstrap,
                request_timeout=0.3,
                retry_backoff=0.01,
                reconnect_backoff=0.005,
                reconnect_backoff_max=0.02,
            ),
            linger=0.0,
            waiting=False,
            transactional=Transactional("mine", 60_000) if transactions else None,
        )
        to = Putting(producer)
        try:
            if transactions:
                producer.initialise(3.0)
                producer.open(1)
            for at in range(20):
                made = to.put(at, partition=at % 2, full=False)[0]
                made._queued.group = int(transactions)
                made.finish()
                time.sleep(0.004)
            changing[0] = False
            sender = producer._sender

            def answered() -> bool:
                for node in sender.nodes.all():
                    # It may have been told of minutes, and obeys.
                    node.muted_until = 0.0
                sender.kick()
                return len(to.answers.found) == 20

            until(answered, "all are answered", 10.0)
            assert sender.is_alive()
        except SinkError as why:
            assert "the sender has failed" not in str(why)
        finally:
            assert producer.close(5.0)
        assert "The sender ends" not in caplog.text


@pytest.mark.parametrize("version", ["2.4", "4.3"])
@pytest.mark.parametrize(
    ("node", "host", "port"),
    [(-1, "", -1), (-1, "127.0.0.1", 9), (7, "", 0), (7, "nowhere.invalid", 9092)],
)
def test_a_coordinator_that_is_nobody_is_asked_for_again(
    version: str, node: int, host: str, port: int
) -> None:
    left = [3]

    def alter(_: int, request: Any, answer: Any) -> None:
        if not isinstance(request, FindCoordinatorRequest) or not left[0]:
            return
        left[0] -= 1
        told = answer.coordinators[0] if version == "4.3" else answer
        told.node_id, told.host, told.port = node, host, port

    with cluster(version=version) as fake, quiet(1.0):
        fake.create("t")
        fake.alter = alter
        producer = Producer(
            Reached(bootstrap=fake.bootstrap, retry_backoff=0.02),
            linger=0.0,
            transactional=Transactional("mine", 60_000),
        )
        try:
            producer.initialise(10.0)
        finally:
            assert producer.close(5.0)
    assert not left[0]
