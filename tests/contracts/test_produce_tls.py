"""
Brokers whose listeners speak TLS, at bad moments: the sender over records of TLS.

A socket of TLS takes and gives other bytes than were handed to it: it may have to read
before it can write, holds what a look at the descriptor does not show, and ends twice.
"""

from __future__ import annotations

import os
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme
from kafka.protocol.metadata import MetadataRequest
from kafka.protocol.producer import ProduceRequest

from engine.errors import Misconfigured
from tests.contracts.test_produce_stalls import piped, values
from tests.fakes.broker import Cluster, Late, Lost, Torn, cluster
from tests.sink.producing import Putting, putting, until

AUTHORITY = trustme.CA()


def listener(*names: str, ca: trustme.CA = AUTHORITY, **more: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*(names or ("127.0.0.1",)), **more).configure_cert(context)
    return context


def trusting(ca: trustme.CA = AUTHORITY, **more: Any) -> dict[str, Any]:
    return {"protocol": "SSL", "ca": ca.cert_pem.bytes().decode(), **more}


@contextmanager
def secured(nodes: int = 1, context: ssl.SSLContext | None = None) -> Iterator[Cluster]:
    with cluster(nodes, tls=context or listener()) as fake:
        fake.create("t")
        yield fake


@contextmanager
def writing(fake: Cluster, **more: Any) -> Iterator[Putting]:
    with putting(fake.bootstrap, cluster=trusting(**more)) as to:
        yield to


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_large_requests_and_small_ones(version: ssl.TLSVersion) -> None:
    context = listener()
    context.minimum_version = context.maximum_version = version
    with secured(context=context) as fake, writing(fake, send_buffer=8192) as to:
        for at in range(30):
            size = [1, 100, 16384, 65536, 400_000][at % 5]
            to.put(at, b"%d" % at, os.urandom(size))
        assert {None} == set(to.wait(30).values())
        assert values(30) == fake.log["t", 0][::2]


@pytest.mark.parametrize("seed", range(4))
def test_cuts_and_torn_answers_lose_and_repeat_nothing(seed: int) -> None:
    dice = random.Random(seed)
    with secured() as fake:
        settings = {"request_timeout": 0.6, "reconnect_backoff": 0.005}
        with writing(fake, **settings) as to:
            for at in range(150):
                to.put(at)
                if dice.random() < 0.1:
                    deed = dice.choice(
                        [Lost(), Lost(done=False), Torn(dice.random()), Late(0.05)]
                    )
                    fake.script(dice.choice([ProduceRequest, MetadataRequest]), deed)
                if dice.random() < 0.03:
                    fake.cut(1)
                time.sleep(0.001)
            fake.unscript()
            assert {None} == set(to.wait(150).values())
    assert values(150) == fake.log["t", 0]


def test_a_slow_reader_is_not_given_up_while_it_reads() -> None:
    with secured() as fake, piped(fake) as pipe:
        settings = trusting(request_timeout=0.8, send_buffer=4096)
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
    assert 405 == len(fake.log["t", 0])


@pytest.mark.parametrize("size", [1, 3, 100])
def test_records_of_tls_in_small_pieces(size: int) -> None:
    with (
        secured() as fake,
        piped(fake) as pipe,
        putting([f"127.0.0.1:{pipe.port}"], cluster=trusting()) as to,
    ):
        to.put(0)
        to.wait(1)
        pipe.up = pipe.down = size
        for at in range(1, 12):
            to.put(at)
        assert {None} == set(to.wait(12).values())
    assert values(12) == fake.log["t", 0]


@pytest.mark.parametrize("how", ["close_notify", "cut", "reset", "garbage"])
def test_however_a_connection_ends_what_was_on_its_way_is_sent_again(how: str) -> None:
    with secured() as fake, writing(fake, request_timeout=3.0) as to:
        to.put(0)
        to.wait(1)
        for at in range(1, 9):
            fake.script(ProduceRequest, Late(0.05, done=True))
            to.put(at)
            time.sleep(0.01)
            for connection in fake._connections.pop(1, []):
                threading.Thread(target=end, args=(how, connection)).start()
        assert {None} == set(to.wait(9).values())
    assert values(9) == fake.log["t", 0]


def end(how: str, connection: Any) -> None:
    with suppress(OSError, ValueError):
        if how == "close_notify":
            connection.settimeout(0.2)
            connection.unwrap()
        elif how == "garbage":
            os.write(connection.fileno(), os.urandom(300))
        elif how == "reset":
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if how != "garbage":
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


def expired() -> ssl.SSLContext:
    return listener(not_after=datetime.now(UTC) - timedelta(days=1))


@pytest.mark.parametrize(
    ("context", "says"),
    [
        (expired, "expired"),
        (lambda: listener("kafka.example.com"), "mismatch"),
        (lambda: listener(ca=trustme.CA()), "ssl.truststore"),
    ],
)
def test_a_certificate_that_is_not_accepted_is_named_with_the_keys(
    context: Any, says: str
) -> None:
    with secured(context=context()) as fake:
        began = time.monotonic()
        with (
            pytest.raises(Misconfigured, match=says) as failure,
            putting(fake.bootstrap, cluster=trusting(), limit=10.0),
        ):
            pass
        assert time.monotonic() - began < 5.0
        assert "ssl.truststore" in str(failure.value)
        assert str(fake.ports[1]) in str(failure.value)


def test_a_certificate_that_expires_later_is_waited_for() -> None:
    with secured() as fake, writing(fake) as to:
        to.put(0)
        to.wait(1)
        fake.tls = expired()
        fake.cut(1)
        to.put(1)

        def said() -> bool:
            found = to.producer.waits(time.monotonic(), 0.1)
            return any("expired" in each.why for each in found)

        until(said, "it is said")
        fake.tls = listener()
        to.wait(2)
    assert values(2) == fake.log["t", 0]
