"""
Keys of the caches.

Owns their entries in the table and nothing else.

Path: here -> ``keys.TABLE``
"""

from __future__ import annotations

from engine.config import shapes
from engine.config.keys.key import Computed, Key, section
from engine.config.kinds import (
    Bool,
    Choice,
    Cron,
    Csv,
    Int,
    Json,
    Number,
    ratio,
    seconds,
    size,
)

_POLICY = Choice(("LRU", "LFU", "FIFO"))
_YEAR = 31536000


def _tier(level: int, entries: str, most: int, ttl: str, scope: str) -> list[Key]:
    key = section("Response cache")
    place = {
        1: "the memory of each task",
        2: "shared memory",
        3: "a shared directory on disk",
    }[level]
    after = {
        1: "L1 does not hold an entry",
        2: "an entry moves to L3",
        3: "an entry is gone",
    }[level]
    return [
        key(
            f"cache.l{level}.max.size",
            Int(0, most),
            entries,
            scope,
            f"Entries of L{level}, in {place}. 0: no such tier.",
        ),
        key(
            f"cache.l{level}.ttl.seconds",
            seconds(1, _YEAR),
            ttl,
            "C",
            f"Age, from the answer's receipt, past which {after}.",
        ),
        key(
            f"cache.l{level}.policy",
            _POLICY,
            Computed(lambda get: get("cache.eviction.policy"), "cache.eviction.policy"),
            "C",
            f"What L{level} gives up first when it is full.",
            "LFU",
        ),
    ]


def _keys() -> list[Key]:
    key = section("Response cache")
    schema = section("Schema cache")
    return [
        key(
            "cache.enabled",
            Bool(),
            "true",
            "A",
            "Keeps answers, asks conditionally, and produces nothing for what is "
            "unchanged. A failing cache means uncached.",
            "false",
        ),
        key(
            "cache.response.max.size",
            Int(0, 100000000),
            Computed(
                lambda get: sum(
                    value
                    for tier in ("cache.l2.max.size", "cache.l3.max.size")
                    if isinstance(value := get(tier), int)
                ),
                "sum of the tiers",
            ),
            "C",
            "Most distinct responses, L2 and L3 together. 0: none is kept.",
            "5000",
        ),
        key(
            "cache.response.ttl.seconds",
            seconds(0, _YEAR),
            "0",
            "A",
            "Freshness. 0: what the response states. More: its limit, and what "
            "counts where the response states nothing; data may then be that late.",
            "300",
        ),
        key(
            "cache.unchanged.max.age.seconds",
            seconds(0, 10 * _YEAR),
            None,
            "A",
            "Age after which a page is produced again although it is unchanged, since "
            "its records may be gone. Unset: the topic's retention.ms where it deletes "
            "and says so, else never. 0: never.",
            "604800",
        ),
        *_tier(1, "1000", 10000000, "300", "T"),
        *_tier(2, "5000", 10000000, "3600", "C"),
        *_tier(3, "10000", 100000000, "14400", "C"),
        key(
            "cache.l3.max.bytes",
            size(),
            "1073741824",
            "C",
            "Disk that L3 may take.",
        ),
        key(
            "cache.max.memory.bytes",
            size(1048576),
            "268435456",
            "C",
            "Memory of L1 over all tasks and L2; half for L2, the L1s share the rest.",
        ),
        key(
            "cache.eviction.policy",
            _POLICY,
            "LRU",
            "C",
            "What goes first in tiers without a policy of their own.",
            "LFU",
        ),
        key(
            "cache.eviction.enabled",
            Bool(),
            "true",
            "C",
            "false: a full tier refuses new entries.",
            "false",
        ),
        key(
            "cache.eviction.threshold",
            ratio(above=True),
            "0.8",
            "C",
            "Occupancy of a tier at which entries are dropped.",
        ),
        key(
            "cache.eviction.batch.size",
            Int(1, 100000),
            "100",
            "C",
            "Entries dropped in one go, at most a quarter of the tier.",
        ),
        key(
            "cache.cleanup.interval.seconds",
            seconds(1, 86400),
            "300",
            "C",
            "Pause between sweeps over entries past their time.",
        ),
        key(
            "cache.warming.enabled",
            Bool(),
            "false",
            "C",
            "Fetches ahead into the cache, where the limiter has room; one task does "
            "it for an api, and none in `run --once`.",
            "true",
        ),
        key(
            "cache.warming.strategies",
            Csv(Choice(("PREDICTIVE", "LRU"))),
            "LRU",
            "C",
            "LRU: what was used last and is no longer fresh. PREDICTIVE: what each "
            "of the last polls asked, just before the next.",
            "PREDICTIVE,LRU",
        ),
        key(
            "cache.warming.schedule",
            Cron(),
            None,
            "C",
            "Further times to warm at.",
            "0 */5 * * * *",
        ),
        key(
            "cache.warming.patterns",
            Json(shapes.globs, "JSON array of globs"),
            None,
            "C",
            "What to warm, relative to the base URL; one with wildcards chooses "
            "among the URLs known.",
            '["users/*", "config/settings"]',
        ),
        key(
            "cache.statistics.enabled",
            Bool(),
            "true",
            "C",
            "Counts lookups, hits and evictions. false: the hit ratio shows 1.0.",
            "false",
        ),
        key(
            "cache.statistics.window.minutes",
            Int(1, 10080, "minutes"),
            "60",
            "C",
            "Sliding window of every hit ratio.",
        ),
        key(
            "cache.hit.ratio.threshold",
            ratio(),
            "0.8",
            "C",
            "A lower ratio is said once, shown as a gauge, and a reason for tuning.",
        ),
        key(
            "cache.auto.tuning.enabled",
            Bool(),
            "false",
            "C",
            "Grows and shrinks the tiers by their hit ratio, inside the memory bound.",
            "true",
        ),
        key(
            "cache.auto.tuning.interval.minutes",
            Number(0.01, 1440, "minutes"),
            "30",
            "C",
            "Pause between tuning steps.",
        ),
        schema(
            "cache.schema.enabled",
            Bool(),
            "true",
            "C",
            "Keeps schemas and their encoders. false: the registry is asked for "
            "every page.",
            "false",
        ),
        schema(
            "cache.schema.max.size",
            Int(1, 100000),
            "100",
            "C",
            "Schemas kept; the least recently used goes.",
        ),
        schema(
            "cache.schema.ttl.seconds",
            seconds(1, _YEAR),
            "7200",
            "C",
            "Age after which a schema is asked for again.",
        ),
    ]


KEYS = _keys()
