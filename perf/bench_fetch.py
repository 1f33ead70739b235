"""
What does one request cost in CPU, for a page of 100 KB and for a small one?

    python -m perf.bench_fetch [--requests 3000] [--rounds 9] [--quick]

Contestants share one process, one nginx and one run, in turns: our own client,
bare `urllib3.PoolManager.request`, requests as people use it, and pycurl.  The
figure is CPU (user and system) of this process a request; the claim is the
ratio to bare urllib3, median over the rounds.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import statistics
from collections.abc import Callable

import pycurl
import requests
import urllib3

from engine.records import Request
from engine.source.dns import Resolver
from engine.source.http import Http, HttpOptions
from engine.source.origin import AddressRules, Borders, origin_of
from engine.source.pool import Pool, PoolOptions
from perf import rig


def ours(url: str) -> Callable[[], int]:
    client = Http(
        HttpOptions(
            borders=Borders((origin_of(url),)),
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


def contest(url: str, count: int, rounds: int) -> dict[str, list[float]]:
    asks = {name: make(url) for name, make in CONTESTANTS.items()}
    sizes = {name: ask() for name, ask in asks.items()}
    assert 1 == len(set(sizes.values())), sizes
    results: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(rounds):
        for name, ask in asks.items():
            results[name].append(cpu(ask, count))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    count, rounds = (200, 3) if options.quick else (options.requests, options.rounds)

    document: dict[str, object] = {"question": __doc__.strip().splitlines()[0]}
    document["machine"] = rig.machine()
    for label, per_page in (("100 KB", 345), ("300 bytes", 1)):
        with rig.pages(1, per_page=per_page, size=290) as base:
            results = contest(f"{base}/p0.json", count, rounds)
        bare = results["urllib3.PoolManager.request"]
        print(f"\n{label:28} {'CPU us min / median / max':>28} {'to urllib3':>11}")
        for name, values in results.items():
            ratios = [mine / other for mine, other in zip(values, bare, strict=True)]
            print(
                f"{name:28} {rig.spread(values, 0):>28} "
                f"{statistics.median(ratios):>11.2f}"
            )
        document[label] = results
    if not options.quick:
        target = rig.ROOT / "perf" / "results" / "fetch.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
