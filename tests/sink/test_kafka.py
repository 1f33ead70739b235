"""Clients from plain values; foreign failures get our names."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from itertools import pairwise

import kafka.errors as foreign
import pytest

from engine.errors import Doubtful, Fenced, Misconfigured, SinkError, Unavailable
from engine.sink import codes, library
from engine.sink import kafka as gate
from engine.sink.kafka import (
    Cluster,
    reachable,
    renamed,
    tls,
    wait_for_broker,
)
from engine.sink.produce.wire import Garbled
from engine.sink.reasons import LoginRefused
from tests.brokers import Broker
from tests.fakes.hands import Hands


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (foreign.KafkaTimeoutError("t"), Unavailable),
        (foreign.KafkaConnectionError("c"), Unavailable),
        (foreign.NotEnoughReplicasError("r"), Unavailable),
        (foreign.KafkaStorageError("disk"), Unavailable),
        (ConnectionRefusedError(111, "refused"), Unavailable),
        (foreign.TopicAuthorizationFailedError("orders"), Misconfigured),
        (foreign.SaslAuthenticationFailedError("who"), Misconfigured),
        (foreign.InvalidTopicError("a b"), Misconfigured),
        (foreign.UnknownTopicOrPartitionError("gone"), Misconfigured),
        (foreign.ProducerFencedError("newer"), Fenced),
        (foreign.MessageSizeTooLargeError("10"), Doubtful),
        (foreign.OutOfOrderSequenceNumberError("45"), Doubtful),
        (foreign.IllegalStateError("bug"), Doubtful),
    ],
)
def test_a_failure_of_the_library_gets_our_name(
    error: Exception, name: type[SinkError]
) -> None:
    with (
        pytest.raises(SinkError, match="writing to orders-1: ") as caught,
        library.naming("writing to orders-1"),
    ):
        raise error

    assert name is caught.type


#: What the library calls otherwise than Kafka does.
OTHERWISE = {
    -1: "UNKNOWN_SERVER_ERROR",
    0: "NONE",
    4: "INVALID_FETCH_SIZE",
    6: "NOT_LEADER_OR_FOLLOWER",
    10: "MESSAGE_TOO_LARGE",
    17: "INVALID_TOPIC_EXCEPTION",
}

CODES = {
    each.errno: each
    for each in vars(foreign).values()
    if isinstance(each, type)
    and issubclass(each, foreign.BrokerResponseError)
    and each.errno is not None
}


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_has_the_name_and_the_kind_that_the_library_knows(code: int) -> None:
    kind = CODES[code]

    assert OTHERWISE.get(code, kind.message) == codes.name(code)
    assert issubclass(kind, foreign.RetriableError) == (code in codes.RETRIABLE)
    ours = renamed(codes.BrokerError(code, "x"), "doing")
    assert type(ours) is type(library.renamed(kind("x"), "doing"))
    assert f"doing: {codes.name(code)}: x" == str(ours)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ConnectionRefusedError(111, "refused"), Unavailable),
        (LoginRefused("no"), Misconfigured),
        (Garbled("what"), Doubtful),
        (codes.BrokerError(9999), Doubtful),
        (Fenced("as it is"), Fenced),
    ],
)
def test_a_failure_of_a_connection_gets_our_name(
    error: Exception, name: type[SinkError]
) -> None:
    assert type(renamed(error, "asking")) is name


def test_a_cluster_never_shows_its_login() -> None:
    cluster = Cluster(bootstrap=("b:1",), login={"password": "s3cret"}, key="PRIVATE")

    assert "Cluster(b:1)" == repr(cluster) == str(cluster)


def test_a_pem_that_cannot_be_read_is_named() -> None:
    with pytest.raises(Misconfigured, match="ssl.truststore"):
        tls(Cluster(bootstrap=("b:1",), ca="no certificate"))
    with pytest.raises(Misconfigured, match="ssl.keystore"):
        tls(Cluster(bootstrap=("b:1",), chain_file="/nowhere.pem"))


def test_tls_checks_the_host_unless_told_not_to() -> None:
    strict = tls(Cluster(bootstrap=("b:1",)))
    loose = tls(Cluster(bootstrap=("b:1",), check_hostname=False))

    assert (True, ssl.CERT_REQUIRED) == (strict.check_hostname, strict.verify_mode)
    assert (False, ssl.CERT_REQUIRED) == (loose.check_hostname, loose.verify_mode)
    assert ssl.TLSVersion.TLSv1_2 == strict.minimum_version


def test_tls_offers_the_versions_and_ciphers_that_are_stated() -> None:
    newest = tls(Cluster(bootstrap=("b:1",), versions=("TLSv1.3",)))
    older = tls(
        Cluster(
            bootstrap=("b:1",),
            versions=("TLSv1.2",),
            ciphers=("ECDHE-RSA-AES256-GCM-SHA384",),
        )
    )

    assert ssl.TLSVersion.TLSv1_3 == newest.minimum_version
    assert ssl.TLSVersion.TLSv1_2 == older.maximum_version
    assert ["ECDHE-RSA-AES256-GCM-SHA384"] == [
        each["name"] for each in older.get_ciphers() if each["protocol"] != "TLSv1.3"
    ]
    with pytest.raises(Misconfigured, match=r"ssl.cipher.suites names none: NO-SUCH"):
        tls(Cluster(bootstrap=("b:1",), ciphers=("NO-SUCH",)))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512", "OAUTHBEARER"])
def test_a_login_that_lacks_its_parts_is_refused(mechanism: str) -> None:
    cluster = Cluster(
        bootstrap=("127.0.0.1:1",), protocol="SASL_PLAINTEXT", mechanism=mechanism
    )

    with pytest.raises(Misconfigured, match=r"sasl\.jaas\.config lacks"):
        reachable(cluster)


class Waiting:
    """A stop flag whose waiting turns the clock, and that is set in the end."""

    def __init__(self, clock: Hands, seconds: float) -> None:
        self.clock = clock
        self.until = clock.monotonic() + seconds

    def is_set(self) -> bool:
        return self.clock.monotonic() >= self.until

    def wait(self, seconds: float) -> bool:
        self.clock.turn(seconds)
        return self.is_set()


def test_a_broker_that_is_away_is_told_of_within_ten_seconds_then_each_minute() -> None:
    clock = Hands()
    said: list[tuple[float, str]] = []
    began = clock.monotonic()
    cluster = Cluster(bootstrap=("127.0.0.1:1",))

    found = wait_for_broker(
        cluster,
        Waiting(clock, 200.0),
        lambda text: said.append((clock.monotonic() - began, text)),
        clock=clock,
    )

    assert not found
    times = [at for at, _ in said]
    assert times[0] <= 10.0
    assert all(59.0 <= b - a <= 61.0 for a, b in pairwise(times))
    assert len(times) == 4
    assert all("127.0.0.1:1" in text for _, text in said)


def test_a_broker_that_is_there_is_not_talked_about(broker: Broker) -> None:
    said: list[str] = []
    clock = Hands()

    assert wait_for_broker(
        Cluster(bootstrap=(broker.address,)), Waiting(clock, 60.0), said.append
    )

    assert [] == said


def test_a_socket_that_never_answers_is_no_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "PROBE_LIMIT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"

        with pytest.raises(Unavailable, match=address):
            reachable(Cluster(bootstrap=(address,)), 0.5)


#: A broker that lets in alice only.
LOGIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="alice" password="al=ice" user_alice="al=ice";'
)
GUARDED = {
    "listeners": "SASL_PLAINTEXT://127.0.0.1:${port},"
    "CONTROLLER://127.0.0.1:${controller}",
    "advertised.listeners": "SASL_PLAINTEXT://127.0.0.1:${port}",
    "listener.security.protocol.map": "SASL_PLAINTEXT:SASL_PLAINTEXT,"
    "CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "SASL_PLAINTEXT",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.sasl_plaintext.plain.sasl.jaas.config": LOGIN,
}


def alice(address: str, password: str) -> Cluster:
    return Cluster(
        bootstrap=(address,),
        protocol="SASL_PLAINTEXT",
        mechanism="PLAIN",
        login={"username": "alice", "password": password},
    )


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.parametrize("own_apache", [GUARDED], indirect=True)
def test_a_right_login_is_let_in_and_a_wrong_one_is_named(own_apache: Broker) -> None:
    reachable(alice(own_apache.address, "al=ice"), 10.0)

    with pytest.raises(Misconfigured, match="Authentication") as caught:
        reachable(alice(own_apache.address, "s3cret"), 5.0)

    assert "s3cret" not in str(caught.value)


@pytest.fixture
def speaks_tls() -> Iterator[str]:
    """The address of a listener that answers as one does that speaks TLS."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    # An alert: fatal, unexpected message (RFC 8446, 6).
                    connection.sendall(b"\x15\x03\x03\x00\x02\x02\x0a")

    thread = threading.Thread(target=serve)
    thread.start()
    host, port = listener.getsockname()
    yield f"{host}:{port}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_a_listener_that_speaks_tls_is_named(speaks_tls: str) -> None:
    with pytest.raises(Misconfigured, match=r"speaks TLS; see security\.protocol"):
        reachable(Cluster(bootstrap=(speaks_tls,)))


def test_one_closed_door_of_several_keeps_nobody_out(
    speaks_tls: str, broker: Broker
) -> None:
    for _ in range(5):
        reachable(Cluster(bootstrap=(speaks_tls, broker.address)))
