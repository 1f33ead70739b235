"""
View: what the admin process may look at, as plain values.

Owns the shapes and no data: `cli.run` fills them from the configuration, the
board and the link to the supervisor.  Nothing here carries a secret: the
configuration is the text as it was written, `${...}` unresolved.

The seam between the engine and everything that shows it; tests use a fake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from engine.observe.failures import LastFailure
from engine.supervisor.status import Rebalances

#: The phase of a task that waits for a broker that is away.
WAITING = "waiting_broker"


class Thresholds(Struct, frozen=True):
    """
    When a connector counts as degraded: `health.check.*.threshold`.

    Attributes:
        response_seconds: Mean request duration.
        hit_ratio: Of the cache, in its statistics window.
        error_ratio: The larger of failed requests and bad records.
        record_seconds: Longest time without a record; 0: any is well.
    """

    response_seconds: float = 5.0
    hit_ratio: float = 0.7
    error_ratio: float = 0.05
    record_seconds: float = 0.0


class ApiCard(Struct, frozen=True):
    """
    One api of a connector.

    Attributes:
        name: `api.name`.
        interval: Seconds from poll to poll; None where a schedule says when, and
            then silence is not judged.
        below: The apis that are polled for its records, and those for theirs.
    """

    name: str
    interval: float | None = 60.0
    below: Sequence[str] = ()


class ConnectorCard(Struct, frozen=True):
    """
    What does not change about a connector while its configuration stands.

    Attributes:
        name: Its `name`.
        config: Keys and values as written, `${...}` unresolved and a secret
            that stands there literally masked.
        apis: Its apis.
        connector_class: As configured.
        health: `health.check.enabled`.
        jmx: `jmx.enabled`.
        jmx_detailed: `jmx.metrics.detailed`.
        cache: `cache.enabled` of any of its apis.
        statistics: `cache.statistics.enabled`.
        statistics_seconds: `cache.statistics.window.minutes` in seconds.
        hit_ratio_low: `cache.hit.ratio.threshold`.
        max_connections: `http.client.max.connections`.
        batch_size: `transformation.batch.size`.
        thresholds: When it is degraded.
        topics: Api -> the topic it writes to, as far as that is fixed.
        file: Where it stands: the file of its name.
        managed: REST may change and delete it: it lies in the connectors' directory.
    """

    name: str
    config: Mapping[str, str]
    apis: Sequence[ApiCard]
    connector_class: str = "io.confluent.connect.http.HttpSourceConnector"
    health: bool = True
    jmx: bool = False
    jmx_detailed: bool = False
    cache: bool = True
    statistics: bool = True
    statistics_seconds: float = 3600.0
    hit_ratio_low: float = 0.8
    max_connections: int = 20
    batch_size: int = 1000
    thresholds: Thresholds = Thresholds()
    topics: Mapping[str, str] = {}
    file: str = ""
    managed: bool = False


class TaskState(Struct, frozen=True):
    """
    One task as it stands now.

    Attributes:
        connector: Its connector.
        number: Its number, from 0.
        state: RUNNING, PAUSED, FAILED, UNASSIGNED or RESTARTING.
        pid: Of its process, 0 while there is none.
        trace: Why it failed, or "".
        phase: What it is doing, in the board's word; `WAITING`
            while it waits for Kafka.
        restarts: Times its process was started again.
        heartbeat: Monotonic seconds at which it last said that it lives.
        waiting: Why it waits for the broker, or "".
        drained: Times it was restarted for `process.memory.max.bytes`.
        drained_ms: Wall milliseconds of the last of them, 0 before.
        step: What its start is at, "" once it works: "reading state: 120,000 of
            600,000".
        troubles: What is wrong that people have to mend.
    """

    connector: str
    number: int
    state: str
    pid: int = 0
    trace: str = ""
    phase: str = ""
    restarts: int = 0
    heartbeat: float = 0.0
    waiting: str = ""
    drained: int = 0
    drained_ms: int = 0
    step: str = ""
    troubles: Sequence[str] = ()


class ShardState(Struct, frozen=True):
    """
    One shard: its counters since the supervisor's start, and how it fares.

    Attributes:
        place: Whose counters these are, for as long as the view lives: the
            slot on the board.
        connector: Its connector.
        api: Its api.
        label: The shard in one word: `Shard.label`.
        task: Number of the task that holds it, or None.
        counts: Board column -> value; never falls.
        success_ms: Wall milliseconds at which a page was last delivered or found
            unchanged, or a poll ended well; 0 before the first.
        failed: Why it was given up, or "".
        failure: What went wrong last, over or not; None if nothing ever did.
        record_ms: Wall milliseconds of the last record delivered, 0 before.
        next_ms: Wall milliseconds of its next poll, 0 while it polls.
        held_by: What it waits or waited for before a request, one of
            `shared.demands.CAUSES`.
        held_until_ms: Up to when, in wall milliseconds.
        position: The source offset that was saved last, as JSON; "" before.
    """

    place: int
    connector: str
    api: str
    label: str
    task: int | None
    counts: Mapping[str, int]
    success_ms: int = 0
    failed: str = ""
    failure: LastFailure | None = None
    record_ms: int = 0
    next_ms: int = 0
    held_by: str = ""
    held_until_ms: int = 0
    position: str = ""


class Level(Struct, frozen=True):
    """
    A logger's level.

    Attributes:
        level: OFF, ERROR, WARN, INFO, DEBUG or TRACE.
        changed_ms: Wall milliseconds of the last change by REST, or None.
    """

    level: str
    changed_ms: int | None = None


class Process(Struct, frozen=True):
    """
    A process other than the tasks: the supervisor, admin itself.

    Attributes:
        name: "supervisor", "admin", "broker".
        pid: Its pid.
    """

    name: str
    pid: int


class EngineView(Protocol):
    """
    What is running, read afresh at each call; none of them blocks.

    Attributes:
        version: Of the engine.
        commit: Of its source, or "unknown".
        started_ms: Wall milliseconds of the supervisor's start.
        meters: Directory of the meters' files.
    """

    version: str
    commit: str
    started_ms: int
    meters: str

    @property
    def cluster_id(self) -> str:
        """Kafka's cluster id, or "" while it is not known."""

    @property
    def worker_id(self) -> str:
        """ "host:port" as Connect names a worker."""

    def refresh(self) -> None:
        """Read the configuration anew if the supervisor has taken up another one."""

    def connectors(self) -> Sequence[ConnectorCard]:
        """Every connector, in the order of their files."""

    def target(self, connector: str) -> str:
        """The run state it is wanted in: RUNNING, PAUSED or STOPPED."""

    def topics(self, connector: str) -> Sequence[str]:
        """Topics it has written to since the last `forget_topics`."""

    def forget_topics(self, connector: str) -> None:
        """Begin anew with `topics`; also of a connector that is not there."""

    def tasks(self) -> Sequence[TaskState]:
        """Every task that runs now."""

    def shards(self) -> Sequence[ShardState]:
        """Every shard, those among them that no task holds."""

    def processes(self) -> Sequence[Process]:
        """The processes that are no tasks."""

    def scaling(self) -> Mapping[tuple[str, str, str], int]:
        """Judgements by (connector, "up", "down" or "none", reason)."""

    def rebalances(self) -> Rebalances:
        """How often shards changed hands, and how long that took."""

    def reloads(self) -> Mapping[str, int]:
        """Reloads by "ok" and "failed"."""

    def loggers(self) -> Mapping[str, Level]:
        """Loggers whose level is set, "root" among them."""

    def set_level(self, logger: str, level: str) -> Sequence[str]:
        """
        Change a level in every process, now and for those that start later.

        Returns: the loggers it changed.
        """
