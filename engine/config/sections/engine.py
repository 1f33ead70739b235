"""
Options of a connector as a whole, and of the polls and relations of its apis.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from typing import ClassVar

from engine.config.kinds import (
    Choice,
    CommaList,
    Comment,
    ConnectorClass,
    Cron,
    Int,
    RecordPath,
    Tasks,
    Text,
    Zone,
    ms,
)
from engine.config.sections.key import Computed, Lookup
from engine.config.sections.section import Section, duration, option, unset

NAME = Text(r"[A-Za-z0-9._-]{1,128}", "1 to 128 of A-Z a-z 0-9 . _ -")


API_NAME = Text(r"[A-Za-z0-9._-]{1,64}", "1 to 64 of A-Z a-z 0-9 . _ -")


#: `connector.class` -> the dialect in which clashing spellings are read.
DIALECTS = {
    "io.confluent.connect.http.HttpSourceConnector": "v1",
    "HttpSourceConnector": "v1",
    "HttpSource": "v1",
    "HttpSourceV2": "v2",
    "io.confluent.connect.http.source.GenericHttpSourceConnector": "v2",
    "com.github.castorm.kafka.connect.http.HttpSourceConnector": "castorm",
}


class IdentityConfig(Section, frozen=True, kw_only=True):
    """The name of a connector and the number of its tasks."""

    TITLE: ClassVar[str] = "Identity and parallelism"
    SCOPE: ClassVar[str] = "C"

    name: str | None = unset(
        "name",
        NAME,
        None,
        "The connector's name in metrics, state, client ids and REST. A new name "
        "starts with a new state. A file without any name is one connector, "
        "called after the first file.",
        "orders",
    )
    connector_class: str = option(
        "connector.class",
        ConnectorClass(DIALECTS),
        "io.confluent.connect.http.HttpSourceConnector",
        "Which connector's file this was: it only decides how foreign spellings "
        "that clash are read, and is reported back.",
    )
    tasks_max: int = option(
        "tasks.max",
        Tasks(1, 256),
        "1",
        "Most task processes; auto: two for each core. No more are started than "
        "there are shards: every api and listed partition is one, and pages that can "
        "be addressed are dealt over further tasks. With auto-scaling the number to "
        "start with.",
        "4",
    )


class PollingConfig(Section, frozen=True, kw_only=True):
    """When an api is asked."""

    TITLE: ClassVar[str] = "Polling"
    SCOPE: ClassVar[str] = "A"

    interval: float = duration(
        "http.source.poll.interval.ms",
        ms(0, 86400000),
        "60000",
        "From the start of one poll to the start of the next, on a fixed grid; a "
        "poll that takes longer skips ticks. 0: the next poll follows at once, "
        "or after 1 s if there was nothing. Below retry.backoff.ms, polls given up "
        "in a row are as far apart as retries.",
        "10000",
    )
    catchup: float = duration(
        "http.source.poll.catchup.interval.ms",
        ms(0, 86400000),
        Computed(
            lambda get: get("http.source.poll.interval.ms"),
            "http.source.poll.interval.ms",
        ),
        "The same after a poll that has brought something new and has not caught up: "
        "its newest record, by http.offset.json.pointer where that is a time, lies "
        "further back than http.source.poll.interval.ms, or has no time. For APIs "
        "that give so much at once and no page behind it.",
        "1000",
    )
    schedule: str | None = unset(
        "http.source.poll.schedule",
        Cron(),
        None,
        "Polls start at these times instead of by the interval; a missed one is "
        "made up for once.",
        "0 */5 * * * *",
    )


class ScheduleConfig(Section, frozen=True, kw_only=True):
    """Where the clock of schedules stands."""

    TITLE: ClassVar[str] = "Polling"
    SCOPE: ClassVar[str] = "P"

    timezone: str = option(
        "schedule.timezone",
        Zone(),
        "UTC",
        "The zone of cron keys, of ${date:...}, and of times without an offset.",
        "Europe/Berlin",
    )


def _state_polls(get: Lookup) -> object:
    # To begin anew where each poll does costs nothing; a bookmark that is forgotten
    # too soon costs all of its records a second time.
    return 100 if get("http.offset.mode") == "FULL" else 10_000


class ApisConfig(Section, frozen=True, kw_only=True):
    """How many apis there are."""

    TITLE: ClassVar[str] = "Apis, listed partitions, parents and children"
    SCOPE: ClassVar[str] = "C"

    count: int = option(
        "apis.num",
        Int(1, 1000),
        Computed(lambda get: None, "largest N of any apiN. key, else 1"),
        "How many apis there are.",
        "2",
    )


class ApiConfig(Section, frozen=True, kw_only=True):
    """One api, and the api whose records it is polled for."""

    TITLE: ClassVar[str] = "Apis, listed partitions, parents and children"
    SCOPE: ClassVar[str] = "A"

    name: str = option(
        "api.name",
        API_NAME,
        Computed(lambda get: None, "apiN"),
        "The api's name in state, metrics and logs. Renaming starts anew.",
        "orders",
    )
    entities: tuple[str, ...] | None = unset(
        "entity.names",
        CommaList(Text(r"[^\x00-\x1f,]{1,256}", "text", comment=Comment.ENDS)),
        None,
        "Listed partitions: one shard each with its own state, ${entityName} in "
        "URL, parameters, body, headers, topic and key.",
        "users,groups",
    )
    parent: str | None = unset(
        "api.chaining.parent",
        API_NAME,
        None,
        "This api is polled once for each record of that one, by its api.name or "
        "apiN. At most 5 levels.",
        "api1",
    )
    extract: str | None = unset(
        "api.chaining.extract.field",
        RecordPath(),
        None,
        "Where ${parent_value} stands in the parent record; an array gives one "
        "child poll for each item.",
        "id",
    )
    max_concurrent: int = option(
        "api.chaining.max.concurrent",
        Int(1, 64),
        "10",
        "Child polls under way at once in the task.",
    )
    state: str = option(
        "api.chaining.state",
        Choice(("KEEP", "NONE")),
        "KEEP",
        "KEEP: the position of each child is saved under its parent's value. NONE: "
        "none is, for children that come once (export jobs, scrolls); one that was "
        "cut short begins anew.",
        "NONE",
    )
    state_polls: int = option(
        "api.chaining.state.polls",
        Int(0, 1000000),
        Computed(_state_polls, "100 with http.offset.mode=FULL, else 10000"),
        "Finished polls of the parent after which the position of a child is removed "
        "that its parent has not named in them; 0: never. Who comes back behind them "
        "is a new one and is read from its start. Where both have positions that go "
        "on only if it is stated: there a child that is not named may still come "
        "again.",
        "20",
    )
