"""HTTP/2: many requests on one connection, against nginx over TLS."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import Unreachable
from engine.source.wire.http2 import installed
from engine.source.wire.options import ProxyOptions
from engine.source.wire.tls import TlsOptions, pin_of
from tests.fakes.misbehaving import (
    Misbehaving,
    MisbehavingH2,
    Say,
    authority,
    authority_pem,
    server_tls,
)
from tests.needs import need
from tests.source.clients import Client
from tests.source.wire.test_http1 import forward

PAGE = b'{"items":[1,2]}'

NGINX = """\
daemon off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log;
events {{ worker_connections 64; }}
http {{
  log_format seen '$connection $server_protocol $request_uri';
  access_log {dir}/access.log seen;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
  server {{ listen 127.0.0.1:{h2} ssl http2; root {dir}; default_type application/json; }}
  server {{ listen 127.0.0.1:{h1} ssl; root {dir}; default_type application/json; }}
}}
"""

pytestmark = pytest.mark.skipif(
    not installed() and "CI" not in os.environ, reason="the extra [http2] is missing"
)


class Nginx:
    """A real server: `url` speaks HTTP/2, `old` HTTP/1.1 only."""

    def __init__(self, folder: Path, h2: int, h1: int):
        self.folder = folder
        self.url = f"https://localhost:{h2}"
        self.old = f"https://localhost:{h1}"

    def seen(self) -> list[tuple[str, str, str]]:
        lines = (self.folder / "access.log").read_text().splitlines()
        return [tuple(line.split(" ", 2)) for line in lines]  # type: ignore[misc]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        if "CI" in os.environ:
            pytest.fail("nginx is missing")
        pytest.skip("nginx is missing")
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    made = authority().issue_cert("localhost")
    (folder / "cert.pem").write_bytes(b"".join(p.bytes() for p in made.cert_chain_pems))
    made.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "page.json").write_bytes(PAGE)
    (folder / "large.json").write_bytes(b"[" + b"1234567," * 400_000 + b"0]")
    h2, h1 = free_port(), free_port()
    conf = folder / "nginx.conf"
    user = "user root;\n" if os.getuid() == 0 else ""
    conf.write_text(user + NGINX.format(dir=folder, h2=h2, h1=h1))
    server = subprocess.Popen(
        [program, "-c", str(conf), "-p", str(folder)], stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", h1), 1).close()
                break
            except OSError:
                assert time.monotonic() < end, "nginx did not start"
                time.sleep(0.02)
        yield Nginx(folder, h2, h1)
    finally:
        server.terminate()
        server.wait(10)


def test_http_2_is_spoken_where_the_server_does(nginx: Nginx) -> None:
    client = Client(nginx.url, http2=True)
    for page in range(5):
        assert PAGE == client.get(f"/page.json?h2={page}").body

    seen = [line for line in nginx.seen() if "?h2=" in line[2]]
    assert {"HTTP/2.0"} == {protocol for _, protocol, _ in seen}
    assert 1 == len({connection for connection, _, _ in seen})


def test_without_http_2_it_is_http_1_1(nginx: Nginx) -> None:
    client = Client(nginx.url)
    assert PAGE == client.get("/page.json?h1=1").body
    # And where the server has no other, without an error.
    fallback = Client(nginx.old, http2=True)
    assert PAGE == fallback.get("/page.json?h1=2").body
    assert PAGE == fallback.get("/page.json?h1=3").body

    seen = [line for line in nginx.seen() if "?h1=" in line[2]]
    assert ["HTTP/1.1"] * 3 == [protocol for _, protocol, _ in seen]


def test_a_large_body_comes_whole(nginx: Nginx) -> None:
    body = Client(nginx.url, http2=True).get("/large.json").body

    assert (nginx.folder / "large.json").read_bytes() == bytes(body)


def test_a_process_may_have_more_than_a_thousand_descriptors() -> None:
    """The limit of select(2) is none of ours."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need(hard >= 2000, "room for more than a thousand descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    held = [os.dup(0) for _ in range(1100)]
    try:
        with MisbehavingH2(Say(body=PAGE)) as server:
            assert PAGE == bytes(Client(server.url, http2=True).get().body)
    finally:
        for number in held:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_many_requests_share_one_connection() -> None:
    with MisbehavingH2(Say(body=PAGE, wait=0.05)) as server:
        client = Client(server.url, http2=True)
        client.get()
        began = time.monotonic()
        run_at_once(8, client, 5)
        taken = time.monotonic() - began

        # One for the question which protocol, one for all requests.
        assert (2, 1) == (server.connections, len({a.connection for a in server.asked}))
        assert 8 == server.most_streams
        # 40 requests of 50 ms: 2 s one by one.
        assert taken < 1.0


def test_no_more_streams_than_allowed() -> None:
    with MisbehavingH2(Say(body=PAGE, wait=0.02)) as server:
        client = Client(server.url, http2=True, streams=2)
        client.get()
        run_at_once(8, client, 3)

        assert 25 == len(server.asked)
        assert server.most_streams <= 2


def run_at_once(threads: int, client: Client, each: int) -> None:
    failures: list[Exception] = []

    def run() -> None:
        try:
            for _ in range(each):
                assert PAGE == client.get().body
        except Exception as error:  # noqa: BLE001 - shown below
            failures.append(error)

    started = [threading.Thread(target=run) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(20)
    assert not failures, failures


def test_one_slow_stream_holds_up_nobody() -> None:
    acts = [Say(body=PAGE), Say(body=PAGE, wait=1.0), Say(body=PAGE)]
    with MisbehavingH2(*acts) as server:
        client = Client(server.url, http2=True)
        client.get()
        slow = threading.Thread(target=client.get)
        slow.start()
        server.wait_for(lambda: len(server.asked) == 2)
        began = time.monotonic()
        client.get()

        assert time.monotonic() - began < 0.5
        slow.join(5)


def test_a_post_carries_its_body() -> None:
    with MisbehavingH2(Say(body=PAGE)) as server:
        client = Client(server.url, http2=True)
        client.post("/a", b'{"page":1}')
        client.post("/a", b'{"page":22}')
        client.get("/b")

        assert [
            ("POST", b'{"page":1}'),
            ("POST", b'{"page":22}'),
            ("GET", b""),
        ] == [(asked.method, asked.body) for asked in server.asked]


def test_certificates_are_checked() -> None:
    with MisbehavingH2(Say(body=PAGE)) as server:
        with pytest.raises(Unreachable, match="certificate"):
            Client(server.url, http2=True, tls=TlsOptions()).get()
        assert (
            PAGE
            == Client(server.url, http2=True, tls=TlsOptions(verify=False)).get().body
        )


def test_pins_are_checked() -> None:
    import ssl

    from engine.errors import Forbidden

    with MisbehavingH2(Say(body=PAGE)) as server:
        context = ssl.create_default_context(cadata=authority_pem())
        raw = socket.create_connection(("127.0.0.1", server.port))
        with context.wrap_socket(raw, server_hostname="localhost") as wrapped:
            certificate = wrapped.getpeercert(binary_form=True)
        assert certificate is not None
        good = TlsOptions(ca_pem=authority_pem(), pins=(pin_of(certificate),))
        bad = TlsOptions(ca_pem=authority_pem(), pins=("sha256/" + "A" * 43 + "=",))

        assert PAGE == Client(server.url, http2=True, tls=good).get().body
        with pytest.raises(Forbidden, match="pinned"):
            Client(server.url, http2=True, tls=bad).get()


def test_it_goes_through_a_proxy() -> None:
    with MisbehavingH2(Say(body=PAGE)) as server, Misbehaving(forward) as proxy:
        client = Client(
            server.url,
            http2=True,
            proxy=ProxyOptions("127.0.0.1", proxy.port, "me", "pw"),
        )
        assert PAGE == client.get().body

        # Once to ask which protocol it is, once for all requests.
        assert ["CONNECT"] * 2 == [asked.method for asked in proxy.asked]
        assert proxy.asked[0].header("proxy-authorization") is not None
        assert proxy.asked[1].header("proxy-authorization") is not None


def test_behind_a_proxy_too_a_server_without_it_is_read_by_our_own_reader() -> None:
    with (
        Misbehaving(Say(body=PAGE, length="3"), tls=server_tls()) as server,
        Misbehaving(forward) as proxy,
    ):
        client = Client(
            server.url, http2=True, proxy=ProxyOptions("127.0.0.1", proxy.port)
        )
        with pytest.raises(Unreachable, match="bytes behind the end"):
            client.get()


def test_a_server_that_goes_away_is_no_answer_and_comes_back() -> None:
    with MisbehavingH2(Say(body=PAGE)) as server:
        client = Client(server.url, http2=True)
        client.get()
        server.drop_idle()
        server.wait_for(lambda: server.open == 0)

        assert PAGE == client.get().body


def test_plain_http_stays_http_1_1() -> None:
    with Misbehaving(Say(body=PAGE)) as server:
        assert PAGE == Client(server.url, http2=True).get().body
        assert 1 == server.connections


def test_tls_of_one_client_is_not_used_by_another() -> None:
    import ssl

    context = server_tls(alpn=("h2", "http/1.1"))
    context.verify_mode = ssl.CERT_OPTIONAL
    with MisbehavingH2(Say(body=PAGE)) as server:
        strict = Client(server.url, http2=True)
        loose = Client(server.url, http2=True, tls=TlsOptions(verify=False))
        loose.multiplexer = strict.multiplexer
        loose.http._multiplexer = strict.multiplexer
        strict.get()
        loose.get()

        assert 2 == len({asked.connection for asked in server.asked})


def test_without_reuse_each_request_has_its_connection() -> None:
    with MisbehavingH2(Say(body=PAGE)) as server:
        client = Client(server.url, http2=True, reuse=False)
        for _ in range(3):
            assert PAGE == client.get().body

        assert 3 == len({asked.connection for asked in server.asked})


def test_an_idle_connection_is_closed_after_its_time() -> None:
    with MisbehavingH2(Say(body=PAGE)) as server:
        client = Client(server.url, http2=True)
        client.get()
        assert client.multiplexer is not None
        used = time.monotonic()
        client.multiplexer.tick(used + 59)
        server.wait_for(lambda: server.open == 1)
        client.multiplexer.tick(used + 61)
        server.wait_for(lambda: server.open == 0)

        assert PAGE == client.get().body


def test_a_stop_that_waits_no_longer_ends_every_stream() -> None:
    with MisbehavingH2(Say(body=PAGE), Say(body=PAGE, wait=20.0)) as server:
        client = Client(server.url, http2=True)
        client.get()
        failures: list[Exception] = []

        def ask() -> None:
            try:
                client.get()
            except Unreachable as error:
                failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        server.wait_for(lambda: len(server.asked) == 5)
        began = time.monotonic()
        assert client.multiplexer is not None
        client.multiplexer.cut()
        for thread in threads:
            thread.join(5)

        assert time.monotonic() - began < 1.0
        assert 4 == len(failures)


def test_what_must_not_run_twice_is_sent_once() -> None:
    def once_and_gone(server: MisbehavingH2) -> int:
        client = Client(server.url, http2=True, idempotent=False)
        client.get()
        with pytest.raises(Unreachable) as caught:
            client.post("/", b"{}")
        assert caught.value.sent
        return sum(asked.method == "POST" for asked in server.asked)

    # The connection ends in place of an answer: before the request is read, it
    # would not have been; after it, nobody knows.
    with MisbehavingH2(Say(body=PAGE), Say(gone=True)) as server:
        assert 1 == once_and_gone(server)
