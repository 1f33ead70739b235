"""The server on real sockets: bounds, deadlines, ports, addresses."""

from __future__ import annotations

import http.client
import json
import logging
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from engine.admin import channels, server
from engine.admin.server import Address, address
from engine.clock import SYSTEM
from tests.fakes.view import FakeView, card, serving


@pytest.fixture
def view(tmp_path: Path) -> FakeView:
    return FakeView(
        str(tmp_path / "meters"), started_ms=SYSTEM.wall_ms(), cards=[card()]
    )


@pytest.fixture
def url(view: FakeView, tmp_path: Path) -> Iterator[str]:
    with serving(view, str(tmp_path / "ports")) as urls:
        yield urls[0]


def where(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


def ask(url: str, path: str, **given: object) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*where(url), timeout=10)
    try:
        connection.request("GET", path, **given)  # type: ignore[arg-type]
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def until(seconds: float, found: object) -> bool:
    assert callable(found)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found():
            return True
        time.sleep(0.02)
    return bool(found())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("http://127.0.0.1:8080", Address("127.0.0.1", 8080)),
        (" http://[::1]:0 ", Address("::1", 0)),
        ("HTTP://localhost", Address("localhost", 8080)),
        ("http://:9000/", Address("", 9000)),
    ],
)
def test_a_listener_is_an_address(text: str, found: Address) -> None:
    assert found == address(text)


@pytest.mark.parametrize("text", ["https://a:1", "127.0.0.1:80", "http://a:x", ""])
def test_what_is_no_listener_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        address(text)


def test_both_loopback_addresses_are_served_and_written_down(
    view: FakeView, tmp_path: Path
) -> None:
    listeners = ("http://127.0.0.1:0", "http://[::1]:0")
    with serving(view, str(tmp_path / "ports"), listeners=listeners) as urls:
        assert 2 == len(urls)
        assert [200, 200] == [ask(one, "/health/live")[0] for one in urls]
    assert ["ports"] == [name for name in os.listdir(tmp_path) if "ports" in name]


def test_an_address_this_machine_does_not_have_is_passed_over(
    view: FakeView, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listeners = ("http://127.0.0.1:0", "http://[2001:db8::1]:0")
    with serving(view, str(tmp_path / "ports"), listeners=listeners) as urls:
        assert 1 == len(urls)
        assert 200 == ask(urls[0], "/health/live")[0]
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


def test_a_taken_port_is_a_warning_and_served_once_it_is_free(
    view: FakeView,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "AGAIN", 0.1)
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    listeners = ("http://127.0.0.1:0", f"http://127.0.0.1:{port}")

    with serving(view, str(tmp_path / "ports"), listeners=listeners) as urls:
        assert 1 == len(urls)
        assert 200 == ask(urls[0], "/health/live")[0]
        warnings = [one for one in caplog.records if one.levelno == logging.WARNING]
        assert 1 == len(warnings)
        assert "records flow" in warnings[0].getMessage()

        taken.close()

        assert until(5, lambda: str(port) in (tmp_path / "ports").read_text())
        assert 200 == ask(f"http://127.0.0.1:{port}", "/health/live")[0]


def test_no_listener_at_all_is_survived(view: FakeView, tmp_path: Path) -> None:
    listeners = ("http://[2001:db8::1]:0",)
    with serving(view, str(tmp_path / "ports"), listeners=listeners) as urls:
        assert [] == urls


def test_a_connection_is_kept_for_the_next_request(url: str) -> None:
    connection = http.client.HTTPConnection(*where(url), timeout=10)
    for _ in range(3):
        connection.request("GET", "/health/live")
        answer = connection.getresponse()
        assert 200 == answer.status
        answer.read()
    connection.close()


@pytest.mark.parametrize("path", ["/health/live", "/connectors", "/no/such/place"])
def test_head_is_get_without_its_body_and_with_its_length(url: str, path: str) -> None:
    """RFC 9110, 8.6 and 9.3.2, on a connection that goes on."""
    connection = http.client.HTTPConnection(*where(url), timeout=10)
    told = {}
    for method in ("GET", "HEAD", "HEAD", "GET"):
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        told[method] = answer.status, answer.headers["Content-Length"]
        assert str(len(body)) == (told[method][1] if method == "GET" else "0")
    connection.close()

    assert told["GET"] == told["HEAD"]


def test_a_head_or_body_beyond_the_limit_is_refused(url: str) -> None:
    head = {"X-Long": "x" * (channels.HEADER_LIMIT + 1)}
    assert 431 == ask(url, "/health/live", headers=head)[0]

    body = b"x" * (channels.BODY_LIMIT + 1)
    assert 413 == ask(url, "/jolokia", body=body)[0]


def test_percent_signs_in_a_path_are_read(url: str) -> None:
    status, body = ask(url, "/connectors/%C3%A9t%C3%A9")

    assert (404, True) == (status, "été" in body.decode())


def test_an_answer_that_fails_is_500_and_the_next_one_is_fine(
    view: FakeView, url: str
) -> None:
    cards = view.cards
    view.cards = None  # type: ignore[assignment]
    assert 500 == ask(url, "/connectors")[0]

    view.cards = cards
    assert 200 == ask(url, "/connectors")[0]


def test_junk_is_400(url: str) -> None:
    with socket.create_connection(where(url), timeout=5) as one:
        one.sendall(b"\x00\x01 nonsense\r\n\r\n")
        assert b" 400 " in one.recv(1000).split(b"\r\n")[0]


def test_a_request_that_drips_is_cut_at_its_deadline(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "REQUEST_DEADLINE", 0.5)
    started = time.monotonic()
    told, cut = b"", False
    with socket.create_connection(where(url), timeout=10) as one:
        one.sendall(b"GET /health/live HTTP/1.1\r\n")
        one.settimeout(0.1)
        while not cut and time.monotonic() < started + 8:
            try:
                one.sendall(b"" if told else b"X: y\r\n")
                more = one.recv(1000)
                told, cut = told + more, not more
            except TimeoutError:
                continue
            except OSError:
                cut = True

    assert cut
    assert time.monotonic() < started + 4
    # In Connect's form, as everything that is refused.
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert 408 == json.loads(body)["error_code"]


@pytest.mark.parametrize("sent", [b"", b"POST /connectors HTTP/1.1\r\nHost: a\r\n"])
def test_who_has_begun_nothing_hears_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(channels, "REQUEST_DEADLINE", 0.3)
    with socket.create_connection(where(url), timeout=10) as one:
        one.sendall(sent)
        assert one.recv(1000).startswith(b"HTTP/1.1 408 " if sent else b"")
        if not sent:
            assert b"" == one.recv(1000)


def test_a_thousand_idle_connections_leave_room_for_a_probe(url: str) -> None:
    me = psutil.Process()
    before = me.num_fds()
    with ExitStack() as open_ones:
        for _ in range(1000):
            one = socket.create_connection(where(url), timeout=5)
            open_ones.callback(one.close)
            one.sendall(b"GET /health")
        start = time.monotonic()
        assert 200 == ask(url, "/health/live")[0]
        assert time.monotonic() - start < 3
        held = me.num_fds() - before - 1000

        assert held <= channels.CONNECTIONS + 10
    assert until(5, lambda: me.num_fds() <= before + 2)


def test_out_of_descriptors_it_waits_and_recovers(url: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ready = socket.socket()
    taken: list[int] = []
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (psutil.Process().num_fds() + 20, hard)
        )
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        ready.connect(where(url))
        busy = time.process_time()
        time.sleep(0.6)
        assert time.process_time() - busy < 0.4
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in taken:
            os.close(one)
    ready.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    ready.settimeout(5)
    assert b"200 OK" in ready.recv(1000)
    ready.close()
