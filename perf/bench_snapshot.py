"""
What do a million remembered keys cost: memory, a record that is unchanged, a start?

    python perf/bench_snapshot.py [--keys 1000000] [--rounds 3] [--quick]

A page has 500 records of 290 bytes with keys of 20.  Ours is `task.snapshot`; the
baseline is a dictionary of the key's 16 bytes to the value's 8 and the key itself.
Each runs in a process of its own, whose memory is its growth; times are of its
processor.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from xxhash import xxh3_64_digest, xxh3_128_digest

from engine.task.contents import content_of
from engine.task.snapshot import KeyTable
from perf.rig import ROOT, machine

PAGE = 500
FILL = b"x" * 270


def pages(keys: int) -> Iterator[tuple[list[bytes], list[bytes]]]:
    for start in range(0, keys, PAGE):
        names = [b"customer-%011d" % n for n in range(start, min(start + PAGE, keys))]
        yield names, [FILL + name for name in names]


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def ours(keys: int) -> dict[str, float]:
    before = resident()
    rows = KeyTable()
    stored = {}
    rows.begin()
    began = time.process_time()
    for names, values in pages(keys):
        _, these, _ = rows.changed("t", names, content_of(values), keys)
        for piece in rows.parcels(these):
            number = rows.last + 1
            stored[number] = rows.segment(number, piece, sure=False)
    filled = time.process_time() - began
    while (found := rows.outworn())[0]:
        for piece in rows.parcels(found[1]):
            number = rows.last + 1
            stored[number] = rows.segment(number, piece, sure=True)
        rows.forgotten(found[0])
        for number in found[0]:
            stored.pop(number, None)
    count = len(stored)
    size = sum(len(str(each["keys"])) for each in stored.values())
    confirmed = rows.last
    rows.close()
    kept = list(stored.items())
    stored.clear()
    del rows, these
    before = resident() - sum(len(str(each["keys"])) for _, each in kept)
    after = KeyTable()
    began = time.process_time()
    for number, segment in kept:
        after.load(number, segment, confirmed)
    loaded = time.process_time() - began
    kept.clear()
    assert len(after) == keys, len(after)
    after.begin()
    spent = 0.0
    for names, values in pages(keys):
        began = time.process_time()
        changed, _, _ = after.changed("t", names, content_of(values), keys)
        spent += time.process_time() - began
        assert not changed
    began = time.process_time()
    assert not after.gone()
    return {
        "memory_mb": (resident() - before) / 1e6,
        "us_a_record_new": filled / keys * 1e6,
        "us_a_record_unchanged": spent / keys * 1e6,
        "load_seconds": loaded,
        "segments": count,
        "state_mb": size / 1e6,
    }


def dictionary(keys: int) -> dict[str, float]:
    before = resident()
    known: dict[bytes, tuple[bytes, bytes]] = {}
    for names, values in pages(keys):
        for name, value in zip(names, values, strict=True):
            known[xxh3_128_digest(name)] = (xxh3_64_digest(value), name)
    spent = 0.0
    seen = set()
    for names, values in pages(keys):
        began = time.process_time()
        for name, value in zip(names, values, strict=True):
            key = xxh3_128_digest(name)
            seen.add(key)
            assert known[key][0] == xxh3_64_digest(value)
        spent += time.process_time() - began
    return {
        "memory_mb": (resident() - before) / 1e6,
        "us_a_record_unchanged": spent / keys * 1e6,
    }


def alone(which: str, keys: int) -> dict[str, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(globals()[which], (keys,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    keys = 50_000 if arguments.quick else arguments.keys
    rounds = 1 if arguments.quick else arguments.rounds
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "dictionary": []}
    for _ in range(rounds):
        for which, found in runs.items():
            found.append(alone(which, keys))
    result: dict[str, Any] = {
        which: {
            name: round(statistics.median(run[name] for run in found), 3)
            for name in found[0]
        }
        for which, found in runs.items()
    }
    result |= {"keys": keys, "rounds": rounds, "machine": machine()}
    print(json.dumps(result, indent=2))
    if not arguments.quick:
        path = ROOT / "perf" / "results" / "snapshot.json"
        path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
