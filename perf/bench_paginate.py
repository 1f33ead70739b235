"""
What do several fetches in flight gain, and what does paging cost a page?

    python -m perf.bench_paginate [--pages 240] [--rounds 3] [--quick]

The API is `tests.fakes.api` in a process of its own, 50 ms a page; the client
is the engine's own.  Contestants are 1, 2, 4 and 8 requests in flight, in turns;
the claim is the ratio of pages/s to one in flight.  Then the CPU of our own
process a page of 500 records for the walk alone: asking, learning and guarding,
no network and no decoding, for a chain and for counted pages.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from msgspec import Raw

from engine.records import Response
from engine.source.decode.decoder import Decoded, compile_decoder
from engine.source.paging.pager import Paging
from engine.source.paging.paginator import Paginator
from engine.source.paging.request import Shape
from engine.source.poll import Poll
from engine.source.prefetch import Prefetcher
from engine.source.wire.dns import Resolver
from engine.source.wire.http1 import Http
from engine.source.wire.options import HttpOptions
from engine.source.wire.origin import AddressRules, AllowedOrigins, origin_of
from engine.source.wire.pool import Pool, PoolOptions
from perf import rig, serving

LATENCY = 0.05


class Running:
    """A stopping flag that is never set."""

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        return False


@contextlib.contextmanager
def oracle(pages: int, records: int, latency: float) -> Iterator[str]:
    """The oracle API in a process of its own."""
    command = [sys.executable, "-m", "tests.fakes.api", "--pages", str(pages)]
    command += ["--records", str(records), "--latency", str(latency)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=rig.ROOT
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def poll_of(url: str, kind: str, limit: int, flying: int) -> Poll:
    """A poll of one list of the oracle; 1 in flight is the caller's thread."""
    paging = Paging(
        type=kind,
        limit=limit,
        max_pages=100_000,
        cursor_field="next" if kind == "cursor" else None,
    )
    shape = Shape(method="GET", url=f"{url}/{kind}/0", paging=paging)
    origin = origin_of(url)
    paginator = Paginator(paging, shape=shape, follow=AllowedOrigins((origin,)).follow)
    client = Http(
        HttpOptions(
            borders=AllowedOrigins((origin,)),
            addresses=AddressRules(home=(origin.host,)),
        ),
        pool=Pool(PoolOptions()),
        resolver=Resolver(60.0),
    )
    return Poll(
        paginator,
        fetch=client,
        decode=compile_decoder(data_path="items", wanted=paginator.paths),
        stopping=Running(),
        ahead=Prefetcher(threads=flying, pages=50) if flying > 1 else None,
    )


def pages_a_second(url: str, kind: str, limit: int, flying: int) -> float:
    poll = poll_of(url, kind, limit, flying)
    began = time.perf_counter()
    count = sum(1 for _ in poll.pages(None))
    return count / (time.perf_counter() - began)


def walk_cpu(kind: str, count: int) -> float:
    """CPU microseconds a page of the walk alone."""
    paging = Paging(type=kind, limit=500, max_pages=count + 1, cursor_field="next")
    shape = Shape(method="GET", url="http://127.0.0.1/list", paging=paging)
    paginator = Paginator(paging, shape=shape, follow=lambda base, link: link)
    records = [Raw(serving.record(number)) for number in range(499)]
    # No page has all the records of another: that would be its end.
    heads = [Raw(b'{"page":%d}' % number) for number in range(count)]
    pages = [[head, *records] for head in heads]
    pager = paginator.start(None, 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for number in range(count):
        request = pager.ask()
        assert request is not None
        response = Response(
            request=request,
            url=request.url,
            status=200,
            headers=(),
            body=b"",
            sent_at=0.0,
            received_ms=0,
        )
        decoded = Decoded(pages[number], {"next": f"c{number}"})
        assert pager.learn(request, response, decoded) is not None
    after = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    return (after - before) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--pages", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    pages, rounds = (24, 1) if options.quick else (options.pages, options.rounds)

    flights: dict[int, list[float]] = {1: [], 2: [], 4: [], 8: []}
    with oracle(pages, 100, LATENCY) as url:
        for _ in range(rounds):
            for flying, speeds in flights.items():
                speeds.append(pages_a_second(url, "page", 100, flying))
    base = statistics.median(flights[1])
    print(f"{'in flight':>10} {'pages/s min / median / max':>30} {'to one':>7}")
    for flying, speeds in flights.items():
        ratio = statistics.median(speeds) / base
        print(f"{flying:>10} {rig.spread(speeds, 1):>30} {ratio:>7.2f}")

    walks = {
        kind: [walk_cpu(kind, 200 if options.quick else 3000) for _ in range(rounds)]
        for kind in ("cursor", "page", "offset")
    }
    for kind, costs in walks.items():
        print(f"{kind:>10} {rig.spread(costs, 1):>30} CPU us a page, walk alone")
    document = {
        "question": __doc__.strip().splitlines()[0],
        "machine": rig.machine(),
        "pages": pages,
        "latency_s": LATENCY,
        "pages_per_second": {str(flying): speeds for flying, speeds in flights.items()},
        "ratio_8_to_1": statistics.median(flights[8]) / base,
        "walk_cpu_us_a_page": walks,
    }
    if not options.quick:
        target = rig.ROOT / "perf" / "results" / "paginate.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
