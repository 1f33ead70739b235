"""
What does the response cache cost, what does it save, and does tuning help?

    python perf/bench_cache.py [--quick]

Hits: L1 and L2, a body of 20 KB, with 1 and 8 processes; baselines in the same
run: a dictionary, and `diskcache` alone on the same memory.  Writes: p50 and
p99 of 8 processes that all store, beside `diskcache` alone.  A chain: the layer around
a fetch that
answers at once.  A workload: 50 endpoints polled again and again, nothing
changes, ETags: calls, bytes and CPU with the cache and without.  Tuning: a
working set that shifts and outgrows its tier, hit ratio with and without.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import diskcache
import urllib3

from engine.clock import SYSTEM
from engine.records import Request, Response
from engine.shared.cache.settings import CacheSettings, TierSettings
from engine.shared.cache.tiers import Tiers
from engine.source.fetch.cache import Cached
from engine.source.fetch.freshness import StoredResponse, decode, encode
from perf.rig import ROOT, machine
from tests.fakes.hands import Hands

BODY = os.urandom(20_000)
MIB = 1 << 20


class Going:
    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        return False


def tiers_at(path: Path, sizes: tuple[int, int, int] = (1000, 5000, 10_000), **more):
    clock = more.pop("clock", SYSTEM)
    background = more.pop("background", False)
    levels = tuple(
        TierSettings(entries=size, ttl=ttl, volume=volume)
        for size, ttl, volume in zip(
            sizes, (300, 3600, 14400), (64 * MIB, 128 * MIB, 1024 * MIB), strict=True
        )
    )
    return Tiers(
        path / "run",
        path / "disk",
        levels=levels,
        settings=CacheSettings(**more),
        encode=encode,
        decode=decode,
        background=background,
        clock=clock,
    )


def stored(body: bytes = BODY) -> StoredResponse:
    headers = (("etag", '"0123456789"'), ("content-type", "application/json"))
    return StoredResponse("http://h/x", "http://h/x", 200, headers, body, 0.0, 1)


def key(number: int) -> str:
    return blake2b(str(number).encode(), digest_size=16).hexdigest()


def forked(processes: int, work: Callable[[int], Any]) -> list[Any]:
    pipes = []
    for number in range(processes):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writing, json.dumps(work(number)).encode())
            os._exit(0)
        os.close(writing)
        pipes.append((pid, reading))
    found = []
    for pid, reading in pipes:
        with os.fdopen(reading) as pipe:
            found.append(json.loads(pipe.read()))
        os.waitpid(pid, 0)
    return found


def each(call: Callable[[int], object], count: int) -> dict[str, float]:
    """Microseconds of one call: wall of the best fifth, and CPU."""
    part = max(1, count // 20)
    walls = []
    cpu = time.process_time()
    for first in range(0, count, part):
        began = time.perf_counter()
        for number in range(first, first + part):
            call(number)
        walls.append((time.perf_counter() - began) / part)
    cpu = (time.process_time() - cpu) / (len(walls) * part)
    walls.sort()
    return {
        "wall_us": statistics.mean(walls[: max(1, len(walls) // 5)]) * 1e6,
        "cpu_us": cpu * 1e6,
    }


def hits(place: Path, count: int) -> dict[str, Any]:
    first = tiers_at(place / "h")
    for number in range(500):
        first.keep(key(number), stored())
    plain = diskcache.Cache(str(place / "plain"))
    for number in range(500):
        plain.set(key(number), BODY)
    plain.close()
    table = {}

    def level_1(_: int) -> dict[str, float]:
        one = tiers_at(place / "h")
        one.keep(key(9999), stored())
        return each(lambda n: one.find(key_9999), count * 10)

    key_9999 = key(9999)

    def level_2(_: int) -> dict[str, float]:
        one = tiers_at(place / "h", sizes=(0, 5000, 10_000))
        return each(lambda n: one.find(keys[n % 500]), count)

    keys = [key(number) for number in range(500)]

    def dictionary(_: int) -> dict[str, float]:
        held = dict.fromkeys(keys, BODY)
        return each(lambda n: held.get(keys[n % 500]), count * 10)

    def library(_: int) -> dict[str, float]:
        cache = diskcache.Cache(str(place / "plain"))
        return each(lambda n: cache.get(keys[n % 500]), count)

    for processes in (1, 8):
        for name, work in (
            ("baseline: dict", dictionary),
            ("baseline: diskcache", library),
            ("L1 hit", level_1),
            ("L2 hit, 20 KB", level_2),
        ):
            found = forked(processes, work)
            one = {
                what: statistics.mean(each_[what] for each_ in found)
                for what in ("wall_us", "cpu_us")
            }
            table[f"{name}, {processes}"] = one
            print(
                f"{name:24}{processes} processes"
                f"{one['wall_us']:>10.1f} us wall{one['cpu_us']:>10.1f} us CPU"
            )
    return table


def writes(place: Path, count: int) -> dict[str, Any]:
    def work(number: int) -> list[float]:
        one = tiers_at(place / "w", background=True)
        names = [key(number * count + n) for n in range(count)]
        took = []
        for n in range(count):
            began = time.perf_counter()
            one.keep(names[n], stored())
            took.append(time.perf_counter() - began)
        return took

    def library(number: int) -> list[float]:
        cache = diskcache.Cache(str(place / "plain-w"))
        took = []
        for n in range(count):
            began = time.perf_counter()
            cache.set(key(number * count + n), BODY, retry=True)
            took.append(time.perf_counter() - began)
        return took

    table = {}
    for name, writer in (("baseline: diskcache", library), ("store", work)):
        took = sorted(t for found in forked(8, writer) for t in found)
        table[name] = result = {
            "p50_ms": took[len(took) // 2] * 1e3,
            "p99_ms": took[len(took) * 99 // 100] * 1e3,
            "max_ms": took[-1] * 1e3,
        }
        print(
            f"{name}, 8 writers: p50 {result['p50_ms']:.2f} ms, p99 "
            f"{result['p99_ms']:.2f} ms, max {result['max_ms']:.1f} ms"
        )
    return table


def chain(place: Path, count: int) -> dict[str, Any]:
    request = Request("GET", "http://h/x?cursor=abc", chained=True)
    response = Response(
        request=request, url=request.url, status=200, headers=[], body=BODY,
        sent_at=0.0, received_ms=0,
    )  # fmt: skip

    def bare(request: Request) -> Response:
        return response

    layer = Cached(bare, tiers_at(place / "c"), stopping=Going())
    table = {
        "without": each(lambda n: bare(request), count),
        "with": each(lambda n: layer(request), count),
    }
    added = table["with"]["wall_us"] - table["without"]["wall_us"]
    print(f"a page of a chain: {added:.2f} us added")
    return table


def workload(place: Path, polls: int) -> dict[str, Any]:
    """50 endpoints, nothing changes, ETags."""
    bodies = {
        n: json.dumps([{"id": n, "v": "x" * 200}] * 60).encode() for n in range(50)
    }
    sent = {"calls": 0, "bytes": 0}

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            number = int(self.path[1:])
            same = self.headers.get("If-None-Match") == f'"{number}"'
            body = b"" if same else bodies[number]
            sent["calls"] += 1
            sent["bytes"] += len(body)
            self.send_response_only(304 if same else 200)
            self.send_header("ETag", f'"{number}"')
            if not same:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"

    def work(with_cache: bool) -> float:
        pool = urllib3.PoolManager()

        def ask(request: Request) -> Response:
            answer = pool.request(
                "GET", request.url, headers=dict(request.headers), retries=False
            )
            return Response(
                request=request,
                url=request.url,
                status=answer.status,
                headers=[(n.lower(), v) for n, v in answer.headers.items()],
                body=answer.data,
                sent_at=SYSTEM.monotonic(),
                received_ms=SYSTEM.wall_ms(),
            )

        fetch: Callable[[Request], Response] = ask
        if with_cache:
            fetch = Cached(ask, tiers_at(place / "load"), stopping=Going())
        cpu = time.process_time()
        for _ in range(polls):
            for number in range(50):
                body = fetch(Request("GET", f"{base}/{number}")).body
                assert body == bodies[number]
        return time.process_time() - cpu

    table = {}
    for name, with_cache in (("off", False), ("on", True)):
        sent.update(calls=0, bytes=0)
        (cpu,) = forked(1, lambda _, on=with_cache: work(on))
        table[name] = {**sent, "cpu_ms_a_poll": cpu / polls * 1e3}
        print(
            f"50 endpoints, {polls} polls, cache {name:4}{sent['calls']:>8,} calls"
            f"{sent['bytes']:>14,} bytes{cpu / polls * 1e3:>8.1f} ms CPU a poll"
        )
    server.shutdown()
    return table


def tuning(place: Path, rounds: int) -> dict[str, Any]:
    """A working set of 150 of 100 places, which moves on by 10 each round."""
    table = {}
    small = stored(b"x" * 500)
    for name, interval in (("off", None), ("on", 60.0)):
        clock = Hands()
        chance = random.Random(3)
        one = tiers_at(
            place / f"t-{name}", sizes=(100, 0, 0), tuning=interval, clock=clock
        )
        lookups = found = 0
        for number in range(rounds):
            for _ in range(400):
                wanted = key(number * 10 + int(chance.triangular(0, 150, 75)))
                hit = one.find(wanted) is not None
                one.count(1 if hit else None, "hit" if hit else "miss")
                if not hit:
                    one.keep(wanted, small)
                lookups += 1
                found += hit
            clock.turn(61.0)
            one.tick()
        table[name] = {
            "hit_ratio": found / lookups,
            "allowed": one.readings()[0].allowed,
        }
        print(
            f"tuning {name:4} hit ratio {found / lookups:.3f}, "
            f"{one.readings()[0].allowed} places at the end"
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        place = Path(name)
        document = {
            "question": (__doc__ or "").strip().splitlines()[0],
            "machine": machine(),
            "hits": hits(place, 100 if quick else 5000),
            "writes": writes(place, 50 if quick else 1000),
            "chain": chain(place, 1000 if quick else 200_000),
            "workload": workload(place, 2 if quick else 40),
            "tuning": tuning(place, 10 if quick else 60),
        }
    if not quick:
        results = ROOT / "perf" / "results"
        results.mkdir(exist_ok=True)
        (results / "cache.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
