"""
The rows of `bench_kafka`: who races whom, over which pages, with what settings.

Data only.  A row is the engine at some settings against the loop by hand at the same
(`baselines.hand_loop`), or against itself at others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from perf import serving

Keys = Mapping[str, str]

#: Pages by their number: what can be asked for several at once, or by several tasks.
NUMBERED = {
    "pagination.type": "page",
    "pagination.page.start": "0",
    "pagination.cursor.field": "",
}


@dataclass(frozen=True)
class Contest:
    """
    One row.

    Attributes:
        name: Of `--rows`.
        title: In the table.
        asked: Most CPU a record, as a share of the baseline's; None: not asked.
        faster: Least records/s, as a multiple of the baseline's.
        engine: Its keys, over those of every run.
        loop: librdkafka's settings of the loop by hand.
        base: Keys of the engine that is the baseline; None: the loop is.
        per_page, size, partitions: Records of a page, their bytes, the topic.
        numbered: Pages are asked for by number; else each names the next.
        packed: "gzip" or "br": pages come so compressed, over TLS.
        guarded: Kafka over TLS.
        apis: In one task, each with a share of the pages.
        make: A record of a number and a size.
        distinct: No page has the content of another.
        pages: Of a run; 0: as many as its records take.
    """

    name: str
    title: str
    asked: float | None
    faster: float | None = 1.5
    engine: Keys = field(default_factory=dict)
    loop: Keys = field(default_factory=dict)
    base: Keys | None = None
    per_page: int = 500
    size: int = 290
    partitions: int = 4
    numbered: bool = False
    packed: str = ""
    guarded: bool = False
    apis: int = 1
    make: Callable[[int, int], bytes] = serving.record
    distinct: bool = False
    pages: int = 0


def batches(size: int) -> tuple[Keys, Keys]:
    """Batches of so many bytes and a linger of 5 ms: the engine's keys, the loop's."""
    ours = {"producer.batch.size": str(size), "producer.linger.ms": "5"}
    return ours, {"batch.size": str(size), "linger.ms": "5"}


OURS_64K, LOOP_64K = batches(65536)
OURS_16K, LOOP_16K = batches(16384)

#: What people find in tuning guides for connectors of this kind, as it is written.
#: Left out are names, and what would bound any engine: the pages of a poll, the pause
#: between polls and the API's own quota (20 requests/s), which is 100,000 here so
#: that the limiter works for each request.
GUIDES: Mapping[str, tuple[str, int, Keys]] = {
    "guide-throughput": (
        "a tuning guide's settings for high throughput (8 tasks)",
        200,
        {
            "tasks.max": "8",
            "http.source.poll.interval.ms": "10000",
            "transformation.batch.size": "500",
            "pagination.limit.value": "200",
            "http.client.connection.pool.enabled": "true",
            "http.client.max.connections": "30",
            "http.client.max.connections.per.route": "15",
            "transformation.enabled": "false",
            "cache.enabled": "false",
        },
    ),
    "guide-pages": (
        "a tuning guide's large pages, fetched at once",
        1000,
        {
            "pagination.limit.value": "1000",
            "pagination.concurrent.enabled": "true",
            "pagination.concurrent.max.threads": "4",
            "pagination.concurrent.queue.size": "50",
            "transformation.batch.size": "1000",
            "producer.batch.size": "65536",
            "producer.linger.ms": "5",
        },
    ),
    "guide-template": (
        "a tuning guide's template for production (8 tasks, 64 KB)",
        100,
        {
            "tasks.max": "8",
            "http.source.poll.interval.ms": "15000",
            "http.client.connection.pool.enabled": "true",
            "http.client.max.connections": "40",
            "http.client.max.connections.per.route": "20",
            "http.client.connection.timeout.ms": "10000",
            "http.client.socket.timeout.ms": "30000",
            "cache.enabled": "true",
            "cache.response.max.size": "3000",
            "cache.response.ttl.seconds": "600",
            "cache.schema.max.size": "200",
            "cache.schema.ttl.seconds": "7200",
            "rate.limit.enabled": "true",
            "rate.limit.requests.per.second": "100000",
            "rate.limit.algorithm": "TOKEN_BUCKET",
            "rate.limit.burst.capacity": "100000",
            "transformation.batch.size": "500",
            "producer.batch.size": "65536",
            "producer.linger.ms": "5",
            "jmx.enabled": "true",
            "health.check.enabled": "true",
        },
    ),
}

CONTESTS: tuple[Contest, ...] = (
    Contest("default-1", "defaults at least once, 1 partition", 0.45, partitions=1),
    Contest("default-4", "defaults at least once, 4 partitions", 0.45),
    Contest(
        "as-installed",
        "every default, which is exactly once, 4 partitions; the loop at least once",
        0.45,
        engine={"exactly.once.support": ""},
    ),
    Contest(
        "64k", "batches of 64 KB, linger 5 ms", 0.5, engine=OURS_64K, loop=LOOP_64K
    ),
    Contest("16k", "batches of 16 KB", 0.75, engine=OURS_16K, loop=LOOP_16K),
    Contest(
        "five-apis",
        "five apis in one task, pages at once, 64 KB",
        0.6,
        engine={**OURS_64K, **NUMBERED, "pagination.concurrent.enabled": "true"},
        loop=LOOP_64K,
        numbered=True,
        apis=5,
    ),
    Contest("100-a-page", "100 records a page", 0.4, per_page=100),
    Contest("https-gzip", "pages over HTTPS, gzip", 0.6, packed="gzip"),
    Contest("kafka-tls", "Kafka over TLS", 0.7, guarded=True),
    Contest(
        "keyed",
        "a key from each record, 6 partitions, to keyless",
        1.4,
        None,
        engine={"kafka.key": "${key}"},
        base={},
        partitions=6,
    ),
    Contest(
        "exactly-once",
        "exactly once, to at least once",
        1.15,
        0.9,
        engine={"exactly.once.support": "required"},
        base={"exactly.once.support": "disabled"},
    ),
    *(
        Contest(
            name,
            f"{title}, to defaults",
            None,
            1.0,
            engine={**NUMBERED, **keys},
            base=NUMBERED,
            per_page=per_page,
            numbered=True,
        )
        for name, (title, per_page, keys) in GUIDES.items()
    ),
)
