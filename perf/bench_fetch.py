"""
What does one request cost in CPU, for a page of 100 KB and for a small one?

    python -m perf.bench_fetch [--requests 3000] [--rounds 9] [--quick]

Contestants share one process, one nginx and one run, in turns: our own client,
bare `urllib3.PoolManager.request`, requests as people use it, and pycurl; over
HTTP/2 ours and bare pycurl.  The figure is CPU (user and system) of this process
a request; the claims are the ratios to bare urllib3 and to bare pycurl, medians
over the rounds.  At the end: how much faster eight requests at once are than one
by one, on one HTTP/2 connection to an API that takes 50 ms a page.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pycurl
import requests
import urllib3

from engine.records import Request
from engine.source.wire.dns import Resolver
from engine.source.wire.http1 import Http
from engine.source.wire.http2 import Multiplexer
from engine.source.wire.options import HttpOptions
from engine.source.wire.origin import AddressRules, AllowedOrigins, origin_of
from engine.source.wire.pool import Pool, PoolOptions
from engine.source.wire.tls import TlsOptions
from perf import rig, serving
from tests.fakes.misbehaving import MisbehavingH2, Say, authority, authority_pem


def ours(url: str) -> Callable[[], int]:
    client = Http(
        HttpOptions(
            borders=AllowedOrigins((origin_of(url),)),
            addresses=AddressRules(home=(origin_of(url).host,)),
        ),
        pool=Pool(PoolOptions(keep_alive_requests=1_000_000)),
        resolver=Resolver(60.0),
    )
    number = 0

    def ask() -> int:
        nonlocal number
        number += 1
        return len(client(Request("GET", f"{url}?n={number}")).body)

    return ask


def bare_urllib3(url: str) -> Callable[[], int]:
    pool = urllib3.PoolManager()
    return lambda: len(pool.request("GET", url).data)


def plain_requests(url: str) -> Callable[[], int]:
    session = requests.Session()
    return lambda: len(session.get(url).content)


def bare_pycurl(url: str) -> Callable[[], int]:
    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, url)

    def ask() -> int:
        body = io.BytesIO()
        handle.setopt(pycurl.WRITEDATA, body)
        handle.perform()
        return len(body.getvalue())

    return ask


def ours_h2(url: str) -> Callable[[], int]:
    client = client_h2(url)
    number = 0

    def ask() -> int:
        nonlocal number
        number += 1
        return len(client(Request("GET", f"{url}?n={number}")).body)

    return ask


def client_h2(url: str, tls: TlsOptions | None = None) -> Http:
    return Http(
        HttpOptions(
            borders=AllowedOrigins((origin_of(url),)),
            addresses=AddressRules(home=(origin_of(url).host,)),
            tls=tls or TlsOptions(ca_pem=authority_pem()),
        ),
        pool=Pool(PoolOptions()),
        resolver=Resolver(60.0),
        multiplexer=Multiplexer(
            streams=100, connections=10, idle=60.0, buffer_size=64 * 1024
        ),
    )


def pycurl_h2(url: str) -> Callable[[], int]:
    handle = pycurl.Curl()
    handle.setopt(pycurl.CAINFO_BLOB, authority_pem())
    handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
    number = 0

    def ask() -> int:
        nonlocal number
        number += 1
        body = io.BytesIO()
        handle.setopt(pycurl.URL, f"{url}?n={number}")
        handle.setopt(pycurl.WRITEDATA, body)
        handle.perform()
        return len(body.getvalue())

    return ask


OVER_H2 = {"ours, HTTP/2": ours_h2, "pycurl, HTTP/2": pycurl_h2}

TLS = """\
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  ssl_certificate {dir}/cert.pem;
  ssl_certificate_key {dir}/key.pem;
  http2_max_requests 100000000;
  keepalive_requests 100000000;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    root {dir};
    default_type application/json;
  }}
}}
"""


@contextlib.contextmanager
def nginx_h2() -> Iterator[str]:
    """A page of 100 KB over TLS and HTTP/2; yields its URL."""
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    with tempfile.TemporaryDirectory(prefix="khs-perf-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        made = authority().issue_cert("localhost")
        chain = b"".join(pem.bytes() for pem in made.cert_chain_pems)
        (folder / "cert.pem").write_bytes(chain)
        made.private_key_pem.write_to_path(str(folder / "key.pem"))
        items = b",".join(serving.record(number) for number in range(345))
        (folder / "p0.json").write_bytes(b'{"records":[' + items + b'],"next":null}')
        port = serving.free_port()
        user = "user root;\n" if os.getuid() == 0 else ""
        (folder / "nginx.conf").write_text(user + TLS.format(dir=folder, port=port))
        server = subprocess.Popen(
            [nginx, "-c", str(folder / "nginx.conf"), "-p", name],
            stderr=subprocess.DEVNULL,
        )
        try:
            serving.await_port(port)
            yield f"https://localhost:{port}/p0.json"
        finally:
            server.terminate()
            server.wait(10)


def serve() -> None:
    """An API that takes 50 ms a page, until standard input ends."""
    with MisbehavingH2(Say(body=b"{}", wait=0.05)) as server:
        print(server.url, flush=True)
        sys.stdin.read()
        connections = {asked.connection for asked in server.asked}
    print(len(connections), flush=True)


def at_once(pages: int = 240) -> float:
    """How much sooner 8 threads are through than one, 50 ms a page."""
    server = subprocess.Popen(
        [sys.executable, "-m", "perf.bench_fetch", "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=rig.ROOT,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    client = client_h2(url, TlsOptions(verify=False))

    def ask(count: int) -> None:
        for _ in range(count):
            client(Request("GET", f"{url}/"))

    ask(1)
    began = time.monotonic()
    ask(pages // 8)
    alone = (time.monotonic() - began) * 8
    threads = [threading.Thread(target=ask, args=(pages // 8,)) for _ in range(8)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = time.monotonic() - began
    server.stdin.close()
    assert "1" == server.stdout.readline().strip(), "more than one connection"
    server.wait(10)
    return alone / together


CONTESTANTS = {
    "ours": ours,
    "urllib3.PoolManager.request": bare_urllib3,
    "requests.Session.get": plain_requests,
    "pycurl": bare_pycurl,
}


def cpu(ask: Callable[[], int], count: int) -> float:
    """CPU microseconds a request."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(count):
        ask()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return (
        (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        / count
        * 1e6
    )


def contest(
    contestants: Mapping[str, Callable[[str], Callable[[], int]]],
    url: str,
    count: int,
    rounds: int,
) -> dict[str, list[float]]:
    asks = {name: make(url) for name, make in contestants.items()}
    sizes = {name: ask() for name, ask in asks.items()}
    assert 1 == len(set(sizes.values())), sizes
    results: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(rounds):
        for name, ask in asks.items():
            results[name].append(cpu(ask, count))
    return results


def show(label: str, results: dict[str, list[float]], base: str) -> dict[str, object]:
    """Print a table; the ratios are medians over the rounds."""
    print(f"\n{label:28} {'CPU us min / median / max':>28} {'ratio':>8}")
    ratios = {}
    for name, values in results.items():
        ratios[name] = statistics.median(
            mine / other for mine, other in zip(values, results[base], strict=True)
        )
        print(f"{name:28} {rig.spread(values, 0):>28} {ratios[name]:>8.2f}")
    return {"cpu us": results, f"ratio to {base}": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    count, rounds = (200, 3) if options.quick else (options.requests, options.rounds)

    document: dict[str, object] = {"question": __doc__.strip().splitlines()[0]}
    document["machine"] = rig.machine()
    for label, per_page in (("100 KB", 345), ("300 bytes", 1)):
        with serving.pages(1, per_page=per_page, size=290) as base:
            results = contest(CONTESTANTS, f"{base}/p0.json", count, rounds)
        document[label] = show(label, results, "urllib3.PoolManager.request")
    with nginx_h2() as url:
        results = contest(OVER_H2, url, count, rounds)
    document["HTTP/2"] = show("100 KB, TLS, HTTP/2", results, "pycurl, HTTP/2")
    faster = at_once()
    print(
        f"\n8 requests at once on one HTTP/2 connection, 50 ms a page: {faster:.1f} x"
    )
    document["8 at once, 50 ms a page"] = faster
    if not options.quick:
        target = rig.ROOT / "perf" / "results" / "fetch.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
