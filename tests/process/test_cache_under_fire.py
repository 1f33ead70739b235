"""The shared cache among real processes that are killed, and one API behind it."""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import urllib3

from engine.clock import SYSTEM
from engine.records import Request, Response
from engine.shared.cache.settings import CacheSettings, TierSettings
from engine.shared.cache.tiers import Tiers
from engine.source.fetch.cache import Cached
from engine.source.fetch.freshness import decode, encode
from tests.shared.children import Child

pytestmark = pytest.mark.slow

TIER = TierSettings(entries=200, ttl=3600.0, volume=50_000_000)


def tiers_at(path: Path, **more) -> Tiers:
    return Tiers(
        path / "run",
        path / "disk",
        levels=more.pop("levels", (TIER, TIER, TIER)),
        settings=CacheSettings(**more),
        encode=encode,
        decode=decode,
        patience=1.0,
    )


class Sleeping:
    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        return False


class Api:
    """Answers slowly, counts what it is asked, and always knows the truth."""

    def __init__(self, delay: float, control: str = "max-age=60") -> None:
        api = self
        self.asked: dict[str, int] = {}
        self.lock = threading.Lock()

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_GET(self) -> None:
                with api.lock:
                    api.asked[self.path] = api.asked.get(self.path, 0) + 1
                time.sleep(delay)
                body = self.path.encode() * 200
                self.send_response_only(200)
                self.send_header("Cache-Control", control)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def fetch(self):
        pool = urllib3.PoolManager()

        def call(request: Request) -> Response:
            sent_at = SYSTEM.monotonic()
            answer = pool.request("GET", request.url, retries=False)
            return Response(
                request=request,
                url=request.url,
                status=answer.status,
                headers=[(n.lower(), v) for n, v in answer.headers.items()],
                body=answer.data,
                sent_at=sent_at,
                received_ms=SYSTEM.wall_ms(),
            )

        return call


@pytest.fixture
def api():
    one = Api(0.3)
    yield one
    one.http.shutdown()
    one.http.server_close()


def asking(api: Api, path: Path, names: list[str], **more):
    def run(say):
        tiers = tiers_at(path)
        fetch = Cached(api.fetch(), tiers, stopping=Sleeping(), **more)
        for name in names:
            response = fetch(Request("GET", f"{api.url}/{name}"))
            right = response.body == f"/{name}".encode() * 200
            say(f"{response.origin} {right}")

    return run


def test_eight_processes_ask_each_key_once(tmp_path, api) -> None:
    names = [f"k{n}" for n in range(5)]
    children = [Child(asking(api, tmp_path, names)) for _ in range(8)]
    told = [line for child in children for line in child.rest()]
    for child in children:
        assert 0 == child.wait()

    assert {f"/{name}": 1 for name in names} == api.asked
    assert 5 == told.count("network True")
    assert 35 == told.count("fresh True")


def test_a_dead_leader_is_replaced(tmp_path, api) -> None:
    leader = Child(asking(api, tmp_path, ["k"]))
    deadline = time.monotonic() + 5
    while not api.asked and time.monotonic() < deadline:
        time.sleep(0.005)
    followers = [Child(asking(api, tmp_path, ["k"])) for _ in range(3)]
    time.sleep(0.1)
    leader.kill()
    leader.rest()

    told = [line for child in followers for line in child.rest()]
    for child in followers:
        child.wait()

    assert 2 == api.asked["/k"]
    assert ["fresh True", "fresh True", "network True"] == sorted(told)


def test_eighty_killed_writers_change_no_answer(tmp_path) -> None:
    """Every value that is found is whole and its own; nothing is left behind."""
    chance = random.Random(11)
    small = (
        TierSettings(entries=50, ttl=3600.0, volume=20_000_000),
        TierSettings(entries=60, ttl=3600.0, volume=20_000_000),
        TierSettings(entries=100, ttl=3600.0, volume=20_000_000),
    )

    def value(key: str, version: int) -> bytes:
        # Some are large enough for a file of their own, and become small again.
        return f"{key}:{version}:".encode() * (20 if version % 3 == 0 else 300)

    def work(say):
        tiers = Tiers(
            tmp_path / "run",
            tmp_path / "disk",
            levels=small,
            settings=CacheSettings(batch=10),
            encode=bytes,
            decode=bytes,
            patience=1.0,
        )
        mine = random.Random(os.getpid())
        say("on")
        while True:
            # Not 0, which stands for a free place: keys are digests.
            key = f"{mine.randrange(1, 300):032x}"
            tiers.keep(key, value(key, mine.randrange(9)))
            found = tiers.find(f"{mine.randrange(1, 300):032x}")
            if found is not None:
                key = found.value[:32].decode()
                version = int(found.value[33:34])
                if found.value != value(key, version):
                    say(f"wrong {key}")

    wrong = []
    kills = 0
    while kills < 80:
        children = [Child(work) for _ in range(4)]
        for child in children:
            child.hear()
        time.sleep(chance.uniform(0.02, 0.1))
        for child in children:
            child.kill()
            kills += 1
            wrong += [line for line in child.rest() if line.startswith("wrong")]

    assert [] == wrong
    for place in (tmp_path / "run" / "l2", tmp_path / "disk" / "l3"):
        connection = sqlite3.connect(place / "cache.db")
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
        connection.close()
        names = {"cache.db", "cache.db-wal", "cache.db-shm"}
        found = [path for path in place.rglob("*") if path.parent.name != "packs"]
        assert {*names, "packs"} >= {path.name for path in found}
    assert [] == list(tmp_path.rglob("*.bad-*"))
    again = Tiers(
        tmp_path / "run",
        tmp_path / "disk",
        levels=small,
        settings=CacheSettings(batch=10),
        encode=bytes,
        decode=bytes,
        patience=1.0,
    )
    again.sweep()
    for reading in again.readings()[1:]:
        assert reading.entries <= reading.allowed
    # Nothing of a killed writer is left in memory but for what is new and not looked at yet.
    upper = again._shared[0]
    held = {line.digest.hex() for line in upper.ledger.lines()}
    files = {path.name for path in (tmp_path / "run" / "l2.values").iterdir()}
    assert all(len(name) == 32 for name in files)
    assert len(files - held) <= 5
    assert sum(again.find(f"{n:032x}") is not None for n in range(1, 300)) > 20


def test_nothing_is_ever_pickled(tmp_path) -> None:
    """An audit hook and a missing module: the cache works without it."""

    def run(say):
        events: list[str] = []
        sys.addaudithook(
            lambda event, given: events.append(event) if "pickle" in event else None
        )
        import pickle

        def never(*_: object, **__: object) -> None:
            raise AssertionError("pickled")

        for name in ("dumps", "loads", "dump", "load"):
            setattr(pickle, name, never)
        tiers = tiers_at(tmp_path)
        fetch = Cached(
            lambda request: Response(
                request=request,
                url=request.url,
                status=200,
                headers=[("cache-control", "max-age=60")],
                body=b"x" * 1000,
                sent_at=SYSTEM.monotonic(),
                received_ms=SYSTEM.wall_ms(),
            ),
            tiers,
            stopping=Sleeping(),
        )
        for n in range(600):
            fetch(Request("GET", f"http://h/{n % 400}"))
        tiers.sweep()
        say(f"{events} {tiers.lookups} {[r.errors for r in tiers.readings()]}")

    with Child(run) as child:
        told = child.hear()

    assert told.startswith("[] ")
    assert told.endswith("[0, 0, 0]")
