"""
Prometheus: `/metrics`, in the text format and in OpenMetrics.

Owns how families are written down; what they are stands in `observe.names`,
and their values in a picture.

The native families first, then, as `metrics.names` says, Connect's under the
names that Strimzi's and Confluent's dashboards ask for.  Lines are written
here, not by the library's exposition: it takes ten times as long for what one
engine of 16 tasks shows.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from engine.admin import beans, verdicts
from engine.admin.answers import AdminRequest, AdminResponse
from engine.admin.store import line_head, number
from engine.admin.view import EngineView, Process
from engine.admin.watch import Picture
from engine.observe import names
from engine.observe.machine import Cost
from engine.observe.names import Metric, MetricKind, MetricOrigin

#: Exactly so: Prometheus 3 refuses a scrape whose type it cannot parse.
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

#: Values of `metrics.names`.
NATIVE, STRIMZI, CONFLUENT = "NATIVE", "STRIMZI", "CONFLUENT"

Labels = tuple[tuple[str, str], ...]
Line = tuple[str, float]


class Family(Struct, frozen=True):
    """
    Attributes:
        name: Counters with `_total`.
        kind: "counter", "gauge" or "histogram".
        meaning: The help text.
        lines: (head of the line up to its value, value).
    """

    name: str
    kind: str
    meaning: str
    lines: Sequence[Line]


#: pid -> what it uses, None once it is gone.
Measure = Callable[[int], Cost | None]


def answer(
    request: AdminRequest,
    picture: Picture,
    view: EngineView,
    *,
    families: Iterable[str],
    measure: Measure,
    began: float,
) -> AdminResponse:
    """`GET /metrics`."""
    wanted = set(families)
    found: list[Family] = []
    if NATIVE in wanted:
        found += native(picture, view, measure=measure, began=began)
    if wanted & {STRIMZI, CONFLUENT}:
        every = beans.connect(picture, view)
        if STRIMZI in wanted:
            found += strimzi(every)
        if CONFLUENT in wanted:
            found += confluent(every)
    if prefers_openmetrics(request.headers.get("accept", "")):
        return AdminResponse(200, written(found, openmetrics=True), OPENMETRICS)
    return AdminResponse(200, written(found, openmetrics=False), TEXT)


def prefers_openmetrics(accept: str) -> bool:
    """True if the header ranks OpenMetrics 1.0 above plain text (RFC 9110, 12.5.1)."""
    best = {"openmetrics": 0.0, "text": 0.0}
    for part in accept.split(","):
        media, *parameters = [piece.strip() for piece in part.split(";")]
        given = dict(
            piece.split("=", 1) for piece in parameters if piece.count("=") == 1
        )
        try:
            quality = float(given.get("q", "1"))
        except ValueError:
            continue
        if media == "application/openmetrics-text":
            if given.get("version", "1.0.0") in ("1.0.0", "0.0.1"):
                best["openmetrics"] = max(best["openmetrics"], quality)
        elif media == "text/plain":
            best["text"] = max(best["text"], quality)
    return best["openmetrics"] > 0 and best["openmetrics"] >= best["text"]


def written(families: Iterable[Family], *, openmetrics: bool) -> bytes:
    """Families as text; those without a line are left out."""
    lines: list[str] = []
    for family in families:
        if not family.lines:
            continue
        name = family.name
        if openmetrics and family.kind == "counter":
            name = name.removesuffix("_total")
        meaning = family.meaning.replace("\\", "\\\\").replace("\n", "\\n")
        if openmetrics:
            meaning = meaning.replace('"', '\\"')
        lines.append(f"# HELP {name} {meaning}")
        lines.append(f"# TYPE {name} {family.kind}")
        lines += [head + number(value) for head, value in family.lines]
    if openmetrics:
        lines.append("# EOF")
    lines.append("")
    return "\n".join(lines).encode()


# --- our own families --------------------------------------------------------


def native(
    picture: Picture, view: EngineView, *, measure: Measure, began: float
) -> list[Family]:
    """Every family of the table, in its order."""
    computed = _computed(picture, view, measure, began)
    found = []
    for metric in names.TABLE:
        match metric.origin:
            case MetricOrigin.BOARD:
                lines = _counted(picture, metric)
            case MetricOrigin.METERS:
                lines = _metered(picture, metric)
            case MetricOrigin.ADMIN:
                lines = [
                    (line_head(metric.name, tuple(zip(metric.labels, values))), value)
                    for values, value in computed.get(metric, ())
                ]
        found.append(Family(metric.name, metric.kind.value, metric.meaning, lines))
    return found


def _counted(picture: Picture, metric: Metric) -> list[Line]:
    return [
        (
            line_head(metric.name, tuple(zip(metric.labels, place))),
            counts.get(metric.column, 0),
        )
        for place, counts in picture.credited.items()
    ]


def _metered(picture: Picture, metric: Metric) -> list[Line]:
    """What the tasks measured; the buckets of a histogram become cumulative."""
    series = picture.families.get(metric.name, ())
    if metric.kind is not MetricKind.HISTOGRAM:
        return [(one.head, value) for one, value in series]
    # The series of one label set stand together, bounds rising, the sum last.
    lines: list[Line] = []
    group = ""
    total = 0.0
    for one, value in series:
        if one.group is not group:
            group, total = one.group, 0.0
        if one.bound is None:
            lines.append((one.head, value))
            lines.append((group, total))
        else:
            total += value
            lines.append((one.head, total))
    return lines


_Computed = dict[Metric, list[tuple[tuple[str, ...], float]]]


def _computed(
    picture: Picture, view: EngineView, measure: Measure, began: float
) -> _Computed:
    found: _Computed = defaultdict(list)
    found[names.BUILD_INFO].append(
        ((view.version, view.commit, platform.python_version()), 1)
    )
    found[names.START_TIME].append(((), view.started_ms / 1000))
    for result in ("ok", "failed"):
        found[names.RELOADS].append(((result,), view.reloads().get(result, 0)))
    for key, n in view.scaling().items():
        found[names.SCALING].append((key, n))
    for card in picture.cards:
        _of_connector(found, picture, card.name, began)
    for shard in picture.shards:
        if shard.success_ms:
            task = "" if shard.task is None else str(shard.task)
            key = (shard.connector, task, shard.api)
            found[names.LAST_SUCCESS].append((key, shard.success_ms / 1000))
        if shard.next_ms and shard.task is not None:
            key = (shard.connector, str(shard.task), shard.api)
            found[names.NEXT_POLL].append((key, shard.next_ms / 1000))
        lasting = shard.failure is not None and not shard.failure.over_ms
        polls = shard.failure.polls if shard.failure is not None and lasting else 0
        found[names.POLLS_GIVEN_UP].append(((shard.connector, shard.api), polls))
    for metric in (names.LAST_SUCCESS, names.NEXT_POLL, names.POLLS_GIVEN_UP):
        found[metric] = _newest(found[metric])
    for place, counts in picture.credited.items():
        _of_times(found, place, counts)
    found[names.RATE_LIMIT_WAIT_SECONDS] = _summed(found)
    _of_processes(found, picture, view.processes(), measure)
    return found


def _of_connector(found: _Computed, picture: Picture, name: str, began: float) -> None:
    card = picture.card(name)
    if card is None:
        return
    figures = picture.figures([name])
    status = verdicts.judge(picture, card, began=began).status
    for other in verdicts.Status:
        found[names.STATUS].append(((name, other.value), other is status))
    tasks = picture.tasks_of(name)
    for state in names.TASKS.values["state"]:
        n = sum(task.state.lower() == state for task in tasks)
        found[names.TASKS].append(((name, state), n))
    for task in tasks:
        key = (name, str(task.number))
        found[names.TASK_RESTARTS].append((key, task.restarts))
    shards = picture.shards_of(name)
    found[names.SHARDS_FAILED].append(((name,), sum(bool(s.failed) for s in shards)))
    for api in card.apis:
        if api.interval is not None:
            found[names.POLL_INTERVAL].append(((name, api.name), api.interval))
    if figures.cached:
        low = (
            figures.lookups >= verdicts.FEWEST_LOOKUPS
            and figures.hit_ratio < card.hit_ratio_low
        )
        found[names.CACHE_HIT_RATIO].append(((name,), figures.hit_ratio))
        found[names.CACHE_HIT_RATIO_LOW].append(((name,), low))
    found[names.ERROR_RATIO].append(((name,), figures.error_ratio))
    found[names.POOL_UTILIZATION].append(((name,), figures.pool_utilization))


def _of_times(
    found: _Computed, place: tuple[str, str, str], counts: Mapping[str, int]
) -> None:
    for on, column in names.WAITS.items():
        seconds = counts.get(column, 0) / 1e9
        found[names.WAIT_SECONDS].append(((*place, on), seconds))


def _summed(found: _Computed) -> list[tuple[tuple[str, ...], float]]:
    """Waits that the limiter asked for, by task."""
    sums: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for (connector, task, _, on), seconds in found[names.WAIT_SECONDS]:
        if on in names.LIMITED:
            sums[connector, task] += seconds
    return list(sums.items())


def _newest(
    lines: Iterable[tuple[tuple[str, ...], float]],
) -> list[tuple[tuple[str, ...], float]]:
    """One line for each key: the shards of an api share it."""
    newest: dict[tuple[str, ...], float] = {}
    for key, value in lines:
        newest[key] = max(value, newest.get(key, 0.0))
    return list(newest.items())


def _of_processes(
    found: _Computed,
    picture: Picture,
    processes: Sequence[Process],
    measure: Measure,
) -> None:
    workers = [(process.name, process.pid) for process in processes] + [
        (f"{task.connector}-{task.number}", task.pid) for task in picture.tasks
    ]
    for worker, pid in workers:
        usage = measure(pid) if pid else None
        if usage is None:
            continue
        key = (worker,)
        found[names.WORKER_CPU].append((key, usage.cpu))
        found[names.WORKER_MEMORY].append((key, usage.resident))
        found[names.WORKER_DESCRIPTORS].append((key, usage.descriptors))
    for task in picture.tasks:
        if task.heartbeat:
            key = (f"{task.connector}-{task.number}",)
            age = max(0.0, picture.now - task.heartbeat)
            found[names.WORKER_HEARTBEAT].append((key, age))


# --- Connect's families ------------------------------------------------------


def strimzi(every: Sequence[beans.Bean]) -> list[Family]:
    """By the rules of Strimzi's sample configuration for jmx_exporter."""
    return _grouped(every, lambda attribute: attribute.strimzi)


def confluent(every: Sequence[beans.Bean]) -> list[Family]:
    """By the rules of Confluent's monitoring stack for jmx_exporter."""
    return _grouped(every, lambda attribute: attribute.confluent)


def _grouped(
    every: Sequence[beans.Bean], named: Callable[[names.Attribute], str]
) -> list[Family]:
    """A text becomes a label of a line that is always 1."""
    families: dict[str, list[Line]] = {}
    first: dict[str, names.Attribute] = {}
    for bean in every:
        for attribute, value in bean.values.items():
            name = named(attribute)
            if not name:
                continue
            labels = bean.keys
            if isinstance(value, str):
                labels = (*labels, (attribute.name.replace("-", "_"), value))
                value = 1
            families.setdefault(name, []).append((line_head(name, labels), value))
            first.setdefault(name, attribute)
    return [
        Family(
            name,
            "counter" if first[name].counter else "gauge",
            f"{first[name].meaning} ({first[name].group})",
            found,
        )
        for name, found in families.items()
    ]
