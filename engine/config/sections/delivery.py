"""
Options of delivery: transactions, and where the position is kept.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from engine.config.kinds import Choice, File, Int, Number, Text, TopicName, ms
from engine.config.sections.section import Section, duration, option, unset


class TransactionsConfig(Section, frozen=True, kw_only=True):
    """Records and position in one transaction."""

    TITLE: ClassVar[str] = "Delivery and state"
    SCOPE: ClassVar[str] = "C"

    support: str = option(
        "exactly.once.support",
        Choice(("requested", "required", "disabled")),
        "requested",
        "Records, dead letters and state in one Kafka transaction: a reader of "
        "committed records (isolation.level=read_committed) sees each page once, "
        "whatever is killed. Needs the right to the transactional ids "
        "kafka-http-source-<connector>-*, producer.acks=all, idempotence and the "
        "state in a topic.",
        "required",
    )
    boundary: str = option(
        "transaction.boundary",
        Choice(
            ("poll", "interval"),
            refused={
                "connector": "transactions follow pages here: write poll or interval"
            },
        ),
        "poll",
        "When a transaction ends; a page is whole in one.",
        "interval",
    )
    interval: float = duration(
        "transaction.boundary.interval.ms",
        ms(1, 30000),
        "1000",
        "How long pages are collected with transaction.boundary=interval. Nothing "
        "of them is sent before, so that no transaction is open meanwhile; all of "
        "them come again after a kill, once.",
    )


class StateTopicConfig(Section, frozen=True, kw_only=True):
    """The topic that keeps the positions."""

    TITLE: ClassVar[str] = "Delivery and state"
    SCOPE: ClassVar[str] = "C"

    topic: str = option(
        "offsets.storage.topic",
        TopicName(),
        "kafka-http-source-offsets",
        "The compacted topic that keeps the state, in Kafka Connect's format.",
    )
    partitions: int = option(
        "offset.storage.partitions",
        Int(1, 10000),
        "25",
        "Partitions of that topic when it is created.",
    )
    replication: int = option(
        "offset.storage.replication.factor",
        Int(-1, 32767, nonzero=True),
        "-1",
        "Replicas of that topic when it is created; -1: the broker's default.",
    )
    segment_bytes: int = option(
        "offset.storage.segment.bytes",
        Int(1, 2147483647),
        "16777216",
        "Bytes at which a segment of that topic is closed: Kafka compacts closed "
        "ones only. This and the next five hold when the topic is created; "
        "`check --connect` says what an existing one lacks.",
    )
    segment: int = option(
        "offset.storage.segment.ms",
        ms(1),
        "3600000",
        "Age at which a segment of that topic is closed.",
    )
    min_compaction_lag: int = option(
        "offset.storage.min.compaction.lag.ms",
        ms(),
        "0",
        "Age below which nothing of that topic is compacted.",
    )
    max_compaction_lag: int = option(
        "offset.storage.max.compaction.lag.ms",
        ms(1),
        "3600000",
        "Age above which all of that topic is to be compacted.",
    )
    min_cleanable_dirty_ratio: float = option(
        "offset.storage.min.cleanable.dirty.ratio",
        Number(0.0, 1.0),
        "0.1",
        "Part of a log of that topic that must be new for a compaction.",
    )
    delete_retention: int = option(
        "offset.storage.delete.retention.ms",
        ms(),
        "3600000",
        "Age up to which that topic keeps what says that a state was forgotten.",
    )
    settings: str | None = unset(
        "offset.storage.<topic config>",
        Text(),
        None,
        "Any other of Kafka's topic settings for that topic when it is created, "
        "but for cleanup.policy, which is compact.",
        "604800000",
    )

    @property
    def fixed_settings(self) -> dict[str, str]:
        """Those of the topic's settings that always have a value, as Kafka names them."""
        return {
            "segment.bytes": str(self.segment_bytes),
            "segment.ms": str(self.segment),
            "min.compaction.lag.ms": str(self.min_compaction_lag),
            "max.compaction.lag.ms": str(self.max_compaction_lag),
            "min.cleanable.dirty.ratio": str(self.min_cleanable_dirty_ratio),
            "delete.retention.ms": str(self.delete_retention),
        }


class StateConfig(Section, frozen=True, kw_only=True):
    """How the position is saved."""

    TITLE: ClassVar[str] = "Delivery and state"
    SCOPE: ClassVar[str] = "C"

    file: Path | None = unset(
        "offset.storage.file.filename",
        File(),
        None,
        "A directory that keeps the state instead: at least once only.",
        "/var/lib/kafka-http-source/offsets",
    )
    flush_interval: float = duration(
        "offset.flush.interval.ms",
        ms(),
        "0",
        "Least pause between two state writes of a shard. 0: whenever more is "
        "delivered; what follows within 50 ms while its poll goes on is written "
        "together.",
    )
    flush_pages: int = option(
        "offset.flush.pages.max",
        Int(1, 1000000),
        "1000",
        "Pages of a shard that may be past its saved position, and at most "
        "producer.buffer.memory bytes of them. Full, fetching pauses: a "
        "partition that cannot be written holds back its shard, and after a "
        "crash no more than these come twice.",
        "100",
    )
