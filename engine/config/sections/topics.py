"""
Options of topics that are created.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from typing import ClassVar

from engine.config.kinds import Bool, CommaList, Int, RegexText, Text
from engine.config.sections.key import Computed
from engine.config.sections.section import Section, option, unset

#: A topic's settings, as Kafka names them (Kafka documentation, "Topic Configs").
TOPIC_SETTINGS = frozenset(
    [
        "cleanup.policy",
        "compression.type",
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.zstd.level",
        "delete.retention.ms",
        "file.delete.delay.ms",
        "flush.messages",
        "flush.ms",
        "follower.replication.throttled.replicas",
        "index.interval.bytes",
        "leader.replication.throttled.replicas",
        "local.retention.bytes",
        "local.retention.ms",
        "max.compaction.lag.ms",
        "max.message.bytes",
        "message.downconversion.enable",
        "message.format.version",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "message.timestamp.difference.max.ms",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "preallocate",
        "remote.storage.enable",
        "remote.log.copy.disable",
        "remote.log.delete.on.disable",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.index.bytes",
        "segment.jitter.ms",
        "segment.ms",
        "unclean.leader.election.enable",
    ]
)

_GROUP = Text(r"[A-Za-z0-9_-]{1,64}", "name of a group")


class TopicsConfig(Section, frozen=True, kw_only=True):
    """Topics that are missing."""

    TITLE: ClassVar[str] = "Topics"
    SCOPE: ClassVar[str] = "C"

    enable: bool = option(
        "topic.creation.enable",
        Bool(),
        "true",
        "Missing topics are created; false: they are an error at the start.",
        "false",
    )
    max: int = option(
        "kafka.topic.creation.max",
        Int(0, 1000000),
        "100",
        "Topics that a task makes because records name them (${...} in "
        "kafka.topic). One more is a bad record; topics that exist are no matter.",
        "1000",
    )


class DefaultGroupConfig(Section, frozen=True, kw_only=True):
    """How a topic is made that is of no group."""

    TITLE: ClassVar[str] = "Topics"
    SCOPE: ClassVar[str] = "C"

    partitions: int = option(
        "topic.creation.default.partitions",
        Int(-1, 2147483647, nonzero=True),
        Computed(lambda get: get("tasks.max"), "tasks.max"),
        "Partitions of a topic that is created; -1: the broker's default.",
        "8",
    )
    replication: int = option(
        "topic.creation.default.replication.factor",
        Int(-1, 32767, nonzero=True),
        "-1",
        "Replicas of a topic that is created; -1: the broker's default.",
        "3",
    )
    settings: str | None = unset(
        "topic.creation.default.<topic config>",
        Text(),
        None,
        "Any of Kafka's topic settings, for topics that are created.",
        "604800000",
    )


class GroupsConfig(Section, frozen=True, kw_only=True):
    """Groups of topics that are made alike."""

    TITLE: ClassVar[str] = "Topics"
    SCOPE: ClassVar[str] = "C"

    groups: tuple[str, ...] | None = unset(
        "topic.creation.groups",
        CommaList(_GROUP),
        None,
        "Groups of topics that are created differently; the first that fits counts.",
        "compacted",
    )


class GroupConfig(Section, frozen=True, kw_only=True):
    """One group: its topics, and how they are made."""

    TITLE: ClassVar[str] = "Topics"
    SCOPE: ClassVar[str] = "C"

    include: tuple[str, ...] | None = unset(
        "topic.creation.{group}.include",
        CommaList(RegexText()),
        None,
        "Topics of the group: regular expressions for the whole name.",
        "orders-.*",
    )
    exclude: tuple[str, ...] | None = unset(
        "topic.creation.{group}.exclude",
        CommaList(RegexText()),
        None,
        "Topics that are not of the group after all.",
        "orders-test-.*",
    )
    partitions: int | None = unset(
        "topic.creation.{group}.partitions",
        Int(-1, 2147483647, nonzero=True),
        None,
        "Partitions of the group's topics.",
        "1",
    )
    replication: int | None = unset(
        "topic.creation.{group}.replication.factor",
        Int(-1, 32767, nonzero=True),
        None,
        "Replicas of the group's topics.",
        "3",
    )
    settings: str | None = unset(
        "topic.creation.{group}.<topic config>",
        Text(),
        None,
        "Any of Kafka's topic settings, for the group's topics.",
        "compact",
    )
