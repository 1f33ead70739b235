"""Each key of the HTTP client, from the file to what a real server sees of it."""

from __future__ import annotations

import gzip
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.config.keys import TABLE
from engine.errors import BadPage, Forbidden, Unreachable
from engine.source.wire.http2 import installed
from tests.fakes.misbehaving import (
    Misbehaving,
    MisbehavingH2,
    Peer,
    Say,
    perform,
)
from tests.fakes.source import Source

PAGE = b'{"items":[1,2]}'
IN_GZIP = (("Content-Encoding", "gzip"),)

CLIENT = "http.client."
CONNECTION = "http.client.connection."

#: Keys that a test below shows.
SHOWN: set[str] = set()


def shows(*keys: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Marks a test with the keys whose effect it sees."""
    SHOWN.update(keys)
    return lambda test: test


needs_http2 = pytest.mark.skipif(
    not installed() and "CI" not in os.environ, reason="the extra [http2] is missing"
)


def numbered(pages: int, wait: float = 0.0) -> Callable[[Peer], None]:
    """An API of so many pages, by `page=` from 1."""

    def act(peer: Peer) -> None:
        number = int(peer.asked.target.rpartition("page=")[2].partition("&")[0])
        body = b'{"items":[%d]}' % number if number <= pages else b'{"items":[]}'
        perform(Say(body=body, wait=wait), peer)

    return act


EIGHT = {
    "pagination.type": "page",
    "pagination.limit.value": 1,
    "pagination.concurrent.enabled": "true",
    "pagination.concurrent.max.threads": 8,
    "pagination.concurrent.queue.size": 64,
}


def test_every_key_of_the_client_is_shown_here() -> None:
    assert {key for key in TABLE if key.startswith(CLIENT)} == SHOWN


# -- connections ------------------------------------------------------------


@shows(f"{CONNECTION}pool.enabled")
def test_without_the_pool_there_is_a_connection_a_request(tmp_path: Path) -> None:
    keys = {f"{CONNECTION}pool.enabled": "false"}
    with Misbehaving(Say(body=PAGE)) as server, Source(tmp_path, server.url, keys) as s:
        for _ in range(3):
            s.poll()
        server.wait_for(lambda: server.open == 0)

        assert 3 == server.connections
        assert [None] * 3 == [asked.header("connection") for asked in server.asked]


@shows(f"{CONNECTION}keep.alive.enabled")
def test_without_keep_alive_the_server_is_told(tmp_path: Path) -> None:
    keys = {f"{CONNECTION}keep.alive.enabled": "false"}
    with Misbehaving(Say(body=PAGE)) as server, Source(tmp_path, server.url, keys) as s:
        for _ in range(3):
            s.poll()

        assert 3 == server.connections
        assert ["close"] * 3 == [asked.header("connection") for asked in server.asked]


@shows(f"{CLIENT}max.connections")
def test_all_hosts_together_have_no_more_sockets_than_allowed(tmp_path: Path) -> None:
    # One server under three names counts what is open to all of them.
    with Misbehaving(numbered(12, 0.005), host="0.0.0.0") as server:
        hosts = {
            f"api{n}.{key}": value
            for n in (1, 2, 3)
            for key, value in (
                ("http.source.url", f"http://127.0.0.{n}:{server.port}/"),
                ("kafka.topic", f"things{n}"),
            )
        }
        keys = {**hosts, **EIGHT, f"{CLIENT}max.connections": 2}
        with Source(tmp_path, "http://127.0.0.1/", keys) as source:
            threads = [
                threading.Thread(target=source.poll, kwargs={"api": n})
                for n in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)

            assert 2 == server.most_open
            asked = {a.header("host") for a in server.asked}
            assert 3 == len(asked)


@shows(f"{CLIENT}max.connections.per.route")
def test_one_host_has_no_more_sockets_than_allowed(tmp_path: Path) -> None:
    keys = {**EIGHT, f"{CLIENT}max.connections.per.route": 3}
    with (
        Misbehaving(numbered(24, 0.01)) as server,
        Source(tmp_path, server.url, keys) as source,
    ):
        assert 24 == len(source.records())

        assert 3 == server.most_open


@shows(f"{CONNECTION}keep.alive.duration.ms")
def test_a_connection_idle_for_too_long_is_not_used_again(tmp_path: Path) -> None:
    keys = {f"{CONNECTION}keep.alive.duration.ms": 300}
    with Misbehaving(Say(body=PAGE)) as server, Source(tmp_path, server.url, keys) as s:
        s.poll()
        s.poll()
        early = server.connections
        time.sleep(0.35)
        s.poll()

        assert (1, 2) == (early, server.connections)


@shows(f"{CONNECTION}keep.alive.max.requests")
def test_a_connection_is_retired_after_its_requests(tmp_path: Path) -> None:
    keys = {f"{CONNECTION}keep.alive.max.requests": 10}
    with Misbehaving(Say(body=PAGE)) as server, Source(tmp_path, server.url, keys) as s:
        for _ in range(25):
            s.poll()

        assert 3 == server.connections


@shows(f"{CONNECTION}pool.validate.after.inactivity.ms")
@pytest.mark.parametrize(("validate", "resends"), [(0, 0), (30000, 1)])
def test_a_connection_that_died_is_seen_before_or_sent_again(
    tmp_path: Path, validate: int, resends: int
) -> None:
    keys = {f"{CONNECTION}pool.validate.after.inactivity.ms": validate}
    with Misbehaving(Say(body=PAGE)) as server, Source(tmp_path, server.url, keys) as s:
        s.poll()
        server.drop_idle()
        server.wait_for(lambda: server.open == 0)
        s.poll()

        counters = s.counters
        assert (1, resends, 0) == (
            counters.stale_connections,
            counters.resends,
            counters.retries,
        )


@shows(
    f"{CONNECTION}max.idle.time.ms",
    f"{CONNECTION}cleanup.interval.ms",
    f"{CONNECTION}cleanup.enabled",
)
def test_an_idle_connection_is_closed_by_the_next_sweep(tmp_path: Path) -> None:
    keys = {
        f"{CONNECTION}max.idle.time.ms": 1000,
        f"{CONNECTION}cleanup.interval.ms": 500,
    }
    (tmp_path / "off").mkdir()
    with (
        Misbehaving(Say(body=PAGE)) as swept,
        Misbehaving(Say(body=PAGE)) as kept,
        Source(tmp_path, swept.url, keys) as on,
        Source(
            tmp_path / "off",
            kept.url,
            {**keys, f"{CONNECTION}cleanup.enabled": "false"},
        ) as off,
    ):
        on.poll()
        off.poll()
        used = time.monotonic()
        on.turn(lambda: swept.open == 0)
        off.sources.tick(time.monotonic())

        assert 0.95 < swept.closed_at[-1] - used < 1.7
        assert 1 == kept.open


# -- time -------------------------------------------------------------------


@shows(f"{CONNECTION}timeout.ms")
def test_an_address_that_does_not_answer_ends_with_the_time_for_connecting(
    tmp_path: Path,
) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = listener.getsockname()[1]
    full = [socket.socket() for _ in range(4)]
    for sock in full:
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
    keys = {f"{CONNECTION}timeout.ms": 400, "max.retries": 0}
    with Source(tmp_path, f"http://127.0.0.1:{port}", keys) as source:
        began = time.monotonic()
        with pytest.raises(Unreachable):
            source.poll()

        assert 0.3 < time.monotonic() - began < 5
    for sock in (*full, listener):
        sock.close()


@shows(f"{CLIENT}socket.timeout.ms")
def test_silence_ends_a_try(tmp_path: Path) -> None:
    keys = {f"{CLIENT}socket.timeout.ms": 400, "max.retries": 0}
    say = Say(body=PAGE, cut=4, hang=True)
    with Misbehaving(say) as server, Source(tmp_path, server.url, keys) as source:
        began = time.monotonic()
        with pytest.raises(Unreachable, match="silence for 0.4 s"):
            source.poll()

        assert 0.3 < time.monotonic() - began < 5


@shows(f"{CLIENT}request.timeout.ms")
def test_a_server_that_drips_ends_with_the_deadline(tmp_path: Path) -> None:
    keys = {f"{CLIENT}request.timeout.ms": 700, "max.retries": 0}
    say = Say(body=b"x" * 500, pause=0.05)
    with Misbehaving(say) as server, Source(tmp_path, server.url, keys) as source:
        began = time.monotonic()
        with pytest.raises(Unreachable, match="time is up"):
            source.poll()

        assert 0.6 < time.monotonic() - began < 5


@shows(f"{CLIENT}dns.cache.ttl.seconds")
@pytest.mark.parametrize(("ttl", "lookups"), [(1, 2), (300, 1), (0, 3)])
def test_a_name_is_asked_for_again_after_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ttl: int, lookups: int
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def counted(host: Any, *rest: Any, **more: Any) -> Any:
        # A name in ASCII is asked for as bytes.
        if host not in ("api.example", b"api.example"):
            return real(host, *rest, **more)
        asked.append(host)
        return real("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", counted)
    keys = {
        f"{CLIENT}dns.cache.ttl.seconds": ttl,
        f"{CONNECTION}pool.enabled": "false",
    }
    with Misbehaving(Say(body=PAGE)) as server:
        url = f"http://api.example:{server.port}/"
        with Source(tmp_path, url, keys) as source:
            source.poll()
            source.poll()
            time.sleep(1.05 if ttl == 1 else 0)
            source.poll()

    assert lookups == len(asked)


# -- bodies -----------------------------------------------------------------


@shows(f"{CLIENT}buffer.size.bytes")
def test_no_read_is_larger_than_the_buffer(tmp_path: Path) -> None:
    reads: list[int] = []

    class Noting:
        def __init__(self, sock: Any):
            self._sock = sock

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

        def recv_into(self, room: memoryview) -> int:
            reads.append(len(room))
            return int(self._sock.recv_into(room))

    keys = {f"{CLIENT}buffer.size.bytes": 8192}
    say = Say(body=b'{"items":["%s"]}' % (b"x" * 200_000))
    with Misbehaving(say) as server, Source(tmp_path, server.url, keys) as source:
        source.poll()
        route_pool = next(iter(source.sources.pool._route_pools.values()))
        route_pool.idle[0].sock = Noting(route_pool.idle[0].sock)
        source.poll()

    assert 8192 == max(reads)


@shows(f"{CLIENT}max.response.size.bytes")
@pytest.mark.parametrize(
    "say",
    [
        Say(body=b'{"items":["%s"]}' % (b"x" * 2000)),
        Say(body=gzip.compress(b'{"items":["%s"]}' % (b"x" * 2000)), headers=IN_GZIP),
    ],
    ids=["on the wire", "inflated"],
)
def test_a_body_over_its_size_is_refused_at_once(tmp_path: Path, say: Say) -> None:
    keys = {f"{CLIENT}max.response.size.bytes": 1024}
    with Misbehaving(say) as server, Source(tmp_path, server.url, keys) as source:
        with pytest.raises(Forbidden, match="over 1024 bytes"):
            source.poll()

        assert 1 == len(server.asked)


@shows(f"{CLIENT}compression.enabled", f"{CLIENT}compression.types")
@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ({}, "gzip, deflate"),
        ({f"{CLIENT}compression.types": "deflate,gzip"}, "deflate, gzip"),
        ({f"{CLIENT}compression.types": "gzip"}, "gzip"),
        ({f"{CLIENT}compression.enabled": "false"}, "identity"),
        ({"http.source.headers": "Accept-Encoding:gzip,deflate"}, "gzip,deflate"),
    ],
)
def test_what_is_asked_for_is_inflated_and_nothing_else(
    tmp_path: Path, keys: dict[str, object], sent: str
) -> None:
    say = Say(body=gzip.compress(PAGE), headers=IN_GZIP)
    with Misbehaving(say) as server, Source(tmp_path, server.url, keys) as source:
        if sent == "identity":
            with pytest.raises(BadPage, match="not asked for"):
                source.poll()
        else:
            assert [b"1", b"2"] == source.records()

        assert sent == server.asked[0].header("accept-encoding")


# -- HTTP/2 -----------------------------------------------------------------


@shows(f"{CLIENT}http2.enabled")
@needs_http2
@pytest.mark.parametrize("wanted", [True, False])
def test_http_2_is_spoken_where_it_is_wanted(tmp_path: Path, wanted: bool) -> None:
    keys = {f"{CLIENT}http2.enabled": str(wanted).lower()}
    with (
        MisbehavingH2(Say(body=PAGE)) as server,
        Source(tmp_path, server.url, keys) as source,
    ):
        assert [b"1", b"2"] == source.records()

        assert wanted == (server.h2_connections > 0)


@shows(f"{CLIENT}http2.max.concurrent.streams")
@needs_http2
def test_no_more_streams_are_open_than_allowed(tmp_path: Path) -> None:
    keys = {
        **EIGHT,
        "pagination.max.pages": 16,
        f"{CLIENT}http2.enabled": "true",
        f"{CLIENT}http2.max.concurrent.streams": 2,
    }
    pages = [Say(body=b'{"items":[%d]}' % n, wait=0.01) for n in range(17)]
    with (
        MisbehavingH2(*pages) as server,
        Source(tmp_path, server.url, keys) as source,
    ):
        source.poll()

        assert 2 == server.most_streams
        assert 1 == len({asked.connection for asked in server.asked})


@shows(f"{CLIENT}parser")
@pytest.mark.parametrize("parser", ["LENIENT", "STRICT"])
def test_how_an_answer_is_read(tmp_path: Path, parser: str) -> None:
    raw = b"HTTP/1.1 200 OK\nContent-Length: 15\n\n" + PAGE
    keys = {f"{CLIENT}parser": parser, "max.retries": 0}
    with Misbehaving(raw) as server, Source(tmp_path, server.url, keys) as source:
        if parser == "LENIENT":
            assert [b"1", b"2"] == source.records()
        else:
            with pytest.raises(Unreachable, match="not an HTTP answer"):
                source.poll()
