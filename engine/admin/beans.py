"""
Beans: what a JMX client of Kafka Connect would see.

Owns the computing of every attribute in `names.ATTRIBUTES`; Jolokia serves the
result under its object names, `/metrics` under the names of people's
dashboards.  It keeps nothing from one picture to the next.

A value here is whole (Java's Long), decimal (Double) or text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache

from msgspec import Struct

from engine.admin.totals import Totals
from engine.admin.view import ConnectorCard, EngineView, TaskState
from engine.admin.watch import Figures, Picture, TaskHistory
from engine.observe import names
from engine.observe.names import ATTRIBUTES, CONNECT, HTTP, MAIN, Attribute

Value = int | float | str


class Bean(Struct, frozen=True):
    """
    One MBean.

    Attributes:
        domain: The part before the colon.
        group: Its `type`.
        keys: Further key properties, in order.
        values: Attribute -> value.
    """

    domain: str
    group: str
    keys: tuple[tuple[str, str], ...]
    values: Mapping[Attribute, Value]

    @property
    def properties(self) -> tuple[tuple[str, str], ...]:
        """All key properties, `type` first."""
        return (("type", self.group), *self.keys)

    @property
    def name(self) -> str:
        """The object name, key properties in the order Connect uses."""
        inner = ",".join(f"{key}={value}" for key, value in self.properties)
        return f"{self.domain}:{inner}"


@cache
def _rows(domain: str, group: str, per: tuple[str, ...]) -> dict[str, Attribute]:
    return {
        attribute.name: attribute
        for attribute in ATTRIBUTES
        if (attribute.domain, attribute.group, attribute.per) == (domain, group, per)
    }


def _bean(
    domain: str,
    group: str,
    keys: tuple[tuple[str, str], ...],
    values: Mapping[str, Value],
) -> Bean:
    rows = _rows(domain, group, tuple(name for name, _ in keys))
    if rows.keys() != values.keys():
        raise KeyError(f"{domain}:{group}: {rows.keys() ^ values.keys()}")
    return Bean(
        domain,
        group,
        keys,
        {
            attribute: int(values[name]) if attribute.kind == "long" else values[name]
            for name, attribute in rows.items()
        },
    )


def http(picture: Picture) -> Iterator[Bean]:
    """The beans of connectors with `jmx.enabled`, in our own domain."""
    cards = [card for card in picture.cards if card.jmx]
    if not cards:
        return
    together = picture.figures([card.name for card in cards])
    yield _bean(HTTP, MAIN, (), _main(together))
    for card in cards:
        figures = picture.figures([card.name])
        yield _bean(HTTP, MAIN, (("connector", card.name),), _main(figures))
        if card.jmx_detailed:
            yield from _detailed(picture, card)


def _main(figures: Figures) -> dict[str, Value]:
    return {
        "MessagesPerSecond": round(figures.messages_per_second),
        "AverageResponseTime": figures.response_ms,
        "CacheHitRatio": figures.hit_ratio,
        "ConnectionPoolUtilization": figures.pool_utilization,
        "ErrorRate": 100 * figures.error_ratio,
        "TotalMessages": figures.total["written"],
        "AverageLatency": figures.latency_ms,
    }


def _detailed(picture: Picture, card: ConnectorCard) -> Iterator[Bean]:
    connector = ("connector", card.name)
    for api in card.apis:
        sums = _of_api(picture, card.name, api.name)
        yield _bean(
            HTTP,
            "Api",
            (connector, ("api", api.name)),
            {
                "Pages": sums("pages"),
                "Polls": sums("polls"),
                "RecordsReceived": sums("received"),
                "RecordsWritten": sums("produced"),
                "RecordsFiltered": sums("filtered"),
                "RecordsDeadLettered": sums("dead_lettered"),
                "RecordsDeduplicated": sums("deduplicated"),
                "ResponseBytes": sums("bytes"),
            },
        )
    for host in _labels(picture, names.REQUESTS, card.name, "endpoint"):
        yield _bean(
            HTTP,
            "Host",
            (connector, ("host", quoted(host))),
            {
                "Requests": picture.total(names.REQUESTS, card.name, endpoint=host),
                "FailedRequests": picture.total(
                    names.REQUESTS, card.name, endpoint=host, outcome="failed"
                ),
            },
        )
    if card.cache:
        for level in names.CACHE_ENTRIES.values["level"]:
            hits = sum(
                picture.total(
                    names.CACHE_REQUESTS, card.name, level=level, result=result
                )
                for result in names.CACHE_HITS
            )
            yield _bean(
                HTTP,
                "CacheTier",
                (connector, ("level", level)),
                {
                    "Hits": hits,
                    "Entries": picture.total(
                        names.CACHE_ENTRIES, card.name, level=level
                    ),
                    "Bytes": picture.total(names.CACHE_BYTES, card.name, level=level),
                    "Evictions": picture.total(
                        names.CACHE_EVICTIONS, card.name, level=level
                    ),
                },
            )
    waited = sum(
        counts.get(names.WAITS[on], 0)
        for (name, _, _), counts in picture.credited.items()
        if name == card.name
        for on in names.LIMITED
    )
    yield _bean(
        HTTP,
        "RateLimiter",
        (connector,),
        {
            "WaitSeconds": waited / 1e9,
            "Retries": picture.total(names.RETRIES, card.name),
        },
    )
    yield _bean(HTTP, "Transactions", (connector,), _transactions(picture, card.name))
    for host in _labels(picture, names.BREAKER_STATE, card.name, "endpoint"):
        state = picture.total(names.BREAKER_STATE, card.name, endpoint=host)
        yield _bean(
            HTTP,
            "CircuitBreaker",
            (connector, ("host", quoted(host))),
            {"State": state},
        )


def _transactions(picture: Picture, connector: str) -> dict[str, Value]:
    ends = {
        result: picture.total(names.TRANSACTIONS, connector, result=result)
        for result in names.TRANSACTIONS.values["result"]
    }
    count = seconds = 0.0
    for series, value in picture.families.get(names.TRANSACTION_SECONDS.name, ()):
        if series.connector != connector:
            continue
        if series.bound is None:
            seconds += value
        else:
            count += value
    return {
        "Committed": ends["committed"],
        "Aborted": ends["aborted"],
        "Doubtful": ends["doubtful"],
        "AverageMilliseconds": 1000 * _share(seconds, count),
    }


def _of_api(picture: Picture, connector: str, api: str) -> Callable[[str], int]:
    mine = [
        counts
        for (name, _, other), counts in picture.credited.items()
        if (name, other) == (connector, api)
    ]
    return lambda column: sum(counts.get(column, 0) for counts in mine)


def _labels(
    picture: Picture, metric: names.Metric, connector: str, label: str
) -> list[str]:
    return sorted(
        {
            series.label(label)
            for series, _ in picture.families.get(metric.name, ())
            if series.connector == connector
        }
    )


def quoted(value: str) -> str:
    """A value of an object name: quoted where JMX asks for it (ObjectName.quote)."""
    if not any(sign in value for sign in ',=:"*?\n'):
        return value
    for sign in ("\\", '"', "*", "?"):
        value = value.replace(sign, "\\" + sign)
    value = value.replace("\n", "\\n")
    return f'"{value}"'


def connect(
    picture: Picture, view: EngineView, cards: Iterable[ConnectorCard] | None = None
) -> list[Bean]:
    """The groups of Kafka Connect, for these connectors or for all."""
    shown = list(picture.cards if cards is None else cards)
    found: list[Bean] = []
    for card in shown:
        tasks = picture.tasks_of(card.name)
        found.append(_connector(card, tasks, view))
        for task in tasks:
            found += _task(picture, task)
        found.append(_counts(card.name, tasks))
    tasks = [task for card in shown for task in picture.tasks_of(card.name)]
    found.append(_worker(shown, tasks))
    found.append(_rebalances(picture, view))
    return found


def connector_state(target: str, tasks: Iterable[TaskState]) -> str:
    """
    The state of a connector, in Connect's words.

    A connector itself never fails, as Connect has it: its tasks do.

    Args:
        target: The run state it is wanted in.
        tasks: Its tasks.
    """
    if target != "RUNNING":
        return target
    states = {task.state for task in tasks}
    return "UNASSIGNED" if states <= {"UNASSIGNED"} else "RUNNING"


def _connector(card: ConnectorCard, tasks: list[TaskState], view: EngineView) -> Bean:
    return _bean(
        CONNECT,
        "connector-metrics",
        (("connector", card.name),),
        {
            "status": connector_state(view.target(card.name), tasks).lower(),
            "connector-type": "source",
            "connector-class": card.connector_class,
            "connector-version": view.version,
        },
    )


def _task(picture: Picture, task: TaskState) -> list[Bean]:
    number = str(task.number)
    place = (task.connector, number)
    keys = (("connector", task.connector), ("task", number))
    figures = picture.figures([task.connector], number)
    total, recent = figures.total, figures.recent
    life = picture.lives.get(place) or TaskHistory()
    mean, peak = picture.active.get(place, (0.0, 0.0))
    return [
        _bean(
            CONNECT,
            "connector-task-metrics",
            keys,
            {
                "status": task.state.lower(),
                "running-ratio": _share(life.running, life.total),
                "pause-ratio": _share(life.paused, life.total),
                "offset-commit-avg-time-ms": recent.mean_ms("commit"),
                "offset-commit-max-time-ms": recent.longest_ms("commit"),
                **_commits(total),
                "batch-size-avg": _share(recent["received"], recent["pages"]),
                "batch-size-max": picture.largest.get(place, 0.0),
            },
        ),
        _bean(
            CONNECT,
            "source-task-metrics",
            keys,
            {
                "source-record-poll-total": total["received"],
                "source-record-poll-rate": figures.received_per_second,
                "source-record-write-total": total["written"],
                "source-record-write-rate": figures.messages_per_second,
                "poll-batch-avg-time-ms": recent.mean_ms("response"),
                "poll-batch-max-time-ms": recent.longest_ms("response"),
                "source-record-active-count": picture.total(
                    names.RECORDS_ACTIVE, task.connector, number
                ),
                "source-record-active-count-avg": mean,
                "source-record-active-count-max": peak,
                **_sizes(picture, task),
            },
        ),
        _bean(
            CONNECT,
            "task-error-metrics",
            keys,
            {
                "total-record-failures": max(0.0, total["errors"] - total["dead"]),
                "total-record-errors": max(total["errors"], total["dead"]),
                "total-records-skipped": total["dead"],
                "total-retries": total["retries"],
                "total-errors-logged": total["letters_log"],
                "deadletterqueue-produce-requests": total["letters_topic"],
                "deadletterqueue-produce-failures": 0,
                "last-error-timestamp": life.last_error_ms,
            },
        ),
    ]


def _commits(total: Totals) -> dict[str, Value]:
    ok, failed = total["commits_ok"], total["commits_failed"]
    return {
        "offset-commit-success-percentage": _share(ok, ok + failed),
        "offset-commit-failure-percentage": _share(failed, ok + failed),
    }


def _sizes(picture: Picture, task: TaskState) -> dict[str, Value]:
    place = task.connector, str(task.number)
    committed = picture.total(names.TRANSACTIONS, *place, result="committed")
    return {
        "transaction-size-min": picture.total(names.TRANSACTION_RECORDS_MIN, *place),
        "transaction-size-max": picture.total(names.TRANSACTION_RECORDS_MAX, *place),
        "transaction-size-avg": _share(
            picture.total(names.TRANSACTION_RECORDS, *place), committed
        ),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _counts(connector: str, tasks: list[TaskState]) -> Bean:
    states = [task.state for task in tasks]
    return _bean(
        CONNECT,
        "connect-worker-metrics",
        (("connector", connector),),
        {
            "connector-total-task-count": len(states),
            **{
                f"connector-{state}-task-count": states.count(state.upper())
                for state in (
                    "running",
                    "paused",
                    "failed",
                    "unassigned",
                    "destroyed",
                    "restarting",
                )
            },
        },
    )


def _worker(cards: list[ConnectorCard], tasks: list[TaskState]) -> Bean:
    attempts = len(tasks) + sum(task.restarts for task in tasks)
    lost = sum(task.restarts + (task.state == "FAILED") for task in tasks)
    ended = min(attempts, lost)
    return _bean(
        CONNECT,
        "connect-worker-metrics",
        (),
        {
            "connector-count": len(cards),
            "task-count": len(tasks),
            "connector-startup-attempts-total": len(cards),
            "connector-startup-success-total": len(cards),
            "connector-startup-failure-total": 0,
            "connector-startup-success-percentage": 1.0 if cards else 0.0,
            "connector-startup-failure-percentage": 0.0,
            "task-startup-attempts-total": attempts,
            "task-startup-success-total": attempts - ended,
            "task-startup-failure-total": ended,
            "task-startup-success-percentage": _share(attempts - ended, attempts),
            "task-startup-failure-percentage": _share(ended, attempts),
        },
    )


def _rebalances(picture: Picture, view: EngineView) -> Bean:
    seen = view.rebalances()
    since = seen.last_ms or view.started_ms
    mean = seen.seconds / seen.completed if seen.completed else 0.0
    return _bean(
        CONNECT,
        "connect-worker-rebalance-metrics",
        (),
        {
            "leader-name": view.worker_id,
            "epoch": seen.completed,
            "completed-rebalances-total": seen.completed,
            "rebalancing": int(seen.running),
            "rebalance-max-time-ms": seen.longest * 1000,
            "rebalance-avg-time-ms": mean * 1000,
            "time-since-last-rebalance-ms": max(0, picture.wall_ms - since),
        },
    )
