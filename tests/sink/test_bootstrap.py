"""The way into the cluster: shut doors cost a moment, and each is named."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from engine.clock import SYSTEM
from engine.errors import Misconfigured, Unavailable
from engine.sink import caller, library
from engine.sink.bootstrap import ROUND
from engine.sink.ends import topic_ends
from engine.sink.kafka import Cluster, reachable
from engine.sink.produce.producer import Producer
from tests.brokers import Broker
from tests.fakes.hands import Hands
from tests.sink.doors import DOORS, FINAL, rewritten


@pytest.fixture
def door(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of one of `DOORS`."""
    with DOORS[request.param][0]() as address:  # type: ignore[attr-defined]
        yield address


#: Seconds for a moment that costs less than two of them on a busy machine, too.  Who
#: waits for a shut door to the end waits for `ROUND`, or for the library's own thirty.
MOMENT = 0.7 * ROUND


def seconds(run: Callable[[], object]) -> float:
    began = SYSTEM.monotonic()
    run()
    return SYSTEM.monotonic() - began


@pytest.mark.parametrize("door", DOORS, indirect=True)
def test_a_shut_door_costs_a_moment_where_another_is_open(
    door: str, embedded: Broker
) -> None:
    cluster = Cluster(bootstrap=(door, embedded.address))

    taken = [seconds(lambda: reachable(cluster)) for _ in range(6)]

    assert sorted(taken)[2] < 2.0, taken
    assert max(taken) < MOMENT, taken


def test_every_shut_door_at_once_keeps_nobody_out(embedded: Broker) -> None:
    with ExitStack() as stack:
        shut = [stack.enter_context(make()) for make, _ in DOORS.values()]  # type: ignore[arg-type]

        taken = seconds(lambda: reachable(Cluster(bootstrap=(*shut, embedded.address))))

    assert taken < MOMENT


#: Every client that is made.
CLIENTS: dict[str, Callable[[Cluster], object]] = {
    "admin": reachable,
    "ends": lambda cluster: topic_ends(cluster, "no-such-topic"),
    "offsets": lambda cluster: library.group_offsets(
        cluster, "nobody", "no-such-topic"
    ),
    "tail": lambda cluster: library.Tail(cluster, "no-such-topic").close(),
    "producer": lambda cluster: Producer(cluster).close(1.0),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("door", ["mute", "black hole", "no such name"], indirect=True)
def test_each_client_comes_in(door: str, client: str, embedded: Broker) -> None:
    cluster = Cluster(bootstrap=(door, embedded.address))

    assert seconds(lambda: CLIENTS[client](cluster)) < MOMENT


@pytest.mark.parametrize("name", DOORS)
def test_a_shut_door_alone_is_named(name: str) -> None:
    make, told = DOORS[name]
    kind = Misconfigured if name in FINAL else Unavailable
    with make() as address, pytest.raises(kind, match=told) as caught:  # type: ignore[attr-defined]
        reachable(Cluster(bootstrap=(address,)), 1.0)

    assert address in str(caught.value)
    assert kind is caught.type


def test_each_of_several_shut_doors_is_named() -> None:
    with (
        DOORS["mute"][0]() as first,  # type: ignore[attr-defined]
        DOORS["refused"][0]() as second,  # type: ignore[attr-defined]
        pytest.raises(Unavailable) as caught,
    ):
        reachable(Cluster(bootstrap=(first, second, "kafka.invalid:1")), 1.0)

    said = str(caught.value)
    assert f"{first}: it takes the connection and does not answer" in said
    assert f"{second}: it takes no connection" in said
    assert "kafka.invalid:1: its name cannot be resolved" in said


def test_who_does_not_wait_hears_of_a_refusal_at_once() -> None:
    with DOORS["refused"][0]() as address:  # type: ignore[attr-defined]
        taken = seconds(
            lambda: pytest.raises(
                Unavailable,
                reachable,
                Cluster(bootstrap=(address,)),
                5.0,
                patient=False,
            )
        )

    assert taken < 4.0


def test_tls_that_is_never_shaken_ends_in_time() -> None:
    with DOORS["mute"][0]() as address:  # type: ignore[attr-defined]
        cluster = Cluster(bootstrap=(address,), protocol="SSL")

        taken = seconds(lambda: pytest.raises(Unavailable, reachable, cluster, 1.0))

    assert taken < MOMENT


def numeric(more: tuple[Any, ...]) -> bool:
    """True if only an address was asked for, which no server is asked."""
    return len(more) > 4 and bool(more[4] & socket.AI_NUMERICHOST)


def test_a_name_server_that_does_not_answer_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, embedded: Broker
) -> None:
    answers = threading.Event()
    real = socket.getaddrinfo

    def slow(host: Any, *more: Any, **named: Any) -> Any:
        if host in ("slow.example", b"slow.example") and not numeric(more):
            answers.wait(20.0)
        return real(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        both = Cluster(bootstrap=("slow.example:9092", embedded.address))
        taken = [seconds(lambda: reachable(both)) for _ in range(3)]
        with pytest.raises(Unavailable, match="name server does not answer"):
            reachable(Cluster(bootstrap=("slow.example:9092",)), 1.0)
    finally:
        answers.set()

    assert min(taken) < 2.0
    assert max(taken) < MOMENT


def test_an_address_that_swallows_is_passed_for_the_next_of_its_name(
    monkeypatch: pytest.MonkeyPatch, embedded: Broker
) -> None:
    host, _, port = embedded.address.rpartition(":")
    with DOORS["black hole"][0]() as hole:  # type: ignore[attr-defined]
        places = [("127.0.0.1", int(hole.rpartition(":")[2])), (host, int(port))]
        real = socket.getaddrinfo

        def several(asked: Any, *more: Any, **named: Any) -> Any:
            if asked not in ("two.example", b"two.example"):
                return real(asked, *more, **named)
            if numeric(more):
                raise socket.gaierror(socket.EAI_NONAME, "no address")
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, place) for place in places]

        monkeypatch.setattr(socket, "getaddrinfo", several)

        taken = seconds(lambda: reachable(Cluster(bootstrap=("two.example:9092",))))

    assert taken < MOMENT


def advertising(name: str, port: int | None = None) -> Callable[[str], Any]:
    """A way to a broker that advertises itself by another name of nine letters."""

    def way(address: str) -> Any:
        host, _, own = address.rpartition(":")
        old, new = host.encode(), name.encode()
        if port is not None:
            old += int(own).to_bytes(4, "big")
            new += port.to_bytes(4, "big")
        return rewritten(address, old, new)

    return way


#: How an advertised listener may be out of reach -> its name, and what is said.
ADVERTISED = {
    "no such name": ("k.invalid", None, "its name cannot be resolved"),
    "refused": ("127.0.0.9", 1, "takes no connection .connection refused"),
}


@pytest.mark.parametrize("kind", ADVERTISED)
def test_a_name_that_a_broker_advertises_in_vain_is_told(
    kind: str,
    embedded: Broker,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, port, why = ADVERTISED[kind]
    clock = Hands()
    monkeypatch.setattr(caller, "SAYINGS", caller.BrokerWarnings(clock))

    with advertising(name, port)(embedded.address) as address:
        cluster = Cluster(bootstrap=(address,))
        told = port or int(embedded.address.rpartition(":")[2])
        clients: list[Callable[[], object]] = [
            lambda: reachable(cluster, 1.0),
            lambda: library.Tail(cluster, "no-such-topic"),
        ]
        for client in clients:
            with pytest.raises(Unavailable) as caught:
                client()
        first = lines(caplog)
        clock.turn(61.0)
        with pytest.raises(Unavailable):
            reachable(cluster, patient=False)

    text = str(caught.value)
    assert re.search(
        rf"broker \d+ cannot be reached at {name}:{told}, the name it advertises, "
        rf"though bootstrap at {address} worked: .*{why}",
        text,
    ), text
    assert 1 == len(first)
    assert 2 == len(lines(caplog))
    assert "advertised.listeners" in first[0]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "sink"]
