"""
Options of bad records: what they stop, and where they go.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from typing import ClassVar

from engine.config.kinds import Bool, Choice, Int, TopicName
from engine.config.sections.section import Section, option, unset


class ErrorsConfig(Section, frozen=True, kw_only=True):
    """What a bad record stops."""

    TITLE: ClassVar[str] = "Bad records"
    SCOPE: ClassVar[str] = "A"

    tolerance: str = option(
        "errors.tolerance",
        Choice(("none", "all")),
        "none",
        "none: the first bad record stops the api, its page unmoved. all: bad "
        "records become dead letters.",
        "all",
    )


class DeadLetterQueueConfig(Section, frozen=True, kw_only=True):
    """Where bad records go."""

    TITLE: ClassVar[str] = "Bad records"
    SCOPE: ClassVar[str] = "C"

    topic: str | None = unset(
        "errors.deadletterqueue.topic.name",
        TopicName(names=frozenset({"connector"})),
        None,
        "Where dead letters go; ${connector} may stand in it. Unset: the log.",
        "orders-dead",
    )
    replication: int = option(
        "errors.deadletterqueue.topic.replication.factor",
        Int(-1, 32767, nonzero=True),
        "-1",
        "For the creation of that topic; -1: the broker's default.",
    )
    context_headers: bool = option(
        "errors.deadletterqueue.context.headers.enable",
        Bool(),
        "true",
        "Headers that say where a dead letter came from; replay needs them.",
        "false",
    )
    log: bool = option(
        "errors.log.enable",
        Bool(),
        "true",
        "A line for each bad record, at most 10 a second and task.",
        "false",
    )
    log_messages: bool = option(
        "errors.log.include.messages",
        Bool(),
        "false",
        "With the record's first 1,000 characters.",
        "true",
    )
