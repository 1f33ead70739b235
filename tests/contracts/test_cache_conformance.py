"""
Our cache against the published cases for HTTP caches.

The cases come as a package with a server and a client of their own; between
the two stands a small proxy of this test, whose answers all come through
`Cached`.  Prints how many cases of each group pass.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.clock import SYSTEM
from engine.errors import SourceError, Unreachable
from engine.records import Request, Response
from engine.shared.cache.settings import CacheSettings, TierSettings
from engine.shared.cache.tiers import Tiers
from engine.source.fetch.cache import Cached
from engine.source.fetch.freshness import decode, encode
from tests.needs import need

pytestmark = pytest.mark.slow

PACKAGE = "http-cache-tests@0.4.5"

#: Where an unpacked package may stand already; else it is installed.
UNPACKED = "HTTP_CACHE_TESTS"

LIST = """
import tests from './tests/index.mjs'
const cases = []
for (const suite of tests) {
  for (const one of suite.tests) {
    cases.push({ group: suite.id, id: one.id, name: one.name,
      kind: one.kind || 'required', browser: one.browser_only === true,
      needs: one.depends_on || [] })
  }
}
console.log(JSON.stringify(cases))
"""

#: Required cases that are not for a private cache in a client that keeps only
#: GET answers with status 200, each with the reason.
SHARED = "speaks of a shared cache; ours belongs to one credential"
COOKIES = "a cookie belongs to the moment: it is dropped from what is kept"
NOT_OURS = {
    "freshness-s-maxage-shared": SHARED,
    "cc-resp-private-shared": SHARED,
    "headers-store-Set-Cookie": COOKIES,
    "headers-store-Set-Cookie2": COOKIES,
    "304-etag-update-response-Set-Cookie": COOKIES,
    "304-etag-update-response-Set-Cookie2": COOKIES,
    "304-etag-update-response-ETag": "a 304 with another entity tag speaks of another "
    "answer (RFC 9111 4.3.4): it is asked for as it is",
    "age-parse-prefix": "its name calls stale what it expects from the cache",
}


#: What the package's client says of itself: no part of what it asks.
BOOKKEEPING = {"test-id", "test-name", "req-num"}


class Origin:
    """
    The package's own server, asked over plain HTTP: a fetch.

    Attributes:
        own: The newest bookkeeping of each URL, handed past the cache.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.own: dict[str, list[tuple[str, str]]] = {}

    def __call__(self, request: Request) -> Response:
        sent_at = SYSTEM.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        path = request.url.split("/", 3)[3]
        try:
            connection.putrequest(
                request.method, f"/{path}", skip_host=True, skip_accept_encoding=True
            )
            connection.putheader("Host", f"127.0.0.1:{self._port}")
            for name, value in (*request.headers, *self.own.get(request.url, [])):
                connection.putheader(name, value)
            if request.body is not None:
                connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as failure:
            raise Unreachable(str(failure)) from failure
        finally:
            connection.close()
        return Response(
            request=request,
            url=request.url,
            status=answer.status,
            headers=[(name.lower(), value) for name, value in answer.getheaders()],
            body=body,
            sent_at=sent_at,
            received_ms=SYSTEM.wall_ms(),
        )


class Never:
    """A `Stopping` that never stops."""

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        return False


class Wide(ThreadingHTTPServer):
    """Takes a hundred connections at once, as the package's client makes them."""

    request_queue_size = 512
    daemon_threads = True


def relay(
    cached: Cached, origin: Origin, origin_port: int
) -> type[BaseHTTPRequestHandler]:
    class Relay(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            own = {"host", "content-length", "connection", "accept-encoding"}
            own |= BOOKKEEPING
            url = f"http://127.0.0.1:{origin_port}{self.path}"
            origin.own[url] = [
                p for p in self.headers.items() if p[0].lower() in BOOKKEEPING
            ]
            request = Request(
                self.command,
                url,
                tuple(p for p in self.headers.items() if p[0].lower() not in own),
                self.rfile.read(length) if length else None,
            )
            try:
                response = cached(request)
            except SourceError:
                self.send_response_only(502)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response_only(response.status, "Answer")
            for name, value in response.headers:
                if name not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            if response.status not in (204, 304):
                self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            if self.command != "HEAD" and response.status not in (204, 304):
                self.wfile.write(response.body)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = answer
        do_PATCH = do_M_SEARCH = answer

        def __getattr__(self, name: str):
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def log_message(self, *_: object) -> None: ...

    return Relay


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    need(shutil.which("node") and shutil.which("npm"), "node with npm")
    if UNPACKED in os.environ:
        return Path(os.environ[UNPACKED])
    place = tmp_path_factory.mktemp("package")
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--prefix", place, PACKAGE],
        capture_output=True,
        timeout=100,
        check=False,
    )
    need(installed.returncode == 0, PACKAGE)
    return place / "node_modules" / "http-cache-tests"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def origin(package: Path, tmp_path_factory) -> Iterator[int]:
    port = free_port()
    settings = {
        "npm_config_protocol": "http",
        "npm_config_port": str(port),
        "npm_config_pidfile": str(tmp_path_factory.mktemp("server") / "pid"),
    }
    server = subprocess.Popen(
        ["node", "server/server.mjs"],
        cwd=package,
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port
    finally:
        server.kill()
        server.wait()


def run_cases(package: Path, origin: int, place: Path) -> dict[str, object]:
    tier = TierSettings(entries=1000, ttl=300.0, volume=10_000_000)
    tiers = Tiers(
        place / "run",
        place / "disk",
        levels=(tier, tier, tier),
        settings=CacheSettings(),
        encode=encode,
        decode=decode,
        # A hundred callers at once, each over a connection of its own.
        patience=5.0,
    )
    asking = Origin(origin)
    cached = Cached(asking, tiers, stopping=Never(), changed=True, patience=1.0)
    server = Wide(("127.0.0.1", 0), relay(cached, asking, origin))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        ran = subprocess.run(
            ["node", "--no-warnings", "cli.mjs"],
            cwd=package,
            env={
                **os.environ,
                "npm_config_base": f"http://127.0.0.1:{server.server_port}",
                "npm_package_config_id": "",
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
    finally:
        server.shutdown()
        server.server_close()
    found: dict[str, object] = json.loads(ran.stdout[ran.stdout.index("{") :])
    return found


def test_every_required_case_that_applies_passes(package, origin, tmp_path) -> None:
    listed = subprocess.run(
        ["node", "--input-type=module", "-e", LIST],
        cwd=package,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    cases = [one for one in json.loads(listed.stdout) if not one["browser"]]

    results = run_cases(package, origin, tmp_path)

    groups: dict[str, dict[str, list[int]]] = {}
    failed = {}
    for one in cases:
        passed = results.get(one["id"]) is True
        counts = groups.setdefault(one["group"], {}).setdefault(one["kind"], [0, 0])
        counts[0] += passed
        counts[1] += 1
        broken = [other for other in one["needs"] if results.get(other) is not True]
        if one["kind"] == "required" and not passed and broken:
            print(f"does not apply: {one['id']}: rests on {', '.join(broken)}")
        elif one["kind"] == "required" and not passed:
            failed[one["id"]] = f"{one['name']}: {results.get(one['id'])}"
    for group, kinds in groups.items():
        told = ", ".join(f"{kind} {a}/{b}" for kind, (a, b) in sorted(kinds.items()))
        print(f"{group:18} {told}")
    for name, reason in NOT_OURS.items():
        print(f"does not apply: {name}: {reason}")

    unexpected = {name: why for name, why in failed.items() if name not in NOT_OURS}
    for name, why in unexpected.items():
        print(f"failed: {name}: {why}")

    assert {} == unexpected
    assert set(NOT_OURS) <= {one["id"] for one in cases}


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__, "-s", "--basetemp", tempfile.mkdtemp()]))
