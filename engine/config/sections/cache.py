"""
Options of the caches: answers, and schemas.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from engine.config import shapes
from engine.config.kinds import (
    Bool,
    Choice,
    CommaList,
    Cron,
    Int,
    Json,
    Number,
    ratio,
    seconds,
    size,
)
from engine.config.sections.key import Computed
from engine.config.sections.section import Section, option, unset

_POLICY = Choice(("LRU", "LFU", "FIFO"))


_YEAR = 31536000


class ResponseCacheConfig(Section, frozen=True, kw_only=True):
    """Whether an api's answers are kept, and for how long."""

    TITLE: ClassVar[str] = "Response cache"
    SCOPE: ClassVar[str] = "A"

    enabled: bool = option(
        "cache.enabled",
        Bool(),
        "true",
        "Keeps answers, asks conditionally, and produces nothing for what is "
        "unchanged. A failing cache means uncached.",
        "false",
    )
    ttl: int = option(
        "cache.response.ttl.seconds",
        seconds(0, _YEAR),
        "0",
        "Freshness. 0: what the response states. More: its limit, and what "
        "counts where the response states nothing; data may then be that late.",
        "300",
    )
    unchanged_max_age: int | None = unset(
        "cache.unchanged.max.age.seconds",
        seconds(0, 10 * _YEAR),
        None,
        "Age after which a page is produced again although it is unchanged, since "
        "its records may be gone. Unset: the topic's retention.ms where it deletes "
        "and says so, else never. 0: never.",
        "604800",
    )


class TiersConfig(Section, frozen=True, kw_only=True):
    """The tiers that answers are kept in."""

    TITLE: ClassVar[str] = "Response cache"
    SCOPE: ClassVar[str] = "C"

    max_size: int = option(
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
        "Most distinct responses, L2 and L3 together. 0: none is kept.",
        "5000",
    )
    l3_max_bytes: int = option(
        "cache.l3.max.bytes", size(), "1073741824", "Disk that L3 may take."
    )
    max_memory: int = option(
        "cache.max.memory.bytes",
        size(1048576),
        "268435456",
        "Memory of L1 over all tasks and L2; half for L2, the L1s share the rest.",
    )
    eviction_policy: str = option(
        "cache.eviction.policy",
        _POLICY,
        "LRU",
        "What goes first in tiers without a policy of their own.",
        "LFU",
    )
    eviction: bool = option(
        "cache.eviction.enabled",
        Bool(),
        "true",
        "false: a full tier refuses new entries.",
        "false",
    )
    eviction_threshold: float = option(
        "cache.eviction.threshold",
        ratio(above=True),
        "0.8",
        "Occupancy of a tier at which entries are dropped.",
    )
    eviction_batch: int = option(
        "cache.eviction.batch.size",
        Int(1, 100000),
        "100",
        "Entries dropped in one go, at most a quarter of the tier.",
    )
    cleanup_interval: int = option(
        "cache.cleanup.interval.seconds",
        seconds(1, 86400),
        "300",
        "Pause between sweeps over entries past their time.",
    )
    statistics: bool = option(
        "cache.statistics.enabled",
        Bool(),
        "true",
        "Counts lookups, hits and evictions. false: the hit ratio shows 1.0.",
        "false",
    )
    statistics_minutes: int = option(
        "cache.statistics.window.minutes",
        Int(1, 10080, "minutes"),
        "60",
        "Sliding window of every hit ratio.",
    )
    hit_ratio: float = option(
        "cache.hit.ratio.threshold",
        ratio(),
        "0.8",
        "A lower ratio is said once, shown as a gauge, and a reason for tuning.",
    )
    tuning: bool = option(
        "cache.auto.tuning.enabled",
        Bool(),
        "false",
        "Grows and shrinks the tiers by their hit ratio, inside the memory bound.",
        "true",
    )
    tuning_minutes: float = option(
        "cache.auto.tuning.interval.minutes",
        Number(0.01, 1440, "minutes"),
        "30",
        "Pause between tuning steps.",
    )


class TierConfig(Section, frozen=True, kw_only=True):
    """One of the three tiers."""

    TITLE: ClassVar[str] = "Response cache"
    SCOPE: ClassVar[str] = "C"

    max_size: int = option(
        "cache.l{level}.max.size",
        Int(0, 10000000),
        "1000",
        "Entries of L{level}, in {place}. 0: no such tier.",
    )
    ttl: int = option(
        "cache.l{level}.ttl.seconds",
        seconds(1, _YEAR),
        "300",
        "Age, from the answer's receipt, past which {after}.",
    )
    policy: str = option(
        "cache.l{level}.policy",
        _POLICY,
        Computed(lambda get: get("cache.eviction.policy"), "cache.eviction.policy"),
        "What L{level} gives up first when it is full.",
        "LFU",
    )


#: The entries of the three tiers.
TIERS = [
    *TierConfig.entries(
        {"max_size": {"scope": "T"}},
        level="1",
        place="the memory of each task",
        after="L1 does not hold an entry",
    ),
    *TierConfig.entries(
        {
            "max_size": {"default": "5000", "example": "5000"},
            "ttl": {"default": "3600", "example": "3600"},
        },
        level="2",
        place="shared memory",
        after="an entry moves to L3",
    ),
    *TierConfig.entries(
        {
            "max_size": {
                "kind": Int(0, 100000000),
                "default": "10000",
                "example": "10000",
            },
            "ttl": {"default": "14400", "example": "14400"},
        },
        level="3",
        place="a shared directory on disk",
        after="an entry is gone",
    ),
]


class WarmingConfig(Section, frozen=True, kw_only=True):
    """What is fetched before it is asked for."""

    TITLE: ClassVar[str] = "Response cache"
    SCOPE: ClassVar[str] = "C"

    enabled: bool = option(
        "cache.warming.enabled",
        Bool(),
        "false",
        "Fetches ahead into the cache, where the limiter has room; one task does "
        "it for an api, and none in `run --once`.",
        "true",
    )
    strategies: tuple[str, ...] = option(
        "cache.warming.strategies",
        CommaList(Choice(("PREDICTIVE", "LRU"))),
        "LRU",
        "LRU: what was used last and is no longer fresh. PREDICTIVE: what each "
        "of the last polls asked, just before the next.",
        "PREDICTIVE,LRU",
    )
    schedule: str | None = unset(
        "cache.warming.schedule",
        Cron(),
        None,
        "Further times to warm at.",
        "0 */5 * * * *",
    )
    patterns: Sequence[str] | None = unset(
        "cache.warming.patterns",
        Json(shapes.globs, "JSON array of globs"),
        None,
        "What to warm, relative to the base URL; one with wildcards chooses "
        "among the URLs known.",
        '["users/*", "config/settings"]',
    )


class SchemasConfig(Section, frozen=True, kw_only=True):
    """The schemas of the registries."""

    TITLE: ClassVar[str] = "Schema cache"
    SCOPE: ClassVar[str] = "C"

    enabled: bool = option(
        "cache.schema.enabled",
        Bool(),
        "true",
        "Keeps schemas and their encoders. false: the registry is asked for "
        "every page.",
        "false",
    )
    max_size: int = option(
        "cache.schema.max.size",
        Int(1, 100000),
        "100",
        "Schemas kept; the least recently used goes.",
    )
    ttl: int = option(
        "cache.schema.ttl.seconds",
        seconds(1, _YEAR),
        "7200",
        "Age after which a schema is asked for again.",
    )
