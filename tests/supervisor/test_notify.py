"""What systemd is told, read off a socket of its kind."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.supervisor.notify import Notify


class Clock:
    """A moment that stands still."""

    def monotonic(self) -> float:
        return 12.5

    def wall_ms(self) -> int:
        return 0


@pytest.fixture(params=["path", "abstract"])
def systemd(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, socket.socket]]:
    """NOTIFY_SOCKET's value and the socket behind it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        if request.param == "path":
            address = str(tmp_path / "notify")
            end.bind(address)
        else:
            address = f"@kafka-http-source-test-{os.getpid()}"
            end.bind("\0" + address[1:])
        end.settimeout(2)
        yield address, end


def test_every_word_is_one_datagram(systemd: tuple[str, socket.socket]) -> None:
    address, end = systemd
    notify = Notify({"NOTIFY_SOCKET": address}, clock=Clock())

    notify.ready()
    notify.status("2 connectors,\n8 tasks")
    notify.reloading()
    notify.alive()
    notify.extend(1.5)
    notify.stopping()
    heard = [end.recv(4096) for _ in range(6)]

    assert notify.listening
    assert [
        b"READY=1",
        b"STATUS=2 connectors, 8 tasks",
        b"RELOADING=1\nMONOTONIC_USEC=12500000",
        b"WATCHDOG=1",
        b"EXTEND_TIMEOUT_USEC=1500000",
        b"STOPPING=1",
    ] == heard
    notify.close()


def test_the_environment_is_emptied_of_it(systemd: tuple[str, socket.socket]) -> None:
    environ = {
        "NOTIFY_SOCKET": systemd[0],
        "WATCHDOG_USEC": "90000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }

    notify = Notify(environ)

    assert {"HOME": "/"} == environ
    assert 90.0 == notify.watchdog
    notify.close()


@pytest.mark.parametrize(
    ("environ", "watchdog"),
    [
        ({"WATCHDOG_USEC": "1000000"}, 1.0),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_a_watchdog_meant_for_another_is_not_fed(
    environ: dict[str, str], watchdog: float | None
) -> None:
    assert watchdog == Notify(environ).watchdog


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "vsock:1:2"])
def test_without_systemd_nothing_happens(address: str) -> None:
    notify = Notify({"NOTIFY_SOCKET": address} if address else {})

    notify.ready()

    assert not notify.listening
    notify.close()


def test_a_systemd_that_reads_no_more_holds_nobody_up(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(path)
        notify = Notify({"NOTIFY_SOCKET": path})
        for _ in range(5000):
            notify.alive()
    notify.alive()
    notify.close()
