"""
Cache: what is kept of the API's answers, on the command line.

Owns the output of `cache stats`, `cache list` and `cache clear`.  Works beside
a running engine, whose memory it reads and clears, too, and without one.
Looking changes nothing, not even which entry was used last.

Path: ``cli.main`` -> here -> ``task.build.cache``, ``shared.tiers``
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec
from msgspec import Struct

from engine.admin.store import MeterStore, Reading
from engine.cli.check import load
from engine.cli.run import own_runtime
from engine.config import Connector, Loaded
from engine.config.sections.cache import ResponseCacheConfig, TiersConfig
from engine.config.sections.processes import DirectoriesConfig
from engine.errors import Exit
from engine.observe import names
from engine.observe.meters import DIRECTORY
from engine.shared.cache.tiers import Tiers
from engine.source.fetch.freshness import StoredResponse, lifetime, validators
from engine.source.wire.origin import shown
from engine.supervisor.runtime import base_of, running
from engine.task.build.cache import owner, places_of, starts_of, tiers_of
from engine.task.build.http import url_of

#: What the levels are, for people.
KINDS = {1: "memory of the tasks", 2: "shared memory", 3: "disk"}


class OpenedCache(Struct, frozen=True):
    """
    A connector's cache, opened by a command beside the engine.

    Attributes:
        tiers: Those that processes share, or None: `cache.enabled=false`.
        runtime: Directory of the engine that runs the connector, or None.
    """

    connector: Connector
    tiers: Tiers[StoredResponse] | None
    runtime: Path | None


def opened(loaded: Loaded) -> Iterator[OpenedCache]:
    """The cache of each connector, open while it is looked at."""
    process = loaded.process
    base = base_of(
        os.environ,
        configured=own_runtime(process),
        state=Path(process.of(DirectoriesConfig).state),
    )
    disk = Path(process.of(DirectoriesConfig).cache)
    engines = list(reversed(running(base)))
    for connector in loaded.connectors:
        runtime = next(
            (path for path in engines if places_of(connector, path, disk)[0].is_dir()),
            None,
        )
        tiers = tiers_of(connector, place=runtime, disk=disk, guest=True)
        if tiers is None:
            yield OpenedCache(connector, None, None)
            continue
        with closing(tiers):
            yield OpenedCache(connector, tiers, runtime)


class TierFigures(Struct, frozen=True):
    """How full a tier is."""

    level: int
    entries: int
    entries_limit: int
    bytes: int
    bytes_limit: int


class Answers(Struct, frozen=True):
    """How often lookups were answered by a level in one way."""

    level: str
    result: str
    count: int


class CacheFigures(Struct, frozen=True):
    """A connector's cache in numbers; its lookups since the engine's start."""

    name: str
    running: bool
    tiers: list[TierFigures]
    lookups: int
    hits: int
    hit_ratio: float
    answers: list[Answers]


class CachedEntry(Struct, frozen=True):
    """One answer that is kept; `fresh_seconds` below 0: stale for so long."""

    connector: str
    level: int
    key: str
    url: str
    bytes: int
    age_seconds: float
    fresh_seconds: float
    validators: list[str]


def stats(args: argparse.Namespace) -> int:
    """`cache stats FILE...`: how full each tier is, and what it answered."""
    loaded = load(args, quiet=args.json)
    found = [
        figures(one.connector, one.tiers, one.runtime)
        for one in opened(loaded)
        if one.tiers is not None
    ]
    if args.json:
        _print({"connectors": found})
        return Exit.OK
    for each in found:
        state = "running" if each.running else "no engine runs it"
        print(f"{each.name} ({state})")
        for tier in each.tiers:
            print(
                f"  L{tier.level} {KINDS[tier.level]}: {tier.entries:,} of "
                f"{tier.entries_limit:,} entries, {tier.bytes:,} of "
                f"{tier.bytes_limit:,} bytes"
            )
        if each.lookups:
            print(
                f"  {each.lookups:,} lookups, {each.hits:,} without a body from "
                f"the API (hit ratio {each.hit_ratio:.0%})"
            )
        for answer in each.answers:
            print(f"    level {answer.level}, {answer.result}: {answer.count:,}")
    if not found:
        print("cache.enabled is false: nothing is kept")
    return Exit.OK


def figures(
    connector: Connector, tiers: Tiers[StoredResponse], runtime: Path | None
) -> CacheFigures:
    """
    Args:
        runtime: Where the engine that runs the connector has its meters.
    """
    reading: Reading = {}
    full = [
        TierFigures(
            each.level, each.entries, each.allowed, each.bytes, tiers.volume(each.level)
        )
        for each in tiers.readings()
    ]
    if runtime is not None:
        reading = MeterStore(str(runtime / DIRECTORY)).read()
        full.insert(0, _memory(connector, reading))
    counts: Counter[tuple[str, str]] = Counter()
    for series, value in reading.items():
        if series.family == names.CACHE_REQUESTS.name and (
            series.connector == connector.name
        ):
            counts[series.label("level"), series.label("result")] += int(value)
    hits = sum(n for (_, how), n in counts.items() if how in names.CACHE_HITS)
    judged = sum(n for (_, how), n in counts.items() if how in names.CACHE_JUDGED)
    lookups = counts.total()
    return CacheFigures(
        connector.name,
        runtime is not None,
        full,
        lookups,
        hits,
        hits / judged if judged else 1.0,
        [Answers(level, how, n) for (level, how), n in sorted(counts.items())],
    )


def _memory(connector: Connector, reading: Reading) -> TierFigures:
    """L1, as its tasks last told of it."""

    def total(metric: names.Metric) -> int:
        return int(
            sum(
                value
                for series, value in reading.items()
                if series.family == metric.name
                and series.connector == connector.name
                and series.label("level") == "1"
            )
        )

    return TierFigures(
        1,
        total(names.CACHE_ENTRIES),
        total(names.CACHE_ENTRIES_LIMIT),
        total(names.CACHE_BYTES),
        connector.values.of(TiersConfig).max_memory // 2,
    )


def list_(args: argparse.Namespace) -> int:
    """`cache list FILE...`: a line for each answer that is kept."""
    found = list(islice(entries(load(args, quiet=args.json)), args.limit))
    if args.json:
        _print({"entries": found})
        return Exit.OK
    for each in found:
        left = each.fresh_seconds
        fresh = f"fresh for {left:.0f} s" if left > 0 else "to be revalidated"
        print(
            f"L{each.level} {each.url}: {each.bytes:,} bytes, "
            f"{each.age_seconds:.0f} s old, {fresh}"
        )
    if not found:
        print("nothing is kept")
    return Exit.OK


def entries(loaded: Loaded) -> Iterator[CachedEntry]:
    """What the shared tiers hold."""
    for one in opened(loaded):
        if one.tiers is None:
            continue
        apis = {api.name: api.values for api in one.connector.apis}
        starts = starts_of(one.connector.apis, url_of)
        for level, key, stored, age in one.tiers.values():
            if stored.status == 0:
                # A mark that something has changed.
                continue
            api = apis[owner(starts, stored.url) or next(iter(apis))]
            ttl = float(api.of(ResponseCacheConfig).ttl)
            old = stored.age + age
            yield CachedEntry(
                one.connector.name,
                level,
                key,
                shown(stored.url),
                len(stored.body),
                round(old, 1),
                round(lifetime(stored, ttl) - old, 1),
                sorted(validators(stored.headers, stored.received_ms)),
            )


def clear(args: argparse.Namespace) -> int:
    """`cache clear FILE...`: forget what is kept; a running engine goes on."""
    forgotten = 0
    for one in opened(load(args)):
        if one.tiers is not None:
            forgotten += sum(each.entries for each in one.tiers.readings())
            one.tiers.clear()
    print(f"{forgotten} answer{'s' * (forgotten != 1)} forgotten")
    return Exit.OK


def _print(document: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(document)).decode())
